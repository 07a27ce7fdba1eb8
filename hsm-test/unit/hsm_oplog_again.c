/*
 * What the operation log does once more after it went wrong: a checkpoint whose sync failed,
 * folders that a crash left without their mode, a folder that couldn't be set aside.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm_oplog_rig.h"

#define KILLED 99

static struct pfx_draft draft;

static pfx_result attach(struct pfx_oplog *log, unsigned which, struct pfx_error *err)
{
    static struct pfx_signer signer;
    signer = rig_signer(which);
    return pfx_oplog_attach(log, &signer, NULL, err);
}

/* A log that goes on: opened, attached, one operation, closed in order. */
static void goes_on(const struct pfx_oplog_config *config)
{
    ERROR(err);
    struct pfx_oplog_config plain = *config;
    plain.io = NULL;
    struct pfx_oplog *log = rig_open(&plain);
    assert_ok(attach(log, rig_keys_of(log), &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    rig_check(config->dir);
}

/* --- a checkpoint whose sync failed ---
 *
 * What is in a slot then is in memory only: the next start reads it, and the power may go at any
 * step after that. The disk has what was written and then synced; a sync that failed leaves the old
 * bytes there, and no later one brings them. */

enum when { NEVER, BEFORE, TORN, AFTER };
static struct disk {
    struct slot {
        bool known, lost, written; /* differs from the disk; written since its last sync */
        uint8_t disk[PFX_SLOT_SIZE];
    } slots[2];

    uint64_t told_seq[4];
    unsigned n_told;
} * disk;
static bool sync_fails;
static const char *cut_step;
static enum when cut;
static unsigned cut_nth; /* at which call of the step */

static struct slot *slot_of(int fd)
{
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 1 || (path[len - 1] != '0' && path[len - 1] != '1'))
        _exit(70);
    return &disk->slots[path[len - 1] - '0'];
}

static bool cut_here(const char *step, enum when when)
{
    return cut == when && strcmp(step, cut_step) == 0 && --cut_nth == 0;
}

static ssize_t slot_pwrite(void *ctx, const char *step, int fd, const void *data, size_t len,
                           off_t at)
{
    bool is_slot = strcmp(step, "write checkpoint") == 0 || strcmp(step, "mend slot") == 0;
    if (is_slot) {
        struct slot *slot = slot_of(fd);
        if (cut_here(step, BEFORE))
            _exit(KILLED);
        if (!slot->known && pread(fd, slot->disk, PFX_SLOT_SIZE, 0) != PFX_SLOT_SIZE)
            _exit(70);
        slot->known = slot->lost = slot->written = true;
        if (cut_here(step, TORN)) { /* so much of it reached the disk */
            memcpy(slot->disk, data, 100);
            _exit(KILLED);
        }
    }
    return pfx_oplog_system.pwrite(ctx, step, fd, data, len, at);
}

static int slot_fdatasync(void *ctx, const char *step, int fd)
{
    bool is_slot = strcmp(step, "sync checkpoint") == 0 || strcmp(step, "sync mended slot") == 0;
    if (!is_slot)
        return pfx_oplog_system.fdatasync(ctx, step, fd);
    struct slot *slot = slot_of(fd);
    if (cut_here(step, BEFORE))
        _exit(KILLED);
    if (sync_fails) {
        sync_fails = slot->written = false;
        errno = EIO;
        return -1;
    }
    if (slot->written && pread(fd, slot->disk, PFX_SLOT_SIZE, 0) == PFX_SLOT_SIZE)
        slot->lost = slot->written = false;
    if (cut_here(step, AFTER))
        _exit(KILLED);
    return 0;
}

static void power_goes(const char *dir)
{
    char path[256];
    for (int i = 0; i < 2; i++) {
        if (!disk->slots[i].lost)
            continue;
        snprintf(path, sizeof path, "%s/checkpoint.%d", dir, i);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, disk->slots[i].disk, PFX_SLOT_SIZE, 0), PFX_SLOT_SIZE);
        close(fd);
    }
}

static pfx_result operate(struct pfx_oplog *log, uint64_t *ret_seq, struct pfx_error *err)
{
    uint64_t intent;
    rig_intent(&draft);
    PFX_TRY(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &intent, err));
    rig_result(&draft, intent);
    pfx_draft_str(&draft, PFX_F_TARGET_NAME, "result");
    return pfx_oplog_append(log, &draft, PFX_ROOM_PROMISED, PFX_UNTIL_COVERED, ret_seq, err);
}

static void let_out(uint64_t seq)
{
    disk->told_seq[disk->n_told++] = seq;
}

/* The start after it, in a process that loses its power somewhere. */
static void start_again(const struct pfx_oplog_config *config, uint64_t failed)
{
    ERROR(err);
    struct pfx_oplog *log;
    uint64_t seq;
    if (pfx_failed(pfx_oplog_open(config, &log, &err)) || pfx_failed(attach(log, 0, &err)))
        _exit(1);
    if (pfx_ok(pfx_oplog_wait(log, failed, PFX_UNTIL_COVERED, &err)))
        let_out(failed);
    if (pfx_ok(operate(log, &seq, &err)))
        let_out(seq);
    _exit(0); /* the power goes at the latest here */
}

/* Two operations let out, and an entry whose checkpoint couldn't be synced; its number. */
static uint64_t until_a_sync_fails(const struct pfx_oplog_config *config)
{
    ERROR(err);
    uint64_t seq;
    struct pfx_oplog *log = rig_begun(config);
    for (int n = 0; n < 2; n++) {
        assert_ok(operate(log, &seq, &err), &err);
        let_out(seq);
    }
    sync_fails = true;
    rig_note(&draft, "result"); /* one entry, and so one checkpoint over it */
    assert_class(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_COVERED, &seq, &err),
                 PFX_CLASS_DEVICE);
    assert_false(sync_fails);
    pfx_oplog_free(log);
    return seq;
}

/* The next start loses its power there; what was let out until then must stand. */
static void lose_power_at(const char *step, unsigned nth, enum when when, unsigned told)
{
    char list[256] = "";
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog_io io = pfx_oplog_system;
    memset(disk, 0, sizeof *disk);
    io.pwrite = slot_pwrite;
    io.fdatasync = slot_fdatasync;
    config.io = &io;
    cut = NEVER;
    uint64_t failed = until_a_sync_fails(&config);
    cut_step = step;
    cut_nth = nth;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        cut = when;
        start_again(&config, failed);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), when == NEVER ? 0 : KILLED);
    power_goes(config.dir);
    for (unsigned n = 0; n < disk->n_told; n++)
        snprintf(list + strlen(list), sizeof list - strlen(list),
                 "%s[\"" RIG_ORIGIN "\",%" PRIu64 ",\"result\"]", n ? "," : "", disk->told_seq[n]);
    struct rig_verdict verdict = rig_ask(config.dir, list, true);
    if (verdict.findings[0] || disk->n_told != told)
        fail_msg("power gone at \"%s\" number %u (%u), %u let out: %s", step, nth, when,
                 disk->n_told, verdict.findings);
    goes_on(&config);
}

static void slots_after_a_failed_sync(void **state)
{
    (void)state;
    static const struct {
        const char *write, *sync;
        unsigned nth, told;
    } slots[] = {{"mend slot", "sync mended slot", 1, 2},
                 {"mend slot", "sync mended slot", 2, 2},
                 {"write checkpoint", "sync checkpoint", 1, 3}};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        lose_power_at(slots[i].write, slots[i].nth, BEFORE, slots[i].told);
        lose_power_at(slots[i].write, slots[i].nth, TORN, slots[i].told);
        lose_power_at(slots[i].sync, slots[i].nth, BEFORE, slots[i].told);
        lose_power_at(slots[i].sync, slots[i].nth, AFTER, slots[i].told);
    }
    lose_power_at("", 0, NEVER, 4);
}

/* --- modes --- */

static gid_t want_group;

static int check_group(const char *path, const struct stat *facts, int type, struct FTW *ftw)
{
    (void)type;
    (void)ftw;
    if (facts->st_gid != want_group)
        fail_msg("%s belongs to group %u", path, (unsigned)facts->st_gid);
    return 0;
}

/* A crash between the making of a folder and its mode: mended by the next start, though nothing is
 * written into that folder then. */
static void modes(void **state)
{
    (void)state;
    static const char *const folders[] = {"",       "entries", "checkpoints", "keys",
                                          "policy", "tile",    "tile/0"};
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    struct pfx_oplog *log = rig_begun(&config);
    static const uint8_t policy[32] = {1};
    rig_notes(log, 600);
    assert_ok(pfx_oplog_policy(log, policy, (struct pfx_bytes){(const uint8_t *)"a: b\n", 5}, &err),
              &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", config.dir, folders[i]);
        assert_int_equal(chmod(path, 0700), 0);
    }
    log = rig_open(&config);
    assert_ok(attach(log, 0, &err), &err);
    pfx_oplog_free(log);
    struct stat facts;
    assert_int_equal(stat(config.dir, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0750);
    rig_check(config.dir); /* looks at all modes below */
    if (geteuid() != 0) {
        print_message("skipped: only root can give files to any group\n");
        return;
    }
    /* Other auditors: they read what was there before, too. */
    for (want_group = 60001; want_group < 60003; want_group++) {
        config.readers = want_group;
        pfx_oplog_free(rig_open(&config));
        nftw(config.dir, check_group, 16, FTW_PHYS);
    }
    goes_on(&config);
    want_group--;
    nftw(config.dir, check_group, 16, FTW_PHYS);
}

/* --- a folder that can't be set aside --- */

static bool rename_fails, mkdir_fails;

static int refusing_renameat(void *ctx, const char *step, int dir, const char *from, const char *to)
{
    if (rename_fails && strcmp(step, "set aside") == 0) {
        errno = EACCES;
        return -1;
    }
    return pfx_oplog_system.renameat(ctx, step, dir, from, to);
}

static int refusing_mkdirat(void *ctx, const char *step, int dir, const char *name, mode_t mode)
{
    if (mkdir_fails) {
        errno = ENOSPC;
        return -1;
    }
    return pfx_oplog_system.mkdirat(ctx, step, dir, name, mode);
}

static void set_aside_again(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog_io io = pfx_oplog_system;
    io.renameat = refusing_renameat;
    io.mkdirat = refusing_mkdirat;
    config.io = &io;
    struct pfx_oplog *log = rig_begun(&config);
    char *where = NULL;
    rename_fails = true;
    assert_true(pfx_failed(pfx_oplog_set_aside(log, &where, &err)));
    assert_string_equal(err.code, "EACCES");
    assert_null(where);
    /* Nothing happened to it: it goes on. */
    assert_int_equal(pfx_oplog_state(log, &why), PFX_OPLOG_OPEN);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(attach(log, 0, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    rename_fails = false;
    mkdir_fails = true;
    assert_true(pfx_failed(pfx_oplog_set_aside(log, &where, &err)));
    assert_string_equal(err.code, "ENOSPC");
    assert_int_equal(pfx_oplog_state(log, &why), PFX_OPLOG_REFUSED);
    assert_non_null(strstr(why.text, "was set aside"));
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(rig_operation(log, NULL, &err), PFX_CLASS_INTEGRITY);
    mkdir_fails = false;
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_set_aside(log, &where, &err), &err);
    assert_null(where);
    assert_int_equal(pfx_oplog_state(log, &why), PFX_OPLOG_NONE);
    static struct pfx_signer signer;
    signer = rig_signer(2);
    rig_first(&draft, "log.reopen", 2);
    assert_ok(pfx_oplog_begin(log, RIG_SUCCESSOR, &draft, &signer, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    pfx_oplog_free(log);
    rig_check(config.dir);
}

static int setup(void **state)
{
    disk = mmap(NULL, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(disk, MAP_FAILED);
    return rig_setup(state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_after_a_failed_sync),
        cmocka_unit_test(modes),
        cmocka_unit_test(set_aside_again),
    };
    return cmocka_run_group_tests(tests, setup, rig_teardown);
}
