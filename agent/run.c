#include "agent/run.h"

#include <stdio.h>
#include <string.h>

#include "agent/counter.h"
#include "agent/desk.h"
#include "agent/item.h"
#include "agent/notes_queue.h"
#include "agent/orders.h"
#include "agent/outbox.h"
#include "agent/timing.h"
#include "api/conf/process.h"
#include "api/wire/conn.h"

#define PROGRESS_EVERY 300
#define TELL_EVERY (30 * PFX_SECOND)
#define STEP_EVERY 40
#define POLL_STEP_MAX (60 * PFX_SECOND)
#define PLAN_PAGE 100
#define NOTES_PATIENCE (2 * PFX_SECOND)
#define PLAN_ROOM ((size_t)256 * 1024)

enum phase { PHASE_WAITING, PHASE_READING, PHASE_PLANNING, PHASE_WORKING };

struct progress {
    char phase[64];
    int64_t total, finished, working, waiting, held, failed, ordered;
};
struct pfx_run {
    struct pfx_asker *asker;
    enum phase phase;
    bool dry;
    int64_t started;        /* wall clock: what changed since then is this run's */
    int64_t started_uptime; /* clock of time-outs */
    int64_t until_uptime;   /* goes on polling until then */
    int64_t pass;
    struct pfx_sweep sweep;
    int64_t poll_step, poll_at_uptime;
    int64_t missing_since[PFX_ARM_ROLES]; /* 0: connected, or nothing to do for it */
    int64_t next_uptime, shown_uptime, told_uptime;
    int64_t pages, pages_uptime; /* what is left of the pass, and since when */
    int64_t over_uptime;         /* nothing is left to do since then; 0: something is */
    int64_t asked_uptime;        /* the last poll: since when it is waited for; 0: it isn't */
    struct progress shown;
};

static void end(struct pfx_agent *agent, int exit, const struct pfx_error *err)
{
    struct pfx_run *run = PFX_TAKE(agent->run);
    pfx_asker_end(run->asker, exit, err);
    free(run);
}

static void fail(struct pfx_agent *agent, const struct pfx_error *err)
{
    end(agent, pfx_class_exit(err->cls), err);
}

void pfx_run_drop(struct pfx_agent *agent, const struct pfx_asker *asker)
{
    if (!agent->run || agent->run->asker != asker)
        return;
    free(agent->run);
    agent->run = NULL;
}

pfx_result pfx_run_start(struct pfx_agent *agent, struct pfx_asker *asker, bool dry, int64_t wait_s,
                         int64_t now_ms, struct pfx_error *err)
{
    if (agent->run) {
        char when[PFX_TIME_SIZE];
        return pfx_fail(
            err, PFX_CLASS_TRANSIENT, "run", "pfx-agentd", "",
            "another run is going on since %s; wait for it, pfx-agent status shows how far "
            "it is",
            pfx_time_format(agent->run->started, false, when));
    }
    struct pfx_run *run = pfx_alloc(sizeof(*run));
    int64_t uptime = pfx_uptime_ms();
    *run = (struct pfx_run){.asker = asker,
                            .dry = dry,
                            .started = now_ms,
                            .started_uptime = uptime,
                            .until_uptime = uptime + wait_s * PFX_SECOND,
                            .poll_step = PFX_SECOND,
                            .poll_at_uptime = uptime + PFX_SECOND};
    agent->run = run;
    return PFX_OK;
}

void pfx_verb_run(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                  int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool dry = pfx_msg_bool(args, "dry_run");
    asker->noted = dry; /* it changes nothing */
    pfx_result r = pfx_run_start(agent, asker, dry, pfx_msg_int(args, "wait"), now_ms, &err);
    if (pfx_ok(r) && !dry) {
        r = pfx_asker_noted(asker, now_ms, &err);
        if (pfx_failed(r))
            pfx_run_drop(agent, asker);
    }
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
}

static void send_plan(struct pfx_run *run, const struct pfx_case *c, const struct pfx_verdict *v)
{
    struct pfx_msg *body = pfx_asker_body(run->asker);
    pfx_msg_set_str(body, "kind", "plan");
    pfx_item_str(body, "user", c->user->upn, 1024);
    pfx_item_str(body, "name", c->user->display, 1024);
    pfx_item_str(body, "rule", c->rule->name, 64);
    pfx_item_str(body, "product", c->rule->product, 64);
    pfx_item_str(body, "purpose", pfx_purpose_name(c->rule->purpose), 16);
    for (size_t i = 0; i < v->addresses.n; i++)
        pfx_msg_add_str(body, "addresses", v->addresses.v[i]);
    pfx_msg_set_str(body, "decision", pfx_decision_word(v->decision));
    pfx_item_str(body, "why", v->why, 639);
    pfx_asker_item(run->asker, body);
}

void pfx_run_plan(struct pfx_agent *agent, const struct pfx_case *c, const struct pfx_verdict *v)
{
    struct pfx_run *run = agent->run;
    /* Those who need nothing are many, and of interest in a dry run only. */
    if (run && run->phase == PHASE_READING && v->decision != PFX_DECIDE_SKIP)
        send_plan(run, c, v);
}

static pfx_result planned(void *ctx, const struct pfx_case *c, struct pfx_verdict *v,
                          struct pfx_error *err)
{
    struct pfx_agent *agent = ctx;
    (void)err;
    if (agent->run)
        send_plan(agent->run, c, v);
    return PFX_OK;
}

static pfx_result measure(struct pfx_agent *agent, struct progress *p, struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(agent->store->db, err, &stmt,
                          "SELECT state, count(*) FROM enrolment WHERE (changed_at >= ?1 OR"
                          " state NOT IN ('ACTIVE', 'FAILED', 'ENDED'))"
                          /* One that was delivered and is over isn't a failure of this run. */
                          " AND NOT (state = 'ENDED' AND active_at IS NOT NULL) GROUP BY state",
                          PFX_PARAMS(P_INT(run->started))));
    while (true) {
        enum pfx_state state;
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        int64_t n = sqlite3_column_int64(stmt, 1);
        if (!pfx_state_parse((const char *)sqlite3_column_text(stmt, 0), &state))
            continue;
        p->total += n;
        if (state == PFX_ACTIVE)
            p->finished += n;
        else if (state == PFX_HELD)
            p->held += n;
        else if (state == PFX_FAILED || state == PFX_ENDED)
            p->failed += n;
        else if (state == PFX_ORDERED)
            p->waiting += n;
        else
            p->working += n;
    }
    return pfx_db_int(agent->store->db, err, 0, &p->ordered,
                      "SELECT count(*) FROM enrolment WHERE ordered_at >= ?",
                      PFX_PARAMS(P_INT(run->started)));
}

static void send_counts(struct pfx_run *run, const char *kind, const struct progress *p)
{
    struct pfx_msg *body = pfx_asker_body(run->asker);
    pfx_msg_set_str(body, "kind", kind);
    pfx_item_str(body, "phase", p->phase, 64);
    pfx_msg_set_int(body, "total", p->total);
    pfx_msg_set_int(body, "finished", p->finished);
    pfx_msg_set_int(body, "working", p->working);
    pfx_msg_set_int(body, "waiting", p->waiting);
    pfx_msg_set_int(body, "held", p->held);
    pfx_msg_set_int(body, "failed", p->failed);
    pfx_msg_set_int(body, "ordered", p->ordered);
    pfx_asker_item(run->asker, body);
}

static pfx_result show_progress(struct pfx_agent *agent, const char *phase, struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    int64_t uptime = pfx_uptime_ms();
    if (uptime < run->shown_uptime + PROGRESS_EVERY)
        return PFX_OK;
    run->shown_uptime = uptime;
    struct progress p = {0};
    PFX_TRY(measure(agent, &p, err));
    snprintf(p.phase, sizeof(p.phase), "%s", phase);
    /* Unchanged for long, it is told again: the reader must see that somebody is there. */
    if (memcmp(&p, &run->shown, sizeof(p)) != 0 || uptime > run->told_uptime + TELL_EVERY) {
        send_counts(run, "progress", &p);
        run->told_uptime = uptime;
    }
    if (agent->run)
        run->shown = p;
    return PFX_OK;
}

static void send_trouble(struct pfx_run *run, const char *user, const char *name, const char *text)
{
    struct pfx_msg *body = pfx_asker_body(run->asker);
    pfx_msg_set_str(body, "kind", "trouble");
    pfx_item_str(body, "user", user, 1024);
    pfx_item_str(body, "name", name, 1024);
    pfx_item_trouble(body, "why", text);
    pfx_asker_item(run->asker, body);
}

static pfx_result send_troubles(struct pfx_agent *agent, int64_t *ret_n, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row = true;
    PFX_TRY(
        pfx_db_select(agent->store->db, err, &stmt,
                      "SELECT upn, display, trouble FROM user WHERE trouble IS NOT NULL UNION ALL"
                      " SELECT NULL, scope, what FROM trouble",
                      PFX_NO_PARAMS));
    while (agent->run) {
        PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
        if (!row)
            break;
        ++*ret_n;
        send_trouble(agent->run, (const char *)sqlite3_column_text(stmt, 0),
                     (const char *)sqlite3_column_text(stmt, 1),
                     (const char *)sqlite3_column_text(stmt, 2));
    }
    if (agent->run && agent->no_orders)
        send_trouble(agent->run, NULL, "paused",
                     "orders are paused. Next: pfx-agent resume --orders");
    if (agent->run && agent->no_uploads)
        send_trouble(agent->run, NULL, "paused",
                     "uploads are paused. Next: pfx-agent resume --uploads");
    return PFX_OK;
}

static pfx_result finish(struct pfx_agent *agent, struct pfx_error *err)
{
    struct progress p = {0};
    int64_t troubles = 0;
    if (!agent->run->dry)
        PFX_TRY(send_troubles(agent, &troubles, err));
    if (!agent->run) /* the reader left */
        return PFX_OK;
    PFX_TRY(measure(agent, &p, err));
    send_counts(agent->run, "summary", &p);
    if (agent->run)
        end(agent, !agent->run->dry && (p.held || p.failed || troubles) ? 1 : 0, NULL);
    return PFX_OK;
}

/* Ends the run when an arm is away for long while something waits for it. */
static pfx_result check_arms(struct pfx_agent *agent, int64_t now_ms, bool *ret_ended,
                             struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    int64_t uptime = pfx_uptime_ms();
    *ret_ended = false;
    for (unsigned i = 0; i < PFX_ARM_ROLES; i++) {
        enum pfx_arm_role role = (enum pfx_arm_role)i;
        struct pfx_arm_facts facts;
        struct pfx_outbox_counts counts;
        pfx_desk_facts(agent->desk, role, &facts);
        if (!facts.connected)
            PFX_TRY(pfx_outbox_count(agent->store, pfx_arm_role_name(role), now_ms,
                                     agent->no_orders, agent->no_uploads, &counts, err));
        if (facts.connected || counts.out + counts.due == 0) {
            run->missing_since[i] = 0;
            continue;
        }
        if (run->missing_since[i] == 0)
            run->missing_since[i] = uptime;
        if (uptime < run->missing_since[i] + agent->patience_ms / 3)
            continue;
        struct pfx_error gone = PFX_ERROR_NONE;
        pfx_result r =
            pfx_fail(&gone, PFX_CLASS_TRANSIENT, "run", pfx_arm_role_name(role), "",
                     "pfx-%s isn't connected, and %lld jobs wait for it: start it, and look "
                     "at its log why it ended",
                     pfx_arm_role_name(role), (long long)(counts.out + counts.due));
        (void)r;
        fail(agent, &gone);
        *ret_ended = true;
        return PFX_OK;
    }
    return PFX_OK;
}

/* The last failure of a job that waits for its back-off. */
static pfx_result give_up_reading(struct pfx_agent *agent, const char *what, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(
        agent->store->db, err, &stmt,
        "SELECT kind, fail_text FROM job WHERE enrolment IS NULL"
        " AND fail_text IS NOT NULL AND kind <> 'hsm.log' ORDER BY tries DESC LIMIT 1",
        PFX_NO_PARAMS));
    PFX_TRY(pfx_db_next(agent->store->db, stmt, &row, err));
    struct pfx_error later = PFX_ERROR_NONE;
    pfx_result r = pfx_fail(&later, PFX_CLASS_TRANSIENT, "run",
                            row ? (const char *)sqlite3_column_text(stmt, 0) : "", "",
                            "%s; it goes on by itself. Last answer: %s", what,
                            row ? (const char *)sqlite3_column_text(stmt, 1) : "none");
    (void)r;
    pfx_db_done(&stmt);
    fail(agent, &later);
    return PFX_OK;
}

/* A pass that only waits for its back-off, of this run or another's, doesn't hold the reader for
 * ever. One "later" after a long reading isn't that: patience begins anew with each page. */
static pfx_result watch_pass(struct pfx_agent *agent, const char *phase, int64_t now_ms,
                             struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    struct pfx_outbox_counts counts;
    int64_t uptime = pfx_uptime_ms(), pages;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &pages,
                       "SELECT max(id) * 1000 + count(*) FROM job"
                       " WHERE scope >= 'pass/' AND scope < 'pass0'",
                       PFX_NO_PARAMS));
    if (pages != run->pages || run->pages_uptime == 0)
        run->pages_uptime = uptime;
    run->pages = pages;
    PFX_TRY(pfx_outbox_count(agent->store, NULL, now_ms, true, true, &counts, err));
    if (counts.out + counts.due > 0 || uptime <= run->pages_uptime + agent->patience_ms ||
        uptime <= run->until_uptime)
        return show_progress(agent, phase, err);
    return give_up_reading(agent,
                           agent->store_trouble[0] ? agent->store_trouble
                                                   : "the directory or Intune can't be read yet",
                           err);
}

static pfx_result step_waiting(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    struct pfx_pass pass;
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    if (pass.active) /* of the schedule, or of a run whose reader left: a run reads for itself */
        return watch_pass(agent, "another pass is being read", now_ms, err);
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_pass_start(agent, true, run->dry, now_ms, err));
    PFX_TRY(pfx_tx_commit(&tx, err));
    run->pass = pass.no + 1;
    run->phase = PHASE_READING;
    return PFX_OK;
}

static pfx_result step_reading(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    struct pfx_pass pass;
    PFX_TRY(pfx_pass_load(agent->store, &pass, err));
    if (pass.no == run->pass && pass.active)
        return watch_pass(agent, "reading groups and records", now_ms, err);
    run->phase = run->dry ? PHASE_PLANNING : PHASE_WORKING;
    return run->dry ? pfx_sweep_start(agent, now_ms, &run->sweep, err) : PFX_OK;
}

static pfx_result step_planning(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    if (run->sweep.done) {
        int64_t troubles = 0;
        PFX_TRY(send_troubles(agent, &troubles, err));
        return agent->run ? finish(agent, err) : PFX_OK;
    }
    if (pfx_conn_queued(run->asker->conn) >= PLAN_ROOM)
        return PFX_OK;
    return pfx_sweep_some(agent, &run->sweep, PLAN_PAGE, now_ms, planned, agent, err);
}

static pfx_result poll_now(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_orders_poll(agent, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

/* Who exports the operation log after a run finds in it what the run did: it ends when pfx-hsm has
 * the notes. That is a matter of a moment, or else not worth waiting for. */
static pfx_result notes_left(struct pfx_agent *agent, bool *ret_left, struct pfx_error *err)
{
    struct pfx_notes_facts notes;
    int64_t uptime = pfx_uptime_ms();
    PFX_TRY(pfx_notes_facts(agent->store, &notes, err));
    if (agent->run->over_uptime == 0)
        agent->run->over_uptime = uptime;
    *ret_left = notes.queued > 0 && uptime < agent->run->over_uptime + NOTES_PATIENCE;
    return PFX_OK;
}

static pfx_result step_working(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_run *run = agent->run;
    struct pfx_outbox_counts counts;
    struct pfx_orders_facts orders;
    int64_t uptime = pfx_uptime_ms();
    PFX_TRY(pfx_outbox_count(agent->store, NULL, now_ms, agent->no_orders, agent->no_uploads,
                             &counts, err));
    PFX_TRY(pfx_orders_facts(agent, &orders, err));
    char phase[64];
    snprintf(phase, sizeof(phase), "%s",
             counts.out + counts.due ? "working"
             : orders.pending        ? "waiting for the CA"
                                     : "waiting for the next try");
    PFX_TRY(show_progress(agent, phase, err));
    if (!agent->run)
        return PFX_OK;
    if (counts.out + counts.due > 0) {
        agent->run->over_uptime = 0;
        return PFX_OK;
    }
    bool time_left = uptime < run->until_uptime;
    /* An order from the future (the clock was set back) is covered by no poll of now. */
    if (orders.pending && orders.newest <= now_ms && orders.answered < orders.newest) {
        if (run->asked_uptime == 0)
            run->asked_uptime = uptime;
        if (!orders.polling) /* once after the last order, or the run would end knowing nothing */
            return poll_now(agent, now_ms, err);
        if (!time_left && uptime > run->asked_uptime + agent->patience_ms)
            return give_up_reading(agent, "the CA couldn't be asked what became of the orders",
                                   err);
        return PFX_OK;
    }
    run->asked_uptime = 0;
    if (!time_left || (orders.pending == 0 && counts.later == 0)) {
        bool left;
        PFX_TRY(notes_left(agent, &left, err));
        return left ? PFX_OK : finish(agent, err);
    }
    if (orders.pending && uptime >= run->poll_at_uptime && !orders.polling) {
        run->poll_step = run->poll_step * 2 > POLL_STEP_MAX ? POLL_STEP_MAX : run->poll_step * 2;
        run->poll_at_uptime = uptime + run->poll_step;
        return poll_now(agent, now_ms, err);
    }
    return PFX_OK;
}

bool pfx_run_reads(const struct pfx_agent *agent)
{
    return agent->run && agent->run->phase != PHASE_WORKING;
}

bool pfx_run_busy(const struct pfx_agent *agent)
{
    const struct pfx_run *run = agent->run;
    return run && run->phase == PHASE_PLANNING && pfx_conn_queued(run->asker->conn) < PLAN_ROOM;
}

void pfx_run_step(struct pfx_agent *agent, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool ended = false;
    /* Counting costs more than a message: not after each of them. */
    if (!agent->run || (!pfx_run_busy(agent) && pfx_uptime_ms() < agent->run->next_uptime))
        return;
    agent->run->next_uptime = pfx_uptime_ms() + STEP_EVERY;
    /* What the last answers made due belongs to this run: it must be seen before the end is. */
    pfx_agent_tick(agent, now_ms);
    if (!agent->run)
        return;
    pfx_result r = check_arms(agent, now_ms, &ended, &err);
    if (pfx_ok(r) && !ended && agent->run) {
        switch (agent->run->phase) {
        case PHASE_WAITING:
            r = step_waiting(agent, now_ms, &err);
            break;
        case PHASE_READING:
            r = step_reading(agent, now_ms, &err);
            break;
        case PHASE_PLANNING:
            r = step_planning(agent, now_ms, &err);
            break;
        case PHASE_WORKING:
            r = step_working(agent, now_ms, &err);
            break;
        }
    }
    if (pfx_failed(r) && agent->run)
        fail(agent, &err);
}
