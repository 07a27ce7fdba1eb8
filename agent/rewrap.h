/*
 * Rewrapping: after another wrapping key or MAC key was put in force, what the store keeps of each
 * user key (reference and ticket) is made anew by pfx-hsm, a few at a time. pfx-hsm numbers those
 * keys by an epoch that grows; a row has the epoch that it was made under. Until the last one is
 * through, pfx-hsm reads both, so nothing waits for it.
 */
#ifndef PFX_AGENT_REWRAP_H
#define PFX_AGENT_REWRAP_H

#include "agent/steps.h"

/* Keeps the epoch that a report names. In the caller's transaction, as the next two. */
PFX_MUST_USE pfx_result pfx_rewrap_report(struct pfx_agent *agent, const struct pfx_msg *report,
                                          struct pfx_error *err);
/* Begins a round, or takes what is held up again. */
PFX_MUST_USE pfx_result pfx_rewrap_begin(struct pfx_agent *agent, int64_t now_ms,
                                         struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_rewrap_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                          struct pfx_error *err);
/* Puts the next few out, in a transaction of its own. */
PFX_MUST_USE pfx_result pfx_rewrap_tick(struct pfx_agent *agent, int64_t now_ms,
                                        struct pfx_error *err);
struct pfx_rewrap_facts {
    int64_t started; /* 0: none goes on */
    int64_t epoch;   /* of pfx-hsm, as it said last; 0: nothing was ever changed */
    int64_t left;    /* made under an earlier one; what follows is a part of it */
    int64_t working, held;
    int64_t done; /* of this round, or the last */
};
PFX_MUST_USE pfx_result pfx_rewrap_facts(struct pfx_agent *agent,
                                         struct pfx_rewrap_facts *ret_facts, struct pfx_error *err);

#endif
