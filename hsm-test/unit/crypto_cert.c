/* Certificates that Python's cryptography made: every bundle is read, every wrong one named. */
#include "crypto_test.h"
#include "crypto_tool.h"

#include <stdio.h>
#include <string.h>

#include "crypto/cert.h"
#include "crypto/encode.h"

#define NOW_MS INT64_C(1780272000000) /* 2026-06-01, as in crypto_oracle.py */
#define BUF PFX_CLEANUP(pfx_buf_done) struct pfx_buf
#define CERTS PFX_AUTOCERTS struct pfx_certs *

static const char *const emails[] = {"alice@example.com", "a.example@example.com"};

static int make_pki(void **state)
{
    if (tool_setup(state) != 0)
        return -1;
    tool_must(*state, NULL, TOOL_PYTHON, "pki", NULL);
    return 0;
}

static void add(const char *dir, struct pfx_certs *certs, const char *name)
{
    PFX_AUTOFREE char *file = pfx_asprintf("%s.der", name);
    BUF der = tool_read(dir, file);
    ERROR(err);
    assert_ok(pfx_certs_add(certs, pfx_buf_bytes(&der), &err), &err);
}

static struct pfx_buf read_der(const char *dir, const char *name)
{
    PFX_AUTOFREE char *file = pfx_asprintf("%s.der", name);
    return tool_read(dir, file);
}

static bool same(struct pfx_bytes a, const struct pfx_buf *b)
{
    return a.len == b->len && memcmp(a.data, b->data, a.len) == 0;
}

static void bundles(void **state)
{
    const char *dir = *state;
    static const struct {
        const char *file;
        size_t n;
    } cases[] = {{"bundle-pem", 3},          {"bundle-pem-reversed", 3}, {"bundle-pem-junk", 3},
                 {"bundle-pem-other", 3},    {"bundle-pem-one-line", 3}, {"bundle-pem-doubled", 3},
                 {"bundle-p7b-der", 3},      {"bundle-p7b-pem", 3},      {"bundle-cms-pem", 3},
                 {"bundle-p7b-as-cert", 3},  {"bundle-der", 1},          {"bundle-32", 32},
                 {"bundle-crl2pkcs7", 3},    {"bundle-crl2pkcs7.der", 3}, {"bundle-cms.der", 1}};
    tool_must(dir, NULL, "openssl", "crl2pkcs7", "-nocrl", "-certfile", "bundle-pem", "-out",
              "bundle-crl2pkcs7", NULL);
    tool_must(dir, NULL, "openssl", "crl2pkcs7", "-nocrl", "-certfile", "bundle-pem", "-outform",
              "DER", "-out", "bundle-crl2pkcs7.der", NULL);
    /* A CMS message that is signed for real, indefinite lengths (BER) and all. */
    tool_must(dir, NULL, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
              "s.key", "-out", "s.pem", "-subj", "/CN=Signer", NULL);
    tool_must(dir, NULL, "openssl", "cms", "-sign", "-in", "rsa.spki", "-binary", "-stream",
              "-nodetach", "-signer", "s.pem", "-inkey", "s.key", "-outform", "DER", "-out",
              "bundle-cms.der", NULL);
    BUF spki = tool_read(dir, "rsa.spki"), leaf = read_der(dir, "good-sign");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        BUF bundle = tool_read(dir, cases[i].file);
        CERTS certs = NULL;
        ERROR(err);
        assert_ok(pfx_certs_parse(pfx_buf_bytes(&bundle), &certs, &err), &err);
        if (pfx_certs_count(certs) != cases[i].n)
            fail_msg("%s: %zu", cases[i].file, pfx_certs_count(certs));
        if (cases[i].n == 32 || strcmp(cases[i].file, "bundle-cms.der") == 0)
            continue;
        size_t at = 99;
        assert_ok(pfx_certs_pick(certs, pfx_buf_bytes(&spki), &at, &err), &err);
        assert_true(same(pfx_certs_at(certs, at), &leaf));
    }
}

static void not_bundles(void **state)
{
    const char *dir = *state;
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "empty"}, {"  \r\n", "empty"}, {"\xEF\xBB\xBF", "empty"},
                 {"<!DOCTYPE html><html>", "HTML"}, {"\n <html>", "HTML"},
                 {"{\"errors\":[]}", "JSON"}, {"[]", "JSON"}, {"MIIBAAAA", "Base64"},
                 {"PK\x03\x04", "ZIP"}, {"0\x82", "neither a certificate"},
                 {"0rubbish", "neither a certificate"}, {"hello", "no certificate"},
                 {"-----BEGIN X-----\nAAAA\n-----END X-----\n", "no certificate"},
                 {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                  "neither a certificate"},
                 {"-----BEGIN CERTIFICATE-----\nA*AA\n-----END CERTIFICATE-----\n", "torn"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CERTS certs = NULL;
        ERROR(err);
        struct pfx_bytes text = {(const uint8_t *)cases[i].text, strlen(cases[i].text)};
        assert_class(pfx_certs_parse(text, &certs, &err), PFX_CLASS_REFUSED);
        assert_null(certs);
        if (!strstr(err.text, cases[i].says))
            fail_msg("\"%s\": %s", cases[i].text, err.text);
    }
    static const struct {
        const char *file, *says;
    } files[] = {{"bundle-torn", "torn"}, {"bundle-33", "more than 32"}};
    for (size_t i = 0; i < 2; i++) {
        BUF bundle = tool_read(dir, files[i].file);
        CERTS certs = NULL;
        ERROR(err);
        assert_class(pfx_certs_parse(pfx_buf_bytes(&bundle), &certs, &err), PFX_CLASS_REFUSED);
        assert_non_null(strstr(err.text, files[i].says));
    }
    BUF large = pfx_buf_make(2 * 1024 * 1024);
    memset(pfx_buf_extend(&large, 1024 * 1024 + 1), '-', 1024 * 1024 + 1);
    CERTS certs = NULL;
    ERROR(err);
    assert_class(pfx_certs_parse(pfx_buf_bytes(&large), &certs, &err), PFX_CLASS_REFUSED);
    assert_non_null(strstr(err.text, "larger"));
}

/* No input makes the parsers fall over: every cut and many flips of good ones. */
static void torn_bundles(void **state)
{
    const char *dir = *state;
    static const char *const files[] = {"bundle-p7b-der", "bundle-der", "bundle-p7b-pem"};
    for (size_t i = 0; i < 3; i++) {
        BUF bundle = tool_read(dir, files[i]);
        for (size_t at = 0; at < bundle.len; at++) {
            CERTS cut = NULL;
            CERTS flipped = NULL;
            uint8_t *copy = pfx_memdup(bundle.data, at); /* exact: ASan sees overruns */
            pfx_result r = pfx_certs_parse((struct pfx_bytes){copy, at}, &cut, NULL);
            free(copy);
            assert_true(at + 1 >= bundle.len || pfx_failed(r));
            bundle.data[at] ^= 0x21;
            r = pfx_certs_parse(pfx_buf_bytes(&bundle), &flipped, NULL);
            struct pfx_cert_facts facts;
            for (size_t j = 0; pfx_ok(r) && j < pfx_certs_count(flipped); j++) {
                if (pfx_ok(pfx_cert_facts_read(pfx_certs_at(flipped, j), &facts, NULL)))
                    pfx_cert_facts_done(&facts);
            }
            bundle.data[at] ^= 0x21;
        }
    }
}

static void picking(void **state)
{
    const char *dir = *state;
    BUF rsa = tool_read(dir, "rsa.spki"), ec = tool_read(dir, "ec.spki");
    CERTS certs = pfx_certs_new();
    add(dir, certs, "inter");
    add(dir, certs, "good-sign");
    add(dir, certs, "good-sign");
    assert_int_equal(pfx_certs_count(certs), 2);
    size_t at = 99;
    ERROR(err);
    assert_class(pfx_certs_pick(certs, pfx_buf_bytes(&ec), &at, &err), PFX_CLASS_REFUSED);
    assert_string_equal(err.text, "0 of the 2 certificates in it have the key that was ordered.");
    assert_ok(pfx_certs_pick(certs, pfx_buf_bytes(&rsa), &at, NULL), &err);
    assert_int_equal(at, 1);
    add(dir, certs, "good-enc");
    ERROR(two);
    assert_class(pfx_certs_pick(certs, pfx_buf_bytes(&rsa), &at, &two), PFX_CLASS_REFUSED);
    assert_non_null(strstr(two.text, "2 different certificates"));
    assert_int_equal(at, 1);
    assert_class(pfx_certs_add(certs, BYTES("rubbish"), NULL), PFX_CLASS_REFUSED);
    assert_null(pfx_certs_at(certs, 3).data);
}

static void facts_as_openssl_says(void **state)
{
    const char *dir = *state;
    BUF der = read_der(dir, "good-subject"), spki = tool_read(dir, "rsa.spki");
    struct pfx_cert_facts facts;
    ERROR(err);
    assert_ok(pfx_cert_facts_read(pfx_buf_bytes(&der), &facts, &err), &err);
    BUF said = pfx_buf_make(10000);
    tool_must(dir, &said, "openssl", "x509", "-inform", "DER", "-in", "good-subject.der", "-noout",
              "-subject", "-issuer", "-serial", "-fingerprint", "-sha1", "-nameopt",
              "RFC2253,-esc_msb", NULL);
    PFX_AUTOFREE char *subject = pfx_asprintf("subject=%s\n", facts.subject);
    PFX_AUTOFREE char *issuer = pfx_asprintf("issuer=%s\n", facts.issuer);
    PFX_AUTOFREE char *serial = pfx_asprintf("serial=%s\n", facts.serial);
    assert_non_null(strstr(pfx_buf_str(&said), subject));
    assert_non_null(strstr(subject, "J\xC3\xBCrgen \xD0\xA8\\, \\\"x\\\""));
    assert_non_null(strstr(pfx_buf_str(&said), issuer));
    assert_non_null(strcasestr(pfx_buf_str(&said), serial));
    char print[64] = "";
    for (size_t i = 0; i < 40; i += 2)
        snprintf(print + i / 2 * 3, 4, "%.2s%s", facts.thumbprint + i, i < 38 ? ":" : "");
    assert_non_null(strcasestr(pfx_buf_str(&said), print));
    BUF sha256 = pfx_buf_make(1000);
    tool_must(dir, &sha256, "openssl", "dgst", "-sha256", "good-subject.der", NULL);
    char hex[65];
    assert_non_null(strstr(pfx_buf_str(&sha256), pfx_hex(facts.sha256, 32, hex)));
    assert_int_equal(facts.not_before_ms, NOW_MS - 86400000);
    assert_int_equal(facts.not_after_ms, NOW_MS + INT64_C(365) * 86400000);
    assert_int_equal(facts.n_emails, 2);
    assert_string_equal(facts.emails[0], emails[0]);
    assert_int_equal(facts.key_type, PFX_KEY_RSA_2048);
    assert_true(same(pfx_buf_bytes(&facts.spki), &spki));
    pfx_cert_facts_done(&facts);
    BUF nul = read_der(dir, "nul-email");
    assert_class(pfx_cert_facts_read(pfx_buf_bytes(&nul), &facts, NULL), PFX_CLASS_REFUSED);
    BUF weak = read_der(dir, "weak-inter"); /* RSA 1024: none of ours, and still readable */
    assert_ok(pfx_cert_facts_read(pfx_buf_bytes(&weak), &facts, &err), &err);
    assert_int_equal(facts.key_type, PFX_KEY_TYPE_COUNT);
    assert_int_equal(facts.n_emails, 0);
    pfx_cert_facts_done(&facts);
}

static const struct check {
    const char *leaf;
    enum pfx_purpose purpose;
    const char *ca;   /* one more in the bundle */
    const char *code; /* NULL: fine */
    const char *says;
} checks[] = {
    {"good-sign", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-sign-nr", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-enc", PFX_PURPOSE_ENCRYPTION, NULL, NULL, NULL},
    {"good-dual", PFX_PURPOSE_DUAL, NULL, NULL, NULL},
    {"good-ec-sign", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-ec-enc", PFX_PURPOSE_ENCRYPTION, NULL, NULL, NULL},
    {"good-ec-dual", PFX_PURPOSE_DUAL, NULL, NULL, NULL},
    {"good-deep", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-case", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-eku", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-soon", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-subject", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-upn", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-name-constraints", PFX_PURPOSE_SIGNING, "nc-good-inter", NULL, NULL},
    {"good-ca-eku", PFX_PURPOSE_SIGNING, "mail-inter", NULL, NULL},
    {"just-long", PFX_PURPOSE_SIGNING, NULL, NULL, NULL},
    {"good-sign", PFX_PURPOSE_SIGNING, "cross", NULL, NULL},
    {"foreign", PFX_PURPOSE_SIGNING, NULL, "key", "another public key"},
    {"missing", PFX_PURPOSE_SIGNING, NULL, "addresses",
     "a.example@example.com was ordered and isn't in it"},
    {"additional", PFX_PURPOSE_SIGNING, NULL, "addresses",
     "eve@example.com is in it and wasn't ordered"},
    {"no-emails", PFX_PURPOSE_SIGNING, NULL, "addresses", "alice@example.com was ordered"},
    {"utf8-mailbox", PFX_PURPOSE_SIGNING, NULL, "addresses", "SmtpUTF8Mailbox"},
    {"nul-email", PFX_PURPOSE_SIGNING, NULL, "addresses", "not printable ASCII"},
    {"latin-email", PFX_PURPOSE_SIGNING, NULL, "addresses", "not printable ASCII"},
    {"subject-email", PFX_PURPOSE_SIGNING, NULL, "addresses", "in its subject and wasn't ordered"},
    {"expired", PFX_PURPOSE_SIGNING, NULL, "validity", "It expired at 2026-05-31T23:00:00Z."},
    {"expires-soon", PFX_PURPOSE_SIGNING, NULL, "validity", "expires within a day"},
    {"not-yet", PFX_PURPOSE_SIGNING, NULL, "validity", "isn't valid before 2026-06-01T02:00:00Z"},
    {"too-long", PFX_PURPOSE_SIGNING, NULL, "validity", "valid for 825 days; at most 824"},
    {"is-ca", PFX_PURPOSE_SIGNING, NULL, "ca", "certificate of a CA"},
    {"cert-sign", PFX_PURPOSE_SIGNING, NULL, "ca", "may sign certificates"},
    {"no-ku", PFX_PURPOSE_SIGNING, NULL, "key usage", "doesn't say"},
    {"nr-only", PFX_PURPOSE_SIGNING, NULL, "key usage", "digitalSignature is missing"},
    {"good-enc", PFX_PURPOSE_SIGNING, NULL, "key usage", "digitalSignature is missing"},
    {"good-dual", PFX_PURPOSE_SIGNING, NULL, "key usage", "may encrypt too"},
    {"good-ec-dual", PFX_PURPOSE_SIGNING, NULL, "key usage", "may encrypt too"},
    {"good-sign", PFX_PURPOSE_ENCRYPTION, NULL, "key usage", "keyEncipherment is missing"},
    {"rsa-agreement", PFX_PURPOSE_ENCRYPTION, NULL, "key usage", "keyEncipherment is missing"},
    {"ec-encipherment", PFX_PURPOSE_ENCRYPTION, NULL, "key usage", "keyAgreement is missing"},
    {"good-dual", PFX_PURPOSE_ENCRYPTION, NULL, "key usage", "may sign too"},
    {"enc-nr", PFX_PURPOSE_ENCRYPTION, NULL, "key usage", "may sign too"},
    {"good-sign", PFX_PURPOSE_DUAL, NULL, "key usage", "keyEncipherment is missing"},
    {"good-enc", PFX_PURPOSE_DUAL, NULL, "key usage", "digitalSignature is missing"},
    {"ec-dual-encipherment", PFX_PURPOSE_DUAL, NULL, "key usage", "keyAgreement is missing"},
    {"no-eku", PFX_PURPOSE_SIGNING, NULL, "extended key usage", "emailProtection is missing"},
    {"tls-eku", PFX_PURPOSE_SIGNING, NULL, "extended key usage", "emailProtection is missing"},
    {"any-eku", PFX_PURPOSE_SIGNING, NULL, "extended key usage", "emailProtection is missing"},
    {"critical", PFX_PURPOSE_SIGNING, NULL, "chain", "critical extension"},
    {"sha1", PFX_PURPOSE_SIGNING, NULL, "chain", "hash that is too weak"},
    {"bad-signature", PFX_PURPOSE_SIGNING, NULL, "chain", "signature on it"},
    {"self-signed", PFX_PURPOSE_SIGNING, NULL, "chain", "root that isn't among"},
    {"unknown-root", PFX_PURPOSE_SIGNING, "other-inter", "chain", "neither in the bundle nor"},
    {"name-constraints", PFX_PURPOSE_SIGNING, "nc-inter", "chain", "name constraints"},
    {"ca-expired", PFX_PURPOSE_SIGNING, "old-inter", "chain", "CA above it has expired"},
    {"ca-not-yet", PFX_PURPOSE_SIGNING, "new-inter", "chain", "CA above it isn't valid yet"},
    {"not-a-ca", PFX_PURPOSE_SIGNING, "no-inter", "chain", "isn't one of a CA"},
    {"ca-tls-only", PFX_PURPOSE_SIGNING, "tls-inter", "chain", "may not issue for mail"},
    {"ca-weak", PFX_PURPOSE_SIGNING, "weak-inter", "chain", "too small"},
    {"path-length", PFX_PURPOSE_SIGNING, "below-zero", "chain", "More CAs"},
    {"circle", PFX_PURPOSE_SIGNING, "circle-a", "chain", "neither in the bundle nor"},
};

static void every_condition_has_its_sentence(void **state)
{
    const char *dir = *state;
    BUF rsa = tool_read(dir, "rsa.spki"), ec = tool_read(dir, "ec.spki");
    CERTS roots = pfx_certs_new();
    add(dir, roots, "root");
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const struct check *c = &checks[i];
        CERTS pool = pfx_certs_new();
        static const char *const common[] = {"low", "inter", "middle", "zero-inter", "circle-b"};
        for (size_t j = 0; j < 5; j++)
            add(dir, pool, common[j]);
        if (c->ca)
            add(dir, pool, c->ca);
        BUF leaf = read_der(dir, c->leaf);
        bool is_ec = strstr(c->leaf, "ec-") == c->leaf || strstr(c->leaf, "good-ec-") == c->leaf;
        struct pfx_cert_expect expect = {.spki = pfx_buf_bytes(is_ec ? &ec : &rsa),
                                         .emails = emails,
                                         .n_emails = 2,
                                         .purpose = c->purpose,
                                         .now_ms = NOW_MS,
                                         .max_days = 824,
                                         .roots = roots};
        ERROR(err);
        pfx_result r = pfx_cert_check(pfx_buf_bytes(&leaf), pool, &expect, &err);
        bool as_wanted = c->code ? r.cls == PFX_CLASS_REFUSED && strcmp(err.code, c->code) == 0 &&
                                       strcmp(err.object, emails[0]) == 0 &&
                                       strstr(err.text, c->says)
                                 : pfx_ok(r) && err.cls == PFX_CLASS_OK;
        if (!as_wanted)
            fail_msg("%s, %s: [%s] %s", c->leaf, pfx_purpose_name(c->purpose), err.code, err.text);
        /* The chain isn't asked where no roots are given. */
        expect.roots = NULL;
        r = pfx_cert_check(pfx_buf_bytes(&leaf), NULL, &expect, NULL);
        assert_int_equal(pfx_ok(r), !c->code || strcmp(c->code, "chain") == 0);
    }
}

static struct pfx_cert_expect signing(const struct pfx_buf *spki, const struct pfx_certs *roots)
{
    return (struct pfx_cert_expect){.spki = pfx_buf_bytes(spki),
                                    .emails = emails,
                                    .n_emails = 2,
                                    .purpose = PFX_PURPOSE_SIGNING,
                                    .now_ms = NOW_MS,
                                    .roots = roots};
}

static void chain_needs_its_parts(void **state)
{
    const char *dir = *state;
    BUF rsa = tool_read(dir, "rsa.spki"), leaf = read_der(dir, "good-sign");
    BUF stranger = read_der(dir, "unknown-root");
    CERTS roots = pfx_certs_new();
    CERTS none = pfx_certs_new();
    CERTS pool = pfx_certs_new();
    CERTS only_inter = pfx_certs_new();
    add(dir, roots, "root");
    struct pfx_cert_expect expect = signing(&rsa, roots);
    ERROR(missing);
    assert_class(pfx_cert_check(pfx_buf_bytes(&leaf), NULL, &expect, &missing), PFX_CLASS_REFUSED);
    assert_non_null(strstr(missing.text, "neither in the bundle"));
    assert_class(pfx_cert_check(pfx_buf_bytes(&leaf), none, &expect, NULL), PFX_CLASS_REFUSED);
    add(dir, pool, "other-inter");
    add(dir, pool, "other"); /* a root that only the bundle knows proves nothing */
    ERROR(unknown);
    assert_class(pfx_cert_check(pfx_buf_bytes(&stranger), pool, &expect, &unknown),
                 PFX_CLASS_REFUSED);
    assert_non_null(strstr(unknown.text, "root that isn't among"));
    /* No partial chains: an intermediate alone is no root. */
    add(dir, only_inter, "inter");
    expect.roots = only_inter;
    assert_class(pfx_cert_check(pfx_buf_bytes(&leaf), none, &expect, NULL), PFX_CLASS_REFUSED);
    expect.roots = none; /* no roots at all accept nothing */
    assert_class(pfx_cert_check(pfx_buf_bytes(&leaf), only_inter, &expect, NULL),
                 PFX_CLASS_REFUSED);
}

static void addresses_are_a_set(void **state)
{
    const char *dir = *state;
    BUF rsa = tool_read(dir, "rsa.spki"), leaf = read_der(dir, "good-sign");
    static const char *const reversed[] = {"A.EXAMPLE@example.com", "Alice@Example.COM",
                                           "alice@example.com"};
    struct pfx_cert_expect expect = signing(&rsa, NULL);
    expect.emails = reversed;
    expect.n_emails = 3;
    ERROR(err);
    assert_ok(pfx_cert_check(pfx_buf_bytes(&leaf), NULL, &expect, &err), &err);
    expect.n_emails = 0;
    assert_class(pfx_cert_check(pfx_buf_bytes(&leaf), NULL, &expect, NULL), PFX_CLASS_REFUSED);
    assert_class(pfx_cert_check(BYTES("rubbish"), NULL, &expect, NULL), PFX_CLASS_REFUSED);
}

static void order_of(const char *dir, const char *leaf_name, const char *const *want, size_t n)
{
    static const char *const names[] = {"root",  "low",   "other",    "inter",   "middle",
                                        "cross", "good-enc", "circle-a", "circle-b"};
    CERTS pool = pfx_certs_new();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        add(dir, pool, names[i]);
    BUF leaf = read_der(dir, leaf_name);
    CERTS chain = NULL;
    ERROR(err);
    assert_ok(pfx_cert_order_chain(pfx_buf_bytes(&leaf), pool, &chain, &err), &err);
    assert_int_equal(pfx_certs_count(chain), 1 + n);
    assert_true(same(pfx_certs_at(chain, 0), &leaf));
    for (size_t i = 0; i < n; i++) {
        BUF der = read_der(dir, want[i]);
        assert_true(same(pfx_certs_at(chain, 1 + i), &der));
    }
}

static void ordering(void **state)
{
    const char *dir = *state;
    order_of(dir, "good-sign", (const char *const[]){"inter"}, 1);
    order_of(dir, "good-deep", (const char *const[]){"low", "middle"}, 2);
    order_of(dir, "unknown-root", NULL, 0);
    order_of(dir, "self-signed", NULL, 0);
    order_of(dir, "bad-signature", NULL, 0);
    order_of(dir, "circle", (const char *const[]){"circle-a", "circle-b"}, 2);
    /* One of the circle itself: it isn't its own intermediate. */
    order_of(dir, "circle-a", (const char *const[]){"circle-b"}, 1);
    CERTS none = pfx_certs_new();
    CERTS chain = NULL;
    assert_class(pfx_cert_order_chain(BYTES("rubbish"), none, &chain, NULL), PFX_CLASS_REFUSED);
    assert_null(chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bundles),
        cmocka_unit_test(not_bundles),
        cmocka_unit_test(torn_bundles),
        cmocka_unit_test(picking),
        cmocka_unit_test(facts_as_openssl_says),
        cmocka_unit_test(every_condition_has_its_sentence),
        cmocka_unit_test(chain_needs_its_parts),
        cmocka_unit_test(addresses_are_a_set),
        cmocka_unit_test(ordering),
    };
    return cmocka_run_group_tests(tests, make_pki, tool_teardown);
}
