#include "agent/name.h"

#include <string.h>
#include <unicode/ustring.h>
#include <unicode/utrans.h>

#include "crypto/mem.h"

#define NAME_MAX_UNITS 4096
#define ASCII_MAX 64 /* what the CA takes */

struct pfx_names {
    UTransliterator *trans;
    char *chain;
};

pfx_result pfx_names_open(const char *chain, struct pfx_names **ret_names, struct pfx_error *err)
{
    UChar id[512];
    UErrorCode status = U_ZERO_ERROR;
    UParseError where = {0};
    int32_t len = 0;
    u_strFromUTF8(id, 512, &len, chain, -1, &status);
    UTransliterator *trans =
        U_SUCCESS(status) ? utrans_openU(id, len, UTRANS_FORWARD, NULL, 0, &where, &status) : NULL;
    if (!trans || U_FAILURE(status))
        return pfx_fail(
            err, PFX_CLASS_USAGE, "names.transliteration", chain, u_errorName(status),
            "ICU doesn't know this transliteration; write ids of ICU joined by \";\", for "
            "example \"Any-Latin; de-ASCII; Latin-ASCII\"");
    struct pfx_names *names = pfx_alloc(sizeof(*names));
    names->trans = trans;
    names->chain = pfx_strdup(chain);
    *ret_names = names;
    return PFX_OK;
}

void pfx_names_close(struct pfx_names *names)
{
    if (!names)
        return;
    utrans_close(names->trans);
    free(names->chain);
    free(names);
}

static pfx_result refuse(struct pfx_error *err, const char *which, const char *name,
                         const char *why)
{
    return pfx_fail(
        err, PFX_CLASS_REFUSED, "name", which, "",
        "the %s \"%.200s\" %s. Next: write it in ASCII in Entra ID, change "
        "names.transliteration in agent.yaml, or use secure_email_mailbox, which needs no "
        "name.",
        which, name, why);
}

pfx_result pfx_names_ascii(struct pfx_names *names, const char *which, const char *name,
                           char **ret_ascii, struct pfx_error *err)
{
    UErrorCode status = U_ZERO_ERROR;
    UChar text[NAME_MAX_UNITS];
    int32_t len = 0;
    u_strFromUTF8(text, NAME_MAX_UNITS, &len, name, -1, &status);
    int32_t limit = len;
    if (U_SUCCESS(status))
        utrans_transUChars(names->trans, text, &len, NAME_MAX_UNITS, 0, &limit, &status);
    if (U_FAILURE(status))
        return refuse(err, which, name, "can't be transliterated");
    char out[ASCII_MAX + 1];
    size_t n = 0;
    bool space = false;
    for (int32_t i = 0; i < len; i++) {
        UChar c = text[i];
        if (c == ' ' || c == '\t' || c == 0xa0) {
            space = n > 0;
            continue;
        }
        if (c < 0x21 || c > 0x7e)
            return refuse(err, which, name, "isn't ASCII after transliteration");
        if (n + (space ? 2 : 1) > ASCII_MAX)
            return refuse(err, which, name, "is longer than 64 characters in ASCII");
        if (space)
            out[n++] = ' ';
        space = false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    if (n == 0)
        return refuse(err, which, name, "leaves nothing in ASCII");
    *ret_ascii = pfx_strdup(out);
    return PFX_OK;
}
