/* The vocabulary of keys, and what is done with public ones. */
#include "crypto/key.h"

#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "crypto/encode.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(OSSL_PARAM_BLD, OSSL_PARAM_BLD_free)
PFX_OSSL_CLEANUP(OSSL_PARAM, OSSL_PARAM_free)
PFX_OSSL_CLEANUP(ECDSA_SIG, ECDSA_SIG_free)

static const struct {
    const char *name;
    unsigned bits;
    const char *group; /* OpenSSL's name of the curve; NULL: RSA */
    /* How the SubjectPublicKeyInfo begins. EC: with the named curve, up to the 04 of an
     * uncompressed point; there is one only. RSA: up to the modulus. */
    size_t head_len;
    uint8_t head[33];
} types[PFX_KEY_TYPE_COUNT] = {
    [PFX_KEY_RSA_2048] = {"rsa-2048", 2048, NULL, 33, {0x30, 0x82, 0x01, 0x22, 0x30, 0x0D, 0x06,
                                                       0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D,
                                                       0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82,
                                                       0x01, 0x0F, 0x00, 0x30, 0x82, 0x01, 0x0A,
                                                       0x02, 0x82, 0x01, 0x01, 0x00}},
    [PFX_KEY_RSA_3072] = {"rsa-3072", 3072, NULL, 33, {0x30, 0x82, 0x01, 0xA2, 0x30, 0x0D, 0x06,
                                                       0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D,
                                                       0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82,
                                                       0x01, 0x8F, 0x00, 0x30, 0x82, 0x01, 0x8A,
                                                       0x02, 0x82, 0x01, 0x81, 0x00}},
    [PFX_KEY_RSA_4096] = {"rsa-4096", 4096, NULL, 33, {0x30, 0x82, 0x02, 0x22, 0x30, 0x0D, 0x06,
                                                       0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D,
                                                       0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82,
                                                       0x02, 0x0F, 0x00, 0x30, 0x82, 0x02, 0x0A,
                                                       0x02, 0x82, 0x02, 0x01, 0x00}},
    [PFX_KEY_EC_P256] = {"ec-p256", 256, "prime256v1", 27, {0x30, 0x59, 0x30, 0x13, 0x06, 0x07,
                                                            0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02,
                                                            0x01, 0x06, 0x08, 0x2A, 0x86, 0x48,
                                                            0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03,
                                                            0x42, 0x00, 0x04}},
    [PFX_KEY_EC_P384] = {"ec-p384", 384, "secp384r1", 24, {0x30, 0x76, 0x30, 0x10, 0x06, 0x07,
                                                           0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02,
                                                           0x01, 0x06, 0x05, 0x2B, 0x81, 0x04,
                                                           0x00, 0x22, 0x03, 0x62, 0x00, 0x04}},
};

/* The DER of DigestInfo up to the digest (RFC 8017 section 9.2, note 1). None for SHA-1: it signs
 * nothing here. */
static const struct {
    const char *name;
    size_t size;
    uint8_t prefix[19];
} hashes[] = {
    [PFX_HASH_SHA1] = {"sha1", 20, {0}},
    [PFX_HASH_SHA256] = {"sha256", 32,
                         {0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                          0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}},
    [PFX_HASH_SHA384] = {"sha384", 48,
                         {0x30, 0x41, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                          0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}},
    [PFX_HASH_SHA512] = {"sha512", 64,
                         {0x30, 0x51, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                          0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}},
};
#define N_HASHES (sizeof hashes / sizeof hashes[0])

static const char *const purposes[] = {
    [PFX_PURPOSE_SIGNING] = "signing",
    [PFX_PURPOSE_ENCRYPTION] = "encryption",
    [PFX_PURPOSE_DUAL] = "dual",
};
#define N_PURPOSES (sizeof purposes / sizeof purposes[0])

pfx_result pfx_fail_ossl(struct pfx_error *err, enum pfx_class cls, const char *op,
                         const char *object, const char *text)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return pfx_fail(err, cls, op, object, reason ? reason : "", "%s", text);
}

const char *pfx_key_type_name(enum pfx_key_type type)
{
    return (size_t)type < PFX_KEY_TYPE_COUNT ? types[type].name : "unknown";
}

bool pfx_key_type_parse(const char *name, enum pfx_key_type *ret_type)
{
    for (size_t i = 0; name && i < PFX_KEY_TYPE_COUNT; i++) {
        if (strcmp(name, types[i].name) == 0) {
            *ret_type = (enum pfx_key_type)i;
            return true;
        }
    }
    return false;
}

bool pfx_key_type_is_rsa(enum pfx_key_type type)
{
    return (size_t)type < PFX_KEY_TYPE_COUNT && !types[type].group;
}

unsigned pfx_key_type_bits(enum pfx_key_type type)
{
    return (size_t)type < PFX_KEY_TYPE_COUNT ? types[type].bits : 0;
}

const char *pfx_hash_name(enum pfx_hash hash)
{
    return (size_t)hash < N_HASHES ? hashes[hash].name : "unknown";
}

bool pfx_hash_parse(const char *name, enum pfx_hash *ret_hash)
{
    for (size_t i = 0; name && i < N_HASHES; i++) {
        if (strcmp(name, hashes[i].name) == 0) {
            *ret_hash = (enum pfx_hash)i;
            return true;
        }
    }
    return false;
}

size_t pfx_hash_size(enum pfx_hash hash)
{
    return (size_t)hash < N_HASHES ? hashes[hash].size : 0;
}

const EVP_MD *pfx_hash_md(enum pfx_hash hash)
{
    switch (hash) {
    case PFX_HASH_SHA1:
        return EVP_sha1();
    case PFX_HASH_SHA256:
        return EVP_sha256();
    case PFX_HASH_SHA384:
        return EVP_sha384();
    case PFX_HASH_SHA512:
        return EVP_sha512();
    }
    return NULL;
}

const char *pfx_purpose_name(enum pfx_purpose purpose)
{
    return (size_t)purpose < N_PURPOSES ? purposes[purpose] : "unknown";
}

bool pfx_purpose_parse(const char *name, enum pfx_purpose *ret_purpose)
{
    for (size_t i = 0; name && i < N_PURPOSES; i++) {
        if (strcmp(name, purposes[i]) == 0) {
            *ret_purpose = (enum pfx_purpose)i;
            return true;
        }
    }
    return false;
}

bool pfx_digest(enum pfx_hash hash, const void *data, size_t len, unsigned char *digest,
                size_t *ret_len)
{
    const EVP_MD *md = pfx_hash_md(hash);
    if (!md || EVP_Digest(data, len, digest, NULL, md, NULL) != 1)
        return false;
    if (ret_len)
        *ret_len = pfx_hash_size(hash);
    return true;
}

/* Makes the key from its parameters and appends its SPKI. */
static pfx_result spki_from_params(const char *algorithm, OSSL_PARAM_BLD *bld, struct pfx_buf *out,
                                   struct pfx_error *err)
{
    PFX_CLEANUP(OSSL_PARAM_free_p) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    PFX_CLEANUP(EVP_PKEY_CTX_free_p)
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, algorithm, NULL);
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "read public key", algorithm,
                             "OpenSSL can't make a public key.");
    if (EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_USAGE, "read public key", algorithm,
                             "The values aren't a public key.");
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_PUBKEY(pkey, &der);
    if (len <= 0)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "write public key", algorithm,
                             "OpenSSL can't encode the public key.");
    if (!pfx_buf_add(out, der, (size_t)len))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write public key", algorithm, "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    return PFX_OK;
}

#define CNG_RSA_PUBLIC 0x31415352 /* "RSA1" */
#define MAX_RSA_BYTES 2048        /* 16,384 bits, OpenSSL's own limit */

pfx_result pfx_spki_from_rsa(struct pfx_bytes modulus, struct pfx_bytes exponent,
                             struct pfx_buf *out, struct pfx_error *err)
{
    /* Tokens differ in whether they put a zero in front of the highest bit. */
    while (modulus.len > 0 && modulus.data[0] == 0)
        modulus = (struct pfx_bytes){modulus.data + 1, modulus.len - 1};
    while (exponent.len > 0 && exponent.data[0] == 0)
        exponent = (struct pfx_bytes){exponent.data + 1, exponent.len - 1};
    if (modulus.len < 64 || modulus.len > MAX_RSA_BYTES || exponent.len == 0 || exponent.len > 32 ||
        (modulus.data[modulus.len - 1] & 1) == 0 || (exponent.data[exponent.len - 1] & 1) == 0 ||
        (exponent.len == 1 && exponent.data[0] < 3))
        return pfx_fail(err, PFX_CLASS_USAGE, "read public key", "RSA", "",
                        "Modulus (%zu bytes) or exponent (%zu bytes) isn't one of an RSA key.",
                        modulus.len, exponent.len);
    PFX_CLEANUP(BN_free_p) BIGNUM *n = BN_bin2bn(modulus.data, (int)modulus.len, NULL);
    PFX_CLEANUP(BN_free_p) BIGNUM *e = BN_bin2bn(exponent.data, (int)exponent.len, NULL);
    PFX_CLEANUP(OSSL_PARAM_BLD_free_p) OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    if (!n || !e || !bld || !OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) ||
        !OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "read public key", "RSA",
                             "OpenSSL can't make a public key.");
    return spki_from_params("RSA", bld, out, err);
}

pfx_result pfx_spki_from_ec(enum pfx_key_type type, struct pfx_bytes point, struct pfx_buf *out,
                            struct pfx_error *err)
{
    if ((size_t)type >= PFX_KEY_TYPE_COUNT || !types[type].group)
        return pfx_fail(err, PFX_CLASS_USAGE, "read public key", pfx_key_type_name(type), "",
                        "It isn't an EC key type.");
    if (point.len != 1 + 2 * (size_t)types[type].bits / 8 || point.data[0] != 0x04)
        return pfx_fail(err, PFX_CLASS_USAGE, "read public key", types[type].name, "",
                        "The point (%zu bytes) isn't an uncompressed one of this curve.",
                        point.len);
    PFX_CLEANUP(OSSL_PARAM_BLD_free_p) OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    if (!bld ||
        !OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, types[type].group, 0) ||
        !OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point.data, point.len))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "read public key", "EC",
                             "OpenSSL can't make a public key.");
    return spki_from_params("EC", bld, out, err);
}

static EVP_PKEY *from_params(const char *algorithm, OSSL_PARAM *params)
{
    PFX_CLEANUP(EVP_PKEY_CTX_free_p)
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, algorithm, NULL);
    EVP_PKEY *pkey = NULL;
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        ERR_clear_error();
    return pkey;
}

static EVP_PKEY *ec_from(const char *group, const uint8_t *point, size_t len)
{
    /* OpenSSL only reads them, though its parameters aren't const. */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point, len),
        OSSL_PARAM_construct_end()};
    return from_params("EC", params);
}

static EVP_PKEY *rsa_from(const uint8_t *modulus, size_t len)
{
    PFX_CLEANUP(BN_free_p) BIGNUM *n = BN_bin2bn(modulus, (int)len, NULL);
    PFX_CLEANUP(OSSL_PARAM_BLD_free_p) OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    if (!n || !build || OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_ulong(build, OSSL_PKEY_PARAM_RSA_E, RSA_F4) != 1)
        return NULL;
    PFX_CLEANUP(OSSL_PARAM_free_p) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    return params ? from_params("RSA", params) : NULL;
}

/* A key of one of our types, in the form that nearly every one has. OpenSSL's decoders take 150
 * microseconds for each, and some pass here ten times in an enrolment. NULL: ask the decoders. */
static EVP_PKEY *usual_key(struct pfx_bytes spki)
{
    static const uint8_t f4[] = {0x02, 0x03, 0x01, 0x00, 0x01};
    for (size_t i = 0; i < PFX_KEY_TYPE_COUNT; i++) {
        size_t head = types[i].head_len, n = types[i].bits / 8;
        if (spki.len <= head || memcmp(spki.data, types[i].head, head) != 0)
            continue;
        const uint8_t *body = spki.data + head;
        if (types[i].group)
            return spki.len == head + 2 * n ? ec_from(types[i].group, body - 1, 1 + 2 * n) : NULL;
        bool usual = spki.len == head + n + sizeof f4 && body[0] >= 0x80 &&
                     memcmp(body + n, f4, sizeof f4) == 0;
        return usual ? rsa_from(body, n) : NULL;
    }
    return NULL;
}

pfx_result pfx_spki_load(struct pfx_bytes spki, EVP_PKEY **ret_pkey, struct pfx_error *err)
{
    EVP_PKEY *pkey = usual_key(spki);
    if (pkey) {
        *ret_pkey = pkey;
        return PFX_OK;
    }
    const unsigned char *at = spki.data;
    if (spki.len > 0 && spki.len <= LONG_MAX)
        pkey = d2i_PUBKEY(NULL, &at, (long)spki.len);
    if (!pkey || at != spki.data + spki.len) {
        EVP_PKEY_free(pkey);
        return pfx_fail_ossl(err, PFX_CLASS_USAGE, "read public key", "SubjectPublicKeyInfo",
                             "The bytes aren't one DER public key.");
    }
    *ret_pkey = pkey;
    return PFX_OK;
}

pfx_result pfx_spki_type(struct pfx_bytes spki, enum pfx_key_type *ret_type, struct pfx_error *err)
{
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    PFX_TRY(pfx_spki_load(spki, &pkey, err));
    int bits = EVP_PKEY_get_bits(pkey);
    char group[64] = "";
    bool ec = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC;
    if (ec && EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group,
                                             NULL) != 1)
        ERR_clear_error();
    bool rsa = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA; /* not an RSA-PSS key */
    for (size_t i = 0; i < PFX_KEY_TYPE_COUNT; i++) {
        bool same = types[i].group ? ec && strcmp(group, types[i].group) == 0 &&
                                         spki.len == types[i].head_len + 2 * (types[i].bits / 8)
                                   : rsa && bits == (int)types[i].bits;
        if (same) {
            *ret_type = (enum pfx_key_type)i;
            return PFX_OK;
        }
    }
    const char *name = EVP_PKEY_get0_type_name(pkey);
    return pfx_fail(err, PFX_CLASS_USAGE, "read public key", name ? name : "", "",
                    "A key of type %s%s%s with %d bits can't be used: rsa-2048, rsa-3072, "
                    "rsa-4096, ec-p256 and ec-p384 can.",
                    name ? name : "unknown", group[0] ? " " : "", group, bits);
}

static bool add_bn(EVP_PKEY *pkey, const char *param, struct pfx_buf *out)
{
    PFX_CLEANUP(BN_free_p) BIGNUM *bn = NULL;
    if (EVP_PKEY_get_bn_param(pkey, param, &bn) != 1)
        return false;
    uint8_t *at = pfx_buf_extend(out, (size_t)BN_num_bytes(bn));
    return at && BN_bn2bin(bn, at) >= 0;
}

pfx_result pfx_spki_rsa_parts(struct pfx_bytes spki, struct pfx_buf *modulus,
                              struct pfx_buf *exponent, struct pfx_error *err)
{
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    PFX_TRY(pfx_spki_load(spki, &pkey, err));
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)
        return pfx_fail(err, PFX_CLASS_USAGE, "read public key", "SubjectPublicKeyInfo", "",
                        "It isn't an RSA key.");
    size_t modulus_len = modulus->len, exponent_len = exponent->len;
    if (!add_bn(pkey, OSSL_PKEY_PARAM_RSA_N, modulus) ||
        !add_bn(pkey, OSSL_PKEY_PARAM_RSA_E, exponent)) {
        pfx_buf_cut(modulus, modulus_len);
        pfx_buf_cut(exponent, exponent_len);
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "read public key", "SubjectPublicKeyInfo",
                             "Modulus and exponent can't be read.");
    }
    return PFX_OK;
}

static bool add_ulong(struct pfx_buf *out, size_t value)
{
    uint8_t bytes[4];
    for (size_t i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    return pfx_buf_add(out, bytes, sizeof bytes);
}

pfx_result pfx_spki_cng(struct pfx_bytes spki, struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf modulus = pfx_buf_make(MAX_RSA_BYTES);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf exponent = pfx_buf_make(MAX_RSA_BYTES);
    PFX_TRY(pfx_spki_rsa_parts(spki, &modulus, &exponent, err));
    if (modulus.len == 0 || modulus.data[0] == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "write public key", "CNG", "",
                        "Its modulus is zero.");
    size_t bits = modulus.len * 8, start = out->len;
    for (uint8_t top = modulus.data[0]; !(top & 0x80); top = (uint8_t)(top << 1))
        bits--;
    if (add_ulong(out, CNG_RSA_PUBLIC) && add_ulong(out, bits) && add_ulong(out, exponent.len) &&
        add_ulong(out, modulus.len) && add_ulong(out, 0) && add_ulong(out, 0) &&
        pfx_buf_add(out, exponent.data, exponent.len) &&
        pfx_buf_add(out, modulus.data, modulus.len))
        return PFX_OK;
    pfx_buf_cut(out, start);
    return pfx_fail(err, PFX_CLASS_INTERNAL, "write public key", "CNG", "",
                    "The buffer's ceiling of %zu bytes is too low.", out->max);
}

pfx_result pfx_ecdsa_to_der(struct pfx_bytes rs, struct pfx_buf *out, struct pfx_error *err)
{
    size_t half = rs.len / 2;
    if (rs.len % 2 != 0 || half < 1 || half > 66)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read signature", "ECDSA", "",
                        "%zu bytes aren't r and s of a signature.", rs.len);
    PFX_CLEANUP(ECDSA_SIG_free_p) ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(rs.data, (int)half, NULL);
    BIGNUM *s = BN_bin2bn(rs.data + half, (int)half, NULL);
    bool zero = r && s && (BN_is_zero(r) || BN_is_zero(s));
    if (!sig || !r || !s || zero || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        return pfx_fail_ossl(err, zero ? PFX_CLASS_INTEGRITY : PFX_CLASS_INTERNAL, "read signature",
                             "ECDSA", "r or s can't be one of a signature.");
    }
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_ECDSA_SIG(sig, &der);
    if (len <= 0 || !pfx_buf_add(out, der, (size_t)len))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "write signature", "ECDSA",
                             "The signature can't be encoded.");
    return PFX_OK;
}

bool pfx_digest_info(enum pfx_hash hash, struct pfx_bytes digest, struct pfx_buf *out)
{
    if ((size_t)hash >= N_HASHES || hashes[hash].prefix[0] == 0 || digest.len != hashes[hash].size)
        return false;
    uint8_t *at = pfx_buf_extend(out, sizeof hashes[hash].prefix + digest.len);
    if (!at)
        return false;
    memcpy(at, hashes[hash].prefix, sizeof hashes[hash].prefix);
    memcpy(at + sizeof hashes[hash].prefix, digest.data, digest.len);
    return true;
}

pfx_result pfx_verify_digest(struct pfx_bytes spki, enum pfx_hash hash, struct pfx_bytes digest,
                             struct pfx_bytes signature, bool pss, struct pfx_error *err)
{
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    PFX_TRY(pfx_spki_load(spki, &pkey, err));
    bool rsa = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA;
    const EVP_MD *md = pfx_hash_md(hash);
    if (!md || digest.len != pfx_hash_size(hash) || (pss && !rsa))
        return pfx_fail(err, PFX_CLASS_USAGE, "verify signature", pfx_hash_name(hash), "",
                        "A digest of %zu bytes doesn't fit this hash, or the key this scheme.",
                        digest.len);
    PFX_CLEANUP(EVP_PKEY_CTX_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (!ctx || EVP_PKEY_verify_init(ctx) != 1 || EVP_PKEY_CTX_set_signature_md(ctx, md) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "verify signature", pfx_hash_name(hash),
                             "OpenSSL can't verify with this key.");
    if (rsa &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "verify signature", pfx_hash_name(hash),
                             "OpenSSL can't verify with this padding.");
    if (pss && (EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) != 1 ||
                EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) != 1))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "verify signature", pfx_hash_name(hash),
                             "OpenSSL can't verify with this padding.");
    if (EVP_PKEY_verify(ctx, signature.data, signature.len, digest.data, digest.len) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTEGRITY, "verify signature", pfx_hash_name(hash),
                             "The signature doesn't belong to this key and digest.");
    return PFX_OK;
}

bool pfx_spki_pem(struct pfx_bytes spki, struct pfx_buf *out)
{
    return pfx_pem_encode("PUBLIC KEY", spki, out);
}
