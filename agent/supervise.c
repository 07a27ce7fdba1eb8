#include "agent/supervise.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/timing.h"
#include "api/conf/process.h"
#include "crypto/mem.h"

#define BACKOFF_MIN PFX_SECOND
#define BACKOFF_MAX (30 * PFX_SECOND)
#define STEADY (60 * PFX_SECOND) /* whoever ran so long starts with the shortest back-off again */
#define STOP_MS 5000
#define STOP_MORE_MS 2000 /* to be killed and collected */
#define LOOK_MS 100       /* for one that ended */

struct child {
    const char *name;
    char *path;
    const char *option; /* of its file */
    char *file;         /* NULL: its default */
    pid_t pid;          /* 0: not running */
    int64_t started, start_at;
    unsigned ended; /* times in a row */
};
/* Of the watching process. */
struct watch {
    struct child v[2];
    int line; /* to pfx-agentd */
};
/* Of pfx-agentd. */
struct pfx_children {
    int line;
};

static pfx_result own_folder(char *out, size_t size, struct pfx_error *err)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    if (n < 0)
        return pfx_fail_errno(err, errno, "find own program", "/proc/self/exe", "mount /proc");
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
    return PFX_OK;
}

/* Between fork and exec only: nothing of this process may be used or cleaned up any more. */
static _Noreturn void become(const struct child *c, pid_t parent)
{
    char *with_file[] = {(char *)(uintptr_t)c->name, (char *)(uintptr_t)c->option, c->file,
                         (char *)(uintptr_t) "--child", NULL};
    char *without[] = {(char *)(uintptr_t)c->name, (char *)(uintptr_t) "--child", NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    /* An arm without its pfx-agentd would be in the way of the next one's. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 || getppid() != parent)
        _exit(127);
    execv(c->path, c->file ? with_file : without);
    _exit(127);
}

static void start(struct child *c, int64_t uptime_ms)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(c, parent);
    c->started = uptime_ms;
    if (pid < 0) {
        pfx_log(PFX_LOG_ERROR, "%s can't be started: %s", c->name, strerror(errno));
        c->start_at = uptime_ms + BACKOFF_MAX;
        return;
    }
    c->pid = pid;
    pfx_log(PFX_LOG_INFO, "%s started (pid %d)", c->name, (int)pid);
}

static void ended(struct child *c, int status, int64_t uptime_ms)
{
    char how[64];
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        pfx_log(PFX_LOG_ERROR,
                "%s (pid %d) was ended by its sandbox (SIGSYS): it tried a system call that it "
                "doesn't need. Take it for an attack: keep the logs. Its last line names the call, "
                "or the kernel's log does (journalctl -k --grep type=1326, ausearch -m SECCOMP)",
                c->name, (int)c->pid);
    if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof(how), "exit code %d", WEXITSTATUS(status));
    if (uptime_ms - c->started > STEADY)
        c->ended = 0;
    int64_t wait = pfx_backoff(c->ended++, BACKOFF_MIN, BACKOFF_MAX, 0);
    pfx_log(PFX_LOG_WARN, "%s (pid %d) ended with %s; started again in %lld ms", c->name,
            (int)c->pid, how, (long long)wait);
    c->pid = 0;
    c->start_at = uptime_ms + wait;
}

static int64_t step(struct watch *watch, int64_t uptime_ms)
{
    int64_t wait = INT64_MAX;
    for (int i = 0; i < 2; i++) {
        struct child *c = &watch->v[i];
        int status;
        if (c->pid && waitpid(c->pid, &status, WNOHANG) == c->pid)
            ended(c, status, uptime_ms);
        if (!c->pid && uptime_ms >= c->start_at)
            start(c, uptime_ms);
        if (!c->pid && c->start_at - uptime_ms < wait)
            wait = c->start_at - uptime_ms;
    }
    return wait < 0 ? 0 : wait;
}

static void stop(struct watch *watch)
{
    for (int i = 0; i < 2; i++)
        if (watch->v[i].pid)
            kill(watch->v[i].pid, SIGTERM);
    int64_t until = pfx_uptime_ms() + STOP_MS;
    for (int i = 0; i < 2; i++) {
        struct child *c = &watch->v[i];
        while (c->pid && waitpid(c->pid, NULL, WNOHANG) == 0) {
            if (pfx_uptime_ms() > until) {
                pfx_log(PFX_LOG_WARN, "%s (pid %d) doesn't end: killed", c->name, (int)c->pid);
                kill(c->pid, SIGKILL);
                waitpid(c->pid, NULL, 0);
                break;
            }
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        }
    }
}

/* A byte from pfx-agentd: start. The end of the line: pfx-agentd ends, or is dead. */
static bool heard(struct watch *watch, int64_t wait_ms)
{
    struct pollfd line = {.fd = watch->line, .events = POLLIN};
    char byte;
    if (poll(&line, 1, (int)wait_ms) <= 0)
        return true;
    return read(watch->line, &byte, 1) == 1;
}

static _Noreturn void watch_over(struct watch *watch)
{
    prctl(PR_SET_NAME, "pfx-arms");
    /* A terminal and a service manager send these to all; what counts is the line's end. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    char byte;
    bool go = read(watch->line, &byte, 1) == 1;
    while (go) {
        int64_t wait = step(watch, pfx_uptime_ms());
        go = heard(watch, wait < LOOK_MS ? wait : LOOK_MS);
    }
    stop(watch);
    _exit(0);
}

static void watch_done(struct watch *watch)
{
    for (int i = 0; i < 2; i++) {
        free(watch->v[i].path);
        free(watch->v[i].file);
    }
}

static pfx_result split(struct watch *watch, int *ret_line, struct pfx_error *err)
{
    int pair[2];
    for (int i = 0; i < 2; i++)
        if (access(watch->v[i].path, X_OK) != 0)
            return pfx_fail_errno(err, errno, "--with-arms", watch->v[i].path,
                                  "install pfx-hsm and pfx-uploader beside pfx-agentd, or start "
                                  "them by themselves");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return pfx_fail_errno(err, errno, "--with-arms", "socketpair", NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        watch->line = pair[1];
        watch_over(watch);
    }
    int errnum = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return pfx_fail_errno(err, errnum, "--with-arms", "fork", NULL);
    }
    *ret_line = pair[0];
    return PFX_OK;
}

pfx_result pfx_children_split(const char *hsm_policy, const char *uploader_config,
                              struct pfx_children **ret_children, struct pfx_error *err)
{
    char dir[PATH_MAX];
    PFX_TRY(own_folder(dir, sizeof(dir), err));
    static const char *const names[] = {"pfx-hsm", "pfx-uploader"};
    static const char *const options[] = {"--policy", "--config"};
    const char *files[] = {hsm_policy, uploader_config};
    struct watch watch;
    for (int i = 0; i < 2; i++)
        watch.v[i] = (struct child){.name = names[i],
                                    .path = pfx_asprintf("%s/%s", dir, names[i]),
                                    .option = options[i],
                                    .file = files[i] ? pfx_strdup(files[i]) : NULL};
    int line = -1;
    pfx_result r = split(&watch, &line, err);
    watch_done(&watch);
    if (pfx_failed(r))
        return r;
    struct pfx_children *children = pfx_alloc(sizeof(*children));
    children->line = line;
    *ret_children = children;
    return PFX_OK;
}

void pfx_children_start(struct pfx_children *children)
{
    /* One that is gone already is told by its end of the line. */
    (void)!write(children->line, "g", 1);
}

int pfx_children_fd(const struct pfx_children *children)
{
    return children ? children->line : -1;
}

void pfx_children_stop(struct pfx_children *children)
{
    if (!children)
        return;
    char byte;
    struct pollfd line = {.fd = children->line, .events = POLLIN};
    shutdown(children->line, SHUT_WR);
    /* The watching process ends last. */
    if (poll(&line, 1, STOP_MS + STOP_MORE_MS) > 0)
        (void)!read(children->line, &byte, 1);
    close(children->line);
    free(children);
}
