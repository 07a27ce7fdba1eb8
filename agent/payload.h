/* Bodies of jobs, built from the rows when they are handed out. */
#ifndef PFX_AGENT_PAYLOAD_H
#define PFX_AGENT_PAYLOAD_H

#include "agent/agent.h"
#include "agent/outbox.h"

/* The body of a job; e is its enrolment (id 0 for scopes). In the caller's transaction. Failures of
 * the store come back; what is wrong with the row itself goes to *ret_bad (class OK: nothing), and
 * *ret_body stays NULL then. ret_bad->code "parcel": the parcel is gone and must be built again. */
PFX_MUST_USE pfx_result pfx_payload_build(struct pfx_agent *agent, const struct pfx_job_row *job,
                                          const struct pfx_enrolment *e, int64_t now_ms,
                                          struct pfx_msg **ret_body, struct pfx_error *ret_bad,
                                          struct pfx_error *err);

#endif
