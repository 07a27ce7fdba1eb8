/* key exposed: whose user keys a compromised generation exposes, what is done about each, and what
 * is left for a person. Also of one that isn't compromised: what that would mean. */
#include <stdio.h>
#include <string.h>

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

/* Without a successor. */
static const char *state_of(const struct pfx_enrolment *e, bool wanted, int64_t now_ms)
{
    return e->expires <= now_ms ? "over" : wanted && !e->parked ? "waiting" : "nobody";
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
    ret_fate->state = active   ? "replaced"
                      : flight ? "ordering"
                               : state_of(e, wanted, now_ms);
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

/* --- one after the other ---------------------------------------------------------------------- */

/* What is told of one is read anew, and whole; of most nothing is told. */
static pfx_result tell(struct pfx_asker *asker, const struct pfx_enrolment *brief, int64_t now_ms,
                       const char *next, struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct fate f;
    /* Without its certificate and chain. */
    PFX_TRY(pfx_enrolment_after(asker->agent->store, brief->id - 1, NULL, NULL, &e, err));
    PFX_TRY(find_fate(asker, &e, now_ms, &f, err));
    send_one(asker, &e, &f, next);
    return PFX_OK;
}

/* The columns of `page`; e owns what is read. */
static void read_brief(sqlite3_stmt *stmt, struct pfx_enrolment *e)
{
    e->id = sqlite3_column_int64(stmt, 0);
    e->user = pfx_col_text(stmt, 1);
    e->intune = pfx_col_text(stmt, 2);
    e->expires = sqlite3_column_int64(stmt, 3);
    e->order_id = sqlite3_column_int64(stmt, 4);
    e->revoked_at = sqlite3_column_int64(stmt, 5);
    e->ca_status = pfx_col_text(stmt, 6);
    e->revoke_asked = sqlite3_column_int64(stmt, 7);
    e->revoke_open = pfx_col_text(stmt, 8);
    e->parked = pfx_col_text(stmt, 9);
    e->exposed_at = sqlite3_column_int64(stmt, 10);
}

static pfx_result look(struct pfx_asker *asker, struct tally *t, sqlite3_stmt *stmt, int64_t now_ms,
                       struct pfx_error *err)
{
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct fate f = {.state = "nobody"};
    read_brief(stmt, &e);
    bool later = sqlite3_column_int64(stmt, 11) != 0, wanted = sqlite3_column_int64(stmt, 12) != 0;
    bool refused = e.revoke_open && strcmp(e.revoke_open, "refused") == 0;
    if (later || refused) {
        PFX_TRY(find_fate(asker, &e, now_ms, &f, err));
    } else {
        f.state = state_of(&e, wanted, now_ms);
        f.revocation = revocation_of(&e, false, now_ms);
    }
    count(t, &f);
    const char *next = next_step(&e, &f, e.exposed_at != 0 || asker->select.done == 0);
    return next || asker->select.state ? tell(asker, &e, now_ms, next, err) : PFX_OK;
}

/* asker->select: enrolment: generation; after: enrolment of the exposure that was looked at last;
 * state: not NULL: tell every one; done: the generation that is asked about, 0: those that are
 * compromised. *ret_end: none is left of this generation. */
static pfx_result page(struct pfx_asker *asker, struct tally *t, int64_t now_ms, bool *ret_end,
                       struct pfx_error *err)
{
    struct pfx_db *db = asker->agent->store->db;
    struct pfx_selection *s = &asker->select;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t until = pfx_uptime_ms() + STEP_MS;
    bool row = true;
    /* Of two compromised generations, it is told with the first. */
    PFX_TRY(pfx_db_select(
        db, err, &stmt,
        "SELECT e.id, e.user, e.intune, e.expires, e.order_id, e.revoked_at, e.ca_status,"
        " e.revoke_asked, e.revoke_open, e.parked, e.exposed_at,"
        " EXISTS(SELECT 1 FROM enrolment n INDEXED BY enrolment_user WHERE n.user = e.user"
        "  AND n.intune = e.intune AND n.id > e.id),"
        " (SELECT enabled FROM user WHERE id = e.user) AND EXISTS(SELECT 1 FROM member m"
        "  JOIN temp.rule_order o ON o.name = m.rule WHERE m.user = e.user"
        "  AND o.intune = e.intune),"
        " x.enrolment, ?3 AND EXISTS(SELECT 1 FROM exposure y JOIN generation g"
        "  ON g.generation = y.generation WHERE y.enrolment = x.enrolment"
        "  AND y.generation < x.generation AND g.compromised IS NOT NULL)"
        " FROM exposure x LEFT JOIN enrolment e INDEXED BY enrolment_fate"
        "  ON e.id = x.enrolment AND e.expires IS NOT NULL"
        " WHERE x.generation = ?1 AND x.enrolment > ?2 ORDER BY x.enrolment",
        PFX_PARAMS(P_INT(s->enrolment), P_INT(s->after), P_INT(s->done == 0))));
    do {
        PFX_TRY(pfx_db_next(db, stmt, &row, err));
        if (!row)
            break;
        s->after = sqlite3_column_int64(stmt, 13);
        bool certified = sqlite3_column_int64(stmt, 0) != 0;
        if (certified && sqlite3_column_int64(stmt, 14) == 0)
            PFX_TRY(look(asker, t, stmt, now_ms, err));
    } while (pfx_uptime_ms() < until);
    *ret_end = !row;
    return PFX_OK;
}

/* *ret_end: there is no other one. */
static pfx_result next_generation(struct pfx_asker *asker, bool *ret_end, struct pfx_error *err)
{
    struct pfx_selection *s = &asker->select;
    s->after = 0;
    if (!s->done)
        PFX_TRY(pfx_db_int(asker->agent->store->db, err, 0, &s->enrolment,
                           "SELECT min(generation) FROM generation WHERE compromised IS NOT NULL"
                           " AND generation > ?",
                           PFX_PARAMS(P_INT(s->enrolment))));
    *ret_end = s->done != 0 || s->enrolment == 0;
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
    pfx_result r = page(asker, t, now_ms, &over, &err);
    if (pfx_ok(r) && over)
        r = next_generation(asker, &over, &err);
    if (pfx_failed(r)) {
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
