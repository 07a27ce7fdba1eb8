/* Public keys as SSH writes them. */
#include "crypto/sshsig.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/params.h>

#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto/ossl.h"

#define RSA_LEAST 256 /* bytes of a modulus */
#define RSA_MOST 512
#define APPLICATION_MOST 256

static const struct type {
    const char *name;
    const char *curve, *group; /* RFC 5656's name and OpenSSL's */
    size_t point;              /* bytes of an uncompressed one */
} types[PFX_SSH_TYPE_COUNT] = {
    [PFX_SSH_ED25519] = {"ssh-ed25519", NULL, NULL, 0},
    [PFX_SSH_ECDSA_256] = {"ecdsa-sha2-nistp256", "nistp256", "prime256v1", 65},
    [PFX_SSH_ECDSA_384] = {"ecdsa-sha2-nistp384", "nistp384", "secp384r1", 97},
    [PFX_SSH_ECDSA_521] = {"ecdsa-sha2-nistp521", "nistp521", "secp521r1", 133},
    [PFX_SSH_RSA] = {"ssh-rsa", NULL, NULL, 0},
    [PFX_SSH_SK_ED25519] = {"sk-ssh-ed25519@openssh.com", NULL, NULL, 0},
    [PFX_SSH_SK_ECDSA] = {"sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", "prime256v1", 65},
};

const char *pfx_ssh_type_name(enum pfx_ssh_type type)
{
    return types[type].name;
}

void pfx_ssh_key_done(struct pfx_ssh_key *key)
{
    EVP_PKEY_free(key->pkey);
    key->pkey = NULL;
}

bool pfx_ssh_string(struct pfx_bytes *rest, struct pfx_bytes *ret)
{
    const uint8_t *at = rest->data;
    if (rest->len < 4)
        return false;
    uint32_t len = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    if (len > rest->len - 4)
        return false;
    *ret = (struct pfx_bytes){at + 4, len};
    *rest = (struct pfx_bytes){at + 4 + len, rest->len - 4 - len};
    return true;
}

bool pfx_ssh_mpint(struct pfx_bytes *rest, struct pfx_bytes *ret)
{
    struct pfx_bytes text;
    if (!pfx_ssh_string(rest, &text) || text.len == 0 || (text.data[0] & 0x80))
        return false;
    if (text.data[0] == 0) { /* only to keep the next byte's highest bit from being a sign */
        if (text.len == 1 || !(text.data[1] & 0x80))
            return false;
        text.data++;
        text.len--;
    }
    *ret = text;
    return true;
}

static pfx_result bad(struct pfx_error *err, const char *object, const char *text)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "read SSH key", object, "", "%s", text);
}

static pfx_result ed25519(struct pfx_bytes *rest, struct pfx_ssh_key *key, const struct type *type,
                          struct pfx_error *err)
{
    struct pfx_bytes raw;
    if (!pfx_ssh_string(rest, &raw) || raw.len != 32)
        return bad(err, type->name, "Its public key isn't 32 bytes.");
    key->pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw.data, raw.len);
    return key->pkey ? PFX_OK
                     : pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read SSH key", type->name,
                                     "It isn't a public key.");
}

static pfx_result ecdsa(struct pfx_bytes *rest, struct pfx_ssh_key *key, const struct type *type,
                        struct pfx_error *err)
{
    struct pfx_bytes curve, point;
    if (!pfx_ssh_string(rest, &curve) || !pfx_bytes_equal(curve, type->curve))
        return bad(err, type->name, "Its curve isn't the one that its type names.");
    if (!pfx_ssh_string(rest, &point) || point.len != type->point || point.data[0] != 4)
        return bad(err, type->name, "Its point isn't an uncompressed one of its curve.");
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)type->group,
                                         0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point.data,
                                          point.len),
        OSSL_PARAM_construct_end()};
    PFX_CLEANUP(EVP_PKEY_CTX_free_p)
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key->pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read SSH key", type->name,
                             "Its point isn't on its curve.");
    return PFX_OK;
}

static pfx_result rsa(struct pfx_bytes *rest, struct pfx_ssh_key *key, const struct type *type,
                      struct pfx_error *err)
{
    struct pfx_bytes e, n;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(2 * PFX_SSH_KEY_MAX);
    if (!pfx_ssh_mpint(rest, &e) || !pfx_ssh_mpint(rest, &n))
        return bad(err, type->name, "Its exponent or modulus isn't a positive number.");
    if (n.len < RSA_LEAST || n.len > RSA_MOST || e.len > 8)
        return bad(err, type->name, "Its modulus must have 2048 to 4096 bits, and its exponent at "
                                    "most 64.");
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_spki_from_rsa(n, e, &spki, &why)) ||
        pfx_failed(pfx_spki_load(pfx_buf_bytes(&spki), &key->pkey, &why)))
        return bad(err, type->name, why.text);
    return PFX_OK;
}

pfx_result pfx_ssh_key_parse(struct pfx_bytes blob, struct pfx_ssh_key *ret, struct pfx_error *err)
{
    struct pfx_bytes rest = blob, name;
    PFX_CLEANUP(pfx_ssh_key_done) struct pfx_ssh_key key = {.type = PFX_SSH_TYPE_COUNT};
    if (blob.len > PFX_SSH_KEY_MAX || !pfx_ssh_string(&rest, &name))
        return bad(err, "public key", "It isn't a public key of SSH, or a longer one than any here.");
    for (int i = 0; i < PFX_SSH_TYPE_COUNT; i++)
        if (pfx_bytes_equal(name, types[i].name))
            key.type = (enum pfx_ssh_type)i;
    if (key.type == PFX_SSH_TYPE_COUNT)
        return bad(err, "public key",
                   "Its type isn't one that is taken: ssh-ed25519, ecdsa-sha2-nistp256, -384, -521, "
                   "ssh-rsa, sk-ssh-ed25519 or sk-ecdsa-sha2-nistp256, and no certificate.");
    const struct type *type = &types[key.type];
    if (key.type == PFX_SSH_RSA)
        PFX_TRY(rsa(&rest, &key, type, err));
    else if (type->curve)
        PFX_TRY(ecdsa(&rest, &key, type, err));
    else
        PFX_TRY(ed25519(&rest, &key, type, err));
    bool in_token = key.type == PFX_SSH_SK_ED25519 || key.type == PFX_SSH_SK_ECDSA;
    if (in_token && (!pfx_ssh_string(&rest, &key.application) || key.application.len == 0 ||
                     key.application.len > APPLICATION_MOST))
        return bad(err, type->name, "It names no application.");
    if (rest.len > 0)
        return bad(err, type->name, "There are bytes behind it.");
    *ret = key;
    key.pkey = NULL;
    return PFX_OK;
}

char *pfx_ssh_fingerprint(struct pfx_bytes blob, char buf[PFX_SSH_FINGERPRINT_SIZE])
{
    uint8_t digest[32] = {0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(64);
    if (!pfx_sha256(blob.data, blob.len, digest) ||
        !pfx_base64_encode(digest, sizeof digest, &text))
        pfx_die("SHA-256 fails");
    pfx_buf_cut(&text, 43); /* without the padding */
    snprintf(buf, PFX_SSH_FINGERPRINT_SIZE, "SHA256:%s", pfx_buf_str(&text));
    return buf;
}
