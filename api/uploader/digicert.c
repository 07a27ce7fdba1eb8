/* DigiCert CertCentral Services API v2: placing, cancelling and revoking, and the table of jobs. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/uploader/text.h"
#include "crypto/csr.h"

#define MAX_BODY (256 * 1024)
#define MAX_CHAIN (512 * 1024)

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

void pfx_digicert_set_status(struct pfx_msg *msg, const char *status, size_t max)
{
    char text[80];
    pfx_text_clean_str(text, max + 1 < sizeof text ? max + 1 : sizeof text, status);
    pfx_msg_set_str(msg, "status", text[0] ? text : "unknown");
}

char *pfx_digicert_order_path(const struct pfx_task *task, const char *rest)
{
    return pfx_asprintf("/order/certificate/%lld%s",
                        (long long)pfx_msg_int(pfx_task_body(task), "order_id"), rest);
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

/* The certificate of an order that is issued at once: the answer's PEMs, of which the one of our
 * key is the leaf. The result is unchanged where they aren't there or can't be used: then the order
 * is polled and the certificate downloaded like any other. */
static pfx_result take_chain(struct pfx_task *task, const cJSON *root, struct pfx_msg *result,
                             struct pfx_error *err)
{
    struct pfx_doc aside = {0}; /* what is wrong here is no reason to doubt the order */
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pems = pfx_buf_make(MAX_CHAIN);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(8192);
    const cJSON *chain = pfx_doc_array(&aside, root, "certificate_chain", PFX_DOC_MAY);
    for (const cJSON *item = chain ? chain->child : NULL; item; item = item->next) {
        const char *pem = pfx_doc_str(&aside, item, "pem", PFX_DOC_MAY);
        if (pem) {
            pfx_buf_add_str(&pems, pem);
            pfx_buf_add_str(&pems, "\n");
        }
    }
    if (pems.len == 0 && !aside.bad && (!chain || !chain->child))
        return PFX_OK;
    PFX_TRY(pfx_csr_spki(pfx_msg_blob(pfx_task_body(task), "csr"), &spki, err));
    PFX_TRY(pfx_digicert_pick(pfx_buf_bytes(&pems), pfx_buf_bytes(&spki), result, err));
    /* No public CA issues by its root: without an issuer the others are of another chain. */
    if (pfx_msg_count(result, "chain") == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "order", "certificate_chain", "",
                        "The certificate's issuer isn't among them.");
    /* More certificates, or longer ones, than a result takes: not worth an order. */
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(pfx_msg_schema(result)->ceiling);
    return pfx_msg_encode(result, false, &text, err);
}

static struct pfx_msg *order_result(struct pfx_task *task, int64_t id, int64_t certificate,
                                    const char *status)
{
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", id);
    if (certificate > 0)
        pfx_msg_set_int(result, "certificate_id", certificate);
    if (status && status[0])
        pfx_digicert_set_status(result, status, 32);
    return result;
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
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    /* The rest is welcome, and no reason to doubt the order. */
    int64_t certificate = pfx_doc_int(&doc, root, "certificate_id", PFX_DOC_MAY);
    const char *status = request_status(&doc, root);
    PFX_AUTOMSG struct pfx_msg *result = order_result(task, id, certificate, status);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(take_chain(task, root, result, &err))) {
        pfx_log_error(&err,
                      "order %lld: the certificate in the answer is left out, and downloaded "
                      "later",
                      (long long)id);
        pfx_msg_free(result);
        result = order_result(task, id, certificate, status);
    }
    pfx_task_ok(task, PFX_TAKE(result));
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

static void on_done(struct pfx_task *task, const struct pfx_answer *answer)
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
    pfx_digicert_call(task, "cancel order", "PUT", pfx_digicert_order_path(task, "/status"), &body,
                      PFX_EXPECT_NOTHING, 0, on_done);
}

/* Documented for TLS orders only; where S/MIME orders don't have it, the 4xx says so. */
static void resend(struct pfx_task *task)
{
    struct pfx_buf body = pfx_buf_make(MAX_BODY);
    pfx_buf_add_str(&body, "{}");
    pfx_digicert_call(task, "resend validation mail", "PUT",
                      pfx_digicert_order_path(task, "/resend-emails"), &body, PFX_EXPECT_NOTHING, 0,
                      on_done);
}

/* 204: revoked. 201: a request that somebody has to approve, whatever skip_approval said. */
static void on_revoked(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    const char *status = NULL;
    if (answer->status != 204 && pfx_doc_parse(answer->body, &doc, why))
        status = pfx_doc_str(&doc, pfx_doc_root(&doc), "status", PFX_DOC_MAY);
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", pfx_msg_int(pfx_task_body(task), "order_id"));
    pfx_msg_set_bool(result, "pending",
                     answer->status != 204 && !(status && strcmp(status, "approved") == 0));
    pfx_task_ok(task, result);
}

static void revoke(struct pfx_task *task)
{
    const struct pfx_msg *job = pfx_task_body(task);
    struct pfx_buf body = pfx_buf_make(MAX_BODY);
    pfx_buf_add_str(&body, "{");
    pfx_doc_put_member(&body, "comments", pfx_msg_str(job, "comment"));
    pfx_doc_put_name(&body, "skip_approval");
    pfx_buf_add_str(&body, "true}");
    /* By the certificate where its id is known: an order could have got others by hand. */
    char *path = pfx_msg_has(job, "certificate_id")
                     ? pfx_asprintf("/certificate/%lld/revoke",
                                    (long long)pfx_msg_int(job, "certificate_id"))
                     : pfx_digicert_order_path(task, "/revoke");
    pfx_digicert_call(task, "revoke", "PUT", path, &body, PFX_EXPECT_NOTHING, 0, on_revoked);
}

static const struct pfx_kind kinds[] = {
    {"up.order", order},
    {"up.order_settle", pfx_digicert_settle},
    {"up.order_changes", pfx_digicert_changes},
    {"up.orders", pfx_digicert_orders},
    {"up.order_info", pfx_digicert_info},
    {"up.order_validation", pfx_digicert_validation},
    {"up.order_resend", resend},
    {"up.order_cancel", cancel},
    {"up.order_revoke", revoke},
    {"up.setup_ca", pfx_digicert_setup},
    {"up.download", pfx_digicert_download},
    {NULL, NULL},
};

static struct pfx_ca_conf ca_conf(const struct pfx_uploader_conf *conf)
{
    return (struct pfx_ca_conf){conf->digicert_url, {conf->digicert_short, conf->digicert_long}};
}

const struct pfx_ca pfx_ca_digicert = {
    .name = "DigiCert",
    .url_option = "digicert.url",
    .auth_header = "X-DC-DEVKEY: ",
    .secret = "digicert",
    .conf = ca_conf,
    .explain = pfx_digicert_explain,
    .kinds = kinds,
};
