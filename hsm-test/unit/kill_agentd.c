/* pfx-agentd's own points: each transaction of the store, by what it was for. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/compromise.h"
#include "agent/discard.h"
#include "agent/handout.h"
#include "agent/notes_queue.h"
#include "agent/orders.h"
#include "agent/pass.h"
#include "agent/rebuild.h"
#include "agent/rewrap.h"
#include "agent/run.h"
#include "agent/steps.h"
#include "kill_points.h"

#define BATCH 64

static char where[KILL_NAME_SIZE / 2] = "start";
static int64_t changes;       /* of the store, at the last transaction */
static char taken[BATCH][48]; /* kinds that the open transaction hands out */
static size_t n_taken;

struct place {
    char was[sizeof where];
};

PFX_PRINTF(1, 2) static struct place enter(const char *fmt, ...)
{
    struct place place;
    va_list args;
    memcpy(place.was, where, sizeof where);
    va_start(args, fmt);
    vsnprintf(where, sizeof where, fmt, args);
    va_end(args);
    return place;
}

static void leave(const struct place *place)
{
    memcpy(where, place->was, sizeof where);
}

static void came(const struct pfx_msg *msg, const char *label)
{
    (void)label;
    if (pfx_msg_is(msg, &pfx_s_req))
        snprintf(where, sizeof where, "verb %.40s", pfx_msg_str(msg, "verb"));
}

__attribute__((constructor)) static void set_came(void)
{
    kill_came = came;
}

static void committed(void)
{
    if (n_taken == 0)
        kill_point("commit %s", where);
    for (size_t i = 0; i < n_taken; i++)
        kill_point("commit hand-out %s", taken[i]);
    n_taken = 0;
}

/* A transaction that changed nothing is none. */
int __real_sqlite3_step(sqlite3_stmt *stmt);
int __wrap_sqlite3_step(sqlite3_stmt *stmt);
int __wrap_sqlite3_step(sqlite3_stmt *stmt)
{
    int rc = __real_sqlite3_step(stmt);
    sqlite3 *db = sqlite3_db_handle(stmt);
    if (rc != SQLITE_DONE || !sqlite3_get_autocommit(db))
        return rc;
    bool commits = strcmp(sqlite3_sql(stmt), "COMMIT") == 0 || !sqlite3_stmt_readonly(stmt);
    int64_t now = sqlite3_total_changes64(db);
    if (commits && now != changes)
        committed();
    changes = now;
    return rc;
}

/* Jobs of a rebuild are of kinds that the flow has, too; what becomes of them is another thing. */
static const char *part_of(const struct pfx_job_row *job)
{
    return strncmp(job->scope, "rebuild/", 8) == 0 ? "rebuild " : "";
}

KILL_WRAP(pfx_result, pfx_outbox_send, struct pfx_store *store, struct pfx_job_row *job,
          const char *incarnation, int64_t now_ms, struct pfx_error *err)
{
    if (n_taken < BATCH)
        snprintf(taken[n_taken++], sizeof taken[0], "%s%s", part_of(job), job->kind);
    return __real_pfx_outbox_send(store, job, incarnation, now_ms, err);
}

KILL_WRAP(pfx_result, pfx_handout_take, struct pfx_agent *agent, const struct pfx_arm_id *id,
          int64_t most, int64_t now_ms, int64_t deadline_uptime, struct pfx_leases *leases,
          struct pfx_parcels *ret_parcels, struct pfx_error *err)
{
    struct place place = enter("hand-out none");
    n_taken = 0;
    pfx_result r =
        __real_pfx_handout_take(agent, id, most, now_ms, deadline_uptime, leases, ret_parcels, err);
    n_taken = 0;
    leave(&place);
    return r;
}

KILL_WRAP(pfx_result, pfx_handout_hello, struct pfx_agent *agent, bool hsm,
          const struct pfx_arm_id *id, const struct pfx_msg *hello, int64_t now_ms,
          struct pfx_leases *leases, struct pfx_error *err)
{
    struct place place = enter("hello %.20s", id->role);
    pfx_result r = __real_pfx_handout_hello(agent, hsm, id, hello, now_ms, leases, err);
    leave(&place);
    return r;
}

KILL_WRAP(pfx_result, pfx_steps_apply, struct pfx_agent *agent, const char *role,
          const char *incarnation, const struct pfx_msg *done, int64_t now_ms, bool *ret_stale,
          struct pfx_error *err)
{
    struct pfx_job_row job PFX_AUTOJOB = {0};
    struct pfx_error ignored = PFX_ERROR_NONE;
    bool there = pfx_ok(pfx_outbox_load(agent->store, pfx_msg_int(done, "job"), &job, &ignored)) &&
                 job.id != 0;
    struct place place = enter("done %s%.40s %.20s", there ? part_of(&job) : "",
                               there ? job.kind : "of no job", pfx_msg_str(done, "class"));
    pfx_result r = __real_pfx_steps_apply(agent, role, incarnation, done, now_ms, ret_stale, err);
    leave(&place);
    return r;
}

KILL_WRAP(void, pfx_notes_start, struct pfx_agent *agent, int64_t now_ms)
{
    struct place place = enter("start notes");
    __real_pfx_notes_start(agent, now_ms);
    leave(&place);
}

KILL_WRAP(void, pfx_notes_tick, struct pfx_agent *agent, int64_t now_ms)
{
    struct place place = enter("tick notes");
    __real_pfx_notes_tick(agent, now_ms);
    leave(&place);
}

KILL_WRAP(pfx_result, pfx_pass_tick, struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct place place = enter("pass");
    pfx_result r = __real_pfx_pass_tick(agent, now_ms, err);
    leave(&place);
    return r;
}

KILL_WRAP(pfx_result, pfx_evaluate_some, struct pfx_agent *agent, const struct pfx_pass *pass,
          int64_t now_ms, bool *ret_done, struct pfx_error *err)
{
    struct place place = enter(agent->evaluation ? "evaluate" : "evaluate begin");
    pfx_result r = __real_pfx_evaluate_some(agent, pass, now_ms, ret_done, err);
    leave(&place);
    return r;
}

/* The transactions of the next three are the caller's, and end after them. */
KILL_WRAP(pfx_result, pfx_pass_start, struct pfx_agent *agent, bool records, bool dry,
          int64_t now_ms, struct pfx_error *err)
{
    snprintf(where, sizeof where, "pass start");
    return __real_pfx_pass_start(agent, records, dry, now_ms, err);
}

KILL_WRAP(pfx_result, pfx_orders_poll, struct pfx_agent *agent, int64_t now_ms,
          struct pfx_error *err)
{
    snprintf(where, sizeof where, "orders poll");
    return __real_pfx_orders_poll(agent, now_ms, err);
}

KILL_WRAP(pfx_result, pfx_orders_tick, struct pfx_agent *agent, int64_t now_ms,
          struct pfx_error *err)
{
    snprintf(where, sizeof where, "orders tick");
    return __real_pfx_orders_tick(agent, now_ms, err);
}

#define KILL_TICK(name, what)                                                                      \
    KILL_WRAP(pfx_result, name, struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)    \
    {                                                                                              \
        struct place place = enter(what);                                                          \
        pfx_result r = __real_##name(agent, now_ms, err);                                          \
        leave(&place);                                                                             \
        return r;                                                                                  \
    }
KILL_TICK(pfx_compromise_tick, "compromise")
KILL_TICK(pfx_rebuild_tick, "rebuild")
KILL_TICK(pfx_rewrap_tick, "rewrap")
KILL_TICK(pfx_discard_tick, "discard")

KILL_WRAP(void, pfx_run_step, struct pfx_agent *agent, int64_t now_ms)
{
    struct place place = enter("run step");
    __real_pfx_run_step(agent, now_ms);
    leave(&place);
}

KILL_WRAP(void, pfx_agent_tick, struct pfx_agent *agent, int64_t now_ms)
{
    struct place place = enter("tick");
    __real_pfx_agent_tick(agent, now_ms);
    leave(&place);
}

KILL_WRAP(void, pfx_counter_step, struct pfx_counter *counter, int64_t now_ms)
{
    struct place place = enter("counter");
    __real_pfx_counter_step(counter, now_ms);
    leave(&place);
}
