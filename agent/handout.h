/* Handing out jobs to one arm, and taking back what it no longer has. */
#ifndef PFX_AGENT_HANDOUT_H
#define PFX_AGENT_HANDOUT_H

#include "agent/agent.h"

/* Who an arm is, as its hello says. */
struct pfx_arm_id {
    const char *role; /* of the socket; static */
    char incarnation[PFX_GUID_SIZE];
    int64_t capacity;
    uint32_t kinds; /* bits of the rows of pfx_wire_jobs */
};
/* REFUSED: another role, a kind that doesn't exist or isn't this role's. */
PFX_MUST_USE pfx_result pfx_arm_id_read(const struct pfx_msg *hello, const char *role,
                                        struct pfx_arm_id *ret_id, struct pfx_error *err);

/* The jobs that are out at an arm; deadlines by the clock of time-outs. */
struct pfx_lease {
    int64_t job, lease, deadline;
};
struct pfx_leases {
    struct pfx_lease *v;
    size_t n;
};
void pfx_leases_done(struct pfx_leases *leases);
void pfx_leases_drop(struct pfx_leases *leases, int64_t job, int64_t lease);
void pfx_leases_beat(struct pfx_leases *leases, int64_t job, int64_t lease, int64_t deadline);
bool pfx_leases_overdue(const struct pfx_leases *leases, int64_t uptime_ms);

/*
 * One transaction at each hello: jobs that were given to another incarnation, or that this one
 * never received, go back into the outbox, POSTs as their settle variants. What it holds stays out.
 * hsm: a report is asked for.
 */
PFX_MUST_USE pfx_result pfx_handout_hello(struct pfx_agent *agent, bool hsm,
                                          const struct pfx_arm_id *id, const struct pfx_msg *hello,
                                          int64_t now_ms, struct pfx_leases *leases,
                                          struct pfx_error *err);

struct pfx_parcels { /* messages to send */
    struct pfx_msg **msgs;
    size_t n;
};
void pfx_parcels_done(struct pfx_parcels *parcels);
/* One transaction: takes up to `most` due jobs, commits that they leave, and gives their messages.
 */
PFX_MUST_USE pfx_result pfx_handout_take(struct pfx_agent *agent, const struct pfx_arm_id *id,
                                         int64_t most, int64_t now_ms, int64_t deadline_uptime,
                                         struct pfx_leases *leases, struct pfx_parcels *ret_parcels,
                                         struct pfx_error *err);

#endif
