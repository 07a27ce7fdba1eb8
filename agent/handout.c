#include "agent/handout.h"

#include <stdio.h>
#include <string.h>

#include "agent/discard.h"
#include "agent/note.h"
#include "agent/notes_queue.h"
#include "agent/payload.h"
#include "agent/rebuild.h"
#include "agent/restored.h"
#include "agent/timing.h"
#include "api/conf/process.h"

#define BATCH 32 /* jobs of one transaction */

static int kind_row(const char *kind)
{
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, kind);
    return pair ? (int)(pair - pfx_wire_jobs) : -1;
}

pfx_result pfx_arm_id_read(const struct pfx_msg *hello, const char *role, struct pfx_arm_id *ret_id,
                           struct pfx_error *err)
{
    const char *said = pfx_msg_str(hello, "role");
    if (strcmp(said, role) != 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "hello", said, "", "this socket is for the role %s",
                        role);
    *ret_id = (struct pfx_arm_id){.role = role, .capacity = pfx_msg_int(hello, "capacity")};
    snprintf(ret_id->incarnation, sizeof(ret_id->incarnation), "%s",
             pfx_msg_str(hello, "incarnation"));
    for (size_t i = 0; i < pfx_msg_count(hello, "kinds"); i++) {
        const char *kind = pfx_msg_str_at(hello, "kinds", i);
        int row = kind_row(kind);
        if (row < 0 || row >= 32)
            return pfx_fail(err, PFX_CLASS_REFUSED, "hello", kind, "",
                            "this kind of job doesn't exist; the programs must be of one release");
        if (strcmp(pfx_outbox_arm(kind), role) != 0)
            return pfx_fail(err, PFX_CLASS_REFUSED, "hello", kind, "",
                            "this kind of job isn't one of the role %s", role);
        ret_id->kinds |= UINT32_C(1) << row;
    }
    return PFX_OK;
}

void pfx_leases_done(struct pfx_leases *leases)
{
    free(leases->v);
    *leases = (struct pfx_leases){0};
}

static void lease_add(struct pfx_leases *leases, int64_t job, int64_t lease, int64_t deadline)
{
    leases->v = pfx_grow(leases->v, leases->n + 1, sizeof(*leases->v));
    leases->v[leases->n++] = (struct pfx_lease){job, lease, deadline};
}

static struct pfx_lease *lease_find(struct pfx_leases *leases, int64_t job, int64_t lease)
{
    for (size_t i = 0; i < leases->n; i++)
        if (leases->v[i].job == job && leases->v[i].lease == lease)
            return &leases->v[i];
    return NULL;
}

void pfx_leases_drop(struct pfx_leases *leases, int64_t job, int64_t lease)
{
    struct pfx_lease *found = lease_find(leases, job, lease);
    if (found)
        *found = leases->v[--leases->n];
}

void pfx_leases_beat(struct pfx_leases *leases, int64_t job, int64_t lease, int64_t deadline)
{
    struct pfx_lease *found = lease_find(leases, job, lease);
    if (found)
        found->deadline = deadline;
}

bool pfx_leases_overdue(const struct pfx_leases *leases, int64_t uptime_ms)
{
    for (size_t i = 0; i < leases->n; i++)
        if (uptime_ms > leases->v[i].deadline)
            return true;
    return false;
}

static bool holds(const struct pfx_msg *hello, int64_t job, int64_t lease)
{
    for (size_t i = 0; i < pfx_msg_count(hello, "holds"); i++) {
        const struct pfx_msg *hold = pfx_msg_obj_at(hello, "holds", i);
        if (pfx_msg_int(hold, "job") == job && pfx_msg_int(hold, "lease") == lease)
            return true;
    }
    return false;
}

/* The next job above `after` that is out at this role. */
static pfx_result next_out(struct pfx_store *store, const char *role, int64_t after,
                           struct pfx_job_row *ret_job, struct pfx_error *err)
{
    int64_t id;
    PFX_TRY(pfx_db_int(store->db, err, 0, &id,
                       "SELECT min(id) FROM job WHERE arm = ? AND sent_at IS NOT NULL AND id > ?",
                       PFX_PARAMS(P_TEXT(role), P_INT(after))));
    return id ? pfx_outbox_load(store, id, ret_job, err) : PFX_OK;
}

static pfx_result note_lost(struct pfx_agent *agent, const struct pfx_job_row *job, int64_t now_ms,
                            struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_error lost = PFX_ERROR_NONE;
    pfx_result r = pfx_fail(&lost, PFX_CLASS_LOST, "order", "", "uploader-gone",
                            "the process that had it is gone");
    (void)r;
    PFX_TRY(pfx_enrolment_load(agent->store, job->enrolment, &e, err));
    return e.id ? pfx_note_order_failed(agent->store, &e, "order.lost", &lost, now_ms, err)
                : PFX_OK;
}

static pfx_result take_back(struct pfx_agent *agent, const struct pfx_job_row *job,
                            bool same_process, int64_t now_ms, struct pfx_error *err)
{
    /* A process that is still the same and doesn't hold the job never received it: it gives an
     * answer up only when that was acknowledged, and it was acknowledged only when it was stored.
     * So nothing was sent on, and the same POST is safe. Of a process that is gone nobody knows. */
    const char *kind = same_process ? job->kind : pfx_flow_again(job->kind);
    bool settles = strcmp(kind, job->kind) != 0;
    int64_t at = now_ms;
    if (strcmp(kind, "up.order_settle") == 0 && settles)
        at = now_ms + pfx_settle_delay(0, agent->conf->settle_grace_ms);
    else if (!same_process && job->tries > 0) /* a job that ends its arm must not do so in a loop */
        at = now_ms + pfx_agent_backoff(agent, job->tries - 1);
    /* 1, 2, 4, 8, ... : an arm that comes and goes without an end doesn't fill the history. */
    if (job->enrolment && (settles || (job->tries & (job->tries + 1)) == 0))
        PFX_TRY(pfx_note(agent->store, now_ms, job->enrolment, NULL, err, "%s %s: %s", job->kind,
                         same_process ? "never arrived" : "was given to a process that is gone",
                         settles ? "looking first whether it was done" : "given out again"));
    if (settles && strcmp(kind, "up.order_settle") == 0)
        PFX_TRY(note_lost(agent, job, now_ms, err));
    return pfx_outbox_again(agent->store, job, kind, at, NULL, err);
}

pfx_result pfx_handout_hello(struct pfx_agent *agent, bool hsm, const struct pfx_arm_id *id,
                             const struct pfx_msg *hello, int64_t now_ms, struct pfx_leases *leases,
                             struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    int64_t after = 0;
    int64_t deadline = pfx_uptime_ms() + agent->job_deadline_ms;
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    while (true) {
        struct pfx_job_row job PFX_AUTOJOB = {0};
        PFX_TRY(next_out(agent->store, id->role, after, &job, err));
        if (job.id == 0)
            break;
        after = job.id;
        bool same = job.incarnation && strcmp(job.incarnation, id->incarnation) == 0;
        if (same && holds(hello, job.id, job.lease))
            lease_add(leases, job.id, job.lease, deadline);
        else
            PFX_TRY(take_back(agent, &job, same, now_ms, err));
    }
    if (hsm) {
        pfx_notes_hello(agent);
        PFX_TRY(pfx_outbox_add(agent->store, "hsm", NULL, "hsm.report", "{}", now_ms, now_ms, err));
    }
    return pfx_tx_commit(&tx, err);
}

void pfx_parcels_done(struct pfx_parcels *parcels)
{
    for (size_t i = 0; i < parcels->n; i++)
        pfx_msg_free(parcels->msgs[i]);
    free(parcels->msgs);
    *parcels = (struct pfx_parcels){0};
}

/* A row that can't be handed out: built again where that helps, else a person's. */
static pfx_result put_aside(struct pfx_agent *agent, const struct pfx_job_row *job,
                            struct pfx_enrolment *e, const struct pfx_error *bad, int64_t now_ms,
                            struct pfx_error *err)
{
    if (e->id == 0) /* of a scope: the next pass or poll makes a fresh one */
        return pfx_outbox_drop(agent->store, job->id, err);
    if (strcmp(bad->code, "parcel") == 0 && e->at == PFX_SEALED)
        return pfx_enrolment_move(agent->store, e, PFX_CHECKED, NULL, now_ms, now_ms,
                                  "its parcel isn't in the store any more, built again", err);
    if (strcmp(job->kind, PFX_DISCARD_KIND) == 0) {
        PFX_TRY(pfx_discard_put_off(agent, e, bad, now_ms, err));
        return pfx_outbox_drop(agent->store, job->id, err);
    }
    if (!pfx_flow_by_job(job->kind)) {
        PFX_TRY(pfx_enrolment_failed(agent->store, e, bad, err));
        return pfx_outbox_drop(agent->store, job->id, err);
    }
    return pfx_enrolment_hold(agent->store, e, job->kind, PFX_HELD_FAILURE, now_ms, bad, err);
}

static pfx_result take_one(struct pfx_agent *agent, const struct pfx_arm_id *id,
                           struct pfx_job_row *job, int64_t now_ms, struct pfx_msg **ret_msg,
                           struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    struct pfx_error bad = PFX_ERROR_NONE;
    bool rebuild = pfx_rebuild_job(job);
    if (rebuild)
        PFX_TRY(pfx_rebuild_load(agent, job, &e, err));
    else if (job->enrolment)
        PFX_TRY(pfx_enrolment_load(agent->store, job->enrolment, &e, err));
    if ((rebuild && e.id == 0) || (job->enrolment && (e.id == 0 || e.ver != job->ver)))
        return pfx_outbox_drop(agent->store, job->id, err);
    if (job->enrolment)
        PFX_TRY(pfx_restored_gate(agent, job, &e, now_ms, err));
    PFX_TRY(pfx_payload_build(agent, job, &e, now_ms, &body, &bad, err));
    if (!body)
        return rebuild ? pfx_rebuild_put_aside(agent, job, &e, &bad, now_ms, err)
                       : put_aside(agent, job, &e, &bad, now_ms, err);
    PFX_TRY(pfx_outbox_send(agent->store, job, id->incarnation, now_ms, err));
    struct pfx_msg *msg = pfx_msg_new(&pfx_s_job);
    pfx_msg_set_int(msg, "job", job->id);
    pfx_msg_set_int(msg, "lease", job->lease);
    pfx_msg_set_int(msg, "deadline", now_ms + agent->job_deadline_ms);
    pfx_msg_set_str(msg, "kind", job->kind);
    pfx_msg_set_body(msg, "body", body);
    *ret_msg = msg;
    return PFX_OK;
}

/* Takes those that pass, until the batch is full or none is left. Begins the transaction before the
 * first. */
static pfx_result take_some(struct pfx_agent *agent, const struct pfx_arm_id *id, int64_t most,
                            const struct pfx_outbox_filter *filter, int64_t now_ms,
                            struct pfx_tx *tx, struct pfx_parcels *parcels,
                            struct pfx_leases *fresh, struct pfx_error *err)
{
    int64_t time = INT64_MIN, last = 0;
    /* Notes for the operation log wait behind nobody: thousands of keys may be due before them. */
    bool first = !filter->rebuild && strcmp(id->role, pfx_outbox_arm("hsm.log")) == 0;
    for (; parcels->n < BATCH && (int64_t)parcels->n < most; first = false) {
        struct pfx_job_row job PFX_AUTOJOB = {0};
        struct pfx_msg *msg = NULL;
        if (first) {
            PFX_TRY(pfx_outbox_notes(agent->store, now_ms, &job, err));
            if (job.id == 0)
                continue;
        } else {
            PFX_TRY(pfx_outbox_due(agent->store, id->role, now_ms, filter, time, last, &job, err));
            if (job.id == 0)
                break;
            time = job.not_before;
            last = job.id;
        }
        int row = kind_row(job.kind);
        if (row >= 0 && !(id->kinds & (UINT32_C(1) << row)))
            continue; /* an arm of another release may know less */
        if (!tx->db)
            PFX_TRY(pfx_tx_begin(tx, agent->store->db, err));
        PFX_TRY(take_one(agent, id, &job, now_ms, &msg, err));
        if (!msg)
            continue;
        parcels->msgs = pfx_grow(parcels->msgs, parcels->n + 1, sizeof(struct pfx_msg *));
        parcels->msgs[parcels->n++] = msg;
        lease_add(fresh, job.id, job.lease, 0);
    }
    return PFX_OK;
}

/* Whoever has no certificate yet goes before whose record is only made anew. */
static pfx_result take_batch(struct pfx_agent *agent, const struct pfx_arm_id *id, int64_t most,
                             int64_t now_ms, struct pfx_parcels *parcels, struct pfx_leases *fresh,
                             struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct pfx_outbox_filter filter = {agent->no_orders, agent->no_uploads, false};
    PFX_TRY(take_some(agent, id, most, &filter, now_ms, &tx, parcels, fresh, err));
    filter.rebuild = true;
    if (!agent->no_rebuild)
        PFX_TRY(take_some(agent, id, most, &filter, now_ms, &tx, parcels, fresh, err));
    return tx.db ? pfx_tx_commit(&tx, err) : PFX_OK;
}

pfx_result pfx_handout_take(struct pfx_agent *agent, const struct pfx_arm_id *id, int64_t most,
                            int64_t now_ms, int64_t deadline_uptime, struct pfx_leases *leases,
                            struct pfx_parcels *ret_parcels, struct pfx_error *err)
{
    struct pfx_leases fresh PFX_CLEANUP(pfx_leases_done) = {0};
    pfx_result r = take_batch(agent, id, most, now_ms, ret_parcels, &fresh, err);
    if (pfx_failed(r)) {
        pfx_parcels_done(ret_parcels);
        return r;
    }
    for (size_t i = 0; i < fresh.n; i++)
        lease_add(leases, fresh.v[i].job, fresh.v[i].lease, deadline_uptime);
    return PFX_OK;
}
