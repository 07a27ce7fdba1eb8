#include "agent/cli/restore_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536
#define TREE_FDS 16

static pfx_result cant(const char *what, const char *path, struct pfx_error *err)
{
    return pfx_fail_errno(err, errno, what, path, "run this as root, and look at that place");
}

/* --- owners --- */

static bool number(const char *text, unsigned *ret)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (!*text || *end || text[0] < '0' || text[0] > '9' || value >= UINT32_MAX)
        return false;
    *ret = (unsigned)value;
    return true;
}

static pfx_result unknown(const char *what, const char *name, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_USAGE, "restore", name, "",
                    "this host has no %s of that name: make it first (the package's sysusers file "
                    "does), then restore",
                    what);
}

pfx_result restore_owner(const char *owner, uid_t *ret_uid, gid_t *ret_gid, struct pfx_error *err)
{
    size_t n = strcspn(owner, ":");
    char *user PFX_AUTOFREE = pfx_strndup(owner, n);
    const char *group = owner[n] ? owner + n + 1 : "";
    unsigned uid = 0, gid = 0;
    const struct passwd *pw = getpwnam(user);
    if (pw)
        uid = pw->pw_uid;
    else if (!number(user, &uid))
        return unknown("user", user, err);
    const struct group *gr = getgrnam(group);
    if (gr)
        gid = gr->gr_gid;
    else if (!number(group, &gid))
        return unknown("group", group, err);
    *ret_uid = uid;
    *ret_gid = gid;
    return PFX_OK;
}

pfx_result restore_own(int fd, const char *shown, const char *owner, unsigned mode,
                       struct pfx_error *err)
{
    struct stat st;
    uid_t uid = 0;
    gid_t gid = 0;
    PFX_TRY(restore_owner(owner, &uid, &gid, err));
    if (fstat(fd, &st) != 0)
        return cant("restore", shown, err);
    if ((st.st_uid != uid || st.st_gid != gid) && fchown(fd, uid, gid) != 0)
        return cant("chown", shown, err);
    return fchmod(fd, (mode_t)mode) == 0 ? PFX_OK : cant("chmod", shown, err);
}

/* --- what is there --- */

static bool same_content(int fd, const struct backup_item *item)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t *block PFX_AUTOFREE = pfx_alloc(BLOCK);
    uint8_t digest[32];
    struct stat st;
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && fstat(fd, &st) == 0 &&
              S_ISREG(st.st_mode) && (uint64_t)st.st_size == item->size;
    for (ssize_t n = 1; ok && n > 0;) {
        n = read(fd, block, BLOCK);
        ok = n >= 0 && EVP_DigestUpdate(md, block, (size_t)n) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, digest, NULL) == 1 && memcmp(digest, item->sha256, 32) == 0;
    EVP_MD_CTX_free(md);
    return ok;
}

/* Whoever may read it is part of what it is: a copy that tar put there as root's is another one. */
struct owning {
    const char *owner; /* the last one that was asked for */
    uid_t uid;
    gid_t gid;
};

static bool same_owner(int fd, const struct backup_item *item, struct owning *last)
{
    struct stat st;
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (!last->owner || strcmp(last->owner, item->owner) != 0) {
        if (pfx_failed(restore_owner(item->owner, &last->uid, &last->gid, &ignored)))
            return false;
        last->owner = item->owner;
    }
    return fstat(fd, &st) == 0 && st.st_uid == last->uid && st.st_gid == last->gid &&
           (st.st_mode & 07777) == item->mode;
}

pfx_result restore_look_file(const char *path, const struct backup_item *item,
                             enum restore_there *ret, struct pfx_error *err)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    *ret = RESTORE_FREE;
    if (fd < 0 && errno == ENOENT)
        return PFX_OK;
    *ret = RESTORE_OTHER;
    if (fd < 0 && errno == ELOOP)
        return PFX_OK;
    if (fd < 0)
        return cant("look at", path, err);
    struct owning last = {.owner = NULL};
    if (same_owner(fd, item, &last) && same_content(fd, item))
        *ret = RESTORE_SAME;
    (void)close(fd);
    return PFX_OK;
}

struct looking {
    const struct restore_want *wanted; /* sorted */
    size_t n, same, entries;
    bool other;
    struct owning last;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct restore_want *)a)->name, ((const struct restore_want *)b)->name);
}

/* Deeper than a backup is, it is something else. */
static void look_tree(struct looking *l, int dir, const char *below, unsigned depth)
{
    DIR *folder = fdopendir(dup(dir));
    const struct dirent *e;
    if (!folder || depth > BACKUP_DEPTH) {
        l->other = true;
        if (folder)
            (void)closedir(folder);
        return;
    }
    while (!l->other && (e = readdir(folder))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *name PFX_AUTOFREE =
            pfx_asprintf("%s%s%s", below, below[0] ? "/" : "", e->d_name);
        int fd = openat(dir, e->d_name,
                        O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        l->entries++;
        if (fd < 0 || fstat(fd, &st) != 0) {
            l->other = true;
        } else if (S_ISDIR(st.st_mode)) {
            look_tree(l, fd, name, depth + 1);
        } else {
            struct restore_want key = {.name = name};
            const struct restore_want *want =
                l->n ? bsearch(&key, l->wanted, l->n, sizeof(key), by_name) : NULL;
            l->other = !want || !same_owner(fd, want->item, &l->last) ||
                       !same_content(fd, want->item);
            l->same += !l->other;
        }
        if (fd >= 0)
            (void)close(fd);
    }
    (void)closedir(folder);
}

pfx_result restore_look_folder(const char *path, struct restore_want *wanted, size_t n,
                               enum restore_there *ret, struct pfx_error *err)
{
    if (n > 0)
        qsort(wanted, n, sizeof(*wanted), by_name);
    struct looking l = {.wanted = wanted, .n = n};
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    *ret = RESTORE_FREE;
    if (fd < 0 && errno == ENOENT)
        return PFX_OK;
    *ret = RESTORE_OTHER;
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return PFX_OK;
    if (fd < 0)
        return cant("look at", path, err);
    look_tree(&l, fd, "", 0);
    (void)close(fd);
    if (l.entries == 0)
        *ret = RESTORE_FREE;
    else if (!l.other && l.same == n)
        *ret = RESTORE_SAME;
    return PFX_OK;
}

/* --- writing --- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)where;
    return kind == FTW_DP || kind == FTW_D ? rmdir(path) : unlink(path);
}

pfx_result restore_clear(const char *stage, struct pfx_error *err)
{
    struct stat st;
    if (lstat(stage, &st) != 0)
        return errno == ENOENT ? PFX_OK : cant("remove", stage, err);
    return nftw(stage, remove_one, TREE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0
               ? PFX_OK
               : cant("remove", stage, err);
}

pfx_result restore_make_parents(const char *path, struct pfx_error *err)
{
    char *parent PFX_AUTOFREE = backup_parent(path);
    struct stat st;
    if (stat(parent, &st) == 0)
        return PFX_OK;
    PFX_TRY(restore_make_parents(parent, err));
    /* The program's umask is 077. */
    return mkdir(parent, 0755) == 0 && chmod(parent, 0755) == 0 ? PFX_OK
                                                                : cant("make", parent, err);
}

static pfx_result sync_dir(const char *path, struct pfx_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return bad ? pfx_fail_errno(err, bad, "write", path, "") : PFX_OK;
}

pfx_result restore_commit(const struct restore_place *place, const char *aside,
                          struct pfx_error *err)
{
    char *parent PFX_AUTOFREE = backup_parent(place->path);
    if (place->there == RESTORE_OTHER) {
        char *kept PFX_AUTOFREE = pfx_asprintf("%s.%s", place->path, aside);
        if (renameat2(AT_FDCWD, place->path, AT_FDCWD, kept, RENAME_NOREPLACE) != 0)
            return pfx_fail_errno(err, errno, "set aside", place->path,
                                  "move it away yourself, then restore again");
        cli_say("set aside: %s", kept);
    }
    if (place->there == RESTORE_FREE && place->folder)
        (void)rmdir(place->path); /* an empty one */
    if (renameat2(AT_FDCWD, place->stage, AT_FDCWD, place->path, RENAME_NOREPLACE) != 0)
        return pfx_fail_errno(err, errno, "put in place", place->path,
                              "a place that something is mounted on can't be renamed to: unmount "
                              "it, restore, and copy what was restored onto it");
    return sync_dir(parent, err);
}
