/* The parts of a PFX that touch the password and the private key, in locked memory. No private key
 * becomes an OpenSSL object here, since those live on the heap. */
#include "crypto/pbe.h"

#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "crypto/encode.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)
PFX_OSSL_CLEANUP(EVP_KDF, EVP_KDF_free)
PFX_OSSL_CLEANUP(EVP_KDF_CTX, EVP_KDF_CTX_free)

#define MAX_PKCS8 (64 * 1024) /* RSA-4096 has 2.4 KiB */
#define MAX_PASSWORD 512

static const struct row {
    const char *name;
    size_t salt_len, kek_len, block;
    const EVP_CIPHER *(*cipher)(void);
    const char *cipher_name;
} profiles[PFX_PROFILE_COUNT] = {
    [PFX_PROFILE_MODERN] = {"modern", 16, 32, 16, EVP_aes_256_cbc, "AES-256-CBC"},
    [PFX_PROFILE_COMPAT] = {"compat", 8, 24, 8, EVP_des_ede3_cbc, "DES-EDE3-CBC"},
};

static const struct row *row_of(enum pfx_profile profile)
{
    return (size_t)profile < PFX_PROFILE_COUNT ? &profiles[profile] : NULL;
}

const char *pfx_profile_name(enum pfx_profile profile)
{
    const struct row *row = row_of(profile);
    return row ? row->name : "unknown";
}

bool pfx_profile_parse(const char *name, enum pfx_profile *ret_profile)
{
    for (size_t i = 0; name && i < PFX_PROFILE_COUNT; i++) {
        if (strcmp(name, profiles[i].name) == 0) {
            *ret_profile = (enum pfx_profile)i;
            return true;
        }
    }
    return false;
}

size_t pfx_pbe_salt_len(enum pfx_profile profile)
{
    const struct row *row = row_of(profile);
    return row ? row->salt_len : 0;
}

size_t pfx_kek_len(enum pfx_profile profile)
{
    const struct row *row = row_of(profile);
    return row ? row->kek_len : 0;
}

size_t pfx_kek_block(enum pfx_profile profile)
{
    const struct row *row = row_of(profile);
    return row ? row->block : 0;
}

static pfx_result unknown_profile(struct pfx_error *err, const char *op)
{
    return pfx_fail(err, PFX_CLASS_USAGE, op, "profile", "",
                    "This profile isn't known: \"modern\" and \"compat\" are.");
}

static pfx_result no_random(struct pfx_error *err, const char *op)
{
    return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, op, "", "OpenSSL has no random bytes.");
}

pfx_result pfx_pbe_draw(enum pfx_profile profile, struct pfx_pbe *ret_pbe, struct pfx_error *err)
{
    const struct row *row = row_of(profile);
    if (!row)
        return unknown_profile(err, "draw salt");
    struct pfx_pbe pbe = {.profile = profile, .iterations = PFX_PBE_ITERATIONS};
    if (RAND_bytes(pbe.salt, (int)row->salt_len) != 1 ||
        (profile == PFX_PROFILE_MODERN && RAND_bytes(pbe.iv, sizeof pbe.iv) != 1))
        return no_random(err, "draw salt");
    *ret_pbe = pbe;
    return PFX_OK;
}

/* Parity bits take no part in the cipher, but tokens may refuse a DES key without them. */
static void set_odd_parity(struct pfx_secret *key)
{
    uint8_t *data = pfx_secret_data(key);
    for (size_t i = 0; i < pfx_secret_len(key); i++) {
        unsigned v = data[i] & 0xFEu, bits = v;
        bits ^= bits >> 4;
        bits ^= bits >> 2;
        bits ^= bits >> 1;
        data[i] = (uint8_t)(v | (~bits & 1u));
    }
}

/* One run of a KDF of OpenSSL's. id: PKCS12KDF only, what the bytes are for (RFC 7292 B.3). */
static bool derive(const char *name, char *digest, struct pfx_bytes password,
                   const struct pfx_pbe *pbe, int id, uint8_t *out, size_t len)
{
    PFX_CLEANUP(EVP_KDF_free_p) EVP_KDF *kdf = EVP_KDF_fetch(NULL, name, NULL);
    PFX_CLEANUP(EVP_KDF_CTX_free_p) EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    unsigned iterations = pbe->iterations;
    /* OSSL_PARAM has no const; EVP_KDF_derive only reads them. */
    OSSL_PARAM in[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD,
                                          (void *)(uintptr_t)password.data, password.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)pbe->salt,
                                          pfx_pbe_salt_len(pbe->profile)),
        OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_ITER, &iterations),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        id ? OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS12_ID, &id) : OSSL_PARAM_construct_end(),
        OSSL_PARAM_construct_end(),
    };
    return ctx && EVP_KDF_derive(ctx, out, len, in) == 1;
}

static pfx_result derive_modern(const struct pfx_pbe *pbe, const struct pfx_secret *password,
                                struct pfx_kek *kek, struct pfx_error *err)
{
    char digest[] = "SHA256";
    struct pfx_bytes text = {pfx_secret_bytes(password), pfx_secret_len(password)};
    if (!derive("PBKDF2", digest, text, pbe, 0, pfx_secret_data(kek->key),
                pfx_secret_len(kek->key)))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "derive key", "PBKDF2",
                             "OpenSSL can't derive the key-encryption key.");
    memcpy(kek->iv, pbe->iv, sizeof kek->iv);
    return PFX_OK;
}

/* BMPString with its terminator: RFC 7292 appendix B.1. */
static pfx_result as_bmp(const struct pfx_secret *password, struct pfx_secret **ret_bmp,
                         struct pfx_error *err)
{
    size_t len = pfx_secret_len(password);
    const uint8_t *text = pfx_secret_bytes(password);
    if (len > MAX_PASSWORD || !pfx_ascii_printable((const char *)text, len))
        return pfx_fail(err, PFX_CLASS_USAGE, "derive key", "password", "",
                        "A PFX password is 1 to 512 printable ASCII characters.");
    PFX_AUTOSECRET struct pfx_secret *bmp = NULL;
    PFX_TRY(pfx_secret_new(2 * len + 2, &bmp, err)); /* zeroed: high bytes and terminator */
    for (size_t i = 0; i < len; i++)
        pfx_secret_data(bmp)[2 * i + 1] = text[i];
    *ret_bmp = PFX_TAKE(bmp);
    return PFX_OK;
}

static pfx_result derive_compat(const struct pfx_pbe *pbe, const struct pfx_secret *password,
                                struct pfx_kek *kek, struct pfx_error *err)
{
    enum { ID_KEY = 1, ID_IV = 2 };
    char digest[] = "SHA1";
    PFX_AUTOSECRET struct pfx_secret *bmp = NULL;
    PFX_TRY(as_bmp(password, &bmp, err));
    struct pfx_bytes text = {pfx_secret_bytes(bmp), pfx_secret_len(bmp)};
    if (!derive("PKCS12KDF", digest, text, pbe, ID_KEY, pfx_secret_data(kek->key),
                pfx_secret_len(kek->key)) ||
        !derive("PKCS12KDF", digest, text, pbe, ID_IV, kek->iv, pfx_kek_block(pbe->profile)))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "derive key", "PKCS12KDF",
                             "OpenSSL can't derive the key-encryption key.");
    set_odd_parity(kek->key);
    return PFX_OK;
}

pfx_result pfx_pbe_kek(const struct pfx_pbe *pbe, const struct pfx_secret *password,
                       struct pfx_kek *ret_kek, struct pfx_error *err)
{
    const struct row *row = row_of(pbe->profile);
    if (!row)
        return unknown_profile(err, "derive key");
    if (pbe->iterations < 1 || pfx_secret_len(password) == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "derive key", row->name, "",
                        "Password or iterations are missing.");
    PFX_AUTOKEK struct pfx_kek kek = {.profile = pbe->profile};
    PFX_TRY(pfx_secret_new(row->kek_len, &kek.key, err));
    if (pbe->profile == PFX_PROFILE_COMPAT)
        PFX_TRY(derive_compat(pbe, password, &kek, err));
    else
        PFX_TRY(derive_modern(pbe, password, &kek, err));
    *ret_kek = kek;
    kek.key = NULL;
    return PFX_OK;
}

pfx_result pfx_kek_draw(enum pfx_profile profile, struct pfx_kek *ret_kek, struct pfx_error *err)
{
    const struct row *row = row_of(profile);
    if (!row)
        return unknown_profile(err, "draw key");
    PFX_AUTOKEK struct pfx_kek kek = {.profile = profile};
    PFX_TRY(pfx_secret_new(row->kek_len, &kek.key, err));
    if (RAND_bytes(pfx_secret_data(kek.key), (int)row->kek_len) != 1 ||
        RAND_bytes(kek.iv, (int)row->block) != 1)
        return no_random(err, "draw key");
    if (profile == PFX_PROFILE_COMPAT)
        set_odd_parity(kek.key);
    *ret_kek = kek;
    kek.key = NULL;
    return PFX_OK;
}

void pfx_kek_done(struct pfx_kek *kek)
{
    pfx_secret_free(PFX_TAKE(kek->key));
    OPENSSL_cleanse(kek->iv, sizeof kek->iv);
}

static pfx_result check_kek(const struct pfx_kek *kek, const char *op, const struct row **ret_row,
                            struct pfx_error *err)
{
    const struct row *row = row_of(kek->profile);
    if (!row)
        return unknown_profile(err, op);
    size_t len = kek->key ? pfx_secret_len(kek->key) : 0;
    if (len != row->kek_len)
        return pfx_fail(err, PFX_CLASS_USAGE, op, "key-encryption key", "",
                        "It has %zu bytes, not %zu.", len, row->kek_len);
    *ret_row = row;
    return PFX_OK;
}

pfx_result pfx_p8_encrypt(const struct pfx_kek *kek, const struct pfx_secret *pkcs8,
                          struct pfx_buf *out, struct pfx_error *err)
{
    size_t len = pfx_secret_len(pkcs8);
    const struct row *row = NULL;
    PFX_TRY(check_kek(kek, "encrypt private key", &row, err));
    if (len > MAX_PKCS8 || len == 0 || pfx_der_trim(pfx_secret_bytes(pkcs8), len) != len)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "encrypt private key", "PrivateKeyInfo", "",
                        "The %zu bytes aren't one DER sequence.", len);
    size_t start = out->len;
    uint8_t *at = pfx_buf_extend(out, len / row->block * row->block + row->block);
    if (!at)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "encrypt private key", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    PFX_CLEANUP(EVP_CIPHER_CTX_free_p) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, last = 0;
    bool ok = ctx &&
              EVP_EncryptInit_ex2(ctx, row->cipher(), pfx_secret_bytes(kek->key), kek->iv,
                                  NULL) == 1 &&
              EVP_EncryptUpdate(ctx, at, &n, pfx_secret_bytes(pkcs8), (int)len) == 1 &&
              EVP_EncryptFinal_ex(ctx, at + n, &last) == 1 &&
              start + (size_t)(n + last) == out->len;
    if (!ok) {
        pfx_buf_cut(out, start);
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "encrypt private key", row->cipher_name,
                             "OpenSSL can't encrypt.");
    }
    return PFX_OK;
}

pfx_result pfx_p8_decrypt(const struct pfx_kek *kek, struct pfx_bytes ciphertext,
                          struct pfx_secret **ret_pkcs8, struct pfx_error *err)
{
    const struct row *row = NULL;
    PFX_TRY(check_kek(kek, "decrypt private key", &row, err));
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    if (ciphertext.len == 0 || ciphertext.len > MAX_PKCS8 || ciphertext.len % row->block != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "decrypt private key", row->cipher_name, "",
                        "%zu bytes can't be the ciphertext.", ciphertext.len);
    PFX_TRY(pfx_secret_new(ciphertext.len + row->block, &plain, err));
    PFX_CLEANUP(EVP_CIPHER_CTX_free_p) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0, last = 0;
    bool ok = ctx &&
              EVP_DecryptInit_ex2(ctx, row->cipher(), pfx_secret_bytes(kek->key), kek->iv,
                                  NULL) == 1 &&
              EVP_DecryptUpdate(ctx, pfx_secret_data(plain), &len, ciphertext.data,
                                (int)ciphertext.len) == 1 &&
              EVP_DecryptFinal_ex(ctx, pfx_secret_data(plain) + len, &last) == 1;
    if (!ok)
        return pfx_fail_ossl(err, PFX_CLASS_INTEGRITY, "decrypt private key", row->cipher_name,
                             "It doesn't open under this key.");
    pfx_secret_truncate(plain, (size_t)len + (size_t)last);
    *ret_pkcs8 = PFX_TAKE(plain);
    return PFX_OK;
}

size_t pfx_der_trim(const uint8_t *data, size_t len)
{
    if (len < 2 || data[0] != 0x30)
        return 0;
    size_t header = 2, body = data[1];
    if (body >= 0x80) {
        size_t n = body & 0x7F;
        if (n == 0 || n > 4 || len < 2 + n || data[2] == 0)
            return 0;
        body = 0;
        for (size_t i = 0; i < n; i++)
            body = body << 8 | data[2 + i];
        if (body < 0x80) /* DER: the shortest form only */
            return 0;
        header += n;
    }
    return body <= len - header ? header + body : 0;
}
