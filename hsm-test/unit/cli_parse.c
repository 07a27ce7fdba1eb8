/* The parser of the command line: every mistake has its own sentence, and no secret is repeated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/cli/cli.h"

#define WORDS 12

/* Splits at spaces into argv; the array lives as long as the test. */
static pfx_result parse(const char *line, struct cli *cli, struct pfx_error *err)
{
    static char copy[512];
    static char *argv[WORDS];
    int argc = 0;
    (void)snprintf(copy, sizeof(copy), "%s", line);
    *err = PFX_ERROR_NONE;
    for (char *word = copy; word && argc < WORDS;) {
        char *space = strchr(word, ' ');
        if (space)
            *space = '\0';
        argv[argc++] = word;
        word = space ? space + 1 : NULL;
    }
    return cli_parse(argc, argv, cli, err);
}

static void refused(const char *line, const char *words)
{
    struct cli cli;
    struct pfx_error err;
    pfx_result r = parse(line, &cli, &err);
    assert_int_equal(r.cls, PFX_CLASS_USAGE);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" says \"%s\", not \"%s\"", line, err.text, words);
    assert_null(strstr(err.text, "hunter2"));
    cli_done(&cli);
}

static void accepted(const char *line, const char *name)
{
    struct cli cli;
    struct pfx_error err;
    char buf[64];
    if (pfx_failed(parse(line, &cli, &err)))
        fail_msg("\"%s\" is refused: %s", line, err.text);
    assert_string_equal(cli_verb_name(cli.verb, buf), name);
    cli_done(&cli);
}

static void verbs_are_found(void **state)
{
    (void)state;
    accepted("pfx-agent", "help");
    accepted("pfx-agent status", "status");
    accepted("pfx-agent --json enrolment list", "enrolment list");
    accepted("pfx-agent enrolment --json list --state HELD", "enrolment list");
    accepted("pfx-agent enrolment cancel 3 4 5", "enrolment cancel");
    accepted("pfx-agent run --once --wait=5m", "run");
    accepted("pfx-agent key --help", "help");
    accepted("pfx-agent key show --help", "key show");
    accepted("pfx-agent secret set digicert --fd 3", "secret set");
    accepted("pfx-agent config check -- --odd-name", "config check");
    accepted("pfx-agent log tail -f -n 5", "log tail");
    accepted("pfx-agent log tail -n5 --follow", "log tail");
    accepted("pfx-agent log receipt 17 -o x.tlog-proof", "log receipt");
    accepted("pfx-agent log export dir -h", "log export");
}

static void mistakes_have_their_sentence(void **state)
{
    (void)state;
    refused("pfx-agent staus", "did you mean \"status\"?");
    refused("pfx-agent enrollment list", "did you mean \"enrolment\"?");
    refused("pfx-agent enrolment lits", "did you mean \"list\"?");
    refused("pfx-agent frobnicate", "there are: init, run, status, enrolment");
    refused("pfx-agent enrolment frobnicate", "there are: list, show, cancel");
    refused("pfx-agent enrolment", "enrolment needs a verb: list, show");
    refused("pfx-agent status --josn", "did you mean --json?");
    refused("pfx-agent status --frobnicate", "no option --frobnicate");
    refused("pfx-agent status --once", "status has no option --once");
    refused("pfx-agent run --once --wait", "--wait needs a value: DURATION");
    refused("pfx-agent run --once=yes", "--once takes no value");
    refused("pfx-agent run --once --once", "--once stands there twice");
    refused("pfx-agent run -x", "two dashes");
    refused("pfx-agent log tail -fn", "two dashes");
    refused("pfx-agent log tail -n", "--lines needs a value: N");
    refused("pfx-agent log tail -f -f", "--follow stands there twice");
    refused("pfx-agent run -f", "run has no option --follow");
    refused("pfx-agent status now", "status takes no operand");
    refused("pfx-agent key export-public", "key export-public needs: NAME");
    refused("pfx-agent key export-public a b", "key export-public takes only: NAME");
}

static void secrets_are_not_repeated(void **state)
{
    (void)state;
    refused("pfx-agent secret set digicert hunter2", "never stands on the command line");
    refused("pfx-agent init hunter2", "init takes no operand");

    struct cli cli;
    struct pfx_error err;
    assert_true(pfx_ok(parse("pfx-agent init --pin-fd hunter2", &cli, &err)));
    int fd = 7;
    assert_int_equal(cli_fd_value(&cli, CLI_PIN_FD, &fd, &err).cls, PFX_CLASS_USAGE);
    assert_int_equal(fd, 7);
    assert_null(strstr(err.text, "hunter2"));
    cli_done(&cli);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds; /* -1: refused */
    } cases[] = {
        {"90", 90},   {"90s", 90}, {"5m", 300}, {"2h", 7200},  {"1d", 86400},
        {"0", 0},     {"2d", -1},  {"", -1},    {"s", -1},     {"-1", -1},
        {"1.5h", -1}, {"5 m", -1}, {"1w", -1},  {"86401", -1}, {"99999999999999999999s", -1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        int64_t seconds = -7;
        bool good = pfx_ok(cli_duration(cases[i].text, &seconds, &err));
        assert_int_equal(good, cases[i].seconds >= 0);
        assert_int_equal(seconds, good ? cases[i].seconds : -7);
    }
}

static void letters(void **state)
{
    (void)state;
    struct cli cli;
    struct pfx_error err;
    static const char *const lines[] = {"pfx-agent log tail -n 5", "pfx-agent log tail -n5",
                                        "pfx-agent log tail --lines 5", "pfx-agent log tail --lines=5"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_true(pfx_ok(parse(lines[i], &cli, &err)));
        assert_string_equal(cli.values[CLI_LINES], "5");
        assert_int_equal(cli.n_operands, 0);
        cli_done(&cli);
    }
    for (unsigned a = 0; a < CLI_OPTION_COUNT; a++)
        for (unsigned b = 0; b < a; b++)
            assert_true(!cli_option_letter(a) || cli_option_letter(a) != cli_option_letter(b));
}

static void nearest_words(void **state)
{
    (void)state;
    static const char *const words[] = {"status", "pause", "resume", "run", NULL};
    assert_string_equal(cli_nearest("satus", words), "status");
    assert_string_equal(cli_nearest("stauts", words), "status");
    assert_string_equal(cli_nearest("stat", words), "status");
    assert_string_equal(cli_nearest("rnu", words), "run");
    assert_null(cli_nearest("certificate", words));
    assert_null(cli_nearest("", words));
    char longest[300];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_null(cli_nearest(longest, words));
}

/* The table itself: what the help, the man page and the sockets rely on. */
static void the_table_is_sound(void **state)
{
    (void)state;
    for (const struct cli_verb *v = cli_verbs; v->verb; v++) {
        assert_non_null(v->function);
        assert_non_null(v->help);
        assert_non_null(v->who);
        assert_true(v->min_operands <= v->max_operands);
        assert_int_equal(v->options & CLI_GLOBAL, 0);
        assert_ptr_equal(cli_verb_find(v->noun, v->verb), v);
    }
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        assert_non_null(cli_options[id].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verbs_are_found),
        cmocka_unit_test(mistakes_have_their_sentence),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(durations),
        cmocka_unit_test(letters),
        cmocka_unit_test(nearest_words),
        cmocka_unit_test(the_table_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
