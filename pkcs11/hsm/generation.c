/* What every change of the pins has in common. */
#include "pkcs11/hsm/generation.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/canon.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"

static pfx_result mac_session(struct pfx_worker *worker, struct pfx_session **ret_session,
                              struct pfx_key **ret_mac, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    PFX_TRY(pfx_hsm_needs(hsm, PFX_NEEDS(PFX_ROLE_USERS), err));
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, ret_session, err));
    return pfx_ring_key(hsm, &worker->ring, *ret_session, PFX_STANDING_MAC, ret_mac, err);
}

pfx_result pfx_pins_of(struct pfx_worker *worker, struct pfx_pins *ret_pins, struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    PFX_TRY(mac_session(worker, &session, &mac, err));
    return pfx_pins_load(worker->hsm, session, mac, ret_pins, err);
}

char *pfx_generation_name(const struct pfx_hsm_policy *policy, unsigned generation)
{
    return generation == 1 ? pfx_strdup(policy->encryption_name)
                           : pfx_asprintf("%s-%u", policy->encryption_name, generation);
}

pfx_result pfx_none_active(const struct pfx_pins *pins, struct pfx_error *err)
{
    if (!pfx_pins_usable(pins))
        return pfx_fail(err, PFX_CLASS_REFUSED, "find encryption key", "pins", "",
                        "No generation of the encryption key is pinned: run pfx-agent init.");
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "find encryption key", "pins", "none active",
                    "No generation of the encryption key is active, so no PFX is built: enrolments "
                    "wait until an operator activates one (pfx-agent key status, key activate).");
}

void pfx_change_done(struct pfx_change *change)
{
    if (change->pin)
        pfx_role_close(change->worker->hsm, PFX_ROLE_ENCRYPTION);
    pfx_secret_free(change->pin);
    pfx_approved_done(&change->approved);
    pfx_pins_done(&change->pins);
}

pfx_result pfx_change_begin(struct pfx_change *change, struct pfx_worker *worker,
                            struct pfx_task *task, enum pfx_event event, struct pfx_error *err)
{
    change->worker = worker;
    change->task = task;
    change->event = event;
    change->op = (struct pfx_op){.event = event, .actor = task->actor};
    return pfx_pins_of(worker, &change->pins, err);
}

void pfx_change_of(struct pfx_change *change, unsigned generation)
{
    change->generation = generation;
    pfx_standing_encryption(change->worker->hsm->policy, generation, &change->standing);
    snprintf(change->op.target.name, sizeof change->op.target.name, "%s", change->standing.name);
}

struct pfx_pinned *pfx_change_pin(struct pfx_change *change)
{
    for (size_t i = 0; i < change->pins.n; i++)
        if (change->pins.list[i].generation == change->generation)
            return &change->pins.list[i];
    return NULL;
}

pfx_result pfx_change_ask(struct pfx_change *change, enum pfx_key_move move, unsigned number,
                          const struct pfx_key_needs *needs, struct pfx_error *err)
{
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    struct pfx_reasons why;
    char more[48] = "";
    size_t n = pfx_pins_generations(&change->pins, list);
    if (pfx_lifecycle_allows(list, n, number, move, needs, &why))
        return PFX_OK;
    for (size_t i = 0; i < why.n; i++)
        pfx_task_say(change->task, "reason", "%s", why.text[i]);
    if (why.n > 1)
        snprintf(more, sizeof more, " (and %zu more)", why.n - 1);
    return pfx_fail(err, PFX_CLASS_REFUSED, pfx_event_name(change->event), "", "state", "%s%s",
                    why.text[0], more);
}

static void add_str(struct pfx_canon *canon, const char *name, const char *text)
{
    pfx_canon_str(canon, name, (struct pfx_bytes){(const uint8_t *)text, strlen(text)});
}

/* Members in the order of their names: canonical. */
pfx_result pfx_change_approved(struct pfx_change *change, struct pfx_bytes spki,
                               const struct pfx_approval_word *words, size_t n,
                               struct pfx_error *err)
{
    const struct pfx_pinned *pin = pfx_change_pin(change);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf args = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    uint8_t digest[32];
    char hex[65];
    size_t at = 0;
    if (!pfx_sha256(spki.data, spki.len, digest))
        pfx_die("SHA-256 isn't available");
    struct pfx_canon canon = pfx_canon_make(&args);
    pfx_canon_open(&canon, NULL, '{');
    for (; at < n && strcmp(words[at].name, "generation") < 0; at++)
        add_str(&canon, words[at].name, words[at].word);
    pfx_canon_int(&canon, "generation", pin->generation);
    add_str(&canon, "key_name", pin->key_name);
    add_str(&canon, "provider_name", pin->provider_name);
    add_str(&canon, "public_key_sha256", pfx_hex(digest, sizeof digest, hex));
    for (; at < n; at++)
        add_str(&canon, words[at].name, words[at].word);
    pfx_canon_close(&canon, '}');
    PFX_TRY(pfx_approvals_require(change->worker, change->task, pfx_event_name(change->event),
                                  pfx_buf_bytes(&args), &change->approved, err));
    change->op.approved = &change->approved;
    return PFX_OK;
}

pfx_result pfx_change_open(struct pfx_change *change, bool probe, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->worker->hsm;
    const char *given = pfx_msg_str(change->task->args, "encryption_pin");
    char text[128];
    PFX_TRY(pfx_secret_copy(given, strlen(given), &change->pin, err));
    PFX_TRY(pfx_role_open(hsm, PFX_ROLE_ENCRYPTION, change->pin, err));
    pfx_task_say(change->task, "step", "logged in to the token %s for this command",
                   pfx_token_text(hsm->roles[PFX_ROLE_ENCRYPTION].token, text));
    return probe ? pfx_role_probe(change->worker, PFX_ROLE_ENCRYPTION, true, &change->task->actor,
                                  err)
                 : PFX_OK;
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct pfx_change *change = ctx;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    struct pfx_key *mac;
    if (change->token_work)
        PFX_TRY(change->token_work(worker, op, change, &reply, err));
    else
        pfx_op_token(op, worker->hsm->roles[PFX_ROLE_USERS].token);
    PFX_TRY(mac_session(worker, &session, &mac, err));
    PFX_TRY(pfx_pins_store(worker->hsm, session, mac, &change->pins, err));
    *ret_reply = PFX_TAKE(reply);
    return PFX_OK;
}

pfx_result pfx_change_write(struct pfx_change *change, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->worker->hsm;
    const struct pfx_pinned *pin = pfx_change_pin(change);
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    change->pins.serial++;
    struct pfx_op *op = &change->op;
    op->out.generation = pin->generation;
    op->out.pin_serial = change->pins.serial;
    op->out.pin_state = pfx_key_state_name(pin->state);
    if (pin->spki.len > 0)
        pfx_op_pinned(op, pfx_buf_bytes(&pin->spki));
    PFX_TRY(pfx_op_run(change->worker, op, work, change, &reply, err));
    pfx_hsmlog_pins(hsm, &change->pins);
    if (reply)
        pfx_task_emit(change->task, PFX_TAKE(reply));
    pfx_hsmlog_settle(hsm);
    return PFX_OK;
}

size_t pfx_connectors_missing(const struct pfx_hsm_policy *policy, const struct pfx_pinned *pin,
                              const char **ret_list)
{
    size_t n = 0;
    for (size_t i = 0; i < policy->n_connectors && n < PFX_PIN_CONNECTORS_MOST; i++)
        if (!pfx_pinned_confirmed(pin, policy->connectors[i].name))
            ret_list[n++] = policy->connectors[i].name;
    return n;
}
