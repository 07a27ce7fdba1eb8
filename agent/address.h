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

/* Is it of the domain that each tenant has by itself (onmicrosoft.com, or a national cloud's)?
 * That is nobody's mail address. */
bool pfx_address_technical(const char *address);

/* Adds one address as a certificate carries it: the domain with A-labels (xn--), else as it stands;
 * nothing for one that is in the list already (without regard to ASCII case; a domain counts the
 * same in both of its forms) or is of the tenant's technical domain. REFUSED, naming address, place
 * (from) and next step: not an address, quoted or not ASCII before the @, a domain that IDNA
 * refuses, too long, more than 64. */
PFX_MUST_USE pfx_result pfx_address_add(struct pfx_strings *list, const char *address,
                                        const char *from, struct pfx_error *err);
/* mail, then every SMTP proxy address, as above. REFUSED too when none is left. mail may be NULL.
 * *ret_list is empty on failure. */
PFX_MUST_USE pfx_result pfx_addresses(const char *mail, const char *const *proxies,
                                      size_t n_proxies, struct pfx_strings *ret_list,
                                      struct pfx_error *err);
/* Splits such a text at " Next: " for a screen: returns the next step, or "" when there is none. */
const char *pfx_next_step(const char *text);

#endif
