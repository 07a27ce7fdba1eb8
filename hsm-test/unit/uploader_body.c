/* What is sent to DigiCert and Graph, byte for byte, and what is read of a user. */
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
#include "uploader_doc.h"

#define TOKEN "6f9619ff-8b86-4011-b42d-00c04fc964ff"
/* 64 zero bytes: pfx_csr_pem only wraps what it is given. */
#define CSR_BASE64                                                                                 \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
#define CSR "-----BEGIN CERTIFICATE REQUEST-----" CSR_BASE64 "-----END CERTIFICATE REQUEST-----"

/* What most bodies have. */
#define EMAILS "\"emails\":[\"alice@example.com\",\"a.example@example.com\"],"
#define REQUEST "\"csr\":\"" CSR "\",\"signature_hash\":\"sha256\","
#define SIGNING "\"usage_designation\":{\"primary_usage\":\"signing\"}},"
#define PROFILE "\"profile_type\":\"multipurpose\","
#define ALICE "\"individual\":{\"first_name\":\"Alice\",\"last_name\":\"Example\"},"
#define REST(comment)                                                                              \
    "\"order_validity\":{\"years\":1},\"skip_approval\":true,"                                       \
    "\"comments\":\"pfx-agent " TOKEN comment

static struct pfx_msg *order_job(const char *product)
{
    struct pfx_msg *job = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.order")->request);
    uint8_t csr[64] = {0};
    pfx_msg_set_int(job, "enrolment", 1);
    pfx_msg_set_str(job, "product", product);
    pfx_msg_add_str(job, "addresses", "alice@example.com");
    pfx_msg_add_str(job, "addresses", "a.example@example.com");
    pfx_msg_set_blob(job, "csr", csr, sizeof csr);
    pfx_msg_set_str(job, "token", TOKEN);
    pfx_msg_set_str(job, "profile_type", "multipurpose");
    pfx_msg_set_str(job, "purpose", "signing");
    return job;
}

/* The same with a year, an organization, and how the subject is named (NULL: the job doesn't say). */
static struct pfx_msg *year_job(const char *product, int64_t organization, const char *indicator)
{
    struct pfx_msg *job = order_job(product);
    pfx_msg_set_int(job, "years", 1);
    pfx_msg_set_int(job, "organization", organization);
    if (indicator)
        pfx_msg_set_str(job, "common_name_indicator", indicator);
    return job;
}

static void set_alice(struct pfx_msg *job)
{
    pfx_msg_set_str(job, "common_name", "Alice Example");
    pfx_msg_set_str(job, "first_name", "Alice");
    pfx_msg_set_str(job, "last_name", "Example");
}

static void assert_body(struct pfx_msg *job, const char *want)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_buf out = pfx_buf_make(65536);
    if (pfx_failed(pfx_digicert_order_body(job, &out, &err)))
        fail_msg("%s", err.text);
    assert_string_equal(pfx_buf_str(&out), want);
    pfx_buf_done(&out);
    pfx_msg_free(job);
}

static void test_mailbox(void **state)
{
    (void)state;
    struct pfx_msg *job = year_job("secure_email_mailbox", 112233, /* not for this product */
                                   "email_address");
    assert_body(job, "{\"certificate\":{" EMAILS REQUEST PROFILE SIGNING REST("\"}"));
}

static void test_sponsor(void **state)
{
    (void)state;
    struct pfx_msg *job = order_job("secure_email_sponsor");
    pfx_msg_set_int(job, "days", 700);
    pfx_msg_set_int(job, "organization", 112233);
    pfx_msg_set_int(job, "renewal_of", 123456);
    pfx_msg_set_str(job, "purpose", "dual");
    pfx_msg_set_str(job, "common_name_indicator", "given_name_surname");
    pfx_msg_set_str(job, "first_name", "Alice");
    pfx_msg_set_str(job, "last_name", "Ex\"ample");
    pfx_msg_set_str(job, "payment_method", "balance");
    pfx_msg_add_str(job, "additional_usages", "non_repudiation");
    pfx_msg_add_str(job, "additional_usages", "client_auth");
    assert_body(job, "{\"certificate\":{" EMAILS REQUEST PROFILE
                     "\"common_name_indicator\":\"given_name_surname\","
                     "\"individual\":{\"first_name\":\"Alice\",\"last_name\":\"Ex\\\"ample\"},"
                     "\"usage_designation\":{\"primary_usage\":\"dual_use\","
                     "\"additional_usages\":[\"non_repudiation\",\"client_auth\"]}},"
                     "\"organization\":{\"id\":112233},\"order_validity\":{\"days\":700},"
                     "\"skip_approval\":true,\"payment_method\":\"balance\","
                     "\"comments\":\"pfx-agent " TOKEN "\",\"renewal_of_order_id\":123456}");
}

static void test_organization(void **state)
{
    (void)state;
    struct pfx_msg *job = year_job("secure_email_organization", 5, "organization_name");
    pfx_msg_set_int(job, "years", 2);
    pfx_msg_set_str(job, "purpose", "encryption");
    assert_body(job, "{\"certificate\":{" EMAILS REQUEST PROFILE
                     "\"common_name_indicator\":\"organization_name\","
                     "\"usage_designation\":{\"primary_usage\":\"key_management\"}},"
                     "\"organization\":{\"id\":5},\"order_validity\":{\"years\":2},"
                     "\"skip_approval\":true,\"comments\":\"pfx-agent " TOKEN "\"}");
}

/* The three that name a person, with everything that a rule may add. */
static void test_client(void **state)
{
    (void)state;
    static const char *const names[] = {"client_premium", "client_digital_signature_plus",
                                        "client_email_security_plus"};
    for (size_t i = 0; i < 3; i++) {
        struct pfx_msg *job = year_job(names[i], 112233, "given_name_surname");
        set_alice(job);
        pfx_msg_set_str(job, "pseudonym", "not this one");
        pfx_msg_set_str(job, "comment", "S/MIME \"for\" all");
        struct pfx_msg *field = pfx_msg_add_obj(job, "custom_fields");
        pfx_msg_set_int(field, "id", 11);
        pfx_msg_set_str(field, "value", "a\\b");
        field = pfx_msg_add_obj(job, "custom_fields");
        pfx_msg_set_int(field, "id", 12);
        pfx_msg_set_str(field, "value", "4711");
        assert_body(job, "{\"certificate\":{\"common_name\":\"Alice Example\"," EMAILS REQUEST PROFILE
                         "\"common_name_indicator\":\"given_name_surname\"," ALICE SIGNING
                         "\"organization\":{\"id\":112233}," REST(" S/MIME \\\"for\\\" all\",")
                         "\"custom_fields\":[{\"metadata_id\":11,\"value\":\"a\\\\b\"},"
                         "{\"metadata_id\":12,\"value\":\"4711\"}]}");
    }
}

static void test_pseudonym(void **state)
{
    (void)state;
    struct pfx_msg *job = year_job("client_premium", 1, "pseudonym");
    set_alice(job); /* none of this */
    pfx_msg_set_str(job, "pseudonym", "agent 7");
    assert_body(job, "{\"certificate\":{" EMAILS REQUEST PROFILE
                     "\"common_name_indicator\":\"pseudonym\","
                     "\"individual\":{\"pseudonym\":\"agent 7\"}," SIGNING
                     "\"organization\":{\"id\":1}," REST("\"}"));
    /* With the address as common name, the pseudonym where there are no names. */
    job = year_job("secure_email_sponsor", 1, "email_address");
    pfx_msg_set_str(job, "pseudonym", "agent 7");
    assert_body(job, "{\"certificate\":{" EMAILS REQUEST PROFILE
                     "\"common_name_indicator\":\"email_address\","
                     "\"individual\":{\"pseudonym\":\"agent 7\"}," SIGNING
                     "\"organization\":{\"id\":1}," REST("\"}"));
}

static void test_authentication(void **state)
{
    (void)state;
    /* The indicator isn't for it, nor are the names but the common one. */
    struct pfx_msg *job = year_job("client_authentication_plus", 7, "given_name_surname");
    set_alice(job);
    assert_body(job, "{\"certificate\":{\"common_name\":\"Alice Example\"," EMAILS REQUEST PROFILE
                     SIGNING "\"organization\":{\"id\":7}," REST("\"}"));
}

/* Must never be sent a common name. */
static void test_class1(void **state)
{
    (void)state;
    struct pfx_msg *job = year_job("class1_smime", 7, "given_name_surname");
    set_alice(job);
    assert_body(job, "{\"certificate\":{" EMAILS REQUEST PROFILE SIGNING REST("\"}"));
}

/* What mends a refusal: a product that the account doesn't have is no matter of the API key. */
static void test_advice(void **state)
{
    (void)state;
    static const struct {
        long status;
        const char *code, *word;
    } rows[] = {
        {403, "access_denied|product", "account manager"},
        {404, "not_found|product", "account manager"},
        {403, "access_denied|invalid_product", "account manager"},
        {403, "access_denied|user", "secret set digicert"},
        {401, "access_denied|product", "secret set digicert"},
        {400, "bad_request_format", "payment card"},
        {400, "insufficient_funds", "Pay in"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[200];
        int n = snprintf(text, sizeof text, "{\"errors\":[{\"code\":\"%s\",\"message\":\"m\"}]}",
                         rows[i].code);
        struct pfx_answer answer = {.status = rows[i].status,
                                    .body = {(const uint8_t *)text, (size_t)n}};
        struct pfx_told told = {0};
        pfx_digicert_explain(&answer, &told);
        assert_string_equal(told.code, rows[i].code);
        if (!strstr(told.next, rows[i].word))
            fail_msg("%s: %s", rows[i].code, told.next);
    }
}

static void unfit(struct pfx_msg *job, const char *word)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_buf out = pfx_buf_make(65536);
    assert_int_equal(pfx_digicert_order_body(job, &out, &err).cls, PFX_CLASS_USAGE);
    assert_int_equal(out.len, 0);
    if (!strstr(err.text, word))
        fail_msg("%s: %s", word, err.text);
    pfx_buf_done(&out);
    pfx_msg_free(job);
}

static void test_unfit_products(void **state)
{
    (void)state;
    static const struct {
        const char *product, *member, *value, *word;
    } rows[] = {
        {"client_premium", "common_name_indicator", "email_address", "given_name_surname|pseud"},
        {"client_premium", "common_name_indicator", "pseudonym", "pseudonym"},
        {"client_premium", "profile_type", "strict", "multipurpose"},
        {"class1_smime", "profile_type", "strict", "multipurpose"},
        {"client_authentication_plus", NULL, NULL, "given name and surname"},
        {"secure_email_sponsor", "common_name_indicator", "organization_name", "email_address"},
        {"secure_email_organization", "common_name_indicator", "pseudonym", "organization_name"},
        {"internal", NULL, NULL, "can't be ordered at DigiCert"},
        {"secure_email", NULL, NULL, "can't be ordered at DigiCert"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pfx_msg *job = year_job(
            rows[i].product, 1,
            strstr(rows[i].product, "organization") ? "organization_name" : "given_name_surname");
        pfx_msg_set_str(job, "first_name", "Alice");
        pfx_msg_set_str(job, "last_name", "Example");
        if (rows[i].member)
            pfx_msg_set_str(job, rows[i].member, rows[i].value);
        unfit(job, rows[i].word);
    }
    struct pfx_msg *job = order_job("class1_smime");
    pfx_msg_set_int(job, "years", 3);
    unfit(job, "two years");
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool end;
        int64_t ms;
    } good[] = {
        {"2026-10-16T20:05:28+00:00", true, 1792181128000},
        {"2026-10-16T22:05:28.5+02:00", false, 1792181128500},
        {"2026-10-16 20:05:28", true, 1792181128000},
        {"2026-10-16", false, 1792108800000},
        {"2026-10-16", true, 1792195199000},
    };
    int64_t ms = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(pfx_digicert_time(good[i].text, good[i].end, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"", "2026", "16.10.2026", "2026-10-16 20:05", "2026-13-01",
                                      "2026-10-16 25:05:28", "2026-10-16x20:05:28"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(pfx_digicert_time(bad[i], true, &ms));
}

/* One thing more is there each time. */
static void test_unfit_orders(void **state)
{
    (void)state;
    static const char *const words[] = {"in years or in days", "in years or in days",
                                        "organization's id", "common_name", "first name",
                                        "last name"};
    for (int i = 0; i < 6; i++) {
        struct pfx_msg *job = order_job(i < 2 ? "secure_email_mailbox" : "secure_email_sponsor");
        if (i != 0)
            pfx_msg_set_int(job, "years", 1);
        if (i == 1)
            pfx_msg_set_int(job, "days", 30);
        if (i > 2)
            pfx_msg_set_int(job, "organization", 1);
        if (i > 3)
            pfx_msg_set_str(job, "common_name_indicator", "email_address");
        if (i > 4)
            pfx_msg_set_str(job, "first_name", "A");
        unfit(job, words[i]);
    }
}

static void test_record(void **state)
{
    (void)state;
    struct pfx_msg *job = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.import")->request);
    uint8_t zeros[3] = {0};
    pfx_msg_set_str(job, "record_id", "x");
    pfx_msg_set_str(job, "thumbprint", "0ffff8962ffffdea9ffff8e83ffff1d83ffff6ae");
    pfx_msg_set_str(job, "purpose", "smimeEncryption");
    pfx_msg_set_str(job, "upn", "user1@contoso.com");
    pfx_msg_set_int(job, "starts", 1767323045999);
    pfx_msg_set_int(job, "expires", 1798859045000);
    pfx_msg_set_str(job, "provider_name", "Provider");
    pfx_msg_set_str(job, "key_name", "PFXEncryptionKey");
    pfx_msg_set_str(job, "padding", "oaepSha512");
    pfx_msg_set_blob(job, "pfx", zeros, 3);
    pfx_msg_set_blob(job, "sealed", zeros, 1);
    struct pfx_buf out = pfx_buf_make(65536);
    assert_true(pfx_ok(pfx_graph_record_body(job, &out, NULL)));
    assert_string_equal(pfx_buf_str(&out),
                        "{\"thumbprint\":\"0ffff8962ffffdea9ffff8e83ffff1d83ffff6ae\","
                        "\"intendedPurpose\":\"smimeEncryption\","
                        "\"userPrincipalName\":\"user1@contoso.com\","
                        "\"startDateTime\":\"2026-01-02T03:04:05Z\","
                        "\"expirationDateTime\":\"2027-01-02T03:04:05Z\","
                        "\"providerName\":\"Provider\",\"keyName\":\"PFXEncryptionKey\","
                        "\"paddingScheme\":\"oaepSha512\",\"encryptedPfxBlob\":\"AAAA\","
                        "\"encryptedPfxPassword\":\"AA==\"}");
    pfx_buf_done(&out);
    out = pfx_buf_make(100);
    assert_int_equal(pfx_graph_record_body(job, &out, NULL).cls, PFX_CLASS_USAGE);
    pfx_buf_done(&out);
    pfx_msg_free(job);
}

static void test_form(void **state)
{
    (void)state;
    struct pfx_buf out = pfx_buf_make(65536);
    pfx_entra_form(&out, TOKEN, "https://graph.microsoft.com", "a.b-c_d.e=");
    assert_string_equal(pfx_buf_str(&out), "client_id=" TOKEN "&scope=https%3A%2F%2Fgraph."
                                                              "microsoft.com%2F.default"
                                           "&grant_type=client_credentials&client_assertion_type="
                                           "urn%3Aietf%3Aparams%3A"
                                           "oauth%3Aclient-assertion-type%3Ajwt-bearer&client_"
                                           "assertion=a.b-c_d.e%3D");
    pfx_buf_done(&out);
}

static void test_member(void **state)
{
    (void)state;
    struct pfx_msg *result = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.members")->result);
    struct pfx_msg *member = pfx_msg_add_obj(result, "users");
    const cJSON *user = read_doc(
        "{\"id\":\"5FFFF976-dfff-4e49-afff-8978fffff025\",\"userPrincipalName\":\"u@x\","
        "\"accountEnabled\":false,\"mail\":null,\"displayName\":\"\",\"givenName\":\"A\\u0007\","
        "\"proxyAddresses\":[\"SMTP:a@x\",\"\",\"smtp:b\\u200b@x\"],\"employeeHireDate\":\"2026-11-22T00:00:00Z\"}");
    pfx_graph_read_member(&doc, user, member);
    assert_false(doc.bad);
    assert_string_equal(pfx_msg_str(member, "id"), "5ffff976-dfff-4e49-afff-8978fffff025");
    assert_false(pfx_msg_has(member, "mail"));
    assert_false(pfx_msg_has(member, "display"));
    assert_string_equal(pfx_msg_str(member, "given"), "A\xEF\xBF\xBD");
    /* What can't be seen stays: without it, or with ? in its place, it is another address. */
    assert_int_equal(pfx_msg_count(member, "proxies"), 2);
    assert_string_equal(pfx_msg_str_at(member, "proxies", 1), "smtp:b\xE2\x80\x8B@x");
    assert_int_equal(pfx_msg_int(member, "hire_date"), 1795305600000);
    struct pfx_buf out = pfx_buf_make(65536);
    assert_true(pfx_ok(pfx_msg_encode(result, false, &out, NULL)));
    pfx_buf_done(&out);
    static const char *const wrong[] = {
        "{\"id\":\"x\",\"userPrincipalName\":\"u\",\"accountEnabled\":true}",
        "{\"userPrincipalName\":\"u\",\"accountEnabled\":true}",
        "{\"id\":\"5ffff976-dfff-4e49-afff-8978fffff025\",\"accountEnabled\":true}",
        "{\"id\":\"5ffff976-dfff-4e49-afff-8978fffff025\",\"userPrincipalName\":\"u\"}",
        "{\"id\":\"5ffff976-dfff-4e49-afff-8978fffff025\",\"userPrincipalName\":\"u\","
        "\"accountEnabled\":true,\"proxyAddresses\":[7]}",
        "{\"id\":\"5ffff976-dfff-4e49-afff-8978fffff025\",\"userPrincipalName\":\"u\","
        "\"accountEnabled\":true,\"mail\":\"a\",\"mail\":\"b\"}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        user = read_doc(wrong[i]);
        pfx_graph_read_member(&doc, user, pfx_msg_add_obj(result, "users"));
        assert_true(doc.bad);
    }
    pfx_msg_free(result);
    pfx_doc_done(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mailbox),      cmocka_unit_test(test_sponsor),
        cmocka_unit_test(test_organization), cmocka_unit_test(test_unfit_orders),
        cmocka_unit_test(test_client),       cmocka_unit_test(test_pseudonym),
        cmocka_unit_test(test_authentication), cmocka_unit_test(test_class1),
        cmocka_unit_test(test_unfit_products), cmocka_unit_test(test_times),
        cmocka_unit_test(test_record),       cmocka_unit_test(test_form),
        cmocka_unit_test(test_member),       cmocka_unit_test(test_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
