/* enrolment cancel, retry, release, resend, revoke; pause and resume. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "agent/after.h"
#include "agent/outbox.h"
#include "agent/verbs.h"
#include "api/wire/conn.h"
#include "crypto/encode.h"

const char *pfx_verbs_who(const struct pfx_asker *asker, char *buf, size_t size)
{
    uid_t uid = pfx_conn_peer(asker->conn)->uid;
    const struct passwd *user = getpwuid(uid);
    const char *name = user ? user->pw_name : "without a name";
    snprintf(buf, size, "operator %.*s (uid %u)", (int)pfx_utf8_cut(name, 40), name, (unsigned)uid);
    return buf;
}

static pfx_result no(struct pfx_error *err, const struct pfx_enrolment *e, const char *verb,
                     const char *why)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, verb, e->user, e->state, "enrolment %lld %s",
                    (long long)e->id, why);
}

static pfx_result cancel(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                         struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    struct pfx_db *db = agent->store->db;
    int64_t out;
    PFX_TRY(pfx_db_int(db, err, 0, &out,
                       "SELECT count(*) FROM job WHERE enrolment = ? AND sent_at IS NOT NULL",
                       PFX_PARAMS(P_INT(e->id))));
    if (e->at == PFX_ORDERED) {
        PFX_TRY(pfx_db_exec(db, err, NULL, "UPDATE enrolment SET cancel_at = ? WHERE id = ?",
                            PFX_PARAMS(P_INT(now_ms), P_INT(e->id))));
        PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err,
                         "an operator asks the CA to cancel order %lld", (long long)e->order_id));
        return pfx_outbox_add(agent->store, NULL, e, "up.order_cancel", NULL, now_ms, now_ms, err);
    }
    bool early = e->at == PFX_NEW || e->at == PFX_KEYED ||
                 (e->at == PFX_HELD && e->held_from &&
                  (strcmp(e->held_from, "NEW") == 0 || strcmp(e->held_from, "KEYED") == 0));
    if (!early)
        return no(err, e, "cancel",
                  pfx_state_in_flight(e->at)
                      ? "has its certificate already; revoke it at the CA if it must "
                        "not be used"
                      : "is over already");
    if (e->at == PFX_KEYED && (out || e->sent_first))
        return no(err, e, "cancel",
                  "has an order on its way to the CA; try again when it is ORDERED "
                  "or HELD");
    return pfx_enrolment_move(agent->store, e, PFX_ENDED, NULL, 0, now_ms,
                              e->sent_first
                                  ? "canceled by an operator; an order may exist at the CA"
                                  : "canceled by an operator, nothing was ordered",
                              err);
}

/* by_address: for an order that a restored store doesn't have (restored.h), too. */
static pfx_result look_anew(struct pfx_agent *agent, const struct pfx_enrolment *e, bool by_address,
                            struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE enrolment SET settle_since = NULL, settle_empty = 0, bounces = 0,"
                       " looked = CASE WHEN ? THEN 0 ELSE looked END WHERE id = ?",
                       PFX_PARAMS(P_INT(by_address), P_INT(e->id)));
}

/* Of one that ended, or of a revoked one that waits until another may take its place. */
static pfx_result let_order(struct pfx_agent *agent, const struct pfx_enrolment *e, int64_t now_ms,
                            struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL, "UPDATE enrolment SET waived = 1 WHERE id = ?",
                        PFX_PARAMS(P_INT(e->id))));
    return pfx_note(agent->store, now_ms, e->id, e->user, err,
                    "an operator lifts the waiting time: the next pass may order again");
}

static pfx_result retry(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                        struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    enum pfx_state from;
    if (e->at == PFX_FAILED || e->at == PFX_ENDED)
        return let_order(agent, e, now_ms, err);
    if (pfx_after_told(e))
        return pfx_after_again(agent, e, now_ms, err);
    if (pfx_after_replaced(e))
        return let_order(agent, e, now_ms, err);
    if (e->at != PFX_HELD) {
        int64_t waiting;
        PFX_TRY(
            pfx_db_exec(agent->store->db, err, &waiting,
                        "UPDATE job SET not_before = ?1 WHERE enrolment = ?2 AND sent_at IS NULL"
                        " AND not_before > ?1",
                        PFX_PARAMS(P_INT(now_ms), P_INT(e->id))));
        return waiting ? PFX_OK : no(err, e, "retry", "isn't held and waits for no back-off");
    }
    if (e->held_why && strcmp(e->held_why, PFX_HELD_LIMIT) == 0)
        return no(err, e, "retry",
                  "is held by the order limit: pfx-agent enrolment release lets it "
                  "go on");
    if (!e->held_from || !pfx_state_parse(e->held_from, &from))
        return no(err, e, "retry", "doesn't say where it was; cancel it");
    PFX_TRY(look_anew(agent, e, true, err));
    /* What pfx-hsm holds against a certificate or its chain, only another download can mend. */
    bool anew = from == PFX_CHECKED;
    if (anew)
        from = PFX_ISSUED;
    char *kind PFX_AUTOFREE = e->held_job && !anew ? pfx_strdup(e->held_job) : NULL;
    return pfx_enrolment_move(agent->store, e, from, kind, now_ms, now_ms, "retried by an operator",
                              err);
}

/* Of all, or of all in a state, what a person put aside stays so: a user whose record was removed,
 * a revoked certificate that was taken note of. Those that are revoked and in Intune have to be
 * meant: --state ACTIVE. */
static pfx_result retry_selected(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                                 struct pfx_error *err)
{
    if (asker->select.enrolment || asker->select.user)
        return retry(asker, e, now_ms, err);
    const char *state = asker->select.state;
    bool told = pfx_after_told(e) && e->at == PFX_ACTIVE;
    if ((e->at == PFX_ENDED && e->parked && !e->waived) || (told && (e->revoked_seen || !state)))
        return no(err, e, "retry",
                  "was put aside or revoked; another one is ordered by the enrolment's number or "
                  "its user only");
    return retry(asker, e, now_ms, err);
}

static pfx_result release(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                          struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    bool limit = e->held_why && strcmp(e->held_why, PFX_HELD_LIMIT) == 0;
    bool lost = e->held_job && strcmp(e->held_job, "up.order_settle") == 0;
    if (pfx_after_told(e) && !e->revoked_seen)
        return pfx_after_seen(agent, e, now_ms, err);
    if (e->at != PFX_HELD || (!limit && !lost))
        return no(err, e, "release", "is held neither by the order limit nor for a lost order");
    if (limit) {
        PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                            "UPDATE enrolment SET admitted_at = ? WHERE id = ?",
                            PFX_PARAMS(P_INT(now_ms), P_INT(e->id))));
        return pfx_enrolment_move(agent->store, e, PFX_NEW, NULL, now_ms, now_ms,
                                  "released by an operator", err);
    }
    PFX_TRY(look_anew(agent, e, false, err));
    return pfx_enrolment_move(agent->store, e, PFX_KEYED, "up.order", now_ms, now_ms,
                              "an operator orders again, the lost order is given up", err);
}

/* Of several at once only what the limit holds: a lost order may have been bought, so each of those
 * is a decision of its own. */
static pfx_result release_selected(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                                   struct pfx_error *err)
{
    if (asker->select.enrolment)
        return release(asker, e, now_ms, err);
    if (asker->select.state && pfx_after_told(e) && !e->revoked_seen) /* buys nothing */
        return release(asker, e, now_ms, err);
    if (e->at != PFX_HELD || !e->held_why || strcmp(e->held_why, PFX_HELD_LIMIT) != 0)
        return no(err, e, "release",
                  "isn't held by the order limit; a lost order is ordered again only by the "
                  "enrolment's number");
    return release(asker, e, now_ms, err);
}

void pfx_verb_cancel(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    (void)agent, (void)now_ms;
    pfx_verbs_act(asker, args, cancel);
}

void pfx_verb_retry(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                    int64_t now_ms)
{
    (void)agent, (void)now_ms;
    pfx_verbs_act(asker, args, retry_selected);
}

void pfx_verb_release(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                      int64_t now_ms)
{
    (void)agent, (void)now_ms;
    pfx_verbs_act(asker, args, release_selected);
}

static pfx_result resend(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                         struct pfx_error *err)
{
    if (e->at != PFX_ORDERED || e->cancel_at)
        return no(err, e, "resend", "has no order that waits for a confirmation");
    PFX_TRY(pfx_note(asker->agent->store, now_ms, e->id, e->user, err,
                     "an operator asks the CA to send its mail for order %lld again",
                     (long long)e->order_id));
    return pfx_outbox_add(asker->agent->store, NULL, e, "up.order_resend", NULL, now_ms, now_ms,
                          err);
}

void pfx_verb_resend(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    (void)agent, (void)now_ms;
    pfx_verbs_act(asker, args, resend);
}

static pfx_result revoke(struct pfx_asker *asker, int64_t id, const char *reason, int64_t now_ms,
                         struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_enrolment after PFX_AUTOENROLMENT = {0};
    struct pfx_tx tx PFX_AUTOTX = {0};
    char who[PFX_WHO_SIZE];
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    PFX_TRY(pfx_enrolment_load(store, id, &e, err));
    if (e.id == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "enrolment", "number", "",
                        "there is no enrolment %lld; pfx-agent enrolment list shows those that are",
                        (long long)id);
    if (!e.order_id)
        return no(err, &e, "revoke", "has no order at the CA");
    if (e.revoked_at)
        return no(err, &e, "revoke", "is revoked already");
    PFX_TRY(pfx_after_revoke(asker->agent, &e, reason, pfx_verbs_who(asker, who, sizeof(who)),
                             now_ms, err));
    PFX_TRY(pfx_asker_note(asker, id, NULL, now_ms, err));
    PFX_TRY(pfx_tx_commit(&tx, err));
    PFX_TRY(pfx_enrolment_load(store, id, &after, err));
    return pfx_verbs_item(asker, &after, false, err);
}

void pfx_verb_revoke(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)agent;
    asker->select.enrolment = pfx_msg_int(args, "enrolment");
    if (pfx_failed(
            revoke(asker, asker->select.enrolment, pfx_msg_str(args, "reason"), now_ms, &err)))
        pfx_asker_fail(asker, &err);
    else
        pfx_asker_end(asker, 0, NULL);
}

static void set_paused(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                       bool paused, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_pausing what = {pfx_msg_bool(args, "orders"), pfx_msg_bool(args, "uploads"),
                               pfx_msg_bool(args, "rebuild")};
    if (!what.orders && !what.uploads && !what.rebuild) {
        pfx_result r = pfx_fail(&err, PFX_CLASS_USAGE, paused ? "pause" : "resume", "selection", "",
                                "say what: --orders, --uploads, --rebuild");
        (void)r;
        pfx_asker_fail(asker, &err);
        return;
    }
    if (pfx_failed(pfx_agent_pause(agent, &what, paused, pfx_asker_uid(asker), now_ms, &err)))
        pfx_asker_fail(asker, &err);
    else
        pfx_asker_end(asker, 0, NULL);
}

void pfx_verb_pause(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                    int64_t now_ms)
{
    set_paused(agent, asker, args, true, now_ms);
}

void pfx_verb_resume(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    set_paused(agent, asker, args, false, now_ms);
}
