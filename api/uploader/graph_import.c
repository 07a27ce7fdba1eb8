/*
 * Graph: a record into Intune, new or over an old one, never twice.
 *
 *   GET by id -- 200 --> PATCH
 *            \-- 404 --> POST -- 201 --> its id is compared
 *                             \- 400, 409 --> GET again -- 200 --> PATCH (it was there after all)
 *                                                       \- 404 --> the POST's refusal counts
 *
 * It looks first in any case, so the settling variant is the same job.
 */
#include "api/uploader/graph.h"

#include <string.h>
#include <strings.h>

#define MAX_BODY (1024 * 1024)

struct import {
    bool again; /* the POST was refused; is the record there? */
    pfx_result refusal;
    struct pfx_error refused;
};

static void answer_imported(struct pfx_task *task, bool updated)
{
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_str(result, "record_id", pfx_msg_str(pfx_task_body(task), "record_id"));
    pfx_msg_set_bool(result, "updated", updated);
    pfx_task_ok(task, result);
}

/* Reads the id of the record that the service says it wrote. False: the task has ended. Another id
 * than expected means that the record is another user's or certificate's: not a matter of trying
 * again. */
static bool check_id(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return false;
    const char *id = pfx_doc_str(&doc, pfx_doc_root(&doc), "id", PFX_DOC_NEED);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return false;
    }
    const char *want = pfx_msg_str(pfx_task_body(task), "record_id");
    if (strcasecmp(id, want) == 0)
        return true;
    pfx_task_fail_as(task, PFX_CLASS_INTEGRITY, "import", want, "",
                     "Intune has the record under another id than object id and thumbprint give: "
                     "look at it in Intune before anything else.");
    return false;
}

static void on_patched(struct pfx_task *task, const struct pfx_answer *answer)
{
    if (answer->status == 404) {
        /* Deleted since it was read; nothing was written, and the next try makes it anew. */
        pfx_task_fail_as(task, PFX_CLASS_TRANSIENT, "import",
                         pfx_msg_str(pfx_task_body(task), "record_id"), "HTTP 404",
                         "The record was deleted in Intune while it was being updated; it is made "
                         "anew.");
        return;
    }
    if (answer->status == 204 || check_id(task, answer))
        answer_imported(task, true);
}

static void on_posted(struct pfx_task *task, const struct pfx_answer *answer);
static void on_looked(struct pfx_task *task, const struct pfx_answer *answer);

static void send_record(struct pfx_task *task, const char *method, char *url, unsigned want,
                        pfx_then_fn then)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_buf body = pfx_buf_make(MAX_BODY);
    pfx_result r = pfx_graph_record_body(pfx_task_body(task), &body, &err);
    if (pfx_failed(r)) {
        pfx_buf_done(&body);
        free(url);
        pfx_task_fail(task, r, &err);
        return;
    }
    pfx_graph_call(task, "import", method, url, &body, PFX_EXPECT_JSON, want, then);
}

static void look(struct pfx_task *task)
{
    pfx_graph_call(task, "import", "GET", pfx_graph_record_url(task), NULL, PFX_EXPECT_JSON,
                   PFX_WANT_404, on_looked);
}

static void on_looked(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct import *state = pfx_task_get(task);
    if (answer->status != 404) {
        if (check_id(task, answer))
            send_record(task, "PATCH", pfx_graph_record_url(task), PFX_WANT_404, on_patched);
    } else if (state->again) {
        pfx_task_fail(task, state->refusal, &state->refused);
    } else {
        char *url = pfx_asprintf("%s" PFX_GRAPH_RECORDS,
                                 pfx_task_up(task)->services[PFX_SERVICE_GRAPH].url);
        send_record(task, "POST", url, PFX_WANT_CONFLICT, on_posted);
    }
}

static void on_posted(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct import *state = pfx_task_get(task);
    if (answer->status == 400 || answer->status == 409) {
        /* What Intune answers for an id that exists isn't documented: look whether it does. */
        state->again = true;
        state->refusal = pfx_task_refusal(task, answer, &state->refused);
        look(task);
        return;
    }
    if (check_id(task, answer))
        answer_imported(task, false);
}

void pfx_graph_import(struct pfx_task *task)
{
    if (!pfx_graph_record_fits(task, "import"))
        return;
    pfx_task_state(task, sizeof(struct import), NULL);
    look(task);
}
