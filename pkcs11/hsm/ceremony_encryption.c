/*
 * Generation 1 of the encryption key and its pin. A record that says "making" is written before the
 * key is made: a ceremony that is killed in between finds, next time, that the key without a pin is
 * its own. A key that no record speaks of is never adopted: whoever can put one there would read
 * every password.
 */
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/adopt.h"
#include "pkcs11/hsm/ceremony.h"
#include "pkcs11/hsm/halves.h"
#include "pkcs11/hsm/hsmlog.h"

#define FIRST 1

struct pinning {
    struct pfx_ceremony *ceremony;
    struct pfx_standing_key standing;
    struct pfx_pins pins;
};

static void pinning_done(struct pinning *pinning)
{
    pfx_pins_done(&pinning->pins);
}

static pfx_result pins_read(struct pfx_ceremony *ceremony, struct pfx_pins *ret_pins,
                            struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    if (!pfx_pins_exist(hsm)) {
        *ret_pins = (struct pfx_pins)PFX_PINS_NONE;
        return PFX_OK;
    }
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &ceremony->worker->ring, session, PFX_STANDING_MAC, &mac, err));
    return pfx_pins_load(hsm, session, mac, ret_pins, err);
}

static pfx_result pins_write(struct pfx_ceremony *ceremony, const struct pfx_pins *pins,
                             struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &ceremony->worker->ring, session, PFX_STANDING_MAC, &mac, err));
    return pfx_pins_store(hsm, session, mac, pins, err);
}

static struct pfx_msg *item_of(struct pinning *pinning, struct pfx_bytes spki, const char *text)
{
    struct pfx_msg *item = pfx_ceremony_key_item(pinning->ceremony, &pinning->standing, spki, text);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(8192);
    enum pfx_key_type type;
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (pfx_ok(pfx_spki_type(spki, &type, &ignored)))
        pfx_msg_set_str(item, "algorithm", pfx_key_type_name(type));
    if (pfx_spki_pem(spki, &pem)) {
        char file[64];
        snprintf(file, sizeof file, "encryption-key-%s.pem",
                 strrchr(pinning->standing.name, '-') + 1);
        pfx_msg_set_str(item, "file", file);
        pfx_msg_set_str(item, "pem", pfx_buf_str(&pem));
    }
    return item;
}

/* On the token, strictly as the template says and with the pinned public half if there is one. */
static pfx_result find(struct pinning *pinning, struct pfx_session *session, struct pfx_bytes spki,
                       struct pfx_key **ret_key, struct pfx_error *err)
{
    return pfx_key_find(session, PFX_USE_ENCRYPTION, &pinning->standing.id, true, spki, ret_key,
                        err);
}

/* Does the token hold the pinned key, as it was pinned? */
static pfx_result holds(struct pinning *pinning, struct pfx_session *session,
                        const struct pfx_pinned *pin, bool *ret_there, struct pfx_error *err)
{
    struct pfx_key *key PFX_AUTOKEY = NULL;
    if (pin->n_adopted == 0) {
        PFX_TRY(find(pinning, session, pfx_buf_bytes(&pin->spki), &key, err));
        *ret_there = key != NULL;
        return PFX_OK;
    }
    PFX_CLEANUP(pfx_adopted_done) struct pfx_adopted adopted = {.spki = pfx_buf_make(0)};
    PFX_TRY(pfx_adopted_look(session, (struct pfx_bytes){pin->adopted, pin->n_adopted}, &adopted,
                             err));
    *ret_there = adopted.found && adopted.spki.len == pin->spki.len &&
                 memcmp(adopted.spki.data, pin->spki.data, pin->spki.len) == 0;
    return PFX_OK;
}

static pfx_result session_open(struct pinning *pinning, struct pfx_session **ret_session,
                               struct pfx_error *err)
{
    return pfx_session_acquire(pinning->ceremony->hsm->roles[PFX_ROLE_ENCRYPTION].token, true,
                               ret_session, err);
}

static pfx_result begin(struct pfx_ceremony *ceremony, struct pinning *pinning,
                        struct pfx_error *err)
{
    pinning->ceremony = ceremony;
    PFX_TRY(pins_read(ceremony, &pinning->pins, err));
    const struct pfx_pinned *active = pfx_pins_active(&pinning->pins);
    pfx_standing_encryption(ceremony->hsm->policy, active ? active->generation : FIRST,
                            &pinning->standing);
    return PFX_OK;
}

pfx_result pfx_ceremony_encryption_precheck(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    PFX_CLEANUP(pinning_done) struct pinning pinning = {0};
    PFX_TRY(begin(ceremony, &pinning, err));
    const struct pfx_pinned *active = pfx_pins_active(&pinning.pins);
    char text[128];
    if (!active && pfx_pins_usable(&pinning.pins))
        return PFX_OK; /* an operator activates one: nothing is made for it here */
    if (!ceremony->encryption_open) {
        if (active)
            return PFX_OK;
        return pfx_fail(err, PFX_CLASS_USAGE, "init", "encryption", "",
                        "The encryption key has to be made: give the PIN of the encryption token.");
    }
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    bool there = false;
    PFX_TRY(session_open(&pinning, &session, err));
    if (active)
        PFX_TRY(holds(&pinning, session, active, &there, err));
    else
        PFX_TRY(find(&pinning, session, (struct pfx_bytes){NULL, 0}, &key, err));
    pfx_token_text(pfx_session_token(session), text);
    if (active && !there)
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "init", pinning.standing.name, "",
            "The token %s doesn't have the pinned encryption key: is it the right token? "
            "Restore it from its backup.",
            text);
    if (!active && key && !pfx_pins_find(&pinning.pins, FIRST))
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "init", pinning.standing.name, "",
            "The token %s has an encryption key that no pin record speaks of, so it can't "
            "be shown to be ours and isn't adopted. Restore the file pins of the state "
            "folder from its backup, or remove the key from the token if nothing was ever "
            "sealed to it.",
            text);
    return PFX_OK;
}

/* One that is pinned: it was checked before anything was made, and is checked now for the log. */
static pfx_result pinned_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                              struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pinning *pinning = ctx;
    const struct pfx_pinned *active = pfx_pins_active(&pinning->pins);
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_bytes spki = pfx_buf_bytes(&active->spki);
    enum pfx_key_type type;
    bool there = false;
    pfx_op_token(op, worker->hsm->roles[PFX_ROLE_ENCRYPTION].token);
    PFX_TRY(session_open(pinning, &session, err));
    PFX_TRY(holds(pinning, session, active, &there, err));
    if (!there)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "init", pinning->standing.name, "",
                        "The key that was there a moment ago isn't found.");
    PFX_TRY(pfx_spki_type(spki, &type, err));
    op->out.found = "key";
    pfx_op_key(op, &pinning->standing.id, spki, pfx_key_type_name(type));
    *ret_reply = item_of(pinning, spki, "found, attributes and public key checked");
    return PFX_OK;
}

static pfx_result key_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                           struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pinning *pinning = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    pfx_op_token(op, hsm->roles[PFX_ROLE_ENCRYPTION].token);
    PFX_TRY(session_open(pinning, &session, err));
    PFX_TRY(find(pinning, session, (struct pfx_bytes){NULL, 0}, &key, err));
    bool found = key != NULL;
    if (!found) {
        PFX_TRY(pfx_lone_publics_destroy(session, &pinning->standing.id, err));
        PFX_TRY(pfx_key_make(session, PFX_USE_ENCRYPTION, hsm->policy->encryption_type,
                             &pinning->standing.id, pinning->standing.label, true, &key, err));
    }
    struct pfx_bytes spki = pfx_key_spki(key);
    enum pfx_key_type type;
    PFX_TRY(pfx_spki_type(spki, &type, err));
    if (type != hsm->policy->encryption_type)
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "init", pinning->standing.name, "",
            "A ceremony that was cut off left a key of type %s, and the policy says %s: "
            "remove that key from the token.",
            pfx_key_type_name(type), pfx_key_type_name(hsm->policy->encryption_type));
    op->out.found = found ? "key" : NULL;
    pfx_op_key(op, &pinning->standing.id, spki, pfx_key_type_name(type));
    PFX_TRY(pfx_record_key(pinning->ceremony->record, session, key, &pinning->standing, op,
                           found ? "found" : "made", err));
    *ret_reply =
        item_of(pinning, spki,
                found ? "found, attributes and public key checked" : "made, attributes read back");
    struct pfx_pinned *pin = &pinning->pins.list[pinning->pins.n - 1];
    if (!pfx_buf_add(&pin->spki, spki.data, spki.len)) {
        pfx_msg_free(PFX_TAKE(*ret_reply));
        return pfx_fail(err, PFX_CLASS_INTERNAL, "init", pinning->standing.name, "",
                        "Its public key is too long.");
    }
    return PFX_OK;
}

static pfx_result pin_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                           struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pinning *pinning = ctx;
    (void)ret_reply;
    pfx_op_token(op, worker->hsm->roles[PFX_ROLE_USERS].token);
    return pins_write(pinning->ceremony, &pinning->pins, err);
}

/* The newest pin comes into this state, in the file and in the log. */
static pfx_result pin_op(struct pinning *pinning, enum pfx_key_state state, struct pfx_error *err)
{
    struct pfx_pinned *pin = &pinning->pins.list[pinning->pins.n - 1];
    pin->state = state;
    pin->since_ms = pfx_now_ms();
    if (state == PFX_STATE_ACTIVE)
        pin->activated_ms = pin->since_ms;
    pinning->pins.serial++;
    struct pfx_op op = {.event = PFX_EVENT_CEREMONY_PIN, .actor = pinning->ceremony->task->actor};
    snprintf(op.target.name, sizeof op.target.name, "%s", pinning->standing.name);
    pfx_op_key(&op, &pinning->standing.id, pfx_buf_bytes(&pin->spki), NULL);
    op.out.generation = pin->generation;
    op.out.pin_serial = pinning->pins.serial;
    op.out.pin_state = pfx_key_state_name(pin->state);
    if (pin->spki.len > 0)
        pfx_op_pinned(&op, pfx_buf_bytes(&pin->spki));
    PFX_TRY(pfx_op_run(pinning->ceremony->worker, &op, pin_work, pinning, NULL, err));
    pfx_hsmlog_pins(pinning->ceremony->hsm, &pinning->pins);
    return PFX_OK;
}

/* Nothing is made, but the public half that passwords are sealed to goes out: the same as
 * key.export_public. */
static pfx_result export_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                              struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pinning *pinning = ctx;
    const struct pfx_pinned *active = pfx_pins_active(&pinning->pins);
    (void)worker;
    (void)err;
    pfx_op_out(op, pfx_buf_bytes(&active->spki));
    pfx_record_pinned(pinning->ceremony->record, &pinning->standing, op,
                      pfx_buf_bytes(&active->spki));
    pfx_record_pins(pinning->ceremony->record, &pinning->pins);
    *ret_reply = item_of(pinning, pfx_buf_bytes(&active->spki),
                         "pinned; its token wasn't opened, since no PIN was given");
    return PFX_OK;
}

static pfx_result none_active(struct pfx_ceremony *ceremony)
{
    pfx_ceremony_say(ceremony, "note", PFX_ROLE_ENCRYPTION, NULL,
                     "no generation is active: pfx-agent key status says which may be activated");
    return PFX_OK;
}

pfx_result pfx_ceremony_encryption_export(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    PFX_CLEANUP(pinning_done) struct pinning pinning = {0};
    PFX_TRY(begin(ceremony, &pinning, err));
    const struct pfx_pinned *active = pfx_pins_active(&pinning.pins);
    if (!active && pfx_pins_usable(&pinning.pins))
        return none_active(ceremony);
    if (!active)
        return pfx_fail(err, PFX_CLASS_USAGE, "init", "encryption", "",
                        "Give the PIN of the encryption token.");
    struct pfx_op op = {.event = PFX_EVENT_KEY_EXPORT, .actor = ceremony->task->actor};
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    snprintf(op.target.name, sizeof op.target.name, "%s", pinning.standing.name);
    op.out.generation = active->generation;
    PFX_TRY(pfx_op_run(ceremony->worker, &op, export_work, &pinning, &reply, err));
    pfx_task_emit(ceremony->task, PFX_TAKE(reply));
    return PFX_OK;
}

pfx_result pfx_ceremony_encryption(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = ceremony->hsm->policy;
    PFX_CLEANUP(pinning_done) struct pinning pinning = {0};
    PFX_TRY(begin(ceremony, &pinning, err));
    const struct pfx_pinned *active = pfx_pins_active(&pinning.pins);
    if (!active && pfx_pins_usable(&pinning.pins))
        return none_active(ceremony);
    if (!active && pinning.pins.n == 0) {
        pfx_pins_add(&pinning.pins, FIRST, policy->encryption_name, policy->provider_name);
        PFX_TRY(pin_op(&pinning, PFX_STATE_MAKING, err));
    }
    struct pfx_op op = {.event = PFX_EVENT_CEREMONY_KEY, .actor = ceremony->task->actor};
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    snprintf(op.target.name, sizeof op.target.name, "%s", pinning.standing.name);
    pfx_op_key(&op, &pinning.standing.id, (struct pfx_bytes){NULL, 0}, pinning.standing.algorithm);
    PFX_TRY(pfx_op_run(ceremony->worker, &op, active ? pinned_work : key_work, &pinning, &reply,
                       err));
    if (!active) {
        struct pfx_pinned *pin = &pinning.pins.list[pinning.pins.n - 1];
        free(pin->key_name);
        free(pin->provider_name);
        pin->key_name = pfx_strdup(policy->encryption_name);
        pin->provider_name = pfx_strdup(policy->provider_name);
        PFX_TRY(pin_op(&pinning, PFX_STATE_ACTIVE, err));
        pfx_ceremony_say(ceremony, "step", PFX_ROLE_ENCRYPTION, pinning.standing.name,
                         "pinned as generation %u: keyName %s, providerName %s", pin->generation,
                         pin->key_name, pin->provider_name);
    }
    pfx_record_pins(ceremony->record, &pinning.pins);
    pfx_task_emit(ceremony->task, PFX_TAKE(reply));
    return PFX_OK;
}
