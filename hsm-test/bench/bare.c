/*
 * bench-bare: the Cryptoki and OpenSSL calls of an enrolment, and nothing around them: no process
 * in between, no socket, no store, no log.
 *
 *   bench-bare --policy hsm-policy.yaml --key TYPE --users N --first NUMBER --checkpoints A,B
 *
 * It opens the policy's tokens as pfx-hsm does and makes the calls by the product's own functions
 * of pkcs11/ and crypto/, so they are the same ones in the same order, with as many sessions (a
 * thread each) and the same kind of keys. enrolment.py compares what the token counted. A and B:
 * how many checkpoints pfx-hsm's log signed in each half; here they are signed in between, which is
 * a Cryptoki call like the others, while the log's files are none.
 *
 * Spoken to on stdin and stdout, so that only the halves are timed: "ready", then each "go" is
 * answered by the half's seconds, and those of processor time. After the first it prints the N
 * requests in hex and takes the chain (a line) and N certificates in hex.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/conf/hsm_policy.h"
#include "api/conf/process.h"
#include "crypto/cert.h"
#include "crypto/csr.h"
#include "crypto/encode.h"
#include "crypto/oaep.h"
#include "crypto/ticket.h"
#include "pkcs11/hsm/halves.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/standing.h"
#include "pkcs11/probe.h"

#define MOST_THREADS 64
#define LINE (64 * 1024)

struct user {
    char name[37], address[64];
    struct pfx_key_id id;
    struct pfx_buf spki, blob, csr, leaf;
    uint8_t ticket[32];
};
struct ring { /* a thread's own handles */
    struct pfx_key *mac, *transport, *wrapping, *log[2];
};
struct bench {
    struct pfx_hsm_policy *policy;
    struct pfx_token *users_token, *log_token;
    struct pfx_probe proven;
    enum pfx_key_type type;
    enum pfx_tier tier;
    struct user *users;
    unsigned n, checkpoints[2];
    struct pfx_certs *chain, *roots;
    struct pfx_buf pins, encryption_spki; /* what pfx-hsm reads and MACs before each seal */
    struct ring rings[MOST_THREADS];
    bool second;
    unsigned next, signed_; /* under lock */
    pthread_mutex_t lock;
};
struct thread {
    pthread_t id;
    struct bench *bench;
    struct ring *ring;
};

static void need(pfx_result r, const struct pfx_error *err)
{
    char line[1024];
    if (pfx_ok(r))
        return;
    fprintf(stderr, "bench-bare: %s\n", pfx_error_line(err, line, sizeof line));
    _exit(1); /* another thread may be inside the token's library */
}

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "bench-bare: %s\n", what);
    exit(1);
}

/* --- what pfx-hsm has at its start --------------------------------------------------------------
 */

static struct pfx_key *standing(const struct bench *bench, struct pfx_session *session,
                                size_t index, bool optional)
{
    struct pfx_standing_key row;
    struct pfx_key *key = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_standing_of_log(index))
        pfx_standing_log(bench->policy, index, 1, &row);
    else
        pfx_standing_describe(bench->policy, index, &row);
    need(pfx_key_find(session, row.use, &row.id, true, (struct pfx_bytes){NULL, 0}, &key, &err),
         &err);
    if (!key && !optional)
        fail("the tokens have no keys: run init first");
    return key;
}

static struct pfx_token *token_of(const struct bench *bench, struct pfx_pin_guard *guard,
                                  enum pfx_role role)
{
    struct pfx_token *token;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_secret *pin PFX_AUTOSECRET = NULL;
    const struct pfx_role_conf *conf = &bench->policy->roles[role];
    need(pfx_token_open(role, conf, bench->policy->sessions + 1, &token, &err), &err);
    need(pfx_pin_file_read(conf->pin_file, &pin, &err), &err);
    need(pfx_token_login(token, guard, pin, true, &err), &err);
    return token;
}

static struct ring ring_of(const struct bench *bench)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_session *users PFX_AUTOSESSION = NULL, *log PFX_AUTOSESSION = NULL;
    need(pfx_session_acquire(bench->users_token, false, &users, &err), &err);
    need(pfx_session_acquire(bench->log_token, false, &log, &err), &err);
    return (struct ring){
        .mac = standing(bench, users, PFX_STANDING_MAC, false),
        .transport = standing(bench, users, PFX_STANDING_TRANSPORT, false),
        .wrapping = standing(bench, users, PFX_STANDING_WRAPPING, false),
        .log = {standing(bench, log, PFX_STANDING_LOG, false),
                standing(bench, log, PFX_STANDING_LOG_ED25519, true)},
    };
}

static void read_files(struct bench *bench)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf roots = pfx_buf_make(1024 * 1024);
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    char *path PFX_AUTOFREE = pfx_asprintf("%s/pins", bench->policy->state_dir);
    need(pfx_file_read(bench->policy->ca_roots, roots.max, &roots, &err), &err);
    need(pfx_certs_parse(pfx_buf_bytes(&roots), &bench->roots, &err), &err);
    bench->pins = pfx_buf_make(64 * 1024);
    bench->encryption_spki = pfx_buf_make(4096);
    need(pfx_file_read(path, bench->pins.max, &bench->pins, &err), &err);
    pfx_buf_cut(&bench->pins, bench->pins.len - (4 + 64 + 1)); /* its MAC */
    if (!pfx_pins_parse((const char *)bench->pins.data, bench->pins.len, &pins) ||
        !pfx_pins_active(&pins))
        fail("no generation of the encryption key is active");
    struct pfx_bytes spki = pfx_buf_bytes(&pfx_pins_active(&pins)->spki);
    pfx_buf_add(&bench->encryption_spki, spki.data, spki.len);
}

/* All at once, so that the pools open them now. */
static void open_sessions(const struct bench *bench)
{
    struct pfx_session *held[2 * MOST_THREADS];
    struct pfx_error err = PFX_ERROR_NONE;
    unsigned n = 2 * bench->policy->sessions;
    for (unsigned i = 0; i < n; i++)
        need(pfx_session_acquire(i % 2 ? bench->log_token : bench->users_token, false, &held[i],
                                 &err),
             &err);
    for (unsigned i = 0; i < n; i++)
        pfx_session_release(held[i]);
}

static void set_up(struct bench *bench)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_pin_guard *guard;
    char *folder PFX_AUTOFREE = pfx_asprintf("%s/pin-guard", bench->policy->state_dir);
    need(pfx_pin_guard_open(folder, &guard, &err), &err);
    bench->users_token = token_of(bench, guard, PFX_ROLE_USERS);
    bench->log_token = token_of(bench, guard, PFX_ROLE_LOG);
    struct pfx_probe *probe PFX_AUTOFREE = pfx_alloc(sizeof *probe);
    need(pfx_probe_run(bench->users_token, PFX_ROLE_USERS, probe, &err), &err);
    pfx_token_proven(bench->users_token, &bench->proven);
    bench->tier = pfx_probe_tier(&bench->proven, PFX_PROFILE_MODERN, bench->type);
    read_files(bench);
    open_sessions(bench);
    for (unsigned i = 0; i < bench->policy->sessions; i++)
        bench->rings[i] = ring_of(bench);
}

static void name_users(struct bench *bench, unsigned first)
{
    bench->users = pfx_alloc_array(bench->n, sizeof *bench->users);
    for (unsigned i = 0; i < bench->n; i++) {
        struct user *user = &bench->users[i];
        snprintf(user->name, sizeof user->name, "bbbbbbbb-0000-4000-8000-%012u", first + i);
        snprintf(user->address, sizeof user->address, "user%03u@contoso.example.com", first + i);
        user->spki = pfx_buf_make(4096);
        user->blob = pfx_buf_make(16 * 1024);
        user->csr = pfx_buf_make(32 * 1024);
        user->leaf = pfx_buf_make(LINE);
        pfx_user_key_id(bench->policy->host_id, user->name, "signing", first + i, 1, &user->id);
    }
}

/* --- the two halves, in the order of pkcs11/hsm/key_csr.c and build_seal.c -----------------------
 */

struct signer {
    struct pfx_session *session;
    struct pfx_key *key;
};

static pfx_result sign_digest(void *ctx, enum pfx_hash hash, struct pfx_bytes digest,
                              struct pfx_buf *out, struct pfx_error *err)
{
    struct signer *signer = ctx;
    return pfx_key_sign_digest(signer->session, signer->key, hash, digest, out, err);
}

static pfx_result ticket_of(struct pfx_session *session, const struct ring *ring,
                            const struct user *user, uint8_t ret_mac[32], struct pfx_error *err)
{
    const char *addresses[] = {user->address};
    struct pfx_ticket ticket = {.user_id = user->name,
                                .addresses = addresses,
                                .n_addresses = 1,
                                .purpose = PFX_PURPOSE_SIGNING,
                                .key_id = {user->id.bytes, sizeof user->id.bytes},
                                .spki = pfx_buf_bytes(&user->spki)};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(64 * 1024);
    if (!pfx_ticket_bytes(&ticket, &bytes))
        fail("a ticket is too long");
    return pfx_key_mac(session, ring->mac, pfx_buf_bytes(&bytes), ret_mac, err);
}

static pfx_result make(struct bench *bench, const struct ring *ring, struct user *user,
                       struct pfx_error *err)
{
    bool wrapped = bench->policy->wrapped_keys;
    const char *emails[] = {user->address};
    uint8_t mac[32];
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    PFX_TRY(pfx_session_acquire(bench->users_token, !wrapped, &session, err));
    if (!wrapped) {
        PFX_TRY(pfx_key_find(session, PFX_USE_USER, &user->id, true, (struct pfx_bytes){NULL, 0},
                             &key, err));
        PFX_TRY(pfx_lone_publics_destroy(session, &user->id, err));
    }
    PFX_TRY(pfx_key_make(session, PFX_USE_USER, bench->type, &user->id, PFX_USER_LABEL "bench",
                         !wrapped, &key, err));
    if (wrapped) {
        PFX_TRY(pfx_key_wrap_blob(session, ring->wrapping, key, &user->blob, err));
        PFX_TRY(pfx_key_mac(session, ring->mac, pfx_buf_bytes(&user->blob), mac, err));
    }
    struct pfx_bytes spki = pfx_key_spki(key);
    pfx_buf_add(&user->spki, spki.data, spki.len);
    struct signer signer = {session, key};
    struct pfx_csr_spec spec = {.spki = spki,
                                .common_name = user->address,
                                .emails = emails,
                                .n_emails = 1,
                                .purpose = PFX_PURPOSE_SIGNING};
    PFX_TRY(pfx_csr_build(&spec, sign_digest, &signer, &user->csr, err));
    return ticket_of(session, ring, user, user->ticket, err);
}

/* SoftHSM now and then fails one of two C_GenerateKeyPair at once, or shows its key half made;
 * pfx-hsm's job comes again, too. */
static pfx_result make_patiently(struct bench *bench, const struct ring *ring, struct user *user,
                                 struct pfx_error *err)
{
    pfx_result r = make(bench, ring, user, err);
    for (int i = 0; i < 3 && pfx_failed(r); i++) {
        *err = PFX_ERROR_NONE;
        r = make(bench, ring, user, err);
    }
    return r;
}

static pfx_result check(const struct bench *bench, const struct user *user,
                        struct pfx_certs **ret_chain, struct pfx_error *err)
{
    const char *emails[] = {user->address};
    struct pfx_certs *pool PFX_AUTOCERTS = pfx_certs_new();
    for (size_t i = 0; i < pfx_certs_count(bench->chain); i++)
        PFX_TRY(pfx_certs_add(pool, pfx_certs_at(bench->chain, i), err));
    struct pfx_cert_expect expect = {.spki = pfx_buf_bytes(&user->spki),
                                     .emails = emails,
                                     .n_emails = 1,
                                     .purpose = PFX_PURPOSE_SIGNING,
                                     .now_ms = pfx_now_ms(),
                                     .max_days = bench->policy->max_cert_days,
                                     .roots = bench->roots};
    PFX_TRY(pfx_cert_check(pfx_buf_bytes(&user->leaf), pool, &expect, err));
    return pfx_cert_order_chain(pfx_buf_bytes(&user->leaf), pool, ret_chain, err);
}

static pfx_result pack(struct bench *bench, const struct ring *ring, struct pfx_session *session,
                       const struct user *user, struct pfx_key *key, const struct pfx_certs *chain,
                       struct pfx_error *err)
{
    struct pfx_pbe pbe;
    PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
    struct pfx_secret *password PFX_AUTOSECRET = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf ciphertext = pfx_buf_make(8192);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pfx = pfx_buf_make(512 * 1024);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(1024);
    enum pfx_hash hash = bench->policy->seal_hash;
    PFX_TRY(pfx_secret_new(32, &password, err));
    PFX_TRY(pfx_token_random(session, pfx_secret_data(password), 32, err));
    pfx_password_from_random(password);
    PFX_TRY(pfx_pbe_draw(PFX_PROFILE_MODERN, &pbe, err));
    PFX_TRY(pfx_pbe_kek(&pbe, password, &kek, err));
    PFX_TRY(pfx_key_export(session, ring->transport, key, bench->tier, &kek, &ciphertext, err));
    struct pfx_pfx_spec spec = {.pbe = &pbe,
                                .key_ciphertext = pfx_buf_bytes(&ciphertext),
                                .certs = chain,
                                .friendly_name = user->address};
    PFX_TRY(pfx_pfx_build(&spec, password, &pfx, err));
    struct pfx_bytes to = pfx_buf_bytes(&bench->encryption_spki);
    return bench->proven.seals ? pfx_token_seal_oaep(session, to, hash, password, &sealed, err)
                               : pfx_oaep_seal(to, hash, password, &sealed, err);
}

static pfx_result build(struct bench *bench, const struct ring *ring, struct user *user,
                        struct pfx_error *err)
{
    bool wrapped = bench->policy->wrapped_keys;
    uint8_t mac[32];
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_certs *chain PFX_AUTOCERTS = NULL;
    struct pfx_bytes spki = pfx_buf_bytes(&user->spki);
    PFX_TRY(pfx_session_acquire(bench->users_token, false, &session, err));
    if (wrapped)
        PFX_TRY(pfx_key_mac(session, ring->mac, pfx_buf_bytes(&user->blob), mac, err));
    PFX_TRY(ticket_of(session, ring, user, mac, err));
    PFX_TRY(check(bench, user, &chain, err));
    PFX_TRY(pfx_key_mac(session, ring->mac, pfx_buf_bytes(&bench->pins), mac, err));
    if (wrapped)
        PFX_TRY(pfx_key_unwrap_blob(session, ring->wrapping, pfx_buf_bytes(&user->blob), &user->id,
                                    spki, &key, err));
    else
        PFX_TRY(pfx_key_find(session, PFX_USE_USER, &user->id, true, spki, &key, err));
    if (!key)
        fail("the token has lost a key");
    return pack(bench, ring, session, user, key, chain, err);
}

static pfx_result checkpoint(const struct bench *bench, const struct ring *ring,
                             struct pfx_error *err)
{
    static const uint8_t text[180] = "a checkpoint's text has about this length";
    for (size_t i = 0; i < 2 && ring->log[i]; i++) {
        struct pfx_session *session PFX_AUTOSESSION = NULL;
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1024);
        uint8_t digest[32];
        if (!pfx_digest(PFX_HASH_SHA256, text, sizeof text, digest, NULL))
            fail("no SHA-256");
        struct pfx_bytes message =
            i ? (struct pfx_bytes){text, sizeof text} : (struct pfx_bytes){digest, sizeof digest};
        PFX_TRY(pfx_session_acquire(bench->log_token, false, &session, err));
        PFX_TRY(pfx_key_sign_digest(session, ring->log[i], PFX_HASH_SHA256, message, &out, err));
    }
    return PFX_OK;
}

/* --- threads and time ----------------------------------------------------------------------------
 */

static void *work(void *ctx)
{
    struct thread *thread = ctx;
    struct bench *bench = thread->bench;
    struct pfx_error err = PFX_ERROR_NONE;
    unsigned most = bench->checkpoints[bench->second];
    for (;;) {
        pthread_mutex_lock(&bench->lock);
        unsigned at = bench->next++;
        unsigned due = at < bench->n ? most * (at + 1) / bench->n - bench->signed_ : 0;
        bench->signed_ += due;
        pthread_mutex_unlock(&bench->lock);
        if (at >= bench->n)
            return NULL;
        struct user *user = &bench->users[at];
        need(bench->second ? build(bench, thread->ring, user, &err)
                           : make_patiently(bench, thread->ring, user, &err),
             &err);
        for (; due > 0; due--)
            need(checkpoint(bench, thread->ring, &err), &err);
    }
}

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void half(struct bench *bench, bool second)
{
    struct thread threads[MOST_THREADS];
    char line[16];
    bench->second = second;
    bench->next = bench->signed_ = 0;
    puts("ready");
    if (fflush(stdout) != 0 || !fgets(line, sizeof line, stdin) || strcmp(line, "go\n") != 0)
        fail("nobody says go");
    double from = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < bench->policy->sessions; i++) {
        threads[i] = (struct thread){.bench = bench, .ring = &bench->rings[i]};
        if (pthread_create(&threads[i].id, NULL, work, &threads[i]) != 0)
            fail("no thread");
    }
    for (unsigned i = 0; i < bench->policy->sessions; i++)
        pthread_join(threads[i].id, NULL);
    printf("%.6f %.6f\n", now(CLOCK_MONOTONIC) - from, now(CLOCK_PROCESS_CPUTIME_ID) - used);
    fflush(stdout);
}

static void line_of(struct pfx_buf *out)
{
    static char text[LINE];
    if (!fgets(text, sizeof text, stdin) || !pfx_unhex(text, strcspn(text, "\n"), out))
        fail("a certificate is expected in hex");
}

static void certify(struct bench *bench)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char *hex PFX_AUTOFREE = pfx_alloc(LINE * 2);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf chain = pfx_buf_make(LINE);
    for (unsigned i = 0; i < bench->n; i++)
        puts(pfx_hex(bench->users[i].csr.data, bench->users[i].csr.len, hex));
    fflush(stdout);
    line_of(&chain);
    need(pfx_certs_parse(pfx_buf_bytes(&chain), &bench->chain, &err), &err);
    for (unsigned i = 0; i < bench->n; i++)
        line_of(&bench->users[i].leaf);
}

static const char *argument(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    fprintf(stderr, "bench-bare: %s is missing\n", name);
    exit(2);
}

static unsigned number(const char *text)
{
    return (unsigned)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
    struct bench *bench = pfx_alloc(sizeof *bench);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_process_harden("bench-bare");
    pfx_process_lock();
    pthread_mutex_init(&bench->lock, NULL);
    need(pfx_hsm_policy_load(argument(argc, argv, "--policy"), &bench->policy, &err), &err);
    bench->n = number(argument(argc, argv, "--users"));
    const char *checkpoints = argument(argc, argv, "--checkpoints");
    const char *comma = strchr(checkpoints, ',');
    if (!pfx_key_type_parse(argument(argc, argv, "--key"), &bench->type) || bench->n < 1 ||
        !comma || bench->policy->sessions > MOST_THREADS)
        fail("an argument is wrong");
    bench->checkpoints[0] = number(checkpoints);
    bench->checkpoints[1] = number(comma + 1);
    name_users(bench, number(argument(argc, argv, "--first")));
    set_up(bench);
    half(bench, false);
    certify(bench);
    half(bench, true);
    return 0;
}
