/* The label of a key on the token: where the log's head is anchored. */
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

#define MAX_LABEL 4096

static pfx_result read_back(struct pfx_session *session, CK_OBJECT_HANDLE handle,
                            const struct pfx_key *key, struct pfx_buf *out, struct pfx_error *err)
{
    CK_RV rv = pfx_attr_read(session, handle, CKA_LABEL, MAX_LABEL, out);
    if (rv == CKR_OK)
        return PFX_OK;
    return pfx_session_fail(session, err, rv, "C_GetAttributeValue",
                            "The label of the %s key is wanted.", pfx_key_use_name(key->use));
}

pfx_result pfx_key_label(struct pfx_session *session, struct pfx_key *key, char *label, size_t size,
                         struct pfx_error *err)
{
    CK_OBJECT_HANDLE handle;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_LABEL);
    PFX_TRY(pfx_key_resolve(session, key, &handle, err));
    PFX_TRY(read_back(session, handle, key, &text, err));
    size_t len = text.len < size - 1 ? text.len : size - 1;
    for (size_t i = 0; i < len; i++)
        label[i] = text.data[i] >= 0x20 && text.data[i] < 0x7F ? (char)text.data[i] : '?';
    label[len] = '\0';
    return PFX_OK;
}

pfx_result pfx_key_relabel(struct pfx_session *session, struct pfx_key *key, const char *label,
                           struct pfx_error *err)
{
    CK_OBJECT_HANDLE handle;
    size_t len = strlen(label);
    PFX_TRY(pfx_key_resolve(session, key, &handle, err));
    struct pfx_template wish = {.n = 0};
    pfx_template_add(&wish, CKA_LABEL, label, len);
    CK_RV rv = PFX_S(session, C_SetAttributeValue, handle, wish.at, wish.n);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_SetAttributeValue",
                                "The label of the %s key was to be changed.",
                                pfx_key_use_name(key->use));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf back = pfx_buf_make(MAX_LABEL);
    PFX_TRY(read_back(session, handle, key, &back, err));
    if (back.len != len || memcmp(back.data, label, len) != 0)
        return pfx_session_fail(session, err, PFX_CKR_NONSENSE, "C_SetAttributeValue",
                                "The label of the %s key isn't what was written.",
                                pfx_key_use_name(key->use));
    return PFX_OK;
}
