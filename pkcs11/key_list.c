/* What is on a token, for people: every key of it, a key's attributes, and its end. */
#include <stdio.h>
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

static void read_label(struct pfx_session *session, CK_OBJECT_HANDLE object, char *out, size_t size)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf label = pfx_buf_make(4096);
    out[0] = '\0';
    if (pfx_attr_read(session, object, CKA_LABEL, 4096, &label) == CKR_OK && label.len > 0)
        pfx_padded(out, size, label.data, label.len);
}

static pfx_result read_row(struct pfx_session *session, CK_OBJECT_HANDLE object,
                           CK_OBJECT_CLASS cls, struct pfx_key_row *row, struct pfx_error *err)
{
    memset(row, 0, sizeof *row);
    row->object_class = cls;
    CK_ULONG type = 0, len = 0;
    CK_RV rv = pfx_attr_ulong(session, object, CKA_KEY_TYPE, &type);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    row->type = type;
    read_label(session, object, row->label, sizeof row->label);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(4096);
    if (pfx_attr_read(session, object, CKA_ID, 4096, &bytes) == CKR_OK && bytes.len > 0) {
        row->id_len = bytes.len < sizeof row->id ? bytes.len : sizeof row->id;
        memcpy(row->id, bytes.data, row->id_len);
    }
    pfx_buf_reset(&bytes);
    if (type == CKK_RSA) {
        if (pfx_attr_read(session, object, CKA_MODULUS, 4096, &bytes) == CKR_OK) {
            size_t zeros = 0;
            while (zeros < bytes.len && bytes.data[zeros] == 0)
                zeros++;
            row->bits = (unsigned)(bytes.len - zeros) * 8;
        }
    } else if (cls == CKO_SECRET_KEY) {
        if (pfx_attr_ulong(session, object, CKA_VALUE_LEN, &len) == CKR_OK && len < 65536)
            row->bits = (unsigned)len * 8;
    } else if (pfx_attr_read(session, object, CKA_EC_PARAMS, 512, &bytes) == CKR_OK) {
        for (int t = PFX_KEY_EC_P256; t <= PFX_KEY_EC_P384; t++) {
            struct pfx_bytes params;
            if (pfx_ec_params((enum pfx_key_type)t, &params) == CKR_OK && params.len == bytes.len &&
                memcmp(params.data, bytes.data, bytes.len) == 0)
                row->bits = pfx_key_type_bits((enum pfx_key_type)t);
        }
    }
    return PFX_OK;
}

pfx_result pfx_keys_list(struct pfx_session *session,
                         bool (*visit)(void *ctx, const struct pfx_key_row *row), void *ctx,
                         struct pfx_error *err)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_SECRET_KEY};
    static const CK_BBOOL yes = CK_TRUE;
    size_t all = 0;
    for (size_t c = 0; c < 2; c++) {
        struct pfx_template match = {.n = 0};
        pfx_template_add(&match, CKA_CLASS, &classes[c], sizeof classes[c]);
        pfx_template_add(&match, CKA_TOKEN, &yes, sizeof yes);
        PFX_AUTOHANDLES struct pfx_handles found = {0};
        PFX_TRY(pfx_objects_find(session, match.at, match.n, &found, err));
        for (size_t i = 0; i < found.n; i++) {
            struct pfx_key_row row;
            PFX_TRY(read_row(session, found.list[i], classes[c], &row, err));
            if (!visit(ctx, &row))
                return PFX_OK;
        }
        all += found.n;
    }
    /* Nothing at all is also what a token says that was taken away. */
    return all > 0 ? PFX_OK : pfx_token_present(session, err);
}

pfx_result pfx_key_attributes(struct pfx_session *session, const struct pfx_key *key,
                              void (*line)(void *ctx, const char *text), void *ctx,
                              struct pfx_error *err)
{
    struct pfx_want wants[PFX_MAX_WANTS];
    CK_ATTRIBUTE_TYPE types[PFX_MAX_WANTS] = {0};
    signed char found[PFX_MAX_WANTS];
    bool pair = pfx_use_is_pair(key->use);
    struct pfx_key *k = (struct pfx_key *)(uintptr_t)key; /* only its cached handle may change */
    CK_OBJECT_HANDLE handle;
    PFX_TRY(pfx_key_resolve(session, k, &handle, err));
    enum pfx_half half = pair ? PFX_HALF_PRIVATE : PFX_HALF_SECRET;
    size_t n = pfx_wants(key->use, half, key->token_object, wants);
    for (size_t i = 0; i < n; i++)
        types[i] = wants[i].type;
    CK_RV rv = pfx_attr_bools(session, handle, types, n, found);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    for (size_t i = 0; i < n; i++) {
        char text[120];
        snprintf(text, sizeof text, "%s %s", pfx_cka_name(types[i]),
                 found[i] < 0 ? "not known to this token" : found[i] ? "true" : "false");
        line(ctx, text);
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf allowed = pfx_buf_make(4096);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(8192);
    rv = pfx_attr_read(session, handle, CKA_ALLOWED_MECHANISMS, 4096, &allowed);
    pfx_buf_add_str(&text, "CKA_ALLOWED_MECHANISMS");
    for (size_t i = 0; i + sizeof(CK_MECHANISM_TYPE) <= allowed.len;
         i += sizeof(CK_MECHANISM_TYPE)) {
        CK_MECHANISM_TYPE one;
        memcpy(&one, allowed.data + i, sizeof one);
        pfx_buf_addf(&text, " %s", pfx_ckm_name(one));
    }
    if (rv != CKR_OK || allowed.len == 0)
        pfx_buf_add_str(&text, rv == CKR_OK ? " any" : " not known to this token");
    line(ctx, (const char *)text.data);
    return PFX_OK;
}

static pfx_result destroy(struct pfx_session *session, struct pfx_key *key, struct pfx_error *err)
{
    static const CK_OBJECT_CLASS public_class = CKO_PUBLIC_KEY;
    CK_OBJECT_HANDLE handle;
    PFX_TRY(pfx_key_resolve(session, key, &handle, err));
    CK_RV rv = PFX_S(session, C_DestroyObject, handle);
    if (rv == CKR_OK && key->public_handle != CK_INVALID_HANDLE)
        rv = PFX_S(session, C_DestroyObject, key->public_handle);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_DestroyObject", "%s", "");
    pthread_mutex_lock(&key->token->module->lock);
    key->token->canary = CK_INVALID_HANDLE; /* it may have been this one */
    pthread_mutex_unlock(&key->token->module->lock);
    pthread_mutex_lock(&key->lock);
    key->handle = key->public_handle = CK_INVALID_HANDLE;
    pthread_mutex_unlock(&key->lock);
    CK_OBJECT_CLASS classes[] = {key->object_class, public_class};
    struct pfx_bytes id = {key->id.bytes, sizeof key->id.bytes};
    for (size_t c = 0; c < 2; c++) {
        PFX_AUTOHANDLES struct pfx_handles left = {0};
        PFX_TRY(pfx_objects_by_id(session, classes[c], id, &left, err));
        if (left.n > 0)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "destroy key", key->token->facts.label, "",
                            "The token said that the key was destroyed, and still shows %zu object "
                            "with its CKA_ID. Destroy it with the HSM's own tool.", left.n);
    }
    return PFX_OK;
}

pfx_result pfx_key_destroy(struct pfx_session *session, struct pfx_key *key, struct pfx_error *err)
{
    struct pfx_module *module = pfx_session_token(session)->module;
    PFX_TRY(pfx_module_write_begin(module, err));
    pfx_result r = destroy(session, key, err);
    pfx_module_write_end(module);
    return r;
}
