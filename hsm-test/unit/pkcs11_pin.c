/* PIN rules: no second try of a wrong PIN, across restarts and crashes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pkcs11/pool.h"
#include "pkcs11_env.h"

static pfx_result try_pin(struct pfx_token *token, struct pfx_pin_guard *guard, const char *text,
                          struct pfx_error *err)
{
    PFX_AUTOSECRET struct pfx_secret *pin = env_secret(text);
    return pfx_token_login(token, guard, pin, true, err);
}

static struct pfx_token *open_only(enum env_module module)
{
    ERROR(err);
    char uri[64];
    snprintf(uri, sizeof uri, "pkcs11:token=%s", env_can[module].label);
    struct pfx_role_conf conf = env_conf(module, uri);
    struct pfx_token *token = NULL;
    assert_ok(pfx_token_open(PFX_ROLE_USERS, &conf, 1, &token, &err), &err);
    return token;
}

/* As another program does: the right PIN, which clears the token's flag. */
static void raw_login(struct pfx_token *token)
{
    ERROR(err);
    struct pfx_session *session = NULL;
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    CK_FUNCTION_LIST *f = pfx_session_module(session);
    CK_UTF8CHAR pin[] = ENV_PIN;
    assert_int_equal(f->C_Login(pfx_session_handle(session), CKU_USER, pin, sizeof pin - 1),
                     CKR_OK);
    assert_int_equal(f->C_Logout(pfx_session_handle(session)), CKR_OK);
    pfx_session_release(session);
}

static unsigned logins, login_roles;
static CK_RV last_login;

static void count_login(const struct pfx_token_facts *facts, unsigned roles, CK_RV rv)
{
    assert_true(facts->label[0] != '\0');
    logins++;
    login_roles = roles;
    last_login = rv;
}

/* Told of each C_Login, and of none that wasn't made. */
static void logins_are_told(void **state)
{
    (void)state;
    char *folder = pfx_asprintf("%s/guard-told", env_folder());
    if (env_has(ENV_SOFTHSM)) {
        ERROR(err);
        struct pfx_pin_guard *guard = NULL;
        assert_ok(pfx_pin_guard_open(folder, &guard, &err), &err);
        struct pfx_token *token = open_only(ENV_SOFTHSM);
        pfx_login_trace = count_login;
        assert_true(pfx_failed(try_pin(token, guard, "wrong-told", &err)));
        assert_int_equal(logins, 1);
        assert_int_equal(last_login, CKR_PIN_INCORRECT);
        assert_true(login_roles != 0);
        err = PFX_ERROR_NONE;
        assert_true(pfx_failed(try_pin(token, guard, "wrong-told", &err)));
        assert_int_equal(logins, 1);
        raw_login(token);
        err = PFX_ERROR_NONE;
        assert_ok(try_pin(token, guard, ENV_PIN, &err), &err);
        assert_int_equal(logins, 2);
        assert_int_equal(last_login, CKR_OK);
        pfx_login_trace = NULL;
        pfx_token_close(token);
        pfx_pin_guard_free(guard);
    }
    free(folder);
}

static void wrong_pin(void **state)
{
    (void)state;
    char *folder = pfx_asprintf("%s/guard-wrong", env_folder());
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        for (int restart = 0; restart < 2; restart++) {
            ERROR(err);
            struct pfx_pin_guard *guard = NULL;
            assert_ok(pfx_pin_guard_open(folder, &guard, &err), &err);
            struct pfx_token *token = open_only((enum env_module)m);
            env_count_reset();
            if (restart == 0) {
                assert_class(try_pin(token, guard, "wrong-1", &err), PFX_CLASS_USAGE);
                assert_string_equal(err.code, "CKR_PIN_INCORRECT");
                assert_int_equal(env_count("C_Login"), 1);
            }
            if (env_can[m].locks_by_flag) {
                /* SoftHSM sets COUNT_LOW: nothing is tried, not even another PIN, until somebody
                 * has logged in well. */
                err = PFX_ERROR_NONE;
                assert_class(try_pin(token, guard, "wrong-2", &err), PFX_CLASS_REFUSED);
                assert_string_equal(err.code, "CKF_USER_PIN_COUNT_LOW");
                raw_login(token);
            }
            env_count_reset();
            for (int again = 0; again < 3; again++) {
                err = PFX_ERROR_NONE;
                assert_class(try_pin(token, guard, "wrong-1", &err), PFX_CLASS_REFUSED);
                assert_text(&err, "isn't tried again");
            }
            assert_int_equal(env_count("C_Login"), 0);
            assert_false(pfx_token_logged_in(token));
            if (restart == 1) { /* the credential was changed */
                err = PFX_ERROR_NONE;
                assert_ok(try_pin(token, guard, ENV_PIN, &err), &err);
                assert_true(pfx_token_logged_in(token));
            } else if (env_can[m].locks_by_flag) {
                PFX_AUTOSECRET struct pfx_secret *pin = env_secret("wrong-9");
                err = PFX_ERROR_NONE;
                assert_class(pfx_token_login(token, guard, pin, true, &err), PFX_CLASS_USAGE);
            }
            pfx_token_close(token);
            pfx_pin_guard_free(guard);
        }
    }
    free(folder);
}

/* A process that dies inside C_Login. */
static char *copy_from, *copy_to;

static void copy_at_login(const char *function)
{
    if (strcmp(function, "C_Login") != 0)
        return;
    env_at_call = NULL;
    assert_int_equal(mkdir(copy_to, 0700), 0);
    char *name = env_only_file(copy_from);
    char *from = pfx_asprintf("%s/%s", copy_from, name), *to = pfx_asprintf("%s/%s", copy_to, name);
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    for (int c; (c = fgetc(in)) != EOF;)
        fputc(c, out);
    fclose(in);
    fclose(out);
    free(name);
    free(from);
    free(to);
}

static void crash_in_login(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    ERROR(err);
    struct pfx_pin_guard *guard = NULL;
    copy_from = pfx_asprintf("%s/guard-crash", env_folder());
    for (int crash = 1; crash <= 3; crash++) {
        /* What is on the disk in the middle of C_Login is what a crash leaves. */
        copy_to = pfx_asprintf("%s/guard-crash-%d", env_folder(), crash);
        struct pfx_token *token = open_only(ENV_SOFTHSM);
        assert_ok(pfx_pin_guard_open(copy_from, &guard, &err), &err);
        env_count_reset();
        env_at_call = copy_at_login;
        pfx_result r = try_pin(token, guard, ENV_PIN, &err);
        env_at_call = NULL;
        if (crash < 3) {
            assert_ok(r, &err); /* once more, since the token's flags are clean */
        } else {
            assert_class(r, PFX_CLASS_REFUSED);
            assert_text(&err, "without an answer that can be understood");
            assert_int_equal(env_count("C_Login"), 0);
        }
        pfx_pin_guard_free(guard);
        pfx_token_close(token);
        free(copy_from);
        copy_from = copy_to;
    }
    free(copy_from);
}

/* A code that only the vendor understands may say that the PIN is wrong: two tries at most. A
 * device error says nothing about it, and a good login forgets both. */
static void vendor_code(void **state)
{
    (void)state;
    ERROR(err);
    char *folder = pfx_asprintf("%s/guard-vendor", env_folder());
    struct pfx_pin_guard *guard = NULL;
    assert_ok(pfx_pin_guard_open(folder, &guard, &err), &err);
    struct pfx_token_facts facts = {.label = "vendor", .serial = "1"};
    PFX_AUTOSECRET struct pfx_secret *pin = env_secret("vendor-pin");
    static const CK_RV verdicts[] = {CKR_VENDOR_DEFINED | 0x42, CKR_OK, CKR_DEVICE_ERROR,
                                     CKR_DEVICE_ERROR, CKR_VENDOR_DEFINED | 0x42,
                                     CKR_VENDOR_DEFINED | 0x42};
    uint8_t hash[PFX_PIN_HASH_SIZE];
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        assert_ok(pfx_pin_guard_begin(guard, &facts, pin, PFX_PIN_FILE, hash, &err), &err);
        assert_ok(pfx_pin_guard_end(guard, &facts, hash, verdicts[i], &err), &err);
    }
    assert_class(pfx_pin_guard_begin(guard, &facts, pin, PFX_PIN_FILE, hash, &err),
                 PFX_CLASS_REFUSED);
    assert_text(&err, "vendor's own code");
    pfx_pin_guard_free(guard);
    free(folder);
}

static void guard_folder(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_pin_guard *guard = NULL;
    char *open = pfx_asprintf("%s/guard-open", env_folder());
    assert_int_equal(mkdir(open, 0700), 0);
    assert_int_equal(chmod(open, 0777), 0);
    assert_class(pfx_pin_guard_open(open, &guard, &err), PFX_CLASS_INTEGRITY);
    err = PFX_ERROR_NONE;
    assert_class(pfx_pin_guard_open("/proc/nonexistent/x", &guard, &err), PFX_CLASS_USAGE);
    assert_int_equal(chmod(open, 0700), 0);
    free(open);
    if (!env_has(ENV_SOFTHSM))
        return;
    /* What can't be understood forbids a login. */
    char *folder = pfx_asprintf("%s/guard-torn", env_folder());
    err = PFX_ERROR_NONE;
    assert_ok(pfx_pin_guard_open(folder, &guard, &err), &err);
    struct pfx_token *token = open_only(ENV_SOFTHSM);
    assert_ok(try_pin(token, guard, ENV_PIN, &err), &err);
    pfx_token_close(token);
    char *name = env_only_file(folder), *path = pfx_asprintf("%s/%s", folder, name);
    assert_int_equal(truncate(path, 20), 0);
    token = open_only(ENV_SOFTHSM);
    env_count_reset();
    assert_class(try_pin(token, guard, ENV_PIN, &err), PFX_CLASS_INTEGRITY);
    assert_text(&err, path);
    assert_int_equal(env_count("C_Login"), 0);
    pfx_token_close(token);
    pfx_pin_guard_free(guard);
    free(path);
    free(name);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logins_are_told),
        cmocka_unit_test(wrong_pin),
        cmocka_unit_test(crash_in_login),
        cmocka_unit_test(vendor_code),
        cmocka_unit_test(guard_folder),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
