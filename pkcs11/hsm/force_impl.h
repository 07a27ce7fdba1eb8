/* What the files of force.h share; for them alone. */
#ifndef PFX_HSM_FORCE_IMPL_H
#define PFX_HSM_FORCE_IMPL_H

#include <string.h>

#include "crypto/canon.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/force_form.h"

static inline struct pfx_bytes pfx_text_bytes(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}
/* SHA-256(policy's SHA-256 | SHA-256(roster)). */
PFX_MUST_USE bool pfx_force_hash(const uint8_t policy[32], struct pfx_bytes roster,
                                 uint8_t ret[32]);
/* Writes the file "in-force". */
PFX_MUST_USE pfx_result pfx_force_store(struct pfx_hsm *hsm, struct pfx_session *users,
                                        struct pfx_key *mac, struct pfx_bytes policy,
                                        struct pfx_bytes roster, struct pfx_error *err);

/* A change of policy or roster; all borrowed. */
struct pfx_force_change {
    const uint8_t *old_sha256, *new_sha256; /* of the policies */
    struct pfx_bytes old_policy, new_policy, old_roster, new_roster;
};
/* What people approve of it, canonical JSON. USAGE: too long. */
PFX_MUST_USE pfx_result pfx_force_args(const struct pfx_force_change *change, struct pfx_buf *args,
                                       struct pfx_error *err);
/* At the start: have enough people of the old roster signed this change, in a question of the state
 * folder that is asked in the log, in time, and not spent for anything but the log's last change?
 * Then force gets what the log is to have of it. approvals_file.c */
bool pfx_force_approved(const struct pfx_hsm_policy *old, const char *state_dir,
                        const struct pfx_force_change *change, struct pfx_force *force);
/* policy.changed, on disk: from here on the change is made, if need be by the next start. */
PFX_MUST_USE pfx_result pfx_force_note(struct pfx_hsm *hsm, const struct pfx_actor *actor,
                                       const struct pfx_approved *approved, struct pfx_error *err);

#endif
