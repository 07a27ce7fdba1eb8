#include "agent/address.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

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

/* RFC 5322 dot-atom for the local part. */
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
        if (!s[n])
            return labels >= 2;
        s += n + 1;
    }
}

bool pfx_address_plausible(const char *address)
{
    const char *at = strrchr(address, '@');
    return ascii(address) && at && strlen(address) <= 254 &&
           local_ok(address, (size_t)(at - address)) && domain_ok(at + 1);
}

/* The tenant's own technical domain is nobody's mail address. */
static bool onmicrosoft(const char *address)
{
    static const char tail[] = "onmicrosoft.com";
    size_t n = strlen(address);
    if (n < sizeof(tail) || strcasecmp(address + n - (sizeof(tail) - 1), tail) != 0)
        return false;
    char before = address[n - sizeof(tail)];
    return before == '.' || before == '@';
}

static bool listed(const struct pfx_strings *list, const char *s)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcasecmp(list->v[i], s) == 0)
            return true;
    return false;
}

static pfx_result add(struct pfx_strings *list, const char *address, const char *from,
                      struct pfx_error *err)
{
    if (onmicrosoft(address) || listed(list, address))
        return PFX_OK;
    if (!ascii(address))
        return pfx_fail(err, PFX_CLASS_REFUSED, "addresses", from, "",
                        "the address \"%s\" has characters outside ASCII, which certificates for "
                        "these products can't carry. Next: give the user an ASCII address in Entra "
                        "ID and remove this one from %s.",
                        address, from);
    if (!pfx_address_plausible(address))
        return pfx_fail(err, PFX_CLASS_REFUSED, "addresses", from, "",
                        "\"%.300s\" in %s isn't a mail address. Next: correct or remove it in "
                        "Entra ID.",
                        address, from);
    if (list->n == PFX_MAX_ADDRESSES)
        return pfx_fail(err, PFX_CLASS_REFUSED, "addresses", from, "",
                        "the user has more than %d mail addresses. Next: remove those that aren't "
                        "used any more in Entra ID.",
                        PFX_MAX_ADDRESSES);
    pfx_strings_add(list, address);
    return PFX_OK;
}

pfx_result pfx_addresses(const char *mail, const char *const *proxies, size_t n_proxies,
                         struct pfx_strings *ret_list, struct pfx_error *err)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    *ret_list = (struct pfx_strings){0};
    if (mail && *mail)
        PFX_TRY(add(&list, mail, "mail", err));
    for (size_t i = 0; i < n_proxies; i++) {
        const char *address = pfx_proxy_address(proxies[i]);
        if (address && *address)
            PFX_TRY(add(&list, address, "proxyAddresses", err));
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
