/* A line of `log tail`: what it shows of an entry, and that it keeps to the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"

#define PREV "0000000000000000000000000000000000000000000000000000000000000000"
#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char *made; /* the line that was shown last */

static int setup(void **state)
{
    (void)state;
    (void)setenv("TZ", "UTC", 1);
    tzset();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(made);
    cli_text_force(0, false);
    return 0;
}

/* An entry whose members before "event" and behind "up" are given. */
static struct pfx_bytes entry(const char *before, const char *event, const char *outcome,
                              const char *phase, const char *behind)
{
    static char text[8192];
    int n =
        snprintf(text, sizeof(text),
                 "{%s\"boot\":\"b\",%s,\"op\":\"00000000000000000000000001\",%s\"outcome\":\"%s\","
                 "\"phase\":\"%s\",\"prev\":\"" PREV "\",\"seq\":7,\"src\":\"hsm\",%s"
                 "\"time\":\"2026-11-22T08:00:00.120Z\",\"up\":1,\"v\":1}",
                 before, event, "", outcome, phase, behind);
    assert_in_range(n, 1, sizeof(text) - 1);
    return (struct pfx_bytes){(const uint8_t *)text, (size_t)n};
}

static const char *shown(unsigned columns, bool colour, struct pfx_bytes json, bool covered)
{
    size_t size = 0;
    free(made);
    made = NULL;
    FILE *to = open_memstream(&made, &size);
    assert_non_null(to);
    cli_text_force(columns, colour);
    cli_log_line(to, 7, json, covered);
    (void)fclose(to);
    return made;
}

#define THUMBPRINT "89abcdef0123456789abcdef0123456789abcdef"
#define SELF "\"actor\":{\"role\":\"self\"},"

static void all_of_it_in_a_pipe(void **state)
{
    (void)state;
    const char *line =
        shown(0, false,
              entry("\"actor\":{\"pid\":3,\"role\":\"operator\",\"uid\":1000},",
                    "\"event\":\"pfx.build\",\"key\":{\"id\":\"" HASH "\"}", "ok", "result",
                    "\"target\":{\"enrolment\":12,\"order\":542772,\"user\":\"" HASH "\"},"
                    "\"tier\":\"direct\","),
              true);
    assert_string_equal(line, "       7 2026-11-22 08:00:00 hsm    pfx.build            ok        "
                              "uid 1000 e12 order 542772 key 00112233 direct user "
                              "00112233\n");
}

static void ids_of_records_are_short(void **state)
{
    (void)state;
    const char *line = shown(0, false,
                             entry(SELF, "\"event\":\"upload.confirmed\"", "ok", "note",
                                   "\"target\":{\"attempt\":2,\"enrolment\":12,"
                                   "\"name\":\"" HASH "-" THUMBPRINT "\","
                                   "\"thumbprint\":\"" THUMBPRINT "\"},"),
                             true);
    assert_non_null(strstr(line, " self     e12.2 record 89abcdef\n"));
    line = shown(0, false,
                 entry(SELF, "\"event\":\"record.removed\"", "ok", "note",
                       "\"target\":{\"name\":\"" HASH "-" THUMBPRINT "\"},"),
                 true);
    assert_non_null(strstr(line, " self     00112233...-89abcdef...\n"));
}

static void open_entries_have_a_mark(void **state)
{
    (void)state;
    struct pfx_bytes json = entry(SELF, "\"event\":\"start\"", "ok", "note", "");
    assert_non_null(strstr(shown(0, false, json, false), "      *7 2026"));
    assert_null(strchr(shown(0, false, json, true), '*'));
}

static void never_wider_than_the_terminal(void **state)
{
    (void)state;
    static const char *const events[] = {"\"event\":\"ceremony.certificate\"", "\"event\":\"a\""};
    for (unsigned columns = 62; columns <= 140; columns++)
        for (size_t i = 0; i < 2; i++) {
            struct pfx_bytes json =
                entry("\"actor\":{\"role\":\"operator\",\"uid\":9007199254740991},", events[i],
                      "transient", "result",
                      "\"target\":{\"name\":"
                      "\"\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0\xe4\xbd\xa0"
                      " and a name that goes on and on until no terminal could ever hold it all, "
                      "and then on for a while\"},");
            (void)shown(columns, false, json, false);
            made[strcspn(made, "\n")] = '\0';
            if (cli_width(made) > columns)
                fail_msg("%zu columns of %u: %s", cli_width(made), columns, made);
        }
}

static void a_narrow_one_leaves_the_day_out(void **state)
{
    (void)state;
    struct pfx_bytes json = entry(SELF, "\"event\":\"start\"", "ok", "note", "");
    char day[CLI_DAY_SIZE];
    assert_non_null(strstr(shown(80, false, json, true), "      7 08:00:00 hsm "));
    assert_string_equal(cli_log_day(json, day), "2026-11-22");
    assert_true(cli_log_narrow(stdout));
    cli_text_force(100, false);
    assert_false(cli_log_narrow(stdout));
    cli_text_force(0, false);
    assert_false(cli_log_narrow(stdout));
}

static void what_went_wrong_comes_first(void **state)
{
    (void)state;
    const char *line =
        shown(0, false,
              entry(SELF, "\"event\":\"token.login\",\"fail\":{\"code\":\"CKR_PIN_LOCKED\"}",
                    "refused", "note", "\"target\":{\"name\":\"users\"},"),
              true);
    assert_non_null(strstr(line, "refused   self     CKR_PIN_LOCKED users\n"));
}

static void nothing_harmful_reaches_the_terminal(void **state)
{
    (void)state;
    const char *line = shown(0, false,
                             entry(SELF, "\"event\":\"command\"", "ok", "note",
                                   "\"target\":{\"name\":\"a\xe2\x80\xae"
                                   "b\\u0007c\\u0000d\\\"\"},"),
                             true);
    assert_non_null(strstr(line, " a?b?c?d\"\n"));
    for (const char *p = line; p[1]; p++)
        assert_true((unsigned char)*p >= ' ');
}

static void colours_where_wanted(void **state)
{
    (void)state;
    struct pfx_bytes json = entry(SELF, "\"event\":\"start\"", "integrity", "note", "");
    assert_non_null(strstr(shown(120, true, json, true), "\033[1;31mintegrity\033[0m"));
    assert_null(strchr(shown(120, false, json, true), '\033'));
    json = entry(SELF, "\"event\":\"start\"", "ok", "note", "");
    assert_non_null(strstr(shown(120, true, json, true), "\033[32mok\033[0m"));
}

static void what_isnt_an_entry_is_shown_as_such(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{}", "{\"v\":1", "\x01\xff", "[]"};
    char day[CLI_DAY_SIZE];
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct pfx_bytes json = {(const uint8_t *)texts[i], strlen(texts[i])};
        assert_non_null(strstr(shown(0, false, json, true), "       7 can't be read: "));
        assert_string_equal(cli_log_day(json, day), "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_in_a_pipe),
        cmocka_unit_test(open_entries_have_a_mark),
        cmocka_unit_test(never_wider_than_the_terminal),
        cmocka_unit_test(a_narrow_one_leaves_the_day_out),
        cmocka_unit_test(what_went_wrong_comes_first),
        cmocka_unit_test(ids_of_records_are_short),
        cmocka_unit_test(nothing_harmful_reaches_the_terminal),
        cmocka_unit_test(colours_where_wanted),
        cmocka_unit_test(what_isnt_an_entry_is_shown_as_such),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
