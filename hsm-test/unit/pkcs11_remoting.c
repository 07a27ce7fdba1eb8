/* p11-kit's remoting in front of SoftHSM, its server killed every few seconds under load: keys are
 * made, found again, sign and decrypt; nothing is ever wrong, doubled or lost, and it goes on by
 * itself. p11-kit's client now and then waits for ever when its server dies: a process with a call
 * that hangs is ended and started again, as pfx-hsm's watchdog does. (Remoting passes no wrapping,
 * AES or PSS: the rest of an enrolment is hsm_grid's.) */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "crypto/oaep.h"
#include "pkcs11/pool.h"
#include "pkcs11_env.h"

#define CLIENT "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
#define SOFTHSM "/usr/lib/softhsm/libsofthsm2.so"
#define THREADS 3
#define UP_MS 2000 /* the server lives so long, and is away so long */
#define AWAY_MS 300
#define RECOVERY_S 60
#define HANGS_S 5 /* without any progress while the server is there: a call hangs */

static char socket_path[200];
static pid_t server;
static struct pfx_token *token;
static struct pfx_key_id secrets_id;
static struct pfx_buf sealed;
static const char secret_text[] = "a service secret";

/* Shared with the process that does the work, and with the next one. */
static struct shared {
    atomic_bool ending;
    atomic_uint done, passed_away, wrong;
    unsigned keys[THREADS];
    unsigned n_users;
    char first_wrong[512];
} * shared;

static void nap(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static bool serve(void)
{
    struct stat st;
    (void)unlink(socket_path);
    server = fork();
    if (server == 0) {
        (void)setsid(); /* each connection has a child of its own there: all are killed together */
        unsetenv("LD_PRELOAD");
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0)
            (void)dup2(null, STDOUT_FILENO);
        execlp("p11-kit", "p11-kit", "server", "-f", "--provider", SOFTHSM, "-n", socket_path,
               "pkcs11:token=one", NULL);
        _exit(127);
    }
    for (int i = 0; i < 500 && stat(socket_path, &st) != 0; i++) {
        if (waitpid(server, NULL, WNOHANG) == server)
            return false;
        nap(10);
    }
    return stat(socket_path, &st) == 0;
}

static void kill_server(void)
{
    (void)kill(-server, SIGKILL);
    (void)waitpid(server, NULL, 0);
}

static void never(const char *what, const struct pfx_error *err)
{
    if (atomic_fetch_add(&shared->wrong, 1) == 0) {
        char line[400] = "";
        if (err)
            pfx_error_line(err, line, sizeof line);
        snprintf(shared->first_wrong, sizeof shared->first_wrong, "%s: %s", what, line);
    }
}

/* A key that an earlier try made is adopted, as pfx-hsm does. */
static pfx_result key_of(struct pfx_session *session, const struct pfx_key_id *id,
                         enum pfx_key_type type, struct pfx_key **ret_key, struct pfx_error *err)
{
    PFX_TRY(
        pfx_key_find(session, PFX_USE_USER, id, true, (struct pfx_bytes){NULL, 0}, ret_key, err));
    if (*ret_key)
        return PFX_OK;
    return pfx_key_make(session, PFX_USE_USER, type, id, "pfx-agent user", true, ret_key, err);
}

static pfx_result decrypt(struct pfx_session *session, struct pfx_error *err)
{
    PFX_AUTOKEY struct pfx_key *key = NULL;
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    PFX_TRY(pfx_key_find(session, PFX_USE_SECRETS, &secrets_id, true, (struct pfx_bytes){NULL, 0},
                         &key, err));
    if (!key) {
        never("the secrets key isn't there", NULL);
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "find", "", "", "gone");
    }
    PFX_TRY(pfx_key_open_oaep(session, key, PFX_HASH_SHA256, pfx_buf_bytes(&sealed), &plain, err));
    if (pfx_secret_len(plain) != sizeof secret_text ||
        memcmp(pfx_secret_bytes(plain), secret_text, sizeof secret_text) != 0)
        never("another plaintext", NULL);
    return PFX_OK;
}

/* By OpenSSL, not by the library that signed. */
static bool verifies(struct pfx_bytes spki, const uint8_t digest[32],
                     const struct pfx_buf *signature)
{
    const unsigned char *at = spki.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)spki.len);
    EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    bool good = ctx && EVP_PKEY_verify_init(ctx) == 1 &&
                EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
                EVP_PKEY_verify(ctx, signature->data, signature->len, digest, 32) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return good;
}

static pfx_result once(const struct pfx_key_id *id, enum pfx_key_type type, struct pfx_error *err)
{
    PFX_AUTOSESSION struct pfx_session *session = NULL;
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    PFX_AUTOKEY struct pfx_key *key = NULL;
    PFX_TRY(key_of(session, id, type, &key, err));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(1024);
    uint8_t digest[32];
    PFX_TRY(pfx_token_random(session, digest, sizeof digest, err));
    PFX_TRY(pfx_key_sign_digest(session, key, PFX_HASH_SHA256,
                                (struct pfx_bytes){digest, sizeof digest}, &signature, err));
    if (!verifies(pfx_key_spki(key), digest, &signature))
        never("a wrong signature", NULL);
    return decrypt(session, err);
}

static bool passes(pfx_result r)
{
    return r.cls == PFX_CLASS_DEVICE || r.cls == PFX_CLASS_TRANSIENT;
}

static void *work(void *given)
{
    unsigned number = *(unsigned *)given, *keys = &shared->keys[number];
    while (!atomic_load(&shared->ending)) {
        struct pfx_key_id id = env_id(1000 * (number + 1) + *keys);
        struct pfx_error err = PFX_ERROR_NONE;
        enum pfx_key_type type = *keys % 4 == 0 ? PFX_KEY_RSA_2048 : PFX_KEY_EC_P256;
        pfx_result r = once(&id, type, &err);
        if (pfx_ok(r)) {
            (*keys)++;
            atomic_fetch_add(&shared->done, 1);
        } else if (passes(r)) {
            atomic_fetch_add(&shared->passed_away, 1);
            nap(20);
        } else {
            never("not an answer of a lost device", &err);
            nap(20);
        }
    }
    return NULL;
}

static bool count_users(void *ctx, const struct pfx_key_row *row)
{
    (void)ctx;
    shared->n_users +=
        strcmp(row->label, "pfx-agent user") == 0 && row->object_class == CKO_PRIVATE_KEY;
    return true;
}

/* The secrets key is made once and found from then on. */
static pfx_result prepare(struct pfx_error *err)
{
    PFX_AUTOSESSION struct pfx_session *session = NULL;
    PFX_AUTOKEY struct pfx_key *key = NULL;
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    PFX_TRY(pfx_key_find(session, PFX_USE_SECRETS, &secrets_id, true, (struct pfx_bytes){NULL, 0},
                         &key, err));
    if (!key)
        PFX_TRY(pfx_key_make(session, PFX_USE_SECRETS, PFX_KEY_RSA_2048, &secrets_id, "secrets",
                             true, &key, err));
    PFX_TRY(pfx_secret_copy(secret_text, sizeof secret_text, &plain, err));
    pfx_buf_reset(&sealed);
    return pfx_oaep_seal(pfx_key_spki(key), PFX_HASH_SHA256, plain, &sealed, err);
}

/* One life of the process that works. 0: it ended as it was told. */
static int life(bool only_count)
{
    char address[256];
    struct pfx_error err = PFX_ERROR_NONE;
    snprintf(address, sizeof address, "unix:path=%s", socket_path);
    setenv("P11_KIT_SERVER_ADDRESS", address, 1);
    struct pfx_role_conf conf = env_conf(ENV_SOFTHSM, "pkcs11:token=one");
    conf.module = (char *)(uintptr_t)CLIENT;
    struct pfx_probe *probe = pfx_alloc(sizeof *probe);
    pfx_result r = pfx_token_open(PFX_ROLE_SERVICE, &conf, THREADS, &token, &err);
    if (pfx_ok(r)) {
        env_login(token);
        r = pfx_probe_run(token, PFX_ROLE_SERVICE, probe, &err);
    }
    if (pfx_ok(r))
        r = prepare(&err);
    if (pfx_ok(r) && only_count) {
        struct pfx_session *session = NULL;
        r = pfx_session_acquire(token, false, &session, &err);
        if (pfx_ok(r))
            r = pfx_keys_list(session, count_users, NULL, &err);
        pfx_session_release(session);
        return pfx_ok(r) ? 0 : 1;
    }
    if (pfx_failed(r)) {
        if (!passes(r))
            never("a start fails", &err);
        return 1;
    }
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, work, &numbers[i]) != 0)
            return 1;
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static pid_t start(bool only_count)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(life(only_count));
    }
    return pid;
}

/* Ended within this time? */
static bool ended(pid_t pid, unsigned seconds, int *ret_status)
{
    for (unsigned i = 0; i < seconds * 100; i++) {
        if (waitpid(pid, ret_status, WNOHANG) == pid)
            return true;
        nap(10);
    }
    return false;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* Waits for progress, by a new process where the old one hangs or couldn't start. */
static void go_on(pid_t *worker, unsigned before, unsigned *restarts)
{
    time_t until = time(NULL) + RECOVERY_S, quiet = time(NULL) + HANGS_S;
    int status;
    while (atomic_load(&shared->done) == before && time(NULL) < until) {
        bool gone = waitpid(*worker, &status, WNOHANG) == *worker;
        if (gone || time(NULL) > quiet) {
            if (!gone)
                end(*worker);
            *worker = start(false);
            (*restarts)++;
            quiet = time(NULL) + HANGS_S;
        }
        nap(10);
    }
}

static void remoting(void **state)
{
    (void)state;
    if (access(CLIENT, R_OK) != 0 || access("/usr/bin/p11-kit", X_OK) != 0) {
        print_message("skipped: p11-kit's remoting isn't installed (p11-kit, p11-kit-modules)\n");
        return;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    snprintf(socket_path, sizeof socket_path, "%s/p11-kit", env_folder());
    secrets_id = env_id(1);
    sealed = pfx_buf_make(1024);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    assert_true(serve());

    const char *given = getenv("PFX_LONG");
    bool whole = given && strcmp(given, "1") == 0;
    int rounds = whole ? 60 : 3, status = 0;
    unsigned restarts = 0;
    pid_t worker = start(false);
    for (int round = 0; round <= rounds; round++) {
        unsigned before = atomic_load(&shared->done);
        if (round < rounds)
            nap(UP_MS);
        /* By itself, after each time. */
        go_on(&worker, before, &restarts);
        assert_true(atomic_load(&shared->done) > before);
        if (round == rounds)
            break;
        kill_server();
        nap(AWAY_MS);
        assert_true(serve());
    }
    atomic_store(&shared->ending, true);
    if (!ended(worker, HANGS_S, &status))
        end(worker);
    if (atomic_load(&shared->wrong) > 0)
        fail_msg("%u times wrong, first %s", atomic_load(&shared->wrong), shared->first_wrong);
    /* Each key once: the threads' last ones may be unfinished. */
    worker = start(true);
    assert_true(ended(worker, RECOVERY_S, &status) && WIFEXITED(status) &&
                WEXITSTATUS(status) == 0);
    unsigned made = 0;
    for (unsigned i = 0; i < THREADS; i++)
        made += shared->keys[i];
    print_message("%u keys made, signed with and found, %u losses, %d kills, %u restarts\n", made,
                  atomic_load(&shared->passed_away), rounds, restarts);
    assert_true(shared->n_users >= made && shared->n_users <= made + THREADS);
    assert_true(atomic_load(&shared->passed_away) + restarts > 0);
    pfx_buf_done(&sealed);
    kill_server();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(remoting)};
    return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
