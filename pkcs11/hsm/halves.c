/* Lone public halves. */
#include "pkcs11/hsm/halves.h"

#include "pkcs11/call.h"
#include "pkcs11/object.h"

pfx_result pfx_lone_publics_destroy(struct pfx_session *session, const struct pfx_key_id *id,
                                    struct pfx_error *err)
{
    PFX_AUTOHANDLES struct pfx_handles publics = {0};
    PFX_AUTOHANDLES struct pfx_handles privates = {0};
    struct pfx_bytes bytes = {id->bytes, sizeof id->bytes};
    PFX_TRY(pfx_objects_by_id(session, CKO_PUBLIC_KEY, bytes, &publics, err));
    /* A token that showed no private key may have been wrong: once more, before anything is
     * destroyed and a second key is made. */
    if (publics.n > 0)
        PFX_TRY(pfx_objects_by_id(session, CKO_PRIVATE_KEY, bytes, &privates, err));
    if (privates.n > 0)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "find key",
                        pfx_session_token(session)->facts.label, "",
                        "The token first showed no private key with this CKA_ID, and then one. "
                        "Nothing was destroyed or made; it is tried again.");
    for (size_t i = 0; i < publics.n; i++) {
        CK_RV rv = PFX_S(session, C_DestroyObject, publics.list[i]);
        if (rv != CKR_OK)
            return pfx_session_fail(session, err, rv, "C_DestroyObject", "%s",
                                    "It was the public half of a key that was never finished.");
    }
    return PFX_OK;
}
