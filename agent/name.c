#include "agent/name.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/ustring.h>
#include <unicode/utrans.h>

#include "crypto/encode.h"
#include "crypto/mem.h"

#define NAME_MAX_UNITS 4096
/* What the CA takes; a common name holds no more either (RFC 5280, ub-common-name). */
#define ASCII_MAX 64
#define SHOWN_MAX 160

struct pfx_names {
    UTransliterator *trans;
    char *chain;
};

/* UTF-16 that is worked on. */
struct text {
    UChar v[NAME_MAX_UNITS];
    int32_t n;
};

/* What one name is refused with, and for what. */
struct asked {
    const char *which, *name;
    struct pfx_error *err;
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

static UChar32 next_character(const UChar *v, int32_t n, int32_t *at)
{
    UChar c = v[(*at)++];
    if ((c & 0xfc00) != 0xd800 || *at == n || (v[*at] & 0xfc00) != 0xdc00)
        return c;
    return 0x10000 + ((c & 0x3ff) << 10) + (v[(*at)++] & 0x3ff);
}

static void put(struct text *t, UChar32 c)
{
    if (t->n + 2 > NAME_MAX_UNITS)
        return; /* a name has at most 1,024 bytes */
    if (c > 0xffff)
        t->v[t->n++] = (UChar)(0xd7c0 + (c >> 10));
    t->v[t->n++] = (UChar)(c > 0xffff ? 0xdc00 + (c & 0x3ff) : c);
}

/* "" where it has no UTF-8. */
static const char *utf8(UChar32 c, char buf[8])
{
    struct text one = {.n = 0};
    UErrorCode status = U_ZERO_ERROR;
    put(&one, c);
    u_strToUTF8(buf, 8, NULL, one.v, one.n, &status);
    if (U_FAILURE(status))
        buf[0] = '\0';
    return buf;
}

char *pfx_names_shown(const char *name)
{
    struct pfx_buf out = pfx_buf_make(SHOWN_MAX + 16);
    UErrorCode status = U_ZERO_ERROR;
    struct text t = {.n = 0};
    u_strFromUTF8WithSub(t.v, NAME_MAX_UNITS, &t.n, name, -1, 0xfffd, NULL, &status);
    if (U_FAILURE(status))
        t.n = 0;
    int32_t at = 0;
    while (at < t.n && out.len < SHOWN_MAX) {
        char buf[8];
        UChar32 c = next_character(t.v, t.n, &at);
        if (c != ' ' && (U_MASK(u_charType(c)) & (U_GC_C_MASK | U_GC_Z_MASK)))
            pfx_buf_addf(&out, "\\u{%X}", (unsigned)c);
        else
            pfx_buf_add_str(&out, utf8(c, buf));
    }
    char *text = pfx_asprintf("%s%s", pfx_buf_str(&out), at < t.n ? "..." : "");
    pfx_buf_done(&out);
    return text;
}

#define NEXT_ASCII                                                                                 \
    " Next: write it in ASCII letters in Entra ID, or use a product without a person's name "      \
    "(secure_email_mailbox)."
#define NEXT_SHORTEN                                                                               \
    " Next: shorten it in Entra ID, or use a product without a person's name "                     \
    "(secure_email_mailbox)."
#define NEXT_CHAIN                                                                                 \
    " Next: write it in ASCII letters in Entra ID, choose another names.transliteration in "       \
    "agent.yaml, or use a product without a person's name (secure_email_mailbox)."

static pfx_result PFX_PRINTF(3, 4)
    refuse(const struct asked *asked, const char *next, const char *fmt, ...)
{
    char why[240];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    char *name PFX_AUTOFREE = pfx_names_shown(asked->name);
    return pfx_fail(asked->err, PFX_CLASS_REFUSED, "name", asked->which, "", "the %s \"%s\" %s.%s",
                    asked->which, name, why, next);
}

/* "U+1F642" or "ʿ (U+02BF)": the character itself only where it can be seen. */
static const char *character(UChar32 c, char buf[24])
{
    char text[8];
    if (U_MASK(u_charType(c)) & (U_GC_C_MASK | U_GC_M_MASK | U_GC_Z_MASK))
        snprintf(buf, 24, "U+%04X", (unsigned)c);
    else
        snprintf(buf, 24, "%s (U+%04X)", utf8(c, text), (unsigned)c);
    return buf;
}

/* Scripts that don't say how a name is read: vowels aren't written, or the reading depends on the
 * language. What ICU makes of them is no name (mhmd, smchay; shan tian for Yamada), and stands in a
 * paid certificate then. Whoever names the transform in the configuration has decided. */
static const struct {
    UScriptCode script;
    const char *what, *transforms[3];
} unread[] = {
    {USCRIPT_HAN, "Chinese characters, whose reading depends on the language", {"Han-Latin"}},
    {USCRIPT_ARABIC, "Arabic letters, which leave vowels out",
     {"Arabic-Latin", "Persian-Latin", "Pashto-Latin"}},
    {USCRIPT_HEBREW, "Hebrew letters, which leave vowels out", {"Hebrew-Latin"}},
    {USCRIPT_SYRIAC, "Syriac letters, which leave vowels out", {"Syriac-Latin"}},
    {USCRIPT_THAI, "Thai letters, which leave vowels out", {"Thai-Latin"}},
};

static pfx_result check_script(const struct pfx_names *names, const struct asked *asked, UChar32 c)
{
    UErrorCode status = U_ZERO_ERROR;
    UScriptCode script = uscript_getScript(c, &status);
    char buf[24];
    if (c == 0xd4a || c == 0xd4b) /* ICU 72 makes menean of menon */
        return refuse(asked, NEXT_ASCII, "has the Malayalam vowel %s, which ICU reads wrongly",
                      character(c, buf));
    for (size_t i = 0; i < sizeof(unread) / sizeof(unread[0]); i++) {
        if (script != unread[i].script || !(U_MASK(u_charType(c)) & U_GC_L_MASK))
            continue;
        for (size_t k = 0; k < 3 && unread[i].transforms[k]; k++)
            if (strstr(names->chain, unread[i].transforms[k]))
                return PFX_OK;
        char next[320];
        snprintf(next, sizeof(next),
                 " Next: write it in ASCII letters in Entra ID, use a product without a person's "
                 "name (secure_email_mailbox), or, where a machine's reading is good enough, put "
                 "%s in front in names.transliteration.",
                 unread[i].transforms[0]);
        return refuse(asked, next, "has %s, so it would be guessed", unread[i].what);
    }
    return PFX_OK;
}

static bool apostrophe(UChar32 c)
{
    return c == '\'' || c == 0x2019 || c == 0x2018 || c == 0x02bc || c == 0x02bb || c == '`' ||
           c == 0xb4 || c == 0x2032 || c == 0xff07 || c == 0x55a || c == 0x5f3;
}

/* Invisible and without a meaning for the letters: joiners, direction marks, soft hyphen. */
static bool ignorable(UChar32 c)
{
    return c == 0xad || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x202a && c <= 0x202c) || c == 0x2060 || (c >= 0x2066 && c <= 0x2069) ||
           c == 0xfeff;
}

static bool latin_l(UChar32 c)
{
    return c == 'l' || c == 'L';
}

/* One character of the directory's name, as it goes into the transliteration. */
static pfx_result take(const struct pfx_names *names, const struct asked *asked, UChar32 c,
                       UChar32 next, struct text *ret_text)
{
    char buf[24];
    uint32_t type = U_MASK(u_charType(c));
    if (ignorable(c))
        return PFX_OK;
    if (apostrophe(c))
        put(ret_text, '\'');
    else if (type & U_GC_PD_MASK)
        put(ret_text, '-');
    else if (type & U_GC_ZS_MASK || c == '\t' || c == 0x1361 || c == 0x30fb || c == 0xff65)
        put(ret_text, ' ');
    else if (c == 0xb7 || c == 0x2027) { /* Catalan l.l; elsewhere it parts words */
        bool l = ret_text->n > 0 && latin_l(ret_text->v[ret_text->n - 1]) && latin_l(next);
        if (!l)
            put(ret_text, ' ');
    } else if (c < 0x80 && c > 0 && strchr(".,()/&", (int)c)) {
        put(ret_text, c);
    } else if (c == 0x202d || c == 0x202e) {
        return refuse(asked, NEXT_ASCII,
                      "has U+%04X, which turns the text around: people would read another name",
                      (unsigned)c);
    } else if (type & (U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK)) {
        PFX_TRY(check_script(names, asked, c));
        put(ret_text, c);
    } else if (type & U_GC_CC_MASK) {
        return refuse(asked, NEXT_ASCII, "has the control character U+%04X", (unsigned)c);
    } else {
        return refuse(asked, NEXT_ASCII, "has %s, which belongs into no name", character(c, buf));
    }
    return PFX_OK;
}

static pfx_result read_name(const struct pfx_names *names, const struct asked *asked,
                            struct text *ret_text)
{
    UErrorCode status = U_ZERO_ERROR;
    struct text raw = {.n = 0}, clean = {.n = 0};
    u_strFromUTF8(raw.v, NAME_MAX_UNITS, &raw.n, asked->name, -1, &status);
    if (U_FAILURE(status))
        return refuse(asked, NEXT_ASCII, "isn't UTF-8, or far too long");
    for (int32_t at = 0; at < raw.n;) {
        UChar32 c = next_character(raw.v, raw.n, &at);
        PFX_TRY(take(names, asked, c, at < raw.n ? raw.v[at] : 0, &clean));
    }
    /* Both forms of the same name, composed or not, come out alike; wide letters as plain ones. */
    const UNormalizer2 *nfkc = unorm2_getNFKCInstance(&status);
    ret_text->n = unorm2_normalize(nfkc, clean.v, clean.n, ret_text->v, NAME_MAX_UNITS, &status);
    return U_SUCCESS(status) ? PFX_OK : refuse(asked, NEXT_SHORTEN, "is far too long");
}

/* Latin-ASCII writes THordur and AEdvarsson: only for these letters it doesn't look at the next. */
static const struct {
    UChar c, first, second;
} pairs[] = {{0xde, 'T', 'h'}, {0xc6, 'A', 'e'}, {0x152, 'O', 'e'}};

static void split_pairs(const UChar *v, int32_t n, struct text *ret_text)
{
    ret_text->n = 0;
    for (int32_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < 3 && pairs[k].c != v[i])
            k++;
        if (k < 3 && i + 1 < n && u_islower(v[i + 1])) {
            put(ret_text, pairs[k].first);
            put(ret_text, pairs[k].second);
        } else if (ret_text->n < NAME_MAX_UNITS) {
            ret_text->v[ret_text->n++] = v[i];
        }
    }
}

static bool contains(const UChar *v, int32_t n, bool (*is)(UChar32 c))
{
    for (int32_t at = 0; at < n;) {
        if (is(next_character(v, n, &at)))
            return true;
    }
    return false;
}

static bool capital(UChar32 c)
{
    return u_isupper(c) || u_istitle(c);
}

/* A letter that has no capital. Georgian letters have one, for whole lines only. */
static bool without_case(UChar32 c)
{
    UErrorCode status = U_ZERO_ERROR;
    return u_isalpha(c) && u_totitle(c) == c && !capital(c) &&
           uscript_getScript(c, &status) != USCRIPT_LATIN;
}

static bool digit(UChar32 c)
{
    return u_isdigit(c);
}

/* What is collected in ASCII. */
struct line {
    char v[ASCII_MAX + 1];
    size_t n;
    bool space;
};

static bool add(struct line *line, char c)
{
    if (c == ' ') {
        line->space = line->n > 0;
        return true;
    }
    if (line->n + (line->space ? 2 : 1) > ASCII_MAX)
        return false;
    if (line->space)
        line->v[line->n++] = ' ';
    line->space = false;
    line->v[line->n++] = c;
    return true;
}

/* One stretch between two apostrophes. */
static pfx_result add_part(struct pfx_names *names, const struct asked *asked, const UChar *v,
                           int32_t n, struct line *line)
{
    UErrorCode status = U_ZERO_ERROR;
    struct text t;
    char buf[24];
    split_pairs(v, n, &t);
    bool digits = contains(t.v, t.n, digit);
    int32_t limit = t.n;
    utrans_transUChars(names->trans, t.v, &t.n, NAME_MAX_UNITS, 0, &limit, &status);
    if (U_FAILURE(status))
        return refuse(asked, NEXT_CHAIN, "can't be transliterated");
    for (int32_t at = 0; at < t.n;) {
        UChar32 c = next_character(t.v, t.n, &at);
        if (c == '\'')
            continue; /* a soft sign, an aspiration: no letter, and people don't write it */
        if (c > 0x7e || c < ' ')
            return refuse(asked, NEXT_CHAIN, "has no ASCII form: %s is left of it",
                          character(c, buf));
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!letter && !(digit(c) && digits) && !strchr(" -.,()/&", (int)c))
            return refuse(asked, NEXT_CHAIN,
                          "has a sign that the transliteration writes as %s, as in no name",
                          character(c, buf));
        if (!add(line, (char)c))
            return refuse(asked, NEXT_SHORTEN, "is longer than %d characters in ASCII", ASCII_MAX);
    }
    return PFX_OK;
}

static void capitalize(struct line *line)
{
    bool start = true;
    for (size_t i = 0; i < line->n; i++) {
        char *c = &line->v[i];
        if (start && *c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
        start = strchr(" -(/", *c) != NULL;
    }
}

pfx_result pfx_names_ascii(struct pfx_names *names, const char *which, const char *name,
                           char **ret_ascii, struct pfx_error *err)
{
    struct asked asked = {which, name, err};
    struct text t;
    struct line line = {.n = 0};
    PFX_TRY(read_name(names, &asked, &t));
    for (int32_t from = 0, at = 0; at <= t.n; at++) {
        if (at < t.n && t.v[at] != '\'')
            continue;
        PFX_TRY(add_part(names, &asked, t.v + from, at - from, &line));
        if (at < t.n && !add(&line, '\''))
            return refuse(&asked, NEXT_SHORTEN, "is longer than %d characters in ASCII", ASCII_MAX);
        from = at + 1;
    }
    bool letters = false;
    for (size_t i = 0; i < line.n; i++)
        letters = letters || u_isalnum((unsigned char)line.v[i]);
    if (!letters)
        return refuse(&asked, NEXT_CHAIN, "leaves no letter in ASCII");
    if (contains(t.v, t.n, without_case) && !contains(t.v, t.n, capital))
        capitalize(&line);
    line.v[line.n] = '\0';
    *ret_ascii = pfx_strdup(line.v);
    return PFX_OK;
}

static bool blank(const char *s)
{
    return !s || s[strspn(s, " \t")] == '\0';
}

pfx_result pfx_names_person(struct pfx_names *names, const char *given, const char *surname,
                            const char *product, bool in_common_name, char **ret_first,
                            char **ret_last, struct pfx_error *err)
{
    if (blank(given) || blank(surname))
        return pfx_fail(
            err, PFX_CLASS_REFUSED, "name", blank(given) ? "given name" : "surname", "",
            "the user has no %s, and %s needs given name and surname. Next: set it in Entra ID (of "
            "people with one name, as their passport writes it), or use secure_email_mailbox for a "
            "group of its own.",
            blank(given) ? (blank(surname) ? "given name and no surname" : "given name")
                         : "surname",
            product);
    char *first PFX_AUTOFREE = NULL, *last PFX_AUTOFREE = NULL;
    PFX_TRY(pfx_names_ascii(names, "given name", given, &first, err));
    PFX_TRY(pfx_names_ascii(names, "surname", surname, &last, err));
    if (in_common_name && strlen(first) + 1 + strlen(last) > ASCII_MAX)
        return pfx_fail(err, PFX_CLASS_REFUSED, "name", "common name", "",
                        "\"%s %s\" has more than the %d characters of a common name. Next: shorten "
                        "one of both in Entra ID, or set common_name: email_address for this rule.",
                        first, last, ASCII_MAX);
    *ret_first = PFX_TAKE(first);
    *ret_last = PFX_TAKE(last);
    return PFX_OK;
}
