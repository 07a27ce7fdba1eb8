/* From the leaf up to a root: does it hold, and what lies between. */
#include "crypto/cert_chain.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(X509_STORE, X509_STORE_free)
PFX_OSSL_CLEANUP(X509_STORE_CTX, X509_STORE_CTX_free)

typedef STACK_OF(X509) x509_list;

static void x509s_free_p(x509_list **pp)
{
    sk_X509_free(*pp);
}

#define MAX_DEPTH 16
#define SECURITY_LEVEL 2 /* 112 bits: no SHA-1 signatures, no RSA below 2048 bits */

/* Borrowed certificates. NULL: no memory. */
static x509_list *list_of(const struct pfx_certs *certs)
{
    x509_list *list = sk_X509_new_null();
    for (size_t i = 0; list && certs && i < pfx_certs_count(certs); i++) {
        if (sk_X509_push(list, pfx_certs_x509(certs, i)) <= 0) {
            sk_X509_free(list);
            return NULL;
        }
    }
    return list;
}

static const char *sentence(int code)
{
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "Its issuer, or one above it, is neither in the bundle nor among the accepted CA "
               "roots.";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "It goes back to a root that isn't among the accepted CA roots.";
    case X509_V_ERR_PERMITTED_VIOLATION:
    case X509_V_ERR_EXCLUDED_VIOLATION:
    case X509_V_ERR_SUBTREE_MINMAX:
    case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
    case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
    case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
        return "A CA above it may not issue for these names (name constraints).";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "A CA above it has expired.";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "A CA above it isn't valid yet.";
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_INVALID_NON_CA:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
        return "A certificate above it isn't one of a CA.";
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        return "More CAs lie above it than one of them allows.";
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
        return "Too many CAs lie above it.";
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE:
        return "The signature on it, or on a CA above it, doesn't hold.";
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return "It, or a CA above it, is signed with a hash that is too weak.";
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_EE_KEY_TOO_SMALL:
        return "A key in its chain is too small.";
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
        return "A critical extension in its chain isn't known.";
    default:
        return "Its chain doesn't hold.";
    }
}

static pfx_result refuse(int code, struct pfx_error *err)
{
    ERR_clear_error();
    return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "chain", "%s (%s)",
                    sentence(code), X509_verify_cert_error_string(code));
}

/* Mail programs read the extended key usages of a CA as a limit on what it may issue. */
static pfx_result check_ca_usages(const x509_list *path, struct pfx_error *err)
{
    for (int i = 1; i < sk_X509_num(path) - 1; i++) {
        X509 *ca = sk_X509_value(path, i);
        if ((X509_get_extension_flags(ca) & EXFLAG_XKUSAGE) &&
            !(X509_get_extended_key_usage(ca) & (XKU_SMIME | XKU_ANYEKU)))
            return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "chain",
                            "A CA above it may not issue for mail (its extended key usages lack "
                            "emailProtection).");
    }
    return PFX_OK;
}

static bool fill_store(X509_STORE *store, const x509_list *roots)
{
    for (int i = 0; i < sk_X509_num(roots); i++) {
        if (X509_STORE_add_cert(store, sk_X509_value(roots, i)) != 1)
            return false;
    }
    return true;
}

pfx_result pfx_chain_check(X509 *leaf, const struct pfx_certs *chain, const struct pfx_certs *roots,
                           int64_t now_ms, struct pfx_error *err)
{
    PFX_CLEANUP(x509s_free_p) x509_list *untrusted = list_of(chain);
    PFX_CLEANUP(x509s_free_p) x509_list *trusted = list_of(roots);
    PFX_CLEANUP(X509_STORE_free_p) X509_STORE *store = X509_STORE_new();
    PFX_CLEANUP(X509_STORE_CTX_free_p) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!untrusted || !trusted || !store || !ctx || !fill_store(store, trusted) ||
        X509_STORE_CTX_init(ctx, store, leaf, untrusted) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "check certificate", "chain",
                             "OpenSSL can't build a chain.");
    /* The leaf may begin up to an hour ahead, by the rule of pfx_cert_expect: look from there. */
    int64_t from;
    if (pfx_x509_ms(X509_get0_notBefore(leaf), &from) && from > now_ms)
        now_ms = from;
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now_ms / 1000));
    X509_VERIFY_PARAM_set_depth(param, MAX_DEPTH);
    X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
    if (X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "check certificate", "chain",
                             "OpenSSL can't build a chain.");
    if (X509_verify_cert(ctx) != 1)
        return refuse(X509_STORE_CTX_get_error(ctx), err);
    return check_ca_usages(X509_STORE_CTX_get0_chain(ctx), err);
}

static bool is_issuer(X509 *candidate, X509 *subject)
{
    if (X509_cmp(candidate, subject) == 0 || X509_check_issued(candidate, subject) != X509_V_OK)
        return false;
    EVP_PKEY *key = X509_get0_pubkey(candidate);
    bool signed_by = key && X509_verify(subject, key) == 1;
    ERR_clear_error();
    return signed_by;
}

/* The issuer to go on with, pfx_certs_count(pool) at the end. A self-signed one ends the chain even
 * where a cross-certificate with the same key is there too; of several others the longest valid. */
static size_t next_issuer(X509 *subject, const struct pfx_certs *pool)
{
    size_t none = pfx_certs_count(pool), best = none;
    int64_t best_end = INT64_MIN;
    for (size_t i = 0; i < none; i++) {
        X509 *candidate = pfx_certs_x509(pool, i);
        int64_t end;
        if (!is_issuer(candidate, subject) || !pfx_x509_ms(X509_get0_notAfter(candidate), &end))
            continue;
        if (X509_self_signed(candidate, 0) == 1)
            return none;
        if (end > best_end) {
            best = i;
            best_end = end;
        }
    }
    return best;
}

pfx_result pfx_cert_order_chain(struct pfx_bytes leaf, const struct pfx_certs *pool,
                                struct pfx_certs **ret_chain, struct pfx_error *err)
{
    PFX_AUTOCERTS struct pfx_certs *chain = pfx_certs_new();
    PFX_TRY(pfx_certs_add(chain, leaf, err));
    X509 *at = pfx_certs_x509(chain, 0);
    /* The bound ends a circle of cross-certificates. */
    for (int depth = 0; depth < MAX_DEPTH && X509_self_signed(at, 0) != 1; depth++) {
        size_t next = next_issuer(at, pool);
        if (next == pfx_certs_count(pool) || !pfx_certs_take(chain, pool, next))
            break;
        at = pfx_certs_x509(pool, next);
    }
    *ret_chain = PFX_TAKE(chain);
    return PFX_OK;
}
