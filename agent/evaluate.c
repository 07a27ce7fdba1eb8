/* Acting on the decisions at the end of a pass. */
#include "agent/outbox.h"
#include "agent/pass.h"
#include "agent/run.h"

#define PAGE 200 /* users of one slice: nobody waits longer than for these */

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
    return pfx_db_exec(
        a->agent->store->db, err, NULL,
        "UPDATE user SET trouble = ?, trouble_at = coalesce(trouble_at, ?),"
        " trouble_pass = ? WHERE id = ?",
        PFX_PARAMS(P_TEXT(v->why), P_INT(a->now_ms), P_INT(a->pass), P_TEXT(c->user->id)));
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

struct left {
    int64_t id;
    bool enabled;
};

/* In one go: asked one by one it would go through all that are in work for each of them. */
static pfx_result find_those_who_left(struct pfx_agent *agent, struct left **ret_left,
                                      size_t *ret_n, struct pfx_error *err)
{
    struct left *left PFX_AUTOFREE = NULL;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    size_t n = 0;
    PFX_TRY(pfx_db_select(
        agent->store->db, err, &stmt,
        "SELECT e.id, u.enabled FROM enrolment e JOIN user u ON u.id = e.user"
        " WHERE e.state IN ('NEW', 'KEYED', 'HELD')"
        " AND e.sent_first IS NULL AND e.order_id IS NULL"
        " AND (u.enabled = 0 OR (NOT EXISTS (SELECT 1 FROM member m JOIN temp.rule_order o"
        "  ON o.name = m.rule WHERE m.user = e.user AND o.intune = e.intune)"
        "  AND NOT EXISTS (SELECT 1 FROM temp.rule_order o JOIN rule k ON k.name = o.name"
        "   WHERE o.intune = e.intune AND k.read_pass = 0)))"
        " AND NOT EXISTS (SELECT 1 FROM job j WHERE j.enrolment = e.id AND j.sent_at IS NOT NULL)",
        PFX_NO_PARAMS));
    while (true) {
        bool row;
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        left = pfx_grow(left, n + 1, sizeof(*left));
        left[n++] =
            (struct left){sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1) != 0};
    }
    *ret_left = PFX_TAKE(left);
    *ret_n = n;
    return PFX_OK;
}

/* Enrolments that cost nothing yet and whose user left the groups or was disabled. A group that
 * couldn't be read takes nobody along: its members are those of the last time, and where there was
 * none (a rule with a new name or group) nobody knows who left. */
static pfx_result end_those_who_left(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct left *left PFX_AUTOFREE = NULL;
    size_t n;
    PFX_TRY(find_those_who_left(agent, &left, &n, err));
    for (size_t i = 0; i < n; i++) {
        struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
        PFX_TRY(pfx_enrolment_load(agent->store, left[i].id, &e, err));
        PFX_TRY(pfx_enrolment_move(agent->store, &e, PFX_ENDED, NULL, 0, now_ms,
                                   left[i].enabled ? "no longer in scope, nothing was ordered"
                                                   : "account disabled, nothing was ordered",
                                   err));
        /* Whoever comes back is served at once. */
        PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                            "UPDATE enrolment SET waived = 1 WHERE id = ?",
                            PFX_PARAMS(P_INT(left[i].id))));
    }
    return PFX_OK;
}

/* Begins, or begins anew after a restart: who was admitted before it counts on, and is in flight.
 */
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
