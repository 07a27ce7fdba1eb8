/* Keys of one thread. */
#include "pkcs11/hsm/ring.h"

#include "pkcs11/hsm/hsm.h"

pfx_result pfx_ring_key(struct pfx_hsm *hsm, struct pfx_ring *ring, struct pfx_session *session,
                        size_t index, struct pfx_key **ret_key, struct pfx_error *err)
{
    struct pfx_standing_key standing;
    pfx_hsm_standing(hsm, index, &standing);
    struct pfx_ring_slot *slot = &ring->slots[index];
    uint64_t opening = hsm->roles[standing.role].opening;
    if (slot->key && (slot->opening != opening || slot->generation != standing.generation)) {
        pfx_key_free(slot->key);
        slot->key = NULL;
    }
    if (!slot->key) {
        struct pfx_key *key PFX_AUTOKEY = NULL;
        PFX_TRY(pfx_key_find(session, standing.use, &standing.id, true,
                             pfx_buf_bytes(&hsm->standing_spki[index]), &key, err));
        if (!key)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key", standing.name, "",
                            "The key was on the token when pfx-hsm started and isn't now: find out "
                            "who removed it, then restore the token from its backup.");
        slot->key = PFX_TAKE(key);
        slot->opening = opening;
        slot->generation = standing.generation;
    }
    *ret_key = slot->key;
    return PFX_OK;
}

pfx_result pfx_ring_find(struct pfx_hsm *hsm, struct pfx_ring *ring, struct pfx_session *session,
                         size_t index, unsigned generation, struct pfx_key **ret_key,
                         struct pfx_error *err)
{
    struct pfx_standing_key standing;
    *ret_key = NULL;
    if (generation == hsm->generations[index])
        return pfx_ring_key(hsm, ring, session, index, ret_key, err);
    if (generation < 1 || generation > PFX_OVERLAP_MOST) /* it stands in what pfx-agentd brings */
        return PFX_OK;
    struct pfx_ring_slot *slot =
        &(index == PFX_STANDING_MAC ? ring->mac : ring->wrapping)[generation - 1];
    pfx_standing_generation(hsm->policy, index, generation, &standing);
    uint64_t opening = hsm->roles[standing.role].opening;
    if (slot->key && slot->opening != opening) {
        pfx_key_free(slot->key);
        slot->key = NULL;
    }
    if (!slot->key)
        PFX_TRY(pfx_key_find(session, standing.use, &standing.id, true, (struct pfx_bytes){NULL, 0},
                             &slot->key, err));
    slot->opening = opening;
    *ret_key = slot->key;
    return PFX_OK;
}

pfx_result pfx_ring_generation(struct pfx_hsm *hsm, struct pfx_ring *ring,
                               struct pfx_session *session, size_t index, unsigned generation,
                               struct pfx_key **ret_key, struct pfx_error *err)
{
    struct pfx_standing_key standing;
    char text[128];
    PFX_TRY(pfx_ring_find(hsm, ring, session, index, generation, ret_key, err));
    if (*ret_key)
        return PFX_OK;
    pfx_standing_generation(hsm->policy, index, generation, &standing);
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key", standing.name, "",
                    "The token %s doesn't have this key any more, and nothing else reads what it "
                    "made: restore the token from its backup.",
                    pfx_token_text(pfx_session_token(session), text));
}

static void drop(struct pfx_ring_slot *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pfx_key_free(slots[i].key);
        slots[i].key = NULL;
    }
}

void pfx_ring_done(struct pfx_ring *ring)
{
    drop(ring->slots, PFX_STANDING_MAX);
    drop(ring->wrapping, PFX_OVERLAP_MOST);
    drop(ring->mac, PFX_OVERLAP_MOST);
}
