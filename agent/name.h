/* Names in ASCII, for products that put a person's name into the certificate. A name isn't guessed:
 * what can't be written is refused by name, with what to do about it. */
#ifndef PFX_AGENT_NAME_H
#define PFX_AGENT_NAME_H

#include "crypto/result.h"

struct pfx_names;
/* chain: an ICU transliterator id, as names.transliteration. USAGE when ICU doesn't know it. */
PFX_MUST_USE pfx_result pfx_names_open(const char *chain, struct pfx_names **ret_names,
                                       struct pfx_error *err);
void pfx_names_close(struct pfx_names *names);
/* UTF-8 in, at most 64 printable ASCII characters out: letters, digits, space and ' - . , ( ) / &.
 * Runs of white space become one space; signs that only the transliteration puts in (the soft
 * sign's ') and invisible joiners are left out; words of a script without capitals get them.
 * REFUSED, naming the name and which of both it is, for: nothing in it, a character that belongs
 * into no name (symbols, emoji, control characters, bidi overrides), a script that doesn't say how
 * a name is read (unless the chain names its transform, as Han-Latin), something left outside of
 * ASCII, more than 64 characters. *ret_ascii: free it. */
PFX_MUST_USE pfx_result pfx_names_ascii(struct pfx_names *names, const char *which,
                                        const char *name, char **ret_ascii, struct pfx_error *err);
/* A text for a message: what can't be seen, or turns the text around, by its number. Free it. */
char *pfx_names_shown(const char *text);
/* Given name and surname for this product, which needs both: REFUSED where the directory has only
 * one of them (people with one name), for each reason above, and where both together are too long
 * for a common name (in_common_name). Free both. */
PFX_MUST_USE pfx_result pfx_names_person(struct pfx_names *names, const char *given,
                                         const char *surname, const char *product,
                                         bool in_common_name, char **ret_first, char **ret_last,
                                         struct pfx_error *err);

#endif
