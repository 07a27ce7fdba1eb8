/* Entries on their way into the log: what drafts take, and what ends the program; ULIDs. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/encode.h"
#include "entry_test.h"

static void drafts_take_text_from_outside(void **state)
{
    (void)state;
    static struct pfx_draft draft;
    begin(&draft);
    pfx_draft_str(&draft, PFX_F_TARGET_NAME, "a\x1b[31m\r\nb\x7f\xC2\x9B\xC2\xA0\"\\");
    assert_true(same_text(&draft.entry, PFX_F_TARGET_NAME, "a[31mb\xC2\xA0\\\"\\\\"));
    assert_true(pfx_entry_is(&draft.entry, PFX_F_TARGET_NAME, "a[31mb\xC2\xA0\"\\"));
    pfx_draft_str(&draft, PFX_F_TARGET_NAME, "x\xFFy\xC3 \xED\xA0\x80 \xE2\x82");
    assert_true(same_text(&draft.entry, PFX_F_TARGET_NAME,
                          "x\xEF\xBF\xBDy\xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD "
                          "\xEF\xBF\xBD\xEF\xBF\xBD"));
    /* Cut before the character that would go past the row's length, whatever it is. */
    const size_t max = pfx_fields[PFX_F_TARGET_NAME].max;
    static const char *const last[] = {"",    "\"", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x94\x91",
                                       "\xFF"};
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++)
        for (size_t lead = max - 5; lead <= max + 1; lead++) {
            PFX_AUTOFREE char *a = pfx_alloc(lead + 1);
            memset(a, 'a', lead);
            PFX_AUTOFREE char *text = pfx_asprintf("%s%s%s", a, last[i], last[i]);
            begin(&draft);
            pfx_draft_str(&draft, PFX_F_TARGET_NAME, text);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(2 * max);
            assert_true(pfx_entry_plain(&draft.entry, PFX_F_TARGET_NAME, &plain));
            assert_true(pfx_utf8_valid(pfx_buf_str(&plain), plain.len));
            assert_true(plain.len <= max);
            assert_true(plain.len + 4 > max || plain.len == strlen(text) || last[i][0] == '\xFF');
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_ENTRY_MAX);
            ERROR(err);
            struct pfx_entry e;
            assert_ok(pfx_entry_write(&draft.entry, &out, &err), &err);
            assert_ok(pfx_entry_read(pfx_buf_bytes(&out), &e, &err), &err);
        }
    /* Words. */
    begin(&draft);
    pfx_draft_str(&draft, PFX_F_FAIL_CODE, "errno 5\n\xC3\xA4");
    assert_true(same_text(&draft.entry, PFX_F_FAIL_CODE, "errno_5___"));
    PFX_AUTOFREE char *code = pfx_alloc(101);
    memset(code, 'X', 100);
    pfx_draft_str(&draft, PFX_F_FAIL_CODE, code);
    assert_int_equal(pfx_entry_text(&draft.entry, PFX_F_FAIL_CODE).len, 64);
    begin(&draft);
    pfx_draft_str(&draft, PFX_F_FAIL_CODE, "");
    pfx_draft_str(&draft, PFX_F_TARGET_NAME, NULL);
    assert_false(pfx_entry_has(&draft.entry, PFX_F_FAIL_CODE));
    assert_false(pfx_entry_has(&draft.entry, PFX_F_TARGET_NAME));
    pfx_draft_str(&draft, PFX_F_TARGET_NAME, "");
    assert_true(pfx_entry_has(&draft.entry, PFX_F_TARGET_NAME));
}

typedef void (*misuse)(struct pfx_draft *draft);
static void bad_hash(struct pfx_draft *draft)
{
    pfx_draft_str(draft, PFX_F_PREV, "abc");
}
static void bad_hash_bytes(struct pfx_draft *draft)
{
    pfx_draft_hex(draft, PFX_F_PREV, "abc", 3);
}
static void bad_hex(struct pfx_draft *draft)
{
    static const char bytes[65];
    pfx_draft_hex(draft, PFX_F_KEY_ID, bytes, 65);
}
static void bad_ulid(struct pfx_draft *draft)
{
    pfx_draft_str(draft, PFX_F_OP, "x");
}
static void bad_int(struct pfx_draft *draft)
{
    pfx_draft_int(draft, PFX_F_SEQ, PFX_CANON_INT_MAX + 1);
}
static void bad_bool(struct pfx_draft *draft)
{
    pfx_draft_bool(draft, PFX_F_SEQ, true);
}
static void int_for_text(struct pfx_draft *draft)
{
    pfx_draft_int(draft, PFX_F_EVENT, 1);
}
static void text_for_int(struct pfx_draft *draft)
{
    pfx_draft_str(draft, PFX_F_SEQ, "1");
}
static void time_for_int(struct pfx_draft *draft)
{
    pfx_draft_time(draft, PFX_F_UP, 1);
}
static void phase_as_text(struct pfx_draft *draft)
{
    pfx_draft_str(draft, PFX_F_PHASE, "note");
}
static void raw_spaced(struct pfx_draft *draft)
{
    pfx_draft_raw(draft, PFX_F_LOG_OPEN, BYTES("[1, 2]"));
}
static void raw_object(struct pfx_draft *draft)
{
    pfx_draft_raw(draft, PFX_F_LOG_OPEN, BYTES("{}"));
}
static void raw_deep(struct pfx_draft *draft)
{
    pfx_draft_raw(draft, PFX_F_LOG_OPEN, BYTES("[[[[[[[]]]]]]]"));
}
static void bad_event(struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, "no word", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
}
static void too_much(struct pfx_draft *draft)
{
    for (;;)
        pfx_draft_str(draft, PFX_F_PREV, HASH_A);
}

static void misuse_ends_the_process(void **state)
{
    (void)state;
    static const misuse all[] = {bad_hash,     bad_hash_bytes, bad_hex,      bad_ulid,
                                 bad_int,      bad_bool,       int_for_text, text_for_int,
                                 time_for_int, phase_as_text,  raw_spaced,   raw_object,
                                 raw_deep,     bad_event,      too_much};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            static struct pfx_draft draft;
            close(STDERR_FILENO);
            begin(&draft);
            all[i](&draft);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 70)
            fail_msg("misuse %zu went through", i);
    }
    /* Just not too deep. */
    static struct pfx_draft draft;
    begin(&draft);
    pfx_draft_raw(&draft, PFX_F_LOG_OPEN, BYTES("[[[[[[]]]]]]"));
    pfx_draft_raw(&draft, PFX_F_PINS, BYTES("[[[[[[[]]]]]]]"));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf line = pfx_buf_make(PFX_ENTRY_MAX);
    write_line(&draft.entry, &line);
    pfx_buf_cut(&line, line.len - 1);
    assert_true(reads(pfx_buf_str(&line)));
}

static int by_text(const void *a, const void *b)
{
    return memcmp(a, b, PFX_ULID_SIZE);
}

static void ulids(void **state)
{
    (void)state;
    enum { N = 20000 };
    static char all[N][PFX_ULID_SIZE];
    char buf[PFX_ULID_SIZE];
    /* The example of the ULID specification. */
    assert_memory_equal(pfx_ulid(1469918176385, buf), "01ARYZ6S41", 10);
    assert_memory_equal(pfx_ulid((INT64_C(1) << 48) - 1, buf), "7ZZZZZZZZZ", 10);
    assert_memory_equal(pfx_ulid(0, buf), "0000000000", 10);
    assert_memory_equal(pfx_ulid(-1, buf), "0000000000", 10);
    unsigned seen[26][128] = {{0}};
    for (int i = 0; i < N; i++) {
        pfx_ulid(1795334400120, all[i]);
        assert_int_equal(strlen(all[i]), 26);
        PFX_AUTOFREE char *text = with(ULID, all[i]);
        if (i < 1000)
            assert_true(reads(text));
        for (int j = 0; j < 26; j++)
            seen[j][(unsigned char)all[i][j]]++;
    }
    qsort(all, N, sizeof all[0], by_text);
    for (int i = 1; i < N; i++)
        assert_string_not_equal(all[i - 1], all[i]);
    /* Each of the 32 digits at each random place. */
    for (int j = 10; j < 26; j++) {
        int digits = 0;
        for (int c = 0; c < 128; c++)
            digits += seen[j][c] > N / 32 / 2;
        assert_int_equal(digits, 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_take_text_from_outside),
        cmocka_unit_test(misuse_ends_the_process),
        cmocka_unit_test(ulids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
