/* Answers of arms that nobody waits for. */
#ifndef PFX_AGENT_STALE_H
#define PFX_AGENT_STALE_H

#include "agent/agent.h"
#include "agent/outbox.h"

/* Why an answer isn't one to this job (id 0: there is none), for a person; NULL: it is one. */
const char *pfx_stale_because(const struct pfx_job_row *job, const char *role,
                              const char *incarnation, const struct pfx_msg *done);
/* Kept for the auditors, not applied. An arm that goes on bringing such answers mustn't fill the
 * store: of those over a limit the next one that is kept says the number. Inside a transaction. */
PFX_MUST_USE pfx_result pfx_stale_note(struct pfx_agent *agent, const struct pfx_job_row *job,
                                       const struct pfx_msg *done, const char *why, int64_t now_ms,
                                       struct pfx_error *err);

#endif
