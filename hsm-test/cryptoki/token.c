/*
 * pfx-test-token: holds a real Cryptoki module, and lets libpfx_test_token.so in other processes
 * call it; README.md says how. Each application that connects gets a process of its own, which
 * loads the module: so it has logins, sessions and session objects of its own, as it would have
 * with the module in itself, and loses them with its connection. This process only listens, and
 * serves the control socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm-test/cryptoki/ahead.h"
#include "hsm-test/cryptoki/faults.h"
#include "hsm-test/cryptoki/serve.h"

#define MAX_CONTROLS 16

static struct tt_real real;
static const char *path; /* of the socket */
static pid_t parent;     /* ends with it; 0: with nobody */

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "pfx-test-token: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_at(const char *at)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(at) >= sizeof name.sun_path) {
        errno = ENAMETOOLONG;
        fail(at);
    }
    memcpy(name.sun_path, at, strlen(at) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)unlink(at);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0 || listen(fd, 64) != 0)
        fail(at);
    return fd;
}

static void kill_apps(void)
{
    tt_lock();
    for (size_t i = 0; i < TT_MAX_APPS; i++) {
        if (tt_shared->apps[i] > 0)
            kill(tt_shared->apps[i], SIGKILL);
    }
    tt_unlock();
}

static void reap(void)
{
    char own[sizeof(struct sockaddr_un)];
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        snprintf(own, sizeof own, "%s.%d", path, (int)pid);
        (void)unlink(own);
        tt_lock();
        for (size_t i = 0; i < TT_MAX_APPS; i++) {
            if (tt_shared->apps[i] == pid)
                tt_shared->apps[i] = 0;
        }
        tt_unlock();
    }
}

/* In a process of its own, from here on. */
_Noreturn static void application(int fd)
{
    char own[sizeof(struct sockaddr_un)];
    snprintf(own, sizeof own, "%s.%d", path, (int)getpid());
    int calls = listen_at(own);
    struct tt_frame hello = {0};
    tt_put_bytes(&hello, own, strlen(own));
    if (!tt_send(fd, &hello))
        _exit(0);
    tt_done(&hello);
    tt_serve(&real, fd, calls);
}

static void admit(int listener, const struct pollfd *others, size_t n)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    tt_lock();
    bool gone = tt_shared->gone;
    size_t place = 0;
    while (place < TT_MAX_APPS && tt_shared->apps[place] != 0)
        place++;
    if (place < TT_MAX_APPS)
        tt_shared->apps[place] = gone ? 0 : -1;
    tt_unlock();
    if (gone || place == TT_MAX_APPS) {
        close(fd);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < n; i++)
            close(others[i].fd);
        application(fd);
    }
    tt_lock();
    tt_shared->apps[place] = pid > 0 ? pid : 0;
    tt_unlock();
    close(fd);
}

/* A line, its answer; false at the end. A test writes whole lines. */
static bool control(int fd)
{
    char line[512];
    ssize_t n = recv(fd, line, sizeof line - 1, 0);
    if (n <= 0)
        return false;
    line[n] = '\0';
    FILE *out = fdopen(dup(fd), "w");
    if (!out)
        return false;
    tt_control(line, out, kill_apps);
    return fclose(out) == 0;
}

static void read_args(int argc, char **argv)
{
    static const char usage[] =
        "usage: pfx-test-token --socket PATH --module FILE [--parameters TEXT] [--needles]\n"
        "       [--with-parent] [--keys-ahead FILE]\n";
    const char *ahead = NULL;
    bool needles = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--needles") == 0) {
            needles = true;
            continue;
        }
        if (strcmp(argv[i], "--with-parent") == 0) {
            parent = getppid();
            continue;
        }
        i++;
        if (value && strcmp(argv[i - 1], "--socket") == 0) {
            path = value;
        } else if (value && strcmp(argv[i - 1], "--module") == 0) {
            real.module = value;
        } else if (value && strcmp(argv[i - 1], "--parameters") == 0) {
            real.parameters = value;
        } else if (value && strcmp(argv[i - 1], "--keys-ahead") == 0) {
            ahead = value;
        } else {
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (!path || !real.module) {
        fputs(usage, stderr);
        exit(2);
    }
    tt_shared_new();
    tt_shared->needles = needles;
    if (ahead)
        tt_ahead_load(ahead);
}

int main(int argc, char **argv)
{
    char controls[sizeof(struct sockaddr_un)];
    struct stat st;
    read_args(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    umask(0077);
    snprintf(controls, sizeof controls, "%s.control", path);
    struct pollfd polled[2 + MAX_CONTROLS] = {{.fd = listen_at(controls), .events = POLLIN},
                                              {.fd = listen_at(path), .events = POLLIN}};
    size_t n = 2;
    /* Whoever removed the socket's folder wants no token any more. */
    while (stat(path, &st) == 0 && (!parent || getppid() == parent)) {
        int ready = poll(polled, n, 200);
        reap();
        if (ready <= 0)
            continue;
        if (polled[1].revents & POLLIN)
            admit(polled[1].fd, polled, n);
        if (polled[0].revents & POLLIN && n < 2 + MAX_CONTROLS) {
            int fd = accept4(polled[0].fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0)
                polled[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        for (size_t i = n; i-- > 2;) {
            if (polled[i].revents && !control(polled[i].fd)) {
                close(polled[i].fd);
                polled[i] = polled[--n];
            }
        }
    }
    kill_apps();
    return 0;
}
