/* The log's system calls, and small files that are there whole or not at all. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog_impl.h"

#define FOLDERS_DEEP 10 /* tile/<level>/x001/x234/...: fewer than this */

#define SMALL(name)                                                                                \
    {                                                                                              \
        "make " name, "write " name, "sync " name, "name " name, "sync folder of " name            \
    }
#define SMALL_STEPS(name)                                                                          \
    "make " name, "write " name, "sync " name, "name " name, "sync folder of " name

const struct pfx_small pfx_small_tile = SMALL("tile"), pfx_small_milestone = SMALL("milestone"),
                       pfx_small_anchor = SMALL("anchor copy"), pfx_small_key = SMALL("key line"),
                       pfx_small_policy = SMALL("policy"), pfx_small_slot = SMALL("slot");

const char *const pfx_oplog_steps[] = {
    /* each commit */
    "append entries", "sync entries", "write checkpoint", "sync checkpoint",
    /* segments */
    "make segment", "allocate segment", "sync segment", "sync folder of segments", "grow segment",
    "name segment anew", "trim segment", "drop empty segment",
    /* start */
    "make folder", "open segment", "open slot", "rewrite tail", "sync tail", "drop torn segment",
    "mend slot", "sync mended slot",
    /* now and then */
    SMALL_STEPS("tile"), SMALL_STEPS("milestone"), SMALL_STEPS("anchor copy"),
    SMALL_STEPS("key line"), SMALL_STEPS("policy"), SMALL_STEPS("slot"), "take back rotation",
    "sync after rotation", "drop segment", "sync after drop", "set aside", NULL};

static ssize_t system_pwrite(void *ctx, const char *step, int fd, const void *data, size_t len,
                             off_t at)
{
    (void)ctx;
    (void)step;
    return pwrite(fd, data, len, at);
}

static int system_fdatasync(void *ctx, const char *step, int fd)
{
    (void)ctx;
    (void)step;
    return fdatasync(fd);
}

static int system_fallocate(void *ctx, const char *step, int fd, off_t len)
{
    (void)ctx;
    (void)step;
    return fallocate(fd, 0, 0, len);
}

static int system_openat(void *ctx, const char *step, int dir, const char *name, int flags,
                         mode_t mode)
{
    (void)ctx;
    (void)step;
    return openat(dir, name, flags, mode);
}

static int system_renameat(void *ctx, const char *step, int dir, const char *from, const char *to)
{
    (void)ctx;
    (void)step;
    return renameat(dir, from, dir, to);
}

static int system_unlinkat(void *ctx, const char *step, int dir, const char *name)
{
    (void)ctx;
    (void)step;
    return unlinkat(dir, name, 0);
}

static int system_ftruncate(void *ctx, const char *step, int fd, off_t len)
{
    (void)ctx;
    (void)step;
    return ftruncate(fd, len);
}

static int system_mkdirat(void *ctx, const char *step, int dir, const char *name, mode_t mode)
{
    (void)ctx;
    (void)step;
    return mkdirat(dir, name, mode);
}

const struct pfx_oplog_io pfx_oplog_system = {
    .pwrite = system_pwrite,
    .fdatasync = system_fdatasync,
    .fallocate = system_fallocate,
    .openat = system_openat,
    .renameat = system_renameat,
    .unlinkat = system_unlinkat,
    .ftruncate = system_ftruncate,
    .mkdirat = system_mkdirat,
};

bool pfx_oplog_no_space(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

int pfx_oplog_write_at(struct pfx_oplog *log, const char *step, int fd, const void *data,
                       size_t len, uint64_t at)
{
    const uint8_t *bytes = data;
    while (len > 0) {
        ssize_t n = log->io->pwrite(log->io->ctx, step, fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        bytes += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

int pfx_oplog_sync(struct pfx_oplog *log, const char *step, int fd)
{
    /* Not again after EINTR or anything else: a second fsync may say yes to pages that were lost.
     */
    return log->io->fdatasync(log->io->ctx, step, fd) == 0 ? 0 : errno;
}

/* File systems without fallocate: zeros written once; where even that doesn't hold blocks (copy on
 * write), a full disk closes the log instead of using its reserve. */
static int write_zeros(struct pfx_oplog *log, const char *step, int fd, uint64_t len)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return errno;
    static const uint8_t zeros[65536];
    for (uint64_t at = (uint64_t)facts.st_size; at < len;) {
        size_t n = len - at < sizeof zeros ? (size_t)(len - at) : sizeof zeros;
        int error = pfx_oplog_write_at(log, step, fd, zeros, n, at);
        if (error != 0)
            return error;
        at += n;
    }
    return 0;
}

int pfx_oplog_allocate(struct pfx_oplog *log, const char *step, int fd, uint64_t len)
{
    for (;;) {
        if (log->io->fallocate(log->io->ctx, step, fd, (off_t)len) == 0)
            return 0;
        int error = errno;
        if (error == EOPNOTSUPP)
            return write_zeros(log, step, fd, len);
        if (error != EINTR)
            return error;
    }
}

static int set_mode(struct pfx_oplog *log, int fd, mode_t mode)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return errno;
    if ((facts.st_mode & 07777) != mode && fchmod(fd, mode) != 0)
        return errno;
    if (log->readers != (gid_t)-1 && facts.st_gid != log->readers &&
        fchown(fd, (uid_t)-1, log->readers) != 0)
        return errno;
    return 0;
}

static bool is_folder(int at, const char *path)
{
    struct stat facts;
    return fstatat(at, path, &facts, 0) == 0 && S_ISDIR(facts.st_mode) &&
           (facts.st_mode & 07777) == 0750;
}

static void give_modes(struct pfx_oplog *log, int dir, bool files, unsigned depth)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    if (!list) {
        if (again >= 0)
            close(again);
        return;
    }
    for (struct dirent *e; (e = readdir(list));) {
        struct stat facts;
        if (e->d_name[0] == '.' || (e->d_type == DT_REG && !files))
            continue;
        int fd = openat(dir, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        bool known = fd >= 0 && fstat(fd, &facts) == 0;
        if (known && S_ISDIR(facts.st_mode)) {
            (void)set_mode(log, fd, 0750);
            if (depth > 0)
                give_modes(log, fd, files, depth - 1);
        } else if (known && files && S_ISREG(facts.st_mode)) {
            (void)set_mode(log, fd, 0640);
        }
        if (fd >= 0)
            close(fd);
    }
    closedir(list);
}

void pfx_oplog_modes(struct pfx_oplog *log)
{
    struct stat facts;
    if (fstat(log->fd, &facts) != 0)
        return;
    bool others = log->readers != (gid_t)-1 && facts.st_gid != log->readers;
    give_modes(log, log->fd, others, FOLDERS_DEEP);
    (void)set_mode(log, log->fd, 0750); /* last: if it is cut short, all of it is done again */
}

int pfx_oplog_file(struct pfx_oplog *log, const char *step, int dir, const char *name, int flags,
                   int *ret_fd)
{
    int fd = log->io->openat(log->io->ctx, step, dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return errno;
    /* The umask takes the group's bit away; a crash may have come before it was given back. */
    int error = (flags & O_ACCMODE) == O_RDONLY ? 0 : set_mode(log, fd, 0640);
    if (error != 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int make_folder(struct pfx_oplog *log, int at, const char *path)
{
    bool made = log->io->mkdirat(log->io->ctx, "make folder", at, path, 0750) == 0;
    if (!made && errno != EEXIST)
        return errno;
    int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    /* One that was there before has its modes, and its group, from pfx_oplog_modes. */
    int error = made ? set_mode(log, fd, 0750) : 0;
    close(fd);
    return error;
}

/* The name of the log's own folder: it may be new, or just set aside. */
static int sync_parent(struct pfx_oplog *log, const char *path)
{
    char *parent PFX_AUTOFREE = pfx_asprintf("%s/..", path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* may be searched, but not read: there is nothing to sync it by */
    int error = pfx_oplog_sync(log, "make folder", fd);
    close(fd);
    return error == EROFS || error == EINVAL ? 0 : error;
}

int pfx_oplog_folder(struct pfx_oplog *log, const char *path)
{
    char part[PFX_TILE_PATH_SIZE];
    if (log->fd < 0) {
        int failed = is_folder(AT_FDCWD, path) ? 0 : make_folder(log, AT_FDCWD, path);
        return failed != 0 ? failed : sync_parent(log, path);
    }
    if (path[0] == '.' || is_folder(log->fd, path))
        return 0;
    for (size_t i = 1; i <= strlen(path) && i < sizeof part; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (is_folder(log->fd, part))
            continue;
        int error = make_folder(log, log->fd, part);
        if (error != 0)
            return error;
        /* Its name in the folder above it. */
        char *slash = strrchr(part, '/');
        if (slash)
            *slash = '\0';
        error = pfx_oplog_sync_folder(log, "make folder", slash ? part : ".");
        if (error != 0)
            return error;
    }
    return 0;
}

int pfx_oplog_sync_folder(struct pfx_oplog *log, const char *step, const char *path)
{
    int fd = openat(log->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = pfx_oplog_sync(log, step, fd);
    close(fd);
    return error;
}

bool pfx_oplog_there(struct pfx_oplog *log, const char *path)
{
    struct stat facts;
    return fstatat(log->fd, path, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(facts.st_mode) &&
           facts.st_size > 0;
}

static int small_steps(struct pfx_oplog *log, const struct pfx_small *small, const char *folder,
                       const char *path, struct pfx_bytes data, const char **ret_step)
{
    char made[PFX_TILE_PATH_SIZE + 64];
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    snprintf(made, sizeof made, "%.*s.%s.new", (int)(name - path), path, name);
    int error, fd = -1;
    *ret_step = "make folder";
    error = pfx_oplog_folder(log, folder);
    if (error == 0) {
        *ret_step = small->make;
        error = pfx_oplog_file(log, small->make, log->fd, made, O_WRONLY | O_CREAT | O_TRUNC, &fd);
    }
    if (error == 0) {
        *ret_step = small->write;
        error = pfx_oplog_write_at(log, small->write, fd, data.data, data.len, 0);
    }
    if (error == 0) {
        *ret_step = small->sync;
        error = pfx_oplog_sync(log, small->sync, fd);
    }
    if (fd >= 0)
        close(fd);
    if (error == 0) {
        *ret_step = small->name;
        if (log->io->renameat(log->io->ctx, small->name, log->fd, made, path) != 0)
            error = errno;
    }
    if (error == 0) {
        *ret_step = small->folder;
        error = pfx_oplog_sync_folder(log, small->folder, folder);
    }
    return error;
}

pfx_result pfx_oplog_small(struct pfx_oplog *log, const struct pfx_small *small, const char *path,
                           struct pfx_bytes data, struct pfx_error *err)
{
    char folder[PFX_TILE_PATH_SIZE + 64];
    const char *slash = strrchr(path, '/'), *step;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    int error = small_steps(log, small, folder, path, data, &step);
    if (error == 0)
        return PFX_OK;
    /* The file has its old content or its new one, never half of it: what is derived, or repeated,
     * needs no more than another try. */
    if (pfx_oplog_no_space(error))
        return pfx_fail_errno(err, error, step, path, "Make room on the disk; it is tried again.");
    bool disk =
        error == EIO || step == small->write || step == small->sync || step == small->folder;
    return disk ? pfx_oplog_fail(log, step, path, error, err)
                : pfx_fail_errno(err, error, step, path, "It is tried again.");
}
