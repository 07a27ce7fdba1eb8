/* What has to be right about a JSON text before cJSON sees it, and wiping memory for cJSON. */
#ifndef PFX_WIRE_JSON_H
#define PFX_WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/mem.h"

/* Deepest nesting and most values of a message. A value costs cJSON about 150 bytes, so the second
 * one bounds what a peer can make us allocate. */
#define PFX_JSON_DEPTH 8
#define PFX_JSON_VALUES (512u * 1024u)

/*
 * Walks over the text of one object. Refuses what cJSON would take or change without a word: bytes
 * that aren't UTF-8, control characters, \u0000 (cuts the string), escapes in names, numbers that a
 * double can't hold (only plain integers pass: no fraction, no exponent, no -0, no leading zero),
 * deep nesting, more than PFX_JSON_VALUES values, and anything before or after the object.
 * *ret_why says what is wrong; it never holds a part of the text. *ret_values (may be NULL) counts.
 */
PFX_MUST_USE bool pfx_json_scan(const char *json, size_t len, size_t *ret_values,
                                const char **ret_why);

/*
 * cJSON's memory is wiped when it is given back. The hooks are set before main() in every program
 * that this file is linked into, because a block that was allocated without them can't be freed
 * with them. Code that parses secrets by cJSON itself calls this to be sure that it is linked.
 */
void pfx_json_wiping(void);

#endif
