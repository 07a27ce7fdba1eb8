/*
 * Was a PFX ever built from this user key? pfx-hsm asks its own operation log: whoever could pass a
 * delivered key off as one that was never used could have the keys destroyed that old mail needs.
 */
#ifndef PFX_HSM_PACKED_H
#define PFX_HSM_PACKED_H

#include "pkcs11/hsm/hsm.h"

/* OK: the log shows that the token made this key, and no build that named it since. REFUSED: a build
 * did, or what is left of the log doesn't reach back to the key's making. Reads from the newest
 * entry back; the key is claimed (claim.h), so that no build begins meanwhile. */
PFX_MUST_USE pfx_result pfx_never_packed(const struct pfx_hsm *hsm, const struct pfx_key_id *id,
                                         struct pfx_bytes spki, struct pfx_error *err);

#endif
