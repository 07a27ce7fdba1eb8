/* What the probe says of each token, against what was measured by hand; and that it leaves nothing.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pkcs11/pool.h"
#include "pkcs11_env.h"

static void print_probe(const struct env_can *can, const struct pfx_probe *p)
{
    static const char *const roles[] = {"encryption", "users", "service", "log"};
    print_message("--- %s, %s: way in %d, kwp %s, tiers %d %d, compat %d %d\n", can->name,
                  roles[p->role], p->way_in, pfx_ckm_name(p->kwp), p->tier[PFX_PROFILE_MODERN].rsa,
                  p->tier[PFX_PROFILE_MODERN].ec, p->tier[PFX_PROFILE_COMPAT].rsa,
                  p->tier[PFX_PROFILE_COMPAT].ec);
    for (size_t i = 0; i < p->n_rows; i++) {
        const struct pfx_probe_row *r = &p->rows[i];
        print_message("  %-28s %s %-5s %-28s %s\n", pfx_ckm_name(r->mechanism),
                      r->advertised ? "adv" : "   ", r->works ? "works" : "no", pfx_ckr_name(r->rv),
                      r->use);
    }
    if (p->missing_any)
        print_message("  missing: %s\n", p->missing);
    for (size_t i = 0; i < p->n_conflicts; i++)
        print_message("  conflict: %s\n", p->conflicts[i]);
}

/* Of a token in health: what it can't do, it says once and for all. */
static void probe(enum env_module module, enum pfx_role role, struct pfx_probe *ret)
{
    ERROR(err);
    struct pfx_token *token = env_open(module, role, 2);
    struct pfx_session *session = NULL;
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    size_t before = env_objects(session);
    pfx_session_release(session);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_ok(pfx_probe_run(token, role, ret, &err), &err);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    assert_int_equal(env_objects(session), before);
    pfx_session_release(session);
    print_probe(&env_can[module], ret);
    assert_false(ret->passing);
    print_message("  %.2f s\n",
                  (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    pfx_token_close(token);
}

static void users(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe p;
        probe((enum env_module)m, PFX_ROLE_USERS, &p);
        assert_false(p.missing_any);
        enum pfx_tier tier = env_can[m].direct ? PFX_TIER_DIRECT : PFX_TIER_TRANSIT;
        for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
            assert_int_equal(pfx_probe_tier(&p, (enum pfx_profile)i, PFX_KEY_RSA_4096), tier);
            assert_int_equal(pfx_probe_tier(&p, (enum pfx_profile)i, PFX_KEY_EC_P384), tier);
        }
        assert_int_equal(p.way_in, PFX_WAY_UNWRAP);
        assert_int_equal(p.kwp, m == ENV_NSS ? CKM_AES_KEY_WRAP_KWP : CKM_AES_KEY_WRAP_PAD);
        assert_int_equal(p.blob_rsa, p.kwp);
        assert_int_equal(p.blob_ec, p.kwp);
        assert_true(p.hmac && p.ecdsa);
        assert_true(p.seals);
        assert_int_equal(p.allowed_mechanisms_kept, env_can[m].allowed_mechanisms);
        for (int t = 0; t < PFX_KEY_TYPE_COUNT; t++)
            assert_true(p.key_types[t]);
    }
}

static void others(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_probe p;
        probe((enum env_module)m, PFX_ROLE_ENCRYPTION, &p);
        assert_false(p.missing_any);
        assert_int_equal(p.oaep_sha512, env_can[m].oaep_sha512);
        assert_true(p.raw_rsa);
        probe((enum env_module)m, PFX_ROLE_SERVICE, &p);
        assert_false(p.missing_any);
        assert_int_equal(p.sign_rsa, CKM_RSA_PKCS);
        assert_int_equal(p.sign_pss, CKM_SHA256_RSA_PKCS_PSS);
        probe((enum env_module)m, PFX_ROLE_LOG, &p);
        assert_false(p.missing_any);
        assert_true(p.ecdsa);
        assert_int_equal(p.eddsa, env_can[m].ed25519);
    }
}

/* A module in trouble: one function fails, one mechanism of it or all. */
static struct {
    CK_FUNCTION_LIST list, *real;
    CK_MECHANISM_TYPE only; /* CK_UNAVAILABLE_INFORMATION: every one */
    CK_RV wrap, generate;   /* CKR_OK: as the real module */
} faulty;

static bool hit(CK_RV rv, const CK_MECHANISM *mechanism)
{
    return rv != CKR_OK && (faulty.only == CK_UNAVAILABLE_INFORMATION ||
                            faulty.only == mechanism->mechanism);
}

static CK_RV faulty_wrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE by,
                         CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *len)
{
    return hit(faulty.wrap, mechanism)
               ? faulty.wrap
               : faulty.real->C_WrapKey(session, mechanism, by, key, out, len);
}

static CK_RV faulty_generate(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                             CK_ATTRIBUTE *public, CK_ULONG n_public, CK_ATTRIBUTE *private,
                             CK_ULONG n_private, CK_OBJECT_HANDLE *ret_public,
                             CK_OBJECT_HANDLE *ret_private)
{
    return hit(faulty.generate, mechanism)
               ? faulty.generate
               : faulty.real->C_GenerateKeyPair(session, mechanism, public, n_public, private,
                                                n_private, ret_public, ret_private);
}

static void break_module(struct pfx_token *token)
{
    faulty.real = token->module->functions;
    faulty.list = *faulty.real;
    faulty.list.C_WrapKey = faulty_wrap;
    faulty.list.C_GenerateKeyPair = faulty_generate;
    faulty.only = CK_UNAVAILABLE_INFORMATION;
    faulty.wrap = faulty.generate = CKR_OK;
    token->module->functions = &faulty.list;
}

static void run(struct pfx_token *token, struct pfx_probe *ret)
{
    ERROR(err);
    assert_ok(pfx_probe_run(token, PFX_ROLE_USERS, ret, &err), &err);
}

static void assert_proven(struct pfx_token *token, const struct pfx_probe *want)
{
    struct pfx_probe proven;
    pfx_token_proven(token, &proven);
    assert_memory_equal(proven.tier, want->tier, sizeof want->tier);
    assert_memory_equal(proven.key_types, want->key_types, sizeof want->key_types);
    assert_int_equal(proven.way_in, want->way_in);
    assert_int_equal(proven.kwp, want->kwp);
    assert_int_equal(proven.blob_rsa, want->blob_rsa);
    assert_int_equal(proven.blob_ec, want->blob_ec);
    assert_int_equal(proven.seals, want->seals);
}

/* What failed for a reason that may pass is told from what the token can't do, and takes nothing
 * away that was proven before. */
static void disturbed(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        struct pfx_token *token = env_open((enum env_module)m, PFX_ROLE_USERS, 2);
        struct pfx_probe good, bad;
        break_module(token);

        /* At the first probe: what it found holds until the next one. */
        faulty.wrap = CKR_FUNCTION_FAILED;
        run(token, &bad);
        assert_true(bad.passing && bad.missing_any);
        assert_int_equal(pfx_probe_tier(&bad, PFX_PROFILE_MODERN, PFX_KEY_RSA_2048), PFX_TIER_NONE);
        assert_proven(token, &bad);
        faulty.wrap = CKR_OK;
        run(token, &good);
        assert_false(good.passing || good.missing_any);
        assert_proven(token, &good);

        /* One profile's mechanism, then all wrapping, then every new key pair. */
        if (env_can[m].direct) {
            faulty.only = CKM_DES3_CBC_PAD;
            faulty.wrap = CKR_GENERAL_ERROR;
            run(token, &bad);
            assert_true(bad.passing);
            assert_false(bad.missing_any);
            assert_int_equal(bad.tier[PFX_PROFILE_MODERN].rsa, PFX_TIER_DIRECT);
            assert_int_equal(bad.tier[PFX_PROFILE_COMPAT].rsa, PFX_TIER_TRANSIT);
            assert_int_equal(bad.tier[PFX_PROFILE_COMPAT].ec, PFX_TIER_TRANSIT);
            assert_proven(token, &good);
        }
        faulty.only = CK_UNAVAILABLE_INFORMATION;
        faulty.wrap = CKR_DEVICE_MEMORY;
        run(token, &bad);
        assert_true(bad.passing && bad.missing_any);
        assert_proven(token, &good);
        faulty.wrap = CKR_OK;
        faulty.generate = CKR_FUNCTION_FAILED;
        run(token, &bad);
        assert_true(bad.passing && bad.missing_any);
        assert_proven(token, &good);
        faulty.generate = CKR_OK;

        /* What lasts counts: said twice. */
        faulty.wrap = CKR_KEY_NOT_WRAPPABLE;
        run(token, &bad);
        assert_true(bad.passing && bad.missing_any);
        assert_proven(token, &good);
        run(token, &bad);
        assert_false(bad.passing);
        assert_true(bad.missing_any);
        assert_proven(token, &bad);
        faulty.wrap = CKR_OK;
        run(token, &bad);
        assert_false(bad.passing || bad.missing_any);
        assert_proven(token, &good);
        token->module->functions = faulty.real;
        pfx_token_close(token);
    }
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(pfx_ckm_name(CKM_AES_CBC_PAD), "CKM_AES_CBC_PAD");
    assert_string_equal(pfx_ckm_name(CKM_AES_KEY_WRAP_KWP), "CKM_AES_KEY_WRAP_KWP");
    assert_string_equal(pfx_ckm_name(0x80001234UL), "0x80001234");
    assert_string_equal(pfx_ckr_name(CKR_OK), "CKR_OK");
    assert_string_equal(pfx_ckr_name(CKR_DEVICE_ERROR), "CKR_DEVICE_ERROR");
    assert_string_equal(pfx_ckr_name(0x80000042UL), "0x80000042");
    ERROR(err);
    assert_class(pfx_ckr_fail(&err, CKR_OK, "C_Sign", "t", "%s", ""), PFX_CLASS_OK);
    assert_class(pfx_ckr_fail(&err, CKR_DEVICE_REMOVED, "C_Sign", "t", "More: %d.", 7),
                 PFX_CLASS_DEVICE);
    assert_text(&err, "More: 7.");
    assert_string_equal(err.code, "CKR_DEVICE_REMOVED");
    static const CK_RV pass[] = {CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR,
                                 CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_HOST_MEMORY,
                                 0x80000042UL};
    static const CK_RV stay[] = {CKR_OK, CKR_MECHANISM_INVALID, CKR_KEY_UNEXTRACTABLE,
                                 CKR_ARGUMENTS_BAD, CKR_KEY_NOT_WRAPPABLE,
                                 CKR_FUNCTION_NOT_SUPPORTED, CKR_ATTRIBUTE_VALUE_INVALID};
    for (size_t i = 0; i < sizeof pass / sizeof pass[0]; i++)
        assert_true(pfx_ckr_passes(pass[i]));
    for (size_t i = 0; i < sizeof stay / sizeof stay[0]; i++)
        assert_false(pfx_ckr_passes(stay[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(users),
        cmocka_unit_test(others),
        cmocka_unit_test(disturbed),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
