/* PFX files, read by OpenSSL, Java's keytool, NSS, GnuTLS and Python's cryptography. */
#include "crypto_test.h"
#include "crypto_tool.h"

#include <ctype.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/pfx.h"

#define BUF PFX_CLEANUP(pfx_buf_done) struct pfx_buf
#define FRIENDLY "J\xC3\xBCrgen M\xC3\xBCller (S/MIME)"

static struct pfx_secret *secret_of(const void *data, size_t len)
{
    ERROR(err);
    struct pfx_secret *secret = NULL;
    assert_ok(pfx_secret_copy(data, len, &secret, &err), &err);
    return secret;
}

static struct pfx_secret *new_password(void)
{
    uint8_t random[32];
    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (uint8_t)(i * 41 + 7);
    struct pfx_secret *password = secret_of(random, sizeof random);
    pfx_password_from_random(password);
    return password;
}

/* key.p8, leaf.der and inter.der become user.p12; the password is in "password". */
static void build(const char *dir, enum pfx_profile profile, struct pfx_buf *ret_pfx)
{
    BUF p8 = tool_read(dir, "key.p8"), leaf = tool_read(dir, "leaf.der"),
        inter = tool_read(dir, "inter.der");
    PFX_AUTOSECRET struct pfx_secret *password = new_password();
    PFX_AUTOSECRET struct pfx_secret *key = secret_of(p8.data, p8.len);
    PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
    struct pfx_pbe pbe;
    BUF ciphertext = pfx_buf_make(8192);
    ERROR(err);
    assert_ok(pfx_pbe_draw(profile, &pbe, &err), &err);
    assert_int_equal(pbe.iterations, PFX_PBE_ITERATIONS);
    assert_ok(pfx_pbe_kek(&pbe, password, &kek, &err), &err);
    assert_ok(pfx_p8_encrypt(&kek, key, &ciphertext, &err), &err);
    PFX_AUTOCERTS struct pfx_certs *certs = pfx_certs_new();
    assert_ok(pfx_certs_add(certs, pfx_buf_bytes(&leaf), &err), &err);
    assert_ok(pfx_certs_add(certs, pfx_buf_bytes(&inter), &err), &err);
    struct pfx_pfx_spec spec = {.pbe = &pbe,
                                .key_ciphertext = pfx_buf_bytes(&ciphertext),
                                .certs = certs,
                                .friendly_name = FRIENDLY};
    assert_ok(pfx_pfx_build(&spec, password, ret_pfx, &err), &err);
    tool_write(dir, "user.p12", pfx_buf_bytes(ret_pfx));
    tool_write(dir, "password",
               (struct pfx_bytes){pfx_secret_bytes(password), pfx_secret_len(password)});
}

/* The private key that a reader wrote as PEM is the one that went in. */
static void same_key(const char *dir, const char *pem)
{
    tool_must(dir, NULL, "openssl", "pkcs8", "-topk8", "-nocrypt", "-in", pem, "-outform", "DER",
              "-out", "again.p8", NULL);
    BUF want = tool_read(dir, "key.p8"), have = tool_read(dir, "again.p8");
    assert_int_equal(have.len, want.len);
    assert_memory_equal(have.data, want.data, have.len);
}

static const struct expect {
    const char *mac, *mac_len, *scheme, *keybag; /* openssl's words */
    const char *gnutls_mac, *gnutls_cipher;
} expected[PFX_PROFILE_COUNT] = {
    [PFX_PROFILE_MODERN] = {"MAC: sha256, Iteration 2048\n", "MAC length: 32, salt length: 8\n",
                            "PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256\n",
                            "Shrouded Keybag: PBES2", "SHA256", "AES-256-CBC"},
    [PFX_PROFILE_COMPAT] = {"MAC: sha1, Iteration 2048\n", "MAC length: 20, salt length: 8\n",
                            "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048\n",
                            "Shrouded Keybag: pbeWithSHA1And3-KeyTripleDES-CBC", "SHA1",
                            "3DES-CBC"},
};

static void openssl_reads(const char *dir, enum pfx_profile profile)
{
    const struct expect *e = &expected[profile];
    BUF said = pfx_buf_make(100000);
    tool_must(dir, &said, "openssl", "pkcs12", "-in", "user.p12", "-passin", "file:password",
              "-info", "-noout", NULL);
    const char *text = pfx_buf_str(&said);
    assert_non_null(strstr(text, e->mac));
    assert_non_null(strstr(text, e->mac_len));
    const char *first = strstr(text, e->scheme);
    assert_non_null(first);
    assert_non_null(strstr(first + 1, e->scheme)); /* certificates and key */
    assert_non_null(strstr(text, e->keybag));
    tool_must(dir, NULL, "openssl", "pkcs12", "-in", "user.p12", "-passin", "file:password",
              "-nocerts", "-noenc", "-out", "key.pem", NULL);
    same_key(dir, "key.pem");
    /* localKeyID of key and leaf is the thumbprint. */
    BUF all = pfx_buf_make(100000), leaf = tool_read(dir, "leaf.der");
    tool_must(dir, &all, "openssl", "pkcs12", "-in", "user.p12", "-passin", "file:password",
              "-noenc", NULL);
    unsigned char sha1[20];
    assert_true(pfx_digest(PFX_HASH_SHA1, leaf.data, leaf.len, sha1, NULL));
    char hex[41], spaced[80] = "localKeyID:";
    pfx_hex(sha1, 20, hex);
    size_t at = strlen(spaced);
    for (size_t i = 0; i < 40; i += 2) {
        spaced[at++] = ' ';
        spaced[at++] = (char)toupper(hex[i]);
        spaced[at++] = (char)toupper(hex[i + 1]);
    }
    spaced[at] = '\0';
    const char *one = strstr(pfx_buf_str(&all), spaced);
    assert_non_null(one);
    const char *two = strstr(one + 1, spaced);
    assert_non_null(two);
    assert_null(strstr(two + 1, spaced));
    tool_write(dir, "wrong", BYTES("wrong"));
    assert_int_not_equal(tool_run(dir, NULL, "openssl", "pkcs12", "-in", "user.p12", "-passin",
                                  "file:wrong", "-noout", NULL),
                         0);
}

static void keytool_reads(const char *dir)
{
    if (!tool_have("keytool"))
        return;
    BUF said = pfx_buf_make(100000);
    tool_must(dir, &said, "keytool", "-list", "-v", "-storetype", "PKCS12", "-keystore", "user.p12",
              "-storepass:file", "password", NULL);
    assert_non_null(strstr(pfx_buf_str(&said), "PrivateKeyEntry"));
    assert_non_null(strstr(pfx_buf_str(&said), "Certificate chain length: 2"));
    /* Listing leaves the key alone; copying the entry decrypts it. */
    tool_must(dir, NULL, "keytool", "-importkeystore", "-noprompt", "-srckeystore", "user.p12",
              "-srcstoretype", "PKCS12", "-srcstorepass:file", "password", "-destkeystore",
              "java.p12", "-deststoretype", "PKCS12", "-deststorepass:file", "password", NULL);
    tool_must(dir, NULL, "openssl", "pkcs12", "-in", "java.p12", "-passin", "file:password",
              "-nocerts", "-noenc", "-out", "java.pem", NULL);
    same_key(dir, "java.pem");
}

static void nss_reads(const char *dir)
{
    if (!tool_have("pk12util") || !tool_have("certutil"))
        return;
    BUF said = pfx_buf_make(100000), imported = pfx_buf_make(100000);
    tool_must(dir, NULL, "mkdir", "nss", NULL);
    tool_must(dir, NULL, "certutil", "-N", "-d", "sql:nss", "--empty-password", NULL);
    tool_must(dir, &said, "pk12util", "-l", "user.p12", "-d", "sql:nss", "-w", "password", NULL);
    assert_non_null(strstr(pfx_buf_str(&said), "Key(shrouded)"));
    assert_non_null(strstr(pfx_buf_str(&said), "Friendly Name: " FRIENDLY));
    tool_must(dir, NULL, "pk12util", "-i", "user.p12", "-d", "sql:nss", "-w", "password", NULL);
    tool_must(dir, &imported, "certutil", "-K", "-d", "sql:nss", NULL);
    assert_non_null(strstr(pfx_buf_str(&imported), FRIENDLY));
}

static void gnutls_reads(const char *dir, enum pfx_profile profile)
{
    if (!tool_have("certtool"))
        return;
    /* certtool has no password file. It is a test password. */
    BUF password = tool_read(dir, "password"), said = pfx_buf_make(100000);
    tool_must(dir, &said, "certtool", "--p12-info", "--inder", "--infile", "user.p12", "--password",
              pfx_buf_str(&password), NULL);
    const char *text = pfx_buf_str(&said);
    assert_non_null(strstr(text, "MAC info:"));
    assert_non_null(strstr(text, expected[profile].gnutls_mac));
    assert_non_null(strstr(text, "Type: Encrypted"));
    assert_non_null(strstr(text, "PKCS #8"));
    assert_non_null(strstr(text, expected[profile].gnutls_cipher));
    tool_must(dir, NULL, "certtool", "--p12-info", "--inder", "--infile", "user.p12", "--password",
              pfx_buf_str(&password), "--outfile", "gnutls.txt", NULL);
    BUF out = tool_read(dir, "gnutls.txt");
    assert_non_null(strstr(pfx_buf_str(&out), "BEGIN ENCRYPTED PRIVATE KEY"));
    tool_must(dir, NULL, "openssl", "pkey", "-in", "gnutls.txt", "-passin", "file:password", "-out",
              "gnutls.pem", NULL);
    same_key(dir, "gnutls.pem");
}

/* ... and looks at every object identifier, salt and count of iterations. */
static void python_reads(const char *dir, enum pfx_profile profile)
{
    tool_must(dir, NULL, TOOL_PYTHON, "pfx", "user.p12", "password", FRIENDLY, NULL);
    tool_must(dir, NULL, TOOL_PYTHON, "scheme", "user.p12", pfx_profile_name(profile), NULL);
}

static void everyone_reads(const char *dir, const char *kind, enum pfx_profile profile)
{
    tool_must(dir, NULL, TOOL_PYTHON, "user", kind, NULL);
    BUF pfx = pfx_buf_make(100000);
    build(dir, profile, &pfx);
    openssl_reads(dir, profile);
    keytool_reads(dir);
    nss_reads(dir);
    gnutls_reads(dir, profile);
    python_reads(dir, profile);
}

static void rsa_2048(void **state)
{
    everyone_reads(*state, "rsa", PFX_PROFILE_MODERN);
}

static void ec_p256(void **state)
{
    everyone_reads(*state, "p256", PFX_PROFILE_MODERN);
}

static void ec_p384(void **state)
{
    everyone_reads(*state, "p384", PFX_PROFILE_MODERN);
}

static void compat_rsa_2048(void **state)
{
    everyone_reads(*state, "rsa", PFX_PROFILE_COMPAT);
}

static void compat_ec_p384(void **state)
{
    everyone_reads(*state, "p384", PFX_PROFILE_COMPAT);
}

/* Ours of a PrivateKeyInfo is what openssl makes with the same parameters. */
static void encryption_is_openssls(void **state)
{
    const char *dir = *state;
    struct pfx_pbe pbe = {.salt = "0123456789abcde", .iv = "ABCDEFGHIJKLMNO", .iterations = 2048};
    PFX_AUTOSECRET struct pfx_secret *password = secret_of("correct horse", 13);
    PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
    ERROR(err);
    assert_ok(pfx_pbe_kek(&pbe, password, &kek, &err), &err);
    BUF said = pfx_buf_make(1000);
    tool_must(dir, &said, "openssl", "kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt",
              "pass:correct horse", "-kdfopt", "hexsalt:30313233343536373839616263646500",
              "-kdfopt", "iter:2048", "PBKDF2", NULL);
    for (size_t i = 0; i < 32; i++) {
        PFX_AUTOFREE char *hex = pfx_asprintf("%02X", pfx_secret_bytes(kek.key)[i]);
        assert_memory_equal(pfx_buf_str(&said) + 3 * i, hex, 2);
    }
    tool_must(dir, NULL, TOOL_PYTHON, "user", "p256", NULL);
    BUF p8 = tool_read(dir, "key.p8"), out = pfx_buf_make(1000);
    PFX_AUTOSECRET struct pfx_secret *key = secret_of(p8.data, p8.len);
    assert_ok(pfx_p8_encrypt(&kek, key, &out, &err), &err);
    char kek_hex[65], iv_hex[33];
    pfx_hex(pfx_secret_bytes(kek.key), 32, kek_hex);
    pfx_hex(pbe.iv, 16, iv_hex);
    tool_must(dir, NULL, "openssl", "enc", "-aes-256-cbc", "-K", kek_hex, "-iv", iv_hex, "-in",
              "key.p8", "-out", "ciphertext", NULL);
    BUF want = tool_read(dir, "ciphertext");
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.data, want.data, out.len);
}

/* The oracle has RFC 7292's appendix B by itself; openssl encrypts. */
static void compat_encryption_is_openssls(void **state)
{
    const char *dir = *state;
    tool_must(dir, NULL, TOOL_PYTHON, "user", "rsa", NULL);
    BUF p8 = tool_read(dir, "key.p8");
    PFX_AUTOSECRET struct pfx_secret *key = secret_of(p8.data, p8.len);
    static const char longest[] =
        "A PFX password longer than one block of SHA-1: its BMPString has "
        "more than two times sixty-four bytes.";
    static const char *const passwords[] = {"x", "correct horse", longest};
    for (size_t i = 0; i < sizeof passwords / sizeof passwords[0]; i++) {
        struct pfx_pbe pbe = {
            .profile = PFX_PROFILE_COMPAT, .salt = "saltsalt", .iterations = i == 0 ? 1 : 2048};
        PFX_AUTOSECRET struct pfx_secret *password = secret_of(passwords[i], strlen(passwords[i]));
        PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
        BUF said = pfx_buf_make(1000), out = pfx_buf_make(8192);
        ERROR(err);
        assert_ok(pfx_pbe_kek(&pbe, password, &kek, &err), &err);
        tool_must(dir, &said, TOOL_PYTHON, "kdf", passwords[i], "saltsalt", i == 0 ? "1" : "2048",
                  NULL);
        char kek_hex[49], iv_hex[17];
        PFX_AUTOFREE char *have = pfx_asprintf(
            "%s %s\n", pfx_hex(pfx_secret_bytes(kek.key), 24, kek_hex), pfx_hex(kek.iv, 8, iv_hex));
        assert_string_equal(pfx_buf_str(&said), have);
        assert_ok(pfx_p8_encrypt(&kek, key, &out, &err), &err);
        tool_must(dir, NULL, "openssl", "enc", "-des-ede3-cbc", "-K", kek_hex, "-iv", iv_hex, "-in",
                  "key.p8", "-out", "ciphertext", NULL);
        BUF want = tool_read(dir, "ciphertext");
        assert_int_equal(out.len, want.len);
        assert_memory_equal(out.data, want.data, out.len);
        PFX_AUTOSECRET struct pfx_secret *back = NULL;
        assert_ok(pfx_p8_decrypt(&kek, pfx_buf_bytes(&want), &back, &err), &err);
        assert_true(pfx_secret_equal(back, key));
        want.data[want.len - 1 - 8] ^= 0x80; /* the last byte of the padding, and only that */
        assert_class(pfx_p8_decrypt(&kek, pfx_buf_bytes(&want), &back, NULL), PFX_CLASS_INTEGRITY);
        want.len--;
        assert_class(pfx_p8_decrypt(&kek, pfx_buf_bytes(&want), &back, NULL), PFX_CLASS_INTEGRITY);
    }
}

static void draws_differ(void **state)
{
    (void)state;
    struct pfx_pbe a, b;
    ERROR(err);
    assert_ok(pfx_pbe_draw(PFX_PROFILE_MODERN, &a, &err), &err);
    assert_ok(pfx_pbe_draw(PFX_PROFILE_MODERN, &b, &err), &err);
    assert_memory_not_equal(a.salt, b.salt, sizeof a.salt);
    assert_memory_not_equal(a.iv, b.iv, sizeof a.iv);
    assert_ok(pfx_pbe_draw(PFX_PROFILE_COMPAT, &a, &err), &err);
    assert_ok(pfx_pbe_draw(PFX_PROFILE_COMPAT, &b, &err), &err);
    assert_memory_not_equal(a.salt, b.salt, 8);
    assert_class(pfx_pbe_draw(PFX_PROFILE_COUNT, &b, NULL), PFX_CLASS_USAGE);
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        PFX_AUTOKEK struct pfx_kek one = {.key = NULL}, two = {.key = NULL};
        assert_ok(pfx_kek_draw((enum pfx_profile)i, &one, &err), &err);
        assert_ok(pfx_kek_draw((enum pfx_profile)i, &two, &err), &err);
        assert_int_equal(pfx_secret_len(one.key), i == PFX_PROFILE_MODERN ? 32 : 24);
        assert_false(pfx_secret_equal(one.key, two.key));
        assert_memory_not_equal(one.iv, two.iv, pfx_kek_block(one.profile));
        for (size_t j = 0; i == PFX_PROFILE_COMPAT && j < 24; j++)
            assert_int_equal(__builtin_popcount(pfx_secret_bytes(one.key)[j]) % 2, 1);
    }
}

static void wrong_input_leaves_out_alone(void **state)
{
    const char *dir = *state;
    tool_must(dir, NULL, TOOL_PYTHON, "user", "p256", NULL);
    BUF leaf = tool_read(dir, "leaf.der"), p8 = tool_read(dir, "key.p8");
    PFX_AUTOSECRET struct pfx_secret *password = new_password();
    PFX_AUTOSECRET struct pfx_secret *none = secret_of("", 0);
    PFX_AUTOSECRET struct pfx_secret *umlaut = secret_of("\xC3\xBC", 2);
    PFX_AUTOSECRET struct pfx_secret *nul = secret_of("a\0b", 3);
    struct pfx_pbe pbe = {.iterations = 1}, zero = {.iterations = 0};
    struct pfx_pbe compat = {.profile = PFX_PROFILE_COMPAT, .iterations = 1};
    struct pfx_pbe unknown = {.profile = PFX_PROFILE_COUNT, .iterations = 1};
    uint8_t blocks[32] = {0};
    ERROR(err);
    PFX_AUTOCERTS struct pfx_certs *certs = pfx_certs_new();
    PFX_AUTOCERTS struct pfx_certs *no_certs = pfx_certs_new();
    assert_ok(pfx_certs_add(certs, pfx_buf_bytes(&leaf), &err), &err);
    const struct pfx_pfx_spec good = {
        .pbe = &pbe, .key_ciphertext = {blocks, 32}, .certs = certs, .friendly_name = "x"};
    BUF out = pfx_buf_make(100000);
    assert_true(pfx_buf_add_str(&out, "kept"));
    assert_class(pfx_pfx_build(&good, none, &out, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_pfx_build(&good, umlaut, &out, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_pfx_build(&good, nul, &out, NULL), PFX_CLASS_USAGE);
    struct pfx_pfx_spec bad = good;
    bad.key_ciphertext.len = 31;
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_INTEGRITY);
    bad = good;
    bad.certs = no_certs;
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_USAGE);
    bad = good;
    bad.friendly_name = "\xC3";
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_USAGE);
    bad.friendly_name = "\xF0\xA0\xAE\xB7"; /* U+20BB7: no BMPString holds it */
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_USAGE);
    bad = good;
    bad.key_ciphertext.len = 24; /* whole blocks of 3DES, not of AES */
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_INTEGRITY);
    bad.pbe = &compat;
    bad.key_ciphertext.len = 23;
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_INTEGRITY);
    bad = good;
    bad.pbe = &zero;
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_USAGE);
    bad.pbe = &unknown;
    assert_class(pfx_pfx_build(&bad, password, &out, NULL), PFX_CLASS_USAGE);
    PFX_AUTOSECRET struct pfx_secret *key = secret_of(p8.data, p8.len);
    PFX_AUTOKEK struct pfx_kek kek = {.key = secret_of(blocks, 32)};
    PFX_AUTOKEK struct pfx_kek short_kek = {.key = secret_of(blocks, 31)};
    PFX_AUTOKEK struct pfx_kek aes_for_des = {PFX_PROFILE_COMPAT, secret_of(blocks, 32), {0}};
    assert_class(pfx_p8_encrypt(&short_kek, key, &out, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_p8_encrypt(&aes_for_des, key, &out, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_p8_encrypt(&kek, none, &out, NULL), PFX_CLASS_INTEGRITY);
    pfx_secret_truncate(key, p8.len - 1);
    assert_class(pfx_p8_encrypt(&kek, key, &out, NULL), PFX_CLASS_INTEGRITY);
    assert_class(pfx_pbe_kek(&zero, password, &short_kek, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_pbe_kek(&pbe, none, &short_kek, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_pbe_kek(&compat, umlaut, &short_kek, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_pbe_kek(&unknown, password, &short_kek, NULL), PFX_CLASS_USAGE);
    assert_string_equal(pfx_buf_str(&out), "kept");
    BUF small = pfx_buf_make(100);
    assert_class(pfx_pfx_build(&good, password, &small, NULL), PFX_CLASS_INTERNAL);
    assert_int_equal(small.len, 0);
}

static void trimming(void **state)
{
    (void)state;
    static const struct {
        struct pfx_bytes der;
        size_t len;
    } cases[] = {{BYTES("0\x02\x05\0"), 4},
                 {BYTES("0\x02\x05\0\0\0\0\0"), 4},
                 {BYTES("0\0"), 2},
                 {BYTES("0\x03\x05\0"), 0},
                 {BYTES("1\x02\x05\0"), 0},
                 {BYTES("0"), 0},
                 {BYTES(""), 0},
                 {BYTES("0\x80\0\0"), 0},
                 {BYTES("0\x81\x02\x05\0"), 0},
                 {BYTES("0\x82\0\x80"), 0},
                 {BYTES("0\x85\1\1\1\1\1"), 0},
                 {BYTES("0\x84\xff\xff\xff\xff"), 0},
                 {BYTES("0\x82\x01"), 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(pfx_der_trim(cases[i].der.data, cases[i].der.len), cases[i].len);
    uint8_t large[300] = {0x30, 0x81, 0x80};
    assert_int_equal(pfx_der_trim(large, sizeof large), 131);
    memcpy(large, "\x30\x82\x01\x00", 4);
    assert_int_equal(pfx_der_trim(large, sizeof large), 260);
    assert_int_equal(pfx_der_trim(large, 260), 260);
    assert_int_equal(pfx_der_trim(large, 259), 0);
}

static void password_alphabet(void **state)
{
    (void)state;
    static const char want[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t all[256];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (uint8_t)i;
    PFX_AUTOSECRET struct pfx_secret *s = secret_of(all, sizeof all);
    pfx_password_from_random(s);
    for (size_t i = 0; i < sizeof all; i++)
        assert_int_equal(pfx_secret_bytes(s)[i], want[i % 64]);
    enum pfx_profile profile = PFX_PROFILE_MODERN;
    assert_true(pfx_profile_parse("modern", &profile));
    assert_string_equal(pfx_profile_name(profile), "modern");
    assert_true(pfx_profile_parse("compat", &profile));
    assert_int_equal(profile, PFX_PROFILE_COMPAT);
    assert_false(pfx_profile_parse("Modern", &profile));
    assert_false(pfx_profile_parse("", &profile));
    assert_string_equal(pfx_profile_name(profile), "compat");
    assert_string_equal(pfx_profile_name(PFX_PROFILE_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tool_test(rsa_2048),
        tool_test(ec_p256),
        tool_test(ec_p384),
        tool_test(compat_rsa_2048),
        tool_test(compat_ec_p384),
        tool_test(encryption_is_openssls),
        tool_test(compat_encryption_is_openssls),
        cmocka_unit_test(draws_differ),
        tool_test(wrong_input_leaves_out_alone),
        cmocka_unit_test(trimming),
        cmocka_unit_test(password_alphabet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
