/*
 * Signatures of people: what `ssh-keygen -Y sign` makes (OpenSSH's PROTOCOL.sshsig) and the public
 * keys in it (RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.u2f), read and verified.
 *
 * Taken are ssh-ed25519, ecdsa-sha2-nistp256/384/521, ssh-rsa with 2048 to 4096 bits (signatures
 * rsa-sha2-256 and rsa-sha2-512), and keys in a security key, sk-ssh-ed25519 and sk-ecdsa-sha2-
 * nistp256, which must say that its user was present. No certificates.
 */
#ifndef PFX_CRYPTO_SSHSIG_H
#define PFX_CRYPTO_SSHSIG_H

#include <openssl/evp.h>

#include "crypto/mem.h"
#include "crypto/result.h"

#define PFX_SSH_KEY_MAX 1024       /* bytes of a public key's blob */
#define PFX_SSHSIG_MAX 4096        /* bytes of a signature's blob */
#define PFX_SSHSIG_TEXT_MAX 8192   /* ... and of its armored text */
#define PFX_SSH_FINGERPRINT_SIZE 52 /* "SHA256:", 43 characters, NUL */

enum pfx_ssh_type {
    PFX_SSH_ED25519,
    PFX_SSH_ECDSA_256,
    PFX_SSH_ECDSA_384,
    PFX_SSH_ECDSA_521,
    PFX_SSH_RSA,
    PFX_SSH_SK_ED25519,
    PFX_SSH_SK_ECDSA,
    PFX_SSH_TYPE_COUNT,
};
const char *pfx_ssh_type_name(enum pfx_ssh_type type); /* "ssh-ed25519", ... */

struct pfx_ssh_key {
    enum pfx_ssh_type type;
    EVP_PKEY *pkey;             /* owned */
    struct pfx_bytes application; /* of a security key; borrowed from the blob */
};
void pfx_ssh_key_done(struct pfx_ssh_key *key); /* usable as cleanup; zeroed is fine */
/* REFUSED says what is wrong: another type, bytes left over, a point that isn't on its curve. */
PFX_MUST_USE pfx_result pfx_ssh_key_parse(struct pfx_bytes blob, struct pfx_ssh_key *ret,
                                          struct pfx_error *err);
/* "SHA256:" and the Base64 of the blob's hash without padding, as ssh-keygen -l prints it. */
char *pfx_ssh_fingerprint(struct pfx_bytes blob, char buf[PFX_SSH_FINGERPRINT_SIZE]);

/* Borrowed from the blob. */
struct pfx_sshsig {
    struct pfx_bytes key;       /* public key's blob */
    struct pfx_bytes namespace; /* what the signature is for: another one proves nothing here */
    struct pfx_bytes hash;      /* "sha256" or "sha512" */
    struct pfx_bytes algorithm; /* of the signature */
    struct pfx_bytes signature;
    uint8_t flags; /* of a security key */
    uint32_t counter;
};
/* The blob out of "-----BEGIN SSH SIGNATURE-----", appended. REFUSED: not exactly one such block. */
PFX_MUST_USE pfx_result pfx_sshsig_unarmor(struct pfx_bytes text, struct pfx_buf *out,
                                           struct pfx_error *err);
/* The text that ssh-keygen -Y verify reads, appended; false: over the ceiling. */
PFX_MUST_USE bool pfx_sshsig_armor(struct pfx_bytes blob, struct pfx_buf *out);
PFX_MUST_USE pfx_result pfx_sshsig_parse(struct pfx_bytes blob, struct pfx_sshsig *ret,
                                         struct pfx_error *err);
/* Did the key in it sign this message in this namespace? REFUSED, with a code of its own for each
 * reason: "namespace", "user presence", "signature". Whose key it is, is the roster's to say. */
PFX_MUST_USE pfx_result pfx_sshsig_verify(const struct pfx_sshsig *sig, const char *namespace,
                                          struct pfx_bytes message, struct pfx_error *err);

/* For the two files: RFC 4251 section 5. Each moves *rest past what it took. */
PFX_MUST_USE bool pfx_ssh_string(struct pfx_bytes *rest, struct pfx_bytes *ret);
/* A positive integer without leading zeros but the one that keeps it positive; ret without it. */
PFX_MUST_USE bool pfx_ssh_mpint(struct pfx_bytes *rest, struct pfx_bytes *ret);

#endif
