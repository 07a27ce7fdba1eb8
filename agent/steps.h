/* Answers of the arms, applied to the store: one transaction each, decided by the flow's table. */
#ifndef PFX_AGENT_STEPS_H
#define PFX_AGENT_STEPS_H

#include "agent/agent.h"
#include "agent/outbox.h"

/* An answer as it came: class and error, and the body where the class is OK. */
struct pfx_answer {
    const struct pfx_job_row *job;
    const struct pfx_msg *body; /* NULL unless class is OK */
    struct pfx_error fail;      /* cls OK: none */
    int64_t now_ms;
};

/* Applies a done message of the arm with this role and incarnation. *ret_stale: it isn't the answer
 * to anything that is out; recorded, not applied. A failure means the store couldn't be written:
 * nothing is applied and nothing may be acknowledged. */
PFX_MUST_USE pfx_result pfx_steps_apply(struct pfx_agent *agent, const char *role,
                                        const char *incarnation, const struct pfx_msg *done,
                                        int64_t now_ms, bool *ret_stale, struct pfx_error *err);

/* By kind, called in that transaction: for enrolments in the flow (steps.c), orders at the CA
 * (orders.c, its whole list in orders_list.c), passes (pass.c). More in after.h, removal.h and
 * counter.h; the table is in steps.c. */
PFX_MUST_USE pfx_result pfx_orders_listed(struct pfx_agent *agent, const struct pfx_answer *answer,
                                          struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_orders_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                          struct pfx_enrolment *e, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_pass_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                        struct pfx_error *err);
/* The same job again after a back-off. */
PFX_MUST_USE pfx_result pfx_steps_again(struct pfx_agent *agent, const struct pfx_answer *answer,
                                        struct pfx_error *err);
/* Is this a class after which the same may be tried again? */
bool pfx_steps_passing(enum pfx_class cls);

#endif
