/* Calls as they come, what is to go wrong with them, and what is answered. */
#include "hsm-test/cryptoki/serve.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hsm-test/cryptoki/call.h"

static const struct tt_real *real;
CK_FUNCTION_LIST *tt_p11;

CK_RV tt_initialize(void)
{
    /* NSS reads its parameters from where the standard has pReserved, and pReserved behind it. */
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *behind;
    } args = {
        .standard = {.flags = CKF_OS_LOCKING_OK, .pReserved = (void *)(uintptr_t)real->parameters}};
    void *library = tt_p11 ? NULL : dlopen(real->module, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "C_GetFunctionList") : NULL;
    CK_C_GetFunctionList get = NULL;
    memcpy(&get, &symbol, sizeof get);
    if (!tt_p11 && (!get || get(&tt_p11) != CKR_OK)) {
        fprintf(stderr, "pfx-test-token: %s: %s\n", real->module, dlerror());
        return CKR_GENERAL_ERROR;
    }
    return tt_p11->C_Initialize(&args);
}

/* --- handles and outputs, as the rule wants them
 * --------------------------------------------------- */

static unsigned positions(enum tt_function function)
{
    switch (function) {
    case TT_CopyObject:
    case TT_GenerateKeyPair:
    case TT_WrapKey:
    case TT_UnwrapKey:
    case TT_DeriveKey:
        return 2;
    case TT_CreateObject:
    case TT_DestroyObject:
    case TT_GetObjectSize:
    case TT_GetAttributeValue:
    case TT_SetAttributeValue:
    case TT_FindObjects:
    case TT_EncryptInit:
    case TT_DecryptInit:
    case TT_SignInit:
    case TT_VerifyInit:
    case TT_DigestKey:
    case TT_GenerateKey:
        return 1;
    default:
        return 0;
    }
}

static bool is_target(struct tt_call *call)
{
    unsigned n = positions(call->function);
    return ++call->position == (call->value ? call->value : n);
}

static CK_RV invalid(const struct tt_call *call)
{
    switch (call->function) {
    case TT_WrapKey:
        return call->position == 1 ? CKR_WRAPPING_KEY_HANDLE_INVALID : CKR_KEY_HANDLE_INVALID;
    case TT_UnwrapKey:
        return CKR_UNWRAPPING_KEY_HANDLE_INVALID;
    case TT_EncryptInit:
    case TT_DecryptInit:
    case TT_SignInit:
    case TT_VerifyInit:
    case TT_DigestKey:
    case TT_DeriveKey:
        return CKR_KEY_HANDLE_INVALID;
    default:
        return CKR_OBJECT_HANDLE_INVALID;
    }
}

CK_SESSION_HANDLE tt_take_session(struct tt_call *call)
{
    CK_SESSION_HANDLE session = tt_get(call->in);
    bool mine = positions(call->function) == 0;
    if (mine && call->action == TT_ACT_FORGET)
        tt_forget(TT_SESSIONS, session);
    if (mine && call->action == TT_ACT_SWAP)
        session = tt_other(tt_p11, TT_SESSIONS, session, session);
    if (tt_forgotten(TT_SESSIONS, session))
        call->refuse = CKR_SESSION_HANDLE_INVALID;
    return call->session = session;
}

CK_OBJECT_HANDLE tt_take_object(struct tt_call *call)
{
    CK_OBJECT_HANDLE object = tt_get(call->in);
    bool target = is_target(call);
    if (object)
        tt_learn(TT_OBJECTS, object);
    if (target && call->action == TT_ACT_FORGET)
        tt_forget(TT_OBJECTS, object);
    if (target && call->action == TT_ACT_SWAP)
        object = tt_other(tt_p11, TT_OBJECTS, call->session, object);
    if (!call->refuse && tt_forgotten(TT_OBJECTS, object))
        call->refuse = invalid(call);
    return object;
}

void tt_give_object(struct tt_call *call, CK_OBJECT_HANDLE object)
{
    bool target = is_target(call);
    if (target && call->action == TT_ACT_SWAP)
        object = tt_other(tt_p11, TT_OBJECTS, call->session, object);
    tt_learn(TT_OBJECTS, object);
    if (target && call->action == TT_ACT_FORGET)
        tt_forget(TT_OBJECTS, object);
    tt_put(call->out, object);
}

void tt_give_session(struct tt_call *call, CK_SESSION_HANDLE session)
{
    if (call->action == TT_ACT_SWAP)
        session = tt_other(tt_p11, TT_SESSIONS, session, session);
    tt_learn(TT_SESSIONS, session);
    if (call->action == TT_ACT_FORGET)
        tt_forget(TT_SESSIONS, session);
    tt_put(call->out, session);
}

static CK_ULONG claim(const struct tt_call *call, bool has, CK_ULONG len, CK_ULONG room)
{
    switch (call->action) {
    case TT_ACT_SHORT:
        return call->value && call->value < len ? call->value : len / 2;
    case TT_ACT_ZERO:
        return 0;
    case TT_ACT_OVERSIZE:
        return (has ? room : len) + (call->value ? call->value : 1);
    case TT_ACT_HUGE:
        return call->value ? call->value : ~0UL >> 1;
    default:
        return len;
    }
}

static void garble(unsigned char *at, size_t n)
{
    if (n > 0)
        at[0] ^= 1;
    if (n > 1)
        at[n - 1] ^= 1;
}

void tt_give_bytes(struct tt_call *call, CK_RV rv, void *at, CK_ULONG len, CK_ULONG room,
                   size_t unit)
{
    bool has = at && rv == CKR_OK;
    CK_ULONG claimed = rv == CKR_OK ? claim(call, at != NULL, len, room) : len;
    CK_ULONG n = !has ? 0 : len < room ? len : room;
    if (has && call->action == TT_ACT_GARBLE)
        garble(at, n * unit);
    if (has && claimed < n)
        n = claimed; /* a short answer has written no more than it says */
    tt_put(call->out, claimed);
    tt_put_bytes(call->out, has ? at : NULL, n * unit);
}

void tt_give_structure(struct tt_call *call, CK_RV rv, void *at, size_t size)
{
    if (call->action == TT_ACT_GARBLE && call->value < size)
        ((unsigned char *)at)[call->value] ^= 1;
    tt_put_bytes(call->out, rv == CKR_OK ? at : NULL, size);
}

void tt_give_values(struct tt_call *call, CK_RV rv, CK_ATTRIBUTE *at, CK_ULONG n,
                    const CK_ULONG *room)
{
    for (CK_ULONG i = 0; i < n; i++) {
        bool there = at[i].ulValueLen != CK_UNAVAILABLE_INFORMATION;
        if (at[i].pValue && tt_is_nested(&at[i]) && there) {
            CK_ULONG inner = room[i] / sizeof(CK_ATTRIBUTE), got = at[i].ulValueLen / sizeof *at;
            CK_ULONG *whole = tt_alloc(&call->arena, (inner + 1) * sizeof *whole);
            for (CK_ULONG j = 0; j < inner; j++) /* as much as the real module found room for */
                whole[j] = j < got ? ((CK_ATTRIBUTE *)at[i].pValue)[j].ulValueLen : 0;
            tt_put(call->out, at[i].ulValueLen);
            tt_give_values(call, rv, at[i].pValue, inner, whole);
        } else if (!there) {
            tt_put(call->out, at[i].ulValueLen);
            tt_put_bytes(call->out, NULL, 0);
        } else {
            tt_give_bytes(call, CKR_OK, at[i].pValue, at[i].ulValueLen, room[i], 1);
        }
    }
}

/* --- one call --------------------------------------------------------------------------------- */

_Noreturn static void vanish(bool for_good)
{
    if (for_good) {
        tt_lock();
        tt_shared->gone = true;
        tt_unlock();
    }
    _exit(0);
}

static void pause_ms(unsigned long ms)
{
    nanosleep(
        &(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000},
        NULL);
}

/* The first argument is the slot or the session; it is left to be read. */
static CK_ULONG first_argument(struct tt_call *call)
{
    size_t pos = call->in->pos;
    CK_ULONG value = tt_get(call->in);
    call->in->pos = pos;
    call->in->bad = false;
    return value;
}

static void before(struct tt_call *call)
{
    CK_SESSION_INFO info;
    CK_ULONG first = first_argument(call);
    switch (call->action) {
    case TT_ACT_RV:
        call->refuse = call->value;
        break;
    case TT_ACT_HANG:
        tt_hang();
        break;
    case TT_ACT_DELAY:
        pause_ms(call->value);
        break;
    case TT_ACT_DIE:
    case TT_ACT_VANISH:
        vanish(call->action == TT_ACT_VANISH);
    case TT_ACT_DROP:
        if (tt_p11)
            (void)tt_p11->C_CloseSession(first);
        break;
    case TT_ACT_LOGOUT:
        if (tt_p11)
            (void)tt_p11->C_Logout(first);
        break;
    case TT_ACT_DROP_ALL:
        if (tt_p11 && tt_p11->C_GetSessionInfo(first, &info) == CKR_OK)
            (void)tt_p11->C_CloseAllSessions(info.slotID);
        else if (tt_p11)
            (void)tt_p11->C_CloseAllSessions(first);
        break;
    default:
        break;
    }
}

static void answer(struct tt_frame *in, struct tt_frame *out)
{
    struct tt_call call = {.in = in, .out = out};
    uint64_t number = tt_get(in);
    tt_begin(out);
    tt_put(out, CKR_FUNCTION_NOT_SUPPORTED);
    if (in->bad || number >= TT_COUNT)
        return;
    call.function = (enum tt_function)number;
    call.action = tt_call_begin(call.function, &call.value, &call.record);
    before(&call);
    CK_RV rv = call.refuse;
    if (rv == CKR_OK)
        rv = call.function == TT_Initialize ? tt_initialize()
             : tt_p11                       ? tt_do(&call)
                                            : CKR_CRYPTOKI_NOT_INITIALIZED;
    if (call.action == TT_ACT_HANG_AFTER)
        tt_hang();
    if (call.action == TT_ACT_DIE_AFTER || call.action == TT_ACT_VANISH_AFTER)
        vanish(call.action == TT_ACT_VANISH_AFTER);
    if (call.action == TT_ACT_RV_AFTER)
        call.refuse = rv = call.value;
    if (call.refuse) {
        tt_begin(out);
        tt_put(out, 0);
    }
    uint64_t verdict = rv;
    memcpy(out->at, &verdict, sizeof verdict);
    tt_call_end(call.record, rv);
    tt_free(&call.arena);
}

static void *connection(void *given)
{
    int fd = (int)(intptr_t)given;
    struct tt_frame in = {0}, out = {0};
    while (tt_receive(fd, &in)) {
        answer(&in, &out);
        bool sent = tt_send(fd, &out);
        explicit_bzero(in.at, in.cap);
        explicit_bzero(out.at, out.cap);
        if (!sent)
            break;
    }
    tt_done(&in);
    tt_done(&out);
    close(fd);
    return NULL;
}

void tt_serve(const struct tt_real *what, int app, int calls)
{
    real = what;
    signal(SIGPIPE, SIG_IGN);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    struct pollfd polled[] = {{.fd = app, .events = POLLIN}, {.fd = calls, .events = POLLIN}};
    for (;;) {
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            _exit(1);
        if (polled[0].revents)
            _exit(0); /* the application is gone, and with it its sessions */
        if (!(polled[1].revents & POLLIN))
            continue;
        int fd = accept4(calls, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, &attr, connection, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
