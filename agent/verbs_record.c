/* record list and record remove: Intune's list as it was read last, and what shall go from it. */
#include <string.h>

#include "agent/after.h"
#include "agent/item.h"
#include "agent/removal.h"
#include "agent/verbs.h"

#define AT_ONCE 64

/* Records of the list, and those of ours that were removed since: the first one behind ?1. A
 * condition for each of both tables, so that every way of asking finds its index. */
#define RECORDS(of_record, of_removal)                                                             \
    "SELECT r.id, r.upn, r.thumbprint, r.purpose, r.starts, r.expires, r.key_name,"                \
    " r.provider_name, (SELECT max(e.id) FROM enrolment e WHERE e.record_id = lower(r.id)),"       \
    " CASE WHEN EXISTS(SELECT 1 FROM removal WHERE record_id = lower(r.id))"                       \
    "  THEN 'removing' ELSE 'there' END FROM record r WHERE r.id > ?1" of_record                   \
    " UNION ALL SELECT m.record_id, m.upn, m.thumbprint, m.purpose, NULL, NULL, NULL, NULL,"       \
    " m.enrolment, CASE WHEN m.gone_at IS NULL THEN 'removing' ELSE 'gone' END FROM removal m"     \
    " WHERE NOT EXISTS (SELECT 1 FROM record WHERE id = m.record_id) AND m.record_id > "           \
    "?1" of_removal " ORDER BY 1 LIMIT 1"
#define OF_USER "(SELECT hex FROM user WHERE id = lower(?2) OR upn = ?2 COLLATE NOCASE)"

static pfx_result next_record(struct pfx_asker *asker, const char *after, sqlite3_stmt **ret_stmt,
                              struct pfx_error *err)
{
    struct pfx_db *db = asker->agent->store->db;
    const struct pfx_selection *s = &asker->select;
    if (!after)
        after = "";
    if (s->record)
        return pfx_db_select(
            db, err, ret_stmt,
            RECORDS(" AND r.id IN (?2, lower(?2))", " AND m.record_id = lower(?2)"),
            PFX_PARAMS(P_TEXT(after), P_TEXT(s->record)));
    if (s->user)
        return pfx_db_select(
            db, err, ret_stmt,
            RECORDS(" AND (r.upn = ?2 COLLATE NOCASE OR r.user_hex IN " OF_USER ")",
                    " AND (m.upn = ?2 COLLATE NOCASE OR substr(m.record_id, 1, 32) IN " OF_USER
                    ")"),
            PFX_PARAMS(P_TEXT(after), P_TEXT(s->user)));
    return pfx_db_select(db, err, ret_stmt, RECORDS("", ""), PFX_PARAMS(P_TEXT(after)));
}

/* The next one after the last; *ret_row false at the end. Copies its id to *ret_id. */
static pfx_result send_next(struct pfx_asker *asker, const char *after, bool *ret_row,
                            char **ret_id, struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t read;
    PFX_TRY(pfx_meta_get(store, "records_started", &read, err));
    PFX_TRY(next_record(asker, after, &stmt, err));
    PFX_TRY(pfx_db_next(store->db, stmt, ret_row, err));
    if (!*ret_row)
        return PFX_OK;
    static const char *const names[] = {"id", "upn", "thumbprint", "purpose"};
    static const size_t most[] = {128, 1024, 128, 32};
    struct pfx_msg *item = pfx_asker_body(asker);
    for (int i = 0; i < 4; i++) {
        pfx_msg_set_str(item, names[i], "");
        pfx_item_str(item, names[i], (const char *)sqlite3_column_text(stmt, i), most[i]);
    }
    pfx_item_int(item, "starts", sqlite3_column_int64(stmt, 4));
    pfx_item_int(item, "expires", sqlite3_column_int64(stmt, 5));
    pfx_item_str(item, "key_name", (const char *)sqlite3_column_text(stmt, 6), 256);
    pfx_item_str(item, "provider_name", (const char *)sqlite3_column_text(stmt, 7), 256);
    pfx_item_int(item, "enrolment", sqlite3_column_int64(stmt, 8));
    pfx_msg_set_str(item, "state", (const char *)sqlite3_column_text(stmt, 9));
    pfx_item_int(item, "read", read);
    *ret_id = pfx_col_text(stmt, 0);
    pfx_asker_item(asker, item);
    return PFX_OK;
}

static void step_list(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)now_ms;
    for (int i = 0; i < AT_ONCE; i++) {
        char *id = NULL;
        bool row = false;
        if (pfx_failed(send_next(asker, asker->select.last, &row, &id, &err))) {
            pfx_asker_fail(asker, &err);
            return;
        }
        if (!row) {
            pfx_asker_end(asker, 0, NULL);
            return;
        }
        free(asker->select.last);
        asker->select.last = id;
    }
}

static void read_selection(struct pfx_asker *asker, const struct pfx_msg *args)
{
    const char *user = pfx_msg_str(args, "user"), *id = pfx_msg_str(args, "id");
    asker->select = (struct pfx_selection){.user = user ? pfx_strdup(user) : NULL,
                                           .record = id ? pfx_strdup(id) : NULL};
}

void pfx_verb_records(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                      int64_t now_ms)
{
    (void)agent, (void)now_ms;
    read_selection(asker, args);
    asker->step = step_list;
}

/* Ours: its enrolment ends. Another's: the record alone goes. Neither: there is no such record. */
static pfx_result remove_record(struct pfx_asker *asker, const char *id, int64_t now_ms,
                                struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    char who[PFX_WHO_SIZE];
    int64_t ours, listed;
    char *what PFX_AUTOFREE = pfx_asprintf("removed by %s", pfx_verbs_who(asker, who, sizeof(who)));
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    PFX_TRY(pfx_db_int(store->db, err, 0, &ours,
                       "SELECT max(id) FROM enrolment WHERE record_id = lower(?)",
                       PFX_PARAMS(P_TEXT(id))));
    PFX_TRY(pfx_db_int(store->db, err, 0, &listed,
                       "SELECT EXISTS(SELECT 1 FROM record WHERE id IN (?1, lower(?1)))",
                       PFX_PARAMS(P_TEXT(id))));
    if (!ours && !listed)
        return pfx_fail(err, PFX_CLASS_USAGE, "record remove", "id", "",
                        "Intune's list has no such record; pfx-agent record list shows those that "
                        "it has, as it was read last");
    if (ours) {
        PFX_TRY(pfx_enrolment_load(store, ours, &e, err));
        PFX_TRY(pfx_after_removed(asker->agent, &e, what, now_ms, err));
    } else {
        PFX_TRY(pfx_removal_put(asker->agent, id, 0, what, now_ms, now_ms, err));
    }
    PFX_TRY(pfx_asker_note(asker, ours, NULL, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

void pfx_verb_remove(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char *id PFX_AUTOFREE = NULL;
    bool row;
    pfx_result r;
    (void)agent;
    read_selection(asker, args);
    if (!asker->select.record)
        r = pfx_fail(&err, PFX_CLASS_USAGE, "record remove", "id", "",
                     "say which: Intune's id of the record; pfx-agent record list shows them");
    else
        r = remove_record(asker, asker->select.record, now_ms, &err);
    if (pfx_ok(r))
        r = send_next(asker, NULL, &row, &id, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else
        pfx_asker_end(asker, 0, NULL);
}
