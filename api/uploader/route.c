#include "api/uploader/route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/conf/pins.h"
#include "crypto/cert.h"
#include "crypto/encode.h"

bool pfx_route_excepted(const char *list, const char *host)
{
    size_t host_len = strlen(host);
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, ", ");
        const char *entry = p + strspn(p, ".");
        size_t n = len - (size_t)(entry - p);
        while (n > 0 && entry[n - 1] == '.')
            n--;
        if (len == 1 && *p == '*')
            return true;
        /* "b.example" of "a.b.example", and not of "ab.example". */
        if (n > 0 && n <= host_len && strncasecmp(host + host_len - n, entry, n) == 0 &&
            (n == host_len || host[host_len - n - 1] == '.'))
            return true;
        p += len;
        p += strspn(p, ", ");
    }
    return false;
}

struct pfx_route pfx_route_find(const struct pfx_uploader_conf *conf, const char *url, bool http2)
{
    char host[PFX_HOST_SIZE];
    pfx_conf_host(url, host);
    struct pfx_route route = {
        .proxy = conf->proxy && !(conf->no_proxy && pfx_route_excepted(conf->no_proxy, host)),
        .http2 = conf->http2 && http2,
        .pins = pfx_pins_of(conf, host),
    };
    if (route.proxy)
        route.proxy_pins = pfx_pins_of(conf, pfx_conf_host(conf->proxy, host));
    return route;
}

#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(easy, option, value) != CURLE_OK)                                     \
            return false;                                                                          \
    } while (0)

/* A host and an https proxy are held to the same. */
struct tls {
    CURLoption version, verify_peer, verify_host, ca_file, ca_folder, pins;
};
static const struct tls tls_host = {
    .version = CURLOPT_SSLVERSION,
    .verify_peer = CURLOPT_SSL_VERIFYPEER,
    .verify_host = CURLOPT_SSL_VERIFYHOST,
    .ca_file = CURLOPT_CAINFO,
    .ca_folder = CURLOPT_CAPATH,
    .pins = CURLOPT_PINNEDPUBLICKEY,
};
static const struct tls tls_proxy = {
    .version = CURLOPT_PROXY_SSLVERSION,
    .verify_peer = CURLOPT_PROXY_SSL_VERIFYPEER,
    .verify_host = CURLOPT_PROXY_SSL_VERIFYHOST,
    .ca_file = CURLOPT_PROXY_CAINFO,
    .ca_folder = CURLOPT_PROXY_CAPATH,
    .pins = CURLOPT_PROXY_PINNEDPUBLICKEY,
};

static bool set_tls(CURL *easy, const struct tls *tls, const char *ca_bundle, const char *pins)
{
    SET(tls->version, (long)CURL_SSLVERSION_TLSv1_2);
    SET(tls->verify_peer, 1L);
    SET(tls->verify_host, 2L);
    if (ca_bundle) {
        /* The bundle instead of the system's authorities, not in addition to them. */
        SET(tls->ca_file, ca_bundle);
        SET(tls->ca_folder, NULL);
    }
    if (pins)
        SET(tls->pins, pins);
    return true;
}

static bool set_proxy(CURL *easy, const char *url)
{
    SET(CURLOPT_PROXY, url);
    SET(CURLOPT_HTTPPROXYTUNNEL, 1L); /* always CONNECT: the proxy sees a host's name, no header */
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    return true;
}

bool pfx_route_set(CURL *easy, const struct pfx_uploader_conf *conf, const struct pfx_route *route)
{
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
    if (!set_tls(easy, &tls_host, conf->ca_bundle, route->pins))
        return false;
    /* Set in any case, so that https_proxy and no_proxy of the environment say nothing here. */
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_PROXY, "");
    if (route->proxy && (!set_proxy(easy, conf->proxy) ||
                         !set_tls(easy, &tls_proxy, conf->ca_bundle, route->proxy_pins)))
        return false;
    if (route->pins || route->proxy_pins)
        SET(CURLOPT_CERTINFO, 1L); /* for pfx_route_shown */
    bool can = curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_HTTP2;
    SET(CURLOPT_HTTP_VERSION,
        (long)(route->http2 && can ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    return true;
}

bool pfx_route_set_login(CURL *easy, const struct pfx_uploader_conf *conf,
                         const struct pfx_pass *pass)
{
    /* One way only, as configured: a proxy can't talk us out of Digest into Basic. */
    SET(CURLOPT_PROXYAUTH,
        (long)(conf->proxy_auth == PFX_PROXY_DIGEST ? CURLAUTH_DIGEST : CURLAUTH_BASIC));
    SET(CURLOPT_PROXYUSERNAME, conf->proxy_user);
    SET(CURLOPT_PROXYPASSWORD, (const char *)pfx_secret_bytes(pass->password));
    SET(CURLOPT_FRESH_CONNECT, pass->fresh ? 1L : 0L);
    return true;
}

char *pfx_route_shown(CURL *easy, char dest[PFX_PIN_SIZE])
{
    dest[0] = '\0';
    struct curl_certinfo *chain = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &chain) != CURLE_OK || !chain ||
        chain->num_of_certs < 1)
        return dest;
    for (const struct curl_slist *line = chain->certinfo[0]; line; line = line->next) {
        if (strncmp(line->data, "Cert:", 5) != 0)
            continue;
        struct pfx_bytes pem = {(const uint8_t *)line->data + 5, strlen(line->data + 5)};
        struct pfx_buf der PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64 * 1024);
        PFX_CLEANUP(pfx_cert_facts_done) struct pfx_cert_facts facts = {0};
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
        char label[PFX_PEM_LABEL_SIZE];
        size_t at = 0;
        uint8_t digest[32];
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_pem_next(pem, &at, label, &der) == PFX_PEM_BLOCK &&
            pfx_ok(pfx_cert_facts_read(pfx_buf_bytes(&der), &facts, &why)) &&
            pfx_sha256(facts.spki.data, facts.spki.len, digest) &&
            pfx_base64_encode(digest, sizeof digest, &text))
            snprintf(dest, PFX_PIN_SIZE, "sha256//%s", pfx_buf_str(&text));
        return dest;
    }
    return dest;
}
