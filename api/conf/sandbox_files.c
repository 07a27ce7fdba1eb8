/* Landlock: which files, ports and neighbours the process reaches. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <netdb.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "api/conf/sandbox_impl.h"
#include "crypto/mem.h"

#if PFX_SANDBOX_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

/* What the headers of Debian 12 don't know yet; the numbers are the kernel's. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* ABI 3 */
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15) /* ABI 5 */
#endif
#define NET_BIND_TCP (1ULL << 0)    /* ABI 4 */
#define NET_CONNECT_TCP (1ULL << 1) /* ABI 4 */
#define RULE_NET_PORT 2
#define SCOPE_ABSTRACT_SOCKETS (1ULL << 0) /* ABI 6 */
#define SCOPE_SIGNALS (1ULL << 1)          /* ABI 6 */
#define ABI_LEAST 2 /* before it nothing could be renamed from one folder to another */

struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct port_attr {
    uint64_t access, port;
};

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE                                                                                      \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_MAKE_REG |   \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER)
/* For nobody: programs, devices, pipes and links. */
#define NEVER                                                                                      \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |   \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define ON_A_FILE                                                                                  \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |  \
     LANDLOCK_ACCESS_FS_IOCTL_DEV)

struct pfx_sandbox_held pfx_sandbox_held;

static int abi(void)
{
    static int known = -1;
    if (known < 0) {
        long n = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        known = n < ABI_LEAST ? 0 : (int)n;
    }
    return known;
}

bool pfx_sandbox_landlock(void)
{
    return abi() > 0;
}

const char *pfx_sandbox_name(enum pfx_sandbox_for whom)
{
    switch (whom) {
    case PFX_SANDBOX_AGENTD:
        return "pfx-agentd";
    case PFX_SANDBOX_HSM:
    case PFX_SANDBOX_HSM_NETWORK:
        return "pfx-hsm";
    case PFX_SANDBOX_UPLOADER:
        return "pfx-uploader";
    }
    return "";
}

static uint64_t known_to_kernel(uint64_t fs)
{
    if (abi() < 5)
        fs &= ~LANDLOCK_ACCESS_FS_IOCTL_DEV;
    if (abi() < 3)
        fs &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
    return fs;
}

static int ruleset(enum pfx_sandbox_for whom)
{
    struct ruleset_attr attr = {
        .fs = known_to_kernel(READ | WRITE | NEVER | LANDLOCK_ACCESS_FS_IOCTL_DEV)};
    size_t size = sizeof attr.fs;
    if (abi() >= 4) {
        /* A module's ports aren't known here. */
        attr.net = NET_BIND_TCP | (whom == PFX_SANDBOX_HSM_NETWORK ? 0 : NET_CONNECT_TCP);
        size += sizeof attr.net;
    }
    if (abi() >= 6) {
        /* p11-kit and others listen on sockets without a path. */
        bool module = whom == PFX_SANDBOX_HSM || whom == PFX_SANDBOX_HSM_NETWORK;
        attr.scoped = SCOPE_SIGNALS | (module ? 0 : SCOPE_ABSTRACT_SOCKETS);
        size += sizeof attr.scoped;
    }
    return (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
}

/* Reports, traces and the leak checker's view of its own process. */
static void sanitizer_paths(struct pfx_sandbox *sandbox)
{
#if PFX_SANDBOX_SANITIZER
    pfx_sandbox_folder_of(sandbox, __sanitizer_get_report_path(), PFX_REACH_WRITE);
    char *exe PFX_AUTOFREE = realpath("/proc/self/exe", NULL);
    pfx_sandbox_folder_of(sandbox, exe, PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/proc/self", PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/usr", PFX_REACH_READ);
#else
    (void)sandbox;
#endif
}

struct pfx_sandbox *pfx_sandbox_new(enum pfx_sandbox_for whom)
{
    struct pfx_sandbox *sandbox = pfx_alloc(sizeof *sandbox);
    sandbox->whom = whom;
    sandbox->ruleset = abi() > 0 ? ruleset(whom) : -1;
    /* Where SQLite and modules look for randomness. */
    pfx_sandbox_path(sandbox, "/dev/urandom", PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/dev/random", PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/dev/null", PFX_REACH_WRITE);
    sanitizer_paths(sandbox);
    return sandbox;
}

void pfx_sandbox_free(struct pfx_sandbox *sandbox)
{
    if (!sandbox)
        return;
    if (sandbox->ruleset >= 0)
        close(sandbox->ruleset);
    free(sandbox);
}

void pfx_sandbox_path(struct pfx_sandbox *sandbox, const char *path, enum pfx_reach reach)
{
    sandbox->devices = sandbox->devices || (path && reach == PFX_REACH_DEVICE);
    if (!path || sandbox->ruleset < 0)
        return;
    int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return;
    uint64_t access = READ;
    if (reach != PFX_REACH_READ)
        access |= WRITE;
    if (reach == PFX_REACH_DEVICE)
        access |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
        access &= ON_A_FILE;
    struct landlock_path_beneath_attr rule = {.allowed_access = known_to_kernel(access),
                                              .parent_fd = fd};
    /* What can't be added stays forbidden, and shows when it is needed. */
    (void)syscall(SYS_landlock_add_rule, sandbox->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
}

void pfx_sandbox_folder_of(struct pfx_sandbox *sandbox, const char *path, enum pfx_reach reach)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    if (!slash)
        return;
    /* Never the whole disk. */
    char *folder PFX_AUTOFREE =
        slash == path ? pfx_strdup(path) : pfx_asprintf("%.*s", (int)(slash - path), path);
    pfx_sandbox_path(sandbox, folder, reach);
}

/* Files of /etc are replaced by renaming, so a rule for each would end with the next change of it:
 * where modes protect what isn't for us, all of /etc may be read. root sees past modes, and has the
 * files that are there now. */
static void etc(struct pfx_sandbox *sandbox, const char *const *names)
{
    if (geteuid() != 0) {
        pfx_sandbox_path(sandbox, "/etc", PFX_REACH_READ);
        return;
    }
    for (; *names; names++) {
        char *path PFX_AUTOFREE = pfx_asprintf("/etc/%s", *names);
        pfx_sandbox_path(sandbox, path, PFX_REACH_READ);
    }
}

void pfx_sandbox_accounts(struct pfx_sandbox *sandbox)
{
    static const char *const names[] = {"passwd",    "group",  "nsswitch.conf",
                                        "localtime", "userdb", NULL};
    static const char *const caches[] = {"/run/nscd", "/var/lib/sss/mc", "/run/systemd/userdb",
                                         "/run/userdb", "/usr/lib/userdb"};
    etc(sandbox, names);
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++)
        pfx_sandbox_path(sandbox, caches[i], PFX_REACH_READ);
    /* Names that nobody has are asked of every service that nsswitch.conf lists: the libraries of
     * all are loaded now, since none can be later. */
    gid_t group;
    int n = 1;
    (void)getpwnam("pfx-nobody-has-this-name");
    (void)getgrnam("pfx-nobody-has-this-name");
    (void)getgrouplist("root", 0, &group, &n);
}

void pfx_sandbox_resolver(struct pfx_sandbox *sandbox)
{
    static const char *const names[] = {"resolv.conf", "hosts",    "nsswitch.conf", "gai.conf",
                                        "host.conf",   "services", "localtime",     NULL};
    etc(sandbox, names);
    /* What resolv.conf may be a link to. */
    pfx_sandbox_path(sandbox, "/run/systemd/resolve", PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/run/NetworkManager", PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/run/resolvconf", PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/run/nscd", PFX_REACH_READ);
    /* Reads those files for a first time, without a question to anybody. */
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", NULL, NULL, &found) == 0)
        freeaddrinfo(found);
}

static unsigned long port_of(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t len = strcspn(host, "/?#");
    for (size_t i = len; i > 0 && host[i - 1] != ']'; i--)
        if (host[i - 1] == ':')
            return strtoul(host + i, NULL, 10);
    return strncmp(url, "http:", 5) == 0 ? 80 : 443;
}

void pfx_sandbox_url(struct pfx_sandbox *sandbox, const char *url)
{
    struct port_attr rule = {.access = NET_CONNECT_TCP, .port = url ? port_of(url) : 0};
    if (url && sandbox->ruleset >= 0 && abi() >= 4)
        (void)syscall(SYS_landlock_add_rule, sandbox->ruleset, RULE_NET_PORT, &rule, 0);
}

void pfx_sandbox_late_code(struct pfx_sandbox *sandbox)
{
    sandbox->late_code = true;
}

/* Soft and hard, so that there is no way back up. */
static bool keep_at(__rlimit_resource_t resource, rlim_t most)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0)
        return false;
    if (limit.rlim_cur > most)
        limit.rlim_cur = most;
    limit.rlim_max = limit.rlim_cur;
    return setrlimit(resource, &limit) == 0;
}

pfx_result pfx_sandbox_files(struct pfx_sandbox *sandbox, struct pfx_error *err)
{
    const char *name = pfx_sandbox_name(sandbox->whom);
    bool limited =
        keep_at(RLIMIT_CORE, 0) && keep_at(RLIMIT_NOFILE, 65536) && keep_at(RLIMIT_MSGQUEUE, 0);
    /* It has one thread, and children would count. (The leak checker starts one.) */
    if (sandbox->whom == PFX_SANDBOX_AGENTD && !PFX_SANDBOX_SANITIZER)
        limited = limited && keep_at(RLIMIT_NPROC, 0);
    if (!limited)
        return pfx_fail_errno(err, errno, "limit resources", name, NULL);
    if (abi() == 0) {
        pfx_log(PFX_LOG_WARN,
                "sandbox: this kernel has no Landlock (ABI %d or newer), so %s reaches every file "
                "that its user may; boot with landlock in lsm=, or take a kernel from 5.19 on",
                ABI_LEAST, name);
        return PFX_OK;
    }
    if (sandbox->ruleset < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_landlock_restrict_self, sandbox->ruleset, 0) != 0)
        return pfx_fail_errno(err, errno, "shut the sandbox", name,
                              "The kernel has Landlock, and refuses it here: is there a filter of "
                              "system calls around this process that forbids landlock_*?");
    close(sandbox->ruleset);
    sandbox->ruleset = -1;
    pfx_sandbox_held.landlock_abi = abi();
    return PFX_OK;
}
