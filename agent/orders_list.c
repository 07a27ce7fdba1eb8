/* The CA's list of all orders, page by page: what its news, which reach back seven days, can't tell
 * after a longer gap. The job in the outbox holds the page, so a restart goes on where it was;
 * there is one job at most. What the list doesn't have is asked for one by one, slowly. */
#include "agent/orders.h"
#include "agent/steps.h"
#include "agent/timing.h"

#define SCOPE "orders/list"
#define MOST_PAGES 2000
#define SINGLE_EVERY (5 * PFX_SECOND)
/* Ours of which this reading has to say something. ?1: its number */
#define WANTED                                                                                     \
    " FROM enrolment WHERE order_id IS NOT NULL AND listed < ?1 AND ordered_at <= ?1"              \
    " AND state IN (" PFX_ORDER_STATES ") AND (expires IS NULL OR expires > ?1)"

static pfx_result put_page(struct pfx_agent *agent, const char *page, int64_t not_before_ms,
                           int64_t now_ms, struct pfx_error *err)
{
    struct pfx_msg *body PFX_AUTOMSG =
        pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.orders")->request);
    if (page)
        pfx_msg_set_str(body, "page", page);
    return pfx_outbox_add_body(agent->store, SCOPE, "up.orders", body, not_before_ms, now_ms, err);
}

pfx_result pfx_orders_list(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    int64_t last, going;
    PFX_TRY(pfx_db_int(agent->store->db, err, 0, &going,
                       "SELECT count(*) FROM job WHERE scope = '" SCOPE "'", PFX_NO_PARAMS));
    if (going)
        return PFX_OK;
    PFX_TRY(pfx_meta_get(agent->store, "list_no", &last, err));
    PFX_TRY(pfx_meta_set(agent->store, "list_no", now_ms > last ? now_ms : last + 1, err));
    PFX_TRY(pfx_meta_set(agent->store, "list_pages", 0, err));
    PFX_TRY(pfx_note(agent->store, now_ms, 0, NULL, err,
                     "the last news of the CA are older than it can look back: its list of orders "
                     "is read"));
    return put_page(agent, NULL, now_ms, now_ms, err);
}

static pfx_result finish(struct pfx_agent *agent, int64_t list, int64_t pages, int64_t now_ms,
                         struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t left;
    PFX_TRY(pfx_db_exec(db, err, &left,
                        "UPDATE enrolment SET info_at = ?2 + n * ?3 FROM (SELECT id AS wanted,"
                        " row_number() OVER (ORDER BY id) AS n" WANTED ") WHERE id = wanted",
                        PFX_PARAMS(P_INT(list), P_INT(now_ms), P_INT(SINGLE_EVERY))));
    PFX_TRY(pfx_db_exec(db, err, NULL,
                        "UPDATE enrolment INDEXED BY enrolment_uncovered SET covered = 1"
                        " WHERE covered = 0"
                        " AND order_id IS NOT NULL AND ordered_at <= ?",
                        PFX_PARAMS(P_INT(list))));
    /* A poll that fails meanwhile looks back from here, and doesn't have the list read again. */
    PFX_TRY(pfx_meta_set(agent->store, "list_ok", list, err));
    PFX_TRY(pfx_trouble_clear(agent->store, "orders", err));
    return pfx_note(agent->store, now_ms, 0, NULL, err,
                    "the CA's list is read: %lld pages; %lld orders aren't in it and are asked for "
                    "one by one",
                    (long long)pages, (long long)left);
}

pfx_result pfx_orders_listed(struct pfx_agent *agent, const struct pfx_answer *answer,
                             struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t list, pages, left;
    if (pfx_steps_passing(answer->fail.cls))
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, answer->job->id, err));
    if (answer->fail.cls != PFX_CLASS_OK) {
        /* From the first page on: it may be the page that the CA doesn't know any more. */
        PFX_TRY(pfx_trouble_set(agent->store, "orders", answer->now_ms, &answer->fail, err));
        return put_page(agent, NULL, answer->now_ms + agent->conf->retry_max_ms, answer->now_ms,
                        err);
    }
    PFX_TRY(pfx_meta_get(agent->store, "list_no", &list, err));
    PFX_TRY(pfx_meta_get(agent->store, "list_pages", &pages, err));
    PFX_TRY(pfx_meta_set(agent->store, "list_pages", ++pages, err));
    for (size_t i = 0; i < pfx_msg_count(answer->body, "orders"); i++) {
        const struct pfx_msg *order = pfx_msg_obj_at(answer->body, "orders", i);
        int64_t id;
        PFX_TRY(pfx_orders_apply(agent, order, answer->now_ms, &id, err));
        if (id)
            PFX_TRY(pfx_db_exec(db, err, NULL, "UPDATE enrolment SET listed = ? WHERE id = ?",
                                PFX_PARAMS(P_INT(list), P_INT(id))));
    }
    const char *page = pfx_msg_str(answer->body, "page");
    PFX_TRY(pfx_db_int(db, err, 0, &left, "SELECT EXISTS(SELECT 1" WANTED ")",
                       PFX_PARAMS(P_INT(list))));
    if (page && left && pages < MOST_PAGES)
        return put_page(agent, page, answer->now_ms, answer->now_ms, err);
    return finish(agent, list, pages, answer->now_ms, err);
}
