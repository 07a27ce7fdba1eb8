/* A worker's own handles of the standing keys: found when first used, so that threads share none.
 * Earlier generations have theirs, too: what they made is read once for each user key, and to look
 * a key up costs many times what its use does. */
#ifndef PFX_HSM_RING_H
#define PFX_HSM_RING_H

#include "crypto/overlap.h"
#include "pkcs11/hsm/standing.h"

struct pfx_hsm;
struct pfx_ring {
    struct pfx_ring_slot {
        struct pfx_key *key;
        uint64_t opening; /* of the role, when it was found */
        unsigned generation;
    } slots[PFX_STANDING_MAX];
    struct pfx_ring_slot wrapping[PFX_OVERLAP_MOST], mac[PFX_OVERLAP_MOST]; /* generation - 1 */
    unsigned vouched; /* the earlier MAC key that knew a ticket last; 0: none yet */
};
/* The key, which has to have the public half that was seen when the role became ready. Borrowed
 * from the ring. The session is one of the key's token; hsm->lock is held at least for reading. */
PFX_MUST_USE pfx_result pfx_ring_key(struct pfx_hsm *hsm, struct pfx_ring *ring,
                                     struct pfx_session *session, size_t index,
                                     struct pfx_key **ret_key, struct pfx_error *err);
/* Any generation of the wrapping key or the MAC key; INTEGRITY when the token doesn't have it. */
PFX_MUST_USE pfx_result pfx_ring_generation(struct pfx_hsm *hsm, struct pfx_ring *ring,
                                            struct pfx_session *session, size_t index,
                                            unsigned generation, struct pfx_key **ret_key,
                                            struct pfx_error *err);
/* The same; *ret_key is NULL when the token doesn't have it. */
PFX_MUST_USE pfx_result pfx_ring_find(struct pfx_hsm *hsm, struct pfx_ring *ring,
                                      struct pfx_session *session, size_t index,
                                      unsigned generation, struct pfx_key **ret_key,
                                      struct pfx_error *err);
void pfx_ring_done(struct pfx_ring *ring);

#endif
