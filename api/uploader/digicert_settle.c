/*
 * DigiCert: was the order whose answer never came taken after all?
 *
 * There is no idempotency key, and the list of orders shows no requests. So: list by address and
 * product, newest first, read each order that could be it, and compare the public key of its
 * request. The filters are sometimes ignored, so everything is looked at again on this side.
 */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/url.h"
#include "crypto/csr.h"
#include "crypto/encode.h"

#define MAX_PAGES 20
#define MAX_CANDIDATES 200
#define MAX_OTHERS 50
/* Clocks differ; an order can't be much older than the moment at which it was sent. */
#define BEFORE_MS (3600 * 1000)
/* A time without a zone may be that of DigiCert's place, or of anywhere. */
#define ZONE_MS (15 * 3600 * 1000)

struct settle {
    int64_t ids[MAX_CANDIDATES]; /* newest first, as listed */
    size_t n, at;
    unsigned pages;
    int64_t offset;
    int64_t last;  /* when the last listed order was made; 0: not known */
    bool unsorted; /* the list isn't newest first */
    bool cut;      /* there were more than could be looked at */
    struct pfx_digicert_tally listed;
    /* Of an agent, for these addresses, of another key: what a restored store may not know. */
    struct other {
        int64_t id;
        char status[65];
    } others[MAX_OTHERS];
    size_t n_others;
    struct pfx_digicert_tally doubt; /* .odd: of those not read, how many could be the lost one */
};
static void next_page(struct pfx_task *task);
static void next_candidate(struct pfx_task *task);

static bool has_address(const struct pfx_msg *job, const char *email)
{
    for (size_t i = 0; i < pfx_msg_count(job, "addresses"); i++)
        if (strcasecmp(pfx_msg_str_at(job, "addresses", i), email) == 0)
            return true;
    return false;
}

/* Has it one of the job's addresses, or does it show none? */
static bool may_be_theirs(const struct pfx_msg *job, struct pfx_doc *doc, const cJSON *order)
{
    const cJSON *certificate = pfx_doc_obj(doc, order, "certificate", PFX_DOC_MAY);
    const cJSON *emails = pfx_doc_array(doc, certificate, "emails", PFX_DOC_MAY);
    if (!emails || !emails->child)
        return true;
    for (const cJSON *email = emails->child; email; email = email->next)
        if (!cJSON_IsString(email) || has_address(job, email->valuestring))
            return true;
    return false;
}

/* Doubt keeps an order in: reading one too many costs a request, missing the right one a
 * certificate. */
static bool is_candidate(struct settle *s, const struct pfx_msg *job, struct pfx_doc *doc,
                         const cJSON *item, bool *ret_old)
{
    const cJSON *product = pfx_doc_obj(doc, item, "product", PFX_DOC_MAY);
    const char *name = pfx_doc_str(doc, product, "name_id", PFX_DOC_MAY);
    const char *created = pfx_doc_str(doc, item, "date_created", PFX_DOC_MAY);
    int64_t when = 0;
    bool dated = created && pfx_digicert_time(created, true, &when);
    s->unsorted = s->unsorted || (dated && s->last > 0 && when > s->last);
    s->last = dated ? when : s->last;
    bool zoned = created && strlen(created) > strlen("2019-06-21 13:37:00");
    int64_t slack = BEFORE_MS + (zoned ? 0 : ZONE_MS);
    *ret_old = dated && when < pfx_msg_int(job, "since") - slack;
    if (*ret_old || (name && strcmp(name, pfx_msg_str(job, "product")) != 0))
        return false;
    return may_be_theirs(job, doc, item);
}

static void add_candidate(struct settle *s, int64_t id)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->ids[i] == id) /* pages move on while orders are made */
            return;
    if (s->n < MAX_CANDIDATES)
        s->ids[s->n++] = id;
    else
        s->cut = true;
}

static void answer_found(struct pfx_task *task, bool found, int64_t id, int64_t certificate,
                         const char *status)
{
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_bool(result, "found", found);
    if (found) {
        pfx_msg_set_int(result, "order_id", id);
        if (certificate > 0)
            pfx_msg_set_int(result, "certificate_id", certificate);
        pfx_digicert_set_status(result, status, 32);
    }
    const struct settle *s = pfx_task_get(task);
    for (size_t i = 0; !found && i < s->n_others; i++) {
        struct pfx_msg *other = pfx_msg_add_obj(result, "others");
        pfx_msg_set_int(other, "order_id", s->others[i].id);
        pfx_digicert_set_status(other, s->others[i].status, 64);
    }
    pfx_task_ok(task, result);
}

static void on_page(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct settle *s = pfx_task_get(task);
    const struct pfx_msg *job = pfx_task_body(task);
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    const cJSON *orders = pfx_doc_array(&doc, root, "orders", PFX_DOC_MAY);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    int64_t listed = 0;
    bool all_old = true;
    for (const cJSON *item = orders ? orders->child : NULL; item; item = item->next) {
        listed++;
        struct pfx_doc one = {0};
        int64_t id = pfx_doc_int(&one, item, "id", PFX_DOC_NEED);
        if (!one.bad && id == 0)
            pfx_doc_wrong(&one, "id", "is 0");
        struct pfx_doc aside = {0};
        bool old = false;
        bool candidate = is_candidate(s, job, &aside, item, &old);
        all_old = all_old && old;
        struct pfx_doc copy = one; /* counting cleans it */
        if (one.bad && candidate)
            (void)pfx_digicert_count(&s->doubt, &copy);
        if (pfx_digicert_count(&s->listed, &one) && candidate)
            add_candidate(s, id);
    }
    s->offset += listed;
    s->pages++;
    bool more = pfx_digicert_more(root, listed, s->offset);
    /* The list is newest first, so behind a page of old orders there are only older ones; but not
     * where the order of the list was ignored as the filters sometimes are. One page more is read
     * in any case, to see that. */
    bool end = all_old && !s->unsorted && s->pages > 1;
    if (more && s->pages < MAX_PAGES && !end) {
        next_page(task);
        return;
    }
    s->cut = s->cut || (more && !end);
    if (pfx_digicert_tolerable(&s->listed, "order list"))
        next_candidate(task);
    else
        pfx_task_fail_content(task, answer, s->listed.why);
}

static void next_page(struct pfx_task *task)
{
    const struct settle *s = pfx_task_get(task);
    const struct pfx_msg *job = pfx_task_body(task);
    struct pfx_buf path = pfx_buf_make(4096);
    pfx_buf_add_str(&path, "/order/certificate?filters%5Bemail%5D=");
    pfx_url_encode(&path, pfx_msg_str_at(job, "addresses", 0));
    pfx_buf_add_str(&path, "&filters%5Bproduct_name_id%5D=");
    pfx_url_encode(&path, pfx_msg_str(job, "product"));
    pfx_buf_addf(&path, "&sort=-date_created&offset=%lld&limit=%d", (long long)s->offset,
                 PFX_DIGICERT_PAGE);
    pfx_digicert_call(task, "settle order", "GET", pfx_strdup(pfx_buf_str(&path)), NULL,
                      PFX_EXPECT_JSON, 0, on_page);
    pfx_buf_done(&path);
}

enum match { OURS, OTHERS, UNKNOWN };

/* Is it of the job's key? Without a readable request, by the token in its comments. Members of
 * another type than they should have are read over: what is compared can't match by mistake. An
 * order of ours has both, so that one which shows neither can't be told. */
static enum match compare(const struct pfx_msg *job, struct pfx_doc *doc, const cJSON *root)
{
    const cJSON *certificate = pfx_doc_obj(doc, root, "certificate", PFX_DOC_MAY);
    const char *pem = pfx_doc_str(doc, certificate, "csr", PFX_DOC_MAY);
    if (pem) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf csr = pfx_buf_make(64 * 1024);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(8192);
        struct pfx_bytes want = pfx_msg_blob(job, "spki");
        if (pfx_ok(pfx_csr_from_pem(pem, &csr, NULL)) &&
            pfx_ok(pfx_csr_spki(pfx_buf_bytes(&csr), &spki, NULL)))
            return spki.len == want.len && memcmp(spki.data, want.data, want.len) == 0 ? OURS
                                                                                       : OTHERS;
    }
    bool commented = false;
    const cJSON *requests = pfx_doc_array(doc, root, "requests", PFX_DOC_MAY);
    for (const cJSON *item = requests ? requests->child : NULL; item; item = item->next) {
        const char *comments = pfx_doc_str(doc, item, "comments", PFX_DOC_MAY);
        if (comments && strstr(comments, pfx_msg_str(job, "token")))
            return OURS;
        commented = commented || (comments && comments[0]);
    }
    const char *status = pfx_doc_str(doc, root, "status", PFX_DOC_MAY);
    bool without = !pem && status && strcmp(status, "needs_csr") == 0;
    return commented || without ? OTHERS : UNKNOWN;
}

/* An agent's orders have its mark in their comments. The list may have shown no addresses, and have
 * ignored its filter; the order itself shows them. */
static void note_other(struct settle *s, const struct pfx_msg *job, const cJSON *root, int64_t id,
                       const char *status)
{
    struct pfx_doc aside = {0};
    if (!may_be_theirs(job, &aside, root))
        return;
    const cJSON *requests = pfx_doc_array(&aside, root, "requests", PFX_DOC_MAY);
    for (const cJSON *item = requests ? requests->child : NULL; item; item = item->next) {
        const char *comments = pfx_doc_str(&aside, item, "comments", PFX_DOC_MAY);
        if (!comments || strncmp(comments, PFX_DIGICERT_COMMENT, strlen(PFX_DIGICERT_COMMENT)) != 0)
            continue;
        if (s->n_others == MAX_OTHERS) /* the newest ones are there */
            return;
        struct other *other = &s->others[s->n_others++];
        other->id = id;
        snprintf(other->status, sizeof other->status, "%s", status);
        return;
    }
}

static void on_candidate(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct settle *s = pfx_task_get(task);
    if (answer->status == 404) { /* listed a moment ago: gone, so it isn't one to adopt */
        next_candidate(task);
        return;
    }
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    struct pfx_doc aside = {0};
    enum match match = compare(pfx_task_body(task), &aside, root);
    int64_t id = pfx_doc_int(&doc, root, "id", PFX_DOC_NEED);
    const char *status = pfx_doc_str(&doc, root, "status", PFX_DOC_NEED);
    if (!doc.bad && id != s->ids[s->at - 1])
        pfx_doc_wrong(&doc, "id", "is another order's than the one asked for");
    if (match == OURS && doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    if (match == OURS) {
        const cJSON *certificate = pfx_doc_obj(&aside, root, "certificate", PFX_DOC_MAY);
        answer_found(task, true, id, pfx_doc_int(&aside, certificate, "id", PFX_DOC_MAY), status);
        return;
    }
    if (match == OTHERS && !doc.bad)
        note_other(s, pfx_task_body(task), root, id, status);
    if (match == UNKNOWN) {
        pfx_doc_wrong(&doc, "the order", "shows neither a readable request nor comments");
        (void)pfx_digicert_count(&s->doubt, &doc);
    }
    next_candidate(task);
}

/* Not found, and that says nothing: a person has to look. */
static void give_up(struct pfx_task *task, enum pfx_class cls, const char *why)
{
    const struct pfx_msg *job = pfx_task_body(task);
    pfx_task_fail_as(task, cls, "settle order", pfx_msg_str_at(job, "addresses", 0), "",
                     "%s; search at DigiCert for the comment \"%s%s\".", why, PFX_DIGICERT_COMMENT,
                     pfx_msg_str(job, "token"));
}

static void next_candidate(struct pfx_task *task)
{
    struct settle *s = pfx_task_get(task);
    if (s->at < s->n) {
        char *path = pfx_asprintf("/order/certificate/%lld", (long long)s->ids[s->at++]);
        pfx_digicert_call(task, "settle order", "GET", path, NULL, PFX_EXPECT_JSON, PFX_WANT_404,
                          on_candidate);
        return;
    }
    if (s->cut) {
        give_up(task, PFX_CLASS_REFUSED,
                "DigiCert lists more orders for this address than can be looked through");
    } else if (s->doubt.odd > 0) { /* that isn't "not there" */
        char why[300];
        snprintf(why, sizeof why, "%zu of the orders that could be the lost one can't be read (%s)",
                 s->doubt.odd, s->doubt.why);
        give_up(task, PFX_CLASS_INTEGRITY, why);
    } else {
        answer_found(task, false, 0, 0, NULL);
    }
}

void pfx_digicert_settle(struct pfx_task *task)
{
    pfx_task_state(task, sizeof(struct settle), NULL);
    if (pfx_msg_count(pfx_task_body(task), "addresses") == 0)
        pfx_task_fail_as(task, PFX_CLASS_USAGE, "settle order", "", "", "The job has no address.");
    else
        next_page(task);
}
