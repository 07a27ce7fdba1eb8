/*
 * PKCS#12 files (RFC 7292) in the profile `modern`: PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC
 * for key and certificates, HMAC-SHA-256 MAC with an 8-byte salt (macOS and iOS refuse 16).
 *
 * The key arrives encrypted. In the tier `direct` the token made the ciphertext (CKM_AES_CBC_PAD
 * under the key-encryption key); in `transit` pfx_p8_encrypt did, in locked memory.
 */
#ifndef PFX_CRYPTO_PFX_H
#define PFX_CRYPTO_PFX_H

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/result.h"
#include "crypto/secret.h"

enum pfx_profile { /* words: "modern" */
    PFX_PROFILE_MODERN,
};
const char *pfx_profile_name(enum pfx_profile profile);
PFX_MUST_USE bool pfx_profile_parse(const char *name, enum pfx_profile *ret_profile);

#define PFX_PBES2_ITERATIONS 2048 /* the password has 192 random bits: see design */

struct pfx_pbes2 {
    uint8_t salt[16];
    uint8_t iv[16];
    unsigned iterations;
};
/* Draws salt and iv from the OpenSSL RNG. */
PFX_MUST_USE pfx_result pfx_pbes2_draw(struct pfx_pbes2 *ret_params, struct pfx_error *err);
/* The AES-256 key-encryption key of this password. */
PFX_MUST_USE pfx_result pfx_pbes2_kek(const struct pfx_pbes2 *params,
                                      const struct pfx_secret *password,
                                      struct pfx_secret **ret_kek, struct pfx_error *err);
/* AES-256-CBC with PKCS#7 padding of a DER PrivateKeyInfo; appends the ciphertext only. */
PFX_MUST_USE pfx_result pfx_p8_encrypt(const struct pfx_pbes2 *params, const struct pfx_secret *kek,
                                       const struct pfx_secret *pkcs8, struct pfx_buf *out,
                                       struct pfx_error *err);
/* Length of the DER SEQUENCE at the start, without trailing padding (SoftHSM zero-pads before
 * KWP); 0 if it isn't one. */
size_t pfx_der_trim(const uint8_t *data, size_t len);

struct pfx_pfx_spec {
    enum pfx_profile profile;
    const struct pfx_pbes2 *key_params; /* those the ciphertext was made with */
    struct pfx_bytes key_ciphertext;
    struct pfx_bytes leaf;         /* DER */
    const struct pfx_bytes *chain; /* DER, issuer of the leaf first; root left out by the caller */
    size_t n_chain;
    const char *friendly_name; /* UTF-8 */
};
/* Appends the DER PFX. localKeyID is the SHA-1 of the leaf, on key and leaf. */
PFX_MUST_USE pfx_result pfx_pfx_build(const struct pfx_pfx_spec *spec,
                                      const struct pfx_secret *password, struct pfx_buf *out,
                                      struct pfx_error *err);
/* Maps random bytes one to one onto a 64-character ASCII set: 32 bytes give 192 bits. The set holds
 * letters, digits, '-' and '_'. In place. */
void pfx_password_from_random(struct pfx_secret *random);

#endif
