/* Wrapping: C_WrapKey with modules that misjudge lengths, and RFC 5649 on the host. */
#include <string.h>

#include <openssl/evp.h>

#include "crypto/mem.h"
#include "crypto/pfx.h"
#include "pkcs11/object.h"

#define MAX_WRAPPED (16 * 1024) /* RSA-16384 as PKCS#8 has under 10 KiB */

CK_RV pfx_wrap(struct pfx_session *session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping,
               CK_OBJECT_HANDLE key, struct pfx_buf *out)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    struct pfx_module *module = pfx_session_token(session)->module;
    /* Two threads wrapping one EC key crash NSS. */
    if (pfx_failed(pfx_module_write_begin(module, &ignored)))
        return CKR_FUNCTION_CANCELED; /* TRANSIENT: nothing was done */
    /* One call with room enough: NSS reports more than it writes when it is asked for the size. */
    uint8_t *room = pfx_alloc(MAX_WRAPPED);
    CK_ULONG len = MAX_WRAPPED;
    CK_RV rv = PFX_S(session, C_WrapKey, mechanism, wrapping, key, room, &len);
    pfx_module_write_end(module);
    if (rv == CKR_OK && (len > MAX_WRAPPED || len == 0 || !pfx_buf_add(out, room, len))) {
        rv = PFX_CKR_NONSENSE;
        pfx_session_saw(session, rv);
    }
    free(room);
    return rv;
}

pfx_result pfx_wrap_twice(struct pfx_session *session, CK_MECHANISM *mechanism,
                          CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, struct pfx_buf *out,
                          struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(MAX_WRAPPED);
    size_t start = out->len;
    CK_RV rv = pfx_wrap(session, mechanism, wrapping, key, out);
    if (rv == CKR_OK)
        rv = pfx_wrap(session, mechanism, wrapping, key, &again);
    if (rv != CKR_OK)
        return pfx_session_fail(session, err, rv, "C_WrapKey", "%s", "");
    if (out->len - start == again.len && memcmp(out->data + start, again.data, again.len) == 0)
        return PFX_OK;
    pfx_buf_cut(out, start);
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "C_WrapKey",
                    pfx_session_token(session)->facts.label, "",
                    "The token wrapped the same key twice and gave two results. It is tried "
                    "again.");
}

static const struct {
    CK_KEY_TYPE type;
    CK_MECHANISM_TYPE mechanism;
} kek_kinds[PFX_PROFILE_COUNT] = {
    [PFX_PROFILE_MODERN] = {CKK_AES, CKM_AES_CBC_PAD},
    [PFX_PROFILE_COMPAT] = {CKK_DES3, CKM_DES3_CBC_PAD},
};

CK_KEY_TYPE pfx_kek_type(enum pfx_profile profile)
{
    return kek_kinds[profile].type;
}

CK_MECHANISM_TYPE pfx_kek_mechanism(enum pfx_profile profile)
{
    return kek_kinds[profile].mechanism;
}

CK_RV pfx_kek_wrap(struct pfx_session *session, const struct pfx_kek *kek,
                   CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, struct pfx_buf *out)
{
    uint8_t iv[sizeof kek->iv]; /* the parameter isn't const */
    memcpy(iv, kek->iv, sizeof iv);
    CK_MECHANISM mechanism = {pfx_kek_mechanism(kek->profile), iv, pfx_kek_block(kek->profile)};
    return pfx_wrap(session, &mechanism, wrapping, key, out);
}

pfx_result pfx_kwp_host_unwrap(const struct pfx_secret *kek, struct pfx_bytes wrapped,
                               struct pfx_secret **ret_pkcs8, struct pfx_error *err)
{
    if (wrapped.len < 16 || wrapped.len % 8 != 0 || wrapped.len > MAX_WRAPPED ||
        pfx_secret_len(kek) != 32)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "unwrap", "RFC 5649", "",
                        "%zu bytes aren't a wrapped key.", wrapped.len);
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    /* OpenSSL's wrap ciphers may write the whole block before they cut the padding. */
    PFX_TRY(pfx_secret_new(wrapped.len + 16, &plain, err));
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (ctx)
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    int len = 0;
    bool ok = ctx &&
              EVP_DecryptInit_ex2(ctx, EVP_aes_256_wrap_pad(), pfx_secret_bytes(kek), NULL,
                                  NULL) == 1 &&
              EVP_DecryptUpdate(ctx, pfx_secret_data(plain), &len, wrapped.data,
                                (int)wrapped.len) == 1 &&
              len > 0;
    EVP_CIPHER_CTX_free(ctx);
    size_t der = ok ? pfx_der_trim(pfx_secret_bytes(plain), (size_t)len) : 0;
    if (der == 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "unwrap", "RFC 5649", "",
                        "The token's wrapped key doesn't open as RFC 5649, or isn't a DER "
                        "PrivateKeyInfo. Run 'pfx-agent hsm test'.");
    pfx_secret_truncate(plain, der); /* SoftHSM pads with zeros before it wraps */
    *ret_pkcs8 = PFX_TAKE(plain);
    return PFX_OK;
}
