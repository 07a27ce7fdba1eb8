/* Orders at the CA: the bulk poll, and what is asked for single orders. */
#ifndef PFX_AGENT_ORDERS_H
#define PFX_AGENT_ORDERS_H

#include "agent/agent.h"

/* Puts polls and questions into the outbox that are due. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_orders_tick(struct pfx_agent *agent, int64_t now_ms,
                                        struct pfx_error *err);
/* A poll now, whatever the schedule says; no second one while one is out. */
PFX_MUST_USE pfx_result pfx_orders_poll(struct pfx_agent *agent, int64_t now_ms,
                                        struct pfx_error *err);

/* States in which the CA's word about an order counts. */
#define PFX_ORDER_STATES "'ORDERED', 'ISSUED', 'CHECKED', 'SEALED', 'IMPORTED', 'ACTIVE', 'HELD'"
/* One entry of the CA's news or list. *ret_id: our enrolment, 0 when it isn't ours. In the caller's
 * transaction. */
PFX_MUST_USE pfx_result pfx_orders_apply(struct pfx_agent *agent, const struct pfx_msg *change,
                                         int64_t now_ms, int64_t *ret_id, struct pfx_error *err);
/* Reads the CA's whole list; nothing where that is going on. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_orders_list(struct pfx_agent *agent, int64_t now_ms,
                                        struct pfx_error *err);

struct pfx_orders_facts {
    int64_t pending;  /* ORDERED */
    int64_t newest;   /* when the last of them was placed */
    int64_t oldest;   /* the first */
    int64_t answered; /* start of the last poll that was answered, however */
    int64_t ok;       /* start of the last good one */
    bool polling;     /* one is in the outbox */
};
PFX_MUST_USE pfx_result pfx_orders_facts(struct pfx_agent *agent,
                                         struct pfx_orders_facts *ret_facts, struct pfx_error *err);

#endif
