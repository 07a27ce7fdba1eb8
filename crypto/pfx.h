/*
 * PKCS#12 files (RFC 7292) in two profiles:
 *
 *          key and certificates                  MAC (8-byte salt: macOS and iOS refuse 16)
 *   modern PBES2, PBKDF2-HMAC-SHA-256, AES-256   HMAC-SHA-256
 *   compat pbeWithSHAAnd3-KeyTripleDES-CBC       HMAC-SHA-1
 *
 * The key arrives encrypted (crypto/pbe.h). In the tier `direct` the token made the ciphertext
 * (CKM_AES_CBC_PAD or CKM_DES3_CBC_PAD under the key-encryption key); in `transit` pfx_p8_encrypt
 * did, in locked memory.
 */
#ifndef PFX_CRYPTO_PFX_H
#define PFX_CRYPTO_PFX_H

#include "crypto/cert.h"
#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/pbe.h"
#include "crypto/result.h"
#include "crypto/secret.h"

struct pfx_pfx_spec {
    const struct pfx_pbe *pbe; /* what the ciphertext was made with; its profile is the file's */
    struct pfx_bytes key_ciphertext;
    const struct pfx_certs *certs; /* leaf first, then its issuer; root left out by the caller */
    const char *friendly_name; /* UTF-8, no character beyond U+FFFF */
};
/* Appends the DER PFX. localKeyID is the SHA-1 of the leaf, on key and leaf. */
PFX_MUST_USE pfx_result pfx_pfx_build(const struct pfx_pfx_spec *spec,
                                      const struct pfx_secret *password, struct pfx_buf *out,
                                      struct pfx_error *err);
/* Maps random bytes one to one onto a 64-character ASCII set: 32 bytes give 192 bits. The set holds
 * letters, digits, '-' and '_'. In place. */
void pfx_password_from_random(struct pfx_secret *random);

#endif
