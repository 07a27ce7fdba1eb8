/*
 * Does a connector host have the new key? A probe is sealed to the generation as a password is; what
 * the host reads out of it comes back as its answer. Here only a MAC of the answer is kept.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "crypto/oaep.h"
#include "pkcs11/hsm/connector_guide.h"
#include "pkcs11/hsm/generation.h"
#include "pkcs11/hsm/rotation.h"

#define ANSWER_BYTES 20 /* of randomness: 160 bits */
#define PLAIN_SIZE 24   /* of the one whose text the guide holds */

/* The generation that the arguments mean: the staged one, if they name none. */
static pfx_result choose(struct pfx_change *change, struct pfx_error *err)
{
    const struct pfx_msg *args = change->task->args;
    unsigned number = (unsigned)pfx_msg_int(args, "generation");
    for (size_t i = 0; number == 0 && i < change->pins.n; i++)
        if (change->pins.list[i].state == PFX_STATE_STAGED)
            number = change->pins.list[i].generation;
    pfx_change_of(change, number);
    const struct pfx_pinned *pin = pfx_change_pin(change);
    if (!pin || pin->spki.len == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, pfx_event_name(change->event), "generation", "",
                        number == 0 ? "No generation is staged: pfx-agent key rotate makes one."
                                    : "There is no such generation with a key: pfx-agent key "
                                      "status lists them.");
    if (pin->state == PFX_STATE_DESTROYED || pin->state == PFX_STATE_COMPROMISED)
        return pfx_fail(err, PFX_CLASS_REFUSED, pfx_event_name(change->event), "generation",
                        "state", "Generation %u is %s: no connector needs it.", pin->generation,
                        pfx_key_state_name(pin->state));
    const struct pfx_hsm_policy *policy = change->worker->hsm->policy;
    const char *host = pfx_msg_str(args, "host");
    for (size_t i = 0; i < policy->n_connectors; i++)
        if (strcmp(policy->connectors[i].name, host) == 0)
            return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, pfx_event_name(change->event), "host", "",
                    "The policy names no such connector: add it to connectors of hsm-policy.yaml "
                    "and start pfx-hsm again.");
}

/* MAC over what the answer belongs to: an answer of another host or generation is none. Into
 * ret_mac, or (ret_right not NULL) compared with the expected one: that is of the MAC key which was
 * active when the host was asked. */
static pfx_result answer_mac(struct pfx_change *change, const char *host, const char *answer,
                             uint8_t mac_of_it[32], bool *ret_right, struct pfx_error *err)
{
    struct pfx_worker *worker = change->worker;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(1024);
    PFX_TRY(pfx_session_acquire(worker->hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_ring_key(worker->hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    if (!pfx_buf_addf(&text, "pfx-agent connector v1\n%s\n%u\n%s\n", host, change->generation,
                      answer))
        return pfx_fail(err, PFX_CLASS_USAGE, "connector", host, "", "That is too long.");
    if (ret_right)
        return pfx_mac_vouches(worker->hsm, session, mac, pfx_buf_bytes(&text),
                               (struct pfx_bytes){mac_of_it, 32}, ret_right, NULL, err);
    return pfx_key_mac(session, mac, pfx_buf_bytes(&text), mac_of_it, err);
}

static pfx_result seal_text(const struct pfx_hsm *hsm, const struct pfx_pinned *pin,
                            const char *text, struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_secret *plain PFX_AUTOSECRET = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(1024);
    PFX_TRY(pfx_secret_copy(text, strlen(text), &plain, err));
    PFX_TRY(pfx_oaep_seal(pfx_buf_bytes(&pin->spki), hsm->policy->seal_hash, plain, &sealed, err));
    if (!pfx_base64_encode(sealed.data, sealed.len, out))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "connector.probe", "", "", "It is too long.");
    return PFX_OK;
}

/* Random text of hex digits: nothing that a keyboard or a code page changes. */
static pfx_result draw(struct pfx_worker *worker, size_t bytes, char *ret_text,
                       struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    uint8_t random[ANSWER_BYTES];
    PFX_TRY(pfx_session_acquire(worker->hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_token_random(session, random, bytes, err));
    pfx_hex(random, bytes, ret_text);
    OPENSSL_cleanse(random, sizeof random);
    return PFX_OK;
}

static pfx_result probe_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                             struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_change *change = ctx;
    const struct pfx_hsm *hsm = worker->hsm;
    struct pfx_pinned *pin = pfx_change_pin(change);
    const char *host = pfx_msg_str(change->task->args, "host");
    char answer[2 * ANSWER_BYTES + 1], plain[2 * ANSWER_BYTES + 1];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf probe = pfx_buf_make(2048);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf known = pfx_buf_make(2048);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf guide = pfx_buf_make(24576);
    struct pfx_pin_connector *row = pfx_pinned_connector(pin, host);
    if (!row)
        return pfx_fail(err, PFX_CLASS_REFUSED, "connector.probe", host, "",
                        "Too many connectors were asked about this generation.");
    pfx_op_token(op, hsm->roles[PFX_ROLE_USERS].token);
    PFX_TRY(draw(worker, ANSWER_BYTES, answer, err));
    PFX_TRY(draw(worker, PLAIN_SIZE / 2, plain, err));
    PFX_TRY(seal_text(hsm, pin, answer, &probe, err));
    PFX_TRY(seal_text(hsm, pin, plain, &known, err));
    row->probed_ms = pfx_now_ms();
    row->confirmed_ms = 0;
    PFX_TRY(answer_mac(change, host, answer, row->expected, NULL, err));
    OPENSSL_cleanse(answer, sizeof answer);
    struct pfx_connector_guide facts = {.host = host,
                                        .generation = pin->generation,
                                        .key_name = pin->key_name,
                                        .provider_name = pin->provider_name,
                                        .hash = hsm->policy->seal_hash,
                                        .probe = pfx_buf_str(&probe),
                                        .known_plain = plain,
                                        .known_sealed = pfx_buf_str(&known)};
    if (!pfx_connector_guide(&facts, &guide))
        return pfx_fail(err, PFX_CLASS_REFUSED, "connector.probe", host, "",
                        "keyName or providerName has a line end in it.");
    pfx_op_out(op, pfx_buf_bytes(&guide));
    char *file PFX_AUTOFREE = pfx_asprintf("probe-%s-%u.ps1", host, pin->generation);
    struct pfx_msg *item = pfx_task_item(change->task);
    pfx_msg_set_str(item, "kind", "file");
    pfx_msg_set_str(item, "file", file);
    pfx_msg_set_str(item, "content", pfx_buf_str(&guide));
    *ret_reply = item;
    return PFX_OK;
}

/* Which host it was stands in the log. */
static void name_host(struct pfx_change *change)
{
    snprintf(change->op.target.name, sizeof change->op.target.name, "%s",
             pfx_msg_str(change->task->args, "host"));
}

pfx_result pfx_do_connector_probe(struct pfx_worker *worker, struct pfx_task *task,
                                  struct pfx_error *err)
{
    PFX_CLEANUP(pfx_change_done) struct pfx_change change = {.generation = 0};
    PFX_TRY(pfx_change_begin(&change, worker, task, PFX_EVENT_CONNECTOR_PROBE, err));
    PFX_TRY(choose(&change, err));
    name_host(&change);
    change.token_work = probe_work;
    PFX_TRY(pfx_change_write(&change, err));
    const char *host = pfx_msg_str(task->args, "host");
    pfx_task_say(change.task, "step",
                   "run the guide on %s in PowerShell 7 or 5.1 as administrator, then: pfx-agent "
                   "connector confirm %s ANSWER",
                   host, host);
    return PFX_OK;
}

static pfx_result confirm_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                               struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_change *change = ctx;
    const char *host = pfx_msg_str(change->task->args, "host");
    const char *answer = pfx_msg_str(change->task->args, "answer");
    struct pfx_pin_connector *row = pfx_pinned_connector(pfx_change_pin(change), host);
    bool right = false;
    (void)ret_reply;
    pfx_op_token(op, worker->hsm->roles[PFX_ROLE_USERS].token);
    if (!row || row->probed_ms == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "connector.confirm", host, "",
                        "This connector wasn't asked: pfx-agent connector probe %s.", host);
    PFX_TRY(answer_mac(change, host, answer, row->expected, &right, err));
    if (!right)
        return pfx_fail(err, PFX_CLASS_REFUSED, "connector.confirm", host, "answer",
                        "That isn't the answer to the last probe of this host and generation %u: "
                        "the guide prints it, 40 digits and letters.",
                        change->generation);
    row->confirmed_ms = pfx_now_ms();
    return PFX_OK;
}

pfx_result pfx_do_connector_confirm(struct pfx_worker *worker, struct pfx_task *task,
                                    struct pfx_error *err)
{
    PFX_CLEANUP(pfx_change_done) struct pfx_change change = {.generation = 0};
    const char *missing[PFX_PIN_CONNECTORS_MOST];
    PFX_TRY(pfx_change_begin(&change, worker, task, PFX_EVENT_CONNECTOR_CONFIRM, err));
    PFX_TRY(choose(&change, err));
    name_host(&change);
    change.token_work = confirm_work;
    PFX_TRY(pfx_change_write(&change, err));
    size_t left = pfx_connectors_missing(worker->hsm->policy, pfx_change_pin(&change), missing);
    pfx_task_say(change.task, "step", "%s opened what was sealed to generation %u",
                   pfx_msg_str(task->args, "host"), change.generation);
    for (size_t i = 0; i < left; i++)
        pfx_task_say(change.task, "note", "still to confirm: %s", missing[i]);
    if (left == 0 && pfx_change_pin(&change)->state == PFX_STATE_STAGED)
        pfx_task_say(change.task, "step",
                       "that was the last one: pfx-agent key activate %u may follow",
                       change.generation);
    return PFX_OK;
}
