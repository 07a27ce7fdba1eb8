#include "api/uploader/token.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/conf/process.h"
#include "api/uploader/entra.h"
#include "api/uploader/identity.h"
#include "api/uploader/setup_entra.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"

/* Refreshed this long before its end, so that no request is under way with one that has ended. */
#define MARGIN_MS (120 * 1000)

struct pfx_token {
    struct pfx_cred cred; /* first: begin gets this address */
    struct pfx_tokens *all;
    struct pfx_token *next;
    char *what, *app, *resource;
    char *url;
    char url_shown[160];
    char client_id[64];
    bool waits;             /* a request is to be sent as soon as there is room */
    struct pfx_buf form;    /* of that request; empty for a managed identity */
    int64_t form_until;     /* CLOCK_REALTIME: its assertion ends then */
    struct pfx_secret *key; /* what the Azure Arc agent wants to see */
    struct pfx_flight *flight;
};

struct pfx_tokens {
    struct pfx_up *up;
    struct pfx_broker *broker;
    struct pfx_token *first;
};

static struct pfx_service *entra(struct pfx_token *token)
{
    return &token->all->up->services[PFX_SERVICE_ENTRA];
}

static bool by_identity(const struct pfx_token *token)
{
    return token->all->up->conf->sign_in != PFX_SIGN_IN_ASSERTION;
}

static bool by_arc(const struct pfx_token *token)
{
    return token->all->up->conf->sign_in == PFX_SIGN_IN_AZURE_ARC;
}

/* --- its answer --- */

/* The Arc agent shows that we may have a token: only its group can read the file that it names. The
 * request is repeated with the file's content. */
static void on_challenge(struct pfx_token *token, const struct pfx_answer *answer)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char *name PFX_AUTOFREE = NULL;
    pfx_result r = pfx_identity_challenge(answer->challenge, &name, &err);
    if (pfx_ok(r))
        r = pfx_identity_key(name, &token->key, &err);
    if (pfx_failed(r))
        pfx_cred_fail(&token->cred, &err, pfx_uptime_ms());
    else
        token->waits = true;
}

static pfx_result no_identity(struct pfx_token *token, const struct pfx_answer *answer,
                              enum pfx_class cls, struct pfx_error *err)
{
    char text[200];
    char code[32];
    snprintf(code, sizeof code, "curl %d", answer->curl_code);
    return pfx_fail(err, cls, "sign in", token->url_shown, code,
                    "No answer from %s: %s. %s", entra(token)->name,
                    pfx_text_clean_str(text, sizeof text, answer->curl_text),
                    by_arc(token) ? "Is azcmagent running (azcmagent show), and this host an Azure "
                                    "Arc server, as entra.sign_in in uploader.yaml says?"
                                  : "Is this host a virtual machine in Azure, as entra.sign_in in "
                                    "uploader.yaml says, and 169.254.169.254 open for it?");
}

/* The answer of a machine's own address isn't protected by TLS, and its token could be anybody's:
 * certificates mustn't get into a foreign tenant. A token that can't be read is left to Graph. */
static pfx_result check_tenant(struct pfx_token *token, const struct pfx_secret *value,
                               struct pfx_error *err)
{
    PFX_CLEANUP(pfx_claims_done) struct pfx_claims claims = {0};
    const char *tenant = token->all->up->conf->tenant;
    if (!pfx_claims_read(value, &claims) || !claims.tenant[0] ||
        strcasecmp(claims.tenant, tenant) == 0)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "sign in", token->url_shown, "",
                    "The managed identity is of tenant %s, and uploader.yaml wants %s: mend "
                    "entra.tenant, or this isn't the right machine. The token isn't used.",
                    claims.tenant, tenant);
}

static void take_answer(struct pfx_token *token, const struct pfx_answer *answer,
                        const struct pfx_verdict *verdict, const struct pfx_trouble *trouble)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOSECRET struct pfx_secret *value = NULL;
    int64_t lifetime = 0;
    int64_t now = pfx_uptime_ms();
    bool identity = by_identity(token);
    pfx_result r;
    if (answer->too_big)
        r = pfx_fail(&err, verdict->cls, "sign in", token->url_shown, "",
                     "The answer of %s is larger than one with a token can be, and was cut off. Is "
                     "it the service that %s in uploader.yaml means, or a proxy?",
                     trouble->service, trouble->url_option);
    else if (identity && answer->curl_code != 0)
        r = no_identity(token, answer, verdict->cls, &err);
    else if (verdict->cls != PFX_CLASS_OK)
        r = pfx_trouble_write(trouble, answer,
                              identity ? pfx_identity_class(answer, verdict->cls)
                                       : pfx_entra_class(answer, verdict->cls),
                              verdict->wait_ms, &err);
    else if (pfx_trouble_is_html(answer) || !pfx_trouble_is_json(answer))
        r = pfx_trouble_content(trouble, answer, PFX_CLASS_TRANSIENT, "", &err);
    else
        r = pfx_entra_token(trouble, answer, &value, &lifetime, &err);
    if (pfx_ok(r) && identity)
        r = check_tenant(token, value, &err);
    if (pfx_ok(r)) {
        int64_t margin = lifetime > 2 * MARGIN_MS ? MARGIN_MS : lifetime / 2;
        pfx_cred_put(&token->cred, PFX_TAKE(value), lifetime - margin, now);
    } else if (identity && answer->curl_code == 0 && r.cls == PFX_CLASS_TRANSIENT) {
        pfx_cred_later(&token->cred, &err, -1, now); /* it says that it wants to be asked again */
    } else {
        pfx_cred_fail(&token->cred, &err, now);
    }
}

static void on_token(void *ctx, const struct pfx_answer *answer)
{
    struct pfx_token *token = ctx;
    struct pfx_service *service = entra(token);
    int64_t now = pfx_uptime_ms();
    token->flight = NULL;
    bool first = !token->key;
    pfx_secret_free(PFX_TAKE(token->key));
    /* As a read: asking twice for a token does no harm. */
    struct pfx_verdict verdict = pfx_trouble_judge(PFX_SERVICE_ENTRA, true, answer, pfx_now_ms());
    struct pfx_trouble trouble = {
        .op = "sign in",
        .service = service->name,
        .url_option = service->url_option,
        .explain = service->explain,
        .conf = token->all->up->conf,
    };
    if (verdict.throttled) {
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_service_throttle(service, verdict.wait_ms, now);
        int64_t wait = service->closed_until - now;
        err.cls = pfx_trouble_write(&trouble, answer, PFX_CLASS_TRANSIENT, wait, &err).cls;
        pfx_cred_later(&token->cred, &err, wait, now);
        return;
    }
    service->throttled = 0;
    if (by_arc(token) && first && answer->curl_code == 0 && answer->status == 401)
        on_challenge(token, answer);
    else
        take_answer(token, answer, &verdict, &trouble);
}

/* --- its request --- */

static void send_request(struct pfx_token *token)
{
    static const char *const metadata[] = {"Metadata: true", NULL};
    struct pfx_http_request request = {
        .method = "POST",
        .url = token->url,
        .accept = "application/json",
        .content_type = "application/x-www-form-urlencoded",
        .body = &token->form,
        .http2 = true,
        .client_request_id = true,
        .secret = true,
        .done = on_token,
        .ctx = token,
    };
    if (by_identity(token)) {
        request.method = "GET";
        request.content_type = NULL;
        request.body = NULL;
        request.client_request_id = false;
        request.identity = true;
        request.headers = metadata;
        request.auth_header = token->key ? "Authorization: Basic " : NULL;
        request.auth = token->key;
    }
    struct pfx_error err = PFX_ERROR_NONE;
    token->waits = false;
    pfx_result r = pfx_http_start(token->all->up->http, &request, &token->flight, &err);
    pfx_buf_done(&token->form);
    if (pfx_failed(r)) {
        token->flight = NULL;
        pfx_secret_free(PFX_TAKE(token->key));
        pfx_cred_fail(&token->cred, &err, pfx_uptime_ms());
    }
}

static void step(struct pfx_token *token)
{
    if (!token->waits || token->flight)
        return;
    if (!by_identity(token) && pfx_now_ms() >= token->form_until) {
        /* No room for so long that the assertion ended: ask for another one. */
        token->waits = false;
        pfx_buf_done(&token->form);
        struct pfx_error err = PFX_ERROR_NONE;
        err.cls = pfx_fail(&err, PFX_CLASS_TRANSIENT, "sign in", token->url_shown, "",
                           "The assertion of pfx-hsm had ended before it could be sent.").cls;
        pfx_cred_later(&token->cred, &err, -1, pfx_uptime_ms());
        return;
    }
    if (pfx_http_room(token->all->up->http))
        send_request(token);
}

void pfx_tokens_step(struct pfx_tokens *tokens)
{
    for (struct pfx_token *token = tokens->first; token; token = token->next)
        step(token);
}

static void on_assertion(void *ctx, pfx_result result, bool away, const struct pfx_msg *item,
                         const struct pfx_error *err)
{
    struct pfx_token *token = ctx;
    int64_t now = pfx_uptime_ms();
    if (pfx_failed(result)) {
        pfx_cred_denied(&token->cred, away, err, now);
        return;
    }
    const char *client = pfx_msg_str(item, "client_id");
    snprintf(token->client_id, sizeof token->client_id, "%s", client);
    token->form = pfx_buf_make(64 * 1024);
    token->form.wipe = true;
    pfx_entra_form(&token->form, client, token->resource, pfx_msg_str(item, "assertion"));
    token->form_until = pfx_msg_int(item, "expires");
    token->waits = true;
    step(token);
}

static void begin_token(struct pfx_cred *cred)
{
    struct pfx_token *token = (struct pfx_token *)cred;
    int64_t now = pfx_uptime_ms();
    int64_t closed = entra(token)->closed_until - now;
    if (closed > 0) { /* another app's token may have been answered so */
        struct pfx_error err = PFX_ERROR_NONE;
        err.cls = pfx_fail(&err, PFX_CLASS_TRANSIENT, "sign in", token->url_shown, "HTTP 429",
                           "%s limits the number of requests (HTTP 429): retry after %lld s.",
                           entra(token)->name, (long long)(closed + 999) / 1000).cls;
        pfx_cred_later(cred, &err, closed, now);
    } else if (by_identity(token)) {
        token->waits = true;
        step(token);
    } else {
        pfx_broker_ask(token->all->broker, "assertion", "app", token->app, on_assertion, token);
    }
}

/* --- which there are --- */

/* "https://graph.microsoft.com" of a service's URL: what the token is for. */
static char *resource_of(const char *url)
{
    char host[300];
    pfx_url_host(url, host, sizeof host);
    return pfx_asprintf("https://%s", host);
}

static struct pfx_token *add_token(struct pfx_tokens *tokens, const char *app, char *resource)
{
    const struct pfx_uploader_conf *conf = tokens->up->conf;
    struct pfx_token *token = pfx_alloc(sizeof *token);
    token->all = tokens;
    token->app = pfx_strdup(app);
    token->resource = resource;
    token->what = pfx_asprintf("the access token of app %s for %s", app, resource);
    token->cred.what = token->what;
    token->cred.header = "Authorization: Bearer ";
    token->cred.begin = begin_token;
    token->url = conf->sign_in == PFX_SIGN_IN_ASSERTION
                     ? pfx_asprintf("%s/%s/oauth2/v2.0/token", conf->login_url, conf->tenant)
                     : pfx_identity_url(conf, resource);
    pfx_url_show(token->url, token->url_shown, sizeof token->url_shown);
    token->next = tokens->first;
    tokens->first = token;
    return token;
}

struct pfx_tokens *pfx_tokens_new(struct pfx_up *up, struct pfx_broker *broker)
{
    struct pfx_tokens *tokens = pfx_alloc(sizeof *tokens);
    tokens->up = up;
    tokens->broker = broker;
    return tokens;
}

struct pfx_cred *pfx_tokens_cred(struct pfx_tokens *tokens, const char *app, const char *url)
{
    char *resource PFX_AUTOFREE = resource_of(url);
    bool identity = tokens->up->conf->sign_in != PFX_SIGN_IN_ASSERTION;
    for (struct pfx_token *token = tokens->first; token; token = token->next)
        if (strcmp(token->resource, resource) == 0 && (identity || strcmp(token->app, app) == 0))
            return &token->cred;
    return &add_token(tokens, app, PFX_TAKE(resource))->cred;
}

void pfx_tokens_free(struct pfx_tokens *tokens)
{
    if (!tokens)
        return;
    while (tokens->first) {
        struct pfx_token *token = tokens->first;
        tokens->first = token->next;
        if (token->flight)
            pfx_http_cancel(token->flight);
        pfx_buf_done(&token->form);
        pfx_secret_free(token->key);
        pfx_cred_done(&token->cred);
        free(token->what);
        free(token->app);
        free(token->resource);
        free(token->url);
        free(token);
    }
    free(tokens);
}

const char *pfx_token_app(const struct pfx_cred *cred)
{
    return ((const struct pfx_token *)cred)->app;
}

const char *pfx_token_client_id(const struct pfx_cred *cred)
{
    return ((const struct pfx_token *)cred)->client_id;
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
        pfx_cred_denied(&apikey->cred, away, err, now);
        return;
    }
    const char *value = pfx_msg_str(item, "value");
    size_t len = strlen(value);
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_secret *secret = NULL;
    pfx_result r = PFX_OK;
    if (apikey->cred.header && (!pfx_ascii_printable(value, len) || strchr(value, ' ')))
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
