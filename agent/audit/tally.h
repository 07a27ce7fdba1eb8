/* Counts over a log for pfx-audit stats: everything has a ceiling, what goes beyond it is counted
 * together. */
#ifndef PFX_AUDIT_TALLY_H
#define PFX_AUDIT_TALLY_H

#include "agent/audit/walk.h"

#define PFX_TALLY_OUTCOMES (PFX_OUTCOME_UNKNOWN + 1)
#define PFX_TALLY_EVENTS 200
#define PFX_TALLY_DAYS 20000
#define PFX_TALLY_ACTORS 200

struct pfx_tally_event {
    char event[PFX_FACT_WORD]; /* the last one may be "(other)" */
    uint64_t n[PFX_TALLY_OUTCOMES];
};
struct pfx_tally_day {
    int64_t day; /* since 1970 */
    uint64_t entries, keys, pfx, trouble;
};
struct pfx_tally_actor {
    int64_t uid;
    uint64_t entries, refused;
};
/* The highest count in one span of time (a minute, an hour) by the host's clock. */
struct pfx_tally_rate {
    int64_t span_ms, at, best_at;
    uint64_t now, best;
};
struct pfx_tally {
    uint64_t entries, hsm, agentd;
    uint64_t keys, pfx_built, tiers_direct, tiers_transit;
    uint64_t withheld; /* PFX that were built and never left pfx-hsm */
    uint64_t failures, refusals, unknown, weak;
    struct pfx_tally_event events[PFX_TALLY_EVENTS + 1];
    size_t n_events;
    struct pfx_tally_day *days; /* ascending */
    size_t n_days;
    bool days_left_out;
    struct pfx_tally_actor actors[PFX_TALLY_ACTORS];
    size_t n_actors;
    bool actors_left_out;
    struct pfx_tally_rate entries_minute, keys_minute, pfx_minute, pfx_hour, refusals_minute;
    uint64_t first_seq, last_seq; /* of what was counted */
    int64_t first_time, last_time;
    uint64_t clock_back; /* times that the wall clock went back between two entries */
};
struct pfx_tally *pfx_tally_new(void);
void pfx_tally_free(struct pfx_tally *tally);
void pfx_tally_add(struct pfx_tally *tally, const struct pfx_walk_item *item);
/* Closes the last spans; sorts events by name. */
void pfx_tally_end(struct pfx_tally *tally);

#endif
