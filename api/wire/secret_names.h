/* The service secrets that there are: pfx-agent asks for one, pfx-hsm seals it, pfx-uploader gets
 * it. */
#ifndef PFX_WIRE_SECRET_NAMES_H
#define PFX_WIRE_SECRET_NAMES_H

#include "crypto/mem.h"
#include "crypto/result.h"

struct pfx_secret_name {
    const char *name;
    const char *what; /* it is */
    size_t min;       /* fewest characters */
    bool spaces;      /* may stand in it; else it goes into a header, where they can't */
    bool for_ca;      /* one of these is needed */
};
#define PFX_SECRET_MAX 512 /* most characters */

extern const struct pfx_secret_name pfx_secret_names[]; /* ends with a NULL name */
const struct pfx_secret_name *pfx_secret_find(const char *name); /* NULL: there is none */
/* USAGE, and the names that there are. */
PFX_MUST_USE pfx_result pfx_secret_unknown(struct pfx_error *err);
/* Printable ASCII of the right length? USAGE says what is wrong and never repeats the value. */
PFX_MUST_USE pfx_result pfx_secret_fits(const struct pfx_secret_name *name, struct pfx_bytes value,
                                        struct pfx_error *err);

#endif
