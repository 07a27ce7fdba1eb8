/* PEM (RFC 7468), read leniently: whatever the line breaks, with any text between the blocks. */
#include <string.h>

#include "crypto/encode.h"

static const char begin_mark[] = "-----BEGIN ";
static const char end_mark[] = "-----END ";
static const char dashes[] = "-----";

bool pfx_pem_encode(const char *label, struct pfx_bytes der, struct pfx_buf *out)
{
    size_t start = out->len;
    bool ok = pfx_buf_addf(out, "-----BEGIN %s-----\n", label);
    for (size_t at = 0; ok && at < der.len; at += 48) { /* 64 characters */
        size_t n = der.len - at < 48 ? der.len - at : 48;
        ok = pfx_base64_encode(der.data + at, n, out) && pfx_buf_add(out, "\n", 1);
    }
    ok = ok && pfx_buf_addf(out, "-----END %s-----\n", label);
    if (!ok)
        pfx_buf_cut(out, start);
    return ok;
}

static const char *find(const char *from, const char *end, const char *what, size_t len)
{
    return from < end ? memmem(from, (size_t)(end - from), what, len) : NULL;
}

/* The Base64 between two marks, white space left out. */
static bool decode_body(const char *from, const char *end, struct pfx_buf *out)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make((size_t)(end - from));
    for (; from < end; from++) {
        if (*from != ' ' && *from != '\t' && *from != '\r' && *from != '\n' &&
            !pfx_buf_add(&text, from, 1))
            return false;
    }
    return text.len > 0 && pfx_base64_decode((const char *)text.data, text.len, out);
}

enum pfx_pem pfx_pem_next(struct pfx_bytes text, size_t *pos, char label[PFX_PEM_LABEL_SIZE],
                          struct pfx_buf *ret_der)
{
    const char *base = (const char *)text.data;
    const char *end = base + text.len;
    const char *begin = find(base + *pos, end, begin_mark, sizeof begin_mark - 1);
    if (!begin)
        return PFX_PEM_NONE;
    const char *name = begin + sizeof begin_mark - 1;
    const char *name_end = find(name, end, dashes, sizeof dashes - 1);
    *pos = (size_t)(name - base);
    label[0] = '\0';
    if (!name_end || name_end - name >= PFX_PEM_LABEL_SIZE)
        return PFX_PEM_BAD;
    size_t name_len = (size_t)(name_end - name);
    memcpy(label, name, name_len);
    label[name_len] = '\0';
    const char *body = name_end + sizeof dashes - 1;
    const char *close = find(body, end, end_mark, sizeof end_mark - 1);
    if (!close)
        return PFX_PEM_BAD;
    const char *close_name = close + sizeof end_mark - 1;
    *pos = (size_t)(close_name - base);
    if ((size_t)(end - close_name) < name_len + sizeof dashes - 1 ||
        memcmp(close_name, name, name_len) != 0 ||
        memcmp(close_name + name_len, dashes, sizeof dashes - 1) != 0)
        return PFX_PEM_BAD;
    *pos += name_len + sizeof dashes - 1;
    return decode_body(body, close, ret_der) ? PFX_PEM_BLOCK : PFX_PEM_BAD;
}
