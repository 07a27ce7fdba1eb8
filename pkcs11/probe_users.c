/* The probe for the users role. */
#include <string.h>

#include "crypto/mem.h"
#include "crypto/oaep.h"
#include "pkcs11/try.h"

/* To the public half of a pair that the token made a moment ago. */
static bool try_seal(struct pfx_try *t, const struct pfx_try_keys *keys)
{
    struct pfx_probe_row *row =
        pfx_try_row(t, CKM_RSA_X_509, CKF_ENCRYPT, "seals passwords in the token");
    const struct pfx_key *to = keys->transport ? keys->transport : keys->rsa;
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOSECRET struct pfx_secret *plain = NULL, *encoded = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(PFX_MAX_RSA_BYTES);
    if (!to)
        return pfx_try_done(row, CKR_OK, false, "there is no RSA key to seal to");
    if (pfx_failed(pfx_secret_new(32, &plain, &err)) ||
        pfx_failed(pfx_oaep_pad(plain, PFX_HASH_SHA256, 256, &encoded, &err)))
        return pfx_try_done(row, CKR_OK, false, "OpenSSL can't prepare the try");
    pfx_result r = pfx_token_rsa_public(t->session, pfx_key_spki(to), encoded, &sealed, &err);
    return pfx_try_result(row, r, &err);
}

static bool try_mac(struct pfx_try *t)
{
    PFX_AUTOKEY struct pfx_key *mac = NULL;
    if (!pfx_try_key(t, PFX_USE_MAC, PFX_KEY_RSA_2048, &mac))
        return false;
    struct pfx_probe_row *row =
        pfx_try_row(t, CKM_SHA256_HMAC, CKF_SIGN, "tickets and pins (HMAC-SHA-256)");
    static const uint8_t text[] = "pfx-hsm probe";
    uint8_t one[32], two[32];
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_bytes data = {text, sizeof text - 1}, shorter = {text, sizeof text - 2};
    pfx_result r = pfx_key_mac(t->session, mac, data, one, &err);
    if (pfx_ok(r))
        r = pfx_key_mac(t->session, mac, shorter, two, &err);
    if (pfx_failed(r))
        return pfx_try_result(row, r, &err);
    return pfx_try_done(row, CKR_OK, memcmp(one, two, 32) != 0, "two texts have the same MAC");
}

static void try_pairs(struct pfx_try *t, struct pfx_try_keys *keys)
{
    struct pfx_probe *p = t->probe;
    bool rsa = pfx_try_key(t, PFX_USE_USER, PFX_KEY_RSA_2048, &keys->rsa);
    if (rsa)
        rsa = pfx_try_sign(t, keys->rsa, CKM_RSA_PKCS, "signs requests for RSA keys");
    if (rsa)
        p->sign_rsa = CKM_RSA_PKCS;
    pfx_try_rsa_sizes(t);
    for (int type = PFX_KEY_RSA_2048; type <= PFX_KEY_RSA_4096; type++)
        p->key_types[type] = p->key_types[type] && rsa;
    bool p256 = pfx_try_key(t, PFX_USE_USER, PFX_KEY_EC_P256, &keys->ec);
    if (p256)
        p256 = pfx_try_sign(t, keys->ec, CKM_ECDSA, "signs requests for EC keys");
    PFX_AUTOKEY struct pfx_key *ec384 = NULL;
    bool p384 = p256 && pfx_try_key(t, PFX_USE_USER, PFX_KEY_EC_P384, &ec384);
    p->key_types[PFX_KEY_EC_P256] = p->ecdsa = p256;
    p->key_types[PFX_KEY_EC_P384] = p384;
    if (!rsa && !p256)
        pfx_try_missing(t, "key pairs for users, neither RSA nor EC");
}

static void judge_tiers(struct pfx_try *t)
{
    bool any = false;
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        const char *profile = pfx_profile_name((enum pfx_profile)i);
        bool rsa = t->probe->tier[i].rsa != PFX_TIER_NONE;
        bool ec = t->probe->tier[i].ec != PFX_TIER_NONE;
        any = any || rsa || ec;
        if (rsa != ec)
            pfx_try_conflict(t, "%s keys can't be exported in the profile %s, %s keys can.",
                             rsa ? "EC" : "RSA", profile, rsa ? "RSA" : "EC");
    }
    if (!any)
        pfx_try_missing(t, "an export tier: no wrapping of private keys works");
}

void pfx_try_users(struct pfx_try *t)
{
    struct pfx_probe *p = t->probe;
    struct pfx_try_keys keys = {0};
    uint8_t random[32];
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result drawn = pfx_token_random(t->session, random, sizeof random, &err);
    if (pfx_failed(drawn)) {
        pfx_try_missing(t, "random numbers (C_GenerateRandom) for PFX passwords");
        p->passing = drawn.cls == PFX_CLASS_TRANSIENT || drawn.cls == PFX_CLASS_DEVICE;
    }
    try_pairs(t, &keys);
    p->hmac = try_mac(t);
    if (!p->hmac)
        pfx_try_missing(t, "HMAC-SHA-256 for tickets and pins");
    (void)!pfx_try_key(t, PFX_USE_WRAPPING, PFX_KEY_RSA_2048, &keys.wrapping);
    (void)!pfx_try_key(t, PFX_USE_KEK_TRANSPORT, PFX_KEY_RSA_2048, &keys.transport);
    pfx_try_way_in(t, &keys);
    if (p->way_in == PFX_WAY_NONE)
        pfx_try_missing(t, "a way in for key-encryption keys");
    pfx_try_tiers(t, &keys);
    judge_tiers(t);
    pfx_try_blobs(t, &keys);
    if (keys.rsa && p->blob_rsa == CK_UNAVAILABLE_INFORMATION)
        pfx_try_conflict(t, "RSA keys can't be kept as wrapped keys (users.keys: wrapped).");
    if (keys.ec && p->blob_ec == CK_UNAVAILABLE_INFORMATION)
        pfx_try_conflict(t, "EC keys can't be kept as wrapped keys (users.keys: wrapped).");
    t->probe->seals = try_seal(t, &keys);
    pfx_key_free(keys.rsa);
    pfx_key_free(keys.ec);
    pfx_key_free(keys.transport);
    pfx_key_free(keys.wrapping);
}
