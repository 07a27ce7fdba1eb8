/*
 * When the encryption key is to be rotated (crypto/schedule.h), by the pins as they were last read or
 * written, and by this host's clock: for status and the journal, and for `key.rotate` on a schedule.
 */
#ifndef PFX_HSM_DUE_H
#define PFX_HSM_DUE_H

#include "crypto/schedule.h"
#include "pkcs11/hsm/pinned.h"

/* What rotate_every asks of these pins now. */
void pfx_due_of(const struct pfx_hsm_policy *policy, const struct pfx_pins *pins,
                struct pfx_schedule *ret);
/* Remembers them for the next. Any thread. */
void pfx_due_take(struct pfx_hsm *hsm, const struct pfx_pins *pins);
/* From time to time: while a rotation is due, one line in the journal when that begins or changes, and
 * on each day (UTC) after it. */
void pfx_due_tick(struct pfx_hsm *hsm);

#endif
