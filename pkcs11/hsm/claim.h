/* One worker at a time for each user key: two that have the same job (its lease ran out while the
 * first was busy) would make two keys with one CKA_ID, and a key that is destroyed while a PFX is
 * built from it would have left the token as it went. */
#ifndef PFX_HSM_CLAIM_H
#define PFX_HSM_CLAIM_H

#include "pkcs11/hsm/hsm.h"

/* TRANSIENT when another worker has this key, or too many keys are at work. */
PFX_MUST_USE pfx_result pfx_claim_take(struct pfx_hsm *hsm, const struct pfx_key_id *id,
                                       struct pfx_error *err);
/* Only after a take that succeeded. */
void pfx_claim_end(struct pfx_hsm *hsm, const struct pfx_key_id *id);

#endif
