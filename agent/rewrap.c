#include "agent/rewrap.h"

#include <stdlib.h>
#include <string.h>

#include "agent/note.h"
#include "agent/timing.h"
#include "agent/user.h"

#define SCOPE "rewrap/"
#define WINDOW 16 /* on their way at once: new keys and PFX find room between them */
#define TICKET 32 /* bytes */
/* The condition of the index enrolment_epoch, word for word. */
#define KEPT " INDEXED BY enrolment_epoch WHERE key_ref IS NOT NULL AND key_gone_at IS NULL"

pfx_result pfx_rewrap_report(struct pfx_agent *agent, const struct pfx_msg *report,
                             struct pfx_error *err)
{
    return pfx_msg_has(report, "epoch")
               ? pfx_meta_set(agent->store, "key_epoch", pfx_msg_int(report, "epoch"), err)
               : PFX_OK;
}

pfx_result pfx_rewrap_begin(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t started, round;
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_started", &started, err));
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_round", &round, err));
    PFX_TRY(pfx_meta_set(agent->store, "rewrap_round", round + 1, err));
    if (started)
        return PFX_OK;
    PFX_TRY(pfx_meta_set(agent->store, "rewrap_started", now_ms, err));
    PFX_TRY(pfx_meta_set(agent->store, "rewrap_done", 0, err));
    return pfx_note(agent->store, now_ms, 0, NULL, err,
                    "rewrapping begins: what is kept of user keys is made anew under the wrapping "
                    "key and the MAC key in force");
}

/* One of its own scope, and its body whole: it goes on whatever becomes of the enrolment, and its
 * answer counts only where the row still has what was sent. */
static pfx_result put(struct pfx_agent *agent, int64_t id, int64_t round, int64_t now_ms,
                      struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_user_row user PFX_AUTOUSER = {0};
    PFX_AUTOSTRINGS struct pfx_strings addresses = {0};
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    PFX_TRY(pfx_user_load(agent->store, e.user, &user, err));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET rewrap_round = ? WHERE id = ?",
                        PFX_PARAMS(P_INT(round), P_INT(id))));
    if (user.damaged || e.ticket.len != TICKET || !pfx_strings_parse(e.addresses, &addresses) ||
        addresses.n == 0)
        return pfx_note(agent->store, now_ms, id, e.user, err,
                        "its key isn't wrapped anew: its row or its user's row in the store is "
                        "damaged; restore it from a backup");
    char *scope PFX_AUTOFREE = pfx_asprintf(SCOPE "%lld", (long long)id);
    struct pfx_msg *body PFX_AUTOMSG =
        pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "hsm.rewrap")->request);
    pfx_msg_set_int(body, "enrolment", id);
    pfx_msg_set_str(body, "key_ref", e.key_ref);
    pfx_msg_set_blob(body, "ticket", e.ticket.data, e.ticket.len);
    pfx_msg_set_str(body, "user", e.user);
    pfx_msg_set_blob(body, "salt", user.salt, sizeof(user.salt));
    pfx_msg_set_str(body, "purpose", e.purpose);
    for (size_t i = 0; i < addresses.n; i++)
        pfx_msg_add_str(body, "addresses", addresses.v[i]);
    return pfx_outbox_add_body(agent->store, scope, "hsm.rewrap", body, now_ms, now_ms, err);
}

/* The next one of an earlier epoch that this round hasn't sent; 0: none. *epoch: of the last one. */
static pfx_result next(struct pfx_agent *agent, int64_t until, int64_t round, int64_t *epoch,
                       int64_t *ret_id, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    while (true) {
        PFX_TRY(pfx_db_int(db, err, 0, ret_id,
                           "SELECT id FROM enrolment" KEPT " AND key_epoch = ? AND rewrap_round < ?"
                           " ORDER BY rewrap_round, id LIMIT 1",
                           PFX_PARAMS(P_INT(*epoch), P_INT(round))));
        if (*ret_id)
            return PFX_OK;
        PFX_TRY(pfx_db_int(db, err, until, epoch,
                           "SELECT min(key_epoch) FROM enrolment" KEPT
                           " AND key_epoch > ? AND key_epoch < ?",
                           PFX_PARAMS(P_INT(*epoch), P_INT(until))));
        if (*epoch == until)
            return PFX_OK;
    }
}

static pfx_result count_working(struct pfx_agent *agent, int64_t *ret_working,
                                struct pfx_error *err)
{
    return pfx_db_int(agent->store->db, err, 0, ret_working,
                      "SELECT count(*) FROM job WHERE scope >= 'rewrap/' AND scope < 'rewrap0'",
                      PFX_NO_PARAMS);
}

static pfx_result finish(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_rewrap_facts f;
    PFX_TRY(pfx_rewrap_facts(agent, &f, err));
    PFX_TRY(pfx_meta_set(agent->store, "rewrap_started", 0, err));
    return pfx_note(agent->store, now_ms, 0, NULL, err,
                    "rewrapping is through: %lld user keys, %lld left", (long long)f.done,
                    (long long)f.left);
}

static pfx_result advance(struct pfx_agent *agent, int64_t working, int64_t now_ms,
                          struct pfx_error *err)
{
    int64_t until, round, epoch = -1, id;
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_round", &round, err));
    PFX_TRY(pfx_meta_get(agent->store, "key_epoch", &until, err));
    for (; working < WINDOW; working++) {
        PFX_TRY(next(agent, until, round, &epoch, &id, err));
        if (id == 0)
            break;
        PFX_TRY(put(agent, id, round, now_ms, err));
    }
    return working > 0 ? PFX_OK : finish(agent, now_ms, err);
}

pfx_result pfx_rewrap_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t started, working;
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_started", &started, err));
    if (started == 0)
        return PFX_OK;
    PFX_TRY(count_working(agent, &working, err));
    if (working >= WINDOW)
        return PFX_OK;
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(advance(agent, working, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

/* What pfx-hsm refuses stays as it was: it is as good as before, and still needs the earlier key.
 */
static pfx_result hold(struct pfx_agent *agent, const struct pfx_answer *answer, int64_t id,
                       struct pfx_error *err)
{
    char line[700];
    return pfx_note(agent->store, answer->now_ms, id, NULL, err, "its key isn't wrapped anew: %s",
                    pfx_error_line(&answer->fail, line, sizeof(line)));
}

pfx_result pfx_rewrap_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                             struct pfx_error *err)
{
    const struct pfx_job_row *job = answer->job;
    int64_t id = strtoll(job->scope + sizeof(SCOPE) - 1, NULL, 10), changed, done;
    struct pfx_msg *sent PFX_AUTOMSG = NULL;
    if (pfx_steps_passing(answer->fail.cls))
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, job->id, err));
    if (answer->fail.cls != PFX_CLASS_OK)
        return hold(agent, answer, id, err);
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, job->kind);
    PFX_TRY(pfx_msg_decode(pair->request, job->payload, strlen(job->payload), &sent, err));
    PFX_TRY(pfx_db_exec(agent->store->db, err, &changed,
                        "UPDATE enrolment SET key_ref = ?, ticket = ?, key_epoch = ?"
                        " WHERE id = ? AND key_ref = ? AND ticket = ?",
                        PFX_PARAMS(P_TEXT(pfx_msg_str(answer->body, "key_ref")),
                                   P_BLOB(pfx_msg_blob(answer->body, "ticket")),
                                   P_INT(pfx_msg_int(answer->body, "epoch")), P_INT(id),
                                   P_TEXT(pfx_msg_str(sent, "key_ref")),
                                   P_BLOB(pfx_msg_blob(sent, "ticket")))));
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_done", &done, err));
    return pfx_meta_set(agent->store, "rewrap_done", done + changed, err);
}

pfx_result pfx_rewrap_facts(struct pfx_agent *agent, struct pfx_rewrap_facts *ret_facts,
                            struct pfx_error *err)
{
    struct pfx_rewrap_facts *f = ret_facts;
    struct pfx_db *db = agent->store->db;
    int64_t round;
    *f = (struct pfx_rewrap_facts){0};
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_started", &f->started, err));
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_done", &f->done, err));
    PFX_TRY(pfx_meta_get(agent->store, "key_epoch", &f->epoch, err));
    PFX_TRY(pfx_meta_get(agent->store, "rewrap_round", &round, err));
    PFX_TRY(pfx_db_int(db, err, 0, &f->left,
                       "SELECT count(*) FROM enrolment" KEPT " AND key_epoch < ?",
                       PFX_PARAMS(P_INT(f->epoch))));
    /* A key whose making began before the change may still be on its way here. */
    int64_t coming;
    PFX_TRY(pfx_db_int(db, err, 0, &coming,
                       "SELECT count(*) FROM job WHERE kind = 'hsm.key_csr' AND sent_at <= ?",
                       PFX_PARAMS(P_INT(f->epoch))));
    f->left += coming;
    PFX_TRY(count_working(agent, &f->working, err));
    int64_t seen;
    PFX_TRY(pfx_db_int(db, err, 0, &seen,
                       "SELECT count(*) FROM enrolment" KEPT
                       " AND key_epoch < ? AND rewrap_round >= ?",
                       PFX_PARAMS(P_INT(f->epoch), P_INT(round > 0 ? round : 1))));
    f->held = seen > f->working ? seen - f->working : 0;
    return PFX_OK;
}
