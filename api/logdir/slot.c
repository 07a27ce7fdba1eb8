/* Slots of checkpoints and names of segments: bytes only. */
#include <string.h>

#include "api/logdir/logdir.h"
#include "crypto/encode.h"

/* Half of the digest is enough: it tells a torn write from a whole one, the signatures do the rest.
 */
static void head_of(const uint8_t slot[PFX_SLOT_SIZE], char ret_hex[PFX_SLOT_HEAD])
{
    uint8_t digest[32];
    char hex[65];
    if (!pfx_sha256(slot + PFX_SLOT_HEAD, PFX_SLOT_SIZE - PFX_SLOT_HEAD, digest))
        pfx_die("SHA-256 failed");
    pfx_hex(digest, sizeof digest, hex);
    memcpy(ret_hex, hex, PFX_SLOT_HEAD - 1);
    ret_hex[PFX_SLOT_HEAD - 1] = '\n';
}

void pfx_slot_write(struct pfx_bytes checkpoint, uint8_t ret_slot[PFX_SLOT_SIZE])
{
    if (checkpoint.len > PFX_SLOT_SIZE - PFX_SLOT_HEAD)
        pfx_die("a checkpoint is longer than its slot");
    memset(ret_slot, 0, PFX_SLOT_SIZE);
    if (checkpoint.len > 0)
        memcpy(ret_slot + PFX_SLOT_HEAD, checkpoint.data, checkpoint.len);
    char head[PFX_SLOT_HEAD];
    head_of(ret_slot, head);
    memcpy(ret_slot, head, sizeof head);
}

bool pfx_slot_read(const uint8_t slot[PFX_SLOT_SIZE], struct pfx_bytes *ret_checkpoint)
{
    char head[PFX_SLOT_HEAD];
    head_of(slot, head);
    if (memcmp(slot, head, sizeof head) != 0)
        return false;
    const uint8_t *text = slot + PFX_SLOT_HEAD;
    size_t room = PFX_SLOT_SIZE - PFX_SLOT_HEAD;
    size_t len = strnlen((const char *)text, room);
    for (size_t i = len; i < room; i++)
        if (text[i] != 0)
            return false;
    *ret_checkpoint = (struct pfx_bytes){text, len};
    return len > 0;
}

char *pfx_segment_name(uint64_t first, char buf[PFX_SEGMENT_NAME_SIZE])
{
    for (int i = PFX_SEGMENT_NAME_SIZE - 2; i >= 0; i--) {
        buf[i] = (char)('0' + first % 10);
        first /= 10;
    }
    buf[PFX_SEGMENT_NAME_SIZE - 1] = '\0';
    return buf;
}

bool pfx_segment_parse(const char *name, uint64_t *ret_first)
{
    uint64_t first = 0;
    size_t len = strlen(name);
    if (len != PFX_SEGMENT_NAME_SIZE - 1 || strspn(name, "0123456789") != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (first > PFX_TREE_SIZE_MAX / 10)
            return false;
        first = first * 10 + (uint64_t)(name[i] - '0');
    }
    if (first > PFX_TREE_SIZE_MAX)
        return false;
    *ret_first = first;
    return true;
}
