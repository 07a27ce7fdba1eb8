/* For crypto/'s own files: cleanup attributes for OpenSSL's types, and its errors as ours. */
#ifndef PFX_CRYPTO_OSSL_H
#define PFX_CRYPTO_OSSL_H

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/result.h"

#define PFX_OSSL_CLEANUP(type, fn)                                                                 \
    static inline void fn##_p(type **pp)                                                           \
    {                                                                                              \
        fn(*pp);                                                                                   \
    }

PFX_OSSL_CLEANUP(EVP_PKEY, EVP_PKEY_free)
PFX_OSSL_CLEANUP(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
PFX_OSSL_CLEANUP(BIGNUM, BN_free)
PFX_OSSL_CLEANUP(X509, X509_free)

/* Memory that OpenSSL allocated (i2d_... into NULL). */
static inline void pfx_openssl_free_p(unsigned char **pp)
{
    OPENSSL_free(*pp);
}

/* Fails with OpenSSL's last reason as the code, and empties its error queue. */
PFX_MUST_USE pfx_result pfx_fail_ossl(struct pfx_error *err, enum pfx_class cls, const char *op,
                                      const char *object, const char *text);
const EVP_MD *pfx_hash_md(enum pfx_hash hash);
/* Exactly one public key, nothing after it. */
PFX_MUST_USE pfx_result pfx_spki_load(struct pfx_bytes spki, EVP_PKEY **ret_pkey,
                                      struct pfx_error *err);
/* Exactly one certificate, nothing after it; fails with class cls. */
PFX_MUST_USE pfx_result pfx_x509_load(struct pfx_bytes der, enum pfx_class cls, X509 **ret_cert,
                                      struct pfx_error *err);
/* The DER of its SubjectPublicKeyInfo. */
PFX_MUST_USE bool pfx_x509_spki(const X509 *cert, struct pfx_buf *out);
/* The rfc822Name SANs as they stand. REFUSED for one that isn't printable ASCII, and for an address
 * in any other form (SmtpUTF8Mailbox). */
PFX_MUST_USE pfx_result pfx_x509_emails(X509 *cert, char ***ret_emails, size_t *ret_n,
                                        struct pfx_error *err);
void pfx_strings_free(char **list, size_t n);
PFX_MUST_USE bool pfx_x509_ms(const ASN1_TIME *time, int64_t *ret_ms);

#endif
