/* The file of a sealed service secret. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/secrets.h"

#define MAX_FILE 16384
#define MAX_BLOCK 1024

void pfx_sealed_init(struct pfx_sealed *sealed)
{
    *sealed = (struct pfx_sealed){.name = "", .n_blocks = 0};
    for (size_t i = 0; i < PFX_SECRET_BLOCKS; i++)
        sealed->blocks[i] = pfx_buf_make(MAX_BLOCK);
}

void pfx_sealed_done(struct pfx_sealed *sealed)
{
    for (size_t i = 0; i < PFX_SECRET_BLOCKS; i++)
        pfx_buf_done(&sealed->blocks[i]);
}

bool pfx_sealed_write(const struct pfx_sealed *sealed, struct pfx_buf *out)
{
    bool ok = pfx_buf_addf(
        out, "pfx-agent secret v1\nname %s\nchanged %" PRId64 "\nsealed_to %s\noaep sha256\n",
        sealed->name, sealed->changed_ms, sealed->sealed_to);
    for (size_t i = 0; i < sealed->n_blocks; i++)
        ok = ok && pfx_buf_add_str(out, "sealed ") &&
             pfx_base64_encode(sealed->blocks[i].data, sealed->blocks[i].len, out) &&
             pfx_buf_add_str(out, "\n");
    return ok;
}

/* Skips `expected`; false if the text goes on otherwise. */
static bool skip(const char **text, const char *expected)
{
    size_t len = strlen(expected);
    if (strncmp(*text, expected, len) != 0)
        return false;
    *text += len;
    return true;
}

static bool word(const char **text, char *out, size_t size)
{
    size_t len = strcspn(*text, "\n");
    if (len == 0 || len >= size || (*text)[len] != '\n')
        return false;
    memcpy(out, *text, len);
    out[len] = '\0';
    *text += len + 1;
    return true;
}

bool pfx_sealed_parse(const char *text, size_t len, struct pfx_sealed *ret_sealed)
{
    char *copy PFX_AUTOFREE = pfx_strndup(text, len);
    char number[24], block[2 * MAX_BLOCK];
    const char *at = copy;
    PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
    pfx_sealed_init(&sealed);
    if (strlen(copy) != len || !skip(&at, "pfx-agent secret v1\nname ") ||
        !word(&at, sealed.name, sizeof sealed.name) || !skip(&at, "changed ") ||
        !word(&at, number, sizeof number) || !skip(&at, "sealed_to ") ||
        !word(&at, sealed.sealed_to, sizeof sealed.sealed_to) || strlen(sealed.sealed_to) != 64 ||
        !skip(&at, "oaep sha256\n"))
        return false;
    /* As pfx_sealed_write writes it: strtoll alone takes a sign and spaces, too. */
    char again[24];
    sealed.changed_ms = strtoll(number, NULL, 10);
    snprintf(again, sizeof again, "%" PRId64, sealed.changed_ms);
    if (sealed.changed_ms < 0 || strcmp(number, again) != 0)
        return false;
    while (*at) {
        if (sealed.n_blocks == PFX_SECRET_BLOCKS || !skip(&at, "sealed ") ||
            !word(&at, block, sizeof block) ||
            !pfx_base64_decode(block, strlen(block), &sealed.blocks[sealed.n_blocks]))
            return false;
        sealed.n_blocks++;
    }
    if (sealed.n_blocks == 0)
        return false;
    struct pfx_sealed old = *ret_sealed;
    *ret_sealed = sealed;
    sealed = old;
    return true;
}

pfx_result pfx_sealed_load(const struct pfx_hsm *hsm, const char *name,
                           struct pfx_sealed *ret_sealed, bool *ret_present, struct pfx_error *err)
{
    char *file PFX_AUTOFREE = pfx_asprintf("%s.sealed", name);
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, file);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    if (access(path, F_OK) != 0) {
        *ret_present = false;
        return PFX_OK;
    }
    PFX_TRY(pfx_file_read(path, MAX_FILE, &text, err));
    if (!pfx_sealed_parse(pfx_buf_str(&text), text.len, ret_sealed) ||
        strcmp(ret_sealed->name, name) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read sealed secret", path, "",
                        "It isn't a file that pfx-hsm wrote: set the secret again with pfx-agent "
                        "secret set %s.",
                        name);
    *ret_present = true;
    return PFX_OK;
}
