/*
 * SQLite behind a few calls: prepared statements kept by their text, typed parameters, transactions
 * that roll back unless they were committed, SQLite's errors as ours. Where the disk is full, the
 * write-ahead log is emptied after the failure, which may be the room for the next try.
 *
 * SQL is always a string literal: the cache keys on its address.
 */
#ifndef PFX_AGENT_DB_H
#define PFX_AGENT_DB_H

#include <sqlite3.h>

#include "crypto/mem.h"
#include "crypto/result.h"

struct pfx_db;

enum pfx_param_type { PFX_P_NULL, PFX_P_INT, PFX_P_TEXT, PFX_P_BLOB };
struct pfx_param {
    enum pfx_param_type type;
    int64_t i;
    const char *text; /* NULL binds NULL */
    struct pfx_bytes blob;
};
/* clang-format off */
#define P_INT(v) {.type = PFX_P_INT, .i = (v)}
#define P_TEXT(v) {.type = PFX_P_TEXT, .text = (v)}
#define P_BLOB(v) {.type = PFX_P_BLOB, .blob = (v)}
#define P_NULL {.type = PFX_P_NULL}
#define P_INT_OR_NULL(v) {.type = (v) ? PFX_P_INT : PFX_P_NULL, .i = (v)}
/* clang-format on */
#define PFX_PARAMS(...)                                                                            \
    ((const struct pfx_param[]){__VA_ARGS__}),                                                     \
        sizeof((const struct pfx_param[]){__VA_ARGS__}) / sizeof(struct pfx_param)
#define PFX_NO_PARAMS NULL, 0

/* Opens or makes the file (mode 0600). TRANSIENT for what may pass (disk full, busy), INTEGRITY for
 * a file that isn't a database. path is copied. */
PFX_MUST_USE pfx_result pfx_db_open(const char *path, struct pfx_db **ret_db,
                                    struct pfx_error *err);
void pfx_db_close(struct pfx_db *db);
const char *pfx_db_path(const struct pfx_db *db);
sqlite3 *pfx_db_handle(struct pfx_db *db);

/* One statement without rows. ret_changes may be NULL. */
PFX_MUST_USE pfx_result pfx_db_exec(struct pfx_db *db, struct pfx_error *err, int64_t *ret_changes,
                                    const char *sql, const struct pfx_param *params, size_t n);
/* A statement with rows: read them with sqlite3_column_*, then pfx_db_done. Texts and blobs given
 * as parameters are copied. */
PFX_MUST_USE pfx_result pfx_db_select(struct pfx_db *db, struct pfx_error *err,
                                      sqlite3_stmt **ret_stmt, const char *sql,
                                      const struct pfx_param *params, size_t n);
PFX_MUST_USE pfx_result pfx_db_next(struct pfx_db *db, sqlite3_stmt *stmt, bool *ret_row,
                                    struct pfx_error *err);
void pfx_db_done(sqlite3_stmt **stmt); /* usable as cleanup */
#define PFX_AUTOSTMT __attribute__((cleanup(pfx_db_done)))
/* The one integer of a query; fallback where there is no row or it is NULL. */
PFX_MUST_USE pfx_result pfx_db_int(struct pfx_db *db, struct pfx_error *err, int64_t fallback,
                                   int64_t *ret_value, const char *sql,
                                   const struct pfx_param *params, size_t n);
int64_t pfx_db_last_id(struct pfx_db *db);
/* Several statements that stand in the program: schema, pragmas. */
PFX_MUST_USE pfx_result pfx_db_script(struct pfx_db *db, const char *sql, struct pfx_error *err);

/* struct pfx_tx tx PFX_AUTOTX = {0}; PFX_TRY(pfx_tx_begin(&tx, db, err)); ... pfx_tx_commit(&tx,
 * err). A scope that is left without a commit rolls back. */
struct pfx_tx {
    struct pfx_db *db;
};
PFX_MUST_USE pfx_result pfx_tx_begin(struct pfx_tx *tx, struct pfx_db *db, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_tx_commit(struct pfx_tx *tx, struct pfx_error *err);
void pfx_tx_end(struct pfx_tx *tx);
#define PFX_AUTOTX __attribute__((cleanup(pfx_tx_end)))

/* Owned copies of a column; NULL stays NULL. */
char *pfx_col_text(sqlite3_stmt *stmt, int col);
struct pfx_buf pfx_col_blob(sqlite3_stmt *stmt, int col);

#endif
