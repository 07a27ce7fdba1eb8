#include "agent/timing.h"

static int64_t doubled(int64_t base, unsigned times, int64_t max)
{
    if (base > max)
        return max;
    while (times-- > 0) {
        if (base > max / 2)
            return max;
        base *= 2;
    }
    return base;
}

int64_t pfx_backoff(unsigned tries, int64_t min_ms, int64_t max_ms, uint32_t dice)
{
    int64_t base = doubled(min_ms, tries, max_ms);
    int64_t quarter = base / 4;
    return base - quarter + (int64_t)(dice % (uint64_t)(2 * quarter + 1));
}

int64_t pfx_settle_delay(unsigned n, int64_t grace_ms)
{
    int64_t step = grace_ms / PFX_SETTLE_LOOKS;
    /* The CA's list may lag behind its answers: some seconds before the first look. */
    if (n == 0 && step > 5 * PFX_SECOND)
        return 5 * PFX_SECOND;
    return step > 0 ? step : 1;
}

bool pfx_settle_over(unsigned empty, int64_t since_ms, int64_t grace_ms, int64_t now_ms)
{
    /* While the uploader was away nobody looked, so time alone doesn't count. */
    return empty >= 3 && now_ms >= since_ms + grace_ms;
}

unsigned pfx_poll_minutes(int64_t last_poll_ms, int64_t oldest_ms, int64_t now_ms, bool *ret_gap)
{
    int64_t from = last_poll_ms > 0 ? last_poll_ms : now_ms;
    if (oldest_ms > 0 && oldest_ms < from)
        from = oldest_ms;
    int64_t span = now_ms > from ? now_ms - from : 0; /* a clock set back: the overlap is left */
    int64_t minutes = (span + PFX_MINUTE - 1) / PFX_MINUTE + PFX_POLL_OVERLAP_MIN;
    *ret_gap = minutes > PFX_POLL_MAX_MIN;
    return *ret_gap ? PFX_POLL_MAX_MIN : (unsigned)minutes;
}

int64_t pfx_reorder_at(unsigned ended, int64_t last_ms, int64_t reorder_after_ms)
{
    if (ended == 0)
        return 0;
    return last_ms + doubled(reorder_after_ms, ended - 1, PFX_REORDER_MAX);
}

int64_t pfx_day_start(int64_t now_ms)
{
    return now_ms - now_ms % PFX_DAY;
}

bool pfx_budget_left(unsigned in_pass, unsigned max_pass, unsigned today, unsigned max_day)
{
    return in_pass < max_pass && today < max_day;
}

bool pfx_hire_waits(int64_t hire_ms, int64_t now_ms)
{
    return hire_ms > now_ms + PFX_DAY;
}
