/* Signatures, MACs and random bytes by the token. No signature leaves unverified. */
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "crypto/mem.h"
#include "crypto/oaep.h"
#include "pkcs11/object.h"

/* One C_Sign of exactly `expect` bytes. */
static pfx_result sign_raw(struct pfx_session *session, struct pfx_key *key,
                           CK_MECHANISM *mechanism, struct pfx_bytes data, size_t expect,
                           uint8_t *signature, struct pfx_error *err)
{
    CK_OBJECT_HANDLE handle;
    uint8_t room[PFX_MAX_RSA_BYTES];
    CK_ULONG len = sizeof room;
    /* What a token says it wrote and didn't is other bytes each time: no signature holds, and no
     * two MACs are the same. */
    if (RAND_bytes(room, (int)expect) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "sign", "", "", "OpenSSL has no random bytes.");
    PFX_TRY(pfx_key_resolve(session, key, &handle, err));
    CK_RV rv = PFX_S(session, C_SignInit, mechanism, handle);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_SignInit", "The key is the %s key.",
                                pfx_key_use_name(key->use));
    rv = PFX_S(session, C_Sign, (CK_BYTE *)(uintptr_t)data.data, data.len, room, &len);
    if (rv == CKR_OK && len != expect) {
        rv = PFX_CKR_NONSENSE;
        pfx_session_saw(session, rv);
    }
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_Sign", "The key is the %s key.",
                                pfx_key_use_name(key->use));
    memcpy(signature, room, expect);
    return PFX_OK;
}

static size_t rsa_bytes(const struct pfx_key *key)
{
    return pfx_key_type_bits(key->type) / 8;
}

static pfx_result no_room(struct pfx_error *err, const struct pfx_buf *out)
{
    return pfx_fail(err, PFX_CLASS_INTERNAL, "sign", "", "",
                    "The buffer's ceiling of %zu bytes is too low for a signature.", out->max);
}

static pfx_result sign_ed25519(struct pfx_session *session, struct pfx_key *key,
                               struct pfx_bytes message, struct pfx_buf *out, struct pfx_error *err)
{
    CK_MECHANISM mechanism = {CKM_EDDSA, NULL, 0};
    uint8_t signature[64];
    PFX_TRY(sign_raw(session, key, &mechanism, message, sizeof signature, signature, err));
    /* The last 32 bytes of its SubjectPublicKeyInfo (RFC 8410) are the key. */
    size_t raw = sizeof signature / 2;
    EVP_PKEY *pkey = key->spki.len < raw
                         ? NULL
                         : EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                                       key->spki.data + key->spki.len - raw, raw);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = pkey && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestVerify(ctx, signature, sizeof signature, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    if (!good)
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "C_Sign", key->token->facts.label, "",
            "The token's Ed25519 signature doesn't verify under the key's public half.");
    return pfx_buf_add(out, signature, sizeof signature) ? PFX_OK : no_room(err, out);
}

static pfx_result sign_rsa(struct pfx_session *session, struct pfx_key *key, enum pfx_hash hash,
                           struct pfx_bytes digest, struct pfx_buf *der, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf info = pfx_buf_make(128);
    if (!pfx_digest_info(hash, digest, &info))
        return pfx_fail(err, PFX_CLASS_USAGE, "sign", pfx_hash_name(hash), "",
                        "A digest of %zu bytes isn't one of this hash.", digest.len);
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    uint8_t *at = pfx_buf_extend(der, rsa_bytes(key));
    if (!at)
        return no_room(err, der);
    return sign_raw(session, key, &mechanism, (struct pfx_bytes){info.data, info.len},
                    rsa_bytes(key), at, err);
}

static pfx_result sign_ec(struct pfx_session *session, struct pfx_key *key, struct pfx_bytes digest,
                          struct pfx_buf *der, struct pfx_error *err)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    size_t field = key->type == PFX_KEY_EC_P256 ? 32 : 48;
    /* FIPS 186-4 section 6.4: the leftmost bits. Tokens differ in who cuts. */
    if (digest.len > field)
        digest.len = field;
    uint8_t rs[96];
    PFX_TRY(sign_raw(session, key, &mechanism, digest, 2 * field, rs, err));
    return pfx_ecdsa_to_der((struct pfx_bytes){rs, 2 * field}, der, err);
}

static pfx_result sign_digest(struct pfx_session *session, struct pfx_key *key, enum pfx_hash hash,
                              struct pfx_bytes digest, struct pfx_buf *out, struct pfx_error *err)
{
    if (key->use == PFX_USE_LOG_ED25519)
        return sign_ed25519(session, key, digest, out, err);
    if (digest.len != pfx_hash_size(hash))
        return pfx_fail(err, PFX_CLASS_USAGE, "sign", pfx_hash_name(hash), "",
                        "A digest of %zu bytes isn't one of this hash.", digest.len);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(PFX_MAX_RSA_BYTES);
    if (pfx_key_type_is_rsa(key->type))
        PFX_TRY(sign_rsa(session, key, hash, digest, &der, err));
    else
        PFX_TRY(sign_ec(session, key, digest, &der, err));
    struct pfx_bytes signature = {der.data, der.len};
    PFX_TRY(pfx_verify_digest(pfx_key_spki(key), hash, digest, signature, false, err));
    return pfx_buf_add(out, der.data, der.len) ? PFX_OK : no_room(err, out);
}

/* A signature that doesn't verify is asked for once more: one wrong answer of a token in trouble
 * needs no person, a second one does. */
static bool once_more(pfx_result first, struct pfx_buf *out, size_t start, struct pfx_error *why)
{
    if (first.cls != PFX_CLASS_INTEGRITY)
        return false;
    pfx_buf_cut(out, start);
    *why = PFX_ERROR_NONE;
    return true;
}

static pfx_result told(pfx_result r, const struct pfx_error *why, struct pfx_error *err)
{
    if (pfx_failed(r) && err && err->cls == PFX_CLASS_OK)
        *err = *why;
    return r;
}

pfx_result pfx_key_sign_digest(struct pfx_session *session, struct pfx_key *key, enum pfx_hash hash,
                               struct pfx_bytes digest, struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    size_t start = out->len;
    pfx_result r = sign_digest(session, key, hash, digest, out, &why);
    if (once_more(r, out, start, &why))
        r = sign_digest(session, key, hash, digest, out, &why);
    return told(r, &why, err);
}

static pfx_result sign_pss(struct pfx_session *session, struct pfx_key *key, struct pfx_bytes data,
                           struct pfx_buf *out, struct pfx_error *err)
{
    const struct pfx_caps caps = pfx_token_caps(key->token);
    CK_MECHANISM_TYPE by = caps.merged.sign_pss;
    if (by == CK_UNAVAILABLE_INFORMATION || !pfx_key_type_is_rsa(key->type))
        return pfx_fail(err, PFX_CLASS_REFUSED, "sign", key->token->facts.label, "",
                        "This token makes no PSS signature with this key, as far as its probe has "
                        "shown. Run 'pfx-agent hsm test', or set 'entra.algorithm: RS256'.");
    uint8_t digest[32];
    if (!pfx_digest(PFX_HASH_SHA256, data.data, data.len, digest, NULL))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "sign", "", "", "OpenSSL can't hash.");
    struct pfx_bytes hashed = {digest, sizeof digest}, input = hashed;
    CK_RSA_PKCS_PSS_PARAMS params = {CKM_SHA256, CKG_MGF1_SHA256, sizeof digest};
    CK_MECHANISM mechanism = {by, &params, sizeof params};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf encoded = pfx_buf_make(PFX_MAX_RSA_BYTES);
    if (by == CKM_SHA256_RSA_PKCS_PSS) {
        input = data;
    } else if (by == CKM_RSA_X_509) {
        mechanism = (CK_MECHANISM){CKM_RSA_X_509, NULL, 0};
        PFX_TRY(
            pfx_pss_encode(hashed, PFX_HASH_SHA256, pfx_key_type_bits(key->type), &encoded, err));
        input = (struct pfx_bytes){encoded.data, encoded.len};
    }
    uint8_t signature[PFX_MAX_RSA_BYTES];
    size_t len = rsa_bytes(key);
    PFX_TRY(sign_raw(session, key, &mechanism, input, len, signature, err));
    PFX_TRY(pfx_verify_digest(pfx_key_spki(key), PFX_HASH_SHA256, hashed,
                              (struct pfx_bytes){signature, len}, true, err));
    return pfx_buf_add(out, signature, len) ? PFX_OK : no_room(err, out);
}

pfx_result pfx_key_sign_pss(struct pfx_session *session, struct pfx_key *key, struct pfx_bytes data,
                            struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    size_t start = out->len;
    pfx_result r = sign_pss(session, key, data, out, &why);
    if (once_more(r, out, start, &why))
        r = sign_pss(session, key, data, out, &why);
    return told(r, &why, err);
}

pfx_result pfx_key_mac(struct pfx_session *session, struct pfx_key *key, struct pfx_bytes data,
                       uint8_t ret_mac[32], struct pfx_error *err)
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    uint8_t mac[32], again[32];
    /* Nobody else can verify it, and a ticket with a wrong one would be found out only when the
     * certificate has been bought: so the token does it twice. */
    PFX_TRY(sign_raw(session, key, &mechanism, data, sizeof mac, mac, err));
    PFX_TRY(sign_raw(session, key, &mechanism, data, sizeof again, again, err));
    if (CRYPTO_memcmp(mac, again, sizeof mac) != 0)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "C_Sign", key->token->facts.label, "",
                        "The token gave two MACs for the same data. It is tried again.");
    memcpy(ret_mac, mac, sizeof mac);
    return PFX_OK;
}

/* A token that wrote only a part, or gives the same bytes again, weakens nothing: the host's RNG is
 * mixed in. */
static pfx_result mix(uint8_t *bytes, size_t len, struct pfx_error *err)
{
    uint8_t own[64];
    bool ok = true;
    for (size_t at = 0; ok && at < len; at += sizeof own) {
        size_t n = len - at < sizeof own ? len - at : sizeof own;
        ok = RAND_bytes(own, (int)n) == 1;
        for (size_t i = 0; ok && i < n; i++)
            bytes[at + i] ^= own[i];
    }
    explicit_bzero(own, sizeof own);
    if (ok)
        return PFX_OK;
    explicit_bzero(bytes, len);
    return pfx_fail(err, PFX_CLASS_INTERNAL, "draw random bytes", "", "",
                    "OpenSSL has no random bytes.");
}

pfx_result pfx_token_random(struct pfx_session *session, void *out, size_t len,
                            struct pfx_error *err)
{
    memset(out, 0, len);
    CK_RV rv = PFX_S(session, C_GenerateRandom, out, len);
    if (rv != CKR_OK) {
        explicit_bzero(out, len);
        return pfx_session_fail(session, err, rv, "C_GenerateRandom", "%s", "");
    }
    /* A module that says CKR_OK and writes nothing: 2^-128 otherwise. */
    unsigned char any = 0;
    for (size_t i = 0; i < len; i++)
        any |= ((const unsigned char *)out)[i];
    if (len >= 16 && any == 0)
        return pfx_session_fail(session, err, PFX_CKR_NONSENSE, "C_GenerateRandom",
                                "The random bytes were all zero.");
    return mix(out, len, err);
}
