/*
 * `setup digicert`: is the account ready for what the rules want? Only reads, and orders nothing.
 *
 * The key's restriction "Orders" is enough for pfx-agent and may bar some of these looks, and not
 * all pages of DigiCert agree on what is answered: what can't be looked up is a warning, never an
 * error. Click paths are those of CertCentral's main menu, as docs.digicert.com names them.
 */
#include "api/uploader/digicert_setup.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/conf/product.h"
#include "api/uploader/finding.h"
#include "api/uploader/text.h"

#define MAX_ORGANIZATIONS 50
#define SOON_MS ((int64_t)30 * 86400000)

#define NEW_KEY                                                                                    \
    "CertCentral: Automation > API Keys > Add API Key; then `pfx-agent secret set digicert`."
#define ENABLE                                                                                     \
    "Ask DigiCert's account manager to enable it; CertCentral: Settings > Product Settings lists " \
    "what the account has."
#define ORGANIZATIONS "CertCentral: Certificates > Organizations"

enum step { USER, PRODUCTS, ORGANIZATION, VALIDATION, BALANCE, CUSTOM_FIELDS, END };
struct setup {
    enum step step;
    struct pfx_msg *result;
    struct pfx_msg *restriction; /* its place is the second, what it says is known at the end */
    unsigned denied;             /* looks at the account that were forbidden */
    unsigned seen;               /* and that were answered */
    int64_t ids[MAX_ORGANIZATIONS];
    size_t n_ids, at;
    bool found;     /* the organization at hand is one of the account */
    char name[120]; /* of it */
};
static void setup_done(void *state)
{
    pfx_msg_free(((struct setup *)state)->result);
}

void pfx_setup_find(struct pfx_task *task, const char *what, const char *level, const char *next,
                    const char *fmt, ...)
{
    struct setup *s = pfx_task_get(task);
    char text[800];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pfx_finding_add(s->result, what, level, text, next);
}

size_t pfx_setup_products(struct pfx_task *task)
{
    return pfx_msg_count(pfx_task_body(task), "products");
}

const struct pfx_msg *pfx_setup_product(struct pfx_task *task, size_t i)
{
    return pfx_msg_obj_at(pfx_task_body(task), "products", i);
}

/* --- what can't be looked up --- */

static const char *const step_names[] = {
    [USER] = "API key",
    [PRODUCTS] = "products of the account",
    [ORGANIZATION] = "organization",
    [VALIDATION] = "validation of the organization",
    [BALANCE] = PFX_SETUP_OF_BALANCE,
    [CUSTOM_FIELDS] = "custom fields",
};
static const char *const by_hand[] = {
    [PRODUCTS] = ENABLE,
    [ORGANIZATION] = ORGANIZATIONS " shows the organization's id and its validations.",
    [VALIDATION] = ORGANIZATIONS ", the organization's page, shows its validations.",
    [BALANCE] = PFX_SETUP_BALANCE,
    [CUSTOM_FIELDS] = PFX_SETUP_FIELDS,
};

static void on_failed(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    struct setup *s = pfx_task_get(task);
    s->seen -= s->step != USER;
    if (s->step == USER) {
        /* DigiCert is away, or pfx-hsm: nothing can be said at all. */
        if (result.cls != PFX_CLASS_REFUSED && result.cls != PFX_CLASS_USAGE) {
            pfx_task_fail(task, result, err);
            return;
        }
        pfx_setup_find(task, step_names[USER], "bad", NEW_KEY, "%s", err->text);
        s->step = END;
    } else if (pfx_trouble_denied(err)) {
        s->denied++;
        pfx_setup_find(
            task, step_names[s->step], "warn", by_hand[s->step],
            "It couldn't be looked up: the key may not read it. That is fine for orders, for which "
            "the restriction \"Orders\" is enough.");
        if (s->step == ORGANIZATION || s->step == VALIDATION) /* nor any other organization */
            s->at = s->n_ids;
    } else {
        pfx_setup_find(task, step_names[s->step], "warn", by_hand[s->step],
                       "It couldn't be looked up: %s", err->text);
        if (s->step == ORGANIZATION || s->step == VALIDATION)
            s->at++;
    }
    pfx_setup_next(task);
}

static void ask(struct pfx_task *task, enum step step, char *path, unsigned want, pfx_then_fn then)
{
    struct setup *s = pfx_task_get(task);
    s->step = step;
    s->seen += step != USER;
    struct pfx_call call = {
        .service = PFX_SERVICE_CA,
        .method = "GET",
        .url = pfx_asprintf("%s%s", pfx_task_up(task)->services[PFX_SERVICE_CA].url, path),
        .expect = PFX_EXPECT_JSON,
        .want = want,
        .op = "set up",
        .otherwise = on_failed,
    };
    free(path);
    pfx_task_call(task, &call, then);
}

/* --- the key, and who it belongs to --- */

static void on_user(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct setup *s = pfx_task_get(task);
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    const char *user = pfx_doc_str(&doc, root, "username", PFX_DOC_MAY);
    const char *status = pfx_doc_str(&doc, root, "status", PFX_DOC_MAY);
    const cJSON *roles = pfx_doc_array(&doc, root, "access_roles", PFX_DOC_MAY);
    char shown[100];
    if (status && strcmp(status, "active") != 0)
        pfx_setup_find(task, step_names[USER], "bad", NEW_KEY,
                       "DigiCert takes the key, but its user %s is %s.",
                       pfx_text_clean_str(shown, sizeof shown, user), status);
    else
        pfx_setup_find(task, step_names[USER], "ok", NULL,
                       "DigiCert takes the key; its user is %s.",
                       pfx_text_clean_str(shown, sizeof shown, user ? user : "not named"));
    s->restriction = pfx_msg_add_obj(s->result, "findings");
    bool standard = false;
    bool other = false;
    for (const cJSON *role = roles ? roles->child : NULL; role; role = role->next) {
        const char *name = pfx_doc_str(&doc, role, "name", PFX_DOC_MAY);
        standard = standard || (name && strcmp(name, "Standard User") == 0);
        other = other || (name && strcmp(name, "Standard User") != 0);
    }
    if (standard && !other)
        pfx_setup_find(
            task, "role of the key's user", "warn",
            "CertCentral: Account > Users, the user's page: give it the role Manager, or approve "
            "each request by hand.",
            "The user is a Standard User: DigiCert lets a manager approve each of its orders, "
            "although they ask to skip that.");
    pfx_setup_next(task);
}

static void tell_restriction(struct setup *s)
{
    if (!s->restriction)
        return;
    static const char what[] = "restriction of the key";
    if (s->denied > 0)
        pfx_finding_fill(
            s->restriction, what, "ok",
            "The key, or its user, may not read everything; pfx-agent needs orders only.", NULL);
    else if (s->seen == 0)
        pfx_finding_fill(s->restriction, what, "warn",
                         "It couldn't be found out, since no look at the account was answered.",
                         "CertCentral: Automation > API Keys shows each key's restriction.");
    else
        pfx_finding_fill(
            s->restriction, what, "warn",
            "The key may read the account's settings, so it isn't restricted to orders, which is "
            "all that pfx-agent needs.",
            "CertCentral: Automation > API Keys, the key, API key restrictions: Orders.");
}

/* --- products --- */

static bool is_listed(const cJSON *products, const char *name)
{
    struct pfx_doc aside = {0};
    for (const cJSON *item = products ? products->child : NULL; item; item = item->next) {
        const char *id = pfx_doc_str(&aside, item, "name_id", PFX_DOC_MAY);
        if (id && strcmp(id, name) == 0)
            return true;
    }
    return false;
}

static bool is_first(struct pfx_task *task, size_t i)
{
    const char *name = pfx_msg_str(pfx_setup_product(task, i), "product");
    for (size_t j = 0; j < i; j++)
        if (strcmp(pfx_msg_str(pfx_setup_product(task, j), "product"), name) == 0)
            return false;
    return true;
}

static void on_products(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *list = pfx_doc_array(&doc, pfx_doc_root(&doc), "products", PFX_DOC_NEED);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    for (size_t i = 0; i < pfx_setup_products(task); i++) {
        if (!is_first(task, i))
            continue;
        const char *name = pfx_msg_str(pfx_setup_product(task, i), "product");
        const struct pfx_product *product = pfx_product_find(name);
        char what[100];
        snprintf(what, sizeof what, "product %s", name);
        if (!product || strcmp(product->ca, "digicert") != 0)
            pfx_setup_find(task, what, "bad",
                           "Take another product, or a CA of one's own (ca: cmp in "
                           "uploader.yaml).",
                           "Rule %s: DigiCert has no such product.",
                           pfx_msg_str(pfx_setup_product(task, i), "rule"));
        else if (is_listed(list, name))
            pfx_setup_find(task, what, "ok", NULL, "It is enabled for the account.");
        else
            pfx_setup_find(task, what, "bad", ENABLE, "Rule %s: it isn't enabled for the account.",
                           pfx_msg_str(pfx_setup_product(task, i), "rule"));
    }
    pfx_setup_next(task);
}

/* --- organizations --- */

static void collect_organizations(struct pfx_task *task)
{
    struct setup *s = pfx_task_get(task);
    for (size_t i = 0; i < pfx_setup_products(task); i++) {
        int64_t id = pfx_msg_int(pfx_setup_product(task, i), "organization");
        size_t j = 0;
        while (j < s->n_ids && s->ids[j] != id)
            j++;
        if (id <= 0 || j < s->n_ids)
            continue;
        if (s->n_ids == MAX_ORGANIZATIONS) {
            pfx_setup_find(
                task, step_names[ORGANIZATION], "warn", by_hand[ORGANIZATION],
                "The rules name more than %d organizations; the others weren't looked at.",
                MAX_ORGANIZATIONS);
            return;
        }
        s->ids[s->n_ids++] = id;
    }
}

static void what_organization(const struct setup *s, char what[64])
{
    snprintf(what, 64, "organization %lld", (long long)s->ids[s->at]);
}

static void on_organization(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct setup *s = pfx_task_get(task);
    char what[64];
    what_organization(s, what);
    if (answer->status >= 400) {
        pfx_setup_find(task, what, "bad",
                       ORGANIZATIONS " shows each organization's id (rules[].organization).",
                       "The account has no organization with this id (HTTP %ld).", answer->status);
        s->at++;
        pfx_setup_next(task);
        return;
    }
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    struct pfx_doc aside = {0};
    const cJSON *root = pfx_doc_root(&doc);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    pfx_text_clean_str(s->name, sizeof s->name, pfx_doc_str(&aside, root, "name", PFX_DOC_MAY));
    bool active = pfx_doc_bool(&aside, root, "is_active", PFX_DOC_MAY);
    if (pfx_doc_has(root, "is_active") && !active) {
        pfx_setup_find(task, what, "bad", ORGANIZATIONS ", the organization's page: activate it.",
                       "%s isn't active.", s->name);
        s->at++;
        pfx_setup_next(task);
        return;
    }
    s->found = true;
    pfx_setup_next(task);
}

/* S/MIME certificates with an organization need its S/MIME validation; Authentication Plus isn't
 * one of them. */
static bool wants_smime(struct pfx_task *task, int64_t id)
{
    for (size_t i = 0; i < pfx_setup_products(task); i++)
        if (pfx_msg_int(pfx_setup_product(task, i), "organization") == id &&
            strcmp(pfx_msg_str(pfx_setup_product(task, i), "product"),
                   "client_authentication_plus") != 0)
            return true;
    return false;
}

struct validity {
    bool wanted, other; /* active ones: of the type that is wanted, of another */
    bool pending;
    int64_t until; /* of the one wanted; 0: not said */
};

static struct validity read_validity(const cJSON *list, bool smime, int64_t now)
{
    struct validity v = {0};
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        struct pfx_doc one = {0};
        const char *type = pfx_doc_str(&one, item, "type", PFX_DOC_NEED);
        const char *status = pfx_doc_str(&one, item, "status", PFX_DOC_NEED);
        const char *until = pfx_doc_str(&one, item, "validated_until", PFX_DOC_MAY);
        if (one.bad)
            continue;
        int64_t end = 0;
        bool dated = until && pfx_digicert_time(until, true, &end);
        bool active = strcmp(status, "active") == 0 && (!dated || end > now);
        bool fits =
            smime ? strcmp(type, "smime") == 0 : strcmp(type, "ov") == 0 || strcmp(type, "ev") == 0;
        if (active && fits) {
            v.wanted = true;
            v.until = dated && end > v.until ? end : v.until;
        }
        v.other = v.other || (active && !fits);
        v.pending = v.pending || (fits && strcmp(status, "pending") == 0);
    }
    return v;
}

static void on_validation(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct setup *s = pfx_task_get(task);
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *list = pfx_doc_array(&doc, pfx_doc_root(&doc), "validations", PFX_DOC_MAY);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    static const char submit[] =
        ORGANIZATIONS ", the organization's page, Submit for Validation: choose S/MIME.";
    char what[64];
    what_organization(s, what);
    int64_t now = pfx_now_ms();
    bool smime = wants_smime(task, s->ids[s->at]);
    const char *type = smime ? "S/MIME" : "OV";
    struct validity v = read_validity(list, smime, now);
    char until[PFX_TIME_SIZE] = "";
    if (v.until > 0)
        pfx_time_format(v.until, false, until);
    if (v.wanted && v.until > 0 && v.until < now + SOON_MS)
        pfx_setup_find(task, what, "warn", submit, "%s: its %s validation ends on %.10s.", s->name,
                       type, until);
    else if (v.wanted)
        pfx_setup_find(task, what, "ok", NULL, "%s is validated for %s%s%.10s.", s->name, type,
                       until[0] ? " until " : "", until);
    else if (v.pending)
        pfx_setup_find(task, what, "warn",
                       ORGANIZATIONS ", the organization's page, says what is missing.",
                       "%s: its %s validation is pending; orders wait for it.", s->name, type);
    else if (v.other)
        pfx_setup_find(
            task, what, "warn", submit,
            "%s is validated, but not for %s; DigiCert does that with the first order, which waits "
            "for it.",
            s->name, type);
    else
        pfx_setup_find(task, what, "bad", submit, "%s isn't validated; orders wait until it is.",
                       s->name);
    s->at++;
    pfx_setup_next(task);
}

/* --- one after the other --- */

/* What comes after the step that is done. */
void pfx_setup_next(struct pfx_task *task)
{
    struct setup *s = pfx_task_get(task);
    if (s->step == USER) {
        ask(task, PRODUCTS, pfx_strdup("/product"), 0, on_products);
        return;
    }
    if (s->step == PRODUCTS)
        collect_organizations(task);
    if (s->step == ORGANIZATION && s->found) {
        s->found = false;
        ask(task, VALIDATION,
            pfx_asprintf("/organization/%lld/validation", (long long)s->ids[s->at]), 0,
            on_validation);
        return;
    }
    if (s->step <= VALIDATION && s->at < s->n_ids) {
        ask(task, ORGANIZATION, pfx_asprintf("/organization/%lld", (long long)s->ids[s->at]),
            PFX_WANT_404, on_organization);
        return;
    }
    if (s->step <= VALIDATION) {
        pfx_setup_card(task);
        if (pfx_setup_pays(task, true)) {
            ask(task, BALANCE, pfx_strdup("/finance/balance"), 0, pfx_setup_balance);
            return;
        }
    }
    if (s->step < CUSTOM_FIELDS) {
        ask(task, CUSTOM_FIELDS, pfx_strdup("/account/metadata"), 0, pfx_setup_fields);
        return;
    }
    tell_restriction(s);
    pfx_task_ok(task, PFX_TAKE(s->result));
}

void pfx_digicert_setup(struct pfx_task *task)
{
    struct setup *s = pfx_task_state(task, sizeof *s, setup_done);
    s->result = pfx_task_result(task);
    ask(task, USER, pfx_strdup("/user/me"), 0, on_user);
}
