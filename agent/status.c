/* One screen: who waits for whom. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/counter.h"
#include "agent/desk.h"
#include "agent/item.h"
#include "agent/notes_queue.h"
#include "agent/pass.h"
#include "agent/restored.h"
#include "agent/rebuild.h"
#include "agent/rewrap.h"
#include "agent/removal.h"
#include "agent/timing.h"
#include "agent/words.h"
#include "api/conf/sandbox.h"
#include "crypto/encode.h"

#define MOST_REASONS 30
#define MOST_TROUBLES 20 /* users shown one by one; the rest is counted */

static void PFX_PRINTF(4, 5)
    fact(struct pfx_asker *asker, const char *name, const char *level, const char *fmt, ...)
{
    char value[640];
    va_list args;
    va_start(args, fmt);
    vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    struct pfx_msg *body = pfx_asker_body(asker);
    pfx_msg_set_str(body, "kind", "fact");
    pfx_msg_set_str(body, "name", name);
    pfx_item_str(body, "value", value, 639);
    pfx_msg_set_str(body, "level", level);
    pfx_asker_item(asker, body);
}

static const char *at(int64_t ms, char buf[PFX_TIME_SIZE])
{
    return ms ? pfx_time_format(ms, false, buf) : "never";
}

/* Notes that pfx-hsm hasn't taken for long. */
static pfx_result notes(struct pfx_agent *agent, struct pfx_asker *asker, int64_t now_ms,
                        struct pfx_error *err)
{
    struct pfx_notes_facts f;
    char when[PFX_TIME_SIZE], lost[64] = "";
    PFX_TRY(pfx_notes_facts(agent->store, &f, err));
    if (f.queued == 0 || now_ms < f.since + agent->patience_ms)
        return PFX_OK;
    if (f.dropped)
        snprintf(lost, sizeof(lost), ", and %lld were dropped for want of room",
                 (long long)f.dropped);
    fact(asker, "operation log", f.dropped ? "bad" : "warn",
         "%lld notes wait for pfx-hsm since %s%s: start pfx-hsm, or look at its log",
         (long long)f.queued, at(f.since, when), lost);
    return PFX_OK;
}

static pfx_result facts(struct pfx_agent *agent, struct pfx_asker *asker, int64_t now_ms,
                        struct pfx_error *err)
{
    struct pfx_pass pass;
    int64_t poll_ok, today;
    char a[PFX_TIME_SIZE], b[PFX_TIME_SIZE], until[PFX_TIME_SIZE];
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    PFX_TRY(pfx_meta_get(agent->store, "poll_ok", &poll_ok, err));
    PFX_TRY(pfx_orders_today(agent->store, now_ms, &today, err));
    fact(asker, "version", "ok", "%s", PFX_VERSION);
    char text[PFX_SANDBOX_TEXT];
    bool shut = pfx_sandbox_text(text, sizeof(text));
    fact(asker, "sandbox", shut ? "ok" : "warn", "%s", text);
    fact(asker, "orders", agent->no_orders ? "warn" : "ok", "%s",
         agent->no_orders ? "paused: pfx-agent resume --orders" : "on");
    fact(asker, "uploads", agent->no_uploads ? "warn" : "ok", "%s",
         agent->no_uploads ? "paused: pfx-agent resume --uploads" : "on");
    int64_t bad;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &bad,
                       "SELECT max(generation) FROM generation WHERE compromised IS NOT NULL",
                       PFX_NO_PARAMS));
    if (bad)
        fact(asker, "compromise", "bad",
             "generation %lld of the encryption key: pfx-agent key exposed says whose user keys are "
             "exposed, and how far their successors are",
             (long long)bad);
    struct pfx_rewrap_facts rewrap;
    PFX_TRY(pfx_rewrap_facts(agent, &rewrap, err));
    if (rewrap.started || rewrap.left)
        fact(asker, "rewrapping", rewrap.started && !rewrap.held ? "ok" : "warn",
             "%lld user keys made anew under the keys in force, %lld left, %lld held%s",
             (long long)rewrap.done, (long long)rewrap.left, (long long)rewrap.held,
             rewrap.started ? "" : ": pfx-agent standing rewrap");
    struct pfx_rebuild_facts f;
    PFX_TRY(pfx_rebuild_facts(agent, &f, err));
    if (f.started || agent->no_rebuild)
        fact(asker, "rebuild", agent->no_rebuild || f.held ? "warn" : "ok",
             "%s%lld done, %lld left, %lld held",
             agent->no_rebuild ? "paused (pfx-agent resume --rebuild): " : "", (long long)f.done,
             (long long)f.left, (long long)f.held);
    fact(asker, "orders today", today >= agent->conf->max_orders_per_day ? "warn" : "ok",
         "%lld of %u", (long long)today, agent->conf->max_orders_per_day);
    if (agent->restored_at && now_ms < agent->restored_at + PFX_RESTORED_MS)
        fact(asker, "restored", "ok",
             "%s, from the backup of %s: each order is looked for at DigiCert before it is placed, "
             "until %s",
             at(agent->restored_at, a), at(agent->restored_from, b),
             pfx_time_format(agent->restored_at + PFX_RESTORED_MS, false, until));
    fact(asker, "last pass", pass.finished ? "ok" : "warn", "%s%s", at(pass.finished, a),
         pass.active ? ", one is being read" : "");
    if (agent->conf->pass_every_ms)
        fact(asker, "next pass", "ok", "%s", at(pass.scheduled + agent->conf->pass_every_ms, a));
    else
        fact(asker, "next pass", "ok", "by command only");
    fact(asker, "records read", pass.records_started ? "ok" : "warn", "%s",
         at(pass.records_started, b));
    fact(asker, "last poll", "ok", "%s", at(poll_ok, a));
    if (agent->store_trouble[0])
        fact(asker, "store", "bad", "%s", agent->store_trouble);
    return notes(agent, asker, now_ms, err);
}

static void arms(struct pfx_agent *agent, struct pfx_asker *asker)
{
    for (unsigned i = 0; i < PFX_ARM_ROLES; i++) {
        struct pfx_arm_facts f;
        char when[PFX_TIME_SIZE], value[440];
        enum pfx_arm_role role = (enum pfx_arm_role)i;
        pfx_desk_facts(agent->desk, role, &f);
        if (f.connected)
            snprintf(value, sizeof(value), "%s, pid %lld, since %s, %zu jobs; sandbox: %s", f.version,
                     (long long)f.pid, at(f.since_ms, when), f.jobs,
                     f.sandbox[0] ? f.sandbox : "NO word of it");
        else if (f.since_ms)
            snprintf(value, sizeof(value), "not connected since %s", at(f.since_ms, when));
        else
            snprintf(value, sizeof(value), "not connected");
        struct pfx_msg *body = pfx_asker_body(asker);
        pfx_msg_set_str(body, "kind", "arm");
        pfx_msg_set_str(body, "name", pfx_arm_role_name(role));
        pfx_msg_set_str(body, "value", value);
        /* As pfx_sandbox_text writes what is missing. */
        const char *shut = strstr(f.sandbox, "NO ") || !f.sandbox[0] ? "warn" : "ok";
        pfx_msg_set_str(body, "level", f.connected ? shut : "bad");
        pfx_asker_item(asker, body);
    }
}

static pfx_result report(struct pfx_agent *agent, struct pfx_asker *asker, struct pfx_error *err)
{
    char *text PFX_AUTOFREE = NULL;
    struct pfx_msg *r PFX_AUTOMSG = NULL;
    struct pfx_error bad = PFX_ERROR_NONE;
    PFX_TRY(pfx_meta_text(agent->store, "hsm_report", &text, err));
    if (!text)
        return PFX_OK;
    if (pfx_failed(pfx_msg_decode(pfx_wire_find(pfx_wire_jobs, "hsm.report")->result, text,
                                  strlen(text), &r, &bad)))
        return PFX_OK; /* of another release; the next report replaces it */
    bool ready = pfx_msg_bool(r, "ready");
    const char *why = pfx_msg_str(r, "why_not"), *key = pfx_msg_str(r, "encryption_key");
    fact(asker, "hsm", ready ? "ok" : "bad", "%s", ready ? "ready" : why ? why : "not ready");
    if (pfx_msg_has(r, "generation"))
        fact(asker, "encryption key", "ok", "generation %lld%s%.16s",
             (long long)pfx_msg_int(r, "generation"), key ? ", SHA-256 " : "", key ? key : "");
    fact(asker, "user keys", "ok", "%s", pfx_msg_str(r, "user_keys"));
    fact(asker, "export tier", "ok", "RSA %s, EC %s", pfx_msg_str(r, "tier_rsa"),
         pfx_msg_str(r, "tier_ec"));
    if (pfx_msg_has(r, "compat_tier_rsa") && pfx_msg_has(r, "compat_tier_ec"))
        fact(asker, "export tier, compat", "ok", "RSA %s, EC %s", pfx_msg_str(r, "compat_tier_rsa"),
             pfx_msg_str(r, "compat_tier_ec"));
    for (size_t i = 0; i < pfx_msg_count(r, "notes"); i++)
        fact(asker, "note", "warn", "%s", pfx_msg_str_at(r, "notes", i));
    return PFX_OK;
}

static pfx_result counts(struct pfx_agent *agent, struct pfx_asker *asker, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    int64_t n[PFX_STATE_COUNT] = {0};
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT state, count(*) FROM enrolment GROUP BY state", PFX_NO_PARAMS));
    while (true) {
        enum pfx_state state;
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        if (pfx_state_parse((const char *)sqlite3_column_text(stmt, 0), &state))
            n[state] = sqlite3_column_int64(stmt, 1);
    }
    for (unsigned i = 0; i < PFX_STATE_COUNT; i++) {
        if (n[i] == 0)
            continue;
        struct pfx_msg *body = pfx_asker_body(asker);
        pfx_msg_set_str(body, "kind", "count");
        pfx_msg_set_str(body, "name", pfx_state_name((enum pfx_state)i));
        pfx_msg_set_int(body, "count", n[i]);
        pfx_msg_set_str(body, "level", i == PFX_HELD || i == PFX_FAILED ? "warn" : "ok");
        pfx_asker_item(asker, body);
    }
    return PFX_OK;
}

static void wait_item(struct pfx_asker *asker, const char *who, const char *what, int64_t n,
                      int64_t since, const char *next)
{
    struct pfx_msg *body = pfx_asker_body(asker);
    pfx_msg_set_str(body, "kind", "wait");
    pfx_msg_set_str(body, "who", who);
    pfx_item_str(body, "what", what, 639);
    pfx_msg_set_int(body, "count", n);
    pfx_item_int(body, "since", since);
    pfx_item_str(body, "next", next, 639);
    pfx_asker_item(asker, body);
}

/* Whom each state in flight waits for. */
static pfx_result waits(struct pfx_agent *agent, struct pfx_asker *asker, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(
        agent->store->db, err, &stmt,
        "SELECT CASE WHEN state IN ('NEW', 'CHECKED') THEN 'HSM'"
        " WHEN state IN ('SEALED', 'IMPORTED') THEN 'Microsoft'"
        " WHEN state = 'ORDERED' AND unvalidated IS NOT NULL THEN 'user' ELSE 'CA' END,"
        " CASE WHEN state = 'NEW' THEN 'key and request' WHEN state = 'CHECKED' THEN 'PFX and seal'"
        " WHEN state = 'KEYED' AND settle_since IS NOT NULL THEN 'a lost order is looked for'"
        " WHEN state = 'KEYED' THEN 'place the order' WHEN state = 'ISSUED' THEN 'download'"
        " WHEN state = 'SEALED' THEN 'import to Intune' WHEN state = 'IMPORTED' THEN 'read back'"
        " WHEN unvalidated IS NOT NULL THEN 'validate addresses at the CA'"
        " WHEN cancel_at IS NOT NULL THEN 'cancel the order' ELSE 'issue' END,"
        " count(*), min(changed_at) FROM enrolment WHERE state IN"
        " ('NEW', 'KEYED', 'ORDERED', 'ISSUED', 'CHECKED', 'SEALED', 'IMPORTED')"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        PFX_NO_PARAMS));
    while (true) {
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        const char *who = (const char *)sqlite3_column_text(stmt, 0);
        wait_item(asker, who, (const char *)sqlite3_column_text(stmt, 1),
                  sqlite3_column_int64(stmt, 2), sqlite3_column_int64(stmt, 3),
                  strcmp(who, "user") == 0
                      ? "the user follows the link in the CA's mail; pfx-agent "
                        "enrolment list --state ORDERED names the addresses"
                      : NULL);
    }
}

/* By reason, with the command to type. */
static pfx_result held(struct pfx_agent *agent, struct pfx_asker *asker, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t left;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &left,
                       "SELECT count(*) FROM enrolment WHERE state = 'HELD'", PFX_NO_PARAMS));
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT held_why, held_job, held_from, n, since, last,"
                          " (SELECT fail_text FROM enrolment WHERE id = last) FROM"
                          " (SELECT held_why, held_job, held_from, count(*) AS n,"
                          "  min(changed_at) AS since, max(id) AS last FROM enrolment"
                          "  WHERE state = 'HELD'"
                          "  GROUP BY held_why, held_job, held_from, fail_code, fail_op"
                          "  ORDER BY n DESC LIMIT ?)",
                          PFX_PARAMS(P_INT(MOST_REASONS))));
    while (true) {
        char what[700], next[639], number[24];
        bool row;
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        const char *why = (const char *)sqlite3_column_text(stmt, 0);
        const char *text = (const char *)sqlite3_column_text(stmt, 6);
        int64_t n = sqlite3_column_int64(stmt, 3);
        snprintf(what, sizeof(what), "%s in %s: %s", why ? why : "held",
                 (const char *)sqlite3_column_text(stmt, 2), text ? text : "");
        snprintf(number, sizeof(number), "%lld", (long long)sqlite3_column_int64(stmt, 5));
        if (n > 1)
            snprintf(number, sizeof(number), "--state HELD");
        pfx_words_held(why, (const char *)sqlite3_column_text(stmt, 1), number, next, sizeof(next));
        wait_item(asker, "operator", what, n, sqlite3_column_int64(stmt, 4), next);
        left -= n;
    }
    if (left > 0)
        wait_item(asker, "operator", "held for other reasons", left, 0,
                  "pfx-agent enrolment list --state HELD names them");
    return PFX_OK;
}

/* Delivered and revoked by the CA: in Intune, or removed from there, and nobody has said what shall
 * follow; or waiting for the one that takes its place. */
static pfx_result revoked(struct pfx_agent *agent, struct pfx_asker *asker, int64_t now_ms,
                          struct pfx_error *err)
{
    static const char *const what[] = {"revoked at the CA after delivery",
                                       "revoked at the CA, and without another one since",
                                       "revoked at the CA; another one takes its place"};
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT CASE WHEN revoked_then = 'enrol_again' THEN 2"
                          " WHEN state = 'ENDED' THEN 1 ELSE 0 END AS sort,"
                          " count(*), min(revoked_at), max(id) FROM enrolment e"
                          " INDEXED BY enrolment_revoked"
                          " WHERE revoked_at IS NOT NULL AND revoked_seen IS NULL"
                          " AND (expires IS NULL OR expires > ?) AND (state = 'ACTIVE' OR"
                          "  (state = 'ENDED' AND parked IS NOT NULL AND waived = 0"
                          "   AND NOT EXISTS (SELECT 1 FROM enrolment n WHERE n.user = e.user"
                          "    AND n.intune = e.intune AND n.id > e.id)))"
                          " GROUP BY sort ORDER BY sort",
                          PFX_PARAMS(P_INT(now_ms))));
    while (true) {
        char which[24], next[639];
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        int64_t sort = sqlite3_column_int64(stmt, 0), n = sqlite3_column_int64(stmt, 1);
        snprintf(which, sizeof(which), "%lld", (long long)sqlite3_column_int64(stmt, 3));
        if (n > 1) /* of all that are in Intune at once */
            snprintf(which, sizeof(which), "%s", sort == 0 ? "--state ACTIVE" : "NUMBER");
        pfx_words_revoked(which, sort == 1, next, sizeof(next));
        wait_item(asker, sort == 2 ? "next pass" : "operator", what[sort], n,
                  sqlite3_column_int64(stmt, 2),
                  sort == 2 ? "pfx-agent run --once --dry-run says what each of them waits for"
                            : next);
    }
}

/* Records that shall go: those that can't, those that stay for days, and the rest. */
static pfx_result removals(struct pfx_agent *agent, struct pfx_asker *asker, int64_t now_ms,
                           struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(
        pfx_db_select(agent->store->db, err, &stmt,
                      "SELECT CASE WHEN fail_text IS NOT NULL THEN 0 WHEN asked_at < ? THEN 1"
                      " ELSE 2 END AS sort, count(*), min(asked_at), max(fail_text) FROM removal"
                      " WHERE gone_at IS NULL GROUP BY sort ORDER BY sort",
                      PFX_PARAMS(P_INT(now_ms - PFX_REMOVAL_PATIENCE))));
    while (true) {
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        int64_t sort = sqlite3_column_int64(stmt, 0);
        const char *text = (const char *)sqlite3_column_text(stmt, 3);
        char *what PFX_AUTOFREE =
            sort == 0   ? pfx_asprintf("remove records from Intune: %.*s",
                                       text ? (int)pfx_utf8_cut(text, 500) : 0, text ? text : "")
            : sort == 1 ? pfx_strdup("records were deleted for days, and Intune still shows them")
                        : pfx_strdup("remove records from Intune");
        wait_item(asker, "Microsoft", what, sqlite3_column_int64(stmt, 1),
                  sqlite3_column_int64(stmt, 2),
                  sort == 0   ? "it is tried again by itself; pfx-agent setup entra says whether a "
                                "role is missing"
                  : sort == 1 ? "pfx-agent record list names them (removing); look at them in "
                                "Intune, and open a case with Microsoft"
                              : NULL);
    }
}

static void trouble(struct pfx_asker *asker, const char *name, const char *text, int64_t since)
{
    struct pfx_msg *body = pfx_asker_body(asker);
    pfx_msg_set_str(body, "kind", "trouble");
    pfx_item_str(body, "name", name, 128);
    pfx_item_trouble(body, "what", text);
    pfx_item_int(body, "since", since);
    pfx_asker_item(asker, body);
}

static pfx_result troubles(struct pfx_agent *agent, struct pfx_asker *asker, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row = true;
    int64_t users;
    PFX_TRY(
        pfx_db_select(agent->store->db, err, &stmt,
                      "SELECT scope, what, since FROM trouble UNION ALL SELECT * FROM (SELECT upn,"
                      " trouble, trouble_at FROM user WHERE trouble IS NOT NULL ORDER BY upn"
                      " LIMIT ?)",
                      PFX_PARAMS(P_INT(MOST_TROUBLES))));
    while (true) {
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        trouble(asker, (const char *)sqlite3_column_text(stmt, 0),
                (const char *)sqlite3_column_text(stmt, 1), sqlite3_column_int64(stmt, 2));
    }
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &users,
                       "SELECT count(*) FROM user WHERE trouble IS NOT NULL", PFX_NO_PARAMS));
    if (users > MOST_TROUBLES) {
        char *text PFX_AUTOFREE = pfx_asprintf(
            "%lld more users are in trouble. Next: pfx-agent run --once --dry-run lists them all",
            (long long)users - MOST_TROUBLES);
        trouble(asker, "more", text, 0);
    }
    return PFX_OK;
}

void pfx_verb_status(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)args;
    pfx_result r = facts(agent, asker, now_ms, &err);
    if (pfx_ok(r))
        arms(agent, asker);
    if (pfx_ok(r))
        r = report(agent, asker, &err);
    if (pfx_ok(r))
        r = counts(agent, asker, &err);
    if (pfx_ok(r))
        r = waits(agent, asker, &err);
    if (pfx_ok(r))
        r = held(agent, asker, &err);
    if (pfx_ok(r))
        r = revoked(agent, asker, now_ms, &err);
    if (pfx_ok(r))
        r = removals(agent, asker, now_ms, &err);
    if (pfx_ok(r))
        r = troubles(agent, asker, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else
        pfx_asker_end(asker, 0, NULL);
}
