/* What the journal's files share; for them alone. */
#ifndef PFX_HSM_JOURNAL_FORM_H
#define PFX_HSM_JOURNAL_FORM_H

#include "pkcs11/hsm/journal.h"

void pfx_journal_actor(const struct pfx_actor *actor, struct pfx_draft *draft);
/* A note of pfx-hsm about itself. */
void pfx_journal_own(const char *event, enum pfx_outcome outcome, struct pfx_draft *draft);
void pfx_journal_fail(const struct pfx_error *why, struct pfx_draft *draft);
void pfx_journal_token(const struct pfx_token_facts *facts, struct pfx_draft *draft);

#endif
