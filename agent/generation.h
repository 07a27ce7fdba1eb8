/* The generations of the encryption key, as pfx-hsm told them last, and how many records each has.
 */
#ifndef PFX_AGENT_GENERATION_H
#define PFX_AGENT_GENERATION_H

#include "agent/agent.h"

/* Keeps what a report says. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_generation_report(struct pfx_agent *agent, const struct pfx_msg *report,
                                              int64_t now_ms, struct pfx_error *err);
/* 0: none, or pfx-hsm hasn't said yet. */
PFX_MUST_USE pfx_result pfx_generation_active(struct pfx_store *store, int64_t *ret_generation,
                                              struct pfx_error *err);
/* pfx-hsm sealed to this one: where that isn't what it said last, it is asked again. */
PFX_MUST_USE pfx_result pfx_generation_used(struct pfx_agent *agent, int64_t generation,
                                            int64_t now_ms, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_generation_ask(struct pfx_agent *agent, int64_t now_ms,
                                           struct pfx_error *err);
/* Asks again a minute after the last report, or 5 s where pfx-hsm wasn't ready: what an administrator
 * did there meanwhile (init, a generation activated or called compromised) is known here by then. A
 * transaction of its own. */
PFX_MUST_USE pfx_result pfx_generation_tick(struct pfx_agent *agent, int64_t now_ms,
                                            struct pfx_error *err);

#endif
