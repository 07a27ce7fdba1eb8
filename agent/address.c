#include "agent/address.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <unicode/uidna.h>

#include "agent/name.h"
#include "crypto/mem.h"

void pfx_strings_add(struct pfx_strings *list, const char *s)
{
    list->v = pfx_grow(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = pfx_strdup(s);
}

void pfx_strings_done(struct pfx_strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->v[i]);
    free(list->v);
    *list = (struct pfx_strings){0};
}

char *pfx_strings_json(const struct pfx_strings *list)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < list->n; i++) {
        cJSON *item = cJSON_CreateString(list->v[i]);
        if (!item || !cJSON_AddItemToArray(array, item))
            pfx_die("no memory");
    }
    char *text = cJSON_PrintUnformatted(array);
    cJSON_Delete(array);
    if (!text)
        pfx_die("no memory");
    char *copy = pfx_strdup(text);
    cJSON_free(text);
    return copy;
}

bool pfx_strings_parse(const char *json, struct pfx_strings *ret_list)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    cJSON *array = cJSON_Parse(json ? json : "[]");
    bool good = cJSON_IsArray(array);
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        good = good && cJSON_IsString(item);
        if (good)
            pfx_strings_add(&list, item->valuestring);
    }
    cJSON_Delete(array);
    if (!good)
        return false;
    *ret_list = list;
    list = (struct pfx_strings){0};
    return true;
}

const char *pfx_proxy_address(const char *proxy)
{
    return strncasecmp(proxy, "smtp:", 5) == 0 ? proxy + 5 : NULL;
}

static bool ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s > 0x7e)
            return false;
    return true;
}

/* RFC 5321's Dot-string: the local part without quotes. */
static bool local_ok(const char *s, size_t n)
{
    if (n == 0 || n > 64 || s[0] == '.' || s[n - 1] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.' && s[i + 1] == '.')
            return false;
        if (!isalnum((unsigned char)s[i]) && !strchr(".!#$%&'*+-/=?^_`{|}~", s[i]))
            return false;
    }
    return true;
}

static bool domain_ok(const char *s)
{
    size_t labels = 0;
    while (true) {
        size_t n = strcspn(s, ".");
        if (n == 0 || n > 63 || s[0] == '-' || s[n - 1] == '-')
            return false;
        for (size_t i = 0; i < n; i++)
            if (!isalnum((unsigned char)s[i]) && s[i] != '-')
                return false;
        labels++;
        if (!s[n]) /* 192.0.2.1 is no domain */
            return labels >= 2 && strspn(s, "0123456789") < n;
        s += n + 1;
    }
}

bool pfx_address_plausible(const char *address)
{
    const char *at = strrchr(address, '@');
    return ascii(address) && at && strlen(address) <= 254 &&
           local_ok(address, (size_t)(at - address)) && domain_ok(at + 1);
}

static bool has_a_label(const char *domain)
{
    for (const char *label = domain; label; label = strchr(label, '.')) {
        label += *label == '.';
        if (strncasecmp(label, "xn--", 4) == 0)
            return true;
    }
    return false;
}

/* U-labels become A-labels, by UTS #46 as browsers and mail programs do it now (straße.de isn't
 * strasse.de), and A-labels are checked. A domain of plain ASCII stays as it stands. */
static bool domain_to_ascii(const char *domain, char **ret_ascii)
{
    char ascii_domain[256];
    if (ascii(domain) && !has_a_label(domain)) {
        *ret_ascii = pfx_strdup(domain);
        return true;
    }
    UErrorCode status = U_ZERO_ERROR;
    UIDNAInfo info = UIDNA_INFO_INITIALIZER;
    UIDNA *idna = uidna_openUTS46(UIDNA_USE_STD3_RULES | UIDNA_CHECK_BIDI | UIDNA_CHECK_CONTEXTJ |
                                      UIDNA_CHECK_CONTEXTO | UIDNA_NONTRANSITIONAL_TO_ASCII |
                                      UIDNA_NONTRANSITIONAL_TO_UNICODE,
                                  &status);
    int32_t n = U_SUCCESS(status)
                    ? uidna_nameToASCII_UTF8(idna, domain, -1, ascii_domain,
                                             sizeof(ascii_domain) - 1, &info, &status)
                    : 0;
    uidna_close(idna);
    if (U_FAILURE(status) || info.errors || n < 0 || (size_t)n >= sizeof(ascii_domain))
        return false;
    ascii_domain[n] = '\0';
    *ret_ascii = pfx_strdup(ascii_domain);
    return true;
}

bool pfx_address_technical(const char *address)
{
    /* Worldwide, US Government, China, and Germany's former cloud. */
    static const char *const tails[] = {"onmicrosoft.com", "onmicrosoft.us", "onmschina.cn",
                                        "onmicrosoft.de"};
    size_t n = strlen(address);
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        size_t m = strlen(tails[i]);
        if (n > m && strchr(".@", address[n - m - 1]) && strcasecmp(address + n - m, tails[i]) == 0)
            return true;
    }
    return false;
}

static bool listed(const struct pfx_strings *list, const char *s)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcasecmp(list->v[i], s) == 0)
            return true;
    return false;
}

static pfx_result refuse(struct pfx_error *err, const char *from, const char *address,
                         const char *why)
{
    char *shown PFX_AUTOFREE = pfx_names_shown(address);
    return pfx_fail(err, PFX_CLASS_REFUSED, "addresses", from, "",
                    "the address \"%s\" %s. Next: remove it from %s in Entra ID or Exchange, or "
                    "replace it there by one that a certificate can carry.",
                    shown, why, from);
}

/* As it stands in a certificate: an rfc822Name has A-labels, and ASCII before the @ (RFC 9598
 * section 3; what isn't would need SmtpUTF8Mailbox, which the CA's API doesn't have). */
static pfx_result to_certificate(const char *address, const char *from, char **ret_address,
                                 struct pfx_error *err)
{
    const char *at = strrchr(address, '@');
    if (!at || at == address || !at[1])
        return refuse(err, from, address, "isn't a mail address of the form name@domain");
    char *local PFX_AUTOFREE = pfx_strndup(address, (size_t)(at - address));
    char *domain PFX_AUTOFREE = NULL;
    if (!ascii(local))
        return refuse(err, from, address,
                      "has characters outside ASCII before the @, which certificates for these "
                      "products can't carry (it would take SmtpUTF8Mailbox, RFC 9598)");
    if (local[0] == '"')
        return refuse(err, from, address,
                      "has a quoted part before the @, which isn't sent to the CA: mail programs "
                      "compare such addresses differently");
    if (!local_ok(local, strlen(local)))
        return refuse(err, from, address,
                      strlen(local) > 64 ? "has more than 64 characters before the @"
                                         : "isn't a mail address: what stands before the @ is none "
                                           "that RFC 5321 allows without quotes");
    if (at[1] == '[')
        return refuse(err, from, address, "has an IP address in place of a domain");
    if (!domain_to_ascii(at + 1, &domain))
        return refuse(err, from, address,
                      "has a domain that isn't a valid international domain name (UTS #46)");
    if (!domain_ok(domain))
        return refuse(err, from, address,
                      "isn't a mail address: what stands behind the @ is no domain");
    char *whole PFX_AUTOFREE = pfx_asprintf("%s@%s", local, domain);
    if (strlen(whole) > 254)
        return refuse(err, from, address, "has more than 254 characters");
    *ret_address = PFX_TAKE(whole);
    return PFX_OK;
}

pfx_result pfx_address_add(struct pfx_strings *list, const char *address, const char *from,
                           struct pfx_error *err)
{
    char *whole PFX_AUTOFREE = NULL;
    if (pfx_address_technical(address))
        return PFX_OK;
    PFX_TRY(to_certificate(address, from, &whole, err));
    if (pfx_address_technical(whole) || listed(list, whole))
        return PFX_OK;
    if (list->n == PFX_MAX_ADDRESSES)
        return pfx_fail(err, PFX_CLASS_REFUSED, "addresses", from, "",
                        "the user has more than %d mail addresses, and none of them is left out by "
                        "itself. Next: remove those that aren't used any more in Entra ID or "
                        "Exchange (%s is over the limit, from %s).",
                        PFX_MAX_ADDRESSES, whole, from);
    pfx_strings_add(list, whole);
    return PFX_OK;
}

pfx_result pfx_addresses(const char *mail, const char *const *proxies, size_t n_proxies,
                         struct pfx_strings *ret_list, struct pfx_error *err)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    *ret_list = (struct pfx_strings){0};
    if (mail && *mail)
        PFX_TRY(pfx_address_add(&list, mail, "mail", err));
    for (size_t i = 0; i < n_proxies; i++) {
        const char *address = pfx_proxy_address(proxies[i]);
        if (address && *address)
            PFX_TRY(pfx_address_add(&list, address, "proxyAddresses", err));
    }
    if (list.n == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "addresses", "mail", "",
                        "the user has no mail address that a certificate could carry "
                        "(onmicrosoft.com doesn't count). Next: set mail or an SMTP proxy address "
                        "in Entra ID, or take the user out of the group.");
    *ret_list = list;
    list = (struct pfx_strings){0};
    return PFX_OK;
}

const char *pfx_next_step(const char *text)
{
    const char *mark = strstr(text, " Next: ");
    return mark ? mark + 7 : "";
}
