/* What happens after an order was issued: the CA revokes or cancels it, on its way to Intune or
 * long after; an operator has it revoked. What follows is what the rule's on_revoked says. */
#ifndef PFX_AGENT_AFTER_H
#define PFX_AGENT_AFTER_H

#include "agent/steps.h"

/* The CA's word about an order that isn't pending any more. A word that isn't known, and the
 * natural end, change nothing. In the caller's transaction; e is updated. */
PFX_MUST_USE pfx_result pfx_after_status(struct pfx_agent *agent, struct pfx_enrolment *e,
                                         const char *word, int64_t now_ms, struct pfx_error *err);
/* Has become ACTIVE: the revoked ones in whose place it is give way. */
PFX_MUST_USE pfx_result pfx_after_active(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                         int64_t now_ms, struct pfx_error *err);
/* Revoked, in Intune or removed from there, and nothing follows by itself: may a person say what
 * shall? */
bool pfx_after_told(const struct pfx_enrolment *e);
/* ACTIVE, revoked, and another one shall take its place. */
bool pfx_after_replaced(const struct pfx_enrolment *e);
/* That person's word: taken note of; or, while it is ACTIVE, as if the rule said enrol_again. */
PFX_MUST_USE pfx_result pfx_after_seen(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                       int64_t now_ms, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_after_again(struct pfx_agent *agent, struct pfx_enrolment *e,
                                        int64_t now_ms, struct pfx_error *err);

/* Its record was removed by an operator, or is about to be: ENDED, and the decision waits for a
 * person. what: "removed by ...". REFUSED while it is in work. */
PFX_MUST_USE pfx_result pfx_after_removed(struct pfx_agent *agent, struct pfx_enrolment *e,
                                          const char *what, int64_t now_ms, struct pfx_error *err);

/* Its user key counts as known to others: another one shall take its place, and has where it was
 * renewed meanwhile. One that is revoked or over anyway is only marked. */
PFX_MUST_USE pfx_result pfx_after_exposed(struct pfx_agent *agent, struct pfx_enrolment *e,
                                          int64_t now_ms, struct pfx_error *err);

/* Asks the CA to revoke it; e isn't moved: that follows when the CA says so. */
PFX_MUST_USE pfx_result pfx_after_revoke(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                         const char *reason, const char *who, int64_t now_ms,
                                         struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_after_revoked(struct pfx_agent *agent, const struct pfx_answer *answer,
                                          struct pfx_error *err);

#endif
