/* The folder that an export is written to: a file is complete when its name appears. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cmd_log.h"
#include "api/conf/process.h"

#define NAME_MAX_BYTES 200
#define SUFFIX ".new"
#define NEXT_STEP                                                                                  \
    "make room or choose another folder, then say log export again: what is complete isn't "       \
    "written twice, and without its checkpoint no export looks whole"

static pfx_result failed(const struct cli_folder *folder, int number, const char *name,
                         struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", folder->path, name);
    return pfx_fail_errno(err, number, "export", path, NEXT_STEP);
}

static bool is_empty(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    bool empty = dir != NULL;
    if (!dir && copy >= 0)
        (void)close(copy);
    const struct dirent *item;
    while (dir && empty && (item = readdir(dir)))
        /* The first file of an export that didn't come far. */
        empty = strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0 ||
                strcmp(item->d_name, "export.json" SUFFIX) == 0;
    if (dir)
        (void)closedir(dir);
    return empty;
}

pfx_result cli_folder_open(const char *path, struct cli_folder *ret, bool *ret_empty,
                           struct pfx_error *err)
{
    bool fresh = mkdir(path, 0755) == 0;
    if (!fresh && errno != EEXIST)
        return pfx_fail_errno(err, errno, "export", path,
                              "the folder above it must be there and be yours to write to");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR)
        return pfx_fail(err, PFX_CLASS_USAGE, "export", path, "ENOTDIR",
                        "that is no folder; name a new or empty one, or an earlier export");
    if (fd < 0)
        return pfx_fail_errno(err, errno, "export", path, "choose another folder");
    if (fresh)
        (void)fchmod(fd, 0755); /* the program's umask is 077 */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        (void)close(fd);
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "export", path, "EWOULDBLOCK",
                        "another export is being written there; wait for it, or choose another "
                        "folder");
    }
    *ret = (struct cli_folder){.fd = fd, .path = path};
    *ret_empty = is_empty(fd);
    return PFX_OK;
}

void cli_folder_done(struct cli_folder *folder)
{
    if (folder->fd >= 0)
        (void)close(folder->fd);
    folder->fd = -1;
}

pfx_result cli_folder_read(struct cli_folder *folder, const char *name, size_t max,
                           struct pfx_buf *ret, bool *ret_there, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", folder->path, name);
    *ret_there = cli_folder_has(folder, name);
    return *ret_there ? pfx_file_read(path, max, ret, err) : PFX_OK;
}

bool cli_folder_has(struct cli_folder *folder, const char *name)
{
    struct stat st;
    return fstatat(folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Each sub-folder of name; the last one made is remembered, as files come in order. */
static pfx_result make_parents(struct cli_folder *folder, const char *name, struct pfx_error *err)
{
    char sub[NAME_MAX_BYTES];
    const char *last = strrchr(name, '/');
    size_t len = last ? (size_t)(last - name) : 0;
    if (len >= sizeof(sub))
        return failed(folder, ENAMETOOLONG, name, err);
    if (len == 0 || (strncmp(folder->made, name, len) == 0 && folder->made[len] == '\0'))
        return PFX_OK;
    for (size_t i = 1; i <= len; i++) {
        if (name[i] != '/')
            continue;
        memcpy(sub, name, i);
        sub[i] = '\0';
        /* The program's umask is 077. */
        bool fresh = mkdirat(folder->fd, sub, 0755) == 0;
        if (fresh ? fchmodat(folder->fd, sub, 0755, 0) != 0 : errno != EEXIST)
            return failed(folder, errno, sub, err);
    }
    memcpy(folder->made, name, len);
    folder->made[len] = '\0';
    return PFX_OK;
}

static void temporary(const char *name, char buf[NAME_MAX_BYTES + sizeof(SUFFIX)])
{
    (void)snprintf(buf, NAME_MAX_BYTES + sizeof(SUFFIX), "%.*s" SUFFIX, NAME_MAX_BYTES - 1, name);
}

pfx_result cli_folder_stage(struct cli_folder *folder, const char *name, mode_t mode, int *ret_fd,
                            struct pfx_error *err)
{
    char fresh[NAME_MAX_BYTES + sizeof(SUFFIX)];
    temporary(name, fresh);
    PFX_TRY(make_parents(folder, name, err));
    if (unlinkat(folder->fd, fresh, 0) != 0 && errno != ENOENT)
        return failed(folder, errno, fresh, err);
    int fd = openat(folder->fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(folder, errno, fresh, err);
    if (fchmod(fd, mode) != 0) {
        int number = errno;
        (void)close(fd);
        (void)unlinkat(folder->fd, fresh, 0);
        return failed(folder, number, fresh, err);
    }
    *ret_fd = fd;
    return PFX_OK;
}

pfx_result cli_folder_write(struct cli_folder *folder, int fd, const char *name,
                            struct pfx_bytes content, struct pfx_error *err)
{
    while (content.len > 0) {
        ssize_t n = write(fd, content.data, content.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed(folder, n < 0 ? errno : ENOSPC, name, err);
        content.data += n;
        content.len -= (size_t)n;
    }
    return PFX_OK;
}

pfx_result cli_folder_staged(struct cli_folder *folder, int fd, const char *name,
                             struct pfx_error *err)
{
    int number = fsync(fd) != 0 ? errno : 0;
    if (close(fd) != 0 && number == 0)
        number = errno;
    return number ? failed(folder, number, name, err) : PFX_OK;
}

pfx_result cli_folder_commit(struct cli_folder *folder, const char *name, struct pfx_error *err)
{
    char fresh[NAME_MAX_BYTES + sizeof(SUFFIX)];
    temporary(name, fresh);
    if (renameat(folder->fd, fresh, folder->fd, name) != 0)
        return failed(folder, errno, name, err);
    folder->written++;
    return PFX_OK;
}

void cli_folder_unstage(struct cli_folder *folder, const char *name)
{
    char fresh[NAME_MAX_BYTES + sizeof(SUFFIX)];
    temporary(name, fresh);
    (void)unlinkat(folder->fd, fresh, 0);
}

pfx_result cli_folder_put(struct cli_folder *folder, const char *name, struct pfx_bytes content,
                          struct pfx_error *err)
{
    int fd = -1;
    PFX_TRY(cli_folder_stage(folder, name, 0644, &fd, err));
    pfx_result r = cli_folder_write(folder, fd, name, content, err);
    /* Put on disk all at once, by cli_folder_sync. */
    if (close(fd) != 0 && pfx_ok(r))
        r = failed(folder, errno, name, err);
    if (pfx_ok(r))
        r = cli_folder_commit(folder, name, err);
    if (pfx_failed(r))
        cli_folder_unstage(folder, name);
    return r;
}

bool cli_folder_remove(struct cli_folder *folder, const char *name)
{
    return unlinkat(folder->fd, name, 0) == 0;
}

void cli_folder_sweep(struct cli_folder *folder, const char *sub, const char *keep)
{
    int fd = openat(folder->fd, sub, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    const struct dirent *item;
    while ((item = readdir(dir)))
        if (item->d_name[0] != '.' && strcmp(item->d_name, keep) != 0)
            (void)unlinkat(fd, item->d_name, 0);
    (void)closedir(dir);
    if (unlinkat(folder->fd, sub, AT_REMOVEDIR) == 0)
        folder->made[0] = '\0';
}

pfx_result cli_folder_sync(struct cli_folder *folder, struct pfx_error *err)
{
    return syncfs(folder->fd) == 0 ? PFX_OK : failed(folder, errno, ".", err);
}
