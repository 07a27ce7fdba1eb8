/* Keys of those who sign notes, and the lines that name them (C2SP signed-note). */
#include "crypto/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include <openssl/x509.h>

#include "crypto/encode.h"
#include "crypto/note.h"
#include "crypto/ossl.h"

#define KEY_MAX 92 /* bytes of type and public key */

/* What the DER of a SubjectPublicKeyInfo begins with. Only this spelling is taken, so that one key
 * has one id: the named curve, the uncompressed point. */
static const uint8_t p256_prefix[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48,
                                      0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48,
                                      0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
#define P256_SIZE (sizeof p256_prefix + 64)
static const uint8_t ed25519_prefix[] = {0x30, 0x2A, 0x30, 0x05, 0x06, 0x03,
                                         0x2B, 0x65, 0x70, 0x03, 0x21, 0x00};
#define ED25519_SIZE (sizeof ed25519_prefix + 32)

/* Spaces of Unicode beyond ASCII, as UTF-8. */
static bool is_space(const char *at)
{
    static const char *const spaces[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                         "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                         "\xE2\x81\x9F", "\xE3\x80\x80"};
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        if (strncmp(at, spaces[i], strlen(spaces[i])) == 0)
            return true;
    }
    return strncmp(at, "\xE2\x80", 2) == 0 && (uint8_t)at[2] >= 0x80 && (uint8_t)at[2] <= 0x8A;
}

bool pfx_note_name(struct pfx_bytes text, char ret_name[PFX_ORIGIN_SIZE])
{
    char name[PFX_ORIGIN_SIZE] = "";
    if (text.len == 0 || text.len >= PFX_ORIGIN_SIZE)
        return false;
    memcpy(name, text.data, text.len);
    if (!pfx_utf8_valid(name, text.len))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)name[i];
        if (c <= 0x20 || c == 0x7F || c == '+' || is_space(name + i))
            return false;
    }
    memcpy(ret_name, name, sizeof name);
    return true;
}

/* Fails with class cls; what is wrong stands in *ret_why. */
static bool make(struct pfx_bytes name, struct pfx_bytes spki, struct pfx_vkey *ret,
                 const char **ret_why)
{
    struct pfx_vkey key = {0};
    if (!pfx_note_name(name, key.name)) {
        *ret_why = "The name must have 1 to 127 bytes of UTF-8 without spaces, control characters "
                   "and '+'.";
        return false;
    }
    const uint8_t *raw = NULL; /* of Ed25519, after the prefix */
    if (spki.len == P256_SIZE && memcmp(spki.data, p256_prefix, sizeof p256_prefix) == 0) {
        key.type = PFX_NOTE_P256;
    } else if (spki.len == ED25519_SIZE &&
               memcmp(spki.data, ed25519_prefix, sizeof ed25519_prefix) == 0) {
        key.type = PFX_NOTE_ED25519;
        raw = spki.data + sizeof ed25519_prefix;
    } else {
        *ret_why = "The public key isn't the DER of one on P-256 (named curve, uncompressed point) "
                   "or of Ed25519.";
        return false;
    }
    if (pfx_failed(pfx_spki_load(spki, &key.pkey, NULL))) {
        *ret_why = "The bytes have the form of a public key, but aren't one of its curve.";
        return false;
    }
    uint8_t digest[32];
    bool hashed = pfx_sha256(spki.data, spki.len, key.spki_sha256);
    if (key.type == PFX_NOTE_P256) {
        memcpy(digest, key.spki_sha256, sizeof digest);
    } else {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_ORIGIN_SIZE + 64);
        pfx_buf_addf(&text, "%s\n%c", key.name, PFX_NOTE_ED25519);
        pfx_buf_add(&text, raw, 32);
        hashed = hashed && pfx_sha256(text.data, text.len, digest);
    }
    if (!hashed)
        pfx_die("OpenSSL has no SHA-256");
    memcpy(key.id, digest, sizeof key.id);
    *ret = key;
    return true;
}

pfx_result pfx_vkey_make(const char *name, struct pfx_bytes spki, struct pfx_vkey *ret,
                         struct pfx_error *err)
{
    const char *why;
    if (!make((struct pfx_bytes){(const uint8_t *)name, strlen(name)}, spki, ret, &why))
        return pfx_fail(err, PFX_CLASS_USAGE, "take log key", name, "", "%s", why);
    return PFX_OK;
}

static pfx_result bad_line(struct pfx_error *err, const char *why)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "read key line", "", "",
                    "%s A key line is name+id+key, the id 8 hex digits, the key Base64.", why);
}

pfx_result pfx_vkey_parse(const char *line, struct pfx_vkey *ret, struct pfx_error *err)
{
    const char *id = strchr(line, '+');
    const char *text = id ? strchr(id + 1, '+') : NULL; /* Base64 has '+', too */
    if (!text)
        return bad_line(err, "There aren't three parts with '+' between them.");
    id++;
    text++;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(KEY_MAX);
    if (!pfx_base64_decode(text, strlen(text), &raw) || raw.len < 2)
        return bad_line(err, "The third part isn't the Base64 of a type and a public key of "
                             "at most 91 bytes.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(KEY_MAX + sizeof ed25519_prefix);
    if (raw.data[0] == PFX_NOTE_ED25519)
        pfx_buf_add(&spki, ed25519_prefix, sizeof ed25519_prefix);
    else if (raw.data[0] != PFX_NOTE_P256)
        return bad_line(err, "Only the types 1 (Ed25519) and 2 (ECDSA) are known.");
    pfx_buf_add(&spki, raw.data + 1, raw.len - 1);
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = {0};
    const char *why;
    if (!make((struct pfx_bytes){(const uint8_t *)line, (size_t)(id - 1 - line)},
              pfx_buf_bytes(&spki), &key, &why))
        return bad_line(err, why);
    char hex[2 * sizeof key.id + 1];
    pfx_hex(key.id, sizeof key.id, hex);
    /* A type 2 with the bytes of an Ed25519 key would come out as the other type. */
    if (key.type != raw.data[0])
        return bad_line(err, "Type and public key don't fit together.");
    if ((size_t)(text - 1 - id) != strlen(hex) || memcmp(id, hex, strlen(hex)) != 0)
        return bad_line(err, "The id isn't the one of this name and key: one of them was changed.");
    *ret = key;
    key = (struct pfx_vkey){0};
    return PFX_OK;
}

pfx_result pfx_vkey_spki(const struct pfx_vkey *key, struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = key->pkey ? i2d_PUBKEY(key->pkey, &der) : 0;
    if (len <= 0)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "write log key", key->name,
                             "OpenSSL can't encode the public key.");
    if (!pfx_buf_add(out, der, (size_t)len))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write log key", key->name, "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    return PFX_OK;
}

char *pfx_vkey_line(const struct pfx_vkey *key, char buf[PFX_VKEY_LINE_SIZE])
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(KEY_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(KEY_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(4 * KEY_MAX);
    if (pfx_failed(pfx_vkey_spki(key, &spki, NULL)))
        pfx_die("OpenSSL can't encode a public key");
    size_t skip = key->type == PFX_NOTE_ED25519 ? sizeof ed25519_prefix : 0;
    pfx_buf_addf(&raw, "%c", key->type);
    pfx_buf_add(&raw, spki.data + skip, spki.len - skip);
    pfx_base64_encode(raw.data, raw.len, &text);
    char hex[2 * sizeof key->id + 1];
    snprintf(buf, PFX_VKEY_LINE_SIZE, "%s+%s+%s", key->name, pfx_hex(key->id, sizeof key->id, hex),
             pfx_buf_str(&text));
    return buf;
}

bool pfx_vkey_equal(const struct pfx_vkey *a, const struct pfx_vkey *b)
{
    return a->type == b->type && strcmp(a->name, b->name) == 0 &&
           memcmp(a->spki_sha256, b->spki_sha256, sizeof a->spki_sha256) == 0;
}

void pfx_vkey_done(struct pfx_vkey *key)
{
    EVP_PKEY_free(key->pkey);
    *key = (struct pfx_vkey){0};
}
