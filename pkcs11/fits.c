/*
 * Is what came out of the token the key that was asked for? A token that has mixed up its handles
 * would otherwise give one user's private key to another.
 *
 * In the tier transit the host has the PrivateKeyInfo in locked memory and can look. In the tier
 * direct it knows the key-encryption key, and CBC lets each block be opened by itself: it opens
 * those that hold the structure and the public numbers, and none that holds a byte of a secret one.
 */
#include <string.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

#define HEAD_BYTES                                                                                 \
    48 /* structure and first bytes of the modulus; the EC scalar begins later than 32 */
#define EC_HEAD_BYTES 32
#define SEEN_BYTES (PFX_MAX_RSA_BYTES + HEAD_BYTES)

/* The next DER element at *pos: its tag, and where its content lies. Only its header has to lie
 * before `end`. */
static bool header(const uint8_t *data, size_t end, size_t *pos, uint8_t *ret_tag,
                   size_t *ret_start, size_t *ret_len)
{
    size_t at = *pos;
    if (at > end || end - at < 2)
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
    *ret_tag = tag;
    *ret_start = at;
    *ret_len = len;
    *pos = at;
    return true;
}

/* Where a PrivateKeyInfo (RFC 5208 section 5) has what; offsets from its start. */
struct layout {
    bool rsa;
    size_t end;              /* of the whole */
    size_t inner, inner_end; /* what is in RSAPrivateKey or ECPrivateKey */
};

static bool holds(struct pfx_bytes all, const uint8_t *part, size_t len)
{
    return len > 0 && memmem(all.data, all.len, part, len) != NULL;
}

/* known: how much of d is there. False where it isn't a PrivateKeyInfo of the SPKI's algorithm. */
static bool layout_of(const uint8_t *d, size_t known, struct pfx_bytes spki,
                      struct layout *ret_layout)
{
    struct layout l = {0};
    size_t pos = 0, start, len, oid_start, oid_len;
    uint8_t tag;
    /* SEQUENCE { INTEGER 0, SEQUENCE algorithm, OCTET STRING key, ... } */
    if (!header(d, known, &pos, &tag, &start, &len) || tag != 0x30)
        return false;
    l.end = start + len;
    if (!header(d, known, &pos, &tag, &start, &len) || tag != 0x02 || len > known - start)
        return false;
    size_t algorithm = pos = start + len;
    if (!header(d, known, &pos, &tag, &start, &len) || tag != 0x30 || len > known - start)
        return false;
    /* The SPKI begins with the same AlgorithmIdentifier; compare what is in it. Some tokens leave
     * the NULL parameters of RSA out, so its OID alone counts. */
    size_t oid = start, algorithm_end = start + len;
    if (!header(d, algorithm_end, &oid, &tag, &oid_start, &oid_len) || tag != 0x06 ||
        oid_len > algorithm_end - oid_start || !holds(spki, d + oid_start - 2, oid_len + 2))
        return false;
    l.rsa = oid_len == 9;
    if (!l.rsa && !holds(spki, d + algorithm, algorithm_end - algorithm))
        return false;
    pos = algorithm_end;
    if (!header(d, known, &pos, &tag, &start, &len) || tag != 0x04 || start + len > l.end)
        return false;
    if (!header(d, known, &pos, &tag, &l.inner, &len) || tag != 0x30 || l.inner + len > l.end)
        return false;
    l.inner_end = l.inner + len;
    *ret_layout = l;
    return true;
}

/* The first thing behind the inner version: the modulus, or the EC scalar. */
static bool number_of(const uint8_t *d, size_t known, const struct layout *l, size_t *ret_start,
                      size_t *ret_len)
{
    size_t pos = l->inner, start, len;
    uint8_t tag;
    if (!header(d, known, &pos, &tag, &start, &len) || tag != 0x02 || len > known - start)
        return false;
    pos = start + len;
    return header(d, known, &pos, &tag, ret_start, ret_len) && tag == (l->rsa ? 0x02 : 0x04) &&
           *ret_len > 0 && *ret_start + *ret_len <= l->inner_end;
}

static size_t field_of(struct pfx_bytes point)
{
    return (point.len - 1) / 2;
}

/* Does this scalar make that public point? */
static bool makes_point(const uint8_t *scalar, size_t len, struct pfx_bytes point)
{
    uint8_t made[97];
    EC_GROUP *group =
        EC_GROUP_new_by_curve_name(field_of(point) == 32 ? NID_X9_62_prime256v1 : NID_secp384r1);
    BIGNUM *d = BN_secure_new();
    BN_CTX *ctx = BN_CTX_secure_new();
    EC_POINT *p = group ? EC_POINT_new(group) : NULL;
    bool ok = d && ctx && p && BN_bin2bn(scalar, (int)len, d) &&
              EC_POINT_mul(group, p, d, NULL, NULL, ctx) == 1 &&
              EC_POINT_point2oct(group, p, POINT_CONVERSION_UNCOMPRESSED, made, sizeof made, ctx) ==
                  point.len &&
              memcmp(made, point.data, point.len) == 0;
    EC_POINT_clear_free(p);
    BN_CTX_free(ctx);
    BN_clear_free(d);
    EC_GROUP_free(group);
    return ok;
}

bool pfx_pkcs8_fits(const struct pfx_secret *pkcs8, struct pfx_bytes spki)
{
    const uint8_t *d = pfx_secret_bytes(pkcs8);
    size_t end = pfx_secret_len(pkcs8), number, len;
    struct pfx_bytes point = pfx_spki_point(spki);
    struct layout l;
    if (!layout_of(d, end, spki, &l) || l.end != end || !number_of(d, end, &l, &number, &len))
        return false;
    if (l.rsa) /* modulus: in the SPKI as it stands here */
        return len >= 64 && holds(spki, d + number, len);
    /* EC: the scalar as long as the field, at most one leading zero more */
    return point.len > 0 && len <= field_of(point) + 1 && makes_point(d + number, len, point);
}

/* --- in the tier direct --- */

/* Opens the blocks from `from` to `to`, multiples of the block. */
static bool open_blocks(const struct pfx_kek *kek, struct pfx_bytes ciphertext, size_t from,
                        size_t to, uint8_t *out)
{
    size_t block = pfx_kek_block(kek->profile);
    if (from >= to || to > ciphertext.len)
        return false;
    const uint8_t *iv = from == 0 ? kek->iv : ciphertext.data + from - block;
    const EVP_CIPHER *cipher =
        kek->profile == PFX_PROFILE_MODERN ? EVP_aes_256_cbc() : EVP_des_ede3_cbc();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0;
    bool ok = ctx && EVP_DecryptInit_ex2(ctx, cipher, pfx_secret_bytes(kek->key), iv, NULL) == 1 &&
              EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
              EVP_DecryptUpdate(ctx, out, &len, ciphertext.data + from, (int)(to - from)) == 1 &&
              (size_t)len == to - from;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* The modulus, as far as whole blocks hold nothing behind it. What isn't RSA is opened no further
 * than an EC key is. */
static bool modulus_shows(const struct pfx_kek *kek, struct pfx_bytes ciphertext,
                          struct pfx_bytes spki, uint8_t seen[SEEN_BYTES])
{
    size_t block = pfx_kek_block(kek->profile), number, len;
    struct layout l;
    if (!open_blocks(kek, ciphertext, 0, EC_HEAD_BYTES, seen) ||
        !layout_of(seen, EC_HEAD_BYTES, spki, &l) || !l.rsa || l.end >= ciphertext.len ||
        !open_blocks(kek, ciphertext, 0, HEAD_BYTES, seen) ||
        !number_of(seen, HEAD_BYTES, &l, &number, &len))
        return false;
    size_t to = (number + len) / block * block;
    return len >= 64 && to <= SEEN_BYTES && to > number + 64 &&
           open_blocks(kek, ciphertext, 0, to, seen) && holds(spki, seen + number, to - number);
}

/* The public point behind the scalar, as far as whole blocks hold nothing before it. A token that
 * puts none there (RFC 5915 lets it) doesn't reach the tier direct with EC keys. */
static bool point_shows(const struct pfx_kek *kek, struct pfx_bytes ciphertext,
                        struct pfx_bytes spki, uint8_t seen[SEEN_BYTES])
{
    struct pfx_bytes point = pfx_spki_point(spki);
    size_t block = pfx_kek_block(kek->profile), to = ciphertext.len;
    struct layout l;
    if (!open_blocks(kek, ciphertext, 0, EC_HEAD_BYTES, seen) ||
        !layout_of(seen, EC_HEAD_BYTES, spki, &l) || l.rsa || l.end >= to)
        return false;
    /* INTEGER 1, OCTET STRING of the field's length, at most one leading zero more */
    size_t scalar_end = l.inner + 3 + 2 + field_of(point) + 1;
    size_t from = (scalar_end + block - 1) / block * block;
    if (l.inner_end < scalar_end + point.len)
        return false;
    size_t at = l.inner_end - point.len; /* the last thing in ECPrivateKey */
    size_t first = at > from ? at : from;
    return from < to && to - from <= SEEN_BYTES && first < l.inner_end &&
           open_blocks(kek, ciphertext, from, to, seen) &&
           memcmp(seen + (first - from), point.data + (first - at), l.inner_end - first) == 0;
}

bool pfx_wrapped_fits(const struct pfx_kek *kek, struct pfx_bytes ciphertext, struct pfx_bytes spki)
{
    size_t block = pfx_kek_block(kek->profile);
    if (ciphertext.len < HEAD_BYTES + block || ciphertext.len % block != 0)
        return false;
    uint8_t seen[SEEN_BYTES];
    bool fits = pfx_spki_point(spki).len > 0 ? point_shows(kek, ciphertext, spki, seen)
                                             : modulus_shows(kek, ciphertext, spki, seen);
    OPENSSL_cleanse(seen, sizeof seen); /* where it isn't the key, it may hold anything */
    return fits;
}
