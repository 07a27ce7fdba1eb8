/*
 * Sorting more than fits into memory: records of one size are collected in a buffer of a fixed
 * size, which is sorted and written out as a run whenever it is full; the runs are merged when they
 * are read. Files are unlinked as soon as they are open, in TMPDIR (or /var/tmp, or /tmp); what
 * goes through here is hashes and numbers, nothing secret.
 */
#ifndef PFX_AUDIT_SORTER_H
#define PFX_AUDIT_SORTER_H

#include "crypto/mem.h"

#define PFX_SORTER_MEMORY (8u << 20)

struct pfx_sorter;
/* Records of `size` bytes (at most 256), ordered by memcmp. memory: bytes to use at most, but for
 * the merge (1 MiB more); 0 takes PFX_SORTER_MEMORY. */
struct pfx_sorter *pfx_sorter_new(size_t size, size_t memory);
void pfx_sorter_free(struct pfx_sorter *sorter);
static inline void pfx_sorter_freep(struct pfx_sorter **pp)
{
    pfx_sorter_free(*pp);
}
/* TRANSIENT: the temporary folder is full or can't be written. */
PFX_MUST_USE pfx_result pfx_sorter_add(struct pfx_sorter *sorter, const void *record,
                                       struct pfx_error *err);
uint64_t pfx_sorter_count(const struct pfx_sorter *sorter);
/* Nothing is added any more; the next read gives the smallest record. */
PFX_MUST_USE pfx_result pfx_sorter_finish(struct pfx_sorter *sorter, struct pfx_error *err);
/* The next record in order, borrowed until the next call; NULL at the end. */
PFX_MUST_USE pfx_result pfx_sorter_next(struct pfx_sorter *sorter, const void **ret_record,
                                        struct pfx_error *err);
/* An open, unlinked file for such data; TRANSIENT when none can be made. */
PFX_MUST_USE pfx_result pfx_spill_open(int *ret_fd, struct pfx_error *err);

#endif
