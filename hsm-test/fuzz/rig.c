#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "api/conf/pins.h"
#include "api/conf/process.h"
#include "api/uploader/broker.h"
#include "api/uploader/entra.h"
#include "api/uploader/exchange.h"
#include "api/uploader/graph.h"
#include "api/uploader/identity.h"
#include "api/uploader/setup_entra.h"
#include "api/uploader/token.h"
#include "api/uploader/transfer.h"
#include "api/uploader/url.h"
#include "rig_curl.h"

#define MAX_TURNS 2000
#define MAX_STALE 12 /* requests that get no answer from the input before the rig gives up */
#define GUID "6f9619ff-8b86-4011-b42d-00c04fc964ff"
#define KEY "0123456789abcdef"

int64_t rig_now_ms;
bool rig_signed_in;
struct pfx_buf (*rig_make_body)(struct pfx_bytes request, struct pfx_bytes text);

static struct {
    struct pfx_up up;
    struct pfx_bytes answers;
    unsigned stale, started, ended;
    struct pfx_flight *flights;
} rig;

/* --- the clock and the log --- */

int64_t __wrap_pfx_now_ms(void);
int64_t __wrap_pfx_now_ms(void)
{
    return INT64_C(1795000000000) + rig_now_ms;
}

int64_t __wrap_pfx_uptime_ms(void);
int64_t __wrap_pfx_uptime_ms(void)
{
    return rig_now_ms;
}

void __wrap_pfx_log(enum pfx_log_level level, const char *fmt, ...);
void __wrap_pfx_log(enum pfx_log_level level, const char *fmt, ...)
{
    (void)level;
    must(fmt[0] != '\0');
}

void __wrap_pfx_log_error(const struct pfx_error *err, const char *fmt, ...);
void __wrap_pfx_log_error(const struct pfx_error *err, const char *fmt, ...)
{
    must(fmt[0] != '\0');
    must_say(err);
}

/* --- requests --- */

struct pfx_flight {
    struct pfx_transfer transfer;
    struct pfx_flight *next;
    pfx_http_done_fn done;
    void *ctx;
    bool body;
};

/* Is url of base's host? By https, and at its own port. */
static bool begins(const char *url, const char *base)
{
    char host[300], port[300], want[PFX_HOST_SIZE], got[PFX_HOST_SIZE];
    pfx_url_host(url, host, sizeof host);
    const char *colon = strrchr(host, ':');
    snprintf(port, sizeof port, "%s", colon ? colon + 1 : "443");
    return strncasecmp(url, "https://", 8) == 0 && strtol(port, NULL, 10) == 443 &&
           strcmp(pfx_conf_host(url, got), pfx_conf_host(base, want)) == 0;
}

/* What the configuration names, and nothing else; a credential of a service to that service. */
static void must_be_allowed(const struct pfx_http_request *request)
{
    const struct pfx_uploader_conf *conf = rig.up.conf;
    const char *url = request->url;
    bool identity = pfx_identity_is_url(url);
    must(identity == request->identity);
    must(identity || begins(url, conf->digicert_url) || begins(url, conf->graph_url) ||
         begins(url, conf->exchange_url) || begins(url, conf->login_url) ||
         (conf->cmp_url && begins(url, conf->cmp_url)));
    if (!request->auth_header)
        return;
    bool devkey = strncmp(request->auth_header, "X-DC-DEVKEY: ", 13) == 0;
    must(devkey == begins(url, conf->digicert_url));
    must(!begins(url, conf->login_url));
    const uint8_t *auth = pfx_secret_bytes(request->auth);
    for (size_t i = 0; i < pfx_secret_len(request->auth); i++)
        must(auth[i] > 0x20 && auth[i] < 0x7F);
    for (const char *c = url; *c; c++)
        must((unsigned char)*c > 0x20 && *c != 0x7F);
}

/* A body in JSON is JSON. */
static void must_be_whole(const struct pfx_http_request *request)
{
    const char *type = request->content_type;
    if (!request->body || !type || strcmp(type, "application/json") != 0)
        return;
    struct pfx_doc doc = {0};
    char why[160];
    must(pfx_doc_parse(pfx_buf_bytes(request->body), &doc, why));
    pfx_doc_done(&doc);
}

bool pfx_http_room(const struct pfx_http *http)
{
    (void)http;
    return rig.flights == NULL;
}

pfx_result pfx_http_start(struct pfx_http *http, const struct pfx_http_request *request,
                          struct pfx_flight **ret_flight, struct pfx_error *err)
{
    (void)http;
    must(request->url && request->method && request->accept && request->done);
    must_be_allowed(request);
    must_be_whole(request);
    struct pfx_flight *flight = pfx_alloc(sizeof *flight);
    if (!pfx_transfer_init(&flight->transfer, rig.up.conf, request)) {
        pfx_transfer_done(&flight->transfer);
        free(flight);
        return pfx_fail(err, PFX_CLASS_INTERNAL, "send", request->url, "", "no");
    }
    if (request->body)
        *request->body = (struct pfx_buf){0}; /* taken over */
    flight->body = request->body != NULL;
    flight->done = request->done;
    flight->ctx = request->ctx;
    flight->next = rig.flights;
    rig.flights = flight;
    rig.started++;
    *ret_flight = flight;
    return PFX_OK;
}

static void land(struct pfx_flight *flight)
{
    struct pfx_flight **at = &rig.flights;
    while (*at != flight)
        at = &(*at)->next;
    *at = flight->next;
    pfx_transfer_done(&flight->transfer);
    free(flight);
}

void pfx_http_cancel(struct pfx_flight *flight)
{
    land(flight);
}

/* --- answers --- */

static struct pfx_bytes next_answer(void)
{
    struct pfx_bytes all = rig.answers;
    size_t len = 0;
    while (len < all.len && all.data[len] != 0x1E && all.data[len] != 0x1F)
        len++;
    size_t end = len;
    if (len < all.len) {
        bool pause = all.data[len] == 0x1F;
        for (; pause && len < all.len - 1 && all.data[len + 1] == 0x1F; len++)
            rig_now_ms += 60000;
        rig_now_ms += pause ? 60000 : 0;
        rig.answers = (struct pfx_bytes){all.data + len + 1, all.len - len - 1};
    } else {
        rig.answers = (struct pfx_bytes){NULL, 0};
    }
    return (struct pfx_bytes){all.data, end};
}

/* The head of an answer, line by line, as libcurl gives it, the first line again and again up to
 * `most` bytes; false: our side stops it. */
static bool give_headers(struct pfx_bytes *answer, size_t most)
{
    while (answer->len > 0) {
        struct pfx_bytes header = take_until(answer, '\n');
        size_t len = header.len + 2;
        PFX_AUTOFREE char *line = pfx_alloc(len);
        if (header.len > 0)
            memcpy(line, header.data, header.len);
        memcpy(line + header.len, "\r\n", 2);
        for (size_t given = 0; given == 0 || given < most; given += len)
            if (rig_easy.header(line, 1, len, rig_easy.header_ctx) != len)
                return false;
        if (header.len == 0)
            return true;
        most = 0;
    }
    return true;
}

static bool give_body(struct pfx_bytes body, size_t most)
{
    if (body.len == 0)
        return true;
    PFX_AUTOFREE char *copy = pfx_memdup(body.data, body.len);
    for (size_t given = 0; given == 0 || given < most; given += body.len)
        for (size_t at = 0; at < body.len; at += 4096) {
            size_t n = body.len - at < 4096 ? body.len - at : 4096;
            if (rig_easy.write(copy + at, 1, n, rig_easy.write_ctx) != n)
                return false;
        }
    return true;
}

static void send_body(const struct pfx_flight *flight)
{
    char room[512];
    must(rig_easy.prereq(rig_easy.prereq_ctx, NULL, NULL, 0, 0) == CURL_PREREQFUNC_OK);
    if (!flight->body)
        return;
    while (rig_easy.read(room, 1, sizeof room, rig_easy.read_ctx) > 0)
        ;
    /* There is no second start. */
    must(rig_easy.prereq(rig_easy.prereq_ctx, NULL, NULL, 0, 0) == CURL_PREREQFUNC_ABORT);
}

static CURLcode play(const struct pfx_flight *flight, struct pfx_bytes answer)
{
    struct pfx_bytes first = take_until(&answer, '\n');
    PFX_AUTOFREE char *line = text_of(first);
    int number = 0;
    if (sscanf(line, "proxy %d", &number) == 1) {
        rig_easy.connect_status = number;
        snprintf(rig_easy.error, CURL_ERROR_SIZE, "CONNECT tunnel failed, response %d", number);
        return CURLE_RECV_ERROR;
    }
    if (sscanf(line, "unsent %d", &number) == 1)
        return (CURLcode)((unsigned)number % CURL_LAST);
    send_body(flight);
    if (sscanf(line, "curl %d", &number) == 1 && number != 0) {
        snprintf(rig_easy.error, CURL_ERROR_SIZE, "%.*s",
                 (int)(answer.len < 200 ? answer.len : 200),
                 answer.data ? (const char *)answer.data : "");
        return (CURLcode)((unsigned)number % CURL_LAST);
    }
    unsigned body_size = 0, head_size = 0;
    number = 0;
    (void)!sscanf(line, "%3d %6u %6u", &number, &body_size, &head_size);
    rig_easy.status = number < 100 ? 200 : number;
    if (!give_headers(&answer, head_size))
        return CURLE_WRITE_ERROR;
    if (!rig_make_body)
        return give_body(answer, body_size) ? CURLE_OK : CURLE_WRITE_ERROR;
    PFX_CLEANUP(pfx_buf_done)
    struct pfx_buf made = rig_make_body(pfx_buf_bytes(&flight->transfer.out), answer);
    return give_body(pfx_buf_bytes(&made), body_size) ? CURLE_OK : CURLE_WRITE_ERROR;
}

/* A token with every role, for who is signed in. */
static struct pfx_bytes token_answer(void)
{
    static const char payload[] =
        "{\"oid\":\"" GUID "\",\"tid\":\"11111111-2222-4333-8444-555555555555\",\"roles\":["
        "\"User.Read.All\",\"GroupMember.Read.All\",\"Exchange.ManageAsApp\","
        "\"DeviceManagementConfiguration.ReadWrite.All\"]}";
    static struct pfx_buf text;
    if (text.len == 0) {
        text = pfx_buf_make(2048);
        pfx_buf_add_str(&text, "200\nContent-Type: application/json\n\n{\"token_type\":\"Bearer\","
                               "\"expires_in\":3599,\"access_token\":\"eyJh.");
        pfx_base64url_encode(payload, sizeof payload - 1, &text);
        pfx_buf_add_str(&text, ".c2ln\"}");
    }
    return pfx_buf_bytes(&text);
}

static void answer_one(void)
{
    struct pfx_flight *flight = rig.flights;
    while (flight->next) /* oldest first */
        flight = flight->next;
    static const uint8_t timeout[] = "curl 28\n";
    struct pfx_bytes text = {timeout, sizeof timeout - 1};
    if (rig_signed_in && begins(flight->transfer.url, rig.up.conf->login_url))
        text = token_answer();
    else if (rig.answers.len > 0)
        text = next_answer();
    else
        rig.stale++;
    CURLcode code = play(flight, text);
    pfx_transfer_end(&flight->transfer, code);
    const struct pfx_answer *answer = &flight->transfer.answer;
    must(!strpbrk(answer->content_type, "\r\n") && !strpbrk(answer->challenge, "\r\n"));
    must(pfx_utf8_valid(answer->challenge, strlen(answer->challenge)));
    flight->done(flight->ctx, answer);
    land(flight);
}

/* --- pfx-agentd --- */

void pfx_arm_done(struct pfx_arm *arm, int64_t job, int64_t lease, pfx_result result,
                  const struct pfx_error *err, const struct pfx_msg *body)
{
    (void)arm;
    must(job == 1 && lease == 2 && rig.ended == 0);
    rig.ended++;
    if (pfx_ok(result)) {
        must(body != NULL);
        return;
    }
    must(result.cls == err->cls);
    must_say(err);
}

void pfx_arm_beat(struct pfx_arm *arm, int64_t job, int64_t lease)
{
    (void)arm;
    must(job == 1 && lease == 2);
}

/* --- pfx-hsm --- */

void pfx_broker_ask(struct pfx_broker *broker, const char *verb, const char *name,
                    const char *value, pfx_broker_fn fn, void *ctx)
{
    (void)broker;
    (void)name;
    (void)value;
    PFX_AUTOMSG struct pfx_msg *item = pfx_msg_new(pfx_wire_find(pfx_wire_broker, verb)->result);
    if (strcmp(verb, "secret") == 0) {
        pfx_msg_set_str(item, "value", KEY);
    } else {
        pfx_msg_set_str(item, "client_id", GUID);
        pfx_msg_set_str(item, "assertion", "eyJh.eyJp.c2ln");
        pfx_msg_set_int(item, "expires", __wrap_pfx_now_ms() + 300000);
    }
    fn(ctx, PFX_OK, false, item, NULL);
}

/* --- a run --- */

struct pfx_uploader_conf *rig_conf(void)
{
    static struct pfx_uploader_conf conf = {
        .digicert_url = "https://www.digicert.com/services/v2",
        .login_url = "https://login.microsoftonline.com",
        .tenant = "11111111-2222-4333-8444-555555555555",
        .app = "main",
        .import_app = "intune",
        .mail_app = "main",
        .exchange_app = "main",
        .graph_url = "https://graph.microsoft.com",
        .exchange_url = "https://outlook.office365.com",
        .cmp_url = "https://ca.example/pkix",
        .cmp_reference = "ref",
        .proxy = "http://proxy.example:8080",
        .no_proxy = "graph.microsoft.com",
        .in_flight = 16,
        .connect_timeout_ms = 10000,
        .request_timeout_ms = 60000,
        .job_timeout_ms = 300000,
        .max_body = 300000,
        .user_agent = "pfx-agent/0",
    };
    return &conf;
}

static const struct pfx_kind *find_kind(const struct rig_kinds *kinds, struct pfx_bytes word)
{
    const struct pfx_kind *all[64];
    size_t n = 0;
    for (size_t t = 0; t < kinds->n_tables; t++)
        for (const struct pfx_kind *kind = kinds->tables[t]; kind->name; kind++) {
            if (is_word(word, kind->name))
                return kind;
            must(n < 64);
            all[n++] = kind;
        }
    return all[any_of(word, n)];
}

static void set_services(const struct pfx_ca *ca, struct pfx_tokens *tokens,
                         struct pfx_apikey *apikey)
{
    const struct pfx_uploader_conf *conf = rig.up.conf;
    bool arc = conf->sign_in == PFX_SIGN_IN_AZURE_ARC;
    bool identity = conf->sign_in != PFX_SIGN_IN_ASSERTION;
    struct pfx_service *services = rig.up.services;
    services[PFX_SERVICE_CA] = (struct pfx_service){
        .id = PFX_SERVICE_CA,
        .name = ca->name,
        .url = ca->conf(conf).url,
        .url_option = ca->url_option,
        .any = {pfx_bucket_new(8, 1000), NULL},
        .creds = {pfx_apikey_cred(apikey)},
        .explain = ca->explain,
    };
    services[PFX_SERVICE_GRAPH] = (struct pfx_service){
        .id = PFX_SERVICE_GRAPH,
        .name = "Graph",
        .url = conf->graph_url,
        .url_option = "graph.url",
        .creds = {pfx_tokens_cred(tokens, conf->app, conf->graph_url),
                  pfx_tokens_cred(tokens, conf->import_app, conf->graph_url),
                  pfx_tokens_cred(tokens, conf->mail_app, conf->graph_url)},
        .client_request_id = true,
        .explain = pfx_graph_explain,
    };
    services[PFX_SERVICE_EXCHANGE] = (struct pfx_service){
        .id = PFX_SERVICE_EXCHANGE,
        .name = "Exchange",
        .url = conf->exchange_url,
        .url_option = "exchange.url",
        .creds = {pfx_tokens_cred(tokens, conf->exchange_app, conf->exchange_url)},
        .client_request_id = true,
        .explain = pfx_exchange_explain,
    };
    services[PFX_SERVICE_ENTRA] = (struct pfx_service){
        .id = PFX_SERVICE_ENTRA,
        .name = !identity ? "Entra ID"
                : arc     ? "the Azure Arc agent"
                          : "Azure's metadata service",
        .url = !identity ? conf->login_url
               : arc     ? PFX_IDENTITY_ARC
                         : PFX_IDENTITY_VM,
        .url_option = identity ? "entra.sign_in" : "entra.url",
        .explain = identity ? pfx_identity_explain : pfx_entra_explain,
    };
}

/* The loop of main.c; waiting costs nothing here. */
static void run_loop(struct pfx_tokens *tokens)
{
    for (unsigned turn = 0; rig.ended == 0 && rig.stale < MAX_STALE; turn++) {
        must(turn < MAX_TURNS);
        if (rig.flights)
            answer_one();
        pfx_tokens_step(tokens);
        pfx_up_step(&rig.up);
        if (rig.flights || rig.ended)
            continue;
        int64_t next = pfx_up_next(&rig.up);
        if (next > rig_now_ms && next < INT64_MAX)
            rig_now_ms = next;
    }
}

void rig_run(const struct pfx_ca *ca, const struct rig_kinds *kinds, struct pfx_bytes input)
{
    struct pfx_bytes job = take_until(&input, '\n');
    const struct pfx_kind *kind = find_kind(kinds, take_until(&job, ' '));
    const struct pfx_wire_schema *schema = pfx_wire_find(pfx_wire_jobs, kind->name)->request;
    PFX_AUTOMSG struct pfx_msg *body = NULL;
    if (pfx_failed(pfx_msg_decode(schema, job.len ? (const char *)job.data : "{}",
                                  job.len ? job.len : 2, &body, NULL)))
        return;
    memset(&rig, 0, sizeof rig);
    rig_now_ms = 1000;
    rig.up.conf = rig_conf();
    rig.answers = input;
    struct pfx_tokens *tokens = pfx_tokens_new(&rig.up, NULL);
    struct pfx_apikey *apikey = pfx_apikey_new(NULL, ca->secret, ca->auth_header);
    set_services(ca, tokens, apikey);
    bool started = true;
    if (ca->start) {
        struct pfx_error err = PFX_ERROR_NONE;
        started = pfx_ok(ca->start(&rig.up, &err));
        if (!started)
            must_say(&err);
    }
    struct pfx_arm_job handed = {
        .job = 1, .lease = 2, .deadline_ms = INT64_MAX, .kind = kind->name, .body = body};
    if (started) {
        pfx_task_begin(&rig.up, &handed, kind->begin);
        run_loop(tokens);
    }
    pfx_up_done(&rig.up);
    if (ca->stop)
        ca->stop(&rig.up);
    pfx_tokens_free(tokens);
    pfx_apikey_free(apikey);
    must(rig.flights == NULL);
}
