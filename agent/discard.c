#include "agent/discard.h"

#include <string.h>

#include "agent/timing.h"
#include "api/conf/process.h"

/* Jobs at once: as many as pfx-hsm does between two ticks, since new keys wait behind them. */
#define LEAST 4
#define WINDOW 32
/* A policy is changed on a day; what else keeps a key takes a person. */
#define AGAIN_POLICY PFX_DAY
#define AGAIN (30 * PFX_DAY)
/* Emptying the write-ahead log costs several writes to the disk: of thousands, not after each. */
#define EMPTY_EVERY (2 * PFX_SECOND)

/* The conditions of the indices enrolment_unused and enrolment_delivered: word for word. */
#define HELD_YET "key_ref IS NOT NULL AND key_gone_at IS NULL AND key_due IS NULL"
#define UNUSED                                                                                     \
    "state IN ('FAILED', 'ENDED') AND sent_first IS NULL AND order_id IS NULL"                     \
    " AND settle_since IS NULL AND " HELD_YET
#define DELIVERED "state IN ('ACTIVE', 'ENDED') AND active_at IS NOT NULL AND " HELD_YET
#define NO_JOB                                                                                     \
    " AND NOT EXISTS (SELECT 1 FROM job WHERE job.enrolment = e.id"                                \
    "  AND job.kind = '" PFX_DISCARD_KIND "')"

bool pfx_key_kept(const struct pfx_enrolment *e)
{
    return e->key_ref && !e->key_gone_at && !e->key_going_at;
}

const char *pfx_discard_why(const struct pfx_enrolment *e)
{
    return e->active_at ? "delivered" : "unused";
}

static const char *meta_of(enum pfx_purpose purpose)
{
    static const char *const names[] = {[PFX_PURPOSE_SIGNING] = "destroys_signing",
                                        [PFX_PURPOSE_ENCRYPTION] = "destroys_encryption",
                                        [PFX_PURPOSE_DUAL] = "destroys_dual"};
    return names[purpose];
}

pfx_result pfx_discard_report(struct pfx_agent *agent, const struct pfx_msg *report,
                              struct pfx_error *err)
{
    for (int i = 0; i < PFX_PURPOSES; i++) {
        const char *name = pfx_purpose_name((enum pfx_purpose)i);
        bool goes = false;
        for (size_t k = 0; k < pfx_msg_count(report, "after_delivery"); k++)
            goes = goes || strcmp(pfx_msg_str_at(report, "after_delivery", k), name) == 0;
        PFX_TRY(pfx_meta_set(agent->store, meta_of((enum pfx_purpose)i), goes, err));
    }
    return PFX_OK;
}

struct due {
    int64_t ids[WINDOW];
    size_t n;
};

static pfx_result collect(struct pfx_db *db, sqlite3_stmt *stmt, struct due *due,
                          struct pfx_error *err)
{
    while (due->n < WINDOW) {
        bool row;
        PFX_TRY(pfx_db_next(db, stmt, &row, err));
        if (!row)
            break;
        due->ids[due->n++] = sqlite3_column_int64(stmt, 0);
    }
    return PFX_OK;
}

/* Ended, and no order can exist: none was sent, and a restored store has looked whether one was. */
static pfx_result find_unused(struct pfx_agent *agent, size_t room, struct due *due,
                              struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT id FROM enrolment e INDEXED BY enrolment_unused WHERE " UNUSED
                          " AND (?1 = 0 OR created_at > ?1 OR looked >= ?1)" NO_JOB
                          " ORDER BY id LIMIT ?2",
                          PFX_PARAMS(P_INT(agent->restored_at), P_INT((int64_t)room))));
    return collect(agent->store->db, stmt, due, err);
}

static pfx_result find_delivered(struct pfx_agent *agent, size_t room, struct due *due,
                                 struct pfx_error *err)
{
    for (int i = 0; i < PFX_PURPOSES && due->n < room; i++) {
        sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
        int64_t goes;
        PFX_TRY(pfx_meta_get(agent->store, meta_of((enum pfx_purpose)i), &goes, err));
        if (!goes)
            continue;
        /* A record that is made anew needs its key until it was read back. */
        PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                              "SELECT id FROM enrolment e INDEXED BY enrolment_delivered"
                              " WHERE purpose = ?1 AND " DELIVERED
                              " AND NOT EXISTS (SELECT 1 FROM rebuild r WHERE r.enrolment = e.id"
                              "  AND r.state <> 'HELD')" NO_JOB " ORDER BY id LIMIT ?2",
                              PFX_PARAMS(P_TEXT(pfx_purpose_name((enum pfx_purpose)i)),
                                         P_INT((int64_t)(room - due->n)))));
        PFX_TRY(collect(agent->store->db, stmt, due, err));
    }
    return PFX_OK;
}

static pfx_result put(struct pfx_agent *agent, int64_t id, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET key_going_at = coalesce(key_going_at, ?)"
                        " WHERE id = ?",
                        PFX_PARAMS(P_INT(now_ms), P_INT(id))));
    return pfx_outbox_add(agent->store, NULL, &e, PFX_DISCARD_KIND, NULL, now_ms, now_ms, err);
}

/* What was put off, and is due again. */
static pfx_result wake(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t due;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &due,
                       "SELECT EXISTS(SELECT 1 FROM enrolment INDEXED BY enrolment_key_due"
                       " WHERE key_due IS NOT NULL AND key_due <= ?)",
                       PFX_PARAMS(P_INT(now_ms))));
    if (!due)
        return PFX_OK;
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE enrolment SET key_due = NULL WHERE id IN (SELECT id FROM enrolment"
                       " INDEXED BY enrolment_key_due WHERE key_due IS NOT NULL AND key_due <= ?"
                       " ORDER BY key_due LIMIT ?)",
                       PFX_PARAMS(P_INT(now_ms), P_INT(WINDOW)));
}

/* out: of those that were put before, so many are left. */
static size_t room_beside(struct pfx_agent *agent, int64_t out)
{
    int64_t most = agent->discards_most ? agent->discards_most : LEAST;
    if (out == 0 && agent->discards_put == most)
        most = most * 2 < WINDOW ? most * 2 : WINDOW;
    else if (out > most / 2)
        most = most / 2 > LEAST ? most / 2 : LEAST;
    agent->discards_most = most;
    return out < most ? (size_t)(most - out) : 0;
}

pfx_result pfx_discard_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct due due = {.n = 0};
    int64_t out, uptime = pfx_uptime_ms();
    if (agent->blobs_erased && uptime >= agent->blobs_uptime) {
        pfx_store_checkpoint(agent->store);
        agent->blobs_erased = false;
        agent->blobs_uptime = uptime + EMPTY_EVERY;
    }
    PFX_TRY(wake(agent, now_ms, err));
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &out,
                       "SELECT count(*) FROM job INDEXED BY job_discard"
                       " WHERE kind = '" PFX_DISCARD_KIND "'",
                       PFX_NO_PARAMS));
    size_t room = room_beside(agent, out);
    agent->discards_put = 0;
    if (room == 0)
        return PFX_OK;
    PFX_TRY(find_unused(agent, room, &due, err));
    PFX_TRY(find_delivered(agent, room, &due, err));
    if (due.n == 0)
        return PFX_OK;
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    for (size_t i = 0; i < due.n; i++)
        PFX_TRY(put(agent, due.ids[i], now_ms, err));
    agent->discards_put = (int64_t)due.n;
    return pfx_tx_commit(&tx, err);
}

pfx_result pfx_discard_put_off(struct pfx_agent *agent, const struct pfx_enrolment *e,
                               const struct pfx_error *fail, int64_t now_ms, struct pfx_error *err)
{
    /* A refusal says that nothing was touched; anything else leaves open how far it came, and then
     * nobody relies on that key any more. */
    bool kept = fail->cls == PFX_CLASS_REFUSED || fail->cls == PFX_CLASS_USAGE;
    int64_t again = strcmp(fail->code, "policy") == 0 ? AGAIN_POLICY : AGAIN;
    char line[700];
    pfx_error_line(fail, line, sizeof(line));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET key_going_at = CASE WHEN ?1 THEN NULL"
                        " ELSE key_going_at END, key_due = ?2, key_said = ?3 WHERE id = ?4",
                        PFX_PARAMS(P_INT(kept), P_INT(now_ms + again), P_TEXT(line), P_INT(e->id))));
    /* The policy was changed: what else it lets go comes with the next report. */
    enum pfx_purpose purpose;
    if (strcmp(fail->code, "policy") == 0 && pfx_purpose_parse(e->purpose, &purpose))
        PFX_TRY(pfx_meta_set(agent->store, meta_of(purpose), 0, err));
    return pfx_note(agent->store, now_ms, e->id, e->user, err, "its user key isn't destroyed: %s",
                    line);
}

pfx_result pfx_discard_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                              struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    if (pfx_steps_passing(answer->fail.cls))
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    PFX_TRY(pfx_enrolment_load(agent->store, answer->job->enrolment, &e, err));
    if (answer->fail.cls != PFX_CLASS_OK)
        return pfx_discard_put_off(agent, &e, &answer->fail, answer->now_ms, err);
    bool wrapped = pfx_msg_bool(answer->body, "wrapped");
    /* The reference goes with the key: secure_delete overwrites a blob, and soon a checkpoint empties
     * the write-ahead log of it. */
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET key_ref = NULL, key_gone_at = ?1, key_due = NULL,"
                        " key_going_at = coalesce(key_going_at, ?1), key_said = NULL WHERE id = ?2",
                        PFX_PARAMS(P_INT(answer->now_ms), P_INT(e.id))));
    agent->blobs_erased = agent->blobs_erased || wrapped;
    return pfx_note(agent->store, answer->now_ms, e.id, e.user, err, "its user key is destroyed (%s): %s",
                    pfx_discard_why(&e),
                    wrapped ? "the wrapped blob is erased here"
                    : pfx_msg_bool(answer->body, "found")
                        ? "the token had it, and shows it no more"
                        : "the token didn't have it any more");
}
