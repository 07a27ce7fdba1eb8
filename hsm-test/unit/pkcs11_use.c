/* What keys do: signatures, requests, PSS, OAEP, MACs, checked by OpenSSL; two threads at once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "crypto/csr.h"
#include "crypto/oaep.h"
#include "pkcs11_env.h"

static struct pfx_token *ready(enum env_module module, enum pfx_role role, struct pfx_probe *probe,
                               struct pfx_session **session)
{
    ERROR(err);
    struct pfx_token *token = env_open(module, role, 3);
    assert_ok(pfx_probe_run(token, role, probe, &err), &err);
    assert_ok(pfx_session_acquire(token, true, session, &err), &err);
    return token;
}

static struct pfx_key *make(struct pfx_session *session, enum pfx_key_use use,
                            enum pfx_key_type type, bool token_object)
{
    ERROR(err);
    struct pfx_key *key = NULL;
    struct pfx_key_id id = env_id(9);
    assert_ok(pfx_key_make(session, use, type, &id, "used key", token_object, &key, &err), &err);
    return key;
}

static EVP_PKEY *public_of(struct pfx_bytes spki)
{
    const unsigned char *at = spki.data;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)spki.len);
    assert_non_null(pkey);
    return pkey;
}

struct signer {
    struct pfx_session *session;
    struct pfx_key *key;
};

static pfx_result sign_for_csr(void *ctx, enum pfx_hash hash, struct pfx_bytes digest,
                               struct pfx_buf *out, struct pfx_error *err)
{
    struct signer *s = ctx;
    return pfx_key_sign_digest(s->session, s->key, hash, digest, out, err);
}

static void requests(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_USERS, &probe, &session);
        for (int type = 0; type < PFX_KEY_TYPE_COUNT; type++) {
            if (type == PFX_KEY_RSA_4096) /* seconds, and shows nothing new */
                continue;
            ERROR(err);
            struct signer s = {session,
                               make(session, PFX_USE_USER, (enum pfx_key_type)type, false)};
            const char *emails[] = {"ada@example.org"};
            struct pfx_csr_spec spec = {
                .spki = pfx_key_spki(s.key), .common_name = "Ada", .emails = emails, .n_emails = 1};
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf csr = pfx_buf_make(8192);
            assert_ok(pfx_csr_build(&spec, sign_for_csr, &s, &csr, &err), &err);
            const unsigned char *at = csr.data;
            X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)csr.len);
            EVP_PKEY *pkey = public_of(pfx_key_spki(s.key));
            assert_non_null(req);
            assert_int_equal(X509_REQ_verify(req, pkey), 1);
            EVP_PKEY_free(pkey);
            X509_REQ_free(req);
            pfx_key_free(s.key);
        }
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

static void pss(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_SERVICE, &probe, &session);
        ERROR(err);
        struct pfx_key *key = make(session, PFX_USE_CLIENT, PFX_KEY_RSA_2048, true);
        static const uint8_t text[] = "header.claims";
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1024);
        assert_ok(pfx_key_sign_pss(session, key, (struct pfx_bytes){text, sizeof text - 1}, &out,
                                   &err), &err);
        EVP_PKEY *pkey = public_of(pfx_key_spki(key));
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        EVP_PKEY_CTX *pctx = NULL;
        assert_int_equal(EVP_DigestVerifyInit(ctx, &pctx, EVP_sha256(), NULL, pkey), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST), 1);
        assert_int_equal(EVP_DigestVerify(ctx, out.data, out.len, text, sizeof text - 1), 1);
        EVP_MD_CTX_free(ctx);
        EVP_PKEY_free(pkey);
        /* It can't open anything. */
        PFX_AUTOSECRET struct pfx_secret *plain = env_secret("x"), *back = NULL;
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(1024);
        assert_ok(pfx_oaep_seal(pfx_key_spki(key), PFX_HASH_SHA256, plain, &sealed, &err), &err);
        assert_true(pfx_failed(pfx_key_open_oaep(session, key, PFX_HASH_SHA256,
                                                 (struct pfx_bytes){sealed.data, sealed.len}, &back,
                                                 &err)));
        assert_null(back);
        err = PFX_ERROR_NONE;
        assert_ok(pfx_key_destroy(session, key, &err), &err);
        pfx_key_free(key);
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

static void oaep(void **state)
{
    (void)state;
    static const enum pfx_hash hashes[] = {PFX_HASH_SHA256, PFX_HASH_SHA384, PFX_HASH_SHA512};
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_ENCRYPTION, &probe, &session);
        ERROR(err);
        struct pfx_key *key = make(session, PFX_USE_ENCRYPTION, PFX_KEY_RSA_2048, false);
        for (size_t i = 0; i < 3; i++) {
            PFX_AUTOSECRET struct pfx_secret *plain = env_secret("a PFX password"), *back = NULL;
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(1024);
            err = PFX_ERROR_NONE;
            assert_ok(pfx_oaep_seal(pfx_key_spki(key), hashes[i], plain, &sealed, &err), &err);
            struct pfx_bytes bytes = {sealed.data, sealed.len};
            assert_ok(pfx_key_open_oaep(session, key, hashes[i], bytes, &back, &err), &err);
            assert_true(pfx_secret_equal(plain, back));
            pfx_secret_free(PFX_TAKE(back));
            /* Another hash, a changed byte, a byte too few. */
            assert_class(pfx_key_open_oaep(session, key, hashes[(i + 1) % 3], bytes, &back, &err),
                         PFX_CLASS_INTEGRITY);
            sealed.data[7] ^= 1;
            assert_class(pfx_key_open_oaep(session, key, hashes[i], bytes, &back, &err),
                         PFX_CLASS_INTEGRITY);
            bytes.len--;
            assert_class(pfx_key_open_oaep(session, key, hashes[i], bytes, &back, &err),
                         PFX_CLASS_INTEGRITY);
            assert_null(back);
        }
        pfx_key_free(key);
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

static void seal_in_token(void **state)
{
    (void)state;
    EVP_PKEY *pkey = EVP_RSA_gen(3072);
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(pkey, &der);
    assert_true(len > 0);
    struct pfx_bytes spki = {der, (size_t)len};
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_USERS, &probe, &session);
        ERROR(err);
        size_t before = env_objects(session);
        PFX_AUTOSECRET struct pfx_secret *plain = env_secret("a PFX password");
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(1024);
        pfx_result r = pfx_token_seal_oaep(session, spki, PFX_HASH_SHA512, plain, &sealed, &err);
        assert_ok(r, &err);
        unsigned char out[512];
        size_t out_len = sizeof out;
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
        assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha512()), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha512()), 1);
        assert_int_equal(EVP_PKEY_decrypt(ctx, out, &out_len, sealed.data, sealed.len), 1);
        assert_int_equal(out_len, pfx_secret_len(plain));
        assert_memory_equal(out, pfx_secret_bytes(plain), out_len);
        EVP_PKEY_CTX_free(ctx);
        assert_int_equal(env_objects(session), before);
        pfx_session_release(session);
        pfx_token_close(token);
    }
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
}

static void macs(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_USERS, &probe, &session);
        ERROR(err);
        struct pfx_key *key = make(session, PFX_USE_MAC, PFX_KEY_RSA_2048, false);
        struct pfx_key *other = make(session, PFX_USE_MAC, PFX_KEY_RSA_2048, false);
        uint8_t a[32], b[32], c[32], d[32];
        struct pfx_bytes text = {(const uint8_t *)"ticket", 6},
                         longer = {(const uint8_t *)"tickets", 7};
        assert_ok(pfx_key_mac(session, key, text, a, &err), &err);
        assert_ok(pfx_key_mac(session, key, text, b, &err), &err);
        assert_ok(pfx_key_mac(session, key, longer, c, &err), &err);
        assert_ok(pfx_key_mac(session, other, text, d, &err), &err);
        assert_memory_equal(a, b, 32);
        assert_memory_not_equal(a, c, 32);
        assert_memory_not_equal(a, d, 32);
        pfx_key_free(key);
        pfx_key_free(other);
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

struct label_seen {
    const struct pfx_key_id *id;
    char text[256];
    unsigned n;
};

static bool see_label(void *ctx, const struct pfx_key_row *row)
{
    struct label_seen *seen = ctx;
    if (row->object_class == CKO_SECRET_KEY && row->id_len == sizeof seen->id->bytes &&
        memcmp(row->id, seen->id->bytes, row->id_len) == 0) {
        snprintf(seen->text, sizeof seen->text, "%s", row->label);
        seen->n++;
    }
    return true;
}

/* The anchor of the operation log: its label changes and is there after the token was opened anew;
 * a MAC key's doesn't. */
static void labels(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        static const char longest[] =
            "pfxlog1:12345678:9007199254740991:0123456789abcdef01234567......";
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_LOG, &probe, &session);
        ERROR(err);
        char label[65], cut[9];
        struct pfx_key *anchor = make(session, PFX_USE_ANCHOR, PFX_KEY_RSA_2048, true);
        struct label_seen seen = {.id = pfx_key_id(anchor)};
        assert_ok(pfx_key_label(session, anchor, label, sizeof label, &err), &err);
        assert_string_equal(label, "used key");
        assert_int_equal(strlen(longest), 64);
        assert_ok(pfx_key_relabel(session, anchor, longest, &err), &err);
        assert_ok(pfx_key_relabel(session, anchor, "pfxlog1:short", &err), &err);
        assert_ok(pfx_key_relabel(session, anchor, longest, &err), &err);
        assert_ok(pfx_keys_list(session, see_label, &seen, &err), &err);
        assert_int_equal(seen.n, 1);
        assert_string_equal(seen.text, longest);
        assert_ok(pfx_key_label(session, anchor, cut, sizeof cut, &err), &err);
        assert_string_equal(cut, "pfxlog1:");
        pfx_session_release(session);
        pfx_token_close(token);

        session = NULL;
        struct pfx_key *again = NULL;
        token = env_open((enum env_module)m, PFX_ROLE_LOG, 3);
        assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
        assert_ok(pfx_key_find(session, PFX_USE_ANCHOR, pfx_key_id(anchor), true,
                               (struct pfx_bytes){NULL, 0}, &again, &err),
                  &err);
        assert_non_null(again);
        assert_ok(pfx_key_label(session, again, label, sizeof label, &err), &err);
        assert_string_equal(label, longest);
        pfx_key_free(anchor);
        assert_ok(pfx_key_destroy(session, again, &err), &err);
        pfx_key_free(again);

        if (m == ENV_SOFTHSM) { /* CKA_MODIFIABLE false is kept there */
            struct pfx_key *mac = make(session, PFX_USE_MAC, PFX_KEY_RSA_2048, false);
            assert_true(pfx_failed(pfx_key_relabel(session, mac, "another", &err)));
            assert_string_equal(err.op, "C_SetAttributeValue");
            assert_text(&err, "The label of the MAC key");
            err = PFX_ERROR_NONE;
            assert_ok(pfx_key_label(session, mac, label, sizeof label, &err), &err);
            assert_string_equal(label, "used key");
            pfx_key_free(mac);
        }
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

/* --- threads --- */

#define ROUNDS 150
struct worker {
    struct pfx_token *token;
    struct pfx_key *key;
    unsigned good;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct pfx_session *session = NULL;
        struct pfx_error err = PFX_ERROR_NONE;
        uint8_t digest[32];
        memset(digest, i, sizeof digest);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1024);
        if (pfx_ok(pfx_session_acquire(w->token, false, &session, &err)) &&
            pfx_ok(pfx_key_sign_digest(session, w->key, PFX_HASH_SHA256,
                                       (struct pfx_bytes){digest, 32}, &out, &err)))
            w->good++;
        pfx_session_release(session);
    }
    return NULL;
}

static double run_workers(struct pfx_token *token, struct pfx_key *key, int n)
{
    struct worker workers[2] = {{token, key, 0}, {token, key, 0}};
    pthread_t threads[2];
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].good, ROUNDS);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    return n * ROUNDS / ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
}

static void two_threads(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_SERVICE, &probe, &session);
        struct pfx_key *key = make(session, PFX_USE_CLIENT, PFX_KEY_RSA_2048, false);
        double one = run_workers(token, key, 1), two = run_workers(token, key, 2);
        print_message("%s: %.0f signatures a second with one thread, %.0f with two\n",
                      env_can[m].name, one, two);
        pfx_key_free(key);
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

/* One thread breaks the module again and again, another goes on working. */
static void *breaker(void *arg)
{
    struct pfx_token *token = arg;
    for (int i = 0; i < 10; i++) {
        struct pfx_session *session = NULL;
        struct pfx_error err = PFX_ERROR_NONE;
        if (pfx_ok(pfx_session_acquire(token, false, &session, &err)))
            pfx_session_saw(session, CKR_DEVICE_ERROR);
        pfx_session_release(session);
        struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void reopened_under_load(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct pfx_probe probe;
    struct pfx_session *session = NULL;
    struct pfx_token *token = ready(ENV_SOFTHSM, PFX_ROLE_LOG, &probe, &session);
    struct pfx_token *two = env_open_uri(ENV_SOFTHSM, PFX_ROLE_SERVICE, "pkcs11:token=two", 1);
    struct pfx_key *key = make(session, PFX_USE_LOG, PFX_KEY_EC_P256, true);
    pfx_session_release(session);
    uint64_t epoch = pfx_token_epoch(token);
    struct worker w = {token, key, 0};
    pthread_t a, b;
    assert_int_equal(pthread_create(&b, NULL, breaker, two), 0);
    assert_int_equal(pthread_create(&a, NULL, work, &w), 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    /* Nobody's module is taken away in the middle of a call. */
    assert_int_equal(w.good, ROUNDS);
    ERROR(err);
    assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
    assert_true(pfx_token_epoch(token) > epoch);
    assert_ok(pfx_key_destroy(session, key, &err), &err);
    pfx_key_free(key);
    pfx_session_release(session);
    pfx_token_close(two);
    pfx_token_close(token);
}

/* --- certificates by libp11 --- */

static void certificate(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe probe;
        struct pfx_session *session = NULL;
        struct pfx_token *token = ready((enum env_module)m, PFX_ROLE_SERVICE, &probe, &session);
        ERROR(err);
        struct pfx_key *key = make(session, PFX_USE_CLIENT, PFX_KEY_RSA_2048, true);
        for (int round = 0; round < 3; round++) {
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(8192);
            env_count_reset();
            assert_ok(pfx_client_certificate(session, key, "pfx-agent test", 1763769600000,
                                             1826841600000, &pem, &err), &err);
            BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
            X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
            EVP_PKEY *pkey = public_of(pfx_key_spki(key));
            assert_non_null(cert);
            assert_int_equal(X509_verify(cert, pkey), 1);
            assert_int_equal(X509_get_signature_nid(cert), NID_sha256WithRSAEncryption);
            X509_free(cert);
            BIO_free(bio);
            EVP_PKEY_free(pkey);
            assert_int_equal(env_count("C_Login"), 0);
            /* Session, login and module are as before. */
            CK_SESSION_INFO info;
            assert_int_equal(pfx_session_module(session)->C_GetSessionInfo(
                                 pfx_session_handle(session), &info), CKR_OK);
            assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
            if (round == 1) { /* and after the module was opened anew */
                pfx_session_saw(session, CKR_DEVICE_ERROR);
                pfx_session_release(session);
                session = NULL;
                assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
            }
        }
        assert_ok(pfx_key_destroy(session, key, &err), &err);
        pfx_key_free(key);
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(pss),
        cmocka_unit_test(oaep),
        cmocka_unit_test(seal_in_token),
        cmocka_unit_test(macs),
        cmocka_unit_test(labels),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(reopened_under_load),
        cmocka_unit_test(certificate),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
