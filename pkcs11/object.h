/* Objects, attributes and templates: what make, find, wrap and probe share. For this folder only.
 */
#ifndef PFX_PKCS11_OBJECT_H
#define PFX_PKCS11_OBJECT_H

#include "pkcs11/keys.h"
#include "pkcs11/pool.h"

/* NSS: the public point with an EC private key that comes in. */
#define PFX_CKA_NSS_DB 0xD5A0DB00UL
#define PFX_MAX_RSA_BYTES 2048 /* RSA-16384: no right answer is longer */

struct pfx_key {
    struct pfx_token *token;
    enum pfx_key_use use;
    struct pfx_key_id id;
    bool token_object, strict;
    CK_OBJECT_CLASS object_class;
    enum pfx_key_type type; /* of pairs that are RSA, P-256 or P-384 */
    struct pfx_buf spki;
    /* With lock held: */
    pthread_mutex_t lock;
    CK_OBJECT_HANDLE handle, public_handle;
    uint64_t epoch;
    uint64_t session_serial; /* session objects: they end with it */
};

/* A session object that doesn't outlive its block. */
struct pfx_temp {
    struct pfx_session *session;
    CK_OBJECT_HANDLE handle;
};
void pfx_temp_done(struct pfx_temp *temp);
#define PFX_AUTOTEMP __attribute__((cleanup(pfx_temp_done)))

/* --- attributes (attr.c) --- */
/* Appends the value; the module's length is never trusted beyond max. */
PFX_MUST_USE CK_RV pfx_attr_read(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE_TYPE type, size_t max, struct pfx_buf *out);
PFX_MUST_USE CK_RV pfx_attr_ulong(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                  CK_ATTRIBUTE_TYPE type, CK_ULONG *ret_value);
/* Is this its CKA_ID? */
PFX_MUST_USE CK_RV pfx_attr_id_is(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                  struct pfx_bytes id, bool *ret_same);
/* 0, 1, or -1 where the token has no such attribute; in one call where the token lets us. */
PFX_MUST_USE CK_RV pfx_attr_bools(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                  const CK_ATTRIBUTE_TYPE *types, size_t n,
                                  signed char *ret_values);
const char *pfx_cka_name(CK_ATTRIBUTE_TYPE type);

struct pfx_handles {
    CK_OBJECT_HANDLE *list;
    size_t n;
};
void pfx_handles_done(struct pfx_handles *handles);
#define PFX_AUTOHANDLES __attribute__((cleanup(pfx_handles_done)))
/* All of them, until the token gives none. */
PFX_MUST_USE pfx_result pfx_objects_find(struct pfx_session *session, CK_ATTRIBUTE *match, size_t n,
                                         struct pfx_handles *ret_handles, struct pfx_error *err);
/* Token objects only. */
PFX_MUST_USE pfx_result pfx_objects_by_id(struct pfx_session *session, CK_OBJECT_CLASS cls,
                                          struct pfx_bytes id, struct pfx_handles *ret_handles,
                                          struct pfx_error *err);

/* After a search that found nothing: is it that there is nothing, or doesn't the token show what it
 * has (taken away under the module, not logged in)? key_find.c */
PFX_MUST_USE pfx_result pfx_absence_check(struct pfx_session *session, struct pfx_error *err);

/* --- templates (template.c) --- */
/* UNWRAPPED: a private key that comes in; tokens are pickier there. */
enum pfx_half { PFX_HALF_PRIVATE, PFX_HALF_SECRET, PFX_HALF_PUBLIC, PFX_HALF_UNWRAPPED };

struct pfx_template {
    CK_ATTRIBUTE at[48];
    CK_ULONG n;
};
/* Borrows value. */
void pfx_template_add(struct pfx_template *t, CK_ATTRIBUTE_TYPE type, const void *value,
                      size_t len);
void pfx_template_bool(struct pfx_template *t, CK_ATTRIBUTE_TYPE type, bool value);
void pfx_template_ulong(struct pfx_template *t, CK_ATTRIBUTE_TYPE type, const CK_ULONG *value);

struct pfx_want {
    CK_ATTRIBUTE_TYPE type;
    bool value;
    bool optional;  /* a token may not have it */
    bool computed;  /* never in a template: the token says it */
    bool tolerated; /* optional, and a token may ignore what we ask */
};
#define PFX_MAX_WANTS 32
size_t pfx_wants(enum pfx_key_use use, enum pfx_half half, bool token_object,
                 struct pfx_want wants[PFX_MAX_WANTS]);
bool pfx_use_is_pair(enum pfx_key_use use);
CK_OBJECT_CLASS pfx_use_class(enum pfx_key_use use);
/* The mechanisms that a key of this use is for. */
#define PFX_MAX_ALLOWED 8
size_t pfx_use_mechanisms(struct pfx_token *token, enum pfx_key_use use, bool rsa,
                          CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED]);
/* Adds every wanted attribute that the token hasn't turned down. */
void pfx_template_use(struct pfx_template *t, struct pfx_token *token, enum pfx_key_use use,
                      enum pfx_half half, bool token_object);
bool pfx_dropped(struct pfx_token *token, enum pfx_half half, CK_ATTRIBUTE_TYPE type);
void pfx_drop(struct pfx_token *token, enum pfx_half half, CK_ATTRIBUTE_TYPE type);
/* --- adapt.c --- */
/* One try with these optional attributes left out. An object that an earlier try made is destroyed
 * first. */
typedef CK_RV (*pfx_template_fn)(void *ctx, unsigned leave_out);
void pfx_template_leave_out(struct pfx_template *t, unsigned bits);
PFX_MUST_USE CK_RV pfx_template_adapt(struct pfx_token *token, const enum pfx_half *halves,
                                      size_t n_halves, pfx_template_fn try, void *ctx);
/* Reads back and compares; INTEGRITY names attribute, expected, found. adopted: sensitive and never
 * extractable only. unwrapped: not made in the token, so it has no history. */
PFX_MUST_USE pfx_result pfx_attributes_check(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                             enum pfx_key_use use, enum pfx_half half,
                                             bool token_object, bool adopted, bool unwrapped,
                                             struct pfx_error *err);

/* --- public halves (public.c) --- */
#define PFX_ED25519_SPKI 44
extern const uint8_t pfx_ed25519_prefix[12];
CK_RV pfx_ec_params(enum pfx_key_type type, struct pfx_bytes *ret_params);
/* The SPKI of a public or an RSA private key object. */
PFX_MUST_USE pfx_result pfx_object_spki(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                        enum pfx_key_use use, struct pfx_buf *out,
                                        struct pfx_error *err);
/* Shows that the private half belongs to key->spki, by using it. */
PFX_MUST_USE pfx_result pfx_key_prove(struct pfx_session *session, struct pfx_key *key,
                                      struct pfx_error *err);
/* The uncompressed point of an EC SPKI, as the tail of it. */
struct pfx_bytes pfx_spki_point(struct pfx_bytes spki);

/* --- keys (key_find.c) --- */
struct pfx_key *pfx_key_new(struct pfx_session *session, enum pfx_key_use use,
                            const struct pfx_key_id *id, bool token_object);
/* The handle as of this epoch, found again if need be. */
PFX_MUST_USE pfx_result pfx_key_resolve(struct pfx_session *session, struct pfx_key *key,
                                        CK_OBJECT_HANDLE *ret_handle, struct pfx_error *err);
char *pfx_id_text(const struct pfx_key_id *id, char out[64]); /* "CKA_ID 0102..." */

/* A throwaway for the probe: any mechanism allowed, the pair not proven. */
PFX_MUST_USE pfx_result pfx_key_make_throwaway(struct pfx_session *session, enum pfx_key_use use,
                                               enum pfx_key_type type, struct pfx_key **ret_key,
                                               struct pfx_error *err);

/* --- mechanisms --- */
CK_RV pfx_oaep_params(enum pfx_hash hash, CK_RSA_PKCS_OAEP_PARAMS *ret_params);
/* Raw RSA with a public key of ours by the token, compared with OpenSSL's; DEVICE where they differ. */
PFX_MUST_USE pfx_result pfx_token_rsa_public(struct pfx_session *session, struct pfx_bytes spki,
                                             const struct pfx_secret *encoded, struct pfx_buf *out,
                                             struct pfx_error *err);
/* A copy of what the probes found. */
struct pfx_caps pfx_token_caps(struct pfx_token *token);

/* --- the way in (way_in.c): a key of the host (CKK_AES, CKK_DES3) as a session object that can only
 * wrap --- */
PFX_MUST_USE pfx_result pfx_kek_in(struct pfx_session *session, struct pfx_key *transport,
                                   enum pfx_way_in way, enum pfx_hash hash, CK_KEY_TYPE type,
                                   const struct pfx_secret *kek, struct pfx_temp *ret_object,
                                   struct pfx_error *err);
/* What a key-encryption key of this profile is in the token, and the mechanism that wraps under it
 * straight into the PFX. */
CK_KEY_TYPE pfx_kek_type(enum pfx_profile profile);
CK_MECHANISM_TYPE pfx_kek_mechanism(enum pfx_profile profile);
/* C_WrapKey by that mechanism, with the kek's iv. */
PFX_MUST_USE CK_RV pfx_kek_wrap(struct pfx_session *session, const struct pfx_kek *kek,
                                CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key,
                                struct pfx_buf *out);
/* C_WrapKey with room enough; NSS one at a time. */
PFX_MUST_USE CK_RV pfx_wrap(struct pfx_session *session, CK_MECHANISM *mechanism,
                            CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, struct pfx_buf *out);
/* The same, twice, which must give the same: for what nobody opens before it is needed. TRANSIENT
 * where it doesn't. Not for RFC 5649 that the host opens at once: that has its own integrity. */
PFX_MUST_USE pfx_result pfx_wrap_twice(struct pfx_session *session, CK_MECHANISM *mechanism,
                                       CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key,
                                       struct pfx_buf *out, struct pfx_error *err);
/* Takes usage flags away that an unwrapped key has although its template said false (NSS gives RSA
 * keys DECRYPT and more). What can't be taken away shows when the attributes are read back. */
void pfx_usage_trim(struct pfx_session *session, CK_OBJECT_HANDLE object);
/* RFC 5649 on the host, into locked memory, trimmed to the DER. */
PFX_MUST_USE pfx_result pfx_kwp_host_unwrap(const struct pfx_secret *kek, struct pfx_bytes wrapped,
                                            struct pfx_secret **ret_pkcs8, struct pfx_error *err);
/* fits.c: is it a PrivateKeyInfo of this public key? (RSA: the modulus; EC: the scalar makes the
 * point) */
bool pfx_pkcs8_fits(const struct pfx_secret *pkcs8, struct pfx_bytes spki);
/* The same of what the token has wrapped under the kek, by the blocks that hold no secret: the key
 * opens it, and RSA's modulus or, behind the scalar, EC's point is there. */
bool pfx_wrapped_fits(const struct pfx_kek *kek, struct pfx_bytes ciphertext,
                      struct pfx_bytes spki);

#endif
