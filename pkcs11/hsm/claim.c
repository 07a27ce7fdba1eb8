/* Which user keys are at work. */
#include "pkcs11/hsm/claim.h"

#include <string.h>

/* With hsm->small held; NULL: nobody has it. */
static struct pfx_claim *find(struct pfx_hsm *hsm, const struct pfx_key_id *id)
{
    for (size_t i = 0; i < hsm->n_claims; i++)
        if (memcmp(&hsm->claims[i].id, id, sizeof *id) == 0)
            return &hsm->claims[i];
    return NULL;
}

pfx_result pfx_claim_take(struct pfx_hsm *hsm, const struct pfx_key_id *id, bool alone,
                          struct pfx_error *err)
{
    bool taken = false;
    pthread_mutex_lock(&hsm->small);
    struct pfx_claim *claim = find(hsm, id);
    if (claim && !alone && !claim->alone) {
        claim->n++;
        taken = true;
    } else if (!claim && hsm->n_claims < sizeof hsm->claims / sizeof *hsm->claims) {
        hsm->claims[hsm->n_claims++] = (struct pfx_claim){.id = *id, .n = 1, .alone = alone};
        taken = true;
    }
    pthread_mutex_unlock(&hsm->small);
    if (taken)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "take key", "", "",
                    "Another job, or an earlier copy of this one, works on the same key at this "
                    "moment: it is tried again.");
}

void pfx_claim_end(struct pfx_hsm *hsm, const struct pfx_key_id *id)
{
    pthread_mutex_lock(&hsm->small);
    struct pfx_claim *claim = find(hsm, id);
    if (claim && --claim->n == 0)
        *claim = hsm->claims[--hsm->n_claims];
    pthread_mutex_unlock(&hsm->small);
}
