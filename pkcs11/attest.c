/* Attestation as a token holds it: objects beside the keys, or a vendor's attribute of a key. */
#include <fnmatch.h>
#include <string.h>

#include "pkcs11/call.h"
#include "pkcs11/object.h"

#define LABEL_MAX 256

/* The label as text; what isn't printable ASCII can't be named in the policy either. */
static bool label_of(struct pfx_session *session, CK_OBJECT_HANDLE object, char out[LABEL_MAX + 1])
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf label = pfx_buf_make(LABEL_MAX);
    if (pfx_attr_read(session, object, CKA_LABEL, LABEL_MAX, &label) != CKR_OK || label.len == 0)
        return false;
    pfx_padded(out, LABEL_MAX + 1, label.data, label.len);
    return true;
}

static pfx_result of_class(struct pfx_session *session, CK_OBJECT_CLASS cls, const char *pattern,
                           pfx_attestation_visit visit, void *ctx, struct pfx_error *err)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE match[] = {{.type = CKA_CLASS, .pValue = &cls, .ulValueLen = sizeof cls},
                            {.type = CKA_TOKEN, .pValue = &yes, .ulValueLen = sizeof yes}};
    PFX_AUTOHANDLES struct pfx_handles found = {0};
    PFX_TRY(pfx_objects_find(session, match, 2, &found, err));
    for (size_t i = 0; i < found.n; i++) {
        char label[LABEL_MAX + 1];
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf value = pfx_buf_make(PFX_ATTESTATION_MAX);
        if (!label_of(session, found.list[i], label) || fnmatch(pattern, label, 0) != 0)
            continue;
        CK_RV rv = pfx_attr_read(session, found.list[i], CKA_VALUE, PFX_ATTESTATION_MAX, &value);
        if (rv != CKR_OK)
            return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s",
                                    "It is an attestation by its label.");
        PFX_TRY(visit(ctx, label, pfx_buf_bytes(&value), err));
    }
    return PFX_OK;
}

pfx_result pfx_attestation_objects(struct pfx_session *session, const char *pattern,
                                   pfx_attestation_visit visit, void *ctx, struct pfx_error *err)
{
    PFX_TRY(of_class(session, CKO_CERTIFICATE, pattern, visit, ctx, err));
    return of_class(session, CKO_DATA, pattern, visit, ctx, err);
}

pfx_result pfx_attestation_attribute(struct pfx_session *session, const struct pfx_key *key,
                                     CK_ATTRIBUTE_TYPE type, struct pfx_buf *out,
                                     struct pfx_error *err)
{
    struct pfx_key *k = (struct pfx_key *)(uintptr_t)key; /* only its cached handle may change */
    CK_OBJECT_HANDLE handle;
    if (type < CKA_VENDOR_DEFINED)
        return pfx_fail(err, PFX_CLASS_USAGE, "read attestation", "", "",
                        "Only a vendor's own attribute is read as an attestation.");
    PFX_TRY(pfx_key_resolve(session, k, &handle, err));
    CK_RV rv = pfx_attr_read(session, handle, type, PFX_ATTESTATION_MAX, out);
    if (rv == CKR_OK || rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE)
        return PFX_OK;
    return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
}
