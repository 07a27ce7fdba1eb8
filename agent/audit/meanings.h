/* What events and members of entries mean, in words: for help and the man page. */
#ifndef PFX_AUDIT_MEANINGS_H
#define PFX_AUDIT_MEANINGS_H

#include "agent/audit/events.h"

extern const char *const pfx_event_meanings[PFX_EVENT_COUNT];
extern const char *const pfx_field_meanings[PFX_FIELD_COUNT];

#endif
