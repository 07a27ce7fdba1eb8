#include <string.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "api/conf/process.h"
#include "api/uploader/cmp.h"

#define MAX_FILE (256 * 1024)
#define MAX_DEPTH 8
#define SECURITY_LEVEL 2 /* 112 bits: no SHA-1 signatures, no RSA below 2048 bits */

static void store_freep(X509_STORE **store)
{
    X509_STORE_free(*store);
}

static void store_ctx_freep(X509_STORE_CTX **ctx)
{
    X509_STORE_CTX_free(*ctx);
}

static X509 *parse(struct pfx_bytes der)
{
    const unsigned char *at = der.data;
    return d2i_X509(NULL, &at, (long)der.len);
}

/* "/O=Example/CN=Internal CA": no escapes, so a value can't hold a slash. */
static X509_NAME *parse_name(const char *text)
{
    X509_NAME *name = X509_NAME_new();
    bool good = name && text[0] == '/';
    while (good && *text == '/') {
        size_t len = strcspn(++text, "/");
        size_t key = strcspn(text, "=");
        PFX_AUTOFREE char *type = pfx_strndup(text, key < len ? key : 0);
        good = key > 0 && key + 1 < len && len - key - 1 <= 128 &&
               X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8,
                                          (const unsigned char *)text + key + 1,
                                          (int)(len - key - 1), -1, 0) == 1;
        text += len;
    }
    if (good)
        return name;
    ERR_clear_error();
    X509_NAME_free(name);
    return NULL;
}

void pfx_cmp_trust_free(struct pfx_cmp_trust *trust)
{
    if (!trust)
        return;
    pfx_certs_free(trust->authorities);
    X509_NAME_free(trust->recipient);
    free(trust);
}

static pfx_result load_authorities(const struct pfx_uploader_conf *conf,
                                   struct pfx_certs **ret_certs, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    struct pfx_error cause = PFX_ERROR_NONE;
    char line[400];
    pfx_result r = pfx_file_read_trusted(conf->cmp_ca_cert, MAX_FILE, &text, &cause);
    if (pfx_ok(r))
        r = pfx_certs_parse(pfx_buf_bytes(&text), ret_certs, &cause);
    for (size_t i = 0; pfx_ok(r) && i < pfx_certs_count(*ret_certs); i++) {
        X509 *cert = parse(pfx_certs_at(*ret_certs, i));
        if (!cert || X509_check_ca(cert) == 0)
            r = pfx_fail(&cause, PFX_CLASS_USAGE, "read", "certificate", "",
                         "Number %zu in the file isn't one of a CA.", i + 1);
        X509_free(cert);
    }
    if (pfx_failed(r))
        return pfx_fail(err, PFX_CLASS_USAGE, "read cmp.ca_cert", conf->cmp_ca_cert, cause.code,
                        "It has to be a PEM file with the certificate of the CA that issues, and "
                        "those above it: %s", pfx_error_line(&cause, line, sizeof line));
    return PFX_OK;
}

pfx_result pfx_cmp_trust_load(const struct pfx_uploader_conf *conf,
                              struct pfx_cmp_trust **ret_trust, struct pfx_error *err)
{
    struct pfx_cmp_trust *trust = pfx_alloc(sizeof *trust);
    pfx_result r = load_authorities(conf, &trust->authorities, err);
    if (pfx_ok(r) && conf->cmp_recipient) {
        trust->recipient = parse_name(conf->cmp_recipient);
        if (!trust->recipient)
            r = pfx_fail(err, PFX_CLASS_USAGE, "read uploader.yaml", "cmp.recipient", "",
                         "It isn't a name of the form /O=Example/CN=Internal CA.");
    } else if (pfx_ok(r)) {
        X509 *first = parse(pfx_certs_at(trust->authorities, 0));
        trust->recipient = first ? X509_NAME_dup(X509_get_subject_name(first)) : NULL;
        X509_free(first);
        if (!trust->recipient)
            r = pfx_fail(err, PFX_CLASS_INTERNAL, "read cmp.ca_cert", conf->cmp_ca_cert, "",
                         "Its subject can't be read.");
    }
    if (pfx_failed(r)) {
        pfx_cmp_trust_free(trust);
        return r;
    }
    *ret_trust = trust;
    return PFX_OK;
}

static pfx_result no_chain(const char *why, struct pfx_error *err)
{
    ERR_clear_error();
    return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "chain",
                    "The certificate that the CA sends isn't issued under cmp.ca_cert of "
                    "uploader.yaml: %s.", why);
}

static bool same_key(X509 *leaf, struct pfx_bytes spki)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
    bool same = len > 0 && (size_t)len == spki.len && memcmp(der, spki.data, spki.len) == 0;
    OPENSSL_free(der);
    return same;
}

/* An authority of the file ends the chain, self-signed or not: the file says who is trusted. */
static pfx_result verify(const struct pfx_cmp_trust *trust, X509 *leaf, const STACK_OF(X509) *pool,
                         struct pfx_error *err)
{
    PFX_CLEANUP(store_freep) X509_STORE *store = X509_STORE_new();
    PFX_CLEANUP(store_ctx_freep) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool good = store && ctx;
    for (size_t i = 0; good && i < pfx_certs_count(trust->authorities); i++) {
        X509 *authority = parse(pfx_certs_at(trust->authorities, i));
        good = authority && X509_STORE_add_cert(store, authority) == 1;
        X509_free(authority);
    }
    if (!good || X509_STORE_CTX_init(ctx, store, leaf, (STACK_OF(X509) *)pool) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "check certificate", "", "",
                        "OpenSSL can't build a chain.");
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    /* How long it is valid is compared with the order by pfx-agentd and pfx-hsm. */
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME);
    X509_VERIFY_PARAM_set_depth(param, MAX_DEPTH);
    X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
    if (X509_verify_cert(ctx) != 1)
        return no_chain(X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)), err);
    return PFX_OK;
}

static pfx_result add(struct pfx_certs *certs, X509 *cert, struct pfx_error *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    pfx_result r = len > 0 ? pfx_certs_add(certs, (struct pfx_bytes){der, (size_t)len}, err)
                           : pfx_fail(err, PFX_CLASS_REFUSED, "read certificate", "", "",
                                      "A certificate of the answer can't be encoded.");
    OPENSSL_free(der);
    return r;
}

pfx_result pfx_cmp_leaf_check(const struct pfx_cmp_trust *trust, X509 *leaf, struct pfx_bytes spki,
                              const STACK_OF(X509) *pool, struct pfx_certs **ret_chain,
                              struct pfx_error *err)
{
    if (!same_key(leaf, spki))
        return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "key",
                        "The certificate that the CA sends is for another public key than the "
                        "request's. It isn't taken; look at the CA what it issued.");
    PFX_TRY(verify(trust, leaf, pool, err));
    PFX_AUTOCERTS struct pfx_certs *all = pfx_certs_new();
    for (size_t i = 0; i < pfx_certs_count(trust->authorities); i++)
        PFX_TRY(pfx_certs_add(all, pfx_certs_at(trust->authorities, i), err));
    for (int i = 0; i < sk_X509_num(pool); i++)
        PFX_TRY(add(all, sk_X509_value(pool, i), err));
    unsigned char *der = NULL;
    int len = i2d_X509(leaf, &der);
    pfx_result r = len > 0 ? pfx_cert_order_chain((struct pfx_bytes){der, (size_t)len}, all,
                                                  ret_chain, err)
                           : no_chain("it can't be encoded", err);
    OPENSSL_free(der);
    return r;
}
