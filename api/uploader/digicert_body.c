/* DigiCert CertCentral Services API v2: the body of an order, and how its errors read. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#include "api/uploader/text.h"
#include "crypto/csr.h"
#include "crypto/key.h"

static const struct product {
    const char *name;
    bool organization, indicator, individual;
} products[] = {
    {"secure_email_mailbox", false, false, false},
    {"secure_email_sponsor", true, true, true},
    {"secure_email_organization", true, true, false},
};

static const struct product *find_product(const char *name)
{
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        if (strcmp(products[i].name, name) == 0)
            return &products[i];
    return NULL;
}

static pfx_result need(const struct pfx_msg *job, const char *member, const char *rule,
                       struct pfx_error *err)
{
    if (pfx_msg_has(job, member))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_USAGE, "order", pfx_msg_str(job, "product"), "",
                    "This product needs %s; set it in the rule in agent.yaml.", rule);
}

static pfx_result check(const struct pfx_msg *job, const struct product **ret_product,
                        struct pfx_error *err)
{
    const char *name = pfx_msg_str(job, "product");
    const struct product *product = find_product(name);
    char shown[70];
    if (!product)
        return pfx_fail(err, PFX_CLASS_USAGE, "order",
                        pfx_text_clean_str(shown, sizeof shown, name), "",
                        "This product can't be ordered; the rule in agent.yaml takes "
                        "secure_email_mailbox, secure_email_sponsor or secure_email_organization.");
    if (product->organization)
        PFX_TRY(need(job, "organization", "the organization's id at DigiCert", err));
    if (product->indicator)
        PFX_TRY(need(job, "common_name_indicator", "common_name_indicator", err));
    if (product->individual) {
        PFX_TRY(need(job, "first_name", "the person's first name (given name in Entra ID)", err));
        PFX_TRY(need(job, "last_name", "the person's last name (surname in Entra ID)", err));
    }
    if (pfx_msg_has(job, "years") == pfx_msg_has(job, "days"))
        return pfx_fail(err, PFX_CLASS_USAGE, "order", name, "",
                        "An order has a validity in years or in days, one of both.");
    if (pfx_msg_count(job, "addresses") == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "order", name, "", "An order needs an address.");
    *ret_product = product;
    return PFX_OK;
}

static void put_list(struct pfx_buf *out, const struct pfx_msg *job, const char *from,
                     const char *name)
{
    pfx_doc_put_name(out, name);
    pfx_buf_add_str(out, "[");
    for (size_t i = 0; i < pfx_msg_count(job, from); i++) {
        if (i > 0)
            pfx_buf_add_str(out, ",");
        pfx_doc_put(out, pfx_msg_str_at(job, from, i));
    }
    pfx_buf_add_str(out, "]");
}

static void put_usage(struct pfx_buf *out, const struct pfx_msg *job, enum pfx_purpose purpose)
{
    static const char *const primary[] = {
        [PFX_PURPOSE_SIGNING] = "signing",
        [PFX_PURPOSE_ENCRYPTION] = "key_management",
        [PFX_PURPOSE_DUAL] = "dual_use",
    };
    pfx_doc_put_name(out, "usage_designation");
    pfx_buf_add_str(out, "{");
    pfx_doc_put_member(out, "primary_usage", primary[purpose]);
    if (pfx_msg_count(job, "additional_usages") > 0)
        put_list(out, job, "additional_usages", "additional_usages");
    pfx_buf_add_str(out, "}");
}

static void put_certificate(struct pfx_buf *out, const struct pfx_msg *job,
                            const struct product *product, const char *csr,
                            enum pfx_purpose purpose)
{
    pfx_doc_put_name(out, "certificate");
    pfx_buf_add_str(out, "{");
    put_list(out, job, "addresses", "emails");
    pfx_doc_put_member(out, "csr", csr);
    pfx_doc_put_member(out, "signature_hash", "sha256");
    /* The default differs from account to account. */
    pfx_doc_put_member(out, "profile_type", pfx_msg_str(job, "profile_type"));
    if (product->indicator)
        pfx_doc_put_member(out, "common_name_indicator", pfx_msg_str(job, "common_name_indicator"));
    if (product->individual) {
        pfx_doc_put_name(out, "individual");
        pfx_buf_add_str(out, "{");
        pfx_doc_put_member(out, "first_name", pfx_msg_str(job, "first_name"));
        pfx_doc_put_member(out, "last_name", pfx_msg_str(job, "last_name"));
        pfx_buf_add_str(out, "}");
    }
    put_usage(out, job, purpose);
    pfx_buf_add_str(out, "}");
}

pfx_result pfx_digicert_order_body(const struct pfx_msg *job, struct pfx_buf *out,
                                   struct pfx_error *err)
{
    const struct product *product = NULL;
    PFX_TRY(check(job, &product, err));
    enum pfx_purpose purpose;
    if (!pfx_purpose_parse(pfx_msg_str(job, "purpose"), &purpose))
        return pfx_fail(err, PFX_CLASS_USAGE, "order", product->name, "",
                        "The purpose isn't signing, encryption or dual.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf csr = pfx_buf_make(64 * 1024);
    if (!pfx_csr_pem(pfx_msg_blob(job, "csr"), true, &csr))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "order", product->name, "",
                        "The request can't be written as PEM.");
    pfx_buf_add_str(out, "{");
    put_certificate(out, job, product, pfx_buf_str(&csr), purpose);
    if (product->organization) {
        pfx_doc_put_name(out, "organization");
        pfx_buf_addf(out, "{\"id\":%lld}", (long long)pfx_msg_int(job, "organization"));
    }
    const char *unit = pfx_msg_has(job, "years") ? "years" : "days";
    pfx_doc_put_name(out, "order_validity");
    pfx_buf_addf(out, "{\"%s\":%lld}", unit, (long long)pfx_msg_int(job, unit));
    pfx_doc_put_name(out, "skip_approval");
    pfx_buf_add_str(out, "true");
    if (pfx_msg_has(job, "payment_method"))
        pfx_doc_put_member(out, "payment_method", pfx_msg_str(job, "payment_method"));
    char comment[64];
    snprintf(comment, sizeof comment, PFX_DIGICERT_COMMENT "%s", pfx_msg_str(job, "token"));
    pfx_doc_put_member(out, "comments", comment);
    if (pfx_msg_has(job, "renewal_of")) {
        pfx_doc_put_name(out, "renewal_of_order_id");
        pfx_buf_addf(out, "%lld", (long long)pfx_msg_int(job, "renewal_of"));
    }
    pfx_buf_add_str(out, "}");
    if (out->over)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "order", product->name, "",
                        "The order's body is too large.");
    return PFX_OK;
}

static const char *advice(const char *code, const char *message, long status)
{
    if (status == 401 || status == 403)
        return "DigiCert doesn't take the API key, or the key may not do this: give a valid one "
               "with `pfx-agent secret set digicert` (its restriction \"Orders\" is enough).";
    if (strcmp(code, "bad_request_format") == 0)
        return "This can mean that no payment card is saved at DigiCert while payment_method is "
               "profile: save one, or set payment_method: balance.";
    if (strncmp(code, "not_found|product", 17) == 0 || strstr(code, "product"))
        return "The product may have to be enabled for the account by DigiCert's account manager.";
    if (strcmp(code, "time_frame_too_long") == 0)
        return "Status changes reach back 7 days at most.";
    if (strstr(code, "funds") || strstr(message, "funds"))
        return "Pay in at DigiCert, or set payment_method: profile.";
    return "";
}

/* {"errors":[{"code","message"}]}, or the older form without the list. */
void pfx_digicert_explain(const struct pfx_answer *answer, struct pfx_told *told)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    if (pfx_doc_parse(answer->body, &doc, why)) {
        const cJSON *entry = NULL;
        const cJSON *root = pfx_doc_root(&doc);
        for (const cJSON *item = root ? root->child : NULL; item && !entry; item = item->next)
            if (item->string && strcmp(item->string, "errors") == 0)
                entry = cJSON_IsArray(item) ? item->child : item;
        if (!cJSON_IsObject(entry))
            entry = NULL;
        pfx_text_clean_str(told->code, sizeof told->code,
                           pfx_doc_str(&doc, entry, "code", PFX_DOC_MAY));
        pfx_text_clean_str(told->message, sizeof told->message,
                           pfx_doc_str(&doc, entry, "message", PFX_DOC_MAY));
    }
    snprintf(told->next, sizeof told->next, "%s",
             advice(told->code, told->message, answer->status));
}
