#include "api/uploader/exchange.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/page.h"
#include "api/uploader/text.h"
#include "crypto/encode.h"

#define MAX_MAILBOXES 1000
#define MAX_ADDRESSES 400
#define MAX_RIGHTS 5000
#define MAX_PAGES 100 /* of one mailbox's rights; the lists' pages are counted by pfx-agentd */
#define MAX_ADDRESS 320
#define MAX_BODY 4096

/* --- a cmdlet --- */

void pfx_cmdlet_init(struct pfx_cmdlet *cmdlet, const char *name, const char *tenant)
{
    char connection[PFX_GUID_SIZE];
    cmdlet->path = pfx_asprintf("/adminapi/beta/%s/InvokeCommand", tenant);
    cmdlet->lines[0] = pfx_asprintf("X-CmdletName: %s", name);
    cmdlet->lines[1] = pfx_asprintf("connection-id: %s", pfx_guid_new(connection));
    cmdlet->lines[2] = pfx_strdup("Prefer: odata.maxpagesize=1000");
    /* Leads the request to a server of the tenant; the id is the same in every tenant. */
    cmdlet->lines[3] = pfx_asprintf("X-AnchorMailbox: UPN:SystemMailbox{bb558c35-97f1-4cb9-8ff7-"
                                    "d53741dc928c}@%s", tenant);
    for (size_t i = 0; i < sizeof cmdlet->lines / sizeof cmdlet->lines[0]; i++)
        cmdlet->headers[i] = cmdlet->lines[i];
}

void pfx_cmdlet_done(struct pfx_cmdlet *cmdlet)
{
    free(cmdlet->path);
    for (size_t i = 0; i < sizeof cmdlet->lines / sizeof cmdlet->lines[0]; i++)
        free(cmdlet->lines[i]);
    *cmdlet = (struct pfx_cmdlet){0};
}

static const char *exchange_url(struct pfx_task *task)
{
    return pfx_task_up(task)->services[PFX_SERVICE_EXCHANGE].url;
}

static struct pfx_buf cmdlet_body(const char *name)
{
    struct pfx_buf body = pfx_buf_make(MAX_BODY);
    pfx_buf_add_str(&body, "{\"CmdletInput\":{");
    pfx_doc_put_member(&body, "CmdletName", name);
    pfx_doc_put_name(&body, "Parameters");
    pfx_buf_add_str(&body, "{");
    return body;
}

static struct pfx_pages pages_of(struct pfx_task *task, const char *op)
{
    const struct pfx_cmdlet *cmdlet = pfx_task_get(task);
    return (struct pfx_pages){exchange_url(task), cmdlet->path, op};
}

static char *first_page(struct pfx_task *task)
{
    const struct pfx_cmdlet *cmdlet = pfx_task_get(task);
    return pfx_asprintf("%s%s", exchange_url(task), cmdlet->path);
}

/* The same body goes to the first page and to the following ones; url (taken over) says which. */
static void run(struct pfx_task *task, const char *op, char *url, struct pfx_buf *body,
                pfx_then_fn then)
{
    const struct pfx_cmdlet *cmdlet = pfx_task_get(task);
    pfx_buf_add_str(body, "}}}");
    struct pfx_call call = {
        .service = PFX_SERVICE_EXCHANGE,
        .method = "POST",
        .url = url,
        .body = *body,
        .expect = PFX_EXPECT_JSON,
        .op = op,
        .reads = true,
        .headers = cmdlet->headers,
    };
    *body = (struct pfx_buf){0};
    pfx_task_call(task, &call, then);
}

/* --- mailboxes --- */

static bool is_address(const char *text)
{
    size_t len = strlen(text);
    const char *at = strchr(text, '@');
    return at && at > text && at[1] && len >= 3 && len <= MAX_ADDRESS && !strchr(at + 1, '@') &&
           !strpbrk(text, " \t\r\n<>\"\\");
}

/* The address by which the cmdlets name a shared mailbox: borrowed; NULL: the row is none. */
static const char *mailbox_id(struct pfx_doc *doc, const cJSON *row)
{
    const char *type = pfx_doc_str(doc, row, "RecipientTypeDetails", PFX_DOC_MAY);
    const char *id = pfx_doc_str(doc, row, "PrimarySmtpAddress", PFX_DOC_NEED);
    if (doc->bad || (type && strcasecmp(type, "SharedMailbox") != 0) || !is_address(id))
        return NULL;
    return id;
}

/* Mail addresses only: SIP:, X500: and SPO: stand in the same list. */
static void add_addresses(struct pfx_doc *doc, const cJSON *row, struct pfx_msg *mailbox)
{
    const cJSON *list = pfx_doc_array(doc, row, "EmailAddresses", PFX_DOC_NEED);
    size_t n = 0;
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        if (!cJSON_IsString(item)) {
            pfx_doc_wrong(doc, "EmailAddresses", "has an entry that isn't a text");
            return;
        }
        const char *text = item->valuestring;
        if (strncasecmp(text, "smtp:", 5) != 0 || strlen(text) > MAX_ADDRESS ||
            !is_address(text + 5))
            continue;
        if (++n > MAX_ADDRESSES) {
            pfx_doc_wrong(doc, "EmailAddresses", "has more than 400 addresses");
            return;
        }
        pfx_msg_add_str(mailbox, "addresses", text);
    }
}

static void read_mailboxes(struct pfx_doc *doc, const cJSON *root, struct pfx_msg *result)
{
    for (const cJSON *row = pfx_page_rows(doc, root, MAX_MAILBOXES); row && !doc->bad; row = row->next) {
        const char *id = mailbox_id(doc, row);
        if (!id)
            continue;
        struct pfx_msg *mailbox = pfx_msg_add_obj(result, "mailboxes");
        pfx_msg_set_str(mailbox, "id", id);
        add_addresses(doc, row, mailbox);
    }
}

static void on_mailboxes(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    PFX_AUTOMSG struct pfx_msg *result = pfx_task_result(task);
    struct pfx_pages pages = pages_of(task, "list mailboxes");
    read_mailboxes(&doc, pfx_doc_root(&doc), result);
    pfx_page_end(task, &pages, answer, &doc, PFX_TAKE(result));
}

static void mailboxes_done(void *state)
{
    pfx_cmdlet_done(state);
}

static void mailboxes(struct pfx_task *task)
{
    struct pfx_cmdlet *cmdlet = pfx_task_state(task, sizeof *cmdlet, mailboxes_done);
    pfx_cmdlet_init(cmdlet, "Get-Mailbox", pfx_task_up(task)->conf->tenant);
    struct pfx_pages pages = pages_of(task, "list mailboxes");
    char *url = pfx_page_url(task, &pages, first_page(task));
    if (!url)
        return;
    struct pfx_buf body = cmdlet_body("Get-Mailbox");
    pfx_doc_put_member(&body, "RecipientTypeDetails", "SharedMailbox");
    pfx_doc_put_member(&body, "ResultSize", "Unlimited");
    run(task, "list mailboxes", url, &body, on_mailboxes);
}

/* --- who may open one --- */

/* All pages of them: Exchange takes a denial before a permission, whichever comes first. */
struct rights {
    struct pfx_cmdlet cmdlet; /* first: see pages_of */
    struct {
        char *user;
        bool deny;
    } rows[MAX_RIGHTS];
    size_t n;
    unsigned pages;
};

static void rights_done(void *state)
{
    struct rights *rights = state;
    for (size_t i = 0; i < rights->n; i++)
        free(rights->rows[i].user);
    pfx_cmdlet_done(&rights->cmdlet);
}

/* Exchange writes its flags as booleans, or as "True" and "False". */
static bool read_flag(struct pfx_doc *doc, const cJSON *row, const char *name)
{
    for (const cJSON *item = row->child; item; item = item->next) {
        if (!item->string || strcmp(item->string, name) != 0 || !cJSON_IsString(item))
            continue;
        const char *text = pfx_doc_str(doc, row, name, PFX_DOC_NEED);
        if (text && strcasecmp(text, "true") != 0 && strcasecmp(text, "false") != 0)
            pfx_doc_wrong(doc, name, "is neither true nor false");
        return text && strcasecmp(text, "true") == 0;
    }
    return pfx_doc_bool(doc, row, name, PFX_DOC_NEED);
}

static bool has_full_access(struct pfx_doc *doc, const cJSON *row)
{
    const cJSON *rights = pfx_doc_array(doc, row, "AccessRights", PFX_DOC_NEED);
    bool full = false;
    for (const cJSON *item = rights ? rights->child : NULL; item; item = item->next) {
        if (!cJSON_IsString(item))
            pfx_doc_wrong(doc, "AccessRights", "has an entry that isn't a text");
        else if (strcasecmp(item->valuestring, "FullAccess") == 0)
            full = true;
    }
    return full;
}

/* A row's user with full access, allowed or denied; NULL: a row that doesn't matter. */
static const char *user_of(struct pfx_doc *doc, const cJSON *row, bool *ret_deny)
{
    const char *user = pfx_doc_str(doc, row, "User", PFX_DOC_NEED);
    bool full = has_full_access(doc, row);
    bool deny = read_flag(doc, row, "Deny");
    bool inherited = read_flag(doc, row, "IsInherited");
    if (doc->bad || !full || inherited)
        return NULL;
    /* The mailbox itself, ids of accounts that are gone, and groups: none of them is a UPN. */
    if (strncasecmp(user, "NT AUTHORITY\\", 13) == 0 || strncasecmp(user, "S-1-5-", 6) == 0 ||
        !strchr(user, '@') || strlen(user) > 1024)
        return NULL;
    *ret_deny = deny;
    return user;
}

static void keep_rights(struct pfx_doc *doc, const cJSON *root, struct rights *rights)
{
    bool deny = false;
    for (const cJSON *row = pfx_page_rows(doc, root, MAX_RIGHTS); row && !doc->bad; row = row->next) {
        const char *user = user_of(doc, row, &deny);
        if (!user)
            continue;
        if (rights->n == MAX_RIGHTS) {
            pfx_doc_wrong(doc, "value", "names more users than a mailbox can have");
            return;
        }
        rights->rows[rights->n].deny = deny;
        rights->rows[rights->n++].user = pfx_strdup(user);
    }
}

static bool is_denied(const struct rights *rights, const char *user)
{
    for (size_t i = 0; i < rights->n; i++)
        if (rights->rows[i].deny && strcasecmp(rights->rows[i].user, user) == 0)
            return true;
    return false;
}

static void ask_rights(struct pfx_task *task, char *url);

static void on_rights(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    struct rights *rights = pfx_task_get(task);
    struct pfx_pages pages = pages_of(task, "read mailbox rights");
    const char *link = NULL;
    keep_rights(&doc, pfx_doc_root(&doc), rights);
    if (!pfx_page_next(task, &pages, answer, &doc, &link))
        return;
    if (link && ++rights->pages == MAX_PAGES) {
        pfx_task_fail_content(task, answer, "its pages don't end");
        return;
    }
    if (link) {
        ask_rights(task, pfx_strdup(link));
        return;
    }
    struct pfx_msg *result = pfx_task_result(task);
    for (size_t i = 0; i < rights->n; i++)
        if (!is_denied(rights, rights->rows[i].user))
            pfx_msg_add_str(result, "users", rights->rows[i].user);
    pfx_task_ok(task, result);
}

static void ask_rights(struct pfx_task *task, char *url)
{
    struct pfx_buf body = cmdlet_body("Get-MailboxPermission");
    pfx_doc_put_member(&body, "Identity", pfx_msg_str(pfx_task_body(task), "id"));
    run(task, "read mailbox rights", url, &body, on_rights);
}

static void mailbox_rights(struct pfx_task *task)
{
    struct rights *rights = pfx_task_state(task, sizeof *rights, rights_done);
    pfx_cmdlet_init(&rights->cmdlet, "Get-MailboxPermission", pfx_task_up(task)->conf->tenant);
    ask_rights(task, first_page(task));
}

/* --- for setup --- */

void pfx_exchange_try(struct pfx_task *task, const struct pfx_cmdlet *cmdlet, pfx_then_fn then,
                      pfx_otherwise_fn otherwise)
{
    struct pfx_buf body = cmdlet_body("Get-Mailbox");
    pfx_doc_put_member(&body, "RecipientTypeDetails", "SharedMailbox");
    pfx_doc_put_member(&body, "ResultSize", "1");
    pfx_buf_add_str(&body, "}}}");
    struct pfx_call call = {
        .service = PFX_SERVICE_EXCHANGE,
        .method = "POST",
        .url = pfx_asprintf("%s%s", exchange_url(task), cmdlet->path),
        .body = body,
        .expect = PFX_EXPECT_JSON,
        .op = "try Exchange",
        .reads = true,
        .headers = cmdlet->headers,
        .otherwise = otherwise,
    };
    pfx_task_call(task, &call, then);
}

/* --- errors --- */

/* The token is taken without either role; the app role opens the door, and the directory role says
 * what may be read: 401 without the first, 403 without the second. */
static const char *advice(long status)
{
    if (status == 401)
        return "The app needs the role Exchange.ManageAsApp (Office 365 Exchange Online) with "
               "admin consent, and the directory role Global Reader; `pfx-agent setup entra` "
               "prints the commands. A new role can take an hour.";
    if (status == 403)
        return "The app needs the directory role Global Reader, besides Exchange.ManageAsApp; "
               "`pfx-agent setup entra` prints the commands. A new role can take an hour.";
    if (status == 404)
        return "Check exchange.url and entra.tenant in uploader.yaml.";
    return "";
}

void pfx_exchange_explain(const struct pfx_answer *answer, struct pfx_told *told)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    if (pfx_doc_parse(answer->body, &doc, why)) {
        const cJSON *error = pfx_doc_obj(&doc, pfx_doc_root(&doc), "error", PFX_DOC_MAY);
        pfx_text_clean_str(told->code, sizeof told->code,
                           pfx_doc_str(&doc, error, "code", PFX_DOC_MAY));
        /* What the cmdlet says stands in the details; the message is often empty. */
        const cJSON *details = pfx_doc_array(&doc, error, "details", PFX_DOC_MAY);
        const cJSON *first = details && cJSON_IsObject(details->child) ? details->child : NULL;
        const char *message = pfx_doc_str(&doc, first, "message", PFX_DOC_MAY);
        if (!message || !message[0])
            message = pfx_doc_str(&doc, error, "message", PFX_DOC_MAY);
        pfx_text_clean_str(told->message, sizeof told->message, message);
    }
    snprintf(told->next, sizeof told->next, "%s", advice(answer->status));
}

const struct pfx_kind pfx_exchange_kinds[] = {
    {"up.mailboxes", mailboxes},
    {"up.mailbox_rights", mailbox_rights},
    {NULL, NULL},
};
