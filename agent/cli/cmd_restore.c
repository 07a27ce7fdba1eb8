/*
 * restore: everything is checked before the first byte is written; then all of it is written beside
 * its place and put on disk; then each place is one rename. Cut off anywhere, it can be run again:
 * what is in place already is seen to be the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/cli/cmd_backup.h"
#include "agent/cli/restore_place.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"

#define AGAIN "make room there, then give the same command again"
#define PLACES (BACKUP_FOLDERS + 16) /* folders, and files of the configuration */

struct restoring {
    struct cli *cli;
    struct backup *backup;
    struct restore_place places[PLACES];
    size_t n;
    char *stage[BACKUP_FOLDERS]; /* where the files of each are written */
    size_t in_place; /* of the places, by this call */
    char aside[48];
    int fd; /* of the file that is being written */
    char *path;
};

static void restoring_done(struct restoring *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->places[i].path);
        free(r->places[i].stage);
    }
    for (size_t i = 0; i < BACKUP_FOLDERS; i++)
        free(r->stage[i]);
    if (r->fd >= 0)
        (void)close(r->fd);
    free(r->path);
}

/* What of b lies below a, from the slash on; NULL: it isn't below. */
static const char *below(const char *a, const char *b)
{
    size_t n = strlen(a);
    return strncmp(a, b, n) == 0 && b[n] == '/' ? b + n : NULL;
}

/* The folder around this one that is a place, too; itself if there is none. */
static size_t outermost(const struct backup_manifest *m, size_t i)
{
    size_t top = i;
    for (size_t k = BACKUP_AGENT; k < BACKUP_FOLDERS; k++)
        if (k != i && below(m->folders[k].path, m->folders[top].path))
            top = k;
    return top;
}

static enum backup_where where_of(const char *name)
{
    enum backup_where where = BACKUP_CONFIG;
    return backup_name_parse(name, &where) ? where : BACKUP_CONFIG;
}

static struct restore_place *place_add(struct restoring *r, const char *path)
{
    struct restore_place *place = &r->places[r->n++];
    place->path = pfx_strdup(path);
    place->stage = pfx_asprintf("%s.restoring", path);
    return place;
}

/* --- before anything is written --- */

static pfx_result clash(const char *a, const char *b, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "restore", a, "",
                    "%s is the same place, or below it: this isn't how a backup is", b);
}

/* The store's folder has nothing below it, nothing lies below the log's, and no two are one. */
static pfx_result check_folders(const struct backup_manifest *m, struct pfx_error *err)
{
    for (size_t i = 0; i < BACKUP_FOLDERS; i++)
        for (size_t k = 0; k < BACKUP_FOLDERS; k++) {
            const char *a = m->folders[i].path, *b = m->folders[k].path;
            bool lawful = i == BACKUP_HSM && k == BACKUP_LOG;
            if (i != k && (strcmp(a, b) == 0 || (!lawful && i != BACKUP_CONFIG && below(a, b))))
                return clash(a, b, err);
        }
    return PFX_OK;
}

static pfx_result check_owners(const struct backup_manifest *m, struct pfx_error *err)
{
    uid_t uid;
    gid_t gid;
    const char *last = "";
    for (size_t i = 0; i < BACKUP_FOLDERS + m->n; i++) {
        const char *owner =
            i < BACKUP_FOLDERS ? m->folders[i].owner : m->items[i - BACKUP_FOLDERS].owner;
        if (strcmp(owner, last) == 0)
            continue;
        last = owner;
        PFX_TRY(restore_owner(owner, &uid, &gid, err));
        if (geteuid() != 0 && uid != geteuid())
            return pfx_fail(err, PFX_CLASS_REFUSED, "restore", owner, "EPERM",
                            "files of others are in it: run this as root");
    }
    return PFX_OK;
}

/* The files that belong below a place, which may hold two of the folders. */
static pfx_result look_at(const struct restoring *r, size_t top, enum restore_there *ret,
                          struct pfx_error *err)
{
    const struct backup_manifest *m = &r->backup->manifest;
    struct restore_want *wanted PFX_AUTOFREE = pfx_alloc_array(m->n + 1, sizeof(*wanted));
    char **made PFX_AUTOFREE = pfx_alloc_array(m->n + 1, sizeof(*made));
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        enum backup_where where = where_of(m->items[i].name);
        if (m->items[i].folder || where == BACKUP_CONFIG || outermost(m, where) != top)
            continue;
        const char *rest = below(m->folders[top].path, m->folders[where].path);
        made[n] = pfx_asprintf("%s%s%s", rest ? rest + 1 : "", rest ? "/" : "",
                               strchr(m->items[i].name, '/') + 1);
        wanted[n] = (struct restore_want){made[n], &m->items[i]};
        n++;
    }
    pfx_result result = restore_look_folder(m->folders[top].path, wanted, n, ret, err);
    for (size_t i = 0; i < n; i++)
        free(made[i]);
    return result;
}

static pfx_result plan(struct restoring *r, struct pfx_error *err)
{
    const struct backup_manifest *m = &r->backup->manifest;
    PFX_TRY(check_folders(m, err));
    PFX_TRY(check_owners(m, err));
    for (size_t i = BACKUP_FOLDERS; i-- > BACKUP_AGENT;) { /* the log first, if by itself */
        size_t top = outermost(m, i);
        const char *rest = below(m->folders[top].path, m->folders[i].path);
        r->stage[i] = pfx_asprintf("%s.restoring%s", m->folders[top].path, rest ? rest : "");
        if (top != i)
            continue;
        struct restore_place *place = place_add(r, m->folders[i].path);
        place->folder = true;
        PFX_TRY(look_at(r, i, &place->there, err));
    }
    for (size_t i = 0; i < m->n; i++) {
        const struct backup_item *item = &m->items[i];
        if (where_of(item->name) != BACKUP_CONFIG || item->folder)
            continue;
        if (r->n == PLACES)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "restore", r->backup->path, "",
                            "it has more files of the configuration than there are");
        char *path PFX_AUTOFREE =
            pfx_asprintf("%s/%s", m->folders[BACKUP_CONFIG].path, strchr(item->name, '/') + 1);
        struct restore_place *place = place_add(r, path);
        place->item = item;
        PFX_TRY(restore_look_file(path, item, &place->there, err));
    }
    return PFX_OK;
}

static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there = false;
    if (fd >= 0 && strlen(path) < sizeof(address.sun_path)) {
        memcpy(address.sun_path, path, strlen(path) + 1);
        there = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    }
    if (fd >= 0)
        (void)close(fd);
    return there;
}

/* pfx-agentd holds a lock on a file of its folder, pfx-hsm on the log's folder. */
static bool is_locked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        (void)close(fd);
    return locked;
}

static pfx_result stopped(const struct restoring *r, struct pfx_error *err)
{
    const struct backup_folder *folders = r->backup->manifest.folders;
    char *lock PFX_AUTOFREE = pfx_asprintf("%s/lock", folders[BACKUP_AGENT].path);
    bool runs = is_locked(lock) || is_locked(folders[BACKUP_LOG].path);
    for (int peer = CLI_AGENT; peer <= CLI_HSM && !runs; peer++) {
        char *path PFX_AUTOFREE = NULL;
        struct pfx_error ignored = PFX_ERROR_NONE;
        runs = pfx_ok(cli_socket(r->cli, (enum cli_peer)peer, &path, &ignored)) && answers(path);
    }
    return runs ? pfx_fail(err, PFX_CLASS_REFUSED, "restore", r->backup->path, "",
                           "pfx-agentd or pfx-hsm runs here: stop them first (systemctl stop "
                           "pfx-agentd pfx-hsm pfx-uploader)")
                : PFX_OK;
}

static pfx_result free_places(const struct restoring *r, struct pfx_error *err)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->places[i].there == RESTORE_OTHER && !r->cli->given[CLI_PUT_ASIDE])
            return pfx_fail(err, PFX_CLASS_REFUSED, "restore", r->places[i].path, "EEXIST",
                            "something is there already. With --put-aside it is renamed, and "
                            "kept; or move it away yourself");
    return PFX_OK;
}

static bool all_there(const struct restoring *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->places[i].there != RESTORE_SAME)
            return false;
    return true;
}

static int confirm(struct restoring *r)
{
    if (!r->cli->given[CLI_JSON])
        backup_show(r->backup, true);
    backup_host_later(r->cli, r->backup);
    static const char *const words[] = {[RESTORE_FREE] = "written",
                                        [RESTORE_SAME] = "is there already",
                                        [RESTORE_OTHER] = "written; what is there is set aside"};
    for (size_t i = 0; i < r->n; i++)
        cli_say("%s: %s", r->places[i].path, words[r->places[i].there]);
    return cli_confirm(r->cli, "Restore?");
}

/* --- writing beside the places --- */

static bool is_wanted(const struct restoring *r, const struct backup_item *item,
                      const char **ret_file)
{
    enum backup_where where = where_of(item->name);
    const struct backup_manifest *m = &r->backup->manifest;
    for (size_t i = 0; i < r->n; i++) {
        const struct restore_place *place = &r->places[i];
        bool of_it = place->folder ? where != BACKUP_CONFIG &&
                                         strcmp(place->path,
                                                m->folders[outermost(m, where)].path) == 0
                                   : place->item == item;
        if (!of_it)
            continue;
        *ret_file = place->folder ? NULL : place->stage;
        return place->there != RESTORE_SAME;
    }
    return false;
}

static char *stage_path(const struct restoring *r, const struct backup_item *item,
                        const char *file)
{
    return file ? pfx_strdup(file)
                : pfx_asprintf("%s/%s", r->stage[where_of(item->name)],
                               strchr(item->name, '/') + 1);
}

static pfx_result write_begin(void *ctx, const struct backup_item *item, struct pfx_error *err)
{
    struct restoring *r = ctx;
    const char *file = NULL;
    free(r->path);
    r->path = NULL;
    if (!is_wanted(r, item, &file))
        return PFX_OK;
    r->path = stage_path(r, item, file);
    PFX_TRY(restore_make_parents(r->path, err));
    if (file && unlink(file) != 0 && errno != ENOENT)
        return pfx_fail_errno(err, errno, "write", file, "remove it");
    r->fd = open(r->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return r->fd >= 0 ? PFX_OK : pfx_fail_errno(err, errno, "write", r->path, AGAIN);
}

static pfx_result write_data(void *ctx, const void *data, size_t len, struct pfx_error *err)
{
    struct restoring *r = ctx;
    for (const uint8_t *at = data; r->fd >= 0 && len > 0;) {
        ssize_t n = write(r->fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return pfx_fail_errno(err, n < 0 ? errno : ENOSPC, "write", r->path, AGAIN);
        at += n;
        len -= (size_t)n;
    }
    return PFX_OK;
}

static pfx_result write_end(void *ctx, const struct backup_item *item, struct pfx_error *err)
{
    struct restoring *r = ctx;
    if (r->fd < 0)
        return PFX_OK;
    PFX_TRY(restore_own(r->fd, r->path, item->owner, item->mode, err));
    int bad = fsync(r->fd) != 0 ? errno : 0;
    bad = close(r->fd) != 0 && !bad ? errno : bad;
    r->fd = -1;
    return bad ? pfx_fail_errno(err, bad, "write", r->path, AGAIN) : PFX_OK;
}

static pfx_result own_dir(const char *path, const char *owner, unsigned mode,
                          struct pfx_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "restore", path, "");
    pfx_result result = restore_own(fd, path, owner, mode, err);
    if (pfx_ok(result) && fsync(fd) != 0)
        result = pfx_fail_errno(err, errno, "write", path, "");
    (void)close(fd);
    return result;
}

/* Last, from the innermost on: until then nobody else could read what is written. */
static pfx_result own_dirs(struct restoring *r, struct pfx_error *err)
{
    const struct backup_manifest *m = &r->backup->manifest;
    const char *file = NULL;
    for (size_t i = m->n; i-- > 0;) {
        const struct backup_item *item = &m->items[i];
        if (!item->folder || !is_wanted(r, item, &file))
            continue;
        char *path PFX_AUTOFREE = stage_path(r, item, NULL);
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return pfx_fail_errno(err, errno, "restore", path, "");
        PFX_TRY(own_dir(path, item->owner, item->mode, err));
    }
    for (size_t i = BACKUP_FOLDERS; i-- > BACKUP_AGENT;) {
        struct stat st;
        if (stat(r->stage[i], &st) == 0)
            PFX_TRY(own_dir(r->stage[i], m->folders[i].owner, m->folders[i].mode, err));
    }
    return PFX_OK;
}

static pfx_result write_all(struct restoring *r, struct pfx_error *err)
{
    const struct backup_visitor visitor = {write_begin, write_data, write_end, r};
    for (size_t i = 0; i < r->n; i++) {
        const struct restore_place *place = &r->places[i];
        PFX_TRY(restore_clear(place->stage, err));
        if (!place->folder || place->there == RESTORE_SAME)
            continue;
        PFX_TRY(restore_make_parents(place->stage, err));
        if (mkdir(place->stage, 0700) != 0)
            return pfx_fail_errno(err, errno, "restore", place->stage, "");
    }
    for (size_t i = BACKUP_AGENT; i < BACKUP_FOLDERS; i++) { /* one within another */
        struct stat st;
        char *top PFX_AUTOFREE = pfx_asprintf(
            "%s.restoring",
            r->backup->manifest.folders[outermost(&r->backup->manifest, i)].path);
        if (stat(top, &st) != 0)
            continue;
        PFX_TRY(restore_make_parents(r->stage[i], err));
        if (mkdir(r->stage[i], 0700) != 0 && errno != EEXIST)
            return pfx_fail_errno(err, errno, "restore", r->stage[i], "");
    }
    PFX_TRY(backup_extract(r->backup, &visitor, err));
    return own_dirs(r, err);
}

/* The configuration comes last: without it no daemon of this host starts on the rest. */
static pfx_result restore(struct restoring *r, struct pfx_error *err)
{
    bool config = false;
    PFX_TRY(write_all(r, err));
    for (size_t i = 0; i < r->n; i++) {
        if (r->places[i].there == RESTORE_SAME)
            continue;
        config = config || !r->places[i].folder;
        PFX_TRY(restore_commit(&r->places[i], r->aside, err));
        r->in_place++;
    }
    const struct backup_folder *folder = &r->backup->manifest.folders[BACKUP_CONFIG];
    return config ? own_dir(folder->path, folder->owner, folder->mode, err) : PFX_OK;
}

/* What was written beside the places takes room that the next try needs. */
static int failed(struct restoring *r, const struct pfx_error *err)
{
    int code = cli_fail(err);
    bool cleared = true;
    for (size_t i = 0; i < r->n; i++) {
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(restore_clear(r->places[i].stage, &why))) {
            cleared = false;
            (void)cli_fail(&why);
        }
    }
    for (size_t i = 0; i < r->n; i++)
        r->in_place += r->places[i].there == RESTORE_SAME;
    cli_say("%zu of %zu places are restored%s. The same command again goes on with the others",
            r->in_place, r->n, cleared ? ", and nothing is left beside the others" : "");
    return code;
}

static pfx_result trust(struct restoring *r, struct pfx_error *err)
{
    bool known = false;
    PFX_TRY(backup_trust(r->cli, r->backup, &known, err));
    return known ? PFX_OK
                 : pfx_fail(err, PFX_CLASS_REFUSED, "restore", r->backup->path, "",
                            "nothing on this host knows the key that signed it: give --vkey with "
                            "the log's key line from another source, an auditor or your records "
                            "of init. pfx-agent backup verify shows what the archive says");
}

static void say_next(void)
{
    cli_say("all of it is in place. Next:");
    cli_say("  put the PIN files back; look at hsm-policy.yaml and its roster, which are as they were "
            "then");
    cli_say("  start pfx-hsm");
    cli_say("  pfx-agent log reopen     (the log went on after the backup)");
    cli_say("  start pfx-agentd and pfx-uploader");
    cli_say("  pfx-agent status         (orders go out once DigiCert was looked at for each)");
}

int cli_do_restore(struct cli *cli)
{
    PFX_CLEANUP(backup_freep) struct backup *backup = pfx_alloc(sizeof(*backup));
    PFX_CLEANUP(restoring_done)
    struct restoring r = {.cli = cli, .backup = backup, .fd = -1};
    struct pfx_error err = PFX_ERROR_NONE;
    backup->fd = -1;
    (void)snprintf(r.aside, sizeof(r.aside), "before-restore.%lld", (long long)pfx_now_ms());
    pfx_result result = backup_read(cli->operands[0], backup, &err);
    if (pfx_ok(result))
        result = trust(&r, &err);
    if (pfx_ok(result))
        result = stopped(&r, &err);
    if (pfx_ok(result))
        result = plan(&r, &err);
    if (pfx_ok(result))
        result = free_places(&r, &err);
    if (pfx_failed(result))
        return cli_fail(&err);
    if (!all_there(&r)) {
        int code = confirm(&r);
        if (code != CLI_EXIT_OK)
            return code;
        if (pfx_failed(restore(&r, &err)))
            return failed(&r, &err);
    }
    if (cli->given[CLI_JSON])
        backup_json(backup, "restore", true);
    say_next();
    return CLI_EXIT_OK;
}
