/*
 * backup.create: the manifest's hash of a backup goes into the operation log. Who reads the files
 * is the command line, as root; the reply leaves when a signed checkpoint covers the result, so the
 * proof that goes into the archive is there then.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/verbs.h"

static void say(struct pfx_task *task, struct pfx_msg *item, const char *kind, const char *text)
{
    pfx_msg_set_str(item, "kind", kind);
    pfx_msg_set_str(item, "text", text);
    pfx_task_emit(task, item);
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_task *task = ctx;
    struct pfx_bytes manifest = pfx_msg_blob(task->args, "manifest");
    (void)worker, (void)err;
    memcpy(op->out.sha256, manifest.data, sizeof op->out.sha256);
    op->out.has_sha256 = true;
    *ret_reply = pfx_task_item(task);
    return PFX_OK;
}

/* A manifest says where root, when it restores, puts which file: who isn't root mustn't have one of
 * his own making certified. */
static pfx_result who_may(const struct pfx_actor *actor, struct pfx_error *err)
{
    if (actor->uid == 0 || actor->uid == (int64_t)geteuid())
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "backup create", "", "EPERM",
                    "Only root makes a backup: run pfx-agent backup create as root.");
}

pfx_result pfx_do_backup(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_op op = {.event = PFX_EVENT_BACKUP, .actor = task->actor};
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    struct pfx_oplog_status status;
    PFX_TRY(who_may(&task->actor, err));
    snprintf(op.target.name, sizeof op.target.name, "backup");
    PFX_TRY(pfx_op_run(worker, &op, work, task, &reply, err));
    say(task, PFX_TAKE(reply), "step", "the manifest stands in the operation log");
    /* The token shall know of a log that is longer than the one in the archive. */
    pfx_hsmlog_settle(hsm);
    pfx_oplog_status(hsm->log->writer, &status);
    if (status.anchor_why.cls != PFX_CLASS_OK)
        say(task, pfx_task_item(task), "note",
            "the token's anchor couldn't be written, so it doesn't know of this backup yet: see "
            "pfx-agent log status");
    return PFX_OK;
}
