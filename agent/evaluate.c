/* Deciding for everybody at the end of a pass, and acting on it. */
#include <stdio.h>
#include <string.h>

#include "agent/outbox.h"
#include "agent/pass.h"
#include "agent/run.h"
#include "agent/timing.h"

#define PAGE 500

pfx_result pfx_orders_today(struct pfx_store *store, int64_t now_ms, int64_t *ret_n,
                            struct pfx_error *err)
{
    int64_t sent, coming;
    PFX_TRY(pfx_db_int(store->db, err, 0, &sent,
                       "SELECT count(*) FROM enrolment WHERE sent_last >= ?",
                       PFX_PARAMS(P_INT(pfx_day_start(now_ms)))));
    PFX_TRY(pfx_db_int(store->db, err, 0, &coming,
                       "SELECT count(*) FROM enrolment WHERE state IN ('NEW', 'KEYED')"
                       " AND sent_last IS NULL",
                       PFX_NO_PARAMS));
    *ret_n = sent + coming;
    return PFX_OK;
}

pfx_result pfx_sweep_start(struct pfx_agent *agent, int64_t now_ms, struct pfx_sweep *ret_sweep,
                           struct pfx_error *err)
{
    int64_t today;
    PFX_TRY(pfx_orders_today(agent->store, now_ms, &today, err));
    *ret_sweep = (struct pfx_sweep){.today = (unsigned)today};
    return PFX_OK;
}

struct member {
    char user[37];
    bool read;
};

/* The next page of one rule: its members that no earlier rule has for the same record purpose. */
static pfx_result read_members(struct pfx_agent *agent, const struct pfx_sweep *sweep, size_t most,
                               int64_t pass, struct member *members, size_t *ret_n,
                               struct pfx_error *err)
{
    const struct pfx_rule_conf *rule = &agent->conf->rules[sweep->rule];
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    PFX_TRY(pfx_db_select(
        agent->store->db, err, &stmt,
        "SELECT m.user, coalesce((SELECT read_pass FROM rule WHERE name = ?1), 0) = ?4"
        " FROM member m WHERE m.rule = ?1 AND m.user > ?2 AND NOT EXISTS (SELECT 1 FROM member m2"
        "  JOIN temp.rule_order o2 ON o2.name = m2.rule"
        "  WHERE m2.user = m.user AND o2.intune = ?5 AND o2.no < ?6)"
        " ORDER BY m.user LIMIT ?3",
        PFX_PARAMS(P_TEXT(rule->name), P_TEXT(sweep->user), P_INT((int64_t)most), P_INT(pass),
                   P_TEXT(pfx_rule_intune(rule)), P_INT((int64_t)sweep->rule + 1))));
    size_t n = 0;
    bool row = true;
    while (n < most) {
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        snprintf(members[n].user, sizeof(members[n].user), "%s",
                 (const char *)sqlite3_column_text(stmt, 0));
        members[n].read = sqlite3_column_int64(stmt, 1) != 0;
        n++;
    }
    *ret_n = n;
    return PFX_OK;
}

static pfx_result fill_case(struct pfx_agent *agent, struct pfx_case *c, char *flight_state,
                            size_t flight_size, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    const char *user = c->user->id, *intune = pfx_rule_intune(c->rule);
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_int(db, err, 0, &c->record_expires,
                       "SELECT max(coalesce(expires, 9223372036854775807)) FROM record"
                       " WHERE user_hex = ? AND purpose = ? COLLATE NOCASE",
                       PFX_PARAMS(P_TEXT(c->user->hex), P_TEXT(intune))));
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT id, state, held_why IS '" PFX_HELD_LIMIT "' FROM enrolment"
                          " WHERE user = ? AND intune = ?"
                          " AND state NOT IN ('ACTIVE', 'FAILED', 'ENDED')",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (row) {
        c->flight = sqlite3_column_int64(stmt, 0);
        snprintf(flight_state, flight_size, "%s", (const char *)sqlite3_column_text(stmt, 1));
        c->flight_state = flight_state;
        c->flight_limit = sqlite3_column_int64(stmt, 2) != 0;
        return PFX_OK;
    }
    pfx_db_done(&stmt);
    PFX_TRY(
        pfx_db_select(db, err, &stmt,
                      "SELECT id, expires, active_at FROM enrolment WHERE user = ? AND intune = ?"
                      " AND state = 'ACTIVE' ORDER BY id DESC LIMIT 1",
                      PFX_PARAMS(P_TEXT(user), P_TEXT(intune))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (row) {
        c->active = sqlite3_column_int64(stmt, 0);
        c->active_expires = sqlite3_column_int64(stmt, 1);
        c->active_at = sqlite3_column_int64(stmt, 2);
    }
    pfx_db_done(&stmt);
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT count(*), max(changed_at) FROM enrolment WHERE user = ?"
                          " AND intune = ? AND id > ? AND state IN ('FAILED', 'ENDED')"
                          " AND waived = 0",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune), P_INT(c->active))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    c->ended = (unsigned)sqlite3_column_int64(stmt, 0);
    c->ended_at = sqlite3_column_int64(stmt, 1);
    return PFX_OK;
}

pfx_result pfx_sweep_some(struct pfx_agent *agent, struct pfx_sweep *sweep, size_t most,
                          int64_t now_ms, pfx_sweep_fn fn, void *ctx, struct pfx_error *err)
{
    struct pfx_pass pass;
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    struct member *members PFX_AUTOFREE = pfx_alloc_array(most, sizeof(*members));
    size_t n;
    PFX_TRY(read_members(agent, sweep, most, pass.no, members, &n, err));
    for (size_t i = 0; i < n; i++) {
        struct pfx_user_row user PFX_AUTOUSER = {0};
        PFX_AUTOVERDICT struct pfx_verdict verdict = {0};
        char flight_state[16];
        PFX_TRY(pfx_user_load(agent->store, members[i].user, &user, err));
        struct pfx_case c = {
            .rule = &agent->conf->rules[sweep->rule],
            .user = &user,
            .rule_read = members[i].read,
            /* Asked for and not got is worse than an older list: something is wrong there. */
            .records_read = pass.records_started && (!pass.records || pass.records_pass == pass.no),
            .records_started = pass.records_started,
            .in_pass = sweep->in_pass,
            .today = sweep->today,
        };
        PFX_TRY(fill_case(agent, &c, flight_state, sizeof(flight_state), err));
        pfx_decide(agent->conf, agent->names, &c, now_ms, &verdict);
        if (verdict.decision == PFX_DECIDE_ORDER) {
            sweep->in_pass++;
            sweep->today++;
        }
        PFX_TRY(fn(ctx, &c, &verdict, err));
        memcpy(sweep->user, members[i].user, sizeof(sweep->user));
    }
    if (n < most) {
        sweep->user[0] = '\0';
        sweep->done = ++sweep->rule == agent->conf->n_rules;
    }
    return PFX_OK;
}

struct acting {
    struct pfx_agent *agent;
    int64_t now_ms;
};

static pfx_result create(struct acting *a, const struct pfx_case *c, struct pfx_verdict *v,
                         struct pfx_error *err)
{
    struct pfx_db *db = a->agent->store->db;
    const struct pfx_rule_conf *rule = c->rule;
    char token[PFX_GUID_SIZE];
    char *addresses PFX_AUTOFREE = pfx_strings_json(&v->addresses);
    PFX_TRY(pfx_db_exec(
        db, err, NULL,
        "INSERT INTO enrolment(user, purpose, intune, attempt, state, rule, product, organization,"
        " years, days, profile_type, indicator, client_auth, payment, first_name, last_name, "
        "key_type,"
        " profile, addresses, created_at, changed_at, order_token) VALUES(?1, ?2, ?3,"
        " (SELECT coalesce(max(attempt), 0) + 1 FROM enrolment WHERE user = ?1 AND intune = ?3),"
        " 'NEW', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18, ?19)",
        PFX_PARAMS(P_TEXT(c->user->id), P_TEXT(pfx_purpose_name(rule->purpose)),
                   P_TEXT(pfx_rule_intune(rule)), P_TEXT(rule->name), P_TEXT(rule->product),
                   P_INT(rule->organization), P_INT(rule->years), P_INT(rule->days),
                   P_TEXT(rule->profile_type), P_TEXT(rule->common_name_indicator),
                   P_INT(rule->client_auth), P_TEXT(rule->payment_method), P_TEXT(v->first_name),
                   P_TEXT(v->last_name), P_TEXT(pfx_key_type_name(rule->key_type)),
                   P_TEXT(pfx_profile_name(rule->profile)), P_TEXT(addresses), P_INT(a->now_ms),
                   P_TEXT(pfx_guid_new(token)))));
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    PFX_TRY(pfx_enrolment_load(a->agent->store, pfx_db_last_id(db), &e, err));
    PFX_TRY(pfx_note(a->agent->store, a->now_ms, e.id, e.user, err, "wanted by rule %s: %s",
                     rule->name, v->why));
    if (v->decision == PFX_DECIDE_HOLD) {
        struct pfx_error limit = PFX_ERROR_NONE;
        pfx_result r =
            pfx_fail(&limit, PFX_CLASS_REFUSED, PFX_HELD_LIMIT, rule->name, "", "%s", v->why);
        (void)r;
        return pfx_enrolment_hold(a->agent->store, &e, "hsm.key_csr", PFX_HELD_LIMIT, a->now_ms,
                                  &limit, err);
    }
    PFX_TRY(pfx_db_exec(db, err, NULL, "UPDATE enrolment SET admitted_at = ? WHERE id = ?",
                        PFX_PARAMS(P_INT(a->now_ms), P_INT(e.id))));
    return pfx_outbox_put(a->agent->store, &e, "hsm.key_csr", a->now_ms, a->now_ms, err);
}

static pfx_result refuse(struct acting *a, const struct pfx_case *c, const struct pfx_verdict *v,
                         struct pfx_error *err)
{
    return pfx_db_exec(a->agent->store->db, err, NULL,
                       "UPDATE user SET trouble = ?, trouble_at = coalesce(trouble_at, ?)"
                       " WHERE id = ?",
                       PFX_PARAMS(P_TEXT(v->why), P_INT(a->now_ms), P_TEXT(c->user->id)));
}

/* What the limit holds may wait for weeks: it is ordered with the addresses and names of then. */
static pfx_result refresh(struct acting *a, const struct pfx_case *c, struct pfx_verdict *v,
                          struct pfx_error *err)
{
    if (!pfx_case_data(a->agent->names, c, v))
        return refuse(a, c, v, err);
    char *addresses PFX_AUTOFREE = pfx_strings_json(&v->addresses);
    return pfx_db_exec(a->agent->store->db, err, NULL,
                       "UPDATE enrolment SET addresses = ?1, first_name = ?2, last_name = ?3"
                       " WHERE id = ?4 AND rule = ?5 AND (addresses IS NOT ?1"
                       " OR first_name IS NOT ?2 OR last_name IS NOT ?3)",
                       PFX_PARAMS(P_TEXT(addresses), P_TEXT(v->first_name), P_TEXT(v->last_name),
                                  P_INT(c->flight), P_TEXT(c->rule->name)));
}

static pfx_result act(void *ctx, const struct pfx_case *c, struct pfx_verdict *v,
                      struct pfx_error *err)
{
    struct acting *a = ctx;
    struct pfx_store *store = a->agent->store;
    pfx_run_plan(a->agent, c, v);
    switch (v->decision) {
    case PFX_DECIDE_ORDER:
    case PFX_DECIDE_HOLD:
        return create(a, c, v, err);
    case PFX_DECIDE_REBUILD: {
        struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
        PFX_TRY(pfx_enrolment_load(store, c->active, &e, err));
        return pfx_enrolment_move(store, &e, PFX_CHECKED, NULL, a->now_ms, a->now_ms,
                                  "its record is gone from Intune", err);
    }
    case PFX_DECIDE_REFUSE:
        return refuse(a, c, v, err);
    case PFX_DECIDE_SKIP:
        return c->flight_limit && c->user->enabled ? refresh(a, c, v, err) : PFX_OK;
    case PFX_DECIDE_WAIT:
        break;
    }
    return PFX_OK;
}

/* Enrolments that cost nothing yet and whose user left the groups or was disabled. A group that
 * couldn't be read takes nobody along: its members are those of the last time. */
static pfx_result end_those_who_left(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t id = 0;
    do {
        sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
        struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
        bool row;
        PFX_TRY(pfx_db_select(
            agent->store->db, err, &stmt,
            "SELECT e.id, u.enabled FROM enrolment e JOIN user u ON u.id = e.user"
            " WHERE e.id > ? AND (e.state IN ('NEW', 'KEYED') OR e.state = 'HELD')"
            " AND e.sent_first IS NULL AND e.order_id IS NULL"
            " AND (u.enabled = 0 OR NOT EXISTS (SELECT 1 FROM member m JOIN temp.rule_order o"
            "  ON o.name = m.rule WHERE m.user = e.user AND o.intune = e.intune))"
            " AND NOT EXISTS (SELECT 1 FROM job j WHERE j.enrolment = e.id AND j.sent_at IS NOT "
            "NULL)"
            " ORDER BY e.id LIMIT 1",
            PFX_PARAMS(P_INT(id))));
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        id = sqlite3_column_int64(stmt, 0);
        bool enabled = sqlite3_column_int64(stmt, 1) != 0;
        pfx_db_done(&stmt);
        PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
        PFX_TRY(pfx_enrolment_move(agent->store, &e, PFX_ENDED, NULL, 0, now_ms,
                                   enabled ? "no longer in scope, nothing was ordered"
                                           : "account disabled, nothing was ordered",
                                   err));
        /* Whoever comes back is served at once. */
        PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                            "UPDATE enrolment SET waived = 1 WHERE id = ?", PFX_PARAMS(P_INT(id))));
    } while (true);
}

pfx_result pfx_evaluate(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct acting a = {agent, now_ms};
    struct pfx_sweep sweep;
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE user SET trouble = NULL WHERE trouble IS NOT NULL", PFX_NO_PARAMS));
    PFX_TRY(end_those_who_left(agent, now_ms, err));
    PFX_TRY(pfx_sweep_start(agent, now_ms, &sweep, err));
    while (!sweep.done)
        PFX_TRY(pfx_sweep_some(agent, &sweep, PAGE, now_ms, act, &a, err));
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE user SET trouble_at = NULL WHERE trouble IS NULL"
                       " AND trouble_at IS NOT NULL",
                       PFX_NO_PARAMS);
}
