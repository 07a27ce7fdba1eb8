/* The roster of those who may approve. */
#include "crypto/roster.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "crypto/encode.h"
#include "crypto/lines.h"

#define NAMESPACES_MOST 1024 /* bytes: with it a line still has room in a record */

void pfx_roster_done(struct pfx_roster *roster)
{
    for (size_t i = 0; i < roster->n; i++) {
        free(roster->lines[i].key);
        free(roster->lines[i].namespaces);
    }
    free(roster->lines);
    *roster = (struct pfx_roster){NULL, 0};
}

static pfx_result bad(struct pfx_error *err, unsigned line, const char *fmt, ...) PFX_PRINTF(3, 4);
static pfx_result bad(struct pfx_error *err, unsigned line, const char *fmt, ...)
{
    char text[480], object[32];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(object, sizeof object, "line %u", line);
    return pfx_fail(err, PFX_CLASS_REFUSED, "read roster", object, "", "%s", text);
}

/* The next word, up to a space or tab outside of double quotes. */
static struct pfx_bytes take_word(struct pfx_bytes *rest)
{
    bool quoted = false;
    size_t len = 0;
    while (rest->len > 0 && (*rest->data == ' ' || *rest->data == '\t')) {
        rest->data++;
        rest->len--;
    }
    for (; len < rest->len; len++) {
        uint8_t c = rest->data[len];
        if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == ' ' || c == '\t'))
            break;
    }
    struct pfx_bytes word = {rest->data, len};
    rest->data += len;
    rest->len -= len;
    return word;
}

static bool is_key_type(struct pfx_bytes word)
{
    for (int i = 0; i < PFX_SSH_TYPE_COUNT; i++)
        if (pfx_bytes_equal(word, pfx_ssh_type_name((enum pfx_ssh_type)i)))
            return true;
    return false;
}

/* --- options --- */

static bool digits(const uint8_t *at, size_t n, int *ret)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        value = value * 10 + (at[i] - '0');
    }
    *ret = value;
    return true;
}

/* YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, and Z: without it each reader would take the time for
 * his own time zone's. */
static bool take_time(struct pfx_bytes text, int64_t *ret_ms)
{
    int part[6] = {0};
    char iso[PFX_TIME_SIZE * 2];
    if (text.len < 9 || text.data[text.len - 1] != 'Z')
        return false;
    size_t len = text.len - 1;
    if ((len != 8 && len != 12 && len != 14) || !digits(text.data, 4, &part[0]))
        return false;
    for (size_t i = 1; 2 + 2 * i < len; i++)
        if (!digits(text.data + 2 + 2 * i, 2, &part[i]))
            return false;
    snprintf(iso, sizeof iso, "%04d-%02d-%02dT%02d:%02d:%02dZ", part[0], part[1], part[2], part[3],
             part[4], part[5]);
    return pfx_time_parse(iso, ret_ms) && *ret_ms > 0;
}

/* The value of "name=", whose quotes are taken off; ssh-keygen wants them, too. */
static bool is_option(struct pfx_bytes option, const char *name, struct pfx_bytes *ret_value)
{
    if (option.len < strlen(name) || strncasecmp((const char *)option.data, name, strlen(name)) != 0)
        return false;
    struct pfx_bytes value = {option.data + strlen(name), option.len - strlen(name)};
    if (value.len < 2 || value.data[0] != '"' || value.data[value.len - 1] != '"')
        return false;
    *ret_value = (struct pfx_bytes){value.data + 1, value.len - 2};
    return true;
}

static pfx_result option(struct pfx_bytes text, struct pfx_roster_line *line, struct pfx_error *err)
{
    struct pfx_bytes value;
    if (text.len == strlen("cert-authority") &&
        strncasecmp((const char *)text.data, "cert-authority", text.len) == 0)
        return bad(err, line->line,
                   "cert-authority isn't taken: who may approve has to stand in the roster, not be "
                   "named by a CA. Put each person's own key there.");
    /* ASCII alone: a record of an approval has the line in it, and is JSON. */
    if (is_option(text, "namespaces=", &value) && value.len > 0 && value.len <= NAMESPACES_MOST &&
        !line->namespaces && !memchr(value.data, '"', value.len) &&
        pfx_ascii_printable((const char *)value.data, value.len)) {
        line->namespaces = pfx_strndup((const char *)value.data, value.len);
        return PFX_OK;
    }
    if (is_option(text, "valid-after=", &value) && line->after_ms == 0 &&
        take_time(value, &line->after_ms))
        return PFX_OK;
    if (is_option(text, "valid-before=", &value) && line->before_ms == 0 &&
        take_time(value, &line->before_ms))
        return PFX_OK;
    return bad(err, line->line,
               "An option that isn't taken: expected namespaces=\"LIST\" (at most %d characters of "
               "ASCII), valid-after=\"TIME\" or valid-before=\"TIME\", with their quotes and each "
               "at most once; a time is YYYYMMDD[HHMM[SS]]Z, in UTC and with the Z.",
               NAMESPACES_MOST);
}

static pfx_result options(struct pfx_bytes text, struct pfx_roster_line *line,
                          struct pfx_error *err)
{
    for (;;) {
        bool quoted = false;
        size_t len = 0;
        for (; len < text.len && (quoted || text.data[len] != ','); len++)
            quoted ^= text.data[len] == '"';
        PFX_TRY(option((struct pfx_bytes){text.data, len}, line, err));
        if (len == text.len)
            return PFX_OK;
        text = (struct pfx_bytes){text.data + len + 1, text.len - len - 1};
    }
}

/* --- lines --- */

static pfx_result principal(struct pfx_bytes word, struct pfx_roster_line *line,
                            struct pfx_error *err)
{
    bool plain = word.len < PFX_PRINCIPAL_SIZE && word.len > 0;
    for (size_t i = 0; plain && i < word.len; i++)
        plain = word.data[i] > ' ' && word.data[i] < 0x7F && !strchr("\",*?!", word.data[i]);
    if (!plain)
        return bad(err, line->line,
                   "Its first word must name one person: at most %d characters of ASCII, without a "
                   "list, a pattern or quotes.",
                   PFX_PRINCIPAL_SIZE - 1);
    memcpy(line->principal, word.data, word.len);
    line->principal[word.len] = '\0';
    return PFX_OK;
}

static pfx_result read_line(struct pfx_bytes text, struct pfx_roster_line *line,
                            struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(PFX_SSH_KEY_MAX);
    PFX_CLEANUP(pfx_ssh_key_done) struct pfx_ssh_key key = {.type = PFX_SSH_TYPE_COUNT};
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_TRY(principal(take_word(&text), line, err));
    struct pfx_bytes type = take_word(&text);
    if (!is_key_type(type)) {
        PFX_TRY(options(type, line, err));
        type = take_word(&text);
    }
    struct pfx_bytes base64 = take_word(&text);
    if (!pfx_base64_decode((const char *)base64.data, base64.len, &blob))
        return bad(err, line->line, "The key behind its type isn't Base64, or too long.");
    if (pfx_failed(pfx_ssh_key_parse(pfx_buf_bytes(&blob), &key, &why)))
        return bad(err, line->line, "%.400s", why.text);
    if (!pfx_bytes_equal(type, pfx_ssh_type_name(key.type)))
        return bad(err, line->line, "The key isn't of the type that stands before it.");
    line->type = key.type;
    line->key = pfx_memdup(blob.data, blob.len);
    line->key_len = blob.len;
    return PFX_OK;
}

static pfx_result compare(const struct pfx_roster *roster, const struct pfx_roster_line *line,
                          struct pfx_error *err)
{
    for (size_t i = 0; i < roster->n; i++) {
        const struct pfx_roster_line *other = &roster->lines[i];
        if (other == line)
            continue;
        if (other->key_len == line->key_len && memcmp(other->key, line->key, line->key_len) == 0)
            return bad(err, line->line, "Its key stands on line %u already.", other->line);
        if (strcasecmp(other->principal, line->principal) == 0 &&
            strcmp(other->principal, line->principal) != 0)
            return bad(err, line->line,
                       "%s differs from %s on line %u in case alone: is it the same person?",
                       line->principal, other->principal, other->line);
    }
    return PFX_OK;
}

pfx_result pfx_roster_parse(struct pfx_bytes text, struct pfx_roster *ret, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
    if (text.len > PFX_ROSTER_MAX || (text.len > 0 && memchr(text.data, '\0', text.len)))
        return bad(err, 1, "The file is longer than %d bytes, or isn't text.", PFX_ROSTER_MAX);
    for (unsigned n = 1; text.len > 0; n++) {
        const uint8_t *lf = memchr(text.data, '\n', text.len);
        size_t len = lf ? (size_t)(lf - text.data) : text.len;
        struct pfx_bytes line = {text.data, len};
        text.data += lf ? len + 1 : len;
        text.len -= lf ? len + 1 : len;
        while (line.len > 0 && strchr(" \t\r", line.data[line.len - 1]))
            line.len--;
        if (line.len == 0 || line.data[0] == '#')
            continue;
        if (roster.n == PFX_ROSTER_LINES)
            return bad(err, n, "There are more than %d keys.", PFX_ROSTER_LINES);
        roster.lines = pfx_grow(roster.lines, roster.n + 1, sizeof *roster.lines);
        struct pfx_roster_line *at = &roster.lines[roster.n++];
        *at = (struct pfx_roster_line){.line = n};
        PFX_TRY(read_line(line, at, err));
        PFX_TRY(compare(&roster, at, err));
    }
    *ret = roster;
    roster = (struct pfx_roster){NULL, 0};
    return PFX_OK;
}

const struct pfx_roster_line *pfx_roster_find(const struct pfx_roster *roster,
                                              struct pfx_bytes key)
{
    for (size_t i = 0; i < roster->n; i++)
        if (roster->lines[i].key_len == key.len &&
            memcmp(roster->lines[i].key, key.data, key.len) == 0)
            return &roster->lines[i];
    return NULL;
}

bool pfx_roster_names(const struct pfx_roster *roster, const char *name)
{
    for (size_t i = 0; i < roster->n; i++)
        if (strcmp(roster->lines[i].principal, name) == 0)
            return true;
    return false;
}

size_t pfx_roster_people(const struct pfx_roster *roster)
{
    size_t n = 0;
    for (size_t i = 0; i < roster->n; i++) {
        size_t j = 0;
        while (strcmp(roster->lines[j].principal, roster->lines[i].principal) != 0)
            j++;
        n += j == i;
    }
    return n;
}

/* --- may it? --- */

/* OpenSSH's patterns: '*' and '?'. Goes back to the last '*' only, so a hostile one costs no more
 * than the product of the lengths. */
static bool matches(const char *text, const char *pattern, size_t len)
{
    const char *again = NULL;
    size_t at = 0, star = SIZE_MAX;
    while (*text) {
        if (at < len && pattern[at] == '*') {
            star = at++;
            again = text;
        } else if (at < len && (pattern[at] == '?' || pattern[at] == *text)) {
            at++;
            text++;
        } else if (star != SIZE_MAX) {
            at = star + 1;
            text = ++again;
        } else {
            return false;
        }
    }
    while (at < len && pattern[at] == '*')
        at++;
    return at == len;
}

/* A pattern with '!' in front that matches takes the whole list's yes away. */
static bool in_list(const char *text, const char *list)
{
    bool yes = false;
    for (;;) {
        bool no = *list == '!';
        const char *pattern = list + no;
        size_t len = strcspn(pattern, ",");
        if (matches(text, pattern, len)) {
            if (no)
                return false;
            yes = true;
        }
        if (pattern[len] == '\0')
            return yes;
        list = pattern + len + 1;
    }
}

pfx_result pfx_roster_allows(const struct pfx_roster_line *line, const char *namespace,
                             int64_t at_ms, struct pfx_error *err)
{
    char when[PFX_TIME_SIZE];
    if (line->namespaces && !in_list(namespace, line->namespaces))
        return pfx_fail(err, PFX_CLASS_REFUSED, "look into roster", line->principal, "namespace",
                        "This key may not sign in the namespace %s (line %u of the roster).",
                        namespace, line->line);
    if (line->after_ms > 0 && at_ms < line->after_ms)
        return pfx_fail(err, PFX_CLASS_REFUSED, "look into roster", line->principal, "not yet",
                        "This key is good from %s on only (line %u of the roster).",
                        pfx_time_format(line->after_ms, false, when), line->line);
    if (line->before_ms > 0 && at_ms > line->before_ms)
        return pfx_fail(err, PFX_CLASS_REFUSED, "look into roster", line->principal, "no longer",
                        "This key was good until %s only (line %u of the roster).",
                        pfx_time_format(line->before_ms, false, when), line->line);
    return PFX_OK;
}
