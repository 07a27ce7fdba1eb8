/* Shared mailboxes: read from Exchange in a pass, and which of them a user may open.
 *
 * A reading counts when it is whole: list, then the rights of each mailbox. Until then, and when it
 * fails, the last whole one stays in force: nobody gets fewer addresses because of a failure.
 */
#ifndef PFX_AGENT_MAILBOX_H
#define PFX_AGENT_MAILBOX_H

#include "agent/address.h"
#include "agent/steps.h"

/* Begins a reading where a rule wants one and it is due; forgets everything where none does. At the
 * start of a pass, in its transaction; the pass waits for its jobs. */
PFX_MUST_USE pfx_result pfx_mailboxes_begin(struct pfx_agent *agent, int64_t now_ms,
                                            struct pfx_error *err);
/* Is the answer one of a reading? Then it is for pfx_mailboxes_answer, in the same transaction. */
bool pfx_mailboxes_kind(const char *kind);
PFX_MUST_USE pfx_result pfx_mailboxes_answer(struct pfx_agent *agent,
                                             const struct pfx_answer *answer,
                                             struct pfx_error *err);

struct pfx_mailboxes {
    bool read;                   /* there is a whole reading */
    bool too_many;               /* the lists aren't all: nobody may take them for whole */
    struct pfx_strings id, address; /* of the same length; sorted by id */
};
void pfx_mailboxes_done(struct pfx_mailboxes *mailboxes);
#define PFX_AUTOMAILBOXES __attribute__((cleanup(pfx_mailboxes_done)))
/* The addresses of the mailboxes that this user may open, as they stand at Exchange. UPNs are
 * compared without regard to ASCII case. */
PFX_MUST_USE pfx_result pfx_mailboxes_of(struct pfx_store *store, const char *upn,
                                         struct pfx_mailboxes *ret_mailboxes,
                                         struct pfx_error *err);

#endif
