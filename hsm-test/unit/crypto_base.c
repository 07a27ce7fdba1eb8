/* Result, memory and encodings. */
#include "crypto_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crypto/encode.h"

static void first_error_stays(void **state)
{
    (void)state;
    ERROR(err);
    assert_class(pfx_fail(&err, PFX_CLASS_REFUSED, "order", "alice", "404", "No %s.", "product"),
                 PFX_CLASS_REFUSED);
    assert_class(pfx_fail(&err, PFX_CLASS_INTERNAL, "x", "y", "z", "later"), PFX_CLASS_INTERNAL);
    char line[256];
    assert_string_equal(pfx_error_line(&err, line, sizeof line),
                        "order alice: No product. (404)");
    assert_class(pfx_fail(NULL, PFX_CLASS_LOST, "a", NULL, NULL, "b"), PFX_CLASS_LOST);
    /* A failure never looks like a success. */
    assert_class(pfx_fail(NULL, PFX_CLASS_OK, "a", NULL, NULL, "b"), PFX_CLASS_INTERNAL);
}

static void error_texts_are_cut_at_characters(void **state)
{
    (void)state;
    for (size_t lead = 0; lead < 4; lead++) {
        char text[1200];
        memset(text, 'a', sizeof text);
        for (size_t i = lead; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\xF0\x9F\x94\x91", 4); /* a key */
        text[sizeof text - 1] = '\0';
        ERROR(err);
        assert_class(pfx_fail(&err, PFX_CLASS_USAGE, text, text, text, "%s", text),
                     PFX_CLASS_USAGE);
        assert_true(pfx_utf8_valid(err.op, strlen(err.op)));
        assert_true(pfx_utf8_valid(err.object, strlen(err.object)));
        assert_true(pfx_utf8_valid(err.text, strlen(err.text)));
        assert_true(strlen(err.text) > sizeof err.text - 5);
        char line[101];
        pfx_error_line(&err, line, sizeof line);
        assert_true(pfx_utf8_valid(line, strlen(line)));
    }
}

static void error_line_has_no_control_characters(void **state)
{
    (void)state;
    ERROR(err);
    assert_class(
        pfx_fail(&err, PFX_CLASS_REFUSED, "get", "x\ny", "", "<a>\r\n\x1b[31mred\x7f"),
        PFX_CLASS_REFUSED);
    char line[256];
    assert_string_equal(pfx_error_line(&err, line, sizeof line), "get x y: <a>   [31mred ");
    struct pfx_error none = PFX_ERROR_NONE;
    assert_string_equal(pfx_error_line(&none, line, sizeof line), "ok");
}

static void errno_classes(void **state)
{
    (void)state;
    ERROR(full);
    assert_class(pfx_fail_errno(&full, ENOSPC, "write", "/var/x", "Make room on /var."),
                 PFX_CLASS_TRANSIENT);
    assert_string_equal(full.code, "ENOSPC");
    assert_string_equal(full.text, "No space left on device. Make room on /var.");
    assert_class(pfx_fail_errno(NULL, ENOENT, "open", "x", NULL), PFX_CLASS_USAGE);
    assert_class(pfx_fail_errno(NULL, EIO, "read", "x", ""), PFX_CLASS_INTERNAL);
    ERROR(odd);
    assert_class(pfx_fail_errno(&odd, 123456, "read", "x", NULL), PFX_CLASS_INTERNAL);
    assert_string_equal(odd.code, "errno 123456");
}

static void class_words(void **state)
{
    (void)state;
    static const int exits[] = {0, 2, 4, 5, 5, 6, 70, 5};
    for (unsigned i = 0; i <= PFX_CLASS_LOST; i++) {
        enum pfx_class cls = PFX_CLASS_OK;
        assert_true(pfx_class_parse(pfx_class_name((enum pfx_class)i), &cls));
        assert_int_equal(cls, i);
        assert_int_equal(pfx_class_exit(cls), exits[i]);
    }
    enum pfx_class cls = PFX_CLASS_LOST;
    assert_false(pfx_class_parse("fine", &cls));
    assert_int_equal(cls, PFX_CLASS_LOST);
    assert_int_equal(pfx_class_exit((enum pfx_class)99), 70);
}

static void buffer_ceiling(void **state)
{
    (void)state;
    struct pfx_buf buf = pfx_buf_make(10);
    assert_string_equal(pfx_buf_str(&buf), "");
    assert_true(pfx_buf_add_str(&buf, "12345"));
    assert_true(pfx_buf_addf(&buf, "%s%d", "abc", 42));
    assert_string_equal(pfx_buf_str(&buf), "12345abc42");
    assert_false(pfx_buf_add(&buf, "x", 1));
    assert_true(buf.over);
    assert_string_equal(pfx_buf_str(&buf), "12345abc42");
    pfx_buf_drop(&buf, 5);
    assert_string_equal(pfx_buf_str(&buf), "abc42");
    assert_false(pfx_buf_add(&buf, "x", 1)); /* a gap before it otherwise */
    pfx_buf_reset(&buf);
    assert_true(pfx_buf_addf(&buf, "%010d", 7));
    assert_false(pfx_buf_addf(&buf, "%d", 7));
    pfx_buf_reset(&buf);
    assert_true(pfx_buf_add(&buf, "", 0));
    assert_string_equal(pfx_buf_str(&buf), "");
    pfx_buf_done(&buf);
    assert_null(buf.data);
}

static void buffer_wipes(void **state)
{
    (void)state;
    struct pfx_buf buf = pfx_buf_make(1000);
    buf.wipe = true;
    for (int i = 0; i < 100; i++)
        assert_true(pfx_buf_add_str(&buf, "secret"));
    assert_memory_equal(buf.data + 594, "secret", 6);
    pfx_buf_cut(&buf, 594);
    assert_memory_equal(buf.data + 594, "\0\0\0\0\0\0", 6);
    pfx_buf_drop(&buf, 500);
    assert_int_equal(buf.data[94], 0);
    assert_int_equal(buf.data[593], 0);
    pfx_buf_done(&buf);
}

static void too_large_ends_the_process(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        pfx_alloc_array(SIZE_MAX / 2, 3);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 70);
}

static void base64_vectors(void **state)
{
    (void)state;
    static const char *const rfc4648[][3] = {
        {"", "", ""}, {"f", "Zg==", "Zg"}, {"fo", "Zm8=", "Zm8"}, {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"}, {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"}, {"\xfb\xff\xfe", "+//+", "-__-"},
    };
    for (size_t i = 0; i < sizeof rfc4648 / sizeof rfc4648[0]; i++) {
        const char *plain = rfc4648[i][0], *std = rfc4648[i][1], *url = rfc4648[i][2];
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf buf = pfx_buf_make(100);
        assert_true(pfx_base64_encode(plain, strlen(plain), &buf));
        assert_string_equal(pfx_buf_str(&buf), std);
        pfx_buf_reset(&buf);
        assert_true(pfx_base64url_encode(plain, strlen(plain), &buf));
        assert_string_equal(pfx_buf_str(&buf), url);
        pfx_buf_reset(&buf);
        assert_true(pfx_base64_decode(std, strlen(std), &buf));
        assert_true(pfx_base64url_decode(url, strlen(url), &buf));
        assert_int_equal(buf.len, 2 * strlen(plain));
        assert_memory_equal(buf.len ? buf.data : (const uint8_t *)"", plain, strlen(plain));
    }
}

static void base64_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"Zg", "Zg=", "Zg===", "Z", "Zh==", "Zm9=", "Zm9v\n", " Zm9v",
                                      "Zm-v", "====", "=", "Zg==Zg==", "Zm9v====", "Zm\x80v"};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf buf = pfx_buf_make(100);
    assert_true(pfx_buf_add_str(&buf, "kept"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(pfx_base64_decode(bad[i], strlen(bad[i]), &buf));
    static const char *const bad_url[] = {"Zg==", "Z", "Zh", "Zm9", "Zm+v", "Zm9v\n"};
    for (size_t i = 0; i < sizeof bad_url / sizeof bad_url[0]; i++)
        assert_false(pfx_base64url_decode(bad_url[i], strlen(bad_url[i]), &buf));
    assert_string_equal(pfx_buf_str(&buf), "kept");
}

static void hex_both_ways(void **state)
{
    (void)state;
    char out[9];
    assert_string_equal(pfx_hex("\x00\xff\x1a\xb2", 4, out), "00ff1ab2");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf buf = pfx_buf_make(100);
    assert_true(pfx_unhex("00Ff1aB2", 8, &buf));
    assert_memory_equal(buf.data, "\x00\xff\x1a\xb2", 4);
    assert_false(pfx_unhex("0", 1, &buf));
    assert_false(pfx_unhex("0g", 2, &buf));
    assert_false(pfx_unhex("0x", 2, &buf));
    assert_int_equal(buf.len, 4);
}

static void utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"", "abc", "J\xC3\xBCrgen", "\xE2\x82\xAC",
                                       "\xF0\x9F\x94\x91", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {
        "\xC3", "\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "a\xE2\x28\xA1"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(pfx_utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(pfx_utf8_valid(bad[i], strlen(bad[i])));
    assert_true(pfx_ascii_printable(" ~", 2));
    assert_false(pfx_ascii_printable("\x1f", 1));
    assert_false(pfx_ascii_printable("\x7f", 1));
    assert_false(pfx_ascii_printable("\xC3\xBC", 2));
    assert_false(pfx_ascii_printable("a\0b", 3));
}

/* Cut at every byte: what is left are whole characters, as many as fit, and a text that was torn
 * comes to the same. */
static void cut_at_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xBC", "\xE2\x82\xAC", "\xF0\x9F\x94\x91"};
    for (size_t width = 1; width <= 4; width++) {
        char text[64] = "";
        for (size_t i = 0; i < 10; i++)
            memcpy(text + i * width, characters[width - 1], width);
        for (size_t max = 0; max <= 10 * width; max++) {
            size_t len = pfx_utf8_cut(text, max);
            assert_int_equal(len, max / width * width);
            char torn[64] = "";
            memcpy(torn, text, max);
            assert_ptr_equal(pfx_utf8_mend(torn), torn);
            assert_int_equal(strlen(torn), len);
            assert_memory_equal(torn, text, len);
        }
        assert_int_equal(pfx_utf8_cut(text, 1000), 10 * width);
    }
    /* In the middle, or what no cut explains: one mark for each byte. */
    static const char *const odd[][2] = {
        {"a\xE2\x82 b", "a?? b"}, {"M\xFCller \xC3\xBC", "M?ller \xC3\xBC"},
        {"\x82\xAC", "??"},       {"\xED\xA0\x80", "???"},
        {"a\xFF", "a?"},          {"\xC0\x80", "??"},
        {"\xF5", "?"},            {"", ""}};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char text[32] = "";
        memcpy(text, odd[i][0], strlen(odd[i][0]));
        assert_string_equal(pfx_utf8_mend(text), odd[i][1]);
    }
}

static void times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-22T08:00:00Z", 1795334400000},
        {"2026-10-16T20:05:28+00:00", 1792181128000},
        {"2026-11-22T08:00:00.1Z", 1795334400100},
        {"2026-11-22t08:00:00.1234567z", 1795334400123},
        {"2026-11-22T08:00:00.999999999999Z", 1795334400999},
        {"2026-11-22T10:30:00+02:30", 1795334400000},
        {"2026-11-21T23:00:00-09:00", 1795334400000},
        {"2026-11-22T08:00:00-00:00", 1795334400000},
        {"2024-02-29T00:00:00Z", 1709164800000},
        {"2000-02-29T12:00:00Z", 951825600000},
        {"9999-12-31T23:59:59.999Z", 253402300799999},
        {"1969-12-31T23:30:00-01:00", 1800000},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t ms = -1;
        if (!pfx_time_parse(good[i].text, &ms) || ms != good[i].ms)
            fail_msg("%s: %lld", good[i].text, (long long)ms);
    }
    static const char *const bad[] = {
        "", "2026-11-22", "2026-11-22T08:00Z", "2026-11-22T08:00:00", "2026-11-22 08:00:00Z",
        "2026-11-22T08:00:60Z", "2026-12-31T23:59:60Z", "2026-11-22T24:00:00Z",
        "2026-11-22T08:60:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
        "2026-11-00T00:00:00Z", "2026-11-22T08:00:00.Z", "2026-11-22T08:00:00.1234567890123Z",
        "2026-11-22T08:00:00,1Z", "2026-11-22T08:00:00+0200", "2026-11-22T08:00:00+24:00",
        "2026-11-22T08:00:00+02:60", "2026-11-22T08:00:00Z ", " 2026-11-22T08:00:00Z",
        "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00+00:01", "+026-11-22T08:00:00Z", "2026-11-22T-8:00:00Z", "12026-1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t ms = -1;
        if (pfx_time_parse(bad[i], &ms) || ms != -1)
            fail_msg("%s was taken", bad[i]);
    }
    int64_t ms = -1;
    assert_true(pfx_date_parse("2026-11-22", &ms));
    assert_int_equal(ms, 1795305600000);
    assert_false(pfx_date_parse("2026-11-22T", &ms));
    assert_false(pfx_date_parse("2026-1-22", &ms));
    assert_false(pfx_date_parse("1969-12-31", &ms));
    assert_false(pfx_time_parse(NULL, &ms));
}

/* The C library's calendar is the oracle. */
static void times_agree_with_gmtime(void **state)
{
    (void)state;
    for (int64_t s = 0; s < 253402300800; s += 86400 * 7 - 1009) {
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        char want[PFX_TIME_SIZE], have[PFX_TIME_SIZE];
        strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", &tm);
        assert_string_equal(pfx_time_format(s * 1000 + 7, false, have), want);
        int64_t ms = -1;
        assert_true(pfx_time_parse(pfx_time_format(s * 1000 + 120, true, have), &ms));
        assert_int_equal(ms, s * 1000 + 120);
    }
    char have[PFX_TIME_SIZE];
    assert_string_equal(pfx_time_format(1795334400120, true, have), "2026-11-22T08:00:00.120Z");
    assert_string_equal(pfx_time_format(INT64_MAX, true, have), "9999-12-31T23:59:59.999Z");
    assert_string_equal(pfx_time_format(INT64_MIN, false, have), "1970-01-01T00:00:00Z");
}

static void guids(void **state)
{
    (void)state;
    char a[PFX_GUID_SIZE], b[PFX_GUID_SIZE];
    for (int i = 0; i < 100; i++) {
        pfx_guid_new(a);
        pfx_guid_new(b);
        assert_string_not_equal(a, b);
        assert_int_equal(strlen(a), 36);
        for (int j = 0; j < 36; j++) {
            bool dash = j == 8 || j == 13 || j == 18 || j == 23;
            assert_true(dash ? a[j] == '-' : strchr("0123456789abcdef", a[j]) != NULL);
        }
        assert_int_equal(a[14], '4');
        assert_non_null(strchr("89ab", a[19]));
    }
}

static void pem(void **state)
{
    (void)state;
    static const char text[] = "Subject: x\n"
                               "-----BEGIN A-----\r\nZm9v\r\n YmFy\r\n-----END A-----\r\n"
                               "junk -----BEGIN B B----- Zg== -----END B B----------BEGIN C-----"
                               "Zg\n-----END C-----\n-----BEGIN D-----\nZg==\n-----END E-----\n"
                               "-----BEGIN F-----\nZg==";
    static const struct {
        enum pfx_pem kind;
        const char *label, *data;
    } want[] = {{PFX_PEM_BLOCK, "A", "foobar"}, {PFX_PEM_BLOCK, "B B", "f"}, {PFX_PEM_BAD, "C", ""},
                {PFX_PEM_BAD, "D", ""}, {PFX_PEM_BAD, "F", ""}};
    size_t pos = 0;
    char label[PFX_PEM_LABEL_SIZE];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(100);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        pfx_buf_reset(&der);
        assert_int_equal(pfx_pem_next(BYTES(text), &pos, label, &der), want[i].kind);
        assert_string_equal(label, want[i].label);
        assert_string_equal(pfx_buf_str(&der), want[i].data);
    }
    assert_int_equal(pfx_pem_next(BYTES(text), &pos, label, &der), PFX_PEM_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_stays),
        cmocka_unit_test(error_texts_are_cut_at_characters),
        cmocka_unit_test(error_line_has_no_control_characters),
        cmocka_unit_test(errno_classes),
        cmocka_unit_test(class_words),
        cmocka_unit_test(buffer_ceiling),
        cmocka_unit_test(buffer_wipes),
        cmocka_unit_test(too_large_ends_the_process),
        cmocka_unit_test(base64_vectors),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(hex_both_ways),
        cmocka_unit_test(utf8),
        cmocka_unit_test(cut_at_characters),
        cmocka_unit_test(times),
        cmocka_unit_test(times_agree_with_gmtime),
        cmocka_unit_test(guids),
        cmocka_unit_test(pem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
