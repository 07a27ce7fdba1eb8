/* What the files of hsmlog.h share; for them alone. */
#ifndef PFX_HSM_HSMLOG_PUT_H
#define PFX_HSM_HSMLOG_PUT_H

#include "pkcs11/hsm/hsmlog.h"

#define PFX_PINS_TEXT_MAX 8192

/* Appends, after a note of a step of the clock if there was one. */
PFX_MUST_USE pfx_result pfx_hsmlog_put(struct pfx_hsmlog *log, struct pfx_draft *draft,
                                       enum pfx_room room, enum pfx_until until, uint64_t *ret_seq,
                                       struct pfx_error *err);
/* Keeps what was done before the log began; takes the draft over. */
void pfx_hsmlog_early(struct pfx_hsmlog *log, struct pfx_draft *draft);
/* Told at once, or kept; takes the draft over. Never waits. */
void pfx_hsmlog_note(struct pfx_hsmlog *log, struct pfx_draft *draft);
/* What was kept, now that there is a log: notes are taken from here on. */
PFX_MUST_USE pfx_result pfx_hsmlog_tell_early(struct pfx_hsmlog *log, struct pfx_error *err);
/* Nothing is noted any more: the log is about to be set aside. */
void pfx_hsmlog_hush(struct pfx_hsmlog *log);
/* Whose log gets the logins' notes; NULL: none. */
void pfx_hsmlog_trace(struct pfx_hsmlog *log);
/* The counts of what was over a quota, though its hour isn't over. */
void pfx_hsmlog_flush(struct pfx_hsmlog *log);

#endif
