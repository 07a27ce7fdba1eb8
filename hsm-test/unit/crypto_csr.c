/* Requests, read by openssl and by Python's cryptography. */
#include "crypto_test.h"
#include "crypto_tool.h"

#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "crypto/csr.h"

static const char *const emails[] = {"alice@example.com", "o'neil+x@sub.example.com"};

/* Signs as pfx-hsm's token does. */
struct signer {
    EVP_PKEY *pkey;
    struct pfx_buf spki;
    bool lies;  /* signs something else */
    bool fails;
    enum pfx_hash hash_seen;
};

static pfx_result sign(void *ctx, enum pfx_hash hash, struct pfx_bytes digest, struct pfx_buf *out,
                       struct pfx_error *err)
{
    struct signer *s = ctx;
    s->hash_seen = hash;
    if (s->fails)
        return pfx_fail(err, PFX_CLASS_DEVICE, "C_Sign", "users", "CKR_DEVICE_REMOVED", "Gone.");
    uint8_t copy[64], sig[1024];
    memcpy(copy, digest.data, digest.len);
    copy[0] ^= s->lies;
    size_t len = sizeof sig;
    EVP_PKEY_CTX *pctx = EVP_PKEY_CTX_new(s->pkey, NULL);
    const EVP_MD *md = hash == PFX_HASH_SHA384 ? EVP_sha384() : EVP_sha256();
    assert_true(EVP_PKEY_sign_init(pctx) == 1 && EVP_PKEY_CTX_set_signature_md(pctx, md) == 1 &&
                EVP_PKEY_sign(pctx, sig, &len, copy, digest.len) == 1);
    EVP_PKEY_CTX_free(pctx);
    assert_true(pfx_buf_add(out, sig, len));
    return PFX_OK;
}

static struct signer signer_of(EVP_PKEY *pkey)
{
    assert_non_null(pkey);
    struct signer s = {.pkey = pkey, .spki = pfx_buf_make(4096)};
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(pkey, &der);
    assert_true(len > 0 && pfx_buf_add(&s.spki, der, (size_t)len));
    OPENSSL_free(der);
    return s;
}

static void signer_done(struct signer *s)
{
    EVP_PKEY_free(s->pkey);
    pfx_buf_done(&s->spki);
}
#define SIGNER PFX_CLEANUP(signer_done) struct signer
#define BUF PFX_CLEANUP(pfx_buf_done) struct pfx_buf

static struct pfx_csr_spec spec_of(const struct signer *s, const char *name)
{
    return (struct pfx_csr_spec){.spki = pfx_buf_bytes(&s->spki),
                                 .common_name = name,
                                 .emails = emails,
                                 .n_emails = 2};
}

/* A CA of one's own copies the key usages out of the request. */
static void usages_by_purpose(void **state)
{
    const char *dir = *state;
    static const struct {
        enum pfx_purpose purpose;
        const char *rsa, *ec;
    } cases[] = {
        {PFX_PURPOSE_SIGNING, "Digital Signature\n", "Digital Signature\n"},
        {PFX_PURPOSE_ENCRYPTION, "Key Encipherment\n", "Key Agreement\n"},
        {PFX_PURPOSE_DUAL, "Digital Signature, Key Encipherment\n",
         "Digital Signature, Key Agreement\n"},
    };
    for (size_t i = 0; i < 6; i++) {
        bool rsa = i < 3;
        SIGNER s = signer_of(rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
        struct pfx_csr_spec spec = spec_of(&s, "Alice");
        spec.purpose = cases[i % 3].purpose;
        BUF der = pfx_buf_make(8192);
        ERROR(err);
        assert_ok(pfx_csr_build(&spec, sign, &s, &der, &err), &err);
        tool_write(dir, "csr.der", pfx_buf_bytes(&der));
        BUF said = pfx_buf_make(100000);
        tool_must(dir, &said, "openssl", "req", "-inform", "DER", "-in", "csr.der", "-verify",
                  "-noout", "-text", NULL);
        PFX_AUTOFREE char *usage =
            pfx_asprintf("X509v3 Key Usage: critical\n                    %s",
                         rsa ? cases[i % 3].rsa : cases[i % 3].ec);
        assert_non_null(strstr(pfx_buf_str(&said), usage));
        assert_non_null(strstr(pfx_buf_str(&said), "E-mail Protection\n"));
    }
}

static void others_read_it(void **state)
{
    const char *dir = *state;
    static const struct {
        const char *kind, *hash, *name;
    } cases[] = {{"rsa", "sha256", "Alice Example"},
                 {"P-256", "sha256", "J\xC3\xBCrgen M\xC3\xBCller"},
                 {"P-384", "sha384", "\xD0\xAE\xD0\xBB\xD0\xB8\xD1\x8F, \"x\"/CN=y"}};
    for (size_t i = 0; i < 3; i++) {
        SIGNER s = signer_of(strcmp(cases[i].kind, "rsa") == 0 ? EVP_RSA_gen(2048)
                                                               : EVP_EC_gen(cases[i].kind));
        struct pfx_csr_spec spec = spec_of(&s, cases[i].name);
        BUF der = pfx_buf_make(8192);
        ERROR(err);
        assert_ok(pfx_csr_build(&spec, sign, &s, &der, &err), &err);
        assert_string_equal(pfx_hash_name(s.hash_seen), cases[i].hash);
        tool_write(dir, "csr.der", pfx_buf_bytes(&der));
        tool_write(dir, "spki.der", pfx_buf_bytes(&s.spki));
        BUF said = pfx_buf_make(100000);
        tool_must(dir, &said, "openssl", "req", "-inform", "DER", "-in", "csr.der", "-verify",
                  "-noout", "-text", "-nameopt", "utf8", NULL);
        assert_non_null(strstr(pfx_buf_str(&said), "verify OK"));
        assert_non_null(strstr(pfx_buf_str(&said),
                               "email:alice@example.com, email:o'neil+x@sub.example.com"));
        /* SEQUENCE { sha256WithRSAEncryption, NULL }: the NULL isn't optional (RFC 8017 A.2.4). */
        static const char rsa_alg[] = "0\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\0";
        assert_int_equal(memmem(der.data, der.len, rsa_alg, sizeof rsa_alg - 1) != NULL, i == 0);
        BUF hash = pfx_buf_make(1000);
        tool_must(dir, &hash, TOOL_PYTHON, "csr", "csr.der", "spki.der", cases[i].name, emails[0],
                  emails[1], NULL);
        assert_non_null(strstr(pfx_buf_str(&hash), cases[i].hash));
        BUF spki = pfx_buf_make(4096);
        assert_ok(pfx_csr_spki(pfx_buf_bytes(&der), &spki, &err), &err);
        assert_int_equal(spki.len, s.spki.len);
        assert_memory_equal(spki.data, s.spki.data, spki.len);
    }
}

/* A BIT STRING whose last byte is 0 must keep it. */
static void signature_ending_in_zero(void **state)
{
    const char *dir = *state;
    SIGNER s = signer_of(EVP_RSA_gen(2048));
    for (int i = 0;; i++) {
        assert_true(i < 5000);
        PFX_AUTOFREE char *name = pfx_asprintf("User %d", i);
        struct pfx_csr_spec spec = spec_of(&s, name);
        BUF der = pfx_buf_make(8192);
        ERROR(err);
        assert_ok(pfx_csr_build(&spec, sign, &s, &der, &err), &err);
        if (der.data[der.len - 1] != 0)
            continue;
        tool_write(dir, "csr.der", pfx_buf_bytes(&der));
        tool_write(dir, "spki.der", pfx_buf_bytes(&s.spki));
        tool_must(dir, NULL, "openssl", "req", "-inform", "DER", "-in", "csr.der", "-verify",
                  "-noout", NULL);
        tool_must(dir, NULL, TOOL_PYTHON, "csr", "csr.der", "spki.der", name, emails[0], emails[1],
                  NULL);
        return;
    }
}

static void pem_both_ways(void **state)
{
    const char *dir = *state;
    SIGNER s = signer_of(EVP_EC_gen("P-256"));
    struct pfx_csr_spec spec = spec_of(&s, "Alice");
    BUF der = pfx_buf_make(8192);
    ERROR(err);
    assert_ok(pfx_csr_build(&spec, sign, &s, &der, &err), &err);
    for (int one_line = 0; one_line < 2; one_line++) {
        BUF pem = pfx_buf_make(8192), again = pfx_buf_make(8192);
        assert_true(pfx_csr_pem(pfx_buf_bytes(&der), one_line, &pem));
        assert_true(one_line == !strchr(pfx_buf_str(&pem), '\n'));
        assert_ok(pfx_csr_from_pem(pfx_buf_str(&pem), &again, &err), &err);
        assert_int_equal(again.len, der.len);
        assert_memory_equal(again.data, der.data, der.len);
        if (!one_line) {
            tool_write(dir, "csr.pem", pfx_buf_bytes(&pem));
            tool_must(dir, NULL, "openssl", "req", "-in", "csr.pem", "-verify", "-noout", NULL);
        }
    }
    tool_write(dir, "csr.der", pfx_buf_bytes(&der));
    tool_must(dir, NULL, "openssl", "req", "-inform", "DER", "-in", "csr.der", "-newhdr", "-out",
              "new.pem", NULL);
    BUF text = tool_read(dir, "new.pem"), again = pfx_buf_make(8192);
    assert_ok(pfx_csr_from_pem(pfx_buf_str(&text), &again, &err), &err);
    static const char *const bad[] = {
        "", "rubbish", "-----BEGIN CERTIFICATE REQUEST-----",
        "-----BEGIN CERTIFICATE REQUEST-----AAAA-----END CERTIFICATE REQUEST-----",
        "-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_class(pfx_csr_from_pem(bad[i], &again, NULL), PFX_CLASS_REFUSED);
    assert_int_equal(again.len, der.len);
}

static void wrong_signatures(void **state)
{
    (void)state;
    SIGNER s = signer_of(EVP_EC_gen("P-256"));
    struct pfx_csr_spec spec = spec_of(&s, "Alice");
    BUF der = pfx_buf_make(8192);
    ERROR(err);
    s.lies = true;
    assert_class(pfx_csr_build(&spec, sign, &s, &der, &err), PFX_CLASS_INTEGRITY);
    s.lies = false;
    s.fails = true;
    ERROR(gone);
    assert_class(pfx_csr_build(&spec, sign, &s, &der, &gone), PFX_CLASS_DEVICE);
    assert_string_equal(gone.code, "CKR_DEVICE_REMOVED");
    assert_int_equal(der.len, 0);
    s.fails = false;
    assert_ok(pfx_csr_build(&spec, sign, &s, &der, &err), &err);
    BUF spki = pfx_buf_make(4096);
    der.data[40] ^= 1; /* in the signed part */
    assert_class(pfx_csr_spki(pfx_buf_bytes(&der), &spki, NULL), PFX_CLASS_REFUSED);
    assert_class(pfx_csr_spki(BYTES("0"), &spki, NULL), PFX_CLASS_REFUSED);
    assert_int_equal(spki.len, 0);
}

static void what_cant_stand_in_a_request(void **state)
{
    (void)state;
    SIGNER s = signer_of(EVP_EC_gen("P-256"));
    BUF der = pfx_buf_make(8192);
    static const char *const names[] = {
        "", "a\nb", "a\x7f", "\xC3", "\xED\xA0\x80",
        "12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct pfx_csr_spec spec = spec_of(&s, names[i]);
        ERROR(err);
        assert_class(pfx_csr_build(&spec, sign, &s, &der, &err), PFX_CLASS_USAGE);
        assert_string_not_equal(err.text, "");
    }
    static const char *const addresses[] = {
        "", "alice", "@example.com", "alice@", "a@b@c", "j\xC3\xBCrgen@example.com", "a b@c.test",
        "a\n@c.test", "<a@c.test>", "smtp:a@c.test",
        "12345678901234567890123456789012345678901234567890123456789012345@c.test"};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct pfx_csr_spec spec = spec_of(&s, "Alice");
        const char *list[] = {"good@example.com", addresses[i]};
        spec.emails = list;
        ERROR(err);
        assert_class(pfx_csr_build(&spec, sign, &s, &der, &err), PFX_CLASS_USAGE);
        if (i == 5)
            assert_string_equal(err.object, addresses[5]);
    }
    struct pfx_csr_spec none = spec_of(&s, "Alice");
    none.n_emails = 0;
    assert_class(pfx_csr_build(&none, sign, &s, &der, NULL), PFX_CLASS_USAGE);
    none = spec_of(&s, "Alice");
    none.spki = BYTES("rubbish");
    assert_class(pfx_csr_build(&none, sign, &s, &der, NULL), PFX_CLASS_USAGE);
    assert_int_equal(der.len, 0);
    /* 64 characters of two bytes each are fine. */
    char wide[129];
    for (size_t i = 0; i < 128; i += 2)
        memcpy(wide + i, "\xC3\xBC", 2);
    wide[128] = '\0';
    struct pfx_csr_spec spec = spec_of(&s, wide);
    ERROR(err);
    assert_ok(pfx_csr_build(&spec, sign, &s, &der, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tool_test(others_read_it),
        tool_test(usages_by_purpose),
        tool_test(signature_ending_in_zero),
        tool_test(pem_both_ways),
        cmocka_unit_test(wrong_signatures),
        cmocka_unit_test(what_cant_stand_in_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
