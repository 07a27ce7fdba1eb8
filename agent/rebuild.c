#include "agent/rebuild.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/compromise.h"
#include "agent/delivery.h"
#include "agent/generation.h"
#include "agent/steps.h"

#define SCOPE "rebuild/"

struct rebuilding {
    struct pfx_agent *agent;
    const struct pfx_answer *answer;
    struct pfx_enrolment e; /* as its new record will be */
    struct pfx_error bad;
};

bool pfx_rebuild_job(const struct pfx_job_row *job)
{
    return strncmp(job->scope, SCOPE, sizeof(SCOPE) - 1) == 0;
}

static int64_t enrolment_of(const struct pfx_job_row *job)
{
    return strtoll(job->scope + sizeof(SCOPE) - 1, NULL, 10);
}

static pfx_result forget(struct pfx_agent *agent, int64_t id, const struct pfx_enrolment *e,
                         struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL, "DELETE FROM rebuild WHERE enrolment = ?",
                        PFX_PARAMS(P_INT(id))));
    /* In flight again, the parcel may be that of the flow. */
    return e->id && pfx_state_in_flight(e->at) ? PFX_OK : pfx_delivery_drop(agent, id, err);
}

static void take_text(char **text, sqlite3_stmt *stmt, int col)
{
    free(*text);
    *text = pfx_col_text(stmt, col);
}

/* *ret_fits: the row is in the state of this job, and the enrolment is as it was when it began. */
static pfx_result overlay(struct pfx_agent *agent, const struct pfx_job_row *job,
                          struct pfx_enrolment *e, bool *ret_fits, struct pfx_error *err)
{
    const struct pfx_flow_row *row = pfx_flow_by_job(job->kind);
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool there;
    *ret_fits = false;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT ver, state, bounces, generation, pfx_sha, key_name,"
                          " provider_name, padding, tier, sealed_by FROM rebuild"
                          " WHERE enrolment = ?1 AND NOT EXISTS (SELECT 1 FROM removal"
                          "  WHERE record_id = ?2 AND gone_at IS NULL)",
                          PFX_PARAMS(P_INT(e->id), P_TEXT(e->record_id))));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &there, err));
    if (!there || !row || e->at != PFX_ACTIVE || sqlite3_column_int64(stmt, 0) != e->ver ||
        strcmp((const char *)sqlite3_column_text(stmt, 1), pfx_state_name(row->state)) != 0)
        return PFX_OK;
    *ret_fits = true;
    e->bounces = sqlite3_column_int64(stmt, 2);
    if (row->state == PFX_CHECKED)
        return PFX_OK;
    e->generation = sqlite3_column_int64(stmt, 3);
    pfx_buf_done(&e->pfx_sha);
    e->pfx_sha = pfx_col_blob(stmt, 4);
    take_text(&e->key_name, stmt, 5);
    take_text(&e->provider_name, stmt, 6);
    take_text(&e->padding, stmt, 7);
    take_text(&e->tier, stmt, 8);
    take_text(&e->sealed_by, stmt, 9);
    return PFX_OK;
}

pfx_result pfx_rebuild_load(struct pfx_agent *agent, const struct pfx_job_row *job,
                            struct pfx_enrolment *ret_e, struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    bool fits = false;
    int64_t id = enrolment_of(job);
    memset(ret_e, 0, sizeof(*ret_e));
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    if (e.id)
        PFX_TRY(overlay(agent, job, &e, &fits, err));
    if (!fits)
        return forget(agent, id, &e, err);
    *ret_e = e;
    memset(&e, 0, sizeof(e));
    return PFX_OK;
}

/* The job is answered: to the next state, and its job. */
static pfx_result go(struct pfx_agent *agent, const struct pfx_job_row *job, enum pfx_state to,
                     int64_t not_before_ms, int64_t now_ms, struct pfx_error *err)
{
    PFX_TRY(pfx_outbox_drop(agent->store, job->id, err));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE rebuild SET state = ?, changed_at = ? WHERE enrolment = ?",
                        PFX_PARAMS(P_TEXT(pfx_state_name(to)), P_INT(now_ms),
                                   P_INT(enrolment_of(job)))));
    return pfx_outbox_add(agent->store, job->scope, NULL, pfx_flow_by_state(to)->job, NULL,
                          not_before_ms, now_ms, err);
}

/* The old record is as good as it was: the enrolment knows nothing of this. */
static pfx_result hold(struct pfx_agent *agent, const struct pfx_job_row *job,
                       const struct pfx_enrolment *e, const struct pfx_error *bad, int64_t now_ms,
                       struct pfx_error *err)
{
    char line[700];
    pfx_error_line(bad, line, sizeof(line));
    PFX_TRY(pfx_outbox_drop(agent->store, job->id, err));
    PFX_TRY(pfx_delivery_drop(agent, e->id, err));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE rebuild SET state = 'HELD', changed_at = ?, fail_text = ?"
                        " WHERE enrolment = ?",
                        PFX_PARAMS(P_INT(now_ms), P_TEXT(line), P_INT(e->id))));
    return pfx_note(agent->store, now_ms, e->id, e->user, err,
                    "rebuild held, its record is as it was: %s", line);
}

pfx_result pfx_rebuild_put_aside(struct pfx_agent *agent, const struct pfx_job_row *job,
                                 const struct pfx_enrolment *e, const struct pfx_error *bad,
                                 int64_t now_ms, struct pfx_error *err)
{
    return strcmp(bad->code, "parcel") == 0 ? go(agent, job, PFX_CHECKED, now_ms, now_ms, err)
                                            : hold(agent, job, e, bad, now_ms, err);
}

/* Nothing is to be sent: it was sealed to this generation already, by a way back before its turn. */
static pfx_result needless(struct rebuilding *b, struct pfx_error *err)
{
    PFX_TRY(pfx_outbox_drop(b->agent->store, b->answer->job->id, err));
    return forget(b->agent, b->e.id, &b->e, err);
}

static pfx_result sealed(struct rebuilding *b, struct pfx_error *err)
{
    const struct pfx_msg *body = b->answer->body;
    if (pfx_msg_int(body, "generation") == b->e.generation) {
        PFX_TRY(needless(b, err));
        return pfx_generation_used(b->agent, b->e.generation, b->answer->now_ms, err);
    }
    PFX_TRY(
        pfx_delivery_sealed(b->agent, b->e.id, body, b->answer->now_ms, &b->bad, err));
    if (b->bad.cls != PFX_CLASS_OK)
        return PFX_OK;
    return pfx_db_exec(b->agent->store->db, err, NULL,
                       "UPDATE rebuild SET pfx_sha = ?, generation = ?, key_name = ?,"
                       " provider_name = ?, padding = ?, tier = ?, sealed_by = ?"
                       " WHERE enrolment = ?",
                       PFX_PARAMS(PFX_SEALED_PARAMS(body), P_INT(b->e.id)));
}

pfx_result pfx_rebuild_landed(struct pfx_agent *agent, int64_t generation, struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    int64_t started, active;
    PFX_TRY(pfx_meta_get(store, "rebuild_started", &started, err));
    PFX_TRY(pfx_generation_active(store, &active, err));
    if (!started || generation == active)
        return PFX_OK;
    PFX_TRY(pfx_meta_set(store, "rebuild_generation", 0, err));
    PFX_TRY(pfx_meta_set(store, "rebuild_id", 0, err));
    return pfx_meta_set(store, "rebuild_passed", 0, err);
}

/* The record is the new one now. */
static pfx_result delivered(struct rebuilding *b, struct pfx_error *err)
{
    const struct pfx_enrolment *e = &b->e;
    struct pfx_store *store = b->agent->store;
    int64_t now_ms = b->answer->now_ms, done;
    PFX_TRY(pfx_outbox_drop(store, b->answer->job->id, err));
    PFX_TRY(pfx_db_exec(
        store->db, err, NULL,
        "UPDATE enrolment SET pfx_sha = ?, generation = ?, key_name = ?, provider_name = ?,"
        " padding = ?, tier = ?, sealed_by = ?, rebuilt_at = ? WHERE id = ?",
        PFX_PARAMS(P_BLOB(pfx_buf_bytes(&e->pfx_sha)), P_INT(e->generation), P_TEXT(e->key_name),
                   P_TEXT(e->provider_name), P_TEXT(e->padding), P_TEXT(e->tier),
                   P_TEXT(e->sealed_by), P_INT(now_ms), P_INT(e->id))));
    PFX_TRY(pfx_db_exec(store->db, err, NULL, "DELETE FROM rebuild WHERE enrolment = ?",
                        PFX_PARAMS(P_INT(e->id))));
    PFX_TRY(pfx_meta_get(store, "rebuild_done", &done, err));
    PFX_TRY(pfx_meta_set(store, "rebuild_done", done + 1, err));
    PFX_TRY(pfx_note(store, now_ms, e->id, e->user, err,
                     "rebuilt: its record is sealed to generation %lld of the encryption key",
                     (long long)e->generation));
    PFX_TRY(pfx_rebuild_landed(b->agent, e->generation, err));
    /* Compromised while this was on its way: whoever went through the exposed ones is past it. */
    return pfx_compromise_active(b->agent, e->id, now_ms, err);
}

static pfx_result confirm(struct rebuilding *b, struct pfx_error *err)
{
    bool bounced;
    PFX_TRY(pfx_delivery_confirm(b->agent, &b->e, b->answer->body, b->answer->now_ms, &bounced,
                                 &b->bad, err));
    return bounced ? pfx_db_exec(b->agent->store->db, err, NULL,
                                 "UPDATE rebuild SET bounces = bounces + 1 WHERE enrolment = ?",
                                 PFX_PARAMS(P_INT(b->e.id)))
                   : PFX_OK;
}

static pfx_result take(struct rebuilding *b, enum pfx_state state, struct pfx_error *err)
{
    char note[40];
    if (state == PFX_CHECKED)
        return sealed(b, err);
    if (state == PFX_IMPORTED)
        return confirm(b, err);
    pfx_delivery_imported(&b->e, b->answer->body, note, sizeof(note), &b->bad);
    return PFX_OK;
}

static pfx_result again(struct rebuilding *b, const char *kind, struct pfx_error *err)
{
    const struct pfx_job_row *job = b->answer->job;
    char line[700];
    pfx_error_line(&b->bad, line, sizeof(line));
    PFX_TRY(pfx_db_exec(b->agent->store->db, err, NULL,
                        "UPDATE rebuild SET fail_text = ? WHERE enrolment = ?",
                        PFX_PARAMS(P_TEXT(line), P_INT(b->e.id))));
    return pfx_outbox_again(b->agent->store, job, kind ? kind : job->kind,
                            b->answer->now_ms + pfx_agent_backoff(b->agent, job->tries), line, err);
}

/* As the flow's table says, but that HELD is the rebuild's own. */
static pfx_result follow(struct rebuilding *b, const struct pfx_flow_row *row,
                         struct pfx_error *err)
{
    struct pfx_outcome out = pfx_flow_outcome(row, b->bad.cls);
    const struct pfx_job_row *job = b->answer->job;
    int64_t now_ms = b->answer->now_ms;
    if (out.again)
        return again(b, out.job, err);
    if (out.to == PFX_ACTIVE)
        return delivered(b, err);
    if (b->bad.cls == PFX_CLASS_OK)
        return go(b->agent, job, out.to, now_ms, now_ms, err);
    /* A read-back that the service refuses counts like one that differs. */
    if (out.to == PFX_SEALED && b->answer->fail.cls == PFX_CLASS_REFUSED) {
        PFX_TRY(pfx_db_exec(b->agent->store->db, err, NULL,
                            "UPDATE rebuild SET bounces = bounces + 1 WHERE enrolment = ?",
                            PFX_PARAMS(P_INT(b->e.id))));
        out = b->e.bounces + 1 >= PFX_MOST_BOUNCES ? row->held : out;
    }
    if (out.to == PFX_HELD)
        return hold(b->agent, job, &b->e, &b->bad, now_ms, err);
    return go(b->agent, job, out.to, now_ms + pfx_agent_backoff(b->agent, b->e.bounces), now_ms,
              err);
}

pfx_result pfx_rebuild_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                              struct pfx_error *err)
{
    const struct pfx_flow_row *row = pfx_flow_by_job(answer->job->kind);
    struct rebuilding b = {.agent = agent, .answer = answer, .bad = answer->fail};
    PFX_TRY(pfx_rebuild_load(agent, answer->job, &b.e, err));
    if (b.e.id == 0)
        return pfx_outbox_drop(agent->store, answer->job->id, err);
    int64_t id = b.e.id, still = 1;
    pfx_result r = PFX_OK;
    if (b.bad.cls == PFX_CLASS_OK) {
        r = take(&b, row->state, err);
        if (pfx_ok(r))
            r = pfx_db_int(agent->store->db, err, 0, &still,
                           "SELECT EXISTS(SELECT 1 FROM rebuild WHERE enrolment = ?)",
                           PFX_PARAMS(P_INT(id)));
    }
    if (pfx_ok(r) && still)
        r = follow(&b, row, err);
    pfx_enrolment_done(&b.e);
    return r;
}
