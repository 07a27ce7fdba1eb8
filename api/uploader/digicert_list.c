/* DigiCert: which orders the account has, and which of them changed. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#define MAX_CHANGES 60000
#define MAX_ENTRIES 5000 /* of one page, if the limit that was asked for is ignored */
#define MAX_PAGES 500

static void too_many(struct pfx_task *task, const char *op, const char *text)
{
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_task_fail(task, pfx_fail(&err, PFX_CLASS_REFUSED, op, "DigiCert's account", "", "%s", text),
                  &err);
}

/* One order of a list: its number under id_name, its status, and perhaps its certificate. */
static void add_order(struct pfx_msg *result, struct pfx_digicert_tally *tally, const cJSON *item,
                      const char *id_name, bool nested)
{
    struct pfx_doc doc = {0};
    if (!cJSON_IsObject(item))
        pfx_doc_wrong(&doc, "orders", "has an entry that isn't an object");
    int64_t id = pfx_doc_int(&doc, item, id_name, PFX_DOC_NEED);
    const char *status = pfx_doc_str(&doc, item, "status", PFX_DOC_NEED);
    if (!doc.bad && id == 0)
        pfx_doc_wrong(&doc, id_name, "is 0");
    if (!pfx_digicert_count(tally, &doc))
        return;
    /* Without a readable certificate id the entry still says what matters. */
    const cJSON *of = nested ? pfx_doc_obj(&doc, item, "certificate", PFX_DOC_MAY) : item;
    int64_t certificate = pfx_doc_int(&doc, of, nested ? "id" : "certificate_id", PFX_DOC_MAY);
    struct pfx_msg *order = pfx_msg_add_obj(result, "orders");
    pfx_msg_set_int(order, "order_id", id);
    if (certificate > 0)
        pfx_msg_set_int(order, "certificate_id", certificate);
    pfx_digicert_set_status(order, status, 64);
}

/* --- status changes --- */

static void on_changes(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    const cJSON *orders = pfx_doc_array(&doc, pfx_doc_root(&doc), "orders", PFX_DOC_MAY);
    if (doc.bad) {
        pfx_digicert_bad(task, answer, &doc);
        return;
    }
    struct pfx_digicert_tally tally = {0};
    for (const cJSON *item = orders ? orders->child : NULL; item; item = item->next) {
        if (tally.read + tally.odd >= MAX_CHANGES) {
            too_many(task, "poll orders",
                     "DigiCert lists more changes than can be taken: ask for "
                     "fewer minutes (schedule.poll_every in agent.yaml).");
            return;
        }
        add_order(result, &tally, item, "order_id", false);
    }
    if (pfx_digicert_tolerable(&tally, "status changes"))
        pfx_task_ok(task, PFX_TAKE(result));
    else
        pfx_task_fail_content(task, answer, tally.why);
}

void pfx_digicert_changes(struct pfx_task *task)
{
    char *path = pfx_asprintf("/order/certificate/status-changes?minutes=%lld",
                              (long long)pfx_msg_int(pfx_task_body(task), "minutes"));
    pfx_digicert_call(task, "poll orders", "GET", path, NULL, PFX_EXPECT_JSON, 0, on_changes);
}

/* --- every order --- */

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
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    const cJSON *root = pfx_doc_root(&doc);
    const cJSON *orders = pfx_doc_array(&doc, root, "orders", PFX_DOC_MAY);
    if (doc.bad) {
        pfx_digicert_bad(task, answer, &doc);
        return;
    }
    struct pfx_digicert_tally tally = {0};
    for (const cJSON *item = orders ? orders->child : NULL; item; item = item->next) {
        if (tally.read + tally.odd >= MAX_ENTRIES) {
            too_many(task, "list orders",
                     "DigiCert sends more orders on one page than were asked "
                     "for, and than can be taken; report this as a defect.");
            return;
        }
        add_order(result, &tally, item, "id", true);
    }
    /* Behind a page that could be read, one that can't be may be a single odd entry at the end. */
    if (!pfx_digicert_tolerable(&tally, "order list") && at->pages == 0) {
        pfx_task_fail_content(task, answer, tally.why);
        return;
    }
    long long listed = (long long)(tally.read + tally.odd);
    long long first =
        tally.read > 0 ? pfx_msg_int(pfx_msg_obj_at(result, "orders", 0), "order_id") : at->first;
    if (pfx_digicert_more(root, listed, at->offset + listed)) {
        if (tally.read > 0 && first == at->first) {
            too_many(task, "list orders",
                     "DigiCert sends the same page of orders again instead of "
                     "the next one; nothing was taken from it.");
            return;
        }
        if (at->pages + 1 >= MAX_PAGES) {
            too_many(task, "list orders", "DigiCert's list of orders doesn't end after 500 pages.");
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
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_task_fail(task,
                      pfx_fail(&err, PFX_CLASS_USAGE, "list orders", "page", "",
                               "The job's page isn't one that a list gave."),
                      &err);
        return;
    }
    char *path = pfx_asprintf("/order/certificate?sort=-date_created&offset=%lld&limit=%d",
                              at->offset, PFX_DIGICERT_PAGE);
    pfx_digicert_call(task, "list orders", "GET", path, NULL, PFX_EXPECT_JSON, 0, on_orders);
}
