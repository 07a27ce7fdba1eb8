/* The client assertion of Entra ID: a JWT (RFC 7519, 7523) with x5t#S256. */
#ifndef PFX_CRYPTO_JWT_H
#define PFX_CRYPTO_JWT_H

#include "crypto/mem.h"
#include "crypto/result.h"

#define PFX_ASSERTION_SECONDS 300 /* Entra takes at most 600 */

struct pfx_assertion {
    bool rs256;                 /* PS256 otherwise */
    uint8_t x5t_s256[32];       /* SHA-256 of the certificate's DER */
    const char *audience;       /* the token endpoint's URL */
    const char *client_id;
    const char *jti;            /* GUID */
    int64_t now_ms;
};
/* Appends base64url(header).base64url(claims): the bytes to sign. */
PFX_MUST_USE pfx_result pfx_assertion_input(const struct pfx_assertion *a, struct pfx_buf *out,
                                            struct pfx_error *err);
/* Appends "." and the signature. */
PFX_MUST_USE bool pfx_assertion_sign(struct pfx_buf *input, struct pfx_bytes signature);

#endif
