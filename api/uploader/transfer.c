#include "api/uploader/transfer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/identity.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define MAX_HEADER_BYTES (64 * 1024)
#define MAX_TOKEN_ANSWER (64 * 1024)

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
    struct pfx_transfer *t = ctx;
    t->answer.begun = true;
    return t->answer.sent ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* "Never sent" is exactly "this was never called": a server that got the headers and no end of the
 * body has no request to carry out, by HTTP/1.1 as by HTTP/2. */
static size_t on_read(char *dest, size_t size, size_t n, void *ctx)
{
    struct pfx_transfer *t = ctx;
    size_t room = size * n;
    size_t left = t->out.len - t->out_at;
    size_t take = left < room ? left : room;
    t->answer.sent = true;
    if (take > 0)
        memcpy(dest, t->out.data + t->out_at, take);
    t->out_at += take;
    return take;
}

static size_t on_write(char *data, size_t size, size_t n, void *ctx)
{
    struct pfx_transfer *t = ctx;
    if (!pfx_buf_add(&t->in, data, size * n)) {
        t->answer.too_big = true;
        return 0;
    }
    return size * n;
}

/* Copies the value of header name into dest, cleaned; of several the last one counts. */
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

/* Of an answer before the last one: 1xx. */
static void forget_headers(struct pfx_answer *a)
{
    a->content_type[0] = a->retry_after[0] = a->retry_after_ms[0] = a->date[0] = '\0';
    a->location[0] = a->challenge[0] = a->request_id[0] = '\0';
}

/* Graph repeats what we sent; what stands between may drop it. */
static bool is_foreign(const struct pfx_answer *a, const char *line, size_t len)
{
    char id[PFX_GUID_SIZE + 8] = "";
    header_value(line, len, "client-request-id", id, sizeof id);
    return id[0] && a->client_request_id[0] && strcasecmp(id, a->client_request_id) != 0;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    struct pfx_transfer *t = ctx;
    struct pfx_answer *a = &t->answer;
    size_t len = size * n;
    t->header_bytes += len;
    if (t->header_bytes > MAX_HEADER_BYTES) {
        a->too_big = true;
        return 0;
    }
    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
        forget_headers(a);
        t->head_done = false;
    }
    if (data[0] == '\n' || data[0] == '\r')
        t->head_done = true;
    if (t->in.len > 0) /* a trailer (RFC 9110 section 6.5) doesn't say how to read the body */
        return len;
    if (t->echoed && is_foreign(a, data, len)) {
        a->foreign = true;
        return 0;
    }
    header_value(data, len, "Content-Type", a->content_type, sizeof a->content_type);
    header_value(data, len, "Retry-After", a->retry_after, sizeof a->retry_after);
    header_value(data, len, "x-ms-retry-after-ms", a->retry_after_ms, sizeof a->retry_after_ms);
    header_value(data, len, "Date", a->date, sizeof a->date);
    header_value(data, len, "WWW-Authenticate", a->challenge, sizeof a->challenge);
    header_value(data, len, "request-id", a->request_id, sizeof a->request_id);
    header_value(data, len, "x-ms-request-id", a->request_id, sizeof a->request_id);
    char location[512] = "";
    header_value(data, len, "Location", location, sizeof location);
    if (location[0])
        pfx_url_show(location, a->location, sizeof a->location);
    return len;
}

static bool add_header(struct pfx_transfer *t, const char *line)
{
    struct curl_slist *more = curl_slist_append(t->headers, line);
    if (more)
        t->headers = more;
    return more != NULL;
}

static bool add_headers(struct pfx_transfer *t, const struct pfx_http_request *request)
{
    struct pfx_buf line = pfx_buf_make(32 * 1024);
    line.wipe = true;
    bool good =
        pfx_buf_addf(&line, "Accept: %s", request->accept) && add_header(t, pfx_buf_str(&line));
    /* Without this libcurl asks "100-continue" before a large body, and waits for the answer. */
    good = good && add_header(t, "Expect:");
    if (good && request->body) {
        pfx_buf_reset(&line);
        good = pfx_buf_addf(&line, "Content-Type: %s", request->content_type) &&
               add_header(t, pfx_buf_str(&line));
    }
    if (good && request->auth_header) {
        pfx_buf_reset(&line);
        good = pfx_buf_add_str(&line, request->auth_header) &&
               pfx_buf_add(&line, pfx_secret_bytes(request->auth), pfx_secret_len(request->auth)) &&
               add_header(t, pfx_buf_str(&line));
    }
    if (good && request->client_request_id) {
        pfx_guid_new(t->answer.client_request_id);
        pfx_buf_reset(&line);
        good = pfx_buf_addf(&line, "client-request-id: %s", t->answer.client_request_id) &&
               add_header(t, pfx_buf_str(&line));
    }
    pfx_buf_done(&line);
    for (size_t i = 0; good && request->headers && request->headers[i]; i++)
        good = add_header(t, request->headers[i]);
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

static bool set_request(struct pfx_transfer *t, const struct pfx_uploader_conf *conf,
                        const struct pfx_http_request *request)
{
    CURL *easy = t->easy;
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_USERAGENT, conf->user_agent);
    SET(CURLOPT_HTTPHEADER, t->headers);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)conf->connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)conf->request_timeout_ms);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)t->in.max);
    SET(CURLOPT_ERRORBUFFER, t->answer.curl_text);
    SET(CURLOPT_WRITEFUNCTION, on_write);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    if (request->body) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_READFUNCTION, on_read);
        SET(CURLOPT_READDATA, t);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->out.len);
    } else {
        SET(CURLOPT_HTTPGET, 1L);
    }
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    SET(CURLOPT_PREREQFUNCTION, on_start);
    SET(CURLOPT_PREREQDATA, t);
    SET(CURLOPT_FRESH_CONNECT, t->alone ? 1L : 0L);
    SET(CURLOPT_FORBID_REUSE, t->alone || request->secret ? 1L : 0L);
    /* A resolver that hangs, for half a minute and more, would stop everything at the time-out of
     * the request: libcurl waits there for its thread. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    return pfx_route_set(easy, conf, &t->route) &&
           (!request->identity || set_identity(easy, request->url));
}

/* A credential by HTTP/2 in Authorization only; a managed identity's address is this machine. */
static struct pfx_route route_of(const struct pfx_uploader_conf *conf,
                                 const struct pfx_http_request *request)
{
    if (request->identity)
        return (struct pfx_route){0};
    bool http2 = request->http2 && (!request->auth_header ||
                                    strncasecmp(request->auth_header, "Authorization:", 14) == 0);
    return pfx_route_find(conf, request->url, http2);
}

bool pfx_transfer_init(struct pfx_transfer *t, const struct pfx_uploader_conf *conf,
                       const struct pfx_http_request *request)
{
    t->easy = curl_easy_init();
    t->url = pfx_strdup(request->url);
    t->in = pfx_buf_make(request->secret ? MAX_TOKEN_ANSWER : (size_t)conf->max_body);
    t->in.wipe = request->secret;
    t->alone = request->alone;
    t->echoed = request->echoed;
    t->route = route_of(conf, request);
    t->answer.proxied = t->route.proxy;
    if (request->body)
        t->out = *request->body;
    return t->easy && add_headers(t, request) && set_request(t, conf, request);
}

void pfx_transfer_end(struct pfx_transfer *t, CURLcode code)
{
    struct pfx_answer *a = &t->answer;
    /* Headers that break off with the connection are an answer without a body to libcurl. */
    if (code == CURLE_OK && !t->head_done) {
        code = CURLE_RECV_ERROR;
        snprintf(a->curl_text, sizeof a->curl_text, "The answer ends inside its headers");
    }
    a->url = t->url;
    a->body = pfx_buf_bytes(&t->in);
    a->curl_code = (int)code;
    /* A header line of more than 100 KB has no code of its own in libcurl, and we have memory. */
    if (code == CURLE_FILESIZE_EXCEEDED || (code == CURLE_OUT_OF_MEMORY && a->begun))
        a->too_big = true;
    if (code != CURLE_OK && a->curl_text[0] == '\0')
        snprintf(a->curl_text, sizeof a->curl_text, "%s", curl_easy_strerror(code));
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &a->status);
    curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &a->connect_status);
    /* Digest begins with a 407 that is no refusal; what failed after it was something else. */
    if (a->connect_status == 407 && !strstr(a->curl_text, "CONNECT tunnel failed"))
        a->connect_status = 0;
    if (code == CURLE_SSL_PINNEDPUBKEYNOTMATCH)
        pfx_route_shown(t->easy, a->pin);
    media_type(a);
}

void pfx_transfer_done(struct pfx_transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    pfx_buf_done(&t->out);
    pfx_buf_done(&t->in);
    free(t->url);
}
