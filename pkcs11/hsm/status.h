/* What an operator should know beside the figures: one sentence each. */
#ifndef PFX_HSM_STATUS_H
#define PFX_HSM_STATUS_H

#include "pkcs11/hsm/hsm.h"

/* Encryption not separated, SoftHSM, tiers, expiring certificates. hsm->lock is held. */
void pfx_status_notes(const struct pfx_hsm *hsm, void (*note)(void *ctx, const char *text),
                      void *ctx);
bool pfx_token_is_softhsm(const struct pfx_token *token);

#endif
