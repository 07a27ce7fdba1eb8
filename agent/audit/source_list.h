/* What only pfx-audit's own files need of an exported log, beside agent/audit/source.h. */
#ifndef PFX_AUDIT_SOURCE_LIST_H
#define PFX_AUDIT_SOURCE_LIST_H

#include "agent/audit/source.h"

/* Opens a name below the folder ("tile/0/000"), close-on-exec; -1: errno. No symbolic link is
 * followed on the way: whoever made the export may have put one anywhere. */
int pfx_source_at(const struct pfx_source *source, const char *name, int flags);

/* The first `width` hashes of a tile, from the file of that width or of a wider one. False: it
 * isn't there, or (*ret_there) isn't of its length. */
PFX_MUST_USE bool pfx_source_tile(struct pfx_source *source, unsigned level, uint64_t number,
                                  unsigned width, uint8_t *ret_hashes, bool *ret_there);

/* Sizes of the kept checkpoints ("checkpoints/<20 digits>"), ascending; *ret_odd counts other
 * names. At most 1,000,000: INTEGRITY beyond. Free the array. */
PFX_MUST_USE pfx_result pfx_source_checkpoints(struct pfx_source *source, uint64_t **ret_sizes,
                                               size_t *ret_n, size_t *ret_odd,
                                               struct pfx_error *err);

#endif
