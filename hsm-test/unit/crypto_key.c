/* Public keys, DigestInfo, signatures: libcrypto's own keys and the openssl command as oracles. */
#include "crypto_test.h"
#include "crypto_tool.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "crypto/key.h"

static void words(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PFX_KEY_TYPE_COUNT; i++) {
        enum pfx_key_type type = PFX_KEY_TYPE_COUNT;
        assert_true(pfx_key_type_parse(pfx_key_type_name((enum pfx_key_type)i), &type));
        assert_int_equal(type, i);
        assert_int_equal(pfx_key_type_is_rsa(type), i < PFX_KEY_EC_P256);
    }
    assert_int_equal(pfx_key_type_bits(PFX_KEY_RSA_3072), 3072);
    enum pfx_hash hash = PFX_HASH_SHA1;
    assert_true(pfx_hash_parse("sha384", &hash));
    assert_int_equal(hash, PFX_HASH_SHA384);
    assert_int_equal(pfx_hash_size(hash), 48);
    assert_false(pfx_hash_parse("md5", &hash));
    enum pfx_purpose purpose = PFX_PURPOSE_SIGNING;
    assert_true(pfx_purpose_parse("dual", &purpose));
    assert_int_equal(purpose, PFX_PURPOSE_DUAL);
    assert_false(pfx_purpose_parse("Dual", &purpose));
    enum pfx_key_type type = PFX_KEY_EC_P384;
    assert_false(pfx_key_type_parse("rsa-1024", &type));
    assert_int_equal(type, PFX_KEY_EC_P384);
    assert_string_equal(pfx_key_type_name(PFX_KEY_TYPE_COUNT), "unknown");
}

static void digests(void **state)
{
    (void)state;
    unsigned char out[64];
    size_t len = 0;
    assert_true(pfx_digest(PFX_HASH_SHA1, "abc", 3, out, &len)); /* FIPS 180 */
    assert_int_equal(len, 20);
    assert_memory_equal(out, "\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c"
                             "\xd0\xd8\x9d", 20);
    assert_true(pfx_digest(PFX_HASH_SHA512, "", 0, out, &len));
    assert_int_equal(len, 64);
    assert_memory_equal(out, "\xcf\x83\xe1\x35", 4);
}

struct pair {
    EVP_PKEY *pkey;
    struct pfx_buf spki;
};

static struct pair pair_of(EVP_PKEY *pkey)
{
    assert_non_null(pkey);
    struct pair pair = {pkey, pfx_buf_make(4096)};
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(pkey, &der);
    assert_true(len > 0);
    assert_true(pfx_buf_add(&pair.spki, der, (size_t)len));
    OPENSSL_free(der);
    return pair;
}

static void pair_done(struct pair *pair)
{
    EVP_PKEY_free(pair->pkey);
    pfx_buf_done(&pair->spki);
}
#define PAIR PFX_CLEANUP(pair_done) struct pair

static void rsa_spki(void **state)
{
    (void)state;
    static const enum pfx_key_type types[] = {PFX_KEY_RSA_2048, PFX_KEY_RSA_3072};
    for (size_t i = 0; i < 2; i++) {
        PAIR pair = pair_of(EVP_RSA_gen(pfx_key_type_bits(types[i])));
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf n = pfx_buf_make(1024);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf e = pfx_buf_make(16);
        assert_true(pfx_buf_add(&n, "\0\0", 2)); /* as some tokens have it */
        ERROR(err);
        assert_ok(pfx_spki_rsa_parts(pfx_buf_bytes(&pair.spki), &n, &e, &err), &err);
        assert_int_equal(n.len, 2 + pfx_key_type_bits(types[i]) / 8);
        assert_memory_equal(e.data, "\x01\x00\x01", 3);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(4096);
        assert_ok(pfx_spki_from_rsa(pfx_buf_bytes(&n), pfx_buf_bytes(&e), &own, &err), &err);
        assert_int_equal(own.len, pair.spki.len);
        assert_memory_equal(own.data, pair.spki.data, own.len);
        enum pfx_key_type type;
        assert_ok(pfx_spki_type(pfx_buf_bytes(&own), &type, &err), &err);
        assert_int_equal(type, types[i]);
        assert_class(pfx_spki_from_rsa(BYTES("\0\0"), pfx_buf_bytes(&e), &own, NULL),
                     PFX_CLASS_USAGE);
        assert_class(pfx_spki_from_rsa(pfx_buf_bytes(&n), BYTES("\x01"), &own, NULL),
                     PFX_CLASS_USAGE);
        assert_class(pfx_spki_from_rsa(pfx_buf_bytes(&n), BYTES("\x02"), &own, NULL),
                     PFX_CLASS_USAGE);
        n.data[n.len - 1] &= 0xFE;
        assert_class(pfx_spki_from_rsa(pfx_buf_bytes(&n), pfx_buf_bytes(&e), &own, NULL),
                     PFX_CLASS_USAGE);
        assert_int_equal(own.len, pair.spki.len);
    }
}

static void ec_spki(void **state)
{
    (void)state;
    static const struct {
        enum pfx_key_type type;
        const char *curve;
    } curves[] = {{PFX_KEY_EC_P256, "P-256"}, {PFX_KEY_EC_P384, "P-384"}};
    for (size_t i = 0; i < 2; i++) {
        PAIR pair = pair_of(EVP_EC_gen(curves[i].curve));
        uint8_t point[200];
        size_t len = 0;
        assert_int_equal(EVP_PKEY_get_octet_string_param(pair.pkey,
                                                         OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point,
                                                         sizeof point, &len), 1);
        ERROR(err);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(4096);
        assert_ok(pfx_spki_from_ec(curves[i].type, (struct pfx_bytes){point, len}, &own, &err),
                  &err);
        assert_int_equal(own.len, pair.spki.len);
        assert_memory_equal(own.data, pair.spki.data, own.len);
        enum pfx_key_type type;
        assert_ok(pfx_spki_type(pfx_buf_bytes(&own), &type, &err), &err);
        assert_int_equal(type, curves[i].type);
        point[len - 1] ^= 1; /* off the curve */
        assert_class(pfx_spki_from_ec(curves[i].type, (struct pfx_bytes){point, len}, &own, NULL),
                     PFX_CLASS_USAGE);
        assert_class(pfx_spki_from_ec(curves[1 - i].type, (struct pfx_bytes){point, len}, &own,
                                      NULL), PFX_CLASS_USAGE);
        assert_class(pfx_spki_from_ec(PFX_KEY_RSA_2048, (struct pfx_bytes){point, len}, &own, NULL),
                     PFX_CLASS_USAGE);
        assert_int_equal(own.len, pair.spki.len);
        struct pfx_bytes spki = pfx_buf_bytes(&own);
        assert_class(pfx_spki_rsa_parts(spki, &own, &own, NULL), PFX_CLASS_USAGE);
    }
}

static void other_keys_are_refused(void **state)
{
    (void)state;
    EVP_PKEY *pkeys[] = {EVP_RSA_gen(1024), EVP_RSA_gen(2560), EVP_EC_gen("P-521"),
                         EVP_EC_gen("secp256k1"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
                         EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), EVP_EC_gen("P-256")};
    /* The same point compressed is another SPKI for the same key: one spelling only. */
    assert_int_equal(EVP_PKEY_set_utf8_string_param(
                         pkeys[6], OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "compressed"), 1);
    for (size_t i = 0; i < sizeof pkeys / sizeof pkeys[0]; i++) {
        PAIR pair = pair_of(pkeys[i]);
        enum pfx_key_type type = PFX_KEY_TYPE_COUNT;
        ERROR(err);
        assert_class(pfx_spki_type(pfx_buf_bytes(&pair.spki), &type, &err), PFX_CLASS_USAGE);
        assert_int_equal(type, PFX_KEY_TYPE_COUNT);
    }
    PAIR good = pair_of(EVP_RSA_gen(2048));
    enum pfx_key_type type;
    assert_true(pfx_buf_add(&good.spki, "x", 1)); /* something after it */
    assert_class(pfx_spki_type(pfx_buf_bytes(&good.spki), &type, NULL), PFX_CLASS_USAGE);
    pfx_buf_cut(&good.spki, good.spki.len - 2); /* torn */
    assert_class(pfx_spki_type(pfx_buf_bytes(&good.spki), &type, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_spki_type((struct pfx_bytes){NULL, 0}, &type, NULL), PFX_CLASS_USAGE);
}

/* Signs as a token with CKM_RSA_PKCS does: what comes in gets padded and nothing more. */
static void digest_info_is_what_openssl_expects(void **state)
{
    (void)state;
    static const enum pfx_hash hashes[] = {PFX_HASH_SHA256, PFX_HASH_SHA384, PFX_HASH_SHA512};
    PAIR pair = pair_of(EVP_RSA_gen(2048));
    for (size_t i = 0; i < 3; i++) {
        uint8_t digest[64], sig[256];
        size_t len, sig_len = sizeof sig;
        assert_true(pfx_digest(hashes[i], "data", 4, digest, &len));
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf info = pfx_buf_make(200);
        assert_true(pfx_digest_info(hashes[i], (struct pfx_bytes){digest, len}, &info));
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pair.pkey, NULL);
        assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING), 1);
        assert_int_equal(EVP_PKEY_sign(ctx, sig, &sig_len, info.data, info.len), 1);
        EVP_PKEY_CTX_free(ctx);
        struct pfx_bytes spki = pfx_buf_bytes(&pair.spki), dig = {digest, len},
                         signature = {sig, sig_len};
        ERROR(err);
        assert_ok(pfx_verify_digest(spki, hashes[i], dig, signature, false, &err), &err);
        assert_class(pfx_verify_digest(spki, hashes[i], dig, signature, true, NULL),
                     PFX_CLASS_INTEGRITY);
        sig[100] ^= 1;
        assert_class(pfx_verify_digest(spki, hashes[i], dig, signature, false, &err),
                     PFX_CLASS_INTEGRITY);
        assert_string_not_equal(err.text, "");
        sig[100] ^= 1;
        digest[0] ^= 1;
        assert_class(pfx_verify_digest(spki, hashes[i], dig, signature, false, NULL),
                     PFX_CLASS_INTEGRITY);
        assert_class(pfx_verify_digest(spki, hashes[i], (struct pfx_bytes){digest, len - 1},
                                       signature, false, NULL), PFX_CLASS_USAGE);
        assert_class(pfx_verify_digest(BYTES("x"), hashes[i], dig, signature, false, NULL),
                     PFX_CLASS_USAGE);
        assert_false(pfx_digest_info(hashes[i], (struct pfx_bytes){digest, len - 1}, &info));
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf info = pfx_buf_make(200);
    uint8_t sha1[20] = {0};
    assert_false(pfx_digest_info(PFX_HASH_SHA1, (struct pfx_bytes){sha1, 20}, &info));
}

/* r || s out of openssl's DER signature, and back. */
static void ecdsa_round(const char *dir, const char *curve, enum pfx_hash hash, size_t half)
{
    PFX_AUTOFREE char *opt = pfx_asprintf("ec_paramgen_curve:%s", curve);
    PFX_AUTOFREE char *md = pfx_asprintf("-%s", pfx_hash_name(hash));
    tool_must(dir, NULL, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", opt, "-out", "k.pem",
              NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "k.pem", "-pubout", "-outform", "DER", "-out",
              "pub.der", NULL);
    tool_write(dir, "data", BYTES("data"));
    for (int round = 0; round < 8; round++) {
        tool_must(dir, NULL, "openssl", "dgst", md, "-sign", "k.pem", "-out", "sig", "data", NULL);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf sig = tool_read(dir, "sig");
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = tool_read(dir, "pub.der");
        uint8_t rs[132] = {0};
        size_t at = 2, r_len = sig.data[3]; /* SEQUENCE { INTEGER r, INTEGER s }, all below 128 */
        for (size_t part = 0; part < 2; part++) {
            const uint8_t *value = sig.data + at + 2;
            size_t len = sig.data[at + 1];
            if (len > half) {
                value += len - half;
                len = half;
            }
            memcpy(rs + part * half + half - len, value, len);
            at = 2 + 2 + r_len;
        }
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(200);
        ERROR(err);
        assert_ok(pfx_ecdsa_to_der((struct pfx_bytes){rs, 2 * half}, &der, &err), &err);
        assert_int_equal(der.len, sig.len);
        assert_memory_equal(der.data, sig.data, der.len);
        uint8_t digest[64];
        size_t len;
        assert_true(pfx_digest(hash, "data", 4, digest, &len));
        struct pfx_bytes dig = {digest, len};
        assert_ok(pfx_verify_digest(pfx_buf_bytes(&spki), hash, dig, pfx_buf_bytes(&der), false,
                                    &err), &err);
        assert_class(pfx_verify_digest(pfx_buf_bytes(&spki), hash, dig, pfx_buf_bytes(&der), true,
                                       NULL), PFX_CLASS_USAGE);
        digest[0] ^= 1;
        assert_class(pfx_verify_digest(pfx_buf_bytes(&spki), hash, dig, pfx_buf_bytes(&der), false,
                                       NULL), PFX_CLASS_INTEGRITY);
        assert_class(pfx_verify_digest(pfx_buf_bytes(&spki), hash, dig, BYTES("rubbish"), false,
                                       NULL), PFX_CLASS_INTEGRITY);
    }
}

static void ecdsa(void **state)
{
    ecdsa_round(*state, "P-256", PFX_HASH_SHA256, 32);
    ecdsa_round(*state, "P-384", PFX_HASH_SHA384, 48);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(200);
    uint8_t zeros[64] = {0};
    zeros[0] = 1;
    assert_class(pfx_ecdsa_to_der((struct pfx_bytes){zeros, 64}, &der, NULL), PFX_CLASS_INTEGRITY);
    assert_class(pfx_ecdsa_to_der((struct pfx_bytes){zeros, 63}, &der, NULL), PFX_CLASS_INTEGRITY);
    assert_class(pfx_ecdsa_to_der((struct pfx_bytes){zeros, 0}, &der, NULL), PFX_CLASS_INTEGRITY);
    assert_int_equal(der.len, 0);
}

static void pem_is_read_by_openssl(void **state)
{
    const char *dir = *state;
    PAIR pair = pair_of(EVP_RSA_gen(3072));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(4096);
    assert_true(pfx_spki_pem(pfx_buf_bytes(&pair.spki), &pem));
    tool_write(dir, "pub.pem", pfx_buf_bytes(&pem));
    tool_must(dir, NULL, "openssl", "pkey", "-pubin", "-in", "pub.pem", "-pubout", "-out",
              "again.pem", NULL);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = tool_read(dir, "again.pem");
    assert_string_equal(pfx_buf_str(&again), pfx_buf_str(&pem));
}

/* Byte for byte what Python builds from openssl's words, and for Windows nothing else will do. */
static void cng_blobs(void **state)
{
    const char *dir = *state;
    static const struct {
        size_t bytes;
        uint8_t top;
        struct pfx_bytes exponent;
    } cases[] = {
        {256, 0xC1, BYTES("\x01\x00\x01")}, {384, 0x80, BYTES("\x01\x00\x01")},
        {512, 0xFF, BYTES("\x01\x00\x01")}, {256, 0xB7, BYTES("\x03")},
        {384, 0x91, BYTES("\x03")},         {512, 0xA0, BYTES("\x03")},
        {256, 0x7F, BYTES("\x01\x00\x01")}, /* 2,047 bits in 256 bytes */
        {256, 0x01, BYTES("\x01\x00\x00\x00\x0F")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* Any odd number is a modulus as far as its public key goes. */
        uint8_t modulus[512];
        for (size_t j = 0; j < cases[i].bytes; j++)
            modulus[j] = (uint8_t)(j * 89 + i * 31 + 3);
        modulus[0] = cases[i].top;
        modulus[cases[i].bytes - 1] |= 1;
        ERROR(err);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(4096);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(4096);
        assert_ok(pfx_spki_from_rsa((struct pfx_bytes){modulus, cases[i].bytes}, cases[i].exponent,
                                    &spki, &err), &err);
        tool_write(dir, "key.spki", pfx_buf_bytes(&spki));
        tool_must(dir, NULL, TOOL_PYTHON, "cng", "key.spki", NULL);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf want = tool_read(dir, "cng");
        assert_true(pfx_buf_add_str(&out, "before"));
        assert_ok(pfx_spki_cng(pfx_buf_bytes(&spki), &out, &err), &err);
        assert_int_equal(out.len, 6 + want.len);
        assert_memory_equal(out.data, "before", 6);
        assert_memory_equal(out.data + 6, want.data, want.len);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf little = pfx_buf_make(100);
        assert_class(pfx_spki_cng(pfx_buf_bytes(&spki), &little, NULL), PFX_CLASS_INTERNAL);
        assert_int_equal(little.len, 0);
    }
    PAIR pair = pair_of(EVP_EC_gen("P-256"));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(4096);
    assert_class(pfx_spki_cng(pfx_buf_bytes(&pair.spki), &out, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_spki_cng(BYTES("rubbish"), &out, NULL), PFX_CLASS_USAGE);
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(digests),
        cmocka_unit_test(rsa_spki),
        cmocka_unit_test(ec_spki),
        cmocka_unit_test(other_keys_are_refused),
        cmocka_unit_test(digest_info_is_what_openssl_expects),
        tool_test(ecdsa),
        tool_test(pem_is_read_by_openssl),
        tool_test(cng_blobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
