/* What pfx-agentd brings of a key, compared with what pfx-hsm gave it when the key was made. */
#ifndef PFX_HSM_PROOF_H
#define PFX_HSM_PROOF_H

#include "pkcs11/hsm/ask.h"
#include "pkcs11/hsm/keyref.h"

/* Was this key made by us, for this user, these addresses and this purpose? A wrapped one also has
 * its own MAC. INTEGRITY: no. mac is the users token's active one, which the session is of;
 * what an earlier generation made is taken until that is destroyed. */
PFX_MUST_USE pfx_result pfx_proof_check(struct pfx_worker *worker, const struct pfx_ask *ask,
                                        const struct pfx_keyref *ref, struct pfx_bytes ticket,
                                        struct pfx_session *session, struct pfx_key *mac,
                                        struct pfx_error *err);

#endif
