/* pfx-hsm's own points: each Cryptoki call, each step of the operation log's writer, each state
 * file, the intent and the result of each operation. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "kill_points.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/verbs.h"
#include "pkcs11/hsm/watchdog.h"
#include "pkcs11/hsm/worker.h"
#include "pkcs11/pool.h"
#include "pkcs11/probe.h"

#define FUNCTIONS 80

/* Of this thread; of the committer, which has none, that of the last operation that isn't over. */
static _Thread_local const char *event;
static _Atomic(const char *) running;
static _Thread_local struct called {
    const char *function; /* a literal of PFX_C */
    unsigned n;
} called[FUNCTIONS];
static void (*watchdog_trace)(const char *function, bool entering);

static unsigned count(const char *function)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        if (called[i].function && strcmp(called[i].function, function) != 0)
            continue;
        called[i].function = function;
        return ++called[i].n;
    }
    return 0;
}

static void trace(const char *function, bool entering)
{
    if (watchdog_trace)
        watchdog_trace(function, entering);
    if (entering)
        return;
    if (event)
        kill_point("%s %s %u", event, function, count(function));
    else /* the start, a ceremony between its operations, the committer: not counted */
        kill_point("no operation %s", function);
}

KILL_WRAP(pfx_result, pfx_watchdog_start, int64_t call_deadline_ms, struct pfx_error *err)
{
    pfx_result r = __real_pfx_watchdog_start(call_deadline_ms, err);
    if (pfx_ok(r)) {
        watchdog_trace = pfx_cryptoki_trace;
        pfx_cryptoki_trace = trace;
    }
    return r;
}

KILL_WRAP(pfx_result, pfx_op_run, struct pfx_worker *worker, struct pfx_op *op, pfx_op_work work,
          void *ctx, struct pfx_msg **ret_reply, struct pfx_error *err)
{
    event = pfx_event_name(op->event);
    atomic_store(&running, event);
    memset(called, 0, sizeof called);
    pfx_result r = __real_pfx_op_run(worker, op, work, ctx, ret_reply, err);
    atomic_store(&running, NULL);
    event = NULL;
    return r;
}

/* A question and its answers are no operations, but have their entries and their file. */
static void enter(const char *name)
{
    event = name;
    atomic_store(&running, name);
}

static void leave(pfx_result r)
{
    kill_point("%s %s", event, pfx_class_name(r.cls));
    event = NULL;
    atomic_store(&running, NULL);
}

KILL_WRAP(pfx_result, pfx_approvals_require, struct pfx_worker *worker, struct pfx_task *task,
          const char *command, struct pfx_bytes args, struct pfx_approved *ret,
          struct pfx_error *err)
{
    enter("approval.ask");
    pfx_result r = __real_pfx_approvals_require(worker, task, command, args, ret, err);
    leave(r);
    return r;
}

KILL_WRAP(pfx_result, pfx_do_approval_give, struct pfx_worker *worker, struct pfx_task *task,
          struct pfx_error *err)
{
    enter("approval.give");
    pfx_result r = __real_pfx_do_approval_give(worker, task, err);
    leave(r);
    return r;
}

KILL_WRAP(pfx_result, pfx_hsmlog_intent, struct pfx_hsm *hsm, struct pfx_op *op,
          struct pfx_error *err)
{
    pfx_result r = __real_pfx_hsmlog_intent(hsm, op, err);
    if (pfx_ok(r))
        kill_point("%s intent", event);
    return r;
}

KILL_WRAP(pfx_result, pfx_hsmlog_result, struct pfx_hsm *hsm, const struct pfx_op *op,
          pfx_result outcome, struct pfx_error *why)
{
    kill_point("%s worked %s", event, pfx_class_name(outcome.cls));
    pfx_result r = __real_pfx_hsmlog_result(hsm, op, outcome, why);
    kill_point("%s result %s", event, pfx_class_name(r.cls));
    return r;
}

KILL_WRAP(pfx_result, pfx_file_replace, const char *path, const void *data, size_t len,
          unsigned mode, struct pfx_error *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    /* Names of a ceremony's files have the time in them. */
    if (strstr(path, "/ceremonies/"))
        name = name[0] != '.'            ? strrchr(name, '.')
               : strstr(name, ".begun") != NULL ? "ceremony mark"
                                                : "ceremony record";
    pfx_result r = __real_pfx_file_replace(path, data, len, mode, err);
    kill_point("%s file %s", event ? event : "no operation", name);
    return r;
}

/* The probes take most of a start (they draw RSA keys), and a token that was probed is the same
 * after a kill: so a restart uses what the last one found, but where the start itself is looked at.
 */
struct kept {
    bool there;
    struct pfx_probe probe;
    struct pfx_caps caps;
};

KILL_WRAP(pfx_result, pfx_probe_run, struct pfx_token *token, enum pfx_role role,
          struct pfx_probe *ret_probe, struct pfx_error *err)
{
    struct kept *all = kill_memory(PFX_ROLE_COUNT * sizeof *all);
    struct kept *kept = all ? &all[role] : NULL;
    if (kept && kept->there) {
        pthread_mutex_lock(&token->caps_lock);
        token->caps = kept->caps;
        pthread_mutex_unlock(&token->caps_lock);
        *ret_probe = kept->probe;
        return PFX_OK;
    }
    pfx_result r = __real_pfx_probe_run(token, role, ret_probe, err);
    if (kept && pfx_ok(r) && !ret_probe->passing) {
        kept->probe = *ret_probe;
        pthread_mutex_lock(&token->caps_lock);
        kept->caps = token->caps;
        pthread_mutex_unlock(&token->caps_lock);
        kept->there = true;
    }
    return r;
}

/* --- the writer of the operation log --- */

static void log_point(const char *step, bool done)
{
    const char *of = atomic_load(&running);
    if (done)
        kill_point("%s log %s", of ? of : "note", step);
}

static ssize_t log_pwrite(void *ctx, const char *step, int fd, const void *data, size_t len,
                          off_t at)
{
    ssize_t n = pfx_oplog_system.pwrite(ctx, step, fd, data, len, at);
    log_point(step, n >= 0);
    return n;
}

static int log_fdatasync(void *ctx, const char *step, int fd)
{
    int rc = pfx_oplog_system.fdatasync(ctx, step, fd);
    log_point(step, rc == 0);
    return rc;
}

static int log_fallocate(void *ctx, const char *step, int fd, off_t len)
{
    int rc = pfx_oplog_system.fallocate(ctx, step, fd, len);
    log_point(step, rc == 0);
    return rc;
}

static int log_openat(void *ctx, const char *step, int dir, const char *name, int flags,
                      mode_t mode)
{
    int fd = pfx_oplog_system.openat(ctx, step, dir, name, flags, mode);
    log_point(step, fd >= 0);
    return fd;
}

static int log_renameat(void *ctx, const char *step, int dir, const char *from, const char *to)
{
    int rc = pfx_oplog_system.renameat(ctx, step, dir, from, to);
    log_point(step, rc == 0);
    return rc;
}

static int log_unlinkat(void *ctx, const char *step, int dir, const char *name)
{
    int rc = pfx_oplog_system.unlinkat(ctx, step, dir, name);
    log_point(step, rc == 0);
    return rc;
}

static int log_ftruncate(void *ctx, const char *step, int fd, off_t len)
{
    int rc = pfx_oplog_system.ftruncate(ctx, step, fd, len);
    log_point(step, rc == 0);
    return rc;
}

static int log_mkdirat(void *ctx, const char *step, int dir, const char *name, mode_t mode)
{
    int rc = pfx_oplog_system.mkdirat(ctx, step, dir, name, mode);
    log_point(step, rc == 0);
    return rc;
}

KILL_WRAP(pfx_result, pfx_oplog_open, const struct pfx_oplog_config *config,
          struct pfx_oplog **ret_log, struct pfx_error *err)
{
    static const struct pfx_oplog_io io = {log_pwrite,    log_fdatasync, log_fallocate,
                                           log_openat,    log_renameat,  log_unlinkat,
                                           log_ftruncate, log_mkdirat,   NULL};
    struct pfx_oplog_config hooked = *config;
    hooked.io = &io;
    return __real_pfx_oplog_open(&hooked, ret_log, err);
}
