/* Canonical JSON. The oracle is Python's json module (canon_oracle.py), over random objects. */
#include "crypto_tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/canon.h"
#include "crypto/encode.h"
#include "crypto_test.h"

#define OBJECTS "4000"
#define SEED "20261122"
#define ROOM (1 << 20)

static bool is_canonical(const char *text, size_t len)
{
    return pfx_ok(pfx_canon_scan((struct pfx_bytes){(const uint8_t *)text, len}, NULL, NULL, NULL));
}

static bool taken(const char *text)
{
    return is_canonical(text, strlen(text));
}

/* --- against Python ------------------------------------------------------------------------ */

static const char *const kind_names[] = {"str", "int", "bool", "obj", "arr"};

/* Writes what was found again by the writer, and tells it as canon_oracle.py does. */
struct mirror {
    struct pfx_canon writer;
    struct pfx_buf *values;
    unsigned line;
    bool in_group;
    struct pfx_bytes group;
};

static void add_hex(struct pfx_buf *out, struct pfx_bytes data)
{
    PFX_AUTOFREE char *hex = pfx_alloc(2 * data.len + 1);
    assert_true(pfx_buf_add_str(out, pfx_hex(data.data, data.len, hex)));
}

static void leave_group(struct mirror *m)
{
    if (m->in_group)
        pfx_canon_close(&m->writer, '}');
    m->in_group = false;
}

static void write_again(struct mirror *m, const char *name, const struct pfx_canon_value *value,
                        struct pfx_buf *shown)
{
    switch (value->kind) {
    case PFX_CANON_STR:
        assert_true(pfx_canon_unescape(value, shown));
        assert_int_equal(value->escaped, memchr(value->text.data, '\\', value->text.len) != NULL);
        pfx_canon_str(&m->writer, name, pfx_buf_bytes(shown));
        break;
    case PFX_CANON_INT:
    case PFX_CANON_BOOL:
        assert_true(pfx_buf_addf(shown, "%" PRId64, value->number));
        if (value->kind == PFX_CANON_INT)
            pfx_canon_int(&m->writer, name, value->number);
        else
            pfx_canon_bool(&m->writer, name, value->number != 0);
        break;
    default:
        assert_true(pfx_buf_add(shown, value->raw.data, value->raw.len));
        pfx_canon_raw(&m->writer, name, value->raw);
    }
}

static bool mirror_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                          const struct pfx_canon_value *value)
{
    struct mirror *m = ctx;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf shown = pfx_buf_make(ROOM);
    PFX_AUTOFREE char *name = pfx_strndup((const char *)key.data, key.len);
    assert_true(pfx_buf_addf(m->values, "%u ", m->line));
    if (group.data) {
        assert_true(m->in_group);
        assert_ptr_equal(group.data, m->group.data);
        add_hex(m->values, group);
    } else {
        leave_group(m);
        assert_true(pfx_buf_add_str(m->values, "top"));
    }
    assert_true(pfx_buf_add_str(m->values, "|"));
    add_hex(m->values, key);
    assert_true(pfx_buf_addf(m->values, "|%s|", kind_names[value->kind]));
    if (value->kind == PFX_CANON_OBJ && !group.data) { /* announced: its members follow */
        assert_int_equal(value->raw.len, 0);
        pfx_canon_open(&m->writer, name, '{');
        m->in_group = true;
        m->group = key;
    } else {
        write_again(m, name, value, &shown);
    }
    add_hex(m->values, pfx_buf_bytes(&shown));
    return pfx_buf_add_str(m->values, "\n");
}

static bool next_line(FILE *f, char **line, size_t *size, size_t *ret_len)
{
    ssize_t n = getline(line, size, f);
    if (n <= 0)
        return false;
    assert_int_equal((*line)[n - 1], '\n');
    *ret_len = (size_t)n - 1;
    return true;
}

/* Python tells objects at the top with their whole text; the scanner announces them only. */
static size_t told_length(const char *line, size_t len)
{
    const char *object = strstr(line, "|obj|");
    return object && strstr(line, " top|") ? (size_t)(object - line) + 5 : len;
}

static FILE *open_in(const char *dir, const char *name)
{
    PFX_AUTOFREE char *path = tool_path(dir, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    return f;
}

static void as_python_writes(void **state)
{
    const char *dir = *state;
    tool_must(dir, NULL, "/usr/bin/python3", CANON_ORACLE, "make", SEED, OBJECTS, NULL);
    FILE *lines = open_in(dir, "canonical"), *values = open_in(dir, "values");
    PFX_AUTOFREE char *line = NULL, *want = NULL;
    size_t size = 0, want_size = 0, len, want_len;
    unsigned n = 0, members = 0;
    for (; next_line(lines, &line, &size, &len); n++) {
        ERROR(err);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(ROOM);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf found = pfx_buf_make(ROOM);
        struct mirror m = {.writer = pfx_canon_make(&again), .values = &found, .line = n};
        pfx_canon_open(&m.writer, NULL, '{');
        assert_ok(pfx_canon_scan((struct pfx_bytes){(uint8_t *)line, len}, mirror_member, &m, &err),
                  &err);
        leave_group(&m);
        pfx_canon_close(&m.writer, '}');
        assert_int_equal(again.len, len);
        assert_memory_equal(again.data, line, len);
        const char *at = pfx_buf_str(&found);
        for (const char *end; (end = strchr(at, '\n')); at = end + 1, members++) {
            assert_true(next_line(values, &want, &want_size, &want_len));
            want_len = told_length(want, want_len);
            assert_int_equal(end - at, want_len);
            assert_memory_equal(at, want, want_len);
        }
    }
    assert_false(next_line(values, &want, &want_size, &want_len));
    fclose(lines);
    fclose(values);
    print_message("%u objects, %u members, as Python has them\n", n, members);
    assert_int_equal(n, strtoul(OBJECTS, NULL, 10));

    FILE *wrong = open_in(dir, "other");
    unsigned refused = 0;
    for (; next_line(wrong, &line, &size, &len); refused++)
        if (is_canonical(line, len))
            fail_msg("taken, though Python writes it otherwise: %s", line);
    fclose(wrong);
    print_message("%u texts that Python would write otherwise, all refused\n", refused);
    assert_true(refused > n);
}

/* --- by hand ------------------------------------------------------------------------------- */

static void canonical_texts(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "{\"\":0}",
        "{\"a\":1,\"b\":-1,\"c\":0}",
        "{\"a\":9007199254740991,\"b\":-9007199254740991}",
        "{\"a\":true,\"b\":false}",
        "{\"a\":[],\"b\":{},\"c\":[1,\"x\",[true],{\"y\":[]}]}",
        "{\"a\":\"/\x7f\xC2\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"}",
        "{\"a\":\"\\b\\t\\n\\f\\r\\\"\\\\\\u0000\\u0007\\u000b\\u000e\\u0010\\u001f\"}",
        "{\"A\":1,\"a\":2,\"aa\":3,\"ab\":4,\"b\":5}",
        "{\"12345678\":1,\"123456789\":2,\"12345678a\":3}",
        /* RFC 8785, 3.2.3, but for its first member, whose name needs an escape. */
        ("{\"1\":1,\"\xC2\x80\":2,\"\xC3\xB6\":3,\"\xE2\x82\xAC\":4,\"\xF0\x9F\x98\x80\":5,"
         "\"\xEF\xAC\xB3\":6}"),
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!taken(good[i]))
            fail_msg("refused: %s", good[i]);
}

static void other_texts(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "[]",
        "1",
        "\"a\"",
        "null",
        "{\"a\":null}",
        "{\"a\":1}\n",
        "{\"a\":1} ",
        " {\"a\":1}",
        "\xEF\xBB\xBF{\"a\":1}",
        "{\"a\":1}{}",
        "{\"a\":1}}",
        "{\"a\":1,}",
        "{,\"a\":1}",
        "{\"a\" :1}",
        "{\"a\": 1}",
        "{\"a\":1 }",
        "{ \"a\":1}",
        "{\"a\":1, \"b\":2}",
        "{\"a\":1\n,\"b\":2}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 ,2]}",
        "{\"a\":[1}",
        "{\"a\":{]}",
        "{\"a\":tru}",
        "{\"a\":True}",
        "{\"a\":truefalse}",
        /* order and doubles */
        "{\"b\":1,\"a\":2}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"a\":1}",
        "{\"aa\":1,\"a\":2}",
        "{\"a\":{\"c\":1,\"b\":2}}",
        "{\"a\":{\"b\":{\"d\":1,\"c\":2}}}",
        "{\"a\":[{\"c\":1,\"b\":2}]}",
        "{\"123456789\":1,\"12345678\":2}",
        "{\"12345678b\":1,\"12345678a\":2}",
        "{\"\":1,\"\":2}",
        "{\"\xEF\xAC\xB3\":6,\"\xF0\x9F\x98\x80\":5}", /* by code point */
        "{\"\xEE\x80\x80\":6,\"\xF4\x8F\xBF\xBF\":5}",
        "{\"same name \xEE\x80\x80\":6,\"same name \xF0\x90\x80\x80\":5}",
        /* escapes */
        "{\"a\":\"\\/\"}",
        "{\"a\":\"\\u0041\"}",
        "{\"a\":\"\\u007f\"}",
        "{\"a\":\"\\u001F\"}",
        "{\"a\":\"\\u000B\"}",
        "{\"a\":\"\\u0008\"}",
        "{\"a\":\"\\u0009\"}",
        "{\"a\":\"\\u000a\"}",
        "{\"a\":\"\\u000c\"}",
        "{\"a\":\"\\u000d\"}",
        "{\"a\":\"\\u0022\"}",
        "{\"a\":\"\\u005c\"}",
        "{\"a\":\"\\U0001\"}",
        "{\"a\":\"\\u00e9\"}",
        "{\"a\":\"\\u20ac\"}",
        "{\"a\":\"\\ud83d\\ude00\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\a\"}",
        "{\"a\":\"\\",
        "{\"a\":\"\\u00",
        "{\"a\":\"\\u00\"}",
        "{\"\\n\":1}",
        "{\"\\\"\":1}",
        /* characters */
        "{\"a\":\"\n\"}",
        "{\"a\":\"\x1f\"}",
        "{\"a\":\"\x80\"}",
        "{\"a\":\"\xBF\"}",
        "{\"a\":\"\xC0\x80\"}",
        "{\"a\":\"\xC1\xBF\"}",
        "{\"a\":\"\xC2\"}",
        "{\"a\":\"\xC2",
        "{\"a\":\"\xE0\x9F\xBF\"}",
        "{\"a\":\"\xE2\x82\"}",
        "{\"a\":\"\xE2\x28\xAC\"}",
        "{\"a\":\"\xED\xA0\x80\"}",
        "{\"a\":\"\xED\xA0\xBD\xED\xB8\x80\"}",
        "{\"a\":\"\xF0\x8F\xBF\xBF\"}",
        "{\"a\":\"\xF0\x9F\x98\"}",
        "{\"a\":\"\xF4\x90\x80\x80\"}",
        "{\"a\":\"\xF5\x80\x80\x80\"}",
        "{\"a\":\"\xFF\"}",
        "{\"\xFF\":1}",
        /* numbers */
        "{\"a\":1.0}",
        "{\"a\":1.5}",
        "{\"a\":1e3}",
        "{\"a\":1E3}",
        "{\"a\":-0}",
        "{\"a\":01}",
        "{\"a\":00}",
        "{\"a\":-01}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":0x10}",
        "{\"a\":9007199254740992}",
        "{\"a\":-9007199254740992}",
        "{\"a\":10000000000000000}",
        "{\"a\":18446744073709551617}", /* 1, modulo 2^64 */
        "{\"a\":184467440737095516170}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (taken(bad[i]))
            fail_msg("taken: %s", bad[i]);
    assert_false(is_canonical("{\"a\":\"\0\"}", 9));
    assert_false(is_canonical("{}\0", 3));
    assert_false(is_canonical(NULL, 0));
}

/* Each byte of a name and of a text of any length up to three steps of the scanner. */
static void bytes_are_seen_at_every_place(void **state)
{
    (void)state;
    static const char wrong[] = "\"\\\n\x1f\x80\xff";
    for (size_t len = 1; len < 50; len++)
        for (size_t at = 0; at < len; at++)
            for (size_t w = 0; w < sizeof wrong - 1; w++) {
                char text[128];
                int n = snprintf(text, sizeof text, "{\"%.*s\":\"%.*s\"}", (int)len,
                                 "keykeykeykeykeykeykeykeykeykeykeykeykeykeykeykeykey", (int)len,
                                 "texttexttexttexttexttexttexttexttexttexttexttexttext");
                assert_true(is_canonical(text, (size_t)n));
                char *value = text + 2 + len + 3 + at, kept = *value;
                *value = wrong[w];
                /* "\t", made of a backslash before a t, is an escape. */
                bool escape = wrong[w] == '\\' && value[1] == 't';
                assert_int_equal(is_canonical(text, (size_t)n), escape);
                *value = kept;
                text[2 + at] = wrong[w];
                assert_false(is_canonical(text, (size_t)n));
            }
}

static void nested(void **state)
{
    (void)state;
    assert_true(taken("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}"));
    assert_false(taken("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}"));
    assert_true(taken("{\"a\":[[[[[[[]]]]]]]}"));
    assert_false(taken("{\"a\":[[[[[[[[]]]]]]]]}"));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf deep = pfx_buf_make(ROOM);
    assert_true(pfx_buf_add_str(&deep, "{\"a\":"));
    for (int i = 0; i < 500000; i++)
        assert_true(pfx_buf_add(&deep, "[", 1));
    assert_false(taken(pfx_buf_str(&deep)));
}

static bool refuse_b(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                     const struct pfx_canon_value *value)
{
    (void)group, (void)value;
    unsigned *n = ctx;
    (*n)++;
    return key.data[0] != 'b';
}

static void refusals_say_where(void **state)
{
    (void)state;
    static const struct {
        const char *json, *object, *text;
    } cases[] = {
        {"{\"a\":1,\"a\":2}", "byte 7", "doubled or out of order"},
        {"{\"a\":1.5}", "byte 6", "fraction"},
        {"{\"abc\":\"x\ny\"}", "byte 9", "control character"},
        {"{\"abc\":\"xy", "byte 10", "ends too early"},
        {"{} ", "byte 2", "behind the end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ERROR(err);
        struct pfx_bytes json = {(const uint8_t *)cases[i].json, strlen(cases[i].json)};
        assert_class(pfx_canon_scan(json, NULL, NULL, &err), PFX_CLASS_REFUSED);
        assert_string_equal(err.object, cases[i].object);
        if (!strstr(err.text, cases[i].text))
            fail_msg("%s", err.text);
    }
    ERROR(err);
    unsigned n = 0;
    assert_class(pfx_canon_scan(BYTES("{\"a\":1,\"b\":2,\"c\":3}"), refuse_b, &n, &err),
                 PFX_CLASS_REFUSED);
    assert_int_equal(n, 2);
    assert_string_equal(err.object, "byte 7");
}

static bool add_element(void *ctx, const struct pfx_canon_value *value)
{
    return pfx_buf_addf(ctx, "%s %.*s %d;", kind_names[value->kind], (int)value->raw.len,
                        (const char *)value->raw.data, (int)value->number);
}

static bool refuse_element(void *ctx, const struct pfx_canon_value *value)
{
    (void)ctx;
    return value->kind == PFX_CANON_STR;
}

static void elements(void **state)
{
    (void)state;
    ERROR(err);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(ROOM);
    assert_ok(
        pfx_canon_elements(BYTES("[1,\"x\\n\",true,{\"a\":[2]},[3]]"), add_element, &out, &err),
        &err);
    assert_string_equal(pfx_buf_str(&out), "int 1 1;str \"x\\n\" 0;bool true 1;"
                                           "obj {\"a\":[2]} 0;arr [3] 0;");
    assert_ok(pfx_canon_elements(BYTES("[]"), add_element, &out, &err), &err);
    static const char *const bad[] = {"", "{}", "[1", "[1,]", "[1]x", "[ 1]", "[1.0]", "[1,,2]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_class(pfx_canon_elements((struct pfx_bytes){(const uint8_t *)bad[i], strlen(bad[i])},
                                        NULL, NULL, NULL),
                     PFX_CLASS_REFUSED);
    assert_class(pfx_canon_elements(BYTES("[\"x\",1]"), refuse_element, NULL, &err),
                 PFX_CLASS_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tool_test(as_python_writes),
        cmocka_unit_test(canonical_texts),
        cmocka_unit_test(other_texts),
        cmocka_unit_test(bytes_are_seen_at_every_place),
        cmocka_unit_test(nested),
        cmocka_unit_test(refusals_say_where),
        cmocka_unit_test(elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
