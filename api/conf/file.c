/* Whole files: read, read with trust, replace. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/process.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTOFD __attribute__((cleanup(close_fd)))

/* O_NONBLOCK: a FIFO in its place must not hold us up. */
static pfx_result open_regular(const char *path, int *ret_fd, struct stat *ret_st,
                               struct pfx_error *err)
{
    int fd AUTOFD = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, ret_st) != 0)
        return pfx_fail_errno(err, errno, "read", path, "");
    if (!S_ISREG(ret_st->st_mode))
        return pfx_fail(err, PFX_CLASS_USAGE, "read", path, "", "it isn't a regular file");
    *ret_fd = fd;
    fd = -1;
    return PFX_OK;
}

static pfx_result read_all(int fd, const char *path, size_t max, struct pfx_buf *out,
                           struct pfx_error *err)
{
    uint8_t chunk[16384];
    size_t total = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfx_fail_errno(err, errno, "read", path, "");
        if (n == 0)
            return PFX_OK;
        total += (size_t)n;
        if (total > max || !pfx_buf_add(out, chunk, (size_t)n))
            return pfx_fail(err, PFX_CLASS_USAGE, "read", path, "",
                            "it is longer than %zu bytes", max);
    }
}

pfx_result pfx_file_read(const char *path, size_t max, struct pfx_buf *out, struct pfx_error *err)
{
    int fd AUTOFD = -1;
    struct stat st;
    PFX_TRY(open_regular(path, &fd, &st, err));
    return read_all(fd, path, max, out, err);
}

static pfx_result check_mode(const char *path, const struct stat *st, bool folder,
                             struct pfx_error *err)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "trust", path, "",
                        "it belongs to user %u: it must belong to root (chown root)",
                        (unsigned)st->st_uid);
    if ((st->st_mode & 022) && !(folder && (st->st_mode & S_ISVTX)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "trust", path, "",
                        "group or others may write to it (mode %04o): chmod go-w",
                        (unsigned)st->st_mode & 07777u);
    return PFX_OK;
}

/* Each folder above path: who may write to one of them may put another file in its place. */
static pfx_result check_parents(const char *path, struct pfx_error *err)
{
    char *folder PFX_AUTOFREE = pfx_strdup(path);
    struct stat st;
    char *slash;
    while ((slash = strrchr(folder, '/')) != NULL) {
        slash[slash == folder ? 1 : 0] = 0;
        if (stat(folder, &st) != 0)
            return pfx_fail_errno(err, errno, "trust", folder, "");
        PFX_TRY(check_mode(folder, &st, true, err));
        if (slash == folder)
            break;
    }
    return PFX_OK;
}

pfx_result pfx_file_read_trusted(const char *path, size_t max, struct pfx_buf *out,
                                 struct pfx_error *err)
{
    if (path[0] != '/') {
        char *cwd PFX_AUTOFREE = getcwd(NULL, 0);
        if (!cwd)
            return pfx_fail_errno(err, errno, "trust", path, "");
        char *full PFX_AUTOFREE = pfx_asprintf("%s/%s", cwd, path);
        return pfx_file_read_trusted(full, max, out, err);
    }
    char *real PFX_AUTOFREE = realpath(path, NULL);
    if (!real)
        return pfx_fail_errno(err, errno, "read", path, "");
    /* Both ways: a symbolic link in a folder of others could be turned to another file. */
    PFX_TRY(check_parents(real, err));
    if (strcmp(real, path) != 0)
        PFX_TRY(check_parents(path, err));
    int fd AUTOFD = -1;
    struct stat st;
    PFX_TRY(open_regular(real, &fd, &st, err));
    PFX_TRY(check_mode(path, &st, false, err));
    return read_all(fd, path, max, out, err);
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_folder_of(const char *path)
{
    char *folder PFX_AUTOFREE = pfx_strdup(path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder ? 1 : 0] = 0;
    int fd AUTOFD = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) != 0 ? errno : 0;
}

pfx_result pfx_file_replace(const char *path, const void *data, size_t len, unsigned mode,
                            struct pfx_error *err)
{
    static const char next_step[] = "The old file still stands.";
    char *temp PFX_AUTOFREE = pfx_asprintf("%s.new", path);
    if (unlink(temp) != 0 && errno != ENOENT) /* left over by a process that died here */
        return pfx_fail_errno(err, errno, "write", path, next_step);
    int fd AUTOFD = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "write", path, next_step);
    int errnum = write_all(fd, data, len);
    if (errnum == 0 && (fchmod(fd, (mode_t)mode) != 0 || fsync(fd) != 0 ||
                        rename(temp, path) != 0))
        errnum = errno;
    if (errnum != 0) {
        unlink(temp);
        return pfx_fail_errno(err, errnum, "write", path, next_step);
    }
    errnum = sync_folder_of(path);
    if (errnum != 0)
        return pfx_fail_errno(err, errnum, "write", path,
                              "The new file stands, but may be lost in a power failure.");
    return PFX_OK;
}
