/* Hourly ceilings: what a pfx-agentd or pfx-uploader gone astray can have at most. Counted in
 * memory, by the minute over the last 60; a restart starts the count anew. */
#ifndef PFX_HSM_CEILING_H
#define PFX_HSM_CEILING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum pfx_ceiling {
    PFX_CEILING_NONE,
    PFX_CEILING_KEYS,
    PFX_CEILING_BUILDS,
    PFX_CEILING_ASSERTIONS,
    PFX_CEILING_SECRETS,
    PFX_CEILING_DESTROYS,
    PFX_CEILING_COUNT,
};
struct pfx_ceilings {
    pthread_mutex_t lock;
    struct pfx_ceiling_count {
        unsigned minutes[61];
        int64_t last; /* minute that was counted last */
    } counts[PFX_CEILING_COUNT];
};
void pfx_ceilings_init(struct pfx_ceilings *ceilings);
void pfx_ceilings_done(struct pfx_ceilings *ceilings);
/* Counts one; false (and counts nothing) when `most` were counted in the last hour. uptime_ms never
 * goes back. */
bool pfx_ceiling_take(struct pfx_ceilings *ceilings, enum pfx_ceiling which, unsigned most,
                      int64_t uptime_ms);
/* Nothing was done with one that was taken at that time: it doesn't count. */
void pfx_ceiling_give_back(struct pfx_ceilings *ceilings, enum pfx_ceiling which,
                           int64_t uptime_ms);
unsigned pfx_ceiling_used(struct pfx_ceilings *ceilings, enum pfx_ceiling which, int64_t uptime_ms);

#endif
