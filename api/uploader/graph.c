/* Graph: the members of a group, and Intune's records; importing them is in graph_import.c, removing
 * them in graph_remove.c. */
#include "api/uploader/graph.h"

#include <string.h>
#include <strings.h>

#include "api/uploader/page.h"
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

/* Intune and mail may have an app registration of their own. */
static enum pfx_use use_of(const char *url)
{
    if (strstr(url, "/deviceManagement/"))
        return PFX_USE_IMPORT;
    return strstr(url, "/sendMail") ? PFX_USE_MAIL : PFX_USE_MAIN;
}

void pfx_graph_call(struct pfx_task *task, const char *op, const char *method, char *url,
                    struct pfx_buf *body, enum pfx_expect expect, unsigned want, pfx_then_fn then)
{
    struct pfx_call call = {
        .service = PFX_SERVICE_GRAPH,
        .use = use_of(url),
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

/* Servers disagree on "%2F" and ".." in a path, and the credential can do more than records. */
bool pfx_graph_record_fits(struct pfx_task *task, const char *op)
{
    const char *id = pfx_msg_str(pfx_task_body(task), "record_id");
    if (pfx_url_is_part(id))
        return true;
    char shown[160];
    pfx_task_fail_as(task, PFX_CLASS_REFUSED, op, pfx_text_clean_str(shown, sizeof shown, id), "",
                     "This isn't the id of a record: it would lead elsewhere. Nothing was asked.");
    return false;
}

char *pfx_graph_record_url(struct pfx_task *task)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf id = pfx_buf_make(1024);
    pfx_url_encode(&id, pfx_msg_str(pfx_task_body(task), "record_id"));
    return pfx_asprintf("%s" PFX_GRAPH_RECORDS "/%s", graph_url(task), pfx_buf_str(&id));
}

void pfx_graph_check_record(struct pfx_task *task, struct pfx_doc *doc)
{
    const char *id = pfx_doc_str(doc, pfx_doc_root(doc), "id", PFX_DOC_NEED);
    if (id && strcasecmp(id, pfx_msg_str(pfx_task_body(task), "record_id")) != 0)
        pfx_doc_wrong(doc, "id", "is another record's than the one asked for");
}

/* --- members --- */

static struct pfx_pages member_pages(struct pfx_task *task)
{
    return (struct pfx_pages){graph_url(task), "/v1.0/groups", "read group"};
}

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
    const cJSON *row = pfx_page_rows(&doc, pfx_doc_root(&doc), MAX_USERS);
    for (; row && !doc.bad; row = row->next)
        if (is_user(&doc, row))
            pfx_graph_read_member(&doc, row, pfx_msg_add_obj(result, "users"));
    struct pfx_pages pages = member_pages(task);
    pfx_page_end(task, &pages, answer, &doc, PFX_TAKE(result));
}

static void members(struct pfx_task *task)
{
    const char *group = pfx_msg_str(pfx_task_body(task), "group");
    if (!pfx_text_is_guid(group)) {
        char shown[80];
        pfx_task_fail_as(task, PFX_CLASS_USAGE, "read group",
                         pfx_text_clean_str(shown, sizeof shown, group), "",
                         "This isn't a group's object id; see the rule in agent.yaml.");
        return;
    }
    struct pfx_pages pages = member_pages(task);
    char *url = pfx_page_url(task, &pages,
                             pfx_asprintf("%s/v1.0/groups/%s/transitiveMembers/"
                                          "microsoft.graph.user?$select=" SELECT "&$top=999",
                                          graph_url(task), group));
    if (url)
        pfx_graph_call(task, "read group", "GET", url, NULL, PFX_EXPECT_JSON, 0, on_members);
}

/* --- records --- */

static struct pfx_pages record_pages(struct pfx_task *task)
{
    return (struct pfx_pages){graph_url(task), PFX_GRAPH_RECORDS, "list records"};
}

static void on_records(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    const cJSON *row = pfx_page_rows(&doc, pfx_doc_root(&doc), MAX_RECORDS);
    for (; row && !doc.bad; row = row->next)
        pfx_graph_read_record(&doc, row, pfx_msg_add_obj(result, "records"));
    struct pfx_pages pages = record_pages(task);
    pfx_page_end(task, &pages, answer, &doc, PFX_TAKE(result));
}

static void records(struct pfx_task *task)
{
    struct pfx_pages pages = record_pages(task);
    char *url = pfx_page_url(task, &pages,
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
    pfx_graph_check_record(task, &doc);
    pfx_msg_set_bool(result, "present", true);
    pfx_graph_read_record(&doc, pfx_doc_root(&doc), pfx_msg_set_obj(result, "record"));
    if (doc.bad)
        pfx_task_fail_content(task, answer, doc.why);
    else
        pfx_task_ok(task, PFX_TAKE(result));
}

static void readback(struct pfx_task *task)
{
    if (!pfx_graph_record_fits(task, "read record"))
        return;
    pfx_graph_call(task, "read record", "GET", pfx_graph_record_url(task), NULL, PFX_EXPECT_JSON,
                   PFX_WANT_404, on_readback);
}

const struct pfx_kind pfx_graph_kinds[] = {
    {"up.members", members},
    {"up.records", records},
    {"up.import", pfx_graph_import},
    {"up.import_settle", pfx_graph_import},
    {"up.readback", readback},
    {"up.remove", pfx_graph_remove},
    {NULL, NULL},
};
