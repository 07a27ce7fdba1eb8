/* The writer of canonical JSON. What it is given wrongly is a defect of the program: a log that
 * nobody can verify would be worse than a process that ends. */
#include "crypto/canon_scan.h"

#include <inttypes.h>
#include <stdio.h>

struct pfx_canon pfx_canon_make(struct pfx_buf *out)
{
    return (struct pfx_canon){.out = out, .first = {true}};
}

size_t pfx_canon_escape(uint8_t c, char out[6])
{
    static const char digits[] = "0123456789abcdef";
    static const char shorts[] = "\bb\tt\nn\ff\rr\"\"\\\\";
    for (size_t i = 0; i < sizeof shorts - 1; i += 2)
        if (c == (uint8_t)shorts[i]) {
            out[0] = '\\';
            out[1] = shorts[i + 1];
            return 2;
        }
    if (c >= 0x20) {
        out[0] = (char)c;
        return 1;
    }
    memcpy(out, "\\u00", 4);
    out[4] = digits[c >> 4];
    out[5] = digits[c & 15];
    return 6;
}

static void add(struct pfx_canon *canon, const void *data, size_t len)
{
    if (!pfx_buf_add(canon->out, data, len)) {
        /* Over its ceiling: the buffer says so to whoever asked for it. */
    }
}

/* The comma and the key, in order. */
static void lead(struct pfx_canon *canon, const char *key)
{
    unsigned depth = canon->depth;
    bool object = depth > 0 && canon->bracket[depth] == '{';
    if (object != (key != NULL) || (depth == 0 && !canon->first[0]))
        pfx_die("canonical JSON: a value without name in an object, or with one outside");
    if (!canon->first[depth])
        add(canon, ",", 1);
    if (key) {
        struct pfx_bytes text = {(const uint8_t *)key, strlen(key)};
        bool escaped;
        if (!pfx_canon_is_text(text, &escaped) || escaped)
            pfx_die("canonical JSON: a name that would need an escape");
        /* The one before stands in the buffer, unless that is over its ceiling. */
        if (!canon->first[depth] && !canon->out->over) {
            struct pfx_bytes last = {canon->out->data + canon->key_at[depth],
                                     canon->key_len[depth]};
            if (!pfx_canon_before(last, text))
                pfx_die("canonical JSON: names out of order");
        }
        add(canon, "\"", 1);
        canon->key_at[depth] = canon->out->len;
        canon->key_len[depth] = text.len;
        add(canon, text.data, text.len);
        add(canon, "\":", 2);
    }
    canon->first[depth] = false;
}

void pfx_canon_open(struct pfx_canon *canon, const char *key, char bracket)
{
    if (canon->depth >= PFX_CANON_DEPTH || (bracket != '{' && bracket != '['))
        pfx_die("canonical JSON: brackets that are nested too deeply");
    lead(canon, key);
    add(canon, &bracket, 1);
    canon->depth++;
    canon->first[canon->depth] = true;
    canon->bracket[canon->depth] = bracket;
}

void pfx_canon_close(struct pfx_canon *canon, char bracket)
{
    if (canon->depth == 0 || bracket != (canon->bracket[canon->depth] == '{' ? '}' : ']'))
        pfx_die("canonical JSON: a closing bracket that doesn't fit");
    canon->depth--;
    add(canon, &bracket, 1);
}

void pfx_canon_str(struct pfx_canon *canon, const char *key, struct pfx_bytes text)
{
    lead(canon, key);
    add(canon, "\"", 1);
    const uint8_t *at = text.data, *end = text.len > 0 ? at + text.len : at;
    while (at < end) {
        size_t n = pfx_canon_utf8(at, end);
        if (n == 0)
            pfx_die("canonical JSON: a text that isn't UTF-8");
        char out[6];
        if (n == 1)
            add(canon, out, pfx_canon_escape(*at, out));
        else
            add(canon, at, n);
        at += n;
    }
    add(canon, "\"", 1);
}

void pfx_canon_int(struct pfx_canon *canon, const char *key, int64_t value)
{
    if (value > PFX_CANON_INT_MAX || value < -PFX_CANON_INT_MAX)
        pfx_die("canonical JSON: a number of 2^53 or more");
    lead(canon, key);
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, value);
    add(canon, text, (size_t)len);
}

void pfx_canon_bool(struct pfx_canon *canon, const char *key, bool value)
{
    lead(canon, key);
    add(canon, value ? "true" : "false", value ? 4 : 5);
}

void pfx_canon_raw(struct pfx_canon *canon, const char *key, struct pfx_bytes json)
{
    enum pfx_canon_kind kind;
    if (!pfx_canon_is_value(json, PFX_CANON_DEPTH - canon->depth, &kind))
        pfx_die("canonical JSON: a raw value that isn't canonical");
    lead(canon, key);
    add(canon, json.data, json.len);
}
