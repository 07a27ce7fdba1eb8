/* key rewrap: begin, and tell how far it is; or only count what still needs an earlier key. */
#include <string.h>

#include "agent/rewrap.h"
#include "agent/timing.h"
#include "agent/verbs.h"
#include "api/conf/process.h"

#define LOOK_EVERY 250
#define REPORT_LOOK 20
#define REPORT_PATIENCE (20 * PFX_SECOND)

/* asker->select, by the clock of time-outs: after: when it ends; done: until when the report is
 * waited for. state: not NULL: only count. */
static bool send_facts(struct pfx_asker *asker, const char *phase,
                       struct pfx_rewrap_facts *ret_facts)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_rewrap_facts(asker->agent, ret_facts, &err))) {
        pfx_asker_fail(asker, &err);
        return false;
    }
    struct pfx_msg *body = pfx_asker_body(asker);
    const char *now = ret_facts->started ? "rewrapping" : ret_facts->left ? "not begun" : "done";
    pfx_msg_set_str(body, "phase", phase ? phase : now);
    pfx_msg_set_int(body, "epoch", ret_facts->epoch);
    pfx_msg_set_int(body, "left", ret_facts->left);
    pfx_msg_set_int(body, "working", ret_facts->working);
    pfx_msg_set_int(body, "held", ret_facts->held);
    pfx_msg_set_int(body, "done", ret_facts->done);
    pfx_asker_item(asker, body);
    return true;
}

static void watch(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_rewrap_facts f;
    (void)now_ms;
    if (!send_facts(asker, NULL, &f))
        return;
    if (f.started == 0 || pfx_uptime_ms() >= asker->select.after)
        pfx_asker_end(asker, f.started == 0 && f.left > 0 ? 1 : 0, NULL);
    else
        asker->rest_uptime = pfx_uptime_ms() + LOOK_EVERY;
}

static void start(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct pfx_rewrap_facts f;
    if (asker->select.state) {
        if (send_facts(asker, NULL, &f))
            pfx_asker_end(asker, 0, NULL);
        return;
    }
    pfx_result r = pfx_tx_begin(&tx, asker->agent->store->db, &err);
    if (pfx_ok(r))
        r = pfx_rewrap_begin(asker->agent, now_ms, &err);
    if (pfx_ok(r))
        r = pfx_asker_note(asker, 0, NULL, now_ms, &err);
    if (pfx_ok(r))
        r = pfx_tx_commit(&tx, &err);
    if (pfx_failed(r)) {
        pfx_asker_fail(asker, &err);
        return;
    }
    if (!send_facts(asker, "begun", &f))
        return;
    if (pfx_uptime_ms() >= asker->select.after) {
        pfx_asker_end(asker, 0, NULL);
        return;
    }
    asker->step = watch;
    asker->rest_uptime = pfx_uptime_ms() + LOOK_EVERY;
}

/* Which keys are in force may have changed since pfx-hsm said so last. */
static void await_report(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool there;
    pfx_result r = pfx_verbs_report_there(asker, now_ms, &there, &err);
    if (pfx_ok(r) && there) {
        start(asker, now_ms);
        return;
    }
    if (pfx_ok(r) && pfx_uptime_ms() >= asker->select.done)
        r = pfx_fail(&err, PFX_CLASS_TRANSIENT, "standing rewrap", "pfx-hsm", "",
                     "pfx-hsm doesn't say which keys are in force: start it, or look at its log, "
                     "then try again");
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else
        asker->rest_uptime = pfx_uptime_ms() + REPORT_LOOK;
}

void pfx_verb_rewrap(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t uptime = pfx_uptime_ms();
    bool count = pfx_msg_bool(args, "count");
    (void)agent;
    asker->noted = count; /* it changes nothing */
    asker->select = (struct pfx_selection){.after = uptime + pfx_msg_int(args, "wait") * PFX_SECOND,
                                           .done = uptime + REPORT_PATIENCE,
                                           .state = count ? pfx_strdup("count") : NULL};
    if (pfx_failed(pfx_verbs_ask_report(asker, now_ms, &err)))
        pfx_asker_fail(asker, &err);
    else
        asker->step = await_report;
}
