/* What the text of a member has to look like. */
#ifndef PFX_CRYPTO_ENTRY_FORM_H
#define PFX_CRYPTO_ENTRY_FORM_H

#include "crypto/entry.h"

/* Text as it stands between the quotes. */
PFX_MUST_USE bool pfx_form_holds(const struct pfx_field_info *info, struct pfx_bytes text,
                                 bool escaped);
/* A character that a WORD may have. */
PFX_MUST_USE bool pfx_form_word(uint8_t c);
/* Lower-case hex of text.len / 2 bytes; false leaves ret undefined. */
PFX_MUST_USE bool pfx_form_unhex(struct pfx_bytes text, uint8_t *ret);

#endif
