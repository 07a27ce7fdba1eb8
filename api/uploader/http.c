#include "api/uploader/http.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/conf/process.h"
#include "api/uploader/identity.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define MAX_HEADER_BYTES (64 * 1024)
#define MAX_TOKEN_ANSWER (64 * 1024)
#define REST_MS 5000

struct pfx_http {
    const struct pfx_uploader_conf *conf;
    struct pfx_proxy *proxy;
    CURLM *multi;
    unsigned flying;   /* waiting ones too */
    unsigned launched; /* with libcurl */
    bool warm;         /* there may be connections */
    int64_t idle_since;
    struct pfx_flight *flights;
};

struct pfx_flight {
    struct pfx_http *http;
    struct pfx_flight *next;
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    struct pfx_buf out; /* the request's body */
    size_t out_at;
    struct pfx_buf in;
    size_t header_bytes;
    struct pfx_route route;
    bool parked;       /* waits for the proxy's password */
    int64_t park_until;
    unsigned proxy_failures, proxy_ticket; /* 0: no ticket */
    struct pfx_error unsent;
    struct pfx_answer answer;
    pfx_http_done_fn done;
    void *ctx;
};

static CURLM *multi_new(const struct pfx_uploader_conf *conf)
{
    CURLM *multi = curl_multi_init();
    if (!multi)
        return NULL;
    /* One request at a time on each connection, by HTTP/2 too: see http.h. */
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)conf->in_flight + 4);
    return multi;
}

pfx_result pfx_http_new(const struct pfx_uploader_conf *conf, struct pfx_http **ret_http,
                        struct pfx_error *err)
{
    CURLM *multi = multi_new(conf);
    if (!multi)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "start", "libcurl", "", "It has no memory.");
    struct pfx_http *http = pfx_alloc(sizeof *http);
    http->conf = conf;
    http->multi = multi;
    *ret_http = http;
    return PFX_OK;
}

void pfx_http_set_proxy(struct pfx_http *http, struct pfx_proxy *proxy)
{
    http->proxy = proxy;
}

static void flight_free(struct pfx_flight *flight)
{
    if (!flight->parked)
        curl_multi_remove_handle(flight->http->multi, flight->easy);
    curl_easy_cleanup(flight->easy);
    curl_slist_free_all(flight->headers);
    pfx_buf_done(&flight->out);
    pfx_buf_done(&flight->in);
    free(flight->url);
    free(flight);
}

static void flight_unlink(struct pfx_flight *flight)
{
    struct pfx_flight **at = &flight->http->flights;
    while (*at && *at != flight)
        at = &(*at)->next;
    if (*at)
        *at = flight->next;
    flight->http->flying--;
    if (!flight->parked && --flight->http->launched == 0)
        flight->http->idle_since = pfx_uptime_ms();
    if (flight->proxy_ticket > 0) {
        /* Through a tunnel that was there already the proxy isn't asked again. */
        long said = flight->answer.connect_status;
        pfx_proxy_told(flight->http->proxy, flight->proxy_ticket,
                       said == 0 && flight->answer.status > 0 ? 200 : said, pfx_uptime_ms());
        flight->proxy_ticket = 0;
    }
}

void pfx_http_cancel(struct pfx_http *http, struct pfx_flight *flight)
{
    (void)http;
    flight_unlink(flight);
    flight_free(flight);
}

void pfx_http_free(struct pfx_http *http)
{
    if (!http)
        return;
    while (http->flights)
        pfx_http_cancel(http, http->flights);
    curl_multi_cleanup(http->multi);
    free(http);
}

bool pfx_http_room(const struct pfx_http *http)
{
    return http->flying < http->conf->in_flight;
}

/*
 * libcurl begins a request again by itself, POST or not, when a reused connection turns out to be
 * dead, when HTTP/2 says REFUSED_STREAM or HTTP_1_1_REQUIRED: the server may have taken the first
 * one, whatever it says. Not here: once a byte of the body was handed out there is no second start.
 * (Without a seek function libcurl couldn't rewind the body either: CURLE_SEND_FAIL_REWIND.)
 */
static int on_start(void *ctx, char *peer, char *own, int peer_port, int own_port)
{
    (void)peer;
    (void)own;
    (void)peer_port;
    (void)own_port;
    const struct pfx_flight *flight = ctx;
    return flight->answer.sent ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* "Never sent" is exactly "this was never called": a server that got the headers and no end of the
 * body has no request to carry out, by HTTP/1.1 as by HTTP/2. */
static size_t on_read(char *dest, size_t size, size_t n, void *ctx)
{
    struct pfx_flight *flight = ctx;
    size_t room = size * n;
    size_t left = flight->out.len - flight->out_at;
    size_t take = left < room ? left : room;
    flight->answer.sent = true;
    if (take > 0)
        memcpy(dest, flight->out.data + flight->out_at, take);
    flight->out_at += take;
    return take;
}

static size_t on_write(char *data, size_t size, size_t n, void *ctx)
{
    struct pfx_flight *flight = ctx;
    if (!pfx_buf_add(&flight->in, data, size * n)) {
        flight->answer.too_big = true;
        return 0;
    }
    return size * n;
}

/* Copies the value of header name into dest, cleaned; later ones win, as the last answer counts. */
static void header_value(const char *line, size_t len, const char *name, char *dest, size_t size)
{
    size_t n = strlen(name);
    if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return;
    pfx_text_clean(dest, size, line + n + 1, len - n - 1);
}

static void media_type(struct pfx_answer *answer)
{
    answer->content_type[strcspn(answer->content_type, "; ,")] = '\0';
    for (char *s = answer->content_type; *s; s++)
        *s = (char)tolower((unsigned char)*s);
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    struct pfx_flight *flight = ctx;
    struct pfx_answer *a = &flight->answer;
    size_t len = size * n;
    flight->header_bytes += len;
    if (flight->header_bytes > MAX_HEADER_BYTES) {
        a->too_big = true;
        return 0;
    }
    header_value(data, len, "Content-Type", a->content_type, sizeof a->content_type);
    header_value(data, len, "Retry-After", a->retry_after, sizeof a->retry_after);
    header_value(data, len, "x-ms-retry-after-ms", a->retry_after_ms, sizeof a->retry_after_ms);
    header_value(data, len, "WWW-Authenticate", a->challenge, sizeof a->challenge);
    header_value(data, len, "request-id", a->request_id, sizeof a->request_id);
    header_value(data, len, "x-ms-request-id", a->request_id, sizeof a->request_id);
    char location[512] = "";
    header_value(data, len, "Location", location, sizeof location);
    if (location[0])
        pfx_url_show(location, a->location, sizeof a->location);
    return len;
}

static bool add_header(struct pfx_flight *flight, const char *line)
{
    struct curl_slist *more = curl_slist_append(flight->headers, line);
    if (more)
        flight->headers = more;
    return more != NULL;
}

static bool add_headers(struct pfx_flight *flight, const struct pfx_http_request *request)
{
    struct pfx_buf line = pfx_buf_make(32 * 1024);
    line.wipe = true;
    bool good = pfx_buf_addf(&line, "Accept: %s", request->accept) &&
                add_header(flight, pfx_buf_str(&line));
    /* Without this libcurl asks "100-continue" before a large body, and waits for the answer. */
    good = good && add_header(flight, "Expect:");
    if (good && request->body) {
        pfx_buf_reset(&line);
        good = pfx_buf_addf(&line, "Content-Type: %s", request->content_type) &&
               add_header(flight, pfx_buf_str(&line));
    }
    if (good && request->auth_header) {
        pfx_buf_reset(&line);
        good = pfx_buf_add_str(&line, request->auth_header) &&
               pfx_buf_add(&line, pfx_secret_bytes(request->auth), pfx_secret_len(request->auth)) &&
               add_header(flight, pfx_buf_str(&line));
    }
    if (good && request->client_request_id) {
        pfx_guid_new(flight->answer.client_request_id);
        pfx_buf_reset(&line);
        good = pfx_buf_addf(&line, "client-request-id: %s", flight->answer.client_request_id) &&
               add_header(flight, pfx_buf_str(&line));
    }
    pfx_buf_done(&line);
    for (size_t i = 0; good && request->headers && request->headers[i]; i++)
        good = add_header(flight, request->headers[i]);
    return good;
}

/* Any option that isn't taken could be one that protects: then the request isn't sent. */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(easy, option, value) != CURLE_OK)                                     \
            return false;                                                                          \
    } while (0)

/* The one exception from https, and it is bound to the address: nothing that a configuration or an
 * answer says leads here. */
static bool set_identity(CURL *easy, const char *url)
{
    if (!pfx_identity_is_url(url))
        return false;
    SET(CURLOPT_PROTOCOLS_STR, "http");
    return true;
}

static bool set_request(struct pfx_flight *flight, const struct pfx_http_request *request)
{
    CURL *easy = flight->easy;
    const struct pfx_uploader_conf *conf = flight->http->conf;
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_USERAGENT, conf->user_agent);
    SET(CURLOPT_HTTPHEADER, flight->headers);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)conf->connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)conf->request_timeout_ms);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)flight->in.max);
    SET(CURLOPT_ERRORBUFFER, flight->answer.curl_text);
    SET(CURLOPT_PRIVATE, flight);
    SET(CURLOPT_WRITEFUNCTION, on_write);
    SET(CURLOPT_WRITEDATA, flight);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, flight);
    if (request->body) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_READFUNCTION, on_read);
        SET(CURLOPT_READDATA, flight);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)flight->out.len);
    } else {
        SET(CURLOPT_HTTPGET, 1L);
    }
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    SET(CURLOPT_PREREQFUNCTION, on_start);
    SET(CURLOPT_PREREQDATA, flight);
    if (request->secret)
        SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    return pfx_route_set(easy, conf, &flight->route) &&
           (!request->identity || set_identity(easy, request->url));
}

/* A credential by HTTP/2 in Authorization only; a managed identity's address is this machine. */
static struct pfx_route route_of(const struct pfx_http *http,
                                 const struct pfx_http_request *request)
{
    if (request->identity)
        return (struct pfx_route){0};
    bool http2 = request->http2 && (!request->auth_header ||
                                    strncasecmp(request->auth_header, "Authorization:", 14) == 0);
    return pfx_route_find(http->conf, request->url, http2);
}

static pfx_result launch(struct pfx_flight *flight, struct pfx_error *err)
{
    struct pfx_http *http = flight->http;
    if (curl_multi_add_handle(http->multi, flight->easy) != CURLM_OK) {
        char shown[160];
        pfx_url_show(flight->url, shown, sizeof shown);
        return pfx_fail(err, PFX_CLASS_INTERNAL, "send request", shown, "",
                        "libcurl doesn't take the request; it wasn't sent. Is this the libcurl "
                        "that the program was built for?");
    }
    flight->parked = false;
    http->launched++;
    http->warm = true;
    return PFX_OK;
}

/* True: it has left, or flight->unsent says why it never will. */
static bool unpark(struct pfx_flight *flight, int64_t now)
{
    struct pfx_http *http = flight->http;
    struct pfx_error *err = &flight->unsent;
    struct pfx_pass pass;
    *err = PFX_ERROR_NONE;
    enum pfx_proxy_turn turn = pfx_proxy_want(http->proxy, flight->proxy_failures, now, &pass, err);
    if (turn == PFX_PROXY_WAIT && now < flight->park_until) {
        *err = PFX_ERROR_NONE; /* of an attempt that will be repeated */
        return false;
    }
    if (turn != PFX_PROXY_GO) {
        if (err->cls == PFX_CLASS_OK)
            err->cls = pfx_fail(err, PFX_CLASS_TRANSIENT, "open secret", "proxy", "",
                                "The password for the proxy didn't come in time; the request "
                                "wasn't sent.").cls;
        return true;
    }
    flight->proxy_ticket = pass.ticket;
    if (!pfx_route_set_login(flight->easy, http->conf, &pass))
        err->cls = pfx_fail(err, PFX_CLASS_INTERNAL, "send request", "libcurl", "",
                            "libcurl doesn't take the proxy's password; the request wasn't "
                            "sent.").cls;
    else
        err->cls = launch(flight, err).cls;
    return true;
}

pfx_result pfx_http_start(struct pfx_http *http, const struct pfx_http_request *request,
                          struct pfx_flight **ret_flight, struct pfx_error *err)
{
    char shown[160];
    pfx_url_show(request->url, shown, sizeof shown);
    struct pfx_flight *flight = pfx_alloc(sizeof *flight);
    flight->http = http;
    flight->easy = curl_easy_init();
    flight->url = pfx_strdup(request->url);
    flight->in = pfx_buf_make(request->secret ? MAX_TOKEN_ANSWER : (size_t)http->conf->max_body);
    flight->in.wipe = request->secret;
    flight->done = request->done;
    flight->ctx = request->ctx;
    flight->route = route_of(http, request);
    flight->answer.proxied = flight->route.proxy;
    flight->parked = true;
    if (request->body)
        flight->out = *request->body; /* given back below unless the request starts */
    pfx_result r = PFX_OK;
    if (!flight->easy || !add_headers(flight, request) || !set_request(flight, request))
        r = pfx_fail(err, PFX_CLASS_INTERNAL, "send request", shown, "",
                     "libcurl doesn't take the request; it wasn't sent. Is this the libcurl that "
                     "the program was built for?");
    else if (!flight->route.proxy || !http->proxy)
        r = launch(flight, err);
    if (pfx_failed(r)) {
        flight->out = (struct pfx_buf){0};
        flight_free(flight);
        return r;
    }
    if (flight->parked) {
        int64_t now = pfx_uptime_ms();
        flight->proxy_failures = pfx_proxy_failures(http->proxy);
        flight->park_until = now + http->conf->job_timeout_ms;
        (void)unpark(flight, now); /* a failure is told in pfx_http_step */
    }
    if (request->body)
        *request->body = (struct pfx_buf){0};
    flight->next = http->flights;
    http->flights = flight;
    http->flying++;
    *ret_flight = flight;
    return PFX_OK;
}

/* How long until a waiting request, or the connections, want to be looked at. */
static int64_t due(const struct pfx_http *http, int64_t now)
{
    int64_t at = INT64_MAX;
    if (http->launched == 0 && http->warm)
        at = http->idle_since + REST_MS;
    for (const struct pfx_flight *f = http->flights; f; f = f->next) {
        if (!f->parked)
            continue;
        int64_t next = pfx_proxy_next(http->proxy);
        if (f->park_until < next)
            next = f->park_until;
        if (f->unsent.cls != PFX_CLASS_OK)
            next = now;
        if (next < at)
            at = next;
    }
    return at;
}

void pfx_http_wait(struct pfx_http *http, struct curl_waitfd *fds, unsigned n_fds, int timeout_ms)
{
    int64_t now = pfx_uptime_ms();
    int64_t left = due(http, now) - now;
    if (left < timeout_ms)
        timeout_ms = left > 0 ? (int)left : 0;
    curl_multi_poll(http->multi, fds, n_fds, timeout_ms, NULL);
}

static void end(struct pfx_flight *flight)
{
    struct pfx_answer *a = &flight->answer;
    a->url = flight->url;
    a->body = pfx_buf_bytes(&flight->in);
    media_type(a);
    flight_unlink(flight);
    flight->done(flight->ctx, a);
    flight_free(flight);
}

static void finish(struct pfx_flight *flight, CURLcode code)
{
    struct pfx_answer *a = &flight->answer;
    a->curl_code = (int)code;
    if (code == CURLE_FILESIZE_EXCEEDED)
        a->too_big = true;
    if (code != CURLE_OK && a->curl_text[0] == '\0')
        snprintf(a->curl_text, sizeof a->curl_text, "%s", curl_easy_strerror(code));
    curl_easy_getinfo(flight->easy, CURLINFO_RESPONSE_CODE, &a->status);
    curl_easy_getinfo(flight->easy, CURLINFO_HTTP_CONNECTCODE, &a->connect_status);
    /* Digest begins with a 407 that is no refusal; what failed after it was something else. */
    if (a->connect_status == 407 && !strstr(a->curl_text, "CONNECT tunnel failed"))
        a->connect_status = 0;
    if (code == CURLE_SSL_PINNEDPUBKEYNOTMATCH)
        pfx_route_shown(flight->easy, a->pin);
    end(flight);
}

/* Lets go what waited for the proxy's password, and ends what will never leave. */
static void unpark_all(struct pfx_http *http)
{
    int64_t now = pfx_uptime_ms();
    for (struct pfx_flight *f = http->flights; f;) {
        struct pfx_flight *next = f->next;
        if (f->parked && (f->unsent.cls != PFX_CLASS_OK || unpark(f, now)) && f->parked) {
            f->answer.unsent = &f->unsent;
            end(f);
            next = http->flights; /* done may have changed the list */
        }
        f = next;
    }
}

/* Closes the connections, and libcurl's caches with them, when nobody has used one for a while. */
static void rest(struct pfx_http *http)
{
    if (http->launched > 0 || !http->warm || pfx_uptime_ms() < http->idle_since + REST_MS)
        return;
    CURLM *fresh = multi_new(http->conf);
    if (!fresh)
        return;
    curl_multi_cleanup(http->multi);
    http->multi = fresh;
    http->warm = false;
}

void pfx_http_step(struct pfx_http *http)
{
    unpark_all(http);
    int running;
    curl_multi_perform(http->multi, &running);
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(http->multi, &left))) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURLcode code = msg->data.result;
        char *private = NULL;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &private);
        if (private)
            finish((struct pfx_flight *)(void *)private, code);
    }
    unpark_all(http); /* one that ended may have proved the password */
    if (http->proxy)
        pfx_proxy_tidy(http->proxy, pfx_uptime_ms());
    rest(http);
}
