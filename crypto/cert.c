/* Lists of certificates: reading whatever bundle a CA sends, picking from it. */
#include "crypto/cert.h"

#include <limits.h>
#include <string.h>

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>

#include "crypto/cert_chain.h"
#include "crypto/encode.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(PKCS7, PKCS7_free)
PFX_OSSL_CLEANUP(CMS_ContentInfo, CMS_ContentInfo_free)

typedef STACK_OF(X509) x509_list;

static void x509s_free_p(x509_list **pp)
{
    sk_X509_pop_free(*pp, X509_free);
}

#define MAX_CERTS 32
#define MAX_BUNDLE (1024 * 1024)

/* Each is parsed once, since OpenSSL's parser takes long over the public key in it. */
struct item {
    struct pfx_buf der;
    X509 *cert;
};
struct pfx_certs {
    struct item *items;
    size_t n;
};

struct pfx_certs *pfx_certs_new(void)
{
    return pfx_alloc(sizeof(struct pfx_certs));
}

void pfx_certs_free(struct pfx_certs *certs)
{
    if (!certs)
        return;
    for (size_t i = 0; i < certs->n; i++) {
        pfx_buf_done(&certs->items[i].der);
        X509_free(certs->items[i].cert);
    }
    free(certs->items);
    free(certs);
}

size_t pfx_certs_count(const struct pfx_certs *certs)
{
    return certs->n;
}

struct pfx_bytes pfx_certs_at(const struct pfx_certs *certs, size_t i)
{
    return i < certs->n ? pfx_buf_bytes(&certs->items[i].der) : (struct pfx_bytes){NULL, 0};
}

X509 *pfx_certs_x509(const struct pfx_certs *certs, size_t i)
{
    return certs->items[i].cert;
}

static bool same_bytes(struct pfx_bytes a, struct pfx_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

pfx_result pfx_x509_load(struct pfx_bytes der, enum pfx_class cls, X509 **ret_cert,
                         struct pfx_error *err)
{
    const unsigned char *at = der.data;
    X509 *cert = der.len > 0 && der.len <= MAX_BUNDLE ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    if (!cert || at != der.data + der.len) {
        X509_free(cert);
        return pfx_fail_ossl(err, cls, "read certificate", "X.509",
                             "The bytes aren't one DER certificate.");
    }
    *ret_cert = cert;
    return PFX_OK;
}

bool pfx_x509_spki(const X509 *cert, struct pfx_buf *out)
{
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    return len > 0 && pfx_buf_add(out, der, (size_t)len);
}

static bool has(const struct pfx_certs *certs, struct pfx_bytes der)
{
    for (size_t i = 0; i < certs->n; i++) {
        if (same_bytes(pfx_certs_at(certs, i), der))
            return true;
    }
    return false;
}

/* Takes cert over. */
static void push(struct pfx_certs *certs, struct pfx_bytes der, X509 *cert)
{
    certs->items = pfx_grow(certs->items, certs->n + 1, sizeof certs->items[0]);
    struct item *item = &certs->items[certs->n++];
    *item = (struct item){pfx_buf_make(der.len), cert};
    pfx_buf_add(&item->der, der.data, der.len);
}

pfx_result pfx_certs_add(struct pfx_certs *certs, struct pfx_bytes der, struct pfx_error *err)
{
    if (has(certs, der))
        return PFX_OK;
    X509 *cert = NULL;
    PFX_TRY(pfx_x509_load(der, PFX_CLASS_REFUSED, &cert, err));
    push(certs, der, cert);
    return PFX_OK;
}

bool pfx_certs_take(struct pfx_certs *certs, const struct pfx_certs *from, size_t i)
{
    struct pfx_bytes der = pfx_certs_at(from, i);
    if (has(certs, der) || X509_up_ref(from->items[i].cert) != 1)
        return false;
    push(certs, der, from->items[i].cert);
    return true;
}

static pfx_result refuse(struct pfx_error *err, const char *text)
{
    return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read certificates", "bundle", text);
}

static pfx_result bounded(const struct pfx_certs *certs, struct pfx_error *err)
{
    return certs->n <= MAX_CERTS ? PFX_OK : refuse(err, "It holds more than 32 certificates.");
}

static pfx_result add_list(struct pfx_certs *certs, const x509_list *list, struct pfx_error *err)
{
    for (int i = 0; list && i < sk_X509_num(list); i++) {
        PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
        int len = i2d_X509(sk_X509_value(list, i), &der);
        if (len <= 0)
            return refuse(err, "A certificate in it can't be encoded.");
        PFX_TRY(pfx_certs_add(certs, (struct pfx_bytes){der, (size_t)len}, err));
        PFX_TRY(bounded(certs, err));
    }
    return PFX_OK;
}

/* SignedData in either dress: CMS (RFC 5652), or the older PKCS #7, which differs where the content
 * isn't plain data. */
static pfx_result add_signed_data(struct pfx_certs *certs, struct pfx_bytes der,
                                  struct pfx_error *err)
{
    const unsigned char *at = der.data;
    PFX_CLEANUP(CMS_ContentInfo_free_p)
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)der.len);
    if (cms && at == der.data + der.len) {
        PFX_CLEANUP(x509s_free_p) x509_list *list = CMS_get1_certs(cms);
        ERR_clear_error();
        return add_list(certs, list, err);
    }
    at = der.data;
    PFX_CLEANUP(PKCS7_free_p) PKCS7 *p7 = d2i_PKCS7(NULL, &at, (long)der.len);
    if (p7 && at == der.data + der.len && PKCS7_type_is_signed(p7) && p7->d.sign) {
        ERR_clear_error();
        return add_list(certs, p7->d.sign->cert, err);
    }
    return refuse(err, "The bytes are neither a certificate nor a PKCS #7 or CMS bundle.");
}

static pfx_result add_der(struct pfx_certs *certs, struct pfx_bytes der, struct pfx_error *err)
{
    struct pfx_error quiet = PFX_ERROR_NONE;
    if (pfx_ok(pfx_certs_add(certs, der, &quiet)))
        return bounded(certs, err);
    return add_signed_data(certs, der, err);
}

static bool is_one_of(const char *label, const char *const *labels)
{
    for (; *labels; labels++) {
        if (strcmp(label, *labels) == 0)
            return true;
    }
    return false;
}

static pfx_result add_pem(struct pfx_certs *certs, struct pfx_bytes text, struct pfx_error *err)
{
    static const char *const cert_labels[] = {"CERTIFICATE", "X509 CERTIFICATE", NULL};
    static const char *const bundle_labels[] = {"PKCS7", "PKCS #7 SIGNED DATA", "CMS", NULL};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(MAX_BUNDLE);
    char label[PFX_PEM_LABEL_SIZE];
    for (size_t pos = 0;;) {
        pfx_buf_reset(&der);
        enum pfx_pem kind = pfx_pem_next(text, &pos, label, &der);
        bool is_cert = is_one_of(label, cert_labels), is_bundle = is_one_of(label, bundle_labels);
        if (kind == PFX_PEM_NONE)
            return PFX_OK;
        if (kind == PFX_PEM_BAD)
            return refuse(err, "A PEM block in it is torn or not Base64.");
        /* Some CAs write a bundle under the label of a certificate, so the bytes decide. */
        if (is_cert || is_bundle)
            PFX_TRY(add_der(certs, pfx_buf_bytes(&der), err));
    }
}

/* Says what the bytes are instead, for the person who reads it in a log at night. */
static pfx_result refuse_lookalike(struct pfx_bytes b, struct pfx_error *err)
{
    if (b.len == 0)
        return refuse(err, "It is empty.");
    if (b.data[0] == '<')
        return refuse(err, "It is HTML or XML: an error page, or a proxy in between.");
    if (b.data[0] == '{' || b.data[0] == '[')
        return refuse(err, "It is JSON: an error message, or the wrong address.");
    if (b.len >= 3 && memcmp(b.data, "MII", 3) == 0)
        return refuse(err, "It looks like Base64 without the PEM lines around it.");
    if (b.len >= 2 && b.data[0] == 'P' && b.data[1] == 'K')
        return refuse(err, "It is a ZIP archive: ask for the format p7b or pem_all.");
    return refuse(err, "It holds no certificate: neither PEM nor DER.");
}

static pfx_result parse(struct pfx_certs *certs, struct pfx_bytes b, struct pfx_error *err)
{
    if (b.len > MAX_BUNDLE)
        return refuse(err, "It is larger than 1 MiB.");
    if (b.len > 0 && b.data[0] == 0x30) {
        PFX_TRY(add_der(certs, b, err));
    } else {
        if (b.len >= 3 && memcmp(b.data, "\xEF\xBB\xBF", 3) == 0)
            b = (struct pfx_bytes){b.data + 3, b.len - 3};
        while (b.len > 0 && (*b.data == ' ' || (*b.data >= '\t' && *b.data <= '\r')))
            b = (struct pfx_bytes){b.data + 1, b.len - 1};
        if (b.len == 0 || !memmem(b.data, b.len, "-----BEGIN ", 11))
            return refuse_lookalike(b, err);
        PFX_TRY(add_pem(certs, b, err));
    }
    if (certs->n == 0)
        return refuse(err, "There is no certificate in it.");
    return PFX_OK;
}

pfx_result pfx_certs_parse(struct pfx_bytes bundle, struct pfx_certs **ret_certs,
                           struct pfx_error *err)
{
    PFX_AUTOCERTS struct pfx_certs *certs = pfx_certs_new();
    PFX_TRY(parse(certs, bundle, err));
    *ret_certs = PFX_TAKE(certs);
    return PFX_OK;
}

pfx_result pfx_certs_pick(const struct pfx_certs *certs, struct pfx_bytes spki, size_t *ret_index,
                          struct pfx_error *err)
{
    size_t found = 0, index = 0;
    for (size_t i = 0; i < certs->n; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(MAX_BUNDLE);
        if (!pfx_x509_spki(certs->items[i].cert, &own))
            return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "pick certificate", "bundle",
                                 "A certificate's public key can't be read.");
        if (same_bytes(pfx_buf_bytes(&own), spki)) {
            found++;
            index = i;
        }
    }
    if (found != 1)
        return pfx_fail(err, PFX_CLASS_REFUSED, "pick certificate", "bundle", "key",
                        found ? "%zu different certificates of the %zu in it have the key that was "
                                "ordered."
                              : "%zu of the %zu certificates in it have the key that was ordered.",
                        found, certs->n);
    *ret_index = index;
    return PFX_OK;
}
