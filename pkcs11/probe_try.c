/* The tries that more than one role needs: keys, signatures, decryption, attributes. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/rand.h>

#include "crypto/mem.h"
#include "crypto/oaep.h"
#include "pkcs11/try.h"

struct pfx_probe_row *pfx_try_row(struct pfx_try *t, CK_MECHANISM_TYPE mechanism, CK_FLAGS flag,
                                  const char *use, ...)
{
    struct pfx_probe *p = t->probe;
    /* The table is long enough for every role; an overflow would overwrite its last row. */
    size_t at = p->n_rows < sizeof p->rows / sizeof p->rows[0] ? p->n_rows++ : p->n_rows - 1;
    struct pfx_probe_row *row = &p->rows[at];
    memset(row, 0, sizeof *row);
    row->mechanism = mechanism;
    CK_MECHANISM_INFO info;
    memset(&info, 0, sizeof info);
    CK_RV rv = PFX_C(t->token->module->functions, C_GetMechanismInfo, t->token->slot, mechanism,
                     &info);
    row->advertised = rv == CKR_OK && (info.flags & flag) == flag;
    va_list ap;
    va_start(ap, use);
    if (vsnprintf(row->use, sizeof row->use, use, ap) < 0)
        row->use[0] = '\0';
    va_end(ap);
    return row;
}

bool pfx_try_done(struct pfx_probe_row *row, CK_RV rv, bool works, const char *why)
{
    row->tried = true;
    row->rv = rv;
    row->works = rv == CKR_OK && works;
    row->passing = pfx_ckr_passes(rv);
    size_t len = strlen(row->use);
    if (!row->works && why && *why)
        snprintf(row->use + len, sizeof row->use - len, "; %s", why);
    return row->works;
}

bool pfx_try_result(struct pfx_probe_row *row, pfx_result r, const struct pfx_error *err)
{
    if (pfx_ok(r))
        return pfx_try_done(row, CKR_OK, true, "");
    CK_RV rv = pfx_ckr_parse(err->code);
    /* No CKR in it: the token said CKR_OK and the result was wrong. */
    if (rv == CK_UNAVAILABLE_INFORMATION || rv == PFX_CKR_NONSENSE) {
        (void)pfx_try_done(row, CKR_OK, false, err->text);
        row->passing = r.cls == PFX_CLASS_TRANSIENT || r.cls == PFX_CLASS_DEVICE;
        return false;
    }
    return pfx_try_done(row, rv, false, "");
}

static PFX_PRINTF(3, 0) void append(char *out, size_t size, const char *fmt, va_list ap)
{
    size_t len = strlen(out);
    if (len > 0 && len + 2 < size) {
        memcpy(out + len, "; ", 3);
        len += 2;
    }
    if (vsnprintf(out + len, size - len, fmt, ap) < 0)
        out[len] = '\0';
}

void pfx_try_missing(struct pfx_try *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    append(t->probe->missing, sizeof t->probe->missing, fmt, ap);
    va_end(ap);
    t->probe->missing_any = true;
}

void pfx_try_conflict(struct pfx_try *t, const char *fmt, ...)
{
    struct pfx_probe *p = t->probe;
    if (p->n_conflicts == sizeof p->conflicts / sizeof p->conflicts[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    append(p->conflicts[p->n_conflicts++], sizeof p->conflicts[0], fmt, ap);
    va_end(ap);
}

bool pfx_try_key(struct pfx_try *t, enum pfx_key_use use, enum pfx_key_type type,
                 struct pfx_key **ret_key)
{
    bool pair = pfx_use_is_pair(use);
    bool ed = use == PFX_USE_LOG_ED25519, ec = ed || !pfx_key_type_is_rsa(type);
    CK_MECHANISM_TYPE mechanism = !pair ? (use == PFX_USE_WRAPPING ? CKM_AES_KEY_GEN
                                                                   : CKM_GENERIC_SECRET_KEY_GEN)
                                  : ed  ? CKM_EC_EDWARDS_KEY_PAIR_GEN
                                  : ec  ? CKM_EC_KEY_PAIR_GEN
                                        : CKM_RSA_PKCS_KEY_PAIR_GEN;
    struct pfx_probe_row *row = pfx_try_row(
        t, mechanism, pair ? CKF_GENERATE_KEY_PAIR : CKF_GENERATE, "makes the %s key%s%s",
        pfx_key_use_name(use), pair && !ed ? ", " : "", pair && !ed ? pfx_key_type_name(type) : "");
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_key_make_throwaway(t->session, use, type, ret_key, &err);
    return pfx_try_result(row, r, &err);
}

static CK_RV sign_once(struct pfx_try *t, struct pfx_key *key, CK_MECHANISM *mechanism,
                       struct pfx_bytes data, uint8_t *out, CK_ULONG *len)
{
    CK_RV rv = PFX_S(t->session, C_SignInit, mechanism, key->handle);
    if (rv == CKR_OK)
        rv = PFX_S(t->session, C_Sign, (CK_BYTE *)(uintptr_t)data.data, data.len, out, len);
    return rv;
}

/* The bytes to sign, and whether the token hashes them itself. */
static bool input_for(CK_MECHANISM_TYPE mechanism, const struct pfx_key *key,
                      struct pfx_bytes message, struct pfx_bytes digest, struct pfx_buf *out)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    switch (mechanism) {
    case CKM_SHA256_RSA_PKCS:
    case CKM_SHA256_RSA_PKCS_PSS:
        return pfx_buf_add(out, message.data, message.len);
    case CKM_RSA_PKCS:
        return pfx_digest_info(PFX_HASH_SHA256, digest, out);
    case CKM_RSA_X_509:
        return pfx_ok(pfx_pss_encode(digest, PFX_HASH_SHA256, pfx_key_type_bits(key->type), out,
                                     &ignored));
    default:
        return pfx_buf_add(out, digest.data, digest.len);
    }
}

bool pfx_try_sign(struct pfx_try *t, struct pfx_key *key, CK_MECHANISM_TYPE mechanism,
                  const char *use)
{
    struct pfx_probe_row *row = pfx_try_row(t, mechanism, CKF_SIGN, "%s", use);
    static const uint8_t message[] = "pfx-hsm probe";
    struct pfx_bytes data = {message, sizeof message - 1};
    uint8_t hash[32], signature[PFX_MAX_RSA_BYTES];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf input = pfx_buf_make(PFX_MAX_RSA_BYTES);
    if (!pfx_digest(PFX_HASH_SHA256, data.data, data.len, hash, NULL) ||
        !input_for(mechanism, key, data, (struct pfx_bytes){hash, 32}, &input))
        return pfx_try_done(row, CKR_OK, false, "OpenSSL can't prepare the try");
    bool pss = mechanism == CKM_SHA256_RSA_PKCS_PSS || mechanism == CKM_RSA_PKCS_PSS;
    CK_RSA_PKCS_PSS_PARAMS params = {CKM_SHA256, CKG_MGF1_SHA256, 32};
    CK_MECHANISM m = {mechanism, pss ? &params : NULL, pss ? sizeof params : 0};
    CK_ULONG len = sizeof signature;
    CK_RV rv = sign_once(t, key, &m, (struct pfx_bytes){input.data, input.len}, signature, &len);
    if (rv != CKR_OK || len > sizeof signature)
        return pfx_try_done(row, rv, false, "");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(PFX_MAX_RSA_BYTES);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = PFX_OK;
    if (mechanism == CKM_ECDSA)
        r = pfx_ecdsa_to_der((struct pfx_bytes){signature, len}, &der, &err);
    else if (!pfx_buf_add(&der, signature, len))
        return pfx_try_done(row, rv, false, "the signature is too long");
    if (pfx_ok(r))
        r = pfx_verify_digest(pfx_key_spki(key), PFX_HASH_SHA256, (struct pfx_bytes){hash, 32},
                              (struct pfx_bytes){der.data, der.len},
                              pss || mechanism == CKM_RSA_X_509, &err);
    return pfx_try_done(row, rv, pfx_ok(r), "the signature doesn't verify");
}

static CK_RV decrypt_once(struct pfx_try *t, struct pfx_key *key, CK_MECHANISM *mechanism,
                          const struct pfx_buf *sealed, struct pfx_secret *out, CK_ULONG *len)
{
    CK_RV rv = PFX_S(t->session, C_DecryptInit, mechanism, key->handle);
    if (rv == CKR_OK)
        rv = PFX_S(t->session, C_Decrypt, sealed->data, sealed->len, pfx_secret_data(out), len);
    return rv;
}

/* A random secret, sealed on the host, and room for what the token gives back. */
static bool sealed_secret(struct pfx_key *key, enum pfx_hash hash, struct pfx_secret **ret_plain,
                          struct pfx_secret **ret_room, struct pfx_buf *sealed)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    return pfx_ok(pfx_secret_new(32, ret_plain, &ignored)) &&
           pfx_ok(pfx_secret_new(PFX_MAX_RSA_BYTES, ret_room, &ignored)) &&
           RAND_bytes(pfx_secret_data(*ret_plain), 32) == 1 &&
           pfx_ok(pfx_oaep_seal(pfx_key_spki(key), hash, *ret_plain, sealed, &ignored));
}

bool pfx_try_oaep(struct pfx_try *t, struct pfx_key *key, enum pfx_hash hash, const char *use)
{
    struct pfx_probe_row *row =
        pfx_try_row(t, CKM_RSA_PKCS_OAEP, CKF_DECRYPT, "%s, %s", use, pfx_hash_name(hash));
    PFX_AUTOSECRET struct pfx_secret *plain = NULL, *room = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(PFX_MAX_RSA_BYTES);
    CK_RSA_PKCS_OAEP_PARAMS params;
    if (pfx_oaep_params(hash, &params) != CKR_OK ||
        !sealed_secret(key, hash, &plain, &room, &sealed))
        return pfx_try_done(row, CKR_OK, false, "OpenSSL can't prepare the try");
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
    CK_ULONG len = PFX_MAX_RSA_BYTES;
    CK_RV rv = decrypt_once(t, key, &mechanism, &sealed, room, &len);
    if (rv != CKR_OK || len > PFX_MAX_RSA_BYTES)
        return pfx_try_done(row, rv, false, "");
    pfx_secret_truncate(room, len);
    return pfx_try_done(row, rv, pfx_secret_equal(plain, room), "what it opened was wrong");
}

bool pfx_try_raw(struct pfx_try *t, struct pfx_key *key, const char *use)
{
    struct pfx_probe_row *row = pfx_try_row(t, CKM_RSA_X_509, CKF_DECRYPT, "%s", use);
    PFX_AUTOSECRET struct pfx_secret *plain = NULL, *room = NULL, *encoded = NULL, *back = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(PFX_MAX_RSA_BYTES);
    struct pfx_error err = PFX_ERROR_NONE;
    if (!sealed_secret(key, PFX_HASH_SHA256, &plain, &room, &sealed) ||
        pfx_failed(pfx_secret_new(sealed.len, &encoded, &err)))
        return pfx_try_done(row, CKR_OK, false, "OpenSSL can't prepare the try");
    CK_MECHANISM mechanism = {CKM_RSA_X_509, NULL, 0};
    CK_ULONG len = PFX_MAX_RSA_BYTES;
    CK_RV rv = decrypt_once(t, key, &mechanism, &sealed, room, &len);
    if (rv != CKR_OK || len > sealed.len)
        return pfx_try_done(row, rv, false, "");
    memcpy(pfx_secret_data(encoded) + (sealed.len - len), pfx_secret_bytes(room), len);
    bool right = pfx_ok(pfx_oaep_unpad(encoded, PFX_HASH_SHA256, &back, &err)) &&
                 pfx_secret_equal(plain, back);
    return pfx_try_done(row, rv, right, "what it opened was wrong");
}

void pfx_try_rsa_sizes(struct pfx_try *t)
{
    CK_MECHANISM_INFO info;
    memset(&info, 0, sizeof info);
    CK_RV rv = PFX_C(t->token->module->functions, C_GetMechanismInfo, t->token->slot,
                     CKM_RSA_PKCS_KEY_PAIR_GEN, &info);
    for (int type = PFX_KEY_RSA_2048; type <= PFX_KEY_RSA_4096; type++) {
        CK_ULONG bits = pfx_key_type_bits((enum pfx_key_type)type);
        t->probe->key_types[type] =
            rv == CKR_OK && bits >= info.ulMinKeySize && bits <= info.ulMaxKeySize;
    }
}

/* Does the key's own MODIFIABLE=false stop a change of what it may do? */
static bool keeps_modifiable(struct pfx_try *t, const struct pfx_key *key)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE derive[] = {{.type = CKA_DERIVE, .pValue = &yes, .ulValueLen = sizeof yes}};
    CK_ATTRIBUTE_TYPE type = CKA_DERIVE;
    signed char now = -1;
    (void)PFX_C(t->token->module->functions, C_SetAttributeValue, t->session->handle, key->handle,
                derive, 1);
    return pfx_attr_bools(t->session, key->handle, &type, 1, &now) == CKR_OK && now == 0;
}

static bool keeps_allowed(struct pfx_try *t)
{
    static const CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    static const CK_ULONG type = CKK_GENERIC_SECRET, len = 32;
    static const CK_MECHANISM_TYPE only[] = {CKM_SHA256_HMAC};
    struct pfx_template tpl = {.n = 0};
    pfx_template_add(&tpl, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(&tpl, CKA_KEY_TYPE, &type);
    pfx_template_ulong(&tpl, CKA_VALUE_LEN, &len);
    pfx_template_bool(&tpl, CKA_TOKEN, false);
    pfx_template_bool(&tpl, CKA_PRIVATE, true);
    pfx_template_bool(&tpl, CKA_SIGN, true);
    pfx_template_add(&tpl, CKA_ALLOWED_MECHANISMS, only, sizeof only);
    PFX_AUTOTEMP struct pfx_temp key = {t->session, CK_INVALID_HANDLE};
    CK_MECHANISM generate = {CKM_GENERIC_SECRET_KEY_GEN, NULL, 0};
    CK_RV rv = PFX_S(t->session, C_GenerateKey, &generate, tpl.at, tpl.n, &key.handle);
    if (rv != CKR_OK) {
        key.handle = CK_INVALID_HANDLE;
        return false;
    }
    uint8_t data[] = "pfx-hsm probe", mac[64];
    CK_ULONG room = sizeof mac;
    CK_MECHANISM good = {CKM_SHA256_HMAC, NULL, 0}, bad = {CKM_SHA512_HMAC, NULL, 0};
    rv = PFX_S(t->session, C_SignInit, &good, key.handle);
    if (rv == CKR_OK)
        rv = PFX_S(t->session, C_Sign, data, sizeof data, mac, &room);
    if (rv != CKR_OK)
        return false;
    rv = PFX_S(t->session, C_SignInit, &bad, key.handle);
    if (rv != CKR_OK)
        return true;
    room = sizeof mac;
    (void)PFX_S(t->session, C_Sign, data, sizeof data, mac, &room); /* ends the operation */
    return false;
}

void pfx_try_attributes(struct pfx_try *t)
{
    PFX_AUTOKEY struct pfx_key *key = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_key_make_throwaway(t->session, PFX_USE_MAC, PFX_KEY_RSA_2048, &key, &err)))
        t->probe->modifiable_kept = !pfx_dropped(t->token, PFX_HALF_SECRET, CKA_MODIFIABLE) &&
                                    keeps_modifiable(t, key);
    t->probe->allowed_mechanisms_kept = keeps_allowed(t);
    if (!t->probe->modifiable_kept)
        pfx_try_conflict(t,
                         "CKA_MODIFIABLE=false isn't honoured: who has the PIN can change what a "
                         "key may do. Attributes are checked again at each start.");
    if (!t->probe->allowed_mechanisms_kept)
        pfx_try_conflict(t,
                         "CKA_ALLOWED_MECHANISMS isn't honoured: a key's usage flags bind it, its "
                         "mechanism doesn't.");
    if (pfx_token_caps(t->token).no_local)
        pfx_try_conflict(
            t, "CKA_LOCAL is false on keys that the token has just made, so it can't tell "
               "them from keys that were brought in.");
}
