#include "api/uploader/retry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

/* libcurl's complaints about what we asked it to do. It has the same codes for what a server says:
 * HTTP/0.9 is a protocol that isn't supported. */
static enum pfx_class own_fault(const struct pfx_exchange *x)
{
    if (x->begun || x->sent)
        return PFX_CLASS_OK;
    switch (x->curl_code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return PFX_CLASS_USAGE;
    case CURLE_FAILED_INIT:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_UNKNOWN_OPTION:
    case CURLE_NOT_BUILT_IN:
        return PFX_CLASS_INTERNAL;
    default:
        return PFX_CLASS_OK;
    }
}

static enum pfx_class curl_class(const struct pfx_exchange *x)
{
    enum pfx_class own = own_fault(x);
    if (own != PFX_CLASS_OK)
        return own;
    /* Whatever the code: one of connecting may be of libcurl's second connection, after the first
     * had taken the body. */
    if (!x->read)
        return x->sent ? PFX_CLASS_LOST : PFX_CLASS_TRANSIENT;
    /* Reading it again meets the same ceiling; the text says which setting raises it. */
    return x->too_big ? PFX_CLASS_REFUSED : PFX_CLASS_TRANSIENT;
}

/* The contract of the CA names the states that a GET is repeated on; Graph and Entra only "5xx". */
static bool is_passing(enum pfx_service_id service, long status)
{
    switch (status) {
    case 408:
    case 421: /* the connection was for another host (RFC 9110 section 15.5.20) */
    case 500:
    case 502:
    case 503:
    case 504:
        return true;
    case 406:
        return service == PFX_SERVICE_CA;
    default:
        return service != PFX_SERVICE_CA && status > 500 && status <= 599;
    }
}

static enum pfx_class status_class(const struct pfx_exchange *x)
{
    if (x->status >= 200 && x->status <= 299)
        return PFX_CLASS_OK;
    if (x->status == 429)
        return PFX_CLASS_TRANSIENT;
    if (x->read)
        return is_passing(x->service, x->status) ? PFX_CLASS_TRANSIENT : PFX_CLASS_REFUSED;
    /* A change: a server that failed, or gave up on a proxy behind it, may have done the work; a
     * 303 even says that it did (RFC 9110 section 15.4.4). */
    if (x->status >= 500 || x->status == 408 || x->status == 406 || x->status == 303 ||
        x->status == 421 || x->status < 200)
        return PFX_CLASS_LOST;
    return PFX_CLASS_REFUSED;
}

struct pfx_verdict pfx_retry_judge(const struct pfx_exchange *x, int64_t now_ms)
{
    /* A date to come back at is of the server's clock, which may be hours from ours. */
    int64_t theirs = pfx_retry_date(x->date);
    struct pfx_verdict verdict = {
        .wait_ms = pfx_retry_after(x->retry_after, x->retry_after_ms, theirs < 0 ? now_ms : theirs),
    };
    if (x->foreign) { /* what it says isn't about this request */
        verdict = (struct pfx_verdict){.wait_ms = -1};
        verdict.cls = x->read || !x->sent ? PFX_CLASS_TRANSIENT : PFX_CLASS_LOST;
        return verdict;
    }
    if (x->curl_code != CURLE_OK || x->too_big) {
        verdict.cls = curl_class(x);
        /* A 429 that was cut off is a 429 all the same. */
        if (x->status == 429) {
            verdict.cls = PFX_CLASS_TRANSIENT;
            verdict.throttled = true;
        }
        return verdict;
    }
    verdict.cls = status_class(x);
    verdict.throttled = x->status == 429;
    verdict.credential = (x->status == 401 && x->service != PFX_SERVICE_ENTRA) ||
                         (x->status == 403 && x->service == PFX_SERVICE_CA);
    return verdict;
}

static int64_t cap(double ms)
{
    if (!(ms > 0))
        return 0;
    return ms > PFX_RETRY_MAX_WAIT_MS ? PFX_RETRY_MAX_WAIT_MS : (int64_t)ceil(ms);
}

/* Digits with at most one point: strtod alone would take "inf", "0x1p9" and "1e9". */
static bool read_number(const char *text, double *ret)
{
    if (!text || *text < '0' || *text > '9' || strlen(text) > 20)
        return false;
    size_t whole = strspn(text, "0123456789");
    const char *rest = text + whole;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    rest += strspn(rest, " \t");
    if (*rest != '\0')
        return false;
    *ret = strtod(text, NULL);
    return true;
}

/* curl_getdate takes many things for a date; one of HTTP's starts with the day's name. */
int64_t pfx_retry_date(const char *text)
{
    if (!text || strlen(text) < 24 || strlen(text) >= 64 || !strchr("MTWFS", text[0]))
        return -1;
    time_t when = curl_getdate(text, NULL);
    return when > 0 ? (int64_t)when * 1000 : -1;
}

int64_t pfx_retry_after(const char *retry_after, const char *retry_after_ms, int64_t now_ms)
{
    double number;
    if (read_number(retry_after_ms, &number))
        return cap(number);
    if (read_number(retry_after, &number))
        return cap(number * 1000);
    int64_t when = pfx_retry_date(retry_after);
    return when < 0 ? -1 : cap((double)when - (double)now_ms);
}

int64_t pfx_retry_pause(enum pfx_service_id service, unsigned nth, uint32_t random)
{
    int64_t first = service == PFX_SERVICE_CA ? 5000 : 10000;
    unsigned doublings = nth > 1 ? nth - 1 : 0;
    int64_t pause = first << (doublings > 4 ? 4 : doublings);
    if (pause > 60000)
        pause = 60000;
    if (service == PFX_SERVICE_CA) /* several agents may share one key: don't come back together */
        pause += (int64_t)(random % (uint32_t)(pause / 4));
    return pause;
}
