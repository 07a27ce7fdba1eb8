/*
 * What pfx-hsm puts into its operation log by itself: logins, steps of the clock, refusals; on a
 * real writer with a token in memory, without a module. What was written is read from the file by a
 * few lines of its own, and looked over by hsm-test/tools/log_check.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hsm_oplog_rig.h"

#include "api/conf/process.h"
#include "pkcs11/hsm/hsm.h"
#include "pkcs11/hsm/hsmlog_put.h"

#define DEADLINE_S 10

/* A wall clock that jumps, and time since boot that runs ahead; the linker puts this in front of
 * the system's (hsm.cmake). */
static atomic_llong wall_ahead_ms, boot_ahead_ms;
int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
    int result = __real_clock_gettime(id, ret);
    long long ahead = id == CLOCK_REALTIME   ? wall_ahead_ms + boot_ahead_ms
                      : id == CLOCK_BOOTTIME ? boot_ahead_ms
                                             : 0;
    ret->tv_sec += ahead / 1000;
    return result;
}

static atomic_bool disk_full;

static int full_fallocate(void *ctx, const char *step, int fd, off_t len)
{
    struct stat facts;
    /* What a file has already, it keeps. */
    if (disk_full && (fstat(fd, &facts) != 0 || facts.st_size < len)) {
        errno = ENOSPC;
        return -1;
    }
    return pfx_oplog_system.fallocate(ctx, step, fd, len);
}

/* A token whose every signature needs a lock, as that of a login lost needs the login's. */
static pthread_mutex_t login_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint signing;
static struct pfx_signer plain;

static pfx_result sign(void *ctx, size_t key, struct pfx_bytes text, uint8_t ret[PFX_SIGNATURE_MAX],
                       size_t *ret_len, struct pfx_error *err)
{
    signing++;
    pthread_mutex_lock(&login_lock);
    pfx_result r = plain.sign(ctx, key, text, ret, ret_len, err);
    pthread_mutex_unlock(&login_lock);
    return r;
}

static struct {
    struct pfx_hsm hsm;
    struct pfx_hsmlog log;
    struct pfx_oplog_config config;
    struct pfx_oplog_io io;
    struct pfx_signer signer;
    struct pfx_draft draft;
} world;

static int begin(void **state)
{
    (void)state;
    ERROR(err);
    wall_ahead_ms = boot_ahead_ms = 0;
    disk_full = false;
    memset(&world, 0, sizeof world);
    world.config = rig_config(rig_fresh());
    world.io = pfx_oplog_system;
    world.io.fallocate = full_fallocate;
    world.config.io = &world.io;
    world.log.writer = rig_open(&world.config);
    pthread_mutex_init(&world.log.lock, NULL);
    pthread_mutex_init(&world.log.inner_lock, NULL);
    pthread_mutex_init(&world.log.agentd_lock, NULL);
    world.log.clock_ms = pfx_now_ms() - pfx_uptime_ms();
    world.hsm.log = &world.log;
    plain = world.signer = rig_signer(0);
    world.signer.sign = sign;
    rig_first(&world.draft, "log.begin", 0);
    assert_ok(pfx_oplog_begin(world.log.writer, RIG_ORIGIN, &world.draft, &world.signer, &err),
              &err);
    pfx_hsmlog_trace(&world.log);
    return 0;
}

/* The log is whole, and closed in order. */
static void finish(void)
{
    ERROR(err);
    pfx_hsmlog_trace(NULL);
    assert_ok(pfx_oplog_settle(world.log.writer, &err), &err);
    pfx_oplog_free(world.log.writer);
    rig_check(world.config.dir);
}

static void put(void)
{
    ERROR(err);
    rig_note(&world.draft, "something");
    assert_ok(
        pfx_hsmlog_put(&world.log, &world.draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &err),
        &err);
}

static unsigned count_in(const char *path, const char *text, char *ret_last, size_t size)
{
    static uint8_t data[4 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, data, sizeof data);
    close(fd);
    unsigned n = 0;
    for (ssize_t at = 0; at + 2 < len;) {
        size_t one = (size_t)data[at] << 8 | data[at + 1];
        if (one == 0)
            break;
        const char *entry = (const char *)data + at + 2;
        if (memmem(entry, one, text, strlen(text))) {
            n++;
            if (ret_last)
                snprintf(ret_last, size, "%.*s", (int)one, entry);
        }
        at += 2 + (ssize_t)one;
    }
    return n;
}

/* How many entries say this; the last of them is copied. */
static unsigned entries_with(const char *text, char *ret_last, size_t size)
{
    char pattern[256];
    glob_t found;
    unsigned n = 0;
    snprintf(pattern, sizeof pattern, "%s/entries/*", world.config.dir);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        n += count_in(found.gl_pathv[i], text, ret_last, size);
    globfree(&found);
    return n;
}

static long long number_of(const char *entry, const char *name)
{
    char pattern[32];
    snprintf(pattern, sizeof pattern, "\"%s\":", name);
    const char *at = strstr(entry, pattern);
    assert_non_null(at);
    return strtoll(at + strlen(pattern), NULL, 10);
}

/* Appends until there is no room for entries of this kind. */
static void fill_up(enum pfx_room room)
{
    for (unsigned n = 0; n < 100000; n++) {
        ERROR(err);
        rig_note(&world.draft, "one of very many");
        pfx_result r =
            pfx_oplog_append(world.log.writer, &world.draft, room, PFX_UNTIL_APPENDED, NULL, &err);
        if (pfx_failed(r)) {
            assert_string_equal(err.code, "ENOSPC");
            return;
        }
    }
    fail_msg("it never gets full");
}

static const struct pfx_token_facts facts = {.label = "log", .serial = "0123"};

static void *ask_for_checkpoint(void *arg)
{
    ERROR(err);
    static struct pfx_draft own;
    rig_note(&own, "asks for a checkpoint");
    pfx_result r =
        pfx_oplog_append(world.log.writer, &own, PFX_ROOM_RESERVED, PFX_UNTIL_COVERED, NULL, &err);
    *(bool *)arg = pfx_ok(r);
    return NULL;
}

static atomic_bool locked;

/* As pfx_token_login does: it tells of the login with the token's lock held. */
static void *log_in(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&login_lock);
    locked = true;
    while (signing == 0) /* until the committer waits for the lock */
        usleep(1000);
    disk_full = false; /* only it can make room now */
    pfx_login_trace(&facts, 1u << PFX_ROLE_LOG, CKR_OK);
    pthread_mutex_unlock(&login_lock);
    return NULL;
}

static void must_end(pthread_t thread, const char *who)
{
    struct timespec until;
    __real_clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_S;
    if (pthread_timedjoin_np(thread, NULL, &until) != 0) {
        (void)fprintf(stderr, "%s doesn't come back: a deadlock\n", who);
        _exit(1); /* nothing can be cleaned up behind threads that hang */
    }
}

/* A login is told while the committer waits for that very login, to sign; its entry would need
 * room, which nobody but the committer makes. */
static void login_and_committer(void **state)
{
    (void)state;
    pthread_t login, asker;
    bool covered = false;
    char entry[2048];
    disk_full = true;
    fill_up(PFX_ROOM_ORDINARY);
    ERROR(err);
    assert_ok(pfx_oplog_settle(world.log.writer, &err), &err);
    signing = 0;
    locked = false;
    assert_int_equal(pthread_create(&login, NULL, log_in, NULL), 0);
    while (!locked)
        usleep(1000);
    assert_int_equal(pthread_create(&asker, NULL, ask_for_checkpoint, &covered), 0);
    must_end(login, "the login");
    must_end(asker, "the committer");
    assert_true(covered);
    put(); /* a login is told before what comes after it */
    assert_int_equal(entries_with("\"event\":\"token.login\"", entry, sizeof entry), 1);
    assert_non_null(strstr(entry, "\"rv\":\"CKR_OK\""));
    finish();
}

/* What is wrong with the clock is told before the entry that has the new time. */
static void clock_steps(void **state)
{
    (void)state;
    static const struct {
        long long ahead, boot; /* ms */
        long long step;        /* s that are told; 0: none */
    } cases[] = {
        {0, 0, 0},
        {1000, 0, 0},
        {6000, 0, 6},
        {6000, 0, 0},
        {0, 0, -6},
        {0, 7200000, 0},
        {-3600000, 7200000, -3600},
        {0, 7200000, 3600},
    };
    unsigned told = 0;
    char entry[2048], next[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wall_ahead_ms = cases[i].ahead;
        boot_ahead_ms = cases[i].boot;
        put();
        told += cases[i].step != 0;
        assert_int_equal(entries_with("\"event\":\"clock.step\"", entry, sizeof entry), told);
        if (cases[i].step == 0)
            continue;
        long long off = number_of(entry, "step") - cases[i].step * 1000;
        assert_in_range(off + 1000, 500, 1500);
        snprintf(next, sizeof next, "\"seq\":%lld,", number_of(entry, "seq") + 1);
        assert_int_equal(entries_with(next, entry, sizeof entry), 1);
        assert_non_null(strstr(entry, "something"));
    }
    wall_ahead_ms = 0;
    finish();
}

static void refuse(unsigned n)
{
    static const struct pfx_actor actor = {PFX_ACTOR_OPERATOR, 1, 1000};
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_fail(&why, PFX_CLASS_REFUSED, "key.show", "x", "no", "No.");
    while (n-- > 0)
        pfx_hsmlog_refused(&world.hsm, &actor, "key.show", r, &why);
}

/* Refusals for which there was no room are counted, and the count is told once there is. */
static void lost_refusals(void **state)
{
    (void)state;
    char entry[2048];
    refuse(2);
    disk_full = true;
    fill_up(PFX_ROOM_REFUSAL);
    refuse(5);
    pfx_hsmlog_tick(&world.hsm); /* the hour isn't over */
    assert_int_equal(entries_with("log.quota", NULL, 0), 0);
    disk_full = false;
    boot_ahead_ms = 3600 * 1000; /* now it is */
    pfx_hsmlog_tick(&world.hsm);
    put();
    assert_int_equal(entries_with("\"name\":\"key.show\"", NULL, 0), 2);
    assert_int_equal(entries_with("\"event\":\"log.quota\"", entry, sizeof entry), 1);
    assert_int_equal(number_of(entry, "count"), 5);
    assert_non_null(strstr(entry, "\"name\":\"request.refused\""));
    refuse(1);
    pfx_hsmlog_flush(&world.log);
    put();
    assert_int_equal(entries_with("\"name\":\"key.show\"", NULL, 0), 3);
    assert_int_equal(entries_with("\"event\":\"log.quota\"", NULL, 0), 1);
    finish();
}

static int captured = -1, was_stderr;

static void capture(void)
{
    captured = memfd_create("stderr", MFD_CLOEXEC);
    was_stderr = dup(STDERR_FILENO);
    assert_true(captured >= 0 && was_stderr >= 0);
    fflush(stderr);
    dup2(captured, STDERR_FILENO);
}

static unsigned captured_lines(char *text, size_t size)
{
    fflush(stderr);
    dup2(was_stderr, STDERR_FILENO);
    close(was_stderr);
    ssize_t len = pread(captured, text, size - 1, 0);
    close(captured);
    text[len > 0 ? len : 0] = '\0';
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, "for the operation log")); at++)
        n++;
    return n;
}

/* A full disk and requests without end: a line a minute, with how many there were. */
static void lines_of_lost_notes(void **state)
{
    (void)state;
    static char text[65536];
    disk_full = true;
    fill_up(PFX_ROOM_REFUSAL);
    capture();
    refuse(300);
    unsigned first = captured_lines(text, sizeof text);
    if (first != 1)
        fail_msg("%u lines: %.500s", first, text);
    assert_non_null(strstr(text, "a note for the operation log is lost"));
    boot_ahead_ms = 61000;
    capture();
    refuse(300);
    unsigned second = captured_lines(text, sizeof text);
    if (second != 1)
        fail_msg("%u lines: %.500s", second, text);
    assert_non_null(strstr(text, " 300 notes for the operation log are lost"));
    disk_full = false;
    finish();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(login_and_committer, begin),
        cmocka_unit_test_setup(clock_steps, begin),
        cmocka_unit_test_setup(lost_refusals, begin),
        cmocka_unit_test_setup(lines_of_lost_notes, begin),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
