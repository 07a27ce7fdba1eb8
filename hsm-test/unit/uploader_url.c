/* URLs that may be followed, and foreign text that may be shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define BASE "https://graph.microsoft.com"

static void test_followed(void **state)
{
    (void)state;
    static const struct {
        const char *base, *below, *link;
    } rows[] = {
        {BASE, "/v1.0/groups", BASE "/v1.0/groups/1/transitiveMembers?$skiptoken=a%20b"},
        {BASE, "/v1.0/groups", "https://GRAPH.microsoft.com:443/v1.0/Groups('1')"},
        {BASE, "/v1.0/groups", BASE "/v1.0/groups?$skiptoken=/../x"},
        {BASE "/", "/v1.0/groups", BASE "/v1.0/groups"},
        {"https://localhost:8443/graph", "/v1.0/groups",
         "https://localhost:8443/graph/v1.0/groups/1"},
        {BASE, "/v1.0/groups", BASE "/v1.0/groups/a.b/..c/d.."},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        if (pfx_failed(pfx_url_within(rows[i].base, rows[i].below, rows[i].link, "t", &err)))
            fail_msg("row %zu: %s", i, err.text);
    }
}

static void test_part(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0af-9", "a.b", "..a", "A_b~", "-"};
    static const char *const bad[] = {"",     ".",   "..",   "...", "a/b", "/",
                                      "a%2f", "a b", "a\\b", "é",   "a?",  "a#"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(pfx_url_is_part(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(pfx_url_is_part(bad[i]));
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const links[] = {
        "",
        "/v1.0/groups/1",
        "http://graph.microsoft.com/v1.0/groups/1",
        "ftp://graph.microsoft.com/v1.0/groups/1",
        "file:///v1.0/groups/1",
        "https://graph.microsoft.com.evil.invalid/v1.0/groups/1",
        "https://graph.microsoft.com@evil.invalid/v1.0/groups/1",
        "https://user@graph.microsoft.com/v1.0/groups/1",
        "https://user:password@graph.microsoft.com/v1.0/groups/1",
        "https://graph.microsoft.com:444/v1.0/groups/1",
        "https://evil.invalid/v1.0/groups/1",
        "https://graph%2Emicrosoft.com/v1.0/groups/1", /* libcurl's same host, and no pin's */
        "https://graph.microsoft.com\\@evil.invalid/v1.0/groups/1",
        BASE "/v1.0/users/1",
        BASE "/v1.0/groupsx",
        BASE "/v1.0/groups/../users/1",
        BASE "/v1.0/groups/%2e%2E/users/1",
        BASE "/v1.0/groups/.%2e/users/1",
        BASE "/v1.0/groups/./1",
        BASE "/v1.0/groups/..",
        BASE "/v1.0/groups/1 x",
        BASE "/v1.0/groups/1\r\nEvil: 1",
        BASE "/v1.0/groups/1#x",
        BASE "/v1.0/groups/\xc3\xa4",
        BASE "?/v1.0/groups/1",
        BASE,
    };
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_result r = pfx_url_within(BASE, "/v1.0/groups", links[i], "t", &err);
        if (r.cls != PFX_CLASS_REFUSED || !strstr(err.text, "isn't followed"))
            fail_msg("row %zu: class %d: %s", i, (int)r.cls, err.text);
    }
    struct pfx_error err = PFX_ERROR_NONE;
    assert_true(pfx_failed(pfx_url_within("https://localhost/graph", "/v1.0/groups",
                                          "https://localhost/v1.0/groups/1", "t", &err)));
}

static void test_encode(void **state)
{
    (void)state;
    struct pfx_buf out = pfx_buf_make(100);
    pfx_url_encode(&out, "a-Z_0.~/?&=%+ \xc3\xa4");
    assert_string_equal(pfx_buf_str(&out), "a-Z_0.~%2F%3F%26%3D%25%2B%20%C3%A4");
    pfx_buf_done(&out);
}

static void test_show(void **state)
{
    (void)state;
    char text[40];
    assert_string_equal(pfx_url_show(BASE "/a?token=1", text, sizeof text), BASE "/a");
    assert_string_equal(pfx_url_host("https://h:8443/a@b?c", text, sizeof text), "h:8443");
    assert_string_equal(pfx_url_host("http://user:pass@h:1", text, sizeof text), "h:1");
}

static void test_clean(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain", "plain"},
        {"  a \r\n\t b  ", "a b"},
        {"a\x1b[31mb", "a?[31mb"},
        {"\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac"},
        {"a\xe2\x80\xae" "b", "a?b"}, /* right-to-left override */
        {"a\xc2\x85" "b", "a?b"},     /* C1 control */
        {"a\xff\xc0\xaf", "a???"},
        {"\xed\xa0\x80", "???"},      /* a surrogate */
        {"\xf4\x90\x80\x80", "????"}, /* above U+10FFFF */
        {"12345678901234567890", "123456789012..."},
        {"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac",
         "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac..."},
        {"123456789012345", "123456789012345"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[16];
        assert_string_equal(pfx_text_clean_str(text, sizeof text, rows[i].in), rows[i].out);
    }
    char text[16];
    assert_string_equal(pfx_text_clean_str(text, sizeof text, NULL), "");
    assert_string_equal(pfx_text_clean(text, sizeof text, "a\0b", 3), "a?b");
}

static void test_guid(void **state)
{
    (void)state;
    char id[37];
    assert_string_equal(pfx_text_guid_after(id,
                                            "x Activity ID: 33D626B5-cff3-c4cf-ce94-b9e34b5e4d94 - "
                                            "y",
                                            "Activity ID: "),
                        "33d626b5-cff3-c4cf-ce94-b9e34b5e4d94");
    assert_string_equal(pfx_text_guid_after(id, "Activity ID: 33d6", "Activity ID: "), "");
    assert_string_equal(pfx_text_guid_after(id, NULL, "x"), "");
    assert_false(pfx_text_is_guid("33d626b5-cff3-c4cf-ce94-b9e34b5e4d941"));
    assert_false(pfx_text_is_guid("33d626b5-cff3-c4cf-ce94-b9e34b5e4d9"));
    assert_false(pfx_text_is_guid(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_followed), cmocka_unit_test(test_part),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_encode),
        cmocka_unit_test(test_show),     cmocka_unit_test(test_clean),
        cmocka_unit_test(test_guid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
