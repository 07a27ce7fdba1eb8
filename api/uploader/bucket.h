/*
 * How many requests a service takes in a rolling window.
 *
 * The service counts a request at a moment that we don't know, somewhere between its first byte and
 * its answer. So a place is taken when a request starts, and given back one window after it ended:
 * whatever the moment was, no window of the service's ever sees more than allowed.
 */
#ifndef PFX_UPLOADER_BUCKET_H
#define PFX_UPLOADER_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct pfx_bucket;
/* requests in window_ms; 0 requests: no limit. */
struct pfx_bucket *pfx_bucket_new(unsigned requests, int64_t window_ms);
void pfx_bucket_free(struct pfx_bucket *bucket);
/* How long until a place is free: 0 now; -1 when that depends on a request in flight. Times are
 * milliseconds of any clock that never goes back. */
int64_t pfx_bucket_wait(const struct pfx_bucket *bucket, int64_t now_ms);
void pfx_bucket_take(struct pfx_bucket *bucket, int64_t now_ms); /* only after a wait of 0 */
void pfx_bucket_give(struct pfx_bucket *bucket, int64_t now_ms); /* the request ended */

#endif
