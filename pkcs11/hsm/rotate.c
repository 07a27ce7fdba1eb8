/*
 * The two moves of a generation that touch the encryption token: the next one is made (or adopted)
 * and staged, and an old one is destroyed. Killed anywhere, the same command given again goes on:
 * "making" is in the pins before the key is made, and a key that isn't found is as good as destroyed.
 */
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/adopt.h"
#include "pkcs11/hsm/due.h"
#include "pkcs11/hsm/generation.h"
#include "pkcs11/hsm/halves.h"
#include "pkcs11/hsm/hsmlog.h"

#define MOST_NAME 120 /* of keyName's 128 bytes, with room for "-999999" */

/* Of the public half that goes to the connectors: as `init` prints generation 1's. */
static struct pfx_msg *key_item(struct pfx_change *change, struct pfx_bytes spki, const char *text)
{
    struct pfx_msg *item = pfx_task_item(change->task);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(8192);
    uint8_t digest[32];
    char hex[65], file[64];
    if (!pfx_sha256(spki.data, spki.len, digest))
        pfx_die("SHA-256 isn't available");
    pfx_msg_set_str(item, "kind", "key");
    pfx_msg_set_str(item, "role", pfx_role_name(PFX_ROLE_ENCRYPTION));
    pfx_msg_set_str(item, "name", change->standing.name);
    pfx_msg_set_str(item, "text", text);
    pfx_msg_set_str(item, "algorithm", change->op.key.algorithm);
    pfx_msg_set_str(item, "sha256", pfx_hex(digest, sizeof digest, hex));
    if (pfx_spki_pem(spki, &pem)) {
        snprintf(file, sizeof file, "encryption-key-%u.pem", change->generation);
        pfx_msg_set_str(item, "file", file);
        pfx_msg_set_str(item, "pem", pfx_buf_str(&pem));
    }
    return item;
}

/* The pin has its key now: what is written, and what the log says. */
static pfx_result pin_key(struct pfx_change *change, struct pfx_op *op, struct pfx_bytes spki,
                          struct pfx_error *err)
{
    struct pfx_pinned *pin = pfx_change_pin(change);
    pfx_buf_reset(&pin->spki);
    if (!pfx_buf_add(&pin->spki, spki.data, spki.len))
        return pfx_fail(err, PFX_CLASS_REFUSED, "key.rotate", change->standing.name, "",
                        "Its public key is too long.");
    pfx_op_pinned(op, spki);
    return PFX_OK;
}

static pfx_result make_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                            struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_change *change = ctx;
    const struct pfx_hsm_policy *policy = worker->hsm->policy;
    const struct pfx_standing_key *standing = &change->standing;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    enum pfx_key_type type;
    pfx_op_token(op, worker->hsm->roles[PFX_ROLE_ENCRYPTION].token);
    PFX_TRY(pfx_session_acquire(worker->hsm->roles[PFX_ROLE_ENCRYPTION].token, true, &session, err));
    PFX_TRY(pfx_key_find(session, PFX_USE_ENCRYPTION, &standing->id, true,
                         (struct pfx_bytes){NULL, 0}, &key, err));
    bool found = key != NULL;
    op->out.found = found ? "key" : NULL;
    if (!found) {
        PFX_TRY(pfx_lone_publics_destroy(session, &standing->id, err));
        PFX_TRY(pfx_key_make(session, PFX_USE_ENCRYPTION, policy->encryption_type, &standing->id,
                             standing->label, true, &key, err));
    }
    struct pfx_bytes spki = pfx_key_spki(key);
    PFX_TRY(pfx_spki_type(spki, &type, err));
    if (type != policy->encryption_type)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "key.rotate", standing->name, "",
                        "A rotation that was cut off left a key of type %s, and the policy says "
                        "%s: remove that key from the token.",
                        pfx_key_type_name(type), pfx_key_type_name(policy->encryption_type));
    pfx_op_key(op, &standing->id, spki, pfx_key_type_name(type));
    PFX_TRY(pin_key(change, op, spki, err));
    PFX_TRY(pfx_record_key(change->record, session, key, standing, op, found ? "found" : "made",
                           err));
    *ret_reply = key_item(change, spki,
                          found ? "found where an earlier command ended, attributes checked; staged"
                                : "made, attributes read back; staged");
    return PFX_OK;
}

static pfx_result adopt_look(struct pfx_change *change, const struct pfx_pinned *pin,
                             struct pfx_adopted *ret_adopted, struct pfx_error *err)
{
    struct pfx_token *token = change->worker->hsm->roles[PFX_ROLE_ENCRYPTION].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_adopted_look(session, (struct pfx_bytes){pin->adopted, pin->n_adopted}, ret_adopted,
                             err));
    if (ret_adopted->found)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "key.rotate", "adopt", "",
                    "The token %s has no private key with this CKA_ID.",
                    pfx_token_facts(token)->label);
}

static pfx_result adopt_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                             struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_change *change = ctx;
    const struct pfx_pinned *pin = pfx_change_pin(change);
    PFX_CLEANUP(pfx_adopted_done) struct pfx_adopted adopted = {.spki = pfx_buf_make(0)};
    pfx_op_token(op, worker->hsm->roles[PFX_ROLE_ENCRYPTION].token);
    PFX_TRY(adopt_look(change, pin, &adopted, err));
    struct pfx_bytes spki = pfx_buf_bytes(&adopted.spki);
    if (pin->spki.len != spki.len || memcmp(pin->spki.data, spki.data, spki.len) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "key.rotate", "adopt", "",
                        "The key with this CKA_ID isn't the one that was approved any more: find "
                        "out who replaced it.");
    /* Accepted, and said: to the operator one by one, in the log how many. */
    for (size_t i = 0; i < adopted.n_deviations; i++)
        pfx_task_say(change->task, "note", "otherwise than a key of ours: %s", adopted.deviations[i]);
    op->said.has_records = true;
    op->said.records = (int64_t)adopted.n_deviations;
    pfx_op_key(op, NULL, spki, pfx_key_type_name(adopted.type));
    pfx_op_pinned(op, spki);
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(worker->hsm->roles[PFX_ROLE_ENCRYPTION].token, false, &session,
                                err));
    PFX_TRY(pfx_record_adopted(change->record, session, &change->standing, op, &adopted, err));
    *ret_reply = key_item(change, spki,
                          "adopted: sensitive and never extractable, shown by a decryption; staged");
    return PFX_OK;
}

/* Does the token have a key with the CKA_ID that one of ours would have in this generation? */
static pfx_result own_key(struct pfx_change *change, bool *ret_there, struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_token *token = change->worker->hsm->roles[PFX_ROLE_ENCRYPTION].token;
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_key_find(session, PFX_USE_ENCRYPTION, &change->standing.id, false,
                         (struct pfx_bytes){NULL, 0}, &key, err));
    *ret_there = key != NULL;
    return PFX_OK;
}

/* A key that no pin speaks of is never taken for ours. */
static pfx_result no_stranger(struct pfx_change *change, struct pfx_error *err)
{
    struct pfx_token *token = change->worker->hsm->roles[PFX_ROLE_ENCRYPTION].token;
    bool there;
    PFX_TRY(own_key(change, &there, err));
    if (!there)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "key.rotate", change->standing.name, "",
                    "The token %s has a key with this generation's CKA_ID, and no pin speaks of "
                    "it: it isn't adopted. Find out who made it, and remove it.",
                    pfx_token_facts(token)->label);
}

/* The generation in the making goes on, or a new one begins. */
static bool begin(struct pfx_change *change)
{
    const struct pfx_hsm_policy *policy = change->worker->hsm->policy;
    unsigned last = 0;
    for (size_t i = 0; i < change->pins.n; i++) {
        const struct pfx_pinned *pin = &change->pins.list[i];
        if (pin->state == PFX_STATE_MAKING) {
            pfx_change_of(change, pin->generation);
            return false;
        }
        last = pin->generation > last ? pin->generation : last;
    }
    char *name PFX_AUTOFREE = pfx_generation_name(policy, last + 1);
    pfx_pins_add(&change->pins, last + 1, name, policy->provider_name)->since_ms = pfx_now_ms();
    pfx_change_of(change, last + 1);
    return true;
}

static void stage(struct pfx_change *change)
{
    struct pfx_pinned *pin = pfx_change_pin(change);
    int64_t uid = change->task->actor.uid;
    pin->state = PFX_STATE_STAGED;
    pin->since_ms = pin->staged_ms = pfx_now_ms();
    pin->staged_uid = uid > 0 ? uid : 0;
    pin->scheduled = change->scheduled;
}

static pfx_result adopt_new(const struct pfx_change *change, struct pfx_bytes spki,
                            struct pfx_error *err)
{
    for (size_t i = 0; i < change->pins.n; i++) {
        const struct pfx_buf *other = &change->pins.list[i].spki;
        if (other->len == spki.len && memcmp(other->data, spki.data, spki.len) == 0)
            return pfx_fail(err, PFX_CLASS_REFUSED, "key.rotate", "adopt", "",
                            "This key is generation %u already.",
                            change->pins.list[i].generation);
    }
    return PFX_OK;
}

/* What people approve names the key itself, and what is otherwise than with a key of ours: so it is
 * looked at before they are asked, and pinned as they saw it. */
static pfx_result adopt_approved(struct pfx_change *change, struct pfx_error *err)
{
    const struct pfx_pinned *pin = pfx_change_pin(change);
    char hex[2 * PFX_ADOPTED_ID_MOST + 1];
    PFX_CLEANUP(pfx_adopted_done) struct pfx_adopted adopted = {.spki = pfx_buf_make(0)};
    PFX_CLEANUP(pfx_buf_done)
    struct pfx_buf text = pfx_buf_make(PFX_DEVIATIONS_MOST * 68); /* with ", " */
    PFX_TRY(adopt_look(change, pin, &adopted, err));
    struct pfx_bytes spki = pfx_buf_bytes(&adopted.spki);
    PFX_TRY(adopt_new(change, spki, err));
    for (size_t i = 0; i < adopted.n_deviations; i++)
        pfx_buf_addf(&text, "%s%s", i > 0 ? ", " : "", adopted.deviations[i]);
    /* As the log has it, in whatever case it was given. */
    pfx_hex(pin->adopted, pin->n_adopted, hex);
    const struct pfx_approval_word words[] = {{"adopt", hex}, {"deviations", pfx_buf_str(&text)}};
    PFX_TRY(pfx_change_approved(change, spki, words, 2, err));
    return pin_key(change, &change->op, spki, err);
}

static pfx_result adopt(struct pfx_change *change, const char *hex, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf id = pfx_buf_make(PFX_ADOPTED_ID_MOST);
    if (!pfx_unhex(hex, strlen(hex), &id) || id.len == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "key.rotate", "adopt", "",
                        "Give the CKA_ID as hex digits, two for each byte.");
    bool there = false;
    if (!begin(change)) /* where the token couldn't make it, this is the way out */
        PFX_TRY(own_key(change, &there, err));
    if (there)
        return pfx_fail(err, PFX_CLASS_REFUSED, "key.rotate", "adopt", "",
                        "Generation %u is in the making: give pfx-agent key rotate without --adopt, "
                        "which goes on where it ended, then destroy it.",
                        change->generation);
    struct pfx_pinned *pin = pfx_change_pin(change);
    memcpy(pin->adopted, id.data, id.len);
    pin->n_adopted = id.len;
    memcpy(change->op.key.foreign_id, id.data, id.len);
    change->op.key.foreign_len = id.len;
    snprintf(change->op.said.reason, sizeof change->op.said.reason, "adopted");
    PFX_TRY(adopt_approved(change, err));
    stage(change);
    change->token_work = adopt_work;
    PFX_TRY(pfx_record_intend(change->record, err));
    return pfx_change_write(change, err);
}

static pfx_result make(struct pfx_change *change, struct pfx_error *err)
{
    bool fresh = begin(change);
    if (fresh)
        PFX_TRY(no_stranger(change, err));
    PFX_TRY(pfx_record_intend(change->record, err));
    if (fresh)
        PFX_TRY(pfx_change_write(change, err));
    stage(change);
    pfx_op_key(&change->op, &change->standing.id, (struct pfx_bytes){NULL, 0},
               change->standing.algorithm);
    change->token_work = make_work;
    return pfx_change_write(change, err);
}

/* Without a PIN all was asked that needs none, and nothing done: nobody types it for nothing. */
static bool only_asked(const struct pfx_change *change)
{
    if (pfx_msg_has(change->task->args, "encryption_pin"))
        return false;
    pfx_task_say(change->task, "ready", "the PIN of the encryption token is needed now");
    return true;
}

/* With if_due: is it? Asked first without a PIN, then, when it is, once more with it. */
static pfx_result by_schedule(struct pfx_change *change, bool *ret_go_on, struct pfx_error *err)
{
    const struct pfx_msg *args = change->task->args;
    struct pfx_schedule schedule;
    char text[PFX_SCHEDULE_TEXT];
    bool pin = pfx_msg_has(args, "encryption_pin");
    change->scheduled = pfx_msg_bool(args, "if_due");
    *ret_go_on = true;
    if (change->scheduled && pfx_msg_has(args, "adopt"))
        return pfx_fail(err, PFX_CLASS_USAGE, "key.rotate", "if_due", "",
                        "A key is adopted by people, not by a schedule.");
    if (!change->scheduled)
        return PFX_OK;
    pfx_due_of(change->worker->hsm->policy, &change->pins, &schedule);
    bool due = schedule.state == PFX_SCHEDULE_DUE;
    *ret_go_on = pin && due;
    pfx_schedule_say(&schedule, text);
    if (due && pin)
        snprintf(change->op.said.reason, sizeof change->op.said.reason, "schedule");
    else
        pfx_task_say(change->task, due ? "due" : "not-due", "%s", text);
    return PFX_OK;
}

static void end_record(struct pfx_change *change)
{
    if (change->scheduled)
        pfx_record_note(change->record, "Staged because encryption_key.rotate_every of hsm-policy.yaml "
                                        "asked for it (key rotate --if-due).");
    pfx_record_approved(change->record, &change->op, &change->approved);
    pfx_record_pins(change->record, &change->pins);
    pfx_record_end(change->record);
}

pfx_result pfx_do_key_rotate(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    static const struct pfx_key_needs none = {.records_known = true};
    PFX_CLEANUP(pfx_change_done) struct pfx_change change = {.generation = 0};
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    const char *hex = pfx_msg_str(task->args, "adopt");
    bool go_on;
    PFX_TRY(pfx_change_begin(&change, worker, task, PFX_EVENT_KEY_ROTATE, err));
    PFX_TRY(by_schedule(&change, &go_on, err));
    if (!go_on)
        return PFX_OK;
    if (!pfx_pins_usable(&change.pins))
        return pfx_none_active(&change.pins, err);
    PFX_TRY(pfx_change_ask(&change, PFX_MOVE_ROTATE, 0, &none, err));
    if (strlen(worker->hsm->policy->encryption_name) > MOST_NAME)
        return pfx_fail(err, PFX_CLASS_REFUSED, "key.rotate", "encryption_key.name", "",
                        "With the generation's number behind it the name would be longer than "
                        "Intune's keyName may be: at most %d bytes in hsm-policy.yaml.",
                        MOST_NAME);
    if (only_asked(&change))
        return PFX_OK;
    PFX_TRY(pfx_record_begin(worker, task, &record, err));
    change.record = record;
    PFX_TRY(pfx_change_open(&change, true, err));
    pfx_record_role(record, PFX_ROLE_ENCRYPTION);
    PFX_TRY(hex ? adopt(&change, hex, err) : make(&change, err));
    const struct pfx_pinned *pin = pfx_change_pin(&change);
    pfx_task_say(change.task, "step",
                   "generation %u is staged: keyName %s, providerName %s. Nothing uses it before "
                   "pfx-agent key activate %u",
                   pin->generation, pin->key_name, pin->provider_name, pin->generation);
    end_record(&change);
    return PFX_OK;
}

/* --- destroyed: looked for afterwards, and not found in this token --- */

static pfx_result destroy_own(struct pfx_session *session, struct pfx_change *change,
                              const struct pfx_op *op, bool *ret_found, struct pfx_error *err)
{
    const struct pfx_pinned *pin = pfx_change_pin(change);
    struct pfx_key *key PFX_AUTOKEY = NULL;
    PFX_TRY(pfx_key_find(session, PFX_USE_ENCRYPTION, &change->standing.id, false,
                         pfx_buf_bytes(&pin->spki), &key, err));
    pfx_record_destroyed(change->record, session, key, &change->standing, op,
                         pfx_buf_bytes(&pin->spki));
    if (key)
        PFX_TRY(pfx_key_destroy(session, key, err));
    PFX_TRY(pfx_lone_publics_destroy(session, &change->standing.id, err));
    *ret_found = key != NULL;
    return PFX_OK;
}

static pfx_result destroy_adopted(struct pfx_session *session, struct pfx_change *change,
                                  const struct pfx_op *op, bool *ret_found, struct pfx_error *err)
{
    const struct pfx_pinned *pin = pfx_change_pin(change);
    struct pfx_bytes id = {pin->adopted, pin->n_adopted};
    pfx_record_adopted_destroyed(change->record, session, &change->standing, op,
                                 pfx_buf_bytes(&pin->spki));
    return pfx_adopted_destroy(session, id, pfx_buf_bytes(&pin->spki), ret_found, err);
}

static pfx_result destroy_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                               struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_change *change = ctx;
    const struct pfx_pinned *pin = pfx_change_pin(change);
    struct pfx_token *token = worker->hsm->roles[PFX_ROLE_ENCRYPTION].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    bool found = false;
    char name[128], text[400];
    pfx_op_token(op, token);
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    PFX_TRY(pin->n_adopted > 0 ? destroy_adopted(session, change, op, &found, err)
                               : destroy_own(session, change, op, &found, err));
    op->out.found = found ? "key" : "nothing";
    snprintf(text, sizeof text,
             "%s and not found any more in the token %s. Backups and clones of the HSM aren't seen "
             "from here: destroy the key there too.",
             found ? "destroyed," : "looked for", pfx_token_text(token, name));
    struct pfx_msg *item = pfx_task_item(change->task);
    pfx_msg_set_str(item, "kind", "step");
    pfx_msg_set_str(item, "name", change->standing.name);
    pfx_msg_set_str(item, "text", text);
    *ret_reply = item;
    return PFX_OK;
}

pfx_result pfx_do_generation_destroy(struct pfx_worker *worker, struct pfx_task *task,
                                     struct pfx_error *err)
{
    PFX_CLEANUP(pfx_change_done) struct pfx_change change = {.generation = 0};
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    PFX_TRY(pfx_record_begin(worker, task, &record, err));
    change.record = record;
    PFX_TRY(pfx_change_begin(&change, worker, task, PFX_EVENT_KEY_DESTROY, err));
    PFX_TRY(pfx_change_move(&change, PFX_MOVE_DESTROY, err));
    const struct pfx_pinned *pin = pfx_change_pin(&change);
    PFX_TRY(pfx_change_approved(&change, pfx_buf_bytes(&pin->spki), NULL, 0, err));
    if (only_asked(&change)) /* the approvals wait on */
        return PFX_OK;
    enum pfx_key_type type;
    struct pfx_error ignored = PFX_ERROR_NONE;
    bool known = pfx_ok(pfx_spki_type(pfx_buf_bytes(&pin->spki), &type, &ignored));
    memcpy(change.op.key.foreign_id, pin->adopted, pin->n_adopted);
    change.op.key.foreign_len = pin->n_adopted;
    pfx_op_key(&change.op, pin->n_adopted > 0 ? NULL : &change.standing.id,
               pfx_buf_bytes(&pin->spki), known ? pfx_key_type_name(type) : NULL);
    PFX_TRY(pfx_change_open(&change, false, err));
    pfx_record_role(record, PFX_ROLE_ENCRYPTION);
    change.token_work = destroy_work;
    PFX_TRY(pfx_record_intend(record, err));
    PFX_TRY(pfx_change_write(&change, err));
    end_record(&change);
    return PFX_OK;
}
