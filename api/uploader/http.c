#include "api/uploader/http.h"

#include "api/conf/process.h"
#include "api/uploader/transfer.h"
#include "api/uploader/url.h"

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
    struct pfx_transfer transfer;
    bool parked; /* waits for the proxy's password */
    int64_t park_until;
    unsigned proxy_failures, proxy_ticket; /* 0: no ticket */
    struct pfx_error unsent;
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
        curl_multi_remove_handle(flight->http->multi, flight->transfer.easy);
    pfx_transfer_done(&flight->transfer);
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
        const struct pfx_answer *answer = &flight->transfer.answer;
        long said = answer->connect_status;
        pfx_proxy_told(flight->http->proxy, flight->proxy_ticket,
                       said == 0 && answer->status > 0 ? 200 : said, pfx_uptime_ms());
        flight->proxy_ticket = 0;
    }
}

void pfx_http_cancel(struct pfx_flight *flight)
{
    flight_unlink(flight);
    flight_free(flight);
}

void pfx_http_free(struct pfx_http *http)
{
    if (!http)
        return;
    while (http->flights)
        pfx_http_cancel(http->flights);
    curl_multi_cleanup(http->multi);
    free(http);
}

bool pfx_http_room(const struct pfx_http *http)
{
    return http->flying < http->conf->in_flight;
}

static pfx_result not_taken(const struct pfx_flight *flight, struct pfx_error *err)
{
    char shown[160];
    pfx_url_show(flight->transfer.url, shown, sizeof shown);
    return pfx_fail(err, PFX_CLASS_INTERNAL, "send request", shown, "",
                    "libcurl doesn't take the request; it wasn't sent. Is this the libcurl that "
                    "the program was built for?");
}

static pfx_result launch(struct pfx_flight *flight, struct pfx_error *err)
{
    struct pfx_http *http = flight->http;
    if (curl_multi_add_handle(http->multi, flight->transfer.easy) != CURLM_OK)
        return not_taken(flight, err);
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
    pass.fresh = pass.fresh || flight->transfer.alone;
    if (!pfx_route_set_login(flight->transfer.easy, http->conf, &pass))
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
    struct pfx_flight *flight = pfx_alloc(sizeof *flight);
    struct pfx_transfer *transfer = &flight->transfer;
    flight->http = http;
    flight->done = request->done;
    flight->ctx = request->ctx;
    flight->parked = true;
    pfx_result r = PFX_OK;
    if (!pfx_transfer_init(transfer, http->conf, request) ||
        curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, flight) != CURLE_OK)
        r = not_taken(flight, err);
    else if (!transfer->route.proxy || !http->proxy)
        r = launch(flight, err);
    if (pfx_failed(r)) {
        transfer->out = (struct pfx_buf){0}; /* stays the caller's */
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

static void end(struct pfx_flight *flight, CURLcode code)
{
    pfx_transfer_end(&flight->transfer, code);
    flight_unlink(flight);
    flight->done(flight->ctx, &flight->transfer.answer);
    flight_free(flight);
}

/* Lets go what waited for the proxy's password, and ends what will never leave. */
static void unpark_all(struct pfx_http *http)
{
    int64_t now = pfx_uptime_ms();
    for (struct pfx_flight *f = http->flights; f;) {
        struct pfx_flight *next = f->next;
        if (f->parked && (f->unsent.cls != PFX_CLASS_OK || unpark(f, now)) && f->parked) {
            f->transfer.answer.unsent = &f->unsent;
            end(f, CURLE_OK);
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
            end((struct pfx_flight *)(void *)private, code);
    }
    unpark_all(http); /* one that ended may have proved the password */
    if (http->proxy)
        pfx_proxy_tidy(http->proxy, pfx_uptime_ms());
    rest(http);
}
