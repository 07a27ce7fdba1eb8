#include "agent/item.h"

#include <string.h>

#include "agent/address.h"
#include "crypto/encode.h"

#define TEXT_MAX 639

static char *fit(const char *value, size_t max)
{
    char *text = pfx_strndup(value ? value : "", value ? pfx_utf8_cut(value, max) : 0);
    pfx_utf8_mend(text); /* it may have been cut before */
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return text;
}

void pfx_item_str(struct pfx_msg *body, const char *name, const char *value, size_t max)
{
    char *text PFX_AUTOFREE = fit(value, max);
    if (*text)
        pfx_msg_set_str(body, name, text);
}

void pfx_item_add(struct pfx_msg *body, const char *name, const char *value, size_t max)
{
    char *text PFX_AUTOFREE = fit(value, max);
    if (*text)
        pfx_msg_add_str(body, name, text);
}

void pfx_item_int(struct pfx_msg *body, const char *name, int64_t value)
{
    if (value > 0)
        pfx_msg_set_int(body, name, value);
}

void pfx_item_trouble(struct pfx_msg *body, const char *what_name, const char *text)
{
    const char *next = pfx_next_step(text);
    size_t what = *next ? (size_t)(next - text) - strlen(" Next: ") : strlen(text);
    char *first PFX_AUTOFREE = pfx_strndup(text, what);
    pfx_item_str(body, what_name, first, TEXT_MAX);
    pfx_item_str(body, "next", next, TEXT_MAX);
}
