/* A copy of the store for a backup, a few pages at a time: what is written meanwhile goes into it, too. */
#include "agent/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "api/conf/process.h"

#define PAGES 32     /* of one call */
#define UNSYNCED 256 /* pages: more at once would hold everybody up while the disk writes them */

struct pfx_store_copying {
    struct pfx_db *to;
    sqlite3_backup *backup;
    char *path, *fresh;
    int64_t made_ms;
    int unsynced;
};

/* Sealed parcels never lie in a backup. What is deleted is overwritten, so no VACUUM is needed: it
 * would want a temporary file. */
static pfx_result without_parcels(struct pfx_db *copy, int64_t made_ms, struct pfx_error *err)
{
    int64_t parcels;
    PFX_TRY(pfx_db_int(
        copy, err, 0, &parcels,
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'parcel'",
        PFX_NO_PARAMS));
    PFX_TRY(pfx_db_script(copy,
                          "PRAGMA temp_store = MEMORY; PRAGMA journal_mode = DELETE;"
                          "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL;"
                          "PRAGMA secure_delete = ON;",
                          err));
    if (parcels)
        PFX_TRY(pfx_db_script(copy, "DELETE FROM parcel", err));
    return pfx_db_exec(copy, err, NULL,
                       "INSERT INTO meta(key, value) VALUES('copy_made', ?)"
                       " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                       PFX_PARAMS(P_INT(made_ms)));
}

static pfx_result sync_file(const char *path, struct pfx_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int e = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e ? pfx_fail_errno(err, e, "sync backup", path, "check the state folder") : PFX_OK;
}

void pfx_store_copy_free(struct pfx_store_copying *copying)
{
    if (!copying)
        return;
    sqlite3_backup_finish(copying->backup);
    pfx_db_close(copying->to);
    unlink(copying->fresh); /* renamed by then, where it is whole */
    free(copying->fresh);
    free(copying->path);
    free(copying);
}

pfx_result pfx_store_copy_begin(struct pfx_db *db, const char *path, int64_t made_ms,
                                struct pfx_store_copying **ret_copying, struct pfx_error *err)
{
    char *fresh PFX_AUTOFREE = pfx_asprintf("%s.new", path);
    if (unlink(fresh) != 0 && errno != ENOENT)
        return pfx_fail_errno(err, errno, "remove old backup", fresh, "remove it");
    struct pfx_store_copying *c = pfx_alloc(sizeof(*c));
    c->path = pfx_strdup(path);
    c->fresh = PFX_TAKE(fresh);
    c->made_ms = made_ms;
    pfx_result r = pfx_db_open(c->fresh, &c->to, err);
    if (pfx_ok(r)) /* a copy that isn't whole is worth nothing: it needs no journal */
        r = pfx_db_script(c->to,
                          "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                          "PRAGMA cache_size = -1024;",
                          err);
    if (pfx_ok(r)) {
        c->backup = sqlite3_backup_init(pfx_db_handle(c->to), "main", pfx_db_handle(db), "main");
        if (!c->backup)
            r = pfx_fail(err, PFX_CLASS_INTERNAL, "copy store", c->fresh, "", "%s",
                         sqlite3_errmsg(pfx_db_handle(c->to)));
    }
    if (pfx_failed(r)) {
        pfx_store_copy_free(c);
        return r;
    }
    *ret_copying = c;
    return PFX_OK;
}

/* It gets its own name only once it is whole. */
static pfx_result finish(struct pfx_store_copying *c, struct pfx_error *err)
{
    sqlite3_backup_finish(c->backup);
    c->backup = NULL;
    pfx_db_close(c->to); /* the file says WAL by now, as the store does */
    c->to = NULL;
    PFX_TRY(pfx_db_open(c->fresh, &c->to, err));
    PFX_TRY(without_parcels(c->to, c->made_ms, err));
    pfx_db_close(c->to);
    c->to = NULL;
    PFX_TRY(sync_file(c->fresh, err));
    return rename(c->fresh, c->path) == 0
               ? PFX_OK
               : pfx_fail_errno(err, errno, "rename backup", c->path, "check the state folder");
}

pfx_result pfx_store_copy_some(struct pfx_store_copying *copying, int64_t most_ms, bool *ret_done,
                               struct pfx_error *err)
{
    int64_t until = pfx_uptime_ms() + most_ms;
    int rc;
    *ret_done = false;
    do {
        rc = sqlite3_backup_step(copying->backup, PAGES);
        copying->unsynced += PAGES;
    } while (rc == SQLITE_OK && copying->unsynced < UNSYNCED && pfx_uptime_ms() < until);
    if (copying->unsynced >= UNSYNCED) {
        copying->unsynced = 0;
        PFX_TRY(sync_file(copying->fresh, err));
    }
    if (rc == SQLITE_DONE) {
        PFX_TRY(finish(copying, err));
        *ret_done = true;
        return PFX_OK;
    }
    return rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED
               ? PFX_OK
               : pfx_fail(err, PFX_CLASS_TRANSIENT, "copy store", copying->fresh,
                          sqlite3_errstr(rc),
                          "the copy couldn't be written; look at the file system of the state "
                          "folder and its free space");
}

pfx_result pfx_store_copy(struct pfx_db *db, const char *path, int64_t made_ms,
                          struct pfx_error *err)
{
    struct pfx_store_copying *copying PFX_CLEANUP(pfx_store_copy_freep) = NULL;
    bool done = false;
    PFX_TRY(pfx_store_copy_begin(db, path, made_ms, &copying, err));
    while (!done)
        PFX_TRY(pfx_store_copy_some(copying, INT32_MAX, &done, err));
    return PFX_OK;
}
