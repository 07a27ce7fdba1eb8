/* The operation log of the process: start, stop, operations. */
#include "pkcs11/hsm/hsmlog.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/account.h"
#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/recovery.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)
#define NOT_LOGGED UINT64_MAX /* an intent from before the log began */

static void fill_segment(void *ctx, struct pfx_draft *draft)
{
    struct pfx_hsmlog *log = ctx;
    pthread_mutex_lock(&log->inner_lock);
    pfx_journal_segment(pfx_buf_bytes(&log->pins), draft);
    pthread_mutex_unlock(&log->inner_lock);
}

static pfx_result open_writer(struct pfx_hsm *hsm, struct pfx_oplog **ret_writer,
                              struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = hsm->policy;
    gid_t readers;
    PFX_TRY(
        pfx_account_group("the policy", "access.auditors", policy->auditors_group, &readers, err));
    struct pfx_oplog_config config = {.dir = policy->log_dir,
                                      .readers = readers,
                                      .segment_entries = policy->log_segment_entries,
                                      .reserve = (uint64_t)policy->log_reserve_kib * 1024,
                                      .keep_ms = policy->log_keep_days * DAY_MS,
                                      .anchor_entries = policy->log_anchor_entries,
                                      .anchor_every_ms = policy->log_anchor_every_ms};
    return pfx_oplog_open(&config, ret_writer, err);
}

/* start, the results that an earlier process didn't write, and the policy, in this order. What
 * fails here closes the log, and that is told by its state. */
static pfx_result note_start(struct pfx_hsm *hsm, struct pfx_hsmlog *log, struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = hsm->force->tried ? hsm->force->old : hsm->policy;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    if (!log->start_noted) {
        pfx_oplog_facts(log->writer, facts);
        log->policy_due = facts->has_policy &&
                          memcmp(facts->policy_sha256, policy->sha256, sizeof policy->sha256) != 0;
        pfx_journal_start(policy, &log->software, draft);
        PFX_TRY(pfx_hsmlog_put(log, draft, PFX_ROOM_RESERVED, PFX_UNTIL_APPENDED, NULL, err));
        log->start_noted = true;
    }
    PFX_TRY(pfx_recovery_results(log, err));
    /* Before its text: from the start's entry on the log has its hash, and a next start would see
     * no difference. */
    if (log->policy_due) {
        pfx_journal_policy_changed(policy, draft);
        PFX_TRY(pfx_hsmlog_put(log, draft, PFX_ROOM_RESERVED, PFX_UNTIL_SYNCED, NULL, err));
        log->policy_due = false;
        pfx_log(PFX_LOG_WARN, "the policy was changed since the last start");
    }
    return pfx_oplog_policy(log->writer, policy->sha256, pfx_buf_bytes(&policy->text), err);
}

/* Nothing is done with a key by a process of which the log knows nothing. */
static void note_start_or_wait(struct pfx_hsm *hsm, struct pfx_hsmlog *log)
{
    struct pfx_error why = PFX_ERROR_NONE;
    log->start_due = pfx_failed(note_start(hsm, log, &why));
    if (log->start_due)
        pfx_log_error(&why, "the start can't be noted in the operation log");
}

void pfx_hsmlog_start_again(struct pfx_hsm *hsm)
{
    if (hsm->log->start_due && pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN)
        note_start_or_wait(hsm, hsm->log);
}

pfx_result pfx_hsmlog_new(struct pfx_hsm *hsm, struct pfx_hsmlog **ret_log, struct pfx_error *err)
{
    struct pfx_oplog *writer = NULL;
    PFX_TRY(open_writer(hsm, &writer, err));
    struct pfx_hsmlog *log = pfx_alloc(sizeof *log);
    log->writer = writer;
    log->recovery = pfx_recovery_new();
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->inner_lock, NULL);
    pthread_mutex_init(&log->agentd_lock, NULL);
    log->pins = pfx_buf_make(PFX_PINS_TEXT_MAX);
    log->clock_ms = pfx_now_ms() - pfx_uptime_ms();
    pfx_journal_software_read(hsm->policy, &log->software);
    pfx_oplog_on_segment(writer, fill_segment, log);
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    pfx_oplog_facts(writer, facts);
    atomic_init(&log->pins_serial, facts->pins_serial);
    struct pfx_error why = PFX_ERROR_NONE;
    enum pfx_oplog_state state = pfx_oplog_state(writer, &why);
    pfx_force_logged(hsm, facts);
    log->quiet = state != PFX_OPLOG_OPEN;
    if (state == PFX_OPLOG_OPEN) {
        note_start_or_wait(hsm, log);
    } else if (state != PFX_OPLOG_NONE) {
        pfx_log_error(&why, "the operation log can't be used: nothing is done with a key");
    }
    pfx_hsmlog_trace(log);
    *ret_log = log;
    return PFX_OK;
}

void pfx_hsmlog_stop(struct pfx_hsm *hsm)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_error why = PFX_ERROR_NONE;
    if (!log)
        return;
    pfx_hsmlog_trace(NULL);
    pfx_hsmlog_flush(log);
    if (pfx_hsmlog_state(log) == PFX_OPLOG_OPEN) {
        struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
        pfx_journal_stop(draft);
        if (pfx_failed(pfx_hsmlog_put(log, draft, PFX_ROOM_RESERVED, PFX_UNTIL_SYNCED, NULL, &why)))
            pfx_log_error(&why, "the stop can't be noted in the operation log");
        if (log->signer)
            pfx_hsmlog_settle(hsm);
    }
    pfx_hsmlog_detach(hsm);
}

void pfx_hsmlog_free(struct pfx_hsmlog *log)
{
    if (!log)
        return;
    pfx_oplog_free(log->writer);
    pfx_recovery_free(log->recovery);
    pfx_journal_software_done(&log->software);
    for (size_t i = 0; i < log->n_early; i++)
        free(log->early[i]);
    for (size_t i = 0; i < log->n_late; i++)
        free(log->late[i]);
    pfx_buf_done(&log->pins);
    pthread_mutex_destroy(&log->agentd_lock);
    pthread_mutex_destroy(&log->inner_lock);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

pfx_result pfx_hsmlog_unusable(const struct pfx_hsm *hsm, const struct pfx_error *why,
                               struct pfx_error *err)
{
    /* A log that was closed names what failed below its folder; one that is refused, its origin. */
    bool inside = pfx_hsmlog_state(hsm->log) == PFX_OPLOG_CLOSED && why->object[0] != '/';
    char *object PFX_AUTOFREE =
        inside ? pfx_asprintf("%s/%s", hsm->policy->log_dir, why->object) : pfx_strdup(why->object);
    return pfx_fail(err, why->cls, why->op, object, why->code, "%s", why->text);
}

/* --- operations --- */

static bool throwaway(const struct pfx_op *op)
{
    return op->event == PFX_EVENT_PROBE;
}

pfx_result pfx_hsmlog_takes(struct pfx_hsm *hsm, const struct pfx_op *op, struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_error why = PFX_ERROR_NONE;
    if (log->starting && (op->early || throwaway(op)))
        return PFX_OK;
    switch (pfx_oplog_state(log->writer, &why)) {
    case PFX_OPLOG_NONE:
        if (throwaway(op))
            return PFX_OK;
        return pfx_fail(err, PFX_CLASS_TRANSIENT, pfx_event_name(op->event), "operation log", "",
                        "It hasn't begun, and nothing is done with a key without it: run pfx-agent "
                        "init.");
    case PFX_OPLOG_OPEN:
        break;
    case PFX_OPLOG_REFUSED:
    case PFX_OPLOG_CLOSED:
        return pfx_hsmlog_unusable(hsm, &why, err);
    }
    if (log->start_due)
        return pfx_fail(
            err, PFX_CLASS_TRANSIENT, pfx_event_name(op->event), "operation log", "",
            "It couldn't take the entries of this start yet, and nothing is done with a "
            "key before them: is the disk full? It is tried again by itself.");
    /* A probe's throwaway keys leave nothing behind: its entries wait for their checkpoint. */
    if (throwaway(op))
        return PFX_OK;
    PFX_TRY(pfx_force_holds(hsm, err));
    if (!log->signer || !pfx_oplog_attached(log->writer))
        return pfx_fail(err, PFX_CLASS_TRANSIENT, pfx_event_name(op->event), "operation log", "",
                        "Nobody signs its checkpoints, since the role log isn't ready: pfx-agent "
                        "status says why. Nothing could be released.");
    if (pfx_log_signer_lost(log->signer, &why)) {
        char line[480];
        return pfx_fail(err, PFX_CLASS_TRANSIENT, pfx_event_name(op->event), "operation log",
                        why.code,
                        "Its last checkpoint couldn't be signed, so nothing could be "
                        "released; the role log is opened anew. %s",
                        pfx_error_line(&why, line, sizeof line));
    }
    return PFX_OK;
}

pfx_result pfx_hsmlog_intent(struct pfx_hsm *hsm, struct pfx_op *op, struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    pfx_ulid(pfx_now_ms(), op->ulid);
    op->intent = NOT_LOGGED;
    if (op->early || (log->starting && throwaway(op)) || pfx_hsmlog_state(log) == PFX_OPLOG_NONE)
        return PFX_OK; /* pfx_hsmlog_takes let it through */
    if (op->approved)
        PFX_TRY(pfx_approved_in_time(op->approved, err));
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    pfx_journal_intent(op, draft);
    PFX_TRY(pfx_hsmlog_put(log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &op->intent, err));
    if (op->approved)
        pfx_approvals_spent(op->approved);
    return PFX_OK;
}

/* What was done stays done; whoever asked gets nothing of it, and asks again. */
static pfx_result withhold(struct pfx_hsmlog *log, const struct pfx_op *op, uint64_t seq,
                           pfx_result covering, struct pfx_error *why)
{
    struct pfx_error cause = *why;
    enum pfx_class cls = covering.cls == PFX_CLASS_DEVICE || covering.cls == PFX_CLASS_INTEGRITY
                             ? covering.cls
                             : PFX_CLASS_TRANSIENT;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (seq != NOT_LOGGED) {
        pfx_journal_withheld(op, seq, &cause, draft);
        pfx_result noted =
            pfx_hsmlog_put(log, draft, PFX_ROOM_RESERVED, PFX_UNTIL_APPENDED, NULL, &ignored);
        (void)noted;
    }
    char line[400];
    *why = PFX_ERROR_NONE;
    return pfx_fail(why, cls, "release", pfx_event_name(op->event), cause.code,
                    "It was done, but no signed checkpoint of the operation log covers it, so the "
                    "result is kept back. %s",
                    pfx_error_line(&cause, line, sizeof line));
}

pfx_result pfx_hsmlog_result(struct pfx_hsm *hsm, const struct pfx_op *op, pfx_result outcome,
                             struct pfx_error *why)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    if (op->intent == NOT_LOGGED) {
        pfx_journal_before(op, outcome, why, draft);
        pfx_hsmlog_early(log, PFX_TAKE(draft));
        return outcome;
    }
    bool releases = pfx_ok(outcome) && !throwaway(op);
    uint64_t seq = NOT_LOGGED;
    struct pfx_error trouble = PFX_ERROR_NONE;
    pfx_journal_result(op, outcome, why, draft);
    pfx_result put =
        pfx_hsmlog_put(log, draft, PFX_ROOM_PROMISED,
                       releases ? PFX_UNTIL_COVERED : PFX_UNTIL_SYNCED, &seq, &trouble);
    if (pfx_ok(put))
        return outcome;
    pfx_log_error(&trouble, "operation log: the result of %s (entry %" PRIu64 ")",
                  pfx_event_name(op->event), op->intent);
    if (pfx_failed(outcome))
        return outcome;
    *why = trouble;
    return withhold(log, op, seq, put, why);
}
