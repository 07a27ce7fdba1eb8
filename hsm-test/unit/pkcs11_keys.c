/* Keys: made with every attribute said and read back, found exactly once, used, listed, destroyed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "crypto/csr.h"
#include "crypto/oaep.h"
#include "pkcs11/object.h"
#include "pkcs11_env.h"

static const struct pfx_bytes any = {NULL, 0};

/* Opened, logged in, probed for this role, with a session. */
struct bench {
    struct pfx_token *token;
    struct pfx_session *session;
    struct pfx_probe probe;
};

static struct bench bench_open(enum env_module module, enum pfx_role role)
{
    ERROR(err);
    struct bench b = {.token = env_open(module, role, 3)};
    assert_ok(pfx_probe_run(b.token, role, &b.probe, &err), &err);
    assert_ok(pfx_session_acquire(b.token, true, &b.session, &err), &err);
    return b;
}

static void bench_close(struct bench *b)
{
    pfx_session_release(b->session);
    pfx_token_close(b->token);
}

static struct pfx_key *make(struct bench *b, enum pfx_key_use use, enum pfx_key_type type,
                            unsigned id, bool token_object)
{
    ERROR(err);
    struct pfx_key *key = NULL;
    struct pfx_key_id key_id = env_id(id);
    assert_ok(pfx_key_make(b->session, use, type, &key_id, "test key", token_object, &key, &err),
              &err);
    return key;
}

static void destroy(struct bench *b, struct pfx_key *key)
{
    ERROR(err);
    assert_ok(pfx_key_destroy(b->session, key, &err), &err);
    pfx_key_free(key);
}

static void collect(void *ctx, const char *text)
{
    assert_true(pfx_buf_addf(ctx, "%s\n", text));
}

static void every_use(void **state)
{
    (void)state;
    static const struct {
        enum pfx_role role;
        enum pfx_key_use use;
        const char *says; /* among its attributes */
    } uses[] = {
        {PFX_ROLE_ENCRYPTION, PFX_USE_ENCRYPTION, "CKA_DECRYPT true"},
        {PFX_ROLE_USERS, PFX_USE_USER, "CKA_EXTRACTABLE true"},
        {PFX_ROLE_USERS, PFX_USE_WRAPPING, "CKA_WRAP true"},
        {PFX_ROLE_USERS, PFX_USE_KEK_TRANSPORT, "CKA_UNWRAP true"},
        {PFX_ROLE_USERS, PFX_USE_MAC, "CKA_SIGN true"},
        {PFX_ROLE_SERVICE, PFX_USE_CLIENT, "CKA_SIGN true"},
        {PFX_ROLE_SERVICE, PFX_USE_SECRETS, "CKA_DECRYPT true"},
        {PFX_ROLE_LOG, PFX_USE_LOG, "CKA_NEVER_EXTRACTABLE true"},
        {PFX_ROLE_LOG, PFX_USE_LOG_ED25519, "CKA_SIGN true"},
        {PFX_ROLE_LOG, PFX_USE_ANCHOR, "CKA_SIGN false"},
    };
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
            if (uses[i].use == PFX_USE_LOG_ED25519 && !env_can[m].ed25519)
                continue;
            struct bench b = bench_open((enum env_module)m, uses[i].role);
            ERROR(err);
            struct pfx_key *key = make(&b, uses[i].use, PFX_KEY_RSA_2048, 100, true), *found = NULL;
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(8192);
            assert_ok(pfx_key_attributes(b.session, key, collect, &text, &err), &err);
            assert_non_null(strstr((const char *)text.data, uses[i].says));
            assert_non_null(strstr((const char *)text.data, "CKA_SENSITIVE true"));
            assert_non_null(strstr((const char *)text.data, "CKA_DERIVE false"));
            struct pfx_key_id id = env_id(100);
            assert_ok(pfx_key_find(b.session, uses[i].use, &id, true, pfx_key_spki(key), &found,
                                   &err), &err);
            assert_non_null(found);
            assert_int_equal(pfx_key_spki(found).len, pfx_key_spki(key).len);
            if (pfx_key_spki(key).len)
                assert_memory_equal(pfx_key_spki(found).data, pfx_key_spki(key).data,
                                    pfx_key_spki(key).len);
            pfx_key_free(found);
            /* Not for another use: strict names the attribute. */
            if (uses[i].use == PFX_USE_CLIENT) {
                assert_class(pfx_key_find(b.session, PFX_USE_SECRETS, &id, true, any, &found, &err),
                             PFX_CLASS_INTEGRITY);
                assert_text(&err, "CKA_DECRYPT is false and must be true");
            }
            if (b.probe.modifiable_kept && uses[i].use != PFX_USE_ANCHOR)
                assert_int_not_equal(env_set_bool(b.session, pfx_key_handle(key), CKA_DERIVE, true),
                                     CKR_OK);
            destroy(&b, key);
            found = NULL;
            err = PFX_ERROR_NONE;
            assert_ok(pfx_key_find(b.session, uses[i].use, &id, true, any, &found, &err), &err);
            assert_null(found);
            bench_close(&b);
        }
    }
}

static void doubled(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m) || !env_can[m].keeps_doubles)
            continue;
        struct bench b = bench_open((enum env_module)m, PFX_ROLE_USERS);
        ERROR(err);
        struct pfx_key *one = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 200, true);
        struct pfx_key *two = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 200, true), *found = NULL;
        struct pfx_key_id id = env_id(200);
        assert_class(pfx_key_find(b.session, PFX_USE_USER, &id, true, any, &found, &err),
                     PFX_CLASS_INTEGRITY);
        assert_text(&err, "2 private keys with CKA_ID 000000c8");
        assert_text(&err, "HSM's own tool");
        assert_null(found);
        CK_FUNCTION_LIST *f = pfx_session_module(b.session);
        CK_SESSION_HANDLE h = pfx_session_handle(b.session);
        assert_int_equal(f->C_DestroyObject(h, pfx_key_handle(one)), CKR_OK);
        /* Now the public halves are two. */
        err = PFX_ERROR_NONE;
        assert_class(pfx_key_find(b.session, PFX_USE_USER, &id, true, any, &found, &err),
                     PFX_CLASS_INTEGRITY);
        assert_text(&err, "2 public keys");
        assert_int_equal(f->C_DestroyObject(h, one->public_handle), CKR_OK);
        err = PFX_ERROR_NONE;
        assert_ok(pfx_key_find(b.session, PFX_USE_USER, &id, true, any, &found, &err), &err);
        pfx_key_free(found);
        pfx_key_free(one);
        destroy(&b, two);
        bench_close(&b);
    }
}

/* Keys that there is one of: no second one, not even where the token would take it. */
static void vacant(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct bench b = bench_open((enum env_module)m, PFX_ROLE_LOG);
        ERROR(err);
        struct pfx_key *one = make(&b, PFX_USE_LOG, PFX_KEY_EC_P256, 210, true), *two = NULL;
        struct pfx_key_id id = env_id(210);
        assert_class(pfx_key_make(b.session, PFX_USE_LOG, PFX_KEY_EC_P256, &id, "two", true, &two,
                                  &err),
                     PFX_CLASS_REFUSED);
        assert_text(&err, "is there already");
        assert_null(two);
        destroy(&b, one);
        bench_close(&b);
    }
}

/* Puts the public half of `other` where that of `key` was. */
static void swap_public(struct bench *b, struct pfx_key *key, struct pfx_key *other)
{
    static const CK_OBJECT_CLASS cls = CKO_PUBLIC_KEY;
    static const CK_ULONG ec = CKK_EC, rsa = CKK_RSA;
    CK_FUNCTION_LIST *f = pfx_session_module(b->session);
    CK_SESSION_HANDLE h = pfx_session_handle(b->session);
    ERROR(err);
    assert_int_equal(f->C_DestroyObject(h, key->public_handle), CKR_OK);
    struct pfx_template t = {.n = 0};
    bool is_rsa = pfx_key_type_is_rsa(key->type);
    pfx_template_add(&t, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(&t, CKA_KEY_TYPE, is_rsa ? &rsa : &ec);
    pfx_template_use(&t, b->token, key->use, PFX_HALF_PUBLIC, true);
    pfx_template_add(&t, CKA_ID, key->id.bytes, sizeof key->id.bytes);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf one = pfx_buf_make(4096);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf two = pfx_buf_make(4096);
    if (is_rsa) {
        assert_ok(pfx_spki_rsa_parts(pfx_key_spki(other), &one, &two, &err), &err);
        pfx_template_add(&t, CKA_MODULUS, one.data, one.len);
        pfx_template_add(&t, CKA_PUBLIC_EXPONENT, two.data, two.len);
    } else {
        struct pfx_bytes point = pfx_spki_point(pfx_key_spki(other)), params;
        assert_int_equal(pfx_ec_params(key->type, &params), CKR_OK);
        uint8_t head[2] = {0x04, (uint8_t)point.len};
        assert_true(pfx_buf_add(&one, head, 2) && pfx_buf_add(&one, point.data, point.len));
        pfx_template_add(&t, CKA_EC_PARAMS, params.data, params.len);
        pfx_template_add(&t, CKA_EC_POINT, one.data, one.len);
    }
    CK_OBJECT_HANDLE public;
    assert_int_equal(f->C_CreateObject(h, t.at, t.n, &public), CKR_OK);
    key->public_handle = public;
}

static void swapped(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        static const struct {
            enum pfx_role role;
            enum pfx_key_use use;
            enum pfx_key_type type;
        } kinds[] = {{PFX_ROLE_LOG, PFX_USE_LOG, PFX_KEY_EC_P256},
                     {PFX_ROLE_SERVICE, PFX_USE_CLIENT, PFX_KEY_RSA_2048}};
        for (size_t i = 0; i < 2; i++) {
            struct bench b = bench_open((enum env_module)m, kinds[i].role);
            ERROR(err);
            struct pfx_key *key = make(&b, kinds[i].use, kinds[i].type, 300, true), *found = NULL;
            struct pfx_key *other = make(&b, kinds[i].use, kinds[i].type, 301, true);
            struct pfx_key_id id = env_id(300), other_id = env_id(301);
            /* The wrong key for what was expected. */
            assert_class(pfx_key_find(b.session, kinds[i].use, &other_id, true, pfx_key_spki(key),
                                      &found, &err), PFX_CLASS_INTEGRITY);
            assert_text(&err, "isn't the expected one");
            swap_public(&b, key, other);
            err = PFX_ERROR_NONE; /* with and without knowing what to expect */
            assert_class(pfx_key_find(b.session, kinds[i].use, &id, true, any, &found, &err),
                         PFX_CLASS_INTEGRITY);
            err = PFX_ERROR_NONE;
            assert_class(pfx_key_find(b.session, kinds[i].use, &id, true, pfx_key_spki(key), &found,
                                      &err), PFX_CLASS_INTEGRITY);
            assert_null(found);
            destroy(&b, key);
            destroy(&b, other);
            bench_close(&b);
        }
    }
}

/* The connector's provider made it: more usage flags than ours, but never extractable. */
static CK_OBJECT_HANDLE foreign_key(struct bench *b, unsigned n, bool extractable,
                                    CK_OBJECT_HANDLE *ret_public)
{
    struct pfx_key_id id = env_id(n);
    static const CK_ULONG bits = 2048;
    static const uint8_t f4[] = {1, 0, 1};
    struct pfx_template private = {.n = 0}, public = {.n = 0};
    pfx_template_bool(&private, CKA_TOKEN, true);
    pfx_template_bool(&private, CKA_PRIVATE, true);
    pfx_template_bool(&private, CKA_SENSITIVE, true);
    pfx_template_bool(&private, CKA_EXTRACTABLE, extractable);
    pfx_template_bool(&private, CKA_DECRYPT, true);
    pfx_template_bool(&private, CKA_SIGN, true);
    pfx_template_add(&private, CKA_ID, id.bytes, sizeof id.bytes);
    pfx_template_bool(&public, CKA_TOKEN, true);
    pfx_template_bool(&public, CKA_ENCRYPT, true);
    pfx_template_add(&public, CKA_ID, id.bytes, sizeof id.bytes);
    pfx_template_ulong(&public, CKA_MODULUS_BITS, &bits);
    pfx_template_add(&public, CKA_PUBLIC_EXPONENT, f4, sizeof f4);
    CK_MECHANISM m = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE h;
    assert_int_equal(pfx_session_module(b->session)->C_GenerateKeyPair(
                         pfx_session_handle(b->session), &m, public.at, public.n, private.at,
                         private.n, ret_public, &h), CKR_OK);
    return h;
}

static void adopted(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct bench b = bench_open((enum env_module)m, PFX_ROLE_ENCRYPTION);
        CK_FUNCTION_LIST *f = pfx_session_module(b.session);
        CK_SESSION_HANDLE h = pfx_session_handle(b.session);
        for (int extractable = 0; extractable < 2; extractable++) {
            ERROR(err);
            struct pfx_key *found = NULL;
            CK_OBJECT_HANDLE public, private = foreign_key(&b, 400, extractable != 0, &public);
            struct pfx_key_id id = env_id(400);
            assert_class(pfx_key_find(b.session, PFX_USE_ENCRYPTION, &id, true, any, &found, &err),
                         PFX_CLASS_INTEGRITY);
            err = PFX_ERROR_NONE;
            pfx_result r =
                pfx_key_find(b.session, PFX_USE_ENCRYPTION, &id, false, any, &found, &err);
            if (extractable) {
                assert_class(r, PFX_CLASS_INTEGRITY);
                assert_text(&err, "EXTRACTABLE");
            } else {
                assert_ok(r, &err);
                pfx_key_free(found);
            }
            assert_int_equal(f->C_DestroyObject(h, private), CKR_OK);
            assert_int_equal(f->C_DestroyObject(h, public), CKR_OK);
        }
        bench_close(&b);
    }
}

static bool count_row(void *ctx, const struct pfx_key_row *row)
{
    unsigned *n = ctx;
    assert_int_equal(row->id_len, PFX_KEY_ID_SIZE);
    assert_int_equal(row->bits, 256);
    assert_string_equal(row->label, "test key");
    (*n)++;
    return true;
}

static void no_list_cut_off(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct bench b = bench_open((enum env_module)m, PFX_ROLE_USERS);
        ERROR(err);
        enum { MANY = 300 };
        struct pfx_key *keys[MANY];
        for (unsigned i = 0; i < MANY; i++)
            keys[i] = make(&b, PFX_USE_MAC, PFX_KEY_RSA_2048, 1000 + i, true);
        unsigned n = 0;
        assert_ok(pfx_keys_list(b.session, count_row, &n, &err), &err);
        assert_int_equal(n, MANY);
        for (unsigned i = 0; i < MANY; i++)
            destroy(&b, keys[i]);
        n = 0;
        assert_ok(pfx_keys_list(b.session, count_row, &n, &err), &err);
        assert_int_equal(n, 0);
        bench_close(&b);
    }
}

static void session_keys_end(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct bench b = bench_open((enum env_module)m, PFX_ROLE_USERS);
        ERROR(err);
        size_t before = env_objects(b.session);
        struct pfx_key *key = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 500, false);
        assert_true(env_objects(b.session) > before);
        pfx_key_free(key);
        assert_int_equal(env_objects(b.session), before);
        /* Also when its session is back in the pool. */
        key = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 501, false);
        pfx_session_release(b.session);
        pfx_key_free(key);
        assert_ok(pfx_session_acquire(b.token, true, &b.session, &err), &err);
        assert_int_equal(env_objects(b.session), before);
        /* A session key doesn't outlive its module; a handle of before isn't used. */
        key = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 502, false);
        pfx_session_saw(b.session, CKR_DEVICE_REMOVED);
        pfx_session_release(b.session);
        assert_ok(pfx_session_acquire(b.token, true, &b.session, &err), &err);
        uint8_t digest[32] = {1};
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(512);
        assert_class(pfx_key_sign_digest(b.session, key, PFX_HASH_SHA256,
                                         (struct pfx_bytes){digest, 32}, &out, &err),
                     PFX_CLASS_DEVICE);
        assert_text(&err, "temporary key");
        pfx_key_free(key);
        assert_int_equal(env_objects(b.session), before);
        bench_close(&b);
    }
}

/* An idle session that the token dropped must not keep a session key alive. */
static void session_key_and_dropped_session(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct bench b = bench_open(ENV_SOFTHSM, PFX_ROLE_USERS);
    ERROR(err);
    size_t before = env_objects(b.session);
    struct pfx_session *first = b.session;
    assert_ok(pfx_session_acquire(b.token, true, &b.session, &err), &err);
    struct pfx_key *key = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 510, false);
    CK_FUNCTION_LIST *f = pfx_session_module(first);
    assert_int_equal(f->C_CloseSession(pfx_session_handle(first)), CKR_OK);
    pfx_session_release(first);
    pfx_key_free(key);
    assert_int_equal(env_objects(b.session), before);
    bench_close(&b);
}

/* Without the login a token shows public keys only: that isn't "no such key". */
static void not_seen_without_login(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct bench b = bench_open(ENV_SOFTHSM, PFX_ROLE_USERS);
    ERROR(err);
    struct pfx_key *key = make(&b, PFX_USE_USER, PFX_KEY_EC_P256, 520, true), *found = NULL;
    struct pfx_key_id id = env_id(520);
    struct pfx_bytes none = {NULL, 0};
    pfx_session_release(b.session);
    pfx_token_logout(b.token, PFX_ROLE_USERS);
    assert_ok(pfx_session_acquire(b.token, true, &b.session, &err), &err);
    assert_class(pfx_key_find(b.session, PFX_USE_USER, &id, true, none, &found, &err),
                 PFX_CLASS_DEVICE);
    assert_string_equal(err.code, "CKR_USER_NOT_LOGGED_IN");
    assert_null(found);
    pfx_session_release(b.session);
    env_login(b.token);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_session_acquire(b.token, true, &b.session, &err), &err);
    assert_ok(pfx_key_find(b.session, PFX_USE_USER, &id, true, none, &found, &err), &err);
    assert_non_null(found);
    pfx_key_free(key);
    destroy(&b, found);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_use),
        cmocka_unit_test(doubled),
        cmocka_unit_test(vacant),
        cmocka_unit_test(swapped),
        cmocka_unit_test(adopted),
        cmocka_unit_test(no_list_cut_off),
        cmocka_unit_test(session_keys_end),
        cmocka_unit_test(session_key_and_dropped_session),
        cmocka_unit_test(not_seen_without_login),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
