/* key rebuild: begin, and tell how far it is; and what key rebuild and key records have in common: both
 * ask pfx-hsm first which generations there are now. */
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

/* --- what pfx-hsm says --- */

/* select.refused: 1 where a report was on its way already. */
pfx_result pfx_verbs_ask_report(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
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

pfx_result pfx_verbs_report_there(struct pfx_asker *asker, int64_t now_ms, bool *ret_there,
                                  struct pfx_error *err)
{
    int64_t out;
    PFX_TRY(pfx_db_int(asker->agent->store->db, err, 0, &out,
                       "SELECT EXISTS(SELECT 1 FROM job WHERE kind = 'hsm.report')",
                       PFX_NO_PARAMS));
    *ret_there = !out && !asker->select.refused;
    return out || *ret_there ? PFX_OK : pfx_verbs_ask_report(asker, now_ms, err);
}

/* Counts go on without it, and are certain of nothing; a rebuild doesn't begin. */
static void no_report(struct pfx_asker *asker)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (strcmp(asker->verb->name, "key.records") == 0) {
        asker->select.user = pfx_strdup("stale");
        pfx_verbs_needs(asker);
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
    if (pfx_failed(pfx_verbs_report_there(asker, now_ms, &there, &err)))
        pfx_asker_fail(asker, &err);
    else if (there && strcmp(asker->verb->name, "key.records") == 0)
        pfx_verbs_needs(asker);
    else if (there)
        start(asker, now_ms);
    else if (pfx_uptime_ms() >= asker->select.done)
        no_report(asker);
    else
        asker->rest_uptime = pfx_uptime_ms() + REPORT_LOOK;
}

static void begin_with_report(struct pfx_asker *asker, int64_t patience_ms, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    asker->select.done = pfx_uptime_ms() + patience_ms;
    if (pfx_failed(pfx_verbs_ask_report(asker, now_ms, &err)))
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
