/* Reading attributes and finding objects from a module whose every length may be wrong. */
#include <stdio.h>
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

#define FIND_AT_ONCE 256
#define FIND_LIMIT 4000000 /* a list without end is a defect, not a big token */

CK_RV pfx_attr_read(struct pfx_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                    size_t max, struct pfx_buf *out)
{
    CK_ATTRIBUTE at = {.type = type};
    CK_RV rv = PFX_S(session, C_GetAttributeValue, object, &at, 1);
    if (rv != CKR_OK)
        return rv;
    if (at.ulValueLen == CK_UNAVAILABLE_INFORMATION)
        return CKR_ATTRIBUTE_TYPE_INVALID;
    size_t room = at.ulValueLen;
    if (room > max) {
        pfx_session_saw(session, PFX_CKR_NONSENSE);
        return PFX_CKR_NONSENSE;
    }
    if (room == 0)
        return CKR_OK;
    size_t start = out->len;
    at.pValue = pfx_buf_extend(out, room);
    if (!at.pValue)
        return PFX_CKR_NONSENSE;
    rv = PFX_S(session, C_GetAttributeValue, object, &at, 1);
    if (rv == CKR_OK && at.ulValueLen > room) {
        rv = PFX_CKR_NONSENSE;
        pfx_session_saw(session, rv);
    }
    pfx_buf_cut(out, rv == CKR_OK ? start + at.ulValueLen : start);
    return rv;
}

CK_RV pfx_attr_ulong(struct pfx_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                     CK_ULONG *ret_value)
{
    CK_ULONG value = CK_UNAVAILABLE_INFORMATION;
    CK_ATTRIBUTE at = {.type = type, .pValue = &value, .ulValueLen = sizeof value};
    CK_RV rv = PFX_S(session, C_GetAttributeValue, object, &at, 1);
    if (rv == CKR_OK && at.ulValueLen != sizeof value)
        rv = PFX_CKR_NONSENSE;
    if (rv == CKR_OK)
        *ret_value = value;
    return rv;
}

#define UNTOUCHED 0xA5

static CK_RV one_bool(struct pfx_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                      signed char *ret_value)
{
    CK_BBOOL value = UNTOUCHED;
    CK_ATTRIBUTE at = {.type = type, .pValue = &value, .ulValueLen = 1};
    CK_RV rv = PFX_S(session, C_GetAttributeValue, object, &at, 1);
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE ||
        (rv == CKR_OK && (at.ulValueLen == CK_UNAVAILABLE_INFORMATION || at.ulValueLen == 0))) {
        *ret_value = -1;
        return CKR_OK;
    }
    if (rv == CKR_OK && (at.ulValueLen != 1 || value > 1))
        rv = PFX_CKR_NONSENSE;
    if (rv == CKR_OK)
        *ret_value = (signed char)value;
    return rv;
}

CK_RV pfx_attr_bools(struct pfx_session *session, CK_OBJECT_HANDLE object,
                     const CK_ATTRIBUTE_TYPE *types, size_t n, signed char *ret_values)
{
    CK_BBOOL values[PFX_MAX_WANTS];
    CK_ATTRIBUTE at[PFX_MAX_WANTS];
    if (n > PFX_MAX_WANTS)
        return CKR_ARGUMENTS_BAD;
    for (size_t i = 0; i < n; i++) {
        values[i] = UNTOUCHED;
        at[i] = (CK_ATTRIBUTE){.type = types[i], .pValue = &values[i], .ulValueLen = 1};
    }
    CK_RV rv = PFX_S(session, C_GetAttributeValue, object, at, n);
    if (rv != CKR_OK && rv != CKR_ATTRIBUTE_TYPE_INVALID && rv != CKR_ATTRIBUTE_SENSITIVE)
        return rv;
    for (size_t i = 0; i < n; i++) {
        /* Some modules stop at the first attribute that they lack: ask for the rest one by one. */
        if (at[i].ulValueLen == 1 && values[i] <= 1) {
            ret_values[i] = (signed char)values[i];
            continue;
        }
        rv = one_bool(session, object, types[i], &ret_values[i]);
        if (rv != CKR_OK)
            return rv;
    }
    return CKR_OK;
}

void pfx_handles_done(struct pfx_handles *handles)
{
    free(handles->list);
    *handles = (struct pfx_handles){0};
}

static CK_RV collect(struct pfx_session *session, struct pfx_handles *found)
{
    size_t room = 0;
    for (;;) {
        CK_OBJECT_HANDLE some[FIND_AT_ONCE];
        CK_ULONG n = 0;
        CK_RV rv = PFX_S(session, C_FindObjects, some, FIND_AT_ONCE, &n);
        if (rv != CKR_OK)
            return rv;
        if (n == 0)
            return CKR_OK;
        if (n > FIND_AT_ONCE || found->n > FIND_LIMIT)
            return PFX_CKR_NONSENSE;
        if (found->n + n > room) {
            room = (found->n + n) * 2;
            found->list = pfx_grow(found->list, room, sizeof found->list[0]);
        }
        memcpy(found->list + found->n, some, n * sizeof some[0]);
        found->n += n;
    }
}

pfx_result pfx_objects_find(struct pfx_session *session, CK_ATTRIBUTE *match, size_t n,
                            struct pfx_handles *ret_handles, struct pfx_error *err)
{
    PFX_AUTOHANDLES struct pfx_handles found = {0};
    CK_RV rv = PFX_S(session, C_FindObjectsInit, match, n);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_FindObjectsInit", "%s", "");
    rv = collect(session, &found);
    CK_RV end = PFX_C(pfx_session_module(session), C_FindObjectsFinal, session->handle);
    if (rv == CKR_OK)
        rv = end;
    pfx_session_saw(session, rv);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_FindObjects", "%s", "");
    *ret_handles = found;
    found = (struct pfx_handles){0};
    return PFX_OK;
}

CK_RV pfx_attr_id_is(struct pfx_session *session, CK_OBJECT_HANDLE object, struct pfx_bytes id,
                     bool *ret_same)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf found = pfx_buf_make(256);
    CK_RV rv = pfx_attr_read(session, object, CKA_ID, 256, &found);
    *ret_same = rv == CKR_OK && found.len == id.len && memcmp(found.data, id.data, id.len) == 0;
    return rv;
}

/* A token that mixes its handles up shows another key than was asked for. */
static pfx_result check_id(struct pfx_session *session, CK_OBJECT_HANDLE object, struct pfx_bytes id,
                           struct pfx_error *err)
{
    bool same;
    CK_RV rv = pfx_attr_id_is(session, object, id, &same);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    if (same)
        return PFX_OK;
    pfx_session_saw(session, CKR_OBJECT_HANDLE_INVALID);
    return pfx_fail(err, PFX_CLASS_DEVICE, "C_FindObjects", pfx_session_token(session)->facts.label,
                    "", "The token showed an object with another CKA_ID than was looked for. It "
                    "isn't touched; the token is opened anew and asked again.");
}

pfx_result pfx_objects_by_id(struct pfx_session *session, CK_OBJECT_CLASS cls, struct pfx_bytes id,
                             struct pfx_handles *ret_handles, struct pfx_error *err)
{
    CK_BBOOL yes = CK_TRUE; /* another thread's session objects don't count */
    CK_ATTRIBUTE match[] = {
        {.type = CKA_CLASS, .pValue = &cls, .ulValueLen = sizeof cls},
        {.type = CKA_TOKEN, .pValue = &yes, .ulValueLen = sizeof yes},
        {.type = CKA_ID, .pValue = (void *)(uintptr_t)id.data, .ulValueLen = id.len},
    };
    PFX_AUTOHANDLES struct pfx_handles found = {0};
    PFX_TRY(pfx_objects_find(session, match, 3, &found, err));
    for (size_t i = 0; i < found.n; i++)
        PFX_TRY(check_id(session, found.list[i], id, err));
    *ret_handles = found;
    found = (struct pfx_handles){0};
    return PFX_OK;
}

void pfx_temp_done(struct pfx_temp *temp)
{
    if (temp->session && temp->handle != CK_INVALID_HANDLE)
        pfx_session_object_destroy(temp->session->token, temp->session->serial, temp->handle);
    temp->handle = CK_INVALID_HANDLE;
}

const char *pfx_cka_name(CK_ATTRIBUTE_TYPE type)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } names[] = {
#define NAME(a) {a, #a}
        NAME(CKA_CLASS),
        NAME(CKA_TOKEN),
        NAME(CKA_PRIVATE),
        NAME(CKA_LABEL),
        NAME(CKA_KEY_TYPE),
        NAME(CKA_ID),
        NAME(CKA_SENSITIVE),
        NAME(CKA_EXTRACTABLE),
        NAME(CKA_ALWAYS_SENSITIVE),
        NAME(CKA_NEVER_EXTRACTABLE),
        NAME(CKA_LOCAL),
        NAME(CKA_ENCRYPT),
        NAME(CKA_DECRYPT),
        NAME(CKA_SIGN),
        NAME(CKA_SIGN_RECOVER),
        NAME(CKA_VERIFY),
        NAME(CKA_VERIFY_RECOVER),
        NAME(CKA_WRAP),
        NAME(CKA_UNWRAP),
        NAME(CKA_DERIVE),
        NAME(CKA_MODIFIABLE),
        NAME(CKA_COPYABLE),
        NAME(CKA_DESTROYABLE),
        NAME(CKA_WRAP_WITH_TRUSTED),
        NAME(CKA_ALWAYS_AUTHENTICATE),
        NAME(CKA_TRUSTED),
        NAME(CKA_ALLOWED_MECHANISMS),
        NAME(CKA_MODULUS_BITS),
        NAME(CKA_VALUE_LEN),
#undef NAME
    };
    static _Thread_local char unknown[24];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].type == type)
            return names[i].name;
    }
    snprintf(unknown, sizeof unknown, "0x%08lx", type);
    return unknown;
}
