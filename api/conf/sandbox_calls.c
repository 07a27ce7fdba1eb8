/* seccomp: which system calls a process may make. Groups with their reason, and a row for each
 * process that names its groups.
 *
 * A call that isn't in them traps into a handler that writes one line with its name, and then ends
 * the process by a call that the filter kills for (SIGSYS either way). The handler can't be put out
 * of the way: changing it is such a call as well, and with SIGSYS blocked the kernel kills at once.
 * What no library tries by accident is killed without a word; the kernel's audit record has it. */
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "api/conf/sandbox_impl.h"
#include "crypto/secret.h"

enum group {
    G_MEMORY,
    G_SECRETS,
    G_TIME,
    G_SELF,
    G_SIGNALS,
    G_WAITING,
    G_IO,
    G_READING,
    G_WRITING,
    G_LISTENING,
    G_SOCKETS,
    G_NETWORK,
    G_THREADS,
    G_SHARED,
    G_SANITIZER,
    GROUPS
};

static const char *const calls[GROUPS][48] = {
    /* malloc, thread stacks, locked pages of secrets. mmap, mprotect and shmat are filtered below:
     * nothing becomes executable. */
    [G_MEMORY] = {"brk", "munmap", "mremap", "madvise", "mlock", "mlock2", "munlock", "msync",
                  "mincore"},
    /* Secrets in pages that the kernel doesn't map: a file, its size, and mmap. */
    [G_SECRETS] = {"memfd_secret", "ftruncate"},
    /* Mostly answered without the kernel, but not on every machine. */
    [G_TIME] = {"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday",
                "time", "times"},
    /* Who and where it is; limits only to look at (prlimit64 below). */
    [G_SELF] = {"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid",
                "getgroups", "getrusage", "getrlimit", "uname", "sysinfo", "getrandom", "getcwd",
                "getcpu", "exit", "exit_group", "sched_getaffinity", "sched_yield"},
    /* abort() and the handlers of libraries (none for SIGSYS: below); kill and tgkill below. */
    [G_SIGNALS] = {"rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
                   "rt_sigtimedwait", "rt_sigpending", "rt_sigaction"},
    /* poll of the loops; epoll and the like in libcurl and modules; the C library's own locks. */
    [G_WAITING] = {"futex", "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl",
                   "epoll_wait", "epoll_pwait", "eventfd2", "pipe2", "timerfd_create",
                   "timerfd_settime", "signalfd4"},
    [G_IO] = {"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev",
              "lseek", "close", "dup", "dup2", "dup3", "fcntl", "fstat", "fadvise64"},
    /* Which files they are is Landlock's matter, and before it that of users and modes. */
    [G_READING] = {"open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
                   "faccessat2", "readlink", "readlinkat", "getdents64", "statfs", "fstatfs",
                   "umask"},
    /* The store, the operation log, tokens that are files. */
    [G_WRITING] = {"fsync",    "fdatasync", "ftruncate", "fallocate", "flock", "rename",
                   "renameat", "renameat2", "unlink",    "unlinkat",  "mkdir", "mkdirat",
                   "rmdir",    "chmod",     "fchmod",    "fchmodat",  "chown", "fchown",
                   "fchownat", "utimensat", "creat",     "truncate",  "link",  "linkat"},
    /* Sockets that were bound before. */
    [G_LISTENING] = {"accept", "accept4"},
    /* The other processes' sockets, and services that look users up; socket() below. */
    [G_SOCKETS] = {"connect", "recvfrom", "recvmsg", "shutdown", "getsockopt", "setsockopt",
                   "getsockname", "getpeername"},
    /* Name servers are asked for both families at once. */
    [G_NETWORK] = {"recvmmsg"},
    /* clone below: threads only. */
    [G_THREADS] = {"set_robust_list", "get_robust_list", "rseq", "set_tid_address", "membarrier"},
    /* How modules speak to a daemon of theirs (opencryptoki: shared memory, semaphores). */
    [G_SHARED] = {"shmget", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl"},
    /* Sanitizer builds only: the leak checker stops its own process from a child that traces it. */
    [G_SANITIZER] = {"ptrace", "wait4", "waitid", "clone", "prctl", "arch_prctl", "getdents",
                     "sched_getparam", "sched_getscheduler", "setrlimit", "tkill", "personality",
                     "process_vm_readv"},
};

#define BIT(group) (1u << (group))
#define BASE                                                                                       \
    (BIT(G_MEMORY) | BIT(G_TIME) | BIT(G_SELF) | BIT(G_SIGNALS) | BIT(G_WAITING) | BIT(G_IO) |     \
     BIT(G_READING) | BIT(G_SOCKETS) | (PFX_SANDBOX_SANITIZER ? BIT(G_SANITIZER) : 0u))
static const unsigned groups_of[] = {
    [PFX_SANDBOX_AGENTD] = BASE | BIT(G_WRITING) | BIT(G_LISTENING),
    [PFX_SANDBOX_HSM] = BASE | BIT(G_SECRETS) | BIT(G_WRITING) | BIT(G_LISTENING) |
                        BIT(G_THREADS) | BIT(G_SHARED),
    [PFX_SANDBOX_HSM_NETWORK] = BASE | BIT(G_SECRETS) | BIT(G_WRITING) | BIT(G_LISTENING) |
                                BIT(G_THREADS) | BIT(G_SHARED) | BIT(G_NETWORK),
    [PFX_SANDBOX_UPLOADER] = BASE | BIT(G_SECRETS) | BIT(G_NETWORK) | BIT(G_THREADS),
};

/* Made by no library of ours, and by whoever wants out. */
static const char *const deadly[] = {
    "execve",
    "execveat",
    "fork",
    "vfork",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "kcmp",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsmount",
    "fsconfig",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "keyctl",
    "add_key",
    "request_key",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "iopl",
    "ioperm",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "capset",
    "personality",
    "seccomp",
    "modify_ldt",
    "syslog",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "sethostname",
    "setdomainname",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "name_to_handle_at",
    "open_by_handle_at",
    "memfd_create",
    "quotactl",
    "fanotify_init",
    "lookup_dcookie",
    "setrlimit",
    "pkey_mprotect",
    "vmsplice",
};

/* --- the line that tells of a call ---------------------------------------------------------- */

#define NAMES 512
static char *names[NAMES]; /* a handler can't look them up */
static char told[64];      /* "pfx-hsm" */

static size_t put(char *line, size_t at, size_t size, const char *text)
{
    while (*text && at + 1 < size)
        line[at++] = *text++;
    return at;
}

static size_t put_number(char *line, size_t at, size_t size, unsigned long n, unsigned base)
{
    char digits[24];
    size_t i = sizeof digits;
    digits[--i] = '\0';
    do
        digits[--i] = "0123456789abcdef"[n % base];
    while ((n /= base) != 0 && i > 0);
    return put(line, at, size, digits + i);
}

/* Only what may be called in a handler. */
static void on_violation(int number, siginfo_t *info, void *context)
{
    char line[512];
    size_t n = 0;
    int call = info->si_code == 1 /* SYS_SECCOMP */ ? info->si_syscall : -1;
    (void)number;
    (void)context;
    n = put(line, n, sizeof line, told);
    n = put(line, n, sizeof line, ": the sandbox ends this process: system call ");
    n = put_number(line, n, sizeof line, (unsigned long)(unsigned)call, 10);
    n = put(line, n, sizeof line, " (");
    n = put(line, n, sizeof line, call >= 0 && call < NAMES && names[call] ? names[call] : "?");
#if defined(__x86_64__)
    const ucontext_t *at = context;
    static const int registers[] = {REG_RDI, REG_RSI, REG_RDX};
    for (size_t i = 0; i < sizeof registers / sizeof *registers; i++) {
        n = put(line, n, sizeof line, i ? ", 0x" : " with 0x");
        n = put_number(line, n, sizeof line, (unsigned long)at->uc_mcontext.gregs[registers[i]],
                       16);
    }
#endif
    n = put(line, n, sizeof line,
            ") isn't one that it needs. Take it for an attack unless a PKCS#11 module was changed "
            "or made it (sandbox in hsm-policy.yaml); keep this line and report it\n");
    (void)!write(STDERR_FILENO, line, n);
    for (;;) {
        (void)syscall(SYS_rt_sigaction, SIGSYS, NULL, NULL, 8); /* the filter kills for it */
        _exit(128 + SIGSYS);
    }
}

static bool handler(const char *name)
{
    snprintf(told, sizeof told, "%s", name);
    for (int i = 0; i < NAMES; i++)
        if (!names[i])
            names[i] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
    struct sigaction action = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    return sigaction(SIGSYS, &action, NULL) == 0;
}

/* --- the filter ------------------------------------------------------------------------------- */

#define ALLOW SCMP_ACT_ALLOW
#define BITS(n, mask, value)                                                                       \
    SCMP_CMP64((n), SCMP_CMP_MASKED_EQ, (scmp_datum_t)(mask), (scmp_datum_t)(value))
/* The kernel looks at the lower half of an int, whatever stands in the upper one. */
#define INT(n, value) BITS(n, 0xffffffffu, value)
#define RULE(action, name, count, ...) rule(ctx, (action), SCMP_SYS(name), (count), __VA_ARGS__)

static bool rule(scmp_filter_ctx ctx, uint32_t action, int call, unsigned count,
                 struct scmp_arg_cmp a, struct scmp_arg_cmp b)
{
    struct scmp_arg_cmp args[] = {a, b};
    return seccomp_rule_add_array(ctx, action, call, count, args) == 0;
}
static const struct scmp_arg_cmp none; /* in the place of an argument that doesn't matter */

static bool plain(scmp_filter_ctx ctx, uint32_t action, const char *name)
{
    int call = seccomp_syscall_resolve_name(name);
    /* Not one of this machine's (there is no open on arm64). */
    int rc = call < 0 ? 0 : seccomp_rule_add(ctx, action, call, 0);
    return rc == 0 || rc == -EEXIST;
}

static bool listed(scmp_filter_ctx ctx, unsigned groups)
{
    for (unsigned g = 0; g < GROUPS; g++)
        for (size_t i = 0; (groups & BIT(g)) && i < 48 && calls[g][i]; i++)
            if (!plain(ctx, ALLOW, calls[g][i]))
                return false;
    return true;
}

static bool is_listed(const char *name, unsigned groups)
{
    for (unsigned g = 0; g < GROUPS; g++)
        for (size_t i = 0; (groups & BIT(g)) && i < 48 && calls[g][i]; i++)
            if (strcmp(calls[g][i], name) == 0)
                return true;
    return false;
}

static bool forbidden(scmp_filter_ctx ctx, unsigned groups)
{
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        if (!is_listed(deadly[i], groups) && !plain(ctx, SCMP_ACT_KILL_PROCESS, deadly[i]))
            return false;
    return true;
}

static bool memory(scmp_filter_ctx ctx, const struct pfx_sandbox *sandbox)
{
    bool ok = RULE(ALLOW, mmap, 1, BITS(2, PROT_EXEC, 0), none) &&
              RULE(ALLOW, mprotect, 1, BITS(2, PROT_EXEC, 0), none);
    if (groups_of[sandbox->whom] & BIT(G_SHARED))
        ok = ok && RULE(ALLOW, shmat, 1, BITS(2, SHM_EXEC, 0), none);
    /* From a file, and never writable. */
    if (sandbox->late_code)
        ok = ok && RULE(ALLOW, mmap, 2, BITS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC),
                        BITS(3, MAP_ANONYMOUS, 0));
    /* A resolver's library that getaddrinfo looks for late isn't mapped, and it asks the next. */
    else if (sandbox->whom == PFX_SANDBOX_UPLOADER)
        ok = ok && RULE(SCMP_ACT_ERRNO(EPERM), mmap, 1, BITS(2, PROT_EXEC, PROT_EXEC), none);
    return ok;
}

#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

static bool threads(scmp_filter_ctx ctx, unsigned groups)
{
    unsigned of_thread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;
    /* Its flags lie in memory, where no filter can look: the C library takes clone then. */
    bool ok = RULE(SCMP_ACT_ERRNO(ENOSYS), clone3, 0, none, none);
    if ((groups & BIT(G_THREADS)) && !PFX_SANDBOX_SANITIZER)
        ok = ok && RULE(ALLOW, clone, 1, BITS(0, of_thread | NAMESPACES, of_thread), none);
    return ok;
}

static bool signals_and_limits(scmp_filter_ctx ctx)
{
    pid_t self = getpid();
    /* raise(), abort(), pthread_kill(): to itself. */
    bool ok =
        RULE(ALLOW, tgkill, 1, INT(0, self), none) && RULE(ALLOW, kill, 1, INT(0, self), none);
    /* To look at a limit of its own, not to set one. */
    ok = ok && RULE(ALLOW, prlimit64, 2, INT(0, 0), BITS(2, UINT64_MAX, 0));
    if (!PFX_SANDBOX_SANITIZER) /* names of threads */
        ok = ok && RULE(ALLOW, prctl, 1, INT(0, PR_SET_NAME), none) &&
             RULE(ALLOW, prctl, 1, INT(0, PR_GET_NAME), none);
    return ok;
}

/* What isatty asks from glibc 2.42 on; the C library's headers name it only with the kernel's. */
#define TCGETS_TWO 0x802c542aul

/* How much can be read, and whether it is a terminal; more only where the policy names a device,
 * and then Landlock says which. */
static bool ioctls(scmp_filter_ctx ctx, const struct pfx_sandbox *sandbox)
{
    static const unsigned long requests[] = {FIONREAD, FIONBIO, TCGETS, TCGETS_TWO, TIOCGWINSZ};
    bool ok = true;
    if (sandbox->devices)
        return RULE(ALLOW, ioctl, 0, none, none);
    for (size_t i = 0; ok && i < sizeof requests / sizeof *requests; i++)
        ok = RULE(ALLOW, ioctl, 1, INT(1, requests[i]), none);
    return ok;
}

#define SOCKET_TYPE 0xf /* without SOCK_CLOEXEC and SOCK_NONBLOCK */

static bool one_socket(scmp_filter_ctx ctx, int family, int type, int protocol)
{
    struct scmp_arg_cmp args[] = {INT(0, family), BITS(1, SOCKET_TYPE, type), INT(2, protocol)};
    return seccomp_rule_add_array(ctx, ALLOW, SCMP_SYS(socket), 3, args) == 0;
}

/* TCP and UDP only: Landlock's ports aren't those of MPTCP and SCTP. */
static bool internet(scmp_filter_ctx ctx, int family)
{
    return one_socket(ctx, family, SOCK_STREAM, 0) &&
           one_socket(ctx, family, SOCK_STREAM, IPPROTO_TCP) &&
           one_socket(ctx, family, SOCK_DGRAM, 0) &&
           one_socket(ctx, family, SOCK_DGRAM, IPPROTO_UDP);
}

static bool sockets(scmp_filter_ctx ctx, unsigned groups)
{
    bool ok = one_socket(ctx, AF_UNIX, SOCK_STREAM, 0) && one_socket(ctx, AF_UNIX, SOCK_DGRAM, 0) &&
              RULE(ALLOW, socketpair, 1, INT(0, AF_UNIX), none);
    /* With MSG_FASTOPEN it would connect, and not by the way that Landlock looks at. */
    ok = ok && RULE(ALLOW, sendto, 1, BITS(3, MSG_FASTOPEN, 0), none) &&
         RULE(ALLOW, sendmsg, 1, BITS(2, MSG_FASTOPEN, 0), none);
    if (groups & BIT(G_NETWORK))
        /* getaddrinfo asks the kernel for the host's addresses, and does without. */
        ok = ok && RULE(ALLOW, sendmmsg, 1, BITS(3, MSG_FASTOPEN, 0), none) &&
             internet(ctx, AF_INET) && internet(ctx, AF_INET6) &&
             RULE(SCMP_ACT_ERRNO(EAFNOSUPPORT), socket, 1, INT(0, AF_NETLINK), none);
    return ok;
}

static bool fill(scmp_filter_ctx ctx, const struct pfx_sandbox *sandbox)
{
    unsigned groups = groups_of[sandbox->whom];
    /* A sorted tree instead of a list: a call costs its way through it. Older libraries can't. */
    (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return listed(ctx, groups) && memory(ctx, sandbox) && threads(ctx, groups) &&
           signals_and_limits(ctx) && ioctls(ctx, sandbox) && sockets(ctx, groups) &&
           forbidden(ctx, groups);
}

/* A filter of its own, since of two filters the stricter answer counts: no other handler of SIGSYS.
 */
static bool keep_handler(scmp_filter_ctx ctx, const struct pfx_sandbox *sandbox)
{
    (void)sandbox;
    return RULE(SCMP_ACT_KILL_PROCESS, rt_sigaction, 1, INT(0, SIGSYS), none);
}

static pfx_result load(const struct pfx_sandbox *sandbox, uint32_t otherwise,
                       bool (*fill_in)(scmp_filter_ctx, const struct pfx_sandbox *),
                       struct pfx_error *err)
{
    scmp_filter_ctx ctx = seccomp_init(otherwise);
    bool ok = ctx && seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 &&
              seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 1) == 0 &&
              seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1) == 0 && fill_in(ctx, sandbox);
    int rc = ok ? seccomp_load(ctx) : 0;
    if (ctx)
        seccomp_release(ctx);
    if (ok && rc == 0)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTERNAL, "shut the sandbox", pfx_sandbox_name(sandbox->whom),
                    rc < 0 ? strerrorname_np(-rc) : "",
                    ok ? "The kernel doesn't take the filter of system calls: it needs "
                         "CONFIG_SECCOMP_FILTER, and the unit's own filter has to let seccomp pass."
                       : "libseccomp can't make the filter of system calls.");
}

pfx_result pfx_sandbox_calls(struct pfx_sandbox *sandbox, struct pfx_error *err)
{
    if (!handler(pfx_sandbox_name(sandbox->whom)))
        return pfx_fail_errno(err, errno, "shut the sandbox", "SIGSYS", NULL);
    PFX_TRY(load(sandbox, SCMP_ACT_ALLOW, keep_handler, err));
    PFX_TRY(load(sandbox, SCMP_ACT_TRAP, fill, err));
    pfx_sandbox_held.calls = true;
    pfx_sandbox_held.late_code = sandbox->late_code;
    char text[PFX_SANDBOX_TEXT];
    pfx_log(pfx_sandbox_text(text, sizeof text) ? PFX_LOG_INFO : PFX_LOG_WARN, "sandbox: %s", text);
    return PFX_OK;
}

bool pfx_sandbox_text(char *buf, size_t size)
{
    char files[64];
    const struct pfx_sandbox_held *held = &pfx_sandbox_held;
    /* The first words are all that status has room for while nothing is missing. */
    snprintf(files, sizeof files, "Landlock %d", held->landlock_abi);
    snprintf(buf, size, "%s, %s, %s%s%s%s", held->calls ? "seccomp" : "NO seccomp",
             held->landlock_abi ? files : "NO Landlock",
             pfx_process_locked() ? "memory locked" : "secrets locked",
             pfx_secret_hidden() ? ", memfd_secret" : "",
             held->late_code ? ", libraries may still be loaded" : "",
             PFX_SANDBOX_SANITIZER ? " (a sanitizer build: wider)" : "");
    return held->calls && held->landlock_abi > 0;
}
