/* DigiCert: which orders the account has, and which of them changed. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#define MAX_PAGES 500
#define ACCOUNT "DigiCert's account"

struct list {
    const char *op;
    const char *id; /* the member with an order's number */
    bool nested;    /* its certificate is an object */
    size_t most;
    const char *over; /* what is said to more than that */
};

/* One order: its number, its status, and perhaps its certificate. */
static void add_order(const struct list *list, const cJSON *item, struct pfx_msg *result,
                      struct pfx_digicert_tally *tally)
{
    struct pfx_doc doc = {0};
    if (!cJSON_IsObject(item))
        pfx_doc_wrong(&doc, "orders", "has an entry that isn't an object");
    int64_t id = pfx_doc_int(&doc, item, list->id, PFX_DOC_NEED);
    const char *status = pfx_doc_str(&doc, item, "status", PFX_DOC_NEED);
    if (!doc.bad && id == 0)
        pfx_doc_wrong(&doc, list->id, "is 0");
    if (!pfx_digicert_count(tally, &doc))
        return;
    /* Without a readable certificate id the entry still says what matters. */
    const cJSON *of = list->nested ? pfx_doc_obj(&doc, item, "certificate", PFX_DOC_MAY) : item;
    const char *member = list->nested ? "id" : "certificate_id";
    int64_t certificate = pfx_doc_int(&doc, of, member, PFX_DOC_MAY);
    struct pfx_msg *order = pfx_msg_add_obj(result, "orders");
    pfx_msg_set_int(order, "order_id", id);
    if (certificate > 0)
        pfx_msg_set_int(order, "certificate_id", certificate);
    pfx_digicert_set_status(order, status, 64);
}

/* All of an answer's orders. False: the task has ended. */
static bool add_orders(struct pfx_task *task, const struct list *list,
                       const struct pfx_answer *answer, struct pfx_doc *doc, struct pfx_msg *result,
                       struct pfx_digicert_tally *tally)
{
    if (!pfx_task_json(task, answer, doc))
        return false;
    const cJSON *orders = pfx_doc_array(doc, pfx_doc_root(doc), "orders", PFX_DOC_MAY);
    if (doc->bad) {
        pfx_task_fail_content(task, answer, doc->why);
        return false;
    }
    for (const cJSON *item = orders ? orders->child : NULL; item; item = item->next) {
        if (tally->read + tally->odd >= list->most) {
            pfx_task_fail_as(task, PFX_CLASS_REFUSED, list->op, ACCOUNT, "", "%s", list->over);
            return false;
        }
        add_order(list, item, result, tally);
    }
    return true;
}

/* --- status changes --- */

static const struct list changes = {
    .op = "poll orders",
    .id = "order_id",
    .most = 60000,
    .over = "DigiCert lists more changes than can be taken: ask for fewer minutes "
            "(schedule.poll_every in agent.yaml).",
};

static void on_changes(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    struct pfx_digicert_tally tally = {0};
    if (!add_orders(task, &changes, answer, &doc, result, &tally))
        return;
    if (pfx_digicert_tolerable(&tally, "status changes"))
        pfx_task_ok(task, PFX_TAKE(result));
    else
        pfx_task_fail_content(task, answer, tally.why);
}

void pfx_digicert_changes(struct pfx_task *task)
{
    char *path = pfx_asprintf("/order/certificate/status-changes?minutes=%lld",
                              (long long)pfx_msg_int(pfx_task_body(task), "minutes"));
    pfx_digicert_call(task, changes.op, "GET", path, NULL, PFX_EXPECT_JSON, 0, on_changes);
}

/* --- every order --- */

static const struct list orders = {
    .op = "list orders",
    .id = "id",
    .nested = true,
    .most = 5000, /* of one page, if the limit that was asked for is ignored */
    .over = "DigiCert sends more orders on one page than were asked for, and than can be taken; "
            "report this as a defect.",
};

/* The page that a job names: how many came before it, how many orders those held, and the first
 * order of the last of them, by which a list that doesn't go on is noticed. */
struct place {
    long long pages, offset, first;
};

static bool read_place(const char *text, struct place *ret_place)
{
    struct place place = {0};
    int end = 0;
    if (text && (strlen(text) > 60 ||
                 sscanf(text, "%18lld:%18lld:%18lld%n", &place.pages, &place.offset, &place.first,
                        &end) != 3 ||
                 text[end] != '\0' || place.pages < 1 || place.offset < 1 || place.first < 1))
        return false;
    *ret_place = place;
    return true;
}

static void on_orders(struct pfx_task *task, const struct pfx_answer *answer)
{
    const struct place *at = pfx_task_get(task);
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    struct pfx_digicert_tally tally = {0};
    if (!add_orders(task, &orders, answer, &doc, result, &tally))
        return;
    /* Behind a page that could be read, one that can't be may be a single odd entry at the end. */
    if (!pfx_digicert_tolerable(&tally, "order list") && at->pages == 0) {
        pfx_task_fail_content(task, answer, tally.why);
        return;
    }
    long long listed = (long long)tally.read + (long long)tally.odd;
    long long first =
        tally.read > 0 ? pfx_msg_int(pfx_msg_obj_at(result, "orders", 0), "order_id") : at->first;
    if (pfx_digicert_more(pfx_doc_root(&doc), listed, at->offset + listed)) {
        if (tally.read > 0 && first == at->first) {
            pfx_task_fail_as(task, PFX_CLASS_REFUSED, orders.op, ACCOUNT, "",
                             "DigiCert sends the same page of orders again instead of the next "
                             "one; nothing was taken from it.");
            return;
        }
        if (at->pages + 1 >= MAX_PAGES) {
            pfx_task_fail_as(task, PFX_CLASS_REFUSED, orders.op, ACCOUNT, "",
                             "DigiCert's list of orders doesn't end after %d pages.", MAX_PAGES);
            return;
        }
        char next[80];
        snprintf(next, sizeof next, "%lld:%lld:%lld", at->pages + 1, at->offset + listed, first);
        pfx_msg_set_str(result, "page", next);
    }
    pfx_task_ok(task, PFX_TAKE(result));
}

/* No filter, since those are sometimes ignored: whoever reads the list looks for its own orders. */
void pfx_digicert_orders(struct pfx_task *task)
{
    struct place *at = pfx_task_state(task, sizeof *at, NULL);
    if (!read_place(pfx_msg_str(pfx_task_body(task), "page"), at)) {
        pfx_task_fail_as(task, PFX_CLASS_USAGE, orders.op, "page", "",
                         "The job's page isn't one that a list gave.");
        return;
    }
    char *path = pfx_asprintf("/order/certificate?sort=-date_created&offset=%lld&limit=%d",
                              at->offset, PFX_DIGICERT_PAGE);
    pfx_digicert_call(task, orders.op, "GET", path, NULL, PFX_EXPECT_JSON, 0, on_orders);
}
