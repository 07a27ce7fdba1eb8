/* Templates and mechanisms on the socket. */
#include <string.h>

#include "hsm-test/cryptoki/wire.h"

/* v2.40 and v3.0; p11-kit's header of Debian 12 lacks some. */
#define ATTR_WRAP_TEMPLATE 0x40000211UL
#define ATTR_UNWRAP_TEMPLATE 0x40000212UL
#define ATTR_DERIVE_TEMPLATE 0x40000213UL

enum kind { NOTHING, BYTES, NESTED };

bool tt_is_nested(const CK_ATTRIBUTE *at)
{
    return at->type == ATTR_WRAP_TEMPLATE || at->type == ATTR_UNWRAP_TEMPLATE ||
           at->type == ATTR_DERIVE_TEMPLATE;
}

void tt_put_template(struct tt_frame *frame, const CK_ATTRIBUTE *at, CK_ULONG n, bool values)
{
    tt_put(frame, at ? n : 0);
    for (CK_ULONG i = 0; at && i < n; i++) {
        enum kind kind = !at[i].pValue ? NOTHING : tt_is_nested(&at[i]) ? NESTED : BYTES;
        tt_put(frame, at[i].type);
        tt_put(frame, at[i].ulValueLen);
        tt_put(frame, kind);
        if (kind == NESTED)
            tt_put_template(frame, at[i].pValue, at[i].ulValueLen / sizeof(CK_ATTRIBUTE), values);
        else if (kind == BYTES && values)
            tt_put_bytes(frame, at[i].pValue, at[i].ulValueLen);
    }
}

CK_ATTRIBUTE *tt_get_template(struct tt_frame *frame, struct tt_arena *arena, CK_ULONG *ret_n,
                              bool values)
{
    CK_ULONG n = tt_get(frame);
    *ret_n = 0;
    if (frame->bad || n > TT_FRAME_MAX / sizeof(CK_ATTRIBUTE)) {
        frame->bad = true;
        return NULL;
    }
    CK_ATTRIBUTE *at = tt_alloc(arena, n * sizeof *at);
    for (CK_ULONG i = 0; i < n && !frame->bad; i++) {
        size_t len = 0;
        CK_ULONG nested = 0;
        at[i].type = tt_get(frame);
        at[i].ulValueLen = tt_get(frame);
        uint64_t kind = tt_get(frame);
        if (kind == NESTED) {
            at[i].pValue = tt_get_template(frame, arena, &nested, values);
        } else if (kind == BYTES && values) {
            at[i].pValue = tt_get_bytes(frame, &len);
        } else if (kind == BYTES && at[i].ulValueLen <= TT_FRAME_MAX) {
            at[i].pValue = tt_alloc(arena, at[i].ulValueLen);
        } else if (kind != NOTHING) {
            frame->bad = true;
        }
    }
    *ret_n = n;
    return at;
}

/* --- mechanisms: which of their parameters' members are pointers ---------------------------------
 */

#define WORD sizeof(CK_ULONG)
#define OLD_LENGTH_MAX 0x10000UL /* a length, where an older structure has a pointer to it */

struct pointer {
    size_t at, len_at;  /* both in words of the structure */
    size_t fixed;       /* bytes, where no member says it */
    bool maybe_pointer; /* the length's member may be a pointer to it: PBKDF2's older structure */
};
static const struct shape {
    CK_MECHANISM_TYPE mechanism;
    size_t size; /* bytes */
    size_t n;
    struct pointer pointers[3];
} shapes[] = {
    {CKM_RSA_PKCS_OAEP, 5 * WORD, 1, {{3, 4, 0, false}}},
    {CKM_PKCS5_PBKD2, 9 * WORD, 3, {{1, 2, 0, false}, {5, 6, 0, false}, {7, 8, 0, true}}},
    {CKM_AES_GCM, 6 * WORD, 2, {{0, 1, 0, false}, {3, 4, 0, false}}},
    {CKM_AES_GCM, 5 * WORD, 2, {{0, 1, 0, false}, {2, 3, 0, false}}}, /* without ulIvBits */
    {CKM_AES_CCM, 6 * WORD, 2, {{1, 2, 0, false}, {3, 4, 0, false}}},
    {CKM_EDDSA, 3 * WORD, 1, {{2, 1, 0, false}}},
    {CKM_ECDH1_DERIVE, 5 * WORD, 2, {{2, 1, 0, false}, {4, 3, 0, false}}},
    {CKM_ECDH1_COFACTOR_DERIVE, 5 * WORD, 2, {{2, 1, 0, false}, {4, 3, 0, false}}},
    {CKM_ECDH_AES_KEY_WRAP, 4 * WORD, 1, {{3, 2, 0, false}}},
    {CKM_RSA_AES_KEY_WRAP, 2 * WORD, 1, {{1, 0, 5 * WORD, false}}}, /* then OAEP's own pointer */
    {CKM_AES_CBC_ENCRYPT_DATA, 4 * WORD, 1, {{2, 3, 0, false}}},
    {CKM_AES_ECB_ENCRYPT_DATA, 2 * WORD, 1, {{0, 1, 0, false}}},
    {CKM_DES3_ECB_ENCRYPT_DATA, 2 * WORD, 1, {{0, 1, 0, false}}},
    {CKM_CONCATENATE_BASE_AND_DATA, 2 * WORD, 1, {{0, 1, 0, false}}},
    {CKM_XOR_BASE_AND_DATA, 2 * WORD, 1, {{0, 1, 0, false}}},
    {CKM_PBE_SHA1_DES3_EDE_CBC,
     6 * WORD,
     3,
     {{0, 0, 8, false}, {1, 2, 0, false}, {3, 4, 0, false}}},
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])
#define OAEP (&shapes[0])

/* NULL: bytes without a pointer (an initialisation vector, PSS, a counter). */
static const struct shape *shape_of(CK_MECHANISM_TYPE mechanism, size_t size)
{
    for (size_t i = 0; i < N_SHAPES; i++) {
        if (shapes[i].mechanism == mechanism && shapes[i].size == size)
            return &shapes[i];
    }
    return NULL;
}

static CK_ULONG word_at(const void *structure, size_t word)
{
    CK_ULONG value;
    memcpy(&value, (const unsigned char *)structure + word * WORD, sizeof value);
    return value;
}

static const void *pointer_at(const void *structure, size_t word)
{
    return (const void *)word_at(structure, word);
}

static void set_word(void *structure, size_t word, CK_ULONG value)
{
    memcpy((unsigned char *)structure + word * WORD, &value, sizeof value);
}

static void put_pointers(struct tt_frame *frame, const struct shape *shape, const void *structure)
{
    for (const struct pointer *p = shape->pointers; p < shape->pointers + shape->n; p++) {
        const void *target = pointer_at(structure, p->at);
        CK_ULONG len = p->fixed ? p->fixed : word_at(structure, p->len_at);
        if (p->maybe_pointer && len > OLD_LENGTH_MAX)
            len = word_at(pointer_at(structure, p->len_at), 0);
        tt_put_bytes(frame, target, len);
        if (target && shape->mechanism == CKM_RSA_AES_KEY_WRAP)
            put_pointers(frame, OAEP, target);
    }
}

static void get_pointers(struct tt_frame *frame, struct tt_arena *arena, const struct shape *shape,
                         void *structure)
{
    for (const struct pointer *p = shape->pointers; p < shape->pointers + shape->n; p++) {
        size_t len = 0;
        unsigned char *target = tt_get_bytes(frame, &len);
        if (p->fixed && target && len != p->fixed)
            frame->bad = true;
        if (frame->bad)
            return;
        set_word(structure, p->at, (CK_ULONG)target);
        if (p->maybe_pointer && word_at(structure, p->len_at) > OLD_LENGTH_MAX) {
            CK_ULONG *held = tt_alloc(arena, sizeof *held);
            *held = len;
            set_word(structure, p->len_at, (CK_ULONG)held);
        } else if (!p->fixed) {
            set_word(structure, p->len_at, len);
        }
        if (target && shape->mechanism == CKM_RSA_AES_KEY_WRAP)
            get_pointers(frame, arena, OAEP, target);
    }
}

void tt_put_mechanism(struct tt_frame *frame, const CK_MECHANISM *mechanism)
{
    tt_put(frame, mechanism != NULL);
    if (!mechanism)
        return;
    tt_put(frame, mechanism->mechanism);
    tt_put(frame, mechanism->ulParameterLen);
    tt_put_bytes(frame, mechanism->pParameter, mechanism->ulParameterLen);
    const struct shape *shape = shape_of(mechanism->mechanism, mechanism->ulParameterLen);
    if (shape && mechanism->pParameter)
        put_pointers(frame, shape, mechanism->pParameter);
}

CK_MECHANISM *tt_get_mechanism(struct tt_frame *frame, struct tt_arena *arena)
{
    if (!tt_get(frame))
        return NULL;
    CK_MECHANISM *mechanism = tt_alloc(arena, sizeof *mechanism);
    size_t len = 0;
    mechanism->mechanism = tt_get(frame);
    mechanism->ulParameterLen = tt_get(frame);
    mechanism->pParameter = tt_get_bytes(frame, &len);
    const struct shape *shape = shape_of(mechanism->mechanism, mechanism->ulParameterLen);
    if (shape && mechanism->pParameter && len == shape->size)
        get_pointers(frame, arena, shape, mechanism->pParameter);
    return mechanism;
}
