#include "api/wire/json.h"

#include <cjson/cJSON.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <string.h>

#include "crypto/encode.h"

/* The length of a block stands in front of it, so that free knows how much to wipe. */
union block {
    size_t len;
    max_align_t align;
};

static void *wiping_alloc(size_t len)
{
    if (len > SIZE_MAX - sizeof(union block))
        return NULL;
    union block *block = malloc(sizeof(union block) + len);
    if (!block)
        return NULL;
    block->len = len;
    return block + 1;
}

static void wiping_free(void *ptr)
{
    if (!ptr)
        return;
    union block *block = (union block *)ptr - 1;
    OPENSSL_cleanse(ptr, block->len);
    free(block);
}

__attribute__((constructor)) static void set_hooks(void)
{
    cJSON_Hooks hooks = {wiping_alloc, wiping_free};
    cJSON_InitHooks(&hooks);
}

void pfx_json_wiping(void)
{
}

struct scan {
    const char *p, *end;
    const char *why;
    size_t values;
};

static bool bad(struct scan *s, const char *why)
{
    s->why = why;
    return false;
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool scan_escape(struct scan *s)
{
    if (++s->p == s->end)
        return bad(s, "a string doesn't end");
    if (*s->p != 'u') {
        if (!memchr("\"\\/bfnrt", *s->p, 8))
            return bad(s, "an escape that JSON doesn't have");
        s->p++;
        return true;
    }
    if (s->end - s->p < 5)
        return bad(s, "a string doesn't end");
    bool zero = true;
    for (int i = 1; i <= 4; i++) {
        char c = s->p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return bad(s, "an escape that JSON doesn't have");
        zero = zero && c == '0';
    }
    if (zero)
        return bad(s, "a NUL character in a string");
    s->p += 5;
    return true;
}

/* A value or the name of a member: which of both shows only after it. */
static bool scan_string(struct scan *s)
{
    bool escaped = false;
    s->p++;
    while (s->p < s->end && *s->p != '"') {
        if (*s->p == '\\') {
            escaped = true;
            if (!scan_escape(s))
                return false;
        } else if ((unsigned char)*s->p < 0x20) {
            return bad(s, "a control character in a string");
        } else {
            s->p++;
        }
    }
    if (s->p == s->end)
        return bad(s, "a string doesn't end");
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == ':') {
        if (escaped)
            return bad(s, "an escape in the name of a member");
        return true;
    }
    s->values++;
    return true;
}

/* At most 16 digits: less than 2^53 is checked later, on the exact double. */
static bool scan_number(struct scan *s)
{
    const char *start = s->p;
    bool negative = *s->p == '-';
    if (negative)
        start = ++s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    ptrdiff_t digits = s->p - start;
    if (digits < 1 || digits > 16 || (*start == '0' && (digits > 1 || negative)) ||
        (s->p < s->end && (*s->p == '.' || *s->p == 'e' || *s->p == 'E')))
        return bad(s, "a number that isn't a plain integer below 2^53");
    s->values++;
    return true;
}

static bool scan_word(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            s->values++;
            return true;
        }
    }
    return bad(s, "a byte that doesn't belong there");
}

static bool scan_object(struct scan *s)
{
    char closes[PFX_JSON_DEPTH];
    size_t depth = 0;
    do {
        skip_space(s);
        if (s->p == s->end)
            return bad(s, "it doesn't end");
        char c = *s->p;
        if (c == '{' || c == '[') {
            if (depth == PFX_JSON_DEPTH)
                return bad(s, "it is nested too deeply");
            closes[depth++] = c == '{' ? '}' : ']';
            s->values++;
            s->p++;
        } else if (c == '}' || c == ']') {
            if (closes[--depth] != c)
                return bad(s, "brackets don't match");
            s->p++;
        } else if (c == ',' || c == ':') {
            s->p++;
        } else if (c == '"') {
            if (!scan_string(s))
                return false;
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            if (!scan_number(s))
                return false;
        } else if (!scan_word(s)) {
            return false;
        }
        if (s->values > PFX_JSON_VALUES)
            return bad(s, "it has too many values");
    } while (depth > 0);
    skip_space(s);
    if (s->p != s->end)
        return bad(s, "something stands after the object");
    return true;
}

bool pfx_json_scan(const char *json, size_t len, size_t *ret_values, const char **ret_why)
{
    struct scan s = {json, len > 0 ? json + len : json, NULL, 0};
    bool ok;
    if (len == 0 || json[0] != '{')
        ok = bad(&s, "it isn't an object");
    else if (!pfx_utf8_valid(json, len))
        ok = bad(&s, "it isn't UTF-8");
    else
        ok = scan_object(&s);
    if (ok && ret_values)
        *ret_values = s.values;
    if (!ok)
        *ret_why = s.why;
    return ok;
}
