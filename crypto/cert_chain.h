/* For crypto/'s own files: lists as OpenSSL has them, and the part of pfx_cert_check that looks above
 * the leaf. */
#ifndef PFX_CRYPTO_CERT_CHAIN_H
#define PFX_CRYPTO_CERT_CHAIN_H

#include <openssl/x509.h>

#include "crypto/cert.h"

/* Borrowed. */
X509 *pfx_certs_x509(const struct pfx_certs *certs, size_t i);
/* Adds number i of another list, which isn't parsed again; false where certs has it. */
bool pfx_certs_take(struct pfx_certs *certs, const struct pfx_certs *from, size_t i);
/* REFUSED with code "chain". chain may be NULL or hold any certificates in any order. */
PFX_MUST_USE pfx_result pfx_chain_check(X509 *leaf, const struct pfx_certs *chain,
                                        const struct pfx_certs *roots, int64_t now_ms,
                                        struct pfx_error *err);

#endif
