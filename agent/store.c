#include "agent/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"

static pfx_result make_folder(const char *dir, struct pfx_error *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return pfx_fail_errno(err, errno, "make state folder", dir,
                              "make its parent folder, or set state_dir in agent.yaml");
    struct stat st;
    if (lstat(dir, &st) != 0)
        return pfx_fail_errno(err, errno, "read state folder", dir,
                              "check state_dir in agent.yaml");
    if (!S_ISDIR(st.st_mode))
        return pfx_fail(err, PFX_CLASS_USAGE, "state folder", dir, "",
                        "this isn't a folder; set "
                        "state_dir in agent.yaml");
    if (st.st_uid != geteuid())
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "state folder", dir, "",
                        "it belongs to uid %u, not to this program's uid %u; chown it", st.st_uid,
                        geteuid());
    if ((st.st_mode & 077) && chmod(dir, 0700) != 0)
        return pfx_fail_errno(err, errno, "chmod state folder", dir, "it must have mode 0700");
    return PFX_OK;
}

/* The lock is on a file of its own: SQLite's locks come and go with its transactions. */
static pfx_result take_lock(const char *dir, int *ret_fd, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "open lock", path, "check owner and mode of the folder");
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int e = errno;
        close(fd);
        if (e != EWOULDBLOCK)
            return pfx_fail_errno(err, e, "lock", path, "check the file system");
        return pfx_fail(
            err, PFX_CLASS_USAGE, "lock", path, "EWOULDBLOCK",
            "another pfx-agentd works on this state folder; stop it first, or give this "
            "one its own state_dir");
    }
    *ret_fd = fd;
    return PFX_OK;
}

static pfx_result set_pragmas(struct pfx_db *db, struct pfx_error *err)
{
    return pfx_db_script(db,
                         "PRAGMA journal_mode = WAL;"
                         "PRAGMA synchronous = FULL;"
                         "PRAGMA foreign_keys = ON;"
                         "PRAGMA secure_delete = ON;"
                         "PRAGMA temp_store = MEMORY;"
                         "PRAGMA cache_size = -16384;" /* KiB: a pass over 100,000 users */
                         "PRAGMA trusted_schema = OFF;"
                         /* Between transactions the write-ahead log holds about 1 MiB at most. */
                         "PRAGMA wal_autocheckpoint = 256;"
                         "PRAGMA journal_size_limit = 1048576;",
                         err);
}

static pfx_result backup(struct pfx_db *db, int64_t version, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s.v%lld", pfx_db_path(db), (long long)version);
    return pfx_store_copy(db, path, pfx_now_ms(), err);
}

pfx_result pfx_store_migrate(struct pfx_db *db, const char *const *steps, size_t n,
                             struct pfx_error *err)
{
    int64_t version;
    PFX_TRY(pfx_db_int(db, err, 0, &version, "PRAGMA user_version", PFX_NO_PARAMS));
    if (version < 0 || version > (int64_t)n)
        return pfx_fail(
            err, PFX_CLASS_USAGE, "open store", pfx_db_path(db), "",
            "the store has version %lld, and this pfx-agentd knows versions up to %zu: it "
            "was written by a newer one. Install that one again, or restore the backup "
            "that it made before (store.db.v%zu)",
            (long long)version, n, n);
    if (version > 0 && version < (int64_t)n)
        PFX_TRY(backup(db, version, err));
    for (; version < (int64_t)n; version++) {
        struct pfx_tx tx PFX_AUTOTX = {0};
        PFX_TRY(pfx_tx_begin(&tx, db, err));
        PFX_TRY(pfx_db_script(db, steps[version], err));
        /* A pragma takes no parameter. */
        char *set PFX_AUTOFREE = pfx_asprintf("PRAGMA user_version = %lld", (long long)version + 1);
        PFX_TRY(pfx_db_script(db, set, err));
        PFX_TRY(pfx_tx_commit(&tx, err));
    }
    return PFX_OK;
}

pfx_result pfx_store_open(const char *dir, struct pfx_store **ret_store, struct pfx_error *err)
{
    PFX_TRY(make_folder(dir, err));
    struct pfx_store *store = pfx_alloc(sizeof(*store));
    store->lock_fd = -1;
    store->dir = pfx_strdup(dir);
    char *path PFX_AUTOFREE = pfx_asprintf("%s/store.db", dir);
    pfx_result r = take_lock(dir, &store->lock_fd, err);
    if (pfx_ok(r))
        r = pfx_db_open(path, &store->db, err);
    if (pfx_ok(r))
        r = set_pragmas(store->db, err);
    if (pfx_ok(r))
        r = pfx_store_migrate(store->db, pfx_migrations, pfx_n_migrations, err);
    if (pfx_failed(r)) {
        pfx_store_close(store);
        return r;
    }
    *ret_store = store;
    return PFX_OK;
}

void pfx_store_close(struct pfx_store *store)
{
    if (!store)
        return;
    pfx_db_close(store->db);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store->dir);
    free(store);
}

void pfx_store_checkpoint(struct pfx_store *store)
{
    sqlite3_wal_checkpoint_v2(pfx_db_handle(store->db), NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
                              NULL);
}

pfx_result pfx_meta_get(struct pfx_store *store, const char *key, int64_t *ret_value,
                        struct pfx_error *err)
{
    return pfx_db_int(store->db, err, 0, ret_value, "SELECT value FROM meta WHERE key = ?",
                      PFX_PARAMS(P_TEXT(key)));
}

pfx_result pfx_meta_set(struct pfx_store *store, const char *key, int64_t value,
                        struct pfx_error *err)
{
    return pfx_db_exec(store->db, err, NULL,
                       "INSERT INTO meta(key, value) VALUES(?, ?)"
                       " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                       PFX_PARAMS(P_TEXT(key), P_INT(value)));
}

pfx_result pfx_meta_text(struct pfx_store *store, const char *key, char **ret_text,
                         struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(store->db, err, &stmt, "SELECT value FROM meta WHERE key = ?",
                          PFX_PARAMS(P_TEXT(key))));
    PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
    *ret_text = row ? pfx_col_text(stmt, 0) : NULL;
    return PFX_OK;
}

pfx_result pfx_meta_set_text(struct pfx_store *store, const char *key, const char *text,
                             struct pfx_error *err)
{
    return pfx_db_exec(store->db, err, NULL,
                       "INSERT INTO meta(key, value) VALUES(?, ?)"
                       " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                       PFX_PARAMS(P_TEXT(key), P_TEXT(text)));
}

pfx_result pfx_note(struct pfx_store *store, int64_t now_ms, int64_t enrolment, const char *user,
                    struct pfx_error *err, const char *fmt, ...)
{
    char line[960]; /* the CLI's history takes 1000 bytes with the time in front */
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    pfx_utf8_mend(line);
    if (enrolment)
        pfx_log(PFX_LOG_INFO, "enrolment %lld: %s", (long long)enrolment, line);
    else
        pfx_log(PFX_LOG_INFO, "%s", line);
    return pfx_db_exec(
        store->db, err, NULL, "INSERT INTO history(at, enrolment, user, what) VALUES(?, ?, ?, ?)",
        PFX_PARAMS(P_INT(now_ms), P_INT_OR_NULL(enrolment), P_TEXT(user), P_TEXT(line)));
}

pfx_result pfx_trouble_set(struct pfx_store *store, const char *scope, int64_t now_ms,
                           const struct pfx_error *what, struct pfx_error *err)
{
    char line[639];
    return pfx_db_exec(
        store->db, err, NULL,
        "INSERT INTO trouble(scope, since, what) VALUES(?, ?, ?)"
        " ON CONFLICT(scope) DO UPDATE SET what = excluded.what",
        PFX_PARAMS(P_TEXT(scope), P_INT(now_ms), P_TEXT(pfx_error_line(what, line, sizeof(line)))));
}

pfx_result pfx_trouble_clear(struct pfx_store *store, const char *scope, struct pfx_error *err)
{
    return pfx_db_exec(store->db, err, NULL, "DELETE FROM trouble WHERE scope = ?",
                       PFX_PARAMS(P_TEXT(scope)));
}
