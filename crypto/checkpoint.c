/* Checkpoints: three lines that say how the tree stands, and who signed them. */
#include "crypto/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto/note.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(EVP_MD_CTX, EVP_MD_CTX_free)

#define DASH "\xE2\x80\x94 " /* U+2014, space */

void pfx_checkpoint_text(const struct pfx_checkpoint *checkpoint, struct pfx_buf *out)
{
    pfx_buf_addf(out, "%s\n%llu\n", checkpoint->origin, (unsigned long long)checkpoint->size);
    pfx_base64_encode(checkpoint->root.bytes, sizeof checkpoint->root.bytes, out);
    pfx_buf_add(out, "\n", 1);
}

static bool same_signer(const struct pfx_note_signature *signature, const struct pfx_vkey *key)
{
    return strcmp(signature->name, key->name) == 0 &&
           memcmp(signature->id, key->id, sizeof key->id) == 0;
}

/* Room for one more signature, its bytes copied; NULL: none. */
static struct pfx_note_signature *append(struct pfx_checkpoint *checkpoint, struct pfx_bytes bytes)
{
    if (checkpoint->n_signatures >= PFX_NOTE_SIGNATURES || bytes.len == 0 ||
        bytes.len > sizeof checkpoint->data - checkpoint->used)
        return NULL;
    struct pfx_note_signature *signature = &checkpoint->signatures[checkpoint->n_signatures++];
    *signature = (struct pfx_note_signature){.at = checkpoint->used, .len = bytes.len};
    memcpy(checkpoint->data + checkpoint->used, bytes.data, bytes.len);
    checkpoint->used += bytes.len;
    return signature;
}

bool pfx_checkpoint_add(struct pfx_checkpoint *checkpoint, const struct pfx_vkey *key,
                        struct pfx_bytes signature)
{
    for (size_t i = 0; i < checkpoint->n_signatures; i++) {
        if (same_signer(&checkpoint->signatures[i], key))
            return false;
    }
    struct pfx_note_signature *added = append(checkpoint, signature);
    if (!added)
        return false;
    memcpy(added->name, key->name, sizeof added->name);
    memcpy(added->id, key->id, sizeof added->id);
    return true;
}

void pfx_checkpoint_write(const struct pfx_checkpoint *checkpoint, struct pfx_buf *out)
{
    pfx_checkpoint_text(checkpoint, out);
    pfx_buf_add(out, "\n", 1);
    for (size_t i = 0; i < checkpoint->n_signatures; i++) {
        const struct pfx_note_signature *signature = &checkpoint->signatures[i];
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(PFX_CHECKPOINT_MAX + 4);
        pfx_buf_add(&raw, signature->id, sizeof signature->id);
        pfx_buf_add(&raw, checkpoint->data + signature->at, signature->len);
        pfx_buf_addf(out, DASH "%s ", signature->name);
        pfx_base64_encode(raw.data, raw.len, out);
        pfx_buf_add(out, "\n", 1);
    }
}

static pfx_result bad(struct pfx_error *err, unsigned line, const char *why)
{
    char object[32];
    snprintf(object, sizeof object, "line %u", line);
    return pfx_fail(err, PFX_CLASS_REFUSED, "read checkpoint", object, "", "%s", why);
}

static pfx_result parse_signature(struct pfx_bytes text, unsigned line,
                                  struct pfx_checkpoint *checkpoint, struct pfx_error *err)
{
    if (!pfx_bytes_skip(&text, DASH))
        return bad(err, line, "It doesn't begin with an em dash (U+2014) and a space.");
    const uint8_t *space = memchr(text.data, ' ', text.len);
    if (!space)
        return bad(err, line, "There is no space between the signer's name and the signature.");
    struct pfx_bytes name = {text.data, (size_t)(space - text.data)};
    char own[PFX_ORIGIN_SIZE];
    if (!pfx_note_name(name, own))
        return bad(err, line,
                   "The signer's name must have 1 to 127 bytes of UTF-8 without spaces, "
                   "control characters and '+'.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(PFX_CHECKPOINT_MAX);
    if (!pfx_base64_decode((const char *)space + 1, text.len - name.len - 1, &raw) || raw.len < 5)
        return bad(err, line, "The signature isn't the Base64 of a key id and at least one byte.");
    struct pfx_note_signature *signature =
        append(checkpoint, (struct pfx_bytes){raw.data + 4, raw.len - 4});
    if (!signature)
        return bad(err, line, "There are more than 16 signatures.");
    memcpy(signature->name, own, sizeof own);
    memcpy(signature->id, raw.data, sizeof signature->id);
    return PFX_OK;
}

static pfx_result parse(struct pfx_bytes note, struct pfx_checkpoint *checkpoint,
                        struct pfx_error *err)
{
    struct pfx_lines lines = {note, 0};
    struct pfx_bytes line;
    if (note.len > PFX_CHECKPOINT_MAX)
        return bad(err, 1, "The checkpoint is longer than 8,192 bytes.");
    if (!pfx_lines_next(&lines, &line) || !pfx_note_name(line, checkpoint->origin))
        return bad(err, 1,
                   "The origin must have 1 to 127 bytes of UTF-8 without spaces, control "
                   "characters and '+', and end with LF.");
    if (!pfx_lines_next(&lines, &line) || !pfx_bytes_decimal(line, &checkpoint->size))
        return bad(err, 2,
                   "The size must be a decimal number below 2^53 without leading zeros, "
                   "and end with LF.");
    if (!pfx_lines_next(&lines, &line) || !pfx_bytes_node(line, &checkpoint->root))
        return bad(err, 3, "The root must be the Base64 of 32 bytes, and end with LF.");
    if (!pfx_lines_next(&lines, &line) || line.len > 0)
        return bad(err, 4,
                   "An empty line must stand between the root and the signatures; "
                   "extension lines aren't taken.");
    while (lines.rest.len > 0) {
        if (!pfx_lines_next(&lines, &line))
            return bad(err, lines.n, "The line isn't ended by LF.");
        PFX_TRY(parse_signature(line, lines.n, checkpoint, err));
    }
    if (checkpoint->n_signatures == 0)
        return bad(err, 5, "There is no signature.");
    return PFX_OK;
}

pfx_result pfx_checkpoint_parse(struct pfx_bytes note, struct pfx_checkpoint *ret,
                                struct pfx_error *err)
{
    PFX_AUTOFREE struct pfx_checkpoint *checkpoint = pfx_alloc(sizeof *checkpoint);
    PFX_TRY(parse(note, checkpoint, err));
    *ret = *checkpoint;
    return PFX_OK;
}

static bool signature_holds(const struct pfx_vkey *key, struct pfx_bytes text,
                            struct pfx_bytes signature)
{
    PFX_CLEANUP(EVP_MD_CTX_free_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx)
        pfx_die("out of memory");
    const char *md = key->type == PFX_NOTE_P256 ? "SHA256" : NULL; /* Ed25519 hashes itself */
    bool holds = EVP_DigestVerifyInit_ex(ctx, NULL, md, NULL, NULL, key->pkey, NULL) == 1 &&
                 EVP_DigestVerify(ctx, signature.data, signature.len, text.data, text.len) == 1;
    if (!holds)
        ERR_clear_error();
    return holds;
}

pfx_result pfx_checkpoint_verify(const struct pfx_checkpoint *checkpoint,
                                 const struct pfx_vkey *keys, size_t n_keys, uint64_t *ret_signed,
                                 struct pfx_error *err)
{
    static const char op[] = "verify checkpoint";
    if (n_keys > 64)
        return pfx_fail(err, PFX_CLASS_USAGE, op, checkpoint->origin, "",
                        "At most 64 keys can be given.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_CHECKPOINT_MAX);
    pfx_checkpoint_text(checkpoint, &text);
    uint64_t seen = 0;
    for (size_t i = 0; i < checkpoint->n_signatures; i++) {
        const struct pfx_note_signature *signature = &checkpoint->signatures[i];
        struct pfx_bytes bytes = {checkpoint->data + signature->at, signature->len};
        uint64_t known = 0, good = 0;
        for (size_t k = 0; k < n_keys; k++) {
            if (!same_signer(signature, &keys[k]))
                continue;
            known |= UINT64_C(1) << k;
            if (signature_holds(&keys[k], pfx_buf_bytes(&text), bytes))
                good |= UINT64_C(1) << k;
        }
        if (known == 0)
            continue;
        char id[2 * sizeof signature->id + 1];
        pfx_hex(signature->id, sizeof signature->id, id);
        if (good == 0)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, op, checkpoint->origin, "",
                            "The signature of key %s+%s at size %llu is bad: the checkpoint was "
                            "changed after it was signed, or another key signed it.",
                            signature->name, id, (unsigned long long)checkpoint->size);
        if ((seen & known) != 0)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, op, checkpoint->origin, "",
                            "Key %s+%s stands in more than one signature line at size %llu: lines "
                            "were added to the checkpoint.",
                            signature->name, id, (unsigned long long)checkpoint->size);
        seen |= good;
    }
    if (seen == 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, op, checkpoint->origin, "",
                        "None of the given keys signed the checkpoint at size %llu. Give the key "
                        "line of this log.",
                        (unsigned long long)checkpoint->size);
    if (ret_signed)
        *ret_signed = seen;
    return PFX_OK;
}
