/* Making keys: everything said, everything read back, the pair proven; else it is destroyed again.
 */
#include <stdio.h>
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

struct plan {
    struct pfx_session *session;
    enum pfx_key_use use;
    enum pfx_key_type type;
    const struct pfx_key_id *id;
    const char *label;
    bool token_object;
    unsigned leave_out; /* adapt.c */
    bool throwaway;
    CK_OBJECT_HANDLE handle, public_handle; /* what was made */
};

static bool is_rsa(const struct plan *plan)
{
    switch (plan->use) {
    case PFX_USE_LOG:
    case PFX_USE_LOG_ED25519:
        return false;
    case PFX_USE_USER:
        return pfx_key_type_is_rsa(plan->type);
    default:
        return true;
    }
}

static void common(struct pfx_template *t, const struct plan *plan, enum pfx_half half,
                   const CK_MECHANISM_TYPE *allowed, size_t n_allowed)
{
    struct pfx_token *token = pfx_session_token(plan->session);
    pfx_template_use(t, token, plan->use, half, plan->token_object);
    pfx_template_add(t, CKA_ID, plan->id->bytes, sizeof plan->id->bytes);
    if (plan->label)
        pfx_template_add(t, CKA_LABEL, plan->label, strlen(plan->label));
    if (half != PFX_HALF_PUBLIC && n_allowed > 0 && !plan->throwaway &&
        !pfx_dropped(token, half, CKA_ALLOWED_MECHANISMS))
        pfx_template_add(t, CKA_ALLOWED_MECHANISMS, allowed, n_allowed * sizeof allowed[0]);
    pfx_template_leave_out(t, plan->leave_out);
}

static CK_RV generate_secret(const struct plan *plan, CK_OBJECT_HANDLE *ret_handle)
{
    static const CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    static const CK_ULONG len = 32, aes = CKK_AES, generic = CKK_GENERIC_SECRET;
    bool wrapping = plan->use == PFX_USE_WRAPPING;
    CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED];
    size_t n_allowed =
        pfx_use_mechanisms(pfx_session_token(plan->session), plan->use, false, allowed);
    struct pfx_template t = {.n = 0};
    pfx_template_add(&t, CKA_CLASS, &cls, sizeof cls);
    pfx_template_ulong(&t, CKA_KEY_TYPE, wrapping ? &aes : &generic);
    pfx_template_ulong(&t, CKA_VALUE_LEN, &len);
    common(&t, plan, PFX_HALF_SECRET, allowed, n_allowed);
    CK_MECHANISM mechanism = {wrapping ? CKM_AES_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN, NULL, 0};
    return PFX_S(plan->session, C_GenerateKey, &mechanism, t.at, t.n, ret_handle);
}

static CK_RV generate_pair(const struct plan *plan, CK_OBJECT_HANDLE *ret_private,
                           CK_OBJECT_HANDLE *ret_public)
{
    static const CK_OBJECT_CLASS private_class = CKO_PRIVATE_KEY, public_class = CKO_PUBLIC_KEY;
    static const CK_ULONG rsa_type = CKK_RSA, ec_type = CKK_EC, edwards_type = CKK_EC_EDWARDS;
    static const uint8_t f4[] = {0x01, 0x00, 0x01};
    static const uint8_t ed25519_oid[] = {0x06, 0x03, 0x2B, 0x65, 0x70};
    bool rsa = is_rsa(plan), edwards = plan->use == PFX_USE_LOG_ED25519;
    const CK_ULONG bits = pfx_key_type_bits(plan->type);
    const CK_ULONG *key_type = rsa ? &rsa_type : edwards ? &edwards_type : &ec_type;
    CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED];
    size_t n_allowed =
        pfx_use_mechanisms(pfx_session_token(plan->session), plan->use, rsa, allowed);
    struct pfx_template private = {.n = 0}, public = {.n = 0};
    pfx_template_add(&private, CKA_CLASS, &private_class, sizeof private_class);
    pfx_template_ulong(&private, CKA_KEY_TYPE, key_type);
    common(&private, plan, PFX_HALF_PRIVATE, allowed, n_allowed);
    pfx_template_add(&public, CKA_CLASS, &public_class, sizeof public_class);
    pfx_template_ulong(&public, CKA_KEY_TYPE, key_type);
    common(&public, plan, PFX_HALF_PUBLIC, NULL, 0);
    if (rsa) {
        pfx_template_ulong(&public, CKA_MODULUS_BITS, &bits);
        pfx_template_add(&public, CKA_PUBLIC_EXPONENT, f4, sizeof f4);
    } else {
        struct pfx_bytes params = {ed25519_oid, sizeof ed25519_oid};
        CK_RV rv = edwards ? CKR_OK : pfx_ec_params(plan->type, &params);
        if (rv != CKR_OK)
            return rv;
        pfx_template_add(&public, CKA_EC_PARAMS, params.data, params.len);
    }
    CK_MECHANISM mechanism = {rsa ? CKM_RSA_PKCS_KEY_PAIR_GEN
                                  : edwards ? CKM_EC_EDWARDS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN,
                              NULL, 0};
    return PFX_S(plan->session, C_GenerateKeyPair, &mechanism, public.at, public.n, private.at,
                 private.n, ret_public, ret_private);
}

static struct pfx_bytes id_bytes(const struct pfx_key_id *id)
{
    return (struct pfx_bytes){id->bytes, sizeof id->bytes};
}

/* In the token only what carries the id of this key: a token that mixes its handles up would have
 * another key destroyed. What stays behind is found by its id at the next try; what lives in the
 * session isn't, and goes with it at the latest. */
static bool discard_one(struct plan *plan, CK_OBJECT_HANDLE handle)
{
    bool same;
    if (handle == CK_INVALID_HANDLE)
        return true;
    if (!plan->token_object) {
        pfx_session_object_destroy(pfx_session_token(plan->session),
                                   pfx_session_serial(plan->session), handle);
        return true;
    }
    return pfx_attr_id_is(plan->session, handle, id_bytes(plan->id), &same) == CKR_OK && same &&
           PFX_S(plan->session, C_DestroyObject, handle) == CKR_OK;
}

/* The private half first, and the public one only when that is gone: a private EC key alone can't be
 * adopted, since nobody knows which key it is. */
static void discard(struct plan *plan)
{
    if (discard_one(plan, plan->handle))
        (void)discard_one(plan, plan->public_handle);
    plan->handle = plan->public_handle = CK_INVALID_HANDLE;
}

static CK_RV generate(void *ctx, unsigned leave_out)
{
    struct plan *plan = ctx;
    discard(plan);
    plan->leave_out = leave_out;
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE, public = CK_INVALID_HANDLE;
    bool pair = pfx_use_is_pair(plan->use);
    CK_RV rv = pair ? generate_pair(plan, &handle, &public) : generate_secret(plan, &handle);
    if (rv != CKR_OK)
        return rv;
    plan->handle = handle;
    plan->public_handle = public;
    if (handle == CK_INVALID_HANDLE || (pair && public == CK_INVALID_HANDLE)) {
        discard(plan);
        return PFX_CKR_NONSENSE;
    }
    return CKR_OK;
}

/* Where the token keeps the list, it must be ours. */
static pfx_result check_allowed(struct pfx_session *session, struct pfx_key *key, bool rsa,
                                struct pfx_error *err)
{
    CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED];
    size_t n = pfx_use_mechanisms(key->token, key->use, rsa, allowed);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf found = pfx_buf_make(4096);
    CK_RV rv = pfx_attr_read(session, key->handle, CKA_ALLOWED_MECHANISMS, 4096, &found);
    if (rv != CKR_OK || found.len == 0 || n == 0)
        return PFX_OK;
    size_t n_found = found.len / sizeof(CK_MECHANISM_TYPE), hits = 0;
    for (size_t i = 0; i < n_found; i++) {
        CK_MECHANISM_TYPE one;
        memcpy(&one, found.data + i * sizeof one, sizeof one);
        for (size_t j = 0; j < n; j++)
            hits += allowed[j] == one;
    }
    if (n_found == n && hits == n)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "check key", key->token->facts.label,
                    "CKA_ALLOWED_MECHANISMS",
                    "The %s key's CKA_ALLOWED_MECHANISMS has %zu entries that aren't the %zu asked "
                    "for. It isn't used.", pfx_key_use_name(key->use), n_found, n);
}

static pfx_result check_numbers(struct pfx_session *session, const struct plan *plan,
                                struct pfx_key *key, struct pfx_error *err)
{
    if (!pfx_use_is_pair(plan->use)) {
        CK_ULONG len = 0;
        CK_RV rv = pfx_attr_ulong(session, key->handle, CKA_VALUE_LEN, &len);
        if (rv == CKR_OK && len != 32)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "check key", key->token->facts.label,
                            "CKA_VALUE_LEN", "The %s key has %lu bytes and must have 32. It isn't "
                            "used.", pfx_key_use_name(key->use), len);
        return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_OK
                   ? PFX_OK
                   : pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    }
    if (plan->use != PFX_USE_LOG_ED25519 && key->type != plan->type)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check key", key->token->facts.label, "",
                        "The token made a key of type %s and was asked for %s. It isn't used.",
                        pfx_key_type_name(key->type), pfx_key_type_name(plan->type));
    return PFX_OK;
}

static pfx_result check_id(struct pfx_session *session, CK_OBJECT_HANDLE object,
                           const struct pfx_key *key, struct pfx_error *err)
{
    bool same;
    CK_RV rv = pfx_attr_id_is(session, object, id_bytes(&key->id), &same);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    if (!same)
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "check key", key->token->facts.label, "CKA_ID",
            "The token gave the key another CKA_ID than it was asked to. It isn't used.");
    return PFX_OK;
}

/* The throwaway was made a moment ago: where even its CKA_LOCAL is false, the attribute says
 * nothing on this token. */
static void learn_local(struct pfx_session *session, const struct pfx_key *key)
{
    static const CK_ATTRIBUTE_TYPE type = CKA_LOCAL;
    signed char local = -1;
    if (pfx_attr_bools(session, key->handle, &type, 1, &local) != CKR_OK || local == 1)
        return;
    pthread_mutex_lock(&key->token->caps_lock);
    key->token->caps.no_local = true;
    pthread_mutex_unlock(&key->token->caps_lock);
}

static pfx_result check(struct pfx_session *session, const struct plan *plan, struct pfx_key *key,
                        struct pfx_error *err)
{
    if (plan->throwaway)
        learn_local(session, key);
    bool pair = pfx_use_is_pair(plan->use);
    PFX_TRY(pfx_attributes_check(session, key->handle, plan->use,
                                 pair ? PFX_HALF_PRIVATE : PFX_HALF_SECRET, plan->token_object,
                                 false, false, err));
    if (!plan->throwaway)
        PFX_TRY(check_allowed(session, key, is_rsa(plan), err));
    PFX_TRY(check_id(session, key->handle, key, err));
    if (pair) {
        PFX_TRY(check_id(session, key->public_handle, key, err));
        PFX_TRY(pfx_attributes_check(session, key->public_handle, plan->use, PFX_HALF_PUBLIC,
                                     plan->token_object, false, false, err));
        PFX_TRY(pfx_object_spki(session, key->public_handle, plan->use, &key->spki, err));
        if (plan->use != PFX_USE_LOG_ED25519)
            PFX_TRY(pfx_spki_type(pfx_key_spki(key), &key->type, err));
    }
    PFX_TRY(check_numbers(session, plan, key, err));
    return plan->throwaway ? PFX_OK : pfx_key_prove(session, key, err);
}

static enum pfx_key_type type_of(enum pfx_key_use use, enum pfx_key_type asked)
{
    return use == PFX_USE_LOG ? PFX_KEY_EC_P256 : asked;
}

static pfx_result make(struct plan *plan, struct pfx_key **ret_key, struct pfx_error *err)
{
    struct pfx_session *session = plan->session;
    PFX_AUTOKEY struct pfx_key *key =
        pfx_key_new(session, plan->use, plan->id, plan->token_object);
    static const enum pfx_half pair_halves[] = {PFX_HALF_PRIVATE, PFX_HALF_PUBLIC};
    static const enum pfx_half secret_halves[] = {PFX_HALF_SECRET};
    bool pair = pfx_use_is_pair(plan->use);
    CK_RV rv = pfx_template_adapt(key->token, pair ? pair_halves : secret_halves, pair ? 2 : 1,
                                  generate, plan);
    key->handle = plan->handle;
    key->public_handle = plan->public_handle;
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv,
                                pair ? "C_GenerateKeyPair" : "C_GenerateKey", "%s", "");
    struct pfx_error first = PFX_ERROR_NONE;
    pfx_result r = check(session, plan, key, &first);
    /* What doesn't fit is looked at once more: SoftHSM under load now and then answers for another
     * object, and that needs no person. */
    if (pfx_failed(r)) {
        pfx_buf_reset(&key->spki);
        r = check(session, plan, key, err);
    }
    if (pfx_ok(r)) {
        *ret_key = PFX_TAKE(key);
        return PFX_OK;
    }
    discard(plan);
    key->handle = key->public_handle = CK_INVALID_HANDLE;
    return r;
}

/* NSS lets a second key with the same CKA_ID take the first one's place without a word. User keys
 * elsewhere aren't asked for: their makers look first, and each look is a scan of the whole token. */
static pfx_result check_vacant(const struct plan *plan, struct pfx_error *err)
{
    struct pfx_token *token = pfx_session_token(plan->session);
    if (!plan->token_object || (plan->use == PFX_USE_USER && !token->module->nss))
        return PFX_OK;
    PFX_AUTOHANDLES struct pfx_handles there = {0};
    PFX_TRY(pfx_objects_by_id(plan->session, pfx_use_class(plan->use), id_bytes(plan->id), &there,
                              err));
    if (there.n == 0)
        return PFX_OK;
    char text[64];
    return pfx_fail(err, PFX_CLASS_REFUSED, "make key", token->facts.label, "",
                    "A key with %s is there already, so no %s key was made. Use that one, or destroy "
                    "it with the HSM's own tool.",
                    pfx_id_text(plan->id, text), pfx_key_use_name(plan->use));
}

pfx_result pfx_key_make(struct pfx_session *session, enum pfx_key_use use, enum pfx_key_type type,
                        const struct pfx_key_id *id, const char *label, bool token_object,
                        struct pfx_key **ret_key, struct pfx_error *err)
{
    struct plan plan = {
        .session = session,
        .use = use,
        .type = type_of(use, type),
        .id = id,
        .label = label,
        .token_object = token_object,
    };
    if (pfx_use_is_pair(use) && use != PFX_USE_USER && use != PFX_USE_LOG &&
        use != PFX_USE_LOG_ED25519 && !pfx_key_type_is_rsa(plan.type))
        return pfx_fail(err, PFX_CLASS_USAGE, "make key", pfx_key_use_name(use), "",
                        "A key for this use is RSA, not %s.", pfx_key_type_name(type));
    struct pfx_module *module = pfx_session_token(session)->module;
    if (token_object)
        PFX_TRY(pfx_module_write_begin(module, err));
    pfx_result r = check_vacant(&plan, err);
    if (pfx_ok(r))
        r = make(&plan, ret_key, err);
    if (token_object)
        pfx_module_write_end(module);
    return r;
}

pfx_result pfx_key_make_throwaway(struct pfx_session *session, enum pfx_key_use use,
                                  enum pfx_key_type type, struct pfx_key **ret_key,
                                  struct pfx_error *err)
{
    struct pfx_key_id id;
    PFX_TRY(pfx_token_random(session, id.bytes, sizeof id.bytes, err));
    struct plan plan = {
        .session = session,
        .use = use,
        .type = type_of(use, type),
        .id = &id,
        .label = "pfx-hsm probe",
        .throwaway = true,
    };
    return make(&plan, ret_key, err);
}
