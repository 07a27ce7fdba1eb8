/* hsm.test: the probe of every role as a table. */
#include <stdio.h>
#include <string.h>

#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/status.h"
#include "pkcs11/hsm/verbs.h"

static struct pfx_msg *item_of(struct pfx_task *task, const char *kind, enum pfx_role role,
                               const char *token)
{
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "kind", kind);
    if (role < PFX_ROLE_COUNT)
        pfx_msg_set_str(item, "role", pfx_role_name(role));
    if (token)
        pfx_msg_set_str(item, "token", token);
    return item;
}

static void say(struct pfx_task *task, const char *kind, enum pfx_role role, const char *token,
                const char *text)
{
    struct pfx_msg *item = item_of(task, kind, role, token);
    pfx_msg_set_str(item, "text", text);
    pfx_task_emit(task, item);
}

static void say_row(struct pfx_task *task, enum pfx_role role, const char *token,
                    const struct pfx_probe_row *row)
{
    struct pfx_msg *item = item_of(task, "mechanism", role, token);
    const char *tried = row->works          ? "works"
                        : !row->tried       ? "not tried"
                        : row->rv != CKR_OK ? pfx_ckr_name(row->rv)
                                            : "CKR_OK, but the result is wrong";
    pfx_msg_set_str(item, "mechanism", pfx_ckm_name(row->mechanism));
    pfx_msg_set_bool(item, "advertised", row->advertised);
    pfx_msg_set_str(item, "tried", tried);
    if (row->use[0])
        pfx_msg_set_str(item, "use", row->use);
    pfx_task_emit(task, item);
}

static void say_tier(struct pfx_task *task, const char *token, const char *which,
                     enum pfx_profile profile, enum pfx_tier tier)
{
    char text[160];
    struct pfx_msg *item = item_of(task, "tier", PFX_ROLE_USERS, token);
    snprintf(text, sizeof text,
             "private keys of type %s leave the token by this tier in the profile %s", which,
             pfx_profile_name(profile));
    pfx_msg_set_str(item, "tier", pfx_tier_name(tier));
    pfx_msg_set_str(item, "text", text);
    pfx_task_emit(task, item);
}

static void say_probe(struct pfx_task *task, enum pfx_role role, const char *token,
                      const struct pfx_probe *probe)
{
    for (size_t i = 0; i < probe->n_rows; i++)
        say_row(task, role, token, &probe->rows[i]);
    for (int i = 0; role == PFX_ROLE_USERS && i < PFX_PROFILE_COUNT; i++) {
        say_tier(task, token, "RSA", (enum pfx_profile)i, probe->tier[i].rsa);
        say_tier(task, token, "EC", (enum pfx_profile)i, probe->tier[i].ec);
    }
    for (size_t i = 0; i < probe->n_conflicts; i++)
        say(task, "conflict", role, token, probe->conflicts[i]);
    if (probe->passing)
        say(task, "note", role, token,
            "some tries failed for a reason that may pass (a full disk, a device that is gone): "
            "they are repeated by themselves; until then what an earlier probe has shown holds");
    if (probe->missing_any) {
        char text[800];
        snprintf(text, sizeof text, "This token can't play the role %s: it lacks %s.",
                 pfx_role_name(role), probe->missing);
        say(task, "refused", role, token, text);
        task->finding = true;
    }
}

static void test_role(struct pfx_worker *worker, struct pfx_task *task, enum pfx_role role,
                      const struct pfx_secret *pin)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_role_state *state = &hsm->roles[role];
    struct pfx_error why = PFX_ERROR_NONE;
    char token[128], text[640];
    if (pfx_failed(pfx_role_open(hsm, role, pin, &why))) {
        say(task, "conflict", role, NULL, pfx_error_line(&why, text, sizeof text));
        task->finding = true;
        return;
    }
    const struct pfx_token_facts *facts = pfx_token_facts(state->token);
    pfx_token_text(state->token, token);
    snprintf(text, sizeof text, "%s %s, firmware %s, module %s %s", facts->manufacturer,
             facts->model, facts->firmware, facts->module, facts->module_version);
    say(task, "token", role, token, text);
    pfx_result result = pfx_role_probe(worker, role, true, &task->actor, &why);
    bool tried = state->probe && (pfx_ok(result) || result.cls == PFX_CLASS_REFUSED ||
                                  state->probe->missing_any);
    if (tried)
        say_probe(task, role, token, state->probe);
    /* What it lacks is said already; this is what the policy asks for besides. */
    if (pfx_failed(result) && !(tried && state->probe->missing_any))
        say(task, tried ? "refused" : "conflict", role, token,
            pfx_error_line(&why, text, sizeof text));
    if (pfx_failed(result))
        task->finding = true;
}

static void note(void *ctx, const char *text)
{
    say(ctx, "note", PFX_ROLE_COUNT, NULL, text);
}

pfx_result pfx_do_test(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_secret *pin PFX_AUTOSECRET = NULL;
    const char *given = pfx_msg_str(task->args, "encryption_pin");
    if (given)
        PFX_TRY(pfx_secret_copy(given, strlen(given), &pin, err));
    pfx_msg_free(PFX_TAKE(task->args));
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        if (role == PFX_ROLE_ENCRYPTION && !pin)
            say(task, "note", role, NULL,
                "not tried: it is opened with its PIN only, which wasn't given");
        else
            test_role(worker, task, role, role == PFX_ROLE_ENCRYPTION ? pin : NULL);
    }
    pfx_status_notes(worker->hsm, note, task);
    pfx_role_close(worker->hsm, PFX_ROLE_ENCRYPTION);
    return PFX_OK;
}
