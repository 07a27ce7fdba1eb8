/*
 * The log role's keys as the signer of the operation log: checkpoints signed by P-256 and, where
 * the token has it, Ed25519; the head of the log in the labels of the two anchor keys.
 *
 * The calls run on the committer's thread. They take a session of the token's pool (which has one
 * more for them) and no lock of pfx-hsm's, so a ceremony or an opening that waits for the log can't
 * stop them. A token that is gone is opened anew by the pool; the keys are found again by CKA_ID
 * and compared with their public halves.
 */
#ifndef PFX_HSM_SIGNER_H
#define PFX_HSM_SIGNER_H

#include "pkcs11/hsm/hsm.h"
#include "pkcs11/hsm/oplog.h"

#define PFX_ANCHOR_PREFIX "pfxlog1:" /* of a label that says how far a log is */

struct pfx_log_signer;
/* The keys of this generation, under the log's origin as their name. Anchors that aren't there are
 * passed over: they read as "" and can't be written (`init` makes them). ed25519: has to be there,
 * too. INTEGRITY names the key that is missing. hsm->lock is held; the token must stay open until
 * the signer is freed. */
PFX_MUST_USE pfx_result pfx_log_signer_new(struct pfx_hsm *hsm, const char *origin,
                                           unsigned generation, bool ed25519,
                                           struct pfx_log_signer **ret_signer,
                                           struct pfx_error *err);
void pfx_log_signer_free(struct pfx_log_signer *signer); /* detached; NULL is fine */
static inline void pfx_log_signer_freep(struct pfx_log_signer **pp)
{
    pfx_log_signer_free(*pp);
}
/* For pfx_oplog_attach, _begin and _rotate; borrowed. */
const struct pfx_signer *pfx_log_signer_ops(const struct pfx_log_signer *signer);
/* The last signature failed: nothing can be released, and the role has to be opened anew. */
PFX_MUST_USE bool pfx_log_signer_lost(struct pfx_log_signer *signer, struct pfx_error *ret_why);
/* Was the token opened anew since? Its anchors are to be looked at again. */
bool pfx_log_signer_stale(const struct pfx_log_signer *signer);

/* Is this the thread of a call of the signer, at this moment? */
bool pfx_log_signer_here(void);

/* The labels of this host's anchors on the token of the log role, "" for one that is missing or was
 * never written. hsm->lock is held. */
PFX_MUST_USE pfx_result pfx_anchors_read(struct pfx_hsm *hsm, char ret_labels[2][65],
                                         struct pfx_error *err);
/* The generation whose public keys are the key lines that are in force. INTEGRITY: the token has
 * none of them. */
PFX_MUST_USE pfx_result pfx_log_generation_find(struct pfx_hsm *hsm,
                                                const struct pfx_oplog_facts *facts,
                                                unsigned *ret_generation, bool *ret_ed25519,
                                                struct pfx_error *err);
/* The lowest generation that the token has no key of. */
PFX_MUST_USE pfx_result pfx_log_generation_free(struct pfx_hsm *hsm, unsigned *ret_generation,
                                                struct pfx_error *err);

#endif
