#include "api/uploader/service.h"

/* The end of a request in flight wakes the loop; this is only how long to sleep without one. */
#define UNKNOWN_MS 60000

void pfx_service_done(struct pfx_service *service)
{
    pfx_bucket_free(service->any[0]);
    pfx_bucket_free(service->any[1]);
    pfx_bucket_free(service->writes);
    *service = (struct pfx_service){0};
}

int64_t pfx_service_wait(const struct pfx_service *service, bool read, int64_t now_ms)
{
    const struct pfx_bucket *all[] = {service->any[0], service->any[1],
                                      read ? NULL : service->writes};
    int64_t longest = 0;
    for (size_t i = 0; i < 3; i++) {
        int64_t wait = all[i] ? pfx_bucket_wait(all[i], now_ms) : 0;
        if (wait < 0)
            wait = UNKNOWN_MS;
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

void pfx_service_take(struct pfx_service *service, bool read, int64_t now_ms)
{
    for (size_t i = 0; i < 2; i++)
        if (service->any[i])
            pfx_bucket_take(service->any[i], now_ms);
    if (service->writes && !read)
        pfx_bucket_take(service->writes, now_ms);
}

void pfx_service_give(struct pfx_service *service, bool read, int64_t now_ms)
{
    for (size_t i = 0; i < 2; i++)
        if (service->any[i])
            pfx_bucket_give(service->any[i], now_ms);
    if (service->writes && !read)
        pfx_bucket_give(service->writes, now_ms);
}

void pfx_service_throttle(struct pfx_service *service, int64_t wait_ms, int64_t now_ms)
{
    bool closed = now_ms < service->closed_until;
    if (!closed)
        service->throttled++;
    /* "Retry-After: 0", or a date that by our clock is over: taken at its word that would be one
     * request after the other, for a token with a signature of the HSM each. */
    if (wait_ms <= 0) {
        /* Answers to requests that were under way at the first 429 say nothing new. */
        if (closed)
            return;
        wait_ms = pfx_retry_pause(service->id, service->throttled,
                                  (uint32_t)now_ms * 2654435761u);
    }
    if (now_ms + wait_ms > service->closed_until)
        service->closed_until = now_ms + wait_ms;
}
