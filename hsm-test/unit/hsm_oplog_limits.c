/* The operation log against a clock that is wrong, refusals without end, and a disk that is full
 * and broken at once. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hsm_oplog_rig.h"

#define DAY_S (24 * 60 * 60)

static struct pfx_draft draft;

/* A wall clock that jumps, time since boot that goes by faster, and another boot; the linker puts
 * these in front of the system's (hsm.cmake). */
static time_t wall_s, up_s;
static const char *boot;

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
    int result = __real_clock_gettime(id, ret);
    if (id == CLOCK_REALTIME)
        ret->tv_sec += __atomic_load_n(&wall_s, __ATOMIC_SEQ_CST);
    if (id == CLOCK_BOOTTIME)
        ret->tv_sec += __atomic_load_n(&up_s, __ATOMIC_SEQ_CST);
    return result;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    if (boot && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) {
        int fd = memfd_create("boot_id", MFD_CLOEXEC);
        assert_int_equal(pwrite(fd, boot, strlen(boot), 0), strlen(boot));
        return fd;
    }
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return __real_open(path, flags, mode);
}

static void set_clocks(time_t wall_days, time_t up_days)
{
    __atomic_store_n(&wall_s, wall_days * DAY_S, __ATOMIC_SEQ_CST);
    __atomic_store_n(&up_s, up_days * DAY_S, __ATOMIC_SEQ_CST);
}

static struct pfx_oplog *opened(const struct pfx_oplog_config *config)
{
    ERROR(err);
    static struct pfx_signer signer;
    struct pfx_oplog *log = rig_open(config);
    signer = rig_signer(0);
    assert_ok(pfx_oplog_attach(log, &signer, NULL, &err), &err);
    return log;
}

/* Two more segments, so that it is looked what is old; the first entry kept then. */
static uint64_t first_kept(struct pfx_oplog *log, bool is_dropped)
{
    ERROR(err);
    struct pfx_oplog_status status;
    rig_notes(log, 600);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    for (int i = 0; i < (is_dropped ? 250 : 12); i++) {
        pfx_oplog_status(log, &status);
        if (status.first > 0)
            break;
        usleep(20000);
    }
    return status.first;
}

/* Three segments and more, written by a clock that is right. */
static struct pfx_oplog *begun(struct pfx_oplog_config *config)
{
    *config = rig_config(rig_fresh());
    config->keep_ms = INT64_C(10) * DAY_S * 1000;
    struct pfx_oplog *log = rig_begun(config);
    /* What isn't covered isn't dropped; and what comes at once is in one segment, however long. */
    for (int i = 0; i < 3; i++) {
        ERROR(err);
        rig_notes(log, 300);
        assert_ok(pfx_oplog_settle(log, &err), &err);
    }
    return log;
}

static void ended(struct pfx_oplog *log, const char *dir)
{
    pfx_oplog_free(log);
    set_clocks(0, 0);
    boot = NULL;
    rig_check(dir);
}

/* What is dropped is gone: never by a clock that was set wrong, however often pfx-hsm starts and
 * writes down what that clock says. */
static void wrong_clock_drops_nothing(void **state)
{
    (void)state;
    struct pfx_oplog_config config;
    struct pfx_oplog *log = begun(&config);
    set_clocks(3 * 365, 0);
    assert_int_equal(first_kept(log, false), 0);
    for (int starts = 0; starts < 3; starts++) {
        pfx_oplog_free(log);
        log = opened(&config);
        assert_int_equal(first_kept(log, false), 0);
    }
    set_clocks(-3 * 365, 0);
    pfx_oplog_free(log);
    log = opened(&config);
    assert_int_equal(first_kept(log, false), 0);
    ended(log, config.dir);
}

/* Time that went by is counted while the host runs, in one process or several, and a wall clock
 * that says otherwise holds nothing up. */
static void time_that_went_by(void **state)
{
    (void)state;
    struct pfx_oplog_config config;
    struct pfx_oplog *log = begun(&config);
    set_clocks(-365, 11);
    assert_true(first_kept(log, true) > 0);
    ended(log, config.dir);

    log = begun(&config);
    for (int days = 4; days <= 8; days += 4) {
        pfx_oplog_free(log);
        set_clocks(0, days);
        log = opened(&config);
        assert_int_equal(first_kept(log, false), 0);
    }
    pfx_oplog_free(log);
    set_clocks(0, 12);
    log = opened(&config);
    assert_in_range(first_kept(log, true), 256, 1000); /* what the fourth day wrote stays */
    ended(log, config.dir);
}

/* Between two boots nobody but the wall clock knows how long it was, and it isn't asked: not even
 * where the other boot has lasted for years, as on a host to which the folder was moved. */
static void boots(void **state)
{
    (void)state;
    struct pfx_oplog_config config;
    boot = "11111111-1111-4111-8111-111111111111\n";
    struct pfx_oplog *log = begun(&config);
    pfx_oplog_free(log);
    boot = "22222222-2222-4222-8222-222222222222\n";
    set_clocks(3 * 365, 3 * 365);
    log = opened(&config);
    assert_int_equal(first_kept(log, false), 0);
    pfx_oplog_free(log);
    set_clocks(0, 3 * 365 + 11); /* eleven days of this one */
    log = opened(&config);
    assert_true(first_kept(log, true) > 0);
    ended(log, config.dir);
}

static bool disk_full, disk_broken;

static int full_fallocate(void *ctx, const char *step, int fd, off_t len)
{
    struct stat facts;
    /* What a file has already, it keeps. */
    if (__atomic_load_n(&disk_full, __ATOMIC_SEQ_CST) &&
        (fstat(fd, &facts) != 0 || facts.st_size < len)) {
        errno = ENOSPC;
        return -1;
    }
    return pfx_oplog_system.fallocate(ctx, step, fd, len);
}

static int broken_fdatasync(void *ctx, const char *step, int fd)
{
    if (__atomic_load_n(&disk_broken, __ATOMIC_SEQ_CST) && strcmp(step, "sync entries") == 0) {
        errno = EIO;
        return -1;
    }
    return pfx_oplog_system.fdatasync(ctx, step, fd);
}

static void set(bool *what, bool value)
{
    __atomic_store_n(what, value, __ATOMIC_SEQ_CST);
}

/* Appends until there is no room; how many. */
static unsigned fill_up(struct pfx_oplog *log, enum pfx_room room)
{
    for (unsigned n = 0;; n++) {
        ERROR(err);
        rig_note(&draft, "one of very many");
        pfx_result result = pfx_oplog_append(log, &draft, room, PFX_UNTIL_APPENDED, NULL, &err);
        if (pfx_failed(result)) {
            assert_class(result, PFX_CLASS_TRANSIENT);
            assert_string_equal(err.code, "ENOSPC");
            return n;
        }
        assert_true(n < 100000);
    }
}

/* A start, what it finds open, and a stop have room, however many requests were refused. */
static void refusals_leave_a_reserve(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog_io io = pfx_oplog_system;
    io.fallocate = full_fallocate;
    config.io = &io;
    struct pfx_oplog *log = rig_begun(&config);
    struct pfx_oplog_status status;
    set(&disk_full, true);
    assert_true(fill_up(log, PFX_ROOM_ORDINARY) > 0);
    pfx_oplog_status(log, &status);
    assert_in_range(status.reserve_left, status.reserve - 1024, status.reserve);
    assert_true(fill_up(log, PFX_ROOM_REFUSAL) > 0);
    pfx_oplog_status(log, &status);
    assert_in_range(status.reserve_left, status.reserve / 2, status.reserve / 2 + 1024);
    assert_int_equal(fill_up(log, PFX_ROOM_ORDINARY), 0);
    pfx_oplog_free(log);
    log = opened(&config);
    rig_note(&draft, "start");
    for (int i = 0; i < 30; i++)
        assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_COVERED, NULL, &err),
                  &err);
    set(&disk_full, false);
    /* Room is looked for again by itself. */
    for (int i = 0; i < 100 && pfx_failed(rig_operation(log, NULL, &err)); i++)
        usleep(50000);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(rig_operation(log, NULL, &err), &err);
    /* The first tile is due, and is made when nothing else is to do. */
    char *tile PFX_AUTOFREE = pfx_asprintf("%s/tile/0/000", config.dir);
    for (int i = 0; i < 200 && access(tile, F_OK) != 0; i++)
        usleep(50000);
    pfx_oplog_free(log);
    rig_check(config.dir);
}

static long wakeups(void)
{
    struct rusage used;
    assert_int_equal(getrusage(RUSAGE_SELF, &used), 0);
    return used.ru_nvcsw;
}

/* Room that was to be looked for again isn't any more once the log is closed: no busy loop. */
static void closed_log_sleeps(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog_io io = pfx_oplog_system;
    io.fallocate = full_fallocate;
    io.fdatasync = broken_fdatasync;
    config.io = &io;
    struct pfx_oplog *log = rig_begun(&config);
    set(&disk_full, true);
    fill_up(log, PFX_ROOM_ORDINARY);
    set(&disk_broken, true);
    rig_note(&draft, "the last one");
    assert_class(pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_SYNCED, NULL, &err),
                 PFX_CLASS_DEVICE);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_CLOSED);
    sleep(2); /* until all that was due later is due */
    long before = wakeups();
    sleep(1);
    long woken = wakeups() - before;
    print_message("a closed log wakes up %ld times a second\n", woken);
    assert_true(woken < 50);
    set(&disk_full, false);
    set(&disk_broken, false);
    pfx_oplog_free(log);
    rig_check(config.dir);
}

/* One that failed leaves nothing of it to the next. */
static int right(void **state)
{
    (void)state;
    set_clocks(0, 0);
    boot = NULL;
    set(&disk_full, false);
    set(&disk_broken, false);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(wrong_clock_drops_nothing, right),
        cmocka_unit_test_setup(time_that_went_by, right),
        cmocka_unit_test_setup(boots, right),
        cmocka_unit_test_setup(refusals_leave_a_reserve, right),
        cmocka_unit_test_setup(closed_log_sleeps, right),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
