/* key records: who needs which generation of the encryption key. Counted in steps: with a hundred
 * thousand records others have their turn in between. */
#include <stdio.h>
#include <string.h>

#include "agent/generation.h"
#include "agent/item.h"
#include "agent/rebuild.h"
#include "agent/verbs.h"
#include "api/conf/process.h"

#define STEP_MS 5 /* of looking at enrolments one by one */
#define PAGE 500  /* records that one step looks at */
#define NAME 257

/* What is counted now: a generation, or a key that isn't ours. Goes with the asker. */
struct count {
    bool open, ours;
    int64_t generation; /* this one, or the last one */
    int64_t foreign;    /* so many were told of */
    bool known, has_key, has_provider;
    char state[17], key[NAME], provider[NAME];
    int64_t since, compromised, flight, held, exposed;
    int64_t needed, over, last;
    int64_t now_ms, expires; /* expired signing certificates: looked at up to this, and to this id */
    char id[129];
};

/* It is freed with the request. */
static struct count *count_of(struct pfx_asker *asker)
{
    return (struct count *)(void *)asker->select.last;
}

#define OF_KEY " FROM record r INDEXED BY record_key WHERE r.key_name IS ?1 AND r.provider_name IS ?2"
#define KEY_PARAMS(c)                                                                              \
    P_TEXT((c)->has_key ? (c)->key : NULL), P_TEXT((c)->has_provider ? (c)->provider : NULL)

/* Of Intune's list, in which what is delivered stands at once. An expired signing certificate is asked
 * for by nobody; with any other old mail is read. Those are looked at one by one, later: each record
 * is in one of both counts. */
static pfx_result count_needed(struct pfx_agent *agent, struct count *c, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT count(*), max(r.expires)" OF_KEY
                          " AND NOT (r.purpose = 'smimeSigning' AND r.expires IS NOT NULL"
                          "  AND r.expires <= ?3)",
                          PFX_PARAMS(KEY_PARAMS(c), P_INT(c->now_ms))));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
    c->needed = sqlite3_column_int64(stmt, 0);
    c->last = sqlite3_column_int64(stmt, 1);
    return PFX_OK;
}

/* A dual certificate is such that old mail is read with, whatever Intune calls it. */
static pfx_result count_expired(struct pfx_agent *agent, struct count *c, bool *ret_end,
                                struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int n = 0;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT r.expires, r.id, EXISTS(SELECT 1 FROM enrolment e"
                          " WHERE e.record_id = lower(r.id) AND e.purpose <> 'signing')" OF_KEY
                          " AND r.purpose = 'smimeSigning' AND r.expires <= ?3"
                          " AND (r.expires, r.id) > (?4, ?5) ORDER BY r.expires, r.id LIMIT ?6",
                          PFX_PARAMS(KEY_PARAMS(c), P_INT(c->now_ms), P_INT(c->expires),
                                     P_TEXT(c->id), P_INT(PAGE))));
    for (; n < PAGE; n++) {
        bool row;
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        c->expires = sqlite3_column_int64(stmt, 0);
        snprintf(c->id, sizeof(c->id), "%s", (const char *)sqlite3_column_text(stmt, 1));
        c->last = c->expires > c->last ? c->expires : c->last;
        if (sqlite3_column_int64(stmt, 2))
            c->needed++;
        else
            c->over++;
    }
    *ret_end = n < PAGE;
    return PFX_OK;
}

static bool keep_name(char *name, sqlite3_stmt *stmt, int col)
{
    const char *text = (const char *)sqlite3_column_text(stmt, col);
    snprintf(name, NAME, "%s", text ? text : "");
    return text != NULL;
}

static pfx_result number(struct pfx_agent *agent, int64_t generation, const char *sql,
                         int64_t *ret_n, struct pfx_error *err)
{
    return pfx_db_int(agent->store->db, err, 0, ret_n, sql, PFX_PARAMS(P_INT(generation)));
}

/* What is on its way counts before the records do, so that nothing arrives unseen in between. A held
 * one is sent as it was packed when it is retried; of a held rebuild it isn't known whether Intune
 * took it, until its list was read. */
static pfx_result count_flight(struct pfx_agent *agent, struct count *c, struct pfx_error *err)
{
    PFX_TRY(number(agent, c->generation,
                   "SELECT (SELECT count(*) FROM enrolment WHERE generation = ?1"
                   " AND (state IN ('SEALED', 'IMPORTED') OR (state = 'HELD'"
                   "  AND held_from IN ('SEALED', 'IMPORTED')))) + (SELECT count(*) FROM rebuild"
                   " WHERE generation = ?1 AND (state <> 'HELD' OR changed_at >="
                   "  coalesce((SELECT value FROM meta WHERE key = 'records_started'), 0)))",
                   &c->flight, err));
    PFX_TRY(number(agent, c->generation,
                   "SELECT count(*) FROM rebuild r JOIN enrolment e ON e.id = r.enrolment"
                   " WHERE r.state = 'HELD' AND e.state = 'ACTIVE' AND e.generation = ?",
                   &c->held, err));
    return number(agent, c->generation, "SELECT count(*) FROM exposure WHERE generation = ?",
                  &c->exposed, err);
}

/* Since it was the active one, others may have come that only Intune's list knows of. */
static pfx_result next_generation(struct pfx_asker *asker, struct count *c, struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t read;
    PFX_TRY(pfx_meta_get(store, "records_started", &read, err));
    PFX_TRY(pfx_db_select(store->db, err, &stmt,
                          "SELECT generation, key_name, provider_name, state, since, compromised,"
                          " coalesce(until, since) FROM generation WHERE generation > ?"
                          " ORDER BY generation LIMIT 1",
                          PFX_PARAMS(P_INT(c->generation))));
    PFX_TRY(pfx_db_next(store->db, stmt, &c->open, err));
    if (!c->open)
        return PFX_OK;
    c->ours = true;
    c->generation = sqlite3_column_int64(stmt, 0);
    c->has_key = keep_name(c->key, stmt, 1);
    c->has_provider = keep_name(c->provider, stmt, 2);
    snprintf(c->state, sizeof(c->state), "%s", (const char *)sqlite3_column_text(stmt, 3));
    c->since = sqlite3_column_int64(stmt, 4);
    c->compromised = sqlite3_column_int64(stmt, 5);
    c->known = read > sqlite3_column_int64(stmt, 6) && !asker->select.user;
    return count_flight(asker->agent, c, err);
}

/* Sealed to keys that aren't ours: those of the system that was there before. */
static pfx_result next_foreign(struct pfx_agent *agent, struct count *c, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    PFX_TRY(pfx_db_select(
        agent->store->db, err, &stmt,
        "SELECT key_name, provider_name FROM (SELECT DISTINCT key_name, provider_name FROM record"
        "  INDEXED BY record_key) r WHERE NOT EXISTS (SELECT 1 FROM generation g"
        "  WHERE g.key_name = r.key_name AND g.provider_name = r.provider_name) LIMIT 1 OFFSET ?",
        PFX_PARAMS(P_INT(c->foreign))));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &c->open, err));
    if (!c->open)
        return PFX_OK;
    c->ours = false;
    c->foreign++;
    c->has_key = keep_name(c->key, stmt, 0);
    c->has_provider = keep_name(c->provider, stmt, 1);
    return PFX_OK;
}

static void send_count(struct pfx_asker *asker, const struct count *c)
{
    struct pfx_msg *item = pfx_asker_body(asker);
    pfx_msg_set_str(item, "kind", c->ours ? "generation" : "foreign");
    pfx_item_str(item, "key_name", c->key, 256);
    pfx_item_str(item, "provider_name", c->provider, 256);
    if (c->ours) {
        pfx_msg_set_int(item, "generation", c->generation);
        pfx_item_str(item, "state", c->state, 16);
        pfx_item_int(item, "since", c->since);
        pfx_item_int(item, "compromised", c->compromised);
        pfx_msg_set_bool(item, "known", c->known);
        pfx_msg_set_int(item, "flight", c->flight);
        pfx_msg_set_int(item, "held", c->held);
        pfx_msg_set_int(item, "exposed", c->exposed);
    }
    pfx_msg_set_int(item, "records", c->needed);
    pfx_msg_set_int(item, "over", c->over);
    pfx_item_int(item, "last", c->last);
    pfx_asker_item(asker, item);
}

/* *ret_end: all keys are told of. */
static pfx_result count_some(struct pfx_asker *asker, struct count *c, int64_t now_ms,
                             bool *ret_end, struct pfx_error *err)
{
    bool over;
    *ret_end = false;
    if (c->open) {
        PFX_TRY(count_expired(asker->agent, c, &over, err));
        if (over)
            send_count(asker, c);
        c->open = !over;
        return PFX_OK;
    }
    c->now_ms = now_ms;
    c->over = 0;
    c->expires = INT64_MIN;
    c->id[0] = '\0';
    if (c->foreign == 0)
        PFX_TRY(next_generation(asker, c, err));
    if (!c->open)
        PFX_TRY(next_foreign(asker->agent, c, err));
    *ret_end = !c->open;
    return c->open ? count_needed(asker->agent, c, err) : PFX_OK;
}

/* --- what can't be rebuilt --- */

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

/* Where blockers may be, each with an index that has all it asks for: of a hundred thousand records
 * they are few. ?1: above this enrolment; ?2: the active generation, which nothing holds back. */
enum { KEYLESS, EXPOSED, HELD, SUSPECTS };
static const char *const suspects[SUSPECTS] = {
    [KEYLESS] = ("SELECT min(id) FROM enrolment INDEXED BY enrolment_keyless WHERE state = 'ACTIVE'"
                 " AND (key_ref IS NULL OR key_going_at IS NOT NULL) AND id > ?1"
                 " AND generation <> ?2"),
    [EXPOSED] = ("SELECT min(id) FROM enrolment INDEXED BY enrolment_exposed"
                 " WHERE exposed_at IS NOT NULL AND id > ?1 AND generation <> ?2"
                 " AND purpose = 'signing'"),
    [HELD] = ("SELECT min(enrolment) FROM rebuild WHERE state = 'HELD' AND enrolment > ?1"
              " AND ?2 = ?2"),
};

/* One that may name another generation than the active one: does it stay so? Each is told of once. */
static pfx_result look(struct pfx_asker *asker, int64_t id, int64_t active, int64_t as,
                       int64_t now_ms, struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_rebuild_why why;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    if (e.at != PFX_ACTIVE || e.generation == active ||
        (as == EXPOSED && (!e.key_ref || e.key_going_at)))
        return PFX_OK;
    PFX_TRY(pfx_rebuild_why_not(agent, &e, now_ms, &why, err));
    if (as != HELD || why.why)
        return as == HELD || !why.why || why.needless
                   ? PFX_OK
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

/* asker->select: enrolment: which of the suspects; after: up to this id they are done; done:
 * blockers. */
static pfx_result look_at_some(struct pfx_asker *asker, int64_t now_ms, bool *ret_end,
                               struct pfx_error *err)
{
    struct pfx_selection *s = &asker->select;
    int64_t active, id, until = pfx_uptime_ms() + STEP_MS;
    PFX_TRY(pfx_generation_active(asker->agent->store, &active, err));
    do {
        PFX_TRY(pfx_db_int(asker->agent->store->db, err, 0, &id, suspects[s->enrolment],
                           PFX_PARAMS(P_INT(s->after), P_INT(active))));
        s->after = id;
        if (id)
            PFX_TRY(look(asker, id, active, s->enrolment, now_ms, err));
        else
            s->enrolment++;
        *ret_end = s->enrolment == SUSPECTS;
    } while (!*ret_end && pfx_uptime_ms() < until);
    return PFX_OK;
}

static void step_blockers(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool over;
    pfx_result r = look_at_some(asker, now_ms, &over, &err);
    if (pfx_ok(r) && over)
        r = summary(asker, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else if (over)
        pfx_asker_end(asker, 0, NULL);
}

static void step_count(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool over;
    if (pfx_failed(count_some(asker, count_of(asker), now_ms, &over, &err)))
        pfx_asker_fail(asker, &err);
    else if (over)
        asker->step = step_blockers;
}

void pfx_verbs_needs(struct pfx_asker *asker)
{
    struct pfx_selection *s = &asker->select;
    s->enrolment = s->after = s->done = 0;
    s->last = pfx_alloc(sizeof(struct count));
    memset(s->last, 0, sizeof(struct count));
    asker->step = step_count;
}
