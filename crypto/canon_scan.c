/* The scanner of canonical JSON. pfx-audit sends every byte of a log through it, so strings are
 * looked at sixteen bytes at a time, and names are compared as numbers first. */
#include "crypto/canon_scan.h"

#include <stdio.h>

#define HIGH UINT64_C(0x8080808080808080)

struct scan {
    const uint8_t *at, *end;
    const char *why; /* what is wrong at `at` */
};

/* The steps of the scanner are one function in the end: 10 to 15 % of the time of reading a log. */
#define INLINED static inline __attribute__((always_inline))

INLINED bool refuse(struct scan *s, const uint8_t *at, const char *why)
{
    s->at = at;
    s->why = why;
    return false;
}

/* Sixteen bytes, which the compiler compares at once where the processor can. */
typedef int8_t row_of_bytes __attribute__((vector_size(16)));

/* The first byte from `at` on that isn't plain ASCII text: a quote, a backslash, a control
 * character, or 0x80 and above (which is negative here); end if there is none. */
static inline const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 16) {
        row_of_bytes x;
        memcpy(&x, at, 16);
        row_of_bytes marks = (x < 0x20) | (x == '"') | (x == '\\'); /* all bits, or none */
        uint64_t half[2];
        memcpy(half, &marks, 16);
        if (half[0])
            return at + __builtin_ctzll(le64toh(half[0])) / 8;
        if (half[1])
            return at + 8 + __builtin_ctzll(le64toh(half[1])) / 8;
        at += 16;
    }
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

static bool continues(const uint8_t *at, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xC0) != 0x80)
            return false;
    return true;
}

/* RFC 3629, section 4. */
size_t pfx_canon_utf8(const uint8_t *at, const uint8_t *end)
{
    uint8_t lead = *at;
    size_t left = (size_t)(end - at);
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return left >= 2 && continues(at, 2) ? 2 : 0;
    if ((lead & 0xF0) == 0xE0) {
        if (left < 3 || !continues(at, 3) || (lead == 0xE0 && at[1] < 0xA0) ||
            (lead == 0xED && at[1] > 0x9F)) /* overlong, surrogates */
            return 0;
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        if (left < 4 || !continues(at, 4) || (lead == 0xF0 && at[1] < 0x90) ||
            (lead == 0xF4 && at[1] > 0x8F)) /* overlong, beyond U+10FFFF */
            return 0;
        return 4;
    }
    return 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The one byte that the escape at `at` stands for, and how long it is; 0: not one that RFC 8785
 * (3.2.2.2) writes. */
static size_t take_escape(const uint8_t *at, const uint8_t *end, uint8_t *ret)
{
    static const char shorts[] = "b\bt\tn\nf\fr\r\"\"\\\\";
    if (end - at < 2)
        return 0;
    if (at[1] != 'u') {
        for (size_t i = 0; i < sizeof shorts - 1; i += 2)
            if (at[1] == (uint8_t)shorts[i]) {
                *ret = (uint8_t)shorts[i + 1];
                return 2;
            }
        return 0;
    }
    if (end - at < 6 || at[2] != '0' || at[3] != '0' || (at[4] != '0' && at[4] != '1'))
        return 0;
    int low = hex_digit(at[5]);
    if (low < 0)
        return 0;
    uint8_t c = (uint8_t)((at[4] - '0') << 4 | low);
    if (c == '\b' || c == '\t' || c == '\n' || c == '\f' || c == '\r')
        return 0;
    *ret = c;
    return 6;
}

/* Text up to a quote or the end; `at` is left there. */
INLINED bool take_text(struct scan *s, bool *ret_escaped)
{
    bool escaped = false;
    const uint8_t *at = s->at;
    for (;;) {
        at = skip_plain(at, s->end);
        if (at == s->end || *at == '"')
            break;
        if (*at == '\\') {
            uint8_t c;
            size_t n = take_escape(at, s->end, &c);
            if (n == 0)
                return refuse(s, at, "an escape that canonical JSON doesn't write");
            escaped = true;
            at += n;
        } else if (*at < 0x20) {
            return refuse(s, at, "a control character without escape");
        } else {
            size_t n = pfx_canon_utf8(at, s->end);
            if (n == 0)
                return refuse(s, at, "bytes that aren't UTF-8");
            at += n;
        }
    }
    s->at = at;
    *ret_escaped = escaped;
    return true;
}

INLINED bool take_string(struct scan *s, struct pfx_bytes *ret_text, bool *ret_escaped)
{
    if (s->at == s->end || *s->at != '"')
        return refuse(s, s->at, "a quote is expected here");
    const uint8_t *from = ++s->at;
    if (!take_text(s, ret_escaped))
        return false;
    if (s->at == s->end)
        return refuse(s, s->at, "");
    *ret_text = (struct pfx_bytes){from, (size_t)(s->at - from)};
    s->at++;
    return true;
}

INLINED bool take_number(struct scan *s, int64_t *ret)
{
    const uint8_t *const from = s->at, *const end = s->end, *at = from;
    bool minus = *at == '-';
    at += minus;
    const uint8_t *first = at;
    uint64_t value = 0;
    unsigned digit;
    /* What wraps around is too long anyway. */
    for (; at < end && (digit = (unsigned)*at - '0') <= 9; at++)
        value = value * 10 + digit;
    if (at == first)
        return refuse(s, at, "a digit is expected here");
    if (*first == '0' && (minus || at - first > 1))
        return refuse(s, from, "a zero with a sign or with digits behind it");
    if (at - first > 16 || value > PFX_CANON_INT_MAX)
        return refuse(s, from, "a number of 2^53 or more");
    if (at < end && (*at == '.' || (*at | 0x20) == 'e'))
        return refuse(s, at, "a number with fraction or exponent");
    *ret = minus ? -(int64_t)value : (int64_t)value;
    s->at = at;
    return true;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
        return refuse(s, s->at, "a value is expected here");
    s->at += len;
    return true;
}

static bool take_members(struct scan *s, unsigned depth, struct pfx_bytes group,
                         pfx_canon_visit visit, void *ctx);
static bool take_elements(struct scan *s, unsigned depth, pfx_canon_element element, void *ctx);

/* A value inside brackets of this depth. */
INLINED bool take_value(struct scan *s, unsigned depth, struct pfx_canon_value *ret)
{
    const uint8_t *from = s->at;
    if (from == s->end)
        return refuse(s, from, "");
    bool taken;
    switch (*from) {
    case '"':
        ret->kind = PFX_CANON_STR;
        taken = take_string(s, &ret->text, &ret->escaped);
        break;
    case '{':
        ret->kind = PFX_CANON_OBJ;
        taken = take_members(s, depth + 1, (struct pfx_bytes){NULL, 0}, NULL, NULL);
        break;
    case '[':
        ret->kind = PFX_CANON_ARR;
        taken = take_elements(s, depth + 1, NULL, NULL);
        break;
    case 't':
    case 'f':
        ret->kind = PFX_CANON_BOOL;
        ret->number = *from == 't';
        taken = take_word(s, *from == 't' ? "true" : "false");
        break;
    default:
        ret->kind = PFX_CANON_INT;
        if (*from != '-' && (*from < '0' || *from > '9'))
            return refuse(s, from, "a value is expected here");
        taken = take_number(s, &ret->number);
    }
    ret->raw = (struct pfx_bytes){from, (size_t)(s->at - from)};
    return taken;
}

/* A comma (*ret_more) or the closing bracket. */
INLINED bool take_next(struct scan *s, char bracket, bool *ret_more)
{
    if (s->at == s->end || (*s->at != ',' && *s->at != (uint8_t)bracket))
        return refuse(s, s->at, "a comma or the closing bracket is expected here");
    *ret_more = *s->at++ == ',';
    return true;
}

/* Past the opening bracket; *ret_more is false where the closing one follows at once. */
INLINED bool take_open(struct scan *s, unsigned depth, char bracket, bool *ret_more)
{
    if (depth > PFX_CANON_DEPTH)
        return refuse(s, s->at, "brackets that are nested too deeply");
    s->at++;
    *ret_more = s->at == s->end || *s->at != (uint8_t)bracket;
    s->at += !*ret_more;
    return true;
}

bool pfx_canon_before(struct pfx_bytes a, struct pfx_bytes b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    for (size_t i = 0; i < n; i++) {
        uint8_t x = a.data[i], y = b.data[i];
        if (x == y)
            continue;
        /* UTF-8 sorts by code point. UTF-16 has what is beyond U+FFFF (lead bytes from 0xF0) as
         * surrogates, before U+E000 (lead bytes 0xEE and 0xEF). */
        if (x >= 0xEE && y >= 0xEE && (x >= 0xF0) != (y >= 0xF0))
            return x > y;
        return x < y;
    }
    return a.len < b.len;
}

/* The first eight bytes of a name, zeros behind a shorter one. */
static inline uint64_t name_prefix(const struct scan *s, struct pfx_bytes key)
{
    uint64_t whole = 0;
    if (s->end - key.data < 8) {
        for (size_t i = 0; i < key.len; i++)
            whole |= (uint64_t)key.data[i] << (56 - 8 * i);
        return whole;
    }
    memcpy(&whole, key.data, 8); /* it may be less, but the text isn't */
    whole = be64toh(whole);
    if (key.len >= 8)
        return whole;
    return key.len > 0 ? whole >> (64 - 8 * key.len) << (64 - 8 * key.len) : 0;
}

/* Name and colon, in order behind the member before; prefix and key are that one's on entry. */
INLINED bool take_name(struct scan *s, struct pfx_canon_found *found)
{
    const uint8_t *from = s->at;
    const struct pfx_bytes last = found->key;
    const uint64_t last_prefix = found->prefix;
    bool escaped;
    if (!take_string(s, &found->key, &escaped))
        return false;
    if (escaped)
        return refuse(s, from, "a member's name with an escape");
    found->prefix = name_prefix(s, found->key);
    bool ascending = last_prefix < found->prefix && !((last_prefix | found->prefix) & HIGH);
    if (!ascending && last.data && !pfx_canon_before(last, found->key))
        return refuse(s, from, "a member that is doubled or out of order");
    if (s->at == s->end || *s->at != ':')
        return refuse(s, s->at, "a colon is expected here");
    s->at++;
    return true;
}

static bool take_members(struct scan *s, unsigned depth, struct pfx_bytes group,
                         pfx_canon_visit visit, void *ctx)
{
    bool more;
    if (!take_open(s, depth, '}', &more))
        return false;
    struct pfx_canon_found found = {.group = group};
    while (more) {
        const uint8_t *from = s->at;
        if (!take_name(s, &found))
            return false;
        found.value = (struct pfx_canon_value){.kind = PFX_CANON_OBJ, .raw = {s->at, 0}};
        bool outer = depth == 1 && visit && s->at < s->end && *s->at == '{';
        if (!outer && !take_value(s, depth, &found.value))
            return false;
        if (visit && !visit(ctx, &found))
            return refuse(s, from, "a member that isn't taken");
        if (outer && !take_members(s, 2, found.key, visit, ctx))
            return false;
        if (!take_next(s, '}', &more))
            return false;
    }
    return true;
}

static bool take_elements(struct scan *s, unsigned depth, pfx_canon_element element, void *ctx)
{
    bool more;
    if (!take_open(s, depth, ']', &more))
        return false;
    while (more) {
        const uint8_t *from = s->at;
        struct pfx_canon_value value = {.number = 0};
        if (!take_value(s, depth, &value))
            return false;
        if (element && !element(ctx, &value))
            return refuse(s, from, "an element that isn't taken");
        if (!take_next(s, ']', &more))
            return false;
    }
    return true;
}

static struct scan begin(struct pfx_bytes json)
{
    static const uint8_t nothing[1];
    const uint8_t *data = json.data ? json.data : nothing;
    return (struct scan){.at = data, .end = data + (json.data ? json.len : 0)};
}

static bool ended(struct scan *s)
{
    if (s->at == s->end)
        return true;
    return refuse(s, s->at, "bytes behind the end");
}

static pfx_result say(const struct scan *s, struct pfx_bytes json, struct pfx_error *err)
{
    char object[32];
    snprintf(object, sizeof object, "byte %zu", json.data ? (size_t)(s->at - json.data) : 0);
    return pfx_fail(err, PFX_CLASS_REFUSED, "read canonical JSON", object, "",
                    "This isn't canonical JSON: %s.",
                    s->at < s->end ? s->why : "the text ends too early");
}

pfx_result pfx_canon_walk(struct pfx_bytes json, pfx_canon_visit visit, void *ctx,
                          struct pfx_error *err)
{
    const struct pfx_bytes top = {NULL, 0};
    struct scan s = begin(json);
    bool taken = s.at < s.end && *s.at == '{' ? take_members(&s, 1, top, visit, ctx) && ended(&s)
                                              : refuse(&s, s.at, "an object is expected here");
    return taken ? PFX_OK : say(&s, json, err);
}

struct plain_visit {
    pfx_canon_member member;
    void *ctx;
};

static bool visit_plainly(void *ctx, const struct pfx_canon_found *found)
{
    const struct plain_visit *to = ctx;
    return to->member(to->ctx, found->group, found->key, &found->value);
}

pfx_result pfx_canon_scan(struct pfx_bytes json, pfx_canon_member member, void *ctx,
                          struct pfx_error *err)
{
    struct plain_visit to = {member, ctx};
    return pfx_canon_walk(json, member ? visit_plainly : NULL, &to, err);
}

pfx_result pfx_canon_elements(struct pfx_bytes array, pfx_canon_element element, void *ctx,
                              struct pfx_error *err)
{
    struct scan s = begin(array);
    bool taken = s.at < s.end && *s.at == '[' ? take_elements(&s, 1, element, ctx) && ended(&s)
                                              : refuse(&s, s.at, "an array is expected here");
    return taken ? PFX_OK : say(&s, array, err);
}

bool pfx_canon_is_value(struct pfx_bytes json, unsigned depth, enum pfx_canon_kind *ret_kind)
{
    struct scan s = begin(json);
    struct pfx_canon_value value = {.number = 0};
    if (depth > PFX_CANON_DEPTH || !take_value(&s, PFX_CANON_DEPTH - depth, &value) || !ended(&s))
        return false;
    *ret_kind = value.kind;
    return true;
}

bool pfx_canon_is_text(struct pfx_bytes text, bool *ret_escaped)
{
    struct scan s = begin(text);
    return take_text(&s, ret_escaped) && ended(&s);
}

bool pfx_canon_unescape(const struct pfx_canon_value *value, struct pfx_buf *out)
{
    if (value->kind != PFX_CANON_STR)
        return false;
    if (!value->escaped)
        return pfx_buf_add(out, value->text.data, value->text.len);
    size_t before = out->len;
    const uint8_t *at = value->text.data, *end = at + value->text.len;
    while (at < end) {
        const uint8_t *escape = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((escape ? escape : end) - at);
        uint8_t c;
        size_t n = escape ? take_escape(escape, end, &c) : 0;
        if ((escape && n == 0) || !pfx_buf_add(out, at, plain) ||
            (escape && !pfx_buf_add(out, &c, 1))) {
            pfx_buf_cut(out, before);
            return false;
        }
        at += plain + n;
    }
    return true;
}
