/* RSA-OAEP and PSS (RFC 8017) around a token: seal with a public key, unpad or pad on the host
 * where the token has raw RSA only. Label empty, MGF1 hash = OAEP hash, everywhere. */
#ifndef PFX_CRYPTO_OAEP_H
#define PFX_CRYPTO_OAEP_H

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/result.h"
#include "crypto/secret.h"

/* SHA-1 is for key-encryption keys alone, on tokens that take no other; OAEP with it isn't broken
 * (RFC 8017 appendix B.1). Bytes that fit; 0 when the modulus is too small for the hash. */
size_t pfx_oaep_room(size_t modulus_bytes, enum pfx_hash hash);
/* Encrypts with the RSA key of spki; appends the ciphertext. USAGE when it doesn't fit. */
PFX_MUST_USE pfx_result pfx_oaep_seal(struct pfx_bytes spki, enum pfx_hash hash,
                                      const struct pfx_secret *plain, struct pfx_buf *out,
                                      struct pfx_error *err);
/* EME-OAEP encoding, the seed drawn from the OpenSSL RNG: modulus_bytes long, ready for
 * CKM_RSA_X_509. USAGE when it doesn't fit. */
PFX_MUST_USE pfx_result pfx_oaep_pad(const struct pfx_secret *plain, enum pfx_hash hash,
                                     size_t modulus_bytes, struct pfx_secret **ret_encoded,
                                     struct pfx_error *err);
/* The raw operation with the RSA key of spki on an encoding as long as its modulus; appends the
 * result. */
PFX_MUST_USE pfx_result pfx_rsa_public(struct pfx_bytes spki, const struct pfx_secret *encoded,
                                       struct pfx_buf *out, struct pfx_error *err);
/* EME-OAEP decoding of a raw RSA result of exactly modulus_bytes, in constant time. One error,
 * INTEGRITY, for every way it can be wrong. */
PFX_MUST_USE pfx_result pfx_oaep_unpad(const struct pfx_secret *encoded, enum pfx_hash hash,
                                       struct pfx_secret **ret_plain, struct pfx_error *err);
/* EMSA-PSS encoding, salt as long as the hash, drawn from the OpenSSL RNG: modulus_bytes long,
 * ready for CKM_RSA_X_509. */
PFX_MUST_USE pfx_result pfx_pss_encode(struct pfx_bytes digest, enum pfx_hash hash,
                                       unsigned modulus_bits, struct pfx_buf *out,
                                       struct pfx_error *err);

#endif
