/* DigiCert CertCentral Services API v2: the body of an order. */
#include "api/uploader/digicert.h"

#include <string.h>

#include "api/conf/product.h"
#include "api/uploader/text.h"
#include "crypto/csr.h"
#include "crypto/key.h"

static pfx_result need(const struct pfx_msg *job, const char *member, const char *rule,
                       struct pfx_error *err)
{
    if (pfx_msg_has(job, member))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_USAGE, "order", pfx_msg_str(job, "product"), "",
                    "This product needs %s; set it in the rule in agent.yaml.", rule);
}

static bool wants_pseudonym(const struct pfx_msg *job)
{
    const char *indicator = pfx_msg_str(job, "common_name_indicator");
    /* With the address as common name the person is named in the subject in one way or the other.
     */
    return indicator && (strcmp(indicator, "pseudonym") == 0 ||
                         (strcmp(indicator, "email_address") == 0 &&
                          !pfx_msg_has(job, "first_name") && pfx_msg_has(job, "pseudonym")));
}

static pfx_result check_person(const struct pfx_msg *job, struct pfx_error *err)
{
    if (wants_pseudonym(job))
        return need(job, "pseudonym", "the person's pseudonym (common_name: pseudonym)", err);
    PFX_TRY(need(job, "first_name", "the person's first name (given name in Entra ID)", err));
    return need(job, "last_name", "the person's last name (surname in Entra ID)", err);
}

static pfx_result check(const struct pfx_msg *job, const struct pfx_product **ret_product,
                        struct pfx_error *err)
{
    const char *name = pfx_msg_str(job, "product");
    const struct pfx_product *product = pfx_product_find(name);
    char shown[70];
    if (!product || strcmp(product->ca, "digicert") != 0)
        return pfx_fail(
            err, PFX_CLASS_USAGE, "order", pfx_text_clean_str(shown, sizeof shown, name), "",
            "This product can't be ordered at DigiCert; `pfx-agent config example agent` "
            "lists those that a rule takes.");
    if (product->organization == PFX_NEED_MUST)
        PFX_TRY(need(job, "organization", "the organization's id at DigiCert", err));
    if (product->indicator == PFX_NEED_MUST)
        PFX_TRY(need(job, "common_name_indicator", "common_name", err));
    if (product->indicators &&
        !pfx_product_allows(product->indicators, pfx_msg_str(job, "common_name_indicator")))
        return pfx_fail(
            err, PFX_CLASS_USAGE, "order", name, "",
            "This product's common_name is one of %s; set it in the rule in agent.yaml.",
            product->indicators);
    if (product->individual)
        PFX_TRY(check_person(job, err));
    if (product->common_name == PFX_NEED_MUST)
        PFX_TRY(need(job, "common_name", "the person's name (given name and surname in Entra ID)",
                     err));
    if (product->profile_types)
        PFX_TRY(need(job, "profile_type", "profile_type", err));
    if (product->profile_types &&
        !pfx_product_allows(product->profile_types, pfx_msg_str(job, "profile_type")))
        return pfx_fail(err, PFX_CLASS_USAGE, "order", name, "",
                        "This product's profile_type is %s; set it in the rule in agent.yaml.",
                        product->profile_types);
    if (pfx_msg_has(job, "years") == pfx_msg_has(job, "days"))
        return pfx_fail(err, PFX_CLASS_USAGE, "order", name, "",
                        "An order has a validity in years or in days, one of both.");
    if (pfx_msg_int(job, "years") > 2)
        return pfx_fail(
            err, PFX_CLASS_USAGE, "order", name, "",
            "DigiCert's S/MIME certificates are valid for two years (824 days) at most.");
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

/* Names or a pseudonym, never both: a certificate names a person in one of the two ways (CA/Browser
 * Forum, S/MIME Baseline Requirements, 7.1.4.2.2). */
static void put_person(struct pfx_buf *out, const struct pfx_msg *job)
{
    pfx_doc_put_name(out, "individual");
    pfx_buf_add_str(out, "{");
    if (wants_pseudonym(job)) {
        pfx_doc_put_member(out, "pseudonym", pfx_msg_str(job, "pseudonym"));
    } else {
        pfx_doc_put_member(out, "first_name", pfx_msg_str(job, "first_name"));
        pfx_doc_put_member(out, "last_name", pfx_msg_str(job, "last_name"));
    }
    pfx_buf_add_str(out, "}");
}

static void put_certificate(struct pfx_buf *out, const struct pfx_msg *job,
                            const struct pfx_product *product, const char *csr,
                            enum pfx_purpose purpose)
{
    pfx_doc_put_name(out, "certificate");
    pfx_buf_add_str(out, "{");
    /* Whoever goes by a pseudonym isn't named beside it. */
    if (product->common_name != PFX_NEED_NO && pfx_msg_has(job, "common_name") &&
        !(product->individual && wants_pseudonym(job)))
        pfx_doc_put_member(out, "common_name", pfx_msg_str(job, "common_name"));
    put_list(out, job, "addresses", "emails");
    pfx_doc_put_member(out, "csr", csr);
    pfx_doc_put_member(out, "signature_hash", "sha256");
    /* The default differs from account to account. */
    if (product->profile_types)
        pfx_doc_put_member(out, "profile_type", pfx_msg_str(job, "profile_type"));
    if (product->indicator != PFX_NEED_NO)
        pfx_doc_put_member(out, "common_name_indicator", pfx_msg_str(job, "common_name_indicator"));
    if (product->individual)
        put_person(out, job);
    put_usage(out, job, purpose);
    pfx_buf_add_str(out, "}");
}

/* The mark comes first: by it a lost order is found again. */
static void put_comments(struct pfx_buf *out, const struct pfx_msg *job)
{
    const char *more = pfx_msg_str(job, "comment");
    char *text PFX_AUTOFREE = pfx_asprintf(PFX_DIGICERT_COMMENT "%s%s%s", pfx_msg_str(job, "token"),
                                           more ? " " : "", more ? more : "");
    pfx_doc_put_member(out, "comments", text);
}

static void put_fields(struct pfx_buf *out, const struct pfx_msg *job)
{
    pfx_doc_put_name(out, "custom_fields");
    pfx_buf_add_str(out, "[");
    for (size_t i = 0; i < pfx_msg_count(job, "custom_fields"); i++) {
        const struct pfx_msg *field = pfx_msg_obj_at(job, "custom_fields", i);
        pfx_buf_addf(out, "%s{\"metadata_id\":%lld", i > 0 ? "," : "",
                     (long long)pfx_msg_int(field, "id"));
        pfx_doc_put_member(out, "value", pfx_msg_str(field, "value"));
        pfx_buf_add_str(out, "}");
    }
    pfx_buf_add_str(out, "]");
}

pfx_result pfx_digicert_order_body(const struct pfx_msg *job, struct pfx_buf *out,
                                   struct pfx_error *err)
{
    const struct pfx_product *product = NULL;
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
    if (product->organization != PFX_NEED_NO && pfx_msg_has(job, "organization")) {
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
    put_comments(out, job);
    if (pfx_msg_count(job, "custom_fields") > 0)
        put_fields(out, job);
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
