/* The mark of a ceremony, as bytes. */
#include "pkcs11/hsm/begun_form.h"

#include <inttypes.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/lines.h"

#define HEADER "pfx-agent ceremony begun v1"
#define MAC_SIZE 32
#define MAC_LINE (4 + 2 * MAC_SIZE + 1) /* "mac ", hex, LF */

static bool take_head(struct pfx_lines *lines, struct pfx_begun_text *text)
{
    struct pfx_bytes line;
    if (!pfx_lines_next(lines, &line) || !pfx_bytes_equal(line, HEADER) ||
        !pfx_lines_next(lines, &line) || !pfx_bytes_skip(&line, "log ") || line.len == 0 ||
        line.len >= sizeof text->origin || memchr(line.data, '\0', line.len))
        return false;
    if (!pfx_bytes_equal(line, "-"))
        memcpy(text->origin, line.data, line.len);
    return pfx_lines_next(lines, &line) && pfx_bytes_skip(&line, "from ") &&
           pfx_bytes_decimal(line, &text->from);
}

/* Its last line. */
static void take_mac(struct pfx_bytes bytes, struct pfx_bytes rest, struct pfx_begun_text *text)
{
    struct pfx_buf mac PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(MAC_SIZE);
    if (rest.len <= MAC_LINE || rest.data[rest.len - 1] != '\n')
        return;
    struct pfx_bytes line = {rest.data + rest.len - MAC_LINE, MAC_LINE - 1};
    if (!pfx_bytes_skip(&line, "mac ") || line.data[-5] != '\n' ||
        !pfx_unhex((const char *)line.data, line.len, &mac))
        return;
    memcpy(text->mac, mac.data, MAC_SIZE);
    text->covered = (struct pfx_bytes){bytes.data, bytes.len - MAC_LINE};
    text->record = (struct pfx_bytes){rest.data, rest.len - MAC_LINE};
}

bool pfx_begun_parse(struct pfx_bytes bytes, struct pfx_begun_text *ret)
{
    struct pfx_begun_text text = {.from = 0};
    struct pfx_lines lines = {.rest = bytes};
    bool ours = take_head(&lines, &text);
    if (ours)
        take_mac(bytes, lines.rest, &text);
    *ret = ours ? text : (struct pfx_begun_text){.from = 0};
    return ours;
}

void pfx_begun_head(const char *origin, uint64_t from, struct pfx_buf *out)
{
    (void)pfx_buf_addf(out, HEADER "\nlog %s\nfrom %" PRIu64 "\n", origin[0] ? origin : "-", from);
}

bool pfx_begun_seal(const uint8_t mac[32], struct pfx_buf *out)
{
    char hex[2 * MAC_SIZE + 1];
    return pfx_buf_addf(out, "mac %s\n", pfx_hex(mac, MAC_SIZE, hex));
}
