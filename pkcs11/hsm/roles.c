/* Roles: from a policy's row to a token that is ready. */
#include "pkcs11/hsm/roles.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "pkcs11/hsm/ceremony_record.h"
#include "pkcs11/hsm/confine.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/recovery.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/tier.h"

#define PROBE_MIN_MS INT64_C(2000)
#define PROBE_MAX_MS (INT64_C(10) * 60 * 1000)
#define PROBE_MAX_READY_MS (INT64_C(60) * 60 * 1000)

/* One session for each worker, one for the worker of urgent tasks, one for the log's signer. */
static unsigned sessions_of(const struct pfx_hsm *hsm, enum pfx_role role)
{
    return hsm->policy->sessions + (role == PFX_ROLE_LOG ? 2 : 1);
}

static void not_ready(struct pfx_role_state *state, enum pfx_role_phase phase, bool again,
                      const struct pfx_error *why)
{
    state->phase = phase;
    state->again = again;
    state->why = *why;
}

pfx_result pfx_role_open(struct pfx_hsm *hsm, enum pfx_role role, const struct pfx_secret *pin,
                         struct pfx_error *err)
{
    struct pfx_role_state *state = &hsm->roles[role];
    const struct pfx_role_conf *conf = &hsm->policy->roles[role];
    bool was_open = state->token != NULL;
    if (was_open && state->phase != PFX_ROLE_CLOSED && pfx_token_logged_in(state->token))
        return PFX_OK;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_secret *from_file PFX_AUTOSECRET = NULL;
    bool again = true;
    pfx_result result = PFX_OK;
    if (!state->token)
        result = pfx_token_open(role, conf, sessions_of(hsm, role), &state->token, &why);
    if (pfx_ok(result) && !pin && !conf->pin_file)
        result = pfx_fail(&why, PFX_CLASS_USAGE, "log in", pfx_role_name(role), "",
                          "The policy names no pin_file for this role.");
    if (pfx_ok(result) && !pin) {
        result = pfx_pin_file_read(conf->pin_file, &from_file, &why);
        pin = from_file;
    }
    if (pfx_ok(result)) {
        bool keep = role != PFX_ROLE_ENCRYPTION;
        result = pfx_token_login(state->token, hsm->guard, pin, keep, &why);
        /* Never a second try with a PIN that was refused, nor on a token that warns. */
        if (result.cls == PFX_CLASS_USAGE || result.cls == PFX_CLASS_REFUSED)
            again = false;
    }
    if (pfx_ok(result)) {
        state->opening++;
        state->phase = PFX_ROLE_LOGGED_IN;
        state->again = true;
        return PFX_OK;
    }
    /* One that was open before stays so: the workers' rings point to it. */
    if (state->token && !was_open) {
        if (role == PFX_ROLE_LOG)
            pfx_hsmlog_detach(hsm);
        pfx_token_close(state->token);
        state->token = NULL;
    }
    not_ready(state, PFX_ROLE_CLOSED, again, &why);
    if (err && err->cls == PFX_CLASS_OK)
        *err = why;
    return result;
}

void pfx_role_close(struct pfx_hsm *hsm, enum pfx_role role)
{
    struct pfx_role_state *state = &hsm->roles[role];
    if (state->token) {
        if (role == PFX_ROLE_LOG)
            pfx_hsmlog_detach(hsm);
        pfx_token_logout(state->token, role);
        pfx_token_close(state->token);
        state->token = NULL;
    }
    state->phase = PFX_ROLE_CLOSED;
}

/* How long a probe that was disturbed isn't repeated: a token with a full disk is left alone, and
 * so is one that always answers as if it were. A role that works meanwhile waits longer, since a
 * probe holds up its operations. */
static void postpone(struct pfx_role_state *state)
{
    int64_t most = state->phase == PFX_ROLE_READY ? PROBE_MAX_READY_MS : PROBE_MAX_MS;
    int64_t wait = PROBE_MIN_MS << (state->disturbed < 16 ? state->disturbed : 16);
    state->disturbed++;
    state->probe_at_ms = pfx_uptime_ms() + (wait < most ? wait : most);
}

struct probing {
    enum pfx_role role;
    struct pfx_probe *probe;
};

static pfx_result probe_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                             struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct probing *probing = ctx;
    struct pfx_token *token = worker->hsm->roles[probing->role].token;
    (void)ret_reply;
    pfx_op_token(op, token);
    return pfx_probe_run(token, probing->role, probing->probe, err);
}

/* With users.keys: wrapped, at least one key type of the policy has to come back as it was. */
static pfx_result wrapped_check(const struct pfx_hsm *hsm, const char *token, struct pfx_error *err)
{
    const struct pfx_role_state *users = &hsm->roles[PFX_ROLE_USERS];
    struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
    if (!hsm->policy->wrapped_keys)
        return PFX_OK;
    pfx_token_proven(users->token, proven);
    for (int type = 0; type < PFX_KEY_TYPE_COUNT; type++) {
        CK_MECHANISM_TYPE by =
            pfx_key_type_is_rsa((enum pfx_key_type)type) ? proven->blob_rsa : proven->blob_ec;
        if (hsm->policy->key_types[type] && by != CK_UNAVAILABLE_INFORMATION)
            return PFX_OK;
    }
    return pfx_fail(err, users->probe->passing ? PFX_CLASS_TRANSIENT : PFX_CLASS_REFUSED,
                    "probe token", token, "",
                    "users.keys of the policy is wrapped, and the token gives back no key of "
                    "users.key_types as it was. Set 'users.keys: token', or take another token; "
                    "pfx-agent hsm test shows what it does.");
}

/* What the last probe says about the role. */
static pfx_result judge(const struct pfx_hsm *hsm, enum pfx_role role, struct pfx_error *err)
{
    const struct pfx_role_state *state = &hsm->roles[role];
    char text[128];
    pfx_token_text(state->token, text);
    if (!state->probe->missing_any) {
        if (role != PFX_ROLE_USERS)
            return PFX_OK;
        PFX_TRY(wrapped_check(hsm, text, err));
        return pfx_tiers_check(hsm, err);
    }
    if (state->probe->passing)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "probe token", text, "",
                        "For the role %s it lacks at this time: %s. Some tries failed for a reason "
                        "that may pass, as with a full disk, so the probe is repeated by itself; "
                        "pfx-agent hsm test repeats it now and shows all.",
                        pfx_role_name(role), state->probe->missing);
    return pfx_fail(err, PFX_CLASS_REFUSED, "probe token", text, "",
                    "For the role %s it lacks: %s. Another token or other settings of this one "
                    "are needed; pfx-agent hsm test shows all.",
                    pfx_role_name(role), state->probe->missing);
}

pfx_result pfx_role_probe(struct pfx_worker *worker, enum pfx_role role, bool anew,
                          const struct pfx_actor *actor, struct pfx_error *err)
{
    struct pfx_role_state *state = &worker->hsm->roles[role];
    uint64_t epoch = pfx_token_epoch(state->token);
    bool again = state->probe && state->probe->passing &&
                 (state->lacking || pfx_uptime_ms() >= state->probe_at_ms);
    if (!state->probe || state->probe_epoch != epoch || anew || again) {
        struct pfx_probe *probe PFX_AUTOFREE = pfx_alloc(sizeof *probe);
        struct probing probing = {role, probe};
        struct pfx_op op = {.event = PFX_EVENT_PROBE, .actor = *actor};
        snprintf(op.target.name, sizeof op.target.name, "%s", pfx_role_name(role));
        PFX_TRY(pfx_op_run(worker, &op, probe_work, &probing, NULL, err));
        free(state->probe);
        state->probe = PFX_TAKE(probe);
        /* The probe itself may have found the token gone and opened it anew. */
        state->probe_epoch = pfx_token_epoch(state->token);
        if (state->probe->passing)
            postpone(state);
        else
            state->disturbed = 0;
    }
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result result = judge(worker->hsm, role, &why);
    state->lacking = pfx_failed(result);
    /* Whoever ran it: what lasts takes a ready role down, what may pass doesn't. And what the last
     * probe had against a role may be gone: then the rest is looked at again. */
    if (state->phase == PFX_ROLE_READY && result.cls == PFX_CLASS_REFUSED) {
        not_ready(state, PFX_ROLE_LOGGED_IN, false, &why);
        pfx_log_error(&why, "role %s isn't ready", pfx_role_name(role));
    } else if (state->phase == PFX_ROLE_LOGGED_IN && pfx_ok(result)) {
        state->again = true;
    }
    if (pfx_failed(result) && err && err->cls == PFX_CLASS_OK)
        *err = why;
    return result;
}

static pfx_result key_check(struct pfx_worker *worker, struct pfx_session *session, size_t index,
                            const struct pfx_standing_key *standing, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_role_state *state = &hsm->roles[standing->role];
    struct pfx_key *key PFX_AUTOKEY = NULL;
    PFX_TRY(pfx_key_find(session, standing->use, &standing->id, true, (struct pfx_bytes){NULL, 0},
                         &key, err));
    if (!key) {
        char text[128];
        if (standing->optional)
            return PFX_OK;
        state->no_keys = true;
        return pfx_fail(err, PFX_CLASS_REFUSED, "find key", standing->name, "",
                        "The token %s of the role %s has no such key: run pfx-agent init.",
                        pfx_token_text(state->token, text), pfx_role_name(standing->role));
    }
    struct pfx_bytes spki = pfx_key_spki(key);
    pfx_buf_reset(&hsm->standing_spki[index]);
    if (!pfx_buf_add(&hsm->standing_spki[index], spki.data, spki.len))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key", standing->name, "",
                        "Its public half is larger than any key of ours.");
    if (standing->use == PFX_USE_CLIENT)
        return pfx_app_certificate_read(hsm, index - PFX_STANDING_CLIENT, spki, err);
    return PFX_OK;
}

static pfx_result pins_check(struct pfx_worker *worker, struct pfx_session *session,
                             struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_key *mac;
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(pfx_pins_load(hsm, session, mac, &pins, err));
    pfx_hsmlog_pins(hsm, &pins);
    PFX_TRY(pfx_force_check(hsm, session, mac, err));
    if (pfx_pins_usable(&pins)) /* with none active PFX files aren't built, and all else goes on */
        return PFX_OK;
    hsm->roles[PFX_ROLE_USERS].no_keys = true;
    return pfx_fail(err, PFX_CLASS_REFUSED, "find encryption key", "pins", "",
                    "No generation of the encryption key is pinned: run pfx-agent init.");
}

static pfx_result keys_check(struct pfx_worker *worker, enum pfx_role role, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(hsm->roles[role].token, false, &session, err));
    if (role == PFX_ROLE_USERS)
        PFX_TRY(pfx_rotation_load(hsm, session, err));
    else if (role == PFX_ROLE_SERVICE)
        PFX_TRY(pfx_rotation_known(hsm, err));
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key standing;
        pfx_hsm_standing(hsm, i, &standing);
        if (standing.role == role)
            PFX_TRY(key_check(worker, session, i, &standing, err));
    }
    return role == PFX_ROLE_USERS ? pins_check(worker, session, err) : PFX_OK;
}

pfx_result pfx_role_check(struct pfx_worker *worker, enum pfx_role role, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    hsm->roles[role].no_keys = false;
    if (role != PFX_ROLE_LOG)
        return keys_check(worker, role, err);
    PFX_TRY(pfx_hsmlog_generation(hsm, err));
    PFX_TRY(keys_check(worker, role, err));
    /* Without a session in hand: the signer takes its own. */
    return pfx_hsmlog_attach(hsm, err);
}

static const struct pfx_actor self = {PFX_ACTOR_SELF, 0, 0};

static bool opened_anew(const struct pfx_role_state *state)
{
    return state->probe_epoch != pfx_token_epoch(state->token);
}

/* A ready role whose probe was disturbed. What an earlier one has proven stays proven (probe.h), so
 * the role goes on with that whatever comes of this one, but for a defect that lasts. */
static void probe_again(struct pfx_worker *worker, enum pfx_role role)
{
    struct pfx_role_state *state = &worker->hsm->roles[role];
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result result = pfx_role_probe(worker, role, true, &self, &why);
    if (pfx_ok(result) && !state->probe->passing)
        pfx_log(PFX_LOG_INFO, "the probe of the role %s wasn't disturbed this time",
                pfx_role_name(role));
    else if (pfx_failed(result) && pfx_uptime_ms() >= state->probe_at_ms)
        postpone(state); /* the probe itself couldn't be run */
}

static void make_ready(struct pfx_worker *worker, enum pfx_role role)
{
    struct pfx_role_state *state = &worker->hsm->roles[role];
    struct pfx_error before = state->why, why = PFX_ERROR_NONE;
    bool lost = role == PFX_ROLE_LOG && pfx_hsmlog_lost(worker->hsm);
    if (state->phase == PFX_ROLE_READY && !opened_anew(state) && !lost &&
        pfx_token_logged_in(state->token)) {
        probe_again(worker, role);
        return;
    }
    pfx_result result = pfx_role_open(worker->hsm, role, NULL, &why);
    if (pfx_ok(result)) {
        result = pfx_role_probe(worker, role, false, &self, &why);
        if (pfx_ok(result))
            result = pfx_role_check(worker, role, &why);
        if (pfx_failed(result))
            not_ready(state, PFX_ROLE_LOGGED_IN,
                      result.cls == PFX_CLASS_TRANSIENT || result.cls == PFX_CLASS_DEVICE, &why);
    }
    char text[128];
    if (pfx_ok(result)) {
        state->phase = PFX_ROLE_READY;
        state->again = false;
        pfx_log(PFX_LOG_INFO, "role %s is ready on token %s", pfx_role_name(role),
                pfx_token_text(state->token, text));
        pfx_hsmlog_ready(worker->hsm, role);
    } else if (strcmp(before.text, state->why.text) != 0) {
        pfx_log_error(&state->why, "role %s isn't ready", pfx_role_name(role));
    }
}

/* A ready role whose login was lost (the token dropped it, and the PIN didn't do any more) is
 * brought up again like one at the start: with its credential file, and the guard before it. */
static bool is_due(struct pfx_hsm *hsm, enum pfx_role role, int64_t now_ms)
{
    const struct pfx_role_state *state = &hsm->roles[role];
    bool disturbed = state->probe && state->probe->passing;
    if (state->phase == PFX_ROLE_READY)
        return opened_anew(state) || !pfx_token_logged_in(state->token) ||
               (role == PFX_ROLE_LOG && pfx_hsmlog_lost(hsm)) ||
               (disturbed && now_ms >= state->probe_at_ms);
    if (!state->again)
        return false;
    /* Where the probe's finding is all that keeps it down, it has a back-off of its own. */
    bool waits =
        state->phase == PFX_ROLE_LOGGED_IN && disturbed && state->lacking && !opened_anew(state);
    return !waits || now_ms >= state->probe_at_ms;
}

static bool pages_due(const struct pfx_hsm *hsm)
{
    return hsm->pages_at_ms > 0 && pfx_uptime_ms() >= hsm->pages_at_ms;
}

pfx_result pfx_roles_ready(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    /* The log first: what the others do is to be under its checkpoints. */
    static const enum pfx_role order[] = {PFX_ROLE_LOG, PFX_ROLE_USERS, PFX_ROLE_SERVICE};
    struct pfx_hsm *hsm = worker->hsm;
    bool opened = false;
    (void)task;
    (void)err;
    pfx_hsmlog_start_again(hsm);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (!is_due(hsm, order[i], pfx_uptime_ms()))
            continue;
        make_ready(worker, order[i]);
        opened = true;
    }
    pfx_confine_release(); /* the start's hold on the modules */
    if (hsm->roles[PFX_ROLE_USERS].phase == PFX_ROLE_READY)
        pfx_recovery_keys(hsm);
    if (opened && hsm->roles[PFX_ROLE_LOG].phase == PFX_ROLE_READY)
        pfx_hsmlog_settle(hsm);
    if (opened || pages_due(hsm))
        pfx_record_complete(worker, NULL);
    return PFX_OK;
}

bool pfx_roles_due(struct pfx_hsm *hsm)
{
    if (pthread_rwlock_tryrdlock(&hsm->lock) != 0)
        return false;
    bool due = pages_due(hsm);
    for (enum pfx_role role = PFX_ROLE_USERS; role < PFX_ROLE_COUNT; role++)
        due = due || is_due(hsm, role, pfx_uptime_ms());
    pthread_rwlock_unlock(&hsm->lock);
    return due;
}
