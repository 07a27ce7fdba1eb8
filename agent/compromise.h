/*
 * A compromised generation of the encryption key: whoever has it may have every user key that was
 * ever sealed to it. A new seal doesn't mend that, so each of those certificates gets a successor
 * with a new key, by the way that the certificates of `on_revoked: enrol_again` go (after.h), within
 * the same limits of orders. Once the successor is in Intune the CA is asked to revoke the old one;
 * an encryption certificate's record stays for old mail, and is rebuilt as others are.
 */
#ifndef PFX_AGENT_COMPROMISE_H
#define PFX_AGENT_COMPROMISE_H

#include "agent/agent.h"
#include "agent/enrolment.h"

/* Was its user key ever sealed to a compromised generation? */
PFX_MUST_USE pfx_result pfx_compromise_exposed(struct pfx_store *store, int64_t enrolment,
                                               bool *ret_exposed, struct pfx_error *err);
/* A generation is another than it was: everything is looked at again. In the caller's transaction.
 */
PFX_MUST_USE pfx_result pfx_compromise_anew(struct pfx_agent *agent, struct pfx_error *err);
/* Marks the next few that are exposed, once there is a sound generation that their successors can be
 * sealed to. Has its own transaction. */
PFX_MUST_USE pfx_result pfx_compromise_tick(struct pfx_agent *agent, int64_t now_ms,
                                            struct pfx_error *err);
/* It became ACTIVE: it may have been sealed to a generation that is compromised by now. In the
 * caller's transaction. */
PFX_MUST_USE pfx_result pfx_compromise_active(struct pfx_agent *agent, int64_t enrolment,
                                              int64_t now_ms, struct pfx_error *err);

#endif
