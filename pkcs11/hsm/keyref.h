/*
 * A key reference: where a user key is. pfx-agentd keeps it and gives it back; it is opaque there.
 *   t1.<CKA_ID hex>.<SPKI base64url>                            an object in the users token
 *   w1.<CKA_ID hex>.<SPKI base64url>.<blob>.<MAC>               a blob under the wrapping key
 *   w2.<CKA_ID hex>.<SPKI base64url>.<blob>.<MAC>.<generation>  under a later generation of it
 * The MAC binds the blob to user, key id and public key: CBC_PAD blobs that were tampered with come
 * back from some tokens as keys, and a whole blob could be another user's.
 */
#ifndef PFX_HSM_KEYREF_H
#define PFX_HSM_KEYREF_H

#include "pkcs11/keys.h"

struct pfx_keyref {
    bool wrapped;
    unsigned wrapping; /* wrapped only: generation of the wrapping key, from 1 */
    struct pfx_key_id id;
    struct pfx_buf spki;
    struct pfx_buf blob; /* wrapped only */
    uint8_t mac[32];     /* wrapped only */
};
void pfx_keyref_init(struct pfx_keyref *ref);
void pfx_keyref_done(struct pfx_keyref *ref); /* usable as cleanup after _init */
/* INTEGRITY for anything that pfx_keyref_write doesn't write. ret_ref was initialised. */
PFX_MUST_USE pfx_result pfx_keyref_parse(const char *text, struct pfx_keyref *ret_ref,
                                         struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_keyref_write(const struct pfx_keyref *ref, struct pfx_buf *out,
                                         struct pfx_error *err);
/* The bytes under the MAC of a wrapped one. */
PFX_MUST_USE bool pfx_keyref_mac_bytes(const struct pfx_keyref *ref, const char *user_id,
                                       struct pfx_buf *out);

#endif
