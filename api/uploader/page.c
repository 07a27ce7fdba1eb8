#include "api/uploader/page.h"

#include <string.h>

#include "api/uploader/url.h"

#define MAX_LINK 8192

static bool may_follow(struct pfx_task *task, const struct pfx_pages *pages, const char *link)
{
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_url_within(pages->base, pages->below, link, pages->op, &err);
    if (pfx_failed(r))
        pfx_task_fail(task, r, &err);
    return pfx_ok(r);
}

char *pfx_page_url(struct pfx_task *task, const struct pfx_pages *pages, char *first)
{
    const char *page = pfx_msg_str(pfx_task_body(task), "page");
    if (!page)
        return first;
    free(first);
    return may_follow(task, pages, page) ? pfx_strdup(page) : NULL;
}

const cJSON *pfx_page_rows(struct pfx_doc *doc, const cJSON *root, size_t max)
{
    const cJSON *value = pfx_doc_array(doc, root, "value", PFX_DOC_NEED);
    size_t n = 0;
    for (const cJSON *row = value ? value->child : NULL; row; row = row->next) {
        if (!cJSON_IsObject(row))
            pfx_doc_wrong(doc, "value", "has an entry that isn't an object");
        if (++n > max)
            pfx_doc_wrong(doc, "value", "has more entries than a page may have");
    }
    return doc->bad || !value ? NULL : value->child;
}

bool pfx_page_next(struct pfx_task *task, const struct pfx_pages *pages,
                   const struct pfx_answer *answer, struct pfx_doc *doc, const char **ret_link)
{
    const char *link = pfx_doc_str(doc, pfx_doc_root(doc), "@odata.nextLink", PFX_DOC_MAY);
    if (link && !link[0])
        link = NULL;
    if (link && strcmp(link, answer->url) == 0)
        pfx_doc_wrong(doc, "@odata.nextLink", "leads to the same page");
    if (link && strlen(link) > MAX_LINK)
        pfx_doc_wrong(doc, "@odata.nextLink", "is too long");
    if (doc->bad) {
        pfx_task_fail_content(task, answer, doc->why);
        return false;
    }
    if (link && !may_follow(task, pages, link))
        return false;
    *ret_link = link;
    return true;
}

void pfx_page_end(struct pfx_task *task, const struct pfx_pages *pages,
                  const struct pfx_answer *answer, struct pfx_doc *doc, struct pfx_msg *result)
{
    const char *link = NULL;
    if (!pfx_page_next(task, pages, answer, doc, &link)) {
        pfx_msg_free(result);
        return;
    }
    if (link)
        pfx_msg_set_str(result, "page", link);
    pfx_task_ok(task, result);
}
