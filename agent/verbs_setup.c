/* setup digicert and setup entra: a job for pfx-uploader, and its findings as they come. The
 * request lives with its asker: when that one leaves, the job isn't handed out any more. */
#include <stdio.h>
#include <string.h>

#include "agent/desk.h"
#include "agent/item.h"
#include "agent/outbox.h"
#include "agent/steps.h"
#include "agent/timing.h"
#include "agent/verbs.h"
#include "api/conf/process.h"
#include "api/conf/product.h"

#define SCOPE "setup/"
#define JOB_PATIENCE (7 * PFX_MINUTE) /* it gives a job five minutes by default */
#define AT_ONCE 20                    /* findings of one round */

static void add_products(const struct pfx_agent_conf *conf, struct pfx_msg *body)
{
    for (size_t i = 0; i < conf->n_rules; i++) {
        const struct pfx_rule_conf *rule = &conf->rules[i];
        struct pfx_msg *product = pfx_msg_add_obj(body, "products");
        pfx_msg_set_str(product, "rule", rule->name);
        pfx_msg_set_str(product, "product", rule->product);
        if (rule->organization)
            pfx_msg_set_int(product, "organization", rule->organization);
        if (rule->payment_method)
            pfx_msg_set_str(product, "payment_method", rule->payment_method);
        for (size_t f = 0; f < rule->n_fields; f++) {
            char id[24];
            snprintf(id, sizeof(id), "%lld", (long long)rule->fields[f].id);
            pfx_msg_add_str(product, "custom_fields", id);
        }
    }
}

static void add_groups(const struct pfx_agent_conf *conf, struct pfx_msg *body)
{
    bool mailboxes = false;
    for (size_t i = 0; i < conf->n_rules; i++) {
        bool again = false;
        for (size_t j = 0; j < i; j++)
            again = again || strcmp(conf->rules[j].group, conf->rules[i].group) == 0;
        if (!again)
            pfx_msg_add_str(body, "groups", conf->rules[i].group);
        mailboxes = mailboxes || conf->rules[i].shared_mailboxes;
    }
    pfx_msg_set_bool(body, "mailboxes", mailboxes);
    pfx_msg_set_bool(body, "mail", false);
}

static pfx_result put(struct pfx_asker *asker, const char *kind, int64_t now_ms,
                      struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, kind)->request);
    struct pfx_tx tx PFX_AUTOTX = {0};
    char guid[PFX_GUID_SIZE];
    char *scope PFX_AUTOFREE = pfx_asprintf(SCOPE "%s", pfx_guid_new(guid));
    if (strcmp(kind, "up.setup_ca") == 0)
        add_products(agent->conf, body);
    else
        add_groups(agent->conf, body);
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_outbox_add_body(agent->store, scope, kind, body, now_ms, now_ms, err));
    int64_t job = pfx_db_last_id(agent->store->db);
    PFX_TRY(pfx_tx_commit(&tx, err));
    asker->job = job;
    asker->job_uptime = pfx_uptime_ms();
    return PFX_OK;
}

void pfx_verb_setup(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                    int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool ca = strcmp(asker->verb->name, "setup.digicert") == 0;
    (void)agent, (void)args;
    if (pfx_failed(put(asker, ca ? "up.setup_ca" : "up.setup_entra", now_ms, &err)))
        pfx_asker_fail(asker, &err);
}

static void copy(struct pfx_msg *item, const struct pfx_msg *finding, const char *name, size_t max)
{
    pfx_item_str(item, name, pfx_msg_str(finding, name), max);
}

static void tell(struct pfx_asker *asker, int64_t now_ms)
{
    size_t n = pfx_msg_count(asker->answer, "findings");
    (void)now_ms;
    for (int i = 0; i < AT_ONCE && (size_t)asker->select.done < n; i++) {
        const struct pfx_msg *finding =
            pfx_msg_obj_at(asker->answer, "findings", (size_t)asker->select.done++);
        struct pfx_msg *item = pfx_asker_body(asker);
        copy(item, finding, "what", 200);
        copy(item, finding, "level", 8);
        copy(item, finding, "text", 639);
        copy(item, finding, "next", 639);
        /* Several lines: as it stands. */
        if (pfx_msg_has(finding, "command"))
            pfx_msg_set_str(item, "command", pfx_msg_str(finding, "command"));
        const char *level = pfx_msg_str(finding, "level");
        asker->select.refused += strcmp(level, "ok") != 0 && strcmp(level, "warn") != 0;
        pfx_asker_item(asker, item);
    }
    if ((size_t)asker->select.done == n)
        pfx_asker_end(asker, asker->select.refused ? 1 : 0, NULL);
}

pfx_result pfx_counter_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                              struct pfx_error *err)
{
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    struct pfx_asker *asker = pfx_counter_waiting(agent->counter, answer->job->id);
    if (!asker)
        return PFX_OK;
    asker->job = 0;
    bool failed = answer->fail.cls != PFX_CLASS_OK;
    PFX_TRY(pfx_asker_note(asker, 0, failed ? &answer->fail : NULL, answer->now_ms, err));
    if (failed) {
        pfx_asker_fail(asker, &answer->fail);
        return PFX_OK;
    }
    /* The answer is freed with its message: the findings are told in their own time. */
    const struct pfx_wire_schema *schema = pfx_msg_schema(answer->body);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(schema->ceiling);
    struct pfx_error bad = PFX_ERROR_NONE;
    pfx_result r = pfx_msg_encode(answer->body, false, &text, &bad);
    if (pfx_ok(r))
        r = pfx_msg_decode(schema, pfx_buf_str(&text), text.len, &asker->answer, &bad);
    if (pfx_failed(r)) { /* with every escape it is longer than what came */
        bad.cls = PFX_CLASS_INTEGRITY;
        pfx_asker_fail(asker, &bad);
        return PFX_OK;
    }
    asker->step = tell;
    return PFX_OK;
}

static void give_up(struct pfx_asker *asker, const char *what)
{
    struct pfx_error late = PFX_ERROR_NONE;
    pfx_result r =
        pfx_fail(&late, PFX_CLASS_TRANSIENT, asker->verb->name, "uploader", "", "%s", what);
    (void)r;
    pfx_asker_fail(asker, &late);
}

void pfx_asker_forget_job(struct pfx_asker *asker)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (asker->job) { /* what is out already, or can't be deleted, is answered to nobody */
        pfx_result r = pfx_db_exec(asker->agent->store->db, &ignored, NULL,
                                   "DELETE FROM job WHERE id = ? AND sent_at IS NULL",
                                   PFX_PARAMS(P_INT(asker->job)));
        (void)r;
    }
    asker->job = 0;
}

void pfx_asker_watch(struct pfx_asker *asker)
{
    struct pfx_arm_facts facts;
    int64_t waited = pfx_uptime_ms() - asker->job_uptime;
    pfx_desk_facts(asker->agent->desk, PFX_ARM_UPLOADER, &facts);
    if (!facts.connected && waited > asker->agent->patience_ms / 6)
        give_up(asker, "pfx-uploader isn't connected: start it, and look at its log why it ended");
    else if (waited > JOB_PATIENCE)
        give_up(asker, "pfx-uploader didn't answer in seven minutes; look at its log, then try "
                       "again");
}

pfx_result pfx_counter_forget(struct pfx_agent *agent, struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL, "DELETE FROM job WHERE scope LIKE '" SCOPE "%'",
                       PFX_NO_PARAMS);
}
