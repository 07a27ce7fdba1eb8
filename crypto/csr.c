/* PKCS#10 requests. The private half stays where it is: only a digest goes out to be signed. */
#include "crypto/csr.h"

#include <limits.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/encode.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(X509_REQ, X509_REQ_free)
PFX_OSSL_CLEANUP(GENERAL_NAMES, GENERAL_NAMES_free)
PFX_OSSL_CLEANUP(X509_ALGOR, X509_ALGOR_free)

typedef STACK_OF(X509_EXTENSION) x509_extensions;

static void x509_extensions_free_p(x509_extensions **pp)
{
    sk_X509_EXTENSION_pop_free(*pp, X509_EXTENSION_free);
}

#define MAX_NAME 64   /* ub-common-name, RFC 5280 appendix A.1 */
#define MAX_EMAILS 64
#define MAX_CSR_BYTES (64 * 1024)

static pfx_result fail_ossl(struct pfx_error *err, const char *text)
{
    return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "build request", "", text);
}

static pfx_result check_name(const char *name, struct pfx_error *err)
{
    size_t characters = 0;
    for (const char *p = name; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7F)
            return pfx_fail(err, PFX_CLASS_USAGE, "build request", "common name", "",
                            "It holds a control character: correct the user's name.");
        characters += (c & 0xC0) != 0x80;
    }
    if (!pfx_utf8_valid(name, strlen(name)))
        return pfx_fail(err, PFX_CLASS_USAGE, "build request", "common name", "",
                        "It isn't UTF-8: correct the user's name.");
    if (characters < 1 || characters > MAX_NAME)
        return pfx_fail(err, PFX_CLASS_USAGE, "build request", name, "",
                        "The common name has %zu characters; 1 to %d are possible.", characters,
                        MAX_NAME);
    return PFX_OK;
}

/* A plain Mailbox of RFC 5321: no quoted local part, which no CA issues for anyway. */
static pfx_result check_email(const char *email, struct pfx_error *err)
{
    size_t len = strlen(email);
    if (!pfx_ascii_printable(email, len))
        return pfx_fail(err, PFX_CLASS_USAGE, "build request",
                        pfx_utf8_valid(email, len) ? email : "address", "",
                        "The address isn't printable ASCII, which an rfc822Name must be (RFC 5280 "
                        "section 4.2.1.6): give the user an ASCII address.");
    const char *at = strchr(email, '@');
    if (!at || at == email || at[1] == '\0' || strchr(at + 1, '@') ||
        strpbrk(email, " \"<>,;()[]\\:"))
        return pfx_fail(err, PFX_CLASS_USAGE, "build request", email, "",
                        "It isn't an e-mail address of the form name@domain.");
    if (at - email > 64 || len > 254)
        return pfx_fail(err, PFX_CLASS_USAGE, "build request", email, "",
                        "The address is longer than 254 characters, or its name than 64.");
    return PFX_OK;
}

static pfx_result check_spec(const struct pfx_csr_spec *spec, struct pfx_error *err)
{
    PFX_TRY(check_name(spec->common_name, err));
    if (spec->n_emails < 1 || spec->n_emails > MAX_EMAILS)
        return pfx_fail(err, PFX_CLASS_USAGE, "build request", spec->common_name, "",
                        "A request has 1 to %d addresses; this one has %zu.", MAX_EMAILS,
                        spec->n_emails);
    for (size_t i = 0; i < spec->n_emails; i++)
        PFX_TRY(check_email(spec->emails[i], err));
    return PFX_OK;
}

static bool push_email(GENERAL_NAMES *names, const char *email)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    if (!name || !text || !ASN1_STRING_set(text, email, (int)strlen(email))) {
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(text);
        return false;
    }
    GENERAL_NAME_set0_value(name, GEN_EMAIL, text);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

/* Takes ext over; false also for NULL. */
static bool push_extension(x509_extensions *list, X509_EXTENSION *ext)
{
    if (list && ext && sk_X509_EXTENSION_push(list, ext) > 0)
        return true;
    X509_EXTENSION_free(ext);
    return false;
}

static X509_EXTENSION *sans(const struct pfx_csr_spec *spec)
{
    PFX_CLEANUP(GENERAL_NAMES_free_p) GENERAL_NAMES *names = GENERAL_NAMES_new();
    for (size_t i = 0; names && i < spec->n_emails; i++) {
        if (!push_email(names, spec->emails[i]))
            return NULL;
    }
    return names ? X509V3_EXT_i2d(NID_subject_alt_name, 0, names) : NULL;
}

/* What pfx_cert_check wants to see in the certificate. */
static const char *key_usage(enum pfx_purpose purpose, bool rsa)
{
    switch (purpose) {
    case PFX_PURPOSE_SIGNING:
        return "critical,digitalSignature";
    case PFX_PURPOSE_ENCRYPTION:
        return rsa ? "critical,keyEncipherment" : "critical,keyAgreement";
    default:
        return rsa ? "critical,digitalSignature,keyEncipherment"
                   : "critical,digitalSignature,keyAgreement";
    }
}

/* The extensions that a CA of one's own copies; DigiCert takes nothing but the key. */
static bool add_extensions(X509_REQ *req, const struct pfx_csr_spec *spec, bool rsa)
{
    PFX_CLEANUP(x509_extensions_free_p) x509_extensions *list = sk_X509_EXTENSION_new_null();
    return push_extension(list, sans(spec)) &&
           push_extension(list, X509V3_EXT_conf_nid(NULL, NULL, NID_key_usage,
                                                    key_usage(spec->purpose, rsa))) &&
           push_extension(list, X509V3_EXT_conf_nid(NULL, NULL, NID_ext_key_usage,
                                                    "emailProtection")) &&
           X509_REQ_add_extensions(req, list) == 1;
}

/* Signature algorithm, signature and all: req is complete after it. */
static pfx_result sign_request(X509_REQ *req, enum pfx_key_type type, pfx_digest_sign_fn sign,
                               void *ctx, struct pfx_error *err)
{
    bool rsa = pfx_key_type_is_rsa(type);
    enum pfx_hash hash = type == PFX_KEY_EC_P384 ? PFX_HASH_SHA384 : PFX_HASH_SHA256;
    int nid = rsa ? NID_sha256WithRSAEncryption
                  : hash == PFX_HASH_SHA384 ? NID_ecdsa_with_SHA384 : NID_ecdsa_with_SHA256;
    PFX_CLEANUP(X509_ALGOR_free_p) X509_ALGOR *alg = X509_ALGOR_new();
    /* RFC 8017 A.2.4 wants a NULL parameter for RSA, RFC 5758 3.2 none for ECDSA. */
    int parameter = rsa ? V_ASN1_NULL : V_ASN1_UNDEF;
    if (!alg || X509_ALGOR_set0(alg, OBJ_nid2obj(nid), parameter, NULL) != 1 ||
        X509_REQ_set1_signature_algo(req, alg) != 1)
        return fail_ossl(err, "The signature algorithm can't be set.");
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *tbs = NULL;
    int tbs_len = i2d_re_X509_REQ_tbs(req, &tbs);
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t digest_len;
    if (tbs_len <= 0 || !pfx_digest(hash, tbs, (size_t)tbs_len, digest, &digest_len))
        return fail_ossl(err, "The request can't be encoded.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(4096);
    PFX_TRY(sign(ctx, hash, (struct pfx_bytes){digest, digest_len}, &signature, err));
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    if (!bits || ASN1_STRING_set(bits, signature.data, (int)signature.len) != 1) {
        ASN1_BIT_STRING_free(bits);
        return fail_ossl(err, "The signature can't be encoded.");
    }
    /* No unused bits, said explicitly: else OpenSSL drops trailing zero bits of the signature. */
    bits->flags = (bits->flags & ~(ASN1_STRING_FLAG_BITS_LEFT | 7)) | ASN1_STRING_FLAG_BITS_LEFT;
    X509_REQ_set0_signature(req, bits);
    return PFX_OK;
}

pfx_result pfx_csr_build(const struct pfx_csr_spec *spec, pfx_digest_sign_fn sign, void *ctx,
                         struct pfx_buf *out, struct pfx_error *err)
{
    PFX_TRY(check_spec(spec, err));
    enum pfx_key_type type;
    PFX_TRY(pfx_spki_type(spec->spki, &type, err));
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    PFX_TRY(pfx_spki_load(spec->spki, &pkey, err));
    PFX_CLEANUP(X509_REQ_free_p) X509_REQ *req = X509_REQ_new();
    if (!req || X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(req, pkey) != 1 ||
        X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(req), NID_commonName, MBSTRING_UTF8,
                                   (const unsigned char *)spec->common_name, -1, -1, 0) != 1 ||
        !add_extensions(req, spec, pfx_key_type_is_rsa(type)))
        return fail_ossl(err, "The request can't be made.");
    PFX_TRY(sign_request(req, type, sign, ctx, err));
    if (X509_REQ_verify(req, pkey) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTEGRITY, "build request", spec->common_name,
                             "The signature on the request doesn't belong to its key: the token "
                             "signed with another key, or wrongly.");
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_X509_REQ(req, &der);
    if (len <= 0 || !pfx_buf_add(out, der, (size_t)len))
        return fail_ossl(err, "The request can't be encoded.");
    return PFX_OK;
}

/* NULL where the bytes aren't exactly one request. */
static X509_REQ *load_request(struct pfx_bytes csr)
{
    if (csr.len == 0 || csr.len > MAX_CSR_BYTES)
        return NULL;
    const unsigned char *at = csr.data;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)csr.len);
    if (req && at == csr.data + csr.len)
        return req;
    X509_REQ_free(req);
    return NULL;
}

pfx_result pfx_csr_spki(struct pfx_bytes csr, struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(X509_REQ_free_p) X509_REQ *req = load_request(csr);
    if (!req)
        return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read request", "PKCS#10",
                             "The bytes aren't one DER certificate request.");
    EVP_PKEY *pkey = X509_REQ_get0_pubkey(req);
    if (!pkey || X509_REQ_verify(req, pkey) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read request", "PKCS#10",
                             "The request's own signature doesn't hold.");
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(req), &der);
    if (len <= 0 || !pfx_buf_add(out, der, (size_t)len))
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "read request", "PKCS#10",
                             "The public key can't be encoded.");
    return PFX_OK;
}

bool pfx_csr_pem(struct pfx_bytes csr, bool one_line, struct pfx_buf *out)
{
    if (!one_line)
        return pfx_pem_encode("CERTIFICATE REQUEST", csr, out);
    size_t start = out->len;
    bool ok = pfx_buf_add_str(out, "-----BEGIN CERTIFICATE REQUEST-----") &&
              pfx_base64_encode(csr.data, csr.len, out) &&
              pfx_buf_add_str(out, "-----END CERTIFICATE REQUEST-----");
    if (!ok)
        pfx_buf_cut(out, start);
    return ok;
}

pfx_result pfx_csr_from_pem(const char *pem, struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_bytes text = {(const uint8_t *)pem, strlen(pem)};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(MAX_CSR_BYTES);
    char label[PFX_PEM_LABEL_SIZE];
    size_t pos = 0;
    if (pfx_pem_next(text, &pos, label, &der) == PFX_PEM_BLOCK &&
        (strcmp(label, "CERTIFICATE REQUEST") == 0 ||
         strcmp(label, "NEW CERTIFICATE REQUEST") == 0)) { /* the older label, RFC 7468 section 7 */
        PFX_CLEANUP(X509_REQ_free_p) X509_REQ *req = load_request(pfx_buf_bytes(&der));
        if (req) {
            if (pfx_buf_add(out, der.data, der.len))
                return PFX_OK;
            return pfx_fail(err, PFX_CLASS_INTERNAL, "read request", "PKCS#10", "",
                            "The buffer's ceiling of %zu bytes is too low.", out->max);
        }
    }
    return pfx_fail_ossl(err, PFX_CLASS_REFUSED, "read request", "PKCS#10",
                         "The text isn't one PEM certificate request.");
}
