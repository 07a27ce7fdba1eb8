/* Tickets and blobs of user keys, checked under the MAC key. */
#include "pkcs11/hsm/proof.h"

#include <openssl/crypto.h>

#include "pkcs11/hsm/rotation.h"

#define MAX_REF_BYTES 32768

static pfx_result mismatch(struct pfx_error *err, const char *op, const char *text)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, op, "", "", "%s", text);
}

static pfx_result check(const struct pfx_ask *ask, const struct pfx_keyref *ref,
                        struct pfx_bytes ticket, struct pfx_session *session, struct pfx_key *mac,
                        struct pfx_error *err)
{
    uint8_t computed[32];
    if (ref->wrapped) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(MAX_REF_BYTES);
        if (!pfx_keyref_mac_bytes(ref, ask->user, &bytes))
            return mismatch(err, "check key reference", "It is too long.");
        PFX_TRY(pfx_key_mac(session, mac, pfx_buf_bytes(&bytes), computed, err));
        if (CRYPTO_memcmp(computed, ref->mac, sizeof computed) != 0)
            return mismatch(err, "check key reference",
                            "The wrapped key was changed, or belongs to another user: nothing is "
                            "done with it. Find out what changed pfx-agentd's store.");
    }
    PFX_TRY(pfx_ask_ticket(ask, session, mac, &ref->id, pfx_buf_bytes(&ref->spki), computed, err));
    if (ticket.len != sizeof computed || CRYPTO_memcmp(computed, ticket.data, sizeof computed) != 0)
        return mismatch(err, "check ticket",
                        "This key wasn't made for this user, these addresses and this purpose: "
                        "nothing is done with it. Find out what changed pfx-agentd's store.");
    return PFX_OK;
}

pfx_result pfx_proof_check(const struct pfx_hsm *hsm, const struct pfx_ask *ask,
                           const struct pfx_keyref *ref, struct pfx_bytes ticket,
                           struct pfx_session *session, struct pfx_key *mac, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result result = check(ask, ref, ticket, session, mac, &why);
    for (size_t i = 0; result.cls == PFX_CLASS_INTEGRITY; i++) {
        struct pfx_key *earlier PFX_AUTOKEY = NULL;
        struct pfx_error ignored = PFX_ERROR_NONE;
        PFX_TRY(pfx_mac_earlier(hsm, session, i, &earlier, err));
        if (!earlier)
            break;
        if (pfx_ok(check(ask, ref, ticket, session, earlier, &ignored)))
            result = PFX_OK;
    }
    if (pfx_failed(result) && err && err->cls == PFX_CLASS_OK)
        *err = why;
    return result;
}
