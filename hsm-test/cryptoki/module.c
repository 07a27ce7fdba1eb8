/*
 * libpfx_test_token.so: a Cryptoki module whose token is in another process (pfx-test-token). Each
 * function writes its arguments, asks, and reads what comes; what the other process lets come is
 * its business, wrong lengths included, but nothing is ever written past the caller's buffer.
 *
 * Not passed: the Notify callback, saved operation states, the recover and the double functions
 * (C_DigestEncryptUpdate and its like) and C_WaitForSlotEvent: CKR_FUNCTION_NOT_SUPPORTED.
 */
#include <stdio.h>
#include <string.h>

#include "hsm-test/cryptoki/link.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* No connection: why, as a real client would say it. */
static CK_RV absent(enum tt_function function)
{
    if (!tt_link_ready())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (!tt_link_nobody())
        return CKR_DEVICE_ERROR;
    switch (function) {
    case TT_GetSlotInfo:
    case TT_GetTokenInfo:
    case TT_GetMechanismList:
    case TT_GetMechanismInfo:
    case TT_InitToken:
    case TT_OpenSession:
    case TT_CloseAllSessions:
        return CKR_SLOT_ID_INVALID;
    default:
        return CKR_SESSION_HANDLE_INVALID;
    }
}

#define BEGIN(function)                                                                            \
    struct tt_link *link = tt_link_take(function);                                                 \
    if (!link)                                                                                     \
        return absent(function);                                                                   \
    struct tt_frame *out = tt_link_out(link), *in = tt_link_in(link)

static CK_RV finish(struct tt_link *link, CK_RV rv)
{
    tt_link_give(link);
    return rv;
}

/* Numbers out, nothing back. */
static CK_RV numbers(enum tt_function function, size_t n, const CK_ULONG *at)
{
    BEGIN(function);
    (void)in;
    for (size_t i = 0; i < n; i++)
        tt_put(out, at[i]);
    return finish(link, tt_link_ask(link));
}
#define NUMBERS(function, ...)                                                                     \
    numbers(function, sizeof((CK_ULONG[]){__VA_ARGS__}) / sizeof(CK_ULONG),                        \
            (CK_ULONG[]){__VA_ARGS__})

/* A structure of fixed size back. */
static CK_RV structure(enum tt_function function, size_t n, const CK_ULONG *at, void *info,
                       size_t size)
{
    if (!info)
        return CKR_ARGUMENTS_BAD;
    BEGIN(function);
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        tt_put(out, at[i]);
    CK_RV rv = tt_link_ask(link);
    const unsigned char *got = tt_more(in) ? tt_get_bytes(in, &len) : NULL;
    if (got)
        memcpy(info, got, MIN(len, size));
    return finish(link, rv);
}

/* What comes back into a buffer whose room the caller says, and the length that is claimed for it.
 */
static void into(struct tt_frame *in, void *buffer, CK_ULONG *len, CK_ULONG unit)
{
    if (!tt_more(in))
        return;
    size_t n = 0;
    CK_ULONG room = *len * unit;
    *len = tt_get(in);
    const unsigned char *got = tt_get_bytes(in, &n);
    if (got && buffer)
        memcpy(buffer, got, MIN(n, room));
}

static void room_for(struct tt_frame *out, const void *buffer, CK_ULONG len)
{
    tt_put(out, buffer != NULL);
    tt_put(out, buffer ? MIN(len, TT_FRAME_MAX / 16) : 0);
}

static CK_RV data(enum tt_function function, CK_SESSION_HANDLE session, bool with_data,
                  const CK_BYTE *given, CK_ULONG n_given, CK_BYTE *buffer, CK_ULONG *len)
{
    if (!len)
        return CKR_ARGUMENTS_BAD;
    BEGIN(function);
    tt_put(out, session);
    if (with_data)
        tt_put_bytes(out, given, n_given);
    room_for(out, buffer, *len);
    CK_RV rv = tt_link_ask(link);
    into(in, buffer, len, 1);
    return finish(link, rv);
}

/* Data out, nothing back. */
static CK_RV feed(enum tt_function function, CK_SESSION_HANDLE session, const CK_BYTE *given,
                  CK_ULONG n)
{
    BEGIN(function);
    (void)in;
    tt_put(out, session);
    tt_put_bytes(out, given, n);
    return finish(link, tt_link_ask(link));
}

static CK_RV begin(enum tt_function function, CK_SESSION_HANDLE session,
                   const CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    BEGIN(function);
    (void)in;
    tt_put(out, session);
    tt_put_mechanism(out, mechanism);
    tt_put(out, key);
    return finish(link, tt_link_ask(link));
}

static CK_RV finish_handles(struct tt_link *link, CK_OBJECT_HANDLE *first, CK_OBJECT_HANDLE *second)
{
    CK_RV rv = tt_link_ask(link);
    struct tt_frame *in = tt_link_in(link);
    if (tt_more(in) && first)
        *first = tt_get(in);
    if (tt_more(in) && second)
        *second = tt_get(in);
    return finish(link, rv);
}

/* --- general --------------------------------------------------------------------------------- */

static CK_RV m_Initialize(void *given)
{
    const CK_C_INITIALIZE_ARGS *args = given;
    CK_RV rv = tt_link_up(args ? args->pReserved : NULL);
    if (rv != CKR_OK || tt_link_nobody())
        return rv;
    rv = NUMBERS(TT_Initialize, 0);
    if (rv != CKR_OK)
        tt_link_down();
    return rv;
}

static CK_RV m_Finalize(void *reserved)
{
    (void)reserved;
    if (!tt_link_ready())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    /* A failed one leaves the module as it is, unless nobody is there any more. */
    CK_RV rv = NUMBERS(TT_Finalize, 0);
    if (rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_DEVICE_ERROR)
        rv = CKR_OK;
    if (rv == CKR_OK)
        tt_link_down();
    return rv;
}

static CK_RV m_GetInfo(CK_INFO *info)
{
    if (tt_link_nobody() && info) {
        memset(info, 0, sizeof *info);
        memset(info->manufacturerID, ' ', sizeof info->manufacturerID);
        memset(info->libraryDescription, ' ', sizeof info->libraryDescription);
        info->cryptokiVersion = (CK_VERSION){2, 20};
        return CKR_OK;
    }
    return structure(TT_GetInfo, 0, NULL, info, sizeof *info);
}

static CK_RV list_of(enum tt_function function, size_t n_first, const CK_ULONG *first, void *list,
                     CK_ULONG *count)
{
    if (!count)
        return CKR_ARGUMENTS_BAD;
    BEGIN(function);
    for (size_t i = 0; i < n_first; i++)
        tt_put(out, first[i]);
    room_for(out, list, *count);
    CK_RV rv = tt_link_ask(link);
    into(in, list, count, sizeof(CK_ULONG));
    return finish(link, rv);
}

static CK_RV m_GetSlotList(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *count)
{
    if (tt_link_nobody() && count) {
        *count = 0;
        return CKR_OK;
    }
    return list_of(TT_GetSlotList, 1, &(CK_ULONG){present}, list, count);
}

static CK_RV m_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    return structure(TT_GetSlotInfo, 1, &slot, info, sizeof *info);
}

static CK_RV m_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    return structure(TT_GetTokenInfo, 1, &slot, info, sizeof *info);
}

static CK_RV m_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    return list_of(TT_GetMechanismList, 1, &slot, list, count);
}

static CK_RV m_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    return structure(TT_GetMechanismInfo, 2, (CK_ULONG[]){slot, type}, info, sizeof *info);
}

static CK_RV m_InitToken(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG n, CK_BYTE *label)
{
    BEGIN(TT_InitToken);
    (void)in;
    tt_put(out, slot);
    tt_put_bytes(out, pin, n);
    tt_put_bytes(out, label, label ? 32 : 0);
    return finish(link, tt_link_ask(link));
}

static CK_RV m_InitPIN(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG n)
{
    return feed(TT_InitPIN, session, pin, n);
}

static CK_RV m_SetPIN(CK_SESSION_HANDLE session, CK_BYTE *old, CK_ULONG n_old, CK_BYTE *fresh,
                      CK_ULONG n_fresh)
{
    BEGIN(TT_SetPIN);
    (void)in;
    tt_put(out, session);
    tt_put_bytes(out, old, n_old);
    tt_put_bytes(out, fresh, n_fresh);
    return finish(link, tt_link_ask(link));
}

/* --- sessions and objects ----------------------------------------------------------------------
 */

static CK_RV m_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                           CK_SESSION_HANDLE *session)
{
    (void)application;
    (void)notify;
    BEGIN(TT_OpenSession);
    (void)in;
    tt_put(out, slot);
    tt_put(out, flags);
    return finish_handles(link, session, NULL);
}

static CK_RV m_CloseSession(CK_SESSION_HANDLE session)
{
    return NUMBERS(TT_CloseSession, session);
}

static CK_RV m_CloseAllSessions(CK_SLOT_ID slot)
{
    return NUMBERS(TT_CloseAllSessions, slot);
}

static CK_RV m_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO *info)
{
    return structure(TT_GetSessionInfo, 1, &session, info, sizeof *info);
}

static CK_RV m_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG n)
{
    BEGIN(TT_Login);
    (void)in;
    tt_put(out, session);
    tt_put(out, user);
    tt_put_bytes(out, pin, n);
    return finish(link, tt_link_ask(link));
}

static CK_RV m_Logout(CK_SESSION_HANDLE session)
{
    return NUMBERS(TT_Logout, session);
}

static CK_RV m_CreateObject(CK_SESSION_HANDLE session, CK_ATTRIBUTE *at, CK_ULONG n,
                            CK_OBJECT_HANDLE *object)
{
    BEGIN(TT_CreateObject);
    (void)in;
    tt_put(out, session);
    tt_put_template(out, at, n, true);
    return finish_handles(link, object, NULL);
}

static CK_RV m_CopyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE from, CK_ATTRIBUTE *at,
                          CK_ULONG n, CK_OBJECT_HANDLE *object)
{
    BEGIN(TT_CopyObject);
    (void)in;
    tt_put(out, session);
    tt_put(out, from);
    tt_put_template(out, at, n, true);
    return finish_handles(link, object, NULL);
}

static CK_RV m_DestroyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    return NUMBERS(TT_DestroyObject, session, object);
}

static CK_RV m_GetObjectSize(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ULONG *size)
{
    return structure(TT_GetObjectSize, 2, (CK_ULONG[]){session, object}, size, sizeof *size);
}

static void read_values(struct tt_frame *in, CK_ATTRIBUTE *at, CK_ULONG n)
{
    for (CK_ULONG i = 0; i < n && tt_more(in); i++) {
        CK_ULONG room = at[i].ulValueLen;
        at[i].ulValueLen = tt_get(in);
        size_t len = 0;
        if (at[i].pValue && tt_is_nested(&at[i]) &&
            at[i].ulValueLen != CK_UNAVAILABLE_INFORMATION) {
            read_values(in, at[i].pValue, room / sizeof(CK_ATTRIBUTE));
            continue;
        }
        const unsigned char *got = tt_get_bytes(in, &len);
        if (got && at[i].pValue)
            memcpy(at[i].pValue, got, MIN(len, room));
    }
}

static CK_RV m_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *at, CK_ULONG n)
{
    BEGIN(TT_GetAttributeValue);
    tt_put(out, session);
    tt_put(out, object);
    tt_put_template(out, at, n, false);
    CK_RV rv = tt_link_ask(link);
    read_values(in, at, n);
    return finish(link, rv);
}

static CK_RV m_SetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *at, CK_ULONG n)
{
    BEGIN(TT_SetAttributeValue);
    (void)in;
    tt_put(out, session);
    tt_put(out, object);
    tt_put_template(out, at, n, true);
    return finish(link, tt_link_ask(link));
}

static CK_RV m_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE *at, CK_ULONG n)
{
    BEGIN(TT_FindObjectsInit);
    (void)in;
    tt_put(out, session);
    tt_put_template(out, at, n, true);
    return finish(link, tt_link_ask(link));
}

static CK_RV m_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *list, CK_ULONG max,
                           CK_ULONG *count)
{
    if (!list || !count)
        return CKR_ARGUMENTS_BAD;
    BEGIN(TT_FindObjects);
    tt_put(out, session);
    room_for(out, list, max);
    CK_RV rv = tt_link_ask(link);
    CK_ULONG n = max;
    bool some = tt_more(in);
    into(in, list, &n, sizeof(CK_ULONG));
    if (some)
        *count = n;
    return finish(link, rv);
}

static CK_RV m_FindObjectsFinal(CK_SESSION_HANDLE session)
{
    return NUMBERS(TT_FindObjectsFinal, session);
}

/* --- operations ------------------------------------------------------------------------------- */

#define INIT(name)                                                                                 \
    static CK_RV m_##name(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,                      \
                          CK_OBJECT_HANDLE key)                                                    \
    {                                                                                              \
        return begin(TT_##name, session, mechanism, key);                                          \
    }
INIT(EncryptInit)
INIT(DecryptInit)
INIT(SignInit)
INIT(VerifyInit)

static CK_RV m_DigestInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism)
{
    return begin(TT_DigestInit, session, mechanism, 0);
}

#define DATA(name)                                                                                 \
    static CK_RV m_##name(CK_SESSION_HANDLE session, CK_BYTE *given, CK_ULONG n, CK_BYTE *buffer,  \
                          CK_ULONG *len)                                                           \
    {                                                                                              \
        return data(TT_##name, session, true, given, n, buffer, len);                              \
    }
DATA(Encrypt)
DATA(EncryptUpdate)
DATA(Decrypt)
DATA(DecryptUpdate)
DATA(Digest)
DATA(Sign)

#define FINAL(name)                                                                                \
    static CK_RV m_##name(CK_SESSION_HANDLE session, CK_BYTE *buffer, CK_ULONG *len)               \
    {                                                                                              \
        return data(TT_##name, session, false, NULL, 0, buffer, len);                              \
    }
FINAL(EncryptFinal)
FINAL(DecryptFinal)
FINAL(DigestFinal)
FINAL(SignFinal)

#define FEED(name)                                                                                 \
    static CK_RV m_##name(CK_SESSION_HANDLE session, CK_BYTE *given, CK_ULONG n)                   \
    {                                                                                              \
        return feed(TT_##name, session, given, n);                                                 \
    }
FEED(DigestUpdate)
FEED(SignUpdate)
FEED(VerifyUpdate)
FEED(VerifyFinal)
FEED(SeedRandom)

static CK_RV m_DigestKey(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    return NUMBERS(TT_DigestKey, session, key);
}

static CK_RV m_Verify(CK_SESSION_HANDLE session, CK_BYTE *given, CK_ULONG n, CK_BYTE *signature,
                      CK_ULONG n_signature)
{
    BEGIN(TT_Verify);
    (void)in;
    tt_put(out, session);
    tt_put_bytes(out, given, n);
    tt_put_bytes(out, signature, n_signature);
    return finish(link, tt_link_ask(link));
}

static CK_RV m_GenerateRandom(CK_SESSION_HANDLE session, CK_BYTE *buffer, CK_ULONG n)
{
    BEGIN(TT_GenerateRandom);
    tt_put(out, session);
    room_for(out, buffer, n);
    CK_RV rv = tt_link_ask(link);
    CK_ULONG len = n;
    into(in, buffer, &len, 1);
    return finish(link, rv);
}

/* --- keys ------------------------------------------------------------------------------------- */

static CK_RV m_GenerateKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *at,
                           CK_ULONG n, CK_OBJECT_HANDLE *key)
{
    BEGIN(TT_GenerateKey);
    (void)in;
    tt_put(out, session);
    tt_put_mechanism(out, mechanism);
    tt_put_template(out, at, n, true);
    return finish_handles(link, key, NULL);
}

static CK_RV m_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                               CK_ATTRIBUTE *public_at, CK_ULONG n_public, CK_ATTRIBUTE *private_at,
                               CK_ULONG n_private, CK_OBJECT_HANDLE *public_key,
                               CK_OBJECT_HANDLE *private_key)
{
    BEGIN(TT_GenerateKeyPair);
    (void)in;
    tt_put(out, session);
    tt_put_mechanism(out, mechanism);
    tt_put_template(out, public_at, n_public, true);
    tt_put_template(out, private_at, n_private, true);
    return finish_handles(link, public_key, private_key);
}

static CK_RV m_WrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE by,
                       CK_OBJECT_HANDLE key, CK_BYTE *wrapped, CK_ULONG *len)
{
    if (!len)
        return CKR_ARGUMENTS_BAD;
    BEGIN(TT_WrapKey);
    tt_put(out, session);
    tt_put_mechanism(out, mechanism);
    tt_put(out, by);
    tt_put(out, key);
    room_for(out, wrapped, *len);
    CK_RV rv = tt_link_ask(link);
    into(in, wrapped, len, 1);
    return finish(link, rv);
}

static CK_RV m_UnwrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE by,
                         CK_BYTE *wrapped, CK_ULONG n_wrapped, CK_ATTRIBUTE *at, CK_ULONG n,
                         CK_OBJECT_HANDLE *key)
{
    BEGIN(TT_UnwrapKey);
    (void)in;
    tt_put(out, session);
    tt_put_mechanism(out, mechanism);
    tt_put(out, by);
    tt_put_bytes(out, wrapped, n_wrapped);
    tt_put_template(out, at, n, true);
    return finish_handles(link, key, NULL);
}

static CK_RV m_DeriveKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE base,
                         CK_ATTRIBUTE *at, CK_ULONG n, CK_OBJECT_HANDLE *key)
{
    BEGIN(TT_DeriveKey);
    (void)in;
    tt_put(out, session);
    tt_put_mechanism(out, mechanism);
    tt_put(out, base);
    tt_put_template(out, at, n, true);
    return finish_handles(link, key, NULL);
}

/* --- the list --------------------------------------------------------------------------------- */

/* For any arguments: the caller cleans up behind a call. */
static CK_RV unsupported(void)
{
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV not_parallel(CK_SESSION_HANDLE session)
{
    (void)session;
    return CKR_FUNCTION_NOT_PARALLEL;
}

static CK_FUNCTION_LIST list;

static CK_RV m_GetFunctionList(CK_FUNCTION_LIST **ret_list)
{
    *ret_list = &list;
    return CKR_OK;
}

/* clang-format off */
#define HAVE(X)                                                                                    \
    X(Initialize) X(Finalize) X(GetInfo) X(GetFunctionList) X(GetSlotList) X(GetSlotInfo)          \
    X(GetTokenInfo) X(GetMechanismList) X(GetMechanismInfo) X(InitToken) X(InitPIN) X(SetPIN)      \
    X(OpenSession) X(CloseSession) X(CloseAllSessions) X(GetSessionInfo) X(Login) X(Logout)        \
    X(CreateObject) X(CopyObject) X(DestroyObject) X(GetObjectSize) X(GetAttributeValue)           \
    X(SetAttributeValue) X(FindObjectsInit) X(FindObjects) X(FindObjectsFinal) X(EncryptInit)      \
    X(Encrypt) X(EncryptUpdate) X(EncryptFinal) X(DecryptInit) X(Decrypt) X(DecryptUpdate)         \
    X(DecryptFinal) X(DigestInit) X(Digest) X(DigestUpdate) X(DigestKey) X(DigestFinal)            \
    X(SignInit) X(Sign) X(SignUpdate) X(SignFinal) X(VerifyInit) X(Verify) X(VerifyUpdate)         \
    X(VerifyFinal) X(GenerateKey) X(GenerateKeyPair) X(WrapKey) X(UnwrapKey) X(DeriveKey)          \
    X(SeedRandom) X(GenerateRandom)
/* clang-format on */

static void set(size_t offset, void (*function)(void))
{
    memcpy((unsigned char *)&list + offset, &function, sizeof function);
}

__attribute__((constructor)) static void fill(void)
{
    list.version = (CK_VERSION){2, 20};
#define UNSUPPORTED(name) set(offsetof(CK_FUNCTION_LIST, C_##name), (void (*)(void))unsupported);
    TT_FUNCTIONS(UNSUPPORTED)
#define FORWARDED(name) list.C_##name = m_##name;
    HAVE(FORWARDED)
    list.C_GetFunctionStatus = not_parallel;
    list.C_CancelFunction = not_parallel;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret_list)
{
    if (!ret_list)
        return CKR_ARGUMENTS_BAD;
    *ret_list = &list;
    return CKR_OK;
}
