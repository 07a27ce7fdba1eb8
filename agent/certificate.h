/* The certificate that an answer brings: compared with the order, then kept. */
#ifndef PFX_AGENT_CERTIFICATE_H
#define PFX_AGENT_CERTIFICATE_H

#include "agent/agent.h"
#include "agent/enrolment.h"

/* body: the result of a download, or of an order that was issued at once: leaf and chain. Key,
 * addresses, purpose and validity must be those of the order; the chain's root is pfx-hsm's to
 * check. What is wrong goes to *bad (class OK: nothing), and nothing is kept then. note gets a line
 * for the history. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_certificate_take(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                             const struct pfx_msg *body, int64_t now_ms, char *note,
                                             size_t size, struct pfx_error *bad,
                                             struct pfx_error *err);

#endif
