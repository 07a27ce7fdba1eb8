/* The scan in front of cJSON, and that cJSON's memory is wiped. */
#include "api_test.h"

#include <cjson/cJSON.h>

#include "api/wire/json.h"

/* In a block of exactly its length, so that ASan sees a byte too many. */
static bool scan(const char *text, size_t len, const char **why)
{
    char *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, text, len);
    bool ok = pfx_json_scan(exact, len, NULL, why);
    free(exact);
    return ok;
}

static void takes(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "{ }\n",
        "{\"a\":1}",
        "{\"a\" : [1, -2,\t3]}",
        "{\"a\":\"\\u00e4\\n\\\\\\\"\"}",
        "{\"a\":{\"b\":[{}]}}",
        "{\"a\":9007199254740991,\"b\":0}",
        "{\"a\":true,\"b\":null}",
        "{\"\xC3\xA4\":false}",
        "{\"a\":\"\\u000a\\u0010\"}",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const char *why = NULL;
        if (!scan(good[i], strlen(good[i]), &why))
            fail_msg("%s: %s", good[i], why);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "isn't an object"},
        {"[]", "isn't an object"},
        {" {}", "isn't an object"},
        {"\xEF\xBB\xBF{}", "isn't an object"},
        {"{}{}", "after the object"},
        {"{} x", "after the object"},
        {"{", "doesn't end"},
        {"{\"a\":\"", "doesn't end"},
        {"{\"a\":\"\\", "doesn't end"},
        {"{\"a\":\"\\u00", "doesn't end"},
        {"{\"a\":[}", "brackets"},
        {"{\"a\":\"\\u0000\"}", "NUL"},
        {"{\"a\":\"x\\u0000y\"}", "NUL"},
        {"{\"a\":\"\\x\"}", "escape"},
        {"{\"a\":\"\\u12g4\"}", "escape"},
        {"{\"\\u0061\":1}", "name of a member"},
        {"{\"a\":\"\n\"}", "control character"},
        {"{\"a\":\"\x01\"}", "control character"},
        {"{\"a\":\"\xFF\"}", "UTF-8"},
        {"{\"a\":\"\xC0\x80\"}", "UTF-8"},
        {"{\"a\":\"\xED\xA0\x80\"}", "UTF-8"},
        {"{\"a\":1.0}", "plain integer"},
        {"{\"a\":1e3}", "plain integer"},
        {"{\"a\":1E3}", "plain integer"},
        {"{\"a\":1.5}", "plain integer"},
        {"{\"a\":-0}", "plain integer"},
        {"{\"a\":-}", "plain integer"},
        {"{\"a\":01}", "plain integer"},
        {"{\"a\":12345678901234567}", "plain integer"},
        {"{\"a\":1e400}", "plain integer"},
        {"{\"a\":+1}", "doesn't belong"},
        {"{\"a\":NaN}", "doesn't belong"},
        {"{\"a\":Infinity}", "doesn't belong"},
        {"{\"a\":tru}", "doesn't belong"},
        {"{\"a\":1\v}", "doesn't belong"},
        {"{\"a\":1/*c*/}", "doesn't belong"},
        {"{'a':1}", "doesn't belong"},
        {"{\"a\":[[[[[[[[1]]]]]]]]}", "deeply"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *why = NULL;
        if (scan(bad[i].text, strlen(bad[i].text), &why))
            fail_msg("took: %s", bad[i].text);
        assert_has(why, bad[i].why);
    }
    const char *why = NULL;
    assert_false(scan("{\"a\":\"x\0y\"}", 11, &why));
    assert_false(scan("{\"a\":1}\0", 8, &why));
}

static void nothing_at_all(void **state)
{
    (void)state;
    const char *why = NULL;
    assert_false(pfx_json_scan(NULL, 0, NULL, &why));
    assert_string_equal(why, "it isn't an object");
}

static void too_many_values(void **state)
{
    (void)state;
    size_t n = PFX_JSON_VALUES + 16;
    char *text = pfx_alloc(2 * n + 16);
    size_t len = 0;
    memcpy(text, "{\"a\":[", 6);
    len = 6;
    for (size_t i = 0; i < n; i++) {
        text[len++] = '1';
        text[len++] = i + 1 < n ? ',' : ']';
    }
    text[len++] = '}';
    const char *why = NULL;
    assert_false(scan(text, len, &why));
    assert_has(why, "too many");
    free(text);
}

/* A megabyte of brackets must neither recurse nor allocate. */
static void deep(void **state)
{
    (void)state;
    size_t n = 1024 * 1024;
    char *text = pfx_alloc(n);
    memset(text, '[', n);
    text[0] = '{';
    const char *why = NULL;
    assert_false(scan(text, n, &why));
    free(text);
}

static void wiping(void **state)
{
    (void)state;
    pfx_json_wiping();
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* looks at memory that was given back */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    skip();
#endif
#endif
    char *block = cJSON_malloc(4000);
    assert_non_null(block);
    memset(block, 'S', 4000);
    /* Through an integer, so that the compiler doesn't reason about it. */
    volatile uintptr_t where = (uintptr_t)block;
    char *guard = cJSON_malloc(16); /* keeps the block from melting into the top of the heap */
    cJSON_free(block);
    const volatile char *left = (const volatile char *)where;
    size_t found = 0;
    for (size_t i = 0; i < 4000; i++)
        found += left[i] == 'S';
    cJSON_free(guard);
    assert_int_equal(found, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes),          cmocka_unit_test(refuses),
        cmocka_unit_test(nothing_at_all), cmocka_unit_test(too_many_values),
        cmocka_unit_test(deep),           cmocka_unit_test(wiping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
