/*
 * The text of the file "in-force": a header line, "policy <base64>", "roster <base64>", "mac <hex>"
 * over all before. Bytes that somebody else may have written: nothing of them counts before the MAC
 * was checked.
 */
#ifndef PFX_HSM_FORCE_FORM_H
#define PFX_HSM_FORCE_FORM_H

#include "crypto/checkpoint.h"

#define PFX_FORCE_POLICY_MAX ((size_t)512 * 1024)
#define PFX_FORCE_FILE_MAX ((size_t)1024 * 1024)

struct pfx_force_text {
    struct pfx_buf policy, roster, mac;
    size_t covered; /* bytes that the MAC is over */
};
struct pfx_force_text pfx_force_text_make(void);
void pfx_force_text_done(struct pfx_force_text *text); /* usable as cleanup */
/* Into an empty one. NULL, or why it isn't one: a sentence. */
const char *pfx_force_parse(struct pfx_bytes bytes, struct pfx_force_text *text);
/* Appends what the MAC is over. False: the policy is too long. */
PFX_MUST_USE bool pfx_force_write(struct pfx_bytes policy, struct pfx_bytes roster,
                                  struct pfx_buf *out);
void pfx_force_seal(const uint8_t mac[32], struct pfx_buf *out);

#endif
