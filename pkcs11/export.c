/* The private key out of the token, for a PFX: directly under the key-encryption key, or in transit
 * through locked memory. */
#include <string.h>

#include <openssl/rand.h>

#include "crypto/mem.h"
#include "crypto/pfx.h"
#include "pkcs11/object.h"

/* What a PKCS#8 of this type can have, with room for attributes that some tokens add. */
static bool plausible(enum pfx_key_type type, size_t ciphertext_len, size_t block)
{
    static const struct {
        size_t min, max;
    } lens[PFX_KEY_TYPE_COUNT] = {
        [PFX_KEY_RSA_2048] = {1150, 1290},
        [PFX_KEY_RSA_3072] = {1720, 1870},
        [PFX_KEY_RSA_4096] = {2300, 2450},
        [PFX_KEY_EC_P256] = {60, 210},
        [PFX_KEY_EC_P384] = {72, 260},
    };
    return (size_t)type < PFX_KEY_TYPE_COUNT && ciphertext_len % block == 0 &&
           ciphertext_len > lens[type].min && ciphertext_len <= lens[type].max + block;
}

static pfx_result wrong_key(const struct pfx_key *user, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "export key", user->token->facts.label, "",
                    "The token wrapped another key than it was asked to, or under another one. "
                    "Nothing was built. Have the HSM looked at before this enrolment is retried.");
}

/* The mechanism has no integrity of its own, and the host doesn't open what it wrapped: so it is
 * done twice, which must give the same, and the public part must be that of the key. */
static pfx_result direct(struct pfx_session *session, struct pfx_key *transport,
                         struct pfx_key *user, CK_OBJECT_HANDLE handle,
                         const struct pfx_caps *caps, const struct pfx_kek *kek,
                         struct pfx_buf *out, struct pfx_error *err)
{
    PFX_AUTOTEMP struct pfx_temp object = {0};
    PFX_TRY(pfx_kek_in(session, transport, caps->merged.way_in, caps->kek_hash,
                       pfx_kek_type(kek->profile), kek->key, &object, err));
    uint8_t iv[sizeof kek->iv]; /* the parameter isn't const */
    memcpy(iv, kek->iv, sizeof iv);
    CK_MECHANISM mechanism = {pfx_kek_mechanism(kek->profile), iv, pfx_kek_block(kek->profile)};
    PFX_TRY(pfx_wrap_twice(session, &mechanism, object.handle, handle, out, err));
    if (!pfx_wrapped_fits(kek, pfx_buf_bytes(out), pfx_key_spki(user)))
        return wrong_key(user, err);
    return PFX_OK;
}

static pfx_result transit(struct pfx_session *session, struct pfx_key *transport,
                          struct pfx_key *user, CK_OBJECT_HANDLE handle,
                          const struct pfx_caps *caps, const struct pfx_kek *kek,
                          struct pfx_buf *out, struct pfx_error *err)
{
    PFX_AUTOSECRET struct pfx_secret *passing = NULL, *pkcs8 = NULL;
    PFX_TRY(pfx_secret_new(32, &passing, err));
    if (RAND_bytes(pfx_secret_data(passing), 32) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "export key", "", "",
                        "OpenSSL has no random bytes.");
    PFX_AUTOTEMP struct pfx_temp object = {0};
    PFX_TRY(pfx_kek_in(session, transport, caps->merged.way_in, caps->kek_hash, CKK_AES, passing,
                       &object, err));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wrapped = pfx_buf_make(16 * 1024);
    CK_MECHANISM mechanism = {caps->merged.kwp, NULL, 0};
    CK_RV rv = pfx_wrap(session, &mechanism, object.handle, handle, &wrapped);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_WrapKey", "The tier was transit.");
    PFX_TRY(pfx_kwp_host_unwrap(passing, (struct pfx_bytes){wrapped.data, wrapped.len}, &pkcs8,
                                err));
    pfx_result r = PFX_OK;
    if (pfx_pkcs8_fits(pkcs8, pfx_key_spki(user)))
        r = pfx_p8_encrypt(kek, pkcs8, out, err);
    else
        r = wrong_key(user, err);
    pfx_secret_free(PFX_TAKE(pkcs8)); /* at once, not at the end of the block */
    return r;
}

pfx_result pfx_key_export(struct pfx_session *session, struct pfx_key *transport,
                          struct pfx_key *user, enum pfx_tier tier, const struct pfx_kek *kek,
                          struct pfx_buf *ret_ciphertext, struct pfx_error *err)
{
    size_t want = pfx_kek_len(kek->profile), len = kek->key ? pfx_secret_len(kek->key) : 0;
    if (want == 0 || len != want)
        return pfx_fail(err, PFX_CLASS_USAGE, "export key", "key-encryption key", "",
                        "It has %zu bytes, not %zu.", len, want);
    const struct pfx_caps caps = pfx_token_caps(user->token);
    enum pfx_tier best = pfx_probe_tier(&caps.merged, kek->profile, user->type);
    bool can = tier != PFX_TIER_NONE && tier <= best &&
               (tier == PFX_TIER_DIRECT || caps.merged.kwp != CK_UNAVAILABLE_INFORMATION);
    if (!can)
        return pfx_fail(err, PFX_CLASS_REFUSED, "export key", user->token->facts.label, "",
                        "The probe hasn't shown that this token reaches the tier %s for %s in the "
                        "profile %s. Run 'pfx-agent hsm test'.",
                        tier == PFX_TIER_DIRECT ? "direct" : "transit",
                        pfx_key_type_name(user->type), pfx_profile_name(kek->profile));
    CK_OBJECT_HANDLE handle;
    PFX_TRY(pfx_key_resolve(session, user, &handle, err));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(16 * 1024);
    if (tier == PFX_TIER_DIRECT)
        PFX_TRY(direct(session, transport, user, handle, &caps, kek, &out, err));
    else
        PFX_TRY(transit(session, transport, user, handle, &caps, kek, &out, err));
    if (!plausible(user->type, out.len, pfx_kek_block(kek->profile)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "export key", user->token->facts.label, "",
                        "%zu bytes can't be the ciphertext of a private key of type %s.", out.len,
                        pfx_key_type_name(user->type));
    if (!pfx_buf_add(ret_ciphertext, out.data, out.len))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "export key", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", ret_ciphertext->max);
    return PFX_OK;
}
