/* key rebuild: begin, and tell how far it is. key records: who needs which generation. */
#include <stdio.h>
#include <string.h>

#include "agent/desk.h"
#include "agent/generation.h"
#include "agent/item.h"
#include "agent/rebuild.h"
#include "agent/timing.h"
#include "agent/verbs.h"
#include "api/conf/process.h"

#define LOOK_EVERY 250
#define REPORT_LOOK 20
#define REPORT_PATIENCE (20 * PFX_SECOND)
#define COUNT_PATIENCE (5 * PFX_SECOND)
#define PAGE 100 /* enrolments that one step looks at */

/* --- key rebuild --- */

/* asker->select, by the clock of time-outs: after: when it ends; done: until when the report is
 * waited for. state: not NULL: dry. user: not NULL: no report came. */
static void send_facts(struct pfx_asker *asker, const char *kind, const char *phase,
                       const struct pfx_rebuild_facts *f)
{
    struct pfx_msg *body = pfx_asker_body(asker);
    pfx_msg_set_str(body, "kind", kind);
    pfx_msg_set_str(body, "phase", phase);
    pfx_item_int(body, "target", f->target);
    pfx_msg_set_int(body, "left", f->left);
    pfx_msg_set_int(body, "done", f->done);
    pfx_msg_set_int(body, "working", f->working);
    pfx_msg_set_int(body, "held", f->held);
    pfx_msg_set_int(body, "passed", f->passed);
    pfx_msg_set_int(body, "left_ms", f->left_ms);
    pfx_asker_item(asker, body);
}

static const char *phase_of(const struct pfx_agent *agent, const struct pfx_rebuild_facts *f)
{
    if (f->started == 0)
        return f->left ? "not begun" : "done";
    if (f->target == 0)
        return "no generation is active";
    if (agent->no_rebuild)
        return "paused";
    return agent->no_uploads ? "uploads are paused" : "rebuilding";
}

static void watch(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_agent *agent = asker->agent;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_rebuild_facts f;
    int64_t uptime = pfx_uptime_ms();
    (void)now_ms;
    if (pfx_failed(pfx_rebuild_facts(agent, &f, &err))) {
        pfx_asker_fail(asker, &err);
        return;
    }
    if (f.started == 0 || uptime >= asker->select.after) {
        bool person = f.started == 0 && f.left > 0;
        send_facts(asker, "summary", f.started ? phase_of(agent, &f) : "done", &f);
        pfx_asker_end(asker, person ? 1 : 0, NULL);
        return;
    }
    send_facts(asker, "progress", phase_of(agent, &f), &f);
    asker->rest_uptime = uptime + LOOK_EVERY;
}

static pfx_result begin(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, asker->agent->store->db, err));
    PFX_TRY(pfx_rebuild_begin(asker->agent, now_ms, err));
    PFX_TRY(pfx_asker_note(asker, 0, NULL, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

static void start(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_rebuild_facts f;
    bool dry = asker->select.state != NULL;
    pfx_result r = pfx_rebuild_facts(asker->agent, &f, &err);
    if (pfx_ok(r) && f.target == 0)
        r = pfx_fail(&err, PFX_CLASS_REFUSED, "key rebuild", "encryption key", "",
                     "no generation of the encryption key is active, so nothing can be sealed; "
                     "pfx-agent key status says what holds each back, key activate makes one active");
    if (pfx_ok(r) && !dry)
        r = begin(asker, now_ms, &err);
    if (pfx_failed(r)) {
        pfx_asker_fail(asker, &err);
        return;
    }
    f.passed = dry ? f.passed : 0;
    send_facts(asker, "plan", dry ? "nothing is done" : "begun", &f);
    if (dry || pfx_uptime_ms() >= asker->select.after) {
        pfx_asker_end(asker, 0, NULL);
        return;
    }
    asker->step = watch;
    asker->rest_uptime = pfx_uptime_ms() + LOOK_EVERY;
}

/* --- key records --- */

/* Of Intune's list, in which what is delivered stands at once. */
static pfx_result count_records(struct pfx_agent *agent, struct pfx_msg *item, const char *key,
                                const char *provider, int64_t now_ms,
                                struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    /* An expired signing certificate is asked for by nobody; with any other old mail is read, and a
     * dual one is such, whatever Intune calls it. */
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT count(*), max(r.expires), count(*) FILTER (WHERE"
                          " r.purpose = 'smimeSigning' AND r.expires <= ?3 AND NOT EXISTS (SELECT 1"
                          "  FROM enrolment e WHERE e.record_id = lower(r.id)"
                          "  AND e.purpose <> 'signing')) FROM record r INDEXED BY record_key"
                          " WHERE r.key_name IS ?1 AND r.provider_name IS ?2",
                          PFX_PARAMS(P_TEXT(key), P_TEXT(provider), P_INT(now_ms))));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
    int64_t over = sqlite3_column_int64(stmt, 2);
    pfx_msg_set_int(item, "records", sqlite3_column_int64(stmt, 0) - over);
    pfx_msg_set_int(item, "over", over);
    pfx_item_int(item, "last", sqlite3_column_int64(stmt, 1));
    return PFX_OK;
}

static pfx_result set_count(struct pfx_agent *agent, struct pfx_msg *item, const char *member,
                            int64_t generation, const char *sql, struct pfx_error *err)
{
    int64_t n;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &n, sql, PFX_PARAMS(P_INT(generation))));
    pfx_msg_set_int(item, member, n);
    return PFX_OK;
}

static pfx_result fill_generation(struct pfx_asker *asker, struct pfx_msg *item, sqlite3_stmt *row,
                                  int64_t now_ms, struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    int64_t n = sqlite3_column_int64(row, 0), read;
    const char *state = (const char *)sqlite3_column_text(row, 1);
    const char *key = (const char *)sqlite3_column_text(row, 2);
    const char *provider = (const char *)sqlite3_column_text(row, 3);
    int64_t since = sqlite3_column_int64(row, 4), until = sqlite3_column_int64(row, 6);
    PFX_TRY(pfx_meta_get(agent->store, "records_started", &read, err));
    pfx_msg_set_str(item, "kind", "generation");
    pfx_msg_set_int(item, "generation", n);
    pfx_item_str(item, "state", state, 16);
    pfx_item_str(item, "key_name", key, 256);
    pfx_item_str(item, "provider_name", provider, 256);
    pfx_item_int(item, "since", since);
    pfx_item_int(item, "compromised", sqlite3_column_int64(row, 5));
    /* Since it was the active one, others may have come that only Intune's list knows of. */
    pfx_msg_set_bool(item, "known", read > until && !asker->select.user);
    PFX_TRY(count_records(agent, item, key, provider, now_ms, err));
    PFX_TRY(set_count(agent, item, "flight", n,
                      "SELECT (SELECT count(*) FROM enrolment WHERE generation = ?1"
                      " AND state IN ('SEALED', 'IMPORTED')) + (SELECT count(*) FROM rebuild"
                      " WHERE generation = ?1 AND state <> 'HELD')",
                      err));
    PFX_TRY(set_count(agent, item, "held", n,
                      "SELECT count(*) FROM rebuild r JOIN enrolment e ON e.id = r.enrolment"
                      " WHERE r.state = 'HELD' AND e.state = 'ACTIVE' AND e.generation = ?",
                      err));
    return set_count(agent, item, "exposed", n,
                     "SELECT count(*) FROM exposure WHERE generation = ?", err);
}

static pfx_result generations(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(asker->agent->store->db, err, &stmt,
                          "SELECT generation, state, key_name, provider_name, since, compromised,"
                          " coalesce(until, since) FROM generation ORDER BY generation",
                          PFX_NO_PARAMS));
    while (true) {
        PFX_TRY(pfx_db_next(asker->agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        struct pfx_msg *item = pfx_asker_body(asker);
        pfx_result r = fill_generation(asker, item, stmt, now_ms, err);
        if (pfx_failed(r)) {
            pfx_msg_free(item);
            return r;
        }
        pfx_asker_item(asker, item);
    }
}

/* Sealed to keys that aren't ours: those of the system that was there before. */
static pfx_result foreign(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(
        asker->agent->store->db, err, &stmt,
        "SELECT key_name, provider_name FROM (SELECT DISTINCT key_name, provider_name FROM record"
        "  INDEXED BY record_key) r WHERE NOT EXISTS (SELECT 1 FROM generation g"
        "  WHERE g.key_name = r.key_name AND g.provider_name = r.provider_name) LIMIT 200",
        PFX_NO_PARAMS));
    while (true) {
        PFX_TRY(pfx_db_next(asker->agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        const char *key = (const char *)sqlite3_column_text(stmt, 0);
        const char *provider = (const char *)sqlite3_column_text(stmt, 1);
        struct pfx_msg *item = pfx_asker_body(asker);
        pfx_msg_set_str(item, "kind", "foreign");
        pfx_item_str(item, "key_name", key, 256);
        pfx_item_str(item, "provider_name", provider, 256);
        pfx_result r = count_records(asker->agent, item, key, provider, now_ms, err);
        if (pfx_failed(r)) {
            pfx_msg_free(item);
            return r;
        }
        pfx_asker_item(asker, item);
    }
}

static pfx_result send_blocker(struct pfx_asker *asker, const struct pfx_enrolment *e,
                               const char *why, const char *next, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(asker->agent->store->db, err, &stmt, "SELECT upn FROM user WHERE id = ?",
                          PFX_PARAMS(P_TEXT(e->user))));
    PFX_TRY(pfx_db_next(asker->agent->store->db, stmt, &row, err));
    struct pfx_msg *item = pfx_asker_body(asker);
    pfx_msg_set_str(item, "kind", "blocker");
    pfx_item_int(item, "generation", e->generation);
    pfx_item_int(item, "enrolment", e->id);
    pfx_item_str(item, "upn", row ? (const char *)sqlite3_column_text(stmt, 0) : "", 1024);
    pfx_item_str(item, "record_id", e->record_id, 128);
    pfx_item_str(item, "why", why, 639);
    pfx_item_str(item, "next", next, 639);
    pfx_item_int(item, "until", e->expires);
    pfx_asker_item(asker, item);
    asker->select.done++;
    return PFX_OK;
}

/* One that may name another generation than the active one: does it stay so? held: only for what
 * was refused; the other reasons have been told. */
static pfx_result look(struct pfx_asker *asker, int64_t id, int64_t active, bool held,
                       int64_t now_ms, struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_rebuild_why why;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    if (e.at != PFX_ACTIVE || e.generation == active)
        return PFX_OK;
    PFX_TRY(pfx_rebuild_why_not(agent, &e, now_ms, &why, err));
    if (!held || why.why)
        return held || !why.why || why.needless ? PFX_OK
                                                : send_blocker(asker, &e, why.why, why.next, err);
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT fail_text FROM rebuild WHERE enrolment = ?",
                          PFX_PARAMS(P_INT(id))));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
    return row ? send_blocker(asker, &e, (const char *)sqlite3_column_text(stmt, 0),
                              "mend that, then: pfx-agent key rebuild", err)
               : PFX_OK;
}

static pfx_result summary(struct pfx_asker *asker, struct pfx_error *err)
{
    struct pfx_msg *item PFX_AUTOMSG = pfx_asker_body(asker);
    int64_t read, active;
    PFX_TRY(pfx_meta_get(asker->agent->store, "records_started", &read, err));
    PFX_TRY(pfx_generation_active(asker->agent->store, &active, err));
    pfx_msg_set_str(item, "kind", "summary");
    pfx_item_int(item, "read", read);
    pfx_msg_set_int(item, "blockers", asker->select.done);
    if (asker->select.user) {
        pfx_msg_set_str(item, "why", "pfx-hsm doesn't say which generations there are now");
        pfx_msg_set_str(item, "next", "start pfx-hsm, or look at its log");
    } else if (read == 0) {
        pfx_msg_set_str(item, "why", "Intune's list was never read whole: no count is certain");
        pfx_msg_set_str(item, "next", "pfx-agent run --once --dry-run");
    } else if (active == 0) {
        pfx_msg_set_str(item, "why", "pfx-hsm names no active generation of the encryption key");
        pfx_msg_set_str(item, "next", "pfx-agent key status");
    }
    pfx_asker_item(asker, PFX_TAKE(item));
    return PFX_OK;
}

/* Where blockers may be, each with an index: of a hundred thousand records they are few. */
static const char *const suspects[] = {
    "SELECT min(id) FROM enrolment INDEXED BY enrolment_keyless WHERE state = 'ACTIVE'"
    " AND (key_ref IS NULL OR key_going_at IS NOT NULL) AND id > ?",
    "SELECT min(id) FROM enrolment INDEXED BY enrolment_exposed WHERE exposed_at IS NOT NULL"
    " AND id > ? AND key_ref IS NOT NULL AND key_going_at IS NULL",
    "SELECT min(enrolment) FROM rebuild WHERE state = 'HELD' AND enrolment > ?",
};
#define N_SUSPECTS ((int64_t)(sizeof(suspects) / sizeof(suspects[0])))

/* asker->select: enrolment: which of those; after: up to this id they are done; done: blockers. */
static pfx_result page(struct pfx_asker *asker, int64_t now_ms, bool *ret_end,
                       struct pfx_error *err)
{
    struct pfx_selection *s = &asker->select;
    int64_t active, id;
    PFX_TRY(pfx_generation_active(asker->agent->store, &active, err));
    for (int i = 0; i < PAGE && s->enrolment < N_SUSPECTS; i++) {
        PFX_TRY(pfx_db_int(asker->agent->store->db, err, 0, &id, suspects[s->enrolment],
                           PFX_PARAMS(P_INT(s->after))));
        s->after = id;
        if (id)
            PFX_TRY(look(asker, id, active, s->enrolment == N_SUSPECTS - 1, now_ms, err));
        else
            s->enrolment++;
    }
    *ret_end = s->enrolment == N_SUSPECTS;
    return PFX_OK;
}

static void step_blockers(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool over;
    pfx_result r = page(asker, now_ms, &over, &err);
    if (pfx_ok(r) && over)
        r = summary(asker, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else if (over)
        pfx_asker_end(asker, 0, NULL);
}

static void list(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    asker->select.enrolment = asker->select.after = asker->select.done = 0;
    asker->step = step_blockers;
    pfx_result r = generations(asker, now_ms, &err);
    if (pfx_ok(r))
        r = foreign(asker, now_ms, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
}

/* --- what pfx-hsm says --- */

/* select.refused: 1 where a report was on its way already: it may be older than the command that
 * activated another generation, so that one more is asked for. */
static pfx_result ask_report(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    PFX_TRY(pfx_db_int(store->db, err, 0, &asker->select.refused,
                       "SELECT EXISTS(SELECT 1 FROM job WHERE kind = 'hsm.report'"
                       " AND sent_at IS NOT NULL)",
                       PFX_NO_PARAMS));
    PFX_TRY(pfx_generation_ask(asker->agent, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

static pfx_result look_for_report(struct pfx_asker *asker, int64_t now_ms, bool *ret_there,
                                  struct pfx_error *err)
{
    int64_t out;
    PFX_TRY(pfx_db_int(asker->agent->store->db, err, 0, &out,
                       "SELECT EXISTS(SELECT 1 FROM job WHERE kind = 'hsm.report')",
                       PFX_NO_PARAMS));
    *ret_there = !out && !asker->select.refused;
    return out || *ret_there ? PFX_OK : ask_report(asker, now_ms, err);
}

/* Counts go on without it, and are certain of nothing; a rebuild doesn't begin. */
static void no_report(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (strcmp(asker->verb->name, "key.records") == 0) {
        asker->select.user = pfx_strdup("stale");
        list(asker, now_ms);
        return;
    }
    pfx_result r = pfx_fail(&err, PFX_CLASS_TRANSIENT, "key rebuild", "pfx-hsm", "",
                            "pfx-hsm doesn't say which generation is active: start it, or look at "
                            "its log, then try again");
    (void)r;
    pfx_asker_fail(asker, &err);
}

static void await_report(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool there;
    if (pfx_failed(look_for_report(asker, now_ms, &there, &err)))
        pfx_asker_fail(asker, &err);
    else if (there && strcmp(asker->verb->name, "key.records") == 0)
        list(asker, now_ms);
    else if (there)
        start(asker, now_ms);
    else if (pfx_uptime_ms() >= asker->select.done)
        no_report(asker, now_ms);
    else
        asker->rest_uptime = pfx_uptime_ms() + REPORT_LOOK;
}

static void begin_with_report(struct pfx_asker *asker, int64_t patience_ms, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    asker->select.done = pfx_uptime_ms() + patience_ms;
    if (pfx_failed(ask_report(asker, now_ms, &err)))
        pfx_asker_fail(asker, &err);
    else
        asker->step = await_report;
}

void pfx_verb_rebuild(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                      int64_t now_ms)
{
    int64_t until = pfx_uptime_ms() + pfx_msg_int(args, "wait") * PFX_SECOND;
    bool dry = pfx_msg_bool(args, "dry_run");
    (void)agent;
    asker->noted = dry; /* it changes nothing */
    asker->select =
        (struct pfx_selection){.after = until, .state = dry ? pfx_strdup("dry") : NULL};
    begin_with_report(asker, REPORT_PATIENCE, now_ms);
}

void pfx_verb_key_records(struct pfx_agent *agent, struct pfx_asker *asker,
                          const struct pfx_msg *args, int64_t now_ms)
{
    (void)agent, (void)args;
    begin_with_report(asker, COUNT_PATIENCE, now_ms);
}
