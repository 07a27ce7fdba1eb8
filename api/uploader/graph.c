/* Graph: the members of a group, and Intune's records; importing them is in graph_import.c. */
#include "api/uploader/graph.h"

#include <string.h>
#include <strings.h>

#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define MAX_USERS 1000
#define MAX_RECORDS 5000
#define SELECT                                                                                     \
    "id,accountEnabled,displayName,givenName,surname,mail,userPrincipalName,proxyAddresses,"      \
    "department,employeeHireDate"

static const char *graph_url(struct pfx_task *task)
{
    return pfx_task_up(task)->services[PFX_SERVICE_GRAPH].url;
}

void pfx_graph_call(struct pfx_task *task, const char *op, const char *method, char *url,
                    struct pfx_buf *body, enum pfx_expect expect, unsigned want, pfx_then_fn then)
{
    struct pfx_call call = {
        .service = PFX_SERVICE_GRAPH,
        .method = method,
        .url = url,
        .expect = expect,
        .want = want,
        .op = op,
    };
    if (body) {
        call.body = *body;
        *body = (struct pfx_buf){0};
    }
    pfx_task_call(task, &call, then);
}

char *pfx_graph_record_url(struct pfx_task *task)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf id = pfx_buf_make(1024);
    pfx_url_encode(&id, pfx_msg_str(pfx_task_body(task), "record_id"));
    return pfx_asprintf("%s" PFX_GRAPH_RECORDS "/%s", graph_url(task), pfx_buf_str(&id));
}

/* --- pages --- */

/* The page that the job names, or else first (taken over). NULL: the task has ended. The job's page
 * is checked as strictly as a link in an answer: pfx-agentd names no hosts either. */
static char *page_url(struct pfx_task *task, const char *op, const char *below, char *first)
{
    const char *page = pfx_msg_str(pfx_task_body(task), "page");
    if (!page)
        return first;
    free(first);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_url_within(graph_url(task), below, page, op, &err);
    if (pfx_failed(r)) {
        pfx_task_fail(task, r, &err);
        return NULL;
    }
    return pfx_strdup(page);
}

/* Sets the result's page from the answer's nextLink. False: the task has ended. */
static bool set_page(struct pfx_task *task, const struct pfx_answer *answer, struct pfx_doc *doc,
                     const cJSON *root, const char *op, const char *below, struct pfx_msg *result)
{
    const char *link = pfx_doc_str(doc, root, "@odata.nextLink", PFX_DOC_MAY);
    if (doc->bad) {
        pfx_task_fail_content(task, answer, doc->why);
        return false;
    }
    if (!link || !link[0])
        return true;
    if (strcmp(link, answer->url) == 0 || strlen(link) > 8192) {
        pfx_task_fail_content(task, answer, "the link to the next page leads to the same page");
        return false;
    }
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_url_within(graph_url(task), below, link, op, &err);
    if (pfx_failed(r)) {
        pfx_task_fail(task, r, &err);
        return false;
    }
    pfx_msg_set_str(result, "page", link);
    return true;
}

/* --- members --- */

static bool is_user(struct pfx_doc *doc, const cJSON *item)
{
    const char *type = pfx_doc_str(doc, item, "@odata.type", PFX_DOC_MAY);
    return !type || strcasecmp(type, "#microsoft.graph.user") == 0;
}

static void on_members(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    const cJSON *root = pfx_doc_root(&doc);
    const cJSON *value = pfx_doc_array(&doc, root, "value", PFX_DOC_NEED);
    size_t n = 0;
    for (const cJSON *item = value ? value->child : NULL; item && !doc.bad; item = item->next) {
        if (!cJSON_IsObject(item))
            pfx_doc_wrong(&doc, "value", "has an entry that isn't an object");
        else if (++n > MAX_USERS)
            pfx_doc_wrong(&doc, "value", "has more than 1000 entries");
        else if (is_user(&doc, item))
            pfx_graph_read_member(&doc, item, pfx_msg_add_obj(result, "users"));
    }
    if (doc.bad)
        pfx_task_fail_content(task, answer, doc.why);
    else if (set_page(task, answer, &doc, root, "read group", "/v1.0/groups", result))
        pfx_task_ok(task, PFX_TAKE(result));
}

static void members(struct pfx_task *task)
{
    const char *group = pfx_msg_str(pfx_task_body(task), "group");
    if (!pfx_text_is_guid(group)) {
        struct pfx_error err = PFX_ERROR_NONE;
        char shown[80];
        pfx_task_fail(task, pfx_fail(&err, PFX_CLASS_USAGE, "read group",
                                     pfx_text_clean_str(shown, sizeof shown, group), "",
                                     "This isn't a group's object id; see the rule in agent.yaml."),
                      &err);
        return;
    }
    char *url = page_url(task, "read group", "/v1.0/groups",
                         pfx_asprintf("%s/v1.0/groups/%s/transitiveMembers/microsoft.graph.user"
                                      "?$select=" SELECT "&$top=999", graph_url(task), group));
    if (url)
        pfx_graph_call(task, "read group", "GET", url, NULL, PFX_EXPECT_JSON, 0, on_members);
}

/* --- records --- */

static void on_records(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    const cJSON *root = pfx_doc_root(&doc);
    const cJSON *value = pfx_doc_array(&doc, root, "value", PFX_DOC_NEED);
    size_t n = 0;
    for (const cJSON *item = value ? value->child : NULL; item && !doc.bad; item = item->next) {
        if (!cJSON_IsObject(item))
            pfx_doc_wrong(&doc, "value", "has an entry that isn't an object");
        else if (++n > MAX_RECORDS)
            pfx_doc_wrong(&doc, "value", "has more than 5000 entries");
        else
            pfx_graph_read_record(&doc, item, pfx_msg_add_obj(result, "records"));
    }
    if (doc.bad)
        pfx_task_fail_content(task, answer, doc.why);
    else if (set_page(task, answer, &doc, root, "list records", PFX_GRAPH_RECORDS, result))
        pfx_task_ok(task, PFX_TAKE(result));
}

static void records(struct pfx_task *task)
{
    char *url = page_url(task, "list records", PFX_GRAPH_RECORDS,
                         pfx_asprintf("%s" PFX_GRAPH_RECORDS, graph_url(task)));
    if (url)
        pfx_graph_call(task, "list records", "GET", url, NULL, PFX_EXPECT_JSON, 0, on_records);
}

static void on_readback(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    if (answer->status == 404) {
        pfx_msg_set_bool(result, "present", false);
        pfx_task_ok(task, PFX_TAKE(result));
        return;
    }
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    const char *id = pfx_doc_str(&doc, root, "id", PFX_DOC_NEED);
    if (id && strcasecmp(id, pfx_msg_str(pfx_task_body(task), "record_id")) != 0)
        pfx_doc_wrong(&doc, "id", "is another record's than the one asked for");
    if (!doc.bad) {
        pfx_msg_set_bool(result, "present", true);
        pfx_graph_read_record(&doc, root, pfx_msg_set_obj(result, "record"));
    }
    if (doc.bad)
        pfx_task_fail_content(task, answer, doc.why);
    else
        pfx_task_ok(task, PFX_TAKE(result));
}

static void readback(struct pfx_task *task)
{
    pfx_graph_call(task, "read record", "GET", pfx_graph_record_url(task), NULL, PFX_EXPECT_JSON,
                   PFX_WANT_404, on_readback);
}

const struct pfx_kind pfx_graph_kinds[] = {
    {"up.members", members},
    {"up.records", records},
    {"up.import", pfx_graph_import},
    {"up.import_settle", pfx_graph_import},
    {"up.readback", readback},
    {NULL, NULL},
};
