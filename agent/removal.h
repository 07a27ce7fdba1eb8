/* Records that shall go from Intune: asked for by an operator, or because the CA revoked their
 * certificate. Tried until Intune doesn't show them by their id any more. */
#ifndef PFX_AGENT_REMOVAL_H
#define PFX_AGENT_REMOVAL_H

#include "agent/steps.h"

/* A record that is still shown so long after it was asked to go is worth a person's look. */
#define PFX_REMOVAL_PATIENCE (2 * INT64_C(86400000))

/* Puts a removal with its job into the store; nothing where one of this record is under way.
 * record_id: as Intune has it, or in lower case. enrolment 0: not one of ours. In the caller's
 * transaction. */
PFX_MUST_USE pfx_result pfx_removal_put(struct pfx_agent *agent, const char *record_id,
                                        int64_t enrolment, const char *why, int64_t not_before_ms,
                                        int64_t now_ms, struct pfx_error *err);
/* The answer to up.remove. */
PFX_MUST_USE pfx_result pfx_removal_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                           struct pfx_error *err);
/* Open removals whose job is lost (it couldn't be handed out, or the store was mended by hand) get
 * another one. At the start. */
PFX_MUST_USE pfx_result pfx_removal_heal(struct pfx_agent *agent, int64_t now_ms,
                                         struct pfx_error *err);
/* Intune's list was read as a whole, from list_started_ms on: what went before and is in it again
 * counts as a record again, or where the CA revoked it, is removed again. */
PFX_MUST_USE pfx_result pfx_removal_listed(struct pfx_agent *agent, int64_t list_started_ms,
                                           int64_t now_ms, struct pfx_error *err);

#endif
