/* Which user keys some worker works on at this moment. */
#include "pkcs11/hsm/claim.h"

#include <string.h>

pfx_result pfx_claim_take(struct pfx_hsm *hsm, const struct pfx_key_id *id, struct pfx_error *err)
{
    bool free_place = true;
    pthread_mutex_lock(&hsm->small);
    for (size_t i = 0; i < hsm->n_claimed; i++)
        free_place = free_place && memcmp(&hsm->claimed[i], id, sizeof *id) != 0;
    free_place = free_place && hsm->n_claimed < sizeof hsm->claimed / sizeof *hsm->claimed;
    if (free_place)
        hsm->claimed[hsm->n_claimed++] = *id;
    pthread_mutex_unlock(&hsm->small);
    if (free_place)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "take key", "", "",
                    "Another job, or an earlier copy of this one, works on the same key at this "
                    "moment: it is tried again.");
}

void pfx_claim_end(struct pfx_hsm *hsm, const struct pfx_key_id *id)
{
    pthread_mutex_lock(&hsm->small);
    for (size_t i = 0; i < hsm->n_claimed; i++) {
        if (memcmp(&hsm->claimed[i], id, sizeof *id) == 0) {
            hsm->claimed[i] = hsm->claimed[--hsm->n_claimed];
            break;
        }
    }
    pthread_mutex_unlock(&hsm->small);
}
