/* Entries that are being written. Values stand in the draft as they will stand in the entry: text
 * with its escapes. */
#include <openssl/rand.h>
#include <string.h>

#include "crypto/canon_scan.h"
#include "crypto/encode.h"
#include "crypto/entry.h"
#include "crypto/entry_form.h"

static struct pfx_entry_value *hold(struct pfx_draft *draft, enum pfx_field field)
{
    draft->entry.has[field / 64] |= UINT64_C(1) << (field % 64);
    draft->entry.values[field] = (struct pfx_entry_value){.number = 0};
    return &draft->entry.values[field];
}

static bool is_type(enum pfx_field field, unsigned types)
{
    return types >> pfx_fields[field].type & 1;
}

/* Room for len bytes more; they count once `used` is moved. */
static char *room(struct pfx_draft *draft, size_t len)
{
    if (len > sizeof draft->store - draft->used)
        pfx_die("entry: more text than a draft has room for");
    return draft->store + draft->used;
}

static struct pfx_bytes keep(struct pfx_draft *draft, const void *data, size_t len)
{
    char *at = room(draft, len);
    memcpy(at, data, len);
    draft->used += len;
    return (struct pfx_bytes){(const uint8_t *)at, len};
}

static void set_form(struct pfx_draft *draft, enum pfx_field field, const char *text)
{
    size_t len = strlen(text);
    if (!pfx_form_holds(&pfx_fields[field], (struct pfx_bytes){(const uint8_t *)text, len}, false))
        pfx_die("entry: a value that its member doesn't allow");
    struct pfx_bytes kept = keep(draft, text, len);
    hold(draft, field)->text = kept;
}

static void set_enum(struct pfx_draft *draft, enum pfx_field field, const char *name,
                     int64_t number)
{
    set_form(draft, field, name);
    draft->entry.values[field].number = number;
}

void pfx_draft_init(struct pfx_draft *draft, enum pfx_src src, const char *event,
                    enum pfx_phase phase, enum pfx_outcome outcome)
{
    draft->entry.has[0] = draft->entry.has[1] = 0;
    draft->entry.n_unknown = 0;
    draft->used = 0;
    pfx_draft_int(draft, PFX_F_V, PFX_ENTRY_VERSION);
    set_form(draft, PFX_F_EVENT, event);
    set_enum(draft, PFX_F_SRC, pfx_src_name(src), src);
    set_enum(draft, PFX_F_PHASE, pfx_phase_name(phase), phase);
    set_enum(draft, PFX_F_OUTCOME, pfx_outcome_name(outcome), outcome);
}

void pfx_draft_int(struct pfx_draft *draft, enum pfx_field field, int64_t value)
{
    if (!is_type(field, 1u << PFX_T_INT) || value > PFX_CANON_INT_MAX || value < -PFX_CANON_INT_MAX)
        pfx_die("entry: not a number that its member allows");
    hold(draft, field)->number = value;
}

void pfx_draft_bool(struct pfx_draft *draft, enum pfx_field field, bool value)
{
    if (!is_type(field, 1u << PFX_T_BOOL))
        pfx_die("entry: a truth value for another kind of member");
    hold(draft, field)->number = value;
}

/* What may stand there: text of one line, or of several. */
static bool is_shown(const uint8_t *at, size_t n, enum pfx_field_type type)
{
    if (n == 1)
        return (*at >= 0x20 && *at != 0x7F) || (*at == '\n' && type == PFX_T_TEXT);
    return n != 2 || at[0] != 0xC2 || at[1] >= 0xA0; /* U+0080 to U+009F */
}

static void set_text(struct pfx_draft *draft, enum pfx_field field, const char *text)
{
    const struct pfx_field_info *info = &pfx_fields[field];
    const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);
    char *into = room(draft, 0);
    size_t plain = 0, len = 0;
    bool escaped = false;
    while (at < end) {
        size_t n = pfx_canon_utf8(at, end), step = n > 0 ? n : 1;
        const void *from = at;
        char out[6];
        if (n == 0) {
            from = "\xEF\xBF\xBD"; /* U+FFFD */
            n = 3;
        } else if (!is_shown(at, n, info->type)) {
            at += step;
            continue;
        }
        if (plain + n > info->max)
            break;
        plain += n;
        if (n == 1) {
            n = pfx_canon_escape(*at, out);
            escaped |= n > 1;
            from = out;
        }
        (void)room(draft, len + n);
        memcpy(into + len, from, n);
        len += n;
        at += step;
    }
    draft->used += len;
    struct pfx_entry_value *value = hold(draft, field);
    value->text = (struct pfx_bytes){(const uint8_t *)into, len};
    value->escaped = escaped;
}

static void set_word(struct pfx_draft *draft, enum pfx_field field, const char *text)
{
    size_t len = strnlen(text, pfx_fields[field].max);
    if (len == 0)
        return;
    char *into = room(draft, len);
    for (size_t i = 0; i < len; i++)
        into[i] = pfx_form_word((uint8_t)text[i]) ? text[i] : '_';
    draft->used += len;
    hold(draft, field)->text = (struct pfx_bytes){(const uint8_t *)into, len};
}

void pfx_draft_str(struct pfx_draft *draft, enum pfx_field field, const char *text)
{
    if (field == PFX_F_SRC || field == PFX_F_PHASE || field == PFX_F_OUTCOME)
        pfx_die("entry: src, phase and outcome are given to pfx_draft_init");
    if (!text)
        return;
    if (is_type(field, 1u << PFX_T_STR | 1u << PFX_T_TEXT))
        set_text(draft, field, text);
    else if (is_type(field, 1u << PFX_T_WORD))
        set_word(draft, field, text);
    else
        set_form(draft, field, text); /* refuses what isn't text at all */
}

void pfx_draft_hex(struct pfx_draft *draft, enum pfx_field field, const void *data, size_t len)
{
    size_t digits = 2 * len;
    bool fits = is_type(field, 1u << PFX_T_HASH)  ? len == PFX_HASH_SIZE
                : is_type(field, 1u << PFX_T_HEX) ? len > 0 && digits <= pfx_fields[field].max
                                                  : false;
    if (!fits)
        pfx_die("entry: bytes that their member doesn't allow");
    char *into = pfx_hex(data, len, room(draft, digits + 1));
    draft->used += digits;
    hold(draft, field)->text = (struct pfx_bytes){(const uint8_t *)into, digits};
}

void pfx_draft_time(struct pfx_draft *draft, enum pfx_field field, int64_t ms)
{
    char buf[PFX_TIME_SIZE];
    if (!is_type(field, 1u << PFX_T_TIME))
        pfx_die("entry: a time for another kind of member");
    set_form(draft, field, pfx_time_format(ms, true, buf));
}

void pfx_draft_raw(struct pfx_draft *draft, enum pfx_field field, struct pfx_bytes json)
{
    enum pfx_canon_kind kind;
    unsigned depth = PFX_CANON_DEPTH - (pfx_fields[field].group[0] ? 2 : 1);
    if (!is_type(field, 1u << PFX_T_RAW) || !pfx_canon_is_value(json, depth, &kind) ||
        kind != PFX_CANON_ARR)
        pfx_die("entry: not an array, or not canonical");
    struct pfx_bytes kept = keep(draft, json.data, json.len);
    hold(draft, field)->text = kept;
}

char *pfx_ulid(int64_t ms, char buf[PFX_ULID_SIZE])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint8_t raw[10];
    if (RAND_bytes(raw, sizeof raw) != 1)
        pfx_die("no randomness");
    uint64_t time = ms > 0 ? (uint64_t)ms & ((UINT64_C(1) << 48) - 1) : 0;
    for (unsigned i = 0; i < 10; i++)
        buf[i] = digits[time >> (45 - 5 * i) & 31];
    /* Five bytes are eight digits. */
    for (unsigned half = 0; half < 2; half++) {
        uint64_t bits = 0;
        for (unsigned i = 0; i < 5; i++)
            bits = bits << 8 | raw[5 * half + i];
        for (unsigned i = 0; i < 8; i++)
            buf[10 + 8 * half + i] = digits[bits >> (35 - 5 * i) & 31];
    }
    buf[PFX_ULID_SIZE - 1] = '\0';
    return buf;
}
