/* What is sealed, sent to Intune and read back: the same for the first time (steps.c) and for a
 * record that is made anew (rebuild.c). In the caller's transaction; what is wrong with an answer
 * goes to ret_bad, and is treated like an answer of that class. */
#ifndef PFX_AGENT_DELIVERY_H
#define PFX_AGENT_DELIVERY_H

#include "agent/agent.h"
#include "agent/enrolment.h"

#define PFX_MOST_BOUNCES 3 /* read-backs that didn't find what was imported */

/* What an answer to hsm.build_seal says, in the order of the columns pfx_sha, generation, key_name,
 * provider_name, padding, tier, sealed_by. */
#define PFX_SEALED_PARAMS(body)                                                                    \
    P_BLOB(pfx_msg_blob(body, "pfx_sha256")), P_INT(pfx_msg_int(body, "generation")),              \
        P_TEXT(pfx_msg_str(body, "key_name")), P_TEXT(pfx_msg_str(body, "provider_name")),         \
        P_TEXT(pfx_msg_str(body, "padding")), P_TEXT(pfx_msg_str(body, "tier")),                   \
        P_TEXT(pfx_msg_str(body, "sealed_by"))

/* Keeps the parcel, and that this user key is exposed to that generation from now on. */
PFX_MUST_USE pfx_result pfx_delivery_sealed(struct pfx_agent *agent, int64_t enrolment,
                                            const struct pfx_msg *body, int64_t now_ms,
                                            struct pfx_error *ret_bad, struct pfx_error *err);
void pfx_delivery_imported(const struct pfx_enrolment *e, const struct pfx_msg *body, char *note,
                           size_t size, struct pfx_error *ret_bad);
/* Is the record as it was sent? Then the parcel is erased, and our picture of Intune's list has it.
 * Else *ret_bounced; e->bounces is how often that was so before. */
PFX_MUST_USE pfx_result pfx_delivery_confirm(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                             const struct pfx_msg *body, int64_t now_ms,
                                             bool *ret_bounced, struct pfx_error *ret_bad,
                                             struct pfx_error *err);
/* A record as a reading of Intune's list that was begun at started_ms shows it. *ret_older: it was read
 * back here since, so that the list may show it as it was before. Else, where it names another
 * generation than its enrolment does (of a restored store, or after a lost answer), the list is
 * believed: by that the rebuild goes, and who is exposed. */
PFX_MUST_USE pfx_result pfx_delivery_listed(struct pfx_agent *agent, const struct pfx_msg *record,
                                            int64_t started_ms, int64_t now_ms, bool *ret_older,
                                            struct pfx_error *err);
/* Erases it, from the write-ahead log too. */
PFX_MUST_USE pfx_result pfx_delivery_drop(struct pfx_agent *agent, int64_t enrolment,
                                          struct pfx_error *err);

#endif
