/* Whole operations: permission, intent, work, result, release. */
#include "pkcs11/hsm/op.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"

#define WHO(role) (1u << (role))
#define USERS PFX_NEEDS(PFX_ROLE_USERS)
#define SERVICE PFX_NEEDS(PFX_ROLE_SERVICE)
#define LOG PFX_NEEDS(PFX_ROLE_LOG)

/* Nothing is permitted unless a row says so. The log role is needed wherever a key is used: what
 * can't be logged isn't done. */
static const struct row {
    const char *name;
    unsigned who;
    unsigned needs;
    enum pfx_ceiling ceiling;
} rows[] = {
    [PFX_EVENT_KEY_MAKE] = {"key.make", WHO(PFX_ACTOR_AGENTD), USERS | LOG, PFX_CEILING_KEYS},
    [PFX_EVENT_PFX_BUILD] = {"pfx.build", WHO(PFX_ACTOR_AGENTD), USERS | LOG, PFX_CEILING_BUILDS},
    [PFX_EVENT_USER_KEY_DESTROY] = {"user_key.destroy", WHO(PFX_ACTOR_AGENTD), USERS | LOG,
                                    PFX_CEILING_DESTROYS},
    [PFX_EVENT_ASSERTION_SIGN] = {"assertion.sign", WHO(PFX_ACTOR_UPLOADER), SERVICE | LOG,
                                  PFX_CEILING_ASSERTIONS},
    [PFX_EVENT_SECRET_OPEN] = {"secret.open", WHO(PFX_ACTOR_UPLOADER), SERVICE | LOG,
                               PFX_CEILING_SECRETS},
    [PFX_EVENT_SECRET_SEAL] = {"secret.seal", WHO(PFX_ACTOR_OPERATOR), SERVICE | LOG,
                               PFX_CEILING_NONE},
    /* The ceremony brings the roles to readiness: it can't ask for it. */
    [PFX_EVENT_CEREMONY_KEY] = {"ceremony.key", WHO(PFX_ACTOR_OPERATOR), 0, PFX_CEILING_NONE},
    [PFX_EVENT_CEREMONY_PIN] = {"ceremony.pin", WHO(PFX_ACTOR_OPERATOR), 0, PFX_CEILING_NONE},
    [PFX_EVENT_CEREMONY_CERT] = {"ceremony.certificate", WHO(PFX_ACTOR_OPERATOR), 0,
                                 PFX_CEILING_NONE},
    [PFX_EVENT_PROBE] = {"probe", WHO(PFX_ACTOR_OPERATOR) | WHO(PFX_ACTOR_SELF), 0,
                         PFX_CEILING_NONE},
    [PFX_EVENT_KEY_EXPORT] = {"key.export", WHO(PFX_ACTOR_OPERATOR), USERS | LOG, PFX_CEILING_NONE},
    /* It gives nothing out that pfx-agentd hasn't had before. */
    [PFX_EVENT_REWRAP] = {"key.rewrap", WHO(PFX_ACTOR_AGENTD), USERS | LOG, PFX_CEILING_NONE},
    [PFX_EVENT_STANDING_ROTATE] = {"standing.rotate", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                   PFX_CEILING_NONE},
    [PFX_EVENT_STANDING_ACTIVATE] = {"standing.activate", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                     PFX_CEILING_NONE},
    [PFX_EVENT_STANDING_DESTROY] = {"standing.destroy", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                    PFX_CEILING_NONE},
    [PFX_EVENT_KEY_ROTATE] = {"key.rotate", WHO(PFX_ACTOR_OPERATOR), USERS | LOG, PFX_CEILING_NONE},
    [PFX_EVENT_KEY_ACTIVATE] = {"key.activate", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                PFX_CEILING_NONE},
    [PFX_EVENT_KEY_RETIRE] = {"key.retire", WHO(PFX_ACTOR_OPERATOR), USERS | LOG, PFX_CEILING_NONE},
    [PFX_EVENT_KEY_DESTROY] = {"key.destroy", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                               PFX_CEILING_NONE},
    [PFX_EVENT_KEY_COMPROMISE] = {"key.compromise", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                  PFX_CEILING_NONE},
    [PFX_EVENT_CONNECTOR_PROBE] = {"connector.probe", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                   PFX_CEILING_NONE},
    [PFX_EVENT_CONNECTOR_CONFIRM] = {"connector.confirm", WHO(PFX_ACTOR_OPERATOR), USERS | LOG,
                                     PFX_CEILING_NONE},
    [PFX_EVENT_BACKUP] = {"backup.create", WHO(PFX_ACTOR_OPERATOR), LOG, PFX_CEILING_NONE},
};
static const char *const actors[] = {[PFX_ACTOR_SELF] = "self",
                                     [PFX_ACTOR_AGENTD] = "agentd",
                                     [PFX_ACTOR_UPLOADER] = "uploader",
                                     [PFX_ACTOR_OPERATOR] = "operator"};

const char *pfx_event_name(enum pfx_event event)
{
    return rows[event].name;
}

bool pfx_event_pins(enum pfx_event event)
{
    return event == PFX_EVENT_CEREMONY_PIN ||
           (event >= PFX_EVENT_KEY_ROTATE && event <= PFX_EVENT_CONNECTOR_CONFIRM);
}

const char *pfx_actor_name(enum pfx_actor_role role)
{
    return actors[role];
}

void pfx_op_target_user(struct pfx_op *op, const char *user_id, struct pfx_bytes salt)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    op->target.has_user = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                          EVP_DigestUpdate(ctx, salt.data, salt.len) == 1 &&
                          EVP_DigestUpdate(ctx, user_id, strlen(user_id)) == 1 &&
                          EVP_DigestFinal_ex(ctx, op->target.user, NULL) == 1;
    EVP_MD_CTX_free(ctx);
}

void pfx_op_token(struct pfx_op *op, const struct pfx_token *token)
{
    const struct pfx_token_facts *facts = pfx_token_facts(token);
    snprintf(op->out.token_label, sizeof op->out.token_label, "%s", facts->label);
    snprintf(op->out.token_serial, sizeof op->out.token_serial, "%s", facts->serial);
}

void pfx_op_key(struct pfx_op *op, const struct pfx_key_id *id, struct pfx_bytes spki,
                const char *algorithm)
{
    op->key.has_id = id != NULL;
    if (id)
        op->key.id = *id;
    op->key.has_spki = spki.len > 0 && pfx_sha256(spki.data, spki.len, op->key.spki);
    if (algorithm)
        snprintf(op->key.algorithm, sizeof op->key.algorithm, "%s", algorithm);
}

void pfx_op_out(struct pfx_op *op, struct pfx_bytes released)
{
    op->out.has_sha256 = pfx_sha256(released.data, released.len, op->out.sha256);
}

void pfx_op_ticket(struct pfx_op *op, struct pfx_bytes ticket)
{
    op->given.has_ticket = pfx_sha256(ticket.data, ticket.len, op->given.ticket);
}

void pfx_op_certificate(struct pfx_op *op, struct pfx_bytes der)
{
    op->given.has_certificate = pfx_sha256(der.data, der.len, op->given.certificate);
}

void pfx_op_pinned(struct pfx_op *op, struct pfx_bytes spki)
{
    op->out.has_pinned = pfx_sha256(spki.data, spki.len, op->out.pinned);
}

void pfx_op_sealed(struct pfx_op *op, struct pfx_bytes sealed, const char *hash)
{
    op->out.seal_hash = hash;
    op->out.has_sealed = pfx_sha256(sealed.data, sealed.len, op->out.sealed);
}

static unsigned ceiling_of(const struct pfx_hsm_policy *policy, enum pfx_ceiling ceiling,
                           const char **ret_option)
{
    switch (ceiling) {
    case PFX_CEILING_KEYS:
        *ret_option = "ceilings.keys_per_hour";
        return policy->per_hour_keys;
    case PFX_CEILING_BUILDS:
        *ret_option = "ceilings.builds_per_hour";
        return policy->per_hour_builds;
    case PFX_CEILING_ASSERTIONS:
        *ret_option = "ceilings.assertions_per_hour";
        return policy->per_hour_assertions;
    case PFX_CEILING_SECRETS:
        *ret_option = "ceilings.secrets_per_hour";
        return policy->per_hour_secrets;
    case PFX_CEILING_DESTROYS:
        *ret_option = "ceilings.destroys_per_hour";
        return policy->per_hour_destroys;
    case PFX_CEILING_NONE:
    case PFX_CEILING_COUNT:
        break;
    }
    *ret_option = "";
    return UINT32_MAX;
}

static pfx_result gate(struct pfx_hsm *hsm, const struct pfx_op *op, struct pfx_error *err)
{
    const struct row *row = &rows[op->event];
    if (!(row->who & WHO(op->actor.role)))
        return pfx_fail(err, PFX_CLASS_REFUSED, row->name, actors[op->actor.role], "permission",
                        "This side may not ask for that.");
    PFX_TRY(pfx_hsm_needs(hsm, row->needs, err));
    PFX_TRY(pfx_hsmlog_takes(hsm, op, err));
    if (row->ceiling == PFX_CEILING_NONE)
        return PFX_OK;
    const char *option;
    unsigned most = ceiling_of(hsm->policy, row->ceiling, &option);
    if (!pfx_ceiling_take(&hsm->ceilings, row->ceiling, most, op->started_ms))
        /* Transient: within the hour it works again, and no user is given up meanwhile. */
        return pfx_fail(err, PFX_CLASS_TRANSIENT, row->name, option, "ceiling",
                        "The policy's ceiling of %u in an hour is reached: it goes on by itself; "
                        "raise the ceiling if this rate is meant.",
                        most);
    return PFX_OK;
}

static void tell(struct pfx_hsm *hsm, const struct pfx_op *op, pfx_result outcome,
                 const struct pfx_error *why)
{
    char id[2 * PFX_KEY_ID_SIZE + 1] = "-", user[65] = "-", line[1024] = "";
    if (op->key.has_id)
        pfx_hex(op->key.id.bytes, sizeof op->key.id.bytes, id);
    if (op->target.has_user)
        pfx_hex(op->target.user, sizeof op->target.user, user);
    if (pfx_failed(outcome))
        pfx_error_line(why, line, sizeof line);
    pfx_log(PFX_LOG_DEBUG,
            "op %s: %s, by %s (uid %" PRId64 "), enrolment %" PRId64 "/%" PRId64 ", user %s, %s%s"
            "key %s %s, tier %s, %" PRId64 " ms%s%s",
            rows[op->event].name, pfx_class_name(outcome.cls), actors[op->actor.role],
            op->actor.uid, op->target.enrolment, op->target.attempt, user, op->target.name,
            op->target.name[0] ? ", " : "", id, op->key.algorithm,
            op->out.tier ? op->out.tier : "-", pfx_uptime_ms() - op->started_ms,
            line[0] ? ": " : "", line);
    pthread_mutex_lock(&hsm->small);
    if (pfx_ok(outcome)) {
        hsm->done_ok++;
        hsm->trouble = PFX_ERROR_NONE;
    } else {
        hsm->done_failed++;
        if (outcome.cls == PFX_CLASS_DEVICE) {
            hsm->trouble = *why;
            hsm->trouble_ms = pfx_now_ms();
        }
    }
    pthread_mutex_unlock(&hsm->small);
}

/* Of pfx-agentd's operations as many are at the tokens as the policy has sessions; others meanwhile
 * wait for the log's disk and signature, before or after it. */
static pfx_result at_token(struct pfx_worker *worker, struct pfx_op *op, pfx_op_work work, void *ctx,
                           struct pfx_msg **ret_reply, struct pfx_error *why)
{
    bool counted = op->actor.role == PFX_ACTOR_AGENTD;
    while (counted && sem_wait(&worker->hsm->lanes) != 0 && errno == EINTR)
        ;
    pfx_result outcome =
        counted && atomic_load(&worker->hsm->stopping)
            ? pfx_fail(why, PFX_CLASS_TRANSIENT, rows[op->event].name, "", "",
                       "pfx-hsm is stopping: nothing was done, and it is done by the next one.")
            : work(worker, op, ctx, ret_reply, why);
    if (counted)
        sem_post(&worker->hsm->lanes);
    return outcome;
}

pfx_result pfx_op_run(struct pfx_worker *worker, struct pfx_op *op, pfx_op_work work, void *ctx,
                      struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    op->started_ms = pfx_uptime_ms();
    pfx_result outcome = gate(hsm, op, &why);
    if (pfx_ok(outcome)) {
        outcome = pfx_hsmlog_intent(hsm, op, &why);
        /* While the disk is full every job comes again and again: it is no use that counts. */
        if (pfx_failed(outcome) && rows[op->event].ceiling != PFX_CEILING_NONE)
            pfx_ceiling_give_back(&hsm->ceilings, rows[op->event].ceiling, op->started_ms);
    }
    if (pfx_ok(outcome)) {
        worker->began = true;
        outcome = at_token(worker, op, work, ctx, &reply, &why);
        /* A failure stays what it is; a success without its checkpoint is none. */
        outcome = pfx_hsmlog_result(hsm, op, outcome, &why);
    }
    tell(hsm, op, outcome, &why);
    if (pfx_failed(outcome)) {
        if (err && err->cls == PFX_CLASS_OK)
            *err = why;
        return outcome;
    }
    if (ret_reply)
        *ret_reply = PFX_TAKE(reply);
    return PFX_OK;
}
