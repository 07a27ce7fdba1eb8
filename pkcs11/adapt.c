/* Tokens that don't take every attribute of a template: asked again without those that may be left
 * out, as few as possible. What was left out is remembered for the token, and shows when the
 * attributes are read back. */
#include "crypto/mem.h"
#include "pkcs11/object.h"

/* What may be left out, least valuable first. */
static const CK_ATTRIBUTE_TYPE optional[] = {
    CKA_SIGN_RECOVER, CKA_VERIFY_RECOVER,     CKA_ALWAYS_AUTHENTICATE, CKA_WRAP_WITH_TRUSTED,
    CKA_COPYABLE,     CKA_ALLOWED_MECHANISMS, CKA_MODIFIABLE,
};
#define N_OPTIONAL (sizeof optional / sizeof optional[0])
#define ALL ((1u << N_OPTIONAL) - 1)

void pfx_template_leave_out(struct pfx_template *t, unsigned bits)
{
    CK_ULONG kept = 0;
    for (CK_ULONG i = 0; i < t->n; i++) {
        bool out = false;
        for (size_t j = 0; j < N_OPTIONAL; j++)
            out = out || ((bits & 1u << j) && t->at[i].type == optional[j]);
        if (!out)
            t->at[kept++] = t->at[i];
    }
    t->n = kept;
}

static bool about_template(CK_RV rv)
{
    return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_VALUE_INVALID ||
           rv == CKR_ATTRIBUTE_READ_ONLY || rv == CKR_TEMPLATE_INCONSISTENT ||
           rv == CKR_TEMPLATE_INCOMPLETE;
}

static CK_RV narrow_down(pfx_template_fn try, void *ctx, CK_RV first, unsigned *bits)
{
    for (size_t i = 0; i < N_OPTIONAL; i++) {
        *bits = 1u << i;
        CK_RV rv = try(ctx, *bits);
        if (!about_template(rv))
            return rv;
    }
    /* More than one: without all of them, then back with each that the token does take. */
    *bits = ALL;
    CK_RV rv = try(ctx, *bits);
    if (rv != CKR_OK)
        return about_template(rv) ? first : rv;
    for (size_t i = N_OPTIONAL; i-- > 0;) {
        rv = try(ctx, *bits & ~(1u << i));
        if (rv == CKR_OK)
            *bits &= ~(1u << i);
        else if (!about_template(rv))
            return rv;
    }
    return rv == CKR_OK ? rv : try(ctx, *bits);
}

CK_RV pfx_template_adapt(struct pfx_token *token, const enum pfx_half *halves, size_t n_halves,
                         pfx_template_fn try, void *ctx)
{
    CK_RV rv = try(ctx, 0);
    /* What a token doesn't take it refuses each time. One odd answer under load mustn't be remembered:
     * every later key would lack the attribute, and be refused for it. */
    if (about_template(rv))
        rv = try(ctx, 0);
    if (!about_template(rv))
        return rv;
    unsigned bits = 0;
    rv = narrow_down(try, ctx, rv, &bits);
    for (size_t i = 0; rv == CKR_OK && i < N_OPTIONAL; i++) {
        for (size_t h = 0; (bits & 1u << i) && h < n_halves; h++)
            pfx_drop(token, halves[h], optional[i]);
    }
    return rv;
}
