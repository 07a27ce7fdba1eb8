#include "api/uploader/setup_entra.h"

#include <stdio.h>
#include <string.h>

#include "api/uploader/json.h"
#include "api/uploader/text.h"
#include "crypto/encode.h"

#define MAX_PAYLOAD (64 * 1024)

/* Application ids of Microsoft's services, the same in every tenant. */
#define GRAPH_APP "00000003-0000-0000-c000-000000000000"
#define EXCHANGE_APP "00000002-0000-0ff1-ce00-000000000000"
#define GLOBAL_READER "f2ef992c-3afb-46b9-b7cf-a126ee74c451"

static const struct {
    const char *name, *service, *id;
} grants[] = {
    {"User.Read.All", GRAPH_APP, "df021288-bdef-4463-88db-98f22de89214"},
    {"GroupMember.Read.All", GRAPH_APP, "98830695-27a2-44f7-8c18-0c3ebc9698f6"},
    {"DeviceManagementConfiguration.ReadWrite.All", GRAPH_APP,
     "9241abd9-d0e6-425a-bd4f-47ba86e767a4"},
    {"Mail.Send", GRAPH_APP, "b633e1c5-b582-4048-a93e-9f11b44c7e96"},
    {"Exchange.ManageAsApp", EXCHANGE_APP, "dc50a0fb-09a3-484d-be87-e023b12c6440"},
};

/* --- the token --- */

static void copy_guid(char dest[37], const char *text)
{
    if (text && pfx_text_is_guid(text))
        snprintf(dest, 37, "%s", text);
}

static void read_roles(struct pfx_doc *doc, const cJSON *root, struct pfx_claims *claims)
{
    const cJSON *roles = pfx_doc_array(doc, root, "roles", PFX_DOC_MAY);
    claims->roles = pfx_alloc_array((size_t)cJSON_GetArraySize(roles) + 1, sizeof *claims->roles);
    for (const cJSON *item = roles ? roles->child : NULL; item; item = item->next) {
        char name[128];
        if (cJSON_IsString(item))
            claims->roles[claims->n_roles++] =
                pfx_strdup(pfx_text_clean_str(name, sizeof name, item->valuestring));
    }
}

bool pfx_claims_read(const struct pfx_secret *token, struct pfx_claims *ret)
{
    const char *text = (const char *)pfx_secret_bytes(token);
    size_t len = pfx_secret_len(token);
    const char *start = memchr(text, '.', len);
    if (!start)
        return false;
    start++;
    const char *end = memchr(start, '.', len - (size_t)(start - text));
    if (!end)
        return false;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf payload = pfx_buf_make(MAX_PAYLOAD);
    payload.wipe = true;
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    if (!pfx_base64url_decode(start, (size_t)(end - start), &payload) ||
        !pfx_doc_parse(pfx_buf_bytes(&payload), &doc, why))
        return false;
    const cJSON *root = pfx_doc_root(&doc);
    struct pfx_claims claims = {0};
    copy_guid(claims.oid, pfx_doc_str(&doc, root, "oid", PFX_DOC_MAY));
    copy_guid(claims.tenant, pfx_doc_str(&doc, root, "tid", PFX_DOC_MAY));
    read_roles(&doc, root, &claims);
    if (doc.bad) {
        pfx_claims_done(&claims);
        return false;
    }
    *ret = claims;
    return true;
}

void pfx_claims_done(struct pfx_claims *claims)
{
    for (size_t i = 0; i < claims->n_roles; i++)
        free(claims->roles[i]);
    free(claims->roles);
    *claims = (struct pfx_claims){0};
}

bool pfx_claims_have(const struct pfx_claims *claims, const char *role)
{
    for (size_t i = 0; i < claims->n_roles; i++)
        if (strcmp(claims->roles[i], role) == 0)
            return true;
    return false;
}

/* By the words of which Microsoft makes its names: a list of roles would be old in a month. */
bool pfx_role_is_dangerous(const char *role)
{
    static const char *const words[] = {"Write",   "FullControl", "full_access", "Privileged",
                                        ".Manage", "Mail.",       "Files.",      "Send",
                                        "Create",  "Delete",      "Sites.",      "Chat.",
                                        "Notes.",  "BitlockerKey", "LocalCredential"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(role, words[i]))
            return true;
    return false;
}

/* --- commands --- */

/* In national clouds the CLI doesn't know by itself for whom the token is. */
static void add_resource(const struct pfx_setup_app *app, struct pfx_buf *out)
{
    if (app->conf->cloud != PFX_CLOUD_GLOBAL)
        pfx_buf_addf(out, " --resource %s", app->conf->graph_url);
}

/* Appends what sets the shell variable APP where the object id isn't known, and returns how the
 * command names the id; NULL: it can't. */
static const char *principal(const struct pfx_setup_app *app, struct pfx_buf *out)
{
    if (app->oid[0])
        return app->oid;
    if (!app->client_id[0])
        return NULL;
    pfx_buf_addf(out, "APP=$(az ad sp show --id %s --query id --output tsv) && ", app->client_id);
    return "$APP";
}

void pfx_setup_grant(const struct pfx_setup_app *app, const char *role, struct pfx_buf *out)
{
    size_t i = 0;
    while (i < sizeof grants / sizeof grants[0] && strcmp(grants[i].name, role) != 0)
        i++;
    if (i == sizeof grants / sizeof grants[0])
        return;
    const char *id = principal(app, out);
    if (!id)
        return;
    pfx_buf_addf(out, "SERVICE=$(az ad sp show --id %s --query id --output tsv) && ",
                 grants[i].service);
    pfx_buf_addf(out, "az rest --method POST --uri "
                      "\"%s/v1.0/servicePrincipals/%s/appRoleAssignments\"",
                 app->conf->graph_url, id);
    add_resource(app, out);
    pfx_buf_addf(out, " --headers Content-Type=application/json --body "
                      "\"{\\\"principalId\\\":\\\"%s\\\",\\\"resourceId\\\":\\\"$SERVICE\\\","
                      "\\\"appRoleId\\\":\\\"%s\\\"}\"", id, grants[i].id);
}

void pfx_setup_grant_reader(const struct pfx_setup_app *app, struct pfx_buf *out)
{
    const char *id = principal(app, out);
    if (!id)
        return;
    pfx_buf_addf(out, "az rest --method POST --uri "
                      "\"%s/v1.0/roleManagement/directory/roleAssignments\"", app->conf->graph_url);
    add_resource(app, out);
    pfx_buf_addf(out, " --headers Content-Type=application/json --body "
                      "\"{\\\"principalId\\\":\\\"%s\\\",\\\"roleDefinitionId\\\":\\\""
                      GLOBAL_READER "\\\",\\\"directoryScopeId\\\":\\\"/\\\"}\"", id);
}

void pfx_setup_sign_in(const struct pfx_setup_app *app, const char *code, struct pfx_buf *out)
{
    static const char *const certificate[] = {"AADSTS700027", "AADSTS700030",  "AADSTS50012",
                                              "AADSTS50013",  "AADSTS7000215", "AADSTS7000222",
                                              "AADSTS900384", "AADSTS70021",   "AADSTS70002"};
    if (!app->client_id[0])
        return;
    for (size_t i = 0; i < sizeof certificate / sizeof certificate[0]; i++)
        if (strcmp(code, certificate[i]) == 0)
            pfx_buf_addf(out, "az ad app credential reset --id %s --cert @client-%s.crt --append",
                         app->client_id, app->name);
    if (strcmp(code, "AADSTS7000229") == 0)
        pfx_buf_addf(out, "az ad sp create --id %s", app->client_id);
    if (strcmp(code, "AADSTS7000112") == 0)
        pfx_buf_addf(out, "az ad sp update --id %s --set accountEnabled=true", app->client_id);
    if (strcmp(code, "AADSTS700025") == 0)
        pfx_buf_addf(out, "az ad app update --id %s --is-fallback-public-client false",
                     app->client_id);
    if (strcmp(code, "AADSTS700016") == 0 || strcmp(code, "AADSTS700011") == 0)
        pfx_buf_addf(out, "az ad app show --id %s --query \"[displayName,appId]\"",
                     app->client_id);
}

void pfx_setup_list_roles(const struct pfx_setup_app *app, struct pfx_buf *out)
{
    const char *id = principal(app, out);
    if (!id)
        return;
    pfx_buf_addf(out, "az rest --method GET --uri "
                      "\"%s/v1.0/servicePrincipals/%s/appRoleAssignments\"",
                 app->conf->graph_url, id);
    add_resource(app, out);
}

const char *pfx_setup_cloud(const struct pfx_uploader_conf *conf)
{
    switch (conf->cloud) {
    case PFX_CLOUD_USGOV:
    case PFX_CLOUD_USGOV_DOD:
        return "First: az cloud set --name AzureUSGovernment, then az login.";
    case PFX_CLOUD_CHINA:
        return "First: az cloud set --name AzureChinaCloud, then az login.";
    default:
        return "";
    }
}
