/*
 * The self-signed certificate of a client key, by libp11: the only place that uses it.
 *
 * libp11 0.4.12 shares the module with us: its C_Initialize answers
 * CKR_CRYPTOKI_ALREADY_INITIALIZED, our login is its login. Two of its ends would be ours too:
 * PKCS11_CTX_unload calls C_Finalize, and releasing a slot calls C_CloseAllSessions. So its context
 * is kept with the module and is let go only after our own C_Finalize, when those calls find
 * nothing to end.
 */
#include <pthread.h>
#include <string.h>

#include <libp11.h>

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "crypto/encode.h"
#include "crypto/mem.h"
#include "pkcs11/object.h"

struct context {
    PKCS11_CTX *ctx;
    PKCS11_SLOT *slots;
    unsigned n_slots;
};

static pthread_mutex_t libp11_lock = PTHREAD_MUTEX_INITIALIZER;

void pfx_libp11_drop(struct pfx_module *module)
{
    pthread_mutex_lock(&libp11_lock);
    struct context *c = module->libp11;
    module->libp11 = NULL;
    pthread_mutex_unlock(&libp11_lock);
    if (!c)
        return;
    pfx_call_trace("libp11", true);
    if (c->slots)
        PKCS11_release_all_slots(c->ctx, c->slots, c->n_slots);
    PKCS11_CTX_unload(c->ctx);
    PKCS11_CTX_free(c->ctx);
    pfx_call_trace("libp11", false);
    free(c);
}

static pfx_result fail(struct pfx_error *err, const struct pfx_token *token, const char *text)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return pfx_fail(err, PFX_CLASS_DEVICE, "make certificate", token->facts.label,
                    reason ? reason : "", "%s", text);
}

/* With libp11_lock held. */
static pfx_result context_of(struct pfx_token *token, struct context **ret_context,
                             struct pfx_error *err)
{
    struct pfx_module *module = token->module;
    struct context *c = module->libp11;
    if (!c) {
        c = pfx_alloc(sizeof *c);
        c->ctx = PKCS11_CTX_new();
        if (!c->ctx)
            pfx_die("out of memory");
        if (module->parameters)
            PKCS11_CTX_init_args(c->ctx, module->parameters);
        if (PKCS11_CTX_load(c->ctx, module->path) != 0) {
            PKCS11_CTX_free(c->ctx);
            free(c);
            return fail(err, token, "libp11 can't use the module that is already loaded.");
        }
        module->libp11 = c;
    }
    /* Once for each C_Initialize: PKCS11_update_slots of 0.4.12 crashes on its second call, and
     * slots that were found can't be let go (see above). */
    if (!c->slots && PKCS11_enumerate_slots(c->ctx, &c->slots, &c->n_slots) != 0) {
        c->slots = NULL;
        return fail(err, token, "libp11 finds no slots.");
    }
    *ret_context = c;
    return PFX_OK;
}

/* Borrowed from libp11; NULL where there isn't exactly one. */
static PKCS11_KEY *find_key(PKCS11_TOKEN *token, const struct pfx_key_id *id)
{
    PKCS11_KEY *keys = NULL, *found = NULL;
    unsigned n = 0, hits = 0;
    if (PKCS11_enumerate_keys(token, &keys, &n) != 0)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        if (keys[i].isPrivate && keys[i].id_len == sizeof id->bytes &&
            memcmp(keys[i].id, id->bytes, sizeof id->bytes) == 0) {
            found = &keys[i];
            hits++;
        }
    }
    return hits == 1 ? found : NULL;
}

static PKCS11_TOKEN *find_token(const struct context *c, const struct pfx_token *token)
{
    for (unsigned i = 0; i < c->n_slots; i++) {
        if (PKCS11_get_slotid_from_slot(&c->slots[i]) == token->slot)
            return c->slots[i].token;
    }
    return NULL;
}

struct wish {
    const char *common_name;
    int64_t not_before_ms, not_after_ms;
    struct pfx_bytes spki;
};

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool fill(X509 *cert, const struct wish *wish, EVP_PKEY *public)
{
    unsigned char serial[16];
    if (RAND_bytes(serial, sizeof serial) != 1)
        return false;
    serial[0] = (unsigned char)((serial[0] & 0x7F) | 0x40); /* positive, always 16 bytes */
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    X509_NAME *name = X509_get_subject_name(cert);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) &&
              X509_set_version(cert, X509_VERSION_3) == 1 &&
              ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)(wish->not_before_ms / 1000)) &&
              ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(wish->not_after_ms / 1000)) &&
              X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                         (const unsigned char *)wish->common_name, -1, -1,
                                         0) == 1 &&
              X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, public) == 1 &&
              add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
              add_extension(cert, NID_subject_key_identifier, "hash");
    BN_free(number);
    return ok;
}

/* Without libp11: its list of keys ends with an error at the first Ed25519 key of a token, which is
 * the log key's where the roles service and log share one. */
static pfx_result sign_here(struct pfx_session *session, struct pfx_key *client, X509 *cert,
                            struct pfx_error *err)
{
    struct pfx_token *token = pfx_session_token(session);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(1024);
    unsigned char digest[32], *tbs = NULL;
    const X509_ALGOR *outer;
    const ASN1_BIT_STRING *bits;
    X509_get0_signature(&bits, &outer, cert);
    ASN1_OBJECT *algorithm = OBJ_nid2obj(NID_sha256WithRSAEncryption);
    /* OpenSSL has no setter for these two: a certificate signed elsewhere is built like this. */
    if (X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)X509_get0_tbs_sigalg(cert), algorithm, V_ASN1_NULL,
                        NULL) != 1 ||
        X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)outer, algorithm, V_ASN1_NULL, NULL) != 1)
        return fail(err, token, "The certificate can't be put together.");
    int len = i2d_re_X509_tbs(cert, &tbs);
    bool ok = len > 0 && pfx_sha256(tbs, (size_t)len, digest);
    OPENSSL_free(tbs);
    if (!ok)
        return fail(err, token, "The certificate can't be put together.");
    PFX_TRY(pfx_key_sign_digest(session, client, PFX_HASH_SHA256,
                                (struct pfx_bytes){digest, sizeof digest}, &signature, err));
    ASN1_BIT_STRING *place = (ASN1_BIT_STRING *)(uintptr_t)bits;
    if (ASN1_BIT_STRING_set(place, signature.data, (int)signature.len) != 1)
        return fail(err, token, "The certificate can't be put together.");
    place->flags &= ~(ASN1_STRING_FLAG_BITS_LEFT | 0x07);
    place->flags |= ASN1_STRING_FLAG_BITS_LEFT; /* every bit of the last byte counts */
    return PFX_OK;
}

static pfx_result sign_by(struct pfx_session *session, struct pfx_key *client, PKCS11_KEY *key,
                          X509 *cert, struct pfx_error *err)
{
    if (!key)
        return sign_here(session, client, cert, err);
    EVP_PKEY *private = PKCS11_get_private_key(key);
    bool ok = private && X509_sign(cert, private, EVP_sha256()) > 0;
    EVP_PKEY_free(private);
    return ok ? PFX_OK
              : fail(err, pfx_session_token(session), "The token doesn't sign the certificate.");
}

static pfx_result sign(struct pfx_session *session, struct pfx_key *client, PKCS11_KEY *key,
                       const struct wish *wish, struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_token *token = pfx_session_token(session);
    const unsigned char *at = wish->spki.data;
    EVP_PKEY *public = d2i_PUBKEY(NULL, &at, (long)wish->spki.len);
    X509 *cert = X509_new();
    pfx_result r = PFX_OK;
    char *pem = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (!public || !cert || !bio || !fill(cert, wish, public))
        r = fail(err, token, "The certificate can't be put together.");
    else
        r = sign_by(session, client, key, cert, err);
    if (pfx_ok(r) && X509_verify(cert, public) != 1)
        r = pfx_fail(err, PFX_CLASS_INTEGRITY, "make certificate", token->facts.label, "",
                     "The signature of the new certificate doesn't verify under the key's public "
                     "half.");
    if (pfx_ok(r) && PEM_write_bio_X509(bio, cert) != 1)
        r = fail(err, token, "The certificate can't be written.");
    if (pfx_ok(r)) {
        long len = BIO_get_mem_data(bio, &pem);
        if (len <= 0 || !pfx_buf_add(out, pem, (size_t)len))
            r = pfx_fail(err, PFX_CLASS_INTERNAL, "make certificate", "", "",
                         "The buffer's ceiling of %zu bytes is too low.", out->max);
    }
    BIO_free(bio);
    X509_free(cert);
    EVP_PKEY_free(public);
    return r;
}

static pfx_result make(struct pfx_session *session, struct pfx_key *client,
                       const struct wish *wish, struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_token *token = pfx_session_token(session);
    struct context *c = NULL;
    PFX_TRY(context_of(token, &c, err));
    PKCS11_TOKEN *there = find_token(c, token);
    PKCS11_KEY *key = there ? find_key(there, &client->id) : NULL;
    ERR_clear_error();
    return sign(session, client, key, wish, out, err);
}

pfx_result pfx_client_certificate(struct pfx_session *session, struct pfx_key *client,
                                  const char *common_name, int64_t not_before_ms,
                                  int64_t not_after_ms, struct pfx_buf *out, struct pfx_error *err)
{
    CK_OBJECT_HANDLE handle;
    PFX_TRY(pfx_key_resolve(session, client, &handle, err)); /* still there, still the same */
    struct wish wish = {
        .common_name = common_name,
        .not_before_ms = not_before_ms,
        .not_after_ms = not_after_ms,
        .spki = pfx_key_spki(client),
    };
    struct pfx_token *token = pfx_session_token(session);
    PFX_TRY(pfx_module_write_begin(token->module, err));
    pthread_mutex_lock(&libp11_lock);
    pfx_call_trace("libp11", true);
    pfx_result r = make(session, client, &wish, out, err);
    pfx_call_trace("libp11", false);
    pthread_mutex_unlock(&libp11_lock);
    pfx_module_write_end(token->module);
    return r;
}
