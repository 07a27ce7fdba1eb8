/* What is sent to DigiCert and Graph, byte for byte, and what is read of their users and records.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/digicert.h"
#include "api/uploader/entra.h"
#include "api/uploader/graph.h"

#define TOKEN "6f9619ff-8b86-4011-b42d-00c04fc964ff"
/* 64 zero bytes: pfx_csr_pem only wraps what it is given. */
#define CSR_BASE64                                                                                 \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
#define CSR "-----BEGIN CERTIFICATE REQUEST-----" CSR_BASE64 "-----END CERTIFICATE REQUEST-----"

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
    struct pfx_msg *job = order_job("secure_email_mailbox");
    pfx_msg_set_int(job, "years", 1);
    pfx_msg_set_int(job, "organization", 112233); /* not for this product */
    pfx_msg_set_str(job, "common_name_indicator", "email_address");
    assert_body(job, "{\"certificate\":{\"emails\":[\"alice@example.com\",\"a.example@example."
                     "com\"],"
                     "\"csr\":\"" CSR "\",\"signature_hash\":\"sha256\","
                     "\"profile_type\":\"multipurpose\","
                     "\"usage_designation\":{\"primary_usage\":\"signing\"}},"
                     "\"order_validity\":{\"years\":1},\"skip_approval\":true,"
                     "\"comments\":\"pfx-agent " TOKEN "\"}");
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
    assert_body(job, "{\"certificate\":{\"emails\":[\"alice@example.com\",\"a.example@example."
                     "com\"],"
                     "\"csr\":\"" CSR "\",\"signature_hash\":\"sha256\","
                     "\"profile_type\":\"multipurpose\","
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
    struct pfx_msg *job = order_job("secure_email_organization");
    pfx_msg_set_int(job, "years", 2);
    pfx_msg_set_int(job, "organization", 5);
    pfx_msg_set_str(job, "purpose", "encryption");
    pfx_msg_set_str(job, "common_name_indicator", "organization_name");
    assert_body(job, "{\"certificate\":{\"emails\":[\"alice@example.com\",\"a.example@example."
                     "com\"],"
                     "\"csr\":\"" CSR "\",\"signature_hash\":\"sha256\","
                     "\"profile_type\":\"multipurpose\","
                     "\"common_name_indicator\":\"organization_name\","
                     "\"usage_designation\":{\"primary_usage\":\"key_management\"}},"
                     "\"organization\":{\"id\":5},\"order_validity\":{\"years\":2},"
                     "\"skip_approval\":true,\"comments\":\"pfx-agent " TOKEN "\"}");
}

static void test_unfit_orders(void **state)
{
    (void)state;
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
        struct pfx_error err = PFX_ERROR_NONE;
        struct pfx_buf out = pfx_buf_make(65536);
        assert_int_equal(pfx_digicert_order_body(job, &out, &err).cls, PFX_CLASS_USAGE);
        assert_int_equal(out.len, 0);
        pfx_buf_done(&out);
        pfx_msg_free(job);
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

static struct pfx_doc doc;
static const cJSON *read_doc(const char *text)
{
    pfx_doc_done(&doc);
    char why[160];
    assert_true(pfx_doc_parse((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, &doc, why));
    return pfx_doc_root(&doc);
}

static void test_member(void **state)
{
    (void)state;
    struct pfx_msg *result = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.members")->result);
    struct pfx_msg *member = pfx_msg_add_obj(result, "users");
    const cJSON *user = read_doc(
        "{\"id\":\"5FFFF976-dfff-4e49-afff-8978fffff025\",\"userPrincipalName\":\"u@x\","
        "\"accountEnabled\":false,\"mail\":null,\"displayName\":\"\",\"givenName\":\"A\\u0007\","
        "\"proxyAddresses\":[\"SMTP:a@x\",\"\"],\"employeeHireDate\":\"2026-11-22T00:00:00Z\"}");
    pfx_graph_read_member(&doc, user, member);
    assert_false(doc.bad);
    assert_string_equal(pfx_msg_str(member, "id"), "5ffff976-dfff-4e49-afff-8978fffff025");
    assert_false(pfx_msg_has(member, "mail"));
    assert_false(pfx_msg_has(member, "display"));
    assert_string_equal(pfx_msg_str(member, "given"), "A?");
    assert_int_equal(pfx_msg_count(member, "proxies"), 1);
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
        cmocka_unit_test(test_record),       cmocka_unit_test(test_form),
        cmocka_unit_test(test_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
