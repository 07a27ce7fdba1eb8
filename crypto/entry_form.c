/* Forms of text in entries. Two thirds of a usual entry are hashes, so their digits are looked at
 * eight at a time. */
#include "crypto/entry_form.h"

#include <string.h>

#define HASH_DIGITS 64
#define ULID_DIGITS (PFX_ULID_SIZE - 1)
#define TIME_DIGITS 24

bool pfx_form_word(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

#define ONES UINT64_C(0x0101010101010101)
#define HIGH UINT64_C(0x8080808080808080)

/* The top bits of eight bytes, each of them set where its byte is neither a digit nor a to f. No
 * sum carries into the next byte, as those from 0x80 on are cut first. */
static inline uint64_t not_hex(const uint8_t *text)
{
    uint64_t x;
    memcpy(&x, text, 8);
    uint64_t low = x & ~HIGH;
    uint64_t digit = (low + ONES * (0x80 - '0')) & ~(low + ONES * (0x7F - '9'));
    uint64_t letter = (low + ONES * (0x80 - 'a')) & ~(low + ONES * (0x7F - 'f'));
    return (~(digit | letter) | x) & HIGH;
}

static bool is_hash(const uint8_t *text)
{
    uint64_t wrong = 0;
    for (size_t i = 0; i < HASH_DIGITS; i += 8)
        wrong |= not_hex(text + i);
    return !wrong;
}

static bool is_hex(struct pfx_bytes text)
{
    if (text.len == 0 || text.len % 2 != 0)
        return false;
    uint64_t wrong = 0;
    size_t i = 0;
    for (; text.len - i >= 8; i += 8)
        wrong |= not_hex(text.data + i);
    if (i == text.len)
        return !wrong;
    uint8_t rest[8] = "00000000";
    memcpy(rest, text.data + i, text.len - i);
    return !(wrong | not_hex(rest));
}

static bool is_word(struct pfx_bytes text)
{
    static const uint8_t allowed[256] = {
        ['-'] = 1, ['.'] = 1, ['_'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
    };
    uint8_t all = text.len > 0;
    for (size_t i = 0; i < text.len; i++)
        all &= allowed[text.data[i]];
    return all;
}

/* Crockford's base 32 has no I, L, O and U; 26 digits are 130 bits, of which 128 count. */
static bool is_ulid(const uint8_t *text)
{
    static const uint8_t allowed[256] = {
        ['0' ... '9'] = 1, ['A' ... 'H'] = 1, ['J' ... 'K'] = 1,
        ['M' ... 'N'] = 1, ['P' ... 'T'] = 1, ['V' ... 'Z'] = 1,
    };
    uint8_t all = text[0] <= '7';
    for (size_t i = 0; i < ULID_DIGITS; i++)
        all &= allowed[text[i]];
    return all;
}

static unsigned two(const uint8_t *text)
{
    return (unsigned)(text[0] - '0') * 10 + (unsigned)(text[1] - '0');
}

/* The one form that pfx_time_format writes with milliseconds. */
static bool is_time(const uint8_t *text)
{
    static const char form[] = "0000-00-00T00:00:00.000Z";
    static const uint8_t days[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint8_t wrong = 0;
    for (size_t i = 0; i < TIME_DIGITS; i++) {
        uint8_t off = (uint8_t)(text[i] - (uint8_t)form[i]);
        wrong |= off > (form[i] == '0' ? 9 : 0);
    }
    if (wrong)
        return false;
    unsigned year = two(text) * 100 + two(text + 2), month = two(text + 5), day = two(text + 8);
    if (year < 1970 || month < 1 || month > 12 || day < 1)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month] + (month == 2 && leap ? 1u : 0u) && two(text + 11) < 24 &&
           two(text + 14) < 60 && two(text + 17) < 60;
}

/* Bytes of the text once its escapes are resolved; each stands for one byte. */
static size_t plain_len(struct pfx_bytes text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; n++) {
        bool escape = text.data[i] == '\\' && i + 1 < text.len;
        i += !escape ? 1 : text.data[i + 1] == 'u' ? 6 : 2;
    }
    return n;
}

bool pfx_form_holds(const struct pfx_field_info *info, struct pfx_bytes text, bool escaped)
{
    switch (info->type) {
    case PFX_T_HASH:
        return text.len == HASH_DIGITS && is_hash(text.data);
    case PFX_T_ULID:
        return text.len == ULID_DIGITS && is_ulid(text.data);
    case PFX_T_TIME:
        return text.len == TIME_DIGITS && is_time(text.data);
    case PFX_T_WORD:
        return text.len <= info->max && is_word(text);
    case PFX_T_HEX:
        return text.len <= info->max && is_hex(text);
    case PFX_T_STR:
    case PFX_T_TEXT:
        return text.len <= info->max || (escaped && plain_len(text) <= info->max);
    default:
        return false;
    }
}

static uint8_t digit(uint8_t c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

bool pfx_form_unhex(struct pfx_bytes text, uint8_t *ret)
{
    if (!is_hex(text))
        return false;
    for (size_t i = 0; i < text.len / 2; i++)
        ret[i] = (uint8_t)(digit(text.data[2 * i]) << 4 | digit(text.data[2 * i + 1]));
    return true;
}
