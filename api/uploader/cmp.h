/* Inside of the CMP CA (RFC 4210 and 6712): what its files share. The rest uses ca.h. */
#ifndef PFX_UPLOADER_CMP_H
#define PFX_UPLOADER_CMP_H

#include <openssl/x509.h>

#include "api/conf/uploader_conf.h"
#include "api/uploader/ca.h"
#include "crypto/cert.h"
#include "crypto/secret.h"

/* --- cmp_cert.c: whose certificates are taken --- */

struct pfx_cmp_trust {
    struct pfx_certs *authorities; /* of cmp.ca_cert, the issuing one first */
    X509_NAME *recipient;          /* whom requests are for */
};
/* Reads cmp.ca_cert and cmp.recipient; USAGE names the option. */
PFX_MUST_USE pfx_result pfx_cmp_trust_load(const struct pfx_uploader_conf *conf,
                                           struct pfx_cmp_trust **ret_trust,
                                           struct pfx_error *err);
void pfx_cmp_trust_free(struct pfx_cmp_trust *trust);
/* Is leaf a certificate for this key, under one of the authorities? pool: whatever came with it.
 * REFUSED with code "key" or "chain". On success the intermediates, issuer of the leaf first. */
PFX_MUST_USE pfx_result pfx_cmp_leaf_check(const struct pfx_cmp_trust *trust, X509 *leaf,
                                           struct pfx_bytes spki, const STACK_OF(X509) *pool,
                                           struct pfx_certs **ret_chain, struct pfx_error *err);

/* --- cmp_words.c: what a refusal means; pure --- */

/* A PKIStatus of rejection: failInfo's bits and the CA's own words (any bytes, "" if none). The
 * class is TRANSIENT where the CA says that it can't work now, INTEGRITY where it has had the
 * request before and may have issued then, else REFUSED; code is the bit's name. */
PFX_MUST_USE pfx_result pfx_cmp_refusal(const char *op, const char *url, int fail_info,
                                        const char *words, struct pfx_error *err);

/* --- cmp_talk.c: one transaction, by OpenSSL --- */

struct pfx_cmp_ask {
    const struct pfx_uploader_conf *conf;
    const struct pfx_cmp_trust *trust;
    const struct pfx_secret *secret; /* of the protection; OpenSSL's copy is wiped with the talk */
    const char *op;                  /* for errors; static */
    struct pfx_bytes csr;            /* DER request; empty: a general message */
    const uint8_t *transaction;      /* 16 bytes; NULL: any */
};
enum pfx_cmp_next {
    PFX_CMP_SEND,   /* pfx_cmp_out is to be sent, and its answer given to the next step */
    PFX_CMP_WAIT,   /* the CA wants to be asked again in pfx_cmp_wait_ms */
    PFX_CMP_DONE,
    PFX_CMP_FAILED, /* pfx_cmp_error says why */
};
struct pfx_cmp;
PFX_MUST_USE pfx_result pfx_cmp_new(const struct pfx_cmp_ask *ask, struct pfx_cmp **ret_cmp,
                                    struct pfx_error *err);
void pfx_cmp_free(struct pfx_cmp *cmp);
/* Goes on to the next thing to do. answer is read after PFX_CMP_SEND only; empty: none came. */
enum pfx_cmp_next pfx_cmp_step(struct pfx_cmp *cmp, struct pfx_bytes answer);
struct pfx_bytes pfx_cmp_out(const struct pfx_cmp *cmp);
/* pfx_cmp_out only tells the CA that its certificate isn't taken: how that ends doesn't matter. */
bool pfx_cmp_parting(const struct pfx_cmp *cmp);
int64_t pfx_cmp_wait_ms(const struct pfx_cmp *cmp);
/* After DONE. */
const struct pfx_certs *pfx_cmp_chain(const struct pfx_cmp *cmp);
/* After FAILED: REFUSED, TRANSIENT, INTEGRITY or INTERNAL. */
PFX_MUST_USE pfx_result pfx_cmp_error(const struct pfx_cmp *cmp, struct pfx_error *ret_err);
/* After FAILED: was an answer not protected by the shared secret; and did the CA say no in one that
 * was, before it sent a certificate (then nothing was issued)? */
bool pfx_cmp_secret_doubted(const struct pfx_cmp *cmp);
bool pfx_cmp_rejected(const struct pfx_cmp *cmp);

#endif
