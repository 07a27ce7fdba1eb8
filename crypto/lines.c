/* Lines, and what stands in them. */
#include "crypto/lines.h"

#include <string.h>

#include "crypto/encode.h"

bool pfx_lines_next(struct pfx_lines *lines, struct pfx_bytes *ret)
{
    const uint8_t *begin = lines->rest.data;
    const uint8_t *lf = lines->rest.len > 0 ? memchr(begin, '\n', lines->rest.len) : NULL;
    lines->n++;
    if (!lf)
        return false;
    size_t len = (size_t)(lf - begin);
    *ret = (struct pfx_bytes){begin, len};
    lines->rest = (struct pfx_bytes){lf + 1, lines->rest.len - len - 1};
    return true;
}

bool pfx_bytes_skip(struct pfx_bytes *bytes, const char *text)
{
    size_t len = strlen(text);
    if (bytes->len < len || memcmp(bytes->data, text, len) != 0)
        return false;
    bytes->data += len;
    bytes->len -= len;
    return true;
}

bool pfx_bytes_equal(struct pfx_bytes bytes, const char *text)
{
    return pfx_bytes_skip(&bytes, text) && bytes.len == 0;
}

bool pfx_bytes_decimal(struct pfx_bytes bytes, uint64_t *ret)
{
    uint64_t value = 0;
    if (bytes.len == 0 || (bytes.data[0] == '0' && bytes.len > 1))
        return false;
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.data[i] < '0' || bytes.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(bytes.data[i] - '0');
        if (value > PFX_TREE_SIZE_MAX)
            return false;
    }
    *ret = value;
    return true;
}

bool pfx_bytes_node(struct pfx_bytes bytes, struct pfx_node *ret)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(PFX_HASH_SIZE);
    if (!pfx_base64_decode((const char *)bytes.data, bytes.len, &raw) || raw.len != PFX_HASH_SIZE)
        return false;
    memcpy(ret->bytes, raw.data, PFX_HASH_SIZE);
    return true;
}
