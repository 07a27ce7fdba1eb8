#include "api/conf/pins.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "api/conf/table.h"
#include "crypto/encode.h"

#define SCHEME "sha256//"

char *pfx_conf_host(const char *url, char dest[PFX_HOST_SIZE])
{
    const char *start = strstr(url, "://");
    start = start ? start + 3 : url;
    size_t len = strcspn(start, "/?#:");
    if (*start == '[') { /* IPv6 */
        start++;
        len = strcspn(start, "]");
    }
    while (len > 0 && start[len - 1] == '.')
        len--;
    if (len >= PFX_HOST_SIZE)
        len = PFX_HOST_SIZE - 1;
    for (size_t i = 0; i < len; i++)
        dest[i] = (char)tolower((unsigned char)start[i]);
    dest[len] = '\0';
    return dest;
}

const char *pfx_pins_of(const struct pfx_uploader_conf *conf, const char *host)
{
    for (size_t i = 0; i < conf->n_pins; i++)
        if (strcasecmp(conf->pins[i].host, host) == 0)
            return conf->pins[i].keys;
    return NULL;
}

/* "sha256//BASE64;sha256//BASE64": what libcurl can't read it would take for the name of a file. */
static bool keys_fit(const char *keys)
{
    for (;;) {
        size_t len = strcspn(keys, ";");
        if (len <= strlen(SCHEME) || strncmp(keys, SCHEME, strlen(SCHEME)) != 0)
            return false;
        struct pfx_buf digest PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
        if (!pfx_base64_decode(keys + strlen(SCHEME), len - strlen(SCHEME), &digest) ||
            digest.len != 32)
            return false;
        if (keys[len] == '\0')
            return true;
        keys += len + 1;
    }
}

static bool is_ours(const struct pfx_uploader_conf *conf, const char *host)
{
    const char *const urls[] = {
        conf->ca == PFX_CA_CMP ? conf->cmp_url : conf->digicert_url,
        conf->login_url,
        conf->graph_url,
        conf->exchange_url,
        conf->proxy && strncmp(conf->proxy, "https:", 6) == 0 ? conf->proxy : NULL,
    };
    char name[PFX_HOST_SIZE];
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        if (urls[i] && strcasecmp(pfx_conf_host(urls[i], name), host) == 0)
            return true;
    return false;
}

void pfx_pins_check(struct pfx_conf_reader *reader, const struct pfx_uploader_conf *conf)
{
    for (size_t i = 0; i < conf->n_pins; i++) {
        const struct pfx_pin_conf *pin = &conf->pins[i];
        unsigned line = pfx_reader_line(reader, pin, "tls.pins[].host");
        if (pin->host && !is_ours(conf, pin->host))
            pfx_reader_mistake(reader, line, "tls.pins[].host",
                               "no URL of this file that is used has this host; expected the name "
                               "of one that has, without port");
        for (size_t j = 0; pin->host && j < i; j++)
            if (conf->pins[j].host && strcasecmp(conf->pins[j].host, pin->host) == 0)
                pfx_reader_mistake(reader, line, "tls.pins[].host",
                                   "this host stands there already; expected all its keys in one "
                                   "entry, with ; between");
        if (pin->keys && !keys_fit(pin->keys))
            pfx_reader_mistake(reader, pfx_reader_line(reader, pin, "tls.pins[].keys"),
                               "tls.pins[].keys",
                               "it isn't a list of pins; expected sha256// and the base64 of 32 "
                               "bytes for each, with ; between");
    }
}
