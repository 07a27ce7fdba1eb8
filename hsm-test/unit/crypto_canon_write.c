/* The writer of canonical JSON, by hand: what it escapes, its ceiling, and misuse of it. (Against
 * Python it stands in crypto_canon.c.) */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/canon.h"
#include "crypto_test.h"

#define ROOM (1 << 20)

static void writes_escapes(void **state)
{
    (void)state;
    char all[0x81];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(ROOM);
    struct pfx_canon canon = pfx_canon_make(&out);
    pfx_canon_open(&canon, NULL, '[');
    pfx_canon_str(&canon, NULL, (struct pfx_bytes){(uint8_t *)all, 0x80});
    pfx_canon_str(&canon, NULL, (struct pfx_bytes){NULL, 0});
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_int(&canon, "", 0);
    pfx_canon_int(&canon, "a", -PFX_CANON_INT_MAX);
    pfx_canon_open(&canon, "b", '[');
    pfx_canon_close(&canon, ']');
    pfx_canon_raw(&canon, "\xF0\x90\x80\x80", BYTES("[{}]"));
    pfx_canon_bool(&canon, "\xEE\x80\x80", false);
    pfx_canon_close(&canon, '}');
    pfx_canon_close(&canon, ']');
    assert_string_equal(
        pfx_buf_str(&out),
        "[\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e"
        "\\u000f\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a"
        "\\u001b\\u001c\\u001d\\u001e\\u001f !\\\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRS"
        "TUVWXYZ[\\\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\x7f\",\"\",{\"\":0,\"a\":-9007199254740991,"
        "\"b\":[],\"\xF0\x90\x80\x80\":[{}],\"\xEE\x80\x80\":false}]");
}

/* A ceiling is the buffer's to tell, at whatever byte it is met. */
static void writes_up_to_a_ceiling(void **state)
{
    (void)state;
    static const char whole[] = "{\"a\":\"\\n\",\"b\":[1,true],\"c\":{}}";
    for (size_t max = 0; max < sizeof whole + 3; max++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(max);
        struct pfx_canon canon = pfx_canon_make(&out);
        pfx_canon_open(&canon, NULL, '{');
        pfx_canon_str(&canon, "a", BYTES("\n"));
        pfx_canon_open(&canon, "b", '[');
        pfx_canon_int(&canon, NULL, 1);
        pfx_canon_bool(&canon, NULL, true);
        pfx_canon_close(&canon, ']');
        pfx_canon_raw(&canon, "c", BYTES("{}"));
        pfx_canon_close(&canon, '}');
        assert_int_equal(out.over, max < sizeof whole - 1);
        if (!out.over)
            assert_string_equal(pfx_buf_str(&out), whole);
    }
}

typedef void (*misuse)(struct pfx_canon *canon);
static void str_not_utf8(struct pfx_canon *canon)
{
    pfx_canon_str(canon, "b", BYTES("\xED\xA0\x80"));
}
static void int_too_large(struct pfx_canon *canon)
{
    pfx_canon_int(canon, "b", PFX_CANON_INT_MAX + 1);
}
static void int_too_small(struct pfx_canon *canon)
{
    pfx_canon_int(canon, "b", -PFX_CANON_INT_MAX - 1);
}
static void name_before(struct pfx_canon *canon)
{
    pfx_canon_int(canon, "Z", 1);
}
static void name_twice(struct pfx_canon *canon)
{
    pfx_canon_int(canon, "a", 1);
}
static void name_missing(struct pfx_canon *canon)
{
    pfx_canon_int(canon, NULL, 1);
}
static void name_escaped(struct pfx_canon *canon)
{
    pfx_canon_int(canon, "b\"", 1);
}
static void name_in_array(struct pfx_canon *canon)
{
    pfx_canon_open(canon, "b", '[');
    pfx_canon_int(canon, "c", 1);
}
static void wrong_bracket(struct pfx_canon *canon)
{
    pfx_canon_close(canon, ']');
}
static void two_values(struct pfx_canon *canon)
{
    pfx_canon_close(canon, '}');
    pfx_canon_int(canon, NULL, 1);
}
static void raw_not_canonical(struct pfx_canon *canon)
{
    pfx_canon_raw(canon, "b", BYTES("[1, 2]"));
}
static void raw_too_deep(struct pfx_canon *canon)
{
    pfx_canon_raw(canon, "b", BYTES("[[[[[[[[]]]]]]]]"));
}
static void too_deep(struct pfx_canon *canon)
{
    pfx_canon_open(canon, "b", '[');
    for (;;)
        pfx_canon_open(canon, NULL, '[');
}

static void misuse_ends_the_process(void **state)
{
    (void)state;
    static const misuse all[] = {str_not_utf8,  int_too_large, int_too_small,     name_before,
                                 name_twice,    name_missing,  name_escaped,      name_in_array,
                                 wrong_bracket, two_values,    raw_not_canonical, raw_too_deep,
                                 too_deep};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(STDERR_FILENO);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(ROOM);
            struct pfx_canon canon = pfx_canon_make(&out);
            pfx_canon_open(&canon, NULL, '{');
            pfx_canon_int(&canon, "a", 1);
            all[i](&canon);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 70)
            fail_msg("misuse %zu went through", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_escapes),
        cmocka_unit_test(writes_up_to_a_ceiling),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
