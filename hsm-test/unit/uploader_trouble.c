/* How failures read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/digicert.h"
#include "api/uploader/entra.h"
#include "api/uploader/graph.h"

static struct pfx_uploader_conf conf = {.max_body = 1000};
static struct pfx_answer answer;
static struct pfx_error err;

static void answer_set(long status, const char *type, const char *body)
{
    answer = (struct pfx_answer){.status = status, .url = "https://api.example/beta/x?secret=1"};
    snprintf(answer.content_type, sizeof answer.content_type, "%s", type);
    answer.body = (struct pfx_bytes){(const uint8_t *)body, strlen(body)};
    err = PFX_ERROR_NONE;
}

static void explain(pfx_explain_fn fn, enum pfx_class cls)
{
    struct pfx_trouble trouble = {.op = "op", .service = "Service", .url_option = "graph.url",
                                  .explain = fn, .conf = &conf};
    assert_int_equal(pfx_trouble_write(&trouble, &answer, cls, 2500, &err).cls, cls);
    assert_string_equal(err.object, "https://api.example/beta/x");
    assert_null(strstr(err.text, "secret=1"));
}

static void test_entra(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *word;
    } rows[] = {
/* certificate and signature */
        {700027, "client-NAME.crt"}, {700030, "client-NAME.crt"}, {50012, "pfx-agent key show"},
        {50013, "pfx-agent key show"}, {900384, "pfx-agent key show"},
        {5002738, "entra.algorithm in hsm-policy.yaml"}, {50027, "clock"}, {700024, "clock"},
        {700021, "client id"}, {50048, "issuer"}, {700023, "uploader.yaml and hsm-policy.yaml"},
        {70021, "federated"}, {700025, "Allow public client flows"}, {7000215, "client secret"},
        {7000222, "expired"}, {70002, "client-NAME.crt"}, {7000216, "proxy"}, {7000218, "proxy"},
        /* the app, and what it may */
        {700016, "entra.tenant"}, {700011, "entra.tenant"}, {70001, "disabled"},
        {7000112, "enable it"}, {1000031, "Enterprise applications"}, {7000229, "az ad sp create"},
        {50034, "entra.tenant"}, {500341, "deleted"}, {70003, "confidential client"},
        {65001, "admin consent"}, {650056, "admin consent"}, {650057, "admin consent"},
        {65005, "admin consent"}, {90094, "admin consent"}, {90008, "admin consent"},
        {501051, "pfx-agent setup entra"}, {50105, "admin consent"},
        {53003, "Conditional Access"}, {53000, "compliant"}, {53001, "joined"},
        {50131, "Conditional Access"}, {530032, "Conditional Access"}, {530035, "security defaults"},
        {50053, "sign-in log"}, {50076, "multi-factor"}, {50079, "multi-factor"},
        /* tenant, cloud, service */
        {90002, "entra.cloud"}, {900023, "entra.tenant"}, {50059, "entra.tenant"},
        {90019, "entra.tenant"}, {50128, "entra.tenant"}, {90038, "entra.cloud"},
        {900382, "in hsm-policy.yaml"}, {900432, "entra.cloud"}, {90051, "entra.cloud"},
        {500011, "graph.url"}, {650052, "licences"}, {650054, "licences"}, {1002012, "exchange.url"},
        {70011, "exchange.url"}, {90013, "client id"}, {90014, "proxy"}, {900144, "proxy"},
        {90015, "defect"}, {90023, "defect"}, {9002313, "malformed"}, {900561, "entra.url"},
        /* passing */
        {50033, "passes by itself"}, {90006, "passes by itself"}, {90012, "passes by itself"},
        {90024, "passes by itself"}, {90033, "passes by itself"}, {90090, "passes by itself"},
        {90091, "passes by itself"}, {90055, "too many requests"}, {50196, "asked too often"},
        {1, "told"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[400];
        snprintf(body, sizeof body,
                 "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS%d: told. Trace ID: "
                 "t "
                 "Correlation ID: c\",\"error_codes\":[%d],\"trace_id\":\"t1\","
                 "\"correlation_id\":\"c1\"}",
                 rows[i].code, rows[i].code);
        answer_set(401, "application/json", body);
        explain(pfx_entra_explain, PFX_CLASS_REFUSED);
        char code[32];
        snprintf(code, sizeof code, "AADSTS%d", rows[i].code);
        assert_string_equal(err.code, code);
        if (!strstr(err.text, rows[i].word))
            fail_msg("%d: %s", rows[i].code, err.text);
        assert_true(strlen(pfx_entra_advice(rows[i].code)) < sizeof ((struct pfx_told *)0)->next);
        assert_non_null(strstr(err.text, "[trace id t1, correlation id c1]"));
        assert_null(strstr(err.text, "Trace ID:"));
    }
    answer_set(401, "application/json", "{\"error\":\"invalid_client\"}");
    explain(pfx_entra_explain, PFX_CLASS_REFUSED);
    assert_null(strstr(err.text, "trace id"));
}

/* However long the message: the ids stay. */
static void test_long(void **state)
{
    (void)state;
    char body[2000];
    char x[1000];
    memset(x, 'x', sizeof x);
    x[sizeof x - 1] = '\0';
    snprintf(body, sizeof body,
             "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS700027: %s\","
             "\"error_codes\":[700027],\"trace_id\":\"33d626b5-cff3-c4cf-ce94-b9e34b5e4d94\","
             "\"correlation_id\":\"33d626b5-cff3-c4cf-ce94-b9e34b5e4d95\"}", x);
    answer_set(401, "application/json", body);
    snprintf(answer.request_id, sizeof answer.request_id, "%s",
             "33d626b5-cff3-c4cf-ce94-b9e34b5e4d96");
    snprintf(answer.client_request_id, sizeof answer.client_request_id, "%s",
             "33d626b5-cff3-c4cf-ce94-b9e34b5e4d97");
    explain(pfx_entra_explain, PFX_CLASS_REFUSED);
    assert_non_null(strstr(err.text, "x... Entra doesn't know"));
    assert_non_null(strstr(err.text, "b9e34b5e4d95]"));
}

static void test_entra_class(void **state)
{
    (void)state;
    answer_set(400, "application/json", "{\"error\":\"temporarily_unavailable\"}");
    assert_int_equal(pfx_entra_class(&answer, PFX_CLASS_REFUSED), PFX_CLASS_TRANSIENT);
    static const int passing[] = {50033, 90006, 90012, 90024, 90033, 90055, 90090, 90091, 50196};
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        char body[100];
        snprintf(body, sizeof body, "{\"error\":\"x\",\"error_codes\":[%d]}", passing[i]);
        answer_set(400, "application/json", body);
        assert_int_equal(pfx_entra_class(&answer, PFX_CLASS_REFUSED), PFX_CLASS_TRANSIENT);
    }
    answer_set(400, "application/json", "{\"error\":\"x\",\"error_codes\":[700027]}");
    assert_int_equal(pfx_entra_class(&answer, PFX_CLASS_REFUSED), PFX_CLASS_REFUSED);
    answer_set(400, "application/json", "{\"error\":\"invalid_client\"}");
    assert_int_equal(pfx_entra_class(&answer, PFX_CLASS_REFUSED), PFX_CLASS_REFUSED);
    answer_set(302, "application/json", "{\"error\":\"server_error\"}");
    assert_int_equal(pfx_entra_class(&answer, PFX_CLASS_REFUSED), PFX_CLASS_REFUSED);
}

static void test_entra_token(void **state)
{
    (void)state;
    struct pfx_trouble trouble = {.op = "op", .service = "s", .url_option = "u", .conf = &conf};
    struct pfx_secret *token = NULL;
    int64_t ms = 0;
    answer_set(200, "application/json",
               "{\"token_type\":\"bearer\",\"expires_in\":\"3599\",\"access_token\":\"e.y-J_\"}");
    assert_true(pfx_ok(pfx_entra_token(&trouble, &answer, &token, &ms, &err)));
    assert_int_equal(ms, 3599000);
    assert_int_equal(pfx_secret_len(token), 6);
    pfx_secret_free(token);
    static const char *const wrong[] = {
        "{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"topsecret x\"}",
        "{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"topsecret\\r\\nX: 1\"}",
        "{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"\"}",
        "{\"token_type\":\"mac\",\"expires_in\":3599,\"access_token\":\"topsecret\"}",
        "{\"token_type\":\"Bearer\",\"expires_in\":0,\"access_token\":\"topsecret\"}",
        "{\"token_type\":\"Bearer\",\"expires_in\":\"1e3\",\"access_token\":\"topsecret\"}",
        "{\"token_type\":\"Bearer\",\"access_token\":\"topsecret\"}",
        "{\"token_type\":\"Bearer\",\"token_type\":\"Bearer\",\"access_token\":\"topsecret\"}",
        "[]",
        "7",
        "topsecret",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        answer_set(200, "application/json", wrong[i]);
        assert_true(pfx_failed(pfx_entra_token(&trouble, &answer, &token, &ms, &err)));
        assert_null(strstr(err.text, "topsecret"));
    }
}

static void test_digicert(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "{\"errors\":[{\"code\":\"bad_request_format\",\"message\":\"No\\u001b[2J.\"}]}",
        "{\"errors\":{\"code\":\"bad_request_format\",\"message\":\"No\\u001b[2J.\"}}",
    };
    for (size_t i = 0; i < 2; i++) {
        answer_set(400, "application/json", forms[i]);
        explain(pfx_digicert_explain, PFX_CLASS_REFUSED);
        assert_string_equal(err.code, "bad_request_format");
        assert_non_null(strstr(err.text, "No?[2J."));
        assert_non_null(strstr(err.text, "payment card"));
    }
    answer_set(403, "application/json", "{\"errors\":[]}");
    explain(pfx_digicert_explain, PFX_CLASS_REFUSED);
    assert_string_equal(err.code, "HTTP 403");
    assert_non_null(strstr(err.text, "pfx-agent secret set digicert"));
    answer_set(500, "application/json", "7");
    explain(pfx_digicert_explain, PFX_CLASS_LOST);
    assert_non_null(strstr(err.text, "may have been carried out"));
}

static void test_graph(void **state)
{
    (void)state;
    answer_set(400, "application/json",
               "{\"error\":{\"code\":\"BadRequest\",\"message\":\"{\\r\\n \\\"Message\\\": \\\"An "
               "error has "
               "occurred - Operation ID: 0 - Activity ID: 33d626b5-cff3-c4cf-ce94-b9e34b5e4d94 - "
               "Url: "
               "https://fef.example\\\"}\"}}");
    snprintf(answer.request_id, sizeof answer.request_id, "%s", "r1");
    snprintf(answer.client_request_id, sizeof answer.client_request_id, "%s", "c1");
    explain(pfx_graph_explain, PFX_CLASS_REFUSED);
    assert_string_equal(err.code, "BadRequest");
    assert_non_null(strstr(err.text, "[request-id r1, client-request-id c1, activity id "
                                     "33d626b5-cff3-c4cf-ce94-b9e34b5e4d94]"));
    assert_null(strstr(err.text, "fef.example"));
    answer_set(403, "application/json", "{\"error\":{\"code\":\"Forbidden\",\"message\":\"m\"}}");
    explain(pfx_graph_explain, PFX_CLASS_REFUSED);
    assert_non_null(strstr(err.text, "GroupMember.Read.All"));
}

static void test_foreign(void **state)
{
    (void)state;
    answer_set(502, "text/html", "<html>topsecret</html>");
    conf.proxy = (char *)(uintptr_t)"http://proxy.example:8080";
    explain(NULL, PFX_CLASS_TRANSIENT);
    assert_non_null(strstr(err.text, "api.example through the proxy proxy.example:8080 answers "
                                     "with a "
                                     "HTML page"));
    assert_null(strstr(err.text, "topsecret"));
    conf.proxy = NULL;
    answer_set(302, "application/json", "{}");
    snprintf(answer.location, sizeof answer.location, "%s", "https://login.example/x");
    explain(NULL, PFX_CLASS_REFUSED);
    assert_non_null(strstr(err.text, "redirect to https://login.example/x"));
    answer_set(429, "application/json", "{}");
    explain(NULL, PFX_CLASS_TRANSIENT);
    assert_non_null(strstr(err.text, "retry after 3 s"));
    answer_set(200, "application/json", "{}");
    answer.too_big = true;
    explain(NULL, PFX_CLASS_REFUSED);
    assert_non_null(strstr(err.text, "limits.max_body (1000 bytes"));
    answer_set(0, "", "");
    answer.curl_code = CURLE_PEER_FAILED_VERIFICATION;
    explain(NULL, PFX_CLASS_TRANSIENT);
    assert_string_equal(err.code, "curl 60");
    assert_non_null(strstr(err.text, "tls.ca_bundle"));
}

/* Who wrote a HTML page isn't known, nor whether the service did the work before it. */
static void test_html(void **state)
{
    (void)state;
    static const struct {
        bool read, sent;
        enum pfx_class cls;
    } rows[] = {
        {true, false, PFX_CLASS_TRANSIENT},
        {false, false, PFX_CLASS_TRANSIENT},
        {false, true, PFX_CLASS_LOST},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        answer_set(403, "text/html", "<html>");
        answer.sent = rows[i].sent;
        struct pfx_verdict v = pfx_trouble_judge(PFX_SERVICE_CA, rows[i].read, &answer, 0);
        assert_int_equal(v.cls, rows[i].cls);
        assert_false(v.credential);
    }
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
        bool html, json;
    } rows[] = {
        {"application/json", "{}", false, true},
        {"application/problem+json", "{}", false, true},
        {"text/html", "{}", true, false},
        {"application/json", " \n<!DOCTYPE html>", true, true},
        {"", "<HTML>", true, false},
        {"text/plain", "{}", false, false},
        {"", "", false, false},
        {"application/jsonx", "<", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        answer_set(200, rows[i].type, rows[i].body);
        assert_int_equal(pfx_trouble_is_html(&answer), rows[i].html);
        assert_int_equal(pfx_trouble_is_json(&answer), rows[i].json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entra),    cmocka_unit_test(test_entra_class),
        cmocka_unit_test(test_entra_token), cmocka_unit_test(test_digicert),
        cmocka_unit_test(test_graph),    cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_types),    cmocka_unit_test(test_long),
        cmocka_unit_test(test_html),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
