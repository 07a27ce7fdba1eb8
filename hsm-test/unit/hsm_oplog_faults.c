#include "hsm_oplog_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *const fault_names[N_FAULTS] = {
    "none",     "before", "after",     "1 byte",     "2 bytes", "half",     "but last",
    "2nd half", "power",  "full once", "stays full", "EIO",     "EIO, lost"};

struct fault_counts *fault_counts;
const char *fault_step;
unsigned fault_nth;
enum fault fault_kind;
bool disk_full;

/* Writes that no sync followed, with what was there before. */
struct write {
    int fd;
    off_t at;
    size_t len;
    void *old;
};
static struct write writes[512];
static size_t n_writes;

static void forget(int fd)
{
    struct stat a, b;
    size_t kept = 0;
    fstat(fd, &a);
    for (size_t i = 0; i < n_writes; i++) {
        fstat(writes[i].fd, &b);
        if (a.st_ino == b.st_ino) {
            close(writes[i].fd);
            free(writes[i].old);
        } else {
            writes[kept++] = writes[i];
        }
    }
    n_writes = kept;
}

void lose(void)
{
    while (n_writes > 0) {
        struct write *last = &writes[--n_writes];
        (void)!pwrite(last->fd, last->old, last->len, last->at);
        close(last->fd);
        free(last->old);
    }
}

static void record(int fd, size_t len, off_t at)
{
    if (n_writes == sizeof writes / sizeof *writes)
        return;
    struct write *one = &writes[n_writes++];
    *one = (struct write){fcntl(fd, F_DUPFD_CLOEXEC, 0), at, len, pfx_alloc(len)};
    /* The segment is open for reading too; small files are new. */
    (void)!pread(fd, one->old, len, at);
}

static unsigned step_number(const char *step)
{
    for (unsigned i = 0; pfx_oplog_steps[i]; i++)
        if (strcmp(pfx_oplog_steps[i], step) == 0)
            return i;
    fprintf(stderr, "step \"%s\" isn't in pfx_oplog_steps\n", step);
    _exit(70);
}

bool needs_space(const char *step)
{
    return strncmp(step, "make ", 5) == 0 || strcmp(step, "allocate segment") == 0 ||
           strcmp(step, "grow segment") == 0 ||
           (strncmp(step, "write ", 6) == 0 && strcmp(step, "write checkpoint") != 0);
}

/* What is to be done at this call; NONE: the call itself. */
static enum fault at_call(const char *step)
{
    unsigned i = step_number(step);
    unsigned nth = __atomic_add_fetch(&fault_counts->calls[i], 1, __ATOMIC_SEQ_CST);
    if (disk_full && needs_space(step)) {
        errno = ENOSPC;
        return FULL;
    }
    if (!fault_step || strcmp(step, fault_step) != 0 || nth != fault_nth)
        return NONE;
    fault_counts->hit = true;
    if (fault_kind == BEFORE || fault_kind == POWER) {
        if (fault_kind == POWER)
            lose();
        _exit(KILLED);
    }
    disk_full = disk_full || fault_kind == FULL_LONG;
    errno = fault_kind == FULL || fault_kind == FULL_LONG ? ENOSPC : EIO;
    return fault_kind;
}

static bool fails(enum fault fault)
{
    return fault >= FULL;
}

static int done(enum fault fault, int result)
{
    if (fault == AFTER)
        _exit(KILLED);
    return result;
}

static ssize_t hook_pwrite(void *ctx, const char *step, int fd, const void *data, size_t len,
                           off_t at)
{
    (void)ctx;
    enum fault fault = at_call(step);
    size_t from = 0, upto = len;
    if (fails(fault))
        return -1;
    record(fd, len, at);
    if (fault == TORN_1 || fault == TORN_2)
        upto = fault == TORN_1 ? 1 : 2;
    else if (fault == TORN_HALF)
        upto = len / 2;
    else if (fault == TORN_LAST)
        upto = len - 1;
    else if (fault == TORN_LATE)
        from = len / 2;
    upto = upto > len ? len : upto;
    ssize_t n = pwrite(fd, (const char *)data + from, upto - from, at + (off_t)from);
    if (fault != NONE)
        _exit(KILLED);
    return n;
}

static int hook_fdatasync(void *ctx, const char *step, int fd)
{
    (void)ctx;
    enum fault fault = at_call(step);
    if (fault == FAILS_LOST) {
        int error = errno;
        lose();
        errno = error;
    }
    if (fails(fault))
        return -1;
    int result = fdatasync(fd);
    forget(fd);
    return done(fault, result);
}

pthread_mutex_t late_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t late_change = PTHREAD_COND_INITIALIZER;
bool late, late_there;

static void wait_while_late(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&late_lock);
    late_there = true;
    pthread_cond_broadcast(&late_change);
    while (late && pthread_cond_timedwait(&late_change, &late_lock, &until) == 0)
        ;
    pthread_mutex_unlock(&late_lock);
}

unsigned refuse_in;

static int hook_fallocate(void *ctx, const char *step, int fd, off_t len)
{
    (void)ctx;
    if (late && strcmp(step, "allocate segment") == 0)
        wait_while_late();
    enum fault fault = at_call(step);
    if (refuse_in > 0 && strcmp(step, "allocate segment") == 0 && --refuse_in == 0) {
        errno = ENOSPC;
        return -1;
    }
    return fails(fault) ? -1 : done(fault, fallocate(fd, 0, 0, len));
}

static int hook_openat(void *ctx, const char *step, int dir, const char *name, int flags,
                       mode_t mode)
{
    (void)ctx;
    enum fault fault = at_call(step);
    return fails(fault) ? -1 : done(fault, openat(dir, name, flags, mode));
}

static int hook_renameat(void *ctx, const char *step, int dir, const char *from, const char *to)
{
    (void)ctx;
    enum fault fault = at_call(step);
    return fails(fault) ? -1 : done(fault, renameat(dir, from, dir, to));
}

static int hook_unlinkat(void *ctx, const char *step, int dir, const char *name)
{
    (void)ctx;
    enum fault fault = at_call(step);
    return fails(fault) ? -1 : done(fault, unlinkat(dir, name, 0));
}

static int hook_ftruncate(void *ctx, const char *step, int fd, off_t len)
{
    (void)ctx;
    enum fault fault = at_call(step);
    return fails(fault) ? -1 : done(fault, ftruncate(fd, len));
}

static int hook_mkdirat(void *ctx, const char *step, int dir, const char *name, mode_t mode)
{
    (void)ctx;
    enum fault fault = at_call(step);
    return fails(fault) ? -1 : done(fault, mkdirat(dir, name, mode));
}

const struct pfx_oplog_io fault_hooks = {.pwrite = hook_pwrite,
                                         .fdatasync = hook_fdatasync,
                                         .fallocate = hook_fallocate,
                                         .openat = hook_openat,
                                         .renameat = hook_renameat,
                                         .unlinkat = hook_unlinkat,
                                         .ftruncate = hook_ftruncate,
                                         .mkdirat = hook_mkdirat};
