/* Going through the members: what is known about each of them, for the decision. */
#include <stdio.h>
#include <string.h>

#include "agent/pass.h"
#include "agent/timing.h"

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
                          "SELECT id, expires, active_at, revoked_at IS NOT NULL,"
                          " key_going_at IS NOT NULL FROM enrolment"
                          " WHERE user = ? AND intune = ? AND state = 'ACTIVE'"
                          " AND revoked_then IS NOT 'enrol_again' ORDER BY id DESC LIMIT 1",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    if (row) {
        c->active = sqlite3_column_int64(stmt, 0);
        c->active_expires = sqlite3_column_int64(stmt, 1);
        c->active_at = sqlite3_column_int64(stmt, 2);
        c->active_revoked = sqlite3_column_int64(stmt, 3) != 0;
        c->active_keyless = sqlite3_column_int64(stmt, 4) != 0;
    }
    pfx_db_done(&stmt);
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT max(id), revoked_at IS NULL FROM enrolment WHERE user = ?"
                          " AND intune = ? AND id > ? AND state = 'ACTIVE'"
                          " AND revoked_then = 'enrol_again'",
                          PFX_PARAMS(P_TEXT(user), P_TEXT(intune), P_INT(c->active))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    c->revoked = sqlite3_column_int64(stmt, 0);
    c->exposed = c->revoked && sqlite3_column_int64(stmt, 1);
    return PFX_OK;
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
    snprintf(texts->parked, sizeof(texts->parked), "%s",
             (const char *)sqlite3_column_text(stmt, 1));
    c->parked_why = texts->parked;
    return PFX_OK;
}

/* The first one that is revoked is replaced at once. A CA that revokes each that it issues would
 * sell one a pass: from the second on it takes as long as after orders that ended. */
static pfx_result fill_replaced(struct pfx_agent *agent, struct pfx_case *c, int64_t now_ms,
                                struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT count(*) - 1, max(revoked_at) FROM enrolment WHERE user = ?1"
                          /* +: by the user's few, not by all that were revoked. */
                          " AND intune = ?2 AND +revoked_then = 'enrol_again' AND +revoked_at > ?3"
                          " AND +exposed_at IS NULL"
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
