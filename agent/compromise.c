#include "agent/compromise.h"

#include "agent/after.h"
#include "agent/timing.h"

#define AT_ONCE 100 /* of one transaction */

/* The generation of the last look, and the enrolment in it: everything up to those is marked. */
#define PLACE "exposed_generation"
#define PLACE_ID "exposed_id"
#define ALL "exposed_all" /* 1: nothing is left to be looked at */

pfx_result pfx_compromise_exposed(struct pfx_store *store, int64_t enrolment, bool *ret_exposed,
                                  struct pfx_error *err)
{
    int64_t found;
    PFX_TRY(pfx_db_int(store->db, err, 0, &found,
                       "SELECT EXISTS(SELECT 1 FROM exposure x JOIN generation g"
                       " ON g.generation = x.generation WHERE x.enrolment = ?"
                       " AND g.compromised IS NOT NULL)",
                       PFX_PARAMS(P_INT(enrolment))));
    *ret_exposed = found != 0;
    return PFX_OK;
}

pfx_result pfx_compromise_anew(struct pfx_agent *agent, struct pfx_error *err)
{
    PFX_TRY(pfx_meta_set(agent->store, PLACE, 0, err));
    PFX_TRY(pfx_meta_set(agent->store, PLACE_ID, 0, err));
    return pfx_meta_set(agent->store, ALL, 0, err);
}

/* Is there one to seal successors to? Else they would be bought and lie there. */
static pfx_result sound(struct pfx_agent *agent, bool *ret_sound, struct pfx_error *err)
{
    int64_t found;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &found,
                       "SELECT EXISTS(SELECT 1 FROM generation WHERE state = 'active'"
                       " AND compromised IS NULL) AND EXISTS(SELECT 1 FROM generation"
                       " WHERE compromised IS NOT NULL)",
                       PFX_NO_PARAMS));
    *ret_sound = found != 0;
    return PFX_OK;
}

static pfx_result mark(struct pfx_agent *agent, int64_t id, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    return e.id && e.at == PFX_ACTIVE && !e.exposed_at ? pfx_after_exposed(agent, &e, now_ms, err)
                                                       : PFX_OK;
}

pfx_result pfx_compromise_active(struct pfx_agent *agent, int64_t enrolment, int64_t now_ms,
                                 struct pfx_error *err)
{
    bool exposed, can;
    PFX_TRY(pfx_compromise_exposed(agent->store, enrolment, &exposed, err));
    if (!exposed)
        return PFX_OK;
    PFX_TRY(sound(agent, &can, err));
    /* Without one it is found with all the others, once there is. */
    return can ? mark(agent, enrolment, now_ms, err) : PFX_OK;
}

/* The next one behind these, and its generation; enrolment 0: there is none. */
static pfx_result next_exposed(struct pfx_store *store, int64_t *generation, int64_t *enrolment,
                               struct pfx_error *err)
{
    struct pfx_db *db = store->db;
    while (true) {
        PFX_TRY(pfx_db_int(db, err, 0, enrolment,
                           "SELECT min(enrolment) FROM exposure WHERE generation = ?"
                           " AND enrolment > ?",
                           PFX_PARAMS(P_INT(*generation), P_INT(*enrolment))));
        if (*enrolment)
            return PFX_OK;
        PFX_TRY(pfx_db_int(db, err, 0, generation,
                           "SELECT min(generation) FROM generation WHERE compromised IS NOT NULL"
                           " AND generation > ?",
                           PFX_PARAMS(P_INT(*generation))));
        if (*generation == 0)
            return PFX_OK;
    }
}

pfx_result pfx_compromise_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t all, generation, id;
    bool can;
    PFX_TRY(pfx_meta_get(agent->store, ALL, &all, err));
    agent->marking = false;
    if (all)
        return PFX_OK;
    PFX_TRY(sound(agent, &can, err));
    if (!can)
        return PFX_OK;
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_meta_get(agent->store, PLACE, &generation, err));
    PFX_TRY(pfx_meta_get(agent->store, PLACE_ID, &id, err));
    for (int i = 0; i < AT_ONCE; i++) {
        PFX_TRY(next_exposed(agent->store, &generation, &id, err));
        if (id == 0)
            break;
        PFX_TRY(mark(agent, id, now_ms, err));
    }
    agent->marking = id != 0;
    PFX_TRY(pfx_meta_set(agent->store, PLACE, generation, err));
    PFX_TRY(pfx_meta_set(agent->store, PLACE_ID, id, err));
    PFX_TRY(pfx_meta_set(agent->store, ALL, id == 0, err));
    return pfx_tx_commit(&tx, err);
}
