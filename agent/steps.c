#include "agent/steps.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/after.h"
#include "agent/certificate.h"
#include "agent/counter.h"
#include "agent/discard.h"
#include "agent/delivery.h"
#include "agent/note.h"
#include "agent/notes_queue.h"
#include "agent/orders.h"
#include "agent/rebuild.h"
#include "agent/rewrap.h"
#include "agent/removal.h"
#include "agent/restored.h"
#include "agent/stale.h"
#include "agent/timing.h"
#include "api/conf/process.h"
#include "api/conf/product.h"
#include "crypto/csr.h"

/* One answer in the flow. A handler keeps what the answer brings; what is wrong with it goes to
 * `bad` and is treated like an answer of that class. */
struct step {
    struct pfx_agent *agent;
    struct pfx_enrolment *e;
    const struct pfx_msg *body;
    int64_t now_ms;
    struct pfx_error bad;
    int64_t again_at; /* not 0: not done yet, the same job then, or this one: */
    const char *again_as;
    bool hold_lost;   /* looked long enough for a lost order */
    bool jumps;       /* goes to `to` instead of where the table says */
    enum pfx_state to;
    char note[200];
};

#define BAD(st, cls, object, code, ...)                                                            \
    do {                                                                                           \
        pfx_result bad_ = pfx_fail(&(st)->bad, cls, "check answer", object, code, __VA_ARGS__);    \
        (void)bad_;                                                                                \
        return PFX_OK;                                                                             \
    } while (0)

static bool same(struct pfx_bytes a, struct pfx_bytes b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static pfx_result on_key_csr(struct step *st, struct pfx_error *err)
{
    struct pfx_bytes spki = pfx_msg_blob(st->body, "spki");
    struct pfx_buf in_csr PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    enum pfx_key_type type;
    if (pfx_failed(pfx_csr_spki(pfx_msg_blob(st->body, "csr"), &in_csr, &st->bad)) ||
        pfx_failed(pfx_spki_type(spki, &type, &st->bad))) {
        st->bad.cls = PFX_CLASS_INTEGRITY;
        return PFX_OK;
    }
    if (!same(spki, pfx_buf_bytes(&in_csr)))
        BAD(st, PFX_CLASS_INTEGRITY, "request", "key",
            "the request has another key than pfx-hsm "
            "says; look at pfx-hsm's log");
    if (strcmp(pfx_key_type_name(type), st->e->key_type) != 0)
        BAD(st, PFX_CLASS_INTEGRITY, "request", "key", "the key is %s, and %s was asked for",
            pfx_key_type_name(type), st->e->key_type);
    return pfx_db_exec(st->agent->store->db, err, NULL,
                       "UPDATE enrolment SET key_ref = ?, key_id = ?, ticket = ?, csr = ?, spki = ?,"
                       " key_epoch = ? WHERE id = ?",
                       PFX_PARAMS(P_TEXT(pfx_msg_str(st->body, "key_ref")),
                                  P_BLOB(pfx_msg_blob(st->body, "key_id")),
                                  P_BLOB(pfx_msg_blob(st->body, "ticket")),
                                  P_BLOB(pfx_msg_blob(st->body, "csr")), P_BLOB(spki),
                                  P_INT(pfx_msg_int(st->body, "epoch")), P_INT(st->e->id)));
}

static pfx_result take_certificate(struct step *st, struct pfx_error *err)
{
    return pfx_certificate_take(st->agent, st->e, st->body, st->now_ms, st->note, sizeof(st->note),
                                &st->bad, err);
}

/* A CA that issues at once sends the certificate with its answer. One that isn't what was ordered
 * is a person's, and the order is bought all the same: it is fetched and checked as any other, or
 * where the CA has no download, looked for again. */
static pfx_result take_issued(struct step *st, int64_t order, struct pfx_error *err)
{
    if (!pfx_msg_has(st->body, "leaf"))
        return PFX_OK;
    PFX_TRY(take_certificate(st, err));
    st->jumps = true;
    st->to = PFX_CHECKED;
    if (st->bad.cls == PFX_CLASS_OK) {
        size_t n = strlen(st->note);
        snprintf(st->note + n, sizeof(st->note) - n, "; order %lld was answered with it",
                 (long long)order);
        return PFX_OK;
    }
    const struct pfx_product *product = pfx_product_find(st->e->product);
    if (!product || strcmp(product->ca, "digicert") != 0) {
        st->bad.cls = PFX_CLASS_INTEGRITY; /* held with the job that looks, not a new order */
        return PFX_OK;
    }
    st->to = PFX_ISSUED;
    snprintf(st->note, sizeof(st->note),
             "order %lld; the certificate in its answer isn't taken: %.120s", (long long)order,
             st->bad.text);
    st->bad = PFX_ERROR_NONE;
    return PFX_OK;
}

static pfx_result take_order(struct step *st, struct pfx_error *err)
{
    int64_t order = pfx_msg_int(st->body, "order_id");
    int64_t cert = pfx_msg_int(st->body, "certificate_id");
    int64_t owner;
    if (order == 0)
        BAD(st, PFX_CLASS_INTEGRITY, "order", "", "the answer has no order id");
    PFX_TRY(pfx_db_int(st->agent->store->db, err, 0, &owner,
                       "SELECT id FROM enrolment WHERE order_id = ?", PFX_PARAMS(P_INT(order))));
    if (owner && owner != st->e->id)
        BAD(st, PFX_CLASS_INTEGRITY, "order", "",
            "order %lld belongs to enrolment %lld already; look "
            "at both orders at the CA",
            (long long)order, (long long)owner);
    snprintf(st->note, sizeof(st->note), "order %lld", (long long)order);
    /* One that is issued at once isn't waited for: the CA is asked at once. */
    PFX_TRY(
        pfx_db_exec(st->agent->store->db, err, NULL,
                    "UPDATE enrolment SET order_id = ?, certificate_id = ?, ordered_at = ?,"
                    " covered = 0, ca_status = ?, info_at = ?, validation_at = NULL,"
                    " settle_since = NULL, settle_empty = 0 WHERE id = ?",
                    PFX_PARAMS(P_INT(order), P_INT_OR_NULL(cert), P_INT(st->now_ms),
                               P_TEXT(pfx_msg_str(st->body, "status")),
                               P_INT(cert ? st->now_ms : st->now_ms + PFX_DAY), P_INT(st->e->id))));
    PFX_TRY(pfx_note_placed(st->agent->store, st->e, order, st->now_ms, err));
    return take_issued(st, order, err);
}

static pfx_result on_order_settle(struct step *st, struct pfx_error *err)
{
    if (pfx_msg_bool(st->body, "found")) {
        PFX_TRY(take_order(st, err));
        if (st->bad.cls != PFX_CLASS_OK)
            return PFX_OK;
        /* It may have been issued long ago: ask now. */
        return pfx_db_exec(st->agent->store->db, err, NULL,
                           "UPDATE enrolment SET info_at = ? WHERE id = ?",
                           PFX_PARAMS(P_INT(st->now_ms), P_INT(st->e->id)));
    }
    if (pfx_restored_first(st->agent, st->e)) {
        PFX_TRY(pfx_restored_empty(st->agent, st->e, st->body, st->now_ms, &st->again_at, &st->bad,
                                   err));
        if (st->bad.cls == PFX_CLASS_OK && !st->again_at) {
            st->again_as = "up.order";
            st->again_at = st->now_ms;
        }
        return PFX_OK;
    }
    int64_t grace = st->agent->conf->settle_grace_ms;
    unsigned empty = (unsigned)st->e->settle_empty + 1;
    st->hold_lost = pfx_settle_over(empty, st->e->settle_since, grace, st->now_ms);
    st->again_at = st->now_ms + pfx_settle_delay(empty, grace);
    if (st->hold_lost)
        PFX_TRY(pfx_restored_looked(st->agent, st->e, st->now_ms, err));
    return pfx_db_exec(st->agent->store->db, err, NULL,
                       "UPDATE enrolment SET settle_empty = ? WHERE id = ?",
                       PFX_PARAMS(P_INT(empty), P_INT(st->e->id)));
}

static pfx_result on_build_seal(struct step *st, struct pfx_error *err)
{
    PFX_TRY(pfx_delivery_sealed(st->agent, st->e->id, st->body, st->now_ms, &st->bad, err));
    if (st->bad.cls != PFX_CLASS_OK)
        return PFX_OK;
    snprintf(st->note, sizeof(st->note), "tier %s, encryption key generation %lld",
             pfx_msg_str(st->body, "tier"), (long long)pfx_msg_int(st->body, "generation"));
    return pfx_db_exec(st->agent->store->db, err, NULL,
                       "UPDATE enrolment SET pfx_sha = ?, generation = ?, key_name = ?,"
                       " provider_name = ?, padding = ?, tier = ?, sealed_by = ? WHERE id = ?",
                       PFX_PARAMS(PFX_SEALED_PARAMS(st->body), P_INT(st->e->id)));
}

static pfx_result on_import(struct step *st, struct pfx_error *err)
{
    (void)err;
    pfx_delivery_imported(st->e, st->body, st->note, sizeof(st->note), &st->bad);
    return PFX_OK;
}

static pfx_result on_readback(struct step *st, struct pfx_error *err)
{
    bool bounced;
    PFX_TRY(pfx_delivery_confirm(st->agent, st->e, st->body, st->now_ms, &bounced, &st->bad, err));
    return bounced ? pfx_db_exec(st->agent->store->db, err, NULL,
                                 "UPDATE enrolment SET bounces = bounces + 1 WHERE id = ?",
                                 PFX_PARAMS(P_INT(st->e->id)))
                   : pfx_db_exec(st->agent->store->db, err, NULL,
                                 "UPDATE enrolment SET active_at = ?, bounces = 0 WHERE id = ?",
                                 PFX_PARAMS(P_INT(st->now_ms), P_INT(st->e->id)));
}

static const struct {
    const char *kind;
    pfx_result (*fn)(struct step *st, struct pfx_error *err);
} handlers[] = {
    {"hsm.key_csr", on_key_csr},          {"up.order", take_order},
    {"up.order_settle", on_order_settle}, {"up.download", take_certificate},
    {"hsm.build_seal", on_build_seal},    {"up.import", on_import},
    {"up.import_settle", on_import},      {"up.readback", on_readback},
};

bool pfx_steps_passing(enum pfx_class cls)
{
    return cls == PFX_CLASS_TRANSIENT || cls == PFX_CLASS_DEVICE || cls == PFX_CLASS_LOST;
}

pfx_result pfx_steps_again(struct pfx_agent *agent, const struct pfx_answer *answer,
                           struct pfx_error *err)
{
    char line[700];
    return pfx_outbox_again(agent->store, answer->job, answer->job->kind,
                            answer->now_ms + pfx_agent_backoff(agent, answer->job->tries),
                            pfx_error_line(&answer->fail, line, sizeof(line)), err);
}

/* The state stays: the same job, or its settle variant, goes out again. */
static pfx_result repeat(struct step *st, const struct pfx_answer *answer, const char *kind,
                         struct pfx_error *err)
{
    struct pfx_store *store = st->agent->store;
    const struct pfx_job_row *job = answer->job;
    int64_t at = st->now_ms + pfx_agent_backoff(st->agent, job->tries);
    bool settle = kind && strcmp(kind, "up.order_settle") == 0;
    if (settle)
        at = st->now_ms + pfx_settle_delay(0, st->agent->conf->settle_grace_ms);
    PFX_TRY(pfx_enrolment_failed(store, st->e, &st->bad, err));
    if (settle)
        PFX_TRY(pfx_note_order_failed(store, st->e, "order.lost", &st->bad, st->now_ms, err));
    /* 1, 2, 4, 8, ... : a service that is away for days doesn't fill the history. */
    char line[700];
    pfx_error_line(&st->bad, line, sizeof(line));
    if ((job->tries & (job->tries + 1)) == 0 || kind)
        PFX_TRY(pfx_note(store, st->now_ms, st->e->id, st->e->user, err, "%s: %s",
                         kind ? "the answer is lost, looking for it" : "tried again later", line));
    return pfx_outbox_again(store, job, kind ? kind : job->kind, at, line, err);
}

/* Nothing was bought by this one: it counts neither as sent nor against the day's budget. An
 * earlier one that a person gave up stays remembered. */
static pfx_result not_sent(struct step *st, struct pfx_error *err)
{
    return pfx_db_exec(st->agent->store->db, err, NULL,
                       "UPDATE enrolment SET sent_first = nullif(sent_first, sent_last),"
                       " sent_last = NULL WHERE id = ? AND settle_since IS NULL",
                       PFX_PARAMS(P_INT(st->e->id)));
}

static pfx_result follow(struct step *st, const struct pfx_answer *answer, struct pfx_error *err)
{
    struct pfx_store *store = st->agent->store;
    const struct pfx_flow_row *row = pfx_flow_by_job(answer->job->kind);
    enum pfx_class cls = st->bad.cls;
    struct pfx_outcome out = pfx_flow_outcome(row, cls);
    if (strcmp(row->job, "up.order") == 0 &&
        (cls == PFX_CLASS_TRANSIENT || cls == PFX_CLASS_DEVICE || cls == PFX_CLASS_REFUSED ||
         cls == PFX_CLASS_USAGE))
        PFX_TRY(not_sent(st, err));
    /* A read-back that the service refuses counts like one that differs, or it went on for ever. */
    if (out.to == PFX_SEALED && answer->fail.cls == PFX_CLASS_REFUSED) {
        out = ++st->e->bounces >= PFX_MOST_BOUNCES ? row->held : out;
        PFX_TRY(pfx_db_exec(store->db, err, NULL, "UPDATE enrolment SET bounces = ? WHERE id = ?",
                            PFX_PARAMS(P_INT(st->e->bounces), P_INT(st->e->id))));
    }
    if (out.again)
        return repeat(st, answer, out.job, err);
    if (out.to == PFX_HELD)
        return pfx_enrolment_hold(store, st->e, pfx_flow_resume(row->job, cls), PFX_HELD_FAILURE,
                                  st->now_ms, &st->bad, err);
    if (cls == PFX_CLASS_OK && st->jumps)
        return pfx_enrolment_move(store, st->e, st->to, NULL, st->now_ms, st->now_ms, st->note,
                                  err);
    if (cls == PFX_CLASS_OK) {
        PFX_TRY(pfx_enrolment_move(store, st->e, out.to, out.job, st->now_ms, st->now_ms, st->note,
                                   err));
        return out.to == PFX_ACTIVE ? pfx_after_active(st->agent, st->e, st->now_ms, err) : PFX_OK;
    }
    char line[700];
    PFX_TRY(pfx_enrolment_failed(store, st->e, &st->bad, err));
    /* Back one state: give the service time to show what it has. */
    return pfx_enrolment_move(store, st->e, out.to, out.job,
                              st->now_ms + pfx_agent_backoff(st->agent, st->e->bounces), st->now_ms,
                              pfx_error_line(&st->bad, line, sizeof(line)), err);
}

static pfx_result flow_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                              struct pfx_enrolment *e, struct pfx_error *err)
{
    struct step st = {.agent = agent,
                      .e = e,
                      .body = answer->body,
                      .now_ms = answer->now_ms,
                      .bad = answer->fail};
    if (answer->fail.cls == PFX_CLASS_OK) {
        for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
            if (strcmp(handlers[i].kind, answer->job->kind) == 0)
                PFX_TRY(handlers[i].fn(&st, err));
        if (st.hold_lost) {
            struct pfx_error lost = PFX_ERROR_NONE;
            pfx_result r = pfx_fail(&lost, PFX_CLASS_LOST, "order", e->user, "",
                                    "the answer to the order was lost, and the CA doesn't show an "
                                    "order with this key; look at the CA for comments with %s",
                                    e->order_token);
            (void)r;
            return pfx_enrolment_hold(agent->store, e, "up.order_settle", PFX_HELD_LOST, st.now_ms,
                                      &lost, err);
        }
        if (st.again_at)
            return pfx_outbox_again(agent->store, answer->job,
                                    st.again_as ? st.again_as : answer->job->kind, st.again_at,
                                    NULL, err);
    }
    return follow(&st, answer, err);
}

static pfx_result read_answer(const struct pfx_msg *done, const struct pfx_job_row *job,
                              struct pfx_answer *answer, struct pfx_msg **ret_body,
                              struct pfx_error *err)
{
    enum pfx_class cls;
    (void)err;
    answer->fail = PFX_ERROR_NONE;
    if (!pfx_class_parse(pfx_msg_str(done, "class"), &cls))
        cls = PFX_CLASS_INTERNAL;
    if (cls != PFX_CLASS_OK) {
        if (pfx_msg_has(done, "error"))
            pfx_msg_get_error(done, "error", &answer->fail);
        answer->fail.cls = cls;
        if (!answer->fail.text[0])
            snprintf(answer->fail.text, sizeof(answer->fail.text), "the arm gave no reason");
        return PFX_OK;
    }
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, job->kind);
    pfx_result r = pfx_msg_has(done, "body")
                       ? pfx_msg_body(done, "body", pair->result, ret_body, &answer->fail)
                       : pfx_fail(&answer->fail, PFX_CLASS_INTEGRITY, job->kind, "answer", "",
                                  "it says ok and brings no result");
    /* Rubbish from an arm leaves open what was done: as if it had been lost, but a person looks. */
    if (pfx_failed(r))
        answer->fail.cls = PFX_CLASS_INTEGRITY;
    answer->body = *ret_body;
    return PFX_OK;
}

/* Kinds that belong neither to the flow nor to a pass. */
static const struct {
    const char *kind;
    pfx_result (*fn)(struct pfx_agent *agent, const struct pfx_answer *answer,
                     struct pfx_error *err);
} beside[] = {
    {"up.orders", pfx_orders_listed},       {"up.order_revoke", pfx_after_revoked},
    {"up.remove", pfx_removal_answer},      {"up.setup_ca", pfx_counter_answer},
    {"up.setup_entra", pfx_counter_answer}, {"hsm.log", pfx_notes_answer},
    {PFX_DISCARD_KIND, pfx_discard_answer},
    {"hsm.rewrap", pfx_rewrap_answer},
};

static pfx_result apply(struct pfx_agent *agent, const struct pfx_job_row *job,
                        const struct pfx_msg *done, int64_t now_ms, bool *ret_stale,
                        struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    const struct pfx_flow_row *row = pfx_flow_by_job(job->kind);
    if (job->enrolment) {
        PFX_TRY(pfx_enrolment_load(agent->store, job->enrolment, &e, err));
        if (e.id == 0 || e.ver != job->ver || (row && row->state != e.at)) {
            *ret_stale = true;
            PFX_TRY(pfx_stale_note(agent, job, done, "the enrolment has moved on", now_ms, err));
            return pfx_outbox_drop(agent->store, job->id, err);
        }
    }
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    struct pfx_answer answer = {.job = job, .now_ms = now_ms};
    PFX_TRY(read_answer(done, job, &answer, &body, err));
    if (pfx_rebuild_job(job))
        return pfx_rebuild_answer(agent, &answer, err);
    if (row)
        return flow_answer(agent, &answer, &e, err);
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
        if (strcmp(beside[i].kind, job->kind) == 0)
            return beside[i].fn(agent, &answer, err);
    if (job->enrolment || strcmp(job->kind, "up.order_changes") == 0)
        return pfx_orders_answer(agent, &answer, &e, err);
    return pfx_pass_answer(agent, &answer, err);
}

pfx_result pfx_steps_apply(struct pfx_agent *agent, const char *role, const char *incarnation,
                           const struct pfx_msg *done, int64_t now_ms, bool *ret_stale,
                           struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct pfx_job_row job PFX_AUTOJOB = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_outbox_load(agent->store, pfx_msg_int(done, "job"), &job, err));
    const char *why = pfx_stale_because(&job, role, incarnation, done);
    *ret_stale = why != NULL;
    if (why)
        PFX_TRY(pfx_stale_note(agent, &job, done, why, now_ms, err));
    else
        PFX_TRY(apply(agent, &job, done, now_ms, ret_stale, err));
    return pfx_tx_commit(&tx, err);
}
