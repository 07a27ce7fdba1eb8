#include "hsm-test/cryptoki/needles.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "hsm-test/cryptoki/faults.h"

#define WRAPPED_MAX 8192

void tt_needle_value(const char *cls, enum tt_function function, const char *name,
                     const unsigned char *value, size_t len)
{
    if (!tt_shared->needles || !value || len == 0)
        return;
    tt_lock();
    size_t left = TT_MAX_NEEDLES - tt_shared->needle_len;
    char *at = tt_shared->needle + tt_shared->needle_len;
    if (left > 128 + 2 * len) {
        int n = snprintf(at, left, "%s %s %s ", cls, tt_name(function), name);
        for (size_t i = 0; i < len; i++)
            n += snprintf(at + n, left - (size_t)n, "%02x", value[i]);
        n += snprintf(at + n, left - (size_t)n, "\n");
        tt_shared->needle_len += (size_t)n;
    }
    tt_unlock();
}

static void closed(enum tt_function function, const char *cls, CK_RV rv)
{
    tt_lock();
    size_t left = TT_MAX_NEEDLES - tt_shared->needle_len;
    if (left > 128)
        tt_shared->needle_len +=
            (size_t)snprintf(tt_shared->needle + tt_shared->needle_len, left,
                             "closed %s %s 0x%lx\n", tt_name(function), cls, rv);
    tt_unlock();
}

static void number(const EVP_PKEY *key, enum tt_function function, const char *cls,
                   const char *param, const char *name)
{
    BIGNUM *bn = NULL;
    unsigned char bytes[1024];
    if (EVP_PKEY_get_bn_param(key, param, &bn) == 1 && BN_num_bytes(bn) <= (int)sizeof bytes)
        tt_needle_value(cls, function, name, bytes, (size_t)BN_bn2bin(bn, bytes));
    BN_clear_free(bn);
    OPENSSL_cleanse(bytes, sizeof bytes);
}

static bool private_numbers(enum tt_function function, const unsigned char *pkcs8, size_t len)
{
    const unsigned char *at = pkcs8;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)len);
    if (key && EVP_PKEY_is_a(key, "RSA")) {
        number(key, function, "rsa", OSSL_PKEY_PARAM_RSA_D, "d");
        number(key, function, "rsa", OSSL_PKEY_PARAM_RSA_FACTOR1, "p");
        number(key, function, "rsa", OSSL_PKEY_PARAM_RSA_FACTOR2, "q");
        number(key, function, "rsa", OSSL_PKEY_PARAM_RSA_EXPONENT1, "dP");
        number(key, function, "rsa", OSSL_PKEY_PARAM_RSA_EXPONENT2, "dQ");
        number(key, function, "rsa", OSSL_PKEY_PARAM_RSA_COEFFICIENT1, "qInv");
    } else if (key) {
        number(key, function, "ec", OSSL_PKEY_PARAM_PRIV_KEY, "d");
    }
    bool ok = key != NULL;
    EVP_PKEY_free(key);
    return ok;
}

/* AES-CBC with padding, or RFC 5649, by OpenSSL; the length, 0 if it can't be opened. */
static size_t open_wrapped(CK_MECHANISM_TYPE by, const unsigned char *aes, const unsigned char *iv,
                           const unsigned char *in, size_t n, unsigned char *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool cbc = by == CKM_AES_CBC_PAD;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, cbc ? "AES-256-CBC" : "AES-256-WRAP-PAD", NULL);
    int first = 0, last = 0;
    if (ctx)
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    bool ok = ctx && cipher && EVP_DecryptInit_ex2(ctx, cipher, aes, cbc ? iv : NULL, NULL) == 1 &&
              EVP_DecryptUpdate(ctx, out, &first, in, (int)n) == 1 &&
              EVP_DecryptFinal_ex(ctx, out + first, &last) == 1;
    EVP_CIPHER_free(cipher);
    EVP_CIPHER_CTX_free(ctx);
    return ok ? (size_t)first + (size_t)last : 0;
}

static CK_RV make_aes(CK_FUNCTION_LIST *p11, CK_SESSION_HANDLE session, unsigned char aes[32],
                      CK_OBJECT_HANDLE *ret_key)
{
    CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE at[] = {{CKA_CLASS, &cls, sizeof cls}, {CKA_KEY_TYPE, &type, sizeof type},
                         {CKA_TOKEN, &no, sizeof no},   {CKA_PRIVATE, &yes, sizeof yes},
                         {CKA_WRAP, &yes, sizeof yes},  {CKA_ENCRYPT, &yes, sizeof yes},
                         {CKA_VALUE, aes, 32}};
    return p11->C_CreateObject(session, at, sizeof at / sizeof at[0], ret_key);
}

void tt_needle_key(CK_FUNCTION_LIST *p11, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key,
                   enum tt_function function)
{
    static const CK_MECHANISM_TYPE ways[] = {CKM_AES_CBC_PAD, 0x210bUL, 0x210aUL};
    static _Thread_local unsigned char wrapped[WRAPPED_MAX], plain[WRAPPED_MAX + 64];
    if (!tt_shared->needles)
        return;
    unsigned char aes[32], iv[16] = {0};
    CK_SESSION_INFO info;
    CK_SESSION_HANDLE own = 0;
    CK_OBJECT_HANDLE by = 0;
    CK_OBJECT_CLASS cls = CKO_DATA;
    CK_ATTRIBUTE at = {CKA_CLASS, &cls, sizeof cls};
    CK_RV rv = p11->C_GetAttributeValue(session, key, &at, 1);
    const char *kind = cls == CKO_PRIVATE_KEY ? "private" : "secret";
    bool opened = false;
    RAND_bytes(aes, sizeof aes);
    if (rv == CKR_OK)
        rv = p11->C_GetSessionInfo(session, &info);
    if (rv == CKR_OK)
        rv = p11->C_OpenSession(info.slotID, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &own);
    if (rv == CKR_OK)
        rv = make_aes(p11, own, aes, &by);
    for (size_t i = 0; rv == CKR_OK && i < sizeof ways / sizeof ways[0] && !opened; i++) {
        CK_MECHANISM mechanism = {ways[i], i == 0 ? iv : NULL, i == 0 ? sizeof iv : 0};
        CK_ULONG n = sizeof wrapped;
        CK_RV answer = p11->C_WrapKey(own, &mechanism, by, key, wrapped, &n);
        size_t len = answer == CKR_OK ? open_wrapped(ways[i], aes, iv, wrapped, n, plain) : 0;
        if (len > 0 && cls == CKO_PRIVATE_KEY) {
            opened = private_numbers(function, plain, len);
        } else if (len > 0) {
            tt_needle_value("secret", function, "value", plain, len);
            opened = true;
        }
        if (i == 2 && !opened)
            rv = answer == CKR_OK ? CKR_DATA_INVALID : answer;
    }
    if (!opened)
        closed(function, kind, rv);
    if (by)
        (void)p11->C_DestroyObject(own, by);
    if (own)
        (void)p11->C_CloseSession(own);
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_cleanse(aes, sizeof aes);
}
