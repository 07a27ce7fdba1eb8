#include "agent/agent.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "agent/compromise.h"
#include "agent/counter.h"
#include "agent/discard.h"
#include "agent/generation.h"
#include "agent/note.h"
#include "agent/notes_queue.h"
#include "agent/orders.h"
#include "agent/pass.h"
#include "agent/rebuild.h"
#include "agent/rewrap.h"
#include "agent/removal.h"
#include "agent/restored.h"
#include "agent/timing.h"
#include "api/conf/process.h"

#define LINES_MOST 50 /* log lines about connections, in one span */
#define LINES_SPAN_MS 10000

pfx_result pfx_agent_init(struct pfx_agent *agent, struct pfx_error *err)
{
    int64_t orders, uploads, rebuild;
    PFX_TRY(pfx_user_hash_all(agent->store, err));
    PFX_TRY(pfx_pass_rules(agent, err));
    PFX_TRY(pfx_counter_forget(agent, err));
    PFX_TRY(pfx_removal_heal(agent, pfx_now_ms(), err));
    PFX_TRY(pfx_restored_begin(agent, pfx_now_ms(), err));
    PFX_TRY(pfx_meta_get(agent->store, "pause_orders", &orders, err));
    PFX_TRY(pfx_meta_get(agent->store, "pause_uploads", &uploads, err));
    PFX_TRY(pfx_meta_get(agent->store, "pause_rebuild", &rebuild, err));
    agent->no_orders = orders != 0;
    agent->no_rebuild = rebuild != 0;
    agent->no_uploads = uploads != 0;
    return PFX_OK;
}

pfx_result pfx_agent_pause(struct pfx_agent *agent, const struct pfx_pausing *what, bool paused,
                           uid_t uid, int64_t now_ms, struct pfx_error *err)
{
    const struct {
        bool meant, *now;
        const char *key, *word;
    } parts[] = {{what->orders, &agent->no_orders, "pause_orders", "orders"},
                 {what->uploads, &agent->no_uploads, "pause_uploads", "uploads"},
                 {what->rebuild, &agent->no_rebuild, "pause_rebuild", "the rebuild"}};
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!parts[i].meant)
            continue;
        PFX_TRY(pfx_meta_set(agent->store, parts[i].key, paused, err));
        PFX_TRY(pfx_note(agent->store, now_ms, 0, NULL, err, "an operator %s %s",
                         paused ? "pauses" : "resumes", parts[i].word));
    }
    PFX_TRY(pfx_note_command(agent->store, uid, paused ? "pause" : "resume", 0, NULL, now_ms, err));
    PFX_TRY(pfx_tx_commit(&tx, err));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (parts[i].meant)
            *parts[i].now = paused;
    return PFX_OK;
}

void pfx_agent_store_result(struct pfx_agent *agent, pfx_result r, const struct pfx_error *err)
{
    int64_t changes = sqlite3_total_changes64(pfx_db_handle(agent->store->db));
    char line[800];
    if (pfx_ok(r)) {
        if (agent->store_trouble[0] && changes > agent->store_changes) {
            pfx_log(PFX_LOG_INFO, "the store can be written again");
            agent->store_trouble[0] = '\0';
        }
        return;
    }
    pfx_error_line(err, line, sizeof(line));
    if (strcmp(line, agent->store_trouble) != 0)
        pfx_log(PFX_LOG_ERROR, "%s", line);
    memcpy(agent->store_trouble, line, sizeof(line));
    agent->store_changes = changes;
}

bool pfx_agent_may_tell(struct pfx_limit *lines, const char *socket)
{
    uint64_t untold;
    bool may = pfx_limit_take(lines, LINES_MOST, LINES_SPAN_MS, pfx_uptime_ms(), &untold);
    if (untold > 0)
        pfx_log(PFX_LOG_WARN,
                "socket %s: %llu lines weren't written: there were more than %d in %d s", socket,
                (unsigned long long)untold, LINES_MOST, LINES_SPAN_MS / 1000);
    return may;
}

static pfx_result orders_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_orders_tick(agent, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

void pfx_agent_tick(struct pfx_agent *agent, int64_t now_ms)
{
    static pfx_result (*const ticks[])(struct pfx_agent *, int64_t, struct pfx_error *) = {
        pfx_pass_tick,    orders_tick,      pfx_compromise_tick, pfx_rebuild_tick,
        pfx_discard_tick, pfx_rewrap_tick,  pfx_generation_tick};
    struct pfx_error first = PFX_ERROR_NONE;
    pfx_result result = PFX_OK;
    pfx_notes_tick(agent, now_ms);
    /* One that can't go on must not keep the others from it. */
    for (size_t i = 0; i < sizeof(ticks) / sizeof(ticks[0]); i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_result r = ticks[i](agent, now_ms, &err);
        if (pfx_failed(r) && pfx_ok(result)) {
            result = r;
            first = err;
        }
    }
    pfx_agent_store_result(agent, result, &first);
}

uint32_t pfx_dice(void)
{
    uint32_t dice;
    if (getrandom(&dice, sizeof(dice), 0) != sizeof(dice))
        pfx_die("no randomness");
    return dice;
}

int64_t pfx_agent_backoff(const struct pfx_agent *agent, int64_t tries)
{
    return pfx_backoff(tries < 0    ? 0
                       : tries > 62 ? 62
                                    : (unsigned)tries,
                       agent->conf->retry_min_ms, agent->conf->retry_max_ms, pfx_dice());
}
