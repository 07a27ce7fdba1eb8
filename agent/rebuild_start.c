/* Which records are rebuilt, and when: round by round, a few at a time, behind new enrolments. */
#include <string.h>

#include "agent/discard.h"
#include "agent/discard.h"
#include "agent/generation.h"
#include "agent/rebuild.h"
#include "agent/timing.h"
#include "api/conf/process.h"

#define WINDOW 64        /* on their way at once: both arms have work, a command waits for no more */
#define WINDOW_BEHIND 4  /* while new enrolments have work for the arms */
#define LOOK_AT_ONCE 200 /* of one transaction */
#define EACH_MS 220      /* until it is measured: Intune takes 100 writes in 20 s, and some read */
#define MEASURED 20      /* so many say how long one takes */

/* Where a round stands. Kept in the store: it goes on after a restart. */
struct round {
    int64_t started, no, target;
    int64_t generation, id; /* looked at up to this one; generations in their order */
    int64_t passed;
};

static pfx_result load(struct pfx_store *store, struct round *r, struct pfx_error *err)
{
    PFX_TRY(pfx_meta_get(store, "rebuild_started", &r->started, err));
    PFX_TRY(pfx_meta_get(store, "rebuild_round", &r->no, err));
    PFX_TRY(pfx_meta_get(store, "rebuild_target", &r->target, err));
    PFX_TRY(pfx_meta_get(store, "rebuild_generation", &r->generation, err));
    PFX_TRY(pfx_meta_get(store, "rebuild_id", &r->id, err));
    return pfx_meta_get(store, "rebuild_passed", &r->passed, err);
}

static pfx_result save(struct pfx_store *store, const struct round *r, struct pfx_error *err)
{
    PFX_TRY(pfx_meta_set(store, "rebuild_started", r->started, err));
    PFX_TRY(pfx_meta_set(store, "rebuild_round", r->no, err));
    PFX_TRY(pfx_meta_set(store, "rebuild_target", r->target, err));
    PFX_TRY(pfx_meta_set(store, "rebuild_generation", r->generation, err));
    PFX_TRY(pfx_meta_set(store, "rebuild_id", r->id, err));
    return pfx_meta_set(store, "rebuild_passed", r->passed, err);
}

pfx_result pfx_rebuild_begin(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct round r;
    PFX_TRY(load(agent->store, &r, err));
    bool fresh = r.started == 0;
    r = (struct round){.started = fresh ? now_ms : r.started, .no = r.no + 1};
    PFX_TRY(pfx_generation_active(agent->store, &r.target, err));
    PFX_TRY(save(agent->store, &r, err));
    if (!fresh)
        return PFX_OK;
    agent->rebuild_since = pfx_uptime_ms();
    agent->rebuild_base = 0;
    PFX_TRY(pfx_meta_set(agent->store, "rebuild_done", 0, err));
    return pfx_note(agent->store, now_ms, 0, NULL, err,
                    "rebuild begins: records get sealed to generation %lld of the encryption key",
                    (long long)r.target);
}

pfx_result pfx_rebuild_why_not(struct pfx_agent *agent, const struct pfx_enrolment *e,
                               int64_t now_ms, struct pfx_rebuild_why *ret_why,
                               struct pfx_error *err)
{
    struct pfx_rebuild_why *why = ret_why;
    int64_t known, removing, read;
    int64_t delivered = e->rebuilt_at > e->active_at ? e->rebuilt_at : e->active_at;
    *why = (struct pfx_rebuild_why){0};
    PFX_TRY(pfx_meta_get(agent->store, "records_started", &read, err));
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &known,
                       "SELECT EXISTS(SELECT 1 FROM record WHERE user_hex = substr(?1, 1, 32)"
                       " AND lower(id) = ?1)",
                       PFX_PARAMS(P_TEXT(e->record_id))));
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &removing,
                       "SELECT EXISTS(SELECT 1 FROM removal WHERE record_id = ?"
                       " AND gone_at IS NULL)",
                       PFX_PARAMS(P_TEXT(e->record_id))));
    if (removing)
        *why = (struct pfx_rebuild_why){"its record is being removed", NULL, true};
    else if (!known && read > delivered)
        *why = (struct pfx_rebuild_why){"Intune doesn't have its record any more", NULL, true};
    else if (strcmp(e->purpose, "signing") == 0 && e->expires && e->expires <= now_ms)
        *why = (struct pfx_rebuild_why){"its signing certificate is over", NULL, true};
    else if (strcmp(e->purpose, "signing") == 0 && e->exposed_at)
        why->why = "its user key is exposed, which no new seal mends: it is replaced",
        why->next = "pfx-agent key exposed";
    else if (!pfx_key_kept(e) || !e->ticket.data)
        why->why = "its user key isn't kept any more",
        why->next = "wait until it is renewed, or enrol again: pfx-agent enrolment revoke";
    return PFX_OK;
}

static pfx_result put(struct pfx_agent *agent, const struct pfx_enrolment *e,
                      const struct round *r, int64_t now_ms, struct pfx_error *err)
{
    char *scope PFX_AUTOFREE = pfx_asprintf("rebuild/%lld", (long long)e->id);
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "INSERT INTO rebuild(enrolment, ver, state, round, begun_at, changed_at)"
                        " VALUES(?1, ?2, 'CHECKED', ?3, ?4, ?4)"
                        " ON CONFLICT(enrolment) DO UPDATE SET ver = excluded.ver,"
                        " state = excluded.state, round = excluded.round, bounces = 0,"
                        " begun_at = excluded.begun_at, changed_at = excluded.changed_at,"
                        " fail_text = NULL",
                        PFX_PARAMS(P_INT(e->id), P_INT(e->ver), P_INT(r->no), P_INT(now_ms))));
    return pfx_outbox_add(agent->store, scope, NULL, "hsm.build_seal", NULL, now_ms, now_ms, err);
}

/* One that was delivered and is sealed to another generation: put out, or passed over. *ret_put. */
static pfx_result consider(struct pfx_agent *agent, int64_t id, struct round *r, int64_t now_ms,
                           bool *ret_put, struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_rebuild_why why;
    int64_t busy;
    *ret_put = false;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &busy,
                       "SELECT EXISTS(SELECT 1 FROM rebuild WHERE enrolment = ?"
                       " AND (state <> 'HELD' OR round = ?))",
                       PFX_PARAMS(P_INT(id), P_INT(r->no))));
    if (busy)
        return PFX_OK;
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    PFX_TRY(pfx_rebuild_why_not(agent, &e, now_ms, &why, err));
    if (why.why) {
        r->passed++;
        return PFX_OK;
    }
    *ret_put = true;
    return put(agent, &e, r, now_ms, err);
}

/* The next one behind the place where the round stands; 0: none in any generation. */
static pfx_result next(struct pfx_agent *agent, struct round *r, int64_t *ret_id,
                       struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    while (true) {
        PFX_TRY(pfx_db_int(db, err, 0, ret_id,
                           "SELECT min(id) FROM enrolment INDEXED BY enrolment_sealed"
                           " WHERE state = 'ACTIVE' AND generation = ? AND id > ?",
                           PFX_PARAMS(P_INT(r->generation), P_INT(r->id))));
        if (*ret_id && r->generation != r->target) {
            r->id = *ret_id;
            return PFX_OK;
        }
        int64_t generation;
        PFX_TRY(pfx_db_int(db, err, 0, &generation,
                           "SELECT min(generation) FROM enrolment INDEXED BY enrolment_sealed"
                           " WHERE state = 'ACTIVE' AND generation > ?",
                           PFX_PARAMS(P_INT(r->generation))));
        *ret_id = 0;
        if (generation == 0)
            return PFX_OK;
        r->generation = generation;
        r->id = 0;
    }
}

static pfx_result room(struct pfx_agent *agent, int64_t now_ms, int64_t *ret_working,
                       int64_t *ret_room, struct pfx_error *err)
{
    int64_t others;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, ret_working,
                       "SELECT count(*) FROM rebuild WHERE state <> 'HELD'", PFX_NO_PARAMS));
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &others,
                       "SELECT EXISTS(SELECT 1 FROM job WHERE enrolment IS NOT NULL"
                       " AND sent_at IS NULL AND not_before <= ?1 AND kind <> 'hsm.key_destroy'"
                       " AND NOT (?2 AND kind = 'up.order')"
                       " AND NOT (?3 AND kind IN ('up.import', 'up.import_settle')))",
                       PFX_PARAMS(P_INT(now_ms), P_INT(agent->no_orders),
                                  P_INT(agent->no_uploads))));
    *ret_room = (others ? WINDOW_BEHIND : WINDOW) - *ret_working;
    return PFX_OK;
}

static pfx_result finish(struct pfx_agent *agent, struct round *r, int64_t now_ms,
                         struct pfx_error *err)
{
    int64_t done, held;
    PFX_TRY(pfx_meta_get(agent->store, "rebuild_done", &done, err));
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &held,
                       "SELECT count(*) FROM rebuild WHERE state = 'HELD'", PFX_NO_PARAMS));
    r->started = 0;
    PFX_TRY(save(agent->store, r, err));
    PFX_TRY(pfx_meta_set(agent->store, "rebuild_finished", now_ms, err));
    return pfx_note(agent->store, now_ms, 0, NULL, err,
                    "rebuild is through: %lld records rebuilt, %lld held, %lld passed over",
                    (long long)done, (long long)held, (long long)r->passed);
}

static pfx_result advance(struct pfx_agent *agent, struct round *r, int64_t now_ms,
                          struct pfx_error *err)
{
    int64_t working, left, id = 0;
    PFX_TRY(room(agent, now_ms, &working, &left, err));
    if (left <= 0)
        return PFX_OK;
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    struct round before = *r;
    for (int i = 0; i < LOOK_AT_ONCE && left > 0; i++) {
        bool was_put;
        PFX_TRY(next(agent, r, &id, err));
        if (id == 0)
            break;
        PFX_TRY(consider(agent, id, r, now_ms, &was_put, err));
        left -= was_put;
        working += was_put;
    }
    if (id == 0 && working == 0)
        PFX_TRY(finish(agent, r, now_ms, err));
    else if (memcmp(&before, r, sizeof(before)) != 0)
        PFX_TRY(save(agent->store, r, err));
    return pfx_tx_commit(&tx, err);
}

/* The active generation changed under way: everything is looked at again. */
static pfx_result turn(struct pfx_agent *agent, struct round *r, int64_t active, int64_t now_ms,
                       struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    *r = (struct round){.started = r->started, .no = r->no + 1, .target = active};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(save(agent->store, r, err));
    PFX_TRY(pfx_note(agent->store, now_ms, 0, NULL, err,
                     "rebuild turns to generation %lld of the encryption key", (long long)active));
    return pfx_tx_commit(&tx, err);
}

pfx_result pfx_rebuild_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct round r;
    int64_t active;
    PFX_TRY(load(agent->store, &r, err));
    if (r.started == 0 || agent->no_rebuild) {
        agent->rebuild_since = 0;
        return PFX_OK;
    }
    PFX_TRY(pfx_generation_active(agent->store, &active, err));
    if (active == 0)
        return PFX_OK; /* nothing can be sealed until one is */
    if (agent->rebuild_since == 0) {
        agent->rebuild_since = pfx_uptime_ms();
        PFX_TRY(pfx_meta_get(agent->store, "rebuild_done", &agent->rebuild_base, err));
    }
    if (active != r.target)
        PFX_TRY(turn(agent, &r, active, now_ms, err));
    return advance(agent, &r, now_ms, err);
}

pfx_result pfx_rebuild_facts(struct pfx_agent *agent, struct pfx_rebuild_facts *ret_facts,
                             struct pfx_error *err)
{
    struct pfx_rebuild_facts *f = ret_facts;
    struct pfx_db *db = agent->store->db;
    struct round r;
    PFX_TRY(load(agent->store, &r, err));
    *f = (struct pfx_rebuild_facts){.started = r.started, .passed = r.passed};
    PFX_TRY(pfx_meta_get(agent->store, "rebuild_finished", &f->finished, err));
    PFX_TRY(pfx_meta_get(agent->store, "rebuild_done", &f->done, err));
    PFX_TRY(pfx_generation_active(agent->store, &f->target, err));
    PFX_TRY(pfx_db_int(db, err, 0, &f->left,
                       "SELECT count(*) FROM enrolment INDEXED BY enrolment_sealed"
                       " WHERE state = 'ACTIVE' AND generation <> ?",
                       PFX_PARAMS(P_INT(f->target))));
    PFX_TRY(pfx_db_int(db, err, 0, &f->working,
                       "SELECT count(*) FROM rebuild WHERE state <> 'HELD'", PFX_NO_PARAMS));
    PFX_TRY(pfx_db_int(db, err, 0, &f->held,
                       "SELECT count(*) FROM rebuild r JOIN enrolment e ON e.id = r.enrolment"
                       " WHERE r.state = 'HELD' AND e.state = 'ACTIVE' AND e.generation <> ?",
                       PFX_PARAMS(P_INT(f->target))));
    int64_t todo = f->left - f->held - f->passed, each = EACH_MS;
    int64_t measured = f->done - agent->rebuild_base;
    if (agent->rebuild_since && measured >= MEASURED)
        each = (pfx_uptime_ms() - agent->rebuild_since) / measured;
    f->left_ms = todo > 0 ? todo * each : 0;
    return PFX_OK;
}
