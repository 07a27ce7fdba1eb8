#include "agent/generation.h"

#include <string.h>

#include "agent/compromise.h"
#include "agent/outbox.h"
#include "api/conf/process.h"

static pfx_result keep(struct pfx_agent *agent, const struct pfx_msg *g, int64_t now_ms,
                       struct pfx_error *err)
{
    int64_t n = pfx_msg_int(g, "generation"), changed;
    PFX_TRY(pfx_db_exec(agent->store->db, err, &changed,
                        "INSERT INTO generation(generation, state, key_name, provider_name, since,"
                        " compromised, until) VALUES(?1, ?2, ?3, ?4, ?5, ?6,"
                        "  CASE WHEN ?2 <> 'active' THEN ?5 END)"
                        " ON CONFLICT(generation) DO UPDATE SET state = excluded.state,"
                        " key_name = excluded.key_name, provider_name = excluded.provider_name,"
                        " since = excluded.since, compromised = excluded.compromised,"
                        " until = CASE WHEN excluded.state = 'active' THEN NULL"
                        "  WHEN state = 'active' THEN excluded.since ELSE until END"
                        " WHERE state <> excluded.state OR key_name <> excluded.key_name"
                        " OR provider_name <> excluded.provider_name OR since <> excluded.since"
                        " OR compromised IS NOT excluded.compromised",
                        PFX_PARAMS(P_INT(n), P_TEXT(pfx_msg_str(g, "state")),
                                   P_TEXT(pfx_msg_str(g, "key_name")),
                                   P_TEXT(pfx_msg_str(g, "provider_name")),
                                   P_INT(pfx_msg_int(g, "since")),
                                   P_INT_OR_NULL(pfx_msg_int(g, "compromised")))));
    if (!changed)
        return PFX_OK;
    PFX_TRY(pfx_compromise_anew(agent, err));
    return pfx_note(agent->store, now_ms, 0, NULL, err,
                    "generation %lld of the encryption key is %s", (long long)n,
                    pfx_msg_str(g, "state"));
}

pfx_result pfx_generation_report(struct pfx_agent *agent, const struct pfx_msg *report,
                                 int64_t now_ms, struct pfx_error *err)
{
    /* Absent: pfx-hsm can't read its pins now, which says nothing about any of them. */
    for (size_t i = 0; i < pfx_msg_count(report, "generations"); i++)
        PFX_TRY(keep(agent, pfx_msg_obj_at(report, "generations", i), now_ms, err));
    return PFX_OK;
}

pfx_result pfx_generation_active(struct pfx_store *store, int64_t *ret_generation,
                                 struct pfx_error *err)
{
    return pfx_db_int(store->db, err, 0, ret_generation,
                      "SELECT max(generation) FROM generation WHERE state = 'active'",
                      PFX_NO_PARAMS);
}

pfx_result pfx_generation_ask(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    return pfx_outbox_add(agent->store, "hsm", NULL, "hsm.report", "{}", now_ms, now_ms, err);
}

pfx_result pfx_generation_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    if (agent->report_uptime == 0 || pfx_uptime_ms() < agent->report_uptime)
        return PFX_OK;
    agent->report_uptime = 0;
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_generation_ask(agent, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

pfx_result pfx_generation_used(struct pfx_agent *agent, int64_t generation, int64_t now_ms,
                               struct pfx_error *err)
{
    int64_t active;
    PFX_TRY(pfx_generation_active(agent->store, &active, err));
    /* None is known: one that tells nothing about them needn't be asked each time. */
    return active && active != generation ? pfx_generation_ask(agent, now_ms, err) : PFX_OK;
}
