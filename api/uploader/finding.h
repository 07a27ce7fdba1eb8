/* A row of what the set-up jobs find: what they looked at, how it stands, what mends it. */
#ifndef PFX_UPLOADER_FINDING_H
#define PFX_UPLOADER_FINDING_H

#include "api/wire/schema.h"

/* Fills a row of a result's "findings". level: "ok", "warn" or "bad"; text and next are cleaned;
 * next: NULL or "": nothing is to be done. */
void pfx_finding_fill(struct pfx_msg *row, const char *what, const char *level, const char *text,
                      const char *next);
/* Adds a row; borrowed. */
struct pfx_msg *pfx_finding_add(struct pfx_msg *result, const char *what, const char *level,
                                const char *text, const char *next);

#endif
