/* Lists that come in pages: a job names one page, and its result the next one's address. */
#ifndef PFX_UPLOADER_PAGE_H
#define PFX_UPLOADER_PAGE_H

#include "api/uploader/task.h"

struct pfx_pages {
    const char *base;  /* URL of the service */
    const char *below; /* path that every page has to have, as pfx_url_within takes it */
    const char *op;
};
/* The address that the job's body names, or else first; either way free() it. first is taken over.
 * NULL: the task has ended. The job's page is checked as strictly as a link in an answer:
 * pfx-agentd names no hosts either. */
char *pfx_page_url(struct pfx_task *task, const struct pfx_pages *pages, char *first);
/* The rows of an answer with this root, each of them an object; NULL: none, or doc is bad, also
 * because of more than max. */
const cJSON *pfx_page_rows(struct pfx_doc *doc, const cJSON *root, size_t max);
/* The address of the page behind answer, borrowed from doc; NULL: answer was the last. False: the
 * task has ended, since doc is bad or the address isn't to be followed. */
PFX_MUST_USE bool pfx_page_next(struct pfx_task *task, const struct pfx_pages *pages,
                                const struct pfx_answer *answer, struct pfx_doc *doc,
                                const char **ret_link);

/* Ends the task with result (taken over) and the next page's address in it, or as above. */
void pfx_page_end(struct pfx_task *task, const struct pfx_pages *pages,
                  const struct pfx_answer *answer, struct pfx_doc *doc, struct pfx_msg *result);

#endif
