/*
 * A function that can stop in the middle and go on later, for a library whose calls block where the
 * loop must not. It has a thread of its own, but never runs at the same time as its owner: either
 * waits while the other one works, so that nothing they share needs a lock.
 */
#ifndef PFX_UPLOADER_CMP_CO_H
#define PFX_UPLOADER_CMP_CO_H

#include <stdbool.h>

#include "crypto/result.h"

struct pfx_co;

/* fn(ctx) begins with the first resume. TRANSIENT when the machine gives no thread. */
PFX_MUST_USE pfx_result pfx_co_new(void (*fn)(void *ctx), void *ctx, struct pfx_co **ret_co,
                                   struct pfx_error *err);
/* Lets fn run until it yields (true) or returns (false; also when it had returned before). */
bool pfx_co_resume(struct pfx_co *co);
/* For fn: stops until the next resume. False: nobody wants the result any more; fn returns as soon
 * as it can, and every further yield is false at once. */
PFX_MUST_USE bool pfx_co_yield(struct pfx_co *co);
/* Ends fn, waits for that, frees; NULL is fine. */
void pfx_co_free(struct pfx_co *co);

#endif
