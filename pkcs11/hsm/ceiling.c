/* Hourly ceilings. */
#include "pkcs11/hsm/ceiling.h"

#include <string.h>

#define MINUTES                                                                                    \
    61 /* sixty whole ones and the one that runs: never less than an hour is looked at */

void pfx_ceilings_init(struct pfx_ceilings *ceilings)
{
    memset(ceilings->counts, 0, sizeof ceilings->counts);
    pthread_mutex_init(&ceilings->lock, NULL);
}

void pfx_ceilings_done(struct pfx_ceilings *ceilings)
{
    pthread_mutex_destroy(&ceilings->lock);
}

/* Empties the minutes that passed since the last count, and sums up the rest. */
static unsigned sum(struct pfx_ceiling_count *count, int64_t minute)
{
    int64_t passed = minute - count->last;
    if (passed >= MINUTES)
        memset(count->minutes, 0, sizeof count->minutes);
    else
        for (int64_t m = count->last + 1; m <= minute; m++)
            count->minutes[m % MINUTES] = 0;
    count->last = minute;
    unsigned total = 0;
    for (size_t i = 0; i < MINUTES; i++)
        total += count->minutes[i];
    return total;
}

bool pfx_ceiling_take(struct pfx_ceilings *ceilings, enum pfx_ceiling which, unsigned most,
                      int64_t uptime_ms)
{
    int64_t minute = uptime_ms / 60000;
    pthread_mutex_lock(&ceilings->lock);
    struct pfx_ceiling_count *count = &ceilings->counts[which];
    bool room = sum(count, minute) < most;
    if (room)
        count->minutes[minute % MINUTES]++;
    pthread_mutex_unlock(&ceilings->lock);
    return room;
}

void pfx_ceiling_give_back(struct pfx_ceilings *ceilings, enum pfx_ceiling which, int64_t uptime_ms)
{
    int64_t minute = uptime_ms / 60000;
    pthread_mutex_lock(&ceilings->lock);
    struct pfx_ceiling_count *count = &ceilings->counts[which];
    if (count->last - minute < MINUTES && count->minutes[minute % MINUTES] > 0)
        count->minutes[minute % MINUTES]--;
    pthread_mutex_unlock(&ceilings->lock);
}

unsigned pfx_ceiling_used(struct pfx_ceilings *ceilings, enum pfx_ceiling which, int64_t uptime_ms)
{
    pthread_mutex_lock(&ceilings->lock);
    unsigned used = sum(&ceilings->counts[which], uptime_ms / 60000);
    pthread_mutex_unlock(&ceilings->lock);
    return used;
}
