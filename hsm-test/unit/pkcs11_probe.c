/* What the probe says of each token, against what was measured by hand; and that it leaves nothing.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pkcs11_env.h"

static void print_probe(const struct env_can *can, const struct pfx_probe *p)
{
    static const char *const roles[] = {"encryption", "users", "service", "log"};
    print_message("--- %s, %s: way in %d, kwp %s, tiers %d %d\n", can->name, roles[p->role],
                  p->way_in, pfx_ckm_name(p->kwp), p->tier_rsa, p->tier_ec);
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
        assert_int_equal(p.tier_rsa, env_can[m].direct ? PFX_TIER_DIRECT : PFX_TIER_TRANSIT);
        assert_int_equal(p.tier_ec, env_can[m].direct ? PFX_TIER_DIRECT : PFX_TIER_TRANSIT);
        assert_int_equal(p.way_in, PFX_WAY_UNWRAP);
        assert_int_equal(p.kwp, m == ENV_NSS ? CKM_AES_KEY_WRAP_KWP : CKM_AES_KEY_WRAP_PAD);
        assert_int_equal(p.blob_rsa, p.kwp);
        assert_int_equal(p.blob_ec, p.kwp);
        assert_true(p.hmac && p.ecdsa);
        assert_int_equal(p.seal_sha512, env_can[m].oaep_sha512);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(users),
        cmocka_unit_test(others),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
