/*
 * How private keys leave the users token: what the policy allows (users.profiles, key_types,
 * lowest_tier) against what the probes have proven. hsm->lock is held.
 */
#ifndef PFX_HSM_TIER_H
#define PFX_HSM_TIER_H

#include "pkcs11/hsm/hsm.h"

/* The rule of pfx-agentd asks for a profile, the policy says which may be. */
PFX_MUST_USE pfx_result pfx_profile_pick(const struct pfx_hsm *hsm, const char *asked,
                                         enum pfx_profile *ret_profile, struct pfx_error *err);
/* The tier by which keys of this type go into files of this profile. REFUSED where it is below the
 * floor; TRANSIENT where the last probe was disturbed. */
PFX_MUST_USE pfx_result pfx_tier_pick(const struct pfx_hsm *hsm, enum pfx_profile profile,
                                      enum pfx_key_type type, enum pfx_tier *ret_tier,
                                      struct pfx_error *err);
/* Does each profile of the policy reach the floor, for one of its key types at least? Fails as
 * pfx_tier_pick does. */
PFX_MUST_USE pfx_result pfx_tiers_check(const struct pfx_hsm *hsm, struct pfx_error *err);
/* Can the token make such keys, as far as was ever proven? Fails as pfx_tier_pick does. */
PFX_MUST_USE pfx_result pfx_key_type_check(const struct pfx_hsm *hsm, enum pfx_key_type type,
                                           struct pfx_error *err);

#endif
