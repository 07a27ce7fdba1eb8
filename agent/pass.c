#include "agent/pass.h"

#include <string.h>

#include "agent/delivery.h"
#include "agent/discard.h"
#include "agent/generation.h"
#include "agent/mailbox.h"
#include "agent/removal.h"
#include "agent/rewrap.h"
#include "agent/run.h"
#include "agent/steps.h"
#include "agent/timing.h"
#include "api/conf/process.h"

/* Pages of one list before it is taken for endless: two million users; Intune's pages are small. */
#define MOST_MEMBER_PAGES 2000
#define MOST_RECORD_PAGES 20000
#define FINISH_AGAIN_MIN PFX_SECOND
#define FINISH_AGAIN_MAX (20 * PFX_SECOND)
#define REPORT_EVERY (60 * PFX_SECOND)
#define REPORT_SOON (5 * PFX_SECOND) /* not ready: somebody is at it */

pfx_result pfx_pass_load(struct pfx_store *store, struct pfx_pass *ret_pass, struct pfx_error *err)
{
    int64_t active, dry, records;
    PFX_TRY(pfx_meta_get(store, "pass_no", &ret_pass->no, err));
    PFX_TRY(pfx_meta_get(store, "pass_active", &active, err));
    PFX_TRY(pfx_meta_get(store, "pass_dry", &dry, err));
    PFX_TRY(pfx_meta_get(store, "pass_records", &records, err));
    PFX_TRY(pfx_meta_get(store, "pass_started", &ret_pass->started, err));
    PFX_TRY(pfx_meta_get(store, "pass_scheduled", &ret_pass->scheduled, err));
    PFX_TRY(pfx_meta_get(store, "pass_finished", &ret_pass->finished, err));
    PFX_TRY(pfx_meta_get(store, "records_started", &ret_pass->records_started, err));
    PFX_TRY(pfx_meta_get(store, "records_pass", &ret_pass->records_pass, err));
    ret_pass->active = active != 0;
    ret_pass->dry = dry != 0;
    ret_pass->records = records != 0;
    return PFX_OK;
}

/* payload {group, page?} or {page?} of the next page. */
static pfx_result put_page(struct pfx_agent *agent, const char *scope, const char *kind,
                           const char *group, const char *page, int64_t now_ms,
                           struct pfx_error *err)
{
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, kind)->request);
    if (group)
        pfx_msg_set_str(body, "group", group);
    if (page)
        pfx_msg_set_str(body, "page", page);
    return pfx_outbox_add_body(agent->store, scope, kind, body, now_ms, now_ms, err);
}

/* The page after this answer's. *ret_over: there are too many; nothing was put out. */
static pfx_result next_page(struct pfx_agent *agent, const struct pfx_answer *answer,
                            const char *group, const char *page, bool *ret_over,
                            struct pfx_error *err)
{
    char *key PFX_AUTOFREE = pfx_asprintf("pages:%s", answer->job->scope);
    bool of_rule = group != NULL;
    int64_t n;
    PFX_TRY(pfx_meta_get(agent->store, key, &n, err));
    *ret_over = n + 1 >= (of_rule ? MOST_MEMBER_PAGES : MOST_RECORD_PAGES);
    if (*ret_over)
        return PFX_OK;
    PFX_TRY(pfx_meta_set(agent->store, key, n + 1, err));
    return put_page(agent, answer->job->scope, answer->job->kind, group, page, answer->now_ms, err);
}

static pfx_result first_page(struct pfx_agent *agent, const char *scope, const char *kind,
                             const char *group, int64_t now_ms, struct pfx_error *err)
{
    char *key PFX_AUTOFREE = pfx_asprintf("pages:%s", scope);
    PFX_TRY(pfx_meta_set(agent->store, key, 0, err));
    return put_page(agent, scope, kind, group, NULL, now_ms, err);
}

static pfx_result read_rule(struct pfx_agent *agent, const struct pfx_rule_conf *rule,
                            int64_t now_ms, struct pfx_error *err)
{
    char *scope PFX_AUTOFREE = pfx_asprintf("pass/rule/%s", rule->name);
    return first_page(agent, scope, "up.members", rule->group, now_ms, err);
}

/* A service whose every page leads to another must not keep a pass for ever. */
static pfx_result endless(struct pfx_agent *agent, const char *trouble, int64_t now_ms,
                          struct pfx_error *err)
{
    struct pfx_error what = PFX_ERROR_NONE;
    pfx_result r =
        pfx_fail(&what, PFX_CLASS_INTEGRITY, "read pages", trouble, "",
                 "the list doesn't end: %d pages were read. Next: look at it in Entra ID "
                 "or Intune; what was read isn't taken for whole.",
                 strcmp(trouble, "records") == 0 ? MOST_RECORD_PAGES : MOST_MEMBER_PAGES);
    (void)r;
    return pfx_trouble_set(agent->store, trouble, now_ms, &what, err);
}

/* What the store has of this rule is of another group, or of none. */
static pfx_result forget_rule(struct pfx_agent *agent, const struct pfx_rule_conf *rule,
                              bool reading, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    char *scope PFX_AUTOFREE = pfx_asprintf("pass/rule/%s", rule->name);
    PFX_TRY(pfx_db_exec(db, err, NULL, "DELETE FROM member WHERE rule = ?",
                        PFX_PARAMS(P_TEXT(rule->name))));
    PFX_TRY(
        pfx_db_exec(db, err, NULL, "DELETE FROM job WHERE scope = ?", PFX_PARAMS(P_TEXT(scope))));
    PFX_TRY(pfx_db_exec(db, err, NULL,
                        "INSERT INTO rule(name, read_pass, read_group) VALUES(?, 0, ?)"
                        " ON CONFLICT(name) DO UPDATE SET read_pass = 0,"
                        " read_group = excluded.read_group",
                        PFX_PARAMS(P_TEXT(rule->name), P_TEXT(rule->group))));
    return reading ? read_rule(agent, rule, now_ms, err) : PFX_OK;
}

pfx_result pfx_pass_rules(struct pfx_agent *agent, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    struct pfx_pass pass;
    PFX_TRY(pfx_db_script(db,
                          "CREATE TEMP TABLE IF NOT EXISTS rule_order(name TEXT PRIMARY KEY,"
                          " no INTEGER NOT NULL, intune TEXT NOT NULL); DELETE FROM rule_order;",
                          err));
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, db, err));
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    for (size_t i = 0; i < agent->conf->n_rules; i++) {
        const struct pfx_rule_conf *rule = &agent->conf->rules[i];
        int64_t known;
        PFX_TRY(pfx_db_exec(
            db, err, NULL, "INSERT INTO temp.rule_order(name, no, intune) VALUES(?, ?, ?)",
            PFX_PARAMS(P_TEXT(rule->name), P_INT((int64_t)i + 1), P_TEXT(pfx_rule_intune(rule)))));
        PFX_TRY(pfx_db_int(db, err, 0, &known,
                           "SELECT EXISTS(SELECT 1 FROM rule WHERE name = ? AND read_group = ?)",
                           PFX_PARAMS(P_TEXT(rule->name), P_TEXT(rule->group))));
        if (!known)
            PFX_TRY(forget_rule(agent, rule, pass.active, pfx_now_ms(), err));
    }
    return pfx_tx_commit(&tx, err);
}

pfx_result pfx_pass_start(struct pfx_agent *agent, bool records, bool dry, int64_t now_ms,
                          struct pfx_error *err)
{
    struct pfx_pass pass;
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    /* Without Intune's list nothing may be ordered: the first pass always reads it. */
    records = records || pass.records_started == 0 ||
              now_ms >= pass.records_started + agent->conf->records_every_ms;
    PFX_TRY(pfx_meta_set(agent->store, "pass_no", pass.no + 1, err));
    PFX_TRY(pfx_meta_set(agent->store, "pass_active", 1, err));
    PFX_TRY(pfx_meta_set(agent->store, "pass_dry", dry, err));
    PFX_TRY(pfx_meta_set(agent->store, "pass_records", records, err));
    PFX_TRY(pfx_meta_set(agent->store, "pass_started", now_ms, err));
    if (!dry) /* a dry run takes no real one's turn */
        PFX_TRY(pfx_meta_set(agent->store, "pass_scheduled", now_ms, err));
    for (size_t i = 0; i < agent->conf->n_rules; i++) {
        const struct pfx_rule_conf *rule = &agent->conf->rules[i];
        PFX_TRY(read_rule(agent, rule, now_ms, err));
    }
    if (records)
        PFX_TRY(first_page(agent, "pass/records", "up.records", NULL, now_ms, err));
    PFX_TRY(pfx_mailboxes_begin(agent, now_ms, err));
    PFX_TRY(pfx_outbox_add(agent->store, "hsm", NULL, "hsm.report", "{}", now_ms, now_ms, err));
    return pfx_note(agent->store, now_ms, 0, NULL, err, "pass %lld begins%s%s",
                    (long long)pass.no + 1, dry ? " (dry run)" : "",
                    records ? ", reads Intune's records" : "");
}

static pfx_result end_pass(struct pfx_agent *agent, const struct pfx_pass *pass, int64_t now_ms,
                           struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    /* Rules that are no longer in the configuration take nobody along. */
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "DELETE FROM trouble WHERE scope LIKE 'rule:%'"
                        " AND substr(scope, 6) NOT IN (SELECT name FROM temp.rule_order)",
                        PFX_NO_PARAMS));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "DELETE FROM member WHERE rule NOT IN (SELECT name FROM temp.rule_order)",
                        PFX_NO_PARAMS));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "DELETE FROM rule WHERE name NOT IN (SELECT name FROM temp.rule_order)",
                        PFX_NO_PARAMS));
    if (!pass->dry)
        PFX_TRY(pfx_evaluate_end(agent, pass, err));
    PFX_TRY(pfx_meta_set(agent->store, "pass_active", 0, err));
    PFX_TRY(pfx_meta_set(agent->store, pass->dry ? "dry_finished" : "pass_finished", now_ms, err));
    PFX_TRY(
        pfx_note(agent->store, now_ms, 0, NULL, err, "pass %lld is complete", (long long)pass->no));
    PFX_TRY(pfx_tx_commit(&tx, err));
    free(agent->evaluation);
    agent->evaluation = NULL;
    return PFX_OK;
}

static pfx_result finish(struct pfx_agent *agent, const struct pfx_pass *pass, int64_t now_ms,
                         struct pfx_error *err)
{
    bool done = true;
    if (!pass->dry)
        PFX_TRY(pfx_evaluate_some(agent, pass, now_ms, &done, err));
    return done ? end_pass(agent, pass, now_ms, err) : PFX_OK;
}

bool pfx_pass_busy(const struct pfx_agent *agent)
{
    return agent->evaluation && pfx_uptime_ms() >= agent->pass_again_uptime;
}

/* What fails at the end of a pass (a full disk) fails again at once: not in a circle. */
static pfx_result finish_or_wait(struct pfx_agent *agent, const struct pfx_pass *pass,
                                 int64_t now_ms, struct pfx_error *err)
{
    if (pfx_uptime_ms() < agent->pass_again_uptime)
        return PFX_OK;
    pfx_result r = finish(agent, pass, now_ms, err);
    if (pfx_ok(r)) {
        agent->pass_failures = 0;
        agent->pass_again_uptime = 0;
    } else {
        agent->pass_again_uptime =
            pfx_uptime_ms() +
            pfx_backoff(agent->pass_failures++, FINISH_AGAIN_MIN, FINISH_AGAIN_MAX, pfx_dice());
    }
    return r;
}

pfx_result pfx_pass_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_pass pass;
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    if (pass.active) {
        int64_t left;
        PFX_TRY(pfx_db_int(
            agent->store->db, err, 0, &left,
            "SELECT EXISTS(SELECT 1 FROM job WHERE scope >= 'pass/' AND scope < 'pass0')",
            PFX_NO_PARAMS));
        return left ? PFX_OK : finish_or_wait(agent, &pass, now_ms, err);
    }
    int64_t every = agent->conf->pass_every_ms;
    /* A run reads for itself; one that only waits for the CA stands in nobody's way. */
    if (every == 0 || pfx_run_reads(agent) ||
        (now_ms < pass.scheduled + every && pass.scheduled <= now_ms))
        return PFX_OK;
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_pass_start(agent, false, false, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

static const struct pfx_rule_conf *find_rule(struct pfx_agent *agent, const char *name)
{
    for (size_t i = 0; i < agent->conf->n_rules; i++)
        if (strcmp(agent->conf->rules[i].name, name) == 0)
            return &agent->conf->rules[i];
    return NULL;
}

static pfx_result members_page(struct pfx_agent *agent, const struct pfx_answer *answer,
                               const struct pfx_rule_conf *rule, const struct pfx_pass *pass,
                               struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    for (size_t i = 0; i < pfx_msg_count(answer->body, "users"); i++) {
        const struct pfx_msg *m = pfx_msg_obj_at(answer->body, "users", i);
        PFX_TRY(pfx_user_put(agent->store, m, pass->no, err));
        PFX_TRY(pfx_db_exec(
            db, err, NULL,
            "INSERT INTO member(user, rule, pass) VALUES(?, ?, ?)"
            " ON CONFLICT(user, rule) DO UPDATE SET pass = excluded.pass",
            PFX_PARAMS(P_TEXT(pfx_msg_str(m, "id")), P_TEXT(rule->name), P_INT(pass->no))));
    }
    const char *page = pfx_msg_str(answer->body, "page");
    char *trouble PFX_AUTOFREE = pfx_asprintf("rule:%s", rule->name);
    if (page) {
        bool over;
        PFX_TRY(next_page(agent, answer, rule->group, page, &over, err));
        return over ? endless(agent, trouble, answer->now_ms, err) : PFX_OK;
    }
    /* Whole: who wasn't in it is no longer a member. */
    PFX_TRY(pfx_trouble_clear(agent->store, trouble, err));
    PFX_TRY(pfx_db_exec(db, err, NULL, "DELETE FROM member WHERE rule = ? AND pass < ?",
                        PFX_PARAMS(P_TEXT(rule->name), P_INT(pass->no))));
    return pfx_db_exec(db, err, NULL, "UPDATE rule SET read_pass = ? WHERE name = ?",
                       PFX_PARAMS(P_INT(pass->no), P_TEXT(rule->name)));
}

static pfx_result records_page(struct pfx_agent *agent, const struct pfx_answer *answer,
                               const struct pfx_pass *pass, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    for (size_t i = 0; i < pfx_msg_count(answer->body, "records"); i++) {
        const struct pfx_msg *m = pfx_msg_obj_at(answer->body, "records", i);
        int64_t expires = pfx_msg_int(m, "expires");
        bool older;
        PFX_TRY(pfx_delivery_listed(agent, m, pass->started, answer->now_ms, &older, err));
        if (older)
            continue;
        PFX_TRY(pfx_db_exec(
            db, err, NULL,
            "INSERT INTO record(id, user_hex, thumbprint, purpose, upn, starts, expires,"
            " provider_name, key_name, padding, pass)"
            " VALUES(?1, lower(substr(?1, 1, 32)), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            " ON CONFLICT(id) DO UPDATE SET thumbprint = excluded.thumbprint,"
            " purpose = excluded.purpose, upn = excluded.upn, starts = excluded.starts,"
            " expires = excluded.expires, provider_name = excluded.provider_name,"
            " key_name = excluded.key_name, padding = excluded.padding, pass = excluded.pass",
            PFX_PARAMS(P_TEXT(pfx_msg_str(m, "id")), P_TEXT(pfx_msg_str(m, "thumbprint")),
                       P_TEXT(pfx_msg_str(m, "purpose")), P_TEXT(pfx_msg_str(m, "upn")),
                       P_INT(pfx_msg_int(m, "starts")), P_INT_OR_NULL(expires),
                       P_TEXT(pfx_msg_str(m, "provider_name")), P_TEXT(pfx_msg_str(m, "key_name")),
                       P_TEXT(pfx_msg_str(m, "padding")), P_INT(pass->no))));
    }
    const char *page = pfx_msg_str(answer->body, "page");
    if (page) {
        bool over;
        PFX_TRY(next_page(agent, answer, NULL, page, &over, err));
        return over ? endless(agent, "records", answer->now_ms, err) : PFX_OK;
    }
    PFX_TRY(pfx_trouble_clear(agent->store, "records", err));
    PFX_TRY(pfx_db_exec(db, err, NULL, "DELETE FROM record WHERE pass < ?",
                        PFX_PARAMS(P_INT(pass->no))));
    PFX_TRY(pfx_removal_listed(agent, pass->started, answer->now_ms, err));
    PFX_TRY(pfx_meta_set(agent->store, "records_pass", pass->no, err));
    return pfx_meta_set(agent->store, "records_started", pass->started, err);
}

static pfx_result on_report(struct pfx_agent *agent, const struct pfx_answer *answer,
                            struct pfx_error *err)
{
    bool ready = answer->fail.cls == PFX_CLASS_OK && pfx_msg_bool(answer->body, "ready");
    agent->report_uptime = pfx_uptime_ms() + (ready ? REPORT_EVERY : REPORT_SOON);
    if (answer->fail.cls != PFX_CLASS_OK)
        return pfx_trouble_set(agent->store, "hsm", answer->now_ms, &answer->fail, err);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make((size_t)1 << 17);
    PFX_TRY(pfx_msg_encode(answer->body, false, &text, err));
    PFX_TRY(pfx_meta_set_text(agent->store, "hsm_report", pfx_buf_str(&text), err));
    PFX_TRY(pfx_generation_report(agent, answer->body, answer->now_ms, err));
    PFX_TRY(pfx_discard_report(agent, answer->body, err));
    PFX_TRY(pfx_rewrap_report(agent, answer->body, err));
    if (ready)
        return pfx_trouble_clear(agent->store, "hsm", err);
    struct pfx_error what = PFX_ERROR_NONE;
    const char *why = pfx_msg_str(answer->body, "why_not");
    pfx_result r = pfx_fail(&what, PFX_CLASS_DEVICE, "pfx-hsm", "not ready", "", "%s",
                            why ? why : "it doesn't say why; look at its log");
    (void)r;
    return pfx_trouble_set(agent->store, "hsm", answer->now_ms, &what, err);
}

pfx_result pfx_pass_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                           struct pfx_error *err)
{
    static const char rule_scope[] = "pass/rule/";
    const char *scope = answer->job->scope;
    if (pfx_mailboxes_kind(answer->job->kind))
        return pfx_mailboxes_answer(agent, answer, err);
    if (pfx_steps_passing(answer->fail.cls))
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    if (strcmp(answer->job->kind, "hsm.report") == 0)
        return on_report(agent, answer, err);
    struct pfx_pass pass;
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    bool of_rule = strncmp(scope, rule_scope, sizeof(rule_scope) - 1) == 0;
    const char *name = of_rule ? scope + sizeof(rule_scope) - 1 : NULL;
    const struct pfx_rule_conf *rule = of_rule ? find_rule(agent, name) : NULL;
    if (of_rule && !rule)
        return PFX_OK; /* taken out of the configuration meanwhile */
    if (answer->fail.cls != PFX_CLASS_OK) {
        char *trouble PFX_AUTOFREE =
            of_rule ? pfx_asprintf("rule:%s", name) : pfx_strdup("records");
        char line[700];
        PFX_TRY(pfx_note(agent->store, answer->now_ms, 0, NULL, err, "%s: %s", trouble,
                         pfx_error_line(&answer->fail, line, sizeof(line))));
        return pfx_trouble_set(agent->store, trouble, answer->now_ms, &answer->fail, err);
    }
    if (!of_rule)
        return records_page(agent, answer, &pass, err);
    /* Malformed content is the rule's trouble, not the store's: checked before anything is kept. */
    for (size_t i = 0; i < pfx_msg_count(answer->body, "users"); i++) {
        const char *id = pfx_msg_str(pfx_msg_obj_at(answer->body, "users", i), "id");
        if (pfx_user_id_ok(id))
            continue;
        struct pfx_error what = PFX_ERROR_NONE;
        char *trouble PFX_AUTOFREE = pfx_asprintf("rule:%s", name);
        pfx_result r = pfx_fail(&what, PFX_CLASS_INTEGRITY, "read members", name, "",
                                "the answer has a user whose id isn't an object id");
        (void)r;
        return pfx_trouble_set(agent->store, trouble, answer->now_ms, &what, err);
    }
    return members_page(agent, answer, rule, &pass, err);
}
