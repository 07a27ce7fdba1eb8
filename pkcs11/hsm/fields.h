/* Bytes to be MACed: fields with their lengths in front, the first one naming what it is. The same
 * form as a ticket's (crypto/ticket.h), so no two kinds ever have the same bytes under the MAC key.
 */
#ifndef PFX_HSM_FIELDS_H
#define PFX_HSM_FIELDS_H

#include <string.h>

#include "crypto/mem.h"

static inline bool pfx_field_add(struct pfx_buf *out, const void *data, size_t len)
{
    uint8_t size[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                       (uint8_t)len};
    return len <= UINT32_MAX && pfx_buf_add(out, size, sizeof size) && pfx_buf_add(out, data, len);
}
static inline bool pfx_field_add_text(struct pfx_buf *out, const char *text)
{
    return pfx_field_add(out, text, strlen(text));
}

#endif
