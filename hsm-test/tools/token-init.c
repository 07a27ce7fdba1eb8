/*
 * token-init: makes a token for the quick start and the tests, with PINs that never stand in argv.
 *
 *   token-init --module PATH --label LABEL --pin-fd N [--parameters TEXT] [--slot N]
 *
 * The file descriptor gives two lines: the SO PIN, then the user PIN. Without --slot the first slot
 * with a token that isn't initialised is taken (SoftHSM always offers one). With --parameters the
 * text goes to C_Initialize as NSS wants it; NSS's token isn't initialised, only its PIN is set.
 * Prints "LABEL SERIAL".
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

#define PIN_MAX 64
#define SLOTS_MAX 4096

/* NSS reads its parameters from a member that the standard doesn't have, before the reserved one.
 */
struct nss_args {
    void *create, *destroy, *lock, *unlock;
    CK_FLAGS flags;
    const char *parameters;
    void *reserved;
};

static struct {
    const char *module, *label, *parameters;
    int pin_fd;
    long slot;
} args = {.pin_fd = -1, .slot = -1};

static CK_FUNCTION_LIST *p11;

_Noreturn static void fail(const char *what, CK_RV rv)
{
    if (rv)
        fprintf(stderr, "token-init: %s: 0x%08lx\n", what, rv);
    else
        fprintf(stderr, "token-init: %s\n", what);
    exit(1);
}

static void check(const char *what, CK_RV rv)
{
    if (rv != CKR_OK)
        fail(what, rv);
}

/* Byte by byte, so that nothing behind the line is taken away from the next reader. */
static size_t read_line(int fd, unsigned char *buf, size_t size)
{
    size_t n = 0;
    for (;;) {
        unsigned char c;
        ssize_t got = read(fd, &c, 1);
        if (got <= 0 || c == '\n')
            break;
        if (n == size)
            fail("a PIN is too long", 0);
        buf[n++] = c;
    }
    if (n == 0)
        fail("a PIN is missing on the file descriptor", 0);
    return n;
}

static void read_args(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--module") == 0)
            args.module = value;
        else if (strcmp(argv[i], "--label") == 0)
            args.label = value;
        else if (strcmp(argv[i], "--parameters") == 0)
            args.parameters = value;
        else if (strcmp(argv[i], "--pin-fd") == 0)
            args.pin_fd = (int)strtol(value, NULL, 10);
        else if (strcmp(argv[i], "--slot") == 0)
            args.slot = strtol(value, NULL, 10);
        else
            fail("usage: --module PATH --label LABEL --pin-fd N [--parameters TEXT] [--slot N]", 0);
    }
    if (argc % 2 == 0 || !args.module || !args.label || args.pin_fd < 0 || strlen(args.label) > 32)
        fail("usage: --module PATH --label LABEL --pin-fd N [--parameters TEXT] [--slot N]", 0);
}

static void load(void)
{
    void *library = dlopen(args.module, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail(dlerror(), 0);
    CK_C_GetFunctionList get;
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (!get)
        fail("the module has no C_GetFunctionList", 0);
    check("C_GetFunctionList", get(&p11));
    struct nss_args init = {.flags = CKF_OS_LOCKING_OK, .parameters = args.parameters};
    check("C_Initialize", p11->C_Initialize(&init));
}

static CK_ULONG slots(CK_SLOT_ID *list)
{
    CK_ULONG n = SLOTS_MAX;
    check("C_GetSlotList", p11->C_GetSlotList(CK_TRUE, list, &n));
    return n;
}

static void pad_label(unsigned char out[32])
{
    memset(out, ' ', 32);
    memcpy(out, args.label, strlen(args.label));
}

static CK_SLOT_ID fresh_slot(void)
{
    static CK_SLOT_ID list[SLOTS_MAX];
    CK_ULONG n = slots(list);
    if (args.slot >= 0)
        return (CK_SLOT_ID)args.slot;
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;
        if (p11->C_GetTokenInfo(list[i], &info) == CKR_OK && !(info.flags & CKF_TOKEN_INITIALIZED))
            return list[i];
    }
    fail("no slot has a token to initialise", 0);
}

/* SoftHSM gives a token another slot number once it is initialised: find it by its label. */
static CK_SLOT_ID slot_of_label(void)
{
    static CK_SLOT_ID list[SLOTS_MAX];
    unsigned char label[32];
    pad_label(label);
    CK_ULONG n = slots(list), found = 0;
    CK_SLOT_ID slot = 0;
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;
        if (p11->C_GetTokenInfo(list[i], &info) == CKR_OK && info.flags & CKF_TOKEN_INITIALIZED &&
            memcmp(info.label, label, 32) == 0) {
            slot = list[i];
            found++;
        }
    }
    if (found != 1)
        fail("the new token can't be found by its label, or there are several", 0);
    return slot;
}

int main(int argc, char **argv)
{
    unsigned char so[PIN_MAX], user[PIN_MAX], label[32];
    read_args(argc, argv);
    size_t so_len = read_line(args.pin_fd, so, sizeof(so));
    size_t user_len = read_line(args.pin_fd, user, sizeof(user));
    load();
    CK_SLOT_ID slot = fresh_slot();
    if (!args.parameters) {
        pad_label(label);
        check("C_InitToken", p11->C_InitToken(slot, so, so_len, label));
        slot = slot_of_label();
    } else
        so_len = 0; /* NSS's SO PIN is empty until a user PIN is set */
    CK_SESSION_HANDLE session;
    check("C_OpenSession",
          p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    check("C_Login", p11->C_Login(session, CKU_SO, so, so_len));
    check("C_InitPIN", p11->C_InitPIN(session, user, user_len));
    (void)p11->C_Logout(session);
    (void)p11->C_CloseSession(session);
    CK_TOKEN_INFO info;
    check("C_GetTokenInfo", p11->C_GetTokenInfo(slot, &info));
    printf("%.32s %.16s\n", (const char *)info.label, (const char *)info.serialNumber);
    explicit_bzero(so, sizeof(so));
    explicit_bzero(user, sizeof(user));
    (void)p11->C_Finalize(NULL);
    return 0;
}
