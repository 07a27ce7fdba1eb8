/* Tickets and blobs of user keys, checked under the MAC key. */
#include "pkcs11/hsm/proof.h"

#include <limits.h>
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

/* By an earlier generation; one that the token lost says no. */
static pfx_result check_earlier(struct pfx_worker *worker, unsigned generation,
                                const struct pfx_ask *ask, const struct pfx_keyref *ref,
                                struct pfx_bytes ticket, struct pfx_session *session,
                                struct pfx_error *err)
{
    struct pfx_key *mac;
    PFX_TRY(pfx_ring_find(worker->hsm, &worker->ring, session, PFX_STANDING_MAC, generation, &mac,
                          err));
    if (!mac)
        return mismatch(err, "check ticket", "The token doesn't have this MAC key any more.");
    return check(ask, ref, ticket, session, mac, err);
}

/* Those that were active before: the one that knew a ticket last, since after a rotation they come
 * by the thousand, then from the newest on. */
static size_t earlier(const struct pfx_worker *worker, unsigned ret_order[PFX_OVERLAP_MOST])
{
    unsigned hint = worker->ring.vouched;
    size_t n = 0;
    if (hint > 0 && pfx_mac_previous(worker->hsm, hint + 1) == hint)
        ret_order[n++] = hint;
    for (unsigned g = pfx_mac_previous(worker->hsm, UINT_MAX); g > 0;
         g = pfx_mac_previous(worker->hsm, g))
        if (g != hint)
            ret_order[n++] = g;
    return n;
}

pfx_result pfx_proof_check(struct pfx_worker *worker, const struct pfx_ask *ask,
                           const struct pfx_keyref *ref, struct pfx_bytes ticket,
                           struct pfx_session *session, struct pfx_key *mac, struct pfx_error *err)
{
    unsigned order[PFX_OVERLAP_MOST];
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result result = check(ask, ref, ticket, session, mac, &why);
    size_t n = result.cls == PFX_CLASS_INTEGRITY ? earlier(worker, order) : 0;
    for (size_t i = 0; i < n && result.cls == PFX_CLASS_INTEGRITY; i++) {
        struct pfx_error other = PFX_ERROR_NONE;
        pfx_result r = check_earlier(worker, order[i], ask, ref, ticket, session, &other);
        if (r.cls == PFX_CLASS_INTEGRITY)
            continue;
        result = r; /* a token that doesn't answer is no "no" */
        why = other;
        if (pfx_ok(r))
            worker->ring.vouched = order[i];
    }
    if (pfx_failed(result) && err && err->cls == PFX_CLASS_OK)
        *err = why;
    return result;
}
