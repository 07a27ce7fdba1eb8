/* Key types, hashes and purposes: the small vocabulary that every layer shares. */
#ifndef PFX_CRYPTO_KEY_H
#define PFX_CRYPTO_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/mem.h"
#include "crypto/result.h"

enum pfx_key_type { /* words: "rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384" */
    PFX_KEY_RSA_2048,
    PFX_KEY_RSA_3072,
    PFX_KEY_RSA_4096,
    PFX_KEY_EC_P256,
    PFX_KEY_EC_P384,
    PFX_KEY_TYPE_COUNT,
};
enum pfx_hash { /* words: "sha1", "sha256", "sha384", "sha512"; SHA-1 for thumbprints only */
    PFX_HASH_SHA1,
    PFX_HASH_SHA256,
    PFX_HASH_SHA384,
    PFX_HASH_SHA512,
};
enum pfx_purpose { /* words: "signing", "encryption", "dual" */
    PFX_PURPOSE_SIGNING,
    PFX_PURPOSE_ENCRYPTION,
    PFX_PURPOSE_DUAL,
};
#define PFX_PURPOSES (PFX_PURPOSE_DUAL + 1)

const char *pfx_key_type_name(enum pfx_key_type type);
PFX_MUST_USE bool pfx_key_type_parse(const char *name, enum pfx_key_type *ret_type);
bool pfx_key_type_is_rsa(enum pfx_key_type type);
unsigned pfx_key_type_bits(enum pfx_key_type type);
const char *pfx_hash_name(enum pfx_hash hash);
PFX_MUST_USE bool pfx_hash_parse(const char *name, enum pfx_hash *ret_hash);
size_t pfx_hash_size(enum pfx_hash hash);
const char *pfx_purpose_name(enum pfx_purpose purpose);
PFX_MUST_USE bool pfx_purpose_parse(const char *name, enum pfx_purpose *ret_purpose);

/* digest has room for 64 bytes. */
PFX_MUST_USE bool pfx_digest(enum pfx_hash hash, const void *data, size_t len,
                             unsigned char *digest, size_t *ret_len);

/* DER SubjectPublicKeyInfo of an RSA key; both big-endian, leading zeros are fine. */
PFX_MUST_USE pfx_result pfx_spki_from_rsa(struct pfx_bytes modulus, struct pfx_bytes exponent,
                                          struct pfx_buf *out, struct pfx_error *err);
/* Of an EC key; point is uncompressed (04 || x || y), without the OCTET STRING around it. */
PFX_MUST_USE pfx_result pfx_spki_from_ec(enum pfx_key_type type, struct pfx_bytes point,
                                         struct pfx_buf *out, struct pfx_error *err);
/* Which of our types it is; USAGE for any other key. */
PFX_MUST_USE pfx_result pfx_spki_type(struct pfx_bytes spki, enum pfx_key_type *ret_type,
                                      struct pfx_error *err);
/* Modulus and exponent of an RSA SPKI as big-endian bytes. */
PFX_MUST_USE pfx_result pfx_spki_rsa_parts(struct pfx_bytes spki, struct pfx_buf *modulus,
                                           struct pfx_buf *exponent, struct pfx_error *err);
/* "BEGIN PUBLIC KEY" PEM. */
PFX_MUST_USE bool pfx_spki_pem(struct pfx_bytes spki, struct pfx_buf *out);
/* BCRYPT_RSAPUBLIC_BLOB, as Windows' CNG imports it (BCRYPT_RSAKEY_BLOB in bcrypt.h): six ULONGs,
 * little-endian, then exponent and modulus, big-endian. USAGE for a key that isn't RSA. */
PFX_MUST_USE pfx_result pfx_spki_cng(struct pfx_bytes spki, struct pfx_buf *out,
                                     struct pfx_error *err);
/* r || s (CKM_ECDSA) to DER ECDSA-Sig-Value. */
PFX_MUST_USE pfx_result pfx_ecdsa_to_der(struct pfx_bytes rs, struct pfx_buf *out,
                                         struct pfx_error *err);
/* DER DigestInfo for CKM_RSA_PKCS (RFC 8017 section 9.2). */
PFX_MUST_USE bool pfx_digest_info(enum pfx_hash hash, struct pfx_bytes digest, struct pfx_buf *out);
/* Verifies a signature over a digest: PKCS#1 v1.5 or ECDSA (DER), or PSS (salt = hash length) where
 * pss; INTEGRITY when it is bad. A signature of the token is never handed on unverified. */
PFX_MUST_USE pfx_result pfx_verify_digest(struct pfx_bytes spki, enum pfx_hash hash,
                                          struct pfx_bytes digest, struct pfx_bytes signature,
                                          bool pss, struct pfx_error *err);

#endif
