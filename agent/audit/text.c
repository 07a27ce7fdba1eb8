#include "agent/audit/text.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/audit/audit.h"

#define LINE_MAX_BYTES (256 * 1024) /* an entry, each byte of it escaped, and more */
#define PAGE 78
#define INDENT 8
#define BAD_BYTE 0xFFFFFFFFu

/* The code point at text[*at]; moves on. What isn't UTF-8 reads as BAD_BYTE, one byte at a time. */
static uint32_t next_point(struct pfx_bytes text, size_t *at)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const uint8_t *s = text.data + *at;
    size_t left = text.len - *at;
    size_t more = s[0] < 0x80 ? 0 : s[0] < 0xC2 ? 9 : s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3;
    (*at)++;
    if (more == 0)
        return s[0];
    if (s[0] == 0xC0 && left > 1 && s[1] == 0x80) { /* NUL in a C string */
        (*at)++;
        return 0;
    }
    if (more == 9 || s[0] > 0xF4 || more >= left)
        return BAD_BYTE;
    uint32_t point = s[0] & (0x3Fu >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return BAD_BYTE;
        point = point << 6 | (s[i] & 0x3Fu);
    }
    if (point < least[more] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return BAD_BYTE;
    *at += more;
    return point;
}

/* Unicode's categories Cc, Cf, Zl and Zp (controls, marks and overrides of direction, what has no
 * width, tags, line separators), fillers that show as nothing, variation selectors, and what is no
 * character. */
static bool harmful(uint32_t point)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0x00, 0x1F},       {0x7F, 0x9F},       {0xAD, 0xAD},       {0x034F, 0x034F},
        {0x0600, 0x0605},   {0x061C, 0x061C},   {0x06DD, 0x06DD},   {0x070F, 0x070F},
        {0x0890, 0x0891},   {0x08E2, 0x08E2},   {0x115F, 0x1160},   {0x180E, 0x180E},
        {0x200B, 0x200F},   {0x2028, 0x202E},   {0x2060, 0x206F},   {0x3164, 0x3164},
        {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},   {0xFFF0, 0xFFFB},
        {0x110BD, 0x110BD}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3},
        {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
    };
    if (point >= 0x20 && point < 0x7F)
        return false;
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]) && point >= ranges[i].first; i++)
        if (point <= ranges[i].last)
            return true;
    return (point & 0xFFFE) == 0xFFFE;
}

static void add_escape(uint32_t point, struct pfx_buf *out)
{
    if (point > 0xFFFF) /* as JSON does it: a pair of surrogates */
        (void)pfx_buf_addf(out, "\\u%04x\\u%04x", 0xD7C0u + (point >> 10),
                           0xDC00u + (point & 0x3FF));
    else
        (void)pfx_buf_addf(out, "\\u%04x", point);
}

void pfx_text_show(struct pfx_bytes text, struct pfx_buf *out)
{
    for (size_t at = 0; at < text.len;) {
        size_t start = at;
        uint32_t point = next_point(text, &at);
        if (point == BAD_BYTE)
            (void)pfx_buf_addf(out, "\\x%02x", text.data[start]);
        else if (harmful(point))
            add_escape(point, out);
        else
            (void)pfx_buf_add(out, text.data + start, at - start);
    }
}

void pfx_text_show_str(const char *text, struct pfx_buf *out)
{
    pfx_text_show((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, out);
}

size_t pfx_text_columns(const char *shown)
{
    size_t n = 0;
    for (; *shown; shown++)
        n += ((unsigned char)*shown & 0xC0) != 0x80;
    return n;
}

static size_t terminal_columns(void)
{
    struct winsize size;
    if (isatty(STDOUT_FILENO) != 1)
        return 0;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* How many bytes of text fit in so many columns, up to a blank where there is one. */
static size_t fitting(const char *text, size_t columns)
{
    size_t at = 0, blank = 0;
    for (size_t n = 0; text[at]; at++) {
        n += ((unsigned char)text[at] & 0xC0) != 0x80;
        if (n > columns)
            return blank ? blank : at;
        if (text[at] == ' ' && at > 0 && text[at - 1] != ' ')
            blank = at;
    }
    return at;
}

void pfx_text_line(const char *shown)
{
    size_t page = terminal_columns(), indent = 0;
    while (page > 2 * INDENT && pfx_text_columns(shown) + indent > page) {
        size_t len = fitting(shown, page - indent);
        (void)printf("%*s%.*s\n", (int)indent, "", (int)len, shown);
        shown += len + strspn(shown + len, " ");
        indent = INDENT;
    }
    (void)printf("%*s%s\n", (int)indent, "", shown);
}

void pfx_text_say(const char *fmt, ...)
{
    char text[4096];
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_MAX_BYTES);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pfx_text_show_str(text, &out);
    (void)fprintf(stderr, "%s\n", pfx_buf_str(&out));
}

void pfx_text_paragraph(const char *text, const char *indent)
{
    size_t column = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, " ");
        if (column > 0 && column + 1 + len > PAGE) {
            (void)fputc('\n', stdout);
            column = 0;
        }
        if (column > 0)
            (void)printf(" %.*s", (int)len, p);
        else if (p == text)
            (void)printf("%s%.*s", indent, (int)len, p);
        else
            (void)printf("%*s%.*s", (int)strlen(indent), "", (int)len, p);
        column += len + (column ? 1 : strlen(indent));
        p += len;
        while (*p == ' ')
            p++;
    }
    (void)fputc('\n', stdout);
}

void pfx_text_json(struct pfx_bytes text, struct pfx_buf *out)
{
    (void)pfx_buf_add(out, "\"", 1);
    for (size_t at = 0; at < text.len;) {
        size_t start = at;
        uint32_t point = next_point(text, &at);
        if (point == '"' || point == '\\')
            (void)pfx_buf_addf(out, "\\%c", (int)point);
        else if (point == BAD_BYTE)
            (void)pfx_buf_add_str(out, "\\ufffd");
        else if (harmful(point))
            add_escape(point, out);
        else
            (void)pfx_buf_add(out, text.data + start, at - start);
    }
    (void)pfx_buf_add(out, "\"", 1);
}

void pfx_text_json_again(struct pfx_bytes json, struct pfx_buf *out)
{
    /* Outside of strings canonical JSON has only harmless ASCII; within, no control character. */
    for (size_t at = 0; at < json.len;) {
        size_t start = at;
        uint32_t point = next_point(json, &at);
        if (point == BAD_BYTE)
            (void)pfx_buf_add_str(out, "\\ufffd");
        else if (harmful(point))
            add_escape(point, out);
        else
            (void)pfx_buf_add(out, json.data + start, at - start);
    }
}

struct pfx_json pfx_json_make(const char *schema)
{
    struct pfx_json json = {.line = pfx_buf_make(4 * LINE_MAX_BYTES)};
    (void)pfx_buf_addf(&json.line, "{\"schema\":\"%s\"", schema);
    json.more = true;
    return json;
}

static void json_key(struct pfx_json *json, const char *key)
{
    if (json->more)
        (void)pfx_buf_add(&json->line, ",", 1);
    if (key)
        (void)pfx_buf_addf(&json->line, "\"%s\":", key);
    json->more = true;
}

void pfx_json_str(struct pfx_json *json, const char *key, const char *text)
{
    if (!text)
        return;
    json_key(json, key);
    pfx_text_json((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, &json->line);
}

void pfx_json_int(struct pfx_json *json, const char *key, int64_t value)
{
    json_key(json, key);
    (void)pfx_buf_addf(&json->line, "%lld", (long long)value);
}

void pfx_json_opt(struct pfx_json *json, const char *key, int64_t value)
{
    if (value >= 0)
        pfx_json_int(json, key, value);
}

void pfx_json_bool(struct pfx_json *json, const char *key, bool value)
{
    json_key(json, key);
    (void)pfx_buf_add_str(&json->line, value ? "true" : "false");
}

void pfx_json_raw(struct pfx_json *json, const char *key, struct pfx_bytes value)
{
    json_key(json, key);
    pfx_text_json_again(value, &json->line);
}

void pfx_json_open(struct pfx_json *json, const char *key, char bracket)
{
    json_key(json, key);
    (void)pfx_buf_add(&json->line, &bracket, 1);
    json->more = false;
}

void pfx_json_close(struct pfx_json *json, char bracket)
{
    (void)pfx_buf_add(&json->line, &bracket, 1);
    json->more = true;
}

void pfx_json_signers(struct pfx_json *json, const struct pfx_audit_keys *keys, uint64_t signers)
{
    char line[PFX_VKEY_LINE_SIZE];
    pfx_json_open(json, "signed_by", '[');
    for (size_t i = 0; i < keys->n; i++)
        if (signers >> i & 1)
            pfx_json_str(json, NULL, pfx_vkey_line(&keys->keys[i], line));
    pfx_json_close(json, ']');
}

void pfx_json_print(struct pfx_json *json)
{
    (void)printf("%s}\n", pfx_buf_str(&json->line));
    pfx_buf_done(&json->line);
}

static void csv_comma(struct pfx_buf *row)
{
    if (row->len > 0)
        (void)pfx_buf_add(row, ",", 1);
}

void pfx_csv_text(struct pfx_buf *row, const char *text)
{
    struct pfx_buf cell PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_MAX_BYTES);
    csv_comma(row);
    if (*text && strchr("=+-@", *text))
        (void)pfx_buf_add(&cell, "'", 1);
    pfx_text_show_str(text, &cell);
    const char *shown = pfx_buf_str(&cell);
    /* The first cell is never empty, so an empty row can't be mistaken for one without cells. */
    if (!strpbrk(shown, ",\"") && *shown != ' ') {
        (void)pfx_buf_add_str(row, shown);
        return;
    }
    (void)pfx_buf_add(row, "\"", 1);
    for (const char *p = shown; *p; p++)
        (void)pfx_buf_add(row, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
    (void)pfx_buf_add(row, "\"", 1);
}

void pfx_csv_int(struct pfx_buf *row, int64_t value)
{
    csv_comma(row);
    if (value >= 0)
        (void)pfx_buf_addf(row, "%lld", (long long)value);
}

void pfx_csv_print(struct pfx_buf *row)
{
    (void)printf("%s\r\n", pfx_buf_str(row));
    pfx_buf_reset(row);
}
