/* Client assertions. The uploader names an app registration; everything that is signed comes from
 * the policy, the clock and the stored certificate. */
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "crypto/jwt.h"
#include "pkcs11/hsm/verbs.h"

#define MAX_ASSERTION 8192

struct asserting {
    struct pfx_task *task;
    size_t app;
};

static pfx_result sign(struct pfx_session *session, struct pfx_key *key, bool rs256,
                       struct pfx_buf *jwt, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(1024);
    if (rs256) {
        uint8_t digest[32];
        if (!pfx_sha256(jwt->data, jwt->len, digest))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "sign assertion", "", "", "No SHA-256.");
        PFX_TRY(pfx_key_sign_digest(session, key, PFX_HASH_SHA256,
                                    (struct pfx_bytes){digest, sizeof digest}, &signature, err));
    } else {
        PFX_TRY(pfx_key_sign_pss(session, key, pfx_buf_bytes(jwt), &signature, err));
    }
    if (!pfx_assertion_sign(jwt, pfx_buf_bytes(&signature)))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "sign assertion", "", "", "It is too long.");
    return PFX_OK;
}

static pfx_result work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                       struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct asserting *asserting = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    const struct pfx_hsm_policy *policy = hsm->policy;
    const struct pfx_app *app = &hsm->apps[asserting->app];
    const struct pfx_app_conf *conf = &policy->apps[asserting->app];
    struct pfx_token *token = hsm->roles[PFX_ROLE_SERVICE].token;
    int64_t now = pfx_now_ms();
    if (now >= app->not_after_ms)
        return pfx_fail(
            err, PFX_CLASS_REFUSED, "sign assertion", conf->name, "expired",
            "The client certificate has expired, Entra ID would refuse it: make a new one with "
            "pfx-agent standing rotate client-%s, give it to the app registration, and put it in "
            "force with pfx-agent standing activate.",
            conf->name);
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key;
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    pfx_op_token(op, token);
    PFX_TRY(
        pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_CLIENT + asserting->app, &key, err));
    pfx_op_key(op, pfx_key_id(key), pfx_key_spki(key), policy->rs256 ? "RS256" : "PS256");

    char jti[PFX_GUID_SIZE];
    char *audience PFX_AUTOFREE =
        pfx_asprintf("%s/%s/oauth2/v2.0/token", policy->login_url, policy->tenant);
    struct pfx_assertion assertion = {.rs256 = policy->rs256,
                                      .audience = audience,
                                      .client_id = conf->client_id,
                                      .jti = pfx_guid_new(jti),
                                      .now_ms = now};
    memcpy(assertion.x5t_s256, app->x5t_s256, sizeof assertion.x5t_s256);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf jwt = pfx_buf_make(MAX_ASSERTION);
    jwt.wipe = true;
    PFX_TRY(pfx_assertion_input(&assertion, &jwt, err));
    pfx_op_out(op, pfx_buf_bytes(&jwt)); /* what is signed: the whole of it is a credential */
    PFX_TRY(sign(session, key, policy->rs256, &jwt, err));

    struct pfx_msg *reply = pfx_task_item(asserting->task);
    pfx_msg_set_str(reply, "client_id", conf->client_id);
    pfx_msg_set_str(reply, "assertion", pfx_buf_str(&jwt));
    pfx_msg_set_int(reply, "expires", (now / 1000 + PFX_ASSERTION_SECONDS) * 1000);
    *ret_reply = reply;
    return PFX_OK;
}

pfx_result pfx_do_assertion(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = worker->hsm->policy;
    const char *name = pfx_msg_str(task->args, "app");
    struct asserting asserting = {.task = task, .app = 0};
    while (asserting.app < policy->n_apps && strcmp(policy->apps[asserting.app].name, name) != 0)
        asserting.app++;
    if (asserting.app == policy->n_apps)
        return pfx_fail(
            err, PFX_CLASS_REFUSED, "sign assertion", "app", "",
            "entra.apps of the policy names no such app registration: correct entra.app "
            "in uploader.yaml.");
    struct pfx_op op = {.event = PFX_EVENT_ASSERTION_SIGN, .actor = task->actor};
    snprintf(op.target.name, sizeof op.target.name, "%s", policy->apps[asserting.app].name);
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    PFX_TRY(pfx_op_run(worker, &op, work, &asserting, &reply, err));
    pfx_task_emit(task, PFX_TAKE(reply));
    return PFX_OK;
}
