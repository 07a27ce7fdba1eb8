/* Graph's JSON: records out, users and records in, and how errors read. */
#include "api/uploader/graph.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/uploader/text.h"
#include "crypto/encode.h"

pfx_result pfx_graph_record_body(const struct pfx_msg *job, struct pfx_buf *out,
                                 struct pfx_error *err)
{
    char when[PFX_TIME_SIZE];
    struct pfx_bytes pfx = pfx_msg_blob(job, "pfx");
    struct pfx_bytes sealed = pfx_msg_blob(job, "sealed");
    pfx_buf_add_str(out, "{");
    pfx_doc_put_member(out, "thumbprint", pfx_msg_str(job, "thumbprint"));
    pfx_doc_put_member(out, "intendedPurpose", pfx_msg_str(job, "purpose"));
    pfx_doc_put_member(out, "userPrincipalName", pfx_msg_str(job, "upn"));
    pfx_doc_put_member(out, "startDateTime",
                       pfx_time_format(pfx_msg_int(job, "starts"), false, when));
    pfx_doc_put_member(out, "expirationDateTime",
                       pfx_time_format(pfx_msg_int(job, "expires"), false, when));
    pfx_doc_put_member(out, "providerName", pfx_msg_str(job, "provider_name"));
    pfx_doc_put_member(out, "keyName", pfx_msg_str(job, "key_name"));
    pfx_doc_put_member(out, "paddingScheme", pfx_msg_str(job, "padding"));
    pfx_doc_put_name(out, "encryptedPfxBlob");
    pfx_buf_add_str(out, "\"");
    bool good = pfx_base64_encode(pfx.data, pfx.len, out);
    pfx_buf_add_str(out, "\"");
    pfx_doc_put_name(out, "encryptedPfxPassword");
    pfx_buf_add_str(out, "\"");
    good = pfx_base64_encode(sealed.data, sealed.len, out) && good;
    pfx_buf_add_str(out, "\"}");
    if (!good || out->over)
        return pfx_fail(err, PFX_CLASS_USAGE, "import", pfx_msg_str(job, "record_id"), "",
                        "The PFX is too large for a record.");
    return PFX_OK;
}

/* Sets a text member if there is one: cleaned, since the protocol takes no control characters, and
 * cut, since a name of more than max bytes is wrong whatever it is. */
static void set_text(struct pfx_msg *msg, const char *name, const char *value, size_t max)
{
    if (!value)
        return;
    char *text = pfx_alloc(max + 8);
    pfx_text_data(text, max + 1, value);
    if (text[0])
        pfx_msg_set_str(msg, name, text);
    free(text);
}

static void set_time(struct pfx_msg *msg, const char *name, const char *value)
{
    int64_t ms;
    if (value && pfx_time_parse(value, &ms) && ms >= 0)
        pfx_msg_set_int(msg, name, ms);
}

static void read_proxies(struct pfx_doc *doc, const cJSON *user, struct pfx_msg *member)
{
    const cJSON *proxies = pfx_doc_array(doc, user, "proxyAddresses", PFX_DOC_MAY);
    size_t n = 0;
    for (const cJSON *item = proxies ? proxies->child : NULL; item; item = item->next) {
        if (!cJSON_IsString(item)) {
            pfx_doc_wrong(doc, "proxyAddresses", "has an entry that isn't a text");
            return;
        }
        if (++n > 1000) {
            pfx_doc_wrong(doc, "proxyAddresses", "has more than 1000 entries");
            return;
        }
        char text[2049];
        pfx_text_data(text, sizeof text, item->valuestring);
        if (text[0])
            pfx_msg_add_str(member, "proxies", text);
    }
}

void pfx_graph_read_member(struct pfx_doc *doc, const cJSON *user, struct pfx_msg *member)
{
    const char *id = pfx_doc_str(doc, user, "id", PFX_DOC_NEED);
    if (id && !pfx_text_is_guid(id))
        pfx_doc_wrong(doc, "id", "of a user isn't an object id");
    /* Without User.Read.All Graph answers ids and nulls: not a user without a name. */
    bool hidden = !pfx_doc_has(user, "userPrincipalName") || !pfx_doc_has(user, "accountEnabled");
    if (hidden)
        pfx_doc_wrong(doc, pfx_doc_has(user, "userPrincipalName") ? "accountEnabled"
                                                                  : "userPrincipalName",
                      "of a user is hidden; does the app have the role User.Read.All?");
    const char *upn = pfx_doc_str(doc, user, "userPrincipalName", PFX_DOC_NEED);
    bool enabled = pfx_doc_bool(doc, user, "accountEnabled", PFX_DOC_NEED);
    if (doc->bad)
        return;
    char lower[37];
    for (size_t i = 0; i < sizeof lower; i++)
        lower[i] = (char)tolower((unsigned char)id[i]);
    pfx_msg_set_str(member, "id", lower);
    set_text(member, "upn", upn, 1024);
    pfx_msg_set_bool(member, "enabled", enabled);
    static const struct {
        const char *from, *to;
    } texts[] = {
        {"displayName", "display"}, {"givenName", "given"}, {"surname", "surname"},
        {"mail", "mail"}, {"department", "department"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        set_text(member, texts[i].to, pfx_doc_str(doc, user, texts[i].from, PFX_DOC_MAY), 1024);
    read_proxies(doc, user, member);
    set_time(member, "hire_date", pfx_doc_str(doc, user, "employeeHireDate", PFX_DOC_MAY));
}

/* A required text that may be empty. */
static void set_any_text(struct pfx_msg *msg, const char *name, const char *value, size_t max)
{
    if (!value || !value[0])
        pfx_msg_set_str(msg, name, "");
    else
        set_text(msg, name, value, max);
}

void pfx_graph_read_record(struct pfx_doc *doc, const cJSON *item, struct pfx_msg *record)
{
    const char *id = pfx_doc_str(doc, item, "id", PFX_DOC_NEED);
    if (id && (id[0] == '\0' || strlen(id) > 128))
        pfx_doc_wrong(doc, "id", "of a record isn't one");
    if (doc->bad)
        return;
    set_text(record, "id", id, 128);
    char thumbprint[129];
    pfx_text_clean_str(thumbprint, sizeof thumbprint,
                       pfx_doc_str(doc, item, "thumbprint", PFX_DOC_MAY));
    for (char *s = thumbprint; *s; s++)
        *s = (char)tolower((unsigned char)*s);
    pfx_msg_set_str(record, "thumbprint", thumbprint);
    const char *purpose = pfx_doc_str(doc, item, "intendedPurpose", PFX_DOC_MAY);
    set_text(record, "purpose", purpose && purpose[0] ? purpose : "unassigned", 32);
    set_any_text(record, "upn", pfx_doc_str(doc, item, "userPrincipalName", PFX_DOC_MAY), 1024);
    set_time(record, "starts", pfx_doc_str(doc, item, "startDateTime", PFX_DOC_MAY));
    set_time(record, "expires", pfx_doc_str(doc, item, "expirationDateTime", PFX_DOC_MAY));
    set_text(record, "provider_name", pfx_doc_str(doc, item, "providerName", PFX_DOC_MAY), 256);
    set_text(record, "key_name", pfx_doc_str(doc, item, "keyName", PFX_DOC_MAY), 256);
    set_text(record, "padding", pfx_doc_str(doc, item, "paddingScheme", PFX_DOC_MAY), 32);
}

static const char *advice(long status, bool intune, bool opaque)
{
    if (status == 401)
        return "Graph doesn't take the access token, not even a fresh one: check that graph.url "
               "and entra.url in uploader.yaml are of the same cloud.";
    if (status == 403)
        return intune ? "The app needs the role DeviceManagementConfiguration.ReadWrite.All, with "
                        "admin consent, and the tenant an Intune licence."
                      : "The app needs the roles GroupMember.Read.All and User.Read.All, with "
                        "admin consent.";
    if (status == 404 && !intune)
        return "Check the group's object id in the rule in agent.yaml.";
    if (opaque)
        return "Intune gives no reason; Microsoft's support finds it by the activity id. Often it "
               "is the UPN (unknown, or without a licence), a key name, or dates.";
    return "";
}

void pfx_graph_explain(const struct pfx_answer *answer, struct pfx_told *told)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    bool intune = strstr(answer->url, "/deviceManagement/") != NULL;
    if (!pfx_doc_parse(answer->body, &doc, why)) {
        snprintf(told->next, sizeof told->next, "%s", advice(answer->status, intune, false));
        return;
    }
    const cJSON *error = pfx_doc_obj(&doc, pfx_doc_root(&doc), "error", PFX_DOC_MAY);
    const char *code = pfx_doc_str(&doc, error, "code", PFX_DOC_MAY);
    const char *message = pfx_doc_str(&doc, error, "message", PFX_DOC_MAY);
    pfx_text_clean_str(told->code, sizeof told->code, code);
    /* Intune puts a JSON text into the message; all that it says is an id. */
    char activity[37];
    pfx_text_guid_after(activity, message, "Activity ID: ");
    if (activity[0]) {
        snprintf(told->ids, sizeof told->ids, "activity id %s", activity);
        snprintf(told->message, sizeof told->message, "an error has occurred");
    } else {
        pfx_text_clean_str(told->message, sizeof told->message, message);
    }
    const cJSON *inner = pfx_doc_obj(&doc, error, "innerError", PFX_DOC_MAY);
    const char *inner_id = pfx_doc_str(&doc, inner, "request-id", PFX_DOC_MAY);
    if (!activity[0] && answer->request_id[0] == '\0' && inner_id) {
        char clean[64];
        snprintf(told->ids, sizeof told->ids, "request-id %s",
                 pfx_text_clean_str(clean, sizeof clean, inner_id));
    }
    snprintf(told->next, sizeof told->next, "%s",
             advice(answer->status, intune, activity[0] != '\0'));
}
