#include "agent/removal.h"

#include <ctype.h>
#include <string.h>

#include "agent/note.h"
#include "agent/timing.h"

#define SCOPE "remove/"

static char *lower(const char *text)
{
    char *copy = pfx_strdup(text);
    for (char *p = copy; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

static pfx_result put_job(struct pfx_agent *agent, const char *key, const char *record_id,
                          int64_t not_before_ms, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_msg *body PFX_AUTOMSG =
        pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.remove")->request);
    char *scope PFX_AUTOFREE = pfx_asprintf(SCOPE "%s", key);
    pfx_msg_set_str(body, "record_id", record_id);
    return pfx_outbox_add_body(agent->store, scope, "up.remove", body, not_before_ms, now_ms, err);
}

pfx_result pfx_removal_put(struct pfx_agent *agent, const char *record_id, int64_t enrolment,
                           const char *why, int64_t not_before_ms, int64_t now_ms,
                           struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    char *key PFX_AUTOFREE = lower(record_id);
    int64_t fresh;
    /* What is known of it is kept: the record's own row goes with the record. */
    PFX_TRY(pfx_db_exec(
        db, err, &fresh,
        "INSERT INTO removal(record_id, user, enrolment, upn, thumbprint, purpose, why, asked_at)"
        " VALUES(?1,"
        " (SELECT id FROM user WHERE hex = substr(?1, 1, 32)), ?2,"
        " coalesce((SELECT upn FROM record WHERE id IN (?1, ?3)),"
        "  (SELECT upn FROM user WHERE hex = substr(?1, 1, 32)), ''),"
        " coalesce((SELECT thumbprint FROM record WHERE id IN (?1, ?3)), substr(?1, 34)),"
        " coalesce((SELECT purpose FROM record WHERE id IN (?1, ?3)),"
        "  (SELECT intune FROM enrolment WHERE id = ?2), 'unassigned'), ?4, ?5)"
        " ON CONFLICT(record_id) DO UPDATE SET enrolment = excluded.enrolment,"
        " why = excluded.why, asked_at = excluded.asked_at, tries = 0, tried_at = NULL,"
        " fail_text = NULL, gone_at = NULL WHERE gone_at IS NOT NULL",
        PFX_PARAMS(P_TEXT(key), P_INT_OR_NULL(enrolment), P_TEXT(record_id), P_TEXT(why),
                   P_INT(now_ms))));
    if (fresh == 0)
        return PFX_OK;
    PFX_TRY(pfx_note(agent->store, now_ms, enrolment, NULL, err,
                     "record %s shall go from Intune: %s", record_id, why));
    return put_job(agent, key, record_id, not_before_ms, now_ms, err);
}

static pfx_result gone(struct pfx_agent *agent, const struct pfx_answer *answer, const char *key,
                       int64_t enrolment, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    PFX_TRY(pfx_db_exec(db, err, NULL, "DELETE FROM record WHERE id = ?1 OR id = upper(?1)",
                        PFX_PARAMS(P_TEXT(key))));
    PFX_TRY(pfx_db_exec(db, err, NULL,
                        "UPDATE removal SET gone_at = ?1, tried_at = ?1, tries = tries + 1,"
                        " fail_text = NULL WHERE record_id = ?2",
                        PFX_PARAMS(P_INT(answer->now_ms), P_TEXT(key))));
    PFX_TRY(pfx_note_removed(agent->store, key, enrolment, answer->now_ms, err));
    return pfx_note(agent->store, answer->now_ms, enrolment, NULL, err,
                    "record %s is gone from Intune", key);
}

pfx_result pfx_removal_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                              struct pfx_error *err)
{
    static const char prefix[] = SCOPE;
    const struct pfx_job_row *job = answer->job;
    const char *key =
        strncmp(job->scope, prefix, sizeof(prefix) - 1) == 0 ? job->scope + sizeof(prefix) - 1 : "";
    struct pfx_db *db = agent->store->db;
    int64_t enrolment;
    char line[700];
    enum pfx_class cls = answer->fail.cls;
    PFX_TRY(pfx_db_int(db, err, 0, &enrolment, "SELECT enrolment FROM removal WHERE record_id = ?",
                       PFX_PARAMS(P_TEXT(key))));
    if (cls == PFX_CLASS_OK && pfx_msg_bool(answer->body, "gone"))
        return gone(agent, answer, key, enrolment, err);
    /* Deleted and still there, or not deleted: the same again, more and more seldom. What needs a
     * person (a missing role) goes on by itself once that is put right. */
    bool person = cls != PFX_CLASS_OK && !pfx_steps_passing(cls);
    const char *text =
        cls == PFX_CLASS_OK ? NULL : pfx_error_line(&answer->fail, line, sizeof(line));
    PFX_TRY(pfx_db_exec(db, err, NULL,
                        "UPDATE removal SET tries = tries + 1, tried_at = ?, fail_text = ?"
                        " WHERE record_id = ?",
                        PFX_PARAMS(P_INT(answer->now_ms), P_TEXT(text), P_TEXT(key))));
    if ((job->tries & (job->tries + 1)) == 0) /* 1, 2, 4, 8, ... */
        PFX_TRY(pfx_note(agent->store, answer->now_ms, enrolment, NULL, err,
                         "record %s isn't gone yet: %s", key,
                         text ? text : "Intune still shows it after its deletion"));
    int64_t wait = person ? agent->conf->retry_max_ms : pfx_agent_backoff(agent, job->tries);
    return pfx_outbox_again(agent->store, job, job->kind, answer->now_ms + wait, text, err);
}

/* One that the CA revoked must not stay, whoever brought it back: an import that was under way
 * while it was removed, or a service that forgets. */
static pfx_result again_if_revoked(struct pfx_agent *agent, int64_t list_started_ms, int64_t now_ms,
                                   struct pfx_error *err)
{
    while (true) {
        sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
        bool row;
        PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                              "SELECT m.record_id, m.enrolment FROM removal m"
                              " JOIN enrolment e ON e.id = m.enrolment JOIN record r"
                              " ON r.id = m.record_id WHERE m.gone_at < ?"
                              " AND e.revoked_at IS NOT NULL AND e.state = 'ENDED' LIMIT 1",
                              PFX_PARAMS(P_INT(list_started_ms))));
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        char *id PFX_AUTOFREE = pfx_col_text(stmt, 0);
        int64_t enrolment = sqlite3_column_int64(stmt, 1);
        pfx_db_done(&stmt);
        PFX_TRY(pfx_removal_put(agent, id, enrolment, "it was gone, and is in Intune's list again",
                                now_ms, now_ms, err));
    }
}

pfx_result pfx_removal_heal(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    while (true) {
        sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
        bool row;
        PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                              "SELECT record_id FROM removal WHERE gone_at IS NULL AND NOT EXISTS"
                              " (SELECT 1 FROM job WHERE scope = '" SCOPE "' || record_id) LIMIT 1",
                              PFX_NO_PARAMS));
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        char *id PFX_AUTOFREE = pfx_col_text(stmt, 0);
        pfx_db_done(&stmt);
        PFX_TRY(put_job(agent, id, id, now_ms, now_ms, err));
    }
}

pfx_result pfx_removal_listed(struct pfx_agent *agent, int64_t list_started_ms, int64_t now_ms,
                              struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t back;
    PFX_TRY(again_if_revoked(agent, list_started_ms, now_ms, err));
    PFX_TRY(pfx_db_exec(db, err, &back,
                        "DELETE FROM removal WHERE gone_at < ? AND EXISTS"
                        " (SELECT 1 FROM record WHERE id = removal.record_id)",
                        PFX_PARAMS(P_INT(list_started_ms))));
    return back
               ? pfx_note(agent->store, now_ms, 0, NULL, err,
                          "%lld records that were gone are in Intune's list again", (long long)back)
               : PFX_OK;
}
