/* Writing an archive: files as they come, each hashed on its way, the manifest from that. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/backup.h"
#include "crypto/encode.h"

#define BLOCK 65536

struct backup_writer {
    char *path, *fresh;
    int fd;
    struct archive *archive;
    struct backup_manifest manifest;
    bool finished;
};

static pfx_result trouble(const struct backup_writer *w, struct pfx_error *err)
{
    int number = archive_errno(w->archive);
    return pfx_fail_errno(err, number > 0 ? number : EIO, "write backup", w->path,
                          "choose a place with room");
}

pfx_result backup_writer_new(const char *path, struct backup_writer **ret, struct pfx_error *err)
{
    struct stat st;
    if (lstat(path, &st) == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "write backup", path, "EEXIST",
                        "something is there already; choose another name");
    struct backup_writer *w = pfx_alloc(sizeof(*w));
    w->path = pfx_strdup(path);
    w->fresh = pfx_asprintf("%s.new", path);
    w->archive = archive_write_new();
    w->fd = -1;
    pfx_result r = PFX_OK;
    if (unlink(w->fresh) != 0 && errno != ENOENT)
        r = pfx_fail_errno(err, errno, "write backup", w->fresh, "remove it");
    if (pfx_ok(r)) {
        w->fd = open(w->fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (w->fd < 0)
            r = pfx_fail_errno(err, errno, "write backup", w->fresh, "choose another place");
    }
    /* ustar, with pax headers for what that can't say: sizes over 8 GiB. */
    if (pfx_ok(r) && (!w->archive ||
                      archive_write_set_format_pax_restricted(w->archive) != ARCHIVE_OK ||
                      archive_write_add_filter_none(w->archive) != ARCHIVE_OK ||
                      archive_write_open_fd(w->archive, w->fd) != ARCHIVE_OK))
        r = trouble(w, err);
    if (pfx_failed(r)) {
        backup_writer_free(w);
        return r;
    }
    *ret = w;
    return PFX_OK;
}

void backup_writer_free(struct backup_writer *w)
{
    if (!w)
        return;
    if (w->archive)
        (void)archive_write_free(w->archive);
    if (w->fd >= 0) {
        (void)close(w->fd);
        if (!w->finished)
            (void)unlink(w->fresh);
    }
    backup_manifest_done(&w->manifest);
    free(w->path);
    free(w->fresh);
    free(w);
}

struct backup_manifest *backup_writer_manifest(struct backup_writer *w)
{
    return &w->manifest;
}

/* The name, or the number of one that has none or a name that isn't plain. */
static void owner_name(const char *name, unsigned number, char *ret, size_t size)
{
    size_t len = name ? strlen(name) : 0;
    if (len > 0 && len <= 32 &&
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len)
        (void)snprintf(ret, size, "%s", name);
    else
        (void)snprintf(ret, size, "%u", number);
}

void backup_owner(const struct stat *st, char ret_owner[BACKUP_OWNER])
{
    char user[33], group[33];
    const struct passwd *pw = getpwuid(st->st_uid);
    owner_name(pw ? pw->pw_name : NULL, st->st_uid, user, sizeof(user));
    const struct group *gr = getgrgid(st->st_gid);
    owner_name(gr ? gr->gr_name : NULL, st->st_gid, group, sizeof(group));
    (void)snprintf(ret_owner, BACKUP_OWNER, "%s:%s", user, group);
}

static pfx_result header(struct backup_writer *w, const char *name, unsigned mode,
                         const struct stat *st, uint64_t size, struct pfx_error *err)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        pfx_die("no memory");
    char owner[BACKUP_OWNER] = "";
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, (mode_t)mode);
    archive_entry_set_size(entry, (la_int64_t)size);
    archive_entry_set_mtime(entry, w->manifest.made_ms / 1000, 0);
    if (st) { /* so that tar alone gives them back, too */
        backup_owner(st, owner);
        size_t user = strcspn(owner, ":");
        archive_entry_set_gname(entry, owner + user + (owner[user] != '\0'));
        owner[user] = '\0';
        archive_entry_set_uname(entry, owner);
        archive_entry_set_uid(entry, st->st_uid);
        archive_entry_set_gid(entry, st->st_gid);
    }
    int r = archive_write_header(w->archive, entry);
    archive_entry_free(entry);
    return r == ARCHIVE_OK ? PFX_OK : trouble(w, err);
}

static pfx_result data(struct backup_writer *w, const void *bytes, size_t len,
                       struct pfx_error *err)
{
    la_ssize_t n = len > 0 ? archive_write_data(w->archive, bytes, len) : 0;
    return n >= 0 && (size_t)n == len ? PFX_OK : trouble(w, err);
}

static struct backup_item *item_of(struct backup_writer *w, const char *name,
                                   const struct stat *st)
{
    struct backup_item *item = backup_manifest_add(&w->manifest, name);
    backup_owner(st, item->owner);
    item->mode = st->st_mode & 0777;
    return item;
}

pfx_result backup_put(struct backup_writer *w, const char *name, const struct stat *st,
                      struct pfx_bytes content, struct pfx_error *err)
{
    struct backup_item *item = item_of(w, name, st);
    item->size = content.len;
    if (!pfx_sha256(content.data, content.len, item->sha256))
        pfx_die("no SHA-256");
    PFX_TRY(header(w, name, item->mode, st, content.len, err));
    return data(w, content.data, content.len, err);
}

pfx_result backup_put_fd(struct backup_writer *w, const char *name, const struct stat *st, int fd,
                         uint64_t size, struct pfx_error *err)
{
    struct backup_item *item = item_of(w, name, st);
    uint8_t *block PFX_AUTOFREE = pfx_alloc(BLOCK);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    pfx_result r = header(w, name, item->mode, st, size, err);
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    item->size = size;
    for (uint64_t at = 0; ok && pfx_ok(r) && at < size;) {
        ssize_t n = pread(fd, block, size - at < BLOCK ? (size_t)(size - at) : BLOCK, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            r = pfx_fail(err, PFX_CLASS_TRANSIENT, "read for backup", name,
                         n < 0 ? strerrorname_np(errno) : "", "%s",
                         n < 0 ? "it can't be read" : "it became shorter meanwhile: try again");
        else
            r = data(w, block, (size_t)n, err);
        ok = n <= 0 || EVP_DigestUpdate(md, block, (size_t)n) == 1;
        at += n > 0 ? (uint64_t)n : 0;
    }
    ok = ok && EVP_DigestFinal_ex(md, item->sha256, NULL) == 1;
    EVP_MD_CTX_free(md);
    if (!ok)
        pfx_die("no SHA-256");
    return r;
}

pfx_result backup_put_dir(struct backup_writer *w, const char *name, const struct stat *st,
                          struct pfx_error *err)
{
    (void)err;
    for (size_t i = 0; i < BACKUP_FOLDERS; i++) {
        if (strcmp(name, backup_folder_names[i]) != 0)
            continue;
        backup_owner(st, w->manifest.folders[i].owner);
        w->manifest.folders[i].mode = st->st_mode & 0777;
        return PFX_OK;
    }
    item_of(w, name, st)->folder = true;
    return PFX_OK;
}

pfx_result backup_put_plain(struct backup_writer *w, const char *name, struct pfx_bytes content,
                            struct pfx_error *err)
{
    PFX_TRY(header(w, name, 0600, NULL, content.len, err));
    return data(w, content.data, content.len, err);
}

char *backup_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == path ? pfx_strdup("/")
                         : slash ? pfx_strndup(path, (size_t)(slash - path)) : pfx_strdup(".");
}

/* What can't be read back is no backup: better said now than when the host is lost. */
static pfx_result read_back(const struct backup_writer *w, struct pfx_error *err)
{
    struct backup *made PFX_AUTOFREE = pfx_alloc(sizeof(*made));
    made->fd = -1;
    pfx_result r = backup_read(w->fresh, made, err);
    backup_done(made);
    return r;
}

pfx_result backup_writer_finish(struct backup_writer *w, struct pfx_error *err)
{
    if (archive_write_close(w->archive) != ARCHIVE_OK)
        return trouble(w, err);
    if (fsync(w->fd) != 0)
        return pfx_fail_errno(err, errno, "write backup", w->path, "choose another place");
    PFX_TRY(read_back(w, err));
    /* Not over something that came there meanwhile. */
    if (renameat2(AT_FDCWD, w->fresh, AT_FDCWD, w->path, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || rename(w->fresh, w->path) != 0))
        return pfx_fail_errno(err, errno, "write backup", w->path, "choose another name");
    w->finished = true;
    char *parent PFX_AUTOFREE = backup_parent(w->path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int number = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return number ? pfx_fail_errno(err, number, "write backup", parent, "") : PFX_OK;
}
