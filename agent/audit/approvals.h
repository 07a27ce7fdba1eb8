/*
 * Approvals in the log, verified once more: by the entry alone, with the same rules as pfx-hsm's
 * (crypto/approval.h). Whose key it is, is what the roster's line beside the signature says: that the
 * line is the company's own is for the auditor to compare.
 */
#ifndef PFX_AUDIT_APPROVALS_H
#define PFX_AUDIT_APPROVALS_H

#include "agent/audit/meaning_state.h"

/* Of every entry. What needs approvals must have them, or call itself weak. */
void pfx_meaning_approvals(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                           const struct pfx_entry *entry);
/* The log, or all of them, were read: what that leaves open. */
void pfx_meaning_approvals_end(struct pfx_meaning *meaning);

#endif
