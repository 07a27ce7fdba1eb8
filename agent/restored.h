/*
 * A store that came out of a backup is older than the world: what was ordered since then isn't in
 * it. The copy says so of itself (meta copy_made, in the copy alone), however it was brought back.
 * From then on no order goes out for an enrolment before DigiCert was looked at for it: by its key,
 * which finds an order of the same request, and by its addresses, which finds one whose key went
 * with the lost store. A CA of one's own sells nothing, and is asked as ever.
 */
#ifndef PFX_AGENT_RESTORED_H
#define PFX_AGENT_RESTORED_H

#include "agent/agent.h"
#include "agent/outbox.h"

/* For so long after the restore each first order is looked for: longer than a user who was enrolled
 * then can stay out of sight. */
#define PFX_RESTORED_MS (INT64_C(90) * 86400 * 1000)

/* At the start: takes note of a store that is a copy, and removes one that a backup left behind. */
PFX_MUST_USE pfx_result pfx_restored_begin(struct pfx_agent *agent, int64_t now_ms,
                                           struct pfx_error *err);
/* A job that is about to be handed out: an order that must be looked for first becomes that look,
 * in the row and in *job. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_restored_gate(struct pfx_agent *agent, struct pfx_job_row *job,
                                          const struct pfx_enrolment *e, int64_t now_ms,
                                          struct pfx_error *err);
/* From when on orders count that may be this enrolment's. since_ms: but for the restore. */
int64_t pfx_restored_since(const struct pfx_agent *agent, int64_t since_ms);
/* Is this the look before the first order, and not one for a lost answer? */
bool pfx_restored_first(const struct pfx_agent *agent, const struct pfx_enrolment *e);
/* That look found no order of its key. *ret_again_at: look again then; 0: it may be ordered now, or
 * *bad says which order of these addresses a person has to look at. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_restored_empty(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                           const struct pfx_msg *answer, int64_t now_ms,
                                           int64_t *ret_again_at, struct pfx_error *bad,
                                           struct pfx_error *err);
/* It has been looked for since the restore. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_restored_looked(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                            int64_t now_ms, struct pfx_error *err);

#endif
