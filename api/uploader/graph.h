/* Inside of the Graph side: what its files share. The rest of the program uses ca.h's table. */
#ifndef PFX_UPLOADER_GRAPH_H
#define PFX_UPLOADER_GRAPH_H

#include "api/uploader/ca.h"

#define PFX_GRAPH_RECORDS "/beta/deviceManagement/userPfxCertificates"

/* graph_body.c: pure. */
/* Appends the JSON body of a userPfxCertificate for POST and PATCH. */
PFX_MUST_USE pfx_result pfx_graph_record_body(const struct pfx_msg *job, struct pfx_buf *out,
                                              struct pfx_error *err);
/* Fills an object of schema "member" from a user; a wrong one is noted in doc. */
void pfx_graph_read_member(struct pfx_doc *doc, const cJSON *user, struct pfx_msg *member);
/* Fills an object of schema "record". */
void pfx_graph_read_record(struct pfx_doc *doc, const cJSON *item, struct pfx_msg *record);
void pfx_graph_explain(const struct pfx_answer *answer, struct pfx_told *told);

/* A call to Graph: url is whole and taken over; body (may be NULL) too. */
void pfx_graph_call(struct pfx_task *task, const char *op, const char *method, char *url,
                    struct pfx_buf *body, enum pfx_expect expect, unsigned want, pfx_then_fn then);
/* Can the job's record id be part of a path? If not, the task has ended. */
bool pfx_graph_record_fits(struct pfx_task *task, const char *op);
/* {graph}{collection}/{record id of the job}; free() it. */
char *pfx_graph_record_url(struct pfx_task *task);
/* Notes in doc whether it is another record than the job's. */
void pfx_graph_check_record(struct pfx_task *task, struct pfx_doc *doc);

/* graph_import.c */
void pfx_graph_import(struct pfx_task *task);

/* graph_remove.c */
void pfx_graph_remove(struct pfx_task *task);

#endif
