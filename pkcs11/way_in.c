/* The way in: a key of the host becomes a session object that can wrap and nothing else. */
#include <string.h>

#include "crypto/mem.h"
#include "crypto/oaep.h"
#include "pkcs11/object.h"

static void kek_template(struct pfx_template *t, struct pfx_token *token, const CK_ULONG *type)
{
    static const CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    static const CK_ATTRIBUTE_TYPE off[] = {CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN,  CKA_VERIFY,
                                            CKA_UNWRAP,  CKA_DERIVE,  CKA_TOKEN, CKA_EXTRACTABLE};
    pfx_template_add(t, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(t, CKA_KEY_TYPE, type);
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        pfx_template_bool(t, off[i], false);
    pfx_template_bool(t, CKA_PRIVATE, true);
    pfx_template_bool(t, CKA_SENSITIVE, true);
    pfx_template_bool(t, CKA_WRAP, true);
    if (!pfx_dropped(token, PFX_HALF_SECRET, CKA_MODIFIABLE))
        pfx_template_bool(t, CKA_MODIFIABLE, false);
}

static CK_RV unwrap(struct pfx_session *session, CK_OBJECT_HANDLE transport, enum pfx_hash hash,
                    struct pfx_bytes sealed, struct pfx_template *t, CK_OBJECT_HANDLE *ret_handle)
{
    CK_RSA_PKCS_OAEP_PARAMS params;
    CK_RV rv = pfx_oaep_params(hash, &params);
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
    if (rv != CKR_OK)
        return rv;
    return PFX_S(session, C_UnwrapKey, &mechanism, transport, (CK_BYTE *)(uintptr_t)sealed.data,
                 sealed.len, t->at, t->n, ret_handle);
}

static pfx_result check_kek(struct pfx_session *session, CK_OBJECT_HANDLE object,
                            struct pfx_error *err)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_WRAP,
                                              CKA_DECRYPT,   CKA_UNWRAP,      CKA_TOKEN};
    static const signed char must[] = {1, 0, 1, 0, 0, 0};
    signed char found[6];
    CK_RV rv = pfx_attr_bools(session, object, types, 6, found);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    for (size_t i = 0; i < 6; i++) {
        if (found[i] != must[i])
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "bring key in",
                            pfx_session_token(session)->facts.label, pfx_cka_name(types[i]),
                            "The key that came in has %s %s and must have %s. It isn't used.",
                            pfx_cka_name(types[i]), found[i] > 0 ? "true" : "false",
                            must[i] ? "true" : "false");
    }
    return PFX_OK;
}

pfx_result pfx_kek_in(struct pfx_session *session, struct pfx_key *transport, enum pfx_way_in way,
                      enum pfx_hash hash, CK_KEY_TYPE type, const struct pfx_secret *kek,
                      struct pfx_temp *ret_object, struct pfx_error *err)
{
    struct pfx_template t = {.n = 0};
    kek_template(&t, pfx_session_token(session), &type);
    PFX_AUTOTEMP struct pfx_temp object = {session, CK_INVALID_HANDLE};
    CK_RV rv;
    if (way == PFX_WAY_UNWRAP) {
        CK_OBJECT_HANDLE handle;
        PFX_TRY(pfx_key_resolve(session, transport, &handle, err));
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(PFX_MAX_RSA_BYTES);
        PFX_TRY(pfx_oaep_seal(pfx_key_spki(transport), hash, kek, &sealed, err));
        rv = unwrap(session, handle, hash, (struct pfx_bytes){sealed.data, sealed.len}, &t,
                    &object.handle);
    } else if (way == PFX_WAY_CREATE) {
        pfx_template_add(&t, CKA_VALUE, pfx_secret_bytes(kek), pfx_secret_len(kek));
        rv = PFX_S(session, C_CreateObject, t.at, t.n, &object.handle);
    } else {
        return pfx_fail(err, PFX_CLASS_REFUSED, "bring key in",
                        pfx_session_token(session)->facts.label, "",
                        "The probe found no way for a key-encryption key into this token. Run "
                        "'pfx-agent hsm test'.");
    }
    const char *function = way == PFX_WAY_UNWRAP ? "C_UnwrapKey" : "C_CreateObject";
    if (rv == CKR_OK && object.handle == CK_INVALID_HANDLE)
        rv = PFX_CKR_NONSENSE;
    if (rv != CKR_OK) {
        object.handle = CK_INVALID_HANDLE; /* whatever a failed call left there */
        return pfx_session_fail(session, err, rv, function,
                                "The key-encryption key didn't come into the token.");
    }
    PFX_TRY(check_kek(session, object.handle, err));
    *ret_object = object;
    object.handle = CK_INVALID_HANDLE;
    return PFX_OK;
}
