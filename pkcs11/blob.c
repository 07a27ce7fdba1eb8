/* User keys at rest: a blob under the wrapping key, and back as a session object. */
#include <string.h>

#include <openssl/rand.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

/* "PB", version, kind, and for CBC_PAD the IV; then what C_WrapKey gave. RFC 5649 is one format
 * whatever number the module knows it by, so the kind is stored and not the number. */
#define HEAD 4
#define KIND_KWP 1
#define KIND_CBC 2

static pfx_result add_all(struct pfx_buf *out, const uint8_t *head, size_t n, const uint8_t *iv,
                          size_t iv_len, const struct pfx_buf *wrapped, struct pfx_error *err)
{
    size_t start = out->len;
    if (pfx_buf_add(out, head, n) && pfx_buf_add(out, iv, iv_len) &&
        pfx_buf_add(out, wrapped->data, wrapped->len))
        return PFX_OK;
    pfx_buf_cut(out, start);
    return pfx_fail(err, PFX_CLASS_INTERNAL, "wrap key", "", "",
                    "The buffer's ceiling of %zu bytes is too low.", out->max);
}

pfx_result pfx_key_wrap_blob(struct pfx_session *session, struct pfx_key *wrapping,
                             struct pfx_key *user, struct pfx_buf *out, struct pfx_error *err)
{
    const struct pfx_caps caps = pfx_token_caps(user->token);
    CK_MECHANISM_TYPE by = pfx_key_type_is_rsa(user->type) ? caps.merged.blob_rsa
                                                           : caps.merged.blob_ec;
    if (by == CK_UNAVAILABLE_INFORMATION)
        return pfx_fail(
            err, PFX_CLASS_REFUSED, "wrap key", user->token->facts.label, "",
            "The probe hasn't shown that this token wraps and unwraps %s keys with their "
            "attributes kept. Use 'users.keys: token'.",
            pfx_key_type_name(user->type));
    CK_OBJECT_HANDLE wrapping_handle, user_handle;
    PFX_TRY(pfx_key_resolve(session, wrapping, &wrapping_handle, err));
    PFX_TRY(pfx_key_resolve(session, user, &user_handle, err));
    bool cbc = by == CKM_AES_CBC_PAD;
    uint8_t iv[16];
    if (cbc && RAND_bytes(iv, sizeof iv) != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "wrap key", "", "",
                        "OpenSSL has no random bytes.");
    CK_MECHANISM mechanism = {by, cbc ? iv : NULL, cbc ? sizeof iv : 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wrapped = pfx_buf_make(16 * 1024);
    PFX_TRY(pfx_wrap_twice(session, &mechanism, wrapping_handle, user_handle, &wrapped, err));
    const uint8_t head[HEAD] = {'P', 'B', 1, cbc ? KIND_CBC : KIND_KWP};
    return add_all(out, head, sizeof head, iv, cbc ? sizeof iv : 0, &wrapped, err);
}

static pfx_result bad_blob(struct pfx_error *err, const struct pfx_token *token, const char *code)
{
    return pfx_fail(
        err, PFX_CLASS_INTEGRITY, "unwrap key", token->facts.label, code,
        "The stored key can't be unwrapped: it was changed, or another wrapping key made "
        "it. Restore it from a backup, or enrol this user again.");
}

void pfx_usage_trim(struct pfx_session *session, CK_OBJECT_HANDLE object)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_DECRYPT, CKA_SIGN_RECOVER, CKA_UNWRAP,
                                              CKA_DERIVE};
    signed char found[4];
    if (pfx_attr_bools(session, object, types, 4, found) != CKR_OK)
        return;
    for (size_t i = 0; i < 4; i++) {
        if (found[i] != 1)
            continue;
        struct pfx_template off = {.n = 0};
        pfx_template_bool(&off, types[i], false);
        (void)PFX_S(session, C_SetAttributeValue, object, off.at, off.n);
    }
}

struct arrival {
    struct pfx_session *session;
    CK_OBJECT_HANDLE wrapping;
    struct pfx_bytes blob;
    CK_MECHANISM_TYPE kwp;
    bool rsa;
    const struct pfx_key_id *id;
    struct pfx_bytes point; /* NSS, EC only */
    CK_OBJECT_HANDLE handle;
};

/* Everything said that is said when a key is made, except what only generation gives. */
static void blob_template(struct pfx_template *t, const struct arrival *a,
                          const CK_MECHANISM_TYPE *allowed, size_t n_allowed)
{
    static const CK_OBJECT_CLASS cls = CKO_PRIVATE_KEY;
    static const CK_ULONG rsa_type = CKK_RSA, ec_type = CKK_EC;
    struct pfx_token *token = pfx_session_token(a->session);
    pfx_template_add(t, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(t, CKA_KEY_TYPE, a->rsa ? &rsa_type : &ec_type);
    pfx_template_use(t, token, PFX_USE_USER, PFX_HALF_UNWRAPPED, false);
    pfx_template_add(t, CKA_ID, a->id->bytes, sizeof a->id->bytes);
    if (!pfx_dropped(token, PFX_HALF_UNWRAPPED, CKA_ALLOWED_MECHANISMS))
        pfx_template_add(t, CKA_ALLOWED_MECHANISMS, allowed, n_allowed * sizeof allowed[0]);
    if (a->point.len)
        pfx_template_add(t, PFX_CKA_NSS_DB, a->point.data, a->point.len);
}

static CK_RV unwrap(void *ctx, unsigned leave_out)
{
    struct arrival *a = ctx;
    if (a->handle != CK_INVALID_HANDLE)
        pfx_session_object_destroy(pfx_session_token(a->session), pfx_session_serial(a->session),
                                   a->handle);
    a->handle = CK_INVALID_HANDLE;
    CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED];
    size_t n_allowed =
        pfx_use_mechanisms(pfx_session_token(a->session), PFX_USE_USER, a->rsa, allowed);
    struct pfx_template t = {.n = 0};
    blob_template(&t, a, allowed, n_allowed);
    pfx_template_leave_out(&t, leave_out);
    bool cbc = a->blob.data[3] == KIND_CBC;
    uint8_t iv[16];
    size_t head = HEAD + (cbc ? sizeof iv : 0);
    if (cbc)
        memcpy(iv, a->blob.data + HEAD, sizeof iv);
    CK_MECHANISM mechanism = {cbc ? CKM_AES_CBC_PAD : a->kwp, cbc ? iv : NULL,
                              cbc ? sizeof iv : 0};
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = PFX_S(a->session, C_UnwrapKey, &mechanism, a->wrapping,
                     (CK_BYTE *)(uintptr_t)(a->blob.data + head), a->blob.len - head, t.at, t.n,
                     &handle);
    if (rv == CKR_OK && handle == CK_INVALID_HANDLE)
        rv = PFX_CKR_NONSENSE;
    if (rv == CKR_OK)
        a->handle = handle;
    return rv;
}

static bool says_bad(CK_RV rv, const struct pfx_caps *caps)
{
    return rv == CKR_WRAPPED_KEY_INVALID || rv == CKR_WRAPPED_KEY_LEN_RANGE ||
           rv == CKR_ENCRYPTED_DATA_INVALID || rv == CKR_ENCRYPTED_DATA_LEN_RANGE ||
           rv == CKR_DATA_INVALID || rv == caps->tampered_rv;
}

static bool well_formed(struct pfx_bytes blob)
{
    size_t least = HEAD + 16;
    if (blob.len < least || memcmp(blob.data, "PB\x01", 3) != 0)
        return false;
    if (blob.data[3] == KIND_CBC)
        return blob.len >= least + 16 && (blob.len - HEAD) % 16 == 0;
    return blob.data[3] == KIND_KWP && (blob.len - HEAD) % 8 == 0;
}

/* The key is what it was: attributes, modulus, and a signature under its public half. */
static pfx_result check(struct pfx_session *session, struct pfx_key *key, struct pfx_bytes spki,
                        struct pfx_error *err)
{
    pfx_usage_trim(session, key->handle);
    PFX_TRY(pfx_attributes_check(session, key->handle, PFX_USE_USER, PFX_HALF_PRIVATE, false, false,
                                 true, err));
    if (pfx_key_type_is_rsa(key->type)) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(8192);
        PFX_TRY(pfx_object_spki(session, key->handle, PFX_USE_USER, &own, err));
        if (own.len != spki.len || memcmp(own.data, spki.data, spki.len) != 0)
            return bad_blob(err, key->token, "");
    }
    return pfx_key_prove(session, key, err);
}

pfx_result pfx_key_unwrap_blob(struct pfx_session *session, struct pfx_key *wrapping,
                               struct pfx_bytes blob, const struct pfx_key_id *id,
                               struct pfx_bytes spki, struct pfx_key **ret_user,
                               struct pfx_error *err)
{
    static const enum pfx_half halves[] = {PFX_HALF_UNWRAPPED};
    struct pfx_token *token = pfx_session_token(session);
    const struct pfx_caps caps = pfx_token_caps(token);
    if (!well_formed(blob))
        return bad_blob(err, token, "");
    PFX_AUTOKEY struct pfx_key *key = pfx_key_new(session, PFX_USE_USER, id, false);
    PFX_TRY(pfx_spki_type(spki, &key->type, err));
    if (!pfx_buf_add(&key->spki, spki.data, spki.len))
        return bad_blob(err, token, "");
    bool rsa = pfx_key_type_is_rsa(key->type);
    CK_MECHANISM_TYPE by = rsa ? caps.merged.blob_rsa : caps.merged.blob_ec;
    if (by == CK_UNAVAILABLE_INFORMATION ||
        (blob.data[3] == KIND_KWP && caps.merged.kwp == CK_UNAVAILABLE_INFORMATION))
        return pfx_fail(err, PFX_CLASS_REFUSED, "unwrap key", token->facts.label, "",
                        "The probe hasn't shown that this token unwraps such keys with their "
                        "attributes kept. Run 'pfx-agent hsm test'.");
    CK_OBJECT_HANDLE wrapping_handle;
    PFX_TRY(pfx_key_resolve(session, wrapping, &wrapping_handle, err));
    struct arrival a = {
        .session = session,
        .wrapping = wrapping_handle,
        .blob = blob,
        .kwp = caps.merged.kwp,
        .rsa = rsa,
        .id = id,
    };
    if (!rsa && token->module->nss)
        a.point = pfx_spki_point(spki);
    CK_RV rv = pfx_template_adapt(token, halves, 1, unwrap, &a);
    key->handle = a.handle;
    if (says_bad(rv, &caps))
        return bad_blob(err, token, pfx_ckr_name(rv));
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_UnwrapKey", "%s", "");
    PFX_TRY(check(session, key, spki, err));
    *ret_user = PFX_TAKE(key);
    return PFX_OK;
}
