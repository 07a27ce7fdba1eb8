/* Keys that are taken over. */
#include "pkcs11/adopt.h"

#include <stdio.h>
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/call.h"
#include "pkcs11/object.h"

void pfx_adopted_done(struct pfx_adopted *adopted)
{
    pfx_buf_done(&adopted->spki);
}

static pfx_result find_one(struct pfx_session *session, CK_OBJECT_CLASS cls, struct pfx_bytes id,
                           CK_OBJECT_HANDLE *ret_handle, struct pfx_error *err)
{
    PFX_AUTOHANDLES struct pfx_handles found = {0};
    PFX_TRY(pfx_objects_by_id(session, cls, id, &found, err));
    if (found.n > 1)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "adopt key",
                        pfx_session_token(session)->facts.label, "",
                        "%zu keys have this CKA_ID: give the right one another with your HSM's own "
                        "tool.",
                        found.n);
    *ret_handle = found.n == 1 ? found.list[0] : CK_INVALID_HANDLE;
    return PFX_OK;
}

/* What a key of ours would have otherwise. CKA_LOCAL and the history are the provider's matter. */
static pfx_result deviations(struct pfx_session *session, CK_OBJECT_HANDLE handle,
                             struct pfx_adopted *adopted, struct pfx_error *err)
{
    struct pfx_want wants[PFX_MAX_WANTS];
    CK_ATTRIBUTE_TYPE types[PFX_MAX_WANTS] = {0};
    signed char found[PFX_MAX_WANTS];
    size_t n = pfx_wants(PFX_USE_ENCRYPTION, PFX_HALF_PRIVATE, true, wants);
    for (size_t i = 0; i < n; i++)
        types[i] = wants[i].type;
    CK_RV rv = pfx_attr_bools(session, handle, types, n, found);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    for (size_t i = 0; i < n && adopted->n_deviations < PFX_DEVIATIONS_MOST; i++) {
        if (found[i] == (wants[i].value ? 1 : 0) || (wants[i].optional && found[i] < 0))
            continue;
        snprintf(adopted->deviations[adopted->n_deviations++], sizeof adopted->deviations[0],
                 "%s %s", pfx_cka_name(types[i]),
                 found[i] < 0 ? "missing" : found[i] ? "true" : "false");
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf allowed = pfx_buf_make(4096);
    rv = pfx_attr_read(session, handle, CKA_ALLOWED_MECHANISMS, 4096, &allowed);
    if ((rv != CKR_OK || allowed.len == 0) && adopted->n_deviations < PFX_DEVIATIONS_MOST)
        snprintf(adopted->deviations[adopted->n_deviations++], sizeof adopted->deviations[0],
                 "CKA_ALLOWED_MECHANISMS any");
    return PFX_OK;
}

/* The pair is shown to fit by a decryption, as that of a key of ours is. */
static pfx_result prove(struct pfx_session *session, CK_OBJECT_HANDLE private,
                        CK_OBJECT_HANDLE public, struct pfx_adopted *adopted,
                        struct pfx_error *err)
{
    static const struct pfx_key_id none = {{0}};
    PFX_AUTOKEY struct pfx_key *key = pfx_key_new(session, PFX_USE_ENCRYPTION, &none, true);
    key->handle = private;
    key->public_handle = public;
    key->type = adopted->type;
    if (!pfx_buf_add(&key->spki, adopted->spki.data, adopted->spki.len))
        return pfx_fail(err, PFX_CLASS_REFUSED, "adopt key", "", "", "Its public half is too long.");
    return pfx_key_prove(session, key, err);
}

pfx_result pfx_adopted_look(struct pfx_session *session, struct pfx_bytes id,
                            struct pfx_adopted *ret_adopted, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_adopted_done) struct pfx_adopted adopted = {.spki = pfx_buf_make(4096)};
    CK_OBJECT_HANDLE private = CK_INVALID_HANDLE, public = CK_INVALID_HANDLE;
    CK_ULONG type = 0;
    PFX_TRY(find_one(session, CKO_PRIVATE_KEY, id, &private, err));
    PFX_TRY(find_one(session, CKO_PUBLIC_KEY, id, &public, err));
    adopted.found = private != CK_INVALID_HANDLE;
    if (adopted.found) {
        CK_RV rv = pfx_attr_ulong(session, private, CKA_KEY_TYPE, &type);
        if (rv != CKR_OK)
            return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
        if (type != CKK_RSA)
            return pfx_fail(err, PFX_CLASS_REFUSED, "adopt key",
                            pfx_session_token(session)->facts.label, "",
                            "The key with this CKA_ID isn't an RSA key: the connector opens "
                            "passwords by RSA-OAEP.");
        PFX_TRY(pfx_attributes_check(session, private, PFX_USE_ENCRYPTION, PFX_HALF_PRIVATE, true,
                                     true, false, err));
        PFX_TRY(pfx_object_spki(session, private, PFX_USE_ENCRYPTION, &adopted.spki, err));
        PFX_TRY(pfx_spki_type((struct pfx_bytes){adopted.spki.data, adopted.spki.len},
                              &adopted.type, err));
        PFX_TRY(deviations(session, private, &adopted, err));
        PFX_TRY(prove(session, private, public, &adopted, err));
    }
    *ret_adopted = adopted;
    adopted.spki = pfx_buf_make(0);
    return PFX_OK;
}

pfx_result pfx_adopted_attributes(struct pfx_session *session, struct pfx_bytes id,
                                  void (*line)(void *ctx, const char *text), void *ctx, char *label,
                                  size_t size, bool *ret_found, struct pfx_error *err)
{
    static const struct pfx_key_id none = {{0}};
    CK_OBJECT_HANDLE private = CK_INVALID_HANDLE;
    PFX_TRY(find_one(session, CKO_PRIVATE_KEY, id, &private, err));
    *ret_found = private != CK_INVALID_HANDLE;
    if (!*ret_found)
        return PFX_OK;
    PFX_AUTOKEY struct pfx_key *key = pfx_key_new(session, PFX_USE_ENCRYPTION, &none, true);
    key->handle = private;
    PFX_TRY(pfx_key_attributes(session, key, line, ctx, err));
    return pfx_key_label(session, key, label, size, err);
}

static pfx_result destroy(struct pfx_session *session, struct pfx_bytes id, struct pfx_bytes spki,
                          bool *ret_found, struct pfx_error *err)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    CK_OBJECT_HANDLE handles[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(4096);
    for (size_t c = 0; c < 2; c++)
        PFX_TRY(find_one(session, classes[c], id, &handles[c], err));
    bool found = handles[0] != CK_INVALID_HANDLE;
    if (found)
        PFX_TRY(pfx_object_spki(session, handles[0], PFX_USE_ENCRYPTION, &own, err));
    else
        PFX_TRY(pfx_absence_check(session, err));
    if (found && (own.len != spki.len || memcmp(own.data, spki.data, own.len) != 0))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "destroy key",
                        pfx_session_token(session)->facts.label, "",
                        "The key with this CKA_ID isn't the adopted one: it isn't touched.");
    for (size_t c = 0; c < 2; c++) {
        CK_RV rv = handles[c] == CK_INVALID_HANDLE
                       ? CKR_OK
                       : PFX_S(session, C_DestroyObject, handles[c]);
        if (rv != CKR_OK)
            return pfx_session_fail(session, err, rv, "C_DestroyObject", "%s",
                                    "A key that may not be destroyed by PKCS#11 is destroyed by "
                                    "the software that made it; then give the command again.");
    }
    for (size_t c = 0; c < 2; c++) {
        PFX_TRY(find_one(session, classes[c], id, &handles[c], err));
        if (handles[c] != CK_INVALID_HANDLE)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "destroy key",
                            pfx_session_token(session)->facts.label, "",
                            "The token said that the key was destroyed, and still shows it. "
                            "Destroy it with the HSM's own tool.");
    }
    PFX_TRY(pfx_absence_check(session, err));
    *ret_found = found;
    return PFX_OK;
}

pfx_result pfx_adopted_destroy(struct pfx_session *session, struct pfx_bytes id,
                               struct pfx_bytes spki, bool *ret_found, struct pfx_error *err)
{
    struct pfx_module *module = pfx_session_token(session)->module;
    PFX_TRY(pfx_module_write_begin(module, err));
    pfx_result r = destroy(session, id, spki, ret_found, err);
    pfx_module_write_end(module);
    return r;
}
