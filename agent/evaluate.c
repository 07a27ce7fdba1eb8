/* Deciding for everybody at the end of a pass, and acting on it. */
#include <stdio.h>
#include <string.h>

#include "agent/outbox.h"
#include "agent/pass.h"
#include "agent/run.h"
#include "agent/timing.h"

#define PAGE 200 /* users of one slice: nobody waits longer than for these */

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

/* Texts that a case points to. */
struct texts {
    char flight[16];
    char parked[256];
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

/* The enrolment in flight, if there is one. */
static pfx_result fill_flight(struct pfx_agent *agent, struct pfx_case *c, char *state, size_t size,
                              struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT id, state, held_why IS '" PFX_HELD_LIMIT "' FROM enrolment"
                          " WHERE user = ? AND intune = ?"
                          " AND state NOT IN ('ACTIVE', 'FAILED', 'ENDED')",
                          PFX_PARAMS(P_TEXT(c->user->id), P_TEXT(pfx_rule_intune(c->rule)))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (!row)
        return PFX_OK;
    c->flight = sqlite3_column_int64(stmt, 0);
    snprintf(state, size, "%s", (const char *)sqlite3_column_text(stmt, 1));
    c->flight_state = state;
    c->flight_limit = sqlite3_column_int64(stmt, 2) != 0;
    return PFX_OK;
}

/* The newest one that counts: not one whose place another shall take. */
static pfx_result fill_active(struct pfx_agent *agent, struct pfx_case *c, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    const char *user = c->user->id, *intune = pfx_rule_intune(c->rule);
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT id, expires, active_at, revoked_at IS NOT NULL FROM enrolment"
                          " WHERE user = ? AND intune = ? AND state = 'ACTIVE'"
                          " AND revoked_then IS NOT 'enrol_again' ORDER BY id DESC LIMIT 1",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (row) {
        c->active = sqlite3_column_int64(stmt, 0);
        c->active_expires = sqlite3_column_int64(stmt, 1);
        c->active_at = sqlite3_column_int64(stmt, 2);
        c->active_revoked = sqlite3_column_int64(stmt, 3) != 0;
    }
    return pfx_db_int(db, err, 0, &c->revoked,
                      "SELECT max(id) FROM enrolment WHERE user = ? AND intune = ? AND id > ?"
                      " AND state = 'ACTIVE' AND revoked_then = 'enrol_again'",
                      PFX_PARAMS(P_TEXT(user), P_TEXT(intune), P_INT(c->active)));
}

static pfx_result fill_ended(struct pfx_agent *agent, struct pfx_case *c, struct texts *texts,
                             struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    const char *user = c->user->id, *intune = pfx_rule_intune(c->rule);
    int64_t since = c->active > c->revoked ? c->active : c->revoked;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT count(*), max(changed_at) FROM enrolment WHERE user = ?"
                          " AND intune = ? AND id > ? AND state IN ('FAILED', 'ENDED')"
                          " AND waived = 0 AND parked IS NULL"
                          " AND revoked_then IS NOT 'enrol_again'",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune), P_INT(since))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    c->ended = (unsigned)sqlite3_column_int64(stmt, 0);
    c->ended_at = sqlite3_column_int64(stmt, 1);
    pfx_db_done(&stmt);
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT id, parked FROM enrolment WHERE user = ? AND intune = ?"
                          " AND id > ? AND state = 'ENDED' AND waived = 0 AND parked IS NOT NULL"
                          " ORDER BY id DESC LIMIT 1",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune), P_INT(since))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (!row)
        return PFX_OK;
    c->parked = sqlite3_column_int64(stmt, 0);
    snprintf(texts->parked, sizeof(texts->parked), "%s", (const char *)sqlite3_column_text(stmt, 1));
    c->parked_why = texts->parked;
    return PFX_OK;
}

/* The first one that is revoked is replaced at once. A CA that revokes each that it issues would sell
 * one a pass: from the second on it takes as long as after orders that ended. */
static pfx_result fill_replaced(struct pfx_agent *agent, struct pfx_case *c, int64_t now_ms,
                                struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT count(*) - 1, max(revoked_at) FROM enrolment WHERE user = ?1"
                          " AND intune = ?2 AND revoked_then = 'enrol_again' AND revoked_at > ?3"
                          " AND id > (SELECT coalesce(max(id), 0) FROM enrolment WHERE user = ?1"
                          "  AND intune = ?2 AND waived = 1)",
                          PFX_PARAMS(P_TEXT(c->user->id), P_TEXT(pfx_rule_intune(c->rule)),
                                     P_INT(now_ms - PFX_REORDER_MAX))));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
    int64_t n = sqlite3_column_int64(stmt, 0);
    if (n > 0) {
        c->replaced = (unsigned)n;
        c->replaced_at = sqlite3_column_int64(stmt, 1);
    }
    return PFX_OK;
}

static pfx_result fill_case(struct pfx_agent *agent, struct pfx_case *c, struct texts *texts,
                            int64_t now_ms, struct pfx_error *err)
{
    /* A record that shall go, and that of a revoked certificate whose place another takes, are as
     * good as gone: Intune's list may still show them. */
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &c->record_expires,
                       "SELECT max(coalesce(r.expires, 9223372036854775807)) FROM record r"
                       " WHERE r.user_hex = ? AND r.purpose = ? COLLATE NOCASE"
                       " AND NOT EXISTS (SELECT 1 FROM removal WHERE record_id = lower(r.id))"
                       " AND NOT EXISTS (SELECT 1 FROM enrolment e WHERE e.record_id = lower(r.id)"
                       "  AND e.state = 'ACTIVE' AND e.revoked_then = 'enrol_again')",
                       PFX_PARAMS(P_TEXT(c->user->hex), P_TEXT(pfx_rule_intune(c->rule)))));
    PFX_TRY(fill_flight(agent, c, texts->flight, sizeof(texts->flight), err));
    if (c->flight)
        return PFX_OK;
    PFX_TRY(fill_active(agent, c, err));
    PFX_TRY(fill_replaced(agent, c, now_ms, err));
    return fill_ended(agent, c, texts, err);
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
        PFX_AUTOMAILBOXES struct pfx_mailboxes mailboxes = {0};
        struct texts texts;
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
        PFX_TRY(fill_case(agent, &c, &texts, now_ms, err));
        if (c.rule->shared_mailboxes) {
            PFX_TRY(pfx_mailboxes_of(agent->store, user.upn, &mailboxes, err));
            c.mailboxes = &mailboxes;
        }
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
    int64_t now_ms, pass;
};

/* The order that the CA shall take this one for the renewal of. */
static pfx_result find_renewed(struct acting *a, const struct pfx_case *c, int64_t *ret_order,
                               struct pfx_error *err)
{
    if (!c->rule->renewal) {
        *ret_order = 0;
        return PFX_OK;
    }
    return pfx_db_int(a->agent->store->db, err, 0, ret_order,
                      "SELECT order_id FROM enrolment WHERE user = ? AND purpose = ?"
                      " AND product = ? AND order_id IS NOT NULL AND thumbprint IS NOT NULL"
                      " AND revoked_at IS NULL ORDER BY id DESC LIMIT 1",
                      PFX_PARAMS(P_TEXT(c->user->id), P_TEXT(pfx_purpose_name(c->rule->purpose)),
                                 P_TEXT(c->rule->product)));
}

static char *fields_json(const struct pfx_rule_conf *rule)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    for (size_t i = 0; i < rule->n_fields; i++) {
        char *id PFX_AUTOFREE = pfx_asprintf("%lld", (long long)rule->fields[i].id);
        pfx_strings_add(&list, id);
        pfx_strings_add(&list, rule->fields[i].value);
    }
    return list.n ? pfx_strings_json(&list) : NULL;
}

static pfx_result insert(struct acting *a, const struct pfx_case *c, struct pfx_verdict *v,
                         struct pfx_error *err)
{
    const struct pfx_rule_conf *rule = c->rule;
    char token[PFX_GUID_SIZE];
    int64_t renewed;
    char *addresses PFX_AUTOFREE = pfx_strings_json(&v->addresses);
    char *fields PFX_AUTOFREE = fields_json(rule);
    PFX_TRY(find_renewed(a, c, &renewed, err));
    return pfx_db_exec(
        a->agent->store->db, err, NULL,
        "INSERT INTO enrolment(user, purpose, intune, attempt, state, rule, product, organization,"
        " years, days, profile_type, indicator, client_auth, payment, first_name, last_name, "
        "key_type,"
        " profile, addresses, created_at, changed_at, order_token, common_name, pseudonym,"
        " custom_fields, comment, renewal_of, non_repudiation, replaces) VALUES(?1, ?2, ?3,"
        " (SELECT coalesce(max(attempt), 0) + 1 FROM enrolment WHERE user = ?1 AND intune = ?3),"
        " 'NEW', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18, ?19,"
        " ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
        PFX_PARAMS(P_TEXT(c->user->id), P_TEXT(pfx_purpose_name(rule->purpose)),
                   P_TEXT(pfx_rule_intune(rule)), P_TEXT(rule->name), P_TEXT(rule->product),
                   P_INT(rule->organization), P_INT(rule->years), P_INT(rule->days),
                   P_TEXT(rule->profile_type ? rule->profile_type : ""),
                   P_TEXT(rule->common_name_indicator), P_INT(rule->client_auth),
                   P_TEXT(rule->payment_method), P_TEXT(v->first_name), P_TEXT(v->last_name),
                   P_TEXT(pfx_key_type_name(rule->key_type)),
                   P_TEXT(pfx_profile_name(rule->profile)), P_TEXT(addresses), P_INT(a->now_ms),
                   P_TEXT(pfx_guid_new(token)), P_TEXT(v->common_name), P_TEXT(v->pseudonym),
                   P_TEXT(fields), P_TEXT(rule->comment), P_INT_OR_NULL(renewed),
                   P_INT(rule->non_repudiation), P_INT_OR_NULL(c->revoked)));
}

static pfx_result create(struct acting *a, const struct pfx_case *c, struct pfx_verdict *v,
                         struct pfx_error *err)
{
    struct pfx_db *db = a->agent->store->db;
    const struct pfx_rule_conf *rule = c->rule;
    PFX_TRY(insert(a, c, v, err));
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
                       "UPDATE user SET trouble = ?, trouble_at = coalesce(trouble_at, ?),"
                       " trouble_pass = ? WHERE id = ?",
                       PFX_PARAMS(P_TEXT(v->why), P_INT(a->now_ms), P_INT(a->pass),
                                  P_TEXT(c->user->id)));
}

/* What the limit holds may wait for weeks: it is ordered with the addresses and names of then. */
static pfx_result refresh(struct acting *a, const struct pfx_case *c, struct pfx_verdict *v,
                          struct pfx_error *err)
{
    if (c->mailboxes && !c->mailboxes->read)
        return PFX_OK; /* it keeps the addresses of its beginning */
    if (!pfx_case_data(a->agent->names, c, v))
        return refuse(a, c, v, err);
    char *addresses PFX_AUTOFREE = pfx_strings_json(&v->addresses);
    return pfx_db_exec(a->agent->store->db, err, NULL,
                       "UPDATE enrolment SET addresses = ?1, first_name = ?2, last_name = ?3,"
                       " common_name = ?6, pseudonym = ?7"
                       " WHERE id = ?4 AND rule = ?5 AND (addresses IS NOT ?1"
                       " OR first_name IS NOT ?2 OR last_name IS NOT ?3"
                       " OR common_name IS NOT ?6 OR pseudonym IS NOT ?7)",
                       PFX_PARAMS(P_TEXT(addresses), P_TEXT(v->first_name), P_TEXT(v->last_name),
                                  P_INT(c->flight), P_TEXT(c->rule->name), P_TEXT(v->common_name),
                                  P_TEXT(v->pseudonym)));
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
 * couldn't be read takes nobody along: its members are those of the last time, and where there was
 * none (a rule with a new name or group) nobody knows who left. */
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
            " AND (u.enabled = 0 OR (NOT EXISTS (SELECT 1 FROM member m JOIN temp.rule_order o"
            "  ON o.name = m.rule WHERE m.user = e.user AND o.intune = e.intune)"
            "  AND NOT EXISTS (SELECT 1 FROM temp.rule_order o JOIN rule k ON k.name = o.name"
            "   WHERE o.intune = e.intune AND k.read_pass = 0)))"
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

/* Begins, or begins anew after a restart: who was admitted before it counts on, and is in flight. */
static pfx_result begin(struct pfx_agent *agent, const struct pfx_pass *pass, int64_t now_ms,
                        struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct pfx_sweep sweep;
    int64_t counted, in_pass = 0;
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_meta_get(agent->store, "evaluated_pass", &counted, err));
    if (counted == pass->no)
        PFX_TRY(pfx_meta_get(agent->store, "evaluated_orders", &in_pass, err));
    PFX_TRY(pfx_meta_set(agent->store, "evaluated_pass", pass->no, err));
    PFX_TRY(pfx_meta_set(agent->store, "evaluated_orders", in_pass, err));
    PFX_TRY(end_those_who_left(agent, now_ms, err));
    PFX_TRY(pfx_sweep_start(agent, now_ms, &sweep, err));
    sweep.in_pass = (unsigned)in_pass;
    PFX_TRY(pfx_tx_commit(&tx, err));
    agent->evaluation = pfx_alloc(sizeof(sweep));
    *agent->evaluation = sweep;
    return PFX_OK;
}

pfx_result pfx_evaluate_some(struct pfx_agent *agent, const struct pfx_pass *pass, int64_t now_ms,
                             bool *ret_done, struct pfx_error *err)
{
    struct acting a = {agent, now_ms, pass->no};
    *ret_done = false;
    if (!agent->evaluation)
        return begin(agent, pass, now_ms, err);
    if (!agent->evaluation->done) {
        /* The position moves when the slice is in the store. */
        struct pfx_sweep sweep = *agent->evaluation;
        struct pfx_tx tx PFX_AUTOTX = {0};
        PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
        PFX_TRY(pfx_sweep_some(agent, &sweep, PAGE, now_ms, act, &a, err));
        if (sweep.in_pass != agent->evaluation->in_pass)
            PFX_TRY(pfx_meta_set(agent->store, "evaluated_orders", sweep.in_pass, err));
        PFX_TRY(pfx_tx_commit(&tx, err));
        *agent->evaluation = sweep;
        return PFX_OK;
    }
    *ret_done = true;
    return PFX_OK;
}

pfx_result pfx_evaluate_end(struct pfx_agent *agent, const struct pfx_pass *pass,
                            struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE user SET trouble = NULL, trouble_at = NULL WHERE trouble IS NOT NULL"
                       " AND trouble_pass IS NOT ?",
                       PFX_PARAMS(P_INT(pass->no)));
}
