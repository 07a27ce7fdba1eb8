/* Keys by CKA_ID: exactly one or refuse, with its public half; handles looked up again when the
 * epoch has changed. */
#include <string.h>

#include "crypto/encode.h"
#include "crypto/mem.h"
#include "pkcs11/object.h"

struct pfx_key *pfx_key_new(struct pfx_session *session, enum pfx_key_use use,
                            const struct pfx_key_id *id, bool token_object)
{
    struct pfx_key *key = pfx_alloc(sizeof *key);
    key->token = pfx_session_token(session);
    key->use = use;
    key->id = *id;
    key->token_object = token_object;
    key->strict = true;
    key->object_class = pfx_use_class(use);
    key->spki = pfx_buf_make(8192);
    key->epoch = pfx_token_epoch(key->token);
    key->session_serial = pfx_session_serial(session);
    pthread_mutex_init(&key->lock, NULL);
    return key;
}

void pfx_key_free(struct pfx_key *key)
{
    if (!key)
        return;
    if (!key->token_object) {
        if (key->handle != CK_INVALID_HANDLE)
            pfx_session_object_destroy(key->token, key->session_serial, key->handle);
        if (key->public_handle != CK_INVALID_HANDLE)
            pfx_session_object_destroy(key->token, key->session_serial, key->public_handle);
    }
    pfx_buf_done(&key->spki);
    pthread_mutex_destroy(&key->lock);
    free(key);
}

const struct pfx_key_id *pfx_key_id(const struct pfx_key *key)
{
    return &key->id;
}

struct pfx_bytes pfx_key_spki(const struct pfx_key *key)
{
    return (struct pfx_bytes){key->spki.data, key->spki.len};
}

CK_OBJECT_HANDLE pfx_key_handle(const struct pfx_key *key)
{
    struct pfx_key *k = (struct pfx_key *)(uintptr_t)key; /* the lock is no part of its value */
    pthread_mutex_lock(&k->lock);
    CK_OBJECT_HANDLE handle = k->handle;
    pthread_mutex_unlock(&k->lock);
    return handle;
}

char *pfx_id_text(const struct pfx_key_id *id, char out[64])
{
    char hex[2 * PFX_KEY_ID_SIZE + 1];
    pfx_hex(id->bytes, sizeof id->bytes, hex);
    memcpy(out, "CKA_ID ", 7);
    memcpy(out + 7, hex, sizeof hex);
    return out;
}

/* Zero or one object of this class and id. */
static pfx_result find_one(struct pfx_session *session, CK_OBJECT_CLASS cls,
                           const struct pfx_key_id *id, CK_OBJECT_HANDLE *ret_handle,
                           struct pfx_error *err)
{
    PFX_AUTOHANDLES struct pfx_handles found = {0};
    struct pfx_bytes bytes = {id->bytes, sizeof id->bytes};
    PFX_TRY(pfx_objects_by_id(session, cls, bytes, &found, err));
    if (found.n > 1) {
        char text[64];
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "find key", pfx_session_token(session)->facts.label, "",
            "%zu %s keys with %s: destroy or rename all but the right one with your HSM's "
            "own tool.",
            found.n,
            cls == CKO_PUBLIC_KEY   ? "public"
            : cls == CKO_SECRET_KEY ? "secret"
                                    : "private",
            pfx_id_text(id, text));
    }
    *ret_handle = found.n == 1 ? found.list[0] : CK_INVALID_HANDLE;
    return PFX_OK;
}

static bool same_bytes(struct pfx_bytes a, struct pfx_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static pfx_result swapped(struct pfx_session *session, const struct pfx_key_id *id,
                          struct pfx_error *err)
{
    char text[64];
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key", pfx_session_token(session)->facts.label,
                    "", "The public half of the key with %s isn't the expected one: the key was "
                    "replaced, or its public object was. Find out who did it before it is used.",
                    pfx_id_text(id, text));
}

/* What the private key itself says (RSA) and what its public object says must agree, and both with
 * what the caller expects. */
static pfx_result read_public(struct pfx_session *session, struct pfx_key *key,
                              struct pfx_bytes expected, struct pfx_error *err)
{
    CK_ULONG type = 0;
    CK_RV rv = pfx_attr_ulong(session, key->handle, CKA_KEY_TYPE, &type);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(8192);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf public = pfx_buf_make(8192);
    if (type == CKK_RSA)
        PFX_TRY(pfx_object_spki(session, key->handle, key->use, &own, err));
    if (key->public_handle != CK_INVALID_HANDLE)
        PFX_TRY(pfx_object_spki(session, key->public_handle, key->use, &public, err));
    struct pfx_bytes own_bytes = {own.data, own.len}, public_bytes = {public.data, public.len};
    if (own.len && public.len && !same_bytes(own_bytes, public_bytes))
        return swapped(session, &key->id, err);
    struct pfx_bytes spki = own.len ? own_bytes : public_bytes;
    if (expected.len && spki.len && !same_bytes(expected, spki))
        return swapped(session, &key->id, err);
    bool claimed = own.len == 0; /* only a public object, or the caller, says so: prove it */
    if (spki.len == 0)
        spki = expected;
    if (spki.len == 0) {
        char text[64];
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key",
                        pfx_session_token(session)->facts.label, "",
                        "The key with %s has no public object, so nobody knows which key it is. "
                        "Create its public half with your HSM's own tool.",
                        pfx_id_text(&key->id, text));
    }
    pfx_buf_reset(&key->spki);
    if (!pfx_buf_add(&key->spki, spki.data, spki.len))
        return swapped(session, &key->id, err);
    if (key->use != PFX_USE_LOG_ED25519)
        PFX_TRY(pfx_spki_type(pfx_key_spki(key), &key->type, err));
    return claimed ? pfx_key_prove(session, key, err) : PFX_OK;
}

/* Fills handle, public_handle and spki; handle stays invalid when there is none. */
static pfx_result locate(struct pfx_session *session, struct pfx_key *key,
                         struct pfx_bytes expected, struct pfx_error *err)
{
    PFX_TRY(find_one(session, key->object_class, &key->id, &key->handle, err));
    if (key->handle == CK_INVALID_HANDLE)
        return PFX_OK;
    bool pair = pfx_use_is_pair(key->use);
    PFX_TRY(pfx_attributes_check(session, key->handle, key->use,
                                 pair ? PFX_HALF_PRIVATE : PFX_HALF_SECRET, true, !key->strict,
                                 false, err));
    if (!pair)
        return PFX_OK;
    PFX_TRY(find_one(session, CKO_PUBLIC_KEY, &key->id, &key->public_handle, err));
    if (key->public_handle != CK_INVALID_HANDLE && key->strict)
        PFX_TRY(pfx_attributes_check(session, key->public_handle, key->use, PFX_HALF_PUBLIC, true,
                                     false, false, err));
    return read_public(session, key, expected, err);
}

/* Without the login private keys aren't shown, and public ones are: whoever took that for "no such
 * key" would destroy a live key's public half as a lone one. */
static pfx_result sees_private(struct pfx_session *session, struct pfx_error *err)
{
    CK_RV rv = CKR_OK;
    if (!(pfx_session_token(session)->facts.flags & CKF_LOGIN_REQUIRED) ||
        pfx_session_logged_in(session, &rv))
        return PFX_OK;
    if (rv == CKR_OK)
        rv = CKR_USER_NOT_LOGGED_IN;
    pfx_session_saw(session, rv);
    return pfx_session_fail(session, err, rv, "C_GetSessionInfo",
                            "Whether the key is there can't be seen without it.");
}

/* An empty answer may mean that there is no such key, or that the token was taken away under the
 * module (SoftHSM answers CKR_OK with nothing): it must still show its serial, and a key that it
 * showed in this epoch must still be there. */
pfx_result pfx_absence_check(struct pfx_session *session, struct pfx_error *err)
{
    PFX_TRY(pfx_token_present(session, err));
    PFX_TRY(sees_private(session, err));
    struct pfx_token *token = pfx_session_token(session);
    pthread_mutex_lock(&token->module->lock);
    CK_OBJECT_HANDLE canary =
        token->canary_epoch == token->epoch ? token->canary : CK_INVALID_HANDLE;
    pthread_mutex_unlock(&token->module->lock);
    if (canary == CK_INVALID_HANDLE)
        return PFX_OK;
    CK_ULONG cls = 0;
    CK_RV rv = pfx_attr_ulong(session, canary, CKA_CLASS, &cls);
    return pfx_session_fail(session, err, rv, "C_GetAttributeValue",
                            "A key that was there before isn't there any more.");
}

static void remember(struct pfx_session *session, CK_OBJECT_HANDLE handle)
{
    struct pfx_token *token = pfx_session_token(session);
    pthread_mutex_lock(&token->module->lock);
    token->canary = handle;
    token->canary_epoch = token->epoch;
    pthread_mutex_unlock(&token->module->lock);
}

pfx_result pfx_key_find(struct pfx_session *session, enum pfx_key_use use,
                        const struct pfx_key_id *id, bool strict, struct pfx_bytes spki,
                        struct pfx_key **ret_key, struct pfx_error *err)
{
    PFX_AUTOKEY struct pfx_key *key = pfx_key_new(session, use, id, true);
    key->strict = strict;
    PFX_TRY(locate(session, key, spki, err));
    if (key->handle == CK_INVALID_HANDLE) {
        PFX_TRY(pfx_absence_check(session, err));
        *ret_key = NULL;
        return PFX_OK;
    }
    remember(session, key->handle);
    *ret_key = PFX_TAKE(key);
    return PFX_OK;
}

static pfx_result gone(struct pfx_session *session, const struct pfx_key *key,
                       struct pfx_error *err)
{
    char text[64];
    PFX_TRY(pfx_absence_check(session, err));
    return pfx_fail(
        err, PFX_CLASS_INTEGRITY, "find key", key->token->facts.label, "",
        "The %s key with %s is no longer on the token. Restore it from the HSM's backup, "
        "or find out who destroyed it.",
        pfx_key_use_name(key->use), pfx_id_text(&key->id, text));
}

static pfx_result refind(struct pfx_session *session, struct pfx_key *key, uint64_t epoch,
                         CK_OBJECT_HANDLE *ret_handle, struct pfx_error *err)
{
    PFX_AUTOKEY struct pfx_key *again = pfx_key_new(session, key->use, &key->id, true);
    again->strict = key->strict;
    PFX_TRY(locate(session, again, pfx_key_spki(key), err));
    if (again->handle == CK_INVALID_HANDLE)
        return gone(session, key, err);
    remember(session, again->handle);
    pthread_mutex_lock(&key->lock);
    key->handle = again->handle;
    key->public_handle = again->public_handle;
    key->epoch = epoch;
    pthread_mutex_unlock(&key->lock);
    *ret_handle = again->handle;
    return PFX_OK;
}

pfx_result pfx_key_resolve(struct pfx_session *session, struct pfx_key *key,
                           CK_OBJECT_HANDLE *ret_handle, struct pfx_error *err)
{
    if (key->token != pfx_session_token(session))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "find key", key->token->facts.label, "",
                        "The session is on another token than the key.");
    uint64_t epoch = pfx_token_epoch(key->token);
    pthread_mutex_lock(&key->lock);
    bool fresh = key->epoch == epoch;
    *ret_handle = key->handle;
    pthread_mutex_unlock(&key->lock);
    if (key->token_object)
        return fresh ? PFX_OK : refind(session, key, epoch, ret_handle, err);
    if (fresh && pfx_session_serial_alive(key->token, key->session_serial))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_DEVICE, "find key", key->token->facts.label, "",
                    "The temporary key ended with its session. The whole operation is done again.");
}
