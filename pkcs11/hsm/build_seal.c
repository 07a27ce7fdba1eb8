/*
 * Build PFX and seal. pfx-agentd brings a certificate and what pfx-hsm gave it earlier; nothing of
 * it is believed: the key reference has a MAC or names an object, the ticket says for whom the key
 * was made, the certificate has to have that key, that purpose, exactly those addresses, and a
 * chain to the policy's roots. Then a password is drawn, the key exported under it, the password
 * sealed to the pinned key, and wiped.
 */
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/cert.h"
#include "crypto/encode.h"
#include "crypto/oaep.h"
#include "crypto/pfx.h"
#include "pkcs11/hsm/claim.h"
#include "pkcs11/hsm/generation.h"
#include "pkcs11/hsm/proof.h"
#include "pkcs11/hsm/tier.h"
#include "pkcs11/hsm/verbs.h"

#define PASSWORD_SIZE 32
#define MAX_KEY_CIPHERTEXT 8192
#define MAX_PFX (512 * 1024)
#define MAX_SEALED 1024
#define DAY_MS INT64_C(86400000) /* what is left of a certificate when it is delivered */

struct building {
    struct pfx_task *task;
    struct pfx_ask ask;
    struct pfx_keyref ref;
    enum pfx_profile profile;
    enum pfx_key_type type;
};

static void building_done(struct building *building)
{
    pfx_keyref_done(&building->ref);
}

/* With a key that isn't for signing old mail is read, and a record for it outlives its certificate:
 * sealed anew, that is judged by the last day on which it could be delivered. */
static int64_t judged_at(const struct building *building, struct pfx_bytes leaf)
{
    struct pfx_cert_facts facts PFX_CLEANUP(pfx_cert_facts_done) = {0};
    struct pfx_error ignored = PFX_ERROR_NONE;
    int64_t now_ms = pfx_now_ms();
    if (building->ask.purpose == PFX_PURPOSE_SIGNING ||
        pfx_failed(pfx_cert_facts_read(leaf, &facts, &ignored)))
        return now_ms; /* what can't be read is refused by the check */
    int64_t last_ms = facts.not_after_ms - DAY_MS;
    return last_ms < now_ms && last_ms > facts.not_before_ms ? last_ms : now_ms;
}

static pfx_result certificate_check(const struct pfx_hsm *hsm, const struct building *building,
                                    struct pfx_certs **ret_chain, struct pfx_error *err)
{
    const struct pfx_msg *body = building->task->args;
    struct pfx_certs *pool PFX_AUTOCERTS = pfx_certs_new();
    struct pfx_bytes leaf = pfx_msg_blob(body, "leaf");
    for (size_t i = 0; i < pfx_msg_count(body, "chain"); i++)
        PFX_TRY(pfx_reclass(pfx_certs_add(pool, pfx_msg_blob_at(body, "chain", i), err),
                            PFX_CLASS_REFUSED, PFX_CLASS_INTEGRITY, err));
    struct pfx_cert_expect expect = {.spki = pfx_buf_bytes(&building->ref.spki),
                                     .emails = building->ask.addresses,
                                     .n_emails = building->ask.n_addresses,
                                     .purpose = building->ask.purpose,
                                     .now_ms = judged_at(building, leaf),
                                     .max_days = hsm->policy->max_cert_days,
                                     .roots = hsm->roots};
    PFX_TRY(pfx_reclass(pfx_cert_check(leaf, pool, &expect, err), PFX_CLASS_REFUSED,
                        PFX_CLASS_INTEGRITY, err));
    return pfx_reclass(pfx_cert_order_chain(leaf, pool, ret_chain, err), PFX_CLASS_REFUSED,
                       PFX_CLASS_INTEGRITY, err);
}

static pfx_result user_key(struct pfx_worker *worker, struct pfx_session *session,
                           const struct building *building, struct pfx_key **ret_key,
                           struct pfx_error *err)
{
    const struct pfx_keyref *ref = &building->ref;
    struct pfx_bytes spki = pfx_buf_bytes(&ref->spki);
    if (ref->wrapped) {
        struct pfx_key *wrapping;
        PFX_TRY(pfx_ring_generation(worker->hsm, &worker->ring, session, PFX_STANDING_WRAPPING,
                                    ref->wrapping, &wrapping, err));
        return pfx_key_unwrap_blob(session, wrapping, pfx_buf_bytes(&ref->blob), &ref->id, spki,
                                   ret_key, err);
    }
    struct pfx_key *key = NULL;
    PFX_TRY(pfx_key_find(session, PFX_USE_USER, &ref->id, true, spki, &key, err));
    if (!key) {
        char id[2 * PFX_KEY_ID_SIZE + 1], text[128];
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "find user key",
                        pfx_hex(ref->id.bytes, sizeof ref->id.bytes, id), "",
                        "The token %s has no key with this CKA_ID any more: restore the token from "
                        "its backup, or cancel this enrolment, which orders anew.",
                        pfx_token_text(pfx_session_token(session), text));
    }
    *ret_key = key;
    return PFX_OK;
}

/* 32 bytes of the token's RNG, each mapped to one of 64 characters. */
static pfx_result draw_password(struct pfx_session *session, struct pfx_secret **ret_password,
                                struct pfx_error *err)
{
    struct pfx_secret *password PFX_AUTOSECRET = NULL;
    PFX_TRY(pfx_secret_new(PASSWORD_SIZE, &password, err));
    PFX_TRY(pfx_token_random(session, pfx_secret_data(password), PASSWORD_SIZE, err));
    pfx_password_from_random(password);
    *ret_password = PFX_TAKE(password);
    return PFX_OK;
}

static pfx_result build(struct pfx_worker *worker, struct pfx_session *session,
                        const struct building *building, const struct pfx_certs *chain,
                        struct pfx_key *key, enum pfx_tier tier, const struct pfx_secret *password,
                        struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_key *transport;
    struct pfx_pbe pbe;
    PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf ciphertext = pfx_buf_make(MAX_KEY_CIPHERTEXT);
    PFX_TRY(
        pfx_ring_key(worker->hsm, &worker->ring, session, PFX_STANDING_TRANSPORT, &transport, err));
    PFX_TRY(pfx_pbe_draw(building->profile, &pbe, err));
    PFX_TRY(pfx_pbe_kek(&pbe, password, &kek, err));
    PFX_TRY(pfx_key_export(session, transport, key, tier, &kek, &ciphertext, err));
    struct pfx_pfx_spec spec = {.pbe = &pbe,
                                .key_ciphertext = pfx_buf_bytes(&ciphertext),
                                .certs = chain,
                                .friendly_name =
                                    pfx_msg_str(building->task->args, "friendly_name")};
    return pfx_pfx_build(&spec, password, out, err);
}

static pfx_result seal(const struct pfx_hsm *hsm, struct pfx_session *session,
                       const struct pfx_probe *proven, const struct pfx_pinned *pin,
                       const struct pfx_secret *password, struct pfx_buf *out, const char **ret_by,
                       struct pfx_error *err)
{
    enum pfx_hash hash = hsm->policy->seal_hash;
    struct pfx_bytes spki = pfx_buf_bytes(&pin->spki);
    if (proven->seals) {
        PFX_TRY(pfx_token_seal_oaep(session, spki, hash, password, out, err));
        *ret_by = "token";
    } else {
        PFX_TRY(pfx_oaep_seal(spki, hash, password, out, err));
        *ret_by = "openssl";
    }
    return PFX_OK;
}

static struct pfx_msg *reply_of(const struct pfx_hsm *hsm, struct pfx_op *op,
                                const struct building *building, const struct pfx_pinned *pin,
                                const struct pfx_buf *pfx, const struct pfx_buf *sealed)
{
    static const char *const paddings[] = {[PFX_HASH_SHA256] = "oaepSha256",
                                           [PFX_HASH_SHA384] = "oaepSha384",
                                           [PFX_HASH_SHA512] = "oaepSha512"};
    struct pfx_msg *reply = pfx_task_item(building->task);
    pfx_msg_set_blob(reply, "pfx", pfx->data, pfx->len);
    pfx_msg_set_blob(reply, "pfx_sha256", op->out.sha256, sizeof op->out.sha256);
    pfx_msg_set_blob(reply, "sealed", sealed->data, sealed->len);
    pfx_msg_set_int(reply, "generation", pin->generation);
    pfx_msg_set_str(reply, "key_name", pin->key_name);
    pfx_msg_set_str(reply, "provider_name", pin->provider_name);
    pfx_msg_set_str(reply, "padding", paddings[hsm->policy->seal_hash]);
    pfx_msg_set_str(reply, "tier", op->out.tier);
    pfx_msg_set_str(reply, "sealed_by", op->out.sealed_by);
    return reply;
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct building *building = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_token *token = hsm->roles[PFX_ROLE_USERS].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    pfx_op_token(op, token);
    enum pfx_tier tier = PFX_TIER_NONE;
    struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
    pfx_token_proven(token, proven);
    PFX_TRY(pfx_tier_pick(hsm, building->profile, building->type, &tier, err));
    op->out.tier = pfx_tier_name(tier);
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(pfx_proof_check(worker, &building->ask, &building->ref,
                            pfx_msg_blob(building->task->args, "ticket"), session, mac, err));
    struct pfx_certs *chain PFX_AUTOCERTS = NULL;
    PFX_TRY(certificate_check(hsm, building, &chain, err));

    /* The pins are read anew each time: what is sealed to is what the file says now. */
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    PFX_TRY(pfx_pins_load(hsm, session, mac, &pins, err));
    const struct pfx_pinned *pin = pfx_pins_active(&pins);
    if (!pin)
        return pfx_none_active(&pins, err);
    op->out.generation = pin->generation;

    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_secret *password PFX_AUTOSECRET = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pfx = pfx_buf_make(MAX_PFX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(MAX_SEALED);
    PFX_TRY(user_key(worker, session, building, &key, err));
    PFX_TRY(draw_password(session, &password, err));
    PFX_TRY(build(worker, session, building, chain, key, tier, password, &pfx, err));
    PFX_TRY(seal(hsm, session, proven, pin, password, &sealed, &op->out.sealed_by, err));
    pfx_op_out(op, pfx_buf_bytes(&pfx));
    pfx_op_sealed(op, pfx_buf_bytes(&sealed), pfx_hash_name(hsm->policy->seal_hash));
    pfx_op_pinned(op, pfx_buf_bytes(&pin->spki));
    *ret_reply = reply_of(hsm, op, building, pin, &pfx, &sealed);
    return PFX_OK;
}

pfx_result pfx_do_build_seal(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    PFX_CLEANUP(building_done) struct building building = {.task = task};
    pfx_keyref_init(&building.ref);
    PFX_TRY(pfx_ask_read(worker->hsm->policy, task->args, &building.ask, err));
    PFX_TRY(pfx_keyref_parse(pfx_msg_str(task->args, "key_ref"), &building.ref, err));
    PFX_TRY(pfx_reclass(pfx_spki_type(pfx_buf_bytes(&building.ref.spki), &building.type, err),
                        PFX_CLASS_USAGE, PFX_CLASS_INTEGRITY, err));
    PFX_TRY(
        pfx_profile_pick(worker->hsm, pfx_msg_str(task->args, "profile"), &building.profile, err));
    struct pfx_op op = {.event = PFX_EVENT_PFX_BUILD, .actor = task->actor};
    op.target.enrolment = building.ask.enrolment;
    pfx_op_target_user(&op, building.ask.user, building.ask.salt);
    pfx_op_key(&op, &building.ref.id, pfx_buf_bytes(&building.ref.spki),
               pfx_key_type_name(building.type));
    pfx_op_ticket(&op, pfx_msg_blob(task->args, "ticket"));
    pfx_op_certificate(&op, pfx_msg_blob(task->args, "leaf"));
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    PFX_TRY(pfx_claim_take(worker->hsm, &building.ref.id, false, err));
    pfx_result result = pfx_op_run(worker, &op, work, &building, &reply, err);
    pfx_claim_end(worker->hsm, &building.ref.id);
    if (pfx_ok(result))
        pfx_task_emit(task, PFX_TAKE(reply));
    return result;
}
