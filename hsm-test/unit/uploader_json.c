/* Hostile JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "uploader_doc.h"

static bool parses(const char *text, size_t len)
{
    struct pfx_doc one = {0};
    char why[160] = "";
    bool good = pfx_doc_parse((struct pfx_bytes){(const uint8_t *)text, len}, &one, why);
    if (good)
        pfx_doc_done(&one);
    else
        assert_true(why[0] != '\0');
    return good;
}
#define PARSES(literal) parses(literal, sizeof(literal) - 1)

static void test_parse(void **state)
{
    (void)state;
    assert_true(PARSES("{}"));
    assert_true(PARSES(" \r\n[1,2] \t\n"));
    assert_true(PARSES("{\"a\":\"\\u0041\\\\u0000\"}"));
    assert_false(PARSES(""));
    assert_false(PARSES("  "));
    assert_false(PARSES("{\"a\":1"));
    assert_false(PARSES("{} x"));
    assert_false(PARSES("{}{}"));
    assert_false(PARSES("{\"a\":\"b\\u0000c\"}"));
    assert_false(PARSES("{\"a\":\"\\\\\\u0000\"}"));
    assert_false(PARSES("{}\0{}"));
    assert_false(PARSES("{\"a\":\"b\0c\"}"));
    assert_false(PARSES("{\"a\0b\":1}"));
    assert_false(PARSES("{\"a\":\"\xff\"}"));
    assert_false(PARSES("<html></html>"));
}

static void test_limits(void **state)
{
    (void)state;
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_false(parses(deep, 200));
    assert_true(parses(deep + 70, 60));
    size_t n = 2 * PFX_DOC_MAX_VALUES + 10;
    char *many = pfx_alloc(n);
    memset(many, '1', n);
    for (size_t i = 2; i < n; i += 2)
        many[i] = ',';
    many[0] = '[';
    many[n - 1] = ']';
    assert_false(parses(many, n));
    free(many);
}

static void test_members(void **state)
{
    (void)state;
    const cJSON *root = read_doc("{\"id\":7,\"ID\":8,\"s\":\"t\",\"n\":null,\"b\":true,\"o\":[],"
                                 "\"l\":{}}");
    assert_int_equal(pfx_doc_int(&doc, root, "id", PFX_DOC_NEED), 7);
    assert_string_equal(pfx_doc_str(&doc, root, "s", PFX_DOC_NEED), "t");
    assert_null(pfx_doc_str(&doc, root, "n", PFX_DOC_MAY));
    assert_null(pfx_doc_str(&doc, root, "S", PFX_DOC_MAY)); /* by its exact name */
    assert_true(pfx_doc_bool(&doc, root, "b", PFX_DOC_NEED));
    assert_non_null(pfx_doc_obj(&doc, root, "o", PFX_DOC_NEED)); /* PHP's empty object */
    assert_non_null(pfx_doc_array(&doc, root, "l", PFX_DOC_NEED));
    assert_false(doc.bad);
    assert_null(pfx_doc_str(&doc, root, "x", PFX_DOC_NEED));
    assert_true(doc.bad);
    assert_string_equal(doc.why, "x is missing");
    pfx_doc_int(&doc, root, "s", PFX_DOC_NEED);
    assert_string_equal(doc.why, "x is missing"); /* the first one stays */
    assert_int_equal(pfx_doc_int(&doc, NULL, "a", PFX_DOC_MAY), 0);

    root = read_doc("{\"id\":1,\"id\":2}");
    assert_int_equal(pfx_doc_int(&doc, root, "id", PFX_DOC_MAY), 0);
    assert_string_equal(doc.why, "id is there twice");
    root = read_doc("[]");
    assert_non_null(root);
    assert_null(read_doc("[1]"));
    assert_true(doc.bad);
    assert_null(read_doc("7"));
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } rows[] = {
        {"0", 0}, {"4503599627370496", 4503599627370496}, {"4503599627370497", -1}, {"1e3", 1000},
        {"-1", -1}, {"1.5", -1}, {"1e99", -1}, {"\"7\"", -1}, {"true", -1}, {"[7]", -1},
        {"4503599627370495.5", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"a\":%s}", rows[i].text);
        const cJSON *root = read_doc(text);
        int64_t got = pfx_doc_int(&doc, root, "a", PFX_DOC_NEED);
        if (doc.bad != (rows[i].want < 0) || (!doc.bad && got != rows[i].want))
            fail_msg("row %zu: %lld", i, (long long)got);
    }
    pfx_doc_done(&doc);
}

static void test_write(void **state)
{
    (void)state;
    struct pfx_buf out = pfx_buf_make(1000);
    pfx_buf_add_str(&out, "{");
    pfx_doc_put_member(&out, "a", "q\"b\\n\n\x01\xc3\xa4");
    pfx_doc_put_member(&out, "b", "");
    pfx_buf_add_str(&out, "}");
    assert_string_equal(pfx_buf_str(&out),
                        "{\"a\":\"q\\\"b\\\\n\\u000a\\u0001\xc3\xa4\",\"b\":\"\"}");
    pfx_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_members),  cmocka_unit_test(test_integers),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
