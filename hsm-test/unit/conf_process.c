/* A hardened process, and its log. Each test hardens a child: there is no way back. */
#include "api_test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "api/conf/process.h"

/* Runs fn in a child with its stderr in a pipe; returns its exit status, and what it wrote. */
static int in_child(void (*fn)(void), char *ret_text, size_t size)
{
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        fn();
        _exit(0);
    }
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fds[0], ret_text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    ret_text[len] = 0;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void hardened(void)
{
    struct rlimit limit;
    struct stat st;
    pfx_process_harden("test");
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        _exit(1);
    if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0 || limit.rlim_max != 0)
        _exit(2);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        _exit(3);
    if (umask(0) != 077)
        _exit(4);
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) != 0 || action.sa_handler != SIG_IGN)
        _exit(5);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != limit.rlim_max)
        _exit(6);
    /* What isn't dumpable belongs to root, whoever runs it. */
    if (stat("/proc/self/mem", &st) != 0 || st.st_uid != 0)
        _exit(7);
}

static void hardening(void **state)
{
    (void)state;
    char text[1000];
    int status = in_child(hardened, text, sizeof(text));
    if (status != 0)
        fail_msg("status %d: %s", status, text);
}

static void as_another_user(void)
{
    if (setgid(54322) != 0 || setuid(54321) != 0)
        _exit(20);
    /* setuid has made it undumpable already; be sure that hardening does it. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        _exit(21);
    hardened();
    int fd = open("/proc/self/mem", O_RDONLY);
    if (fd >= 0)
        _exit(22);
}

static void hardening_without_root(void **state)
{
    (void)state;
    char text[1000];
    if (geteuid() != 0)
        skip();
    int status = in_child(as_another_user, text, sizeof(text));
    if (status != 0)
        fail_msg("status %d: %s", status, text);
}

static void without_fds(void)
{
    close(0);
    close(1);
    close(2);
    pfx_process_harden("test");
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFL) < 0)
            _exit(10 + fd);
    int next = open("/dev/null", O_RDONLY);
    if (next <= 2)
        _exit(13);
}

static void closed_fds(void **state)
{
    (void)state;
    char text[1000];
    assert_int_equal(in_child(without_fds, text, sizeof(text)), 0);
}

static void take_signals(void)
{
    int fd = -1;
    struct pfx_error err = PFX_ERROR_NONE;
    struct signalfd_siginfo info;
    if (pfx_failed(pfx_process_signals(&fd, &err)))
        _exit(1);
    if (read(fd, &info, sizeof(info)) >= 0) /* never blocks */
        _exit(2);
    kill(getpid(), SIGTERM);
    struct pollfd pfd = {fd, POLLIN, 0};
    if (poll(&pfd, 1, 5000) != 1 || read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info) ||
        info.ssi_signo != SIGTERM)
        _exit(3);
}

static void signals(void **state)
{
    (void)state;
    char text[1000];
    assert_int_equal(in_child(take_signals, text, sizeof(text)), 0);
}

static void write_log(void)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char longer[5000];
    memset(longer, 0xC3, sizeof(longer));
    for (size_t i = 1; i < sizeof(longer); i += 2)
        longer[i] = (char)0xA4;
    longer[sizeof(longer) - 1] = 0;
    unsetenv("JOURNAL_STREAM");
    pfx_log(PFX_LOG_INFO, "hello %s", "a\nforged line\x1b[31m");
    pfx_log(PFX_LOG_INFO, "umlaut \xC3\xA4 c1 \xC2\x9B");
    pfx_log(PFX_LOG_INFO, "latin1 \xE4");
    pfx_log(PFX_LOG_DEBUG, "never seen");
    pfx_log_level_set(PFX_LOG_DEBUG);
    pfx_log(PFX_LOG_DEBUG, "seen");
    pfx_result r = pfx_fail(&err, PFX_CLASS_REFUSED, "order", "17", "HTTP 403", "no");
    (void)r;
    pfx_log_error(&err, "user %d", 5);
    pfx_log(PFX_LOG_WARN, "x%s", longer);
}

static void log_lines(void **state)
{
    (void)state;
    char text[20000];
    assert_int_equal(in_child(write_log, text, sizeof(text)), 0);
    assert_has(text, " info: hello a?forged line?[31m\n");
    assert_has(text, " info: umlaut \xC3\xA4 c1 ??\n");
    assert_has(text, " info: latin1 ?\n");
    assert_null(strstr(text, "never seen"));
    assert_has(text, " debug: seen\n");
    assert_has(text, " error: user 5: order 17: no (HTTP 403)\n");
    assert_has(text, " warning: x\xC3\xA4\xC3\xA4");
    assert_has(text, "\xC3\xA4\n"); /* cut between characters */
    assert_int_equal(text[0], '2'); /* the year */
}

static void write_journal(void)
{
    struct stat st;
    char stream[64];
    fstat(STDERR_FILENO, &st);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    pfx_log(PFX_LOG_ERROR, "e");
    pfx_log(PFX_LOG_INFO, "i");
}

static void journal(void **state)
{
    (void)state;
    char text[1000];
    assert_int_equal(in_child(write_journal, text, sizeof(text)), 0);
    assert_string_equal(text, "<3>e\n<6>i\n");
}

static void clocks(void **state)
{
    (void)state;
    int64_t a = pfx_uptime_ms();
    assert_true(pfx_now_ms() > 1700000000000);
    usleep(3000);
    assert_true(pfx_uptime_ms() > a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hardening),  cmocka_unit_test(hardening_without_root),
        cmocka_unit_test(closed_fds), cmocka_unit_test(signals),
        cmocka_unit_test(log_lines),  cmocka_unit_test(journal),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
