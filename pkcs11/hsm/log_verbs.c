/* hsm.log, pfx-agentd's notes; log.status. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/status.h"
#include "pkcs11/hsm/verbs.h"

pfx_result pfx_do_log(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    int64_t n = 0;
    PFX_TRY(pfx_hsmlog_agentd(worker->hsm, task->args, &n, err));
    struct pfx_msg *reply = pfx_task_item(task);
    pfx_msg_set_int(reply, "n", n);
    pfx_task_emit(task, reply);
    return PFX_OK;
}

static void emit(struct pfx_task *task, const char *name, int64_t number, const char *level,
                 const char *why, const char *next, const char *value)
{
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "name", name);
    pfx_msg_set_str(item, "value", value);
    if (number >= 0)
        pfx_msg_set_int(item, "number", number);
    pfx_msg_set_str(item, "level", level);
    if (why && *why)
        pfx_msg_set_str(item, "why", why);
    if (next && *next)
        pfx_msg_set_str(item, "next", next);
    pfx_task_emit(task, item);
}

/* number: -1 where there is none. next may be NULL. */
static void say(struct pfx_task *task, const char *name, int64_t number, const char *level,
                const char *next, const char *fmt, ...) PFX_PRINTF(6, 7);
static void say(struct pfx_task *task, const char *name, int64_t number, const char *level,
                const char *next, const char *fmt, ...)
{
    char value[640];
    va_list args;
    va_start(args, fmt);
    vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    emit(task, name, number, level, NULL, next, value);
}

static void say_trouble(struct pfx_task *task, const char *name, const char *value,
                        const struct pfx_error *why)
{
    char line[640] = "";
    emit(task, name, -1, "bad", pfx_error_line(why, line, sizeof line), NULL, value);
}

static void say_time(struct pfx_task *task, const char *name, int64_t ms, const char *level)
{
    char text[PFX_TIME_SIZE];
    if (ms > 0)
        say(task, name, ms, level, NULL, "%s", pfx_time_format(ms, false, text));
    else
        say(task, name, -1, level, NULL, "none since the start");
}

static void say_state(struct pfx_task *task, const struct pfx_oplog_status *status)
{
    switch (status->state) {
    case PFX_OPLOG_NONE:
        say(task, "state", -1, "warn", "pfx-agent init", "not begun");
        break;
    case PFX_OPLOG_OPEN:
        say(task, "state", -1, "ok", NULL, "open");
        break;
    case PFX_OPLOG_REFUSED:
        say_trouble(task, "state", "refused: nothing is done with a key", &status->why);
        break;
    case PFX_OPLOG_CLOSED:
        say_trouble(task, "state", "closed: nothing is done with a key", &status->why);
        break;
    }
}

static void say_signer(struct pfx_hsm *hsm, struct pfx_task *task,
                       const struct pfx_oplog_status *status)
{
    char line[640] = "";
    const struct pfx_role_state *role = &hsm->roles[PFX_ROLE_LOG];
    if (status->signer_why.cls != PFX_CLASS_OK)
        say_trouble(task, "signer",
                    "the last checkpoint couldn't be signed: nothing is released",
                    &status->signer_why);
    else if (!status->attached)
        say_trouble(task, "signer", "the role log isn't ready: nothing is released", &role->why);
    else
        say(task, "signer", -1, "ok", NULL, "token %s", pfx_token_text(role->token, line));
}

static void say_anchor(struct pfx_hsm *hsm, struct pfx_task *task,
                       const struct pfx_oplog_status *status)
{
    char line[640] = "", value[128], at[PFX_TIME_SIZE];
    bool failed = status->anchor_why.cls != PFX_CLASS_OK, is_protected = true;
    const char *rollback = pfx_rollback_text(hsm, &is_protected);
    snprintf(value, sizeof value, "%" PRIu64 " entries%s%s", status->anchor_size,
             status->anchor_ms > 0 ? ", written " : "",
             status->anchor_ms > 0 ? pfx_time_format(status->anchor_ms, false, at) : "");
    emit(task, "anchor", (int64_t)status->anchor_size, failed ? "warn" : "ok",
         failed ? pfx_error_line(&status->anchor_why, line, sizeof line) : NULL, NULL, value);
    uint64_t lag = status->size > status->anchor_size ? status->size - status->anchor_size : 0;
    say(task, "lag", (int64_t)lag, "ok", NULL,
        "%" PRIu64 " entries could be rolled back unseen without a copy outside", lag);
    if (rollback)
        say(task, "rollback", -1, is_protected ? "ok" : "warn", NULL, "%s", rollback);
}

static void say_room(struct pfx_task *task, const struct pfx_oplog_status *status)
{
    bool whole = status->reserve_left >= status->reserve;
    say(task, "reserve", (int64_t)status->reserve_left, whole ? "ok" : "bad",
        whole
            ? NULL
            : "Free disk space in the log's folder: while the reserve is touched, nothing is done "
              "with a key.",
        "%" PRIu64 " of %" PRIu64 " KiB", status->reserve_left / 1024, status->reserve / 1024);
}

pfx_result pfx_do_log_status(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_oplog_status status;
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    (void)err;
    pfx_oplog_status(hsm->log->writer, &status);
    pfx_oplog_facts(hsm->log->writer, facts);
    say_state(task, &status);
    say(task, "folder", -1, "ok", NULL, "%s", hsm->policy->log_dir);
    if (facts->origin[0] == '\0')
        return PFX_OK;
    say(task, "origin", -1, "ok", NULL, "%s", facts->origin);
    for (size_t i = 0; i < facts->n_keys; i++)
        say(task, "key", -1, "ok", NULL, "%s", facts->keys[i]);
    say_signer(hsm, task, &status);
    say(task, "size", (int64_t)status.size, "ok", NULL, "%" PRIu64 " entries", status.size);
    say(task, "on disk", (int64_t)status.synced, "ok", NULL, "%" PRIu64 " entries", status.synced);
    say(task, "covered", (int64_t)status.covered, "ok", NULL, "%" PRIu64 " entries",
        status.covered);
    uint64_t tail = status.size > status.covered ? status.size - status.covered : 0;
    say(task, "uncovered", (int64_t)tail, tail > 0 && !status.attached ? "warn" : "ok", NULL,
        "%" PRIu64 " entries", tail);
    say_time(task, "last checkpoint", status.covered_ms, "ok");
    say_anchor(hsm, task, &status);
    say_room(task, &status);
    say(task, "segments", (int64_t)status.segments, "ok", NULL, "%" PRIu64 " files",
        status.segments);
    if (status.first > 0)
        say(task, "first", (int64_t)status.first, "ok", NULL,
            "entries before %" PRIu64 " were dropped; their hashes are kept", status.first);
    say(task, "since the start", (int64_t)status.checkpoints, "ok", NULL,
        "%" PRIu64 " commits, %" PRIu64 " checkpoints", status.commits, status.checkpoints);
    say(task, "pfx-agentd", facts->agentd_n, "ok", NULL, "its last note is number %" PRId64,
        facts->agentd_n);
    return PFX_OK;
}
