/*
 * Keys that somebody else's software made and that are taken over: the encryption key that the
 * connector's provider made. Sensitive and never extractable is required; everything else that
 * differs from a key of ours is listed. Their CKA_ID has any length.
 */
#ifndef PFX_PKCS11_ADOPT_H
#define PFX_PKCS11_ADOPT_H

#include "pkcs11/keys.h"

#define PFX_DEVIATIONS_MOST 24
struct pfx_adopted {
    bool found;
    struct pfx_buf spki; /* DER */
    enum pfx_key_type type;
    size_t n_deviations;
    char deviations[PFX_DEVIATIONS_MOST][64]; /* "CKA_SIGN true" */
};
void pfx_adopted_done(struct pfx_adopted *adopted); /* usable as cleanup */

/* Looks at the RSA private key with this CKA_ID, and shows by a decryption that it belongs to its
 * public half. Not found: found is false. INTEGRITY: there are several, it may leave the token, or
 * the pair doesn't fit. REFUSED: no RSA key of 2048 to 4096 bits. */
PFX_MUST_USE pfx_result pfx_adopted_look(struct pfx_session *session, struct pfx_bytes id,
                                         struct pfx_adopted *ret_adopted, struct pfx_error *err);
/* What pfx_key_attributes and pfx_key_label say of the private half. *ret_found: there is one; set
 * also when reading fails then. */
PFX_MUST_USE pfx_result pfx_adopted_attributes(struct pfx_session *session, struct pfx_bytes id,
                                               void (*line)(void *ctx, const char *text), void *ctx,
                                               char *label, size_t size, bool *ret_found,
                                               struct pfx_error *err);
/* Destroys both halves, if the private one has this public half, and shows that they aren't found
 * any more. *ret_found: it was there. */
PFX_MUST_USE pfx_result pfx_adopted_destroy(struct pfx_session *session, struct pfx_bytes id,
                                            struct pfx_bytes spki, bool *ret_found,
                                            struct pfx_error *err);

#endif
