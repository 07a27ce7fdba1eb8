#include "pkcs11_env.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "pkcs11/call.h"

const struct env_can env_can[ENV_MODULES] = {
    [ENV_SOFTHSM] = {"SoftHSM", false, true, false, true, true, true, "one"},
    [ENV_NSS] = {"NSS softokn", true, false, true, false, false, false, "pfxnss"},
};

static char folder[128];
static char *nss_parameters;
static struct pfx_pin_guard *guard;
static char guard_folder[200];

static const char *first_of(const char *const *paths)
{
    for (; *paths; paths++) {
        if (access(*paths, R_OK) == 0)
            return *paths;
    }
    return NULL;
}

static const char *module_path(enum env_module module)
{
    static const char *const softhsm[] = {"/usr/lib/softhsm/libsofthsm2.so",
                                          "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                                          "/usr/lib64/pkcs11/libsofthsm2.so", NULL};
    static const char *const nss[] = {"/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
                                      "/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so",
                                      "/usr/lib64/libsoftokn3.so", NULL};
    return first_of(module == ENV_NSS ? nss : softhsm);
}

bool env_has(enum env_module module)
{
    if (module_path(module))
        return true;
    print_message("skipped: %s isn't installed\n", env_can[module].name);
    return false;
}

const char *env_folder(void)
{
    return folder;
}

/* --- counting calls --- */

static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char name[40];
    unsigned n;
} counts[80];
void (*env_at_call)(const char *function);

/* What a module allocates inside a call is its own: SoftHSM leaks with each Ed25519 key, and the
 * quick unwinder sees no frame of it that a suppression could name. */
extern void __lsan_disable(void) __attribute__((weak));
extern void __lsan_enable(void) __attribute__((weak));

static void trace(const char *function, bool entering)
{
    if (!entering) {
        if (__lsan_enable)
            __lsan_enable();
        return;
    }
    if (__lsan_disable)
        __lsan_disable();
    pthread_mutex_lock(&count_lock);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (counts[i].name[0] == '\0')
            snprintf(counts[i].name, sizeof counts[i].name, "%s", function);
        if (strcmp(counts[i].name, function) == 0) {
            counts[i].n++;
            break;
        }
    }
    pthread_mutex_unlock(&count_lock);
    if (env_at_call)
        env_at_call(function);
}

void env_count_reset(void)
{
    pthread_mutex_lock(&count_lock);
    memset(counts, 0, sizeof counts);
    pthread_mutex_unlock(&count_lock);
}

unsigned env_count(const char *function)
{
    unsigned n = 0;
    pthread_mutex_lock(&count_lock);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (strcmp(counts[i].name, function) == 0)
            n = counts[i].n;
    }
    pthread_mutex_unlock(&count_lock);
    return n;
}

/* --- making tokens --- */

static CK_FUNCTION_LIST *load(enum env_module module)
{
    void *library = dlopen(module_path(module), RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    CK_C_GetFunctionList get;
    void *symbol = dlsym(library, "C_GetFunctionList");
    assert_non_null(symbol);
    memcpy(&get, &symbol, sizeof get);
    CK_FUNCTION_LIST *functions = NULL;
    assert_int_equal(get(&functions), CKR_OK);
    return functions;
}

static CK_UTF8CHAR pin_text[] = ENV_PIN;
#define PIN_LEN (sizeof pin_text - 1)

static void set_user_pin(CK_FUNCTION_LIST *f, CK_SLOT_ID slot, CK_UTF8CHAR *so, CK_ULONG so_len)
{
    CK_SESSION_HANDLE session;
    assert_int_equal(f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                      &session), CKR_OK);
    assert_int_equal(f->C_Login(session, CKU_SO, so, so_len), CKR_OK);
    assert_int_equal(f->C_InitPIN(session, pin_text, PIN_LEN), CKR_OK);
    assert_int_equal(f->C_CloseSession(session), CKR_OK);
}

void env_softhsm_token(const char *label)
{
    CK_FUNCTION_LIST *f = load(ENV_SOFTHSM);
    CK_C_INITIALIZE_ARGS args;
    memset(&args, 0, sizeof args);
    args.flags = CKF_OS_LOCKING_OK;
    assert_int_equal(f->C_Initialize(&args), CKR_OK);
    CK_SLOT_ID slots[64];
    CK_ULONG n = 64;
    assert_int_equal(f->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    CK_UTF8CHAR padded[32];
    memset(padded, ' ', sizeof padded);
    memcpy(padded, label, strlen(label));
    CK_SLOT_ID slot = slots[n - 1]; /* SoftHSM's last slot is the empty one */
    assert_int_equal(f->C_InitToken(slot, pin_text, PIN_LEN, padded), CKR_OK);
    set_user_pin(f, slot, pin_text, PIN_LEN);
    assert_int_equal(f->C_Finalize(NULL), CKR_OK);
}

static void nss_token(void)
{
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *behind;
    } args;
    CK_FUNCTION_LIST *f = load(ENV_NSS);
    memset(&args, 0, sizeof args);
    args.standard.flags = CKF_OS_LOCKING_OK;
    args.standard.pReserved = nss_parameters;
    assert_int_equal(f->C_Initialize(&args), CKR_OK);
    set_user_pin(f, 2, (CK_UTF8CHAR *)"", 0);
    assert_int_equal(f->C_Finalize(NULL), CKR_OK);
}

char *env_softhsm_folder(const char *label)
{
    char *tokens = pfx_asprintf("%s/tokens", folder);
    DIR *dir = opendir(tokens);
    assert_non_null(dir);
    char *found = NULL;
    for (struct dirent *e; (e = readdir(dir));) {
        char *path = pfx_asprintf("%s/%s/token.object", tokens, e->d_name);
        FILE *file = fopen(path, "rb");
        char data[8192];
        size_t len = file ? fread(data, 1, sizeof data, file) : 0;
        if (file)
            fclose(file);
        free(path);
        /* Labels are padded with blanks to 32 bytes. */
        char wish[33];
        snprintf(wish, sizeof wish, "%-32s", label);
        if (!found && len > 0 && memmem(data, len, wish, 32))
            found = pfx_asprintf("%s/%s", tokens, e->d_name);
    }
    closedir(dir);
    free(tokens);
    assert_non_null(found);
    return found;
}

char *env_only_file(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    char *found = NULL;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        assert_null(found);
        found = pfx_strdup(e->d_name);
    }
    closedir(dir);
    assert_non_null(found);
    return found;
}

int env_setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/pfx-pkcs11-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR")
                                                                              : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    /* OpenSSL must outlive the modules that use it. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
    pfx_cryptoki_trace = trace;
    char *path = pfx_asprintf("%s/softhsm2.conf", folder),
         *tokens = pfx_asprintf("%s/tokens", folder);
    FILE *conf = fopen(path, "w");
    if (!conf || mkdir(tokens, 0700) != 0)
        return -1;
    fprintf(conf, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n"
                  "slots.removable = false\n", tokens);
    fclose(conf);
    setenv("SOFTHSM2_CONF", path, 1);
    free(path);
    free(tokens);
    if (module_path(ENV_SOFTHSM)) {
        env_softhsm_token("one");
        env_softhsm_token("two");
    }
    char *db = pfx_asprintf("%s/nss", folder);
    if (mkdir(db, 0700) != 0)
        return -1;
    nss_parameters =
        pfx_asprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' "
                     "flags= minPWLen=4 dbTokenDescription='pfxnss'",
                     db);
    free(db);
    if (module_path(ENV_NSS))
        nss_token();
    snprintf(guard_folder, sizeof guard_folder, "%s/pins", folder);
    struct pfx_error err = PFX_ERROR_NONE;
    return pfx_ok(pfx_pin_guard_open(guard_folder, &guard, &err)) ? 0 : -1;
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    if (dir) {
        for (struct dirent *e; (e = readdir(dir));) {
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                continue;
            char *child = pfx_asprintf("%s/%s", path, e->d_name);
            remove_tree(child);
            free(child);
        }
        closedir(dir);
    }
    (void)remove(path);
}

int env_teardown(void **state)
{
    (void)state;
    pfx_pin_guard_free(guard);
    guard = NULL;
    free(nss_parameters);
    nss_parameters = NULL;
    remove_tree(folder);
    return 0;
}

/* --- opening --- */

struct pfx_pin_guard *env_guard(void)
{
    return guard;
}

struct pfx_secret *env_secret(const char *text)
{
    ERROR(err);
    struct pfx_secret *secret = NULL;
    assert_ok(pfx_secret_copy(text, strlen(text), &secret, &err), &err);
    return secret;
}

struct pfx_role_conf env_conf(enum env_module module, const char *uri)
{
    /* The structure's strings aren't const, since it owns them where it is read from a file. */
    return (struct pfx_role_conf){
        .module = (char *)(uintptr_t)module_path(module),
        .parameters = module == ENV_NSS ? nss_parameters : NULL,
        .uri = (char *)(uintptr_t)uri,
    };
}

void env_login(struct pfx_token *token)
{
    ERROR(err);
    PFX_AUTOSECRET struct pfx_secret *pin = env_secret(ENV_PIN);
    assert_ok(pfx_token_login(token, guard, pin, true, &err), &err);
}

struct pfx_token *env_open_uri(enum env_module module, enum pfx_role role, const char *uri,
                               unsigned sessions)
{
    ERROR(err);
    struct pfx_role_conf conf = env_conf(module, uri);
    struct pfx_token *token = NULL;
    assert_ok(pfx_token_open(role, &conf, sessions, &token, &err), &err);
    env_login(token);
    return token;
}

struct pfx_token *env_open(enum env_module module, enum pfx_role role, unsigned sessions)
{
    char uri[64];
    snprintf(uri, sizeof uri, "pkcs11:token=%s", env_can[module].label);
    return env_open_uri(module, role, uri, sessions);
}

struct pfx_key_id env_id(unsigned n)
{
    struct pfx_key_id id = {{0}};
    for (size_t i = 0; i < 4; i++)
        id.bytes[i] = (uint8_t)(n >> (24 - 8 * i));
    id.bytes[PFX_KEY_ID_SIZE - 1] = 0x5A;
    return id;
}

size_t env_objects(struct pfx_session *session)
{
    CK_FUNCTION_LIST *f = pfx_session_module(session);
    CK_SESSION_HANDLE h = pfx_session_handle(session);
    size_t all = 0;
    assert_int_equal(f->C_FindObjectsInit(h, NULL, 0), CKR_OK);
    for (;;) {
        CK_OBJECT_HANDLE some[64];
        CK_ULONG n = 0;
        assert_int_equal(f->C_FindObjects(h, some, 64, &n), CKR_OK);
        if (n == 0)
            break;
        all += n;
    }
    assert_int_equal(f->C_FindObjectsFinal(h), CKR_OK);
    return all;
}

CK_RV env_set_bool(struct pfx_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                   bool value)
{
    CK_BBOOL b = value ? CK_TRUE : CK_FALSE;
    CK_ATTRIBUTE at[] = {{.type = type, .pValue = &b, .ulValueLen = sizeof b}};
    return pfx_session_module(session)->C_SetAttributeValue(pfx_session_handle(session), object, at,
                                                            1);
}
