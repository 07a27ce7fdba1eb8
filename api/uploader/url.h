/* URLs: what may be followed, and what of one may be shown. */
#ifndef PFX_UPLOADER_URL_H
#define PFX_UPLOADER_URL_H

#include "crypto/mem.h"
#include "crypto/result.h"

/* Appends text with everything percent-encoded but the unreserved of RFC 3986 section 2.3. */
void pfx_url_encode(struct pfx_buf *out, const char *text);

/* May text stand in a path as it is, as one part of it? Only what is unreserved, and not "." or "..",
 * which would lead out of its folder. */
bool pfx_url_is_part(const char *text);

/* May link be followed? It must be https, have base's host and port, no user or password, and a
 * path that is base's path followed by below ("/v1.0/groups"), and then the end, '/' or '('
 * (letters without regard to case, no dot segments). REFUSED says what is wrong without following
 * it. */
PFX_MUST_USE pfx_result pfx_url_within(const char *base, const char *below, const char *link,
                                       const char *op, struct pfx_error *err);

/* "https://host/path" of url without query and fragment, for struct pfx_error's object. */
char *pfx_url_show(const char *url, char *dest, size_t size);
/* "host" or "host:port". */
char *pfx_url_host(const char *url, char *dest, size_t size);

#endif
