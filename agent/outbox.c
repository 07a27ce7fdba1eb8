#include "agent/outbox.h"

#include <string.h>

void pfx_job_done(struct pfx_job_row *job)
{
    free(job->scope);
    free(job->arm);
    free(job->kind);
    free(job->payload);
    free(job->incarnation);
    memset(job, 0, sizeof(*job));
}

const char *pfx_outbox_arm(const char *kind)
{
    return strncmp(kind, "hsm.", 4) == 0 ? "hsm" : "uploader";
}

static pfx_result insert(struct pfx_store *store, const char *scope, const struct pfx_enrolment *e,
                         const char *kind, const char *payload, int64_t not_before_ms,
                         int64_t now_ms, struct pfx_error *err)
{
    return pfx_db_exec(store->db, err, NULL,
                       "INSERT INTO job(scope, enrolment, ver, arm, kind, payload, not_before,"
                       " created_at) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT(scope, kind) DO NOTHING",
                       PFX_PARAMS(P_TEXT(scope), P_INT_OR_NULL(e ? e->id : 0),
                                  P_INT_OR_NULL(e ? e->ver : 0), P_TEXT(pfx_outbox_arm(kind)),
                                  P_TEXT(kind), P_TEXT(payload), P_INT(not_before_ms),
                                  P_INT(now_ms)));
}

pfx_result pfx_outbox_put(struct pfx_store *store, const struct pfx_enrolment *e, const char *kind,
                          int64_t not_before_ms, int64_t now_ms, struct pfx_error *err)
{
    char *scope PFX_AUTOFREE = pfx_asprintf("e:%lld", (long long)e->id);
    return insert(store, scope, e, kind, NULL, not_before_ms, now_ms, err);
}

pfx_result pfx_outbox_add(struct pfx_store *store, const char *scope, const struct pfx_enrolment *e,
                          const char *kind, const char *payload, int64_t not_before_ms,
                          int64_t now_ms, struct pfx_error *err)
{
    char *own PFX_AUTOFREE = e ? pfx_asprintf("o:%lld", (long long)e->id) : NULL;
    return insert(store, e ? own : scope, e, kind, payload, not_before_ms, now_ms, err);
}

pfx_result pfx_outbox_add_body(struct pfx_store *store, const char *scope, const char *kind,
                               const struct pfx_msg *body, int64_t not_before_ms, int64_t now_ms,
                               struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(pfx_msg_schema(body)->ceiling);
    PFX_TRY(pfx_msg_encode(body, false, &text, err));
    return insert(store, scope, NULL, kind, pfx_buf_str(&text), not_before_ms, now_ms, err);
}

/* What a pause holds back. ?3: of orders, ?4: of what changes Intune. */
#define NOT_PAUSED                                                                                 \
    "NOT (?3 AND kind = 'up.order')"                                                               \
    " AND NOT (?4 AND kind IN ('up.import', 'up.import_settle', 'up.remove'))"

#define JOB                                                                                        \
    "SELECT id, scope, enrolment, ver, arm, kind, payload, not_before, sent_at, lease,"            \
    " incarnation, tries FROM job "

static void read_job(sqlite3_stmt *stmt, struct pfx_job_row *job)
{
    job->id = sqlite3_column_int64(stmt, 0);
    job->scope = pfx_col_text(stmt, 1);
    job->enrolment = sqlite3_column_int64(stmt, 2);
    job->ver = sqlite3_column_int64(stmt, 3);
    job->arm = pfx_col_text(stmt, 4);
    job->kind = pfx_col_text(stmt, 5);
    job->payload = pfx_col_text(stmt, 6);
    job->not_before = sqlite3_column_int64(stmt, 7);
    job->sent_at = sqlite3_column_int64(stmt, 8);
    job->lease = sqlite3_column_int64(stmt, 9);
    job->incarnation = pfx_col_text(stmt, 10);
    job->tries = sqlite3_column_int64(stmt, 11);
}

static pfx_result read_one(struct pfx_db *db, sqlite3_stmt *stmt, struct pfx_job_row *ret_job,
                           struct pfx_error *err)
{
    bool row;
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (row)
        read_job(stmt, ret_job);
    return PFX_OK;
}

pfx_result pfx_outbox_load(struct pfx_store *store, int64_t id, struct pfx_job_row *ret_job,
                           struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    memset(ret_job, 0, sizeof(*ret_job));
    PFX_TRY(pfx_db_select(store->db, err, &stmt, JOB "WHERE id = ?", PFX_PARAMS(P_INT(id))));
    return read_one(store->db, stmt, ret_job, err);
}

pfx_result pfx_outbox_notes(struct pfx_store *store, int64_t now_ms, struct pfx_job_row *ret_job,
                            struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    memset(ret_job, 0, sizeof(*ret_job));
    PFX_TRY(pfx_db_select(store->db, err, &stmt,
                          JOB "WHERE scope = 'log' AND kind = 'hsm.log' AND sent_at IS NULL"
                              " AND not_before <= ?",
                          PFX_PARAMS(P_INT(now_ms))));
    return read_one(store->db, stmt, ret_job, err);
}

#define REBUILD "(scope >= 'rebuild/' AND scope < 'rebuild0')"

pfx_result pfx_outbox_due(struct pfx_store *store, const char *arm, int64_t now_ms,
                          const struct pfx_outbox_filter *filter, int64_t after_time,
                          int64_t after_id, struct pfx_job_row *ret_job, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    memset(ret_job, 0, sizeof(*ret_job));
    /* +: rebuilds are few, and found by their scope; what else is due may be thousands. */
    const char *sql =
        filter->rebuild
            ? JOB "WHERE +arm = ?1 AND sent_at IS NULL AND +not_before <= ?2"
                  " AND (not_before, id) > (?5, ?6) AND " REBUILD " AND " NOT_PAUSED
                  " ORDER BY +not_before, id LIMIT 1"
            : JOB "WHERE arm = ?1 AND sent_at IS NULL AND not_before <= ?2"
                  " AND (not_before, id) > (?5, ?6) AND NOT " REBUILD " AND " NOT_PAUSED
                  " ORDER BY not_before, id LIMIT 1";
    PFX_TRY(pfx_db_select(store->db, err, &stmt, sql,
                          PFX_PARAMS(P_TEXT(arm), P_INT(now_ms), P_INT(filter->no_orders),
                                     P_INT(filter->no_uploads), P_INT(after_time),
                                     P_INT(after_id))));
    return read_one(store->db, stmt, ret_job, err);
}

pfx_result pfx_outbox_send(struct pfx_store *store, struct pfx_job_row *job,
                           const char *incarnation, int64_t now_ms, struct pfx_error *err)
{
    PFX_TRY(
        pfx_db_exec(store->db, err, NULL,
                    "UPDATE job SET sent_at = ?, lease = lease + 1, incarnation = ? WHERE id = ?",
                    PFX_PARAMS(P_INT(now_ms), P_TEXT(incarnation), P_INT(job->id))));
    job->lease++;
    job->sent_at = now_ms;
    /* An order's time is kept with the enrolment: it outlives the job. */
    if (job->enrolment && strcmp(job->kind, "up.order") == 0)
        PFX_TRY(pfx_db_exec(store->db, err, NULL,
                            "UPDATE enrolment SET sent_last = ?1,"
                            " sent_first = coalesce(sent_first, ?1) WHERE id = ?2",
                            PFX_PARAMS(P_INT(now_ms), P_INT(job->enrolment))));
    return PFX_OK;
}

pfx_result pfx_outbox_again(struct pfx_store *store, const struct pfx_job_row *job,
                            const char *kind, int64_t not_before_ms, const char *fail_text,
                            struct pfx_error *err)
{
    return pfx_db_exec(
        store->db, err, NULL,
        "UPDATE job SET kind = ?, sent_at = NULL, incarnation = NULL,"
        " not_before = ?, tries = tries + 1, fail_text = coalesce(?, fail_text)"
        " WHERE id = ?",
        PFX_PARAMS(P_TEXT(kind), P_INT(not_before_ms), P_TEXT(fail_text), P_INT(job->id)));
}

pfx_result pfx_outbox_drop(struct pfx_store *store, int64_t id, struct pfx_error *err)
{
    return pfx_db_exec(store->db, err, NULL, "DELETE FROM job WHERE id = ?", PFX_PARAMS(P_INT(id)));
}

pfx_result pfx_outbox_count(struct pfx_store *store, const char *arm, int64_t now_ms,
                            bool no_orders, bool no_uploads, struct pfx_outbox_counts *ret_counts,
                            struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(
        pfx_db_select(store->db, err, &stmt,
                      "SELECT count(sent_at),"
                      " count(*) FILTER (WHERE sent_at IS NULL AND not_before <= ?2),"
                      " count(*) FILTER (WHERE sent_at IS NULL AND not_before > ?2),"
                      " min(not_before) FILTER (WHERE sent_at IS NULL AND not_before > ?2) FROM job"
                      " WHERE CASE WHEN ?1 IS NULL"
                      "  THEN kind NOT IN ('up.order_changes', 'up.order_validation',"
                      "   'hsm.key_destroy', 'hsm.rewrap')"
                      "   AND NOT " REBUILD
                      "  ELSE arm = ?1 END"
                      " AND kind <> 'hsm.log' AND (sent_at IS NOT NULL OR (" NOT_PAUSED "))",
                      PFX_PARAMS(P_TEXT(arm), P_INT(now_ms), P_INT(no_orders), P_INT(no_uploads))));
    PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
    ret_counts->out = sqlite3_column_int64(stmt, 0);
    ret_counts->due = sqlite3_column_int64(stmt, 1);
    ret_counts->later = sqlite3_column_int64(stmt, 2);
    ret_counts->next_at = sqlite3_column_int64(stmt, 3);
    return PFX_OK;
}
