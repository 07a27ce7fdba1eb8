/* hsm.status for operators, hsm.report for pfx-agentd. Both answer whatever state the tokens are
 * in. */
#include "pkcs11/hsm/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/conf/process.h"
#include "api/conf/sandbox.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/due.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/generation.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/secrets.h"
#include "pkcs11/hsm/verbs.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)
#define EXPIRY_WARNING_DAYS 45

bool pfx_token_is_softhsm(const struct pfx_token *token)
{
    const struct pfx_token_facts *facts = pfx_token_facts(token);
    return strncasecmp(facts->manufacturer, "SoftHSM", 7) == 0 ||
           strncasecmp(facts->model, "SoftHSM", 7) == 0;
}

bool pfx_token_on_disk(const struct pfx_token *token)
{
    const struct pfx_token_facts *facts = pfx_token_facts(token);
    return pfx_token_is_softhsm(token) || strncasecmp(facts->manufacturer, "Mozilla", 7) == 0 ||
           strncasecmp(facts->model, "NSS", 3) == 0 ||
           strncasecmp(facts->model, "Soft", 4) == 0; /* opencryptoki's */
}

const char *pfx_rollback_text(const struct pfx_hsm *hsm, bool *ret_protected)
{
    const struct pfx_token *token = hsm->roles[PFX_ROLE_LOG].token;
    if (!token)
        return NULL;
    *ret_protected = !pfx_token_on_disk(token);
    return *ret_protected ? "rollback protection: by the anchors on the token of the role log"
                          : "rollback protection: none (token objects lie on this host's disk)";
}

static bool same_conf(const struct pfx_role_conf *a, const struct pfx_role_conf *b)
{
    return strcmp(a->module, b->module) == 0 && strcmp(a->uri, b->uri) == 0;
}

static void separation_note(const struct pfx_hsm *hsm, void (*note)(void *, const char *),
                            void *ctx)
{
    const struct pfx_role_state *encryption = &hsm->roles[PFX_ROLE_ENCRYPTION];
    for (enum pfx_role role = PFX_ROLE_USERS; role < PFX_ROLE_COUNT; role++) {
        const struct pfx_role_state *other = &hsm->roles[role];
        /* The policy can name one token by serial and by label: only the tokens themselves tell. */
        bool same =
            encryption->token && other->token
                ? pfx_token_same(encryption->token, other->token)
                : same_conf(&hsm->policy->roles[PFX_ROLE_ENCRYPTION], &hsm->policy->roles[role]);
        if (!same)
            continue;
        char text[256];
        snprintf(text, sizeof text,
                 "encryption not separated: its key lies on the token of the role %s, which the "
                 "running agent is logged in to, so a rooted agent could open passwords",
                 pfx_role_name(role));
        note(ctx, text);
        return;
    }
}

/* For each profile that the policy allows. */
static void tier_notes(const struct pfx_hsm *hsm, void (*note)(void *, const char *), void *ctx)
{
    const struct pfx_role_state *users = &hsm->roles[PFX_ROLE_USERS];
    char text[256];
    if (!users->token || !users->probe)
        return;
    struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
    pfx_token_proven(users->token, proven);
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        if (!hsm->policy->profiles[i])
            continue;
        snprintf(text, sizeof text,
                 "export tier%s%s: %s for RSA keys, %s for EC keys; policy: at least %s",
                 i == PFX_PROFILE_MODERN ? "" : " in the profile ",
                 i == PFX_PROFILE_MODERN ? "" : pfx_profile_name((enum pfx_profile)i),
                 pfx_tier_name(proven->tier[i].rsa), pfx_tier_name(proven->tier[i].ec),
                 pfx_tier_name(hsm->policy->lowest_tier));
        note(ctx, text);
    }
    if (users->probe->passing)
        note(ctx, "the last probe of the users token was disturbed, so it may be able to do more "
                  "than is said here; the probe is repeated by itself");
}

/* The users token's tiers of this profile as two members of the report. */
static void report_tiers(const struct pfx_hsm *hsm, struct pfx_msg *item, enum pfx_profile profile,
                         const char *rsa, const char *ec)
{
    const struct pfx_role_state *users = &hsm->roles[PFX_ROLE_USERS];
    struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
    if (users->token && users->probe)
        pfx_token_proven(users->token, proven);
    pfx_msg_set_str(item, rsa, pfx_tier_name(proven->tier[profile].rsa));
    pfx_msg_set_str(item, ec, pfx_tier_name(proven->tier[profile].ec));
}

void pfx_status_notes(const struct pfx_hsm *hsm, void (*note)(void *ctx, const char *text),
                      void *ctx)
{
    char text[400];
    separation_note(hsm, note, ctx);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        if (hsm->roles[role].token && pfx_token_is_softhsm(hsm->roles[role].token)) {
            note(ctx, "SoftHSM: for tests only; no real connector can open what it seals");
            break;
        }
    }
    tier_notes(hsm, note, ctx);
    if (!pfx_sandbox_landlock())
        note(ctx, "the kernel has no Landlock: pfx-hsm reaches every file that its user may; take a "
                  "kernel from 5.19 on, with landlock in lsm=");
    bool is_protected = true;
    const char *rollback = pfx_rollback_text(hsm, &is_protected);
    if (rollback && !is_protected)
        note(ctx, rollback);
    if (hsm->pages_at_ms > 0)
        note(ctx, "the page of a ceremony isn't written yet: pfx-hsm does it by itself once the roles log "
                  "and users are ready; pfx-agent init does it now");
    for (size_t i = 0; i < hsm->policy->n_apps; i++) {
        const struct pfx_app *app = &hsm->apps[i];
        if (!app->pem || app->not_after_ms > pfx_now_ms() + EXPIRY_WARNING_DAYS * DAY_MS)
            continue;
        char until[PFX_TIME_SIZE];
        snprintf(
            text, sizeof text,
            "the client certificate of app %s ends at %s: make a new one with pfx-agent standing "
            "rotate client-%s, and give it to the app registration",
            hsm->policy->apps[i].name, pfx_time_format(app->not_after_ms, false, until),
            hsm->policy->apps[i].name);
        note(ctx, text);
    }
}

static pfx_result active_of(const struct pfx_pins *pins, const struct pfx_pinned **ret_pin,
                            struct pfx_error *err)
{
    *ret_pin = pfx_pins_active(pins);
    return *ret_pin ? PFX_OK : pfx_none_active(pins, err);
}

static void fingerprint(const struct pfx_pinned *pin, char hex[65])
{
    uint8_t digest[32];
    if (!pfx_sha256(pin->spki.data, pin->spki.len, digest))
        pfx_die("SHA-256 isn't available");
    pfx_hex(digest, sizeof digest, hex);
}

static void report_note(void *ctx, const char *text)
{
    pfx_msg_add_str(ctx, "notes", text);
}

static void report_generations(const struct pfx_pins *pins, struct pfx_msg *item)
{
    for (size_t i = 0; i < pins->n; i++) {
        const struct pfx_pinned *pin = &pins->list[i];
        struct pfx_msg *row = pfx_msg_add_obj(item, "generations");
        pfx_msg_set_int(row, "generation", pin->generation);
        pfx_msg_set_str(row, "state", pfx_key_state_name(pin->state));
        pfx_msg_set_str(row, "key_name", pin->key_name);
        pfx_msg_set_str(row, "provider_name", pin->provider_name);
        pfx_msg_set_int(row, "since", pin->since_ms);
        if (pin->compromised_ms > 0)
            pfx_msg_set_int(row, "compromised", pin->compromised_ms);
    }
}

pfx_result pfx_do_report(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct pfx_error why = PFX_ERROR_NONE;
    const struct pfx_pinned *pin = NULL;
    (void)err;
    pfx_result ready = pfx_hsm_needs(
        hsm, PFX_NEEDS(PFX_ROLE_USERS) | PFX_NEEDS(PFX_ROLE_SERVICE) | PFX_NEEDS(PFX_ROLE_LOG),
        &why);
    if (pfx_ok(ready))
        ready = pfx_force_holds(hsm, &why);
    struct pfx_error unread = PFX_ERROR_NONE;
    pfx_result pinned = pfx_pins_of(worker, &pins, &unread);
    if (pfx_ok(ready) && pfx_failed(pinned)) {
        ready = pinned;
        why = unread;
    }
    if (pfx_ok(ready))
        ready = active_of(&pins, &pin, &why);
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_int(item, "epoch", pfx_rotation_epoch(hsm->rotation));
    report_generations(&pins, item);
    pfx_msg_set_bool(item, "ready", pfx_ok(ready));
    if (pfx_failed(ready)) {
        char line[640];
        pfx_msg_set_str(item, "why_not", pfx_error_line(&why, line, sizeof line));
    }
    if (pin) {
        char hex[65];
        fingerprint(pin, hex);
        pfx_msg_set_int(item, "generation", pin->generation);
        pfx_msg_set_str(item, "encryption_key", hex);
    }
    pfx_msg_set_str(item, "user_keys", hsm->policy->wrapped_keys ? "wrapped" : "token");
    report_tiers(hsm, item, PFX_PROFILE_MODERN, "tier_rsa", "tier_ec");
    if (hsm->policy->profiles[PFX_PROFILE_COMPAT])
        report_tiers(hsm, item, PFX_PROFILE_COMPAT, "compat_tier_rsa", "compat_tier_ec");
    for (size_t i = 0; i < PFX_PURPOSES; i++)
        if (hsm->policy->destroys[i])
            pfx_msg_add_str(item, "after_delivery", pfx_purpose_name((enum pfx_purpose)i));
    pfx_status_notes(hsm, report_note, item);
    pfx_task_emit(task, item);
    return PFX_OK;
}

static void say_all(struct pfx_task *task, const char *name, const char *value, const char *level,
                    const char *why, const char *next)
{
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "name", name);
    pfx_msg_set_str(item, "value", value);
    pfx_msg_set_str(item, "level", level);
    if (why && *why)
        pfx_msg_set_str(item, "why", why);
    if (next && *next)
        pfx_msg_set_str(item, "next", next);
    pfx_task_emit(task, item);
}

static void say(struct pfx_task *task, const char *name, const char *value, const char *level,
                const char *next)
{
    say_all(task, name, value, level, NULL, next);
}

static void say_trouble(struct pfx_task *task, const char *name, const char *value,
                        const char *level, const struct pfx_error *why)
{
    char line[640];
    say_all(task, name, value, level, pfx_error_line(why, line, sizeof line), NULL);
}

static void say_role(const struct pfx_hsm *hsm, enum pfx_role role, struct pfx_task *task)
{
    const struct pfx_role_state *state = &hsm->roles[role];
    char name[64], text[128], value[640];
    snprintf(name, sizeof name, "token %s", pfx_role_name(role));
    if (role == PFX_ROLE_ENCRYPTION) {
        snprintf(value, sizeof value, "no session, no login (opened in ceremonies only): %s",
                 hsm->policy->roles[role].uri);
        say(task, name, value, "ok", NULL);
        return;
    }
    if (state->phase == PFX_ROLE_READY) {
        const struct pfx_token_facts *facts = pfx_token_facts(state->token);
        snprintf(value, sizeof value, "ready: %s, module %s %s", pfx_token_text(state->token, text),
                 facts->module, facts->module_version);
        say(task, name, value, "ok", NULL);
        return;
    }
    snprintf(value, sizeof value, "not ready%s%s%s%s", state->why.code[0] ? " (" : "",
             state->why.code, state->why.code[0] ? ")" : "",
             state->again ? ", tried again by itself" : "");
    say_trouble(task, name, value, "bad", &state->why);
}

static void say_log(struct pfx_hsm *hsm, struct pfx_task *task)
{
    struct pfx_oplog_status status;
    char value[256];
    pfx_oplog_status(hsm->log->writer, &status);
    if (status.state == PFX_OPLOG_NONE) {
        say(task, "operation log", "not begun", "warn", "pfx-agent init");
        return;
    }
    if (status.state != PFX_OPLOG_OPEN) {
        say_trouble(task, "operation log",
                    status.state == PFX_OPLOG_REFUSED ? "refused: nothing is done with a key"
                                                      : "closed: nothing is done with a key",
                    "bad", &status.why);
        return;
    }
    const struct pfx_error *trouble = status.signer_why.cls != PFX_CLASS_OK ? &status.signer_why
                                      : status.anchor_why.cls != PFX_CLASS_OK
                                          ? &status.anchor_why
                                          : NULL;
    snprintf(value, sizeof value, "%" PRIu64 " entries, %" PRIu64 " under a checkpoint, anchor at %"
                                  PRIu64 "%s",
             status.size, status.covered, status.anchor_size,
             status.attached ? "" : ", not signed at this time");
    if (trouble)
        say_trouble(task, "operation log", value, "warn", trouble);
    else
        say(task, "operation log", value, status.attached ? "ok" : "warn", "pfx-agent log status");
}

static void status_note(void *ctx, const char *text)
{
    say(ctx, "note", text, "warn", NULL);
}

static void say_ceiling(struct pfx_hsm *hsm, struct pfx_task *task, const char *name,
                        enum pfx_ceiling which, unsigned most)
{
    char value[64];
    unsigned used = pfx_ceiling_used(&hsm->ceilings, which, pfx_uptime_ms());
    snprintf(value, sizeof value, "%u of %u in the last hour", used, most);
    say(task, name, value, used < most ? "ok" : "warn", NULL);
}

static void say_encryption_key(struct pfx_worker *worker, struct pfx_task *task)
{
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct pfx_error why = PFX_ERROR_NONE;
    const struct pfx_pinned *pin = NULL;
    const struct pfx_hsm_policy *policy = worker->hsm->policy;
    char value[640], hex[65];
    if (pfx_failed(pfx_pins_of(worker, &pins, &why)) || pfx_failed(active_of(&pins, &pin, &why))) {
        say_trouble(task, "encryption key", "not usable", "bad", &why);
        return;
    }
    fingerprint(pin, hex);
    snprintf(value, sizeof value, "generation %u, keyName %s, SHA-256 %s", pin->generation,
             pin->key_name, hex);
    /* Records name what the connector knows: changing the policy doesn't change that. */
    char *name PFX_AUTOFREE = pfx_generation_name(policy, pin->generation);
    bool differs = strcmp(pin->key_name, name) != 0 ||
                   strcmp(pin->provider_name, policy->provider_name) != 0;
    say_all(task, "encryption key", value, differs ? "warn" : "ok",
            differs
            ? "encryption_key.name or .provider of the policy was changed after init: the pinned "
              "names are used"
            : NULL,
            NULL);
}

static void say_schedule(struct pfx_worker *worker, struct pfx_task *task)
{
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct pfx_error ignored = PFX_ERROR_NONE; /* the encryption key's own line says it */
    struct pfx_schedule schedule;
    char text[PFX_SCHEDULE_TEXT], next[64] = "";
    if (pfx_failed(pfx_pins_of(worker, &pins, &ignored)))
        return;
    pfx_due_of(worker->hsm->policy, &pins, &schedule);
    if (schedule.state == PFX_SCHEDULE_OFF || schedule.state == PFX_SCHEDULE_NONE)
        return;
    if (schedule.warn && schedule.staged > 0)
        snprintf(next, sizeof next, "pfx-agent key activate %u", schedule.staged);
    else if (schedule.warn)
        snprintf(next, sizeof next, "pfx-agent key rotate");
    say(task, "rotation", pfx_schedule_say(&schedule, text), schedule.warn ? "warn" : "ok", next);
}

/* Which ones are needed is written in uploader.yaml, which isn't read here: only a CA's key or secret
 * is missed. */
static void say_secrets(const struct pfx_hsm *hsm, struct pfx_task *task)
{
    bool for_ca = false;
    for (const struct pfx_secret_name *row = pfx_secret_names; row->name; row++) {
        PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
        struct pfx_error why = PFX_ERROR_NONE;
        bool present = false;
        char name[64];
        pfx_sealed_init(&sealed);
        snprintf(name, sizeof name, "secret %s", row->name);
        if (pfx_failed(pfx_sealed_load(hsm, row->name, &sealed, &present, &why)))
            say_trouble(task, name, "unreadable", "bad", &why);
        else if (present)
            say(task, name, "set", "ok", NULL);
        for_ca = for_ca || (present && row->for_ca);
    }
    if (!for_ca)
        say(task, "secret digicert", "not set", "warn", "pfx-agent secret set digicert");
}

static void say_approvals(struct pfx_hsm *hsm, struct pfx_task *task)
{
    const struct pfx_hsm_policy *policy = hsm->policy;
    struct pfx_error why = PFX_ERROR_NONE;
    char value[128], line[640];
    if (pfx_failed(pfx_force_holds(hsm, &why)))
        say_trouble(task, "policy change", "held: nothing is done with a key", "bad", &why);
    if (policy->approvals == PFX_APPROVALS_NONE) {
        say(task, "approvals", "none: dangerous commands refused", "ok", NULL);
        return;
    }
    size_t n = pfx_approvals_waiting(hsm->approvals);
    bool weak = policy->approvals == PFX_APPROVALS_UID;
    snprintf(value, sizeof value, "%u people, %s; %zu waiting", policy->approvers,
             weak ? "without signatures (mode uid): weak" : "by their SSH keys", n);
    bool worries = pfx_approvals_worry(hsm->approvals, pfx_now_ms(), line, sizeof line);
    say_all(task, "approvals", value, weak || worries || n > 0 ? "warn" : "ok",
            worries ? line : NULL, n > 0 ? "pfx-agent approve" : NULL);
}

pfx_result pfx_do_status(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    const struct pfx_hsm_policy *policy = hsm->policy;
    char text[640], since[PFX_TIME_SIZE], hex[65];
    (void)err;
    say(task, "version", PFX_VERSION, "ok", NULL);
    say(task, "running since", pfx_time_format(hsm->started_ms, false, since), "ok", NULL);
    say(task, "host", policy->host_id, "ok", NULL);
    bool shut = pfx_sandbox_text(text, sizeof text);
    say(task, "sandbox", text, shut ? "ok" : "warn", NULL);
    say(task, "policy", pfx_hex(policy->sha256, sizeof policy->sha256, hex), "ok", NULL);
    say_approvals(hsm, task);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++)
        say_role(hsm, role, task);
    say_encryption_key(worker, task);
    say_schedule(worker, task);
    say_log(hsm, task);
    say(task, "user keys", policy->wrapped_keys ? "wrapped" : "token", "ok", NULL);
    say_secrets(hsm, task);
    say_ceiling(hsm, task, "keys", PFX_CEILING_KEYS, policy->per_hour_keys);
    say_ceiling(hsm, task, "builds", PFX_CEILING_BUILDS, policy->per_hour_builds);
    say_ceiling(hsm, task, "assertions", PFX_CEILING_ASSERTIONS, policy->per_hour_assertions);
    say_ceiling(hsm, task, "secrets", PFX_CEILING_SECRETS, policy->per_hour_secrets);
    say_ceiling(hsm, task, "destroys", PFX_CEILING_DESTROYS, policy->per_hour_destroys);
    pthread_mutex_lock(&hsm->small);
    struct pfx_error trouble = hsm->trouble;
    int64_t at = hsm->trouble_ms;
    uint64_t ok = hsm->done_ok, failed = hsm->done_failed;
    pthread_mutex_unlock(&hsm->small);
    snprintf(text, sizeof text, "%" PRIu64 " done, %" PRIu64 " failed", ok, failed);
    say(task, "operations", text, "ok", NULL);
    if (trouble.cls != PFX_CLASS_OK) {
        say_trouble(task, "last trouble", pfx_time_format(at, false, since), "bad", &trouble);
    }
    pfx_status_notes(hsm, status_note, task);
    return PFX_OK;
}
