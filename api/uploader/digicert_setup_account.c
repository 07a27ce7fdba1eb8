/* `setup digicert`: how the account pays, and its custom fields. */
#include "api/uploader/digicert_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/uploader/text.h"

#define MAX_FIELDS 200

/* --- payment --- */

bool pfx_setup_pays(struct pfx_task *task, bool balance)
{
    for (size_t i = 0; i < pfx_setup_products(task); i++) {
        const char *method = pfx_msg_str(pfx_setup_product(task, i), "payment_method");
        if (balance == (method && strcmp(method, "balance") == 0))
            return true;
    }
    return false;
}

/* No page of DigiCert's names a request that lists saved cards. */
void pfx_setup_card(struct pfx_task *task)
{
    if (pfx_setup_pays(task, false))
        pfx_setup_find(
            task, "payment by saved card", "warn",
            "CertCentral, signed in as the key's user: Finances > Credit Cards; or payment: "
            "balance in the rule.",
            "Rules without payment: balance are paid as the account has it, mostly with a saved "
            "card. That can't be looked up. A card counts for the user who saved it only: that has "
            "to be the key's user. Without one, orders are refused with bad_request_format.");
}

void pfx_setup_balance(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    bool unlimited = pfx_doc_bool(&doc, root, "unlimited_negative_balance", PFX_DOC_MAY);
    const char *total = pfx_doc_str(&doc, root, "total_available_funds", PFX_DOC_MAY);
    const char *funds = total ? total : pfx_doc_str(&doc, root, "balance", PFX_DOC_NEED);
    const char *currency = pfx_doc_str(&doc, root, "currency", PFX_DOC_MAY);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    static const char deposit[] = "CertCentral: Finances > Deposit Funds.";
    char *end = NULL;
    double amount = strtod(funds, &end);
    char shown[40];
    pfx_text_clean_str(shown, sizeof shown, funds);
    if (unlimited)
        pfx_setup_find(task, PFX_SETUP_OF_BALANCE, "ok", NULL,
                       "The account may go below zero without a limit.");
    else if (end == funds || *end != '\0')
        pfx_setup_find(task, PFX_SETUP_OF_BALANCE, "warn", PFX_SETUP_BALANCE,
                       "DigiCert says \"%s\".", shown);
    else
        pfx_setup_find(task, PFX_SETUP_OF_BALANCE, amount > 0 ? "ok" : "bad",
                       amount > 0 ? NULL : deposit, "%s %.8s can be spent.", shown,
                       currency ? currency : "");
    pfx_setup_next(task);
}

/* --- custom fields --- */

static bool sends_field(const struct pfx_msg *product, int64_t id)
{
    for (size_t i = 0; i < pfx_msg_count(product, "custom_fields"); i++)
        if (strtoll(pfx_msg_str_at(product, "custom_fields", i), NULL, 10) == id)
            return true;
    return false;
}

/* The rule that leaves a field out, or sends it; NULL: none. */
static const char *rule_with(struct pfx_task *task, int64_t id, bool sends)
{
    for (size_t i = 0; i < pfx_setup_products(task); i++)
        if (sends_field(pfx_setup_product(task, i), id) == sends)
            return pfx_msg_str(pfx_setup_product(task, i), "rule");
    return NULL;
}

struct field {
    int64_t id;
    bool required, active;
    char label[80];
};

static bool read_field(const cJSON *item, struct field *ret_field)
{
    struct pfx_doc one = {0};
    struct pfx_doc active = {0}; /* what else is odd doesn't make the field unknown */
    struct pfx_doc aside = {0};
    ret_field->id = pfx_doc_int(&one, item, "id", PFX_DOC_NEED);
    ret_field->required = pfx_doc_bool(&aside, item, "is_required", PFX_DOC_MAY);
    ret_field->active = !pfx_doc_has(item, "is_active") ||
                        pfx_doc_bool(&active, item, "is_active", PFX_DOC_MAY) || active.bad;
    pfx_text_clean_str(ret_field->label, sizeof ret_field->label,
                       pfx_doc_str(&aside, item, "label", PFX_DOC_MAY));
    return !one.bad;
}

static void tell_field(struct pfx_task *task, const cJSON *list, int64_t id)
{
    char what[64];
    snprintf(what, sizeof what, "custom field %lld", (long long)id);
    struct field field;
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        if (!read_field(item, &field) || field.id != id)
            continue;
        if (field.active)
            pfx_setup_find(task, what, "ok", NULL, "It is the account's field \"%s\".",
                           field.label);
        else
            pfx_setup_find(task, what, "bad", PFX_SETUP_FIELDS,
                           "The account's field \"%s\" is deactivated.", field.label);
        return;
    }
    pfx_setup_find(task, what, "bad", PFX_SETUP_FIELDS,
                   "Rule %s: the account has no field with this id.", rule_with(task, id, true));
}

/* Each id that some rule sends, once. */
static size_t collect_fields(struct pfx_task *task, int64_t ids[MAX_FIELDS])
{
    size_t n = 0;
    for (size_t i = 0; i < pfx_setup_products(task); i++) {
        const struct pfx_msg *product = pfx_setup_product(task, i);
        for (size_t k = 0; k < pfx_msg_count(product, "custom_fields"); k++) {
            int64_t id = strtoll(pfx_msg_str_at(product, "custom_fields", k), NULL, 10);
            size_t j = 0;
            while (j < n && ids[j] != id)
                j++;
            if (j == n && n < MAX_FIELDS)
                ids[n++] = id;
        }
    }
    return n;
}

void pfx_setup_fields(struct pfx_task *task, const struct pfx_answer *answer)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const cJSON *list = pfx_doc_array(&doc, pfx_doc_root(&doc), "metadata", PFX_DOC_MAY);
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    int64_t ids[MAX_FIELDS];
    size_t n_ids = collect_fields(task, ids);
    for (size_t i = 0; i < n_ids; i++)
        tell_field(task, list, ids[i]);
    struct field field;
    size_t n = 0;
    for (const cJSON *item = list ? list->child : NULL; item && n < MAX_FIELDS;
         item = item->next, n++) {
        const char *rule = NULL;
        if (!read_field(item, &field) || !field.required || !field.active ||
            !(rule = rule_with(task, field.id, false)))
            continue;
        char what[64];
        snprintf(what, sizeof what, "custom field %lld", (long long)field.id);
        pfx_setup_find(task, what, "bad", "Add it to the rule's custom_fields; " PFX_SETUP_FIELDS,
                       "Rule %s leaves out \"%s\", which the account requires.", rule, field.label);
    }
    pfx_setup_next(task);
}
