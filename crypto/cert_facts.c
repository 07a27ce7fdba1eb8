/* What stands in a certificate. */
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/cert.h"
#include "crypto/encode.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(BIO, BIO_free_all)
PFX_OSSL_CLEANUP(GENERAL_NAMES, GENERAL_NAMES_free)

#define MAX_SPKI (64 * 1024)

void pfx_strings_free(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

bool pfx_x509_ms(const ASN1_TIME *time, int64_t *ret_ms)
{
    struct tm tm = {0};
    if (!time || ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret_ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

/* NULL where it can't be written. */
static char *name_line(const X509_NAME *name)
{
    PFX_CLEANUP(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_mem());
    /* RFC 2253 writes UTF-8 as it is; OpenSSL's flag would escape it. */
    unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    if (!bio || X509_NAME_print_ex(bio, name, 0, flags) < 0)
        return NULL;
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    return len > 0 ? pfx_strndup(text, (size_t)len) : pfx_strdup("");
}

static char *serial_hex(const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    size_t len = (size_t)ASN1_STRING_length(serial);
    char *hex = pfx_alloc(2 * len + 1);
    return pfx_hex(ASN1_STRING_get0_data(serial), len, hex);
}

static pfx_result refuse(struct pfx_error *err, const char *text)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "read certificate", "subjectAltName", "addresses", "%s",
                    text);
}

static pfx_result add_email(const ASN1_STRING *text, char **emails, size_t *n,
                            struct pfx_error *err)
{
    const char *data = (const char *)ASN1_STRING_get0_data(text);
    size_t len = (size_t)ASN1_STRING_length(text);
    /* A NUL would end the address for some readers and not for others. */
    if (len == 0 || memchr(data, '\0', len) || !pfx_ascii_printable(data, len))
        return refuse(err, "An e-mail address in it is empty or not printable ASCII.");
    emails[(*n)++] = pfx_strndup(data, len);
    return PFX_OK;
}

static pfx_result collect_emails(const GENERAL_NAMES *names, char **emails, size_t *n,
                                 struct pfx_error *err)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type;
        void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type == GEN_EMAIL)
            PFX_TRY(add_email(value, emails, n, err));
        else if (type == GEN_OTHERNAME &&
                 OBJ_obj2nid(((const OTHERNAME *)value)->type_id) == NID_id_on_SmtpUTF8Mailbox)
            return refuse(err, "It holds an address outside of ASCII (SmtpUTF8Mailbox, RFC 9598).");
    }
    return PFX_OK;
}

pfx_result pfx_x509_emails(X509 *cert, char ***ret_emails, size_t *ret_n, struct pfx_error *err)
{
    int state;
    PFX_CLEANUP(GENERAL_NAMES_free_p)
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &state, NULL);
    if (!names && state != -1) { /* there, but doubled or malformed */
        ERR_clear_error();
        return refuse(err, "The extension is malformed, or stands there twice.");
    }
    size_t room = names ? (size_t)sk_GENERAL_NAME_num(names) : 0, n = 0;
    char **emails = pfx_alloc_array(room, sizeof *emails);
    pfx_result result = names ? collect_emails(names, emails, &n, err) : PFX_OK;
    if (pfx_failed(result)) {
        pfx_strings_free(emails, n);
        return result;
    }
    *ret_emails = emails;
    *ret_n = n;
    return PFX_OK;
}

static pfx_result read_facts(struct pfx_bytes der, struct pfx_cert_facts *facts,
                             struct pfx_error *err)
{
    PFX_CLEANUP(X509_free_p) X509 *cert = NULL;
    PFX_TRY(pfx_x509_load(der, PFX_CLASS_REFUSED, &cert, err));
    unsigned char sha1[20];
    if (!pfx_digest(PFX_HASH_SHA1, der.data, der.len, sha1, NULL) ||
        !pfx_sha256(der.data, der.len, facts->sha256))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "read certificate", "thumbprint",
                             "OpenSSL can't hash.");
    pfx_hex(sha1, sizeof sha1, facts->thumbprint);
    facts->subject = name_line(X509_get_subject_name(cert));
    facts->issuer = name_line(X509_get_issuer_name(cert));
    facts->serial = serial_hex(cert);
    if (!facts->subject || !facts->issuer ||
        !pfx_x509_ms(X509_get0_notBefore(cert), &facts->not_before_ms) ||
        !pfx_x509_ms(X509_get0_notAfter(cert), &facts->not_after_ms) ||
        !pfx_x509_spki(cert, &facts->spki))
        return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read certificate", "X.509",
                             "A name, a date or the public key in it is malformed.");
    struct pfx_error quiet = PFX_ERROR_NONE;
    if (pfx_failed(pfx_spki_type(pfx_buf_bytes(&facts->spki), &facts->key_type, &quiet)))
        facts->key_type = PFX_KEY_TYPE_COUNT;
    return pfx_x509_emails(cert, &facts->emails, &facts->n_emails, err);
}

pfx_result pfx_cert_facts_read(struct pfx_bytes der, struct pfx_cert_facts *ret_facts,
                               struct pfx_error *err)
{
    struct pfx_cert_facts facts = {.spki = pfx_buf_make(MAX_SPKI)};
    pfx_result result = read_facts(der, &facts, err);
    if (pfx_failed(result))
        pfx_cert_facts_done(&facts);
    else
        *ret_facts = facts;
    return result;
}

void pfx_cert_facts_done(struct pfx_cert_facts *facts)
{
    free(facts->subject);
    free(facts->issuer);
    free(facts->serial);
    pfx_strings_free(facts->emails, facts->n_emails);
    pfx_buf_done(&facts->spki);
    *facts = (struct pfx_cert_facts){.key_type = PFX_KEY_TYPE_COUNT};
}
