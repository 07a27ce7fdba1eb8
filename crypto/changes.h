/* What two versions of a text differ in, line by line: for people who are to agree to the newer one, so
 * that no change can hide. Lines that moved stand in both lists; empty ones in none. */
#ifndef PFX_CRYPTO_CHANGES_H
#define PFX_CRYPTO_CHANGES_H

#include "crypto/mem.h"

struct pfx_changes { /* borrowed from the texts, in their order, without LF */
    struct pfx_bytes *gone, *fresh;
    size_t n_gone, n_fresh;
};
void pfx_changes_done(struct pfx_changes *changes); /* usable as cleanup; zeroed is fine */
/* An end without LF is a line as well. With the gone ones taken out of `old` and the fresh ones out of
 * `now` both are the same. As few as possible, but where more than a few thousand lines in a row
 * differ: there all of them. */
void pfx_changes_find(struct pfx_bytes old, struct pfx_bytes now, struct pfx_changes *ret);

#endif
