#include "api/uploader/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 character at s, 0 when it is broken; *ret_code is its code point. */
static size_t utf8_char(const unsigned char *s, size_t len, uint32_t *ret_code)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : s[0] >= 0xC2 ? 2 : 0;
    if (n == 0 || n > len || s[0] > 0xF4)
        return 0;
    uint32_t code = n == 1 ? s[0] : s[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3Fu);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *ret_code = code;
    return n;
}

/* What could forge a line, or turn the rest of it around, on somebody's terminal. */
static bool is_hidden(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C || code == 0xFEFF ||
           (code >= 0x200B && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) ||
           (code >= 0x2060 && code <= 0x206F);
}

static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code < 0xA0);
}

static char *clean(char *dest, size_t size, const char *src, size_t len,
                   bool (*is_bad)(uint32_t code), const char *instead)
{
    const unsigned char *s = (const unsigned char *)src;
    size_t at = 0;
    size_t keep = 0; /* where "..." can go */
    bool cut = false;
    for (size_t i = 0; i < len && !cut;) {
        uint32_t code = 0;
        size_t n = utf8_char(s + i, len - i, &code);
        const unsigned char *put = s + i;
        size_t put_len = n;
        if (n == 0 || (is_bad(code) && !(n == 1 && isspace((int)code)))) {
            put = (const unsigned char *)instead;
            put_len = strlen(instead);
            n = n ? n : 1;
        } else if (n == 1 && isspace((int)code)) {
            put = (const unsigned char *)" ";
            put_len = at > 0 && dest[at - 1] != ' ' ? 1 : 0;
        }
        if (at + put_len >= size) {
            cut = true;
            break;
        }
        memcpy(dest + at, put, put_len);
        at += put_len;
        if (at + 4 <= size)
            keep = at;
        i += n;
    }
    if (cut) {
        memcpy(dest + keep, "...", 3);
        at = keep + 3;
    }
    while (at > 0 && dest[at - 1] == ' ')
        at--;
    dest[at] = '\0';
    return dest;
}

char *pfx_text_clean(char *dest, size_t size, const char *src, size_t len)
{
    return clean(dest, size, src, len, is_hidden, "?");
}

char *pfx_text_data(char *dest, size_t size, const char *src)
{
    return clean(dest, size, src, strlen(src), is_control, "\xEF\xBF\xBD");
}

char *pfx_text_clean_str(char *dest, size_t size, const char *src)
{
    return pfx_text_clean(dest, size, src ? src : "", src ? strlen(src) : 0);
}

bool pfx_text_is_guid(const char *text)
{
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return text[36] == '\0';
}

char *pfx_text_guid_after(char *dest, const char *text, const char *label)
{
    dest[0] = '\0';
    const char *at = text ? strstr(text, label) : NULL;
    if (!at)
        return dest;
    at += strlen(label);
    if (strnlen(at, 36) < 36)
        return dest;
    for (size_t i = 0; i < 36; i++)
        dest[i] = (char)tolower((unsigned char)at[i]);
    dest[36] = '\0';
    if (!pfx_text_is_guid(dest))
        dest[0] = '\0';
    return dest;
}
