/*
 * Dangerous commands need two people, who sign with their SSH keys what pfx-hsm is going to do
 * (crypto/approval.h). A hostile pfx-agentd has no part in it: the question is asked, and each
 * signature taken, on the admin socket, and verified here against the roster of the policy.
 *
 * A command calls pfx_approvals_require before it changes anything. The first time it is refused,
 * and stands as a question in the state folder and the log; once enough people have approved it, and
 * the same user gives the same command with the same arguments again, it is done, and the approvals
 * stand in its intent. With that entry on disk they are spent: also when pfx-hsm dies right after
 * it, since the next one looks in the log for each question that it finds in the folder.
 */
#ifndef PFX_HSM_APPROVALS_H
#define PFX_HSM_APPROVALS_H

#include "crypto/approval.h"
#include "pkcs11/hsm/task.h"

struct pfx_approvals;
/* roster: the file's text. USAGE: it can't be read, or nothing could ever be approved: there are
 * fewer people than are needed beside any of those who may ask. */
PFX_MUST_USE pfx_result pfx_approvals_new(const struct pfx_hsm_policy *policy,
                                          struct pfx_bytes roster,
                                          struct pfx_approvals **ret_approvals,
                                          struct pfx_error *err);
void pfx_approvals_free(struct pfx_approvals *approvals);
/* The questions that an earlier process left, without those that the log says are spent. Once the
 * log is open. What can't be read is warned of, and asked again. */
void pfx_approvals_load(struct pfx_hsm *hsm);
size_t pfx_approvals_waiting(struct pfx_approvals *approvals); /* questions not expired */
/* What an operator should mend before it keeps people from approving, or lets one approve what he
 * asked for himself; false: nothing. */
bool pfx_approvals_worry(const struct pfx_approvals *approvals, int64_t now_ms, char *out,
                         size_t size);

struct pfx_approved {
    struct pfx_hsm *hsm;
    char nonce[65];        /* "" where nothing was approved: hsm-policy.yaml has no approvals */
    struct pfx_buf record; /* canonical array for PFX_F_APPROVALS; empty likewise */
    bool weak;             /* nobody signed: mode uid, or no approvals at all */
    int64_t expiry_ms;
};
/* Gives the approvals back, unless they were spent. Usable as cleanup; zeroed is fine. */
void pfx_approved_done(struct pfx_approved *approved);
/*
 * Have enough people approved exactly this? args: canonical JSON (pfx_canon) of one object that says
 * everything the command will do, in words that a person can check; at most PFX_APPROVAL_ARGS_MAX
 * bytes, the same ones each time (no time or counter that moves).
 *
 * OK: do it, with op.approved = ret (pfx_op_run spends it with the intent), or, without an
 * operation, with the record in the entry that is written before the work and pfx_approvals_spent
 * once that is on disk. REFUSED with code "approval": it is asked now, or waits; the error says what
 * to do, its object is the question's ID. REFUSED, too: the policy has no approvals (but those that
 * pfx_dangerous_command calls bare are OK then, and weak), or this user can't ask.
 */
PFX_MUST_USE pfx_result pfx_approvals_require(struct pfx_worker *worker, struct pfx_task *task,
                                              const char *command, struct pfx_bytes args,
                                              struct pfx_approved *ret, struct pfx_error *err);
/* Right before the entry that spends them: they may have waited for a token. REFUSED: too late. */
PFX_MUST_USE pfx_result pfx_approved_in_time(const struct pfx_approved *approved,
                                             struct pfx_error *err);
void pfx_approvals_spent(struct pfx_approved *approved);

#endif
