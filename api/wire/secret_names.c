#include "api/wire/secret_names.h"

#include <string.h>

#include "crypto/encode.h"

const struct pfx_secret_name pfx_secret_names[] = {
    {"digicert", "the API key for CertCentral", 8, false, true},
    {"proxy", "the password of proxy.user in uploader.yaml", 1, true, false},
    {"cmp", "the secret shared with a CA that speaks CMP", 6, true, true},
    {NULL, NULL, 0, false, false},
};

const struct pfx_secret_name *pfx_secret_find(const char *name)
{
    for (const struct pfx_secret_name *row = pfx_secret_names; row->name; row++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

pfx_result pfx_secret_unknown(struct pfx_error *err)
{
    struct pfx_buf list PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(400);
    for (const struct pfx_secret_name *row = pfx_secret_names; row->name; row++)
        (void)pfx_buf_addf(&list, "%s%s (%s)", row == pfx_secret_names ? "" : ", ", row->name,
                           row->what);
    return pfx_fail(err, PFX_CLASS_USAGE, "find secret", "name", "",
                    "There is no service secret of this name. There are: %s.", pfx_buf_str(&list));
}

pfx_result pfx_secret_fits(const struct pfx_secret_name *name, struct pfx_bytes value,
                           struct pfx_error *err)
{
    const char *text = (const char *)value.data;
    if (value.len >= name->min && value.len <= PFX_SECRET_MAX &&
        pfx_ascii_printable(text, value.len) &&
        (name->spaces || value.len == 0 || !memchr(text, ' ', value.len)))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_USAGE, "set secret", name->name, "",
                    "It must be %zu to %d printable ASCII characters%s: was more than the value "
                    "pasted?", name->min, PFX_SECRET_MAX, name->spaces ? "" : " without spaces");
}
