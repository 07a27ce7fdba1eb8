/* EME-OAEP and EMSA-PSS (RFC 8017 sections 7.1 and 9.1): what OpenSSL does with a whole key, done
 * here where a token only offers the raw operation. */
#include "crypto/oaep.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(EVP_MD_CTX, EVP_MD_CTX_free)

#define MAX_MODULUS 2048 /* bytes */

static bool good_hash(enum pfx_hash hash)
{
    return hash == PFX_HASH_SHA1 || hash == PFX_HASH_SHA256 || hash == PFX_HASH_SHA384 ||
           hash == PFX_HASH_SHA512;
}

size_t pfx_oaep_room(size_t modulus_bytes, enum pfx_hash hash)
{
    size_t overhead = 2 * pfx_hash_size(hash) + 2;
    return good_hash(hash) && modulus_bytes > overhead ? modulus_bytes - overhead : 0;
}

static pfx_result encrypt(EVP_PKEY_CTX *ctx, size_t size, const struct pfx_secret *plain,
                          struct pfx_buf *out, struct pfx_error *err)
{
    size_t start = out->len, len = size;
    uint8_t *at = pfx_buf_extend(out, size);
    if (!at)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "seal", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    if (EVP_PKEY_encrypt(ctx, at, &len, pfx_secret_bytes(plain), pfx_secret_len(plain)) != 1 ||
        len != size) {
        pfx_buf_cut(out, start);
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "seal", "RSA", "OpenSSL can't encrypt.");
    }
    return PFX_OK;
}

pfx_result pfx_oaep_seal(struct pfx_bytes spki, enum pfx_hash hash, const struct pfx_secret *plain,
                         struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    PFX_TRY(pfx_spki_load(spki, &pkey, err));
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA || !good_hash(hash))
        return pfx_fail(err, PFX_CLASS_USAGE, "seal", pfx_hash_name(hash), "",
                        "Sealing takes an RSA key and sha1, sha256, sha384 or sha512.");
    size_t size = (size_t)EVP_PKEY_get_size(pkey);
    if (pfx_secret_len(plain) > pfx_oaep_room(size, hash))
        return pfx_fail(err, PFX_CLASS_USAGE, "seal", pfx_hash_name(hash), "",
                        "%zu bytes don't fit: this key and hash have room for %zu.",
                        pfx_secret_len(plain), pfx_oaep_room(size, hash));
    const EVP_MD *md = pfx_hash_md(hash);
    PFX_CLEANUP(EVP_PKEY_CTX_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (!ctx || EVP_PKEY_encrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) != 1 || EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "seal", pfx_hash_name(hash),
                             "OpenSSL can't do OAEP with this key.");
    return encrypt(ctx, size, plain, out, err);
}

/* XORs MGF1(seed) onto data (RFC 8017 appendix B.2.1). */
static bool mgf1_xor(const EVP_MD *md, const uint8_t *seed, size_t seed_len, uint8_t *data,
                     size_t len)
{
    PFX_CLEANUP(EVP_MD_CTX_free_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t size = (size_t)EVP_MD_get_size(md);
    uint8_t mask[EVP_MAX_MD_SIZE];
    bool ok = ctx != NULL;
    for (uint32_t i = 0; ok && len > 0; i++) {
        uint8_t counter[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8),
                              (uint8_t)i};
        ok = EVP_DigestInit_ex2(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, seed, seed_len) == 1 &&
             EVP_DigestUpdate(ctx, counter, sizeof counter) == 1 &&
             EVP_DigestFinal_ex(ctx, mask, NULL) == 1;
        size_t n = len < size ? len : size;
        for (size_t j = 0; ok && j < n; j++)
            data[j] ^= mask[j];
        data += n;
        len -= n;
    }
    OPENSSL_cleanse(mask, sizeof mask);
    return ok;
}

pfx_result pfx_oaep_pad(const struct pfx_secret *plain, enum pfx_hash hash, size_t modulus_bytes,
                        struct pfx_secret **ret_encoded, struct pfx_error *err)
{
    size_t h = pfx_hash_size(hash), len = pfx_secret_len(plain);
    size_t room = pfx_oaep_room(modulus_bytes, hash);
    if (len > room || room == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "seal", pfx_hash_name(hash), "",
                        "%zu bytes don't fit: this key and hash have room for %zu.", len, room);
    /* RFC 8017 section 7.1.1: 00 || maskedSeed || maskedDB, DB = lHash || 00... || 01 || M. */
    PFX_AUTOSECRET struct pfx_secret *encoded = NULL;
    PFX_TRY(pfx_secret_new(modulus_bytes, &encoded, err));
    uint8_t *seed = pfx_secret_data(encoded) + 1, *db = seed + h;
    size_t db_len = modulus_bytes - h - 1;
    bool ok = RAND_bytes(seed, (int)h) == 1 && pfx_digest(hash, "", 0, db, NULL);
    if (ok) {
        db[db_len - len - 1] = 0x01;
        if (len > 0)
            memcpy(db + db_len - len, pfx_secret_bytes(plain), len);
        ok = mgf1_xor(pfx_hash_md(hash), seed, h, db, db_len) &&
             mgf1_xor(pfx_hash_md(hash), db, db_len, seed, h);
    }
    if (!ok)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "seal", pfx_hash_name(hash),
                             "OpenSSL can't hash or has no random bytes.");
    *ret_encoded = PFX_TAKE(encoded);
    return PFX_OK;
}

pfx_result pfx_rsa_public(struct pfx_bytes spki, const struct pfx_secret *encoded,
                          struct pfx_buf *out, struct pfx_error *err)
{
    PFX_CLEANUP(EVP_PKEY_free_p) EVP_PKEY *pkey = NULL;
    PFX_TRY(pfx_spki_load(spki, &pkey, err));
    size_t size = (size_t)EVP_PKEY_get_size(pkey);
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA || pfx_secret_len(encoded) != size)
        return pfx_fail(err, PFX_CLASS_USAGE, "seal", "RSA", "",
                        "Raw RSA takes an RSA key and an encoding as long as its modulus.");
    PFX_CLEANUP(EVP_PKEY_CTX_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (!ctx || EVP_PKEY_encrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "seal", "RSA",
                             "OpenSSL can't do raw RSA with this key.");
    return encrypt(ctx, size, encoded, out, err);
}

/* All ones where a == b, else 0, without a branch. */
static size_t ct_equal(size_t a, size_t b)
{
    size_t diff = a ^ b;
    return ((diff | (0 - diff)) >> (sizeof diff * 8 - 1)) - 1;
}

static size_t ct_select(size_t mask, size_t yes, size_t no)
{
    return (mask & yes) | (~mask & no);
}

/* Of the unmasked DB = lHash || 00… || 01 || M: all ones where it is well-formed, and where M
 * begins. Every byte is looked at whatever the others are, so that time says nothing about which
 * check failed (Manger's attack). */
static size_t ct_scan(const uint8_t *db, size_t len, const uint8_t *lhash, size_t hash_len,
                      size_t *ret_start)
{
    size_t good = ct_equal((size_t)CRYPTO_memcmp(db, lhash, hash_len), 0);
    size_t found = 0, start = 0;
    for (size_t i = hash_len; i < len; i++) {
        size_t one = ct_equal(db[i], 1), zero = ct_equal(db[i], 0);
        start = ct_select(~found & one, i + 1, start);
        good &= found | one | zero; /* before the 01 only zeros */
        found |= one;
    }
    *ret_start = start;
    return good & found;
}

pfx_result pfx_oaep_unpad(const struct pfx_secret *encoded, enum pfx_hash hash,
                          struct pfx_secret **ret_plain, struct pfx_error *err)
{
    if (!good_hash(hash))
        return pfx_fail(err, PFX_CLASS_USAGE, "unseal", pfx_hash_name(hash), "",
                        "OAEP is done with sha1, sha256, sha384 or sha512.");
    size_t h = pfx_hash_size(hash), k = pfx_secret_len(encoded);
    const EVP_MD *md = pfx_hash_md(hash);
    size_t good = 0, start = 0;
    PFX_AUTOSECRET struct pfx_secret *work = NULL;
    if (k >= 2 * h + 2 && k <= MAX_MODULUS) {
        PFX_TRY(pfx_secret_copy(pfx_secret_bytes(encoded), k, &work, err));
        uint8_t *em = pfx_secret_data(work), *seed = em + 1, *db = em + 1 + h;
        size_t db_len = k - h - 1;
        uint8_t lhash[EVP_MAX_MD_SIZE];
        if (!pfx_digest(hash, "", 0, lhash, NULL) || !mgf1_xor(md, db, db_len, seed, h) ||
            !mgf1_xor(md, seed, h, db, db_len))
            return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "unseal", pfx_hash_name(hash),
                                 "OpenSSL can't hash.");
        good = ct_scan(db, db_len, lhash, h, &start) & ct_equal(em[0], 0);
        start += 1 + h;
    }
    if (!good)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "unseal", "OAEP", "",
                        "The ciphertext isn't one sealed to this key with this hash.");
    return pfx_secret_copy(pfx_secret_bytes(work) + start, k - start, ret_plain, err);
}

pfx_result pfx_pss_encode(struct pfx_bytes digest, enum pfx_hash hash, unsigned modulus_bits,
                          struct pfx_buf *out, struct pfx_error *err)
{
    size_t h = pfx_hash_size(hash);
    size_t em_bits = modulus_bits > 0 ? modulus_bits - 1 : 0;
    size_t em_len = (em_bits + 7) / 8, k = ((size_t)modulus_bits + 7) / 8;
    if (!good_hash(hash) || hash == PFX_HASH_SHA1 || digest.len != h || em_len < 2 * h + 2 ||
        k > MAX_MODULUS)
        return pfx_fail(err, PFX_CLASS_USAGE, "sign", pfx_hash_name(hash), "",
                        "PSS with a digest of %zu bytes doesn't fit a key of %u bits.", digest.len,
                        modulus_bits);
    /* RFC 8017 section 9.1.1: M' = eight zeros || mHash || salt, H = Hash(M'). */
    uint8_t prime[8 + 2 * EVP_MAX_MD_SIZE] = {0};
    uint8_t *salt = prime + 8 + h;
    memcpy(prime + 8, digest.data, h);
    size_t start = out->len;
    uint8_t *at = pfx_buf_extend(out, k);
    if (!at)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "sign", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    uint8_t *em = at + (k - em_len); /* one byte shorter where the bits less one are whole bytes */
    size_t db_len = em_len - h - 1;
    uint8_t *hash_at = em + db_len;
    bool ok = RAND_bytes(salt, (int)h) == 1 && pfx_digest(hash, prime, 8 + 2 * h, hash_at, NULL);
    if (ok) {
        em[db_len - h - 1] = 0x01;
        memcpy(em + db_len - h, salt, h);
        ok = mgf1_xor(pfx_hash_md(hash), hash_at, h, em, db_len);
        em[0] &= (uint8_t)(0xFF >> (8 * em_len - em_bits));
        em[em_len - 1] = 0xBC;
    }
    if (!ok) {
        pfx_buf_cut(out, start);
        return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "sign", pfx_hash_name(hash),
                             "OpenSSL can't hash or has no random bytes.");
    }
    return PFX_OK;
}
