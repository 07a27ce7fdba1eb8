/* For crypto/'s own files: what notes and their keys share. */
#ifndef PFX_CRYPTO_NOTE_H
#define PFX_CRYPTO_NOTE_H

#include "crypto/checkpoint.h"

/* Takes a name of a signer: UTF-8 without spaces, control characters and '+'. */
PFX_MUST_USE bool pfx_note_name(struct pfx_bytes text, char ret_name[PFX_ORIGIN_SIZE]);

#endif
