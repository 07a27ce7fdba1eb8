/* The walls of pfx-hsm: which files and libraries its tokens need, found out from the policy and from
 * what the modules say in their own configuration. */
#include "pkcs11/hsm/confine.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "api/conf/sandbox.h"
#include "pkcs11/hsm/server.h"
#include "pkcs11/module.h"

#define MAX_CONF ((size_t)64 * 1024)

static struct pfx_sandbox *sandbox;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pfx_module *held[PFX_ROLE_COUNT];

/* --- files ------------------------------------------------------------------------------------ */

/* The value of "name = value" in a file with a setting a line and comments from # on; NULL where it
 * has none. */
static char *setting(const char *text, const char *name)
{
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        line += strspn(line, " \t");
        size_t len = strlen(name);
        if (strncmp(line, name, len) != 0)
            continue;
        const char *at = line + len + strspn(line + len, " \t");
        if (*at != '=')
            continue;
        at += 1 + strspn(at + 1, " \t");
        size_t n = strcspn(at, "#\r\n");
        while (n > 0 && strchr(" \t", at[n - 1]))
            n--;
        return pfx_asprintf("%.*s", (int)n, at);
    }
    return NULL;
}

/* SoftHSM's configuration says where its tokens are, in the line directories.tokendir. */
static void softhsm(void)
{
    const char *home = secure_getenv("HOME");
    const char *given = secure_getenv("SOFTHSM2_CONF");
    char *own PFX_AUTOFREE = home ? pfx_asprintf("%s/.config/softhsm2/softhsm2.conf", home) : NULL;
    const char *files[] = {given, own, "/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf"};
    for (size_t i = given ? 0 : 1; i < (given ? 1 : sizeof files / sizeof *files); i++) {
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(MAX_CONF);
        struct pfx_error ignored = PFX_ERROR_NONE;
        if (!files[i] || pfx_failed(pfx_file_read(files[i], MAX_CONF, &text, &ignored)))
            continue;
        pfx_sandbox_path(sandbox, files[i], PFX_REACH_READ);
        char *folder PFX_AUTOFREE = setting(pfx_buf_str(&text), "directories.tokendir");
        if (!folder)
            continue;
        pfx_sandbox_path(sandbox, folder, PFX_REACH_WRITE);
        return;
    }
}

/* NSS: a configdir='sql:FOLDER' for each of its databases, in any case and in any of its quotes. */
static void nss(const char *parameters)
{
    static const char key[] = "configdir=", open[] = "'\"([{<", end[] = "'\")]}>";
    for (const char *at = strcasestr(parameters, key); at; at = strcasestr(at, key)) {
        at += strlen(key);
        const char *quote = *at ? strchr(open, *at) : NULL;
        char until[] = {quote ? end[quote - open] : ' ', '\0'};
        at += quote != NULL;
        if (strncasecmp(at, "sql:", 4) == 0 || strncasecmp(at, "dbm:", 4) == 0)
            at += 4;
        char *folder PFX_AUTOFREE = pfx_asprintf("%.*s", (int)strcspn(at, until), at);
        pfx_sandbox_path(sandbox, folder, PFX_REACH_WRITE);
    }
}

static void opencryptoki(void)
{
    static const char *const places[] = {"/var/lib/opencryptoki", "/run/lock/opencryptoki",
                                         "/var/lock/opencryptoki", "/var/log/opencryptoki",
                                         "/dev/shm"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        pfx_sandbox_path(sandbox, places[i], PFX_REACH_WRITE);
    pfx_sandbox_path(sandbox, "/etc/opencryptoki", PFX_REACH_READ);
}

/* What the libraries need that we know; others have sandbox.folders of the policy. */
static void modules(const struct pfx_hsm_policy *policy)
{
    static const char *const places[] = {"/usr",
                                         "/lib",
                                         "/lib64",
                                         "/opt",
                                         "/etc/ld.so.cache",
                                         "/etc/localtime",
                                         "/etc/ssl/openssl.cnf",
                                         "/etc/pkcs11",
                                         "/etc/crypto-policies",
                                         "/proc/sys",
                                         "/proc/cpuinfo",
                                         "/proc/meminfo",
                                         "/proc/stat",
                                         "/sys/devices/system"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        pfx_sandbox_path(sandbox, places[i], PFX_REACH_READ);
    softhsm();
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        const struct pfx_role_conf *conf = &policy->roles[role];
        pfx_sandbox_folder_of(sandbox, conf->module, PFX_REACH_READ);
        if (conf->parameters)
            nss(conf->parameters);
        if (conf->module && strstr(conf->module, "opencryptoki"))
            opencryptoki();
    }
    for (size_t i = 0; i < policy->n_folders; i++) {
        const struct pfx_folder_conf *folder = &policy->folders[i];
        if (access(folder->path, F_OK) != 0)
            pfx_log(PFX_LOG_WARN,
                    "sandbox.folders: %s: %s; what comes there later stays out of reach until "
                    "pfx-hsm is started again",
                    folder->path, strerrorname_np(errno));
        pfx_sandbox_path(sandbox, folder->path, (enum pfx_reach)folder->reach);
    }
}

pfx_result pfx_confine_files(const struct pfx_hsm_policy *policy, struct pfx_error *err)
{
    PFX_TRY(pfx_secret_memory(policy->secret_memory, err));
    PFX_TRY(pfx_hsm_folders(policy, err));
    PFX_TRY(pfx_server_folder(policy, err));
    sandbox = pfx_sandbox_new(policy->network_hsm ? PFX_SANDBOX_HSM_NETWORK : PFX_SANDBOX_HSM);
    pfx_sandbox_path(sandbox, policy->state_dir, PFX_REACH_WRITE);
    /* The log's folder itself is renamed and made anew by log reopen. */
    pfx_sandbox_folder_of(sandbox, policy->log_dir, PFX_REACH_WRITE);
    pfx_sandbox_path(sandbox, policy->run_dir, PFX_REACH_WRITE);
    pfx_sandbox_path(sandbox, policy->ca_roots, PFX_REACH_READ);
    pfx_sandbox_path(sandbox, "/proc/self/exe", PFX_REACH_READ); /* its hash stands in the log */
    pfx_sandbox_path(sandbox, secure_getenv("CREDENTIALS_DIRECTORY"), PFX_REACH_READ);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++)
        pfx_sandbox_folder_of(sandbox, policy->roles[role].pin_file, PFX_REACH_READ);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++)
        if (strncmp(policy->roles[role].attestation, "file:", 5) == 0)
            pfx_sandbox_folder_of(sandbox, policy->roles[role].attestation + 5, PFX_REACH_READ);
    modules(policy);
    pfx_sandbox_accounts(sandbox);
    if (policy->network_hsm)
        pfx_sandbox_resolver(sandbox);
    return pfx_sandbox_files(sandbox, err);
}

/* --- system calls ----------------------------------------------------------------------------- */

struct libraries {
    char **names;
    size_t n, size;
};

static int collect(struct dl_phdr_info *info, size_t size, void *ctx)
{
    struct libraries *libraries = ctx;
    (void)size;
    if (!info->dlpi_name || !*info->dlpi_name)
        return 0;
    if (libraries->n == libraries->size) {
        libraries->size += 64;
        libraries->names = pfx_grow(libraries->names, libraries->size, sizeof *libraries->names);
    }
    libraries->names[libraries->n++] = pfx_strdup(info->dlpi_name);
    return 0;
}

/* C_Finalize of some modules unloads what they loaded, and what is initialised again later couldn't
 * be mapped any more. */
static void keep_libraries(void)
{
    struct libraries libraries = {0};
    /* Looked for by the C library when a module's thread ends itself. */
    (void)dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_NODELETE);
    dl_iterate_phdr(collect, &libraries);
    for (size_t i = 0; i < libraries.n; i++) {
        (void)dlopen(libraries.names[i], RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
        free(libraries.names[i]);
    }
    free(libraries.names);
}

/* True: each of them is initialised. */
static bool load_modules(const struct pfx_hsm_policy *policy)
{
    bool all = true;
    pfx_registry_lock();
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        const struct pfx_role_conf *conf = &policy->roles[role];
        struct pfx_error why = PFX_ERROR_NONE;
        struct pfx_module *module = NULL;
        if (pfx_ok(pfx_module_open(conf->module, conf->parameters, &module, &why))) {
            held[role] = module;
            continue;
        }
        pfx_log_error(&why, "the module of the role %s isn't ready at the start",
                      pfx_role_name(role));
        all = false;
    }
    pfx_registry_unlock();
    return all;
}

pfx_result pfx_confine_calls(const struct pfx_hsm_policy *policy, struct pfx_error *err)
{
    pthread_mutex_lock(&lock);
    bool all = load_modules(policy);
    pthread_mutex_unlock(&lock);
    keep_libraries();
    if (policy->late_libraries || !all)
        pfx_sandbox_late_code(sandbox);
    pfx_result result = pfx_sandbox_calls(sandbox, err);
    pfx_sandbox_free(sandbox);
    sandbox = NULL;
    return result;
}

void pfx_confine_release(void)
{
    pthread_mutex_lock(&lock);
    pfx_registry_lock();
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        pfx_module_close(held[role]);
        held[role] = NULL;
    }
    pfx_registry_unlock();
    pthread_mutex_unlock(&lock);
}
