/* The client assertion, checked by Python's json and cryptography. */
#include "crypto_test.h"
#include "crypto_tool.h"

#include <string.h>

#include "crypto/encode.h"
#include "crypto/jwt.h"
#include "crypto/key.h"

#define AUDIENCE                                                                                   \
    "https://login.microsoftonline.com/7b6d1c1e-0000-4000-8000-000000000001/oauth2/v2.0/token"
#define CLIENT "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
#define JTI "9b2e3c44-1111-4222-8333-444455556666"
#define BUF PFX_CLEANUP(pfx_buf_done) struct pfx_buf

static struct pfx_assertion assertion(void)
{
    struct pfx_assertion a = {.audience = AUDIENCE,
                              .client_id = CLIENT,
                              .jti = JTI,
                              .now_ms = 1795334400999};
    for (uint8_t i = 0; i < 32; i++)
        a.x5t_s256[i] = (uint8_t)(0xF8 + i); /* its base64url has both - and _ */
    return a;
}

static void python_verifies_it(void **state)
{
    const char *dir = *state;
    tool_must(dir, NULL, "openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
              "rsa_keygen_bits:2048", "-out", "k.pem", NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "k.pem", "-pubout", "-out", "pub.pem", NULL);
    for (int rs256 = 0; rs256 < 2; rs256++) {
        struct pfx_assertion a = assertion();
        a.rs256 = rs256;
        BUF input = pfx_buf_make(8192);
        ERROR(err);
        assert_ok(pfx_assertion_input(&a, &input, &err), &err);
        tool_write(dir, "input", pfx_buf_bytes(&input));
        if (rs256)
            tool_must(dir, NULL, "openssl", "dgst", "-sha256", "-sign", "k.pem", "-out", "sig",
                      "input", NULL);
        else
            tool_must(dir, NULL, "openssl", "dgst", "-sha256", "-sign", "k.pem", "-sigopt",
                      "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-out", "sig",
                      "input", NULL);
        BUF sig = tool_read(dir, "sig");
        assert_true(pfx_assertion_sign(&input, pfx_buf_bytes(&sig)));
        tool_write(dir, "jwt", pfx_buf_bytes(&input));
        char hex[65];
        tool_must(dir, NULL, TOOL_PYTHON, "jwt", "jwt", "pub.pem", rs256 ? "RS256" : "PS256",
                  pfx_hex(a.x5t_s256, 32, hex), AUDIENCE, CLIENT, JTI, "1795334400", NULL);
    }
}

static void what_json_would_have_to_escape(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a\"b", "a\\b", "a\nb", "\xC3\xBC", NULL};
    BUF out = pfx_buf_make(8192);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct pfx_assertion a = assertion();
        a.audience = bad[i];
        assert_class(pfx_assertion_input(&a, &out, NULL), PFX_CLASS_USAGE);
        a = assertion();
        a.client_id = bad[i];
        assert_class(pfx_assertion_input(&a, &out, NULL), PFX_CLASS_USAGE);
        a = assertion();
        a.jti = bad[i];
        assert_class(pfx_assertion_input(&a, &out, NULL), PFX_CLASS_USAGE);
    }
    struct pfx_assertion a = assertion();
    a.now_ms = -1;
    assert_class(pfx_assertion_input(&a, &out, NULL), PFX_CLASS_USAGE);
    assert_int_equal(out.len, 0);
    BUF small = pfx_buf_make(100);
    a = assertion();
    assert_class(pfx_assertion_input(&a, &small, NULL), PFX_CLASS_INTERNAL);
    assert_int_equal(small.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tool_test(python_verifies_it),
        cmocka_unit_test(what_json_would_have_to_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
