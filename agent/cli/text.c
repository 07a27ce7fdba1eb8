#include "agent/cli/text.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "crypto/encode.h"

#define REPLACEMENT '?'
#define TEXT_MAX (1024 * 1024)

static struct {
    bool utf8, force;
    bool force_colour;
    unsigned force_columns;
} setup;

void cli_text_setup(void)
{
    /* What may be printed follows the user's locale; how wide a character is doesn't: it is always
     * measured as UTF-8, because the names in the tables are UTF-8 in every locale. */
    if (setlocale(LC_CTYPE, ""))
        setup.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        (void)setlocale(LC_CTYPE, "en_US.UTF-8");
}

void cli_text_force(unsigned columns, bool colour)
{
    setup.force = true;
    setup.force_columns = columns;
    setup.force_colour = colour;
}

bool cli_utf8(void)
{
    return setup.utf8;
}

bool cli_is_terminal(FILE *to)
{
    return setup.force ? setup.force_columns > 0 : isatty(fileno(to)) == 1;
}

bool cli_colour(FILE *to)
{
    if (setup.force)
        return setup.force_colour;
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return !(no_color && *no_color) && term && strcmp(term, "dumb") != 0 && cli_is_terminal(to);
}

unsigned cli_columns(FILE *to)
{
    if (setup.force)
        return setup.force_columns;
    if (!cli_is_terminal(to))
        return 0;
    struct winsize size;
    if (ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* One code point of *p; moves on. Bad bytes read as U+FFFD, one byte each. */
static uint32_t next_point(const char **p)
{
    const unsigned char *s = (const unsigned char *)*p;
    unsigned need = s[0] < 0x80             ? 0
                    : (s[0] & 0xE0) == 0xC0 ? 1
                    : (s[0] & 0xF0) == 0xE0 ? 2
                    : (s[0] & 0xF8) == 0xF0 ? 3
                                            : 4;
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    (*p)++;
    if (need == 0)
        return s[0];
    if (need == 4)
        return 0xFFFD;
    uint32_t point = s[0] & (0x3Fu >> need);
    for (unsigned i = 1; i <= need; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0xFFFD;
        point = point << 6 | (s[i] & 0x3Fu);
    }
    if (point < least[need] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return 0xFFFD;
    *p += need;
    return point;
}

/* What could move the cursor, hide text, or turn its direction round. */
static bool harmful(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point <= 0x9F) || point == 0x061C ||
           (point >= 0x200B && point <= 0x200F) || (point >= 0x2028 && point <= 0x202E) ||
           (point >= 0x2060 && point <= 0x206F) || point == 0xFEFF || point == 0xFFFD ||
           (point >= 0xE0000 && point <= 0xE0FFF);
}

static size_t point_width(uint32_t point)
{
    if (point < 0x7F)
        return 1;
    int width = wcwidth((wchar_t)point);
    return width < 0 ? 1 : (size_t)width;
}

void cli_clean(const char *text, struct pfx_buf *out)
{
    for (const char *p = text; *p;) {
        const char *start = p;
        uint32_t point = next_point(&p);
        if (point == '\n' || point == '\t')
            (void)pfx_buf_add(out, " ", 1);
        else if (harmful(point))
            (void)pfx_buf_add(out, "?", 1);
        else
            (void)pfx_buf_add(out, start, (size_t)(p - start));
    }
}

size_t cli_width(const char *text)
{
    size_t width = 0;
    for (const char *p = text; *p;)
        width += point_width(next_point(&p));
    return width;
}

void cli_cut(const char *text, size_t columns, struct pfx_buf *out)
{
    if (cli_width(text) <= columns) {
        (void)pfx_buf_add_str(out, text);
        return;
    }
    if (columns == 0)
        return;
    size_t used = 0;
    const char *p = text;
    while (*p) {
        const char *start = p;
        size_t width = point_width(next_point(&p));
        if (used + width > columns - 1)
            break;
        (void)pfx_buf_add(out, start, (size_t)(p - start));
        used += width;
    }
    (void)pfx_buf_add_str(out, cli_utf8() ? "…" : "~");
}

size_t cli_wrap(const char *text, size_t columns, const char **ret_rest)
{
    size_t used = 0, end = 0;
    const char *p = text, *rest = NULL;
    while (*p) {
        const char *start = p;
        size_t width = point_width(next_point(&p));
        if (*start == ' ') {
            end = (size_t)(start - text);
            rest = p;
        }
        if (used + width > columns && used > 0) {
            if (!rest) { /* one long word */
                end = (size_t)(start - text);
                rest = start;
            }
            *ret_rest = rest;
            return end;
        }
        used += width;
    }
    *ret_rest = p;
    return (size_t)(p - text);
}

void cli_print_lines(FILE *to, size_t indent, const char *text)
{
    unsigned columns = cli_columns(to);
    while (*text) {
        size_t len = strcspn(text, "\n");
        char *line PFX_AUTOFREE = pfx_strndup(text, len);
        text += len + (text[len] == '\n');
        size_t room = columns > indent + 20 ? columns - indent : SIZE_MAX / 2;
        for (const char *at = line, *rest; at; at = *rest ? rest : NULL) {
            size_t n = cli_wrap(at, at == line ? room + indent : room, &rest);
            (void)fprintf(to, "%*s%.*s\n", at == line ? 0 : (int)indent, "", (int)n, at);
        }
    }
}

const char *cli_tone(FILE *to, enum cli_tone tone)
{
    static const char *const sequences[] = {"",           "\033[32m", "\033[33m",
                                            "\033[1;31m", "\033[2m",  "\033[1m"};
    return tone == CLI_PLAIN || !cli_colour(to) ? "" : sequences[tone];
}

const char *cli_tone_end(FILE *to, enum cli_tone tone)
{
    return tone == CLI_PLAIN || !cli_colour(to) ? "" : "\033[0m";
}

enum cli_tone cli_tone_of(const char *word)
{
    static const struct {
        const char *word;
        enum cli_tone tone;
    } tones[] = {
        {"ok", CLI_GOOD},      {"ACTIVE", CLI_GOOD}, {"works", CLI_GOOD},    {"direct", CLI_GOOD},
        {"warn", CLI_WARN},    {"HELD", CLI_WARN},   {"hold", CLI_WARN},     {"wait", CLI_WARN},
        {"transit", CLI_WARN}, {"bad", CLI_BAD},     {"FAILED", CLI_BAD},    {"ENDED", CLI_BAD},
        {"refuse", CLI_BAD},   {"none", CLI_BAD},    {"skip", CLI_DIM},      {"SKIPPED", CLI_DIM},
        {"WAITING", CLI_WARN}, {"order", CLI_GOOD},  {"not tried", CLI_DIM},
    };
    for (size_t i = 0; word && i < sizeof(tones) / sizeof(tones[0]); i++)
        if (strcmp(tones[i].word, word) == 0)
            return tones[i].tone;
    return CLI_PLAIN;
}

const char *cli_time(int64_t ms, char *buf)
{
    if (ms <= 0)
        return "-";
    (void)pfx_time_format(ms, false, buf);
    if (strlen(buf) >= 16) { /* "2026-11-22T08:00:00Z" */
        buf[10] = ' ';
        buf[16] = '\0';
    }
    return buf;
}

const char *cli_span(int64_t from_ms, int64_t to_ms, char *buf)
{
    int64_t s = (to_ms - from_ms) / 1000;
    if (s < 0)
        s = 0;
    if (s < 120)
        (void)snprintf(buf, 32, "%d s", (int)s);
    else if (s < 120 * 60)
        (void)snprintf(buf, 32, "%d min", (int)(s / 60));
    else if (s < 48 * 3600)
        (void)snprintf(buf, 32, "%d h", (int)(s / 3600));
    else
        (void)snprintf(buf, 32, "%lld d", (long long)(s / 86400));
    return buf;
}

void cli_json_str(struct pfx_buf *out, const char *text)
{
    (void)pfx_buf_add(out, "\"", 1);
    for (const char *p = text; *p;) {
        const char *start = p;
        uint32_t point = next_point(&p);
        if (point == '"' || point == '\\')
            (void)pfx_buf_addf(out, "\\%c", (int)point);
        else if (point < 0x20 || point == 0x7F)
            (void)pfx_buf_addf(out, "\\u%04x", (unsigned)point);
        else if (point == 0xFFFD)
            (void)pfx_buf_add_str(out, "\\ufffd");
        else
            (void)pfx_buf_add(out, start, (size_t)(p - start));
    }
    (void)pfx_buf_add(out, "\"", 1);
}
