/*
 * What pfx-hsm writes into the operation log: one builder for each kind of entry, and the list of
 * what pfx-agentd may have written. The only place that knows events and their members; nothing
 * here writes anything.
 */
#ifndef PFX_HSM_JOURNAL_H
#define PFX_HSM_JOURNAL_H

#include "api/wire/schema.h"
#include "crypto/entry.h"
#include "pkcs11/hsm/op.h"
#include "pkcs11/hsm/oplog.h"
#include "pkcs11/hsm/pinned.h"

/* --- operations --- */
void pfx_journal_intent(const struct pfx_op *op, struct pfx_draft *draft);
void pfx_journal_result(const struct pfx_op *op, pfx_result outcome, const struct pfx_error *why,
                        struct pfx_draft *draft);
/* The same as one note, for what was done before the log began. */
void pfx_journal_before(const struct pfx_op *op, pfx_result outcome, const struct pfx_error *why,
                        struct pfx_draft *draft);
void pfx_journal_withheld(const struct pfx_op *op, uint64_t result, const struct pfx_error *why,
                          struct pfx_draft *draft);
/* name: of the verb or kind of job. */
void pfx_journal_refused(const struct pfx_actor *actor, const char *name, pfx_result outcome,
                         const struct pfx_error *why, struct pfx_draft *draft);

/* The record of a ceremony: its name and hash. */
void pfx_journal_record(const struct pfx_actor *actor, const char *name, const uint8_t sha256[32],
                        struct pfx_draft *draft);

/* --- the process --- */
/* Executable, modules, policy: of start and of entry 0. Canonical JSON; modules is appended to. */
struct pfx_journal_software {
    bool has_exe;
    uint8_t exe[32];
    struct pfx_buf modules;
};
void pfx_journal_software_read(const struct pfx_hsm_policy *policy,
                               struct pfx_journal_software *ret_software);
void pfx_journal_software_done(struct pfx_journal_software *software); /* usable as cleanup */
void pfx_journal_start(const struct pfx_hsm_policy *policy,
                       const struct pfx_journal_software *software, struct pfx_draft *draft);
void pfx_journal_stop(struct pfx_draft *draft);
void pfx_journal_policy_changed(const struct pfx_hsm_policy *policy, struct pfx_draft *draft);
void pfx_journal_clock(int64_t step_ms, struct pfx_draft *draft);
/* what: whose notes they were. */
void pfx_journal_quota(const char *what, uint64_t count, struct pfx_draft *draft);

/* --- tokens --- */
void pfx_journal_login(const struct pfx_token_facts *facts, unsigned roles, CK_RV rv,
                       struct pfx_draft *draft);
/* pins: of the users role, canonical JSON, and the serial of their file; empty for the others.
 * standing: serial of the file of the standing keys' generations; 0: there is none. */
void pfx_journal_ready(enum pfx_role role, const struct pfx_token_facts *facts,
                       struct pfx_bytes pins, int64_t serial, int64_t standing,
                       struct pfx_draft *draft);
/* The pins as a canonical JSON array, appended. */
void pfx_journal_pins(const struct pfx_pins *pins, struct pfx_buf *out);
void pfx_journal_segment(struct pfx_bytes pins, struct pfx_draft *draft); /* adds to a draft */

/* --- the log itself --- */
struct pfx_journal_begin {
    const char *origin;
    const struct pfx_signer *signer;
    const struct pfx_hsm_policy *policy;
    const struct pfx_journal_software *software;
    const struct pfx_token_facts *token;
    const struct pfx_actor *actor;
    /* Of a successor: */
    bool reopened, has_anchor;
    struct pfx_bytes before; /* predecessor's last checkpoint; may be empty */
    uint64_t anchor, restored;
    const struct pfx_approved *approved; /* approvals.h */
};
void pfx_journal_begin(const struct pfx_journal_begin *begin, struct pfx_draft *draft);
void pfx_journal_rotate(const struct pfx_actor *actor, const struct pfx_signer *fresh,
                        struct pfx_draft *draft);
/* Found at the start: so many entries from `first` on were under no checkpoint ("uncovered":
 * whoever could write to the disk meanwhile could have written them), or bytes behind it were cut
 * ("torn"). */
void pfx_journal_mended(uint64_t count, uint64_t first, const char *code, struct pfx_draft *draft);
void pfx_journal_recovered(uint64_t ahead, uint64_t anchor, struct pfx_draft *draft);

/* --- what an earlier process left open --- */
struct pfx_journal_open {
    uint64_t seq;
    char event[40], op[27], algorithm[24];
    bool has_id;
    struct pfx_key_id id;
    bool makes_key; /* whose key may be on the token now */
};
void pfx_journal_open_read(uint64_t seq, const struct pfx_entry *intent,
                           struct pfx_journal_open *ret_open);
void pfx_journal_unknown(const struct pfx_journal_open *open, struct pfx_draft *draft);
/* found: "key", "nothing" or "unknown". */
void pfx_journal_key_recovered(const struct pfx_journal_open *open, const char *found,
                               struct pfx_draft *draft);

/* --- pfx-agentd's notes --- */
/* REFUSED: not an event that is pfx-agentd's, or a member that can't stand in an entry. */
PFX_MUST_USE pfx_result pfx_journal_note(const struct pfx_msg *note, struct pfx_draft *draft,
                                         struct pfx_error *err);

#endif
