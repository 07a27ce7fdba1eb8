/* The schedule of rotations. */
#include "crypto/schedule.h"

#include <inttypes.h>
#include <stdio.h>

#include "crypto/encode.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

int64_t pfx_period_end(int64_t from_ms, struct pfx_period period)
{
    return pfx_time_add_months(from_ms + period.days * DAY_MS, period.months);
}

static unsigned in_state(const struct pfx_generation *list, size_t n, enum pfx_key_state state)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].state == state)
            return list[i].number;
    return 0;
}

void pfx_schedule_of(const struct pfx_generation *list, size_t n, struct pfx_period every,
                     int64_t now_ms, struct pfx_schedule *ret)
{
    const struct pfx_generation *active = NULL;
    *ret = (struct pfx_schedule){.state = PFX_SCHEDULE_OFF};
    ret->active = in_state(list, n, PFX_STATE_ACTIVE);
    ret->staged = in_state(list, n, PFX_STATE_STAGED);
    if (every.months == 0 && every.days == 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (list[i].number == ret->active)
            active = &list[i];
    ret->state = PFX_SCHEDULE_NONE;
    if (!active || active->activated_ms == 0)
        return;
    ret->end_ms = pfx_period_end(active->activated_ms, every);
    ret->from_ms = ret->end_ms - PFX_ROTATION_LEAD_DAYS * DAY_MS;
    int64_t left = ret->end_ms - now_ms;
    ret->days = left >= 0 ? left / DAY_MS : -((-left + DAY_MS - 1) / DAY_MS);
    ret->warn = now_ms >= ret->from_ms;
    ret->state = ret->staged > 0 ? PFX_SCHEDULE_STAGED
                 : ret->warn     ? PFX_SCHEDULE_DUE
                                 : PFX_SCHEDULE_EARLY;
}

static void day_of(int64_t ms, char buf[PFX_TIME_SIZE])
{
    pfx_time_format(ms, false, buf);
    buf[10] = '\0'; /* the date */
}

char *pfx_schedule_say(const struct pfx_schedule *schedule, char buf[PFX_SCHEDULE_TEXT])
{
    char end[PFX_TIME_SIZE], from[PFX_TIME_SIZE], when[48];
    int64_t days = schedule->days < 0 ? -schedule->days : schedule->days;
    day_of(schedule->end_ms, end);
    day_of(schedule->from_ms, from);
    snprintf(when, sizeof when,
             schedule->days < 0   ? "%" PRId64 " day%s ago"
             : schedule->days > 0 ? "in %" PRId64 " day%s"
                                  : "today",
             days, days == 1 ? "" : "s");
    switch (schedule->state) {
    case PFX_SCHEDULE_OFF:
        snprintf(buf, PFX_SCHEDULE_TEXT,
                 "There is no schedule: encryption_key.rotate_every of hsm-policy.yaml is 0d.");
        break;
    case PFX_SCHEDULE_NONE:
        snprintf(buf, PFX_SCHEDULE_TEXT,
                 "No generation is active, so none has an age: an operator looks at pfx-agent key "
                 "status.");
        break;
    case PFX_SCHEDULE_EARLY:
        snprintf(buf, PFX_SCHEDULE_TEXT,
                 "Generation %u is to be replaced by %s, and the next one to be staged from %s on.",
                 schedule->active, end, from);
        break;
    case PFX_SCHEDULE_STAGED:
        snprintf(buf, PFX_SCHEDULE_TEXT,
                 "Generation %u is to be replaced by %s (%s), and generation %u is staged: an "
                 "operator activates it with pfx-agent key activate %u.",
                 schedule->active, end, when, schedule->staged, schedule->staged);
        break;
    case PFX_SCHEDULE_DUE:
        snprintf(buf, PFX_SCHEDULE_TEXT,
                 "Generation %u is to be replaced by %s (%s), and no other one is staged: "
                 "pfx-agent key rotate stages it.",
                 schedule->active, end, when);
        break;
    }
    return buf;
}
