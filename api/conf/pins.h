/* tls.pins of uploader.yaml: which public keys a host may have. */
#ifndef PFX_CONF_PINS_H
#define PFX_CONF_PINS_H

#include <stddef.h>

#include "api/conf/uploader_conf.h"

struct pfx_conf_reader;

#define PFX_HOST_SIZE 256
/* The host of a URL of the configuration: in lower case, without port, brackets and last dot. */
char *pfx_conf_host(const char *url, char dest[PFX_HOST_SIZE]);
/* The keys of a host as pfx_conf_host writes it; NULL: it may have any. */
const char *pfx_pins_of(const struct pfx_uploader_conf *conf, const char *host);
/* Reports each pin that can't be meant so: a key that isn't a SHA-256, a host that no URL names. */
void pfx_pins_check(struct pfx_conf_reader *reader, const struct pfx_uploader_conf *conf);

#endif
