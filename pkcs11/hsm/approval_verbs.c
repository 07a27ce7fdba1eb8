/* approval.list, approval.show, approval.give: questions, and the signatures that answer them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/approvals_impl.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/journal_form.h"
#include "pkcs11/hsm/verbs.h"

#define REFUSALS_NOTED 20 /* of one question; more are counted with all others */

static void say(struct pfx_task *task, const struct pfx_question *question, bool whole)
{
    const struct pfx_approval *approval = &question->approval;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf statement = pfx_buf_make(PFX_STATEMENT_MAX);
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "id", question->id);
    pfx_msg_set_str(item, "command", approval->statement.command);
    pfx_msg_set_str(item, "asker", approval->asker);
    pfx_msg_set_str(item, "mode", approval->by_uid ? "uid" : "ssh");
    pfx_msg_set_int(item, "needed", approval->needed);
    pfx_msg_set_int(item, "expiry", approval->statement.expiry_ms);
    for (size_t i = 0; i < approval->n_given; i++)
        pfx_msg_add_str(item, "given", approval->given[i].principal);
    if (whole && pfx_statement_write(&approval->statement, &statement)) {
        pfx_msg_set_str(item, "args", pfx_buf_str(&approval->args));
        pfx_msg_set_str(item, "statement", pfx_buf_str(&statement));
    }
    pfx_task_emit(task, item);
}

pfx_result pfx_do_approval_list(struct pfx_worker *worker, struct pfx_task *task,
                                struct pfx_error *err)
{
    struct pfx_approvals *approvals = worker->hsm->approvals;
    int64_t now = pfx_now_ms();
    (void)err;
    pthread_mutex_lock(&approvals->lock);
    for (size_t i = 0; i < approvals->n; i++)
        if (now <= approvals->list[i]->approval.statement.expiry_ms)
            say(task, approvals->list[i], false);
    pthread_mutex_unlock(&approvals->lock);
    return PFX_OK;
}

typedef pfx_result (*on_question)(struct pfx_worker *worker, struct pfx_task *task,
                                  struct pfx_question *question, struct pfx_error *err);

/* Does it to the question that the task names, with the lock held. */
static pfx_result with_question(struct pfx_worker *worker, struct pfx_task *task, on_question does,
                                struct pfx_error *err)
{
    struct pfx_approvals *approvals = worker->hsm->approvals;
    const char *id = pfx_msg_str(task->args, "id");
    pthread_mutex_lock(&approvals->lock);
    struct pfx_question *question = pfx_question_find(approvals, id);
    pfx_result result =
        question ? does(worker, task, question, err)
                 : pfx_fail(err, PFX_CLASS_REFUSED, "approve", id, "unknown",
                            "Nothing with this ID waits for approvals: it was done, or its time is "
                            "over. pfx-agent approve lists what waits.");
    pthread_mutex_unlock(&approvals->lock);
    return result;
}

static pfx_result show(struct pfx_worker *worker, struct pfx_task *task,
                       struct pfx_question *question, struct pfx_error *err)
{
    (void)worker;
    (void)err;
    say(task, question, true);
    return PFX_OK;
}

pfx_result pfx_do_approval_show(struct pfx_worker *worker, struct pfx_task *task,
                                struct pfx_error *err)
{
    return with_question(worker, task, show, err);
}

/* --- giving --- */

static void given_done(struct pfx_given *given)
{
    free(given->line);
    free(given->signature);
}

/* Whose key signed: the roster says it, nobody else is believed. */
static pfx_result signer_of(const struct pfx_approvals *approvals, const char *text,
                            struct pfx_given *given, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(PFX_SSHSIG_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf armored = pfx_buf_make(PFX_SSHSIG_TEXT_MAX);
    char print[PFX_SSH_FINGERPRINT_SIZE];
    struct pfx_sshsig sig;
    PFX_TRY(pfx_sshsig_unarmor((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, &blob, err));
    PFX_TRY(pfx_sshsig_parse(pfx_buf_bytes(&blob), &sig, err));
    const struct pfx_roster_line *line = pfx_roster_find(&approvals->roster, sig.key);
    if (!line)
        return pfx_fail(err, PFX_CLASS_REFUSED, "approve", pfx_ssh_fingerprint(sig.key, print),
                        "not in roster", "This key isn't in the roster: it can't approve anything.");
    if (!pfx_sshsig_armor(pfx_buf_bytes(&blob), &armored))
        return pfx_fail(err, PFX_CLASS_REFUSED, "approve", line->principal, "form",
                        "The signature is too long.");
    snprintf(given->principal, sizeof given->principal, "%s", line->principal);
    given->line = pfx_roster_text(line);
    given->signature = pfx_strndup(pfx_buf_str(&armored), armored.len);
    return PFX_OK;
}

static pfx_result check(const struct pfx_approvals *approvals, const struct pfx_task *task,
                        const struct pfx_question *question, struct pfx_given *given,
                        struct pfx_error *err)
{
    const struct pfx_approval *approval = &question->approval;
    const char *signature = pfx_msg_str(task->args, "signature");
    if (approval->by_uid) {
        if (signature)
            return pfx_fail(err, PFX_CLASS_REFUSED, "approve", question->id, "form",
                            "Nothing is signed in mode uid of the policy's approvals.");
        given->uid = task->actor.uid;
        snprintf(given->principal, sizeof given->principal, "uid:%" PRId64, given->uid);
    } else {
        if (!signature)
            return pfx_fail(err, PFX_CLASS_REFUSED, "approve", question->id, "form",
                            "A signature is needed: the roster says whose keys count.");
        PFX_TRY(signer_of(approvals, signature, given, err));
    }
    if (question->taken || approval->n_given == PFX_APPROVERS_MOST)
        return pfx_fail(err, PFX_CLASS_REFUSED, "approve", question->id, "enough",
                        "Enough people have approved it.");
    return pfx_given_check(approval, approval->n_given, given, err);
}

static pfx_result note(struct pfx_hsm *hsm, const struct pfx_actor *actor,
                       const struct pfx_question *question, const struct pfx_given *given,
                       const struct pfx_error *why, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf array = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    bool refused = why != NULL;
    pfx_draft_init(draft, PFX_SRC_HSM, refused ? "approval.refuse" : "approval.give",
                   PFX_PHASE_NOTE, refused ? pfx_outcome_of(why->cls) : PFX_OUTCOME_OK);
    pfx_journal_actor(actor, draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, question->approval.statement.command);
    if (question->seq != PFX_NOT_LOGGED)
        pfx_draft_int(draft, PFX_F_REF, (int64_t)question->seq);
    if (refused) {
        pfx_journal_fail(why, draft);
    } else {
        /* The record with this one alone: it can be verified by itself. */
        struct pfx_approval one = question->approval;
        one.given[0] = *given;
        one.n_given = 1;
        if (!pfx_question_array(&one, &array))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "approve", question->id, "",
                            "The record is too long for the operation log.");
        pfx_draft_raw(draft, PFX_F_APPROVALS, pfx_buf_bytes(&array));
        if (one.by_uid)
            pfx_draft_bool(draft, PFX_F_WEAK, true);
    }
    if (pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN)
        return pfx_hsmlog_put(hsm->log, draft, refused ? PFX_ROOM_REFUSAL : PFX_ROOM_ORDINARY,
                              PFX_UNTIL_SYNCED, NULL, err);
    pfx_hsmlog_early(hsm->log, PFX_TAKE(draft));
    return PFX_OK;
}

static pfx_result give(struct pfx_worker *worker, struct pfx_task *task,
                       struct pfx_question *question, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_approval *approval = &question->approval;
    PFX_CLEANUP(given_done) struct pfx_given given = {.uid = -1, .at_ms = pfx_now_ms()};
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result checked = check(hsm->approvals, task, question, &given, &why);
    if (pfx_failed(checked)) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        /* Told as what it is; one that is tried over and over comes under the quota of refusals. */
        if (question->refused++ < REFUSALS_NOTED)
            worker->began = pfx_ok(note(hsm, &task->actor, question, NULL, &why, &ignored));
        *err = why;
        return checked;
    }
    PFX_TRY(note(hsm, &task->actor, question, &given, NULL, err));
    worker->began = true;
    approval->given[approval->n_given++] = given;
    given = (struct pfx_given){.uid = -1};
    pfx_result stored = pfx_questions_store(hsm, err);
    if (pfx_failed(stored)) { /* not one that a restart would forget */
        approval->n_given--;
        given_done(&approval->given[approval->n_given]);
        return stored;
    }
    say(task, question, false);
    return PFX_OK;
}

pfx_result pfx_do_approval_give(struct pfx_worker *worker, struct pfx_task *task,
                                struct pfx_error *err)
{
    return with_question(worker, task, give, err);
}
