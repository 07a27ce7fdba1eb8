/*
 * A Cryptoki module for tests: the real one (PFX_TEST_MODULE_REAL), but its C_GenerateKeyPair
 * doesn't come back after it made a token object while a file says so. In the folder
 * PFX_TEST_MODULE_DIR the file hang-after-generate stops every pair of token objects, and
 * hang-after-encryption only one whose private half may decrypt and whose label says so; fail-wrap
 * makes C_WrapKey fail, and fail-generate C_GenerateKeyPair. While the file that fail-sign-after
 * names is there, C_SignInit fails.
 *
 * It also gives NSS its parameters (PFX_TEST_MODULE_PARAMETERS) where a program has no way to:
 * pkcs11-tool and OpenSSL's engine.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static CK_FUNCTION_LIST list;
static CK_FUNCTION_LIST *real;

static int told(const char *name)
{
    char path[4096];
    const char *dir = getenv("PFX_TEST_MODULE_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nowhere", name);
    return access(path, F_OK) == 0;
}

static const CK_ATTRIBUTE *find(const CK_ATTRIBUTE *at, CK_ULONG n, CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < n; i++)
        if (at[i].type == type)
            return &at[i];
    return NULL;
}

/* The file holds a CK_RV in hex, and may hold a mechanism behind it. */
static CK_RV failure(const char *name, CK_MECHANISM_TYPE mechanism)
{
    char path[4096];
    const char *dir = getenv("PFX_TEST_MODULE_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nowhere", name);
    FILE *file = fopen(path, "r");
    unsigned long rv = CKR_OK, only = mechanism;
    if (file) {
        if (fscanf(file, "%lx %lx", &rv, &only) < 1)
            rv = CKR_OK;
        fclose(file);
    }
    return only == mechanism ? rv : CKR_OK;
}

static CK_RV generate(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public,
                      CK_ULONG n_public, CK_ATTRIBUTE *private, CK_ULONG n_private,
                      CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private)
{
    CK_RV rv = failure("fail-generate", mechanism->mechanism);
    if (rv != CKR_OK)
        return rv;
    rv = real->C_GenerateKeyPair(session, mechanism, public, n_public, private, n_private,
                                 ret_public, ret_private);
    const CK_ATTRIBUTE *token = find(private, n_private, CKA_TOKEN);
    const CK_ATTRIBUTE *label = find(private, n_private, CKA_LABEL);
    static const char encryption[] = "pfx-agent encryption";
    if (!token || !token->pValue || !*(CK_BBOOL *)token->pValue)
        return rv;
    while (told("hang-after-generate"))
        sleep(1);
    while (label && label->ulValueLen > strlen(encryption) &&
           memcmp(label->pValue, encryption, strlen(encryption)) == 0 &&
           told("hang-after-encryption"))
        sleep(1);
    return rv;
}

/* NSS reads its parameters from the sixth member, where the standard has pReserved. */
static CK_RV initialize(void *given)
{
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *behind;
    } args;
    CK_C_INITIALIZE_ARGS *asked = given;
    char *parameters = getenv("PFX_TEST_MODULE_PARAMETERS");
    if (!parameters || !*parameters || (asked && asked->pReserved))
        return real->C_Initialize(given);
    memset(&args, 0, sizeof args);
    if (asked)
        args.standard = *asked;
    args.standard.pReserved = parameters;
    return real->C_Initialize(&args);
}

static CK_RV wrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE by,
                  CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *len)
{
    CK_RV rv = failure("fail-wrap", mechanism->mechanism);
    return rv != CKR_OK ? rv : real->C_WrapKey(session, mechanism, by, key, out, len);
}

static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    char path[4096], there[4096] = "";
    const char *dir = getenv("PFX_TEST_MODULE_DIR");
    snprintf(path, sizeof path, "%s/fail-sign-after", dir ? dir : "/nowhere");
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%4095s", there) < 1)
            there[0] = '\0';
        fclose(file);
    }
    if (there[0] && access(there, F_OK) == 0)
        return CKR_DEVICE_ERROR;
    return real->C_SignInit(session, mechanism, key);
}

static CK_RV get_list(CK_FUNCTION_LIST **ret_list)
{
    *ret_list = &list;
    return CKR_OK;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret_list);
CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret_list)
{
    const char *path = getenv("PFX_TEST_MODULE_REAL");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = NULL;
    void *symbol = library ? dlsym(library, "C_GetFunctionList") : NULL;
    memcpy(&get, &symbol, sizeof get);
    if (!get || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    list = *real;
    list.C_Initialize = initialize;
    list.C_GenerateKeyPair = generate;
    list.C_WrapKey = wrap;
    list.C_SignInit = sign_init;
    list.C_GetFunctionList = get_list;
    *ret_list = &list;
    return CKR_OK;
}
