/* Who works on a user key at this moment. Its making and its destruction are for one worker alone:
 * two that have the same job (its lease ran out while the first was busy) would make two keys with one
 * CKA_ID, and a key that is destroyed while a PFX is built from it would have left the token as it
 * went. Any number may build from it at once. */
#ifndef PFX_HSM_CLAIM_H
#define PFX_HSM_CLAIM_H

#include "pkcs11/hsm/hsm.h"

/* TRANSIENT when another worker has this key, and one of both wants it alone, or when too many keys
 * are at work. */
PFX_MUST_USE pfx_result pfx_claim_take(struct pfx_hsm *hsm, const struct pfx_key_id *id, bool alone,
                                       struct pfx_error *err);
/* Only after a take that succeeded. */
void pfx_claim_end(struct pfx_hsm *hsm, const struct pfx_key_id *id);

#endif
