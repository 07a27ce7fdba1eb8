/* A policy's text, line by line. */
#include "agent/audit/policy.h"

#include <string.h>

#include "crypto/lines.h"

#define NEEDED_DEFAULT 2

enum section { OTHER, CONNECTORS, APPROVALS };
struct reader {
    struct pfx_policy_facts *facts;
    enum section section;
    size_t inner; /* indent of the section's own lines; 0: none was seen */
    bool seen[3], began;
};
struct line {
    size_t indent;               /* of the key, or of what stands there without one */
    bool dash;                   /* an item of a list begins */
    struct pfx_bytes key, value; /* key: empty, there is none */
};

static struct pfx_bytes cut(struct pfx_bytes text, size_t from)
{
    return (struct pfx_bytes){text.data + from, text.len - from};
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\r'; /* CR: of a CR LF */
}

static struct pfx_bytes trim(struct pfx_bytes text)
{
    while (text.len > 0 && is_space(text.data[0]))
        text = cut(text, 1);
    while (text.len > 0 && is_space(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Without the comment: '#' at the beginning or behind a space, but not between quotes. */
static struct pfx_bytes without_comment(struct pfx_bytes text)
{
    uint8_t quote = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool apart = i == 0 || is_space(text.data[i - 1]);
        if (quote)
            quote = c == quote ? 0 : quote;
        else if (apart && (c == '"' || c == '\''))
            quote = c;
        else if (c == '#' && apart)
            text.len = i;
    }
    return trim(text);
}

/* A value that goes on in the next line would hide what stands there. */
static bool closed(struct pfx_bytes value)
{
    static const char opening[] = "[{", closing[] = "]}";
    if (value.len == 0)
        return true;
    uint8_t first = value.data[0], last = value.data[value.len - 1];
    size_t quotes[2] = {0, 0};
    for (size_t i = 0; i < value.len; i++) {
        quotes[0] += value.data[i] == '"';
        quotes[1] += value.data[i] == '\'';
    }
    const char *flow = memchr(opening, first, 2);
    if (flow)
        return last == (uint8_t)closing[flow - opening] && value.len > 1 && quotes[0] % 2 == 0 &&
               quotes[1] % 2 == 0;
    if (first == '"' || first == '\'')
        return last == first && value.len > 1 && !memchr(value.data, '\\', value.len) &&
               quotes[first == '\''] == 2;
    return !memchr("&*!?%@`", first, 7);
}

static bool key_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* For YAML a line ends at CR, U+0085, U+2028 and U+2029, too. */
static bool one_line(struct pfx_bytes text)
{
    static const char *const ends[] = {"\r", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"};
    if (text.len > 0 && text.data[text.len - 1] == '\r')
        text.len--;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (text.len > 0 && memmem(text.data, text.len, ends[i], strlen(ends[i])))
            return false;
    return true;
}

/* False: not of the plain form. *ret_empty: nothing stands there. */
static bool split(struct pfx_bytes text, struct line *ret, bool *ret_empty)
{
    size_t at = 0;
    *ret = (struct line){.indent = 0};
    if (!one_line(text))
        return false;
    while (at < text.len && text.data[at] == ' ')
        at++;
    *ret_empty = at == text.len || text.data[at] == '#' || trim(text).len == 0;
    if (*ret_empty)
        return true;
    if (memchr(text.data, '\t', text.len))
        return false;
    if (text.data[at] == '-' && at + 1 < text.len && text.data[at + 1] == ' ') {
        ret->dash = true;
        for (at++; at < text.len && text.data[at] == ' ';)
            at++;
    }
    ret->indent = at;
    size_t end = at;
    while (end < text.len && key_char(text.data[end]))
        end++;
    bool has_key = end > at && end < text.len && text.data[end] == ':' &&
                   (end + 1 == text.len || is_space(text.data[end + 1]));
    if (has_key)
        ret->key = (struct pfx_bytes){text.data + at, end - at};
    ret->value = without_comment(cut(text, has_key ? end + 1 : at));
    return closed(ret->value);
}

/* The text of a value that stands in its line, with or without quotes. */
static bool scalar(struct pfx_bytes value, char *ret, size_t size)
{
    if (value.len > 1 && (value.data[0] == '"' || value.data[0] == '\''))
        value = (struct pfx_bytes){value.data + 1, value.len - 2};
    if (value.len == 0 || value.len >= size || memchr("|>[{", value.data[0], 4) ||
        !pfx_ascii_printable((const char *)value.data, value.len))
        return false;
    memcpy(ret, value.data, value.len);
    ret[value.len] = '\0';
    return true;
}

static bool top(struct reader *reader, const struct line *line)
{
    static const char *const names[] = {[CONNECTORS] = "connectors", [APPROVALS] = "approvals"};
    reader->section = OTHER;
    reader->inner = 0;
    if (line->key.len == 0)
        return false;
    for (size_t i = CONNECTORS; i <= APPROVALS; i++) {
        if (!pfx_bytes_equal(line->key, names[i]))
            continue;
        if (reader->seen[i] || line->value.len > 0)
            return false;
        reader->seen[i] = true;
        reader->section = (enum section)i;
    }
    return true;
}

static bool connector(struct reader *reader, const struct line *line)
{
    struct pfx_policy_facts *facts = reader->facts;
    return line->dash && pfx_bytes_equal(line->key, "name") &&
           facts->n_connectors < PFX_POLICY_CONNECTORS &&
           scalar(line->value, facts->connectors[facts->n_connectors++], PFX_POLICY_NAME);
}

static bool approvals(struct reader *reader, const struct line *line)
{
    struct pfx_policy_facts *facts = reader->facts;
    char text[16];
    if (reader->inner == 0)
        reader->inner = line->indent;
    if (line->dash || line->indent > reader->inner)
        return true; /* of a list in there */
    if (line->indent < reader->inner || line->key.len == 0)
        return false;
    if (pfx_bytes_equal(line->key, "mode")) {
        bool known = scalar(line->value, text, sizeof text) && facts->mode == 0;
        bool by_uid = known && strcmp(text, "uid") == 0;
        facts->mode = by_uid ? PFX_POLICY_UID : PFX_POLICY_SSH;
        return known && (by_uid || strcmp(text, "ssh") == 0);
    }
    if (pfx_bytes_equal(line->key, "needed")) {
        bool known = scalar(line->value, text, sizeof text) && strlen(text) == 1 &&
                     text[0] >= '2' && text[0] <= '9' && facts->needed == 0;
        facts->needed = known ? (unsigned)(text[0] - '0') : 0;
        return known;
    }
    return true;
}

static bool take(struct reader *reader, struct pfx_bytes text)
{
    struct line line;
    bool empty, first = !reader->began;
    if (!split(text, &line, &empty))
        return false;
    if (empty)
        return true;
    reader->began = true;
    bool margin = text.data[0] != ' ' && !line.dash;
    if (margin && first && pfx_bytes_equal(trim(text), "---"))
        return true;
    if (margin)
        return top(reader, &line);
    if (reader->section == CONNECTORS)
        return connector(reader, &line);
    return reader->section == OTHER || approvals(reader, &line);
}

void pfx_policy_read(struct pfx_bytes text, struct pfx_policy_facts *ret)
{
    struct reader reader = {.facts = ret};
    struct pfx_lines lines = {.rest = text};
    struct pfx_bytes line;
    bool good = true;
    memset(ret, 0, sizeof *ret);
    while (good && pfx_lines_next(&lines, &line))
        good = take(&reader, line);
    good = good && take(&reader, lines.rest); /* the last line may have no LF */
    good = good && (!reader.seen[CONNECTORS] || ret->n_connectors > 0);
    if (reader.seen[APPROVALS] && ret->needed == 0)
        ret->needed = NEEDED_DEFAULT;
    if (!good || reader.seen[APPROVALS] != (ret->mode != PFX_POLICY_NO_APPROVALS)) {
        memset(ret, 0, sizeof *ret);
        return;
    }
    ret->read = true;
}
