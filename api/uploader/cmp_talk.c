/*
 * A CMP transaction by OpenSSL's client. OpenSSL calls back when a message is to go out and takes
 * the answer as what that call returns, so the transaction runs in a pfx_co: the callback is where
 * it stops until the loop has the answer. How long the CA is polled is up to the loop too.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/cmp.h>
#include <openssl/cmperr.h>
#include <openssl/err.h>

#include "api/uploader/cmp.h"
#include "api/uploader/cmp_co.h"
#include "api/uploader/url.h"
#include "crypto/csr.h"

/* A certificate with its chain has some 10 KiB. */
#define MAX_MESSAGE (256 * 1024)
#define MAX_POOL 32
#define BODY_ERROR 23 /* PKIBody of RFC 4210 section 5.1.2 */

typedef STACK_OF(X509) x509_list;

struct pfx_cmp {
    struct pfx_cmp_ask ask; /* secret and csr are gone after pfx_cmp_new */
    OSSL_CMP_CTX *ctx;
    struct pfx_buf spki; /* empty: a general message */
    struct pfx_co *co;
    enum pfx_cmp_next next;
    struct pfx_buf out;
    struct pfx_bytes in; /* borrowed for one step */
    int check_after_s;
    struct pfx_buf leaf;
    struct pfx_certs *chain;
    struct pfx_error error;
    bool secret_doubted, rejected;
};

static void x509s_freep(x509_list **list)
{
    sk_X509_pop_free(*list, X509_free);
}

/* --- in the transaction --- */

static void wrong(struct pfx_cmp *cmp, const char *code, const char *why)
{
    char object[160];
    pfx_url_show(cmp->ask.conf->cmp_url, object, sizeof object);
    const char *note = cmp->spki.len == 0 ? "Its log says more."
                                          : "The CA may have issued a certificate all the same; "
                                            "its log says more.";
    pfx_result r = pfx_fail(&cmp->error, PFX_CLASS_REFUSED, cmp->ask.op, object, code,
                            "The answer of the CMP server can't be used: %s. %s", why, note);
    (void)r;
}

static bool enter(const uint8_t **at, long *left, int tag, int class)
{
    long len;
    int got_tag, got_class;
    int form = ASN1_get_object(at, &len, &got_tag, &got_class, *left);
    *left = len;
    return !(form & 0x80) && !(form & 1) && got_tag == tag && got_class == class;
}

/*
 * OpenSSL from 3.2 on takes an error with the status "waiting" as the answer to any message, and
 * then sleeps by itself, which would stop the whole program. PKIMessage of RFC 4210 section 5.1:
 * SEQUENCE { header SEQUENCE, [23] { SEQUENCE { SEQUENCE { INTEGER status ...
 */
static bool is_waiting_error_der(const uint8_t *at, long left)
{
    if (!enter(&at, &left, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL))
        return false;
    const uint8_t *end = at + left;
    if (!enter(&at, &left, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL))
        return false;
    at += left;
    left = end - at;
    if (left <= 0 || !enter(&at, &left, BODY_ERROR, V_ASN1_CONTEXT_SPECIFIC) ||
        !enter(&at, &left, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL) ||
        !enter(&at, &left, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL) ||
        !enter(&at, &left, V_ASN1_INTEGER, V_ASN1_UNIVERSAL))
        return false;
    return left == 1 && *at == OSSL_CMP_PKISTATUS_waiting;
}

/* Encoded anew, because the CA may have sent BER. */
static bool is_waiting_error(const OSSL_CMP_MSG *msg)
{
    unsigned char *der = NULL;
    int len = i2d_OSSL_CMP_MSG(msg, &der);
    bool waiting = len > 0 && is_waiting_error_der(der, len);
    OPENSSL_free(der);
    return waiting;
}

static OSSL_CMP_MSG *read_answer(struct pfx_cmp *cmp)
{
    if (cmp->in.len == 0 || cmp->in.len > MAX_MESSAGE) {
        wrong(cmp, "length", cmp->in.len == 0 ? "it is empty" : "it is longer than 256 KiB");
        return NULL;
    }
    const uint8_t *at = cmp->in.data;
    OSSL_CMP_MSG *msg = d2i_OSSL_CMP_MSG(NULL, &at, (long)cmp->in.len);
    if (!msg || at != cmp->in.data + cmp->in.len) {
        OSSL_CMP_MSG_free(msg);
        wrong(cmp, "format", "it isn't one PKIMessage");
        return NULL;
    }
    if (is_waiting_error(msg)) {
        OSSL_CMP_MSG_free(msg);
        wrong(cmp, "waiting", "an error message says \"waiting\", which isn't taken");
        return NULL;
    }
    return msg;
}

static OSSL_CMP_MSG *on_transfer(OSSL_CMP_CTX *ctx, const OSSL_CMP_MSG *req)
{
    struct pfx_cmp *cmp = OSSL_CMP_CTX_get_transfer_cb_arg(ctx);
    unsigned char *der = NULL;
    int len = i2d_OSSL_CMP_MSG(req, &der);
    pfx_buf_reset(&cmp->out);
    bool good = len > 0 && pfx_buf_add(&cmp->out, der, (size_t)len);
    OPENSSL_free(der);
    if (!good)
        return NULL;
    cmp->next = PFX_CMP_SEND;
    return pfx_co_yield(cmp->co) ? read_answer(cmp) : NULL;
}

/* Said to nobody: what matters of it is in the error queue. Without this one, to stderr. */
static int on_log(const char *function, const char *file, int line, OSSL_CMP_severity level,
                  const char *msg)
{
    (void)function;
    (void)file;
    (void)line;
    (void)level;
    (void)msg;
    return 1;
}

static pfx_result check_leaf(struct pfx_cmp *cmp, X509 *leaf, struct pfx_error *err)
{
    PFX_CLEANUP(x509s_freep) x509_list *pool = OSSL_CMP_CTX_get1_extraCertsIn(cmp->ctx);
    PFX_CLEANUP(x509s_freep) x509_list *more = OSSL_CMP_CTX_get1_caPubs(cmp->ctx);
    if (!pool)
        pool = sk_X509_new_null();
    while (pool && sk_X509_num(more) > 0) {
        X509 *cert = sk_X509_pop(more);
        if (sk_X509_push(pool, cert) <= 0)
            X509_free(cert);
    }
    if (!pool || sk_X509_num(pool) > MAX_POOL)
        return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "chain",
                        "The answer of the CMP server holds more than %d certificates.", MAX_POOL);
    PFX_TRY(pfx_cmp_leaf_check(cmp->ask.trust, leaf, pfx_buf_bytes(&cmp->spki), pool, &cmp->chain,
                               err));
    unsigned char *der = NULL;
    int len = i2d_X509(leaf, &der);
    bool good = len > 0 && pfx_buf_add(&cmp->leaf, der, (size_t)len);
    OPENSSL_free(der);
    return good ? PFX_OK
                : pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "length",
                           "The certificate that the CA sends is longer than 32 KiB.");
}

/* Called before the certificate is confirmed: what isn't taken is said to the CA, which then can
 * revoke it. */
static int on_certificate(OSSL_CMP_CTX *ctx, X509 *leaf, int fail_info, const char **text)
{
    struct pfx_cmp *cmp = OSSL_CMP_CTX_get_certConf_cb_arg(ctx);
    if (pfx_ok(check_leaf(cmp, leaf, &cmp->error)))
        return fail_info;
    *text = "not what was asked for";
    return fail_info ? fail_info : OSSL_CMP_CTX_FAILINFO_incorrectData;
}

static void read_status_string(OSSL_CMP_CTX *ctx, char *dest, size_t size)
{
    const STACK_OF(ASN1_UTF8STRING) *list = OSSL_CMP_CTX_get0_statusString(ctx);
    size_t at = 0;
    dest[0] = '\0';
    for (int i = 0; i < sk_ASN1_UTF8STRING_num(list) && at < size; i++) {
        const ASN1_UTF8STRING *s = sk_ASN1_UTF8STRING_value(list, i);
        int n = snprintf(dest + at, size - at, "%s%.*s", i ? " " : "", ASN1_STRING_length(s),
                         (const char *)ASN1_STRING_get0_data(s));
        at += n > 0 ? (size_t)n : 0;
    }
}

static bool is_about_protection(unsigned long code)
{
    if (ERR_GET_LIB(code) != ERR_LIB_CMP)
        return false;
    switch (ERR_GET_REASON(code)) {
    case CMP_R_ERROR_VALIDATING_PROTECTION:
    case CMP_R_ERROR_VALIDATING_SIGNATURE:
    case CMP_R_MISSING_PROTECTION:
    case CMP_R_MISSING_TRUST_ANCHOR:
    case CMP_R_MISSING_TRUST_STORE:
    case CMP_R_NO_SUITABLE_SENDER_CERT:
    case CMP_R_SRVCERT_DOES_NOT_VALIDATE_MSG:
    case CMP_R_UNSUPPORTED_PROTECTION_ALG_DHBASEDMAC:
    case CMP_R_WRONG_ALGORITHM_OID:
    case CMP_R_WRONG_PBM_VALUE:
        return true;
    default:
        return false;
    }
}

/* Why OpenSSL gave up: its first reason, and whether one of them is the protection. */
static void judge_queue(struct pfx_cmp *cmp)
{
    char first[120] = "";
    bool protection = false;
    unsigned long code;
    while ((code = ERR_get_error()) != 0) {
        protection = protection || is_about_protection(code);
        const char *reason = ERR_reason_error_string(code);
        if (!first[0] && reason)
            snprintf(first, sizeof first, "%s", reason);
    }
    if (!protection) {
        wrong(cmp, "CMP", first[0] ? first : "OpenSSL doesn't say why");
        return;
    }
    char object[160];
    pfx_url_show(cmp->ask.conf->cmp_url, object, sizeof object);
    cmp->secret_doubted = true;
    pfx_result r =
        pfx_fail(&cmp->error, PFX_CLASS_REFUSED, cmp->ask.op, object, "protection",
                 "The answer of the CMP server isn't protected by the shared secret (%s), so it "
                 "isn't read. Reference or secret may differ from those at the CA: check "
                 "cmp.reference in uploader.yaml, and give the secret again with `pfx-agent secret "
                 "set cmp`. A CA that signs its answers has to be set to protect them by the "
                 "secret.", first);
    (void)r;
}

static void judge(struct pfx_cmp *cmp)
{
    cmp->next = PFX_CMP_FAILED;
    if (cmp->error.cls != PFX_CLASS_OK)
        return;
    if (OSSL_CMP_CTX_get_status(cmp->ctx) != OSSL_CMP_PKISTATUS_rejection) {
        judge_queue(cmp);
        return;
    }
    char said[1024];
    int fail_info = OSSL_CMP_CTX_get_failInfoCode(cmp->ctx);
    read_status_string(cmp->ctx, said, sizeof said);
    cmp->rejected = cmp->leaf.len == 0; /* else it is the confirmation that isn't taken */
    pfx_result r =
        pfx_cmp_refusal(cmp->ask.op, cmp->ask.conf->cmp_url, fail_info, said, &cmp->error);
    (void)r;
}

static bool talk(struct pfx_cmp *cmp)
{
    if (cmp->spki.len == 0) {
        STACK_OF(OSSL_CMP_ITAV) *answer = OSSL_CMP_exec_GENM_ses(cmp->ctx);
        sk_OSSL_CMP_ITAV_pop_free(answer, OSSL_CMP_ITAV_free);
        return answer != NULL;
    }
    for (;;) {
        int r = OSSL_CMP_try_certreq(cmp->ctx, OSSL_CMP_P10CR, NULL, &cmp->check_after_s);
        if (r != -1)
            return r == 1 && cmp->leaf.len > 0;
        cmp->next = PFX_CMP_WAIT;
        if (!pfx_co_yield(cmp->co))
            return false;
    }
}

static void run(void *ctx)
{
    struct pfx_cmp *cmp = ctx;
    ERR_clear_error();
    if (talk(cmp))
        cmp->next = PFX_CMP_DONE;
    else
        judge(cmp);
    ERR_clear_error();
}

/* --- for the loop --- */

static bool set_request(struct pfx_cmp *cmp, const struct pfx_cmp_ask *ask)
{
    const unsigned char *at = ask->csr.data;
    X509_REQ *csr = d2i_X509_REQ(NULL, &at, (long)ask->csr.len);
    bool good = csr && OSSL_CMP_CTX_set1_p10CSR(cmp->ctx, csr) == 1;
    X509_REQ_free(csr);
    return good;
}

static bool set_transaction(struct pfx_cmp *cmp, const uint8_t *transaction)
{
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    bool good = id && ASN1_OCTET_STRING_set(id, transaction, 16) == 1 &&
                OSSL_CMP_CTX_set1_transactionID(cmp->ctx, id) == 1;
    ASN1_OCTET_STRING_free(id);
    return good;
}

/* id-it-certProfile (RFC 9480 section 2.6) { SEQUENCE OF UTF8String }; OpenSSL has a function for
 * it from 3.3 on. A name has at most 64 bytes, so each length is one byte. */
static bool set_profile(struct pfx_cmp *cmp, const char *profile)
{
    unsigned char der[4 + 64] = {0x30, 0, 0x0C, 0};
    size_t len = strlen(profile);
    if (len > sizeof der - 4)
        return false;
    der[1] = (unsigned char)(len + 2);
    der[3] = (unsigned char)len;
    memcpy(der + 4, profile, len);
    ASN1_STRING *text = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
    ASN1_TYPE *value = ASN1_TYPE_new();
    ASN1_OBJECT *type = OBJ_txt2obj("1.3.6.1.5.5.7.4.21", 1);
    if (!text || !value || !type || ASN1_STRING_set(text, der, (int)len + 4) != 1) {
        ASN1_STRING_free(text);
        ASN1_TYPE_free(value);
        ASN1_OBJECT_free(type);
        return false;
    }
    ASN1_TYPE_set(value, V_ASN1_SEQUENCE, text);
    OSSL_CMP_ITAV *itav = OSSL_CMP_ITAV_create(type, value);
    if (!itav) {
        ASN1_TYPE_free(value);
        ASN1_OBJECT_free(type);
        return false;
    }
    if (OSSL_CMP_CTX_push0_geninfo_ITAV(cmp->ctx, itav) == 1)
        return true;
    OSSL_CMP_ITAV_free(itav);
    return false;
}

static bool set_options(struct pfx_cmp *cmp, const struct pfx_cmp_ask *ask)
{
    OSSL_CMP_CTX *ctx = cmp->ctx;
    const char *reference = ask->conf->cmp_reference;
    return OSSL_CMP_CTX_set_log_cb(ctx, on_log) == 1 &&
           OSSL_CMP_CTX_set_transfer_cb(ctx, on_transfer) == 1 &&
           OSSL_CMP_CTX_set_transfer_cb_arg(ctx, cmp) == 1 &&
           OSSL_CMP_CTX_set_certConf_cb(ctx, on_certificate) == 1 &&
           OSSL_CMP_CTX_set_certConf_cb_arg(ctx, cmp) == 1 &&
           OSSL_CMP_CTX_set1_recipient(ctx, ask->trust->recipient) == 1 &&
           OSSL_CMP_CTX_set1_referenceValue(ctx, (const unsigned char *)reference,
                                            (int)strlen(reference)) == 1 &&
           OSSL_CMP_CTX_set1_secretValue(ctx, pfx_secret_bytes(ask->secret),
                                         (int)pfx_secret_len(ask->secret)) == 1 &&
           OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_OWF_ALGNID, NID_sha256) == 1 &&
           /* OpenSSL's own default is HMAC-SHA1. */
           OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_MAC_ALGNID, NID_hmacWithSHA256) == 1 &&
           OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_IMPLICIT_CONFIRM, 1) == 1;
}

pfx_result pfx_cmp_new(const struct pfx_cmp_ask *ask, struct pfx_cmp **ret_cmp,
                       struct pfx_error *err)
{
    struct pfx_cmp *cmp = pfx_alloc(sizeof *cmp);
    cmp->ask = *ask;
    cmp->ask.secret = NULL;
    cmp->ask.csr = (struct pfx_bytes){0};
    cmp->spki = pfx_buf_make(8192);
    cmp->out = pfx_buf_make(MAX_MESSAGE);
    cmp->leaf = pfx_buf_make(32 * 1024);
    cmp->ctx = OSSL_CMP_CTX_new(NULL, NULL);
    pfx_result r = PFX_OK;
    if (ask->csr.len > 0)
        r = pfx_csr_spki(ask->csr, &cmp->spki, err);
    if (pfx_ok(r) && (!cmp->ctx || !set_options(cmp, ask) ||
                      (ask->csr.len > 0 && !set_request(cmp, ask)) ||
                      (ask->conf->cmp_profile && !set_profile(cmp, ask->conf->cmp_profile)) ||
                      (ask->transaction && !set_transaction(cmp, ask->transaction)))) {
        ERR_clear_error();
        r = pfx_fail(err, PFX_CLASS_INTERNAL, ask->op, "CMP", "",
                     "OpenSSL doesn't take the request; it wasn't sent.");
    }
    if (pfx_ok(r))
        r = pfx_co_new(run, cmp, &cmp->co, err);
    if (pfx_failed(r)) {
        pfx_cmp_free(cmp);
        return r;
    }
    *ret_cmp = cmp;
    return PFX_OK;
}

void pfx_cmp_free(struct pfx_cmp *cmp)
{
    if (!cmp)
        return;
    pfx_co_free(cmp->co);
    OSSL_CMP_CTX_free(cmp->ctx); /* wipes its copy of the secret */
    pfx_buf_done(&cmp->spki);
    pfx_buf_done(&cmp->out);
    pfx_buf_done(&cmp->leaf);
    pfx_certs_free(cmp->chain);
    free(cmp);
}

enum pfx_cmp_next pfx_cmp_step(struct pfx_cmp *cmp, struct pfx_bytes answer)
{
    cmp->in = answer;
    pfx_co_resume(cmp->co);
    cmp->in = (struct pfx_bytes){0};
    return cmp->next;
}

struct pfx_bytes pfx_cmp_out(const struct pfx_cmp *cmp)
{
    return pfx_buf_bytes(&cmp->out);
}

bool pfx_cmp_parting(const struct pfx_cmp *cmp)
{
    return cmp->error.cls != PFX_CLASS_OK;
}

int64_t pfx_cmp_wait_ms(const struct pfx_cmp *cmp)
{
    /* A CA that says 0 isn't asked without a pause. */
    return cmp->check_after_s > 0 ? (int64_t)cmp->check_after_s * 1000 : 500;
}

const struct pfx_certs *pfx_cmp_chain(const struct pfx_cmp *cmp)
{
    return cmp->chain;
}

pfx_result pfx_cmp_error(const struct pfx_cmp *cmp, struct pfx_error *ret_err)
{
    *ret_err = cmp->error;
    return (pfx_result){cmp->error.cls};
}

bool pfx_cmp_secret_doubted(const struct pfx_cmp *cmp)
{
    return cmp->secret_doubted;
}

bool pfx_cmp_rejected(const struct pfx_cmp *cmp)
{
    return cmp->rejected;
}
