/* The probe's second half for the users role: ways in, export tiers and blobs, each tried in full
 * with throwaway keys. Here, and only here, the host decrypts in the tier direct: the key is made
 * for it and thrown away. */
#include <stdio.h>
#include <string.h>

#include <openssl/rand.h>

#include "crypto/mem.h"
#include "pkcs11/try.h"

static bool fresh_aes(struct pfx_secret **ret_key)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    return pfx_ok(pfx_secret_new(32, ret_key, &ignored)) &&
           RAND_bytes(pfx_secret_data(*ret_key), 32) == 1;
}

static bool way_works(struct pfx_try *t, const struct pfx_try_keys *keys, enum pfx_way_in way,
                      enum pfx_hash hash)
{
    char use[100];
    if (way == PFX_WAY_UNWRAP)
        snprintf(use, sizeof use, "key-encryption keys come in by C_UnwrapKey, %s",
                 pfx_hash_name(hash));
    else
        snprintf(use, sizeof use, "key-encryption keys come in by C_CreateObject");
    struct pfx_probe_row *row =
        pfx_try_row(t, way == PFX_WAY_UNWRAP ? CKM_RSA_PKCS_OAEP : CKM_AES_KEY_GEN,
                    way == PFX_WAY_UNWRAP ? CKF_UNWRAP : CKF_GENERATE, "%s", use);
    PFX_AUTOSECRET struct pfx_secret *kek = NULL;
    PFX_AUTOTEMP struct pfx_temp object = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (!fresh_aes(&kek))
        return pfx_try_done(row, CKR_OK, false, "no memory or no random bytes");
    return pfx_try_result(
        row, pfx_kek_in(t->session, keys->transport, way, hash, CKK_AES, kek, &object, &err), &err);
}

void pfx_try_way_in(struct pfx_try *t, const struct pfx_try_keys *keys)
{
    static const enum pfx_hash hashes[] = {PFX_HASH_SHA256, PFX_HASH_SHA1};
    t->probe->way_in = PFX_WAY_NONE;
    for (size_t i = 0; keys->transport && i < 2 && t->probe->way_in == PFX_WAY_NONE; i++) {
        if (way_works(t, keys, PFX_WAY_UNWRAP, hashes[i])) {
            t->probe->way_in = PFX_WAY_UNWRAP;
            t->kek_hash = hashes[i];
        }
    }
    if (t->probe->way_in != PFX_WAY_NONE || !way_works(t, keys, PFX_WAY_CREATE, PFX_HASH_SHA1))
        return;
    t->probe->way_in = PFX_WAY_CREATE;
    pfx_try_conflict(t,
                     "Key-encryption keys come in by C_CreateObject only, in the clear through the "
                     "module; an HSM in FIPS mode may bar that.");
}

static pfx_result bring_in(struct pfx_try *t, const struct pfx_try_keys *keys, CK_KEY_TYPE type,
                           const struct pfx_secret *key, struct pfx_temp *ret_object,
                           struct pfx_error *err)
{
    return pfx_kek_in(t->session, keys->transport, t->probe->way_in, t->kek_hash, type, key,
                      ret_object, err);
}

static bool direct_works(struct pfx_try *t, const struct pfx_try_keys *keys, struct pfx_key *user,
                         enum pfx_profile profile)
{
    struct pfx_probe_row *row =
        pfx_try_row(t, pfx_kek_mechanism(profile), CKF_WRAP, "tier direct, %s, profile %s",
                    pfx_key_type_name(user->type), pfx_profile_name(profile));
    PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
    PFX_AUTOSECRET struct pfx_secret *pkcs8 = NULL;
    PFX_AUTOTEMP struct pfx_temp object = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_kek_draw(profile, &kek, &err)))
        return pfx_try_done(row, CKR_OK, false, "no memory or no random bytes");
    pfx_result r = bring_in(t, keys, pfx_kek_type(profile), kek.key, &object, &err);
    if (pfx_failed(r))
        return pfx_try_result(row, r, &err);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wrapped = pfx_buf_make(16 * 1024);
    CK_RV rv = pfx_kek_wrap(t->session, &kek, object.handle, user->handle, &wrapped);
    if (rv != CKR_OK)
        return pfx_try_done(row, rv, false, row->advertised ? "advertised all the same" : "");
    /* Does the host, who knows the key, find the right PKCS#8 in what the token wrapped? */
    bool right = pfx_ok(pfx_p8_decrypt(&kek, (struct pfx_bytes){wrapped.data, wrapped.len}, &pkcs8,
                                       &err)) &&
                 pfx_pkcs8_fits(pkcs8, pfx_key_spki(user)) &&
                 pfx_wrapped_fits(&kek, pfx_buf_bytes(&wrapped), pfx_key_spki(user));
    return pfx_try_done(row, rv, right, "the result isn't the key's PKCS#8");
}

/* The same for every profile: they differ in what the host does afterwards. */
static bool transit_works(struct pfx_try *t, const struct pfx_try_keys *keys, struct pfx_key *user,
                          CK_MECHANISM_TYPE mechanism)
{
    struct pfx_probe_row *row =
        pfx_try_row(t, mechanism, CKF_WRAP, "tier transit, %s", pfx_key_type_name(user->type));
    PFX_AUTOSECRET struct pfx_secret *passing = NULL, *pkcs8 = NULL;
    PFX_AUTOTEMP struct pfx_temp object = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (!fresh_aes(&passing))
        return pfx_try_done(row, CKR_OK, false, "no memory or no random bytes");
    pfx_result r = bring_in(t, keys, CKK_AES, passing, &object, &err);
    if (pfx_failed(r))
        return pfx_try_result(row, r, &err);
    CK_MECHANISM m = {mechanism, NULL, 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wrapped = pfx_buf_make(16 * 1024);
    CK_RV rv = pfx_wrap(t->session, &m, object.handle, user->handle, &wrapped);
    if (rv != CKR_OK)
        return pfx_try_done(row, rv, false, row->advertised ? "advertised all the same" : "");
    bool right = pfx_ok(pfx_kwp_host_unwrap(passing, (struct pfx_bytes){wrapped.data, wrapped.len},
                                            &pkcs8, &err)) &&
                 pfx_pkcs8_fits(pkcs8, pfx_key_spki(user));
    return pfx_try_done(row, rv, right, "the result isn't RFC 5649");
}

/* A token may wrap what it was told never to let out: then that control isn't one here. profile:
 * one whose wrapping works; PFX_PROFILE_COUNT: none does, but transit. */
static void try_unextractable(struct pfx_try *t, const struct pfx_try_keys *keys,
                              enum pfx_profile profile)
{
    bool direct = profile < PFX_PROFILE_COUNT;
    PFX_AUTOKEY struct pfx_key *locked = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
    PFX_AUTOTEMP struct pfx_temp object = {0};
    if (pfx_failed(pfx_kek_draw(direct ? profile : PFX_PROFILE_MODERN, &kek, &err)) ||
        pfx_failed(
            pfx_key_make_throwaway(t->session, PFX_USE_LOG, PFX_KEY_EC_P256, &locked, &err)) ||
        pfx_failed(bring_in(t, keys, pfx_kek_type(kek.profile), kek.key, &object, &err)))
        return;
    CK_MECHANISM kwp = {t->probe->kwp, NULL, 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wrapped = pfx_buf_make(16 * 1024);
    CK_RV rv = direct ? pfx_kek_wrap(t->session, &kek, object.handle, locked->handle, &wrapped)
                      : pfx_wrap(t->session, &kwp, object.handle, locked->handle, &wrapped);
    if (rv == CKR_OK)
        pfx_try_conflict(t, "This token wraps keys that aren't extractable: CKA_EXTRACTABLE=false "
                            "protects nothing here from who has the PIN. For tests only.");
}

void pfx_try_tiers(struct pfx_try *t, const struct pfx_try_keys *keys)
{
    static const CK_MECHANISM_TYPE kwps[] = {CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD};
    struct pfx_probe *p = t->probe;
    enum pfx_tier rsa = PFX_TIER_NONE, ec = PFX_TIER_NONE;
    for (size_t i = 0; i < 2 && p->way_in != PFX_WAY_NONE && p->kwp == CK_UNAVAILABLE_INFORMATION;
         i++) {
        if (keys->rsa && transit_works(t, keys, keys->rsa, kwps[i]))
            rsa = PFX_TIER_TRANSIT;
        if (keys->ec && transit_works(t, keys, keys->ec, kwps[i]))
            ec = PFX_TIER_TRANSIT;
        if (rsa != PFX_TIER_NONE || ec != PFX_TIER_NONE)
            p->kwp = kwps[i];
    }
    enum pfx_profile wraps = PFX_PROFILE_COUNT;
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        enum pfx_profile profile = (enum pfx_profile)i;
        p->tier[i].rsa = rsa;
        p->tier[i].ec = ec;
        if (p->way_in == PFX_WAY_NONE)
            continue;
        if (keys->rsa && direct_works(t, keys, keys->rsa, profile))
            p->tier[i].rsa = PFX_TIER_DIRECT;
        if (keys->ec && direct_works(t, keys, keys->ec, profile))
            p->tier[i].ec = PFX_TIER_DIRECT;
        if (wraps == PFX_PROFILE_COUNT &&
            (p->tier[i].rsa == PFX_TIER_DIRECT || p->tier[i].ec == PFX_TIER_DIRECT))
            wraps = profile;
    }
    if (wraps < PFX_PROFILE_COUNT || p->kwp != CK_UNAVAILABLE_INFORMATION)
        try_unextractable(t, keys, wraps);
}

static CK_RV unwrap_as(struct pfx_try *t, const struct pfx_try_keys *keys, struct pfx_key *user,
                       CK_MECHANISM *m, const struct pfx_buf *wrapped, struct pfx_temp *ret_object)
{
    static const CK_OBJECT_CLASS cls = CKO_PRIVATE_KEY;
    static const CK_ULONG rsa_type = CKK_RSA, ec_type = CKK_EC;
    bool rsa = pfx_key_type_is_rsa(user->type);
    struct pfx_bytes point = pfx_spki_point(pfx_key_spki(user));
    struct pfx_template tpl = {.n = 0};
    pfx_template_add(&tpl, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(&tpl, CKA_KEY_TYPE, rsa ? &rsa_type : &ec_type);
    pfx_template_bool(&tpl, CKA_TOKEN, false);
    pfx_template_bool(&tpl, CKA_PRIVATE, true);
    pfx_template_bool(&tpl, CKA_SENSITIVE, true);
    pfx_template_bool(&tpl, CKA_EXTRACTABLE, false);
    pfx_template_bool(&tpl, CKA_SIGN, true);
    pfx_template_bool(&tpl, CKA_DECRYPT, false);
    if (t->token->module->nss && !rsa)
        pfx_template_add(&tpl, PFX_CKA_NSS_DB, point.data, point.len);
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = PFX_S(t->session, C_UnwrapKey, m, keys->wrapping->handle, wrapped->data,
                     wrapped->len, tpl.at, tpl.n, &handle);
    if (rv == CKR_OK && handle == CK_INVALID_HANDLE)
        rv = PFX_CKR_NONSENSE;
    if (rv == CKR_OK)
        *ret_object = (struct pfx_temp){t->session, handle};
    return rv;
}

/* NULL, or the first attribute that isn't what the template asked for. */
static const char *attribute_lost(struct pfx_try *t, CK_OBJECT_HANDLE object)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_DECRYPT,
                                              CKA_SIGN};
    static const signed char must[] = {1, 0, 0, 1};
    signed char found[4];
    if (pfx_attr_bools(t->session, object, types, 4, found) != CKR_OK)
        return "its attributes can't be read";
    for (size_t i = 0; i < 4; i++) {
        if (found[i] != must[i])
            return pfx_cka_name(types[i]);
    }
    return NULL;
}

static bool signs(struct pfx_try *t, const struct pfx_key *user, CK_OBJECT_HANDLE object)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    PFX_AUTOKEY struct pfx_key *key = pfx_key_new(t->session, PFX_USE_USER, &user->id, false);
    struct pfx_bytes spki = pfx_key_spki(user);
    key->type = user->type;
    bool ok = pfx_buf_add(&key->spki, spki.data, spki.len);
    key->handle = object;
    ok = ok && pfx_ok(pfx_key_prove(t->session, key, &ignored));
    key->handle = CK_INVALID_HANDLE; /* the caller's, not this struct's */
    return ok;
}

/* What does a changed blob do? KWP must refuse it; CBC_PAD often can't, and the caller's MAC does.
 */
static CK_RV unwrap_tampered(struct pfx_try *t, const struct pfx_try_keys *keys,
                             struct pfx_key *user, CK_MECHANISM *m, struct pfx_buf *wrapped)
{
    wrapped->data[wrapped->len / 2] ^= 0x01;
    PFX_AUTOTEMP struct pfx_temp object = {0};
    CK_RV rv = unwrap_as(t, keys, user, m, wrapped, &object);
    wrapped->data[wrapped->len / 2] ^= 0x01;
    return rv;
}

static bool blob_works(struct pfx_try *t, const struct pfx_try_keys *keys, struct pfx_key *user,
                       CK_MECHANISM_TYPE mechanism)
{
    bool cbc = mechanism == CKM_AES_CBC_PAD;
    struct pfx_probe_row *row =
        pfx_try_row(t, mechanism, CKF_WRAP | CKF_UNWRAP, "wrapped user keys, %s%s",
                    pfx_key_type_name(user->type), cbc ? " (with a MAC)" : "");
    uint8_t iv[16] = {0};
    CK_MECHANISM m = {mechanism, cbc ? iv : NULL, cbc ? sizeof iv : 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wrapped = pfx_buf_make(16 * 1024);
    if (RAND_bytes(iv, sizeof iv) != 1)
        return pfx_try_done(row, CKR_OK, false, "no random bytes");
    CK_RV rv = pfx_wrap(t->session, &m, keys->wrapping->handle, user->handle, &wrapped);
    PFX_AUTOTEMP struct pfx_temp object = {0};
    if (rv == CKR_OK)
        rv = unwrap_as(t, keys, user, &m, &wrapped, &object);
    if (rv != CKR_OK)
        return pfx_try_done(row, rv, false, "");
    pfx_usage_trim(t->session, object.handle);
    const char *lost = attribute_lost(t, object.handle);
    if (lost) {
        char why[100];
        snprintf(why, sizeof why, "comes back with another %s than asked for", lost);
        return pfx_try_done(row, rv, false, why);
    }
    if (!signs(t, user, object.handle))
        return pfx_try_done(row, rv, false, "comes back as another key");
    CK_RV tampered = unwrap_tampered(t, keys, user, &m, &wrapped);
    if (tampered == CKR_OK && !cbc)
        return pfx_try_done(row, rv, false, "a changed blob is taken");
    if (tampered != CKR_OK)
        t->tampered_rv = tampered;
    return pfx_try_done(row, rv, true, "");
}

/* The way of blob.c itself, once: it learns which attributes the token doesn't take with a key that
 * comes in. SoftHSM leaves a half-made session object behind for each that it refuses; they end
 * with the probe's session. */
static bool round_trip(struct pfx_try *t, const struct pfx_try_keys *keys, struct pfx_key *user,
                       CK_MECHANISM_TYPE mechanism)
{
    struct pfx_probe_row *row =
        pfx_try_row(t, mechanism, CKF_WRAP | CKF_UNWRAP, "wrapped user keys, %s, template kept",
                    pfx_key_type_name(user->type));
    pthread_mutex_lock(&t->token->caps_lock);
    t->token->caps.merged.kwp = t->probe->kwp;
    t->token->caps.merged.blob_rsa = t->token->caps.merged.blob_ec = mechanism;
    t->token->caps.tampered_rv = t->tampered_rv;
    pthread_mutex_unlock(&t->token->caps_lock);
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOKEY struct pfx_key *back = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(16 * 1024);
    pfx_result r = pfx_key_wrap_blob(t->session, keys->wrapping, user, &blob, &err);
    if (pfx_ok(r))
        r = pfx_key_unwrap_blob(t->session, keys->wrapping, (struct pfx_bytes){blob.data, blob.len},
                                &user->id, pfx_key_spki(user), &back, &err);
    return pfx_try_result(row, r, &err);
}

void pfx_try_blobs(struct pfx_try *t, const struct pfx_try_keys *keys)
{
    struct pfx_probe *p = t->probe;
    struct pfx_key *users[] = {keys->rsa, keys->ec};
    CK_MECHANISM_TYPE *found[] = {&p->blob_rsa, &p->blob_ec};
    for (size_t i = 0; keys->wrapping && i < 2; i++) {
        CK_MECHANISM_TYPE by = CK_UNAVAILABLE_INFORMATION;
        if (!users[i])
            continue;
        if (p->kwp != CK_UNAVAILABLE_INFORMATION && blob_works(t, keys, users[i], p->kwp))
            by = p->kwp;
        else if (blob_works(t, keys, users[i], CKM_AES_CBC_PAD))
            by = CKM_AES_CBC_PAD;
        if (by != CK_UNAVAILABLE_INFORMATION && round_trip(t, keys, users[i], by))
            *found[i] = by;
    }
}
