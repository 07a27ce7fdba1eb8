/* The parts of a PFX that touch the password and the private key: PBES2 (RFC 8018) in locked
 * memory. No private key becomes an OpenSSL object here, since those live on the heap. */
#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "crypto/ossl.h"
#include "crypto/pfx.h"

PFX_OSSL_CLEANUP(EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)
PFX_OSSL_CLEANUP(EVP_KDF, EVP_KDF_free)
PFX_OSSL_CLEANUP(EVP_KDF_CTX, EVP_KDF_CTX_free)

#define KEK_BYTES 32
#define BLOCK 16
#define MAX_PKCS8 (64 * 1024) /* RSA-4096 has 2.4 KiB */

static const char *const profiles[] = {
    [PFX_PROFILE_MODERN] = "modern",
};
#define N_PROFILES (sizeof profiles / sizeof profiles[0])

const char *pfx_profile_name(enum pfx_profile profile)
{
    return (size_t)profile < N_PROFILES ? profiles[profile] : "unknown";
}

bool pfx_profile_parse(const char *name, enum pfx_profile *ret_profile)
{
    for (size_t i = 0; name && i < N_PROFILES; i++) {
        if (strcmp(name, profiles[i]) == 0) {
            *ret_profile = (enum pfx_profile)i;
            return true;
        }
    }
    return false;
}

pfx_result pfx_pbes2_draw(struct pfx_pbes2 *ret_params, struct pfx_error *err)
{
    struct pfx_pbes2 params = {.iterations = PFX_PBES2_ITERATIONS};
    if (RAND_bytes(params.salt, sizeof params.salt) != 1 ||
        RAND_bytes(params.iv, sizeof params.iv) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "draw salt", "",
                             "OpenSSL has no random bytes.");
    *ret_params = params;
    return PFX_OK;
}

pfx_result pfx_pbes2_kek(const struct pfx_pbes2 *params, const struct pfx_secret *password,
                         struct pfx_secret **ret_kek, struct pfx_error *err)
{
    if (params->iterations < 1 || pfx_secret_len(password) == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "derive key", "PBKDF2", "",
                        "Password or iterations are missing.");
    PFX_AUTOSECRET struct pfx_secret *kek = NULL;
    PFX_TRY(pfx_secret_new(KEK_BYTES, &kek, err));
    PFX_CLEANUP(EVP_KDF_free_p) EVP_KDF *kdf = EVP_KDF_fetch(NULL, "PBKDF2", NULL);
    PFX_CLEANUP(EVP_KDF_CTX_free_p) EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    unsigned iterations = params->iterations;
    char digest[] = "SHA256";
    /* OSSL_PARAM has no const; EVP_KDF_derive only reads them. */
    OSSL_PARAM in[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD,
                                          (void *)(uintptr_t)pfx_secret_bytes(password),
                                          pfx_secret_len(password)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)params->salt,
                                          sizeof params->salt),
        OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_ITER, &iterations),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    if (!ctx || EVP_KDF_derive(ctx, pfx_secret_data(kek), KEK_BYTES, in) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "derive key", "PBKDF2",
                             "OpenSSL can't derive the key-encryption key.");
    *ret_kek = PFX_TAKE(kek);
    return PFX_OK;
}

pfx_result pfx_p8_encrypt(const struct pfx_pbes2 *params, const struct pfx_secret *kek,
                          const struct pfx_secret *pkcs8, struct pfx_buf *out,
                          struct pfx_error *err)
{
    size_t len = pfx_secret_len(pkcs8);
    if (pfx_secret_len(kek) != KEK_BYTES)
        return pfx_fail(err, PFX_CLASS_USAGE, "encrypt private key", "key-encryption key", "",
                        "It has %zu bytes, not %d.", pfx_secret_len(kek), KEK_BYTES);
    if (len > MAX_PKCS8 || len == 0 || pfx_der_trim(pfx_secret_bytes(pkcs8), len) != len)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "encrypt private key", "PrivateKeyInfo", "",
                        "The %zu bytes aren't one DER sequence.", len);
    size_t start = out->len;
    uint8_t *at = pfx_buf_extend(out, len / BLOCK * BLOCK + BLOCK);
    if (!at)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "encrypt private key", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    PFX_CLEANUP(EVP_CIPHER_CTX_free_p) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, last = 0;
    bool ok = ctx &&
              EVP_EncryptInit_ex2(ctx, EVP_aes_256_cbc(), pfx_secret_bytes(kek), params->iv,
                                  NULL) == 1 &&
              EVP_EncryptUpdate(ctx, at, &n, pfx_secret_bytes(pkcs8), (int)len) == 1 &&
              EVP_EncryptFinal_ex(ctx, at + n, &last) == 1 &&
              start + (size_t)(n + last) == out->len;
    if (!ok) {
        pfx_buf_cut(out, start);
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "encrypt private key", "AES-256-CBC",
                             "OpenSSL can't encrypt.");
    }
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

void pfx_password_from_random(struct pfx_secret *random)
{
    /* Arithmetic in place of a table: no index that depends on the password touches the cache. */
    uint8_t *data = pfx_secret_data(random);
    for (size_t i = 0; i < pfx_secret_len(random); i++) {
        unsigned v = data[i] & 0x3F;
        unsigned c = v + 'A';
        c += (v >= 26 ? 1u : 0u) * ('a' - 'A' - 26u);
        c -= (v >= 52 ? 1u : 0u) * ('a' + 26u - '0');
        c += (v >= 62 ? 1u : 0u) * ('-' - ('0' + 10u));
        c += (v >= 63 ? 1u : 0u) * ('_' - ('-' + 1u));
        data[i] = (uint8_t)c;
    }
}
