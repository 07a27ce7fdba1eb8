/* What each key may do: one row a use. Every usage flag is said on both halves, since a template
 * that says nothing gave a decryption key SIGN and UNWRAP too (SoftHSM). */
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

enum {
    ENCRYPT = 1 << 0,
    DECRYPT = 1 << 1,
    SIGN = 1 << 2,
    SIGN_RECOVER = 1 << 3,
    VERIFY = 1 << 4,
    VERIFY_RECOVER = 1 << 5,
    WRAP = 1 << 6,
    UNWRAP = 1 << 7,
    DERIVE = 1 << 8,
};
static const struct {
    unsigned bit;
    CK_ATTRIBUTE_TYPE type;
    unsigned halves; /* bits of enum pfx_half: where the flag exists */
    bool optional;   /* tokens without the operation often lack the flag */
} flags[] = {
    {ENCRYPT, CKA_ENCRYPT, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PUBLIC, false},
    {DECRYPT, CKA_DECRYPT, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PRIVATE, false},
    {SIGN, CKA_SIGN, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PRIVATE, false},
    {SIGN_RECOVER, CKA_SIGN_RECOVER, 1 << PFX_HALF_PRIVATE, true},
    {VERIFY, CKA_VERIFY, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PUBLIC, false},
    {VERIFY_RECOVER, CKA_VERIFY_RECOVER, 1 << PFX_HALF_PUBLIC, true},
    {WRAP, CKA_WRAP, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PUBLIC, false},
    {UNWRAP, CKA_UNWRAP, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PRIVATE, false},
    {DERIVE, CKA_DERIVE, 1 << PFX_HALF_SECRET | 1 << PFX_HALF_PRIVATE, false},
};
#define N_FLAGS (sizeof flags / sizeof flags[0])

static const struct use_row {
    const char *name;
    CK_OBJECT_CLASS cls;
    unsigned usage;        /* of the private or secret half */
    unsigned public_usage;
    bool extractable, modifiable;
} uses[] = {
    [PFX_USE_ENCRYPTION] = {"encryption", CKO_PRIVATE_KEY, DECRYPT, ENCRYPT, false, false},
    [PFX_USE_USER] = {"user", CKO_PRIVATE_KEY, SIGN, VERIFY, true, false},
    [PFX_USE_WRAPPING] = {"wrapping", CKO_SECRET_KEY, WRAP | UNWRAP, 0, false, false},
    [PFX_USE_KEK_TRANSPORT] = {"KEK transport", CKO_PRIVATE_KEY, UNWRAP, WRAP, false, false},
    [PFX_USE_MAC] = {"MAC", CKO_SECRET_KEY, SIGN | VERIFY, 0, false, false},
    [PFX_USE_CLIENT] = {"client", CKO_PRIVATE_KEY, SIGN, VERIFY, false, false},
    [PFX_USE_SECRETS] = {"secrets", CKO_PRIVATE_KEY, DECRYPT, ENCRYPT, false, false},
    [PFX_USE_LOG] = {"log", CKO_PRIVATE_KEY, SIGN, VERIFY, false, false},
    [PFX_USE_LOG_ED25519] = {"log Ed25519", CKO_PRIVATE_KEY, SIGN, VERIFY, false, false},
    [PFX_USE_ANCHOR] = {"anchor", CKO_SECRET_KEY, 0, 0, false, true},
};

const char *pfx_key_use_name(enum pfx_key_use use)
{
    return (size_t)use < sizeof uses / sizeof uses[0] ? uses[use].name : "unknown";
}

CK_OBJECT_CLASS pfx_use_class(enum pfx_key_use use)
{
    return uses[use].cls;
}

bool pfx_use_is_pair(enum pfx_key_use use)
{
    return uses[use].cls == CKO_PRIVATE_KEY;
}

void pfx_template_add(struct pfx_template *t, CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    if (t->n == sizeof t->at / sizeof t->at[0])
        pfx_die("a key template is too long");
    /* pValue isn't const in the standard; templates are only read. */
    t->at[t->n++] = (CK_ATTRIBUTE){
        .type = type, .pValue = (void *)(uintptr_t)value, .ulValueLen = len};
}

void pfx_template_bool(struct pfx_template *t, CK_ATTRIBUTE_TYPE type, bool value)
{
    static const CK_BBOOL no = CK_FALSE, yes = CK_TRUE;
    pfx_template_add(t, type, value ? &yes : &no, sizeof yes);
}

void pfx_template_ulong(struct pfx_template *t, CK_ATTRIBUTE_TYPE type, const CK_ULONG *value)
{
    pfx_template_add(t, type, value, sizeof *value);
}

size_t pfx_wants(enum pfx_key_use use, enum pfx_half half, bool token_object,
                 struct pfx_want wants[PFX_MAX_WANTS])
{
    const struct use_row *row = &uses[use];
    bool public = half == PFX_HALF_PUBLIC;
    if (half == PFX_HALF_UNWRAPPED)
        half = PFX_HALF_PRIVATE;
    unsigned usage = public ? row->public_usage : row->usage;
    size_t n = 0;
    wants[n++] = (struct pfx_want){.type = CKA_TOKEN, .value = token_object};
    wants[n++] = (struct pfx_want){.type = CKA_PRIVATE, .value = !public};
    for (size_t i = 0; i < N_FLAGS; i++) {
        if (flags[i].halves & 1u << half)
            wants[n++] = (struct pfx_want){.type = flags[i].type,
                                           .value = (usage & flags[i].bit) != 0,
                                           .optional = flags[i].optional};
    }
    wants[n++] = (struct pfx_want){.type = CKA_MODIFIABLE, .value = row->modifiable,
                                   .optional = true, .tolerated = true};
    wants[n++] = (struct pfx_want){.type = CKA_COPYABLE, .value = false,
                                   .optional = true, .tolerated = true};
    if (public)
        return n;
    wants[n++] = (struct pfx_want){.type = CKA_SENSITIVE, .value = true};
    wants[n++] = (struct pfx_want){.type = CKA_EXTRACTABLE, .value = row->extractable};
    wants[n++] = (struct pfx_want){.type = CKA_WRAP_WITH_TRUSTED, .optional = true};
    if (half == PFX_HALF_PRIVATE)
        wants[n++] = (struct pfx_want){.type = CKA_ALWAYS_AUTHENTICATE, .optional = true};
    wants[n++] = (struct pfx_want){.type = CKA_LOCAL, .value = true, .computed = true};
    wants[n++] = (struct pfx_want){.type = CKA_ALWAYS_SENSITIVE, .value = true, .computed = true};
    wants[n++] = (struct pfx_want){.type = CKA_NEVER_EXTRACTABLE, .value = !row->extractable,
                                   .computed = true};
    return n;
}

bool pfx_dropped(struct pfx_token *token, enum pfx_half half, CK_ATTRIBUTE_TYPE type)
{
    bool dropped = false;
    pthread_mutex_lock(&token->caps_lock);
    for (size_t i = 0; i < token->caps.n_dropped[half]; i++)
        dropped = dropped || token->caps.dropped[half][i] == type;
    pthread_mutex_unlock(&token->caps_lock);
    return dropped;
}

void pfx_drop(struct pfx_token *token, enum pfx_half half, CK_ATTRIBUTE_TYPE type)
{
    pthread_mutex_lock(&token->caps_lock);
    size_t n = token->caps.n_dropped[half];
    bool there = false;
    for (size_t i = 0; i < n; i++)
        there = there || token->caps.dropped[half][i] == type;
    if (!there && n < sizeof token->caps.dropped[half] / sizeof token->caps.dropped[half][0])
        token->caps.dropped[half][token->caps.n_dropped[half]++] = type;
    pthread_mutex_unlock(&token->caps_lock);
}

struct pfx_caps pfx_token_caps(struct pfx_token *token)
{
    pthread_mutex_lock(&token->caps_lock);
    struct pfx_caps caps = token->caps;
    pthread_mutex_unlock(&token->caps_lock);
    return caps;
}

void pfx_template_use(struct pfx_template *t, struct pfx_token *token, enum pfx_key_use use,
                      enum pfx_half half, bool token_object)
{
    struct pfx_want wants[PFX_MAX_WANTS];
    size_t n = pfx_wants(use, half, token_object, wants);
    for (size_t i = 0; i < n; i++) {
        if (!wants[i].computed && !pfx_dropped(token, half, wants[i].type))
            pfx_template_bool(t, wants[i].type, wants[i].value);
    }
}

static void allow(CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED], size_t *n,
                  CK_MECHANISM_TYPE mechanism)
{
    if (mechanism == CK_UNAVAILABLE_INFORMATION || *n == PFX_MAX_ALLOWED)
        return;
    for (size_t i = 0; i < *n; i++) {
        if (allowed[i] == mechanism)
            return;
    }
    allowed[(*n)++] = mechanism;
}

size_t pfx_use_mechanisms(struct pfx_token *token, enum pfx_key_use use, bool rsa,
                          CK_MECHANISM_TYPE allowed[PFX_MAX_ALLOWED])
{
    const struct pfx_caps caps = pfx_token_caps(token);
    const struct pfx_probe *can = &caps.merged;
    size_t n = 0;
    switch (use) {
    case PFX_USE_ENCRYPTION:
    case PFX_USE_SECRETS:
        allow(allowed, &n, CKM_RSA_PKCS_OAEP);
        /* Raw RSA opens OAEP on the host, where the token lacks the hash; nowhere else. */
        if (!(use == PFX_USE_SECRETS
                  ? can->oaep_sha256
                  : can->oaep_sha256 && can->oaep_sha384 && can->oaep_sha512))
            allow(allowed, &n, CKM_RSA_X_509);
        break;
    case PFX_USE_USER:
        allow(allowed, &n, rsa ? CKM_RSA_PKCS : CKM_ECDSA);
        if (rsa)
            allow(allowed, &n, can->sign_rsa);
        break;
    case PFX_USE_CLIENT:
        allow(allowed, &n, CKM_RSA_PKCS); /* libp11 signs the certificate with it */
        allow(allowed, &n, can->sign_rsa);
        allow(allowed, &n, can->sign_pss);
        if (can->sign_pss == CK_UNAVAILABLE_INFORMATION)
            allow(allowed, &n, CKM_SHA256_RSA_PKCS_PSS);
        break;
    case PFX_USE_LOG:
        allow(allowed, &n, CKM_ECDSA);
        break;
    case PFX_USE_LOG_ED25519:
        allow(allowed, &n, CKM_EDDSA);
        break;
    case PFX_USE_KEK_TRANSPORT:
        allow(allowed, &n, CKM_RSA_PKCS_OAEP);
        break;
    case PFX_USE_MAC:
        allow(allowed, &n, CKM_SHA256_HMAC);
        break;
    case PFX_USE_WRAPPING:
        allow(allowed, &n, can->kwp);
        allow(allowed, &n, can->blob_rsa);
        allow(allowed, &n, can->blob_ec);
        break;
    case PFX_USE_ANCHOR:
        break;
    }
    return n;
}

static const char *word(int value)
{
    return value < 0 ? "missing" : value ? "true" : "false";
}

pfx_result pfx_attributes_check(struct pfx_session *session, CK_OBJECT_HANDLE object,
                                enum pfx_key_use use, enum pfx_half half, bool token_object,
                                bool adopted, bool unwrapped, struct pfx_error *err)
{
    struct pfx_want wants[PFX_MAX_WANTS];
    CK_ATTRIBUTE_TYPE types[PFX_MAX_WANTS] = {0};
    signed char found[PFX_MAX_WANTS];
    size_t n = pfx_wants(use, half, token_object, wants);
    for (size_t i = 0; i < n; i++)
        types[i] = wants[i].type;
    CK_RV rv = pfx_attr_bools(session, object, types, n, found);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_GetAttributeValue", "%s", "");
    bool no_local = pfx_token_caps(pfx_session_token(session)).no_local;
    for (size_t i = 0; i < n; i++) {
        const struct pfx_want *w = &wants[i];
        bool must = !adopted || w->type == CKA_SENSITIVE || w->type == CKA_ALWAYS_SENSITIVE ||
                    w->type == CKA_EXTRACTABLE || w->type == CKA_NEVER_EXTRACTABLE;
        bool history = w->computed && (unwrapped || (w->type == CKA_LOCAL && no_local));
        if (!must || history || found[i] == (w->value ? 1 : 0) || w->tolerated ||
            (w->optional && found[i] < 0))
            continue;
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check key",
                        pfx_session_token(session)->facts.label, pfx_cka_name(w->type),
                        "The %s key's %s is %s and must be %s%s. It isn't used; see 'pfx-agent hsm "
                        "test' for what this token does to keys.",
                        pfx_key_use_name(use), pfx_cka_name(w->type), word(found[i]),
                        word(w->value), half == PFX_HALF_PUBLIC ? " on its public half" : "");
    }
    return PFX_OK;
}
