/* DigiCert: how its answers read, where its pages leave more than one reading. Pure. */
#include "api/uploader/digicert.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/uploader/text.h"
#include "crypto/cert.h"

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t n = strlen(end);
    return len >= n && strcmp(text + len - n, end) == 0;
}

static const char *advice(const struct pfx_told *told, const struct pfx_answer *answer)
{
    bool names_product = strstr(told->code, "product") != NULL;
    if (answer->status == 401 || (answer->status == 403 && !names_product))
        return "DigiCert doesn't take the API key, or the key may not do this: give a valid one "
               "with `pfx-agent secret set digicert` (its restriction \"Orders\" is enough).";
    bool resend = answer->url && ends_with(answer->url, "/resend-emails");
    if (resend && answer->status >= 400 && answer->status < 500)
        return "DigiCert documents this request for TLS orders only. Resend the mail in "
               "CertCentral (Certificates > Orders, the order's page), or ask the person for the "
               "first one.";
    if (strcmp(told->code, "bad_request_format") == 0)
        return "This can mean that no payment card is saved at DigiCert while payment_method is "
               "profile: save one, or set payment_method: balance.";
    if (names_product)
        return "The product may have to be enabled for the account by DigiCert's account manager; "
               "`pfx-agent setup digicert` lists which ones are.";
    if (strcmp(told->code, "time_frame_too_long") == 0)
        return "Status changes reach back 7 days at most.";
    if (strstr(told->code, "funds") || strstr(told->message, "funds"))
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
    snprintf(told->next, sizeof told->next, "%s", advice(told, answer));
}

bool pfx_digicert_time(const char *text, bool end_of_day, int64_t *ret_ms)
{
    if (pfx_time_parse(text, ret_ms))
        return true;
    if (pfx_date_parse(text, ret_ms)) {
        *ret_ms += end_of_day ? 86399000 : 0;
        return true;
    }
    /* "2019-06-21 13:37:00": the same without T and zone. */
    char full[40];
    if (strlen(text) != 19 || text[10] != ' ')
        return false;
    snprintf(full, sizeof full, "%.10sT%sZ", text, text + 11);
    return pfx_time_parse(full, ret_ms);
}

pfx_result pfx_digicert_pick(struct pfx_bytes bundle, struct pfx_bytes spki, struct pfx_msg *result,
                             struct pfx_error *err)
{
    PFX_AUTOCERTS struct pfx_certs *certs = NULL;
    PFX_AUTOCERTS struct pfx_certs *chain = NULL;
    size_t leaf = 0;
    PFX_TRY(pfx_certs_parse(bundle, &certs, err));
    PFX_TRY(pfx_certs_pick(certs, spki, &leaf, err));
    struct pfx_bytes der = pfx_certs_at(certs, leaf);
    PFX_TRY(pfx_cert_order_chain(der, certs, &chain, err));
    pfx_msg_set_blob(result, "leaf", der.data, der.len);
    for (size_t i = 1; i < pfx_certs_count(chain); i++) {
        struct pfx_bytes link = pfx_certs_at(chain, i);
        pfx_msg_add_blob(result, "chain", link.data, link.len);
    }
    return PFX_OK;
}

bool pfx_digicert_count(struct pfx_digicert_tally *tally, struct pfx_doc *doc)
{
    bool good = !doc->bad;
    if (good) {
        tally->read++;
    } else if (tally->odd++ == 0) {
        snprintf(tally->why, sizeof tally->why, "%s", doc->why);
    }
    doc->bad = false;
    doc->why[0] = '\0';
    return good;
}

bool pfx_digicert_tolerable(const struct pfx_digicert_tally *tally, const char *list)
{
    if (tally->odd == 0)
        return true;
    if (tally->read == 0)
        return false;
    pfx_log(PFX_LOG_WARN,
            "DigiCert: %zu of %zu entries of its %s can't be read and are left out: %s", tally->odd,
            tally->read + tally->odd, list, tally->why);
    return true;
}

bool pfx_digicert_more(const cJSON *root, int64_t listed, int64_t upto)
{
    struct pfx_doc aside = {0};
    const cJSON *page = pfx_doc_obj(&aside, root, "page", PFX_DOC_MAY);
    int64_t total = pfx_doc_int(&aside, page, "total", PFX_DOC_MAY);
    int64_t limit = pfx_doc_int(&aside, page, "limit", PFX_DOC_MAY);
    /* Without a total, the page may have been given less than was asked for. */
    bool full = listed >= PFX_DIGICERT_PAGE || (total == 0 && limit > 0 && listed >= limit);
    return listed > 0 && (total > upto || full);
}
