#include "api/uploader/token.h"

#include <string.h>

#include "api/conf/process.h"
#include "api/uploader/entra.h"
#include "api/uploader/text.h"

/* Refreshed this long before its end, so that no request is under way with one that has ended. */
#define MARGIN_MS (120 * 1000)

struct pfx_token {
    struct pfx_cred cred; /* first: begin gets this address */
    struct pfx_up *up;
    struct pfx_broker *broker;
    char *url;
    struct pfx_buf form;  /* of the request that waits to be sent */
    int64_t form_until;   /* CLOCK_REALTIME: its assertion ends then */
    struct pfx_flight *flight;
};

static struct pfx_service *entra(struct pfx_token *token)
{
    return &token->up->services[PFX_SERVICE_ENTRA];
}

static void on_token(void *ctx, const struct pfx_answer *answer)
{
    struct pfx_token *token = ctx;
    struct pfx_service *service = entra(token);
    int64_t now = pfx_uptime_ms();
    token->flight = NULL;
    /* As a read: asking twice for a token does no harm. */
    struct pfx_verdict verdict = pfx_trouble_judge(PFX_SERVICE_ENTRA, true, answer, pfx_now_ms());
    struct pfx_trouble trouble = {
        .op = "sign in",
        .service = service->name,
        .url_option = service->url_option,
        .explain = service->explain,
        .conf = token->up->conf,
    };
    struct pfx_error err = PFX_ERROR_NONE;
    if (verdict.throttled) {
        pfx_service_throttle(service, verdict.wait_ms, now);
        int64_t wait = service->closed_until - now;
        err.cls = pfx_trouble_write(&trouble, answer, PFX_CLASS_TRANSIENT, wait, &err).cls;
        pfx_cred_later(&token->cred, &err, wait, now);
        return;
    }
    service->throttled = 0;
    struct pfx_secret *value = NULL;
    int64_t lifetime = 0;
    pfx_result r;
    if (verdict.cls != PFX_CLASS_OK)
        r = pfx_trouble_write(&trouble, answer, pfx_entra_class(answer, verdict.cls),
                              verdict.wait_ms, &err);
    else if (pfx_trouble_is_html(answer) || !pfx_trouble_is_json(answer))
        r = pfx_trouble_content(&trouble, answer, PFX_CLASS_TRANSIENT, "", &err);
    else
        r = pfx_entra_token(&trouble, answer, &value, &lifetime, &err);
    if (pfx_failed(r)) {
        pfx_cred_fail(&token->cred, &err, now);
        return;
    }
    int64_t margin = lifetime > 2 * MARGIN_MS ? MARGIN_MS : lifetime / 2;
    pfx_cred_put(&token->cred, value, lifetime - margin, now);
}

static void send_form(struct pfx_token *token)
{
    struct pfx_http_request request = {
        .method = "POST",
        .url = token->url,
        .accept = "application/json",
        .content_type = "application/x-www-form-urlencoded",
        .body = &token->form,
        .client_request_id = true,
        .secret = true,
        .done = on_token,
        .ctx = token,
    };
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_http_start(token->up->http, &request, &token->flight, &err);
    pfx_buf_done(&token->form);
    if (pfx_failed(r)) {
        token->flight = NULL;
        pfx_cred_fail(&token->cred, &err, pfx_uptime_ms());
    }
}

void pfx_token_step(struct pfx_token *token)
{
    if (token->form.len == 0 || token->flight)
        return;
    if (pfx_now_ms() >= token->form_until) {
        /* No room for so long that the assertion ended: ask for another one. */
        pfx_buf_done(&token->form);
        struct pfx_error err = PFX_ERROR_NONE;
        err.cls = pfx_fail(&err, PFX_CLASS_TRANSIENT, "sign in", token->url, "",
                           "The assertion of pfx-hsm had ended before it could be sent.").cls;
        pfx_cred_later(&token->cred, &err, -1, pfx_uptime_ms());
        return;
    }
    if (pfx_http_room(token->up->http))
        send_form(token);
}

static void on_assertion(void *ctx, pfx_result result, bool away, const struct pfx_msg *item,
                         const struct pfx_error *err)
{
    struct pfx_token *token = ctx;
    int64_t now = pfx_uptime_ms();
    if (pfx_failed(result)) {
        if (away)
            pfx_cred_later(&token->cred, err, -1, now);
        else
            pfx_cred_fail(&token->cred, err, now);
        return;
    }
    token->form = pfx_buf_make(64 * 1024);
    token->form.wipe = true;
    pfx_entra_form(&token->form, pfx_msg_str(item, "client_id"), token->up->conf->graph_url,
                   pfx_msg_str(item, "assertion"));
    token->form_until = pfx_msg_int(item, "expires");
    pfx_token_step(token);
}

static void begin_token(struct pfx_cred *cred)
{
    struct pfx_token *token = (struct pfx_token *)cred;
    int64_t now = pfx_uptime_ms();
    if (now < entra(token)->closed_until) {
        struct pfx_error err = cred->trouble;
        pfx_cred_later(cred, &err, entra(token)->closed_until - now, now);
        return;
    }
    pfx_broker_ask(token->broker, "assertion", "app", token->up->conf->app, on_assertion, token);
}

struct pfx_token *pfx_token_new(struct pfx_up *up, struct pfx_broker *broker)
{
    struct pfx_token *token = pfx_alloc(sizeof *token);
    token->cred.what = "the access token for Graph";
    token->cred.header = "Authorization: Bearer ";
    token->cred.begin = begin_token;
    token->up = up;
    token->broker = broker;
    token->url = pfx_asprintf("%s/%s/oauth2/v2.0/token", up->conf->login_url, up->conf->tenant);
    return token;
}

void pfx_token_free(struct pfx_token *token)
{
    if (!token)
        return;
    if (token->flight)
        pfx_http_cancel(token->up->http, token->flight);
    pfx_buf_done(&token->form);
    pfx_cred_done(&token->cred);
    free(token->url);
    free(token);
}

struct pfx_cred *pfx_token_cred(struct pfx_token *token)
{
    return &token->cred;
}

/* --- API key --- */

/* Each fetch is an opening by the HSM and an entry in its log, so the key is kept between the polls
 * of a pass, and forgotten after it. */
#define KEY_IDLE_MS (5 * 60 * 1000)

struct pfx_apikey {
    struct pfx_cred cred; /* first: begin gets this address */
    struct pfx_broker *broker;
    char *secret;
};

static void on_key(void *ctx, pfx_result result, bool away, const struct pfx_msg *item,
                   const struct pfx_error *err)
{
    struct pfx_apikey *apikey = ctx;
    int64_t now = pfx_uptime_ms();
    if (pfx_failed(result)) {
        if (away)
            pfx_cred_later(&apikey->cred, err, -1, now);
        else
            pfx_cred_fail(&apikey->cred, err, now);
        return;
    }
    const char *value = pfx_msg_str(item, "value");
    size_t len = strlen(value);
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_secret *secret = NULL;
    pfx_result r = PFX_OK;
    if (!pfx_ascii_printable(value, len) || strchr(value, ' '))
        r = pfx_fail(&why, PFX_CLASS_REFUSED, "open secret", apikey->secret, "",
                     "The stored key holds characters that can't stand in a header; give it again "
                     "with `pfx-agent secret set %s`.", apikey->secret);
    if (pfx_ok(r))
        r = pfx_secret_copy(value, len, &secret, &why);
    if (pfx_failed(r))
        pfx_cred_fail(&apikey->cred, &why, now);
    else
        pfx_cred_put(&apikey->cred, secret, INT64_MAX, now);
}

static void begin_key(struct pfx_cred *cred)
{
    struct pfx_apikey *apikey = (struct pfx_apikey *)cred;
    pfx_broker_ask(apikey->broker, "secret", "name", apikey->secret, on_key, apikey);
}

struct pfx_apikey *pfx_apikey_new(struct pfx_broker *broker, const char *secret, const char *header)
{
    struct pfx_apikey *apikey = pfx_alloc(sizeof *apikey);
    apikey->cred.what = "the API key";
    apikey->cred.header = header;
    apikey->cred.begin = begin_key;
    apikey->cred.idle_ms = KEY_IDLE_MS;
    apikey->broker = broker;
    apikey->secret = pfx_strdup(secret);
    return apikey;
}

void pfx_apikey_free(struct pfx_apikey *apikey)
{
    if (!apikey)
        return;
    pfx_cred_done(&apikey->cred);
    free(apikey->secret);
    free(apikey);
}

struct pfx_cred *pfx_apikey_cred(struct pfx_apikey *apikey)
{
    return &apikey->cred;
}
