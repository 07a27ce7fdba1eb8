/* What follows from how an HTTP exchange ended: pure rules, no state. */
#ifndef PFX_UPLOADER_RETRY_H
#define PFX_UPLOADER_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/result.h"

enum pfx_service_id {
    PFX_SERVICE_CA,
    PFX_SERVICE_GRAPH,
    PFX_SERVICE_EXCHANGE,
    PFX_SERVICE_ENTRA, /* or the managed identity's address */
    PFX_SERVICE_COUNT
};

struct pfx_exchange {
    enum pfx_service_id service;
    bool read;      /* GET, or a token request: sending it again does no harm */
    int curl_code;  /* CURLcode */
    bool begun;     /* there was a connection: whatever the code, it is the server's doing */
    bool sent;      /* some byte of the body may have left */
    bool too_big;   /* the answer was cut off at our ceiling */
    bool foreign;   /* it was another request's, and cut off */
    long status;    /* 0: none came */
    const char *retry_after;    /* header value; NULL or "": absent */
    const char *retry_after_ms; /* x-ms-retry-after-ms */
    const char *date;           /* the server's clock; NULL or "": unknown */
};
struct pfx_verdict {
    enum pfx_class cls; /* OK for 2xx: the answer may be read */
    bool throttled;     /* 429: not processed; the same request may go again after wait_ms */
    bool credential; /* the service doesn't like our token or key: worth one try with a new one */
    int64_t wait_ms;    /* what the service asked for; -1: it didn't say */
};
struct pfx_verdict pfx_retry_judge(const struct pfx_exchange *exchange, int64_t now_ms);

#define PFX_RETRY_MAX_WAIT_MS (3600 * 1000)
/* The time of an HTTP date (RFC 9110 section 5.6.7); -1 if it isn't one. */
int64_t pfx_retry_date(const char *text);
/* Milliseconds that the headers ask for (seconds, also fractional; an HTTP date, against now_ms of
 * the server's wall clock; x-ms-retry-after-ms), at most an hour; -1 when they say nothing
 * readable. */
int64_t pfx_retry_after(const char *retry_after, const char *retry_after_ms, int64_t now_ms);
/* How long to wait after the nth 429 in a row (1, 2, ...) of a service that doesn't say; random is
 * any number, for jitter. */
int64_t pfx_retry_pause(enum pfx_service_id service, unsigned nth, uint32_t random);

#endif
