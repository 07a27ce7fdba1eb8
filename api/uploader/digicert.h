/* Inside of the DigiCert CA: what its files share. The rest of the program uses ca.h.
 *
 * Reissuing an order (POST .../reissue) is left out on purpose. It would give one order two keys,
 * and a lost answer is settled by the key: one key, one order. Another key is another order. */
#ifndef PFX_UPLOADER_DIGICERT_H
#define PFX_UPLOADER_DIGICERT_H

#include "api/uploader/ca.h"

/* digicert_body.c: pure. */
/* Appends the JSON body of an order. USAGE when the job lacks what the product needs. */
PFX_MUST_USE pfx_result pfx_digicert_order_body(const struct pfx_msg *job, struct pfx_buf *out,
                                                struct pfx_error *err);
/* "pfx-agent " and the token: what an order's comments begin with. */
#define PFX_DIGICERT_COMMENT "pfx-agent "

/* digicert_answer.c: pure. */
void pfx_digicert_explain(const struct pfx_answer *answer, struct pfx_told *told);
/* A moment in any of the forms that DigiCert's pages show: RFC 3339, "2026-08-17 13:37:00" in UTC,
 * or a date alone, which reads as its last second where end_of_day is set, else as its first. */
PFX_MUST_USE bool pfx_digicert_time(const char *text, bool end_of_day, int64_t *ret_ms);
/* Leaf of this key and its chain out of a bundle, as members "leaf" and "chain" of result, which is
 * unchanged on failure. */
PFX_MUST_USE pfx_result pfx_digicert_pick(struct pfx_bytes bundle, struct pfx_bytes spki,
                                          struct pfx_msg *result, struct pfx_error *err);

/* The account has orders that aren't ours. One entry of a list that can't be read must not hide all
 * others: it is left out and counted. */
struct pfx_digicert_tally {
    size_t read, odd;
    char why[160]; /* of the first odd one */
};
/* Counts an entry whose members were read with doc, which gets clean for the next one. True: it can
 * be used. */
bool pfx_digicert_count(struct pfx_digicert_tally *tally, struct pfx_doc *doc);
/* False: there were entries, and none could be read. Else one line in the log says what was left
 * out, if anything; list is "status changes". */
PFX_MUST_USE bool pfx_digicert_tolerable(const struct pfx_digicert_tally *tally, const char *list);

#define PFX_DIGICERT_PAGE 1000 /* orders that a page is asked for; its most */
/* May another page follow this one (root) of listed orders, up to which there were `upto`? A full
 * page has one behind it whatever the total says: that may be wrong, or of this page alone. */
PFX_MUST_USE bool pfx_digicert_more(const cJSON *root, int64_t listed, int64_t upto);

/* A call to DigiCert: path is below the base URL and taken over; body (may be NULL) too. */
void pfx_digicert_call(struct pfx_task *task, const char *op, const char *method, char *path,
                       struct pfx_buf *body, enum pfx_expect expect, unsigned want,
                       pfx_then_fn then);
/* Sets a status text of 1 to max bytes, cleaned. */
void pfx_digicert_set_status(struct pfx_msg *msg, const char *status, size_t max);
/* "/order/certificate/ID" of the job's order, and rest behind it; free() it. */
char *pfx_digicert_order_path(const struct pfx_task *task, const char *rest);

/* digicert_settle.c */
void pfx_digicert_settle(struct pfx_task *task);
/* digicert_list.c */
void pfx_digicert_changes(struct pfx_task *task);
void pfx_digicert_orders(struct pfx_task *task);
/* digicert_read.c */
void pfx_digicert_info(struct pfx_task *task);
void pfx_digicert_validation(struct pfx_task *task);
void pfx_digicert_download(struct pfx_task *task);
/* digicert_setup.c */
void pfx_digicert_setup(struct pfx_task *task);

#endif
