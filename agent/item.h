/* Filling items for the CLI from texts that may be too long for them, or cut in the middle of a
 * character: a screen is never worth ending the daemon for. */
#ifndef PFX_AGENT_ITEM_H
#define PFX_AGENT_ITEM_H

#include "api/wire/schema.h"

/* Sets at most max bytes of value, cut between characters, control characters as spaces. Leaves the
 * member out where value is NULL or empty. */
void pfx_item_str(struct pfx_msg *body, const char *name, const char *value, size_t max);
/* The same as one more element of an array. */
void pfx_item_add(struct pfx_msg *body, const char *name, const char *value, size_t max);
/* Leaves out what is 0. */
void pfx_item_int(struct pfx_msg *body, const char *name, int64_t value);
/* Splits a text at " Next: ": what_name and "next". */
void pfx_item_trouble(struct pfx_msg *body, const char *what_name, const char *text);

#endif
