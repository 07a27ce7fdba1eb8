/* log names: the operation log's hashes of users, with what it takes to check them. For the name
 * map that goes to auditors beside an exported log. */
#include <string.h>

#include "agent/item.h"
#include "agent/verbs.h"
#include "crypto/encode.h"

#define AT_ONCE 64
#define MOST_ADDRESSES 64 /* of one item */

/* Of all their certificates, the newest ones' first where there are too many; sorted. */
static pfx_result add_addresses(struct pfx_asker *asker, const char *user, struct pfx_msg *item,
                                struct pfx_error *err)
{
    struct pfx_db *db = asker->agent->store->db;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT address FROM (SELECT j.value AS address, max(e.id) AS newest"
                          "  FROM enrolment e, json_each(e.addresses) j"
                          "  WHERE e.user = ?1 AND json_valid(e.addresses)"
                          "  AND length(CAST(j.value AS BLOB)) BETWEEN 3 AND 254"
                          "  GROUP BY j.value ORDER BY newest DESC, address LIMIT ?2)"
                          " ORDER BY address",
                          PFX_PARAMS(P_TEXT(user), P_INT(MOST_ADDRESSES))));
    while (true) {
        PFX_TRY(pfx_db_next(db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        pfx_item_add(item, "addresses", (const char *)sqlite3_column_text(stmt, 0), 254);
    }
}

/* The next one after the last, by its hash; *ret_row false at the end. */
static pfx_result send_next(struct pfx_asker *asker, bool *ret_row, struct pfx_error *err)
{
    struct pfx_db *db = asker->agent->store->db;
    struct pfx_buf last PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(32);
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    const char *after = asker->select.last ? asker->select.last : "";
    if (!pfx_unhex(after, strlen(after), &last))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "log names", "", "", "the last hash isn't one");
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT log_hash, salt, id, upn FROM user WHERE log_hash > ?"
                          " AND length(log_hash) = 32 AND length(salt) = 16"
                          " ORDER BY log_hash LIMIT 1",
                          PFX_PARAMS(P_BLOB(pfx_buf_bytes(&last)))));
    PFX_TRY(pfx_db_next(db, stmt, ret_row, err));
    if (!*ret_row)
        return PFX_OK;
    char hash[65], salt[33];
    const char *id = (const char *)sqlite3_column_text(stmt, 2);
    struct pfx_msg *item PFX_AUTOMSG = pfx_asker_body(asker);
    pfx_msg_set_str(item, "user", pfx_hex(sqlite3_column_blob(stmt, 0), 32, hash));
    pfx_msg_set_str(item, "salt", pfx_hex(sqlite3_column_blob(stmt, 1), 16, salt));
    pfx_msg_set_str(item, "id", id);
    pfx_item_str(item, "upn", (const char *)sqlite3_column_text(stmt, 3), 1024);
    PFX_TRY(add_addresses(asker, id, item, err));
    free(asker->select.last);
    asker->select.last = pfx_strdup(hash);
    pfx_asker_item(asker, PFX_TAKE(item));
    return PFX_OK;
}

static void step(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)now_ms;
    for (int i = 0; i < AT_ONCE; i++) {
        bool row = false;
        if (pfx_failed(send_next(asker, &row, &err))) {
            pfx_asker_fail(asker, &err);
            return;
        }
        if (!row) {
            pfx_asker_end(asker, 0, NULL);
            return;
        }
    }
}

/* Nothing is changed, and yet it is noted: with the salts, entries can be told from each other for
 * good. */
void pfx_verb_log_names(struct pfx_agent *agent, struct pfx_asker *asker,
                        const struct pfx_msg *args, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)agent, (void)args;
    if (pfx_failed(pfx_asker_noted(asker, now_ms, &err)))
        pfx_asker_fail(asker, &err);
    else
        asker->step = step;
}
