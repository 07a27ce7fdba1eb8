/* Path sockets: connect, listen, accept, and who the peer is. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/wire/conn.h"

#define BACKLOG 64
#define TEMP_SUFFIX ".new"
#define LOCK_SUFFIX ".lock"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTOFD __attribute__((cleanup(close_fd)))

/* suffix: what else has to fit. */
static pfx_result make_address(const char *path, const char *suffix, struct sockaddr_un *ret_addr,
                               struct pfx_error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path), more = strlen(suffix);
    if (path[0] != '/' || len + more >= sizeof(addr.sun_path))
        return pfx_fail(err, PFX_CLASS_USAGE, "socket", path, "",
                        "the path of a socket must be absolute and have at most %zu bytes",
                        sizeof(addr.sun_path) - 1 - more);
    memcpy(addr.sun_path, path, len);
    memcpy(addr.sun_path + len, suffix, more); /* the rest is zero */
    *ret_addr = addr;
    return PFX_OK;
}

/* 0 or errno. */
static int connect_to(const struct sockaddr_un *addr, int *ret_fd)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
        int errnum = errno;
        close(fd);
        return errnum;
    }
    *ret_fd = fd;
    return 0;
}

pfx_result pfx_sock_connect(const char *path, int *ret_fd, struct pfx_error *err)
{
    struct sockaddr_un addr;
    PFX_TRY(make_address(path, "", &addr, err));
    int errnum = connect_to(&addr, ret_fd);
    switch (errnum) {
    case 0:
        return PFX_OK;
    case ENOENT:
    case ECONNREFUSED:
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "connect", path,
                        errnum == ENOENT ? "ENOENT" : "ECONNREFUSED",
                        "nobody listens there: is the program started?");
    case EAGAIN:
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "connect", path, "EAGAIN",
                        "too many connections wait there already");
    case EACCES:
    case EPERM:
        return pfx_fail(err, PFX_CLASS_REFUSED, "connect", path, "EACCES",
                        "this user may not connect: add it to the group that owns the socket");
    default:
        return pfx_fail_errno(err, errnum, "connect", path, "");
    }
}

/* Bound under a temporary name with its owner and mode, listening, and only then renamed: nobody
 * ever connects to a socket with the wrong mode, or to one that doesn't listen yet. */
static pfx_result listen_at(const char *path, const struct sockaddr_un *temp, mode_t mode,
                            gid_t gid, int *ret_fd, struct pfx_error *err)
{
    int fd AUTOFD = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "listen", path, "");
    (void)!unlink(temp->sun_path); /* left over by a process that died here; we hold the lock */
    /* On Linux the file gets the mode of the socket; the umask is shared by all threads. */
    if (fchmod(fd, 0600) != 0 ||
        bind(fd, (const struct sockaddr *)temp, sizeof(*temp)) != 0)
        return pfx_fail_errno(err, errno, "listen", path,
                              "The folder must exist and be writable for this user.");
    if (fchownat(AT_FDCWD, temp->sun_path, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        chmod(temp->sun_path, mode) != 0 || listen(fd, BACKLOG) != 0 ||
        rename(temp->sun_path, path) != 0) {
        int errnum = errno;
        unlink(temp->sun_path);
        return pfx_fail_errno(err, errnum, "listen", path,
                              "This user must be a member of the group that the socket gets.");
    }
    *ret_fd = fd;
    fd = -1;
    return PFX_OK;
}

pfx_result pfx_sock_listen(const char *path, mode_t mode, gid_t gid, int *ret_fd,
                           struct pfx_error *err)
{
    struct sockaddr_un addr, temp;
    PFX_TRY(make_address(path, "", &addr, err));
    PFX_TRY(make_address(path, TEMP_SUFFIX, &temp, err));
    /* Two processes that start at once must not both find the socket stale. The lock file stays:
     * whoever removed it could remove one that another process has just locked. */
    char *lock_path PFX_AUTOFREE = pfx_asprintf("%s%s", path, LOCK_SUFFIX);
    int lock AUTOFD = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        return pfx_fail_errno(err, errno, "listen", path,
                              "The folder must exist and be writable for this user.");
    if (flock(lock, LOCK_EX | LOCK_NB) != 0)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "listen", path, "EWOULDBLOCK",
                        "another process is taking this socket at this moment");
    struct stat st;
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return pfx_fail(err, PFX_CLASS_USAGE, "listen", path, "",
                            "something that isn't a socket has this name: remove it");
        int probe AUTOFD = -1;
        int errnum = connect_to(&addr, &probe);
        if (errnum != ECONNREFUSED && errnum != ENOENT)
            return pfx_fail(err, PFX_CLASS_USAGE, "listen", path, "EADDRINUSE",
                            "another process listens there: stop it first");
    }
    return listen_at(path, &temp, mode, gid, ret_fd, err);
}

pfx_result pfx_sock_accept(int listen_fd, int *ret_fd, struct pfx_error *err)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        return pfx_fail_errno(err, errno, "accept", "socket", "");
    *ret_fd = fd;
    return PFX_OK;
}

static bool uid_in_group(uid_t uid, gid_t gid)
{
    long size = sysconf(_SC_GETPW_R_SIZE_MAX);
    size_t room = size > 0 ? (size_t)size : 16384;
    struct passwd pw, *found = NULL;
    char *space = NULL;
    int rc;
    do {
        space = pfx_grow(space, 1, room);
        rc = getpwuid_r(uid, &pw, space, room, &found);
        room *= 2;
    } while (rc == ERANGE && room <= 4 * 1024 * 1024);
    bool in = false;
    if (rc == 0 && found) {
        int n = 64, room_for;
        gid_t *groups = NULL;
        do {
            room_for = n;
            groups = pfx_grow(groups, (size_t)room_for, sizeof(*groups));
            if (getgrouplist(pw.pw_name, pw.pw_gid, groups, &n) >= 0)
                break;
        } while (n > room_for); /* n says how many there are */
        for (int i = 0; i < n && i < room_for; i++)
            in = in || groups[i] == gid;
        free(groups);
    }
    free(space);
    return in;
}

bool pfx_peer_allowed(const struct pfx_peer *peer, uid_t uid, gid_t gid)
{
    if (peer->uid == 0 || peer->uid == geteuid() || (uid != (uid_t)-1 && peer->uid == uid))
        return true;
    if (gid == (gid_t)-1)
        return false;
    return peer->gid == gid || uid_in_group(peer->uid, gid);
}
