/*
 * Answers of a CMP server (RFC 4210). They have to be protected by the shared secret, so a server
 * of OpenSSL's makes them; the input says what it answers, and what is changed afterwards.
 *
 *   KIND {...}\n       the job, and its answers as in rig.h; their bodies are:
 *   = bytes            these, as they come
 *   CODE edits         the server's answer: CODE are letters (below), edits are triples of bytes:
 *                      place (two bytes) and the new byte
 *
 * A first line "#leaf", "#bad" or "#name" stands for a configuration that isn't right.
 *
 *   o  the certificate of the order        w  wait, and poll       r  rejected
 *   f  one for another key                 g  granted with mods    b  rejected: bad request
 *   x  of a foreign CA                     e  an error message     s  rejected: system failure
 *   c  confirmation wanted                 p  no protection        m  many extra certificates
 */
#include <openssl/cmp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "api/conf/process.h"
#include "rig.h"

static const char secret[] = "0123456789abcdef";

/* Made once: a CA, a foreign one, and certificates for the request's key and for another one. */
static struct {
    EVP_PKEY *ca_key, *key;
    X509 *ca, *foreign, *good, *other, *outside;
    X509_REQ *csr;
    X509 *many[40];
    char *job, *ca_pem, *leaf_pem;
} made;

static X509 *certificate(EVP_PKEY *subject, const char *name, X509 *issuer, EVP_PKEY *by, bool ca)
{
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ca ? 1 : 2);
    X509_gmtime_adj(X509_getm_notBefore(cert), -86400);
    X509_gmtime_adj(X509_getm_notAfter(cert), 300 * 86400L);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert));
    X509_set_pubkey(cert, subject);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                                              ca ? "critical,CA:TRUE" : "CA:FALSE");
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    must(X509_sign(cert, by, EVP_sha256()) > 0);
    return cert;
}

static char *pem_of(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    PEM_write_bio_X509(bio, cert);
    long len = BIO_get_mem_data(bio, &text);
    char *copy = pfx_strndup(text, (size_t)len);
    BIO_free(bio);
    return copy;
}

static void make_all(void)
{
    if (made.ca)
        return;
    made.ca_key = EVP_EC_gen("P-256");
    made.key = EVP_EC_gen("P-256");
    EVP_PKEY *foreign_key = EVP_EC_gen("P-256");
    made.ca = certificate(made.ca_key, "Internal CA", NULL, made.ca_key, true);
    made.foreign = certificate(foreign_key, "Foreign CA", NULL, foreign_key, true);
    made.good = certificate(made.key, "Zoe", made.ca, made.ca_key, false);
    made.other = certificate(foreign_key, "Zoe", made.ca, made.ca_key, false);
    made.outside = certificate(made.key, "Zoe", made.foreign, foreign_key, false);
    made.csr = X509_REQ_new();
    X509_REQ_set_pubkey(made.csr, made.key);
    must(X509_REQ_sign(made.csr, made.key, EVP_sha256()) > 0);
    for (size_t i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "CA %zu", i);
        made.many[i] = certificate(foreign_key, name, NULL, foreign_key, true);
    }
    EVP_PKEY_free(foreign_key);
    made.ca_pem = pem_of(made.ca);
    made.leaf_pem = pem_of(made.good);
    unsigned char *der = NULL;
    int n = i2d_X509_REQ(made.csr, &der);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf csr = pfx_buf_make(4096);
    pfx_base64_encode(der, (size_t)n, &csr);
    OPENSSL_free(der);
    made.job = pfx_strdup(pfx_buf_str(&csr));
}

pfx_result __wrap_pfx_file_read_trusted(const char *path, size_t max, struct pfx_buf *out,
                                        struct pfx_error *err);
pfx_result __wrap_pfx_file_read_trusted(const char *path, size_t max, struct pfx_buf *out,
                                        struct pfx_error *err)
{
    (void)max;
    (void)err;
    const char *text = strcmp(path, "leaf.pem") == 0 ? made.leaf_pem
                       : strcmp(path, "ca.pem") == 0 ? made.ca_pem
                                                     : "nothing";
    must(pfx_buf_add_str(out, text));
    return PFX_OK;
}

/* --- the server --- */

static struct {
    const char *code;
    OSSL_CMP_SRV_CTX *srv; /* it remembers a transaction */
} server;

static bool told(char letter)
{
    return strchr(server.code, letter) != NULL;
}

static OSSL_CMP_PKISI *on_request(OSSL_CMP_SRV_CTX *ctx, const OSSL_CMP_MSG *request, int id,
                                  const OSSL_CRMF_MSG *crm, const X509_REQ *p10, X509 **cert,
                                  STACK_OF(X509) * *chain, STACK_OF(X509) * *ca_pubs)
{
    (void)ctx;
    (void)request;
    (void)id;
    (void)crm;
    (void)p10;
    if (told('r') || told('b') || told('s'))
        return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection,
                                       told('b')   ? 1 << OSSL_CMP_PKIFAILUREINFO_badRequest
                                       : told('s') ? 1 << OSSL_CMP_PKIFAILUREINFO_systemFailure
                                                   : 0,
                                       "not \xC3\xA4t all");
    if (told('w'))
        return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_waiting, 0, NULL);
    X509 *which = told('f') ? made.other : told('x') ? made.outside : made.good;
    *cert = X509_dup(which);
    *chain = sk_X509_new_null();
    sk_X509_push(*chain, X509_dup(made.ca));
    for (int i = 0; told('m') && i < 40; i++)
        sk_X509_push(*chain, X509_dup(made.many[i]));
    *ca_pubs = sk_X509_new_null();
    sk_X509_push(*ca_pubs, X509_dup(made.foreign));
    return OSSL_CMP_STATUSINFO_new(
        told('g') ? OSSL_CMP_PKISTATUS_grantedWithMods : OSSL_CMP_PKISTATUS_accepted, 0, NULL);
}

static int on_general(OSSL_CMP_SRV_CTX *ctx, const OSSL_CMP_MSG *request,
                      const STACK_OF(OSSL_CMP_ITAV) * in, STACK_OF(OSSL_CMP_ITAV) * *out)
{
    (void)ctx;
    (void)request;
    (void)in;
    *out = told('r') ? NULL : sk_OSSL_CMP_ITAV_new_null();
    return *out != NULL;
}

static void on_error(OSSL_CMP_SRV_CTX *ctx, const OSSL_CMP_MSG *request, const OSSL_CMP_PKISI *info,
                     const ASN1_INTEGER *code, const OSSL_CMP_PKIFREETEXT *details)
{
    (void)ctx;
    (void)request;
    (void)info;
    (void)code;
    (void)details;
}

static int on_confirmation(OSSL_CMP_SRV_CTX *ctx, const OSSL_CMP_MSG *request, int id,
                           const ASN1_OCTET_STRING *hash, const OSSL_CMP_PKISI *info)
{
    (void)ctx;
    (void)request;
    (void)id;
    (void)hash;
    (void)info;
    return !told('e');
}

static int on_poll(OSSL_CMP_SRV_CTX *ctx, const OSSL_CMP_MSG *request, int id,
                   OSSL_CMP_MSG **certificate_request, int64_t *check_after)
{
    (void)ctx;
    (void)request;
    (void)id;
    *certificate_request = NULL;
    *check_after = told('w') ? 30 : 0;
    return 1;
}

static OSSL_CMP_SRV_CTX *server_new(void)
{
    OSSL_CMP_SRV_CTX *srv = OSSL_CMP_SRV_CTX_new(NULL, NULL);
    OSSL_CMP_CTX *ctx = OSSL_CMP_SRV_CTX_get0_cmp_ctx(srv);
    OSSL_CMP_SRV_CTX_init(srv, NULL, on_request, NULL, on_general, on_error, on_confirmation,
                          on_poll);
    OSSL_CMP_CTX_set1_secretValue(ctx, (const unsigned char *)secret, sizeof secret - 1);
    OSSL_CMP_CTX_set1_referenceValue(ctx, (const unsigned char *)"ref", 3);
    return srv;
}

static void answer_request(struct pfx_bytes request, struct pfx_buf *out)
{
    const unsigned char *at = request.data;
    OSSL_CMP_MSG *msg = d2i_OSSL_CMP_MSG(NULL, &at, (long)request.len);
    must(msg != NULL); /* what was sent is a message */
    OSSL_CMP_SRV_CTX *srv = server.srv = server.srv ? server.srv : server_new();
    OSSL_CMP_SRV_CTX_set_grant_implicit_confirm(srv, !told('c'));
    OSSL_CMP_SRV_CTX_set_send_unprotected_errors(srv, told('p'));
    OSSL_CMP_CTX_set_option(OSSL_CMP_SRV_CTX_get0_cmp_ctx(srv), OSSL_CMP_OPT_UNPROTECTED_SEND,
                            told('p'));
    OSSL_CMP_MSG *reply = OSSL_CMP_SRV_process_request(srv, msg);
    unsigned char *der = NULL;
    int len = reply ? i2d_OSSL_CMP_MSG(reply, &der) : 0;
    if (len > 0)
        pfx_buf_add(out, der, (size_t)len);
    OPENSSL_free(der);
    OSSL_CMP_MSG_free(reply);
    OSSL_CMP_MSG_free(msg);
    ERR_clear_error();
}

static struct pfx_buf make_body(struct pfx_bytes request, struct pfx_bytes text)
{
    struct pfx_buf out = pfx_buf_make((size_t)1 << 20);
    if (text.len > 0 && text.data[0] == '=') {
        pfx_buf_add(&out, text.data + 1, text.len - 1);
        return out;
    }
    PFX_AUTOFREE char *code = text_of(take_until(&text, ' '));
    server.code = code;
    answer_request(request, &out);
    for (; text.len >= 3 && out.len > 0; text.data += 3, text.len -= 3)
        out.data[(size_t)(text.data[0] << 8 | text.data[1]) % out.len] = text.data[2];
    return out;
}

/* "CSR" in the job stands for the request, which is made anew at each start. */
static struct pfx_buf with_csr(struct pfx_bytes input)
{
    struct pfx_buf out = pfx_buf_make(input.len + 8192);
    struct pfx_bytes line = take_until(&input, '\n');
    const uint8_t *at = line.len ? memmem(line.data, line.len, "\"CSR\"", 5) : NULL;
    size_t before = at ? (size_t)(at - line.data) : line.len;
    pfx_buf_add(&out, line.data, before);
    if (at) {
        pfx_buf_addf(&out, "\"%s\"", made.job);
        pfx_buf_add(&out, at + 5, line.len - before - 5);
    }
    pfx_buf_add(&out, "\n", 1);
    pfx_buf_add(&out, input.data, input.len);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct pfx_kind *const tables[] = {pfx_ca_cmp.kinds};
    const struct rig_kinds kinds = {tables, 1};
    make_all();
    rig_conf()->cmp_ca_cert = "ca.pem";
    rig_conf()->cmp_profile = size % 2 ? "smime" : NULL;
    rig_conf()->cmp_recipient = size % 3 ? NULL : "/O=Example/CN=Internal CA";
    rig_make_body = make_body;
    struct pfx_bytes rest = {data, size};
    if (size > 0 && data[0] == '#') {
        struct pfx_bytes word = take_until(&rest, '\n');
        if (is_word(word, "#name"))
            rig_conf()->cmp_recipient = "CN";
        else
            rig_conf()->cmp_ca_cert = is_word(word, "#leaf") ? "leaf.pem" : "bad.pem";
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf input = with_csr(rest);
    rig_run(&pfx_ca_cmp, &kinds, pfx_buf_bytes(&input));
    OSSL_CMP_SRV_CTX_free(server.srv);
    server.srv = NULL;
    return 0;
}
