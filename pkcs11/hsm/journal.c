/* Entries of operations, and what they have in common with all others. */
#include "pkcs11/hsm/journal.h"

#include <string.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/journal_form.h"

void pfx_journal_actor(const struct pfx_actor *actor, struct pfx_draft *draft)
{
    pfx_draft_str(draft, PFX_F_ACTOR_ROLE, pfx_actor_name(actor->role));
    if (actor->role == PFX_ACTOR_SELF)
        return;
    /* pfx-agentd's side of the line is known by its owner alone. */
    if (actor->pid > 0)
        pfx_draft_int(draft, PFX_F_ACTOR_PID, actor->pid);
    pfx_draft_int(draft, PFX_F_ACTOR_UID, actor->uid);
}

void pfx_journal_own(const char *event, enum pfx_outcome outcome, struct pfx_draft *draft)
{
    static const struct pfx_actor self = {PFX_ACTOR_SELF, 0, 0};
    pfx_draft_init(draft, PFX_SRC_HSM, event, PFX_PHASE_NOTE, outcome);
    pfx_journal_actor(&self, draft);
}

void pfx_journal_fail(const struct pfx_error *why, struct pfx_draft *draft)
{
    if (!why || why->cls == PFX_CLASS_OK)
        return;
    if (why->op[0])
        pfx_draft_str(draft, PFX_F_FAIL_OP, why->op);
    if (why->code[0])
        pfx_draft_str(draft, PFX_F_FAIL_CODE, why->code);
}

void pfx_journal_token(const struct pfx_token_facts *facts, struct pfx_draft *draft)
{
    pfx_draft_str(draft, PFX_F_TOKEN_LABEL, facts->label);
    pfx_draft_str(draft, PFX_F_TOKEN_SERIAL, facts->serial);
}

static void key(const struct pfx_op *op, struct pfx_draft *draft)
{
    if (op->key.foreign_len > 0)
        pfx_draft_hex(draft, PFX_F_KEY_ID, op->key.foreign_id, op->key.foreign_len);
    else if (op->key.has_id)
        pfx_draft_hex(draft, PFX_F_KEY_ID, op->key.id.bytes, sizeof op->key.id.bytes);
    if (op->key.has_spki)
        pfx_draft_hex(draft, PFX_F_KEY_SPKI, op->key.spki, sizeof op->key.spki);
    if (op->key.algorithm[0])
        pfx_draft_str(draft, PFX_F_KEY_ALG, op->key.algorithm);
}

static void target(const struct pfx_op *op, struct pfx_draft *draft)
{
    if (op->target.enrolment > 0)
        pfx_draft_int(draft, PFX_F_TARGET_ENROLMENT, op->target.enrolment);
    if (op->target.attempt > 0)
        pfx_draft_int(draft, PFX_F_TARGET_ATTEMPT, op->target.attempt);
    if (op->target.has_user)
        pfx_draft_hex(draft, PFX_F_TARGET_USER, op->target.user, sizeof op->target.user);
    if (op->target.name[0])
        pfx_draft_str(draft, PFX_F_TARGET_NAME, op->target.name);
}

static void given(const struct pfx_op *op, struct pfx_draft *draft)
{
    if (op->given.has_ticket)
        pfx_draft_hex(draft, PFX_F_TICKET, op->given.ticket, sizeof op->given.ticket);
    if (op->given.has_certificate)
        pfx_draft_hex(draft, PFX_F_CERT_SHA256, op->given.certificate,
                      sizeof op->given.certificate);
}

/* A pin record is what is written there, known before the work; a seal comes of the work. */
static void pin(const struct pfx_op *op, struct pfx_draft *draft)
{
    pfx_draft_int(draft, PFX_F_PIN_GENERATION, op->out.generation);
    if (op->out.pin_serial > 0)
        pfx_draft_int(draft, PFX_F_PIN_SERIAL, op->out.pin_serial);
    if (op->out.has_pinned)
        pfx_draft_hex(draft, PFX_F_PIN_SPKI, op->out.pinned, sizeof op->out.pinned);
    if (op->out.pin_state)
        pfx_draft_str(draft, PFX_F_PIN_STATE, op->out.pin_state);
}

static void seal(const struct pfx_op *op, struct pfx_draft *draft)
{
    if (!op->out.has_sealed)
        return;
    pfx_draft_int(draft, PFX_F_SEAL_GENERATION, op->out.generation);
    pfx_draft_str(draft, PFX_F_SEAL_BY, op->out.sealed_by);
    pfx_draft_str(draft, PFX_F_SEAL_HASH, op->out.seal_hash);
    pfx_draft_hex(draft, PFX_F_SEAL_SHA256, op->out.sealed, sizeof op->out.sealed);
    if (op->out.has_pinned)
        pfx_draft_hex(draft, PFX_F_SEAL_SPKI, op->out.pinned, sizeof op->out.pinned);
}

static void common(const struct pfx_op *op, struct pfx_draft *draft)
{
    pfx_journal_actor(&op->actor, draft);
    pfx_draft_str(draft, PFX_F_OP, op->ulid);
    key(op, draft);
    target(op, draft);
    if (pfx_event_pins(op->event))
        pin(op, draft);
    if (op->out.standing_state)
        pfx_draft_str(draft, PFX_F_STANDING_STATE, op->out.standing_state);
    if (op->said.has_records)
        pfx_draft_int(draft, PFX_F_COUNT, op->said.records);
    if (op->said.reason[0])
        pfx_draft_str(draft, PFX_F_REASON, op->said.reason);
}

static void outcome_of(const struct pfx_op *op, pfx_result outcome, const struct pfx_error *why,
                       struct pfx_draft *draft)
{
    if (op->out.token_label[0])
        pfx_draft_str(draft, PFX_F_TOKEN_LABEL, op->out.token_label);
    if (op->out.token_serial[0])
        pfx_draft_str(draft, PFX_F_TOKEN_SERIAL, op->out.token_serial);
    /* What the work found out before it failed tells where it failed; what it made didn't leave. */
    if (pfx_failed(outcome)) {
        pfx_journal_fail(why, draft);
        if (strncmp(why->code, "CKR_", 4) == 0)
            pfx_draft_str(draft, PFX_F_RV, why->code);
        return;
    }
    pfx_draft_str(draft, PFX_F_RV, "CKR_OK");
    if (op->event != PFX_EVENT_PFX_BUILD) /* there it is the intent that says what was brought */
        given(op, draft);
    if (op->out.found)
        pfx_draft_str(draft, PFX_F_FOUND, op->out.found);
    if (op->out.standing_serial > 0)
        pfx_draft_int(draft, PFX_F_STANDING_SERIAL, op->out.standing_serial);
    if (op->out.tier)
        pfx_draft_str(draft, PFX_F_TIER, op->out.tier);
    if (op->out.has_sha256)
        pfx_draft_hex(draft, PFX_F_OUT_SHA256, op->out.sha256, sizeof op->out.sha256);
    seal(op, draft);
}

void pfx_journal_intent(const struct pfx_op *op, struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, pfx_event_name(op->event), PFX_PHASE_INTENT,
                   PFX_OUTCOME_PENDING);
    common(op, draft);
    if (op->event == PFX_EVENT_PFX_BUILD)
        given(op, draft);
    if (op->approved && op->approved->record.len > 0)
        pfx_draft_raw(draft, PFX_F_APPROVALS, pfx_buf_bytes(&op->approved->record));
    if (op->approved && op->approved->weak)
        pfx_draft_bool(draft, PFX_F_WEAK, true);
}

void pfx_journal_result(const struct pfx_op *op, pfx_result outcome, const struct pfx_error *why,
                        struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, pfx_event_name(op->event), PFX_PHASE_RESULT,
                   pfx_outcome_of(outcome.cls));
    common(op, draft);
    pfx_draft_int(draft, PFX_F_REF, (int64_t)op->intent);
    outcome_of(op, outcome, why, draft);
}

void pfx_journal_before(const struct pfx_op *op, pfx_result outcome, const struct pfx_error *why,
                        struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, pfx_event_name(op->event), PFX_PHASE_NOTE,
                   pfx_outcome_of(outcome.cls));
    common(op, draft);
    pfx_draft_bool(draft, PFX_F_BEFORE, true);
    outcome_of(op, outcome, why, draft);
}

void pfx_journal_withheld(const struct pfx_op *op, uint64_t result, const struct pfx_error *why,
                          struct pfx_draft *draft)
{
    pfx_journal_own("release.withheld", pfx_outcome_of(why->cls), draft);
    pfx_draft_str(draft, PFX_F_OP, op->ulid);
    pfx_draft_int(draft, PFX_F_REF, (int64_t)result);
    pfx_journal_fail(why, draft);
}

void pfx_journal_refused(const struct pfx_actor *actor, const char *name, pfx_result outcome,
                         const struct pfx_error *why, struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, "request.refused", PFX_PHASE_NOTE,
                   pfx_outcome_of(outcome.cls));
    pfx_journal_actor(actor, draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, name);
    pfx_journal_fail(why, draft);
}

void pfx_journal_record(const struct pfx_actor *actor, const char *name, const uint8_t sha256[32],
                        struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, "ceremony.record", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_journal_actor(actor, draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, name);
    pfx_draft_hex(draft, PFX_F_OUT_SHA256, sha256, 32);
}

void pfx_journal_open_read(uint64_t seq, const struct pfx_entry *intent,
                           struct pfx_journal_open *ret_open)
{
    struct pfx_bytes event = pfx_entry_text(intent, PFX_F_EVENT);
    struct pfx_bytes op = pfx_entry_text(intent, PFX_F_OP);
    struct pfx_bytes id = pfx_entry_text(intent, PFX_F_KEY_ID);
    struct pfx_bytes algorithm = pfx_entry_text(intent, PFX_F_KEY_ALG);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(PFX_KEY_ID_SIZE);
    *ret_open = (struct pfx_journal_open){.seq = seq};
    /* A name that is longer than any of ours isn't of an intent of ours. */
    if (event.len > 0 && event.len < sizeof ret_open->event)
        memcpy(ret_open->event, event.data, event.len);
    if (op.len > 0 && op.len < sizeof ret_open->op)
        memcpy(ret_open->op, op.data, op.len);
    if (algorithm.len > 0 && algorithm.len < sizeof ret_open->algorithm)
        memcpy(ret_open->algorithm, algorithm.data, algorithm.len);
    ret_open->has_id = id.len == 2 * PFX_KEY_ID_SIZE &&
                       pfx_unhex((const char *)id.data, id.len, &bytes) &&
                       bytes.len == PFX_KEY_ID_SIZE;
    if (ret_open->has_id)
        memcpy(ret_open->id.bytes, bytes.data, PFX_KEY_ID_SIZE);
    ret_open->makes_key =
        ret_open->has_id && strcmp(ret_open->event, pfx_event_name(PFX_EVENT_KEY_MAKE)) == 0;
}

static void open_common(const struct pfx_journal_open *open, struct pfx_draft *draft)
{
    pfx_draft_int(draft, PFX_F_REF, (int64_t)open->seq);
    if (open->op[0])
        pfx_draft_str(draft, PFX_F_OP, open->op);
    if (open->has_id)
        pfx_draft_hex(draft, PFX_F_KEY_ID, open->id.bytes, sizeof open->id.bytes);
    if (open->algorithm[0])
        pfx_draft_str(draft, PFX_F_KEY_ALG, open->algorithm);
}

void pfx_journal_unknown(const struct pfx_journal_open *open, struct pfx_draft *draft)
{
    static const struct pfx_actor self = {PFX_ACTOR_SELF, 0, 0};
    pfx_draft_init(draft, PFX_SRC_HSM, open->event[0] ? open->event : "unknown", PFX_PHASE_RESULT,
                   PFX_OUTCOME_UNKNOWN);
    pfx_journal_actor(&self, draft);
    open_common(open, draft);
}

void pfx_journal_key_recovered(const struct pfx_journal_open *open, const char *found,
                               struct pfx_draft *draft)
{
    pfx_journal_own("key.recovered", PFX_OUTCOME_OK, draft);
    open_common(open, draft);
    pfx_draft_str(draft, PFX_F_FOUND, found);
}
