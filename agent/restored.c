#include "agent/restored.h"

#include <string.h>
#include <unistd.h>

#include "agent/note.h"
#include "api/conf/product.h"
#include "api/conf/process.h"

static pfx_result begin(struct pfx_agent *agent, int64_t made_ms, int64_t now_ms,
                        struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    struct pfx_tx tx PFX_AUTOTX = {0};
    char made[PFX_TIME_SIZE];
    int64_t open;
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    PFX_TRY(pfx_db_int(store->db, err, 0, &open,
                       "SELECT count(*) FROM enrolment WHERE state IN ('NEW', 'KEYED')"
                       " OR (state = 'HELD' AND order_id IS NULL)",
                       PFX_NO_PARAMS));
    PFX_TRY(pfx_meta_set(store, "restored_from", made_ms, err));
    PFX_TRY(pfx_meta_set(store, "restored_at", now_ms, err));
    PFX_TRY(pfx_db_exec(store->db, err, NULL, "DELETE FROM meta WHERE key = 'copy_made'",
                        PFX_NO_PARAMS));
    PFX_TRY(pfx_note(store, now_ms, 0, NULL, err,
                     "this store is a backup's, made %s: nothing is ordered before DigiCert was "
                     "looked at for it; %lld enrolments had no order yet",
                     pfx_time_format(made_ms, false, made), (long long)open));
    PFX_TRY(pfx_note_restored(store, open, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

pfx_result pfx_restored_begin(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t made;
    char *left PFX_AUTOFREE = pfx_asprintf("%s/" PFX_STORE_COPY, agent->store->dir);
    char *half PFX_AUTOFREE = pfx_asprintf("%s.new", left); /* with parcels still in it */
    (void)unlink(left);
    (void)unlink(half);
    PFX_TRY(pfx_meta_get(agent->store, "copy_made", &made, err));
    if (made)
        PFX_TRY(begin(agent, made, now_ms, err));
    PFX_TRY(pfx_meta_get(agent->store, "restored_from", &agent->restored_from, err));
    return pfx_meta_get(agent->store, "restored_at", &agent->restored_at, err);
}

/* Has this restore nothing to do with it any more? */
static bool done_with(const struct pfx_agent *agent, const struct pfx_enrolment *e)
{
    const struct pfx_product *product = pfx_product_find(e->product);
    return agent->restored_at == 0 || e->looked >= agent->restored_at ||
           (product && strcmp(product->ca, "digicert") != 0);
}

pfx_result pfx_restored_gate(struct pfx_agent *agent, struct pfx_job_row *job,
                             const struct pfx_enrolment *e, int64_t now_ms, struct pfx_error *err)
{
    static const char look[] = "up.order_settle";
    if (strcmp(job->kind, "up.order") != 0 || done_with(agent, e) ||
        now_ms >= agent->restored_at + PFX_RESTORED_MS)
        return PFX_OK;
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL, "UPDATE job SET kind = ? WHERE id = ?",
                        PFX_PARAMS(P_TEXT(look), P_INT(job->id))));
    PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err,
                     "looked for at DigiCert before it is ordered: the store is a backup's"));
    free(job->kind);
    job->kind = pfx_strdup(look);
    return PFX_OK;
}

int64_t pfx_restored_since(const struct pfx_agent *agent, int64_t since_ms)
{
    return agent->restored_at && agent->restored_from < since_ms ? agent->restored_from : since_ms;
}

bool pfx_restored_first(const struct pfx_agent *agent, const struct pfx_enrolment *e)
{
    return !done_with(agent, e) && !e->sent_first;
}

pfx_result pfx_restored_looked(struct pfx_agent *agent, const struct pfx_enrolment *e,
                               int64_t now_ms, struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL, "UPDATE enrolment SET looked = ? WHERE id = ?",
                       PFX_PARAMS(P_INT(now_ms), P_INT(e->id)));
}

/* Placed for the same addresses by an agent, alive at the CA, and of no enrolment here. */
static pfx_result unknown_order(struct pfx_agent *agent, const struct pfx_msg *answer,
                                int64_t *ret_order, struct pfx_error *err)
{
    *ret_order = 0;
    for (size_t i = 0; i < pfx_msg_count(answer, "others") && *ret_order == 0; i++) {
        const struct pfx_msg *other = pfx_msg_obj_at(answer, "others", i);
        int64_t order = pfx_msg_int(other, "order_id"), ours;
        if (pfx_ca_status(pfx_msg_str(other, "status")) == PFX_CA_ENDED)
            continue;
        PFX_TRY(pfx_db_int(agent->store->db, err, 0, &ours,
                           "SELECT id FROM enrolment WHERE order_id = ?",
                           PFX_PARAMS(P_INT(order))));
        *ret_order = ours ? 0 : order;
    }
    return PFX_OK;
}

pfx_result pfx_restored_empty(struct pfx_agent *agent, const struct pfx_enrolment *e,
                              const struct pfx_msg *answer, int64_t now_ms, int64_t *ret_again_at,
                              struct pfx_error *bad, struct pfx_error *err)
{
    int64_t order, sure = agent->restored_at + agent->conf->settle_grace_ms;
    PFX_TRY(unknown_order(agent, answer, &order, err));
    *ret_again_at = 0;
    if (order) {
        pfx_result r =
            pfx_fail(bad, PFX_CLASS_INTEGRITY, "order", e->user, "restored",
                     "order %lld was placed for these addresses after the backup that this store "
                     "is of, and its key isn't known here any more. Cancel it at DigiCert, or have "
                     "its certificate revoked; then order anew with pfx-agent enrolment release "
                     "%lld",
                     (long long)order, (long long)e->id);
        (void)r;
    } else if (now_ms < sure) { /* the CA's list may lag behind what the lost host did last */
        *ret_again_at = sure;
        return PFX_OK;
    }
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET settle_since = NULL, settle_empty = 0 WHERE id = ?",
                        PFX_PARAMS(P_INT(e->id))));
    return pfx_restored_looked(agent, e, now_ms, err);
}
