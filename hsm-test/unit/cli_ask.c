/* Asking a daemon: a child plays it on a real path socket, well-behaved and not. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/cli/cli.h"

static char dir[64], path[96];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/cli-ask-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/cli", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static int listen_here(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)unlink(path);
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void frame(int fd, const char *json)
{
    size_t len = strlen(json);
    unsigned char head[4] = {(unsigned char)(len >> 24), (unsigned char)(len >> 16),
                             (unsigned char)(len >> 8), (unsigned char)len};
    (void)!write(fd, head, 4);
    (void)!write(fd, json, len);
}

/* A child that takes one connection, reads the request and answers with these frames. */
static pid_t serve(const char *const *frames)
{
    int fd = listen_here();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(20);
        int conn = accept(fd, NULL, NULL);
        char request[4096];
        (void)!read(conn, request, sizeof(request));
        for (; frames && *frames; frames++)
            frame(conn, *frames);
        (void)close(conn);
        _exit(0);
    }
    (void)close(fd);
    return child;
}

struct seen {
    int items;
    char last[64];
};

static void on_item(void *ctx, const struct pfx_msg *item)
{
    struct seen *seen = ctx;
    seen->items++;
    (void)snprintf(seen->last, sizeof(seen->last), "%s", pfx_msg_str(item, "name"));
}

static pfx_result ask(struct seen *seen, int *ret_exit, struct pfx_error *err)
{
    struct cli cli = {.given = {[CLI_CLI_SOCKET] = true}, .values = {[CLI_CLI_SOCKET] = path}};
    struct cli_ask request = {CLI_AGENT, "status", NULL, 5, on_item, NULL, seen};
    *err = PFX_ERROR_NONE;
    return cli_ask(&cli, &request, ret_exit, err);
}

static void reap(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
}

/* Nobody is asked, and nothing ends but the command. */
static void what_cannot_be_asked(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"M\xFCller@example.com", "\"user\" isn't UTF-8"}, {"", "\"user\" must have"}};
    struct cli cli = {.given = {[CLI_CLI_SOCKET] = true},
                      .values = {[CLI_CLI_SOCKET] = "/nowhere"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "enrolment.list");
        struct cli_ask request = {CLI_AGENT, "enrolment.list", args, 5, NULL, NULL, NULL};
        struct pfx_error err = PFX_ERROR_NONE;
        int code = -1;
        pfx_msg_set_str(args, "user", bad[i][0]);
        assert_true(pfx_failed(cli_ask(&cli, &request, &code, &err)));
        assert_int_equal(code, CLI_EXIT_USAGE);
        assert_non_null(strstr(err.text, bad[i][1]));
    }
}

static void items_and_end(void **state)
{
    (void)state;
    static const char *const frames[] = {
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"fact\",\"name\":\"one\"}}",
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"fact\",\"name\":\"two\"}}",
        "{\"v\":1,\"t\":\"end\",\"id\":1,\"exit\":4,\"error\":{\"class\":\"refused\",\"op\":\"x\","
        "\"object\":\"y\",\"code\":\"\",\"text\":\"no\"}}",
        NULL};
    struct seen seen = {0};
    struct pfx_error err;
    int code = -1;
    pid_t child = serve(frames);
    assert_true(pfx_ok(ask(&seen, &code, &err)));
    reap(child);
    assert_int_equal(code, 4);
    assert_int_equal(seen.items, 2);
    assert_string_equal(seen.last, "two");
    assert_string_equal(err.text, "no");
}

static void a_line_that_breaks(void **state)
{
    (void)state;
    static const char *const frames[] = {
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"fact\",\"name\":\"one\"}}", NULL};
    struct seen seen = {0};
    struct pfx_error err;
    int code = -1;
    pid_t child = serve(frames);
    assert_true(pfx_failed(ask(&seen, &code, &err)));
    reap(child);
    assert_int_equal(code, CLI_EXIT_UNREACHABLE);
    assert_int_equal(seen.items, 1);
    assert_non_null(strstr(err.text, "closed the line"));
}

static void answers_that_cannot_be_read(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"v\":2,\"t\":\"end\",\"id\":1,\"exit\":0}",
        "{\"v\":1,\"t\":\"job\",\"id\":1}",
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"fact\",\"surprise\":1}}",
        "{\"v\":1,\"t\":\"end\",\"id\":1,\"exit\":0,\"exit\":1}",
        "not json",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *const frames[] = {bad[i], NULL};
        struct seen seen = {0};
        struct pfx_error err;
        int code = -1;
        pid_t child = serve(frames);
        assert_true(pfx_failed(ask(&seen, &code, &err)));
        reap(child);
        assert_int_equal(code, CLI_EXIT_INTERNAL);
        assert_non_null(strstr(err.text, "of one version?"));
    }
}

static void unreachable_says_which_and_why(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct pfx_error err;
    int code = -1;
    (void)unlink(path);
    assert_true(pfx_failed(ask(&seen, &code, &err)));
    assert_int_equal(code, CLI_EXIT_UNREACHABLE);
    assert_non_null(strstr(err.text, "there is no socket"));
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "systemctl start pfx-agentd"));

    (void)close(listen_here()); /* the file stays */
    assert_true(pfx_failed(ask(&seen, &code, &err)));
    assert_int_equal(code, CLI_EXIT_UNREACHABLE);
    assert_non_null(strstr(err.text, "nobody listens"));

    (void)unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fclose(file);
    assert_true(pfx_failed(ask(&seen, &code, &err)));
    assert_int_equal(code, CLI_EXIT_UNREACHABLE);
    assert_non_null(strstr(err.text, "no socket"));
}

static void sockets_by_option_and_environment(void **state)
{
    (void)state;
    struct pfx_error err = PFX_ERROR_NONE;
    struct cli cli = {0};
    (void)setenv("PFX_AGENT_SOCKET", "/x/agent", 1);
    (void)setenv("PFX_HSM_SOCKET", "/x/hsm", 1);
    static const struct {
        enum cli_option_id id;
        const char *value;
        enum cli_peer peer;
        const char *expected;
    } cases[] = {
        {CLI_JSON, NULL, CLI_AGENT, "/x/agent"},
        {CLI_JSON, NULL, CLI_HSM, "/x/hsm"},
        {CLI_RUN_DIR, "/run/other", CLI_AGENT, "/run/other/cli"},
        {CLI_CLI_SOCKET, "/s", CLI_AGENT, "/s"},
        {CLI_ADMIN_SOCKET, "/a", CLI_HSM, "/a"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *found PFX_AUTOFREE = NULL;
        cli = (struct cli){0};
        cli.given[cases[i].id] = true;
        cli.values[cases[i].id] = cases[i].value;
        assert_true(pfx_ok(cli_socket(&cli, cases[i].peer, &found, &err)));
        assert_string_equal(found, cases[i].expected);
    }
    (void)unsetenv("PFX_AGENT_SOCKET");
    (void)unsetenv("PFX_HSM_SOCKET");
}

/* What a verb prints on one of the two streams. */
static char *printed(FILE *stream, int (*verb)(struct cli *), struct cli *cli)
{
    static char text[8192];
    char file[120];
    (void)snprintf(file, sizeof(file), "%s/printed", dir);
    (void)fflush(stream);
    int before = dup(fileno(stream)), fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(before >= 0 && fd >= 0);
    (void)dup2(fd, fileno(stream));
    (void)verb(cli);
    (void)fflush(stream);
    (void)dup2(before, fileno(stream));
    (void)close(before);
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    (void)close(fd);
    (void)unlink(file);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* Two users with the same trouble are two, each by name, and nobody is told that all is well. */
static void troubles_name_the_user(void **state)
{
    (void)state;
    static const char *const frames[] = {
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"trouble\",\"name\":\"a@x.test\","
        "\"what\":\"no address\",\"next\":\"set mail\"}}",
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"trouble\",\"name\":\"b@x.test\","
        "\"what\":\"no address\",\"next\":\"set mail\"}}",
        "{\"v\":1,\"t\":\"end\",\"id\":1,\"exit\":0}", NULL};
    struct cli cli = {.given = {[CLI_CLI_SOCKET] = true, [CLI_ADMIN_SOCKET] = true},
                      .values = {[CLI_CLI_SOCKET] = path, [CLI_ADMIN_SOCKET] = "/x/none"}};
    pid_t child = serve(frames);
    const char *text = printed(stdout, cli_do_status, &cli);
    reap(child);
    assert_non_null(strstr(text, "a@x.test: no address"));
    assert_non_null(strstr(text, "b@x.test: no address"));
    assert_non_null(strstr(text, "next: set mail"));
    assert_null(strstr(text, "nothing waits"));
}

static void a_run_says_the_next_step(void **state)
{
    (void)state;
    static const char *const frames[] = {
        "{\"v\":1,\"t\":\"item\",\"id\":1,\"body\":{\"kind\":\"trouble\",\"user\":\"a@x.test\","
        "\"why\":\"no address\",\"next\":\"set mail\"}}",
        "{\"v\":1,\"t\":\"end\",\"id\":1,\"exit\":1}", NULL};
    struct cli cli = {.given = {[CLI_CLI_SOCKET] = true, [CLI_ONCE] = true},
                      .values = {[CLI_CLI_SOCKET] = path}};
    pid_t child = serve(frames);
    const char *text = printed(stderr, cli_do_run, &cli);
    reap(child);
    assert_non_null(strstr(text, "a@x.test: no address; next: set mail"));
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_asked),
        cmocka_unit_test(items_and_end),
        cmocka_unit_test(a_line_that_breaks),
        cmocka_unit_test(answers_that_cannot_be_read),
        cmocka_unit_test(unreachable_says_which_and_why),
        cmocka_unit_test(sockets_by_option_and_environment),
        cmocka_unit_test(troubles_name_the_user),
        cmocka_unit_test(a_run_says_the_next_step),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
