/* The file "in-force", as bytes. */
#include "pkcs11/hsm/force_form.h"

#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto/roster.h"

#define HEADER "pfx-agent policy in force v1"
#define MAC_SIZE 32

struct pfx_force_text pfx_force_text_make(void)
{
    return (struct pfx_force_text){.policy = pfx_buf_make(PFX_FORCE_POLICY_MAX),
                                   .roster = pfx_buf_make(PFX_ROSTER_MAX),
                                   .mac = pfx_buf_make(MAC_SIZE)};
}

void pfx_force_text_done(struct pfx_force_text *text)
{
    pfx_buf_done(&text->policy);
    pfx_buf_done(&text->roster);
    pfx_buf_done(&text->mac);
}

static bool take_line(struct pfx_lines *lines, const char *name, struct pfx_buf *out)
{
    struct pfx_bytes line;
    return pfx_lines_next(lines, &line) && pfx_bytes_skip(&line, name) &&
           pfx_base64_decode((const char *)line.data, line.len, out);
}

const char *pfx_force_parse(struct pfx_bytes bytes, struct pfx_force_text *text)
{
    struct pfx_lines lines = {.rest = bytes};
    struct pfx_bytes line;
    if (!pfx_lines_next(&lines, &line) || !pfx_bytes_equal(line, HEADER) ||
        !take_line(&lines, "policy ", &text->policy) ||
        !take_line(&lines, "roster ", &text->roster))
        return "Its form isn't known.";
    text->covered = bytes.len - lines.rest.len;
    if (!pfx_lines_next(&lines, &line) || !pfx_bytes_skip(&line, "mac ") ||
        line.len != 2 * MAC_SIZE || !pfx_unhex((const char *)line.data, line.len, &text->mac) ||
        lines.rest.len > 0)
        return "It has no MAC at its end.";
    return NULL;
}

bool pfx_force_write(struct pfx_bytes policy, struct pfx_bytes roster, struct pfx_buf *out)
{
    return policy.len <= PFX_FORCE_POLICY_MAX && pfx_buf_add_str(out, HEADER "\npolicy ") &&
           pfx_base64_encode(policy.data, policy.len, out) && pfx_buf_add_str(out, "\nroster ") &&
           pfx_base64_encode(roster.data, roster.len, out) && pfx_buf_add_str(out, "\n");
}

void pfx_force_seal(const uint8_t mac[32], struct pfx_buf *out)
{
    char hex[2 * MAC_SIZE + 1];
    pfx_buf_addf(out, "mac %s\n", pfx_hex(mac, MAC_SIZE, hex));
}
