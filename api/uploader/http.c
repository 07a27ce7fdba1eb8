#include "api/uploader/http.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define MAX_HEADER_BYTES (64 * 1024)
#define MAX_TOKEN_ANSWER (64 * 1024)

struct pfx_http {
    const struct pfx_uploader_conf *conf;
    CURLM *multi;
    unsigned flying;
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
    struct pfx_answer answer;
    pfx_http_done_fn done;
    void *ctx;
};

pfx_result pfx_http_new(const struct pfx_uploader_conf *conf, struct pfx_http **ret_http,
                        struct pfx_error *err)
{
    CURLM *multi = curl_multi_init();
    if (!multi)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "start", "libcurl", "", "It has no memory.");
    /* One request at a time on each connection: a lost connection then never takes several orders
     * with it whose fate would have to be settled. */
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)conf->in_flight + 4);
    struct pfx_http *http = pfx_alloc(sizeof *http);
    http->conf = conf;
    http->multi = multi;
    *ret_http = http;
    return PFX_OK;
}

static void flight_free(struct pfx_flight *flight)
{
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
 * libcurl sends a request again by itself when a reused connection turns out to be dead, POST or
 * not: the server may have taken the first one. It can only do so by rewinding the body, and since
 * there is no seek function here, it gives up (CURLE_SEND_FAIL_REWIND) once a byte of the body was
 * handed out. For the same reason "never sent" is exactly "this was never called".
 */
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
    return good;
}

/* Any option that isn't taken could be one that protects: then the request isn't sent. */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(easy, option, value) != CURLE_OK)                                     \
            return false;                                                                          \
    } while (0)

static bool set_security(CURL *easy, const struct pfx_uploader_conf *conf)
{
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (conf->ca_bundle) {
        /* The bundle instead of the system's authorities, not in addition to them. */
        SET(CURLOPT_CAINFO, conf->ca_bundle);
        SET(CURLOPT_CAPATH, NULL);
    }
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    /* Set in any case, so that https_proxy and no_proxy of the environment say nothing here. */
    SET(CURLOPT_PROXY, conf->proxy ? conf->proxy : "");
    SET(CURLOPT_NOPROXY, conf->no_proxy ? conf->no_proxy : "");
    if (conf->proxy) {
        SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
        SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        SET(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        if (conf->ca_bundle) {
            SET(CURLOPT_PROXY_CAINFO, conf->ca_bundle);
            SET(CURLOPT_PROXY_CAPATH, NULL);
        }
    }
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    /* HTTP/2 is another library, which copies the headers, the credential among them, to memory of
     * its own that isn't wiped; and with one request at a time on a connection it gains nothing. */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
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
    return set_security(easy, conf);
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
    if (request->body)
        flight->out = *request->body; /* given back below unless the request starts */
    if (!flight->easy || !add_headers(flight, request) || !set_request(flight, request) ||
        curl_multi_add_handle(http->multi, flight->easy) != CURLM_OK) {
        flight->out = (struct pfx_buf){0};
        flight_free(flight);
        return pfx_fail(err, PFX_CLASS_INTERNAL, "send request", shown, "",
                        "libcurl doesn't take the request; it wasn't sent. Is this the libcurl "
                        "that the program was built for?");
    }
    if (request->body)
        *request->body = (struct pfx_buf){0};
    flight->next = http->flights;
    http->flights = flight;
    http->flying++;
    *ret_flight = flight;
    return PFX_OK;
}

void pfx_http_wait(struct pfx_http *http, struct curl_waitfd *fds, unsigned n_fds, int timeout_ms)
{
    curl_multi_poll(http->multi, fds, n_fds, timeout_ms, NULL);
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
    a->url = flight->url;
    a->body = pfx_buf_bytes(&flight->in);
    media_type(a);
    flight_unlink(flight);
    flight->done(flight->ctx, a);
    flight_free(flight);
}

void pfx_http_step(struct pfx_http *http)
{
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
}
