/* A session or a token that goes and comes back, as it was or another. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pkcs11/adopt.h"
#include "pkcs11/pool.h"
#include "pkcs11_env.h"

static bool none(void *ctx, const struct pfx_key_row *row)
{
    (void)ctx;
    (void)row;
    return false;
}

static void dropped_session(void **state)
{
    (void)state;
    for (int m = 0; m < ENV_MODULES; m++) {
        if (!env_has((enum env_module)m))
            continue;
        ERROR(err);
        struct pfx_token *token = env_open((enum env_module)m, PFX_ROLE_USERS, 1);
        struct pfx_session *session = NULL;
        assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
        CK_FUNCTION_LIST *f = pfx_session_module(session);
        /* The token drops it, and with the last session the login. */
        assert_int_equal(f->C_CloseSession(pfx_session_handle(session)), CKR_OK);
        uint8_t random[16];
        assert_class(pfx_keys_list(session, none, NULL, &err), PFX_CLASS_DEVICE);
        pfx_session_release(session);
        err = PFX_ERROR_NONE;
        assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
        CK_SESSION_INFO info;
        assert_int_equal(f->C_GetSessionInfo(pfx_session_handle(session), &info), CKR_OK);
        assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
        assert_ok(pfx_token_random(session, random, sizeof random, &err), &err);
        pfx_session_release(session);
        pfx_token_close(token);
    }
}

static void finalized_by_another(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    ERROR(err);
    struct pfx_token *one = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1);
    struct pfx_token *two = env_open_uri(ENV_SOFTHSM, PFX_ROLE_LOG, "pkcs11:token=two", 1);
    uint64_t epoch_one = pfx_token_epoch(one), epoch_two = pfx_token_epoch(two);
    struct pfx_session *session = NULL;
    assert_ok(pfx_session_acquire(one, false, &session, &err), &err);
    CK_FUNCTION_LIST *f = pfx_session_module(session);
    pfx_session_release(session);
    assert_int_equal(f->C_Finalize(NULL), CKR_OK);
    uint8_t random[16];
    struct pfx_token *both[] = {one, two};
    for (int i = 0; i < 2; i++) {
        assert_ok(pfx_session_acquire(both[i], false, &session, &err), &err);
        assert_ok(pfx_token_random(session, random, sizeof random, &err), &err);
        CK_SESSION_INFO info;
        assert_int_equal(f->C_GetSessionInfo(pfx_session_handle(session), &info), CKR_OK);
        assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
        pfx_session_release(session);
    }
    assert_true(pfx_token_epoch(one) > epoch_one);
    assert_true(pfx_token_epoch(two) > epoch_two); /* its sessions died too */
    pfx_token_close(one);
    pfx_token_close(two);
}

static void folder_away(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    ERROR(err);
    static const struct pfx_bytes any = {NULL, 0};
    struct pfx_token *token = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1);
    struct pfx_session *session = NULL;
    struct pfx_key *key = NULL, *found = NULL;
    struct pfx_key_id id = env_id(77);
    assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
    assert_ok(pfx_key_make(session, PFX_USE_LOG, PFX_KEY_EC_P256, &id, "away", true, &key, &err),
              &err);
    pfx_session_release(session);
    char *here = env_softhsm_folder("one"), *away = pfx_asprintf("%s/away", env_folder());
    uint64_t epoch = pfx_token_epoch(token);
    uint8_t digest[32] = {1};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(512);
    assert_int_equal(rename(here, away), 0);

    /* Searching first: an empty answer isn't "no such key". */
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    assert_class(pfx_key_find(session, PFX_USE_LOG, &id, true, any, &found, &err),
                 PFX_CLASS_DEVICE);
    assert_null(found);
    pfx_session_release(session);
    err = PFX_ERROR_NONE;
    assert_class(pfx_session_acquire(token, false, &session, &err), PFX_CLASS_DEVICE);
    assert_text(&err, "Bring the token back");
    err = PFX_ERROR_NONE;
    assert_class(pfx_session_acquire(token, false, &session, &err), PFX_CLASS_DEVICE);

    assert_int_equal(rename(away, here), 0);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    assert_true(pfx_token_epoch(token) > epoch);
    assert_ok(pfx_key_sign_digest(session, key, PFX_HASH_SHA256,
                                  (struct pfx_bytes){digest, sizeof digest}, &signature, &err),
              &err);
    pfx_session_release(session);

    /* Using the cached handle first. */
    assert_int_equal(rename(here, away), 0);
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    assert_class(pfx_key_sign_digest(session, key, PFX_HASH_SHA256,
                                     (struct pfx_bytes){digest, sizeof digest}, &signature, &err),
                 PFX_CLASS_DEVICE);
    pfx_session_release(session);
    assert_int_equal(rename(away, here), 0);

    /* An adopted key that isn't shown isn't destroyed. */
    bool was = false;
    err = PFX_ERROR_NONE;
    assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
    assert_int_equal(rename(here, away), 0);
    assert_class(pfx_adopted_destroy(session, (struct pfx_bytes){id.bytes, sizeof id.bytes},
                                     pfx_key_spki(key), &was, &err),
                 PFX_CLASS_DEVICE);
    pfx_session_release(session);
    assert_int_equal(rename(away, here), 0);

    err = PFX_ERROR_NONE;
    assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
    assert_ok(pfx_key_sign_digest(session, key, PFX_HASH_SHA256,
                                  (struct pfx_bytes){digest, sizeof digest}, &signature, &err),
              &err);
    assert_ok(pfx_key_destroy(session, key, &err), &err);
    /* Now it is really gone, and that is what is said. */
    assert_ok(pfx_key_find(session, PFX_USE_LOG, &id, true, any, &found, &err), &err);
    pfx_session_release(session);
    pfx_key_free(key);
    pfx_token_close(token);
    free(here);
    free(away);
}

static void another_token_in_its_place(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    env_softhsm_token("changeling");
    ERROR(err);
    struct pfx_token *token =
        env_open_uri(ENV_SOFTHSM, PFX_ROLE_USERS, "pkcs11:token=changeling", 1);
    struct pfx_session *session = NULL;
    assert_ok(pfx_session_acquire(token, false, &session, &err), &err);
    CK_FUNCTION_LIST *f = pfx_session_module(session);
    pfx_session_release(session);
    char *here = env_softhsm_folder("changeling"), *away = pfx_asprintf("%s/old", env_folder());
    assert_int_equal(f->C_Finalize(NULL), CKR_OK);
    assert_int_equal(rename(here, away), 0);
    env_softhsm_token("changeling"); /* another serial */
    assert_class(pfx_session_acquire(token, false, &session, &err), PFX_CLASS_INTEGRITY);
    assert_text(&err, "Another token");
    pfx_token_close(token);
    free(here);
    free(away);
}

/* Root may write anywhere: gives the token's folder to nobody and works as nobody for a while. */
static uid_t become_nobody(const char *folder)
{
    uid_t before = geteuid();
    if (before != 0)
        return before;
    char *tokens = pfx_asprintf("%s/tokens", env_folder());
    assert_int_equal(chmod(env_folder(), 0711), 0);
    assert_int_equal(chmod(tokens, 0711), 0);
    free(tokens);
    assert_int_equal(chown(folder, 65534, (gid_t)-1), 0);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] != '.')
            assert_int_equal(fchownat(dirfd(dir), e->d_name, 65534, (gid_t)-1, 0), 0);
    }
    closedir(dir);
    assert_int_equal(seteuid(65534), 0);
    return before;
}

static void read_only_folder(void **state)
{
    (void)state;
    if (!env_has(ENV_SOFTHSM))
        return;
    ERROR(err);
    struct pfx_token *token = env_open(ENV_SOFTHSM, PFX_ROLE_USERS, 1);
    struct pfx_session *session = NULL;
    struct pfx_key *key = NULL, *old = NULL;
    struct pfx_key_id id = env_id(5), old_id = env_id(6);
    uint8_t digest[32] = {1};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(512);
    assert_ok(pfx_session_acquire(token, true, &session, &err), &err);
    assert_ok(pfx_key_make(session, PFX_USE_LOG, PFX_KEY_EC_P256, &old_id, "old", true, &old, &err),
              &err);
    char *folder = env_softhsm_folder("one");
    assert_int_equal(chmod(folder, 0500), 0);
    uid_t before = become_nobody(folder);
    pfx_result r =
        pfx_key_make(session, PFX_USE_LOG, PFX_KEY_EC_P256, &id, "ro", true, &key, &err);
    struct pfx_error second = PFX_ERROR_NONE;
    pfx_session_release(session);
    session = NULL;
    /* What is there goes on working. */
    pfx_result s = pfx_session_acquire(token, true, &session, &second);
    if (pfx_ok(s))
        s = pfx_key_sign_digest(session, old, PFX_HASH_SHA256, (struct pfx_bytes){digest, 32},
                                &signature, &second);
    assert_int_equal(seteuid(before), 0);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_class(r, PFX_CLASS_TRANSIENT);
    assert_null(key);
    assert_ok(s, &second);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_key_make(session, PFX_USE_LOG, PFX_KEY_EC_P256, &id, "ro", true, &key, &err),
              &err);
    assert_ok(pfx_key_destroy(session, key, &err), &err);
    assert_ok(pfx_key_destroy(session, old, &err), &err);
    pfx_key_free(key);
    pfx_key_free(old);
    pfx_session_release(session);
    pfx_token_close(token);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dropped_session),
        cmocka_unit_test(finalized_by_another),
        cmocka_unit_test(folder_away),
        cmocka_unit_test(another_token_in_its_place),
        cmocka_unit_test(read_only_folder),
    };
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
