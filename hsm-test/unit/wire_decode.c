/* Reading: one message with every type of member, and everything hostile that can be done to its
 * text. */
#include "api_test.h"

#include "api/wire/msg.h"
#include "wire_every.h"

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
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
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
    return pfx_strdup(pfx_buf_str(&text));
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
    /* As it would be written: an escape is two bytes, a number its digits. */
    static const char *const texts[] = {"{\"body\":{\"s\":\"\\\"\\n1\"}}",
                                        "{\"body\":{\"s\":\"1\\\\\\\\\"}}",
                                        "{\"body\":{\"n\":1234567}}"};
    LOCAL_SCHEMA(thirteen, "thirteen", 13, STR("s", 0, 100, OPT, ""),
                 INT("n", 0, 9999999, OPT, ""));
    LOCAL_SCHEMA(twelve, "twelve", 12, STR("s", 0, 100, OPT, ""), INT("n", 0, 9999999, OPT, ""));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct pfx_msg *outer PFX_AUTOMSG = NULL, *fits PFX_AUTOMSG = NULL, *over = NULL;
        struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(KIB);
        err = PFX_ERROR_NONE;
        assert_ok(pfx_msg_decode(&env, texts[i], strlen(texts[i]), &outer, &err), &err);
        assert_class(pfx_msg_body(outer, "body", &twelve, &over, &err), PFX_CLASS_REFUSED, &err);
        err = PFX_ERROR_NONE;
        assert_ok(pfx_msg_body(outer, "body", &thirteen, &fits, &err), &err);
        assert_ok(pfx_msg_encode(fits, false, &json, &err), &err);
        assert_int_equal(json.len, 13);
    }
    struct pfx_msg *none PFX_AUTOMSG = NULL, *empty PFX_AUTOMSG = NULL;
    assert_ok(pfx_msg_decode(&env, "{}", 2, &none, &err), &err);
    assert_ok(pfx_msg_body(none, "body", &tiny, &empty, &err), &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_body(none, "body", &inner, &body, &err), PFX_CLASS_REFUSED, &err);
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
        cmocka_unit_test(envelopes),
        cmocka_unit_test(body_ceiling_and_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
