/*
 * Hostile texts of the log: checkpoints, key lines, receipts, tile paths. What is taken must come
 * out again as it went in, so each has one spelling only.
 */
#include "crypto/checkpoint.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        __builtin_trap();
}

/* One key of each type, so that known names and ids are within reach of the corpus. */
static const struct pfx_vkey *known_keys(void)
{
    static struct pfx_vkey keys[2];
    static const char *const lines[] = {
        "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXw"
        "BcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"};
    if (!keys[0].pkey) {
        for (size_t i = 0; i < 2; i++)
            must(pfx_ok(pfx_vkey_parse(lines[i], &keys[i], NULL)));
    }
    return keys;
}

static void try_checkpoint(struct pfx_bytes text)
{
    struct pfx_checkpoint checkpoint;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_checkpoint_parse(text, &checkpoint, &err))) {
        must(err.cls == PFX_CLASS_REFUSED && err.text[0]);
        return;
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_CHECKPOINT_MAX);
    pfx_checkpoint_write(&checkpoint, &again);
    must(!again.over && again.len == text.len && memcmp(again.data, text.data, text.len) == 0);
    uint64_t signed_by = 0;
    if (pfx_ok(pfx_checkpoint_verify(&checkpoint, known_keys(), 2, &signed_by, NULL)))
        must(signed_by != 0 && signed_by < 4);
}

static void try_receipt(struct pfx_bytes text)
{
    uint64_t index;
    struct pfx_proof proof;
    struct pfx_bytes inner;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_receipt_parse(text, &index, &proof, &inner, &err))) {
        must(err.cls == PFX_CLASS_REFUSED && err.text[0]);
        return;
    }
    must(inner.data + inner.len == text.data + text.len && inner.len > 0);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(text.len);
    pfx_receipt_write(index, &proof, inner, &again);
    /* Only a second line of extra data is lost. */
    static const char title[] = "c2sp.org/tlog-proof@v1\n", extra[] = "extra ";
    size_t head = sizeof title - 1, skip = 0;
    must(text.len >= head && memcmp(text.data, title, head) == 0);
    if (text.len - head >= sizeof extra - 1 &&
        memcmp(text.data + head, extra, sizeof extra - 1) == 0)
        skip =
            (size_t)((const uint8_t *)memchr(text.data + head, '\n', text.len - head) - text.data) +
            1 - head;
    must(!again.over && again.len + skip == text.len && memcmp(again.data, title, head) == 0 &&
         memcmp(again.data + head, text.data + head + skip, again.len - head) == 0);
    try_checkpoint(inner);
}

static void try_strings(const char *text)
{
    struct pfx_vkey key = {0};
    if (pfx_ok(pfx_vkey_parse(text, &key, NULL))) {
        char line[PFX_VKEY_LINE_SIZE];
        must(strcmp(pfx_vkey_line(&key, line), text) == 0);
        pfx_vkey_done(&key);
    }
    int level;
    uint64_t number;
    unsigned width;
    if (pfx_tile_parse(text, &level, &number, &width)) {
        char path[PFX_TILE_PATH_SIZE];
        must(strcmp(pfx_tile_path(level, number, width, path), text) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes text = {data, size};
    try_checkpoint(text);
    try_receipt(text);
    PFX_AUTOFREE char *copy = pfx_strndup((const char *)data, size);
    try_strings(copy);
    return 0;
}
