/* The operation log on a disk that is full, broken or read-only; retention and tiles. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm_oplog_rig.h"

static struct pfx_draft draft;

static const char *at(const char *dir, const char *name)
{
    static char paths[4][512];
    static unsigned n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void poke(const char *path, off_t offset, uint8_t mask)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* A log with n operations, settled, and closed. */
static void make(const struct pfx_oplog_config *config, unsigned n)
{
    ERROR(err);
    struct pfx_oplog *log = rig_begun(config);
    for (unsigned i = 0; i < n; i++)
        assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
}

static struct pfx_error refused(const struct pfx_oplog_config *config, enum pfx_oplog_state state)
{
    ERROR(why);
    struct pfx_oplog *log = rig_open(config);
    enum pfx_oplog_state got = pfx_oplog_state(log, &why);
    if (got != state)
        fail_msg("state %d instead of %d: %s", got, state, why.text);
    ERROR(err);
    rig_note(&draft, "no");
    pfx_result r = pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_APPENDED, NULL, &err);
    assert_class(r, state == PFX_OPLOG_REFUSED ? PFX_CLASS_INTEGRITY : PFX_CLASS_DEVICE);
    pfx_oplog_free(log);
    return why;
}

static pfx_result attach(struct pfx_oplog *log, unsigned which, uint64_t *ret_ahead,
                         struct pfx_error *err)
{
    static struct pfx_signer signer;
    signer = rig_signer(which);
    return pfx_oplog_attach(log, &signer, ret_ahead, err);
}

/* Opens, attaches, operates, settles: nothing is wrong. */
static void goes_on(const struct pfx_oplog_config *config)
{
    ERROR(err);
    struct pfx_oplog *log = rig_open(config);
    if (pfx_oplog_state(log, &err) != PFX_OPLOG_OPEN)
        fail_msg("%s", err.text);
    assert_ok(attach(log, rig_keys_of(log), NULL, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    rig_check(config->dir);
}

/* So slowly that the next segment is ready in time: they begin each 256 entries then. */
static void notes(struct pfx_oplog *log, unsigned n)
{
    ERROR(err);
    for (unsigned done = 0; done < n; done += 50) {
        rig_notes(log, n - done < 50 ? n - done : 50);
        assert_ok(pfx_oplog_settle(log, &err), &err);
        usleep(2000);
    }
}

static void retention(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    config.keep_ms = 400;
    struct pfx_oplog *log = rig_begun(&config);
    uint64_t intent;
    notes(log, 600);
    rig_intent(&draft);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_COVERED, &intent, &err),
              &err);
    struct pfx_oplog_status status;
    pfx_oplog_status(log, &status);
    assert_int_equal(status.first, 0); /* too young */
    usleep(500000);
    notes(log, 600); /* the next segment lets it look again */
    for (int i = 0; i < 100; i++) {
        usleep(20000);
        pfx_oplog_status(log, &status);
        if (status.first >= 512)
            break;
    }
    /* Not the segment with an intent that waits for its result, and none that is young. */
    assert_int_equal(status.first, 512);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.first, 512);
    struct pfx_logdir *dir = NULL;
    struct pfx_bytes entry;
    assert_ok(pfx_logdir_open(config.dir, &dir, &err), &err);
    assert_int_equal(pfx_logdir_first(dir), 512);
    assert_class(pfx_logdir_entry(dir, 511, &entry, &err), PFX_CLASS_REFUSED);
    assert_string_equal(err.code, "dropped");
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_logdir_entry(dir, 512, &entry, &err), &err);
    /* Nodes of what was dropped are still there, and an anchor from then is still compared. */
    struct pfx_node node;
    assert_ok(pfx_logdir_node(dir, 3, 5, &node, &err), &err);
    pfx_logdir_close(dir);
    config.keep_ms = 0;
    goes_on(&config);
    /* Without its tile it can't be proven any more. */
    assert_int_equal(unlink(at(config.dir, "tile/0/000")), 0);
    refused(&config, PFX_OPLOG_REFUSED);
}

static void tiles(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    make(&config, 0);
    struct pfx_oplog *log = rig_open(&config);
    assert_ok(attach(log, 0, NULL, &err), &err);
    notes(log, 1100);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    rig_check(config.dir);
    /* Missing ones are made again, from the end of the level on. */
    static const char *const names[] = {"tile/0/003", "tile/0/002"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(unlink(at(config.dir, names[i])), 0);
        log = rig_open(&config);
        assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_OPEN);
        assert_ok(attach(log, 0, NULL, &err), &err);
        assert_ok(pfx_oplog_settle(log, &err), &err);
        pfx_oplog_free(log);
        if (i == 0)
            rig_check(config.dir);
    }
    /* A changed one that the root hangs on. */
    poke(at(config.dir, "tile/0/001"), 77, 1);
    struct pfx_error why = refused(&config, PFX_OPLOG_REFUSED);
    assert_string_equal(why.code, "root");
    poke(at(config.dir, "tile/0/001"), 77, 1);
    goes_on(&config);
}

static bool disk_full, disk_broken;
static int full_fallocate(void *ctx, const char *step, int fd, off_t len)
{
    if (disk_full) {
        errno = ENOSPC;
        return -1;
    }
    return pfx_oplog_system.fallocate(ctx, step, fd, len);
}

static int broken_fdatasync(void *ctx, const char *step, int fd)
{
    if (disk_broken && strcmp(step, "sync entries") == 0) {
        errno = EIO;
        return -1;
    }
    return pfx_oplog_system.fdatasync(ctx, step, fd);
}

/* Until the reserve is all that is left. */
static unsigned fill_up(struct pfx_oplog *log, struct pfx_error *err)
{
    unsigned n = 0;
    rig_note(&draft, "filler");
    while (n < 100000 &&
           pfx_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_APPENDED, NULL, err)))
        n++;
    return n;
}

static void use_reserve(struct pfx_oplog *log, uint64_t intent)
{
    ERROR(err);
    assert_class(rig_operation(log, NULL, &err), PFX_CLASS_TRANSIENT);
    err = (struct pfx_error)PFX_ERROR_NONE;
    rig_result(&draft, intent);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_PROMISED, PFX_UNTIL_COVERED, NULL, &err),
              &err);
    rig_note(&draft, "refused: the disk is full");
    for (int i = 0; i < 20; i++)
        assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_COVERED, NULL, &err),
                  &err);
    struct pfx_oplog_status status;
    pfx_oplog_status(log, &status);
    assert_true(status.reserve_left < status.reserve);
    assert_true(status.reserve_left > 0);
    assert_int_equal(status.state, PFX_OPLOG_OPEN);
}

static void full_disk(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog_io io = pfx_oplog_system;
    ERROR(err);
    io.fallocate = full_fallocate;
    config.io = &io;
    config.segment_entries = 65536;
    struct pfx_oplog *log = rig_begun(&config);
    uint64_t intent;
    rig_intent(&draft);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &intent, &err),
              &err);
    disk_full = true;
    unsigned n = fill_up(log, &err);
    assert_true(n > 100 && n < 100000);
    assert_int_equal(err.cls, PFX_CLASS_TRANSIENT);
    assert_string_equal(err.code, "ENOSPC");
    assert_non_null(strstr(err.text, "room on the disk"));
    use_reserve(log, intent);
    disk_full = false; /* and by itself */
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    rig_check(config.dir);
    print_message("%u notes until a full disk refused the next one\n", n);
}

/* A real file system without room: /dev/shm is memory, a small one of its own needs root. */
static void full_file_system(void **state)
{
    (void)state;
    const char *dir = rig_fresh();
    ERROR(err);
    char disk[160], inner[176];
    snprintf(disk, sizeof disk, "%s.disk", dir);
    snprintf(inner, sizeof inner, "%s/log", disk);
    assert_int_equal(mkdir(disk, 0755), 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=8m") != 0) {
        print_message("skipped: no right to mount a small file system\n");
        skip();
    }
    struct pfx_oplog_config config = rig_config(inner);
    config.segment_entries = 1024;
    struct pfx_oplog *log = rig_begun(&config);
    uint64_t intent;
    rig_intent(&draft);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &intent, &err),
              &err);
    int fd = open(at(disk, "ballast"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const uint8_t block[4096] = {1};
    while (write(fd, block, sizeof block) == sizeof block)
        ;
    unsigned n = fill_up(log, &err);
    assert_string_equal(err.code, "ENOSPC");
    use_reserve(log, intent);
    err = (struct pfx_error)PFX_ERROR_NONE;
    pfx_oplog_free(log);
    /* It opens on the full disk too. */
    log = rig_open(&config);
    assert_int_equal(pfx_oplog_state(log, &err), PFX_OPLOG_OPEN);
    assert_ok(attach(log, 0, NULL, &err), &err);
    rig_note(&draft, "refused: the disk is full");
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_COVERED, NULL, &err),
              &err);
    close(fd);
    assert_int_equal(unlink(at(disk, "ballast")), 0);
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    rig_check(inner);
    print_message("%u notes until the file system was full\n", n);
    umount(disk);
}

static void broken_disk(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog_io io = pfx_oplog_system;
    ERROR(err);
    io.fdatasync = broken_fdatasync;
    config.io = &io;
    struct pfx_oplog *log = rig_begun(&config);
    assert_ok(rig_operation(log, NULL, &err), &err);
    disk_broken = true;
    assert_class(rig_operation(log, NULL, &err), PFX_CLASS_DEVICE);
    assert_string_equal(err.code, "EIO");
    disk_broken = false; /* a second sync would say yes: it isn't asked */
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(rig_operation(log, NULL, &err), PFX_CLASS_DEVICE);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_CLOSED);
    pfx_oplog_free(log);
    log = rig_open(&config);
    struct pfx_oplog_facts facts;
    pfx_oplog_facts(log, &facts);
    assert_int_equal(facts.tail, 1); /* written anew and synced */
    pfx_oplog_free(log);
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.covered, 3);
    assert_int_equal(verdict.size, 4);
}

static void torn_tail(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    make(&config, 2);
    const char *segment = at(config.dir, "entries/00000000000000000000");
    uint8_t head[2];
    off_t end = 0;
    int fd = open(segment, O_RDWR | O_CLOEXEC);
    while (pread(fd, head, 2, end) == 2 && (head[0] || head[1]))
        end += 2 + (head[0] << 8 | head[1]);
    /* Pages of a batch don't reach the disk in order: zeros first, something behind them. */
    assert_int_equal(pwrite(fd, "\1\2\3", 3, end + 5000), 3);
    struct pfx_oplog *log = rig_open(&config);
    struct pfx_oplog_facts facts;
    pfx_oplog_facts(log, &facts);
    assert_int_equal(facts.cut_bytes, 5003);
    assert_int_equal(facts.tail, 0);
    pfx_oplog_free(log);
    rig_check(config.dir); /* nothing is left of it */
    close(fd);
    goes_on(&config);
}

static void unfit_first_entry(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_open(&config);
    struct pfx_signer signer = rig_signer(0);
    ERROR(err);
    rig_first(&draft, "log.begin", 1); /* names other keys than the signer's */
    assert_class(pfx_oplog_begin(log, RIG_ORIGIN, &draft, &signer, &err), PFX_CLASS_USAGE);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_NONE);
    assert_string_equal(rig_token->labels[0], "");
    rig_first(&draft, "log.begin", 0);
    rig_token->sign_fails = -1;
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(pfx_oplog_begin(log, RIG_ORIGIN, &draft, &signer, &err), PFX_CLASS_DEVICE);
    rig_token->sign_fails = 0;
    pfx_oplog_free(log);
    log = rig_open(&config); /* what it left behind counts for nothing */
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_NONE);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_begin(log, RIG_ORIGIN, &draft, &signer, &err), &err);
    pfx_oplog_free(log);
    goes_on(&config);
}

static void readers_group(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root gives files to a group\n");
        skip();
    }
    struct pfx_oplog_config config = rig_config(rig_fresh());
    config.readers = 65534;
    make(&config, 2);
    static const char *const names[] = {"",
                                        "entries",
                                        "entries/00000000000000000000",
                                        "anchor",
                                        "keys",
                                        "checkpoint.0",
                                        "checkpoint.1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat facts;
        assert_int_equal(stat(at(config.dir, names[i]), &facts), 0);
        assert_int_equal(facts.st_gid, 65534);
        assert_int_equal(facts.st_mode & 07777, S_ISDIR(facts.st_mode) ? 0750 : 0640);
    }
}

/* Without root's rights, in a process of its own. */
static void read_only(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    make(&config, 2);
    char command[1024], parent[160];
    snprintf(parent, sizeof parent, "%s", config.dir);
    *strrchr(parent, '/') = '\0';
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/chmod", "chmod", "-R", "a-w,a+rX", parent, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    snprintf(command, sizeof command, "%s/..", parent);
    assert_int_equal(chmod(command, 0755), 0);
    pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
                               setresuid(65534, 65534, 65534) != 0))
            _exit(2);
        ERROR(err);
        struct pfx_oplog *log;
        struct pfx_logdir *dir;
        uint64_t count = 0;
        struct pfx_bytes entry;
        if (pfx_failed(pfx_oplog_open(&config, &log, &err)) ||
            pfx_oplog_state(log, &err) != PFX_OPLOG_CLOSED || strcmp(err.code, "EACCES") != 0)
            _exit(3);
        rig_note(&draft, "no");
        ERROR(no);
        if (pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &no).cls !=
            PFX_CLASS_DEVICE)
            _exit(4);
        /* Reading and exporting still work. */
        if (pfx_failed(pfx_logdir_open(config.dir, &dir, &err)) ||
            pfx_failed(pfx_logdir_count(dir, &count, &err)) || count != 5 ||
            pfx_failed(pfx_logdir_entry(dir, 4, &entry, &err)))
            _exit(5);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    pid = fork();
    if (pid == 0) {
        execl("/bin/chmod", "chmod", "-R", "u+w", parent, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
}

static void no_folder(void **state)
{
    (void)state;
    char missing[160];
    struct pfx_oplog_config config = rig_config(rig_fresh());
    snprintf(missing, sizeof missing, "%s/not/there", config.dir);
    config.dir = missing;
    struct pfx_error why = refused(&config, PFX_OPLOG_CLOSED);
    assert_string_equal(why.code, "ENOENT");
}

static void one_writer(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    struct pfx_error why = refused(&config, PFX_OPLOG_CLOSED);
    assert_non_null(strstr(why.text, "Another process"));
    pfx_oplog_free(log);
    goes_on(&config);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_folder),
        cmocka_unit_test(one_writer),
        cmocka_unit_test(read_only),
        cmocka_unit_test(retention),
        cmocka_unit_test(tiles),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(full_file_system),
        cmocka_unit_test(broken_disk),
        cmocka_unit_test(torn_tail),
        cmocka_unit_test(unfit_first_entry),
        cmocka_unit_test(readers_group),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
