#include "pkcs11/hsm/tier.h"

#include "crypto/mem.h"

/* A disturbed probe takes nothing away, but what it didn't find may be there. */
static enum pfx_class class_of(const struct pfx_hsm *hsm, const char **ret_more)
{
    const struct pfx_probe *last = hsm->roles[PFX_ROLE_USERS].probe;
    bool passing = last && last->passing;
    *ret_more = passing ? " The probe was disturbed and is repeated by itself." : "";
    return passing ? PFX_CLASS_TRANSIENT : PFX_CLASS_REFUSED;
}

pfx_result pfx_profile_pick(const struct pfx_hsm *hsm, const char *asked,
                            enum pfx_profile *ret_profile, struct pfx_error *err)
{
    enum pfx_profile profile = PFX_PROFILE_COUNT;
    if (!pfx_profile_parse(asked, &profile))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "profile", "",
                        "This isn't a profile that pfx-hsm builds: correct the rule's profile.");
    if (!hsm->policy->profiles[profile])
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "profile", "",
                        "users.profiles of the policy doesn't allow the profile %s: correct the "
                        "rule's profile, or have it added there.",
                        pfx_profile_name(profile));
    *ret_profile = profile;
    return PFX_OK;
}

pfx_result pfx_tier_pick(const struct pfx_hsm *hsm, enum pfx_profile profile,
                         enum pfx_key_type type, enum pfx_tier *ret_tier, struct pfx_error *err)
{
    struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
    pfx_token_proven(hsm->roles[PFX_ROLE_USERS].token, proven);
    enum pfx_tier tier = pfx_probe_tier(proven, profile, type);
    if (tier != PFX_TIER_NONE && tier >= hsm->policy->lowest_tier) {
        *ret_tier = tier;
        return PFX_OK;
    }
    const char *more;
    enum pfx_class cls = class_of(hsm, &more);
    return pfx_fail(err, cls, "export key", pfx_key_type_name(type), "",
                    "For keys of this type the users token reaches the tier %s in the profile %s, "
                    "and users.lowest_tier of the policy is %s.%s",
                    pfx_tier_name(tier), pfx_profile_name(profile),
                    pfx_tier_name(hsm->policy->lowest_tier), more);
}

static bool reaches(const struct pfx_hsm *hsm, enum pfx_profile profile)
{
    for (int i = 0; i < PFX_KEY_TYPE_COUNT; i++) {
        enum pfx_tier tier;
        if (hsm->policy->key_types[i] &&
            pfx_ok(pfx_tier_pick(hsm, profile, (enum pfx_key_type)i, &tier, NULL)))
            return true;
    }
    return false;
}

pfx_result pfx_tiers_check(const struct pfx_hsm *hsm, struct pfx_error *err)
{
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        enum pfx_profile profile = (enum pfx_profile)i;
        if (!hsm->policy->profiles[i] || reaches(hsm, profile))
            continue;
        struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
        pfx_token_proven(hsm->roles[PFX_ROLE_USERS].token, proven);
        const char *more;
        enum pfx_class cls = class_of(hsm, &more);
        return pfx_fail(err, cls, "probe token", "export tier", "",
                        "In the profile %s the users token reaches the tier %s for RSA and %s for "
                        "EC keys; with users.key_types of the policy that isn't its "
                        "users.lowest_tier, %s. Take another token, or correct the policy.%s",
                        pfx_profile_name(profile), pfx_tier_name(proven->tier[i].rsa),
                        pfx_tier_name(proven->tier[i].ec),
                        pfx_tier_name(hsm->policy->lowest_tier), more);
    }
    return PFX_OK;
}

pfx_result pfx_key_type_check(const struct pfx_hsm *hsm, enum pfx_key_type type,
                              struct pfx_error *err)
{
    if (!hsm->policy->key_types[type])
        return pfx_fail(err, PFX_CLASS_REFUSED, "make key", pfx_key_type_name(type), "",
                        "users.key_types of the policy doesn't allow this key type: correct the "
                        "rule or the policy.");
    struct pfx_probe *proven PFX_AUTOFREE = pfx_alloc(sizeof *proven);
    pfx_token_proven(hsm->roles[PFX_ROLE_USERS].token, proven);
    if (proven->key_types[type])
        return PFX_OK;
    const char *more;
    enum pfx_class cls = class_of(hsm, &more);
    return pfx_fail(err, cls, "make key", pfx_key_type_name(type), "",
                    "The probe shows that the users token can't make such keys: pfx-agent hsm test "
                    "shows which it can.%s", more);
}
