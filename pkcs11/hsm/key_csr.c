/*
 * New key and request. Delivery is at least once: the CKA_ID follows from enrolment and attempt, so
 * a repeated job finds the key that an unfinished one made and adopts it, if it is exactly what was
 * asked for. A wrapped key has no place on the token, so a repeated job makes another one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/csr.h"
#include "pkcs11/hsm/ask.h"
#include "pkcs11/hsm/claim.h"
#include "pkcs11/hsm/halves.h"
#include "pkcs11/hsm/keyref.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/tier.h"
#include "pkcs11/hsm/verbs.h"

#define MAX_CSR 32768
#define MAX_REF 16384
#define MAX_NAME 64 /* ub-common-name */

struct making {
    struct pfx_task *task;
    struct pfx_ask ask;
    int64_t attempt;
    enum pfx_key_type type;
    struct pfx_key_id id;
};
struct signer {
    struct pfx_session *session;
    struct pfx_key *key;
};

static pfx_result sign_digest(void *ctx, enum pfx_hash hash, struct pfx_bytes digest,
                              struct pfx_buf *out, struct pfx_error *err)
{
    struct signer *signer = ctx;
    return pfx_key_sign_digest(signer->session, signer->key, hash, digest, out, err);
}

static pfx_result token_key(struct pfx_session *session, const struct making *making,
                            struct pfx_key **ret_key, bool *ret_adopted, struct pfx_error *err)
{
    struct pfx_key *key PFX_AUTOKEY = NULL;
    PFX_TRY(pfx_key_find(session, PFX_USE_USER, &making->id, true, (struct pfx_bytes){NULL, 0},
                         &key, err));
    if (key) {
        enum pfx_key_type type;
        PFX_TRY(pfx_spki_type(pfx_key_spki(key), &type, err));
        if (type != making->type)
            return pfx_fail(
                err, PFX_CLASS_INTEGRITY, "adopt key", pfx_key_type_name(type), "",
                "An earlier try left a key with this CKA_ID, but of another type than %s: "
                "was the rule's key type changed? Cancel this enrolment; the next attempt "
                "makes a new key.",
                pfx_key_type_name(making->type));
        *ret_key = PFX_TAKE(key);
        *ret_adopted = true;
        return PFX_OK;
    }
    PFX_TRY(pfx_lone_publics_destroy(session, &making->id, err));
    char label[80];
    snprintf(label, sizeof label, PFX_USER_LABEL "%" PRId64 "/%" PRId64, making->ask.enrolment,
             making->attempt);
    return pfx_key_make(session, PFX_USE_USER, making->type, &making->id, label, true, ret_key,
                        err);
}

static pfx_result wrapped_key(struct pfx_worker *worker, struct pfx_session *session,
                              const struct making *making, struct pfx_key *mac,
                              struct pfx_keyref *ref, struct pfx_key **ret_key,
                              struct pfx_error *err)
{
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_key *wrapping;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(MAX_REF);
    PFX_TRY(
        pfx_ring_key(worker->hsm, &worker->ring, session, PFX_STANDING_WRAPPING, &wrapping, err));
    PFX_TRY(pfx_key_make(session, PFX_USE_USER, making->type, &making->id, PFX_USER_LABEL "session",
                         false, &key, err));
    PFX_TRY(pfx_key_wrap_blob(session, wrapping, key, &ref->blob, err));
    ref->wrapping = worker->hsm->generations[PFX_STANDING_WRAPPING];
    struct pfx_bytes spki = pfx_key_spki(key);
    if (!pfx_buf_add(&ref->spki, spki.data, spki.len) ||
        !pfx_keyref_mac_bytes(ref, making->ask.user, &bytes))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "wrap key", "", "", "The blob is too long.");
    PFX_TRY(pfx_key_mac(session, mac, pfx_buf_bytes(&bytes), ref->mac, err));
    *ret_key = PFX_TAKE(key);
    return PFX_OK;
}

/* The first address, as far as a common name holds it; the whole one stands in the SANs. */
static void common_name(const char *address, char name[MAX_NAME + 1])
{
    snprintf(name, MAX_NAME + 1, "%.*s", MAX_NAME, address);
}

static pfx_result request(struct pfx_session *session, const struct making *making,
                          struct pfx_key *key, struct pfx_buf *csr, struct pfx_error *err)
{
    char name[MAX_NAME + 1];
    struct signer signer = {session, key};
    common_name(making->ask.addresses[0], name);
    struct pfx_csr_spec spec = {.spki = pfx_key_spki(key),
                                .common_name = name,
                                .emails = making->ask.addresses,
                                .n_emails = making->ask.n_addresses,
                                .purpose = making->ask.purpose};
    /* What can't stand in a request is this user's trouble, and stays so. */
    return pfx_reclass(pfx_csr_build(&spec, sign_digest, &signer, csr, err), PFX_CLASS_USAGE,
                       PFX_CLASS_REFUSED, err);
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct making *making = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    const struct pfx_role_state *users = &hsm->roles[PFX_ROLE_USERS];
    bool wrapped = hsm->policy->wrapped_keys;
    /* Before a certificate is bought for a key that could never be packed. */
    enum pfx_profile profile;
    enum pfx_tier tier;
    PFX_TRY(pfx_key_type_check(hsm, making->type, err));
    PFX_TRY(pfx_profile_pick(hsm, pfx_msg_str(making->task->args, "profile"), &profile, err));
    PFX_TRY(pfx_tier_pick(hsm, profile, making->type, &tier, err));
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_key *mac;
    PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref ref;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf csr = pfx_buf_make(MAX_CSR);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf ref_text = pfx_buf_make(MAX_REF);
    pfx_keyref_init(&ref);
    ref.wrapped = wrapped;
    ref.id = making->id;
    PFX_TRY(pfx_session_acquire(users->token, !wrapped, &session, err));
    pfx_op_token(op, users->token);
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    if (wrapped) {
        PFX_TRY(wrapped_key(worker, session, making, mac, &ref, &key, err));
    } else {
        bool adopted = false;
        PFX_TRY(token_key(session, making, &key, &adopted, err));
        op->out.found = adopted ? "key" : NULL;
        struct pfx_bytes made = pfx_key_spki(key);
        if (!pfx_buf_add(&ref.spki, made.data, made.len))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "make key", "", "",
                            "The public key is too long.");
    }
    struct pfx_bytes spki = pfx_key_spki(key);
    pfx_op_key(op, &making->id, spki, pfx_key_type_name(making->type));
    PFX_TRY(request(session, making, key, &csr, err));
    uint8_t ticket[32];
    PFX_TRY(pfx_ask_ticket(&making->ask, session, mac, &making->id, spki, ticket, err));
    PFX_TRY(pfx_keyref_write(&ref, &ref_text, err));
    pfx_op_out(op, pfx_buf_bytes(&csr));
    pfx_op_ticket(op, (struct pfx_bytes){ticket, sizeof ticket});

    struct pfx_msg *reply = pfx_task_item(making->task);
    pfx_msg_set_str(reply, "key_ref", pfx_buf_str(&ref_text));
    pfx_msg_set_blob(reply, "key_id", making->id.bytes, sizeof making->id.bytes);
    pfx_msg_set_blob(reply, "spki", spki.data, spki.len);
    pfx_msg_set_blob(reply, "csr", csr.data, csr.len);
    pfx_msg_set_blob(reply, "ticket", ticket, sizeof ticket);
    pfx_msg_set_int(reply, "epoch", pfx_rotation_epoch(hsm->rotation));
    *ret_reply = reply;
    return PFX_OK;
}

pfx_result pfx_do_key_csr(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct making making = {.task = task, .attempt = pfx_msg_int(task->args, "attempt")};
    PFX_TRY(pfx_ask_read(hsm->policy, task->args, &making.ask, err));
    if (!pfx_key_type_parse(pfx_msg_str(task->args, "key_type"), &making.type))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "key_type", "",
                        "This isn't a key type that pfx-hsm knows.");
    pfx_user_key_id(hsm->policy->host_id, making.ask.user, pfx_purpose_name(making.ask.purpose),
                    making.ask.enrolment, making.attempt, &making.id);
    struct pfx_op op = {.event = PFX_EVENT_KEY_MAKE, .actor = task->actor};
    op.target.enrolment = making.ask.enrolment;
    op.target.attempt = making.attempt;
    pfx_op_target_user(&op, making.ask.user, making.ask.salt);
    pfx_op_key(&op, &making.id, (struct pfx_bytes){NULL, 0}, pfx_key_type_name(making.type));
    PFX_TRY(pfx_claim_take(hsm, &making.id, true, err));
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    pfx_result result = pfx_op_run(worker, &op, work, &making, &reply, err);
    pfx_claim_end(hsm, &making.id);
    if (pfx_ok(result))
        pfx_task_emit(task, PFX_TAKE(reply));
    return result;
}
