#include "agent/db.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_SLOTS 512 /* far more than there are statements in the program */

struct cached {
    const char *sql;
    sqlite3_stmt *stmt;
};
struct pfx_db {
    sqlite3 *handle;
    char *path;
    bool full; /* a write met a full disk, and nothing was done about it yet */
    struct cached cache[CACHE_SLOTS];
};

/* The class follows from what may help: space and locks come and go, a broken file needs a person.
 */
static pfx_result fail(struct pfx_db *db, const char *path, int rc, const char *op,
                       struct pfx_error *err)
{
    const char *object = db ? db->path : path;
    const char *said = db && db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        if (db)
            db->full = true;
        return pfx_fail(
            err, PFX_CLASS_TRANSIENT, op, object, "SQLITE_FULL",
            "the disk is full: nothing was changed, and no work is given out until there "
            "is room. Next: free space on the file system of the state folder.");
    case SQLITE_IOERR:
        return pfx_fail(
            err, PFX_CLASS_TRANSIENT, op, object, "SQLITE_IOERR",
            "the disk reports an error (%s): nothing was changed. Next: look at the file "
            "system of the state folder and its free space.",
            said);
    case SQLITE_READONLY:
        return pfx_fail(
            err, PFX_CLASS_TRANSIENT, op, object, "SQLITE_READONLY",
            "the store can't be written: nothing was changed. Next: mount the state folder "
            "for writing and give it to the user of pfx-agentd.");
    case SQLITE_CANTOPEN:
        return pfx_fail(err, PFX_CLASS_TRANSIENT, op, object, "SQLITE_CANTOPEN",
                        "the store can't be opened (%s). Next: check owner and mode of the state "
                        "folder.",
                        said);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return pfx_fail(err, PFX_CLASS_TRANSIENT, op, object, "SQLITE_BUSY",
                        "another program holds the store. Next: end it, then try again.");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, op, object,
            (rc & 0xff) == SQLITE_CORRUPT ? "SQLITE_CORRUPT" : "SQLITE_NOTADB",
            "the store is damaged or isn't one (%s). Next: stop pfx-agentd and restore the "
            "state folder from a backup; orders at the CA are found again.",
            said);
    default:
        return pfx_fail(err, PFX_CLASS_INTERNAL, op, object, sqlite3_errstr(rc), "%s", said);
    }
}

pfx_result pfx_db_open(const char *path, struct pfx_db **ret_db, struct pfx_error *err)
{
    /* SQLite gives its WAL the mode of this file. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "open store", path,
                              "check owner, mode and free space of the state folder");
    if (fchmod(fd, 0600) != 0) {
        int e = errno;
        close(fd);
        return pfx_fail_errno(err, e, "chmod store", path, "the file must belong to this user");
    }
    close(fd);
    struct pfx_db *db = pfx_alloc(sizeof(*db));
    db->path = pfx_strdup(path);
    int rc = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_extended_result_codes(db->handle, 1);
    if (rc != SQLITE_OK) {
        pfx_result r = fail(db, path, rc, "open store", err);
        pfx_db_close(db);
        return r;
    }
    sqlite3_busy_timeout(db->handle, 2000);
    *ret_db = db;
    return PFX_OK;
}

void pfx_db_close(struct pfx_db *db)
{
    if (!db)
        return;
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        sqlite3_finalize(db->cache[i].stmt);
    sqlite3_close(db->handle);
    free(db->path);
    free(db);
}

const char *pfx_db_path(const struct pfx_db *db)
{
    return db->path;
}

sqlite3 *pfx_db_handle(struct pfx_db *db)
{
    return db->handle;
}

static pfx_result prepare(struct pfx_db *db, const char *sql, sqlite3_stmt **ret_stmt,
                          struct pfx_error *err)
{
    size_t at = ((uintptr_t)sql >> 2) % CACHE_SLOTS;
    for (size_t i = 0; i < CACHE_SLOTS; i++, at = (at + 1) % CACHE_SLOTS) {
        struct cached *slot = &db->cache[at];
        /* A literal may be shared by two callers, but not while one still reads from it. */
        if (slot->sql == sql && !sqlite3_stmt_busy(slot->stmt)) {
            *ret_stmt = slot->stmt;
            return PFX_OK;
        }
        if (slot->sql)
            continue;
        int rc =
            sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &slot->stmt, NULL);
        if (rc != SQLITE_OK)
            return fail(db, NULL, rc, "prepare", err);
        slot->sql = sql;
        *ret_stmt = slot->stmt;
        return PFX_OK;
    }
    return pfx_fail(err, PFX_CLASS_INTERNAL, "prepare", db->path, "", "too many statements");
}

static int bind(sqlite3_stmt *stmt, int at, const struct pfx_param *p)
{
    switch (p->type) {
    case PFX_P_INT:
        return sqlite3_bind_int64(stmt, at, p->i);
    case PFX_P_TEXT:
        return sqlite3_bind_text(stmt, at, p->text, -1, SQLITE_TRANSIENT);
    case PFX_P_BLOB:
        if (p->blob.data)
            return sqlite3_bind_blob64(stmt, at, p->blob.data, p->blob.len, SQLITE_TRANSIENT);
        break;
    case PFX_P_NULL:
        break;
    }
    return sqlite3_bind_null(stmt, at);
}

pfx_result pfx_db_select(struct pfx_db *db, struct pfx_error *err, sqlite3_stmt **ret_stmt,
                         const char *sql, const struct pfx_param *params, size_t n)
{
    sqlite3_stmt *stmt = NULL;
    PFX_TRY(prepare(db, sql, &stmt, err));
    if ((size_t)sqlite3_bind_parameter_count(stmt) != n)
        pfx_die("a statement's parameters and its text differ");
    for (size_t i = 0; i < n; i++) {
        int rc = bind(stmt, (int)i + 1, &params[i]);
        if (rc != SQLITE_OK) {
            sqlite3_clear_bindings(stmt);
            return fail(db, NULL, rc, "bind", err);
        }
    }
    *ret_stmt = stmt;
    return PFX_OK;
}

pfx_result pfx_db_next(struct pfx_db *db, sqlite3_stmt *stmt, bool *ret_row, struct pfx_error *err)
{
    int rc = sqlite3_step(stmt);
    *ret_row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return PFX_OK;
    return fail(db, NULL, rc, "store", err);
}

void pfx_db_done(sqlite3_stmt **stmt)
{
    if (*stmt) {
        sqlite3_reset(*stmt);
        sqlite3_clear_bindings(*stmt);
    }
    *stmt = NULL;
}

/* The write-ahead log holds up to some MB of what could stand in the store's file by now: on a
 * small disk that is the room that is missing. Not within a transaction. */
static void make_room(struct pfx_db *db)
{
    if (!db->full || !sqlite3_get_autocommit(db->handle))
        return;
    db->full = false;
    (void)sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

pfx_result pfx_db_exec(struct pfx_db *db, struct pfx_error *err, int64_t *ret_changes,
                       const char *sql, const struct pfx_param *params, size_t n)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(db, err, &stmt, sql, params, n));
    pfx_result r = pfx_db_next(db, stmt, &row, err);
    if (pfx_ok(r) && ret_changes)
        *ret_changes = sqlite3_changes64(db->handle);
    pfx_db_done(&stmt);
    make_room(db);
    return r;
}

pfx_result pfx_db_int(struct pfx_db *db, struct pfx_error *err, int64_t fallback,
                      int64_t *ret_value, const char *sql, const struct pfx_param *params, size_t n)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(db, err, &stmt, sql, params, n));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    *ret_value = row && sqlite3_column_type(stmt, 0) != SQLITE_NULL ? sqlite3_column_int64(stmt, 0)
                                                                    : fallback;
    return PFX_OK;
}

int64_t pfx_db_last_id(struct pfx_db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

pfx_result pfx_db_script(struct pfx_db *db, const char *sql, struct pfx_error *err)
{
    while (*sql) {
        sqlite3_stmt *stmt = NULL;
        const char *tail = NULL;
        int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, &tail);
        if (rc == SQLITE_OK && stmt) {
            do
                rc = sqlite3_step(stmt);
            while (rc == SQLITE_ROW);
            if (rc == SQLITE_DONE)
                rc = SQLITE_OK;
        }
        if (rc != SQLITE_OK) {
            pfx_result r = fail(db, NULL, rc, "store", err);
            sqlite3_finalize(stmt);
            return r;
        }
        sqlite3_finalize(stmt);
        sql = tail;
    }
    return PFX_OK;
}

pfx_result pfx_tx_begin(struct pfx_tx *tx, struct pfx_db *db, struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(db, err, NULL, "BEGIN IMMEDIATE", PFX_NO_PARAMS));
    tx->db = db;
    return PFX_OK;
}

pfx_result pfx_tx_commit(struct pfx_tx *tx, struct pfx_error *err)
{
    pfx_result r = pfx_db_exec(tx->db, err, NULL, "COMMIT", PFX_NO_PARAMS);
    if (pfx_ok(r))
        tx->db = NULL;
    return r;
}

void pfx_tx_end(struct pfx_tx *tx)
{
    if (!tx->db)
        return;
    /* SQLite has rolled back by itself after some errors; then there is nothing to do. */
    if (!sqlite3_get_autocommit(tx->db->handle)) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        if (pfx_failed(pfx_db_exec(tx->db, &ignored, NULL, "ROLLBACK", PFX_NO_PARAMS)))
            pfx_die("a transaction could neither be committed nor rolled back");
    }
    make_room(tx->db);
    tx->db = NULL;
}

char *pfx_col_text(sqlite3_stmt *stmt, int col)
{
    const unsigned char *text = sqlite3_column_text(stmt, col);
    return text ? pfx_strdup((const char *)text) : NULL;
}

struct pfx_buf pfx_col_blob(sqlite3_stmt *stmt, int col)
{
    int len = sqlite3_column_bytes(stmt, col);
    struct pfx_buf buf = pfx_buf_make((size_t)len + 1);
    if (len > 0)
        pfx_buf_add(&buf, sqlite3_column_blob(stmt, col), (size_t)len);
    return buf;
}
