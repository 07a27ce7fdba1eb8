#include "api/uploader/entra.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/json.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define MAX_TOKEN 16384

static const struct {
    int64_t code;
    const char *advice;
} advices[] = {
    {700027, "Entra doesn't know the certificate of the key that signed: upload the one that "
             "`pfx-agent key export-public` writes to the app registration (Certificates & "
             "secrets), and check that the client id in hsm-policy.yaml is that app's."},
    {700016, "The app isn't known in this tenant: check entra.tenant in uploader.yaml and the "
             "client id in hsm-policy.yaml."},
    {90002, "The tenant isn't known there: check entra.tenant and entra.url (the right cloud) in "
            "uploader.yaml."},
    {900023, "entra.tenant in uploader.yaml isn't a tenant's id."},
    {700024, "The assertion isn't within its time: check this host's clock (timedatectl)."},
    {700021, "The assertion's audience isn't this endpoint: login URL and tenant must be the same "
             "in uploader.yaml and hsm-policy.yaml."},
    {700023, "The assertion's audience isn't this endpoint: login URL and tenant must be the same "
             "in uploader.yaml and hsm-policy.yaml."},
    {50012, "The assertion's signature isn't right: check the certificate at the app registration "
            "against `pfx-agent key show`."},
    {50013, "The assertion's signature isn't right: the certificate at the app registration has "
            "another key than the client key in the HSM; compare with `pfx-agent key show`."},
    {50027, "Entra can't read the assertion: see the log of pfx-hsm, and report this as a defect."},
    {7000112, "The app is disabled in this tenant: enable it under Enterprise applications."},
    {7000215, "Entra took this for a client secret: the app registration needs the certificate "
              "that `pfx-agent key export-public` writes."},
    {7000216, "Entra got no assertion: report this as a defect."},
    {7000222, "The app's credential has expired: upload a current certificate to the app "
              "registration."},
    {7000229, "The app has no service principal in this tenant: grant admin consent to it."},
    {53003, "A Conditional Access policy for workload identities blocks the app: allow it from "
            "this host's addresses."},
    {53000, "A Conditional Access policy wants a managed device: exempt the app."},
    {50079, "A policy wants multi-factor authentication, which an app can't do: exempt the app."},
    {500011, "Graph isn't known under this address in the tenant: check graph.url in uploader.yaml "
             "(the right cloud)."},
    {1002012, "Entra doesn't take the scope: check graph.url in uploader.yaml."},
    {900382, "The login endpoint is of another cloud than the tenant: check entra.url."},
    {50034, "The app's account isn't known in this tenant: check entra.tenant."},
    {500341, "The app's account was deleted from the tenant."},
    {501051, "The app needs an app role: grant admin consent to its permissions."},
    {70003, "Entra doesn't allow this kind of sign-in for the app."},
    {90015, "Entra finds a field in the request that it doesn't know: report this as a defect."},
};

const char *pfx_entra_advice(int64_t code)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++)
        if (advices[i].code == code)
            return advices[i].advice;
    return "";
}

/* error_codes decides; an older answer has the number in its description only. */
static int64_t first_code(struct pfx_doc *doc, const cJSON *root)
{
    const cJSON *codes = pfx_doc_array(doc, root, "error_codes", PFX_DOC_MAY);
    if (codes && codes->child && cJSON_IsNumber(codes->child) && codes->child->valuedouble > 0 &&
        codes->child->valuedouble < 1e9)
        return (int64_t)codes->child->valuedouble;
    const char *text = pfx_doc_str(doc, root, "error_description", PFX_DOC_MAY);
    const char *at = text ? strstr(text, "AADSTS") : NULL;
    return at && at[6] >= '1' && at[6] <= '9' ? strtoll(at + 6, NULL, 10) : 0;
}

/* The description repeats the ids and the time behind its first line or sentence. */
static size_t description_len(const char *text)
{
    size_t len = strcspn(text, "\r\n");
    const char *trace = strstr(text, " Trace ID:");
    if (trace && (size_t)(trace - text) < len)
        len = (size_t)(trace - text);
    return len;
}

void pfx_entra_explain(const struct pfx_answer *answer, struct pfx_told *told)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    if (!pfx_doc_parse(answer->body, &doc, why))
        return;
    const cJSON *root = pfx_doc_root(&doc);
    const char *error = pfx_doc_str(&doc, root, "error", PFX_DOC_MAY);
    const char *text = pfx_doc_str(&doc, root, "error_description", PFX_DOC_MAY);
    int64_t code = first_code(&doc, root);
    if (code > 0)
        snprintf(told->code, sizeof told->code, "AADSTS%lld", (long long)code);
    else
        pfx_text_clean_str(told->code, sizeof told->code, error);
    if (text)
        pfx_text_clean(told->message, sizeof told->message, text, description_len(text));
    else
        pfx_text_clean_str(told->message, sizeof told->message, error);
    snprintf(told->next, sizeof told->next, "%s", pfx_entra_advice(code));
    char trace[64];
    char correlation[64];
    pfx_text_clean_str(trace, sizeof trace, pfx_doc_str(&doc, root, "trace_id", PFX_DOC_MAY));
    pfx_text_clean_str(correlation, sizeof correlation,
                       pfx_doc_str(&doc, root, "correlation_id", PFX_DOC_MAY));
    snprintf(told->ids, sizeof told->ids, "trace id %s, correlation id %s", trace, correlation);
}

enum pfx_class pfx_entra_class(const struct pfx_answer *answer, enum pfx_class judged)
{
    if (judged != PFX_CLASS_REFUSED || answer->status < 400 || !pfx_trouble_is_json(answer))
        return judged;
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    if (!pfx_doc_parse(answer->body, &doc, why))
        return judged;
    const cJSON *root = pfx_doc_root(&doc);
    const char *error = pfx_doc_str(&doc, root, "error", PFX_DOC_MAY);
    int64_t code = first_code(&doc, root);
    bool passing = (error && (strcmp(error, "temporarily_unavailable") == 0 ||
                              strcmp(error, "server_error") == 0)) ||
                   code == 90033 || code == 90055 || code == 50196;
    return passing ? PFX_CLASS_TRANSIENT : judged;
}

/* What may stand in a header: RFC 6750's b64token, and with it nothing that ends a line. */
static bool is_token(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len <= MAX_TOKEN &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") ==
               len;
}

/* Managed identities write the number as a text. */
static int64_t lifetime_s(struct pfx_doc *doc, const cJSON *root)
{
    for (const cJSON *item = root ? root->child : NULL; item; item = item->next) {
        if (!item->string || strcmp(item->string, "expires_in") != 0 || !cJSON_IsString(item))
            continue;
        const char *text = pfx_doc_str(doc, root, "expires_in", PFX_DOC_NEED);
        size_t len = text ? strlen(text) : 0;
        if (len == 0 || len > 9 || strspn(text, "0123456789") != len) {
            pfx_doc_wrong(doc, "expires_in", "isn't a number");
            return 0;
        }
        return strtoll(text, NULL, 10);
    }
    return pfx_doc_int(doc, root, "expires_in", PFX_DOC_NEED);
}

pfx_result pfx_entra_token(const struct pfx_trouble *trouble, const struct pfx_answer *answer,
                           struct pfx_secret **ret_token, int64_t *ret_lifetime_ms,
                           struct pfx_error *err)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    if (!pfx_doc_parse(answer->body, &doc, why))
        return pfx_trouble_content(trouble, answer, PFX_CLASS_TRANSIENT, why, err);
    const cJSON *root = pfx_doc_root(&doc);
    const char *type = pfx_doc_str(&doc, root, "token_type", PFX_DOC_NEED);
    const char *token = pfx_doc_str(&doc, root, "access_token", PFX_DOC_NEED);
    int64_t seconds = lifetime_s(&doc, root);
    if (type && strcasecmp(type, "Bearer") != 0)
        pfx_doc_wrong(&doc, "token_type", "isn't Bearer");
    if (token && !is_token(token))
        pfx_doc_wrong(&doc, "access_token", "holds characters that a token can't have");
    if (!doc.bad && (seconds < 1 || seconds > 7 * 86400))
        pfx_doc_wrong(&doc, "expires_in", "is out of range");
    if (doc.bad)
        return pfx_trouble_content(trouble, answer, PFX_CLASS_INTEGRITY, doc.why, err);
    PFX_TRY(pfx_secret_copy(token, strlen(token), ret_token, err));
    *ret_lifetime_ms = seconds * 1000;
    return PFX_OK;
}

void pfx_entra_form(struct pfx_buf *out, const char *client_id, const char *resource,
                    const char *assertion)
{
    pfx_buf_add_str(out, "client_id=");
    pfx_url_encode(out, client_id);
    pfx_buf_add_str(out, "&scope=");
    pfx_url_encode(out, resource);
    pfx_url_encode(out, "/.default");
    pfx_buf_add_str(out, "&grant_type=client_credentials&client_assertion_type=");
    pfx_url_encode(out, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    pfx_buf_add_str(out, "&client_assertion=");
    pfx_url_encode(out, assertion);
}
