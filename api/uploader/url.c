#include "api/uploader/url.h"

#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "api/conf/pins.h"
#include "api/uploader/text.h"

static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                            "0123456789-._~";

bool pfx_url_is_part(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && strspn(text, plain) == len && strspn(text, ".") < len;
}

void pfx_url_encode(struct pfx_buf *out, const char *text)
{
    for (; *text; text++) {
        if (strchr(plain, *text))
            pfx_buf_add(out, text, 1);
        else
            pfx_buf_addf(out, "%%%02X", (unsigned char)*text);
    }
}

/* A URL in the parts that count here; curl's own parser, since curl is who will fetch it. */
struct parts {
    char *scheme, *host, *port, *path, *user;
};

static void parts_done(struct parts *p)
{
    curl_free(p->scheme);
    curl_free(p->host);
    curl_free(p->port);
    curl_free(p->path);
    curl_free(p->user);
}

static bool parts_read(const char *url, struct parts *ret)
{
    CURLU *u = curl_url();
    if (!u)
        return false;
    bool good = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &ret->scheme, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &ret->host, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_PORT, &ret->port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_PATH, &ret->path, 0) == CURLUE_OK;
    if (good && curl_url_get(u, CURLUPART_USER, &ret->user, 0) != CURLUE_OK)
        ret->user = NULL;
    curl_url_cleanup(u);
    return good;
}

/* "." or ".." between slashes, also percent-encoded: servers disagree on what it means. */
static bool has_dot_segment(const char *url)
{
    for (const char *s = strchr(url, '/'); s; s = strchr(s, '/')) {
        s++;
        size_t dots = 0;
        while (*s == '.' || strncasecmp(s, "%2e", 3) == 0) {
            s += *s == '.' ? 1 : 3;
            dots++;
        }
        if (dots > 0 && dots <= 2 && (*s == '/' || *s == '\0' || *s == '?' || *s == '#'))
            return true;
    }
    return false;
}

/* Does path begin with base's path (without its last slash) and below, at a boundary? */
static bool path_below(const char *base_path, const char *below, const char *path)
{
    size_t n = strlen(base_path);
    while (n > 0 && base_path[n - 1] == '/')
        n--;
    if (strncasecmp(path, base_path, n) != 0)
        return false;
    size_t m = strlen(below);
    if (strncasecmp(path + n, below, m) != 0)
        return false;
    char next = path[n + m];
    return next == '\0' || next == '/' || next == '(';
}

pfx_result pfx_url_within(const char *base, const char *below, const char *link, const char *op,
                          struct pfx_error *err)
{
    char shown[160];
    pfx_text_clean_str(shown, sizeof shown, link);
    char *query = strchr(shown, '?');
    if (query)
        *query = '\0';
    for (const char *s = link; *s; s++)
        if (*s <= ' ' || *s > '~' || strchr("\\\"<>^`{|}#", *s))
            return pfx_fail(err, PFX_CLASS_REFUSED, op, shown, "",
                            "The link to the next page holds characters that a URL can't have; it "
                            "isn't followed.");
    __attribute__((cleanup(parts_done))) struct parts a = {0};
    __attribute__((cleanup(parts_done))) struct parts b = {0};
    if (!parts_read(base, &a) || !parts_read(link, &b))
        return pfx_fail(err, PFX_CLASS_REFUSED, op, shown, "",
                        "The link to the next page isn't a URL; it isn't followed.");
    if (strcasecmp(b.scheme, "https") != 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, op, shown, "",
                        "The link to the next page isn't https; it isn't followed.");
    /* As it is written, too: pins and the proxy's exceptions are found by that, and libcurl takes
     * "%2E" for a point and a number for an address. */
    char base_host[PFX_HOST_SIZE], link_host[PFX_HOST_SIZE];
    bool same = strcasecmp(a.host, b.host) == 0 && strcmp(a.port, b.port) == 0 &&
                strcmp(pfx_conf_host(base, base_host), pfx_conf_host(link, link_host)) == 0;
    if (!same || b.user)
        return pfx_fail(err, PFX_CLASS_REFUSED, op, shown, "",
                        "The link to the next page leaves %s, which uploader.yaml names; it isn't "
                        "followed.", a.host);
    char path[8200];
    const char *start = strstr(link, "://");
    start = start ? strchr(start + 3, '/') : NULL;
    size_t len = start ? strcspn(start, "?") : 0;
    if (len == 0 || len >= sizeof path)
        return pfx_fail(err, PFX_CLASS_REFUSED, op, shown, "",
                        "The link to the next page has no path; it isn't followed.");
    memcpy(path, start, len);
    path[len] = '\0';
    if (has_dot_segment(path) || !path_below(a.path, below, b.path))
        return pfx_fail(err, PFX_CLASS_REFUSED, op, shown, "",
                        "The link to the next page leads elsewhere than to %s; it isn't followed.",
                        below);
    return PFX_OK;
}

char *pfx_url_show(const char *url, char *dest, size_t size)
{
    return pfx_text_clean(dest, size, url, strcspn(url, "?#"));
}

char *pfx_url_host(const char *url, char *dest, size_t size)
{
    const char *start = strstr(url, "://");
    start = start ? start + 3 : url;
    size_t len = strcspn(start, "/?#");
    for (size_t i = 0; i < len; i++) {
        if (start[i] == '@') { /* never show a user or password */
            start += i + 1;
            len -= i + 1;
            i = 0;
        }
    }
    return pfx_text_clean(dest, size, start, len);
}
