/* Tokens, logins, sessions: how they are named, opened and shared. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11/pool.h"
#include "pkcs11_env.h"

static pfx_result open_uri(enum env_module module, const char *uri, struct pfx_error *err)
{
    struct pfx_role_conf conf = env_conf(module, uri);
    struct pfx_token *token = NULL;
    pfx_result r = pfx_token_open(PFX_ROLE_USERS, &conf, 1, &token, err);
    pfx_token_close(token);
    return r;
}

static void uris(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *says;
    } bad[] = {
        {"pkcs11:token=one?pin-value=secret1", "pin-value"},
        {"pkcs11:token=one?pin-source=file:/tmp/x", "pin-source"},
        {"pkcs11:token=one;slot-id=0", "slot-id"},
        {"pkcs11:slot-id=7", "slot-id"},
        {"pkcs11:token=one;;slot-id=0", "empty part"},
        {"pkcs11:token=one; ;slot-id=0", "%20"},
        {"pkcs11:token=one two", "%20"},
        {"\npkcs11:token=one", "%20"},
        {"pkcs11:token=\xC3\xA4", "%20"},
        {"pkcs11:token=one?module-path=/tmp/x.so", "module"},
        {"pkcs11:token=one;object=key", "object"},
        {"pkcs11:token=one;type=private", "object"},
        {"pkcs11:token=one;colour=red", "isn't known"},
        {"pkcs11:token=one?pin_value=secret1", "isn't known"}, /* misspelt: p11-kit passes over it */
        {"pkcs11:manufacturer=SoftHSM%20project", "label (token=) or serial"},
        {"pkcs11:", "label (token=) or serial"},
        {"token=one", "RFC 7512"},
        {"pkcs11:token=%zz", "RFC 7512"},
        {"", "RFC 7512"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ERROR(err);
        assert_class(open_uri(ENV_SOFTHSM, bad[i].uri, &err), PFX_CLASS_USAGE);
        assert_text(&err, bad[i].says);
        char line[1024];
        assert_null(strstr(pfx_error_line(&err, line, sizeof line), "secret1"));
    }
}

static void modules(void **state)
{
    (void)state;
    static const struct {
        const char *path, *says;
    } bad[] = {
        {"/nonexistent/libhsm.so", "can't be found"},
        {"/etc/passwd", "can't be loaded"},
        {"/lib/x86_64-linux-gnu/libm.so.6", "isn't a PKCS#11 module"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ERROR(err);
        struct pfx_role_conf conf = env_conf(ENV_SOFTHSM, "pkcs11:token=one");
        conf.module = (char *)(uintptr_t)bad[i].path;
        struct pfx_token *token = NULL;
        if (access(bad[i].path, F_OK) != 0 && i > 0)
            continue;
        assert_class(pfx_token_open(PFX_ROLE_LOG, &conf, 1, &token, &err), PFX_CLASS_USAGE);
        assert_text(&err, i == 1 ? "library that can be loaded" : bad[i].says);
        assert_null(token);
    }
}

static void exactly_one(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    env_softhsm_token("twin");
    env_softhsm_token("twin");
    ERROR(none);
    assert_class(open_uri(ENV_SOFTHSM, "pkcs11:token=nobody", &none), PFX_CLASS_USAGE);
    assert_text(&none, "\"one\" (serial ");
    assert_text(&none, "\"two\" (serial ");
    ERROR(many);
    assert_class(open_uri(ENV_SOFTHSM, "pkcs11:token=twin", &many), PFX_CLASS_USAGE);
    assert_text(&many, "2 tokens fit");
    assert_text(&many, "serial=");
    assert_null(strstr(many.text, "\"one\""));
    ERROR(err);
    struct pfx_role_conf conf = env_conf(ENV_SOFTHSM, "pkcs11:token=one");
    struct pfx_token *token = NULL;
    assert_ok(pfx_token_open(PFX_ROLE_USERS, &conf, 1, &token, &err), &err);
    const struct pfx_token_facts *facts = pfx_token_facts(token);
    assert_string_equal(facts->label, "one");
    assert_int_equal(strlen(facts->module_sha256), 64);
    char uri[64];
    snprintf(uri, sizeof uri, "pkcs11:serial=%s", facts->serial);
    pfx_token_close(token);
    assert_ok(open_uri(ENV_SOFTHSM, uri, &err), &err);
}

static void shared(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct pfx_token *users = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1);
    ERROR(err);
    struct pfx_role_conf conf =
        env_conf(ENV_SOFTHSM, "pkcs11:token=one;manufacturer=SoftHSM%20project");
    struct pfx_token *log = NULL, *other = NULL;
    assert_ok(pfx_token_open(PFX_ROLE_LOG, &conf, 1, &log, &err), &err);
    assert_true(pfx_token_same(users, log));
    assert_true(pfx_token_logged_in(log));
    other = env_open_uri(ENV_SOFTHSM, PFX_ROLE_SERVICE, "pkcs11:token=two", 1);
    assert_false(pfx_token_same(users, other));
    pfx_token_logout(users, PFX_ROLE_USERS); /* the log role still needs it */
    assert_true(pfx_token_logged_in(log));
    pfx_token_logout(log, PFX_ROLE_LOG);
    assert_false(pfx_token_logged_in(users));
    assert_true(pfx_token_logged_in(other));
    pfx_token_close(users);
    pfx_token_close(other);
    struct pfx_session *session = NULL;
    assert_ok(pfx_session_acquire(log, false, &session, &err), &err);
    pfx_session_release(session);
    pfx_token_close(log);
}

/* A ceremony opens and closes the encryption role on a token that other roles keep open. */
static void opened_again(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct pfx_token *users = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 3), *again = NULL;
    struct pfx_role_conf conf = env_conf(ENV_SOFTHSM, "pkcs11:token=one");
    ERROR(err);
    for (int i = 0; i < 4; i++) {
        assert_ok(pfx_token_open(PFX_ROLE_ENCRYPTION, &conf, i < 3 ? 3 : 4, &again, &err), &err);
        assert_true(pfx_token_same(users, again));
        assert_int_equal(users->max_sessions, i < 3 ? 6 : 7);
        pfx_token_close(again);
    }
    pfx_token_close(users);
}

/* The PIN of a second role isn't seen by a token that is logged in: another one than that which the
 * token took is refused, isn't tried, and doesn't replace it. */
static void second_pin(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct pfx_token *users = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1), *log = NULL;
    struct pfx_role_conf conf = env_conf(ENV_SOFTHSM, "pkcs11:token=one");
    PFX_AUTOSECRET struct pfx_secret *wrong = env_secret("wrong-second");
    ERROR(err);
    assert_ok(pfx_token_open(PFX_ROLE_LOG, &conf, 1, &log, &err), &err);
    env_count_reset();
    assert_class(pfx_token_login(log, env_guard(), wrong, true, &err), PFX_CLASS_USAGE);
    assert_text(&err, "only one for all roles");
    assert_int_equal(env_count("C_Login"), 0);
    err = PFX_ERROR_NONE;
    env_login(log);
    struct pfx_session *session = NULL;
    assert_ok(pfx_session_acquire(users, false, &session, &err), &err);
    pfx_session_saw(session, CKR_DEVICE_REMOVED);
    pfx_session_release(session);
    assert_ok(pfx_session_acquire(users, false, &session, &err), &err);
    assert_true(pfx_token_logged_in(users));
    pfx_session_release(session);
    pfx_token_close(log);
    pfx_token_close(users);
}

static void side_by_side(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM) || !env_has(ENV_NSS))
        return;
    struct pfx_token *a = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1);
    struct pfx_token *b = env_open(ENV_NSS, PFX_ROLE_SERVICE, 1);
    assert_string_equal(pfx_token_facts(b)->label, "pfxnss");
    ERROR(err);
    uint8_t random[32] = {0};
    for (int i = 0; i < 2; i++) {
        struct pfx_session *session = NULL;
        assert_ok(pfx_session_acquire(i ? a : b, false, &session, &err), &err);
        assert_ok(pfx_token_random(session, random, sizeof random, &err), &err);
        pfx_session_release(session);
    }
    struct pfx_role_conf conf = env_conf(ENV_NSS, "pkcs11:token=pfxnss");
    conf.parameters = (char *)(uintptr_t)"configdir='sql:/elsewhere'";
    struct pfx_token *token = NULL;
    assert_class(pfx_token_open(PFX_ROLE_LOG, &conf, 1, &token, &err), PFX_CLASS_USAGE);
    assert_text(&err, "only once");
    pfx_token_close(a);
    pfx_token_close(b);
}

/* A session on the encryption token only while it is logged in. */
static void no_session_without_login(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    struct pfx_token *token = env_open(ENV_SOFTHSM, PFX_ROLE_ENCRYPTION, 3);
    ERROR(err);
    struct pfx_session *a = NULL, *b = NULL;
    assert_ok(pfx_session_acquire(token, false, &a, &err), &err);
    assert_ok(pfx_session_acquire(token, false, &b, &err), &err);
    CK_FUNCTION_LIST *f = pfx_session_module(a);
    CK_SESSION_INFO info;
    CK_SESSION_HANDLE handles[] = {pfx_session_handle(a), pfx_session_handle(b)};
    assert_int_equal(f->C_GetSessionInfo(handles[0], &info), CKR_OK);
    assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
    pfx_session_release(b);
    assert_int_equal(f->C_GetSessionInfo(handles[1], &info), CKR_OK);
    pfx_token_logout(token, PFX_ROLE_ENCRYPTION);
    assert_false(pfx_token_logged_in(token));
    pfx_session_release(a);
    for (int i = 0; i < 2; i++)
        assert_int_equal(f->C_GetSessionInfo(handles[i], &info), CKR_SESSION_HANDLE_INVALID);
    pfx_token_close(token);
}

/* --- sessions --- */

struct holder {
    struct pfx_token *token;
    struct pfx_session *held;
    int done;
};

static void *second(void *arg)
{
    struct holder *h = arg;
    ERROR(err);
    struct pfx_session *session = NULL;
    if (pfx_ok(pfx_session_acquire(h->token, false, &session, &err)))
        __atomic_store_n(&h->done, 1, __ATOMIC_SEQ_CST);
    pfx_session_release(session);
    return NULL;
}

static void exhaustion(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    ERROR(err);
    struct holder h = {.token = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1)};
    assert_ok(pfx_session_acquire(h.token, false, &h.held, &err), &err);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, second, &h), 0);
    usleep(200000);
    assert_int_equal(__atomic_load_n(&h.done, __ATOMIC_SEQ_CST), 0); /* it waits */
    pfx_session_release(h.held);
    pthread_join(thread, NULL);
    assert_int_equal(h.done, 1);
    pfx_token_close(h.token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uris),
        cmocka_unit_test(modules),
        cmocka_unit_test(exactly_one),
        cmocka_unit_test(shared),
        cmocka_unit_test(opened_again),
        cmocka_unit_test(second_pin),
        cmocka_unit_test(side_by_side),
        cmocka_unit_test(no_session_without_login),
        cmocka_unit_test(exhaustion),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
