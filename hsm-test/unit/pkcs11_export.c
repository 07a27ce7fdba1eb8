/* Export tiers and wrapped keys, with OpenSSL as the reader. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "crypto/pfx.h"
#include "pkcs11/object.h"
#include "pkcs11_env.h"

struct rig {
    struct pfx_token *token;
    struct pfx_session *session;
    struct pfx_key *transport, *wrapping;
    struct pfx_probe probe;
    size_t objects;
};

static struct pfx_key *make(struct pfx_session *session, enum pfx_key_use use,
                            enum pfx_key_type type, unsigned n, bool token_object)
{
    ERROR(err);
    struct pfx_key *key = NULL;
    struct pfx_key_id id = env_id(n);
    assert_ok(pfx_key_make(session, use, type, &id, "export test", token_object, &key, &err), &err);
    return key;
}

static struct rig rig_open(enum env_module module)
{
    ERROR(err);
    struct rig r = {.token = env_open(module, PFX_ROLE_USERS, 4)};
    assert_ok(pfx_probe_run(r.token, PFX_ROLE_USERS, &r.probe, &err), &err);
    assert_ok(pfx_session_acquire(r.token, true, &r.session, &err), &err);
    r.transport = make(r.session, PFX_USE_KEK_TRANSPORT, PFX_KEY_RSA_2048, 1, true);
    r.wrapping = make(r.session, PFX_USE_WRAPPING, PFX_KEY_RSA_2048, 2, true);
    r.objects = env_objects(r.session);
    return r;
}

static void rig_close(struct rig *r)
{
    ERROR(err);
    assert_int_equal(env_objects(r->session), r->objects);
    assert_ok(pfx_key_destroy(r->session, r->transport, &err), &err);
    assert_ok(pfx_key_destroy(r->session, r->wrapping, &err), &err);
    pfx_key_free(r->transport);
    pfx_key_free(r->wrapping);
    pfx_session_release(r->session);
    pfx_token_close(r->token);
}

/* OpenSSL opens the ciphertext and finds the private key of this public key. */
static void assert_opens(const struct pfx_buf *ciphertext, const struct pfx_kek *kek,
                         struct pfx_bytes spki)
{
    unsigned char plain[8192];
    int len = 0, last = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const EVP_CIPHER *cipher =
        kek->profile == PFX_PROFILE_COMPAT ? EVP_des_ede3_cbc() : EVP_aes_256_cbc();
    assert_int_equal(
        EVP_DecryptInit_ex2(ctx, cipher, pfx_secret_bytes(kek->key), kek->iv, NULL), 1);
    assert_int_equal(EVP_DecryptUpdate(ctx, plain, &len, ciphertext->data, (int)ciphertext->len),
                     1);
    assert_int_equal(EVP_DecryptFinal_ex(ctx, plain + len, &last), 1);
    EVP_CIPHER_CTX_free(ctx);
    const unsigned char *at = plain;
    PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, len + last);
    assert_non_null(p8);
    assert_ptr_equal(at, plain + len + last);
    EVP_PKEY *pkey = EVP_PKCS82PKEY(p8);
    assert_non_null(pkey);
    unsigned char *der = NULL;
    int der_len = i2d_PUBKEY(pkey, &der);
    assert_int_equal(der_len, spki.len);
    assert_memory_equal(der, spki.data, spki.len);
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    PKCS8_PRIV_KEY_INFO_free(p8);
}

/* By this tier in every profile. */
static void export_once(struct rig *r, struct pfx_key *user, enum pfx_tier tier)
{
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        ERROR(err);
        PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
        assert_ok(pfx_kek_draw((enum pfx_profile)i, &kek, &err), &err);
        size_t before = env_objects(r->session);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(8192);
        assert_ok(pfx_key_export(r->session, r->transport, user, tier, &kek, &out, &err), &err);
        assert_int_equal(env_objects(r->session), before);
        assert_opens(&out, &kek, pfx_key_spki(user));
    }
}

static const enum pfx_key_type types[] = {PFX_KEY_RSA_2048, PFX_KEY_EC_P256, PFX_KEY_EC_P384};

static void tiers(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct rig r = rig_open((enum env_module)m);
        for (size_t i = 0; i < 3; i++) {
            for (int token_object = 0; token_object < 2; token_object++) {
                struct pfx_key *user =
                    make(r.session, PFX_USE_USER, types[i], 10, token_object != 0);
                ERROR(err);
                export_once(&r, user, PFX_TIER_TRANSIT);
                if (env_can[m].direct)
                    export_once(&r, user, PFX_TIER_DIRECT);
                if (token_object)
                    assert_ok(pfx_key_destroy(r.session, user, &err), &err);
                pfx_key_free(user);
            }
        }
        rig_close(&r);
    }
}

static void way_by_create_object(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct rig r = rig_open((enum env_module)m);
        r.token->caps.merged.way_in = PFX_WAY_CREATE;
        struct pfx_key *user = make(r.session, PFX_USE_USER, PFX_KEY_EC_P256, 11, false);
        export_once(&r, user, PFX_TIER_TRANSIT);
        if (env_can[m].direct)
            export_once(&r, user, PFX_TIER_DIRECT);
        pfx_key_free(user);
        rig_close(&r);
    }
}

static void refusals(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct rig r = rig_open((enum env_module)m);
        ERROR(err);
        struct pfx_key *user = make(r.session, PFX_USE_USER, PFX_KEY_EC_P256, 12, false);
        PFX_AUTOKEK struct pfx_kek kek = {.key = NULL}, des = {.key = NULL};
        assert_ok(pfx_kek_draw(PFX_PROFILE_MODERN, &kek, &err), &err);
        assert_ok(pfx_kek_draw(PFX_PROFILE_COMPAT, &des, &err), &err);
        PFX_AUTOKEK struct pfx_kek little = {.key = env_secret("sixteen bytes...")};
        PFX_AUTOKEK struct pfx_kek swapped = {.profile = PFX_PROFILE_COMPAT,
                                              .key = env_secret("32 bytes, of AES and not of 3DES")};
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(8192);
        assert_class(
            pfx_key_export(r.session, r.transport, user, PFX_TIER_TRANSIT, &little, &out, &err),
            PFX_CLASS_USAGE);
        err = PFX_ERROR_NONE;
        assert_class(
            pfx_key_export(r.session, r.transport, user, PFX_TIER_TRANSIT, &swapped, &out, &err),
            PFX_CLASS_USAGE);
        err = PFX_ERROR_NONE;
        assert_class(pfx_key_export(r.session, r.transport, user, PFX_TIER_NONE, &kek, &out,
                                    &err), PFX_CLASS_REFUSED);
        err = PFX_ERROR_NONE;
        /* That other keys can be wrapped shows nothing for this one. */
        enum pfx_tier ec = r.token->caps.merged.tier[PFX_PROFILE_MODERN].ec;
        r.token->caps.merged.tier[PFX_PROFILE_MODERN].ec = PFX_TIER_NONE;
        assert_class(
            pfx_key_export(r.session, r.transport, user, PFX_TIER_TRANSIT, &kek, &out, &err),
            PFX_CLASS_REFUSED);
        assert_text(&err, "tier transit");
        r.token->caps.merged.tier[PFX_PROFILE_MODERN].ec = ec;
        err = PFX_ERROR_NONE;
        if (!env_can[m].direct) {
            assert_class(
                pfx_key_export(r.session, r.transport, user, PFX_TIER_DIRECT, &kek, &out, &err),
                PFX_CLASS_REFUSED);
            assert_text(&err, "tier direct");
            err = PFX_ERROR_NONE;
            assert_class(
                pfx_key_export(r.session, r.transport, user, PFX_TIER_DIRECT, &des, &out, &err),
                PFX_CLASS_REFUSED);
            assert_text(&err, "profile compat");
            /* A key that isn't extractable stays, whoever asks. */
            struct pfx_key *log = make(r.session, PFX_USE_LOG, PFX_KEY_EC_P256, 13, false);
            err = PFX_ERROR_NONE;
            assert_class(
                pfx_key_export(r.session, r.transport, log, PFX_TIER_TRANSIT, &kek, &out, &err),
                PFX_CLASS_REFUSED);
            assert_string_equal(err.code, "CKR_KEY_UNEXTRACTABLE");
            pfx_key_free(log);
        }
        assert_int_equal(out.len, 0);
        pfx_key_free(user);
        rig_close(&r);
    }
}

static void blobs(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct rig r = rig_open((enum env_module)m);
        for (size_t i = 0; i < 3; i++) {
            ERROR(err);
            struct pfx_key *user = make(r.session, PFX_USE_USER, types[i], 20, false), *back = NULL;
            struct pfx_key *other = make(r.session, PFX_USE_USER, types[i], 21, false);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(8192);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(1024);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf other_spki = pfx_buf_make(1024);
            assert_true(pfx_buf_add(&spki, pfx_key_spki(user).data, pfx_key_spki(user).len));
            assert_true(
                pfx_buf_add(&other_spki, pfx_key_spki(other).data, pfx_key_spki(other).len));
            struct pfx_bytes pub = {spki.data, spki.len};
            struct pfx_key_id id = env_id(20);
            assert_ok(pfx_key_wrap_blob(r.session, r.wrapping, user, &blob, &err), &err);
            pfx_key_free(user);
            pfx_key_free(other);
            struct pfx_bytes bytes = {blob.data, blob.len};
            assert_ok(pfx_key_unwrap_blob(r.session, r.wrapping, bytes, &id, pub, &back, &err),
                      &err);
            uint8_t digest[32] = {7};
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1024);
            assert_ok(pfx_key_sign_digest(r.session, back, PFX_HASH_SHA256,
                                          (struct pfx_bytes){digest, 32}, &out, &err), &err);
            export_once(&r, back, PFX_TIER_TRANSIT);
            pfx_key_free(PFX_TAKE(back));
            /* Not as another key. */
            assert_class(pfx_key_unwrap_blob(r.session, r.wrapping, bytes, &id,
                                             (struct pfx_bytes){other_spki.data, other_spki.len},
                                             &back, &err), PFX_CLASS_INTEGRITY);
            /* Changed anywhere, cut, empty. */
            for (size_t at = 0; at < blob.len; at += blob.len / 9) {
                blob.data[at] ^= 0x10;
                err = PFX_ERROR_NONE;
                assert_class(pfx_key_unwrap_blob(r.session, r.wrapping, bytes, &id, pub, &back,
                                                 &err), PFX_CLASS_INTEGRITY);
                blob.data[at] ^= 0x10;
            }
            for (size_t len = 0; len < blob.len; len += 1 + blob.len / 7)
                assert_class(pfx_key_unwrap_blob(r.session, r.wrapping,
                                                 (struct pfx_bytes){blob.data, len}, &id, pub,
                                                 &back, &err),
                             PFX_CLASS_INTEGRITY);
            assert_null(back);
        }
        rig_close(&r);
    }
}

/* NSS crashes or corrupts when two threads wrap one EC key; not through here. */
struct worker {
    struct pfx_token *token;
    struct pfx_key *wrapping, *user;
    unsigned good;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 100; i++) {
        struct pfx_session *session = NULL;
        struct pfx_error err = PFX_ERROR_NONE;
        struct pfx_key *back = NULL;
        struct pfx_key_id id = env_id(30);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(8192);
        if (pfx_ok(pfx_session_acquire(w->token, false, &session, &err)) &&
            pfx_ok(pfx_key_wrap_blob(session, w->wrapping, w->user, &blob, &err)) &&
            pfx_ok(pfx_key_unwrap_blob(session, w->wrapping,
                                       (struct pfx_bytes){blob.data, blob.len}, &id,
                                       pfx_key_spki(w->user), &back, &err)))
            w->good++;
        pfx_key_free(back);
        pfx_session_release(session);
    }
    return NULL;
}

static void two_threads(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct rig r = rig_open((enum env_module)m);
        ERROR(err);
        struct pfx_key *user = make(r.session, PFX_USE_USER, PFX_KEY_EC_P256, 30, false);
        struct worker w[2] = {{r.token, r.wrapping, user, 0}, {r.token, r.wrapping, user, 0}};
        pthread_t threads[2];
        /* The session that writes is given back: on NSS wraps wait for it. */
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
        if (m == ENV_NSS) {
            pfx_session_release(r.session);
            r.session = NULL;
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(w[i].good, 100);
        }
        if (!r.session)
            assert_ok(pfx_session_acquire(r.token, true, &r.session, &err), &err);
        pfx_key_free(user);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiers),    cmocka_unit_test(way_by_create_object),
        cmocka_unit_test(refusals), cmocka_unit_test(blobs),
        cmocka_unit_test(two_threads),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
