#include "agent/limit.h"

bool pfx_limit_take(struct pfx_limit *limit, unsigned most, int64_t span_ms, int64_t uptime_ms,
                    uint64_t *ret_untold)
{
    *ret_untold = 0;
    if (limit->since == 0 || uptime_ms - limit->since >= span_ms) {
        *ret_untold = limit->untold;
        *limit = (struct pfx_limit){.since = uptime_ms};
    }
    if (limit->told == most) {
        limit->untold++;
        return false;
    }
    limit->told++;
    return true;
}
