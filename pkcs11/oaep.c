/* RSA-OAEP around a token: in it where it can do the hash, raw RSA and unpadding here where not. */
#include "crypto/oaep.h"

#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

CK_RV pfx_oaep_params(enum pfx_hash hash, CK_RSA_PKCS_OAEP_PARAMS *ret_params)
{
    static const struct {
        CK_MECHANISM_TYPE hash;
        CK_ULONG mgf;
    } map[] = {
        [PFX_HASH_SHA1] = {CKM_SHA_1, CKG_MGF1_SHA1},
        [PFX_HASH_SHA256] = {CKM_SHA256, CKG_MGF1_SHA256},
        [PFX_HASH_SHA384] = {CKM_SHA384, CKG_MGF1_SHA384},
        [PFX_HASH_SHA512] = {CKM_SHA512, CKG_MGF1_SHA512},
    };
    if ((size_t)hash >= sizeof map / sizeof map[0])
        return CKR_MECHANISM_PARAM_INVALID;
    /* Without CKZ_DATA_SPECIFIED some tokens refuse, although the label is empty. */
    *ret_params = (CK_RSA_PKCS_OAEP_PARAMS){
        .hash_alg = map[hash].hash, .mgf = map[hash].mgf, .source = CKZ_DATA_SPECIFIED};
    return CKR_OK;
}

static bool in_token(const struct pfx_probe *can, enum pfx_hash hash)
{
    return (hash == PFX_HASH_SHA256 && can->oaep_sha256) ||
           (hash == PFX_HASH_SHA384 && can->oaep_sha384) ||
           (hash == PFX_HASH_SHA512 && can->oaep_sha512);
}

pfx_result pfx_key_open_oaep(struct pfx_session *session, struct pfx_key *key, enum pfx_hash hash,
                             struct pfx_bytes sealed, struct pfx_secret **ret_plain,
                             struct pfx_error *err)
{
    const struct pfx_caps caps = pfx_token_caps(key->token);
    bool whole = in_token(&caps.merged, hash);
    size_t k = pfx_key_type_bits(key->type) / 8;
    if (!pfx_key_type_is_rsa(key->type) || sealed.len != k)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "unseal", key->token->facts.label, "",
                        "%zu bytes can't be sealed to this key; it takes %zu.", sealed.len, k);
    if (!whole && !caps.merged.raw_rsa)
        return pfx_fail(err, PFX_CLASS_REFUSED, "unseal", key->token->facts.label, "",
                        "This token opens no OAEP with %s, as far as its probe has shown. Run "
                        "'pfx-agent hsm test'.",
                        pfx_hash_name(hash));
    CK_OBJECT_HANDLE handle;
    PFX_TRY(pfx_key_resolve(session, key, &handle, err));
    CK_RSA_PKCS_OAEP_PARAMS params;
    CK_RV rv = pfx_oaep_params(hash, &params);
    CK_MECHANISM mechanism = {whole ? CKM_RSA_PKCS_OAEP : CKM_RSA_X_509, whole ? &params : NULL,
                              whole ? sizeof params : 0};
    if (rv == CKR_OK)
        rv = PFX_S(session, C_DecryptInit, &mechanism, handle);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_DecryptInit", "The key is the %s key.",
                                pfx_key_use_name(key->use));
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    PFX_TRY(pfx_secret_new(PFX_MAX_RSA_BYTES, &plain, err));
    CK_ULONG len = PFX_MAX_RSA_BYTES;
    rv = PFX_S(session, C_Decrypt, (CK_BYTE *)(uintptr_t)sealed.data, sealed.len,
               pfx_secret_data(plain), &len);
    if (rv == CKR_OK && len > k) {
        rv = PFX_CKR_NONSENSE;
        pfx_session_saw(session, rv);
    }
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_Decrypt", "The key is the %s key.",
                                pfx_key_use_name(key->use));
    if (whole) {
        pfx_secret_truncate(plain, len);
        *ret_plain = PFX_TAKE(plain);
        return PFX_OK;
    }
    /* Raw RSA gives a number; a module may leave its leading zeros out. */
    PFX_AUTOSECRET struct pfx_secret *encoded = NULL;
    PFX_TRY(pfx_secret_new(k, &encoded, err));
    memcpy(pfx_secret_data(encoded) + (k - len), pfx_secret_bytes(plain), len);
    return pfx_oaep_unpad(encoded, hash, ret_plain, err);
}

/* An RSA public key of ours as a session object that can only encrypt. */
static pfx_result public_in(struct pfx_session *session, struct pfx_bytes spki,
                            struct pfx_temp *ret_object, struct pfx_error *err)
{
    static const CK_OBJECT_CLASS cls = CKO_PUBLIC_KEY;
    static const CK_ULONG type = CKK_RSA;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf modulus = pfx_buf_make(PFX_MAX_RSA_BYTES);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf exponent = pfx_buf_make(PFX_MAX_RSA_BYTES);
    PFX_TRY(pfx_spki_rsa_parts(spki, &modulus, &exponent, err));
    struct pfx_template t = {.n = 0};
    pfx_template_add(&t, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(&t, CKA_KEY_TYPE, &type);
    pfx_template_bool(&t, CKA_TOKEN, false);
    pfx_template_bool(&t, CKA_PRIVATE, false);
    pfx_template_bool(&t, CKA_ENCRYPT, true);
    pfx_template_bool(&t, CKA_VERIFY, false);
    pfx_template_bool(&t, CKA_WRAP, false);
    pfx_template_add(&t, CKA_MODULUS, modulus.data, modulus.len);
    pfx_template_add(&t, CKA_PUBLIC_EXPONENT, exponent.data, exponent.len);
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = PFX_S(session, C_CreateObject, t.at, t.n, &handle);
    if (rv == CKR_OK && handle == CK_INVALID_HANDLE)
        rv = PFX_CKR_NONSENSE;
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_CreateObject", "%s", "");
    *ret_object = (struct pfx_temp){session, handle};
    return PFX_OK;
}

/* One C_Encrypt; a module may leave leading zeros out. */
static pfx_result encrypt_raw(struct pfx_session *session, CK_OBJECT_HANDLE key,
                              const struct pfx_secret *encoded, uint8_t *sealed, size_t k,
                              struct pfx_error *err)
{
    CK_MECHANISM mechanism = {CKM_RSA_X_509, NULL, 0};
    CK_RV rv = PFX_S(session, C_EncryptInit, &mechanism, key);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_EncryptInit", "%s", "");
    CK_ULONG len = k;
    memset(sealed, 0, k);
    rv = PFX_S(session, C_Encrypt, (CK_BYTE *)(uintptr_t)pfx_secret_bytes(encoded),
               pfx_secret_len(encoded), sealed, &len);
    if (rv == CKR_OK && len > k) {
        rv = PFX_CKR_NONSENSE;
        pfx_session_saw(session, rv);
    }
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_Encrypt", "%s", "");
    memmove(sealed + (k - len), sealed, len);
    memset(sealed, 0, k - len);
    return PFX_OK;
}

/* Compared with what OpenSSL makes of it: a token that encrypts to another key than it was told, or
 * damages the result, would otherwise be found out by nobody but the connector. One wrong answer is
 * asked for once more. */
pfx_result pfx_token_rsa_public(struct pfx_session *session, struct pfx_bytes spki,
                                const struct pfx_secret *encoded, struct pfx_buf *out,
                                struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf want = pfx_buf_make(PFX_MAX_RSA_BYTES);
    PFX_TRY(pfx_rsa_public(spki, encoded, &want, err));
    PFX_AUTOTEMP struct pfx_temp object = {0};
    uint8_t sealed[PFX_MAX_RSA_BYTES];
    bool same = false;
    for (int i = 0; i < 2 && !same; i++) {
        pfx_temp_done(&object);
        PFX_TRY(public_in(session, spki, &object, err));
        PFX_TRY(encrypt_raw(session, object.handle, encoded, sealed, want.len, err));
        same = memcmp(sealed, want.data, want.len) == 0;
    }
    if (!same)
        return pfx_fail(err, PFX_CLASS_DEVICE, "C_Encrypt", pfx_session_token(session)->facts.label,
                        "",
                        "The token twice encrypted something else, or to another key, than it was "
                        "told. Nothing of it is used.");
    if (!pfx_buf_add(out, sealed, want.len))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "seal", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    return PFX_OK;
}

pfx_result pfx_token_seal_oaep(struct pfx_session *session, struct pfx_bytes spki,
                               enum pfx_hash hash, const struct pfx_secret *plain,
                               struct pfx_buf *out, struct pfx_error *err)
{
    const struct pfx_caps caps = pfx_token_caps(pfx_session_token(session));
    if (!caps.merged.seals)
        return pfx_fail(err, PFX_CLASS_REFUSED, "seal", pfx_session_token(session)->facts.label, "",
                        "The probe hasn't shown that this token encrypts with a public key.");
    enum pfx_key_type type;
    PFX_TRY(pfx_spki_type(spki, &type, err));
    PFX_AUTOSECRET struct pfx_secret *encoded = NULL;
    PFX_TRY(pfx_oaep_pad(plain, hash, pfx_key_type_bits(type) / 8, &encoded, err));
    return pfx_token_rsa_public(session, spki, encoded, out, err);
}
