/* Public halves: from the token's objects to an SPKI, and the proof that the private half is
 * theirs. */
#include <string.h>

#include <openssl/rand.h>

#include "crypto/mem.h"
#include "crypto/oaep.h"
#include "pkcs11/object.h"

/* namedCurve OIDs (RFC 5480 section 2.1.1.1, RFC 8410 section 3). */
static const uint8_t p256_oid[] = {0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07};
static const uint8_t p384_oid[] = {0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22};

/* SubjectPublicKeyInfo of Ed25519 up to the 32 bytes of the point. */
const uint8_t pfx_ed25519_prefix[12] = {0x30, 0x2A, 0x30, 0x05, 0x06, 0x03,
                                        0x2B, 0x65, 0x70, 0x03, 0x21, 0x00};

CK_RV pfx_ec_params(enum pfx_key_type type, struct pfx_bytes *ret_params)
{
    if (type == PFX_KEY_EC_P256)
        *ret_params = (struct pfx_bytes){p256_oid, sizeof p256_oid};
    else if (type == PFX_KEY_EC_P384)
        *ret_params = (struct pfx_bytes){p384_oid, sizeof p384_oid};
    else
        return CKR_DOMAIN_PARAMS_INVALID;
    return CKR_OK;
}

static struct pfx_bytes bytes_of(const struct pfx_buf *buf)
{
    return (struct pfx_bytes){buf->data, buf->len};
}

/* The standard puts an OCTET STRING around the point; some tokens give it bare. Lengths tell: the
 * bare uncompressed point begins with 04 too. */
static bool unwrap_point(struct pfx_bytes raw, size_t point_len, struct pfx_bytes *ret_point)
{
    if (raw.len == point_len) {
        *ret_point = raw;
        return true;
    }
    if (raw.len == point_len + 2 && raw.data[0] == 0x04 && raw.data[1] == point_len) {
        *ret_point = (struct pfx_bytes){raw.data + 2, point_len};
        return true;
    }
    return false;
}

static pfx_result refuse(struct pfx_session *session, struct pfx_error *err, const char *why)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read public key",
                    pfx_session_token(session)->facts.label, "",
                    "%s Destroy this key with the HSM's own tool, or give the token to its vendor.",
                    why);
}

static pfx_result rsa_spki(struct pfx_session *session, CK_OBJECT_HANDLE object,
                           struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf modulus = pfx_buf_make(PFX_MAX_RSA_BYTES + 1);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf exponent = pfx_buf_make(PFX_MAX_RSA_BYTES + 1);
    CK_RV rv = pfx_attr_read(session, object, CKA_MODULUS, PFX_MAX_RSA_BYTES + 1, &modulus);
    if (rv == CKR_OK)
        rv = pfx_attr_read(session, object, CKA_PUBLIC_EXPONENT, PFX_MAX_RSA_BYTES + 1, &exponent);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    if (modulus.len == 0 || exponent.len == 0)
        return refuse(session, err, "The RSA key has an empty modulus or exponent.");
    return pfx_spki_from_rsa(bytes_of(&modulus), bytes_of(&exponent), out, err);
}

static pfx_result ec_spki(struct pfx_session *session, CK_OBJECT_HANDLE object, bool edwards,
                          struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf params = pfx_buf_make(512);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(512);
    CK_RV rv = pfx_attr_read(session, object, CKA_EC_PARAMS, 512, &params);
    if (rv == CKR_OK)
        rv = pfx_attr_read(session, object, CKA_EC_POINT, 512, &raw);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    struct pfx_bytes point;
    if (edwards) {
        if (!unwrap_point(bytes_of(&raw), 32, &point))
            return refuse(session, err, "The Ed25519 key's public point has a wrong length.");
        if (!pfx_buf_add(out, pfx_ed25519_prefix, sizeof pfx_ed25519_prefix) ||
            !pfx_buf_add(out, point.data, point.len))
            return refuse(session, err, "The public key is too long.");
        return PFX_OK;
    }
    bool is_p256 = params.len == sizeof p256_oid && memcmp(params.data, p256_oid, params.len) == 0;
    bool is_p384 = params.len == sizeof p384_oid && memcmp(params.data, p384_oid, params.len) == 0;
    if (!is_p256 && !is_p384)
        return refuse(session, err, "The key's curve is neither P-256 nor P-384.");
    if (!unwrap_point(bytes_of(&raw), is_p256 ? 65 : 97, &point))
        return refuse(session, err, "The key's public point has a wrong length.");
    return pfx_spki_from_ec(is_p256 ? PFX_KEY_EC_P256 : PFX_KEY_EC_P384, point, out, err);
}

pfx_result pfx_object_spki(struct pfx_session *session, CK_OBJECT_HANDLE object,
                           enum pfx_key_use use, struct pfx_buf *out, struct pfx_error *err)
{
    CK_ULONG type = 0;
    CK_RV rv = pfx_attr_ulong(session, object, CKA_KEY_TYPE, &type);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    if (type == CKK_RSA)
        return rsa_spki(session, object, out, err);
    if (use == PFX_USE_LOG_ED25519) /* SoftHSM 2.6 calls it CKK_EC_EDWARDS */
        return ec_spki(session, object, true, out, err);
    if (type == CKK_EC)
        return ec_spki(session, object, false, out, err);
    return refuse(session, err, "The key is neither RSA nor EC.");
}

struct pfx_bytes pfx_spki_point(struct pfx_bytes spki)
{
    /* Both curves have one encoding each: 91 and 120 bytes, the point at the end. */
    size_t len = spki.len == 91 ? 65 : spki.len == 120 ? 97 : 0;
    return (struct pfx_bytes){len ? spki.data + (spki.len - len) : NULL, len};
}

static pfx_result prove_signature(struct pfx_session *session, struct pfx_key *key,
                                  struct pfx_error *err)
{
    uint8_t digest[32];
    if (RAND_bytes(digest, sizeof digest) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "prove key", "", "",
                        "OpenSSL has no random bytes.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(PFX_MAX_RSA_BYTES);
    return pfx_key_sign_digest(session, key, PFX_HASH_SHA256,
                               (struct pfx_bytes){digest, sizeof digest}, &signature, err);
}

/* OAEP with SHA-1 is what every token does; it proves the pair as well as any other. */
static pfx_result open_sha1(struct pfx_session *session, struct pfx_key *key,
                            struct pfx_bytes sealed, struct pfx_secret **ret_plain,
                            struct pfx_error *err)
{
    CK_OBJECT_HANDLE handle;
    PFX_TRY(pfx_key_resolve(session, key, &handle, err));
    CK_RSA_PKCS_OAEP_PARAMS params;
    CK_RV rv = pfx_oaep_params(PFX_HASH_SHA1, &params);
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
    if (rv == CKR_OK)
        rv = PFX_S(session, C_DecryptInit, &mechanism, handle);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_DecryptInit", "%s", "");
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    PFX_TRY(pfx_secret_new(PFX_MAX_RSA_BYTES, &plain, err));
    CK_ULONG len = PFX_MAX_RSA_BYTES;
    rv = PFX_S(session, C_Decrypt, (CK_BYTE *)(uintptr_t)sealed.data, sealed.len,
               pfx_secret_data(plain), &len);
    if (rv == CKR_OK && len > PFX_MAX_RSA_BYTES)
        rv = PFX_CKR_NONSENSE;
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_Decrypt", "%s", "");
    pfx_secret_truncate(plain, len);
    *ret_plain = PFX_TAKE(plain);
    return PFX_OK;
}

static pfx_result prove_decryption(struct pfx_session *session, struct pfx_key *key,
                                   struct pfx_error *err)
{
    PFX_AUTOSECRET struct pfx_secret *plain = NULL, *back = NULL;
    PFX_TRY(pfx_secret_new(32, &plain, err));
    if (RAND_bytes(pfx_secret_data(plain), 32) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "prove key", "", "",
                        "OpenSSL has no random bytes.");
    const struct pfx_caps caps = pfx_token_caps(key->token);
    enum pfx_hash hash = caps.merged.oaep_sha256 || caps.merged.raw_rsa ? PFX_HASH_SHA256
                                                                         : PFX_HASH_SHA1;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(PFX_MAX_RSA_BYTES);
    PFX_TRY(pfx_oaep_seal(pfx_key_spki(key), hash, plain, &sealed, err));
    struct pfx_bytes bytes = bytes_of(&sealed);
    if (hash == PFX_HASH_SHA1)
        PFX_TRY(open_sha1(session, key, bytes, &back, err));
    else
        PFX_TRY(pfx_key_open_oaep(session, key, hash, bytes, &back, err));
    if (!pfx_secret_equal(plain, back))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "prove key", key->token->facts.label, "",
                        "The private half doesn't open what its own public half sealed.");
    return PFX_OK;
}

static pfx_result prove_unwrapping(struct pfx_session *session, struct pfx_key *key,
                                   struct pfx_error *err)
{
    PFX_AUTOSECRET struct pfx_secret *kek = NULL;
    PFX_TRY(pfx_secret_new(32, &kek, err));
    if (RAND_bytes(pfx_secret_data(kek), 32) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "prove key", "", "",
                        "OpenSSL has no random bytes.");
    const struct pfx_caps caps = pfx_token_caps(key->token);
    if (caps.probed[PFX_ROLE_USERS] && caps.merged.way_in == PFX_WAY_CREATE)
        return PFX_OK; /* nothing will ever be unwrapped under it here */
    PFX_AUTOTEMP struct pfx_temp object = {0};
    return pfx_kek_in(session, key, PFX_WAY_UNWRAP,
                      caps.probed[PFX_ROLE_USERS] ? caps.kek_hash : PFX_HASH_SHA1, CKK_AES, kek,
                      &object, err);
}

pfx_result pfx_key_prove(struct pfx_session *session, struct pfx_key *key, struct pfx_error *err)
{
    switch (key->use) {
    case PFX_USE_USER:
    case PFX_USE_CLIENT:
    case PFX_USE_LOG:
    case PFX_USE_LOG_ED25519:
        return prove_signature(session, key, err);
    case PFX_USE_ENCRYPTION:
    case PFX_USE_SECRETS:
        return prove_decryption(session, key, err);
    case PFX_USE_KEK_TRANSPORT:
        return prove_unwrapping(session, key, err);
    case PFX_USE_WRAPPING:
    case PFX_USE_MAC:
    case PFX_USE_ANCHOR:
        break;
    }
    return PFX_OK;
}
