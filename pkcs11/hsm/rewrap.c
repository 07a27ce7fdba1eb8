/*
 * hsm.rewrap: what pfx-agentd keeps of a user key, made anew under the wrapping key and the MAC key
 * that are active now. Proven first, as for a PFX: under any MAC key that isn't destroyed. The user
 * key is in the token as a session object for that long, and in no file or message in the clear.
 */
#include <string.h>

#include "pkcs11/hsm/ask.h"
#include "pkcs11/hsm/keyref.h"
#include "pkcs11/hsm/proof.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/verbs.h"

#define MAX_REF 16384
#define MAX_BYTES 32768

struct rewrapping {
    struct pfx_task *task;
    struct pfx_ask ask;
    struct pfx_keyref ref;
};

static void rewrapping_done(struct rewrapping *r)
{
    pfx_keyref_done(&r->ref);
}

/* From its generation of the wrapping key to the active one. */
static pfx_result blob(struct pfx_worker *worker, struct pfx_session *session,
                       struct pfx_keyref *ref, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_key *user PFX_AUTOKEY = NULL;
    struct pfx_key *wrapping;
    unsigned active = hsm->generations[PFX_STANDING_WRAPPING];
    if (ref->wrapping == active)
        return PFX_OK;
    PFX_TRY(pfx_ring_generation(hsm, &worker->ring, session, PFX_STANDING_WRAPPING, ref->wrapping,
                                &wrapping, err));
    PFX_TRY(pfx_key_unwrap_blob(session, wrapping, pfx_buf_bytes(&ref->blob), &ref->id,
                                pfx_buf_bytes(&ref->spki), &user, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_WRAPPING, &wrapping, err));
    pfx_buf_reset(&ref->blob);
    PFX_TRY(pfx_key_wrap_blob(session, wrapping, user, &ref->blob, err));
    ref->wrapping = active;
    return PFX_OK;
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct rewrapping *r = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_token *token = hsm->roles[PFX_ROLE_USERS].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    uint8_t ticket[32];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_REF);
    pfx_op_token(op, token);
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(pfx_proof_check(worker, &r->ask, &r->ref, pfx_msg_blob(r->task->args, "ticket"),
                            session, mac, err));
    if (r->ref.wrapped) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(MAX_BYTES);
        PFX_TRY(blob(worker, session, &r->ref, err));
        if (!pfx_keyref_mac_bytes(&r->ref, r->ask.user, &bytes))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "wrap key", "", "", "The blob is too long.");
        PFX_TRY(pfx_key_mac(session, mac, pfx_buf_bytes(&bytes), r->ref.mac, err));
    }
    PFX_TRY(pfx_ask_ticket(&r->ask, session, mac, &r->ref.id, pfx_buf_bytes(&r->ref.spki), ticket,
                           err));
    PFX_TRY(pfx_keyref_write(&r->ref, &text, err));
    pfx_op_ticket(op, (struct pfx_bytes){ticket, sizeof ticket});
    struct pfx_msg *reply = pfx_task_item(r->task);
    pfx_msg_set_str(reply, "key_ref", pfx_buf_str(&text));
    pfx_msg_set_blob(reply, "ticket", ticket, sizeof ticket);
    pfx_msg_set_int(reply, "epoch", pfx_rotation_epoch(hsm->rotation));
    *ret_reply = reply;
    return PFX_OK;
}

pfx_result pfx_do_rewrap(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    PFX_CLEANUP(rewrapping_done) struct rewrapping r = {.task = task};
    enum pfx_key_type type;
    pfx_keyref_init(&r.ref);
    /* A domain that left the policy doesn't hold up the end of a wrapping key. */
    PFX_TRY(pfx_ask_read(NULL, task->args, &r.ask, err));
    PFX_TRY(pfx_keyref_parse(pfx_msg_str(task->args, "key_ref"), &r.ref, err));
    PFX_TRY(pfx_reclass(pfx_spki_type(pfx_buf_bytes(&r.ref.spki), &type, err), PFX_CLASS_USAGE,
                        PFX_CLASS_INTEGRITY, err));
    struct pfx_op op = {.event = PFX_EVENT_REWRAP, .actor = task->actor};
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    op.target.enrolment = r.ask.enrolment;
    pfx_op_target_user(&op, r.ask.user, r.ask.salt);
    pfx_op_key(&op, &r.ref.id, pfx_buf_bytes(&r.ref.spki), pfx_key_type_name(type));
    PFX_TRY(pfx_op_run(worker, &op, work, &r, &reply, err));
    pfx_task_emit(task, PFX_TAKE(reply));
    return PFX_OK;
}
