/* What the scanner of canonical JSON shares with its writer and with entries. */
#ifndef PFX_CRYPTO_CANON_SCAN_H
#define PFX_CRYPTO_CANON_SCAN_H

#include <endian.h>
#include <string.h>

#include "crypto/canon.h"

/* Bytes of the well-formed UTF-8 sequence at `at`, which is before end; 0: there is none. */
size_t pfx_canon_utf8(const uint8_t *at, const uint8_t *end);

/* One canonical value, nothing else, with room for `depth` levels of brackets. */
PFX_MUST_USE bool pfx_canon_is_value(struct pfx_bytes json, unsigned depth,
                                     enum pfx_canon_kind *ret_kind);
/* What may stand between the quotes of a canonical string. */
PFX_MUST_USE bool pfx_canon_is_text(struct pfx_bytes text, bool *ret_escaped);

/* How a character of one byte stands in a string: 1, 2 or 6 bytes into out. */
size_t pfx_canon_escape(uint8_t c, char out[6]);

/* Order of UTF-16 code units (RFC 8785, 3.2.3). */
PFX_MUST_USE bool pfx_canon_before(struct pfx_bytes a, struct pfx_bytes b);

/* A member as the scanner finds it, with the first eight bytes of its name as a number: names in
 * ASCII sort as their numbers do, and no byte of a name is zero. */
struct pfx_canon_found {
    struct pfx_bytes group, key;
    uint64_t prefix;
    struct pfx_canon_value value;
};
typedef bool (*pfx_canon_visit)(void *ctx, const struct pfx_canon_found *found);
/* pfx_canon_scan for who needs the prefix. */
PFX_MUST_USE pfx_result pfx_canon_walk(struct pfx_bytes json, pfx_canon_visit visit, void *ctx,
                                       struct pfx_error *err);

#endif
