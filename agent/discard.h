/*
 * User keys that aren't kept. Two kinds go: keys of a purpose that pfx-hsm's policy lets go once
 * they are delivered (hsm.report says which), and keys of enrolments that ended before an order can
 * have been placed. Never one that may still be needed: what is in flight, what is being rebuilt, and
 * what a restored store hasn't looked for at the CA, waits.
 *
 * Which ones are due follows from the rows themselves, so nothing is lost with a process: a few at a
 * time get a job. From the moment it is decided (key_going_at) the key counts as gone; key_gone_at
 * stands when pfx-hsm looked for it and didn't find it any more, and then a blob is erased, too. A
 * refusal lifts the decision, and is tried again much later (key_due).
 */
#ifndef PFX_AGENT_DISCARD_H
#define PFX_AGENT_DISCARD_H

#include "agent/steps.h"

#define PFX_DISCARD_KIND "hsm.key_destroy"
/* Of an enrolment that was loaded: can its key be packed again? */
bool pfx_key_kept(const struct pfx_enrolment *e);
/* Why the key may go, as pfx-hsm is told. */
const char *pfx_discard_why(const struct pfx_enrolment *e);

/* Puts the next few jobs out, in a transaction of its own. */
PFX_MUST_USE pfx_result pfx_discard_tick(struct pfx_agent *agent, int64_t now_ms,
                                         struct pfx_error *err);
/* The rest in the caller's transaction. What pfx-hsm reported: which purposes go. */
PFX_MUST_USE pfx_result pfx_discard_report(struct pfx_agent *agent, const struct pfx_msg *report,
                                           struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_discard_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                           struct pfx_error *err);
/* It can't be destroyed now: remembers why, and when it is tried again. */
PFX_MUST_USE pfx_result pfx_discard_put_off(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                            const struct pfx_error *fail, int64_t now_ms,
                                            struct pfx_error *err);

#endif
