/* Reading texts that are made of lines, each ended by LF. */
#ifndef PFX_CRYPTO_LINES_H
#define PFX_CRYPTO_LINES_H

#include "crypto/tree.h"

struct pfx_lines {
    struct pfx_bytes rest;
    unsigned n; /* of the line that was read last, from 1 */
};
/* The next line without its LF, borrowed. False: there is no LF any more. */
PFX_MUST_USE bool pfx_lines_next(struct pfx_lines *lines, struct pfx_bytes *ret);
/* Moves bytes past the text if they begin with it. */
PFX_MUST_USE bool pfx_bytes_skip(struct pfx_bytes *bytes, const char *text);
bool pfx_bytes_equal(struct pfx_bytes bytes, const char *text);
/* Decimal digits without leading zeros, at most PFX_TREE_SIZE_MAX. */
PFX_MUST_USE bool pfx_bytes_decimal(struct pfx_bytes bytes, uint64_t *ret);
/* The one Base64 spelling of 32 bytes. */
PFX_MUST_USE bool pfx_bytes_node(struct pfx_bytes bytes, struct pfx_node *ret);

#endif
