/* Writing: what goes out comes back as it was, and what breaks a bound doesn't go out. */
#include "api_test.h"

#include <signal.h>
#include <sys/wait.h>

#include "wire_every.h"

static struct pfx_error err;

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

static void without_members(void **state)
{
    (void)state;
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(&pfx_s_none), *back PFX_AUTOMSG = NULL;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
    assert_ok(pfx_msg_encode(msg, false, &text, &err), &err);
    assert_string_equal(pfx_buf_str(&text), "{}");
    assert_ok(pfx_msg_decode(&pfx_s_none, "{}", 2, &back, &err), &err);
    struct pfx_msg *more = NULL;
    err = PFX_ERROR_NONE;
    assert_class(pfx_msg_decode(&pfx_s_none, "{\"unused\":true}", 15, &more, &err),
                 PFX_CLASS_REFUSED, &err);
    assert_has(err.text, "\"unused\" is unknown");
}

/* An answer for people goes out whatever a token or a cut made of its texts. */
static void shown(void **state)
{
    (void)state;
    LOCAL_SCHEMA(row, "row", 256, STR("label", 1, 8, OPT, ""), STR("pin", 1, 8, SECRET | OPT, ""));
    LOCAL_SCHEMA(screen, "screen", 4 * KIB, STR("text", 1, 16, 0, ""), STRS("list", 4, 1, 8, 0, ""),
                 OBJ("one", &row, OPT, ""), OBJS("rows", 2, &row, 0, ""));
    struct pfx_msg *item PFX_AUTOMSG = pfx_msg_new(&pfx_s_item);
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(&screen), *back PFX_AUTOMSG = NULL;
    pfx_msg_set_int(item, "id", 1);
    pfx_msg_set_str(body, "text", "M\xFC\x1b[1m\n\xE2\x82\xAC\xF0\x9F\x94");
    pfx_msg_add_str(body, "list", "\xF0\x9F\x94");
    pfx_msg_add_str(body, "list", "ab\xC3");
    pfx_msg_set_str(pfx_msg_set_obj(body, "one"), "label", "\x7F\xE2\x82");
    pfx_msg_set_str(pfx_msg_add_obj(body, "rows"), "label", "\xE4");
    err = PFX_ERROR_NONE;
    assert_ok(pfx_msg_set_shown(item, "body", body, &err), &err);
    assert_ok(pfx_msg_body(item, "body", &screen, &back, &err), &err);
    assert_string_equal(pfx_msg_str(back, "text"), "M? [1m\n\xE2\x82\xAC");
    assert_string_equal(pfx_msg_str_at(back, "list", 0), "?");
    assert_string_equal(pfx_msg_str_at(back, "list", 1), "ab");
    assert_string_equal(pfx_msg_str(pfx_msg_obj(back, "one"), "label"), " ");
    assert_string_equal(pfx_msg_str(pfx_msg_obj_at(back, "rows", 0), "label"), "?");
    /* What is too long, or a secret, isn't changed: it doesn't go out. */
    struct pfx_msg *other_item PFX_AUTOMSG = pfx_msg_new(&pfx_s_item);
    pfx_msg_set_int(other_item, "id", 1);
    pfx_msg_set_str(pfx_msg_add_obj(body, "rows"), "pin", "\xFF");
    assert_class(pfx_msg_set_shown(other_item, "body", body, &err), PFX_CLASS_INTERNAL, &err);
    assert_has(err.text, "\"pin\" isn't UTF-8");
    assert_int_equal(err.cls, PFX_CLASS_INTERNAL);
    err = PFX_ERROR_NONE;
    pfx_msg_set_str(body, "text", "12345678901234567");
    assert_class(pfx_msg_set_shown(other_item, "body", body, &err), PFX_CLASS_INTERNAL, &err);
    assert_has(err.text, "\"text\" must have 1 to 16 bytes");
    assert_false(pfx_msg_has(other_item, "body"));
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
    struct pfx_msg *msg = filled();
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
        cmocka_unit_test(round_trip),
        cmocka_unit_test(encode_checks),
        cmocka_unit_test(ceiling_of_encode),
        cmocka_unit_test(without_members),
        cmocka_unit_test(errors),
        cmocka_unit_test(shown),
        cmocka_unit_test(defects_end_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
