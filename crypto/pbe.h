/*
 * Password-based encryption of the private key in a PFX, in one of two profiles:
 *
 *   modern  PBES2 (RFC 8018) with PBKDF2-HMAC-SHA-256 and AES-256-CBC
 *   compat  pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292 appendix C), for readers that know no PBES2
 *
 * Key-encryption keys and passwords are in locked memory; the copies that OpenSSL makes while it
 * derives are wiped by crypto/wipe.c.
 */
#ifndef PFX_CRYPTO_PBE_H
#define PFX_CRYPTO_PBE_H

#include "crypto/mem.h"
#include "crypto/result.h"
#include "crypto/secret.h"

enum pfx_profile { /* words: "modern", "compat" */
    PFX_PROFILE_MODERN,
    PFX_PROFILE_COMPAT,
    PFX_PROFILE_COUNT,
};
const char *pfx_profile_name(enum pfx_profile profile);
PFX_MUST_USE bool pfx_profile_parse(const char *name, enum pfx_profile *ret_profile);

#define PFX_PBE_ITERATIONS 2048 /* the password has 192 random bits: see design */

/* The parameters that stand in the file beside the ciphertext. */
struct pfx_pbe {
    enum pfx_profile profile;
    uint8_t salt[16]; /* the first pfx_pbe_salt_len bytes */
    uint8_t iv[16];   /* modern only: compat derives it from the password */
    unsigned iterations;
};
size_t pfx_pbe_salt_len(enum pfx_profile profile); /* 16; compat 8 */
/* Draws salt and, in modern, iv from the OpenSSL RNG. */
PFX_MUST_USE pfx_result pfx_pbe_draw(enum pfx_profile profile, struct pfx_pbe *ret_pbe,
                                     struct pfx_error *err);

/* What encrypts the private key, in the token (tier direct) or on the host (tier transit). */
struct pfx_kek {
    enum pfx_profile profile;
    struct pfx_secret *key; /* pfx_kek_len bytes; of triple DES, each with odd parity */
    uint8_t iv[16];         /* the first pfx_kek_block bytes */
};
size_t pfx_kek_len(enum pfx_profile profile);   /* 32 (AES-256); compat 24 (triple DES) */
size_t pfx_kek_block(enum pfx_profile profile); /* 16; compat 8 */
/* The key-encryption key of this password. USAGE for a password that isn't 1 to 512 bytes of ASCII
 * in compat, where other text could be taken in two ways. */
PFX_MUST_USE pfx_result pfx_pbe_kek(const struct pfx_pbe *pbe, const struct pfx_secret *password,
                                    struct pfx_kek *ret_kek, struct pfx_error *err);
/* A random one, for the probe: no PFX belongs to it. */
PFX_MUST_USE pfx_result pfx_kek_draw(enum pfx_profile profile, struct pfx_kek *ret_kek,
                                     struct pfx_error *err);
void pfx_kek_done(struct pfx_kek *kek); /* wipes; usable as cleanup */
#define PFX_AUTOKEK __attribute__((cleanup(pfx_kek_done)))

/* CBC with PKCS#7 padding of a DER PrivateKeyInfo; appends the ciphertext only. */
PFX_MUST_USE pfx_result pfx_p8_encrypt(const struct pfx_kek *kek, const struct pfx_secret *pkcs8,
                                       struct pfx_buf *out, struct pfx_error *err);
/* The reverse, for the probe, which looks at what a token wrapped: the padding is taken off, what
 * is left may be anything. INTEGRITY where the padding is wrong. */
PFX_MUST_USE pfx_result pfx_p8_decrypt(const struct pfx_kek *kek, struct pfx_bytes ciphertext,
                                       struct pfx_secret **ret_pkcs8, struct pfx_error *err);
/* Length of the DER SEQUENCE at the start, without trailing padding (SoftHSM zero-pads before
 * KWP); 0 if it isn't one. */
size_t pfx_der_trim(const uint8_t *data, size_t len);

#endif
