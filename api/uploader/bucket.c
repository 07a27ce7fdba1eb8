#include "api/uploader/bucket.h"

#include "crypto/mem.h"

/* Clocks of two machines don't run alike: this much longer than the window is waited. */
#define MARGIN_MS 50

struct pfx_bucket {
    unsigned requests;
    int64_t window_ms;
    unsigned flying;
    unsigned first, count; /* ring of the ends of requests, oldest first */
    int64_t *ends;
};

struct pfx_bucket *pfx_bucket_new(unsigned requests, int64_t window_ms)
{
    struct pfx_bucket *bucket = pfx_alloc(sizeof *bucket);
    bucket->requests = requests;
    bucket->window_ms = window_ms + MARGIN_MS;
    bucket->ends = pfx_alloc_array(requests ? requests : 1, sizeof *bucket->ends);
    return bucket;
}

void pfx_bucket_free(struct pfx_bucket *bucket)
{
    if (!bucket)
        return;
    free(bucket->ends);
    free(bucket);
}

/* Ends that still count: the ring is in order of time. */
static unsigned skip_old(const struct pfx_bucket *bucket, int64_t now_ms)
{
    unsigned old = 0;
    while (old < bucket->count &&
           bucket->ends[(bucket->first + old) % bucket->requests] + bucket->window_ms <= now_ms)
        old++;
    return old;
}

int64_t pfx_bucket_wait(const struct pfx_bucket *bucket, int64_t now_ms)
{
    if (bucket->requests == 0)
        return 0;
    unsigned old = skip_old(bucket, now_ms);
    unsigned used = bucket->flying + bucket->count - old;
    if (used < bucket->requests)
        return 0;
    if (bucket->count == old)
        return -1;
    int64_t end = bucket->ends[(bucket->first + old) % bucket->requests];
    return end + bucket->window_ms - now_ms;
}

void pfx_bucket_take(struct pfx_bucket *bucket, int64_t now_ms)
{
    if (bucket->requests == 0)
        return;
    unsigned old = skip_old(bucket, now_ms);
    bucket->first = (bucket->first + old) % bucket->requests;
    bucket->count -= old;
    bucket->flying++;
}

void pfx_bucket_give(struct pfx_bucket *bucket, int64_t now_ms)
{
    if (bucket->requests == 0 || bucket->flying == 0)
        return;
    bucket->flying--;
    if (bucket->count == bucket->requests) { /* can't be after take; keep the newest */
        bucket->first = (bucket->first + 1) % bucket->requests;
        bucket->count--;
    }
    bucket->ends[(bucket->first + bucket->count) % bucket->requests] = now_ms;
    bucket->count++;
}
