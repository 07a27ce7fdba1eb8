/* Questions asked, and approvals required. */
#include "pkcs11/hsm/approvals.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/approvals_impl.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/journal_form.h"
#include "pkcs11/hsm/recovery.h"

#define PEOPLE_TEXT 280 /* of their names in a message */

void pfx_question_free(struct pfx_question *question)
{
    if (question)
        pfx_approval_done(&question->approval);
    free(question);
}

void pfx_approvals_free(struct pfx_approvals *approvals)
{
    if (!approvals)
        return;
    for (size_t i = 0; i < approvals->n; i++)
        pfx_question_free(approvals->list[i]);
    pfx_roster_done(&approvals->roster);
    pthread_mutex_destroy(&approvals->lock);
    free(approvals);
}

size_t pfx_approvals_waiting(struct pfx_approvals *approvals)
{
    size_t n = 0;
    int64_t now = pfx_now_ms();
    pthread_mutex_lock(&approvals->lock);
    for (size_t i = 0; i < approvals->n; i++)
        n += now <= approvals->list[i]->approval.statement.expiry_ms;
    pthread_mutex_unlock(&approvals->lock);
    return n;
}

struct pfx_question *pfx_question_find(struct pfx_approvals *approvals, const char *id)
{
    for (size_t i = 0; i < approvals->n; i++)
        if (strcmp(approvals->list[i]->id, id) == 0)
            return approvals->list[i];
    return NULL;
}

void pfx_question_drop(struct pfx_approvals *approvals, struct pfx_question *question)
{
    for (size_t i = 0; i < approvals->n; i++) {
        if (approvals->list[i] != question)
            continue;
        approvals->n--;
        memmove(approvals->list + i, approvals->list + i + 1,
                (approvals->n - i) * sizeof *approvals->list);
        pfx_question_free(question);
        return;
    }
}

bool pfx_question_array(const struct pfx_approval *approval, struct pfx_buf *out)
{
    return pfx_buf_add_str(out, "[") && pfx_approval_write(approval, out) &&
           pfx_buf_add_str(out, "]");
}

/* --- asking --- */

/* Who the user is that asks. Without that nobody could be kept from approving what he asked for. */
static pfx_result person_of(const struct pfx_hsm_policy *policy, const struct pfx_actor *actor,
                            char ret[PFX_PRINCIPAL_SIZE], struct pfx_error *err)
{
    if (policy->approvals == PFX_APPROVALS_UID) {
        snprintf(ret, PFX_PRINCIPAL_SIZE, "uid:%" PRId64, actor->uid);
        return PFX_OK;
    }
    for (size_t i = 0; i < policy->n_people; i++) {
        if (policy->people[i].uid != actor->uid)
            continue;
        snprintf(ret, PFX_PRINCIPAL_SIZE, "%s", policy->people[i].principal);
        return PFX_OK;
    }
    return pfx_fail(err, PFX_CLASS_REFUSED, "ask for approvals", "approvals.uids", "nobody",
                    "Who asks can't approve, and nobody knows which person uid %" PRId64 " is: give "
                    "the command as yourself, not by sudo, or add the uid to approvals.uids of the "
                    "policy.",
                    actor->uid);
}

static void origin_of(const struct pfx_hsm *hsm, char ret[PFX_ORIGIN_SIZE])
{
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    pfx_oplog_facts(hsm->log->writer, facts);
    if (facts->origin[0])
        snprintf(ret, PFX_ORIGIN_SIZE, "%s", facts->origin);
    else /* it can't even be read: log.reopen */
        pfx_hsmlog_origin(hsm->policy, 1, ret);
}

/* In the log, or, while that takes nothing, among what its successor begins with. */
static pfx_result note_ask(struct pfx_hsm *hsm, const struct pfx_actor *actor,
                           struct pfx_question *question, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf array = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    if (!pfx_question_array(&question->approval, &array))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "ask for approvals", question->id, "",
                        "The question is too long for the operation log.");
    pfx_draft_init(draft, PFX_SRC_HSM, "approval.ask", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_journal_actor(actor, draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, question->approval.statement.command);
    pfx_draft_raw(draft, PFX_F_APPROVALS, pfx_buf_bytes(&array));
    if (question->approval.by_uid)
        pfx_draft_bool(draft, PFX_F_WEAK, true);
    question->seq = PFX_NOT_LOGGED;
    if (pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN)
        return pfx_hsmlog_put(hsm->log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &question->seq,
                              err);
    pfx_hsmlog_early(hsm->log, PFX_TAKE(draft));
    return PFX_OK;
}

/* Nobody fills it alone: a key may have to be called compromised meanwhile. */
static pfx_result make_room(struct pfx_approvals *approvals, int64_t uid, struct pfx_error *err)
{
    int64_t now = pfx_now_ms();
    size_t own = 0;
    for (size_t i = approvals->n; i-- > 0;) {
        struct pfx_question *question = approvals->list[i];
        own += question->approval.uid == uid;
        if (question->taken || now <= question->approval.statement.expiry_ms)
            continue;
        own -= question->approval.uid == uid;
        pfx_question_drop(approvals, question);
    }
    if (own >= PFX_QUESTIONS_OF_ONE)
        return pfx_fail(err, PFX_CLASS_REFUSED, "ask for approvals", "", "many",
                        "%d commands that you gave wait for approvals already: pfx-agent approve "
                        "lists them. They go when they are done, or at their expiry.",
                        PFX_QUESTIONS_OF_ONE);
    if (approvals->n < PFX_QUESTIONS_MOST)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "ask for approvals", "", "many",
                    "%d commands wait for approvals already: pfx-agent approve lists them. They go "
                    "when they are done, or at their expiry.",
                    PFX_QUESTIONS_MOST);
}

static pfx_result ask(struct pfx_hsm *hsm, const struct pfx_actor *actor,
                      const struct pfx_statement *like, struct pfx_bytes args, const char *asker,
                      struct pfx_question **ret_question, struct pfx_error *err)
{
    struct pfx_approvals *approvals = hsm->approvals;
    const struct pfx_hsm_policy *policy = hsm->policy;
    PFX_TRY(make_room(approvals, actor->uid, err));
    struct pfx_question *question = pfx_alloc(sizeof *question);
    struct pfx_approval *approval = &question->approval;
    uint8_t nonce[32];
    pfx_approval_init(approval);
    approval->by_uid = policy->approvals == PFX_APPROVALS_UID;
    approval->needed = policy->approvers;
    approval->uid = actor->uid;
    snprintf(approval->asker, sizeof approval->asker, "%s", asker);
    approval->statement = *like;
    approval->statement.expiry_ms = pfx_now_ms() + policy->approvals_valid_ms;
    do {
        if (RAND_bytes(nonce, sizeof nonce) != 1)
            pfx_die("no randomness");
        pfx_hex(nonce, sizeof nonce, approval->statement.nonce);
        snprintf(question->id, sizeof question->id, "%.8s", approval->statement.nonce);
    } while (pfx_question_find(approvals, question->id));
    pfx_result result = pfx_buf_add(&approval->args, args.data, args.len)
                            ? note_ask(hsm, actor, question, err)
                            : pfx_fail(err, PFX_CLASS_INTERNAL, "ask for approvals", "", "", "args");
    if (pfx_ok(result)) {
        approvals->list[approvals->n++] = question;
        result = pfx_questions_store(hsm, err);
        if (pfx_failed(result))
            approvals->n--;
    }
    if (pfx_failed(result)) {
        pfx_question_free(question);
        return result;
    }
    pfx_log(PFX_LOG_INFO, "approvals are needed for %s: question %s", like->command, question->id);
    *ret_question = question;
    return PFX_OK;
}

/* --- requiring --- */

static struct pfx_question *matching(struct pfx_approvals *approvals,
                                     const struct pfx_statement *like, int64_t uid)
{
    int64_t now = pfx_now_ms();
    for (size_t i = 0; i < approvals->n; i++) {
        struct pfx_question *question = approvals->list[i];
        const struct pfx_statement *statement = &question->approval.statement;
        if (!question->taken && question->approval.uid == uid && now <= statement->expiry_ms &&
            strcmp(statement->command, like->command) == 0 &&
            strcmp(statement->args_hash, like->args_hash) == 0 &&
            strcmp(statement->origin, like->origin) == 0)
            return question;
    }
    return NULL;
}

/* Those who may still: "ann, bob, ...". */
static void people_text(const struct pfx_approvals *approvals, const struct pfx_approval *approval,
                        struct pfx_buf *out)
{
    for (size_t i = 0; i < approvals->roster.n; i++) {
        const char *name = approvals->roster.lines[i].principal;
        bool out_of = strcasecmp(name, approval->asker) == 0;
        for (size_t j = 0; j < i; j++)
            out_of = out_of || strcmp(approvals->roster.lines[j].principal, name) == 0;
        for (size_t j = 0; j < approval->n_given; j++)
            out_of = out_of || strcmp(approval->given[j].principal, name) == 0;
        if (out_of)
            continue;
        if (out->len + strlen(name) + 8 > PEOPLE_TEXT) {
            pfx_buf_add_str(out, ", ...");
            return;
        }
        pfx_buf_addf(out, "%s%s", out->len ? ", " : "", name);
    }
}

static pfx_result waits(const struct pfx_hsm *hsm, const struct pfx_question *question,
                        struct pfx_error *err)
{
    const struct pfx_approvals *approvals = hsm->approvals;
    const struct pfx_approval *approval = &question->approval;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf people = pfx_buf_make(2 * PEOPLE_TEXT);
    char until[PFX_TIME_SIZE], before[160] = "";
    uint64_t seq;
    if (pfx_recovery_spent(hsm->log->recovery, approval->statement.args_hash, &seq))
        snprintf(before, sizeof before,
                 " (The approvals in entry %" PRIu64 " of the operation log are spent: pfx-hsm "
                 "ended in the middle of that command.)",
                 seq);
    people_text(approvals, approval, &people);
    return pfx_fail(err, PFX_CLASS_REFUSED, approval->statement.command, question->id, "approval",
                    "%zu of %u people have approved it. Ask %zu of %s%s to run: pfx-agent approve "
                    "%s, until %s. Then give the same command again.%s",
                    approval->n_given, approval->needed, approval->needed - approval->n_given,
                    approval->by_uid ? "the other administrators of this host (mode uid)" : "",
                    pfx_buf_str(&people), question->id,
                    pfx_time_format(approval->statement.expiry_ms, false, until), before);
}

static pfx_result take(struct pfx_hsm *hsm, struct pfx_question *question, struct pfx_approved *ret,
                       struct pfx_error *err)
{
    struct pfx_buf record PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    /* Each was checked when it came; what counts is checked as a whole, as pfx-audit will. */
    PFX_TRY(pfx_approval_check(&question->approval, pfx_now_ms(), err));
    if (!pfx_question_array(&question->approval, &record))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "spend approvals", question->id, "",
                        "The record is too long for the operation log.");
    question->taken = true;
    *ret = (struct pfx_approved){.hsm = hsm,
                                 .record = record,
                                 .weak = question->approval.by_uid,
                                 .expiry_ms = question->approval.statement.expiry_ms};
    snprintf(ret->nonce, sizeof ret->nonce, "%s", question->approval.statement.nonce);
    record = pfx_buf_make(0);
    return PFX_OK;
}

static pfx_result none(struct pfx_hsm *hsm, const char *command, struct pfx_approved *ret,
                       struct pfx_error *err)
{
    if (pfx_dangerous_command(command)->bare) {
        *ret = (struct pfx_approved){.hsm = hsm, .record = pfx_buf_make(0), .weak = true};
        return PFX_OK;
    }
    return pfx_fail(err, PFX_CLASS_REFUSED, command, "approvals", "no approvals",
                    "This needs the approval of two people, and hsm-policy.yaml doesn't say who they "
                    "are. Write its section approvals (pfx-agent config example hsm-policy "
                    "shows it) with a roster of their SSH keys, and restart pfx-hsm.");
}

pfx_result pfx_approvals_require(struct pfx_worker *worker, struct pfx_task *task,
                                 const char *command, struct pfx_bytes args,
                                 struct pfx_approved *ret, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_approvals *approvals = hsm->approvals;
    struct pfx_statement like = {.expiry_ms = 0};
    struct pfx_question *question;
    char asker[PFX_PRINCIPAL_SIZE];
    PFX_TRY(pfx_approval_args(args, like.args_hash, err));
    if (!pfx_dangerous_command(command)) /* pfx-audit wouldn't miss what isn't in that table */
        return pfx_fail(err, PFX_CLASS_INTERNAL, command, "approvals", "",
                        "No approvals are known for this command.");
    if (hsm->force->tried) /* nobody is asked under a roster that isn't in force */
        return pfx_force_holds(hsm, err);
    if (hsm->policy->approvals == PFX_APPROVALS_NONE)
        return none(hsm, command, ret, err);
    PFX_TRY(person_of(hsm->policy, &task->actor, asker, err));
    snprintf(like.command, sizeof like.command, "%s", command);
    origin_of(hsm, like.origin);
    pthread_mutex_lock(&approvals->lock);
    pfx_result result = PFX_OK;
    question = matching(approvals, &like, task->actor.uid);
    if (!question) {
        result = ask(hsm, &task->actor, &like, args, asker, &question, err);
        worker->began = worker->began || pfx_ok(result); /* its entry says what was refused */
    }
    if (pfx_ok(result))
        result = question->approval.n_given >= question->approval.needed
                     ? take(hsm, question, ret, err)
                     : waits(hsm, question, err);
    pthread_mutex_unlock(&approvals->lock);
    return result;
}

static struct pfx_question *by_nonce(struct pfx_approvals *approvals, const char *nonce)
{
    for (size_t i = 0; nonce[0] && i < approvals->n; i++)
        if (strcmp(approvals->list[i]->approval.statement.nonce, nonce) == 0)
            return approvals->list[i];
    return NULL;
}

pfx_result pfx_approved_in_time(const struct pfx_approved *approved, struct pfx_error *err)
{
    if (!approved->nonce[0] || pfx_now_ms() <= approved->expiry_ms)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "spend approvals", "", "expired",
                    "Their time ended before the command could begin: give it again, and have it "
                    "approved anew.");
}

void pfx_approvals_spent(struct pfx_approved *approved)
{
    if (!approved->nonce[0])
        return;
    struct pfx_approvals *approvals = approved->hsm->approvals;
    struct pfx_error why = PFX_ERROR_NONE;
    pthread_mutex_lock(&approvals->lock);
    struct pfx_question *question = by_nonce(approvals, approved->nonce);
    if (question)
        pfx_question_drop(approvals, question);
    /* Not written: the entry says it as well, and the next start reads that. */
    if (pfx_failed(pfx_questions_store(approved->hsm, &why)))
        pfx_log_error(&why, "the questions for approvals couldn't be stored");
    pthread_mutex_unlock(&approvals->lock);
    approved->nonce[0] = '\0';
}

void pfx_approved_done(struct pfx_approved *approved)
{
    if (approved->nonce[0]) {
        struct pfx_approvals *approvals = approved->hsm->approvals;
        pthread_mutex_lock(&approvals->lock);
        struct pfx_question *question = by_nonce(approvals, approved->nonce);
        if (question)
            question->taken = false;
        pthread_mutex_unlock(&approvals->lock);
    }
    pfx_buf_done(&approved->record);
    approved->nonce[0] = '\0';
}
