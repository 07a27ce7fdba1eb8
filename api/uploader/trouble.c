#include "api/uploader/trouble.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/text.h"
#include "api/uploader/url.h"

bool pfx_trouble_is_json(const struct pfx_answer *answer)
{
    const char *type = answer->content_type;
    size_t len = strlen(type);
    return strcmp(type, "application/json") == 0 || strcmp(type, "text/json") == 0 ||
           (len > 5 && strcmp(type + len - 5, "+json") == 0);
}

/* By what it says, or where it says nothing or JSON, by how it begins. */
bool pfx_trouble_is_html(const struct pfx_answer *answer)
{
    if (strcmp(answer->content_type, "text/html") == 0 ||
        strcmp(answer->content_type, "application/xhtml+xml") == 0)
        return true;
    const char *s = (const char *)answer->body.data;
    size_t len = answer->body.len;
    while (len > 0 && strchr(" \t\r\n", *s)) {
        s++;
        len--;
    }
    return (len >= 9 && strncasecmp(s, "<!doctype", 9) == 0) ||
           (len >= 5 && strncasecmp(s, "<html", 5) == 0);
}

bool pfx_trouble_denied(const struct pfx_error *err)
{
    return strstr(err->text, "HTTP 401") || strstr(err->text, "HTTP 403");
}

struct pfx_verdict pfx_trouble_judge(enum pfx_service_id service, bool read,
                                     const struct pfx_answer *answer, int64_t now_ms)
{
    if (answer->unsent)
        return (struct pfx_verdict){.cls = answer->unsent->cls, .wait_ms = -1};
    if (answer->connect_status == 407) /* no tunnel, so that nothing got to the service */
        return (struct pfx_verdict){.cls = PFX_CLASS_TRANSIENT, .wait_ms = -1};
    struct pfx_exchange exchange = {
        .service = service,
        .read = read,
        .curl_code = answer->curl_code,
        .begun = answer->begun,
        .sent = answer->sent,
        .too_big = answer->too_big,
        .foreign = answer->foreign,
        .status = answer->status,
        .retry_after = answer->retry_after,
        .retry_after_ms = answer->retry_after_ms,
        .date = answer->date,
    };
    struct pfx_verdict verdict = pfx_retry_judge(&exchange, now_ms);
    if (verdict.cls == PFX_CLASS_REFUSED && answer->curl_code == 0 && !answer->too_big &&
        answer->status >= 400 && pfx_trouble_is_html(answer)) {
        verdict.cls = read || !answer->sent ? PFX_CLASS_TRANSIENT : PFX_CLASS_LOST;
        verdict.credential = false;
    }
    return verdict;
}

/* ", client-request-id ..." and the like, as far as known. */
static void write_ids(const struct pfx_answer *answer, const struct pfx_told *told, char *ids,
                      size_t size)
{
    ids[0] = '\0';
    size_t at = 0;
    const struct {
        const char *name, *value;
    } rows[] = {
        {"request-id ", answer->request_id},
        {"client-request-id ", answer->client_request_id},
        {"", told->ids},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value[0] == '\0' || at >= size)
            continue;
        int n = snprintf(ids + at, size - at, "%s%s%s", at ? ", " : " [", rows[i].name,
                         rows[i].value);
        at += n > 0 ? (size_t)n : 0;
    }
    if (at > 0 && at + 1 < size)
        memcpy(ids + at, "]", 2);
}

static const char *curl_next_step(const struct pfx_answer *answer)
{
    static const char between[] = "If it stays, look at what stands between this host and the "
                                  "service: proxy, firewall, load balancer.";
    switch (answer->curl_code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
        return "Check proxy.url in uploader.yaml.";
    case CURLE_COULDNT_RESOLVE_HOST:
        return "Check the host's DNS, and whether a proxy is needed (proxy.url in uploader.yaml).";
    case CURLE_COULDNT_CONNECT:
        return "Check routes and firewall, and whether a proxy is needed (proxy.url in "
               "uploader.yaml).";
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        return "The server's certificate isn't trusted, isn't valid now, or is for another host: "
               "check the URL and tls.ca_bundle in uploader.yaml, and this host's clock; a proxy "
               "that opens TLS has to have its CA in that bundle.";
    case CURLE_SSL_CONNECT_ERROR:
        return "No TLS 1.2 or 1.3 came about with what answers there: check the URL, and proxy and "
               "firewall on the way (proxy.url in uploader.yaml).";
    case CURLE_SSL_CACERT_BADFILE:
        return "Check tls.ca_bundle in uploader.yaml.";
    case CURLE_OPERATION_TIMEDOUT:
        return "limits.request_timeout and limits.connect_timeout in uploader.yaml say how long is "
               "waited.";
    default:
        /* libcurl has no code of its own for it. */
        return strstr(answer->curl_text, "CONNECT tunnel failed")
                   ? "The proxy doesn't let it through: it has to allow CONNECT to this host and "
                     "port (proxy.url in uploader.yaml)."
                   : between;
    }
}

static const char *lost_hint(const struct pfx_trouble *t, enum pfx_class cls)
{
    if (cls != PFX_CLASS_LOST)
        return "";
    return t->repeats ? " The request left, so it may have been carried out; the same one is sent "
                        "again, under the same transaction id."
                      : " The request left, so it may have been carried out; this is looked up "
                        "before anything is sent again.";
}

/* The certificate was fine, the key isn't one of ours. */
static pfx_result write_pin(const struct pfx_trouble *t, const struct pfx_answer *answer,
                            enum pfx_class cls, const char *object, struct pfx_error *err)
{
    /* No tunnel yet: it was the proxy's own TLS. */
    bool at_proxy = answer->proxied && answer->connect_status == 0;
    char host[100];
    pfx_url_host(at_proxy ? t->conf->proxy : answer->url, host, sizeof host);
    char shown[320];
    if (answer->pin[0])
        snprintf(shown, sizeof shown, "It showed %s.", answer->pin);
    else
        snprintf(shown, sizeof shown,
                 "`openssl s_client -connect %s%s </dev/null | openssl x509 -noout -pubkey | "
                 "openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` shows "
                 "it.", host, strchr(host, ':') ? "" : ":443");
    return pfx_fail(err, cls, t->op, object, "curl 90",
                    "The public key of %s isn't one of those that tls.pins in uploader.yaml names, "
                    "so nothing was sent. %s If its owner confirms that this is its new key, add "
                    "it there; else somebody is in between.", host, shown);
}

static pfx_result write_transport(const struct pfx_trouble *t, const struct pfx_answer *answer,
                                  enum pfx_class cls, const char *object, const char *ids,
                                  struct pfx_error *err)
{
    char code[32];
    if (answer->too_big) {
        snprintf(code, sizeof code, "HTTP %ld", answer->status);
        return pfx_fail(err, cls, t->op, object, code,
                        "The answer of %s is larger than limits.max_body (%lld bytes, headers 64 "
                        "KiB) and was cut off. If such answers are right, raise limits.max_body in "
                        "uploader.yaml.%s%s", t->service, (long long)t->conf->max_body,
                        lost_hint(t, cls), ids);
    }
    if (answer->foreign)
        return pfx_fail(err, cls, t->op, object, "",
                        "The answer belongs to another request (its client-request-id isn't ours) "
                        "and wasn't taken; the connection was closed. If it stays, a proxy or load "
                        "balancer between this host and %s mixes up answers.%s%s",
                        t->service, lost_hint(t, cls), ids);
    if (answer->curl_code == CURLE_SSL_PINNEDPUBKEYNOTMATCH)
        return write_pin(t, answer, cls, object, err);
    char text[200];
    pfx_text_clean_str(text, sizeof text, answer->curl_text);
    snprintf(code, sizeof code, "curl %d", answer->curl_code);
    if (answer->curl_code == CURLE_SEND_FAIL_REWIND ||
        answer->curl_code == CURLE_ABORTED_BY_CALLBACK)
        snprintf(text, sizeof text, "The connection was closed while the request was on its way");
    return pfx_fail(err, cls, t->op, object, code, "No answer from %s: %s. %s%s%s", t->service,
                    text, curl_next_step(answer), lost_hint(t, cls), ids);
}

static void write_told(const struct pfx_trouble *t, const struct pfx_answer *answer,
                       struct pfx_told *told)
{
    *told = (struct pfx_told){0};
    if (t->explain && pfx_trouble_is_json(answer))
        t->explain(answer, told);
    if (told->code[0] == '\0')
        snprintf(told->code, sizeof told->code, "HTTP %ld", answer->status);
}

#define FIT_SIZE (sizeof ((struct pfx_told *)0)->message + 8)

/* Cuts the service's message so that what follows it, the ids above all, isn't cut off. Returns it
 * as a sentence with what stands around it. */
static const char *fit_message(const struct pfx_trouble *t, const struct pfx_told *told,
                               const char *hint, const char *ids, char text[FIT_SIZE])
{
    const size_t room = sizeof ((struct pfx_error *)0)->text - 1;
    size_t taken = strlen(t->service) + strlen(" answers HTTP 1234567890: . ") +
                   strlen(told->next) + strlen(hint) + strlen(ids);
    size_t size = taken + 8 < room ? room - taken : 8;
    if (size > sizeof told->message)
        size = sizeof told->message;
    char message[sizeof told->message];
    pfx_text_clean_str(message, size, told->message);
    size_t len = strlen(message);
    bool open = len > 0 && !strchr(".!?", message[len - 1]);
    snprintf(text, FIT_SIZE, "%s%s%s%s", len ? ": " : ".", message, open ? "." : "",
             told->next[0] ? " " : "");
    return text;
}

pfx_result pfx_trouble_write(const struct pfx_trouble *t, const struct pfx_answer *answer,
                             enum pfx_class cls, int64_t wait_ms, struct pfx_error *err)
{
    char object[160];
    if (answer->unsent) {
        *err = *answer->unsent;
        return (pfx_result){err->cls};
    }
    if (answer->connect_status == 407)
        return pfx_proxy_refusal(pfx_url_host(t->conf->proxy, object, sizeof object),
                                 t->conf->proxy_user != NULL, err);
    pfx_url_show(answer->url, object, sizeof object);
    struct pfx_told told = {0};
    char ids[320];
    if (answer->curl_code != 0 || answer->too_big) {
        write_ids(answer, &told, ids, sizeof ids);
        return write_transport(t, answer, cls, object, ids, err);
    }
    if (pfx_trouble_is_html(answer))
        return pfx_trouble_content(t, answer, cls, "", err);
    write_told(t, answer, &told);
    write_ids(answer, &told, ids, sizeof ids);
    if (answer->status >= 300 && answer->status <= 399)
        return pfx_fail(err, cls, t->op, object, told.code,
                        "%s answers with a redirect to %s. Redirects aren't followed: check %s and "
                        "proxy.url in uploader.yaml.%s%s", t->service,
                        answer->location[0] ? answer->location : "nowhere", t->url_option,
                        lost_hint(t, cls), ids);
    if (answer->status == 429)
        return pfx_fail(err, cls, t->op, object, told.code,
                        "%s limits the number of requests (HTTP 429): retry after %lld s. %s%s",
                        t->service,
                        (long long)(wait_ms + 999) / 1000, told.message, ids);
    if (cls == PFX_CLASS_TRANSIENT && told.next[0] == '\0')
        snprintf(told.next, sizeof told.next, "If it stays, look at the status page of %s.",
                 t->service);
    char message[FIT_SIZE];
    const char *hint = lost_hint(t, cls);
    return pfx_fail(err, cls, t->op, object, told.code, "%s answers HTTP %ld%s%s%s%s", t->service,
                    answer->status, fit_message(t, &told, hint, ids, message), told.next, hint, ids);
}

pfx_result pfx_trouble_content(const struct pfx_trouble *t, const struct pfx_answer *answer,
                               enum pfx_class cls, const char *why, struct pfx_error *err)
{
    char object[160];
    char host[60];
    char code[32];
    char ids[320];
    pfx_url_show(answer->url, object, sizeof object);
    pfx_url_host(answer->url, host, sizeof host);
    snprintf(code, sizeof code, "HTTP %ld", answer->status);
    write_ids(answer, &(struct pfx_told){0}, ids, sizeof ids);
    const char *expected = t->expected ? t->expected : "JSON";
    if (pfx_trouble_is_html(answer)) {
        char via[100] = "";
        if (t->conf->proxy) {
            char proxy[60];
            snprintf(via, sizeof via, " through the proxy %s",
                     pfx_url_host(t->conf->proxy, proxy, sizeof proxy));
        }
        return pfx_fail(err, cls, t->op, object, code,
                        "%s%s answers with a HTML page where %s is expected. It is likely a "
                        "proxy's login or block page, or a load balancer's: open the URL from "
                        "this host, and check %s, proxy.url and proxy.except in "
                        "uploader.yaml.%s%s",
                        host, via, expected, t->url_option, lost_hint(t, cls), ids);
    }
    if (why[0] == '\0')
        return pfx_fail(err, cls, t->op, object, code,
                        "%s answers with content of type %s where %s is expected. Check %s and "
                        "proxy.url in uploader.yaml.%s%s", host,
                        answer->content_type[0] ? answer->content_type : "(none)", expected,
                        t->url_option, lost_hint(t, cls), ids);
    return pfx_fail(err, cls, t->op, object, code,
                    "The answer of %s can't be used: %s. Tell its support if it stays.%s%s",
                    t->service, why, lost_hint(t, cls), ids);
}
