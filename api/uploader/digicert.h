/* Inside of the DigiCert CA: what its files share. The rest of the program uses ca.h. */
#ifndef PFX_UPLOADER_DIGICERT_H
#define PFX_UPLOADER_DIGICERT_H

#include "api/uploader/ca.h"

/* digicert_body.c: pure. */
/* Appends the JSON body of an order. USAGE when the job lacks what the product needs. */
PFX_MUST_USE pfx_result pfx_digicert_order_body(const struct pfx_msg *job, struct pfx_buf *out,
                                                struct pfx_error *err);
/* "pfx-agent " and the token: what an order's comments hold. */
#define PFX_DIGICERT_COMMENT "pfx-agent "
void pfx_digicert_explain(const struct pfx_answer *answer, struct pfx_told *told);

/* A call to DigiCert: path is below the base URL and taken over; body (may be NULL) too. */
void pfx_digicert_call(struct pfx_task *task, const char *op, const char *method, char *path,
                       struct pfx_buf *body, enum pfx_expect expect, unsigned want,
                       pfx_then_fn then);
/* Ends the task because of what doc.why says; for `then` functions. */
void pfx_digicert_bad(struct pfx_task *task, const struct pfx_answer *answer,
                      const struct pfx_doc *doc);
/* Sets a status text of 1 to max bytes, cleaned. */
void pfx_digicert_set_status(struct pfx_msg *msg, const char *status, size_t max);

/* digicert_settle.c */
void pfx_digicert_settle(struct pfx_task *task);
/* digicert_read.c */
void pfx_digicert_changes(struct pfx_task *task);
void pfx_digicert_info(struct pfx_task *task);
void pfx_digicert_validation(struct pfx_task *task);
void pfx_digicert_download(struct pfx_task *task);

#endif
