/* What an operator should know beside the figures: one sentence each. */
#ifndef PFX_HSM_STATUS_H
#define PFX_HSM_STATUS_H

#include "pkcs11/hsm/hsm.h"

/* Encryption not separated, SoftHSM, tiers, expiring certificates. hsm->lock is held. */
void pfx_status_notes(const struct pfx_hsm *hsm, void (*note)(void *ctx, const char *text),
                      void *ctx);
bool pfx_token_is_softhsm(const struct pfx_token *token);
/* Do its objects lie on this host's disk, as far as it is known? Then they are restored together
 * with the operation log, and an anchor shows nothing. */
bool pfx_token_on_disk(const struct pfx_token *token);
/* "rollback protection: ..." of the log's token, or NULL while it isn't known. */
const char *pfx_rollback_text(const struct pfx_hsm *hsm, bool *ret_protected);

#endif
