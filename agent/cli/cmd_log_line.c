/* One entry of the operation log on one line. */
#include <string.h>
#include <time.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define NARROW 100 /* below, the day stands on a line of its own */
#define LINE_BYTES 2048
#define SHORT_ID 8

bool cli_log_narrow(FILE *to)
{
    unsigned columns = cli_columns(to);
    return columns > 0 && columns < NARROW;
}

/* SEQ with its mark, TIME, SRC, EVENT, OUTCOME, WHO; the rest is the line's. */
static const struct column {
    const char *title;
    unsigned wide, narrow;
} columns[] = {
    {"SEQ", 8, 7},     {"TIME", 19, 8},   {"SRC", 6, 6},
    {"EVENT", 20, 16}, {"OUTCOME", 9, 9}, {"WHO", 8, 8},
};
#define N_COLUMNS (sizeof(columns) / sizeof(columns[0]))

struct line {
    FILE *to;
    bool narrow;
    unsigned column;
    size_t used; /* columns of the terminal */
};

/* Nothing is cut unless it goes to a terminal. */
static void cell(struct line *line, const char *text, enum cli_tone tone)
{
    const struct column *column = &columns[line->column++];
    size_t room = line->narrow ? column->narrow : column->wide;
    struct pfx_buf cut PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    size_t width = cli_width(text);
    /* A seq is never cut: a wrong number is worse than a long line. */
    if (width > room && cli_columns(line->to) > 0 && column != &columns[0]) {
        cli_cut(text, room, &cut);
        text = pfx_buf_str(&cut);
        width = room;
    }
    size_t pad = width < room ? room - width : 0;
    (void)fprintf(line->to, "%s%s%s%*s ", cli_tone(line->to, tone), text,
                  cli_tone_end(line->to, tone), (int)pad, "");
    line->used += width + pad + 1;
}

/* The last one: what is left of the line, and no blanks behind it. */
static void rest(struct line *line, const char *text, enum cli_tone tone)
{
    size_t page = cli_columns(line->to);
    struct pfx_buf cut PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES + 16);
    if (page > 0)
        cli_cut(text, page > line->used ? page - line->used : 1, &cut);
    (void)fprintf(line->to, "%s%s%s\n", cli_tone(line->to, tone),
                  page > 0 ? pfx_buf_str(&cut) : text, cli_tone_end(line->to, tone));
}

void cli_log_titles(FILE *to)
{
    struct line line = {to, cli_log_narrow(to), 0, 0};
    char seq[16];
    (void)snprintf(seq, sizeof(seq), "%*s",
                   (int)(line.narrow ? columns[0].narrow : columns[0].wide), columns[0].title);
    cell(&line, seq, CLI_BOLD);
    for (size_t i = 1; i < N_COLUMNS; i++)
        cell(&line, columns[i].title, CLI_BOLD);
    rest(&line, "WHAT", CLI_BOLD);
}

/* A value as text that is safe to show; "" where the entry hasn't got it. */
static const char *value(const struct pfx_entry *entry, enum pfx_field field, struct pfx_buf *out)
{
    struct pfx_bytes bytes = pfx_entry_text(entry, field);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ENTRY_MAX);
    struct pfx_canon_value string = {.kind = PFX_CANON_STR, .text = bytes};
    pfx_buf_reset(out);
    if (bytes.len == 0)
        return "";
    string.escaped = entry->values[field].escaped;
    if (!string.escaped || !pfx_canon_unescape(&string, &text))
        (void)pfx_buf_add(&text, bytes.data, bytes.len);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\0') /* would hide what is behind it */
            text.data[i] = 1;
    cli_clean(pfx_buf_str(&text), out);
    return pfx_buf_str(out);
}

enum stamp { STAMP_DAY, STAMP_CLOCK, STAMP_BOTH };
static void local_time(const struct pfx_entry *entry, enum stamp stamp, char *buf, size_t size)
{
    time_t seconds = (time_t)(pfx_entry_time(entry, PFX_F_TIME) / 1000);
    struct tm tm;
    size_t len = 0;
    if (localtime_r(&seconds, &tm))
        len = stamp == STAMP_DAY     ? strftime(buf, size, "%Y-%m-%d", &tm)
              : stamp == STAMP_CLOCK ? strftime(buf, size, "%H:%M:%S", &tm)
                                     : strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm);
    if (len == 0)
        (void)snprintf(buf, size, "-");
}

char *cli_log_day(struct pfx_bytes entry, char buf[CLI_DAY_SIZE])
{
    struct pfx_entry read;
    struct pfx_error err = PFX_ERROR_NONE;
    buf[0] = '\0';
    if (pfx_ok(pfx_entry_read(entry, &read, &err)))
        local_time(&read, STAMP_DAY, buf, CLI_DAY_SIZE);
    return buf;
}

static void who(const struct pfx_entry *entry, char *buf, size_t size)
{
    struct pfx_buf role PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    if (pfx_entry_is(entry, PFX_F_ACTOR_ROLE, "operator") && pfx_entry_has(entry, PFX_F_ACTOR_UID))
        (void)snprintf(buf, size, "uid %lld", (long long)pfx_entry_int(entry, PFX_F_ACTOR_UID));
    else
        (void)snprintf(buf, size, "%s", value(entry, PFX_F_ACTOR_ROLE, &role));
}

static void add(struct pfx_buf *out, const char *before, const char *text)
{
    if (*text)
        (void)pfx_buf_addf(out, "%s%s%s", out->len > 0 ? " " : "", before, text);
}

static void add_int(struct pfx_buf *out, const char *before, const struct pfx_entry *entry,
                    enum pfx_field field)
{
    if (pfx_entry_has(entry, field))
        (void)pfx_buf_addf(out, "%s%s%lld", out->len > 0 ? " " : "", before,
                           (long long)pfx_entry_int(entry, field));
}

/* Ids are long: their beginning tells them apart on a screen, --json has them whole. */
static void add_short(struct pfx_buf *out, const char *before, const struct pfx_entry *entry,
                      enum pfx_field field)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    if (pfx_entry_has(entry, field))
        (void)pfx_buf_addf(out, "%s%s%.*s", out->len > 0 ? " " : "", before, SHORT_ID,
                           value(entry, field, &text));
}

/* A record's id is two hashes, and ends in the thumbprint, which is shown as such. */
static void add_name(struct pfx_buf *out, const struct pfx_entry *entry)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    struct pfx_bytes id = pfx_entry_text(entry, PFX_F_TARGET_NAME);
    struct pfx_bytes end = pfx_entry_text(entry, PFX_F_TARGET_THUMBPRINT);
    if (end.len > 0 && id.len > end.len &&
        memcmp(id.data + id.len - end.len, end.data, end.len) == 0)
        return;
    pfx_hex_shorten(value(entry, PFX_F_TARGET_NAME, &text), &name);
    add(out, "", pfx_buf_str(&name));
}

static void what(const struct pfx_entry *entry, struct pfx_buf *out)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    enum pfx_outcome outcome = (enum pfx_outcome)pfx_entry_int(entry, PFX_F_OUTCOME);
    /* What went wrong comes first: a narrow terminal shows the beginning. */
    if (outcome != PFX_OUTCOME_OK && outcome != PFX_OUTCOME_PENDING) {
        add(out, "", value(entry, PFX_F_FAIL_CODE, &text));
        if (!pfx_entry_has(entry, PFX_F_FAIL_CODE) && !pfx_entry_is(entry, PFX_F_RV, "CKR_OK"))
            add(out, "", value(entry, PFX_F_RV, &text));
    }
    /* Short, as pfx-audit has it: in 80 columns little room is left. */
    add_int(out, "e", entry, PFX_F_TARGET_ENROLMENT);
    if (pfx_entry_has(entry, PFX_F_TARGET_ATTEMPT))
        (void)pfx_buf_addf(out, ".%lld", (long long)pfx_entry_int(entry, PFX_F_TARGET_ATTEMPT));
    add_name(out, entry);
    add_int(out, "order ", entry, PFX_F_TARGET_ORDER);
    add(out, "order ", value(entry, PFX_F_TARGET_TRANSACTION, &text));
    add_short(out, "key ", entry, PFX_F_KEY_ID);
    add(out, "", value(entry, PFX_F_TIER, &text));
    add_int(out, "generation ", entry, PFX_F_SEAL_GENERATION);
    add_int(out, "pin ", entry, PFX_F_PIN_GENERATION);
    add_short(out, "record ", entry, PFX_F_TARGET_THUMBPRINT);
    add(out, "", value(entry, PFX_F_SOFTWARE_VERSION, &text));
    add_short(out, "policy ", entry, PFX_F_POLICY_SHA256);
    add_int(out, "count ", entry, PFX_F_COUNT);
    add_int(out, "of ", entry, PFX_F_REF);
    if (pfx_entry_has(entry, PFX_F_WEAK))
        add(out, "", "weak");
    add_short(out, "user ", entry, PFX_F_TARGET_USER);
}

static enum cli_tone tone_of(enum pfx_outcome outcome)
{
    switch (outcome) {
    case PFX_OUTCOME_OK:
        return CLI_GOOD;
    case PFX_OUTCOME_PENDING:
        return CLI_DIM;
    case PFX_OUTCOME_INTEGRITY:
    case PFX_OUTCOME_INTERNAL:
    case PFX_OUTCOME_DEVICE:
        return CLI_BAD;
    default:
        return CLI_WARN;
    }
}

void cli_log_line(FILE *to, uint64_t seq, struct pfx_bytes json, bool covered)
{
    struct line line = {to, cli_log_narrow(to), 0, 0};
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    struct pfx_buf all PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    struct pfx_entry entry;
    struct pfx_error err = PFX_ERROR_NONE;
    char number[40], digits[32], time[32], actor[64];
    (void)snprintf(digits, sizeof(digits), "%s%llu", covered ? "" : "*", (unsigned long long)seq);
    (void)snprintf(number, sizeof(number), "%*s",
                   (int)(line.narrow ? columns[0].narrow : columns[0].wide), digits);
    cell(&line, number, covered ? CLI_DIM : CLI_WARN);
    if (pfx_failed(pfx_entry_read(json, &entry, &err))) {
        (void)pfx_buf_addf(&all, "can't be read: %s", err.text);
        cli_clean(pfx_buf_str(&all), &text);
        rest(&line, pfx_buf_str(&text), CLI_BAD);
        return;
    }
    enum pfx_outcome outcome = (enum pfx_outcome)pfx_entry_int(&entry, PFX_F_OUTCOME);
    local_time(&entry, line.narrow ? STAMP_CLOCK : STAMP_BOTH, time, sizeof(time));
    cell(&line, time, CLI_PLAIN);
    cell(&line, pfx_src_name((enum pfx_src)pfx_entry_int(&entry, PFX_F_SRC)), CLI_DIM);
    cell(&line, value(&entry, PFX_F_EVENT, &text), CLI_PLAIN);
    cell(&line, pfx_outcome_name(outcome), tone_of(outcome));
    who(&entry, actor, sizeof(actor));
    cell(&line, actor, CLI_PLAIN);
    what(&entry, &all);
    rest(&line, pfx_buf_str(&all), CLI_PLAIN);
}
