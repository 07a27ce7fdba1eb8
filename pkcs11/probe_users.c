/* The probe for the users role. */
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "crypto/mem.h"
#include "pkcs11/try.h"

static bool opens_on_host(EVP_PKEY *pkey, const EVP_MD *md, const uint8_t *sealed,
                          size_t sealed_len, const struct pfx_secret *plain)
{
    uint8_t out[512];
    size_t len = sizeof out;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool ok = ctx && EVP_PKEY_decrypt_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) == 1 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1 &&
              EVP_PKEY_decrypt(ctx, out, &len, sealed, sealed_len) == 1 &&
              len == pfx_secret_len(plain) && memcmp(out, pfx_secret_bytes(plain), len) == 0;
    EVP_PKEY_CTX_free(ctx);
    OPENSSL_cleanse(out, sizeof out);
    return ok;
}

static bool try_seal(struct pfx_try *t, EVP_PKEY *pkey, struct pfx_bytes spki, enum pfx_hash hash,
                     const EVP_MD *md)
{
    struct pfx_probe_row *row = pfx_try_row(
        t, CKM_RSA_PKCS_OAEP, CKF_ENCRYPT, "seals passwords in the token, %s", pfx_hash_name(hash));
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    PFX_AUTOTEMP struct pfx_temp object = {0};
    size_t k = 0;
    if (pfx_failed(pfx_secret_new(32, &plain, &err)) ||
        RAND_bytes(pfx_secret_data(plain), 32) != 1)
        return pfx_try_done(row, CKR_OK, false, "no memory or no random bytes");
    pfx_result r = pfx_public_in(t->session, spki, &object, &k, &err);
    if (pfx_failed(r))
        return pfx_try_result(row, r, &err);
    CK_RSA_PKCS_OAEP_PARAMS params;
    CK_RV rv = pfx_oaep_params(hash, &params);
    CK_MECHANISM m = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
    uint8_t sealed[512];
    CK_ULONG len = sizeof sealed;
    if (rv == CKR_OK)
        rv = PFX_S(t->session, C_EncryptInit, &m, object.handle);
    if (rv == CKR_OK)
        rv = PFX_S(t->session, C_Encrypt, pfx_secret_data(plain), pfx_secret_len(plain), sealed,
                   &len);
    if (rv != CKR_OK)
        return pfx_try_done(row, rv, false, "OpenSSL seals in its place");
    return pfx_try_done(row, rv, len == k && opens_on_host(pkey, md, sealed, len, plain),
                        "what it sealed doesn't open; OpenSSL seals in its place");
}

/* With a key pair of the host, so that the host can look at the result. */
static void try_seals(struct pfx_try *t)
{
    EVP_PKEY *pkey = EVP_RSA_gen(2048);
    unsigned char *der = NULL;
    int len = pkey ? i2d_PUBKEY(pkey, &der) : -1;
    if (len > 0) {
        struct pfx_bytes spki = {der, (size_t)len};
        t->probe->seal_sha256 = try_seal(t, pkey, spki, PFX_HASH_SHA256, EVP_sha256());
        t->probe->seal_sha384 = try_seal(t, pkey, spki, PFX_HASH_SHA384, EVP_sha384());
        t->probe->seal_sha512 = try_seal(t, pkey, spki, PFX_HASH_SHA512, EVP_sha512());
    }
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
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
    try_seals(t);
    pfx_key_free(keys.rsa);
    pfx_key_free(keys.ec);
    pfx_key_free(keys.transport);
    pfx_key_free(keys.wrapping);
}
