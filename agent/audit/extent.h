/* Which bundles of entries an export has, by its folders: for one whose checkpoint can't be read,
 * and for long gaps. */
#ifndef PFX_AUDIT_EXTENT_H
#define PFX_AUDIT_EXTENT_H

#include "agent/audit/source.h"

/* Numbers of the bundles, ascending; the folders are read once, however many gaps there are. */
struct pfx_extent {
    bool read, more; /* more: beyond what is kept */
    uint64_t *numbers;
    size_t n;
};
void pfx_extent_done(struct pfx_extent *extent); /* usable as cleanup */
/* The number of the first bundle from `number` on, whole or partial; false: there is none. */
bool pfx_extent_next(struct pfx_extent *extent, struct pfx_source *source, uint64_t number,
                     uint64_t *ret_number);
/* How many entries the bundles reach to. */
uint64_t pfx_extent_size(struct pfx_source *source);

#endif
