/* Signing in, the parts without a network: managed identities' addresses and challenges, which
 * token is whose, what a token says, and the commands that `setup entra` prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/entra.h"
#include "api/uploader/identity.h"
#include "api/uploader/setup_entra.h"
#include "api/uploader/token.h"
#include "crypto/encode.h"

#define OID "0b1ec700-0001-4000-8000-000000000001"
#define CLIENT "c11e47a0-0001-4002-8003-000400050006"
#define TEXT(s) ((char *)(uintptr_t)(s))

static struct pfx_error err;

/* --- managed identities --- */

static void test_addresses(void **state)
{
    (void)state;
    static const char *const right[] = {PFX_IDENTITY_VM "?a", PFX_IDENTITY_ARC "?"};
    static const char *const wrong[] = {
        "", PFX_IDENTITY_VM, PFX_IDENTITY_VM "/x?a", PFX_IDENTITY_VM "x?a",
        "http://169.254.169.254/metadata/identity/oauth2/tokens?a",
        "http://169.254.169.254:8080/metadata/identity/oauth2/token?a",
        "http://169.254.169.254@evil.invalid/metadata/identity/oauth2/token?a",
        "http://127.0.0.1:40343/metadata/identity/oauth2/token?a",
        "http://localhost:40342/metadata/identity/oauth2/token?a",
        "HTTP://169.254.169.254/metadata/identity/oauth2/token?a",
        "https://169.254.169.254/metadata/identity/oauth2/token?a",
        "http://graph.microsoft.com/?" PFX_IDENTITY_VM "?a",
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        assert_true(pfx_identity_is_url(right[i]));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(pfx_identity_is_url(wrong[i]));
    static const struct {
        enum pfx_sign_in sign_in;
        const char *identity, *url;
    } rows[] = {
        {PFX_SIGN_IN_AZURE_VM, NULL,
         "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
         "https%3A%2F%2Fgraph.microsoft.com"},
        {PFX_SIGN_IN_AZURE_VM, CLIENT,
         "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
         "https%3A%2F%2Fgraph.microsoft.com&client_id=" CLIENT},
        {PFX_SIGN_IN_AZURE_ARC, NULL,
         "http://127.0.0.1:40342/metadata/identity/oauth2/token?api-version=2020-06-01&resource="
         "https%3A%2F%2Fgraph.microsoft.com"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pfx_uploader_conf conf = {.sign_in = rows[i].sign_in,
                                         .identity = TEXT(rows[i].identity)};
        char *url PFX_AUTOFREE = pfx_identity_url(&conf, "https://graph.microsoft.com");
        assert_string_equal(url, rows[i].url);
        assert_true(pfx_identity_is_url(url));
    }
}

static void test_challenges(void **state)
{
    (void)state;
    static const char *const right[] = {
        "Basic realm=/var/opt/azcmagent/tokens/5f0a-1.key",
        "basic Realm=\"/var/opt/azcmagent/tokens/5f0a-1.key\"",
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        char *name PFX_AUTOFREE = NULL;
        assert_true(pfx_ok(pfx_identity_challenge(right[i], &name, &err)));
        assert_string_equal(name, "5f0a-1.key");
    }
    static const char *const wrong[] = {
        "", "Basic", "Basic realm=", "Basic realm=\"", "Basic realm=\"\"", "Negotiate",
        "Bearer realm=/var/opt/azcmagent/tokens/a.key",
        "Basic realm=/etc/shadow", "Basic realm=a.key",
        "Basic realm=/var/opt/azcmagent/tokens/a.txt",
        "Basic realm=/var/opt/azcmagent/tokens/.key",
        "Basic realm=/var/opt/azcmagent/tokens/.a.key",
        "Basic realm=/var/opt/azcmagent/tokens/..key",
        "Basic realm=/var/opt/azcmagent/tokens/../a.key",
        "Basic realm=/var/opt/azcmagent/tokens/sub/a.key",
        "Basic realm=/var/opt/azcmagent/tokens//a.key",
        "Basic realm=/var/opt/azcmagent/tokens/a.key/",
        "Basic realm=/var/opt/azcmagent/tokens/a b.key",
        "Basic realm=/var/opt/azcmagent/tokens/a%2fb.key",
        "Basic realm=/var/opt/azcmagent/tokens/a.key, charset=x",
        "Basic realm=/var/opt/azcmagent/tokensx/a.key",
        "Basic realm=/var/opt/azcmagent/tokens",
        "Basic realm=//var/opt/azcmagent/tokens/a.key",
        "Basic realm=\"/var/opt/azcmagent/tokens/a.key",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *name = NULL;
        err = PFX_ERROR_NONE;
        if (pfx_identity_challenge(wrong[i], &name, &err).cls != PFX_CLASS_REFUSED)
            fail_msg("taken: %s", wrong[i]);
        assert_null(name);
    }
    char longest[400] = "Basic realm=" PFX_IDENTITY_KEYS "/";
    size_t len = strlen(longest);
    memset(longest + len, 'a', 250);
    memcpy(longest + len + 250, ".key", 5);
    char *name = NULL;
    assert_true(pfx_failed(pfx_identity_challenge(longest, &name, &err)));
}

static void test_identity_class(void **state)
{
    (void)state;
    static const struct {
        long status;
        enum pfx_class cls;
    } rows[] = {
        {404, PFX_CLASS_TRANSIENT}, {410, PFX_CLASS_TRANSIENT}, {429, PFX_CLASS_TRANSIENT},
        {500, PFX_CLASS_TRANSIENT}, {503, PFX_CLASS_TRANSIENT}, {400, PFX_CLASS_REFUSED},
        {401, PFX_CLASS_REFUSED},   {403, PFX_CLASS_REFUSED},   {302, PFX_CLASS_REFUSED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pfx_answer answer = {.status = rows[i].status};
        assert_int_equal(pfx_identity_class(&answer, PFX_CLASS_REFUSED), rows[i].cls);
    }
}

/* --- tokens --- */

static void test_tokens(void **state)
{
    (void)state;
    struct pfx_uploader_conf conf = {
        .login_url = TEXT("https://login.microsoftonline.us"),
        .tenant = TEXT("00000000-0000-4000-8000-000000000002"),
    };
    struct pfx_up up = {.conf = &conf};
    struct pfx_tokens *tokens = pfx_tokens_new(&up, NULL);
    struct pfx_cred *a = pfx_tokens_cred(tokens, "main", "https://graph.microsoft.us");
    assert_ptr_equal(a, pfx_tokens_cred(tokens, "main", "https://graph.microsoft.us/path"));
    assert_ptr_not_equal(a, pfx_tokens_cred(tokens, "import", "https://graph.microsoft.us"));
    assert_ptr_not_equal(a, pfx_tokens_cred(tokens, "main", "https://outlook.office365.us"));
    assert_string_equal(a->what, "the access token of app main for https://graph.microsoft.us");
    assert_string_equal(pfx_token_app(a), "main");
    assert_string_equal(pfx_token_client_id(a), "");
    pfx_tokens_free(tokens);
    /* A machine has one identity, whatever the apps are called. */
    conf.sign_in = PFX_SIGN_IN_AZURE_VM;
    tokens = pfx_tokens_new(&up, NULL);
    a = pfx_tokens_cred(tokens, "main", "https://graph.microsoft.us");
    assert_ptr_equal(a, pfx_tokens_cred(tokens, "import", "https://graph.microsoft.us"));
    assert_ptr_not_equal(a, pfx_tokens_cred(tokens, "main", "https://outlook.office365.us"));
    pfx_tokens_free(tokens);
}

static void test_form(void **state)
{
    (void)state;
    static const struct {
        const char *resource, *scope;
    } rows[] = {
        {"https://graph.microsoft.com", "scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&"},
        {"https://dod-graph.microsoft.us", "scope=https%3A%2F%2Fdod-graph.microsoft.us%2F.default&"},
        {"https://partner.outlook.cn", "scope=https%3A%2F%2Fpartner.outlook.cn%2F.default&"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf form = pfx_buf_make(4096);
        pfx_entra_form(&form, CLIENT, rows[i].resource, "a.b.c");
        assert_non_null(strstr(pfx_buf_str(&form), rows[i].scope));
        assert_non_null(strstr(pfx_buf_str(&form), "client_id=" CLIENT "&"));
        assert_non_null(strstr(pfx_buf_str(&form), "&client_assertion=a.b.c"));
    }
}

static struct pfx_secret *token_of(const char *payload)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(8192);
    struct pfx_secret *token = NULL;
    pfx_buf_add_str(&text, "eyJ0eXAi.");
    assert_true(pfx_base64url_encode(payload, strlen(payload), &text));
    pfx_buf_add_str(&text, ".c2ln");
    assert_true(pfx_ok(pfx_secret_copy(text.data, text.len, &token, &err)));
    return token;
}

static void test_claims(void **state)
{
    (void)state;
    PFX_AUTOSECRET struct pfx_secret *token =
        token_of("{\"oid\":\"" OID "\",\"tid\":\"00000000-0000-4000-8000-000000000002\","
                 "\"roles\":[\"User.Read.All\",\"Bad\\u001b[2J\",7]}");
    struct pfx_claims claims = {0};
    assert_true(pfx_claims_read(token, &claims));
    assert_string_equal(claims.oid, OID);
    assert_string_equal(claims.tenant, "00000000-0000-4000-8000-000000000002");
    assert_int_equal(claims.n_roles, 2);
    assert_string_equal(claims.roles[1], "Bad?[2J");
    assert_true(pfx_claims_have(&claims, "User.Read.All"));
    assert_false(pfx_claims_have(&claims, "User.Read"));
    pfx_claims_done(&claims);
    /* What stands in a command for a shell has to be an id. */
    PFX_AUTOSECRET struct pfx_secret *odd =
        token_of("{\"oid\":\"x; rm -rf ~\",\"tid\":null}");
    assert_true(pfx_claims_read(odd, &claims));
    assert_string_equal(claims.oid, "");
    assert_int_equal(claims.n_roles, 0);
    pfx_claims_done(&claims);
    static const char *const wrong[] = {"", "a", "a.b", "a.!!.c", "a..c", "a.bm90IGpzb24.c",
                                        "a.W10", ".."};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        PFX_AUTOSECRET struct pfx_secret *bad = NULL;
        assert_true(pfx_ok(pfx_secret_copy(wrong[i], strlen(wrong[i]), &bad, &err)));
        assert_false(pfx_claims_read(bad, &claims));
    }
    PFX_AUTOSECRET struct pfx_secret *types = token_of("{\"roles\":{\"a\":1},\"oid\":7}");
    assert_false(pfx_claims_read(types, &claims));
}

static void test_dangerous(void **state)
{
    (void)state;
    static const char *const harmless[] = {
        "User.Read.All", "GroupMember.Read.All", "Directory.Read.All",
        "DeviceManagementConfiguration.Read.All", "DeviceManagementManagedDevices.Read.All",
        "Organization.Read.All",
    };
    static const char *const harmful[] = {
        "Directory.ReadWrite.All", "RoleManagement.ReadWrite.Directory",
        "AppRoleAssignment.ReadWrite.All", "Application.ReadWrite.OwnedBy", "Mail.Read",
        "Mail.Send", "Files.Read.All", "Sites.FullControl.All", "full_access_as_app",
        "Exchange.ManageAsApp", "DeviceManagementManagedDevices.PrivilegedOperations.All",
        "DeviceManagementApps.ReadWrite.All", "Group.Create", "BitlockerKey.Read.All",
    };
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
        assert_false(pfx_role_is_dangerous(harmless[i]));
    for (size_t i = 0; i < sizeof harmful / sizeof harmful[0]; i++)
        if (!pfx_role_is_dangerous(harmful[i]))
            fail_msg("%s", harmful[i]);
}

/* --- commands --- */

static struct pfx_uploader_conf global = {.graph_url = TEXT("https://graph.microsoft.com")};
static struct pfx_uploader_conf dod = {.graph_url = TEXT("https://dod-graph.microsoft.us"),
                                       .cloud = PFX_CLOUD_USGOV_DOD};

static void test_grant(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(4000);
    struct pfx_setup_app app = {&global, "main", CLIENT, OID};
    pfx_setup_grant(&app, "GroupMember.Read.All", &out);
    assert_string_equal(
        pfx_buf_str(&out),
        "SERVICE=$(az ad sp show --id 00000003-0000-0000-c000-000000000000 --query id --output tsv) "
        "&& az rest --method POST --uri \"https://graph.microsoft.com/v1.0/servicePrincipals/" OID
        "/appRoleAssignments\" --headers Content-Type=application/json --body "
        "\"{\\\"principalId\\\":\\\"" OID "\\\",\\\"resourceId\\\":\\\"$SERVICE\\\","
        "\\\"appRoleId\\\":\\\"98830695-27a2-44f7-8c18-0c3ebc9698f6\\\"}\"");
    /* Another cloud, another service, and an app whose object id isn't known. */
    pfx_buf_reset(&out);
    app = (struct pfx_setup_app){&dod, "main", CLIENT, ""};
    pfx_setup_grant(&app, "Exchange.ManageAsApp", &out);
    const char *text = pfx_buf_str(&out);
    assert_int_equal(strncmp(text, "APP=$(az ad sp show --id " CLIENT " --query id --output tsv) && "
                                   "SERVICE=$(az ad sp show --id "
                                   "00000002-0000-0ff1-ce00-000000000000 ", 140), 0);
    assert_non_null(strstr(text, "https://dod-graph.microsoft.us/v1.0/servicePrincipals/$APP/"));
    assert_non_null(strstr(text, " --resource https://dod-graph.microsoft.us "));
    assert_non_null(strstr(text, "dc50a0fb-09a3-484d-be87-e023b12c6440"));
    assert_string_equal(pfx_setup_cloud(&dod),
                        "First: az cloud set --name AzureUSGovernment, then az login.");
    assert_string_equal(pfx_setup_cloud(&global), "");
    pfx_buf_reset(&out);
    app.client_id = "";
    pfx_setup_grant(&app, "User.Read.All", &out);
    pfx_setup_grant_reader(&app, &out);
    pfx_setup_list_roles(&app, &out);
    pfx_setup_sign_in(&app, "AADSTS700027", &out);
    app.client_id = CLIENT;
    pfx_setup_grant(&app, "Something.Else", &out);
    pfx_setup_sign_in(&app, "AADSTS53003", &out);
    pfx_setup_sign_in(&app, "", &out);
    assert_int_equal(out.len, 0);
}

static void test_other_commands(void **state)
{
    (void)state;
    static const struct {
        const char *code, *command;
    } rows[] = {
        {"AADSTS700027", "az ad app credential reset --id " CLIENT
                         " --cert @client-import.crt --append"},
        {"AADSTS7000222", "az ad app credential reset --id " CLIENT
                          " --cert @client-import.crt --append"},
        {"AADSTS7000229", "az ad sp create --id " CLIENT},
        {"AADSTS7000112", "az ad sp update --id " CLIENT " --set accountEnabled=true"},
        {"AADSTS700025", "az ad app update --id " CLIENT " --is-fallback-public-client false"},
        {"AADSTS700016", "az ad app show --id " CLIENT " --query \"[displayName,appId]\""},
    };
    struct pfx_setup_app app = {&global, "import", CLIENT, OID};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(4000);
        pfx_setup_sign_in(&app, rows[i].code, &out);
        assert_string_equal(pfx_buf_str(&out), rows[i].command);
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(4000);
    pfx_setup_grant_reader(&app, &out);
    assert_string_equal(
        pfx_buf_str(&out),
        "az rest --method POST --uri "
        "\"https://graph.microsoft.com/v1.0/roleManagement/directory/roleAssignments\" --headers "
        "Content-Type=application/json --body \"{\\\"principalId\\\":\\\"" OID "\\\","
        "\\\"roleDefinitionId\\\":\\\"f2ef992c-3afb-46b9-b7cf-a126ee74c451\\\","
        "\\\"directoryScopeId\\\":\\\"/\\\"}\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_challenges),
        cmocka_unit_test(test_identity_class), cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_form), cmocka_unit_test(test_claims),
        cmocka_unit_test(test_dangerous), cmocka_unit_test(test_grant),
        cmocka_unit_test(test_other_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
