/* DigiCert: how one order stands, and its certificate. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#include "api/uploader/text.h"

#define MAX_ADDRESSES 64

/* --- one order --- */

static void on_info(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    int64_t id = pfx_doc_int(&doc, root, "id", PFX_DOC_NEED);
    const char *status = pfx_doc_str(&doc, root, "status", PFX_DOC_NEED);
    const cJSON *certificate = pfx_doc_obj(&doc, root, "certificate", PFX_DOC_MAY);
    int64_t certificate_id = pfx_doc_int(&doc, certificate, "id", PFX_DOC_MAY);
    if (!doc.bad && id != pfx_msg_int(pfx_task_body(task), "order_id"))
        pfx_doc_wrong(&doc, "id", "is another order's than the one asked for");
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", id);
    if (certificate_id > 0)
        pfx_msg_set_int(result, "certificate_id", certificate_id);
    pfx_digicert_set_status(result, status, 64);
    pfx_task_ok(task, result);
}

void pfx_digicert_info(struct pfx_task *task)
{
    pfx_digicert_call(task, "read order", "GET", pfx_digicert_order_path(task, ""), NULL,
                      PFX_EXPECT_JSON, 0, on_info);
}

static void on_validation(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    const cJSON *root = pfx_doc_root(&doc);
    const cJSON *emails = pfx_doc_array(&doc, root, "emails", PFX_DOC_MAY);
    size_t n = 0;
    for (const cJSON *item = emails ? emails->child : NULL; item && !doc.bad; item = item->next) {
        const char *email = pfx_doc_str(&doc, item, "email", PFX_DOC_NEED);
        const char *status = pfx_doc_str(&doc, item, "status", PFX_DOC_NEED);
        if (++n > MAX_ADDRESSES)
            pfx_doc_wrong(&doc, "emails", "has too many entries");
        if (!doc.bad && (email[0] == '\0' || strlen(email) > 254))
            pfx_doc_wrong(&doc, "email", "isn't an address");
        if (doc.bad)
            break;
        char text[260];
        pfx_text_clean_str(text, 255, email);
        bool validated = strcmp(status, "validated") == 0;
        pfx_msg_add_str(result, validated ? "validated" : "unvalidated", text);
    }
    if (doc.bad)
        pfx_task_fail_content(task, answer, doc.why);
    else
        pfx_task_ok(task, PFX_TAKE(result));
}

void pfx_digicert_validation(struct pfx_task *task)
{
    pfx_digicert_call(task, "read email validation", "GET",
                      pfx_digicert_order_path(task, "/email-validation"), NULL, PFX_EXPECT_JSON, 0,
                      on_validation);
}

/* --- download --- */

/* pem_all first: certificates one by one, where p7b's label and form differ between reports. */
static const char *const formats[] = {"pem_all", "p7b"};
struct download {
    size_t format;
};
static void next_format(struct pfx_task *task);

/* PEM or DER, whatever is in it. Other content was mostly spoiled on the way. */
static bool is_bundle(struct pfx_bytes body)
{
    static const char mark[] = "-----BEGIN ";
    return body.len == 0 || body.data[0] == 0x30 ||
           memmem(body.data, body.len, mark, sizeof mark - 1) != NULL;
}

static void on_bundle(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct download *state = pfx_task_get(task);
    if (answer->status >= 400) {
        if (++state->format < sizeof formats / sizeof formats[0])
            next_format(task);
        else
            pfx_task_fail_status(task, answer);
        return;
    }
    if (!is_bundle(answer->body)) {
        pfx_task_spoiled(task, answer, "it holds no certificate");
        return;
    }
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    struct pfx_error cause = PFX_ERROR_NONE;
    if (pfx_ok(pfx_digicert_pick(answer->body, pfx_msg_blob(pfx_task_body(task), "spki"), result,
                                 &cause))) {
        pfx_task_ok(task, PFX_TAKE(result));
        return;
    }
    char object[80];
    char line[400];
    snprintf(object, sizeof object, "order %lld",
             (long long)pfx_msg_int(pfx_task_body(task), "order_id"));
    pfx_task_fail_as(task, cause.cls, "download", object, cause.code,
                     "The certificate of this order that DigiCert sends can't be used: %s",
                     pfx_error_line(&cause, line, sizeof line));
}

static void next_format(struct pfx_task *task)
{
    const struct download *state = pfx_task_get(task);
    char *path = pfx_asprintf("/certificate/download/order/%lld/format/%s",
                              (long long)pfx_msg_int(pfx_task_body(task), "order_id"),
                              formats[state->format]);
    pfx_digicert_call(task, "download", "GET", path, NULL, PFX_EXPECT_CERTIFICATES, PFX_WANT_4XX,
                      on_bundle);
}

void pfx_digicert_download(struct pfx_task *task)
{
    pfx_task_state(task, sizeof(struct download), NULL);
    next_format(task);
}
