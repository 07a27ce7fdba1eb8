/*
 * The text of a ceremony's mark (ceremony_begun.c): where in the log to look, and under a MAC the
 * record as far as it had come. Bytes that somebody else may have written: the record counts once
 * the MAC was checked, the rest says no more than where to look.
 */
#ifndef PFX_HSM_BEGUN_FORM_H
#define PFX_HSM_BEGUN_FORM_H

#include "crypto/checkpoint.h"
#include "crypto/minutes.h"

#define PFX_BEGUN_MAX (PFX_MINUTES_MAX + 1024) /* bytes of such a file */

struct pfx_begun_text {
    char origin[PFX_ORIGIN_SIZE]; /* "": no log yet */
    uint64_t from;                /* the first entry that may be of it */
    struct pfx_bytes covered;     /* what the MAC is over; empty: there is none */
    struct pfx_bytes record;      /* the end of that: borrowed from the file's bytes */
    uint8_t mac[32];
};
/* False: no mark of ours; *ret is empty then. */
PFX_MUST_USE bool pfx_begun_parse(struct pfx_bytes bytes, struct pfx_begun_text *ret);
/* Appends what stands before the record; the record; the MAC over all before. */
void pfx_begun_head(const char *origin, uint64_t from, struct pfx_buf *out);
PFX_MUST_USE bool pfx_begun_seal(const uint8_t mac[32], struct pfx_buf *out);

#endif
