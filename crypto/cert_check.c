/* Is this certificate what was ordered? One function a condition, one sentence an answer. The chain
 * is in cert_chain.c. */
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/cert.h"
#include "crypto/cert_chain.h"
#include "crypto/encode.h"
#include "crypto/ossl.h"
#include "crypto/ticket.h"

#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)

static pfx_result refuse(struct pfx_error *err, const char *code, const char *text)
{
    ERR_clear_error();
    return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", code, "%s", text);
}

static pfx_result check_key(X509 *leaf, struct pfx_bytes spki, enum pfx_key_type *ret_type,
                            struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(64 * 1024);
    if (!pfx_x509_spki(leaf, &own) || own.len != spki.len ||
        memcmp(own.data, spki.data, spki.len) != 0)
        return refuse(err, "key", "It was issued for another public key than the one ordered.");
    struct pfx_error quiet = PFX_ERROR_NONE;
    if (pfx_failed(pfx_spki_type(spki, ret_type, &quiet)))
        return refuse(err, "key", "Its public key is of a type that can't be used.");
    return PFX_OK;
}

static bool has_address(const char *const *list, size_t n, const char *address)
{
    for (size_t i = 0; i < n; i++) {
        if (pfx_addresses_equal(&list[i], 1, &address, 1))
            return true;
    }
    return false;
}

static pfx_result check_address_sets(const struct pfx_cert_expect *expect, const char *const *own,
                                     size_t n_own, struct pfx_error *err)
{
    for (size_t i = 0; i < expect->n_emails; i++) {
        if (!has_address(own, n_own, expect->emails[i]))
            return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "addresses",
                            "The address %s was ordered and isn't in it.", expect->emails[i]);
    }
    for (size_t i = 0; i < n_own; i++) {
        if (!has_address(expect->emails, expect->n_emails, own[i]))
            return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "addresses",
                            "The address %s is in it and wasn't ordered.", own[i]);
    }
    return PFX_OK;
}

/* Old mail clients take the address from the subject: none may stand there that isn't ordered. */
static pfx_result check_subject_emails(X509 *leaf, const struct pfx_cert_expect *expect,
                                       struct pfx_error *err)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = -1;
    while ((at = X509_NAME_get_index_by_NID(subject, NID_pkcs9_emailAddress, at)) >= 0) {
        const ASN1_STRING *data = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
        const char *text = (const char *)ASN1_STRING_get0_data(data);
        size_t len = (size_t)ASN1_STRING_length(data);
        if (len == 0 || !pfx_ascii_printable(text, len))
            return refuse(err, "addresses",
                          "An e-mail address in its subject is empty or not printable ASCII.");
        PFX_AUTOFREE char *address = pfx_strndup(text, len);
        if (!has_address(expect->emails, expect->n_emails, address))
            return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "addresses",
                            "The address %s is in its subject and wasn't ordered.", address);
    }
    return PFX_OK;
}

static pfx_result check_addresses(X509 *leaf, const struct pfx_cert_expect *expect,
                                  struct pfx_error *err)
{
    char **own = NULL;
    size_t n_own = 0;
    PFX_TRY(pfx_x509_emails(leaf, &own, &n_own, err));
    pfx_result result = check_address_sets(expect, (const char *const *)own, n_own, err);
    pfx_strings_free(own, n_own);
    PFX_TRY(result);
    return check_subject_emails(leaf, expect, err);
}

static pfx_result check_validity(X509 *leaf, const struct pfx_cert_expect *expect,
                                 struct pfx_error *err)
{
    int64_t from, to;
    if (!pfx_x509_ms(X509_get0_notBefore(leaf), &from) ||
        !pfx_x509_ms(X509_get0_notAfter(leaf), &to) || to <= from)
        return refuse(err, "validity", "Its dates are malformed, or it ends before it begins.");
    char day[PFX_TIME_SIZE];
    if (from > expect->now_ms + HOUR_MS)
        return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "validity",
                        "It isn't valid before %s: is this machine's clock right?",
                        pfx_time_format(from, false, day));
    if (to <= expect->now_ms)
        return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "validity",
                        "It expired at %s.", pfx_time_format(to, false, day));
    if (to < expect->now_ms + DAY_MS)
        return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "validity",
                        "It expires within a day, at %s.", pfx_time_format(to, false, day));
    if (expect->max_days > 0 && (to - from - 1) / DAY_MS >= expect->max_days)
        return pfx_fail(err, PFX_CLASS_REFUSED, "check certificate", "", "validity",
                        "It is valid for %lld days; at most %lld are accepted.",
                        (long long)((to - from + DAY_MS - 1) / DAY_MS),
                        (long long)expect->max_days);
    return PFX_OK;
}

static pfx_result check_not_ca(X509 *leaf, struct pfx_error *err)
{
    uint32_t flags = X509_get_extension_flags(leaf);
    if (flags & EXFLAG_INVALID)
        return refuse(err, "key usage", "An extension in it is malformed, or stands there twice.");
    if (flags & EXFLAG_CA)
        return refuse(err, "ca", "It is the certificate of a CA, not of a person.");
    if ((flags & EXFLAG_KUSAGE) && (X509_get_key_usage(leaf) & KU_KEY_CERT_SIGN))
        return refuse(err, "ca", "It may sign certificates, which only a CA may.");
    return PFX_OK;
}

static pfx_result check_key_usage(X509 *leaf, enum pfx_key_type type, enum pfx_purpose purpose,
                                  struct pfx_error *err)
{
    if (!(X509_get_extension_flags(leaf) & EXFLAG_KUSAGE))
        return refuse(err, "key usage", "It doesn't say what its key may be used for.");
    uint32_t usage = X509_get_key_usage(leaf);
    bool rsa = pfx_key_type_is_rsa(type);
    bool signs = usage & KU_DIGITAL_SIGNATURE;
    bool encrypts = usage & (rsa ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT);
    if (purpose != PFX_PURPOSE_ENCRYPTION && !signs)
        return refuse(err, "key usage", "digitalSignature is missing, so it can't sign mail.");
    if (purpose != PFX_PURPOSE_SIGNING && !encrypts)
        return refuse(err, "key usage",
                      rsa ? "keyEncipherment is missing, so nobody can encrypt to this RSA key."
                          : "keyAgreement is missing, so nobody can encrypt to this EC key.");
    if (purpose == PFX_PURPOSE_SIGNING && (usage & (KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT)))
        return refuse(err, "key usage", "It may encrypt too, and was ordered for signing only.");
    if (purpose == PFX_PURPOSE_ENCRYPTION && (usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)))
        return refuse(err, "key usage", "It may sign too, and was ordered for encryption only.");
    return PFX_OK;
}

static pfx_result check_extended_key_usage(X509 *leaf, struct pfx_error *err)
{
    if (!(X509_get_extension_flags(leaf) & EXFLAG_XKUSAGE) ||
        !(X509_get_extended_key_usage(leaf) & XKU_SMIME))
        return refuse(err, "extended key usage",
                      "emailProtection is missing, so mail programs won't take it.");
    return PFX_OK;
}

static pfx_result check_all(struct pfx_bytes leaf, const struct pfx_certs *chain,
                            const struct pfx_cert_expect *expect, struct pfx_error *err)
{
    PFX_CLEANUP(X509_free_p) X509 *cert = NULL;
    PFX_TRY(pfx_x509_load(leaf, PFX_CLASS_REFUSED, &cert, err));
    /* Reads the extensions into the flags that are asked for below; its answer is in them too. */
    (void)X509_check_purpose(cert, -1, 0);
    enum pfx_key_type type;
    PFX_TRY(check_key(cert, expect->spki, &type, err));
    PFX_TRY(check_not_ca(cert, err));
    PFX_TRY(check_addresses(cert, expect, err));
    PFX_TRY(check_validity(cert, expect, err));
    PFX_TRY(check_key_usage(cert, type, expect->purpose, err));
    PFX_TRY(check_extended_key_usage(cert, err));
    return expect->roots ? pfx_chain_check(cert, chain, expect->roots, expect->now_ms, err)
                         : PFX_OK;
}

pfx_result pfx_cert_check(struct pfx_bytes leaf, const struct pfx_certs *chain,
                          const struct pfx_cert_expect *expect, struct pfx_error *err)
{
    struct pfx_error found = PFX_ERROR_NONE;
    pfx_result result = check_all(leaf, chain, expect, &found);
    if (pfx_ok(result))
        return result;
    /* Whose certificate it is, which the single checks don't know. */
    return pfx_fail(err, result.cls, "check certificate",
                    expect->n_emails > 0 ? expect->emails[0] : "", found.code, "%s", found.text);
}
