/* Names in ASCII, for products that put a person's name into the certificate. */
#ifndef PFX_AGENT_NAME_H
#define PFX_AGENT_NAME_H

#include "crypto/result.h"

struct pfx_names;
/* chain: an ICU transliterator id, as names.transliteration. USAGE when ICU doesn't know it. */
PFX_MUST_USE pfx_result pfx_names_open(const char *chain, struct pfx_names **ret_names,
                                       struct pfx_error *err);
void pfx_names_close(struct pfx_names *names);
/* UTF-8 in, at most 64 printable ASCII characters out; runs of white space become one space.
 * REFUSED, naming the name and which of both it is, when something isn't ASCII even then, or
 * nothing is left. *ret_ascii: free it. */
PFX_MUST_USE pfx_result pfx_names_ascii(struct pfx_names *names, const char *which,
                                        const char *name, char **ret_ascii, struct pfx_error *err);

#endif
