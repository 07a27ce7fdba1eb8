/* Each function: arguments read in the standard's order, the real module called, outputs written.
 */
#include <string.h>

#include "hsm-test/cryptoki/call.h"
#include "hsm-test/cryptoki/needles.h"

#define ROOM_MAX (TT_FRAME_MAX / 8)

/* Stops where the arguments were no arguments, or a handle was forgotten. */
#define READY(call)                                                                                \
    do {                                                                                           \
        if ((call)->in->bad)                                                                       \
            (call)->refuse = CKR_ARGUMENTS_BAD;                                                    \
        if ((call)->refuse)                                                                        \
            return (call)->refuse;                                                                 \
    } while (0)

struct room {
    unsigned char *at; /* NULL: only the length is asked */
    CK_ULONG len, whole;
};

static struct room take_room(struct tt_call *call, size_t unit)
{
    bool has = tt_get(call->in) != 0;
    struct room room = {.whole = tt_get(call->in)};
    if (room.whole > ROOM_MAX)
        room.whole = ROOM_MAX;
    room.len = room.whole;
    if (has)
        room.at = tt_alloc(&call->arena, room.whole * unit + 1);
    return room;
}

static CK_MECHANISM *take_mechanism(struct tt_call *call)
{
    CK_MECHANISM *mechanism = tt_get_mechanism(call->in, &call->arena);
    if (mechanism)
        tt_call_mechanism(call->record, mechanism->mechanism);
    return mechanism;
}

static CK_RV give_key(struct tt_call *call, CK_RV rv, CK_OBJECT_HANDLE key)
{
    if (rv == CKR_OK) {
        tt_needle_key(tt_p11, call->session, key, call->function);
        tt_give_object(call, key);
    }
    return rv;
}

static CK_RV information(struct tt_call *call)
{
    union {
        CK_INFO info;
        CK_SLOT_INFO slot;
        CK_TOKEN_INFO token;
        CK_MECHANISM_INFO mechanism;
        CK_SESSION_INFO session;
        CK_ULONG size;
    } u;
    memset(&u, 0, sizeof u);
    size_t size = 0;
    CK_RV rv;
    CK_ULONG first = 0, second = 0;
    if (call->function == TT_GetSessionInfo || call->function == TT_GetObjectSize)
        first = tt_take_session(call);
    else if (call->function != TT_GetInfo)
        first = tt_get(call->in);
    if (call->function == TT_GetObjectSize)
        second = tt_take_object(call);
    else if (call->function == TT_GetMechanismInfo)
        second = tt_get(call->in);
    READY(call);
    switch (call->function) {
    case TT_GetInfo:
        rv = tt_p11->C_GetInfo(&u.info);
        size = sizeof u.info;
        break;
    case TT_GetSlotInfo:
        rv = tt_p11->C_GetSlotInfo(first, &u.slot);
        size = sizeof u.slot;
        break;
    case TT_GetTokenInfo:
        rv = tt_p11->C_GetTokenInfo(first, &u.token);
        size = sizeof u.token;
        break;
    case TT_GetMechanismInfo:
        tt_call_mechanism(call->record, second);
        rv = tt_p11->C_GetMechanismInfo(first, second, &u.mechanism);
        size = sizeof u.mechanism;
        break;
    case TT_GetSessionInfo:
        rv = tt_p11->C_GetSessionInfo(first, &u.session);
        size = sizeof u.session;
        break;
    default:
        rv = tt_p11->C_GetObjectSize(first, second, &u.size);
        size = sizeof u.size;
        break;
    }
    tt_give_structure(call, rv, &u, size);
    return rv;
}

static CK_RV list(struct tt_call *call)
{
    CK_ULONG first = tt_get(call->in);
    struct room room = take_room(call, sizeof(CK_ULONG));
    READY(call);
    CK_ULONG *at = (CK_ULONG *)(void *)room.at;
    CK_RV rv = call->function == TT_GetSlotList
                   ? tt_p11->C_GetSlotList((CK_BBOOL)first, at, &room.len)
                   : tt_p11->C_GetMechanismList(first, at, &room.len);
    if (rv == CKR_OK || rv == CKR_BUFFER_TOO_SMALL)
        tt_give_bytes(call, rv, room.at, room.len, room.whole, sizeof(CK_ULONG));
    return rv;
}

static CK_RV tokens(struct tt_call *call)
{
    size_t n = 0, n_second = 0;
    CK_ULONG where = call->function == TT_InitToken ? tt_get(call->in) : tt_take_session(call);
    CK_ULONG user = call->function == TT_Login ? tt_get(call->in) : 0;
    CK_BYTE *pin = tt_get_bytes(call->in, &n), *second = NULL;
    if (call->function == TT_InitToken || call->function == TT_SetPIN)
        second = tt_get_bytes(call->in, &n_second);
    READY(call);
    switch (call->function) {
    case TT_InitToken:
        return n_second == 32 ? tt_p11->C_InitToken(where, pin, n, second) : CKR_ARGUMENTS_BAD;
    case TT_InitPIN:
        return tt_p11->C_InitPIN(where, pin, n);
    case TT_SetPIN:
        return tt_p11->C_SetPIN(where, pin, n, second, n_second);
    default:
        return tt_p11->C_Login(where, user, pin, n);
    }
}

static CK_RV sessions(struct tt_call *call)
{
    if (call->function == TT_OpenSession) {
        CK_SLOT_ID slot = tt_get(call->in);
        CK_FLAGS flags = tt_get(call->in);
        CK_SESSION_HANDLE session = 0;
        READY(call);
        CK_RV rv = tt_p11->C_OpenSession(slot, flags, NULL, NULL, &session);
        if (rv == CKR_OK)
            tt_give_session(call, session);
        return rv;
    }
    if (call->function == TT_CloseAllSessions)
        return tt_p11->C_CloseAllSessions(tt_get(call->in));
    CK_SESSION_HANDLE session = tt_take_session(call);
    READY(call);
    if (call->function == TT_CloseSession)
        return tt_p11->C_CloseSession(session);
    return call->function == TT_Logout ? tt_p11->C_Logout(session)
                                       : tt_p11->C_FindObjectsFinal(session);
}

static const CK_ATTRIBUTE *find(const CK_ATTRIBUTE *at, CK_ULONG n, CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < n; i++) {
        if (at[i].type == type && at[i].pValue)
            return &at[i];
    }
    return NULL;
}

static CK_RV objects(struct tt_call *call)
{
    CK_ULONG n = 0;
    CK_OBJECT_HANDLE from = 0, made = 0;
    CK_SESSION_HANDLE session = tt_take_session(call);
    if (call->function != TT_CreateObject && call->function != TT_FindObjectsInit)
        from = tt_take_object(call);
    CK_ATTRIBUTE *at = NULL;
    if (call->function != TT_DestroyObject)
        at = tt_get_template(call->in, &call->arena, &n, call->function != TT_GetAttributeValue);
    READY(call);
    CK_RV rv;
    switch (call->function) {
    case TT_CreateObject:
        rv = tt_p11->C_CreateObject(session, at, n, &made);
        if (rv == CKR_OK && find(at, n, CKA_VALUE) && find(at, n, CKA_KEY_TYPE))
            tt_needle_value("secret", call->function, "value", find(at, n, CKA_VALUE)->pValue,
                            find(at, n, CKA_VALUE)->ulValueLen);
        if (rv == CKR_OK)
            tt_give_object(call, made);
        return rv;
    case TT_CopyObject:
        rv = tt_p11->C_CopyObject(session, from, at, n, &made);
        if (rv == CKR_OK)
            tt_give_object(call, made);
        return rv;
    case TT_DestroyObject:
        return tt_p11->C_DestroyObject(session, from);
    case TT_SetAttributeValue:
        return tt_p11->C_SetAttributeValue(session, from, at, n);
    case TT_FindObjectsInit:
        return tt_p11->C_FindObjectsInit(session, at, n);
    default:
        break;
    }
    CK_ULONG *room = tt_alloc(&call->arena, (n + 1) * sizeof *room);
    for (CK_ULONG i = 0; i < n; i++)
        room[i] = at[i].ulValueLen;
    rv = tt_p11->C_GetAttributeValue(session, from, at, n);
    tt_give_values(call, rv, at, n, room);
    return rv;
}

static CK_RV find_objects(struct tt_call *call)
{
    CK_SESSION_HANDLE session = tt_take_session(call);
    struct room room = take_room(call, sizeof(CK_ULONG));
    READY(call);
    CK_ULONG *at = (CK_ULONG *)(void *)room.at;
    if (!at)
        return CKR_ARGUMENTS_BAD;
    CK_RV rv = tt_p11->C_FindObjects(session, at, room.whole, &room.len);
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < room.len; i++)
        tt_learn(TT_OBJECTS, at[i]);
    if (room.len > 0 && call->action == TT_ACT_FORGET)
        tt_forget(TT_OBJECTS, at[0]);
    if (room.len > 0 && call->action == TT_ACT_SWAP)
        at[0] = tt_other(tt_p11, TT_OBJECTS, session, at[0]);
    tt_give_bytes(call, rv, room.at, room.len, room.whole, sizeof(CK_ULONG));
    return rv;
}

static CK_RV begin(struct tt_call *call)
{
    CK_SESSION_HANDLE session = tt_take_session(call);
    CK_MECHANISM *mechanism = take_mechanism(call);
    CK_OBJECT_HANDLE key =
        call->function == TT_DigestInit ? tt_get(call->in) : tt_take_object(call);
    READY(call);
    switch (call->function) {
    case TT_EncryptInit:
        return tt_p11->C_EncryptInit(session, mechanism, key);
    case TT_DecryptInit:
        return tt_p11->C_DecryptInit(session, mechanism, key);
    case TT_SignInit:
        return tt_p11->C_SignInit(session, mechanism, key);
    case TT_VerifyInit:
        return tt_p11->C_VerifyInit(session, mechanism, key);
    default:
        return tt_p11->C_DigestInit(session, mechanism);
    }
}

static CK_RV data(struct tt_call *call)
{
    static const struct {
        enum tt_function function;
        size_t offset;
        bool with_data;
    } rows[] = {
#define ROW(name, with_data) {TT_##name, offsetof(CK_FUNCTION_LIST, C_##name), with_data}
        ROW(Encrypt, true),    ROW(EncryptUpdate, true), ROW(EncryptFinal, false),
        ROW(Decrypt, true),    ROW(DecryptUpdate, true), ROW(DecryptFinal, false),
        ROW(Digest, true),     ROW(DigestFinal, false),  ROW(Sign, true),
        ROW(SignFinal, false),
#undef ROW
    };
    size_t row = 0, n = 0;
    while (rows[row].function != call->function)
        row++;
    CK_SESSION_HANDLE session = tt_take_session(call);
    CK_BYTE *given = rows[row].with_data ? tt_get_bytes(call->in, &n) : NULL;
    struct room room = take_room(call, 1);
    if (call->function == TT_Encrypt)
        tt_needle_value("plain", call->function, "value", given, n);
    READY(call);
    const unsigned char *member = (const unsigned char *)tt_p11 + rows[row].offset;
    CK_RV rv;
    if (rows[row].with_data) {
        CK_C_Sign function;
        memcpy(&function, member, sizeof function);
        rv = function(session, given, n, room.at, &room.len);
    } else {
        CK_C_SignFinal function;
        memcpy(&function, member, sizeof function);
        rv = function(session, room.at, &room.len);
    }
    if (rv == CKR_OK || rv == CKR_BUFFER_TOO_SMALL)
        tt_give_bytes(call, rv, room.at, room.len, room.whole, 1);
    return rv;
}

static CK_RV feed(struct tt_call *call)
{
    size_t n = 0, n_signature = 0;
    CK_SESSION_HANDLE session = tt_take_session(call);
    if (call->function == TT_DigestKey) {
        CK_OBJECT_HANDLE key = tt_take_object(call);
        READY(call);
        return tt_p11->C_DigestKey(session, key);
    }
    CK_BYTE *given = tt_get_bytes(call->in, &n), *signature = NULL;
    if (call->function == TT_Verify)
        signature = tt_get_bytes(call->in, &n_signature);
    READY(call);
    switch (call->function) {
    case TT_DigestUpdate:
        return tt_p11->C_DigestUpdate(session, given, n);
    case TT_SignUpdate:
        return tt_p11->C_SignUpdate(session, given, n);
    case TT_VerifyUpdate:
        return tt_p11->C_VerifyUpdate(session, given, n);
    case TT_VerifyFinal:
        return tt_p11->C_VerifyFinal(session, given, n);
    case TT_SeedRandom:
        return tt_p11->C_SeedRandom(session, given, n);
    default:
        return tt_p11->C_Verify(session, given, n, signature, n_signature);
    }
}

static CK_RV random_bytes(struct tt_call *call)
{
    CK_SESSION_HANDLE session = tt_take_session(call);
    struct room room = take_room(call, 1);
    READY(call);
    CK_RV rv = tt_p11->C_GenerateRandom(session, room.at, room.whole);
    if (rv != CKR_OK)
        return rv;
    if (call->action == TT_ACT_GARBLE)
        memset(room.at, 0, room.whole);
    tt_needle_value("random", call->function, "value", room.at, room.whole);
    tt_give_bytes(call, rv, room.at, room.whole, room.whole, 1);
    return rv;
}

static CK_RV keys(struct tt_call *call)
{
    CK_ULONG n = 0, n_private = 0;
    size_t n_wrapped = 0;
    CK_OBJECT_HANDLE base = 0, made = 0, private = 0;
    CK_BYTE *wrapped = NULL;
    CK_SESSION_HANDLE session = tt_take_session(call);
    CK_MECHANISM *mechanism = take_mechanism(call);
    if (call->function == TT_UnwrapKey || call->function == TT_DeriveKey)
        base = tt_take_object(call);
    if (call->function == TT_UnwrapKey)
        wrapped = tt_get_bytes(call->in, &n_wrapped);
    CK_ATTRIBUTE *at = tt_get_template(call->in, &call->arena, &n, true), *private_at = NULL;
    if (call->function == TT_GenerateKeyPair)
        private_at = tt_get_template(call->in, &call->arena, &n_private, true);
    READY(call);
    CK_RV rv;
    switch (call->function) {
    case TT_GenerateKey:
        rv = tt_p11->C_GenerateKey(session, mechanism, at, n, &made);
        return give_key(call, rv, made);
    case TT_UnwrapKey:
        rv = tt_p11->C_UnwrapKey(session, mechanism, base, wrapped, n_wrapped, at, n, &made);
        return give_key(call, rv, made);
    case TT_DeriveKey:
        rv = tt_p11->C_DeriveKey(session, mechanism, base, at, n, &made);
        return give_key(call, rv, made);
    default:
        break;
    }
    rv = tt_p11->C_GenerateKeyPair(session, mechanism, at, n, private_at, n_private, &made,
                                   &private);
    if (rv == CKR_OK)
        tt_give_object(call, made);
    return give_key(call, rv, private);
}

static CK_RV wrap(struct tt_call *call)
{
    CK_SESSION_HANDLE session = tt_take_session(call);
    CK_MECHANISM *mechanism = take_mechanism(call);
    CK_OBJECT_HANDLE by = tt_take_object(call), key = tt_take_object(call);
    struct room room = take_room(call, 1);
    READY(call);
    CK_RV rv = tt_p11->C_WrapKey(session, mechanism, by, key, room.at, &room.len);
    if (rv == CKR_OK || rv == CKR_BUFFER_TOO_SMALL)
        tt_give_bytes(call, rv, room.at, room.len, room.whole, 1);
    return rv;
}

CK_RV tt_do(struct tt_call *call)
{
    switch (call->function) {
    case TT_Finalize:
        return tt_p11->C_Finalize(NULL);
    case TT_GetInfo:
    case TT_GetSlotInfo:
    case TT_GetTokenInfo:
    case TT_GetMechanismInfo:
    case TT_GetSessionInfo:
    case TT_GetObjectSize:
        return information(call);
    case TT_GetSlotList:
    case TT_GetMechanismList:
        return list(call);
    case TT_InitToken:
    case TT_InitPIN:
    case TT_SetPIN:
    case TT_Login:
        return tokens(call);
    case TT_OpenSession:
    case TT_CloseSession:
    case TT_CloseAllSessions:
    case TT_Logout:
    case TT_FindObjectsFinal:
        return sessions(call);
    case TT_CreateObject:
    case TT_CopyObject:
    case TT_DestroyObject:
    case TT_GetAttributeValue:
    case TT_SetAttributeValue:
    case TT_FindObjectsInit:
        return objects(call);
    case TT_FindObjects:
        return find_objects(call);
    case TT_EncryptInit:
    case TT_DecryptInit:
    case TT_SignInit:
    case TT_VerifyInit:
    case TT_DigestInit:
        return begin(call);
    case TT_Encrypt:
    case TT_EncryptUpdate:
    case TT_EncryptFinal:
    case TT_Decrypt:
    case TT_DecryptUpdate:
    case TT_DecryptFinal:
    case TT_Digest:
    case TT_DigestFinal:
    case TT_Sign:
    case TT_SignFinal:
        return data(call);
    case TT_DigestUpdate:
    case TT_DigestKey:
    case TT_SignUpdate:
    case TT_Verify:
    case TT_VerifyUpdate:
    case TT_VerifyFinal:
    case TT_SeedRandom:
        return feed(call);
    case TT_GenerateRandom:
        return random_bytes(call);
    case TT_GenerateKey:
    case TT_GenerateKeyPair:
    case TT_UnwrapKey:
    case TT_DeriveKey:
        return keys(call);
    case TT_WrapKey:
        return wrap(call);
    default:
        return CKR_FUNCTION_NOT_SUPPORTED;
    }
}
