/* What people see of a changed policy or roster before they sign (crypto/changes.h). */
#include "crypto/changes.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/force_impl.h"

#define POLICY_ROOM 2500 /* bytes of lines that are shown one by one */
#define ROSTER_ROOM 1500

/* As JSON has it, but for what isn't UTF-8: '?' for each such byte, so that it is seen. False: there
 * is no room for it. */
static bool add_line(struct pfx_canon *canon, struct pfx_bytes line, size_t *room)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(POLICY_ROOM);
    size_t cost = 16;
    for (size_t i = 0; i < line.len && cost <= *room; i++)
        cost += line.data[i] < 0x20 ? 6 : line.data[i] == '"' || line.data[i] == '\\' ? 2 : 1;
    if (cost > *room)
        return false;
    *room -= cost;
    bool plain = pfx_utf8_valid((const char *)line.data, line.len);
    for (size_t i = 0; i < line.len; i++)
        (void)pfx_buf_add(&text, plain || line.data[i] < 0x80 ? (const void *)&line.data[i] : "?",
                          1);
    pfx_canon_str(canon, NULL, pfx_buf_bytes(&text));
    return true;
}

/* What isn't shown is said. */
static void list(struct pfx_canon *canon, const char *name, const struct pfx_bytes *lines, size_t n,
                 size_t *room)
{
    static const char more[] = "... and more: compare the files by their hashes";
    size_t i = 0;
    pfx_canon_open(canon, name, '[');
    while (i < n && add_line(canon, lines[i], room))
        i++;
    if (i < n)
        pfx_canon_str(canon, NULL, pfx_text_bytes(more));
    pfx_canon_close(canon, ']');
}

static void differing(struct pfx_canon *canon, const char *gone, const char *fresh,
                      struct pfx_bytes old, struct pfx_bytes now, size_t room)
{
    PFX_CLEANUP(pfx_changes_done) struct pfx_changes changes = {NULL, NULL, 0, 0};
    pfx_changes_find(old, now, &changes);
    list(canon, gone, changes.gone, changes.n_gone, &room);
    list(canon, fresh, changes.fresh, changes.n_fresh, &room);
}

/* Members in the order of their names: canonical. */
pfx_result pfx_force_args(const struct pfx_force_change *change, struct pfx_buf *args,
                          struct pfx_error *err)
{
    uint8_t digest[32];
    char hex[65];
    struct pfx_canon canon = pfx_canon_make(args);
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_str(&canon, "new_policy", pfx_text_bytes(pfx_hex(change->new_sha256, 32, hex)));
    if (!pfx_sha256(change->new_roster.data, change->new_roster.len, digest))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "policy approve", "", "", "SHA-256 failed.");
    pfx_canon_str(&canon, "new_roster", pfx_text_bytes(pfx_hex(digest, 32, hex)));
    pfx_canon_str(&canon, "old_policy", pfx_text_bytes(pfx_hex(change->old_sha256, 32, hex)));
    if (!pfx_sha256(change->old_roster.data, change->old_roster.len, digest))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "policy approve", "", "", "SHA-256 failed.");
    pfx_canon_str(&canon, "old_roster", pfx_text_bytes(pfx_hex(digest, 32, hex)));
    differing(&canon, "policy_lines_gone", "policy_lines_new", change->old_policy,
              change->new_policy, POLICY_ROOM);
    differing(&canon, "roster_lines_gone", "roster_lines_new", change->old_roster,
              change->new_roster, ROSTER_ROOM);
    pfx_canon_close(&canon, '}');
    return args->over ? pfx_fail(err, PFX_CLASS_USAGE, "policy approve", "", "",
                                 "The changed lines are too long to be shown.")
                      : PFX_OK;
}
