/*
 * keys: how many keys a token makes in a second, with nothing else around it.
 *
 *   keys --module PATH --label LABEL --pin-fd N --key ec-p256|ec-p384|rsa-2048|rsa-3072|rsa-4096
 *        --count N [--keep yes]
 *
 * Session objects of one session, thrown away at once; or token objects that stay. The file
 * descriptor gives the PIN. Prints the rate. Part of the benchmarks, no test.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

#define SLOTS_MAX 4096

static CK_FUNCTION_LIST *p11;

_Noreturn static void fail(const char *what, CK_RV rv)
{
    fprintf(stderr, "keys: %s: 0x%08lx\n", what, rv);
    exit(1);
}

static void check(const char *what, CK_RV rv)
{
    if (rv != CKR_OK)
        fail(what, rv);
}

static const char *given(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}

static const char *argument(int argc, char **argv, const char *name)
{
    const char *value = given(argc, argv, name);
    if (value)
        return value;
    fprintf(stderr, "keys: %s is missing\n", name);
    exit(2);
}

static void load(const char *module)
{
    void *library = dlopen(module, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    if (library)
        *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (!get)
        fail(module, CKR_GENERAL_ERROR);
    check("C_GetFunctionList", get(&p11));
    CK_C_INITIALIZE_ARGS init = {.flags = CKF_OS_LOCKING_OK};
    check("C_Initialize", p11->C_Initialize(&init));
}

static CK_SLOT_ID find(const char *label)
{
    static CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX;
    check("C_GetSlotList", p11->C_GetSlotList(CK_TRUE, slots, &n));
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;
        size_t len = strlen(label);
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && len <= sizeof(info.label) &&
            memcmp(info.label, label, len) == 0)
            return slots[i];
    }
    fail(label, CKR_TOKEN_NOT_PRESENT);
}

static void log_in(CK_SESSION_HANDLE session, int fd)
{
    unsigned char pin[64];
    ssize_t n = read(fd, pin, sizeof(pin));
    while (n > 0 && pin[n - 1] == '\n')
        n--;
    if (n <= 0)
        fail("no PIN on the file descriptor", CKR_PIN_INVALID);
    check("C_Login", p11->C_Login(session, CKU_USER, pin, (CK_ULONG)n));
    explicit_bzero(pin, sizeof(pin));
}

static void make(CK_SESSION_HANDLE session, const char *kind, int keep, long number)
{
    static unsigned char p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    static unsigned char p384[] = {6, 5, 0x2b, 0x81, 4, 0, 0x22};
    static unsigned char three[] = {1, 0, 1};
    CK_BBOOL token = keep ? CK_TRUE : CK_FALSE, yes = CK_TRUE;
    int rsa = strncmp(kind, "rsa-", 4) == 0, small = strcmp(kind, "ec-p256") == 0;
    CK_ULONG bits = rsa ? strtoul(kind + 4, NULL, 10) : 0;
    CK_MECHANISM mechanism = {rsa ? CKM_RSA_PKCS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_ATTRIBUTE own_rsa[] = {{CKA_MODULUS_BITS, &bits, sizeof(bits)},
                              {CKA_PUBLIC_EXPONENT, three, sizeof(three)},
                              {CKA_TOKEN, &token, sizeof(token)},
                              {CKA_ID, &number, sizeof(number)}};
    CK_ULONG curve_len = small ? sizeof(p256) : sizeof(p384);
    CK_ATTRIBUTE own_ec[] = {{CKA_EC_PARAMS, small ? p256 : p384, curve_len},
                             {CKA_TOKEN, &token, sizeof(token)},
                             {CKA_ID, &number, sizeof(number)}};
    CK_ATTRIBUTE private[] = {{CKA_TOKEN, &token, sizeof(token)}, {CKA_PRIVATE, &yes, sizeof(yes)},
                              {CKA_SENSITIVE, &yes, sizeof(yes)}, {CKA_SIGN, &yes, sizeof(yes)},
                              {CKA_ID, &number, sizeof(number)}};
    CK_OBJECT_HANDLE a, b;
    check("C_GenerateKeyPair",
          p11->C_GenerateKeyPair(session, &mechanism, rsa ? own_rsa : own_ec, rsa ? 4 : 3, private,
                                 5, &a, &b));
    if (keep)
        return;
    check("C_DestroyObject", p11->C_DestroyObject(session, a));
    check("C_DestroyObject", p11->C_DestroyObject(session, b));
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    long count = strtol(argument(argc, argv, "--count"), NULL, 10);
    CK_SESSION_HANDLE session;
    load(argument(argc, argv, "--module"));
    check("C_OpenSession",
          p11->C_OpenSession(find(argument(argc, argv, "--label")),
                             CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    log_in(session, (int)strtol(argument(argc, argv, "--pin-fd"), NULL, 10));
    double began = now();
    for (long i = 0; i < count; i++)
        make(session, argument(argc, argv, "--key"), given(argc, argv, "--keep") != NULL, i);
    printf("%.2f\n", (double)count / (now() - began));
    check("C_Finalize", p11->C_Finalize(NULL));
    return 0;
}
