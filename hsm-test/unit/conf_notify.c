/* The sd_notify protocol, as the one who listens sees it. */
#include "api_test.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "api/conf/notify.h"

static const char *folder;
static char notify_path[100];

/* Listens at a path, or at an abstract address where the name begins with "@". */
static int listen_at(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    memcpy(addr.sun_path, name, strlen(name));
    if (name[0] == '@')
        addr.sun_path[0] = '\0';
    else
        (void)unlink(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    return fd;
}

static const char *heard(int fd)
{
    static char text[1024];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    if (n < 0)
        return NULL;
    text[n] = '\0';
    return text;
}

static int set_up(void **state)
{
    (void)state;
    folder = test_folder();
    snprintf(notify_path, sizeof notify_path, "%s/notify", folder);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pfx_notify_done();
    test_remove_folder(folder);
    return 0;
}

static void nobody_listens(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "3000000", 1);
    pfx_notify_setup();
    pfx_notify_ready("on");
    pfx_notify_stopping();
    assert_true(pfx_notify_beat(true, 1) == INT64_MAX);
}

static void tells(const char *name)
{
    int fd = listen_at(name);
    setenv("NOTIFY_SOCKET", name, 1);
    pfx_notify_setup();
    assert_null(getenv("NOTIFY_SOCKET"));
    pfx_notify_ready("two\nlines\x1b");
    assert_string_equal(heard(fd), "READY=1\nSTATUS=two lines ");
    assert_true(pfx_notify_beat(true, 1) == INT64_MAX); /* nobody watches */
    pfx_notify_stopping();
    assert_string_equal(heard(fd), "STOPPING=1");
    assert_null(heard(fd));
    close(fd);
}

static void tells_a_path(void **state)
{
    (void)state;
    tells(notify_path);
}

static void tells_an_abstract_address(void **state)
{
    char name[64];
    (void)state;
    snprintf(name, sizeof name, "@pfx-test-%d", (int)getpid());
    tells(name);
}

static void a_new_listener_is_heard_by(void **state)
{
    (void)state;
    int fd = listen_at(notify_path);
    setenv("NOTIFY_SOCKET", notify_path, 1);
    pfx_notify_setup();
    close(fd);
    pfx_notify_ready("nobody there");
    fd = listen_at(notify_path);
    pfx_notify_stopping();
    assert_string_equal(heard(fd), "STOPPING=1");
    close(fd);
}

/* Its queue is full, and there is room a moment later. */
static void a_busy_listener_is_waited_for(void **state)
{
    (void)state;
    int fd = listen_at(notify_path), flood = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", notify_path);
    unsigned queued = 0;
    while (sendto(flood, "x", 1, 0, (struct sockaddr *)&at, sizeof at) == 1)
        queued++;
    setenv("NOTIFY_SOCKET", notify_path, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    pfx_notify_setup();
    (void)pfx_notify_beat(true, 1); /* isn't waited with */
    pid_t child = fork();
    if (child == 0) {
        pfx_notify_ready("at last");
        _exit(0);
    }
    usleep(100000);
    for (; queued > 0; queued--)
        assert_string_equal(heard(fd), "x");
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_string_equal(heard(fd), "READY=1\nSTATUS=at last");
    assert_null(heard(fd));
    close(flood);
    close(fd);
}

static void beats(void **state)
{
    (void)state;
    int fd = listen_at(notify_path);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("NOTIFY_SOCKET", notify_path, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    pfx_notify_setup();
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    /* At the first turn, then after a third of the time-out, and not before. */
    assert_int_equal(pfx_notify_beat(true, 5000), 1000);
    assert_string_equal(heard(fd), "WATCHDOG=1");
    assert_int_equal(pfx_notify_beat(true, 5400), 600);
    assert_null(heard(fd));
    assert_int_equal(pfx_notify_beat(true, 6000), 1000);
    assert_string_equal(heard(fd), "WATCHDOG=1");
    /* Whoever isn't well is silent, and well again at once. */
    int64_t again = pfx_notify_beat(false, 7000);
    assert_true(again > 0 && again < 1000);
    assert_null(heard(fd));
    assert_int_equal(pfx_notify_beat(true, 7000 + again), 1000);
    assert_string_equal(heard(fd), "WATCHDOG=1");
    close(fd);
}

static void another_process_is_watched(void **state)
{
    (void)state;
    int fd = listen_at(notify_path);
    setenv("NOTIFY_SOCKET", notify_path, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    pfx_notify_setup();
    assert_true(pfx_notify_beat(true, 5000) == INT64_MAX);
    assert_null(heard(fd));
    close(fd);
}

static void what_is_no_number_or_no_address(void **state)
{
    static const char *const usecs[] = {"", "0", "-1", "soon", "9999999999999999999999"};
    static const char *const names[] = {"", "/", "@", "vsock:2:1", "relative"};
    (void)state;
    int fd = listen_at(notify_path);
    for (size_t i = 0; i < sizeof usecs / sizeof *usecs; i++) {
        setenv("NOTIFY_SOCKET", notify_path, 1);
        setenv("WATCHDOG_USEC", usecs[i], 1);
        pfx_notify_setup();
        assert_true(pfx_notify_beat(true, 5000) == INT64_MAX);
        assert_null(heard(fd));
        pfx_notify_done();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        setenv("WATCHDOG_USEC", "3000000", 1);
        pfx_notify_setup();
        pfx_notify_ready("on");
        assert_true(pfx_notify_beat(true, 5000) == INT64_MAX);
        assert_null(getenv("NOTIFY_SOCKET"));
        pfx_notify_done();
    }
    char longer[200];
    memset(longer, 'a', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    setenv("NOTIFY_SOCKET", longer, 1);
    pfx_notify_setup();
    pfx_notify_ready("on");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_listens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_a_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_an_abstract_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_listener_is_heard_by, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_busy_listener_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(beats, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_process_is_watched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_number_or_no_address, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
