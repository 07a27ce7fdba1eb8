/* What a process does to itself before anything else. */
#include "api/conf/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/secret.h"

static _Noreturn void give_up(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
    _exit(70);
}

/* Else the first file or socket that is opened becomes "stdout" and is written to. */
static void open_standard_fds(const char *name)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        int null = open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
        if (null != fd) /* the lowest free one is fd */
            give_up(name, "can't open /dev/null");
    }
}

void pfx_process_harden(const char *name)
{
    open_standard_fds(name);
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        give_up(name, "can't forbid debuggers and core files");
    struct rlimit core = {0, 0};
    if (setrlimit(RLIMIT_CORE, &core) != 0)
        give_up(name, "can't forbid core files");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        give_up(name, "can't give up new privileges");
    umask(077);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (sigaction(SIGPIPE, &ignore, NULL) != 0)
        give_up(name, "can't ignore SIGPIPE");
    /* As much locked memory for secrets as we may have: how much is needed shows in use. */
    struct rlimit lock;
    if (getrlimit(RLIMIT_MEMLOCK, &lock) == 0 && lock.rlim_cur != lock.rlim_max) {
        lock.rlim_cur = lock.rlim_max;
        if (setrlimit(RLIMIT_MEMLOCK, &lock) != 0)
            give_up(name, "can't raise the limit of locked memory");
    }
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_secret_setup(&err))) {
        char line[1024];
        fprintf(stderr, "%s: %s\n", name, pfx_error_line(&err, line, sizeof(line)));
        _exit(70);
    }
}

static bool locked;

void pfx_process_lock(void)
{
    /* A failure costs only what swap may show. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
        locked = mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
}

bool pfx_process_locked(void)
{
    return locked;
}

pfx_result pfx_process_signals(int *ret_fd, struct pfx_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    /* Threads that are started later inherit the mask. */
    int errnum = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (errnum != 0)
        return pfx_fail_errno(err, errnum, "signals", "process", "");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "signals", "process", "");
    *ret_fd = fd;
    return PFX_OK;
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t pfx_now_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t pfx_uptime_ms(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}
