/*
 * What an earlier process left open: intents whose result it didn't write. At the start each gets a
 * result with outcome unknown; once the users role is ready, the key that an intent announced is
 * looked for by its CKA_ID, and what is found is noted. Nothing is destroyed: the repeated job
 * adopts the key.
 */
#ifndef PFX_HSM_RECOVERY_H
#define PFX_HSM_RECOVERY_H

#include "pkcs11/hsm/hsmlog.h"

struct pfx_recovery *pfx_recovery_new(void);
void pfx_recovery_free(struct pfx_recovery *recovery);
/* The results. Once, before any other operation of this process. */
PFX_MUST_USE pfx_result pfx_recovery_results(struct pfx_hsmlog *log, struct pfx_error *err);
/* The keys. hsm->lock is held for writing and the users role is ready; what couldn't be looked for
 * is left to the next call. */
void pfx_recovery_keys(struct pfx_hsm *hsm);
/* Did it end in the middle of what people had approved, with these arguments (hex of their hash)?
 * ret_seq: the intent that spent their approvals. */
bool pfx_recovery_spent(const struct pfx_recovery *recovery, const char *args_hash,
                        uint64_t *ret_seq);

#endif
