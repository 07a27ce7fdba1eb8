/* How a request gets to its host, and what comes of a proxy that refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/route.h"
#include "api/uploader/trouble.h"

static void test_excepted(void **state)
{
    (void)state;
    static const struct {
        const char *list, *host;
        bool excepted;
    } rows[] = {
        {"localhost", "localhost", true},
        {"localhost", "localhost.example", false},
        {"example", "a.example", true},
        {"example", "ab.example", true},
        {"b.example", "ab.example", false},
        {".b.example", "b.example", true},
        {".b.example", "a.b.example", true},
        {"x, B.EXAMPLE. ,y", "a.b.example", true},
        {"x,,y", "z", false},
        {"", "z", false},
        {".", "z", false},
        {"*", "anything", true},
        {"*.example", "a.example", false},
        {"127.0.0.1", "127.0.0.1", true},
        {"27.0.0.1", "127.0.0.1", false},
        {"::1", "::1", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (pfx_route_excepted(rows[i].list, rows[i].host) != rows[i].excepted)
            fail_msg("row %zu: %s in %s", i, rows[i].host, rows[i].list);
}

static void test_find(void **state)
{
    (void)state;
    struct pfx_pin_conf pins[] = {{(char *)"graph.example", (char *)"sha256//G"},
                                  {(char *)"p.example", (char *)"sha256//P"}};
    struct pfx_uploader_conf conf = {.proxy = (char *)"https://P.example:8080",
                                     .no_proxy = (char *)"near.example",
                                     .http2 = true,
                                     .pins = pins,
                                     .n_pins = 2};
    struct pfx_route r = pfx_route_find(&conf, "https://Graph.example:8443/v1.0", true);
    assert_true(r.proxy && r.http2);
    assert_string_equal(r.pins, "sha256//G");
    assert_string_equal(r.proxy_pins, "sha256//P");
    r = pfx_route_find(&conf, "https://a.near.example/x?graph.example", false);
    assert_false(r.proxy || r.http2);
    assert_null(r.pins);
    assert_null(r.proxy_pins);
    conf.http2 = false;
    assert_false(pfx_route_find(&conf, "https://x.example", true).http2);
}

static void test_refused_by_proxy(void **state)
{
    (void)state;
    struct pfx_uploader_conf conf = {.proxy = (char *)"http://p.example:8080"};
    struct pfx_trouble trouble = {.op = "order", .service = "DigiCert", .conf = &conf};
    struct pfx_answer answer = {.curl_code = CURLE_RECV_ERROR,
                                .proxied = true,
                                .connect_status = 407,
                                .curl_text = "CONNECT tunnel failed, response 407",
                                .url = "https://ca.example/order"};
    for (int change = 0; change < 2; change++) {
        struct pfx_error err = PFX_ERROR_NONE;
        struct pfx_verdict v = pfx_trouble_judge(PFX_SERVICE_CA, !change, &answer, 0);
        assert_int_equal(v.cls, PFX_CLASS_TRANSIENT); /* never sent, and no fault of the order */
        conf.proxy_user = change ? (char *)"me" : NULL;
        assert_int_equal(pfx_trouble_write(&trouble, &answer, v.cls, -1, &err).cls, v.cls);
        assert_string_equal(err.object, "p.example:8080");
        assert_non_null(strstr(err.text, "pfx-agent secret set proxy"));
        assert_non_null(strstr(err.text, change ? "doesn't take" : "set proxy.user"));
        assert_non_null(strstr(err.text, "nothing was sent"));
    }
    struct pfx_error why = PFX_ERROR_NONE;
    why.cls = pfx_fail(&why, PFX_CLASS_DEVICE, "open secret", "proxy", "CKR_X", "It is gone.").cls;
    answer = (struct pfx_answer){.unsent = &why, .url = "https://ca.example/order"};
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_verdict v = pfx_trouble_judge(PFX_SERVICE_CA, false, &answer, 0);
    assert_int_equal(v.cls, PFX_CLASS_DEVICE);
    assert_int_equal(pfx_trouble_write(&trouble, &answer, v.cls, -1, &err).cls, PFX_CLASS_DEVICE);
    assert_string_equal(err.code, "CKR_X");
}

static void test_wrong_pin(void **state)
{
    (void)state;
    struct pfx_uploader_conf conf = {.proxy = (char *)"https://p.example:8080"};
    struct pfx_trouble trouble = {.op = "order", .service = "DigiCert", .conf = &conf};
    struct pfx_answer answer = {.curl_code = CURLE_SSL_PINNEDPUBKEYNOTMATCH,
                                .url = "https://ca.example/order"};
    struct pfx_error err = PFX_ERROR_NONE;
    assert_int_equal(pfx_trouble_judge(PFX_SERVICE_CA, false, &answer, 0).cls,
                     PFX_CLASS_TRANSIENT); /* nothing was sent */
    err.cls = pfx_trouble_write(&trouble, &answer, PFX_CLASS_TRANSIENT, -1, &err).cls;
    assert_non_null(strstr(err.text, "openssl s_client -connect ca.example:443 "));
    answer.proxied = true;
    memcpy(answer.pin, "sha256//X", 10);
    err = PFX_ERROR_NONE;
    err.cls = pfx_trouble_write(&trouble, &answer, PFX_CLASS_TRANSIENT, -1, &err).cls;
    assert_non_null(strstr(err.text, "key of p.example:8080 isn't"));
    assert_non_null(strstr(err.text, "It showed sha256//X."));
    answer.connect_status = 200;
    err = PFX_ERROR_NONE;
    err.cls = pfx_trouble_write(&trouble, &answer, PFX_CLASS_TRANSIENT, -1, &err).cls;
    assert_non_null(strstr(err.text, "key of ca.example isn't"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_excepted),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_refused_by_proxy),
        cmocka_unit_test(test_wrong_pin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
