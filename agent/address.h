/* Which mail addresses of a user go into the certificate. Pure. */
#ifndef PFX_AGENT_ADDRESS_H
#define PFX_AGENT_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/result.h"

#define PFX_MAX_ADDRESSES 64 /* of one certificate; the socket protocol's limit too */

/* A growing list of owned strings. */
struct pfx_strings {
    char **v;
    size_t n;
};
void pfx_strings_add(struct pfx_strings *list, const char *s);
void pfx_strings_done(struct pfx_strings *list);
#define PFX_AUTOSTRINGS __attribute__((cleanup(pfx_strings_done)))
/* As a JSON array and back; false for anything but an array of strings. Free the text. */
char *pfx_strings_json(const struct pfx_strings *list);
PFX_MUST_USE bool pfx_strings_parse(const char *json, struct pfx_strings *ret_list);

/* Strips "smtp:" in any case; NULL for every other prefix. */
const char *pfx_proxy_address(const char *proxy);
/* A mail address as RFC 5321 writes it without quotes, ASCII, 3 to 254 bytes. */
bool pfx_address_plausible(const char *address);

/* mail, then every SMTP proxy address as they stand: unique without regard to ASCII case, without
 * onmicrosoft.com. REFUSED with what and next step in err->text: none left, not ASCII, not an
 * address, more than 64. mail may be NULL. *ret_list is empty on failure. */
PFX_MUST_USE pfx_result pfx_addresses(const char *mail, const char *const *proxies,
                                      size_t n_proxies, struct pfx_strings *ret_list,
                                      struct pfx_error *err);
/* Splits such a text at " Next: " for a screen: returns the next step, or "" when there is none. */
const char *pfx_next_step(const char *text);

#endif
