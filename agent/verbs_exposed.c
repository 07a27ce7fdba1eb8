/* key exposed: whose user keys a compromised generation exposes, what is done about each, and what
 * is left for a person. Also of one that isn't compromised: what that would mean. */
#include <stdio.h>
#include <string.h>

#include "agent/compromise.h"
#include "agent/item.h"
#include "agent/verbs.h"
#include "api/conf/process.h"

#define STEP_MS 5 /* of one step: with a hundred thousand, others have their turn in between */

/* What becomes of one: by a successor, by itself, or by nobody. */
struct fate {
    const char *state; /* replaced, ordering, waiting, over or nobody */
    int64_t successor; /* 0: none yet */
    const char *revocation; /* done, asked, refused, waiting, none or over */
    char upn[1025];
};

struct tally {
    int64_t exposed, replaced, ordering, waiting, nobody, revoked, asked, refused;
};

/* asker->select: enrolment: generation, after: enrolment of the exposure that was looked at last; state:
 * not NULL: tell every one; done: the generation that is asked about, 0: those that are compromised.
 * *ret_told: of two compromised generations, with the first. */
static pfx_result next_exposure(struct pfx_asker *asker, int64_t *ret_enrolment, bool *ret_told,
                                struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    struct pfx_selection *s = &asker->select;
    int64_t told = 0;
    if (s->done) {
        PFX_TRY(pfx_db_int(store->db, err, 0, &s->after,
                           "SELECT min(enrolment) FROM exposure WHERE generation = ?"
                           " AND enrolment > ?",
                           PFX_PARAMS(P_INT(s->enrolment), P_INT(s->after))));
    } else {
        PFX_TRY(pfx_compromise_next(store, &s->enrolment, &s->after, err));
        PFX_TRY(pfx_db_int(store->db, err, 0, &told,
                           "SELECT EXISTS(SELECT 1 FROM exposure x JOIN generation g"
                           " ON g.generation = x.generation WHERE x.enrolment = ?"
                           " AND x.generation < ? AND g.compromised IS NOT NULL)",
                           PFX_PARAMS(P_INT(s->after), P_INT(s->enrolment))));
    }
    *ret_enrolment = s->after;
    *ret_told = told != 0;
    return PFX_OK;
}

static const char *revocation_of(const struct pfx_enrolment *e, bool in_box, int64_t now_ms)
{
    if (e->revoked_at || (e->ca_status && strcmp(e->ca_status, "revoked") == 0))
        return "done";
    if (e->expires <= now_ms)
        return "over";
    if (!e->order_id)
        return "none";
    /* A lost answer is refused, too, until the CA's own word says otherwise. */
    if (!in_box && e->revoke_open && strcmp(e->revoke_open, "refused") == 0)
        return "refused";
    return e->revoke_asked ? "asked" : "waiting";
}

static pfx_result find_fate(struct pfx_asker *asker, const struct pfx_enrolment *e, int64_t now_ms,
                            struct fate *ret_fate, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(
        asker->agent->store->db, err, &stmt,
        "SELECT upn, (SELECT max(id) FROM enrolment WHERE user = ?1 AND intune = ?2 AND id > ?3"
        "  AND state = 'ACTIVE' AND exposed_at IS NULL),"
        " (SELECT max(id) FROM enrolment WHERE user = ?1 AND intune = ?2 AND id > ?3"
        "  AND state NOT IN ('ACTIVE', 'FAILED', 'ENDED')),"
        " enabled AND EXISTS (SELECT 1 FROM member m JOIN temp.rule_order o ON o.name = m.rule"
        "  WHERE m.user = ?1 AND o.intune = ?2),"
        " EXISTS (SELECT 1 FROM job WHERE scope = 'revoke/' || ?3) FROM user WHERE id = ?1",
        PFX_PARAMS(P_TEXT(e->user), P_TEXT(e->intune), P_INT(e->id))));
    PFX_TRY(pfx_db_next(asker->agent->store->db, stmt, &row, err));
    *ret_fate = (struct fate){.state = "nobody", .revocation = "none"};
    if (!row)
        return PFX_OK;
    int64_t active = sqlite3_column_int64(stmt, 1), flight = sqlite3_column_int64(stmt, 2);
    bool wanted = sqlite3_column_int64(stmt, 3) != 0;
    (void)snprintf(ret_fate->upn, sizeof(ret_fate->upn), "%s",
                   (const char *)sqlite3_column_text(stmt, 0));
    ret_fate->successor = active ? active : flight;
    ret_fate->state = active                  ? "replaced"
                      : flight                ? "ordering"
                      : e->expires <= now_ms  ? "over"
                      : wanted && !e->parked  ? "waiting"
                                              : "nobody";
    ret_fate->revocation = revocation_of(e, sqlite3_column_int64(stmt, 4) != 0, now_ms);
    return PFX_OK;
}

/* What a person does about it; NULL: nothing. */
static const char *next_step(const struct pfx_enrolment *e, const struct fate *f, bool told)
{
    if (strcmp(f->revocation, "asked") == 0 && e->revoke_open)
        return "approve the revocation in the CA's account";
    if (strcmp(f->revocation, "refused") == 0)
        return "read what the CA said (pfx-agent enrolment show), then: pfx-agent enrolment revoke";
    if (strcmp(f->state, "nobody") == 0 && strcmp(f->revocation, "done") != 0 && told)
        return "nobody orders another one for this user: pfx-agent enrolment revoke, and record "
               "remove once old mail isn't needed";
    return NULL;
}

static void send_one(struct pfx_asker *asker, const struct pfx_enrolment *e, const struct fate *f,
                     const char *next)
{
    struct pfx_msg *item = pfx_asker_body(asker);
    pfx_msg_set_str(item, "kind", "exposed");
    pfx_msg_set_int(item, "enrolment", e->id);
    pfx_item_int(item, "generation", asker->select.enrolment);
    pfx_item_str(item, "upn", f->upn, 1024);
    pfx_item_str(item, "purpose", e->purpose, 16);
    pfx_item_str(item, "state", f->state, 16);
    pfx_item_int(item, "successor", f->successor);
    pfx_item_str(item, "revocation", f->revocation, 16);
    pfx_item_str(item, "said", e->revoke_said, 639);
    pfx_item_str(item, "next", next, 639);
    pfx_item_int(item, "expires", e->expires);
    pfx_asker_item(asker, item);
}

static void count(struct tally *t, const struct fate *f)
{
    t->exposed++;
    t->replaced += strcmp(f->state, "replaced") == 0;
    t->ordering += strcmp(f->state, "ordering") == 0;
    t->waiting += strcmp(f->state, "waiting") == 0;
    t->nobody += strcmp(f->state, "nobody") == 0;
    t->revoked += strcmp(f->revocation, "done") == 0;
    t->asked += strcmp(f->revocation, "asked") == 0;
    t->refused += strcmp(f->revocation, "refused") == 0;
}

static pfx_result look(struct pfx_asker *asker, struct tally *t, int64_t id, int64_t now_ms,
                       struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct fate f;
    /* Without its certificate and chain. */
    PFX_TRY(pfx_enrolment_after(asker->agent->store, id - 1, NULL, NULL, &e, err));
    if (!e.thumbprint) /* it never came to a certificate */
        return PFX_OK;
    PFX_TRY(find_fate(asker, &e, now_ms, &f, err));
    count(t, &f);
    const char *next = next_step(&e, &f, e.exposed_at != 0 || asker->select.done == 0);
    if (next || asker->select.state)
        send_one(asker, &e, &f, next);
    return PFX_OK;
}

static pfx_result page(struct pfx_asker *asker, struct tally *t, int64_t now_ms, bool *ret_end,
                       struct pfx_error *err)
{
    int64_t id, until = pfx_uptime_ms() + STEP_MS;
    do {
        bool told;
        PFX_TRY(next_exposure(asker, &id, &told, err));
        if (id && !told)
            PFX_TRY(look(asker, t, id, now_ms, err));
    } while (id && pfx_uptime_ms() < until);
    *ret_end = id == 0;
    return PFX_OK;
}

static void send_summary(struct pfx_asker *asker, const struct tally *t)
{
    struct pfx_msg *item = pfx_asker_body(asker);
    pfx_msg_set_str(item, "kind", "summary");
    pfx_item_int(item, "generation", asker->select.done);
    pfx_msg_set_int(item, "exposed", t->exposed);
    pfx_msg_set_int(item, "replaced", t->replaced);
    pfx_msg_set_int(item, "ordering", t->ordering);
    pfx_msg_set_int(item, "waiting", t->waiting);
    pfx_msg_set_int(item, "nobody", t->nobody);
    pfx_msg_set_int(item, "revoked", t->revoked);
    pfx_msg_set_int(item, "asked", t->asked);
    pfx_msg_set_int(item, "refused", t->refused);
    pfx_msg_set_int(item, "orders_a_day", asker->agent->conf->max_orders_per_day);
    pfx_asker_item(asker, item);
}

/* The counts of a hundred thousand are gathered over many steps: they go with the asker. */
static struct tally *tally_of(struct pfx_asker *asker)
{
    if (!asker->select.last) {
        asker->select.last = pfx_alloc(sizeof(struct tally));
        memset(asker->select.last, 0, sizeof(struct tally));
    }
    return (struct tally *)(void *)asker->select.last;
}

static void step(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct tally *t = tally_of(asker);
    bool over = false;
    if (pfx_failed(page(asker, t, now_ms, &over, &err))) {
        pfx_asker_fail(asker, &err);
        return;
    }
    if (!over)
        return;
    send_summary(asker, t);
    pfx_asker_end(asker, t->nobody || t->refused ? 1 : 0, NULL);
}

void pfx_verb_exposed(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                      int64_t now_ms)
{
    int64_t generation = pfx_msg_int(args, "generation");
    (void)agent, (void)now_ms;
    asker->select = (struct pfx_selection){
        .done = generation,
        .enrolment = generation,
        .state = pfx_msg_bool(args, "all") ? pfx_strdup("all") : NULL};
    asker->step = step;
}
