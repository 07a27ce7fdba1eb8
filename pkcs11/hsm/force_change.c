/* policy.approve: a changed policy or roster comes into force. */
#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/force_impl.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/journal_form.h"
#include "pkcs11/hsm/ring.h"
#include "pkcs11/hsm/verbs.h"

/* Could pfx-hsm start under it? Once it is in force, only people whom it names can change it. */
static pfx_result usable(const struct pfx_force *force, struct pfx_error *err)
{
    struct pfx_approvals *approvals = NULL;
    struct pfx_hsm_policy *policy;
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_TRY(pfx_hsm_policy_parse("the changed policy", pfx_buf_bytes(&force->policy_text), &policy,
                                 err));
    pfx_result result;
    if (policy->n_apps > PFX_APPS_MAX)
        result = pfx_fail(&why, PFX_CLASS_USAGE, "read policy", "entra.apps", "",
                          "At most %d app registrations are possible.", PFX_APPS_MAX);
    else if (force->policy_text.len > PFX_FORCE_POLICY_MAX)
        result = pfx_fail(&why, PFX_CLASS_USAGE, "read policy", "", "",
                          "The policy is longer than %zu bytes.", PFX_FORCE_POLICY_MAX);
    else
        result = pfx_approvals_new(policy, pfx_buf_bytes(&force->roster_text), &approvals, &why);
    pfx_approvals_free(approvals);
    pfx_hsm_policy_free(policy);
    if (pfx_ok(result))
        return PFX_OK;
    return pfx_fail(err, result.cls, "policy approve", why.object, "unusable",
                    "Under this policy and roster pfx-hsm couldn't start, so nobody is asked: %s "
                    "Mend it, and restart pfx-hsm.",
                    why.text);
}

static pfx_result change_args(const struct pfx_hsm *hsm, struct pfx_buf *args,
                              struct pfx_error *err)
{
    const struct pfx_force *force = hsm->force;
    const struct pfx_force_change change = {.old_sha256 = hsm->policy->sha256,
                                            .new_sha256 = force->policy_sha256,
                                            .old_policy = pfx_buf_bytes(&hsm->policy->text),
                                            .new_policy = pfx_buf_bytes(&force->policy_text),
                                            .old_roster = pfx_buf_bytes(&force->roster),
                                            .new_roster = pfx_buf_bytes(&force->roster_text)};
    return pfx_force_args(&change, args, err);
}

/* With the approvals in it: the same entry that a change makes which nobody had to approve. */
pfx_result pfx_force_note(struct pfx_hsm *hsm, const struct pfx_actor *actor,
                          const struct pfx_approved *approved, struct pfx_error *err)
{
    const struct pfx_force *force = hsm->force;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    uint8_t hash[32];
    if (!pfx_force_hash(force->policy_sha256, pfx_buf_bytes(&force->roster_text), hash))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "policy approve", "", "", "SHA-256 failed.");
    PFX_TRY(pfx_approved_in_time(approved, err));
    pfx_draft_init(draft, PFX_SRC_HSM, "policy.changed", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_journal_actor(actor, draft);
    if (approved->record.len > 0) /* the policy in force names nobody */
        pfx_draft_raw(draft, PFX_F_APPROVALS, pfx_buf_bytes(&approved->record));
    pfx_draft_hex(draft, PFX_F_POLICY_FORCE, hash, sizeof hash);
    pfx_draft_hex(draft, PFX_F_POLICY_SHA256, force->policy_sha256, 32);
    if (approved->weak)
        pfx_draft_bool(draft, PFX_F_WEAK, true);
    PFX_TRY(pfx_oplog_policy(hsm->log->writer, force->policy_sha256,
                             pfx_buf_bytes(&force->policy_text), err));
    PFX_TRY(pfx_hsmlog_put(hsm->log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, err));
    hsm->force_due = true;
    return PFX_OK;
}

static pfx_result approved(struct pfx_worker *worker, struct pfx_task *task,
                           struct pfx_approved *ret, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf args = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    PFX_TRY(change_args(worker->hsm, &args, err));
    return pfx_approvals_require(worker, task, "policy.change", pfx_buf_bytes(&args), ret, err);
}

static pfx_result decide(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    PFX_CLEANUP(pfx_approved_done) struct pfx_approved approval = {.nonce = ""};
    PFX_TRY(approved(worker, task, &approval, err));
    PFX_TRY(pfx_force_note(hsm, &task->actor, &approval, err));
    worker->began = true;
    pfx_approvals_spent(&approval);
    return PFX_OK;
}

/* Written and synced, policy.changed is found by the next start whatever becomes of its checkpoint;
 * but nobody is told that the change is in force before one covers it. */
static pfx_result covered(struct pfx_hsm *hsm, struct pfx_error *err)
{
    struct pfx_oplog_status status;
    struct pfx_error why = PFX_ERROR_NONE;
    char line[400];
    pfx_oplog_status(hsm->log->writer, &status);
    pfx_result waited =
        pfx_oplog_wait(hsm->log->writer, status.size - 1, PFX_UNTIL_COVERED, &why);
    if (pfx_ok(waited))
        return PFX_OK;
    return pfx_fail(err, waited.cls, "policy approve", "operation log", why.code,
                    "The change is approved and stands in the log, but no signed checkpoint covers "
                    "it, so it isn't in force yet. Give the command again; nobody is asked again. "
                    "%s",
                    pfx_error_line(&why, line, sizeof line));
}

/* Is there more to it than a moment's wait? */
static bool lasts(const struct pfx_hsm *hsm)
{
    static const enum pfx_role roles[] = {PFX_ROLE_USERS, PFX_ROLE_LOG};
    for (size_t i = 0; i < 2; i++)
        if (hsm->roles[roles[i]].phase != PFX_ROLE_READY &&
            hsm->roles[roles[i]].why.cls != PFX_CLASS_TRANSIENT)
            return true;
    return false;
}

/* Of users without signatures only the log knows, which the tokens of the policy in force sign. */
static pfx_result no_way_by_uid(pfx_result ready, const struct pfx_error *why,
                                struct pfx_error *err)
{
    char line[300];
    return pfx_fail(err, ready.cls, "policy approve", why->object, why->code,
                    "In mode uid a change comes into force only with the tokens of the policy in "
                    "force, and they can't be opened: nobody signed it. Make them reachable as "
                    "that policy names them (a moved library by a link at its old path), then give "
                    "this again. For tokens that are lost see \"Lost tokens\" in rotation.md. (%s)",
                    pfx_error_line(why, line, sizeof line));
}

/* The next start finds it approved, see force.h. */
static pfx_result decide_for_restart(struct pfx_worker *worker, struct pfx_task *task,
                                     const struct pfx_error *why, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_approved_done) struct pfx_approved approval = {.nonce = ""};
    char line[400], until[PFX_TIME_SIZE];
    PFX_TRY(approved(worker, task, &approval, err));
    pfx_task_say(task, "note",
                 "Enough people have approved the change, but the tokens of the policy in force "
                 "can't be opened. Restart pfx-hsm before %s: it goes on under the changed policy, "
                 "and puts it in force once its own tokens are open. (%s)",
                 pfx_time_format(approval.expiry_ms, false, until),
                 pfx_error_line(why, line, sizeof line));
    return PFX_OK;
}

pfx_result pfx_do_policy_approve(struct pfx_worker *worker, struct pfx_task *task,
                                 struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    if (!hsm->force->held || hsm->force_approved || hsm->force_lost)
        return pfx_fail(err, PFX_CLASS_USAGE, "policy approve", "", "",
                        "No changed policy or roster waits for approvals. A change is seen at the "
                        "start: restart pfx-hsm after it.");
    if (hsm->force->tried)
        return pfx_force_holds(hsm, err);
    PFX_TRY(usable(hsm->force, err));
    /* The MAC is right, and what is done stands under a checkpoint. */
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result ready =
        pfx_hsm_needs(hsm, PFX_NEEDS(PFX_ROLE_USERS) | PFX_NEEDS(PFX_ROLE_LOG), &why);
    bool open = pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN;
    /* Questions stand in the log, and signatures speak for themselves: no token is needed. */
    if (pfx_failed(ready) && !hsm->force_due && open && lasts(hsm))
        return hsm->policy->approvals == PFX_APPROVALS_SSH
                   ? decide_for_restart(worker, task, &why, err)
                   : no_way_by_uid(ready, &why, err);
    if (pfx_failed(ready)) {
        *err = why;
        return ready;
    }
    if (!hsm->force_due) /* else it was approved, and what comes now failed */
        PFX_TRY(decide(worker, task, err));
    PFX_TRY(covered(hsm, err));
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(pfx_force_store(hsm, session, mac, pfx_buf_bytes(&hsm->force->policy_text),
                            pfx_buf_bytes(&hsm->force->roster_text), err));
    hsm->force_approved = true;
    pfx_task_say(task, "step", "the changed policy and roster are in force");
    pfx_task_say(task, "note", "Restart pfx-hsm: until then nothing is done with a key.");
    return PFX_OK;
}
