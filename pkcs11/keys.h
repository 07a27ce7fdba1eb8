/*
 * Keys on a token: made from a role's template with every attribute explicit, read back and compared;
 * found by CKA_ID and class, exactly one or refuse; used through cached handles.
 */
#ifndef PFX_PKCS11_KEYS_H
#define PFX_PKCS11_KEYS_H

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/pbe.h"
#include "pkcs11/token.h"

enum pfx_key_use {           /* one template each: attributes of design.md */
    PFX_USE_ENCRYPTION,      /* RSA: sensitive, never extractable, DECRYPT only; OAEP only where the
                              * token can do the hash */
    PFX_USE_USER,            /* RSA or EC: sensitive, extractable by wrapping only, SIGN (CSR) only */
    PFX_USE_WRAPPING,        /* AES-256: never extractable, WRAP and UNWRAP only */
    PFX_USE_KEK_TRANSPORT,   /* RSA-3072: never extractable, UNWRAP only */
    PFX_USE_MAC,             /* generic secret 256: never extractable, SIGN and VERIFY only */
    PFX_USE_CLIENT,          /* RSA-3072: never extractable, SIGN only */
    PFX_USE_SECRETS,         /* RSA-3072: never extractable, DECRYPT only */
    PFX_USE_LOG,             /* EC P-256: never extractable, SIGN only */
    PFX_USE_LOG_ED25519,     /* where the token has CKM_EDDSA */
    PFX_USE_ANCHOR,          /* generic secret without any use; label may change */
};
const char *pfx_key_use_name(enum pfx_key_use use);

#define PFX_KEY_ID_SIZE 16
struct pfx_key_id {
    uint8_t bytes[PFX_KEY_ID_SIZE];
};

/* A key that was found or made: which object, and its public half. Handles are looked up again when
 * the epoch has changed. */
struct pfx_key;
void pfx_key_free(struct pfx_key *key); /* forgets it; a session object is destroyed */
static inline void pfx_key_freep(struct pfx_key **pp)
{
    pfx_key_free(*pp);
}
#define PFX_AUTOKEY __attribute__((cleanup(pfx_key_freep)))
const struct pfx_key_id *pfx_key_id(const struct pfx_key *key);
struct pfx_bytes pfx_key_spki(const struct pfx_key *key); /* DER; empty for secret keys */
CK_OBJECT_HANDLE pfx_key_handle(const struct pfx_key *key); /* private or secret half */

/* Makes a key (pair). token_object: CKA_TOKEN on the private and public half. type only for RSA/EC
 * uses that have a choice. Every attribute is read back and compared (INTEGRITY: the key is destroyed
 * again); the pair is proven by a signature or decryption under its own public key. */
PFX_MUST_USE pfx_result pfx_key_make(struct pfx_session *session, enum pfx_key_use use,
                                     enum pfx_key_type type, const struct pfx_key_id *id,
                                     const char *label, bool token_object, struct pfx_key **ret_key,
                                     struct pfx_error *err);
/* Finds the private or secret key with this CKA_ID and use's class. *ret_key = NULL when there is
 * none; INTEGRITY when there are several, or it isn't what the template says (`strict`), or its
 * public half isn't the one in spki (if given). */
PFX_MUST_USE pfx_result pfx_key_find(struct pfx_session *session, enum pfx_key_use use,
                                     const struct pfx_key_id *id, bool strict,
                                     struct pfx_bytes spki, struct pfx_key **ret_key,
                                     struct pfx_error *err);
/* Every private and secret key of ours on the token, no list cut off: calls visit for each. */
struct pfx_key_row {
    CK_OBJECT_CLASS object_class;
    CK_KEY_TYPE type;
    char label[256];
    uint8_t id[64];
    size_t id_len;
    unsigned bits;
};
PFX_MUST_USE pfx_result pfx_keys_list(struct pfx_session *session,
                                      bool (*visit)(void *ctx, const struct pfx_key_row *row),
                                      void *ctx, struct pfx_error *err);
/* "CKA_SENSITIVE true", ...: one line an attribute, as read back. */
PFX_MUST_USE pfx_result pfx_key_attributes(struct pfx_session *session, const struct pfx_key *key,
                                           void (*line)(void *ctx, const char *text), void *ctx,
                                           struct pfx_error *err);
/* Attestation as the token holds it, as it stands. Objects: each certificate and data object whose
 * CKA_LABEL fits the pattern (fnmatch). Attribute: a vendor's own one of the key; nothing is appended
 * where the token doesn't have it. */
#define PFX_ATTESTATION_MAX 65536
typedef pfx_result (*pfx_attestation_visit)(void *ctx, const char *label, struct pfx_bytes value,
                                            struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_attestation_objects(struct pfx_session *session, const char *pattern,
                                                pfx_attestation_visit visit, void *ctx,
                                                struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_attestation_attribute(struct pfx_session *session,
                                                  const struct pfx_key *key,
                                                  CK_ATTRIBUTE_TYPE type, struct pfx_buf *out,
                                                  struct pfx_error *err);
/* CKA_LABEL of a key on the token, read now; what isn't printable ASCII is shown as '?', and it is
 * cut at size - 1. */
PFX_MUST_USE pfx_result pfx_key_label(struct pfx_session *session, struct pfx_key *key, char *label,
                                      size_t size, struct pfx_error *err);
/* Changes it, and reads it back: DEVICE when the token took it and shows another one. The session
 * is one for writing. */
PFX_MUST_USE pfx_result pfx_key_relabel(struct pfx_session *session, struct pfx_key *key,
                                        const char *label, struct pfx_error *err);
/* Destroys both halves on the token and shows that they aren't found any more. */
PFX_MUST_USE pfx_result pfx_key_destroy(struct pfx_session *session, struct pfx_key *key,
                                        struct pfx_error *err);

/* What a key does. Each picks the mechanism that the probe of its token proved (pkcs11/probe.h). */
PFX_MUST_USE pfx_result pfx_token_random(struct pfx_session *session, void *out, size_t len,
                                         struct pfx_error *err);
/* PKCS#1 v1.5 or DER ECDSA over a digest; verified under the public half before it is returned.
 * An Ed25519 key signs `digest` as the message that it is; hash doesn't matter then. */
PFX_MUST_USE pfx_result pfx_key_sign_digest(struct pfx_session *session, struct pfx_key *key,
                                            enum pfx_hash hash, struct pfx_bytes digest,
                                            struct pfx_buf *out, struct pfx_error *err);
/* RSASSA-PSS over data, salt as long as the hash: CKM_SHA256_RSA_PKCS_PSS, or raw RSA. Verified. */
PFX_MUST_USE pfx_result pfx_key_sign_pss(struct pfx_session *session, struct pfx_key *key,
                                         struct pfx_bytes data, struct pfx_buf *out,
                                         struct pfx_error *err);
/* RSA-OAEP: in the token where it can do the hash, else raw RSA and unpadding in locked memory. */
PFX_MUST_USE pfx_result pfx_key_open_oaep(struct pfx_session *session, struct pfx_key *key,
                                          enum pfx_hash hash, struct pfx_bytes sealed,
                                          struct pfx_secret **ret_plain, struct pfx_error *err);
/* HMAC-SHA-256 in the token. */
PFX_MUST_USE pfx_result pfx_key_mac(struct pfx_session *session, struct pfx_key *key,
                                    struct pfx_bytes data, uint8_t ret_mac[32],
                                    struct pfx_error *err);
/* OAEP encryption to a public key as a session object of this token: padded here, encrypted there,
 * compared with what OpenSSL makes of it. REFUSED where the probe hasn't shown that the token does
 * raw RSA: use pfx_oaep_seal. */
PFX_MUST_USE pfx_result pfx_token_seal_oaep(struct pfx_session *session, struct pfx_bytes spki,
                                            enum pfx_hash hash, const struct pfx_secret *plain,
                                            struct pfx_buf *out, struct pfx_error *err);
/* A user key as a blob under the wrapping key, and back as a session object (attributes read back,
 * public half compared). The blob names its mechanism; RFC 5649, or CBC_PAD: the caller MACs it. */
PFX_MUST_USE pfx_result pfx_key_wrap_blob(struct pfx_session *session, struct pfx_key *wrapping,
                                          struct pfx_key *user, struct pfx_buf *out,
                                          struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_key_unwrap_blob(struct pfx_session *session, struct pfx_key *wrapping,
                                            struct pfx_bytes blob, const struct pfx_key_id *id,
                                            struct pfx_bytes spki, struct pfx_key **ret_user,
                                            struct pfx_error *err);
/*
 * The private key out of the token, for a PFX, by an export tier.
 *   direct:  kek goes in (C_UnwrapKey under the transport key, or C_CreateObject), the token wraps with
 *            CKM_AES_CBC_PAD or, in the profile compat, CKM_DES3_CBC_PAD: *ret_ciphertext is the
 *            encryptedData of the PFX's key bag.
 *   transit: a fresh AES key goes in the same way, RFC 5649 wrap, unwrapped in locked memory, encrypted
 *            under kek, wiped.
 * The ciphertext is proven: it has the length of a PKCS#8 of this key type.
 */
PFX_MUST_USE pfx_result pfx_key_export(struct pfx_session *session, struct pfx_key *transport,
                                       struct pfx_key *user, enum pfx_tier tier,
                                       const struct pfx_kek *kek, struct pfx_buf *ret_ciphertext,
                                       struct pfx_error *err);
/* X.509 certificate of a client key (self-signed, sha256WithRSAEncryption), by libp11. PEM. */
PFX_MUST_USE pfx_result pfx_client_certificate(struct pfx_session *session, struct pfx_key *client,
                                               const char *common_name, int64_t not_before_ms,
                                               int64_t not_after_ms, struct pfx_buf *out,
                                               struct pfx_error *err);

#endif
