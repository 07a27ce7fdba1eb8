/* One message with every type of member: round trips, and everything hostile that can be done to
 * its text. */
#include "api_test.h"

#include <signal.h>
#include <sys/wait.h>

#include "api/wire/msg.h"
#include "api/wire/tables.h"

LOCAL_SCHEMA(inner, "inner", 256, INT("n", 0, 9, 0, ""), STR("pin", 1, 8, SECRET | OPT, ""));
LOCAL_SCHEMA(all, "all", 4 * KIB, STR("str", 1, 8, 0, ""), INT("int", -5, PFX_MAX_INT, 0, ""),
             BOOL("bool", 0, ""), BLOB("blob", 2, 4, 0, ""), STRS("strs", 2, 1, 4, 0, ""),
             BLOBS("blobs", 2, 1, 4, 0, ""), OBJ("obj", &inner, 0, ""),
             OBJS("objs", 2, &inner, 0, ""), BODY("body", 0, ""),
             STR("opt", 0, 4, OPT, ""), BLOB("key", 1, 8, SECRET | OPT, ""));
LOCAL_SCHEMA(other, "other", 64, INT("x", 0, 1, 0, ""));

static const char *const parts[] = {
    "\"str\":\"a\\u00e4\"",
    "\"int\":-5",
    "\"bool\":true",
    "\"blob\":\"AAEC\"",
    "\"strs\":[\"x\",\"yz\"]",
    "\"blobs\":[\"AA==\"]",
    "\"obj\":{\"n\":1,\"pin\":\"12\"}",
    "\"objs\":[{\"n\":2},{\"n\":3}]",
    "\"body\":{\"n\":4}",
    "\"opt\":\"\"",
    "\"key\":\"/////w==\"",
};
#define N_PARTS (sizeof(parts) / sizeof(parts[0]))
#define FIRST_OPTIONAL 9

static struct pfx_error err;

/* Decodes from a block of exactly its length. */
static pfx_result decode(const char *text, size_t len, struct pfx_msg **ret)
{
    char *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, text, len);
    err = PFX_ERROR_NONE;
    pfx_result r = pfx_msg_decode(&all, exact, len, ret, &err);
    free(exact);
    return r;
}

static void refused(const char *text, const char *why)
{
    struct pfx_msg *msg = NULL;
    pfx_result r = decode(text, strlen(text), &msg);
    if (pfx_ok(r))
        fail_msg("took: %s", text);
    assert_int_equal(r.cls, PFX_CLASS_REFUSED);
    assert_null(msg);
    assert_has(err.text, why);
}

/* The whole object, with part i replaced by with (NULL: left out), and more behind it. */
static char *build(size_t i, const char *with, const char *more)
{
    struct pfx_buf text = pfx_buf_make(65536);
    const char *comma = "";
    pfx_buf_add_str(&text, "{");
    for (size_t j = 0; j < N_PARTS; j++) {
        const char *part = j == i ? with : parts[j];
        if (!part)
            continue;
        pfx_buf_addf(&text, "%s%s", comma, part);
        comma = ",";
    }
    pfx_buf_addf(&text, "%s}", more);
    return (char *)pfx_buf_take(&text, &(size_t){0});
}

static struct pfx_msg *good(void)
{
    char *text PFX_AUTOFREE = build(N_PARTS, NULL, "");
    struct pfx_msg *msg = NULL;
    assert_ok(decode(text, strlen(text), &msg), &err);
    return msg;
}

static void reads(void **state)
{
    (void)state;
    struct pfx_msg *msg PFX_AUTOMSG = good();
    assert_true(pfx_msg_is(msg, &all));
    assert_string_equal(pfx_msg_str(msg, "str"), "a\xC3\xA4");
    assert_int_equal(pfx_msg_int(msg, "int"), -5);
    assert_true(pfx_msg_bool(msg, "bool"));
    assert_int_equal(pfx_msg_blob(msg, "blob").len, 3);
    assert_memory_equal(pfx_msg_blob(msg, "blob").data, "\0\1\2", 3);
    assert_int_equal(pfx_msg_count(msg, "strs"), 2);
    assert_string_equal(pfx_msg_str_at(msg, "strs", 1), "yz");
    assert_string_equal(pfx_msg_strs(msg, "strs")[0], "x");
    assert_null(pfx_msg_strs(msg, "strs")[2]);
    assert_int_equal(pfx_msg_blob_at(msg, "blobs", 0).len, 1);
    assert_string_equal(pfx_msg_str(pfx_msg_obj(msg, "obj"), "pin"), "12");
    assert_int_equal(pfx_msg_int(pfx_msg_obj_at(msg, "objs", 1), "n"), 3);
    assert_null(pfx_msg_str(pfx_msg_obj_at(msg, "objs", 1), "pin"));
    assert_string_equal(pfx_msg_str(msg, "opt"), "");
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    assert_ok(pfx_msg_body(msg, "body", &inner, &body, &err), &err);
    assert_int_equal(pfx_msg_int(body, "n"), 4);
    struct pfx_msg *wrong = NULL;
    assert_class(pfx_msg_body(msg, "body", &other, &wrong, &err), PFX_CLASS_REFUSED, &err);
}

static void secrets_are_locked(void **state)
{
    (void)state;
    struct pfx_msg *msg PFX_AUTOMSG = good();
    const struct pfx_wire_slot *key = &msg->slots[10];
    assert_non_null(key->vals[0].secret);
    assert_ptr_equal(pfx_secret_bytes(key->vals[0].secret), pfx_msg_blob(msg, "key").data);
    assert_null(msg->slots[0].vals[0].secret);
    /* The text that carries one is wiped, also where it is nested; one without isn't touched. */
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    struct pfx_msg *nested PFX_AUTOMSG = pfx_msg_new(&inner);
    pfx_msg_set_int(nested, "n", 1);
    pfx_msg_set_str(nested, "pin", "1234");
    assert_ok(pfx_msg_encode(nested, false, &out, &err), &err);
    assert_true(out.wipe);
    struct pfx_buf plain PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    struct pfx_msg *harmless PFX_AUTOMSG = pfx_msg_new(&other);
    pfx_msg_set_int(harmless, "x", 1);
    assert_ok(pfx_msg_encode(harmless, false, &plain, &err), &err);
    assert_false(plain.wipe);
    /* Not in an error text either. */
    refused("{\"key\":\"geheim!!\"}", "");
    assert_null(strstr(err.text, "geheim"));
}

static void each_cut(void **state)
{
    (void)state;
    char *text PFX_AUTOFREE = build(N_PARTS, NULL, "");
    for (size_t len = 0; len < strlen(text); len++) {
        struct pfx_msg *msg = NULL;
        assert_class(decode(text, len, &msg), PFX_CLASS_REFUSED, &err);
        assert_null(msg);
    }
}

/* Whatever a byte is turned into: refused or read, never a crash, and always our own text again. */
static void each_byte(void **state)
{
    (void)state;
    static const char nasty[] = "\0\x01\"\\{}[]:,-0.eE\x7F\x80\xC2\xFF u";
    char *text PFX_AUTOFREE = build(N_PARTS, NULL, "");
    for (size_t i = 0; i < strlen(text); i++) {
        char was = text[i];
        size_t len = strlen(text);
        for (size_t j = 0; j < sizeof(nasty) - 1; j++) {
            struct pfx_msg *msg PFX_AUTOMSG = NULL;
            text[i] = nasty[j];
            pfx_result r = decode(text, len, &msg);
            assert_true(pfx_ok(r) == (msg != NULL));
            if (pfx_failed(r))
                assert_int_equal(r.cls, PFX_CLASS_REFUSED);
        }
        text[i] = was;
    }
}

static void each_missing_doubled_unknown(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_PARTS; i++) {
        char *missing PFX_AUTOFREE = build(i, NULL, "");
        if (i >= FIRST_OPTIONAL) {
            struct pfx_msg *msg PFX_AUTOMSG = NULL;
            assert_ok(decode(missing, strlen(missing), &msg), &err);
            assert_false(pfx_msg_has(msg, all.fields[i].name));
        } else {
            refused(missing, "is missing");
        }
        char *again PFX_AUTOFREE = pfx_asprintf(",%s", parts[i]);
        char *doubled PFX_AUTOFREE = build(N_PARTS, NULL, again);
        refused(doubled, "is there twice");
        assert_has(err.text, all.fields[i].name);
    }
    char *unknown PFX_AUTOFREE = build(N_PARTS, NULL, ",\"more\":1");
    refused(unknown, "\"more\" is unknown");
    char *upper PFX_AUTOFREE = build(0, "\"Str\":\"a\"", ""); /* cJSON looks up without case */
    refused(upper, "unknown");
    char *odd PFX_AUTOFREE = build(N_PARTS, NULL, ",\"\x1b[31m\":1");
    refused(odd, "");
    char *envelope PFX_AUTOFREE = build(N_PARTS, NULL, ",\"v\":1");
    refused(envelope, "unknown");
    char *twice PFX_AUTOFREE = build(6, "\"obj\":{\"n\":1,\"n\":1}", "");
    refused(twice, "is there twice");
}

static void any_order(void **state)
{
    (void)state;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    for (size_t i = N_PARTS; i-- > 0;)
        pfx_buf_addf(&text, "%s%s", i + 1 == N_PARTS ? "{" : ",", parts[i]);
    pfx_buf_add_str(&text, " }\n");
    struct pfx_msg *msg PFX_AUTOMSG = NULL;
    assert_ok(decode(pfx_buf_str(&text), text.len, &msg), &err);
}

static void each_wrong_type(void **state)
{
    (void)state;
    static const char *const values[] = {"null", "7", "true", "\"~\"", "[]", "{}", "[null]",
                                         "[7]", "[{}]", "[[]]", "{\"n\":null}"};
    /* Which of them are right for which member. */
    static const char *const fits[N_PARTS] = {
        "\"~\"", "7", "true", "", "[]", "[]", "", "[]", "{} {\"n\":null}", "\"~\"", "",
    };
    for (size_t i = 0; i < N_PARTS; i++) {
        for (size_t j = 0; j < sizeof(values) / sizeof(values[0]); j++) {
            char *part PFX_AUTOFREE = pfx_asprintf("\"%s\":%s", all.fields[i].name, values[j]);
            char *text PFX_AUTOFREE = build(i, part, "");
            bool fit = false;
            size_t n = strlen(values[j]);
            for (const char *p = fits[i]; (p = strstr(p, values[j])) != NULL; p++)
                fit = fit || ((p == fits[i] || p[-1] == ' ') && (p[n] == 0 || p[n] == ' '));
            if (!fit) {
                refused(text, "");
                continue;
            }
            struct pfx_msg *msg PFX_AUTOMSG = NULL;
            assert_ok(decode(text, strlen(text), &msg), &err);
        }
    }
}

static void bounds(void **state)
{
    (void)state;
    static const struct {
        size_t part;
        const char *with, *why;
    } bad[] = {
        {0, "\"str\":\"\"", "1 to 8 bytes"},
        {0, "\"str\":\"123456789\"", "1 to 8 bytes"},
        {0, "\"str\":\"\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4x\"", "1 to 8 bytes"},
        {0, "\"str\":\"a\\u0007\"", "control character"},
        {0, "\"str\":\"a\\r\"", "control character"},
        {0, "\"str\":\"a\x7F\"", "control character"},
        {0, "\"str\":\"a\\u0000b\"", "NUL"},
        {0, "\"str\":\"\\ud800\"", ""},
        {0, "\"str\":\"\\udc00\\ud800\"", ""},
        {1, "\"int\":-6", "from -5"},
        {1, "\"int\":9007199254740991", "from -5"},
        {1, "\"int\":9007199254740993", "from -5"},
        {1, "\"int\":1.0", "plain integer"},
        {1, "\"int\":1e3", "plain integer"},
        {1, "\"int\":1.5", "plain integer"},
        {1, "\"int\":-0", "plain integer"},
        {1, "\"int\":1e400", "plain integer"},
        {1, "\"int\":4503599627370496.1", "plain integer"},
        {1, "\"int\":\"7\"", "integer"},
        {3, "\"blob\":\"AA==\"", "2 to 4 bytes"},
        {3, "\"blob\":\"AAECAwQ=\"", "2 to 4 bytes"},
        {3, "\"blob\":\"AAECAwQFBgcICQ==\"", "2 to 4 bytes"},
        {3, "\"blob\":\"AAE\"", "base64"},
        {3, "\"blob\":\"AAF=\"", "base64"},
        {3, "\"blob\":\"AA EC\"", "base64"},
        {3, "\"blob\":\"AA_-\"", "base64"},
        {4, "\"strs\":[\"x\",\"y\",\"z\"]", "at most 2"},
        {4, "\"strs\":[\"\"]", "1 to 4"},
        {5, "\"blobs\":[\"\"]", "1 to 4"},
        {6, "\"obj\":{\"n\":10}", "from 0 to 9"},
        {6, "\"obj\":{\"n\":1,\"pin\":\"123456789\"}", "1 to 8"},
        {7, "\"objs\":[{\"n\":1},{\"n\":1},{\"n\":1}]", "at most 2"},
        {8, "\"body\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}", "deeply"},
        {9, "\"opt\":\"12345\"", "0 to 4"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *text PFX_AUTOFREE = build(bad[i].part, bad[i].with, "");
        refused(text, bad[i].why);
    }
    char *most PFX_AUTOFREE = build(1, "\"int\":4503599627370496", "");
    struct pfx_msg *msg PFX_AUTOMSG = NULL;
    assert_ok(decode(most, strlen(most), &msg), &err);
    assert_true(pfx_msg_int(msg, "int") == PFX_MAX_INT);

    char *space PFX_AUTOFREE = pfx_alloc(5000);
    memset(space, ' ', 4999);
    char *padded PFX_AUTOFREE = build(N_PARTS, NULL, space);
    refused(padded, "more than 4096");
}

static struct pfx_msg *filled(void)
{
    struct pfx_msg *msg = pfx_msg_new(&all);
    pfx_msg_set_str(msg, "str", "first");
    pfx_msg_set_str(msg, "str", "\"\\\n\t\xE2\x82\xAC");
    pfx_msg_set_int(msg, "int", PFX_MAX_INT);
    pfx_msg_set_bool(msg, "bool", false);
    pfx_msg_set_blob(msg, "blob", "\0\xFF\0", 3);
    pfx_msg_add_str(msg, "strs", "a");
    pfx_msg_add_str(msg, "strs", "b");
    pfx_msg_add_blob(msg, "blobs", "z", 1);
    pfx_msg_set_int(pfx_msg_set_obj(msg, "obj"), "n", 3);
    pfx_msg_set_int(pfx_msg_add_obj(msg, "objs"), "n", 4);
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(&inner);
    pfx_msg_set_int(body, "n", 5);
    pfx_msg_set_str(body, "pin", "0000");
    pfx_msg_set_body(msg, "body", body);
    return msg;
}

static void round_trip(void **state)
{
    (void)state;
    struct pfx_msg *msg PFX_AUTOMSG = filled(), *back PFX_AUTOMSG = NULL;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    pfx_buf_add_str(&text, "before");
    assert_ok(pfx_msg_encode(msg, true, &text, &err), &err);
    assert_has(pfx_buf_str(&text), "before{\"v\":1,\"t\":\"all\",\"str\":\"\\\"\\\\\\n\\t\xE2");
    pfx_buf_drop(&text, 6);
    const struct pfx_wire_schema *const accepts[] = {&other, &all};
    assert_ok(pfx_msg_decode_any(accepts, 2, pfx_buf_str(&text), text.len, &back, &err), &err);
    assert_true(pfx_msg_is(back, &all));
    assert_string_equal(pfx_msg_str(back, "str"), "\"\\\n\t\xE2\x82\xAC");
    assert_true(pfx_msg_int(back, "int") == PFX_MAX_INT);
    assert_false(pfx_msg_bool(back, "bool"));
    assert_true(pfx_msg_has(back, "bool"));
    assert_memory_equal(pfx_msg_blob(back, "blob").data, "\0\xFF\0", 3);
    assert_int_equal(pfx_msg_count(back, "strs"), 2);
    assert_false(pfx_msg_has(back, "key"));
    assert_null(pfx_msg_blob(back, "key").data);
    struct pfx_msg *body PFX_AUTOMSG = NULL, *own PFX_AUTOMSG = NULL;
    assert_ok(pfx_msg_body(back, "body", &inner, &body, &err), &err);
    assert_string_equal(pfx_msg_str(body, "pin"), "0000");
    assert_ok(pfx_msg_body(msg, "body", &inner, &own, &err), &err);
    assert_int_equal(pfx_msg_int(own, "n"), 5);
}

/* USAGE, the member named, and the buffer as it was. */
static void encode_checks(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct pfx_msg *msg PFX_AUTOMSG = filled();
        const char *member = "";
        switch (i) {
        case 0:
            pfx_msg_set_str(msg, "str", member = "123456789");
            member = "str";
            break;
        case 1:
            pfx_msg_set_int(msg, "int", -6);
            member = "int";
            break;
        case 2:
            pfx_msg_set_blob(msg, "blob", "x", 1);
            member = "blob";
            break;
        case 3:
            pfx_msg_add_str(msg, "strs", "c");
            member = "strs";
            break;
        case 4:
            pfx_msg_set_body_text(msg, "body", "{\"a\":1}}", 8);
            member = "body";
            break;
        case 5:
            pfx_msg_set_str(msg, "str", "a\rb");
            member = "str";
            break;
        }
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
        pfx_buf_add_str(&text, "before");
        err = PFX_ERROR_NONE;
        assert_class(pfx_msg_encode(msg, false, &text, &err), PFX_CLASS_USAGE, &err);
        assert_has(err.text, member);
        assert_string_equal(pfx_buf_str(&text), "before");
        assert_int_equal(text.len, 6);
    }
    struct pfx_msg *empty PFX_AUTOMSG = pfx_msg_new(&all);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_encode(empty, false, &text, &err), PFX_CLASS_USAGE, &err);
    assert_has(err.text, "\"str\" is missing");
    /* A buffer that is too small stays usable. */
    struct pfx_msg *msg PFX_AUTOMSG = filled();
    struct pfx_buf small PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(20);
    pfx_buf_add_str(&small, "before");
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_encode(msg, false, &small, &err), PFX_CLASS_USAGE, &err);
    assert_string_equal(pfx_buf_str(&small), "before");
    assert_false(small.over);
}

static void ceiling_of_encode(void **state)
{
    (void)state;
    LOCAL_SCHEMA(tight, "tight", 16, STR("s", 0, 100, 0, ""));
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(&tight);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    pfx_msg_set_str(msg, "s", "12345678");
    assert_ok(pfx_msg_encode(msg, false, &text, &err), &err);
    pfx_msg_set_str(msg, "s", "123456789");
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_encode(msg, false, &text, &err), PFX_CLASS_USAGE, &err);
}

static void envelopes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"{\"t\":\"other\",\"x\":1}", "version 1"},
        {"{\"v\":2,\"t\":\"other\",\"x\":1}", "version 1"},
        {"{\"v\":\"1\",\"t\":\"other\",\"x\":1}", "version 1"},
        {"{\"v\":1,\"x\":1}", "\"t\" must be"},
        {"{\"v\":1,\"t\":1,\"x\":1}", "\"t\" must be"},
        {"{\"v\":1,\"v\":1,\"t\":\"other\",\"x\":1}", "twice"},
        {"{\"v\":1,\"t\":\"other\",\"t\":\"other\",\"x\":1}", "twice"},
        {"{\"v\":1,\"t\":\"all\",\"x\":1}", "isn't accepted"},
        {"{\"v\":1,\"t\":\"Other\",\"x\":1}", "isn't accepted"},
        {"{\"v\":1,\"t\":\"other\"}", "\"x\" is missing"},
        {"{\"v\":1,\"t\":\"other\",\"x\":1,\"y\":1}", "unknown"},
        {"{\"v\":1,\"t\":\"other\",\"x\":1                                            }",
         "more than 64"},
    };
    const struct pfx_wire_schema *const accepts[] = {&other};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pfx_msg *msg = NULL;
        err = PFX_ERROR_NONE;
        assert_class(pfx_msg_decode_any(accepts, 1, bad[i].text, strlen(bad[i].text), &msg, &err),
                     PFX_CLASS_REFUSED, &err);
        assert_has(err.text, bad[i].why);
    }
    struct pfx_msg *msg PFX_AUTOMSG = NULL;
    static const char fine[] = "{\"x\":1,\"t\":\"other\",\"v\":1}";
    assert_ok(pfx_msg_decode_any(accepts, 1, fine, strlen(fine), &msg, &err), &err);
}

static void body_ceiling_and_absence(void **state)
{
    (void)state;
    LOCAL_SCHEMA(env, "env", KIB, BODY("body", OPT, ""));
    LOCAL_SCHEMA(tiny, "tiny", 12, STR("s", 0, 100, OPT, ""));
    struct pfx_msg *msg PFX_AUTOMSG = NULL, *body = NULL;
    static const char text[] = "{\"body\":{\"s\":\"1234567\"}}";
    assert_ok(pfx_msg_decode(&env, text, strlen(text), &msg, &err), &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_body(msg, "body", &tiny, &body, &err), PFX_CLASS_REFUSED, &err);
    assert_has(err.text, "more than 12");
    struct pfx_msg *none PFX_AUTOMSG = NULL, *empty PFX_AUTOMSG = NULL;
    assert_ok(pfx_msg_decode(&env, "{}", 2, &none, &err), &err);
    assert_ok(pfx_msg_body(none, "body", &tiny, &empty, &err), &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_body(none, "body", &inner, &body, &err), PFX_CLASS_REFUSED, &err);
}

static void errors(void **state)
{
    (void)state;
    struct pfx_error sent = {PFX_CLASS_LOST, "up\x1b[1m", "", "HTTP 502", "bad\r\ngateway \xFF"};
    struct pfx_msg *end PFX_AUTOMSG = pfx_msg_new(&pfx_s_end), *back PFX_AUTOMSG = NULL;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    pfx_msg_set_int(end, "id", 1);
    pfx_msg_set_int(end, "exit", 5);
    pfx_msg_put_error(end, "error", &sent);
    assert_ok(pfx_msg_encode(end, false, &text, &err), &err);
    assert_ok(pfx_msg_decode(&pfx_s_end, pfx_buf_str(&text), text.len, &back, &err), &err);
    struct pfx_error got;
    pfx_msg_get_error(back, "error", &got);
    assert_int_equal(got.cls, PFX_CLASS_LOST);
    assert_string_equal(got.op, "up?[1m");
    assert_string_equal(got.code, "HTTP 502");
    assert_string_equal(got.text, "bad??gateway ?");
    /* A full error fits, and a class from another release stays a failure. */
    memset(sent.text, 'x', sizeof(sent.text) - 1);
    memset(sent.object, 'x', sizeof(sent.object) - 1);
    pfx_msg_put_error(end, "error", &sent);
    pfx_buf_reset(&text);
    assert_ok(pfx_msg_encode(end, false, &text, &err), &err);
    struct pfx_msg *obj = pfx_msg_set_obj(end, "error");
    static const char *const members[] = {"op", "object", "code", "text"};
    for (size_t i = 0; i < 4; i++)
        pfx_msg_set_str(obj, members[i], "");
    pfx_msg_set_str(obj, "class", "ok");
    pfx_msg_get_error(end, "error", &got);
    assert_int_equal(got.cls, PFX_CLASS_INTERNAL);
}

static void defect(int which)
{
    struct pfx_msg *msg = good();
    switch (which) {
    case 0:
        (void)pfx_msg_str(msg, "nothing");
        break;
    case 1:
        (void)pfx_msg_int(msg, "str");
        break;
    case 2:
        pfx_msg_set_int(msg, "str", 1);
        break;
    case 3:
        (void)pfx_msg_str_at(msg, "strs", 2);
        break;
    case 4:
        (void)pfx_msg_count(msg, "str");
        break;
    }
}

static void defects_end_the_process(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            (void)!freopen("/dev/null", "w", stderr);
            defect(i);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(secrets_are_locked),
        cmocka_unit_test(each_cut),
        cmocka_unit_test(each_byte),
        cmocka_unit_test(each_missing_doubled_unknown),
        cmocka_unit_test(any_order),
        cmocka_unit_test(each_wrong_type),
        cmocka_unit_test(bounds),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(encode_checks),
        cmocka_unit_test(ceiling_of_encode),
        cmocka_unit_test(envelopes),
        cmocka_unit_test(body_ceiling_and_absence),
        cmocka_unit_test(errors),
        cmocka_unit_test(defects_end_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
