#include "agent/orders.h"

#include <stdio.h>
#include <string.h>

#include "agent/after.h"
#include "agent/note.h"
#include "agent/steps.h"
#include "agent/timing.h"
#include "api/conf/process.h"

#define AT_ONCE 200 /* single questions put out in one tick */

pfx_result pfx_orders_poll(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    return pfx_outbox_add(agent->store, "poll", NULL, "up.order_changes", NULL, now_ms, now_ms,
                          err);
}

pfx_result pfx_orders_facts(struct pfx_agent *agent, struct pfx_orders_facts *ret_facts,
                            struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t polling;
    PFX_TRY(pfx_db_int(db, err, 0, &ret_facts->pending,
                       "SELECT count(*) FROM enrolment WHERE state = 'ORDERED'", PFX_NO_PARAMS));
    PFX_TRY(pfx_db_int(db, err, 0, &ret_facts->newest,
                       "SELECT max(ordered_at) FROM enrolment WHERE state = 'ORDERED'",
                       PFX_NO_PARAMS));
    PFX_TRY(pfx_db_int(db, err, 0, &ret_facts->oldest,
                       "SELECT min(ordered_at) FROM enrolment WHERE state = 'ORDERED'",
                       PFX_NO_PARAMS));
    PFX_TRY(pfx_db_int(db, err, 0, &polling, "SELECT count(*) FROM job WHERE scope = 'poll'",
                       PFX_NO_PARAMS));
    ret_facts->polling = polling > 0;
    PFX_TRY(pfx_meta_get(agent->store, "poll_answered", &ret_facts->answered, err));
    return pfx_meta_get(agent->store, "poll_ok", &ret_facts->ok, err);
}

/* The next one whose question is due; 0: none. */
static pfx_result due(struct pfx_agent *agent, bool info, int64_t now_ms, int64_t *ret_id,
                      struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    return info ? pfx_db_int(db, err, 0, ret_id,
                             "SELECT id FROM enrolment WHERE info_at <= ?"
                             " ORDER BY info_at LIMIT 1",
                             PFX_PARAMS(P_INT(now_ms)))
                : pfx_db_int(db, err, 0, ret_id,
                             "SELECT id FROM enrolment INDEXED BY enrolment_validation"
                             " WHERE state = 'ORDERED' AND validation_at <= ?"
                             " ORDER BY validation_at LIMIT 1",
                             PFX_PARAMS(P_INT(now_ms)));
}

static pfx_result ask(struct pfx_agent *agent, int64_t id, bool info, int64_t now_ms,
                      struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    PFX_TRY(pfx_outbox_add(agent->store, NULL, &e, info ? "up.order_info" : "up.order_validation",
                           NULL, now_ms, now_ms, err));
    struct pfx_db *db = agent->store->db;
    return info
               ? pfx_db_exec(db, err, NULL,
                             "UPDATE enrolment SET info_at = CASE WHEN state = 'ORDERED' THEN ? END"
                             " WHERE id = ?",
                             PFX_PARAMS(P_INT(now_ms + PFX_DAY), P_INT(id)))
               : pfx_db_exec(
                     db, err, NULL, "UPDATE enrolment SET validation_at = ? WHERE id = ?",
                     PFX_PARAMS(P_INT(now_ms + agent->conf->validation_every_ms), P_INT(id)));
}

/* Is there a delivered order that the CA might revoke? */
static pfx_result delivered(struct pfx_agent *agent, int64_t now_ms, bool *ret_any,
                            struct pfx_error *err)
{
    int64_t any;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &any,
                       "SELECT EXISTS(SELECT 1 FROM enrolment WHERE state IN (" PFX_ORDER_STATES ")"
                       " AND order_id IS NOT NULL AND (expires IS NULL OR expires > ?))",
                       PFX_PARAMS(P_INT(now_ms))));
    *ret_any = any != 0;
    return PFX_OK;
}

pfx_result pfx_orders_tick(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_orders_facts facts;
    PFX_TRY(pfx_orders_facts(agent, &facts, err));
    /* From the last poll on, or from the first order that none has covered. A time in the future is
     * that of a clock which was set back: poll rather than wait for it. */
    int64_t oldest = facts.oldest > now_ms ? 0 : facts.oldest;
    int64_t from = facts.answered > oldest ? facts.answered : oldest;
    int64_t every = facts.pending ? agent->conf->poll_every_ms : agent->conf->sweep_every_ms;
    if (!facts.polling && (now_ms >= from + every || from > now_ms + PFX_MINUTE)) {
        bool any = facts.pending > 0;
        if (!any)
            PFX_TRY(delivered(agent, now_ms, &any, err));
        if (any)
            PFX_TRY(pfx_orders_poll(agent, now_ms, err));
    }
    for (int i = 0; i < 2 * AT_ONCE; i++) {
        int64_t id;
        PFX_TRY(due(agent, i % 2, now_ms, &id, err));
        if (id)
            PFX_TRY(ask(agent, id, i % 2, now_ms, err));
        else if (i % 2)
            break;
    }
    return PFX_OK;
}

/* What the CA says about one of our orders. */
static pfx_result apply_status(struct pfx_agent *agent, struct pfx_enrolment *e, const char *word,
                               int64_t certificate, int64_t now_ms, struct pfx_error *err)
{
    if (certificate && certificate != e->certificate_id)
        PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                            "UPDATE enrolment SET certificate_id = ? WHERE id = ?",
                            PFX_PARAMS(P_INT(certificate), P_INT(e->id))));
    if (e->at != PFX_ORDERED)
        return pfx_after_status(agent, e, word, now_ms, err);
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET ca_status = ?, info_at = ? WHERE id = ?",
                        PFX_PARAMS(P_TEXT(word), P_INT(now_ms + PFX_DAY), P_INT(e->id))));
    char note[200];
    snprintf(note, sizeof(note), "order %lld is %.64s", (long long)e->order_id, word);
    struct pfx_error ended = PFX_ERROR_NONE;
    pfx_result r;
    switch (pfx_ca_status(word)) {
    case PFX_CA_PENDING:
        return PFX_OK;
    case PFX_CA_UNKNOWN:
        pfx_log(PFX_LOG_WARN, "enrolment %lld: %s: this status isn't known, taken for pending",
                (long long)e->id, note);
        return PFX_OK;
    case PFX_CA_ISSUED:
        return pfx_enrolment_move(agent->store, e, PFX_ISSUED, NULL, now_ms, now_ms, note, err);
    case PFX_CA_ENDED:
        break;
    }
    r = pfx_fail(&ended, PFX_CLASS_REFUSED, "order", e->user, word,
                 "the CA ended order %lld (%s); ask there why. A new one is placed by a later pass",
                 (long long)e->order_id, word);
    (void)r;
    PFX_TRY(pfx_note_order_over(agent->store, e, word, now_ms, err));
    PFX_TRY(pfx_enrolment_failed(agent->store, e, &ended, err));
    return pfx_enrolment_move(agent->store, e, PFX_ENDED, NULL, now_ms, now_ms, note, err);
}

pfx_result pfx_orders_apply(struct pfx_agent *agent, const struct pfx_msg *change, int64_t now_ms,
                            int64_t *ret_id, struct pfx_error *err)
{
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, ret_id,
                       /* One that is over was to be revoked: that may take days of approvals. */
                       "SELECT id FROM enrolment WHERE order_id = ?"
                       " AND (state IN (" PFX_ORDER_STATES ") OR (revoke_asked IS NOT NULL"
                       "  AND revoked_at IS NULL))",
                       PFX_PARAMS(P_INT(pfx_msg_int(change, "order_id")))));
    if (!*ret_id)
        return PFX_OK; /* of the same account, but not ours */
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    PFX_TRY(pfx_enrolment_load(agent->store, *ret_id, &e, err));
    return apply_status(agent, &e, pfx_msg_str(change, "status"),
                        pfx_msg_int(change, "certificate_id"), now_ms, err);
}

static pfx_result on_changes(struct pfx_agent *agent, const struct pfx_answer *answer,
                             struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t start = answer->job->sent_at;
    if (pfx_steps_passing(answer->fail.cls))
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    PFX_TRY(pfx_meta_set(agent->store, "poll_answered", start, err));
    if (answer->fail.cls != PFX_CLASS_OK)
        return pfx_trouble_set(agent->store, "poll", answer->now_ms, &answer->fail, err);
    size_t n = pfx_msg_count(answer->body, "orders");
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        PFX_TRY(pfx_orders_apply(agent, pfx_msg_obj_at(answer->body, "orders", i), answer->now_ms,
                                 &id, err));
    }
    PFX_TRY(pfx_trouble_clear(agent->store, "poll", err));
    PFX_TRY(pfx_meta_set(agent->store, "poll_ok", start, err));
    /* Still pending after its first poll: now it is worth asking which address isn't validated. */
    return pfx_db_exec(
        db, err, NULL,
        "UPDATE enrolment INDEXED BY enrolment_uncovered SET covered = 1, validation_at ="
        " CASE WHEN state = 'ORDERED' THEN coalesce(validation_at, ?) END"
        " WHERE covered = 0 AND order_id IS NOT NULL AND ordered_at <= ?",
        PFX_PARAMS(P_INT(answer->now_ms), P_INT(start)));
}

static pfx_result on_info(struct pfx_agent *agent, const struct pfx_answer *answer,
                          struct pfx_enrolment *e, struct pfx_error *err)
{
    if (pfx_msg_int(answer->body, "order_id") != e->order_id)
        return pfx_note(agent->store, answer->now_ms, e->id, e->user, err,
                        "pfx-uploader answered for another order than %lld; not applied",
                        (long long)e->order_id);
    return apply_status(agent, e, pfx_msg_str(answer->body, "status"),
                        pfx_msg_int(answer->body, "certificate_id"), answer->now_ms, err);
}

static pfx_result on_validation(struct pfx_agent *agent, const struct pfx_answer *answer,
                                struct pfx_enrolment *e, struct pfx_error *err)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    for (size_t i = 0; i < pfx_msg_count(answer->body, "unvalidated"); i++)
        pfx_strings_add(&list, pfx_msg_str_at(answer->body, "unvalidated", i));
    char *json PFX_AUTOFREE = list.n ? pfx_strings_json(&list) : NULL;
    if ((json || e->unvalidated) && (!json || !e->unvalidated || strcmp(json, e->unvalidated) != 0))
        PFX_TRY(pfx_note(agent->store, answer->now_ms, e->id, e->user, err,
                         "%zu of its addresses aren't validated yet", list.n));
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE enrolment SET unvalidated = ?, fail_class = NULL, fail_text = NULL"
                       " WHERE id = ?",
                       PFX_PARAMS(P_TEXT(json), P_INT(e->id)));
}

static pfx_result on_cancel(struct pfx_agent *agent, const struct pfx_answer *answer,
                            struct pfx_enrolment *e, struct pfx_error *err)
{
    /* The CA's own word ends it. Where the answer was lost it says what became of it. */
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET info_at = ? WHERE id = ?",
                        PFX_PARAMS(P_INT(answer->now_ms), P_INT(e->id))));
    return pfx_note(agent->store, answer->now_ms, e->id, e->user, err, "cancel: %s",
                    answer->fail.cls == PFX_CLASS_OK ? "the CA accepted it"
                                                     : "the answer was lost, asking the CA");
}

pfx_result pfx_orders_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                             struct pfx_enrolment *e, struct pfx_error *err)
{
    const char *kind = answer->job->kind;
    if (strcmp(kind, "up.order_changes") == 0)
        return on_changes(agent, answer, err);
    enum pfx_class cls = answer->fail.cls;
    bool cancel = strcmp(kind, "up.order_cancel") == 0;
    bool once = cancel || strcmp(kind, "up.order_resend") == 0; /* not again after a lost answer */
    if (pfx_steps_passing(cls) && !(once && cls == PFX_CLASS_LOST))
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    if (cls != PFX_CLASS_OK && cls != PFX_CLASS_LOST) {
        char line[700];
        /* Elsewhere it would stand in the place of what the enrolment is held for. */
        if (e->at == PFX_ORDERED)
            PFX_TRY(pfx_enrolment_failed(agent->store, e, &answer->fail, err));
        if (cancel) {
            PFX_TRY(pfx_note_order_failed(agent->store, e, "order.cancelled", &answer->fail,
                                          answer->now_ms, err));
            PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                                "UPDATE enrolment SET cancel_at = NULL WHERE id = ?",
                                PFX_PARAMS(P_INT(e->id))));
        }
        return pfx_note(agent->store, answer->now_ms, e->id, e->user, err, "%s: %s", kind,
                        pfx_error_line(&answer->fail, line, sizeof(line)));
    }
    if (cancel)
        return on_cancel(agent, answer, e, err);
    if (strcmp(kind, "up.order_info") == 0)
        return on_info(agent, answer, e, err);
    if (strcmp(kind, "up.order_resend") == 0)
        return pfx_note(agent->store, answer->now_ms, e->id, e->user, err, "resend: %s",
                        cls == PFX_CLASS_OK ? "the CA sends its mail again"
                                            : "the answer was lost; ask again where no mail comes");
    return on_validation(agent, answer, e, err);
}
