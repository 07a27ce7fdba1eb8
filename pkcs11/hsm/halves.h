/* A process that was killed while the token made a key pair can leave the public half alone. */
#ifndef PFX_HSM_HALVES_H
#define PFX_HSM_HALVES_H

#include "pkcs11/keys.h"

/* Destroys public keys with this CKA_ID, of which there is no private one: call it after
 * pfx_key_find found none, before pfx_key_make. With a second public object the pair would be
 * refused for ever. */
PFX_MUST_USE pfx_result pfx_lone_publics_destroy(struct pfx_session *session,
                                                 const struct pfx_key_id *id,
                                                 struct pfx_error *err);

#endif
