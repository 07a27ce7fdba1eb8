/*
 * Graph: a record out of Intune, and a look whether it went.
 *
 *   DELETE by id -- 404 --> gone
 *               \-- 2xx --> GET by id -- 404 --> gone
 *                                    \- 200 --> still there: the same again later
 *
 * Records that stay after a DELETE that was answered well are a known complaint, so the answer to
 * DELETE isn't taken for the fact. All of it may be repeated.
 */
#include "api/uploader/graph.h"

static void tell(struct pfx_task *task, bool gone)
{
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_bool(result, "gone", gone);
    pfx_task_ok(task, result);
}

static void on_looked(struct pfx_task *task, const struct pfx_answer *answer)
{
    if (answer->status == 404) {
        tell(task, true);
        return;
    }
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    pfx_graph_check_record(task, &doc);
    if (doc.bad)
        pfx_task_fail_content(task, answer, doc.why);
    else
        tell(task, false);
}

static void on_deleted(struct pfx_task *task, const struct pfx_answer *answer)
{
    if (answer->status == 404)
        tell(task, true);
    else
        pfx_graph_call(task, "remove", "GET", pfx_graph_record_url(task), NULL, PFX_EXPECT_JSON,
                       PFX_WANT_404, on_looked);
}

void pfx_graph_remove(struct pfx_task *task)
{
    if (!pfx_graph_record_fits(task, "remove"))
        return;
    pfx_graph_call(task, "remove", "DELETE", pfx_graph_record_url(task), NULL, PFX_EXPECT_NOTHING,
                   PFX_WANT_404, on_deleted);
}
