#include "agent/after.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/compromise.h"
#include "agent/note.h"
#include "agent/rebuild.h"
#include "agent/removal.h"
#include "agent/timing.h"
#include "api/conf/process.h"

/* Removed of themselves in a day, at least; more where more may be ordered. */
#define REMOVALS_A_DAY 50

static const char *const words[] = {
    [PFX_REVOKED_TELL] = "tell",
    [PFX_REVOKED_REMOVE] = "remove",
    [PFX_REVOKED_ENROL_AGAIN] = "enrol_again",
};

/* A rule that is gone or has another name now can't say what it would want. */
static enum pfx_on_revoked what_follows(const struct pfx_agent *agent,
                                        const struct pfx_enrolment *e)
{
    if (e->exposed_at) /* revoked at our own wish; a rule for other cases mustn't take old mail */
        return PFX_REVOKED_ENROL_AGAIN;
    for (size_t i = 0; i < agent->conf->n_rules; i++)
        if (strcmp(agent->conf->rules[i].name, e->rule) == 0)
            return agent->conf->rules[i].on_revoked;
    return PFX_REVOKED_TELL;
}

static pfx_result remember(struct pfx_agent *agent, const struct pfx_enrolment *e, const char *word,
                           enum pfx_on_revoked then, int64_t now_ms, struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE enrolment SET ca_status = ?1, revoked_word = ?1, revoked_at = ?2,"
                       " revoked_then = ?3, revoked_seen = NULL WHERE id = ?4",
                       PFX_PARAMS(P_TEXT(word), P_INT(now_ms), P_TEXT(words[then]), P_INT(e->id)));
}

static pfx_result park(struct pfx_agent *agent, const struct pfx_enrolment *e, const char *what,
                       struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL,
                       "UPDATE enrolment SET parked = ?, waived = 0 WHERE id = ?",
                       PFX_PARAMS(P_TEXT(what), P_INT(e->id)));
}

/* Is there, or might there be, a record of it in Intune? Once it was packed it may have been sent,
 * wherever it stands now: it is packed again where a parcel was lost, downloaded again after a
 * hold. */
static bool may_have_record(const struct pfx_enrolment *e)
{
    return e->record_id && e->pfx_sha.len > 0;
}

/* Ends one whose material may be on its way: nothing of it stays, neither here nor there. An import
 * that is out may still arrive, so its record is removed after that job's deadline. */
static pfx_result stop(struct pfx_agent *agent, struct pfx_enrolment *e, const char *why,
                       const char *note, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t out;
    PFX_TRY(pfx_db_int(db, err, 0, &out,
                       "SELECT count(*) FROM job WHERE (enrolment = ?1 OR scope = 'rebuild/' || ?1)"
                       " AND sent_at IS NOT NULL AND kind IN ('up.import', 'up.import_settle')",
                       PFX_PARAMS(P_INT(e->id))));
    if (may_have_record(e))
        PFX_TRY(pfx_removal_put(agent, e->record_id, e->id, why,
                                out ? now_ms + agent->job_deadline_ms : now_ms, now_ms, err));
    PFX_TRY(pfx_db_exec(db, err, NULL, "DELETE FROM parcel WHERE enrolment = ?",
                        PFX_PARAMS(P_INT(e->id))));
    agent->checkpoint = true;
    return pfx_enrolment_move(agent->store, e, PFX_ENDED, NULL, 0, now_ms, note, err);
}

/* For signing the old record goes; with an old encryption certificate old mail is read, and with a
 * dual one, whatever Intune calls it. */
static pfx_result give_way(struct pfx_agent *agent, struct pfx_enrolment *e, int64_t to,
                           int64_t now_ms, struct pfx_error *err)
{
    char note[100];
    snprintf(note, sizeof(note), "%s, and enrolment %lld is in its place",
             e->exposed_at && !e->revoked_at ? "its user key is exposed" : "revoked",
             (long long)to);
    if (e->exposed_at && e->order_id && !e->revoked_at && !e->revoke_asked && e->expires > now_ms)
        PFX_TRY(pfx_after_revoke(agent, e, "key compromise: the user key may be known to others",
                                 "pfx-agentd", now_ms, err));
    if (strcmp(e->purpose, "signing") == 0)
        return stop(agent, e, note, note, now_ms, err);
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET revoked_seen = ? WHERE id = ?",
                        PFX_PARAMS(P_INT(now_ms), P_INT(e->id))));
    return pfx_note(agent->store, now_ms, e->id, e->user, err, "%s; its record stays for old mail",
                    note);
}

/* It may have been renewed before: then nobody becomes ACTIVE in its place any more. */
static pfx_result give_way_if_renewed(struct pfx_agent *agent, struct pfx_enrolment *e,
                                      int64_t now_ms, struct pfx_error *err)
{
    int64_t newer;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &newer,
                       "SELECT max(id) FROM enrolment WHERE user = ? AND intune = ? AND id > ?"
                       " AND state = 'ACTIVE' AND revoked_then IS NOT 'enrol_again'",
                       PFX_PARAMS(P_TEXT(e->user), P_TEXT(e->intune), P_INT(e->id))));
    return newer ? give_way(agent, e, newer, now_ms, err) : PFX_OK;
}

/* A word of the CA about thousands of orders (an account that was closed, an answer gone wrong)
 * must not take the certificates from everybody. New orders have their limits; this is the one
 * here. */
static pfx_result removals_left(struct pfx_agent *agent, int64_t now_ms, bool *ret_left,
                                struct pfx_error *err)
{
    int64_t most = agent->conf->max_orders_per_day, today;
    most = most > REMOVALS_A_DAY ? most : REMOVALS_A_DAY;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &today,
                       "SELECT count(*) FROM enrolment WHERE revoked_then = 'remove'"
                       " AND revoked_at >= ? AND revoked_at IS NOT NULL",
                       PFX_PARAMS(P_INT(pfx_day_start(now_ms)))));
    *ret_left = today < most;
    return PFX_OK;
}

pfx_result pfx_after_exposed(struct pfx_agent *agent, struct pfx_enrolment *e, int64_t now_ms,
                             struct pfx_error *err)
{
    bool replaced = !e->revoked_at && e->expires > now_ms;
    e->exposed_at = now_ms;
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET exposed_at = ?1,"
                        " revoked_then = CASE WHEN ?2 THEN 'enrol_again' ELSE revoked_then END,"
                        " revoked_seen = CASE WHEN ?2 THEN NULL ELSE revoked_seen END WHERE id = ?3",
                        PFX_PARAMS(P_INT(now_ms), P_INT(replaced), P_INT(e->id))));
    PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err,
                     "its user key was sealed to an encryption key that is compromised%s",
                     replaced ? ": another one shall take its place" : ""));
    return replaced ? give_way_if_renewed(agent, e, now_ms, err) : PFX_OK;
}

static pfx_result on_delivered(struct pfx_agent *agent, struct pfx_enrolment *e, const char *word,
                               int64_t now_ms, struct pfx_error *err)
{
    enum pfx_on_revoked then = what_follows(agent, e);
    bool left = true;
    if (then == PFX_REVOKED_REMOVE)
        PFX_TRY(removals_left(agent, now_ms, &left, err));
    then = left ? then : PFX_REVOKED_TELL;
    PFX_TRY(remember(agent, e, word, then, now_ms, err));
    PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err,
                     "the CA says that order %lld is %s, after its delivery; on_revoked: %s%s",
                     (long long)e->order_id, word, words[then],
                     left ? "" : " (and not remove: too many were removed today)"));
    if (then == PFX_REVOKED_ENROL_AGAIN)
        return give_way_if_renewed(agent, e, now_ms, err);
    if (then == PFX_REVOKED_TELL)
        return PFX_OK;
    char why[100];
    snprintf(why, sizeof(why), "%.32s at the CA, and its record removed", word);
    PFX_TRY(park(agent, e, why, err));
    return stop(agent, e, why, why, now_ms, err);
}

/* Not delivered yet: it never will be. */
static pfx_result on_the_way(struct pfx_agent *agent, struct pfx_enrolment *e, const char *word,
                             int64_t now_ms, struct pfx_error *err)
{
    enum pfx_on_revoked then = what_follows(agent, e);
    struct pfx_error ended = PFX_ERROR_NONE;
    char note[100];
    snprintf(note, sizeof(note), "order %lld is %.32s, not delivered", (long long)e->order_id,
             word);
    pfx_result r = pfx_fail(&ended, PFX_CLASS_REFUSED, "order", e->user, word,
                            "the CA ended order %lld (%s) before its delivery; ask there why",
                            (long long)e->order_id, word);
    (void)r;
    PFX_TRY(remember(agent, e, word, then, now_ms, err));
    PFX_TRY(pfx_enrolment_failed(agent->store, e, &ended, err));
    PFX_TRY(stop(agent, e, note, note, now_ms, err));
    /* tell: had it been delivered before, and was only imported again, a person decides. */
    if (then == PFX_REVOKED_REMOVE || (then == PFX_REVOKED_TELL && e->active_at))
        return park(agent, e, note, err);
    return PFX_OK;
}

pfx_result pfx_after_status(struct pfx_agent *agent, struct pfx_enrolment *e, const char *word,
                            int64_t now_ms, struct pfx_error *err)
{
    enum pfx_ca_status status = pfx_ca_status(word);
    if (status == PFX_CA_UNKNOWN) {
        pfx_log(PFX_LOG_WARN,
                "enrolment %lld: order %lld is %.64s: this status isn't known, "
                "nothing is done",
                (long long)e->id, (long long)e->order_id, word);
        return PFX_OK;
    }
    bool natural = strcmp(word, "expired") == 0 && e->expires && now_ms + PFX_DAY >= e->expires;
    bool over = e->at == PFX_ENDED || e->at == PFX_FAILED;
    bool same = e->ca_status && strcmp(e->ca_status, word) == 0;
    if (status != PFX_CA_ENDED || natural || over || e->revoked_at) {
        if (same)
            return PFX_OK;
        if (over && status == PFX_CA_ENDED && !natural)
            PFX_TRY(pfx_note_order_over(agent->store, e, word, now_ms, err));
        if (over || natural)
            PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err, "order %lld is %.64s",
                             (long long)e->order_id, word));
        return pfx_db_exec(agent->store->db, err, NULL,
                           "UPDATE enrolment SET ca_status = ? WHERE id = ?",
                           PFX_PARAMS(P_TEXT(word), P_INT(e->id)));
    }
    PFX_TRY(pfx_note_order_over(agent->store, e, word, now_ms, err));
    return e->at == PFX_ACTIVE ? on_delivered(agent, e, word, now_ms, err)
                               : on_the_way(agent, e, word, now_ms, err);
}

pfx_result pfx_after_active(struct pfx_agent *agent, const struct pfx_enrolment *e, int64_t now_ms,
                            struct pfx_error *err)
{
    int64_t id = 0;
    PFX_TRY(pfx_compromise_active(agent, e->id, now_ms, err));
    PFX_TRY(pfx_rebuild_landed(agent, e->generation, err));
    while (true) {
        struct pfx_enrolment old PFX_AUTOENROLMENT = {0};
        PFX_TRY(
            pfx_db_int(agent->store->db, err, 0, &id,
                       "SELECT min(id) FROM enrolment WHERE user = ? AND intune = ? AND id > ?"
                       " AND id < ? AND state = 'ACTIVE' AND revoked_then = 'enrol_again'"
                       " AND revoked_seen IS NULL",
                       PFX_PARAMS(P_TEXT(e->user), P_TEXT(e->intune), P_INT(id), P_INT(e->id))));
        if (id == 0)
            return PFX_OK;
        PFX_TRY(pfx_enrolment_load(agent->store, id, &old, err));
        PFX_TRY(give_way(agent, &old, e->id, now_ms, err));
    }
}

/* Ended, and it waits for a person. */
static bool parked(const struct pfx_enrolment *e)
{
    return e->at == PFX_ENDED && e->parked && !e->waived;
}

bool pfx_after_told(const struct pfx_enrolment *e)
{
    return e->revoked_at && e->revoked_then && (e->at == PFX_ACTIVE || parked(e)) &&
           strcmp(e->revoked_then, words[PFX_REVOKED_ENROL_AGAIN]) != 0;
}

bool pfx_after_replaced(const struct pfx_enrolment *e)
{
    return e->at == PFX_ACTIVE && e->revoked_at && !e->revoked_seen && !pfx_after_told(e);
}

pfx_result pfx_after_seen(struct pfx_agent *agent, const struct pfx_enrolment *e, int64_t now_ms,
                          struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET revoked_seen = ? WHERE id = ?",
                        PFX_PARAMS(P_INT(now_ms), P_INT(e->id))));
    return pfx_note(agent->store, now_ms, e->id, e->user, err,
                    "an operator takes note that it is %s", e->revoked_word);
}

pfx_result pfx_after_again(struct pfx_agent *agent, struct pfx_enrolment *e, int64_t now_ms,
                           struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        /* waived: nor does it wait for earlier ones. */
                        "UPDATE enrolment SET revoked_then = 'enrol_again', revoked_seen = NULL,"
                        " waived = 1 WHERE id = ?",
                        PFX_PARAMS(P_INT(e->id))));
    PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err,
                     "an operator wants another one in its place: the next pass may order it"));
    return give_way_if_renewed(agent, e, now_ms, err);
}

pfx_result pfx_after_removed(struct pfx_agent *agent, struct pfx_enrolment *e, const char *what,
                             int64_t now_ms, struct pfx_error *err)
{
    bool over = e->at == PFX_ENDED || e->at == PFX_FAILED;
    if (!over && e->at != PFX_ACTIVE && e->at != PFX_HELD)
        return pfx_fail(err, PFX_CLASS_REFUSED, "record remove", e->user, e->state,
                        "enrolment %lld works on this record; try again when it is ACTIVE or HELD",
                        (long long)e->id);
    PFX_TRY(park(agent, e, what, err));
    if (e->revoked_at && !e->revoked_seen) /* that is what a person made of it */
        PFX_TRY(pfx_after_seen(agent, e, now_ms, err));
    if (!over) /* else it ended for another reason before, and its record was still there */
        PFX_TRY(stop(agent, e, what, what, now_ms, err));
    return pfx_removal_put(agent, e->record_id, e->id, what, now_ms, now_ms, err);
}

/* --- revoking --- */

#define REVOKE_SCOPE "revoke/"

pfx_result pfx_after_revoke(struct pfx_agent *agent, const struct pfx_enrolment *e,
                            const char *reason, const char *who, int64_t now_ms,
                            struct pfx_error *err)
{
    struct pfx_msg *body PFX_AUTOMSG =
        pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.order_revoke")->request);
    /* A scope of its own: the job outlives the states that the enrolment goes through meanwhile. */
    char *scope PFX_AUTOFREE = pfx_asprintf(REVOKE_SCOPE "%lld", (long long)e->id);
    pfx_msg_set_int(body, "order_id", e->order_id);
    if (e->certificate_id)
        pfx_msg_set_int(body, "certificate_id", e->certificate_id);
    pfx_msg_set_str(body, "comment", reason);
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET revoke_asked = ?, revoke_said = NULL, revoke_open = NULL"
                        " WHERE id = ?",
                        PFX_PARAMS(P_INT(now_ms), P_INT(e->id))));
    PFX_TRY(pfx_note(agent->store, now_ms, e->id, e->user, err,
                     "%s asks the CA to revoke order %lld: %s", who, (long long)e->order_id,
                     reason));
    return pfx_outbox_add_body(agent->store, scope, "up.order_revoke", body, now_ms, now_ms, err);
}

pfx_result pfx_after_revoked(struct pfx_agent *agent, const struct pfx_answer *answer,
                             struct pfx_error *err)
{
    static const char prefix[] = REVOKE_SCOPE;
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    const char *scope = answer->job->scope;
    enum pfx_class cls = answer->fail.cls;
    char line[700];
    if (cls == PFX_CLASS_TRANSIENT || cls == PFX_CLASS_DEVICE)
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    if (strncmp(scope, prefix, sizeof(prefix) - 1) == 0)
        PFX_TRY(pfx_enrolment_load(agent->store, strtoll(scope + sizeof(prefix) - 1, NULL, 10), &e,
                                   err));
    if (e.id == 0)
        return PFX_OK;
    if (cls != PFX_CLASS_OK && cls != PFX_CLASS_LOST)
        PFX_TRY(pfx_note_order_failed(agent->store, &e, "order.revoked", &answer->fail,
                                      answer->now_ms, err));
    bool pending = cls == PFX_CLASS_OK && pfx_msg_bool(answer->body, "pending");
    const char *said = pending                 ? "it waits for an approval in the CA's account"
                       : cls == PFX_CLASS_OK   ? "the CA accepted it"
                       : cls == PFX_CLASS_LOST ? "the answer was lost; the CA's word on the order "
                                                 "says whether it did"
                                               : pfx_error_line(&answer->fail, line, sizeof(line));
    /* The CA's own word is what counts: asked at once where there may be one. It refuses to revoke
     * what is revoked already, perhaps by a pfx-uploader that died before it could say so. */
    bool ask = !pending;
    const char *open = pending ? "pending" : cls == PFX_CLASS_OK ? NULL : "refused";
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET revoke_said = ?1,"
                        " info_at = CASE WHEN ?2 THEN ?3 ELSE info_at END, revoke_open = ?5"
                        " WHERE id = ?4",
                        PFX_PARAMS(P_TEXT(said), P_INT(ask), P_INT(answer->now_ms), P_INT(e.id),
                                   P_TEXT(open))));
    return pfx_note(agent->store, answer->now_ms, e.id, e.user, err, "revoke: %s", said);
}
