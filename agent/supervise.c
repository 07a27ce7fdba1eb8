#include "agent/supervise.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
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

struct child {
    const char *name;
    char *path;
    const char *option; /* of its file */
    char *file;         /* NULL: its default */
    pid_t pid;          /* 0: not running */
    int64_t started, start_at;
    unsigned ended; /* times in a row */
};
struct pfx_children {
    struct child v[2];
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

pfx_result pfx_children_start(const char *hsm_policy, const char *uploader_config,
                              struct pfx_children **ret_children, struct pfx_error *err)
{
    char dir[PATH_MAX];
    PFX_TRY(own_folder(dir, sizeof(dir), err));
    static const char *const names[] = {"pfx-hsm", "pfx-uploader"};
    static const char *const options[] = {"--policy", "--config"};
    const char *files[] = {hsm_policy, uploader_config};
    struct pfx_children *children = pfx_alloc(sizeof(*children));
    for (int i = 0; i < 2; i++)
        children->v[i] = (struct child){.name = names[i],
                                        .path = pfx_asprintf("%s/%s", dir, names[i]),
                                        .option = options[i],
                                        .file = files[i] ? pfx_strdup(files[i]) : NULL};
    for (int i = 0; i < 2; i++) {
        if (access(children->v[i].path, X_OK) == 0)
            continue;
        pfx_result r =
            pfx_fail_errno(err, errno, "--with-arms", children->v[i].path,
                           "install pfx-hsm and pfx-uploader beside pfx-agentd, or start "
                           "them by themselves");
        pfx_children_stop(children);
        return r;
    }
    *ret_children = children;
    return PFX_OK;
}

static void ended(struct child *c, int status, int64_t uptime_ms)
{
    char how[64];
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

int64_t pfx_children_step(struct pfx_children *children, int64_t uptime_ms)
{
    int64_t wait = INT64_MAX;
    for (int i = 0; i < 2; i++) {
        struct child *c = &children->v[i];
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

void pfx_children_stop(struct pfx_children *children)
{
    if (!children)
        return;
    for (int i = 0; i < 2; i++)
        if (children->v[i].pid)
            kill(children->v[i].pid, SIGTERM);
    int64_t until = pfx_uptime_ms() + STOP_MS;
    for (int i = 0; i < 2; i++) {
        struct child *c = &children->v[i];
        while (c->pid && waitpid(c->pid, NULL, WNOHANG) == 0) {
            if (pfx_uptime_ms() > until) {
                pfx_log(PFX_LOG_WARN, "%s (pid %d) doesn't end: killed", c->name, (int)c->pid);
                kill(c->pid, SIGKILL);
                waitpid(c->pid, NULL, 0);
                break;
            }
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        }
        free(c->path);
        free(c->file);
    }
    free(children);
}
