/*
 * Canonical JSON (RFC 8785 for objects, arrays, strings, booleans and integers below 2^53; no
 * floats, no null): a writer that can't write anything else, and a scanner that takes nothing else.
 *
 * The scanner streams over borrowed bytes, allocates nothing, and is what decides whether an entry
 * is in canonical form: it refuses white space, keys that are out of order or doubled, escapes that
 * aren't needed or aren't the short ones, invalid UTF-8, and numbers with sign -0, leading zeros,
 * fraction or exponent.
 */
#ifndef PFX_CRYPTO_CANON_H
#define PFX_CRYPTO_CANON_H

#include "crypto/mem.h"

#define PFX_CANON_INT_MAX ((INT64_C(1) << 53) - 1)
#define PFX_CANON_DEPTH 8 /* nested deeper refuses */

/* Writing: the caller gives members in canonical order; giving them in another one, names that
 * would need an escape, text that isn't UTF-8, or a second value outside of all brackets is the
 * program's defect and ends it. Commas are the writer's business. A buffer over its ceiling says so
 * itself. */
struct pfx_canon {
    struct pfx_buf *out;
    unsigned depth;
    bool first[PFX_CANON_DEPTH + 1]; /* [depth]: nothing was written there yet */
    char bracket[PFX_CANON_DEPTH + 1];
    size_t key_at[PFX_CANON_DEPTH + 1], key_len[PFX_CANON_DEPTH + 1]; /* the last name, in out */
};
struct pfx_canon pfx_canon_make(struct pfx_buf *out);
/* '{' or '['. The key is NULL in arrays and outside, here and below. */
void pfx_canon_open(struct pfx_canon *canon, const char *key, char bracket);
void pfx_canon_close(struct pfx_canon *canon, char bracket); /* '}' or ']' */
void pfx_canon_str(struct pfx_canon *canon, const char *key, struct pfx_bytes text);
void pfx_canon_int(struct pfx_canon *canon, const char *key, int64_t value);
void pfx_canon_bool(struct pfx_canon *canon, const char *key, bool value);
/* Text that is canonical JSON already; anything else is a defect, too. */
void pfx_canon_raw(struct pfx_canon *canon, const char *key, struct pfx_bytes json);

/* Reading. */
enum pfx_canon_kind { PFX_CANON_STR, PFX_CANON_INT, PFX_CANON_BOOL, PFX_CANON_OBJ, PFX_CANON_ARR };
struct pfx_canon_value {
    enum pfx_canon_kind kind;
    struct pfx_bytes raw;  /* as it stands: with quotes and escapes, with brackets */
    struct pfx_bytes text; /* STR: between the quotes; still escaped where `escaped` */
    bool escaped;
    int64_t number; /* INT; BOOL: 0 or 1 */
};
/* Called for each member of the outermost object and of the objects in it: group is the outer
 * member's name (data is NULL at the top), OBJ members at the top are announced before their own,
 * with nothing in raw. Objects and arrays deeper than that are checked and come as one raw value.
 * Keys come without escapes, or refuse. False ends the scan with REFUSED; where the callback wrote
 * err before, that stays. What was given out before a refusal is no part of an object. */
typedef bool (*pfx_canon_member)(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                                 const struct pfx_canon_value *value);
/* The whole of `json` must be one canonical object. REFUSED says what is wrong at which byte. */
PFX_MUST_USE pfx_result pfx_canon_scan(struct pfx_bytes json, pfx_canon_member member, void *ctx,
                                       struct pfx_error *err);
/* Each element of an array that pfx_canon_scan gave out raw. */
typedef bool (*pfx_canon_element)(void *ctx, const struct pfx_canon_value *value);
PFX_MUST_USE pfx_result pfx_canon_elements(struct pfx_bytes array, pfx_canon_element element,
                                           void *ctx, struct pfx_error *err);
/* The text of a string with its escapes resolved, appended. False leaves out's text alone: not a
 * string, or over the ceiling. */
PFX_MUST_USE bool pfx_canon_unescape(const struct pfx_canon_value *value, struct pfx_buf *out);

#endif
