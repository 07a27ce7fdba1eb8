/*
 * A user key that isn't kept. pfx-agentd says which and why; what it says is compared with what
 * pfx-hsm itself wrote: CKA_ID follows from host, user, purpose, enrolment and attempt, and the
 * ticket was given for this user, these addresses, this purpose and this key. So no standing key and
 * nobody else's can be meant, and the purpose is the one that the key was made for. Whether a key of
 * that purpose may go is the policy's word, or the log's: one that was never packed is nobody's.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "pkcs11/hsm/ask.h"
#include "pkcs11/hsm/claim.h"
#include "pkcs11/hsm/halves.h"
#include "pkcs11/hsm/packed.h"
#include "pkcs11/hsm/proof.h"
#include "pkcs11/hsm/verbs.h"

struct destroying {
    struct pfx_task *task;
    struct pfx_ask ask;
    struct pfx_keyref ref;
    bool unused; /* else delivered */
};

static void destroying_done(struct destroying *destroying)
{
    pfx_keyref_done(&destroying->ref);
}

/* May it go? Asked after the proof, so that the purpose isn't the request's word any more. */
static pfx_result permitted(const struct pfx_hsm *hsm, const struct destroying *d,
                            struct pfx_error *err)
{
    bool lets = hsm->policy->destroys[d->ask.purpose];
    struct pfx_error why = PFX_ERROR_NONE;
    if (d->unused) {
        pfx_result r = pfx_never_packed(hsm, &d->ref.id, pfx_buf_bytes(&d->ref.spki), &why);
        if (pfx_failed(r) && !(lets && strcmp(why.code, "unproven") == 0)) {
            *err = why;
            return r;
        }
        return PFX_OK;
    }
    if (lets)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "destroy key", pfx_purpose_name(d->ask.purpose),
                    "policy",
                    "users.after_delivery of hsm-policy.yaml keeps keys of this purpose: nothing is "
                    "destroyed.");
}

/* Both halves, and neither is found any more; *ret_found false: there was no private one. */
static pfx_result destroy_token_key(struct pfx_session *session, const struct destroying *d,
                                    bool *ret_found, struct pfx_error *err)
{
    struct pfx_key *key PFX_AUTOKEY = NULL;
    PFX_TRY(pfx_key_find(session, PFX_USE_USER, &d->ref.id, true, pfx_buf_bytes(&d->ref.spki), &key,
                         err));
    *ret_found = key != NULL;
    if (key)
        PFX_TRY(pfx_key_destroy(session, key, err));
    /* What an earlier try, or an unfinished making, left of it. */
    return pfx_lone_publics_destroy(session, &d->ref.id, err);
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct destroying *d = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_token *token = hsm->roles[PFX_ROLE_USERS].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    bool found = false;
    pfx_op_token(op, token);
    PFX_TRY(pfx_session_acquire(token, !d->ref.wrapped, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(pfx_proof_check(worker, &d->ask, &d->ref, pfx_msg_blob(d->task->args, "ticket"), session, mac,
                            err));
    PFX_TRY(permitted(hsm, d, err));
    if (!d->ref.wrapped)
        PFX_TRY(destroy_token_key(session, d, &found, err));
    op->out.found = d->ref.wrapped ? "blob" : found ? "key" : "nothing";
    struct pfx_msg *reply = pfx_task_item(d->task);
    pfx_msg_set_bool(reply, "found", found);
    pfx_msg_set_bool(reply, "wrapped", d->ref.wrapped);
    *ret_reply = reply;
    return PFX_OK;
}

/* Before anything is written or counted: is it this enrolment's key at all? */
static pfx_result derived_check(const struct pfx_hsm *hsm, const struct destroying *d,
                                int64_t attempt, struct pfx_error *err)
{
    struct pfx_key_id id;
    pfx_user_key_id(hsm->policy->host_id, d->ask.user, pfx_purpose_name(d->ask.purpose),
                    d->ask.enrolment, attempt, &id);
    if (memcmp(&id, &d->ref.id, sizeof id) == 0)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "check key reference", "", "",
                    "This CKA_ID isn't that of this user's enrolment, attempt and purpose on the "
                    "host %s: nothing is destroyed. If host_id was changed, destroy the key with the "
                    "HSM's own tool; else find out what changed pfx-agentd's store.",
                    hsm->policy->host_id);
}

pfx_result pfx_do_key_destroy(struct pfx_worker *worker, struct pfx_task *task,
                              struct pfx_error *err)
{
    PFX_CLEANUP(destroying_done) struct destroying d = {.task = task};
    struct pfx_hsm *hsm = worker->hsm;
    int64_t attempt = pfx_msg_int(task->args, "attempt");
    const char *why = pfx_msg_str(task->args, "why");
    enum pfx_key_type type;
    pfx_keyref_init(&d.ref);
    /* A domain that left the policy doesn't keep its users' keys. */
    PFX_TRY(pfx_ask_read(NULL, task->args, &d.ask, err));
    PFX_TRY(pfx_keyref_parse(pfx_msg_str(task->args, "key_ref"), &d.ref, err));
    PFX_TRY(pfx_reclass(pfx_spki_type(pfx_buf_bytes(&d.ref.spki), &type, err), PFX_CLASS_USAGE,
                        PFX_CLASS_INTEGRITY, err));
    d.unused = strcmp(why, "unused") == 0;
    if (!d.unused && strcmp(why, "delivered") != 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "why", "",
                        "It must be delivered or unused.");
    PFX_TRY(derived_check(hsm, &d, attempt, err));
    struct pfx_op op = {.event = PFX_EVENT_USER_KEY_DESTROY, .actor = task->actor};
    op.target.enrolment = d.ask.enrolment;
    op.target.attempt = attempt;
    snprintf(op.target.name, sizeof op.target.name, "%s.%s", pfx_purpose_name(d.ask.purpose), why);
    pfx_op_target_user(&op, d.ask.user, d.ask.salt);
    pfx_op_key(&op, &d.ref.id, pfx_buf_bytes(&d.ref.spki), pfx_key_type_name(type));
    pfx_op_ticket(&op, pfx_msg_blob(task->args, "ticket"));
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    PFX_TRY(pfx_claim_take(hsm, &d.ref.id, true, err));
    pfx_result result = pfx_op_run(worker, &op, work, &d, &reply, err);
    pfx_claim_end(hsm, &d.ref.id);
    if (pfx_ok(result))
        pfx_task_emit(task, PFX_TAKE(reply));
    return result;
}
