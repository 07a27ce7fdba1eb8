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

/* The next DER element at *pos: its tag, and where its content lies. */
static bool element(const uint8_t *data, size_t end, size_t *pos, uint8_t *ret_tag,
                    size_t *ret_start, size_t *ret_len)
{
    size_t at = *pos;
    if (end - at < 2)
        return false;
    uint8_t tag = data[at++];
    size_t len = data[at++];
    if (len >= 0x80) {
        size_t n = len & 0x7F;
        if (n == 0 || n > 4 || end - at < n)
            return false;
        for (len = 0; n > 0; n--)
            len = len << 8 | data[at++];
    }
    if (len > end - at)
        return false;
    *ret_tag = tag;
    *ret_start = at;
    *ret_len = len;
    *pos = at + len;
    return true;
}

static bool holds(struct pfx_bytes all, const uint8_t *part, size_t len)
{
    return len > 0 && memmem(all.data, all.len, part, len) != NULL;
}

/* Reads no further than it must, and copies nothing. */
bool pfx_pkcs8_fits(const struct pfx_secret *pkcs8, struct pfx_bytes spki)
{
    const uint8_t *d = pfx_secret_bytes(pkcs8);
    size_t end = pfx_secret_len(pkcs8), pos = 0, start, len;
    uint8_t tag;
    /* SEQUENCE { INTEGER 0, SEQUENCE algorithm, OCTET STRING key, ... } (RFC 5208 section 5) */
    if (!element(d, end, &pos, &tag, &start, &len) || tag != 0x30 || pos != end)
        return false;
    pos = start;
    if (!element(d, end, &pos, &tag, &start, &len) || tag != 0x02)
        return false;
    size_t algorithm = pos;
    if (!element(d, end, &pos, &tag, &start, &len) || tag != 0x30)
        return false;
    /* The SPKI begins with the same AlgorithmIdentifier; compare what is in it. Some tokens leave
     * the NULL parameters of RSA out, so its OID alone counts. */
    size_t oid = start, oid_start, oid_len;
    if (!element(d, start + len, &oid, &tag, &oid_start, &oid_len) || tag != 0x06 ||
        !holds(spki, d + oid_start - 2, oid_len + 2))
        return false;
    bool rsa = oid_len == 9;
    if (!rsa && !holds(spki, d + algorithm, pos - algorithm))
        return false;
    if (!element(d, end, &pos, &tag, &start, &len) || tag != 0x04)
        return false;
    pos = start;
    size_t inner_end = start + len;
    if (!element(d, inner_end, &pos, &tag, &start, &len) || tag != 0x30)
        return false;
    pos = start;
    if (!element(d, inner_end, &pos, &tag, &start, &len) || tag != 0x02) /* version */
        return false;
    if (!element(d, inner_end, &pos, &tag, &start, &len))
        return false;
    if (rsa) /* modulus: in the SPKI as it stands here */
        return tag == 0x02 && len >= 64 && holds(spki, d + start, len);
    /* EC: the scalar as long as the field, at most one leading zero more */
    size_t field = spki.len == 91 ? 32 : 48;
    return tag == 0x04 && len >= 1 && len <= field + 1;
}
