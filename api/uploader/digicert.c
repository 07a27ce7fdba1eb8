/* DigiCert CertCentral Services API v2: placing and cancelling orders, and the table of jobs. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#include "api/uploader/text.h"

#define MAX_BODY (256 * 1024)

void pfx_digicert_call(struct pfx_task *task, const char *op, const char *method, char *path,
                       struct pfx_buf *body, enum pfx_expect expect, unsigned want,
                       pfx_then_fn then)
{
    struct pfx_call call = {
        .service = PFX_SERVICE_CA,
        .method = method,
        .url = pfx_asprintf("%s%s", pfx_task_up(task)->services[PFX_SERVICE_CA].url, path),
        .expect = expect,
        .want = want,
        .op = op,
    };
    free(path);
    if (body) {
        call.body = *body;
        *body = (struct pfx_buf){0};
    }
    pfx_task_call(task, &call, then);
}

void pfx_digicert_bad(struct pfx_task *task, const struct pfx_answer *answer,
                      const struct pfx_doc *doc)
{
    pfx_task_fail_content(task, answer, doc->why);
}

void pfx_digicert_set_status(struct pfx_msg *msg, const char *status, size_t max)
{
    char text[80];
    pfx_text_clean_str(text, max + 1 < sizeof text ? max + 1 : sizeof text, status);
    pfx_msg_set_str(msg, "status", text[0] ? text : "unknown");
}

/* Status of the order's first request, for what it is worth: the poll says what counts. */
static const char *request_status(struct pfx_doc *doc, const cJSON *root)
{
    for (const cJSON *item = root->child; item; item = item->next)
        if (item->string && strcmp(item->string, "requests") == 0 && cJSON_IsArray(item) &&
            cJSON_IsObject(item->child))
            return pfx_doc_str(doc, item->child, "status", PFX_DOC_MAY);
    return NULL;
}

/* From here on a certificate may have been bought: what can't be read is a lost answer. */
static void on_ordered(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    int64_t id = pfx_doc_int(&doc, root, "id", PFX_DOC_NEED);
    if (!doc.bad && id == 0)
        pfx_doc_wrong(&doc, "id", "is 0");
    if (doc.bad) {
        pfx_digicert_bad(task, answer, &doc);
        return;
    }
    /* The rest is welcome, and no reason to doubt the order. */
    int64_t certificate = pfx_doc_int(&doc, root, "certificate_id", PFX_DOC_MAY);
    const char *status = request_status(&doc, root);
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", id);
    if (certificate > 0)
        pfx_msg_set_int(result, "certificate_id", certificate);
    if (status && status[0])
        pfx_digicert_set_status(result, status, 32);
    pfx_task_ok(task, result);
}

static void order(struct pfx_task *task)
{
    const struct pfx_msg *job = pfx_task_body(task);
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_buf body = pfx_buf_make(MAX_BODY);
    pfx_result r = pfx_digicert_order_body(job, &body, &err);
    if (pfx_failed(r)) {
        pfx_buf_done(&body);
        pfx_task_fail(task, r, &err);
        return;
    }
    pfx_digicert_call(task, "order", "POST",
                      pfx_asprintf("/order/certificate/%s", pfx_msg_str(job, "product")), &body,
                      PFX_EXPECT_JSON, 0, on_ordered);
}

static void on_cancelled(struct pfx_task *task, const struct pfx_answer *answer)
{
    (void)answer;
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", pfx_msg_int(pfx_task_body(task), "order_id"));
    pfx_task_ok(task, result);
}

static void cancel(struct pfx_task *task)
{
    const struct pfx_msg *job = pfx_task_body(task);
    struct pfx_buf body = pfx_buf_make(MAX_BODY);
    pfx_buf_add_str(&body, "{");
    /* Lower case: the upper-case form of older clients isn't taken any longer. */
    pfx_doc_put_member(&body, "status", "canceled");
    pfx_doc_put_member(&body, "note", pfx_msg_str(job, "note"));
    pfx_buf_add_str(&body, "}");
    pfx_digicert_call(task, "cancel order", "PUT",
                      pfx_asprintf("/order/certificate/%lld/status",
                                   (long long)pfx_msg_int(job, "order_id")),
                      &body, PFX_EXPECT_NOTHING, 0, on_cancelled);
}

static const struct pfx_kind kinds[] = {
    {"up.order", order},
    {"up.order_settle", pfx_digicert_settle},
    {"up.order_changes", pfx_digicert_changes},
    {"up.order_info", pfx_digicert_info},
    {"up.order_validation", pfx_digicert_validation},
    {"up.order_cancel", cancel},
    {"up.download", pfx_digicert_download},
    {NULL, NULL},
};

const struct pfx_ca pfx_ca_digicert = {
    .name = "DigiCert",
    .url_option = "digicert.url",
    .auth_header = "X-DC-DEVKEY: ",
    .secret = "digicert",
    .explain = pfx_digicert_explain,
    .kinds = kinds,
};
