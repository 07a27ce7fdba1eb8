#include "agent/payload.h"

#include <stdlib.h>
#include <string.h>

#include "agent/discard.h"
#include "agent/notes_queue.h"
#include "agent/orders.h"
#include "agent/restored.h"
#include "agent/timing.h"
#include "agent/user.h"

struct build {
    struct pfx_agent *agent;
    const struct pfx_job_row *job;
    const struct pfx_enrolment *e;
    const struct pfx_user_row *user;
    int64_t now_ms;
    struct pfx_msg *body;
    struct pfx_error *bad;
};

#define SET_BLOB(b, name, buf) pfx_msg_set_blob((b)->body, name, (buf).data, (buf).len)

/* What is wrong with the row, not with the store. */
static pfx_result spoilt(struct build *b, const char *code, const char *what)
{
    pfx_result r =
        pfx_fail(b->bad, PFX_CLASS_INTEGRITY, b->job->kind, b->e->user, code, "%s", what);
    (void)r;
    return PFX_OK;
}

static void set_addresses(struct build *b)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    if (!pfx_strings_parse(b->e->addresses, &list))
        (void)spoilt(b, "", "its addresses in the store are damaged; restore it from a backup");
    for (size_t i = 0; i < list.n; i++)
        pfx_msg_add_str(b->body, "addresses", list.v[i]);
}

static void set_person(struct build *b)
{
    pfx_msg_set_int(b->body, "enrolment", b->e->id);
    pfx_msg_set_str(b->body, "user", b->e->user);
    pfx_msg_set_blob(b->body, "salt", b->user->salt, sizeof(b->user->salt));
    pfx_msg_set_str(b->body, "purpose", b->e->purpose);
    set_addresses(b);
}

static pfx_result key_csr(struct build *b, struct pfx_error *err)
{
    (void)err;
    set_person(b);
    pfx_msg_set_int(b->body, "attempt", b->e->attempt);
    pfx_msg_set_str(b->body, "key_type", b->e->key_type);
    pfx_msg_set_str(b->body, "profile", b->e->profile);
    return PFX_OK;
}

static pfx_result key_destroy(struct build *b, struct pfx_error *err)
{
    (void)err;
    if (!b->e->key_ref || !b->e->ticket.data)
        return spoilt(b, "", "its key reference or ticket is missing in the store; restore it from a backup");
    set_person(b);
    pfx_msg_set_int(b->body, "attempt", b->e->attempt);
    pfx_msg_set_str(b->body, "key_ref", b->e->key_ref);
    SET_BLOB(b, "ticket", b->e->ticket);
    pfx_msg_set_str(b->body, "why", pfx_discard_why(b->e));
    return PFX_OK;
}

static pfx_result build_seal(struct build *b, struct pfx_error *err)
{
    (void)err;
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    if (b->e->key_going_at || b->e->key_gone_at)
        return spoilt(b, "key", "its user key was destroyed after delivery, as users.after_delivery "
                                "of hsm-policy.yaml says; cancel it, and a pass enrols the user anew");
    if (!b->e->key_ref || !pfx_strings_parse(b->e->addresses, &list) || list.n == 0)
        return spoilt(b, "",
                      "its key or addresses are missing in the store; restore it from a backup");
    set_person(b);
    pfx_msg_set_str(b->body, "key_ref", b->e->key_ref);
    SET_BLOB(b, "ticket", b->e->ticket);
    SET_BLOB(b, "leaf", b->e->cert);
    struct pfx_bytes der;
    size_t pos = 0;
    while (pfx_chain_next(pfx_buf_bytes(&b->e->chain), &pos, &der))
        pfx_msg_add_blob(b->body, "chain", der.data, der.len);
    char *name PFX_AUTOFREE = pfx_asprintf("%.220s (%s)", list.v[0], b->e->purpose);
    pfx_msg_set_str(b->body, "friendly_name", name);
    pfx_msg_set_str(b->body, "profile", b->e->profile);
    return PFX_OK;
}

static void set_fields(struct build *b)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    if (!pfx_strings_parse(b->e->custom_fields, &list) || list.n % 2)
        (void)spoilt(b, "", "its custom fields in the store are damaged; restore it from a backup");
    for (size_t i = 0; i + 1 < list.n; i += 2) {
        struct pfx_msg *field = pfx_msg_add_obj(b->body, "custom_fields");
        pfx_msg_set_int(field, "id", strtoll(list.v[i], NULL, 10));
        pfx_msg_set_str(field, "value", list.v[i + 1]);
    }
}

/* It may have waited for weeks: an order that was revoked meanwhile is renewed no more. */
static pfx_result set_renewal(struct build *b, struct pfx_error *err)
{
    int64_t good = 0;
    if (b->e->renewal_of)
        PFX_TRY(pfx_db_int(b->agent->store->db, err, 0, &good,
                           "SELECT 1 FROM enrolment WHERE order_id = ? AND revoked_at IS NULL",
                           PFX_PARAMS(P_INT(b->e->renewal_of))));
    if (good)
        pfx_msg_set_int(b->body, "renewal_of", b->e->renewal_of);
    return PFX_OK;
}

static pfx_result order(struct build *b, struct pfx_error *err)
{
    const struct pfx_enrolment *e = b->e;
    pfx_msg_set_int(b->body, "enrolment", e->id);
    pfx_msg_set_str(b->body, "product", e->product);
    set_addresses(b);
    SET_BLOB(b, "csr", e->csr);
    pfx_msg_set_str(b->body, "token", e->order_token);
    if (e->organization)
        pfx_msg_set_int(b->body, "organization", e->organization);
    if (e->years)
        pfx_msg_set_int(b->body, "years", e->years);
    else
        pfx_msg_set_int(b->body, "days", e->days);
    if (*e->profile_type) /* "": the product has none */
        pfx_msg_set_str(b->body, "profile_type", e->profile_type);
    pfx_msg_set_str(b->body, "purpose", e->purpose);
    if (e->non_repudiation)
        pfx_msg_add_str(b->body, "additional_usages", "non_repudiation");
    if (e->client_auth)
        pfx_msg_add_str(b->body, "additional_usages", "client_auth");
    if (e->indicator)
        pfx_msg_set_str(b->body, "common_name_indicator", e->indicator);
    if (e->first_name)
        pfx_msg_set_str(b->body, "first_name", e->first_name);
    if (e->last_name)
        pfx_msg_set_str(b->body, "last_name", e->last_name);
    if (e->common_name)
        pfx_msg_set_str(b->body, "common_name", e->common_name);
    if (e->pseudonym)
        pfx_msg_set_str(b->body, "pseudonym", e->pseudonym);
    if (e->payment)
        pfx_msg_set_str(b->body, "payment_method", e->payment);
    if (e->comment)
        pfx_msg_set_str(b->body, "comment", e->comment);
    set_fields(b);
    return set_renewal(b, err);
}

static pfx_result order_settle(struct build *b, struct pfx_error *err)
{
    const struct pfx_enrolment *e = b->e;
    pfx_msg_set_str(b->body, "product", e->product);
    set_addresses(b);
    SET_BLOB(b, "spki", e->spki);
    SET_BLOB(b, "csr", e->csr);
    pfx_msg_set_str(b->body, "token", e->order_token);
    pfx_msg_set_int(b->body, "since",
                    pfx_restored_since(b->agent, e->sent_first ? e->sent_first : e->created_at));
    /* The grace period runs from the first look on. */
    return pfx_db_exec(b->agent->store->db, err, NULL,
                       "UPDATE enrolment SET settle_since = coalesce(settle_since, ?) WHERE id = ?",
                       PFX_PARAMS(P_INT(b->now_ms), P_INT(e->id)));
}

static pfx_result order_id(struct build *b, struct pfx_error *err)
{
    (void)err;
    pfx_msg_set_int(b->body, "order_id", b->e->order_id);
    return PFX_OK;
}

static pfx_result order_cancel(struct build *b, struct pfx_error *err)
{
    (void)err;
    pfx_msg_set_int(b->body, "order_id", b->e->order_id);
    pfx_msg_set_str(b->body, "note", "canceled by an operator of pfx-agent");
    return PFX_OK;
}

static pfx_result download(struct build *b, struct pfx_error *err)
{
    (void)err;
    pfx_msg_set_int(b->body, "order_id", b->e->order_id);
    SET_BLOB(b, "spki", b->e->spki);
    SET_BLOB(b, "csr", b->e->csr);
    pfx_msg_set_str(b->body, "token", b->e->order_token);
    return PFX_OK;
}

static pfx_result import(struct build *b, struct pfx_error *err)
{
    const struct pfx_enrolment *e = b->e;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(b->agent->store->db, err, &stmt,
                          "SELECT pfx, sealed FROM parcel WHERE enrolment = ?",
                          PFX_PARAMS(P_INT(e->id))));
    PFX_TRY(pfx_db_next(b->agent->store->db, stmt, &row, err));
    if (!row) /* after a restore: backups hold no parcels */
        return spoilt(b, "parcel", "its parcel isn't in the store any more");
    pfx_msg_set_blob(b->body, "pfx", sqlite3_column_blob(stmt, 0),
                     (size_t)sqlite3_column_bytes(stmt, 0));
    pfx_msg_set_blob(b->body, "sealed", sqlite3_column_blob(stmt, 1),
                     (size_t)sqlite3_column_bytes(stmt, 1));
    pfx_msg_set_str(b->body, "user", e->user);
    pfx_msg_set_str(b->body, "record_id", e->record_id);
    pfx_msg_set_str(b->body, "thumbprint", e->thumbprint);
    pfx_msg_set_str(b->body, "purpose", e->intune);
    pfx_msg_set_str(b->body, "upn", b->user->upn);
    pfx_msg_set_int(b->body, "starts", e->starts);
    pfx_msg_set_int(b->body, "expires", e->expires);
    pfx_msg_set_str(b->body, "provider_name", e->provider_name);
    pfx_msg_set_str(b->body, "key_name", e->key_name);
    pfx_msg_set_str(b->body, "padding", e->padding);
    return PFX_OK;
}

static pfx_result readback(struct build *b, struct pfx_error *err)
{
    (void)err;
    pfx_msg_set_str(b->body, "record_id", b->e->record_id);
    return PFX_OK;
}

static pfx_result order_changes(struct build *b, struct pfx_error *err)
{
    int64_t last, list, oldest;
    bool gap;
    PFX_TRY(pfx_meta_get(b->agent->store, "poll_ok", &last, err));
    PFX_TRY(pfx_meta_get(b->agent->store, "list_ok", &list, err));
    last = list > last ? list : last;
    PFX_TRY(pfx_db_int(b->agent->store->db, err, 0, &oldest,
                       "SELECT min(coalesce(sent_first, ordered_at)) FROM enrolment"
                       " INDEXED BY enrolment_uncovered"
                       " WHERE covered = 0 AND order_id IS NOT NULL"
                       " AND state IN (" PFX_ORDER_STATES ")",
                       PFX_NO_PARAMS));
    pfx_msg_set_int(b->body, "minutes", pfx_poll_minutes(last, oldest, b->now_ms, &gap));
    /* Longer than the CA can look back: its whole list too. */
    return gap ? pfx_orders_list(b->agent, b->now_ms, err) : PFX_OK;
}

static pfx_result log_notes(struct build *b, struct pfx_error *err)
{
    return pfx_notes_fill(b->agent, b->body, err);
}

static const struct builder {
    const char *kind;
    pfx_result (*fn)(struct build *b, struct pfx_error *err);
} builders[] = {
    {"hsm.key_csr", key_csr},
    {"hsm.build_seal", build_seal},
    {PFX_DISCARD_KIND, key_destroy},
    {"hsm.log", log_notes},
    {"up.order", order},
    {"up.order_settle", order_settle},
    {"up.order_info", order_id},
    {"up.order_validation", order_id},
    {"up.order_cancel", order_cancel},
    {"up.order_resend", order_id},
    {"up.download", download},
    {"up.import", import},
    {"up.import_settle", import},
    {"up.readback", readback},
    {"up.order_changes", order_changes},
};

pfx_result pfx_payload_build(struct pfx_agent *agent, const struct pfx_job_row *job,
                             const struct pfx_enrolment *e, int64_t now_ms,
                             struct pfx_msg **ret_body, struct pfx_error *ret_bad,
                             struct pfx_error *err)
{
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, job->kind);
    if (!pair) {
        pfx_result r = pfx_fail(ret_bad, PFX_CLASS_INTEGRITY, "hand out", job->kind, "",
                                "the store has a job of a kind that doesn't exist");
        (void)r;
        return PFX_OK;
    }
    if (job->payload) { /* one that can't be read is dropped, else it would block the others */
        pfx_result r =
            pfx_msg_decode(pair->request, job->payload, strlen(job->payload), ret_body, ret_bad);
        (void)r;
        return PFX_OK;
    }
    struct pfx_user_row user PFX_AUTOUSER = {0};
    if (e->id)
        PFX_TRY(pfx_user_load(agent->store, e->user, &user, err));
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(pair->request);
    struct build b = {agent, job, e, &user, now_ms, body, ret_bad};
    if (user.damaged)
        return spoilt(&b, "", "its user's row in the store is damaged; restore it from a backup");
    for (size_t i = 0; i < sizeof(builders) / sizeof(builders[0]); i++)
        if (strcmp(builders[i].kind, job->kind) == 0)
            PFX_TRY(builders[i].fn(&b, err));
    if (ret_bad->cls != PFX_CLASS_OK)
        return PFX_OK;
    /* A row that doesn't fit the protocol is found here, before it would end the line to the arm.
     */
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(pair->request->ceiling);
    if (pfx_failed(pfx_msg_encode(body, false, &text, ret_bad)))
        return PFX_OK;
    *ret_body = PFX_TAKE(body);
    return PFX_OK;
}
