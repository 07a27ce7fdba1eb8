/* Text for people: harmless, measured in columns, cut, and laid out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/cli/text.h"

static void assert_clean(const char *text, const char *expected)
{
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    cli_clean(text, &out);
    assert_string_equal(pfx_buf_str(&out), expected);
}

static void control_characters_are_shown(void **state)
{
    (void)state;
    assert_clean("plain", "plain");
    assert_clean("\033[31mred\033[0m", "?[31mred?[0m");
    assert_clean("a\nb\tc\rd", "a b c?d");
    assert_clean("del\177", "del?");
    assert_clean("c1 \xc2\x9b"
                 "31m",
                 "c1 ?31m"); /* CSI as one character */
    assert_clean("rtl \xe2\x80\xae"
                 "gnp.exe",
                 "rtl ?gnp.exe"); /* right-to-left override */
    assert_clean("zero\xe2\x80\x8bwidth", "zero?width");
    assert_clean("bom\xef\xbb\xbf", "bom?");
    assert_clean("Жанна Grünwäldli", "Жанна Grünwäldli");
    assert_clean("bad \xff\xc3", "bad ??");
    assert_clean("overlong \xc0\xaf", "overlong ??");
    assert_clean("surrogate \xed\xa0\x80", "surrogate ???");
}

static void width_is_in_columns(void **state)
{
    (void)state;
    assert_int_equal(cli_width(""), 0);
    assert_int_equal(cli_width("plain"), 5);
    assert_int_equal(cli_width("Grünwäldli"), 10);
    assert_int_equal(cli_width("gru\xcc\x88n"), 4); /* u and a combining diaeresis */
    assert_int_equal(cli_width("山田"), 4);
    assert_int_equal(cli_width("Жанна"), 5);
}

static void cutting_keeps_whole_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
        size_t columns;
    } cases[] = {{"plain", "plain", 5},       {"plain", "pla~", 4}, {"山田太郎", "山~", 4},
                 {"山田太郎", "山田太郎", 8}, {"plain", "", 0},     {"plain", "~", 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(256);
        cli_cut(cases[i].text, cases[i].columns, &out);
        /* The ellipsis depends on the locale of whoever runs this. */
        if (cli_utf8() && strchr(cases[i].expected, '~'))
            assert_true(cli_width(pfx_buf_str(&out)) <= cases[i].columns);
        else
            assert_string_equal(pfx_buf_str(&out), cases[i].expected);
    }
}

static char *printed; /* the stream keeps its address, so it outlives the call */
static size_t printed_len;

static char *print(const struct cli_table *table)
{
    FILE *to = open_memstream(&printed, &printed_len);
    assert_non_null(to);
    cli_table_print(table, to);
    (void)fclose(to);
    return printed;
}

static void tables_line_up(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", "STATE", "WHY", NULL};
    cli_text_force(0, false);
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 2);
    cli_table_add(table, "山田", CLI_PLAIN);
    cli_table_add(table, "HELD", CLI_WARN);
    cli_table_add(table, "a\033b", CLI_PLAIN);
    cli_table_add(table, "gru\xcc\x88n", CLI_PLAIN);
    cli_table_add(table, NULL, CLI_PLAIN);
    cli_table_add(table, "", CLI_PLAIN);
    assert_int_equal(cli_table_rows(table), 2);
    char *text = print(table);
    assert_string_equal(text, "NAME  STATE  WHY\n"
                              "山田  HELD   a?b\n"
                              "gru\xcc\x88n  -      -\n");
    free(text);
}

/* A pipe gets everything; a terminal of 30 columns gets lines of 30 columns. */
static void only_terminals_are_cut_for(void **state)
{
    (void)state;
    static const char *const titles[] = {"NO", "WHY", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 1);
    char why[101];
    memset(why, 'w', 100);
    why[100] = '\0';
    cli_table_add(table, "1", CLI_PLAIN);
    cli_table_add(table, why, CLI_WARN);
    cli_text_force(0, false);
    char *text = print(table);
    assert_non_null(strstr(text, why));
    assert_null(strchr(text, '\033'));
    free(text);
    cli_text_force(30, true);
    text = print(table);
    assert_null(strstr(text, why));
    assert_non_null(strstr(text, "\033[33m"));
    const char *row = strchr(text, '\n') + 1;
    assert_true(cli_width(row) <= 30 + 14); /* with its escape sequences and the line feed */
    free(text);
    cli_text_force(0, false);
}

/* Nothing is lost: in as many lines as it takes, at words, and in the middle of one too long. */
static void wrapped_to_the_end(void **state)
{
    (void)state;
    static const char *const titles[] = {"NO", "WHY", "N", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 1);
    cli_table_wrap(table);
    cli_table_add(table, "1", CLI_PLAIN);
    cli_table_add(table, "no key yet: run 山田山田 pfx-agent init 0123456789abcdef", CLI_PLAIN);
    cli_table_add(table, "7", CLI_PLAIN);
    cli_text_force(19, false);
    char *text = print(table);
    assert_string_equal(text, "NO  WHY           N\n"
                              "1   no key yet:   7\n"
                              "    run 山田山田\n"
                              "    pfx-agent\n"
                              "    init\n"
                              "    0123456789ab\n"
                              "    cdef\n");
    free(text);
    cli_text_force(0, false);
    text = print(table);
    assert_non_null(strstr(text, "init 0123456789abcdef  7\n")); /* a pipe gets one line */
    free(text);
}

static void json_strings(void **state)
{
    (void)state;
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(256);
    cli_json_str(&out, "a\"b\\c\nd\001 ü \xff");
    assert_string_equal(pfx_buf_str(&out), "\"a\\\"b\\\\c\\u000ad\\u0001 ü \\ufffd\"");
}

static void spans_and_times(void **state)
{
    (void)state;
    char buf[64];
    assert_string_equal(cli_span(0, 90 * 1000, buf), "90 s");
    assert_string_equal(cli_span(0, 5 * 60 * 1000, buf), "5 min");
    assert_string_equal(cli_span(0, 5LL * 3600 * 1000, buf), "5 h");
    assert_string_equal(cli_span(0, 5LL * 86400 * 1000, buf), "5 d");
    assert_string_equal(cli_span(10, 0, buf), "0 s");
    assert_string_equal(cli_time(0, buf), "-");
    assert_string_equal(cli_time(1763798400000LL, buf), "2025-11-22 08:00");
}

int main(void)
{
    cli_text_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_characters_are_shown),
        cmocka_unit_test(width_is_in_columns),
        cmocka_unit_test(cutting_keeps_whole_characters),
        cmocka_unit_test(tables_line_up),
        cmocka_unit_test(only_terminals_are_cut_for),
        cmocka_unit_test(wrapped_to_the_end),
        cmocka_unit_test(json_strings),
        cmocka_unit_test(spans_and_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
