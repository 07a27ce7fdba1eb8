/*
 * What the entries say, beyond their form: every intent has its result, no PFX without a key and a
 * ticket of this log, no seal to a generation that isn't active, and so on. One for a set of logs;
 * memory stays the same however long they are.
 */
#ifndef PFX_AUDIT_MEANING_H
#define PFX_AUDIT_MEANING_H

#include "agent/audit/match.h"
#include "crypto/entry.h"

struct pfx_meaning;
struct pfx_meaning *pfx_meaning_new(struct pfx_report *report);
void pfx_meaning_free(struct pfx_meaning *meaning);
static inline void pfx_meaning_freep(struct pfx_meaning **pp)
{
    pfx_meaning_free(*pp);
}
/* The entries of a log follow, in order. source: where the texts of its policies are; borrowed. */
struct pfx_source;
void pfx_meaning_begin(struct pfx_meaning *meaning, uint32_t log, struct pfx_source *source);
/* Entries before `upto` weren't examined: what followed from them isn't known. */
void pfx_meaning_gap(struct pfx_meaning *meaning, uint64_t upto);
PFX_MUST_USE pfx_result pfx_meaning_entry(struct pfx_meaning *meaning, uint64_t seq,
                                          const struct pfx_entry *entry, struct pfx_error *err);
/* The log ends here: what is open stays open. */
void pfx_meaning_end(struct pfx_meaning *meaning);
/* All logs were read. whole: from their first entries on. */
PFX_MUST_USE pfx_result pfx_meaning_finish(struct pfx_meaning *meaning, bool whole,
                                           struct pfx_error *err);

/* Policies that the log names (SHA-256), each with the first entry that does. */
struct pfx_meaning_policy {
    uint8_t sha256[32];
    uint64_t seq;
};
size_t pfx_meaning_policies(const struct pfx_meaning *meaning,
                            const struct pfx_meaning_policy **ret);
/* The highest "first kept" that a log.retention note of this log announces; 0: none. */
uint64_t pfx_meaning_retained(const struct pfx_meaning *meaning);
/* An entry that says the anchor was written at least up to it: a start after a stop, and how many
 * entries there are since; see verify_set.c. */
uint64_t pfx_meaning_last_start(const struct pfx_meaning *meaning);

#endif
