#include "api/uploader/entra.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/uploader/json.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define MAX_TOKEN 16384

/* Numbers that mean the same to us stand together; what each means is Microsoft's list of codes
 * ("Microsoft Entra authentication and authorization error codes"). */
#define SAME_PLACE                                                                                 \
    "entra.tenant, entra.cloud and entra.url must name the same tenant and cloud in "             \
    "uploader.yaml and in hsm-policy.yaml."
#define CONDITIONAL_ACCESS                                                                         \
    "A Conditional Access policy stops the app: exempt it, or allow this host's addresses (Entra " \
    "admin center, Conditional Access, workload identities; the sign-in log names the policy)."
#define CONSENT                                                                                    \
    "The app has no admin consent for what it asks: grant its application permissions (App "       \
    "registrations, API permissions); `pfx-agent setup entra` prints the commands."
#define PASSING "It passes by itself and is tried again; see status.cloud.microsoft if it stays."
#define NO_ASSERTION                                                                               \
    "Entra saw no assertion in the request: does a proxy change bodies? Otherwise " DEFECT
#define DEFECT "report this as a defect, with the ids that follow."

static const struct {
    int64_t code;
    const char *advice;
    bool passing; /* may be another answer in a moment, whatever its HTTP status */
} advices[] = {
    /* the certificate and its signature */
    {700027, "Entra doesn't know the certificate of the key that signed: upload the client "
             "certificate that `pfx-agent init` wrote (client-NAME.crt) to the app registration, "
             "and check that the client id in hsm-policy.yaml is that app's.", false},
    {700030, "The app doesn't take this certificate's subject: upload the client certificate that "
             "`pfx-agent init` wrote (client-NAME.crt) to the app registration.", false},
    {50012, "The assertion's signature isn't right: compare the certificate at the app "
            "registration with `pfx-agent key show`.", false},
    {50013, "The assertion's signature isn't right: the certificate at the app registration has "
            "another key than the client key in the HSM; compare with `pfx-agent key show`.",
     false},
    {900384, "The assertion's signature isn't right: compare the certificate at the app "
             "registration with `pfx-agent key show`.", false},
    {5002738, "Entra doesn't take the assertion's signature algorithm: set entra.algorithm in "
              "hsm-policy.yaml to the other one of PS256 and RS256, and restart pfx-hsm.", false},
    {50027, "Entra can't read the assertion: see the log of pfx-hsm, check this host's clock, and "
            "otherwise " DEFECT, false},
    {700024, "The assertion isn't within its time: this host's clock is wrong; set it right and "
             "keep it so (timedatectl, chrony).", false},
    {700021, "The assertion is for another client id than the request: check entra.apps in "
             "hsm-policy.yaml, and restart pfx-hsm.", false},
    {50048, "The assertion's issuer and subject differ: " DEFECT, false},
    {700023, "The assertion was made for another login address: entra.tenant and entra.url (by "
             "default those of entra.cloud) must be the same in uploader.yaml and hsm-policy.yaml.",
     false},
    {70021, "The app registration expects a federated credential for this assertion: upload the "
            "client certificate that `pfx-agent init` wrote (client-NAME.crt) to it.", false},
    {700025, "The app is a public client, which can't sign in by certificate: in the app "
             "registration under Authentication set \"Allow public client flows\" to No.", false},
    {7000215, "Entra took this for a client secret: the app registration needs the client "
              "certificate that `pfx-agent init` wrote (client-NAME.crt).", false},
    {7000222, "The app's credential has expired: upload a current client certificate "
              "(client-NAME.crt of `pfx-agent init`) to the app registration.", false},
    {70002, "Entra doesn't take the app's credential: upload the client certificate that "
            "`pfx-agent init` wrote (client-NAME.crt) to the app registration.", false},
    {7000216, NO_ASSERTION, false},
    {7000218, NO_ASSERTION, false},

    /* the app */
    {700016, "The app isn't known in this tenant: check entra.tenant in uploader.yaml and the "
             "client id in hsm-policy.yaml (entra.apps).", false},
    {700011, "The app isn't known in this tenant: check entra.tenant in uploader.yaml and the "
             "client id in hsm-policy.yaml (entra.apps).", false},
    {70001, "The app is unknown or disabled in this tenant: check the client id in "
            "hsm-policy.yaml, and enable the app under Enterprise applications.", false},
    {7000112, "The app is disabled in this tenant: enable it under Enterprise applications.",
     false},
    {1000031, "The app is blocked in this tenant: see it under Enterprise applications.", false},
    {7000229, "The app has no service principal in this tenant: az ad sp create --id with its "
              "client id makes it, or granting admin consent to it.", false},
    {50034, "The account isn't known in this tenant: check entra.tenant in uploader.yaml.", false},
    {500341, "The app's account was deleted from the tenant: restore or register it anew.", false},
    {70003, "Entra doesn't allow this kind of sign-in for the app: its registration has to be one "
            "for a service (confidential client) in this tenant.", false},

    /* what it may */
    {65001, CONSENT, false},
    {650056, CONSENT, false},
    {650057, CONSENT, false},
    {65005, CONSENT, false},
    {90094, CONSENT, false},
    {90008, CONSENT, false},
    {501051, "The app has no role at this service, which wants one: assign its application "
             "permissions with admin consent; `pfx-agent setup entra` prints the commands.", false},
    {50105, "The app isn't assigned to this service, which wants that: assign its application "
            "permissions with admin consent.", false},
    {53003, CONDITIONAL_ACCESS, false},
    {53000, "A Conditional Access policy wants a compliant device: exempt the app from it.", false},
    {53001, "A Conditional Access policy wants a joined device: exempt the app from it.", false},
    {50131, CONDITIONAL_ACCESS, false},
    {530032, CONDITIONAL_ACCESS, false},
    {530035, "The tenant's security defaults stop the app: see the sign-in log of the app.", false},
    {50053, "Entra blocks sign-ins from this address or for this account for a while: see the "
            "app's sign-in log (service principal sign-ins).", false},
    {50076, "A policy wants multi-factor authentication, which an app can't do: exempt the app.",
     false},
    {50079, "A policy wants multi-factor authentication, which an app can't do: exempt the app.",
     false},

    /* tenant, cloud and service */
    {90002, "The tenant isn't known there: check entra.tenant and entra.cloud (or entra.url) in "
            "uploader.yaml.", false},
    {900023, "entra.tenant in uploader.yaml isn't a tenant's id.", false},
    {50059, "Entra finds no tenant in the request: check entra.tenant in uploader.yaml.", false},
    {90019, "Entra finds no tenant in the request: check entra.tenant in uploader.yaml.", false},
    {50128, "Entra finds no tenant of this name: check entra.tenant in uploader.yaml.", false},
    {90038, "The tenant belongs to another cloud: set entra.cloud. " SAME_PLACE, false},
    {900382, "The login endpoint is of another cloud than the tenant: set entra.cloud. " SAME_PLACE,
     false},
    {900432, "The login endpoint is of another cloud than the tenant: set entra.cloud. " SAME_PLACE,
     false},
    {90051, "The cloud isn't the tenant's: set entra.cloud. " SAME_PLACE, false},
    {500011, "The service isn't known under this address in the tenant: check entra.cloud, "
             "graph.url and exchange.url in uploader.yaml; for Exchange the tenant needs "
             "Exchange Online.",
     false},
    {650052, "The tenant has no subscription for this service: see its licences (Intune; Exchange "
             "Online for shared mailboxes).", false},
    {650054, "The service is gone from the tenant: see its licences (Intune, Exchange Online).",
     false},
    {1002012, "Entra doesn't take the scope: check graph.url and exchange.url in uploader.yaml.",
     false},
    {70011, "Entra doesn't take the scope: check graph.url and exchange.url in uploader.yaml.",
     false},

    /* requests that we don't make */
    {90013, "Entra finds a value in the request that it doesn't take: check entra.tenant and the "
            "client id in hsm-policy.yaml, and otherwise " DEFECT, false},
    {90014, "Entra misses a field in the request: does a proxy change bodies? Otherwise " DEFECT,
     false},
    {900144, "Entra misses a field in the request: does a proxy change bodies? Otherwise " DEFECT,
     false},
    {90015, "Entra finds a field in the request that it doesn't know: " DEFECT, false},
    {90023, "Entra finds the request not valid: " DEFECT, false},
    {9002313, "Entra finds the request malformed: does a proxy change bodies? Otherwise " DEFECT,
     false},
    {900561, "entra.url in uploader.yaml isn't a login host of Microsoft's: remove or check it.",
     false},

    /* passing by themselves */
    {50033, PASSING, true},
    {90006, PASSING, true},
    {90012, PASSING, true},
    {90024, PASSING, true},
    {90033, PASSING, true},
    {90090, PASSING, true},
    {90091, PASSING, true},
    {90055, "The tenant sends too many requests altogether; it is tried again.", true},
    {50196, "The same was asked too often in a short time; it is tried again. Do several programs "
            "sign in as this app?", true},
};

static size_t find_advice(int64_t code)
{
    size_t i = 0;
    while (i < sizeof advices / sizeof advices[0] && advices[i].code != code)
        i++;
    return i;
}

const char *pfx_entra_advice(int64_t code)
{
    size_t i = find_advice(code);
    return i < sizeof advices / sizeof advices[0] ? advices[i].advice : "";
}

static bool is_passing(int64_t code)
{
    size_t i = find_advice(code);
    return i < sizeof advices / sizeof advices[0] && advices[i].passing;
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
    if (trace[0] || correlation[0])
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
                   is_passing(code);
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
