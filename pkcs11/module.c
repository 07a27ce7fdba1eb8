/* Loading, initialising and ending a module; see module.h for the locks. */
#include "pkcs11/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "crypto/encode.h"
#include "crypto/mem.h"

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct pfx_module *modules;

void pfx_registry_lock(void)
{
    pthread_mutex_lock(&registry);
}

void pfx_registry_unlock(void)
{
    pthread_mutex_unlock(&registry);
}

int64_t pfx_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool pfx_module_wait(struct pfx_module *module, int64_t deadline_ms)
{
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = deadline_ms % 1000 * 1000000};
    return pthread_cond_timedwait(&module->changed, &module->lock, &until) == 0 ||
           pfx_monotonic_ms() < deadline_ms;
}

/* The standard's structure ends with pReserved. NSS put LibraryParameters in its place and
 * pReserved behind it, so one block serves both. */
struct initialize_args {
    CK_C_INITIALIZE_ARGS standard;
    void *behind;
};

static pfx_result initialize(struct pfx_module *module, struct pfx_error *err)
{
    struct initialize_args args = {0};
    args.standard.flags = CKF_OS_LOCKING_OK;
    args.standard.pReserved = module->parameters;
    CK_RV rv = PFX_C(module->functions, C_Initialize, &args);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) {
        rv = CKR_OK;
    } else if (rv == CKR_OK) {
        module->ours = true;
    }
    return pfx_ckr_fail(err, rv, "C_Initialize", module->path,
                        "Check the module's own configuration%s.",
                        module->parameters ? " and 'parameters'" : "");
}

static void hash_file(const char *path, char out[65])
{
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    bool ok = fd >= 0 && ctx && EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL) == 1;
    while (ok) {
        unsigned char block[16384];
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            break;
        ok = n > 0 && EVP_DigestUpdate(ctx, block, (size_t)n) == 1;
    }
    if (ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1)
        pfx_hex(digest, 32, out);
    EVP_MD_CTX_free(ctx);
    if (fd >= 0)
        close(fd);
}

static pfx_result load(const char *path, void **ret_library, CK_FUNCTION_LIST **ret_functions,
                       struct pfx_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "load module", path, strerrorname_np(errno),
                        "The PKCS#11 library can't be found. Install the HSM's client software, or "
                        "correct 'module' in the policy.");
    /* RTLD_LOCAL: two modules with the same symbols stay apart. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return pfx_fail(err, PFX_CLASS_USAGE, "load module", path, "",
                        "The file isn't a library that can be loaded: %s. Correct 'module' in the "
                        "policy.", why ? why : "no reason given");
    }
    CK_C_GetFunctionList get = NULL;
    void *symbol = dlsym(library, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get); /* POSIX's way from object to function pointer */
    CK_FUNCTION_LIST *functions = NULL;
    CK_RV rv = CKR_FUNCTION_NOT_SUPPORTED;
    if (get) {
        pfx_call_trace("C_GetFunctionList", true);
        rv = get(&functions);
        pfx_call_trace("C_GetFunctionList", false);
    }
    if (rv != CKR_OK || !functions) {
        dlclose(library);
        return pfx_fail(err, PFX_CLASS_USAGE, "C_GetFunctionList", path, pfx_ckr_name(rv),
                        "The library isn't a PKCS#11 module. Correct 'module' in the policy.");
    }
    *ret_library = library;
    *ret_functions = functions;
    return PFX_OK;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static void free_module(struct pfx_module *module)
{
    pthread_cond_destroy(&module->changed);
    pthread_mutex_destroy(&module->lock);
    free(module->path);
    free(module->parameters);
    free(module);
}

static void read_info(struct pfx_module *module)
{
    CK_INFO info;
    memset(&info, 0, sizeof info);
    if (PFX_C(module->functions, C_GetInfo, &info) != CKR_OK)
        return;
    char maker[33];
    pfx_padded(maker, sizeof maker, info.manufacturerID, sizeof info.manufacturerID);
    module->nss = strstr(maker, "Mozilla") != NULL;
    snprintf(module->version, sizeof module->version, "%u.%u", info.libraryVersion.major,
             info.libraryVersion.minor);
}

pfx_result pfx_module_open(const char *path, const char *parameters, struct pfx_module **ret_module,
                           struct pfx_error *err)
{
    void *library = NULL;
    CK_FUNCTION_LIST *functions = NULL;
    PFX_TRY(load(path, &library, &functions, err));
    for (struct pfx_module *m = modules; m; m = m->next) {
        if (m->library != library)
            continue;
        dlclose(library); /* only the count; m holds it */
        if (!same_text(m->parameters, parameters))
            return pfx_fail(err, PFX_CLASS_USAGE, "load module", path, "",
                            "Two roles give this module different 'parameters', and it can be "
                            "initialised only once. Make them the same.");
        m->refs++;
        *ret_module = m;
        return PFX_OK;
    }
    struct pfx_module *module = pfx_alloc(sizeof *module);
    module->refs = 1;
    module->path = pfx_strdup(path);
    module->parameters = parameters && *parameters ? pfx_strdup(parameters) : NULL;
    module->library = library;
    module->functions = functions;
    pthread_mutex_init(&module->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&module->changed, &attr);
    pthread_condattr_destroy(&attr);
    pfx_result r = initialize(module, err);
    if (pfx_failed(r)) {
        dlclose(library);
        free_module(module);
        return r;
    }
    module->initialised = true;
    module->generation = 1;
    read_info(module);
    hash_file(path, module->sha256);
    module->next = modules;
    modules = module;
    *ret_module = module;
    return PFX_OK;
}

void pfx_module_close(struct pfx_module *module)
{
    if (!module || --module->refs > 0)
        return;
    struct pfx_module **pp = &modules;
    while (*pp && *pp != module)
        pp = &(*pp)->next;
    if (*pp)
        *pp = module->next;
    if (module->initialised && module->ours)
        (void)PFX_C(module->functions, C_Finalize, NULL);
    pfx_libp11_drop(module);
    /* The library stays mapped: modules leave exit handlers and thread-local destructors behind
     * that would jump into nothing. */
    free_module(module);
}

pfx_result pfx_module_reopen(struct pfx_module *module, int64_t deadline_ms, struct pfx_error *err)
{
    uint64_t before = module->generation;
    while (module->reopening) {
        if (!pfx_module_wait(module, deadline_ms))
            break;
    }
    if (module->generation != before)
        return PFX_OK; /* somebody else has just done it */
    if (module->reopening)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "reopen module", module->path, "",
                        "Another thread is still reopening the module. It is tried again.");
    module->reopening = true;
    bool alone = module->busy == 0;
    while (!alone && pfx_module_wait(module, deadline_ms))
        alone = module->busy == 0;
    pfx_result r = PFX_OK;
    if (alone) {
        module->initialised = false;
        pthread_mutex_unlock(&module->lock);
        (void)PFX_C(module->functions, C_Finalize, NULL); /* not initialised is fine too */
        pfx_libp11_drop(module);
        r = initialize(module, err);
        pthread_mutex_lock(&module->lock);
        module->initialised = pfx_ok(r);
        module->generation++; /* also when it failed: no handle is good any more */
        module->reopened_ms = pfx_monotonic_ms();
    } else {
        r = pfx_fail(err, PFX_CLASS_TRANSIENT, "reopen module", module->path, "",
                     "Calls are still running in the module, so it can't be reopened yet. It is "
                     "tried again.");
    }
    module->reopening = false;
    pthread_cond_broadcast(&module->changed);
    return r;
}

pfx_result pfx_module_write_begin(struct pfx_module *module, struct pfx_error *err)
{
    if (!module->nss)
        return PFX_OK;
    int64_t deadline = pfx_monotonic_ms() + PFX_WAIT_MS;
    pthread_mutex_lock(&module->lock);
    bool mine = module->writing && pthread_equal(module->writer, pthread_self());
    while (!mine && module->writing) {
        if (!pfx_module_wait(module, deadline))
            break;
    }
    bool got = mine || !module->writing;
    if (got) {
        module->writing = true;
        module->writer = pthread_self();
        module->writing_depth++;
    }
    pthread_mutex_unlock(&module->lock);
    if (got)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "write to token", module->path, "",
                    "Another thread has been writing for %d s. It is tried again.",
                    PFX_WAIT_MS / 1000);
}

void pfx_module_write_end(struct pfx_module *module)
{
    if (!module->nss)
        return;
    pthread_mutex_lock(&module->lock);
    if (module->writing_depth > 0 && --module->writing_depth == 0) {
        module->writing = false;
        pthread_cond_broadcast(&module->changed);
    }
    pthread_mutex_unlock(&module->lock);
}
