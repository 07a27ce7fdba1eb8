/* PKCS#10 requests (RFC 2986), signed by whoever holds the key. */
#ifndef PFX_CRYPTO_CSR_H
#define PFX_CRYPTO_CSR_H

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/result.h"

/* Signs a digest with the private half: PKCS#1 v1.5 for RSA, DER ECDSA-Sig-Value for EC. */
typedef pfx_result (*pfx_digest_sign_fn)(void *ctx, enum pfx_hash hash, struct pfx_bytes digest,
                                         struct pfx_buf *out, struct pfx_error *err);

struct pfx_csr_spec {
    struct pfx_bytes spki;     /* DER */
    const char *common_name;   /* UTF-8, 1 to 64 characters */
    const char *const *emails; /* rfc822Name SANs in this order; ASCII (RFC 5280 4.2.1.6) */
    size_t n_emails;           /* 1 to 64 */
    enum pfx_purpose purpose;  /* key usages asked for, besides emailProtection */
};
/* Appends the DER request. SHA-256 for RSA and P-256, SHA-384 for P-384. USAGE for what can't stand
 * in a request; the signature is verified before it is handed out (INTEGRITY). */
PFX_MUST_USE pfx_result pfx_csr_build(const struct pfx_csr_spec *spec, pfx_digest_sign_fn sign,
                                      void *ctx, struct pfx_buf *out, struct pfx_error *err);
/* The SPKI of a DER request whose own signature holds; REFUSED otherwise. */
PFX_MUST_USE pfx_result pfx_csr_spki(struct pfx_bytes csr, struct pfx_buf *out,
                                     struct pfx_error *err);
/* PEM on one line without breaks, as DigiCert takes it, or ordinary PEM. */
PFX_MUST_USE bool pfx_csr_pem(struct pfx_bytes csr, bool one_line, struct pfx_buf *out);
/* DER of a PEM request whatever its line breaks; REFUSED when it isn't one. */
PFX_MUST_USE pfx_result pfx_csr_from_pem(const char *pem, struct pfx_buf *out,
                                         struct pfx_error *err);

#endif
