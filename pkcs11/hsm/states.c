/* The moves of a generation that touch no token of its own (activate, retire, compromise), and what
 * there is to say about each. */
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/due.h"
#include "pkcs11/hsm/generation.h"

/* What pfx-agentd said of this generation, by way of the command line. */
static void needs_read(const struct pfx_msg *said, struct pfx_key_needs *needs)
{
    if (!said || !pfx_msg_has(said, "records"))
        return;
    needs->records_known = true;
    needs->records = pfx_msg_int(said, "records");
    needs->last_expiry_ms = pfx_msg_int(said, "last_expiry");
}

pfx_result pfx_change_move(struct pfx_change *change, enum pfx_key_move move, struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = change->worker->hsm->policy;
    const struct pfx_msg *args = change->task->args;
    const char *missing[PFX_PIN_CONNECTORS_MOST];
    struct pfx_key_needs needs = {.missing = missing};
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    unsigned number = (unsigned)pfx_msg_int(args, "generation");
    pfx_change_of(change, number);
    const struct pfx_pinned *pin = pfx_change_pin(change);
    if (pin)
        needs.n_missing = pfx_connectors_missing(policy, pin, missing);
    if (move == PFX_MOVE_RETIRE || move == PFX_MOVE_DESTROY) {
        const struct pfx_msg *said = pfx_msg_obj(args, "needs");
        if (said && pfx_msg_int(said, "generation") != (int64_t)number)
            return pfx_fail(err, PFX_CLASS_USAGE, pfx_event_name(change->event), "needs", "",
                            "What is said of records is said of another generation.");
        needs_read(said, &needs);
        change->op.said.has_records = needs.records_known;
        change->op.said.records = needs.records;
    }
    PFX_TRY(pfx_change_ask(change, move, number, &needs, err));
    size_t n = pfx_pins_generations(&change->pins, list);
    pfx_lifecycle_apply(list, n, number, move, pfx_now_ms());
    pfx_pins_take(&change->pins, list);
    return PFX_OK;
}

static pfx_result move_only(struct pfx_worker *worker, struct pfx_task *task, enum pfx_event event,
                            enum pfx_key_move move, const char *fmt, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_change_done) struct pfx_change change = {.generation = 0};
    PFX_TRY(pfx_change_begin(&change, worker, task, event, err));
    const struct pfx_pinned *before = pfx_pins_active(&change.pins);
    unsigned was = before ? before->generation : 0;
    if (move == PFX_MOVE_COMPROMISE)
        snprintf(change.op.said.reason, sizeof change.op.said.reason, "%s",
                 pfx_msg_str(task->args, "reason"));
    PFX_TRY(pfx_change_move(&change, move, err));
    if (move == PFX_MOVE_RETIRE && pfx_msg_bool(task->args, "ask"))
        return PFX_OK;
    if (move == PFX_MOVE_COMPROMISE) {
        const struct pfx_approval_word why = {"reason", change.op.said.reason};
        PFX_TRY(pfx_change_approved(&change, pfx_buf_bytes(&pfx_change_pin(&change)->spki), &why, 1,
                                    err));
    }
    PFX_TRY(pfx_change_write(&change, err));
    const struct pfx_pinned *pin = pfx_change_pin(&change);
    pfx_task_say(change.task, "step", "generation %u is %s: %s", pin->generation,
                   pfx_key_state_name(pin->state), fmt);
    if (was != 0 && !pfx_pins_active(&change.pins))
        pfx_task_say(change.task, "note",
                       "No generation is active now: no PFX is built, and enrolments wait, until "
                       "another one is activated. pfx-agent key rotate makes it, key status says "
                       "what it waits for.");
    else if (was != 0 && move == PFX_MOVE_ACTIVATE)
        pfx_task_say(change.task, "step",
                       "generation %u is suspended: records may go on naming it until pfx-agent key "
                       "rebuild has replaced them, and key activate %u is the way back until it is "
                       "retired",
                       was, was);
    return PFX_OK;
}

pfx_result pfx_do_key_activate(struct pfx_worker *worker, struct pfx_task *task,
                               struct pfx_error *err)
{
    return move_only(worker, task, PFX_EVENT_KEY_ACTIVATE, PFX_MOVE_ACTIVATE,
                     "new PFX files are sealed to it", err);
}

pfx_result pfx_do_key_retire(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    return move_only(worker, task, PFX_EVENT_KEY_RETIRE, PFX_MOVE_RETIRE,
                     "nothing names it, and it doesn't come back", err);
}

pfx_result pfx_do_key_compromise(struct pfx_worker *worker, struct pfx_task *task,
                                 struct pfx_error *err)
{
    const char *reason = pfx_msg_str(task->args, "reason");
    if (reason[strspn(reason, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
        return pfx_fail(err, PFX_CLASS_USAGE, "key.compromise", "reason", "",
                        "Give one word of a-z, 0-9 and -: it stands in the log, so nobody's name.");
    return move_only(worker, task, PFX_EVENT_KEY_COMPROMISE, PFX_MOVE_COMPROMISE,
                     "nothing is sealed to it ever again, and whoever has it opens what was", err);
}

/* Who staged it, and what the schedule asks of the one in use. */
static void say_schedule(const struct pfx_schedule *schedule, const struct pfx_pinned *pin,
                         struct pfx_msg *item)
{
    char text[PFX_SCHEDULE_TEXT];
    if (pin->staged_ms > 0) {
        pfx_msg_set_int(item, "staged", pin->staged_ms);
        pfx_msg_set_int(item, "staged_by", pin->staged_uid);
        pfx_msg_set_bool(item, "scheduled", pin->scheduled);
    }
    if (pin->generation != schedule->active || schedule->end_ms == 0)
        return;
    pfx_msg_set_str(item, "schedule", pfx_schedule_say(schedule, text));
    pfx_msg_set_bool(item, "warn", schedule->warn);
    pfx_msg_set_int(item, "due", schedule->end_ms);
    pfx_msg_set_int(item, "due_from", schedule->from_ms);
    pfx_msg_set_int(item, schedule->days >= 0 ? "due_days" : "overdue_days",
                    schedule->days >= 0 ? schedule->days : -schedule->days);
}

static void say_needs(const struct pfx_msg *args, const struct pfx_pinned *pin,
                      struct pfx_key_needs *needs, struct pfx_msg *item)
{
    for (size_t i = 0; i < pfx_msg_count(args, "needs"); i++) {
        const struct pfx_msg *said = pfx_msg_obj_at(args, "needs", i);
        if (pfx_msg_int(said, "generation") == (int64_t)pin->generation)
            needs_read(said, needs);
    }
    if (needs->records_known)
        pfx_msg_set_int(item, "records", needs->records);
}

static void say_next(const struct pfx_generation *list, size_t n, const struct pfx_pinned *pin,
                     const struct pfx_key_needs *needs, struct pfx_msg *item)
{
    struct pfx_reasons why;
    enum pfx_key_move next = pfx_lifecycle_next(pin->state);
    if (next == PFX_MOVE_COUNT)
        return;
    pfx_msg_set_str(item, "next", pfx_key_move_name(next));
    (void)pfx_lifecycle_allows(list, n, pin->generation, next, needs, &why);
    for (size_t i = 0; i < why.n; i++)
        pfx_msg_add_str(item, "reasons", why.text[i]);
}

static void say_facts(const struct pfx_hsm_policy *policy, const struct pfx_pinned *pin,
                      struct pfx_msg *item)
{
    struct pfx_standing_key standing;
    struct pfx_error ignored = PFX_ERROR_NONE;
    enum pfx_key_type type;
    uint8_t digest[32];
    char hex[2 * PFX_ADOPTED_ID_MOST + 1];
    pfx_standing_encryption(policy, pin->generation, &standing);
    pfx_msg_set_int(item, "generation", pin->generation);
    pfx_msg_set_str(item, "name", standing.name);
    pfx_msg_set_str(item, "state", pfx_key_state_name(pin->state));
    pfx_msg_set_int(item, "since", pin->since_ms);
    if (pin->activated_ms > 0)
        pfx_msg_set_int(item, "activated", pin->activated_ms);
    if (pin->compromised_ms > 0)
        pfx_msg_set_int(item, "compromised", pin->compromised_ms);
    if (pin->n_adopted > 0)
        pfx_msg_set_str(item, "adopted", pfx_hex(pin->adopted, pin->n_adopted, hex));
    pfx_msg_set_str(item, "key_name", pin->key_name);
    pfx_msg_set_str(item, "provider_name", pin->provider_name);
    if (pin->spki.len > 0 && pfx_ok(pfx_spki_type(pfx_buf_bytes(&pin->spki), &type, &ignored)))
        pfx_msg_set_str(item, "algorithm", pfx_key_type_name(type));
    if (pin->spki.len > 0 && pfx_sha256(pin->spki.data, pin->spki.len, digest))
        pfx_msg_set_str(item, "sha256", pfx_hex(digest, sizeof digest, hex));
}

pfx_result pfx_do_key_states(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = worker->hsm->policy;
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    PFX_TRY(pfx_pins_of(worker, &pins, err));
    size_t n = pfx_pins_generations(&pins, list);
    struct pfx_schedule schedule;
    pfx_due_of(policy, &pins, &schedule);
    for (size_t i = 0; i < n; i++) {
        const struct pfx_pinned *pin = &pins.list[i];
        struct pfx_msg *item = pfx_task_item(task);
        const char *missing[PFX_PIN_CONNECTORS_MOST];
        struct pfx_key_needs needs = {.missing = missing};
        say_facts(policy, pin, item);
        needs.n_missing = pfx_connectors_missing(policy, pin, missing);
        for (size_t c = 0; c < needs.n_missing; c++)
            pfx_msg_add_str(item, "missing", missing[c]);
        for (size_t c = 0; c < pin->n_connectors; c++)
            if (pin->connectors[c].confirmed_ms > 0)
                pfx_msg_add_str(item, "confirmed", pin->connectors[c].name);
        say_needs(task->args, pin, &needs, item);
        say_next(list, n, pin, &needs, item);
        say_schedule(&schedule, pin, item);
        pfx_task_emit(task, item);
    }
    return PFX_OK;
}
