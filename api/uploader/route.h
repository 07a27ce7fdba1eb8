/*
 * How a request gets to its host, by the configuration alone: through the proxy or not, by which
 * version of HTTP, and to which public keys.
 */
#ifndef PFX_UPLOADER_ROUTE_H
#define PFX_UPLOADER_ROUTE_H

#include <curl/curl.h>
#include <stdbool.h>

#include "api/conf/uploader_conf.h"
#include "crypto/secret.h"

struct pfx_route {
    bool proxy;             /* by proxy.url */
    bool http2;             /* is offered */
    const char *pins;       /* keys that the host may have; NULL: any. Borrowed from the conf */
    const char *proxy_pins; /* the same for an https proxy */
};
/* http2: may this request go by HTTP/2? */
struct pfx_route pfx_route_find(const struct pfx_uploader_conf *conf, const char *url, bool http2);
/* Is host one of the list (proxy.except)? An entry is "*", an address, or a name, which stands for
 * everything below it too, with or without a dot in front. */
bool pfx_route_excepted(const char *list, const char *host);

/* Sets TLS and whom it trusts, proxy, version and pins. False: an option wasn't taken, so the
 * request mustn't be sent. */
PFX_MUST_USE bool pfx_route_set(CURL *easy, const struct pfx_uploader_conf *conf,
                                const struct pfx_route *route);
/* What a request shows to the proxy. */
struct pfx_pass {
    const struct pfx_secret *password; /* with a NUL behind it; borrowed until the loop's next turn */
    unsigned ticket;
    bool fresh; /* by a connection of its own: through an old tunnel nobody asks for the password,
                 * so it would seem good unseen */
};
/* The password is copied by libcurl. */
PFX_MUST_USE bool pfx_route_set_login(CURL *easy, const struct pfx_uploader_conf *conf,
                                      const struct pfx_pass *pass);
/* "sha256//..." of the key that a server with the wrong one showed; "" when it isn't known. */
#define PFX_PIN_SIZE 56
char *pfx_route_shown(CURL *easy, char dest[PFX_PIN_SIZE]);

#endif
