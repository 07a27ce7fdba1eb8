/*
 * Names in any script on their way into a certificate. The first line says by which chain (default,
 * han, latin); then the given name, a line feed, the surname.
 */
#include "agent/name.h"
#include "fuzz.h"

static struct pfx_names *opened(size_t which)
{
    static const char *const chains[] = {"Any-Latin; de-ASCII; Latin-ASCII",
                                         "Han-Latin; Any-Latin; de-ASCII; Latin-ASCII",
                                         "Latin-ASCII"};
    static struct pfx_names *names[3];
    struct pfx_error err = PFX_ERROR_NONE;
    if (!names[which])
        must(pfx_ok(pfx_names_open(chains[which], &names[which], &err)));
    return names[which];
}

/* What is written is short, plain, and written the same once more. */
static void must_be_plain(struct pfx_names *names, const char *ascii)
{
    PFX_AUTOFREE char *again = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    size_t len = strlen(ascii);
    must(len > 0 && len <= 64 && pfx_ascii_printable(ascii, len));
    must(ascii[0] != ' ' && ascii[len - 1] != ' ' && !strstr(ascii, "  "));
    must(!strpbrk(ascii, "\"\\<>=;+#*?@:!|`~^{}[]$%_"));
    must(pfx_ok(pfx_names_ascii(names, "surname", ascii, &again, &err)));
    must(strcmp(again, ascii) == 0);
}

static void try_one(struct pfx_names *names, const char *name)
{
    PFX_AUTOFREE char *ascii = NULL;
    PFX_AUTOFREE char *shown = pfx_names_shown(name);
    struct pfx_error err = PFX_ERROR_NONE;
    must(pfx_utf8_valid(shown, strlen(shown)));
    for (const char *c = shown; *c; c++)
        must((unsigned char)*c >= 0x20 && *c != 0x7F);
    if (pfx_ok(pfx_names_ascii(names, "surname", name, &ascii, &err))) {
        must_be_plain(names, ascii);
        return;
    }
    must(err.cls == PFX_CLASS_REFUSED && !ascii);
    must_say(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes word = take_until(&rest, '\n');
    size_t which = is_word(word, "han") ? 1 : is_word(word, "latin") ? 2 : 0;
    struct pfx_names *names = opened(which);
    PFX_AUTOFREE char *given = text_of(take_until(&rest, '\n'));
    PFX_AUTOFREE char *surname = text_of(rest);
    try_one(names, given);
    PFX_AUTOFREE char *first = NULL;
    PFX_AUTOFREE char *last = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_names_person(names, given, surname, "p", size % 2, &first, &last, &err)))
        must(first && last && strlen(first) <= 64 && strlen(last) <= 64);
    else
        must_say(&err);
    return 0;
}
