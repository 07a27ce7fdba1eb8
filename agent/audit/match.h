/*
 * What has to be matched across a log of any length, or across logs: packed PFX with the keys that
 * were made, uploads with the PFX that were released. Both sides are collected, sorted by the hash
 * that joins them, and compared at the end; what doesn't fit into memory lies in a temporary file.
 */
#ifndef PFX_AUDIT_MATCH_H
#define PFX_AUDIT_MATCH_H

#include "agent/audit/report.h"

enum pfx_match_kind {
    PFX_MATCH_MADE,     /* key.make ok: by its SPKI */
    PFX_MATCH_PACKED,   /* pfx.build ok */
    PFX_MATCH_RELEASED, /* pfx.build ok: by the PFX's hash */
    PFX_MATCH_UPLOADED, /* upload.confirmed ok */
    /* user_key.destroy ok, by the key's SPKI like MADE and PACKED: of a delivered key, and of one
     * that was never packed */
    PFX_MATCH_DESTROYED = 5,
    PFX_MATCH_DISCARDED = 7,
    PFX_MATCH_REWRAPPED = 9, /* key.rewrap ok, by the SPKI: of the key id alone, the ticket is new */
};
/* What besides the key must be the same: ticket and key id, as far as it takes to tell them apart.
 */
#define PFX_MATCH_PAYLOAD 24
#define PFX_MATCH_TICKET 16 /* of it are the ticket's */
struct pfx_match;
struct pfx_match *pfx_match_new(void);
void pfx_match_free(struct pfx_match *match);
PFX_MUST_USE pfx_result pfx_match_add(struct pfx_match *match, enum pfx_match_kind kind,
                                      const uint8_t key[32], uint32_t log, uint64_t seq,
                                      const uint8_t payload[PFX_MATCH_PAYLOAD],
                                      struct pfx_error *err);
/* Compares and reports. whole: everything from the first entry on was presented; else what has no
 * partner isn't a finding, but not proven. */
PFX_MUST_USE pfx_result pfx_match_finish(struct pfx_match *match, bool whole,
                                         struct pfx_report *report, struct pfx_error *err);

#endif
