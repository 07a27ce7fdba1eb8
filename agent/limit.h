/* Log lines and notes whose number somebody else decides: so many in a span of time, the others are
 * counted. */
#ifndef PFX_AGENT_LIMIT_H
#define PFX_AGENT_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct pfx_limit { /* zero: nothing was told yet */
    int64_t since;
    unsigned told;
    uint64_t untold;
};
/* May one more be told? *ret_untold: how many weren't in the span that is over; told once. */
bool pfx_limit_take(struct pfx_limit *limit, unsigned most, int64_t span_ms, int64_t uptime_ms,
                    uint64_t *ret_untold);

#endif
