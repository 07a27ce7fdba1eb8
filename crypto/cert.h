/* Certificates as they come from a CA: read whatever bundle it is, pick the leaf by its key, check
 * that it is what was ordered. */
#ifndef PFX_CRYPTO_CERT_H
#define PFX_CRYPTO_CERT_H

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/result.h"

/* An owned list of DER certificates, in the order of the bundle, without doubles. */
struct pfx_certs;
void pfx_certs_free(struct pfx_certs *certs);
static inline void pfx_certs_freep(struct pfx_certs **pp)
{
    pfx_certs_free(*pp);
}
#define PFX_AUTOCERTS __attribute__((cleanup(pfx_certs_freep)))
struct pfx_certs *pfx_certs_new(void);
size_t pfx_certs_count(const struct pfx_certs *certs);
struct pfx_bytes pfx_certs_at(const struct pfx_certs *certs, size_t i);
/* Adds one DER certificate; REFUSED when it can't be parsed. */
PFX_MUST_USE pfx_result pfx_certs_add(struct pfx_certs *certs, struct pfx_bytes der,
                                      struct pfx_error *err);
/* PEM CERTIFICATE, PKCS7, CMS, or DER of each, recognised by looking at the bytes; at most 32
 * certificates and 1 MiB. REFUSED with what it looks like instead (HTML, JSON, empty). */
PFX_MUST_USE pfx_result pfx_certs_parse(struct pfx_bytes bundle, struct pfx_certs **ret_certs,
                                        struct pfx_error *err);
/* Index of the certificate with this SPKI; REFUSED when none has it, or several different ones. */
PFX_MUST_USE pfx_result pfx_certs_pick(const struct pfx_certs *certs, struct pfx_bytes spki,
                                       size_t *ret_index, struct pfx_error *err);

struct pfx_cert_facts {
    char thumbprint[41];   /* SHA-1 of the DER, lower-case hex */
    uint8_t sha256[32];
    char *subject, *issuer; /* RFC 2253 one line, UTF-8 */
    char *serial;           /* lower-case hex */
    int64_t not_before_ms, not_after_ms;
    char **emails;          /* rfc822Name SANs as they stand */
    size_t n_emails;
    enum pfx_key_type key_type; /* PFX_KEY_TYPE_COUNT: none of ours, as with many a CA */
    struct pfx_buf spki;
};
PFX_MUST_USE pfx_result pfx_cert_facts_read(struct pfx_bytes der, struct pfx_cert_facts *ret_facts,
                                            struct pfx_error *err);
void pfx_cert_facts_done(struct pfx_cert_facts *facts);

struct pfx_cert_expect {
    struct pfx_bytes spki;
    const char *const *emails; /* exactly these, without regard to case and order */
    size_t n_emails;
    enum pfx_purpose purpose;
    int64_t now_ms;            /* notBefore may lie up to 1 h ahead; notAfter not within 1 day */
    int64_t max_days;          /* longest validity accepted; 0: no limit */
    const struct pfx_certs *roots; /* chain must end here; NULL: chain not checked */
};
/* The chain has to end at one of the roots, must hold at now_ms (CRLs aren't asked), and every CA
 * below the root that names extended key usages must name emailProtection. An address in the
 * subject, or one that isn't ASCII, counts as an address too.
 * Each condition has its own sentence and, in err->code, its own word: "key", "addresses",
 * "validity", "key usage", "extended key usage", "chain", "ca". REFUSED. */
PFX_MUST_USE pfx_result pfx_cert_check(struct pfx_bytes leaf, const struct pfx_certs *chain,
                                       const struct pfx_cert_expect *expect, struct pfx_error *err);
/* The leaf, and the intermediates from its issuer upward, without self-signed roots, out of pool. */
PFX_MUST_USE pfx_result pfx_cert_order_chain(struct pfx_bytes leaf, const struct pfx_certs *pool,
                                             struct pfx_certs **ret_chain, struct pfx_error *err);

#endif
