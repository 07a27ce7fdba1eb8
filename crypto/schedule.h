/*
 * When the next generation of the encryption key is to be staged, and by when it should be active:
 * pure rules over the list of lifecycle.h.
 *
 * A generation's age counts from its first use. Months are calendar months in UTC: in use since
 * 31 January at 10:00, one month ends on 28 (or 29) February at 10:00, two on 31 March at 10:00.
 * Each is counted from the first use, not from the month before it, so the day doesn't creep.
 *
 * Nothing here activates a generation, or asks for it earlier than 30 days before the end: in that
 * time connectors confirm what was staged, and an operator activates it.
 */
#ifndef PFX_CRYPTO_SCHEDULE_H
#define PFX_CRYPTO_SCHEDULE_H

#include "crypto/lifecycle.h"

struct pfx_period { /* one of the two; both 0: never */
    unsigned months, days;
};
/* So much later; the last millisecond of the year 9999 at most. */
int64_t pfx_period_end(int64_t from_ms, struct pfx_period period);

#define PFX_ROTATION_LEAD_DAYS 30
enum pfx_schedule_state {
    PFX_SCHEDULE_OFF,    /* no period */
    PFX_SCHEDULE_NONE,   /* none is active, so nothing has an age */
    PFX_SCHEDULE_EARLY,
    PFX_SCHEDULE_STAGED, /* a successor waits for connectors, or for an operator */
    PFX_SCHEDULE_DUE,    /* the next one is to be staged; also while its making was cut off */
};
struct pfx_schedule {
    enum pfx_schedule_state state;
    bool warn;               /* the lead has begun, or the end is past */
    unsigned active, staged; /* generations; 0: none */
    int64_t from_ms, end_ms; /* the lead begins; another one should be active */
    int64_t days;            /* whole ones until the end; -1: up to one since, and so on */
};
void pfx_schedule_of(const struct pfx_generation *list, size_t n, struct pfx_period every,
                     int64_t now_ms, struct pfx_schedule *ret);
#define PFX_SCHEDULE_TEXT 320
/* One sentence: what the schedule asks for now. Returns buf. */
char *pfx_schedule_say(const struct pfx_schedule *schedule, char buf[PFX_SCHEDULE_TEXT]);

#endif
