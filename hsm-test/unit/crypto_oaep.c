/* OAEP and PSS against the openssl command and encodings made by Python. */
#include "crypto_test.h"
#include "crypto_tool.h"

#include <stdio.h>
#include <string.h>

#include "crypto/oaep.h"

static const enum pfx_hash used[] = {PFX_HASH_SHA256, PFX_HASH_SHA384, PFX_HASH_SHA512,
                                     PFX_HASH_SHA1};
#define N_USED (sizeof used / sizeof *used)

/* key.pem, pub.der, pub.pem in dir. */
static void make_key(const char *dir, unsigned bits)
{
    PFX_AUTOFREE char *size = pfx_asprintf("%u", bits);
    tool_must(dir, NULL, TOOL_PYTHON, "rsa", size, NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out",
              "pub.der", NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem", NULL);
}

static struct pfx_secret *secret_of(const void *data, size_t len)
{
    ERROR(err);
    struct pfx_secret *secret = NULL;
    assert_ok(pfx_secret_copy(data, len, &secret, &err), &err);
    return secret;
}

static void room(void **state)
{
    (void)state;
    /* graph.md's table */
    static const size_t want[3][3] = {{190, 158, 126}, {318, 286, 254}, {446, 414, 382}};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++)
            assert_int_equal(pfx_oaep_room(256 + 128 * i, used[j]), want[i][j]);
    }
    assert_int_equal(pfx_oaep_room(130, PFX_HASH_SHA512), 0);
    assert_int_equal(pfx_oaep_room(256, PFX_HASH_SHA1), 214);
}

static void opened_by_openssl(const char *dir, enum pfx_hash hash, const struct pfx_buf *sealed,
                              const struct pfx_secret *plain)
{
    assert_int_equal(sealed->len, 256);
    tool_write(dir, "sealed", pfx_buf_bytes(sealed));
    PFX_AUTOFREE char *md = pfx_asprintf("rsa_oaep_md:%s", pfx_hash_name(hash));
    PFX_AUTOFREE char *mgf = pfx_asprintf("rsa_mgf1_md:%s", pfx_hash_name(hash));
    tool_must(dir, NULL, "openssl", "pkeyutl", "-decrypt", "-inkey", "key.pem", "-in", "sealed",
              "-out", "opened", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", md, "-pkeyopt",
              mgf, NULL);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf opened = tool_read(dir, "opened");
    assert_int_equal(opened.len, pfx_secret_len(plain));
    assert_true(opened.len == 0 || memcmp(opened.data, pfx_secret_bytes(plain), opened.len) == 0);
}

static void sealed_is_opened_by_openssl(void **state)
{
    const char *dir = *state;
    make_key(dir, 2048);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = tool_read(dir, "pub.der");
    for (size_t i = 0; i < N_USED; i++) {
        size_t max = pfx_oaep_room(256, used[i]), lengths[] = {0, 1, 32, max};
        for (size_t j = 0; j < 4; j++) {
            uint8_t text[256];
            memset(text, 'p', sizeof text);
            PFX_AUTOSECRET struct pfx_secret *plain = secret_of(text, lengths[j]);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf sealed = pfx_buf_make(1024);
            ERROR(err);
            assert_ok(pfx_oaep_seal(pfx_buf_bytes(&spki), used[i], plain, &sealed, &err), &err);
            opened_by_openssl(dir, used[i], &sealed, plain);
            /* The same in two steps, of which a token can do the second. */
            PFX_AUTOSECRET struct pfx_secret *encoded = NULL;
            assert_ok(pfx_oaep_pad(plain, used[i], 256, &encoded, &err), &err);
            pfx_buf_cut(&sealed, 0);
            assert_ok(pfx_rsa_public(pfx_buf_bytes(&spki), encoded, &sealed, &err), &err);
            opened_by_openssl(dir, used[i], &sealed, plain);
        }
    }
}

static void too_much_is_refused(void **state)
{
    const char *dir = *state;
    make_key(dir, 2048);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = tool_read(dir, "pub.der");
    uint8_t text[127] = {0};
    PFX_AUTOSECRET struct pfx_secret *plain = secret_of(text, sizeof text);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1024);
    ERROR(err);
    assert_class(pfx_oaep_seal(pfx_buf_bytes(&spki), PFX_HASH_SHA512, plain, &out, &err),
                 PFX_CLASS_USAGE);
    assert_class(pfx_oaep_seal(BYTES("rubbish"), PFX_HASH_SHA256, plain, &out, NULL),
                 PFX_CLASS_USAGE);
    PFX_AUTOSECRET struct pfx_secret *encoded = NULL;
    assert_class(pfx_oaep_pad(plain, PFX_HASH_SHA512, 256, &encoded, &err), PFX_CLASS_USAGE);
    assert_class(pfx_rsa_public(pfx_buf_bytes(&spki), plain, &out, NULL), PFX_CLASS_USAGE);
    assert_int_equal(out.len, 0);
    tool_must(dir, NULL, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
              "ec_paramgen_curve:P-256", "-out", "key.pem", NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out",
              "ec.der", NULL);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf ec = tool_read(dir, "ec.der");
    assert_class(pfx_oaep_seal(pfx_buf_bytes(&ec), PFX_HASH_SHA256, plain, &out, NULL),
                 PFX_CLASS_USAGE);
}

static void openssl_seals_and_we_unpad(void **state)
{
    const char *dir = *state;
    make_key(dir, 2048);
    tool_write(dir, "plain", BYTES("correct horse battery staple"));
    for (size_t i = 0; i < 3; i++) {
        PFX_AUTOFREE char *md = pfx_asprintf("rsa_oaep_md:%s", pfx_hash_name(used[i]));
        PFX_AUTOFREE char *mgf = pfx_asprintf("rsa_mgf1_md:%s", pfx_hash_name(used[i]));
        tool_must(dir, NULL, "openssl", "pkeyutl", "-encrypt", "-inkey", "key.pem", "-in", "plain",
                  "-out", "sealed", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", md, "-pkeyopt",
                  mgf, NULL);
        tool_must(dir, NULL, "openssl", "pkeyutl", "-decrypt", "-inkey", "key.pem", "-in", "sealed",
                  "-out", "raw", "-pkeyopt", "rsa_padding_mode:none", NULL);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = tool_read(dir, "raw");
        assert_int_equal(raw.len, 256);
        PFX_AUTOSECRET struct pfx_secret *encoded = secret_of(raw.data, raw.len);
        PFX_AUTOSECRET struct pfx_secret *plain = NULL;
        ERROR(err);
        assert_ok(pfx_oaep_unpad(encoded, used[i], &plain, &err), &err);
        assert_int_equal(pfx_secret_len(plain), 28);
        assert_memory_equal(pfx_secret_bytes(plain), "correct horse battery staple", 28);
    }
}

static void unpad_file(const char *dir, const char *name, enum pfx_hash hash, const char *want,
                       size_t want_len)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf em = tool_read(dir, name);
    PFX_AUTOSECRET struct pfx_secret *encoded = secret_of(em.data, em.len);
    PFX_AUTOSECRET struct pfx_secret *plain = NULL;
    ERROR(err);
    if (!want) {
        assert_class(pfx_oaep_unpad(encoded, hash, &plain, &err), PFX_CLASS_INTEGRITY);
        assert_null(plain);
        assert_string_equal(err.text,
                            "The ciphertext isn't one sealed to this key with this hash.");
        assert_string_equal(err.code, "");
        return;
    }
    assert_ok(pfx_oaep_unpad(encoded, hash, &plain, &err), &err);
    assert_int_equal(pfx_secret_len(plain), want_len);
    assert_memory_equal(pfx_secret_bytes(plain), want, want_len);
}

static void every_defect_has_one_error(void **state)
{
    const char *dir = *state;
    static const char *const bad[] = {"bad-first",   "bad-lhash",     "bad-label",
                                      "bad-fill",    "bad-fill-late", "bad-mark",
                                      "bad-no-mark", "bad-other-hash"};
    for (size_t i = 0; i < 3; i++) {
        tool_must(dir, NULL, TOOL_PYTHON, "oaep", pfx_hash_name(used[i]), "256", NULL);
        unpad_file(dir, "good", used[i], "hello\0\1world", 12);
        unpad_file(dir, "good-empty", used[i], "", 0);
        char full[256];
        memset(full, 1, sizeof full);
        unpad_file(dir, "good-full", used[i], full, pfx_oaep_room(256, used[i]));
        for (size_t j = 0; j < sizeof bad / sizeof bad[0]; j++)
            unpad_file(dir, bad[j], used[i], NULL, 0);
        unpad_file(dir, "good", used[(i + 1) % 3], NULL, 0);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf em = tool_read(dir, "good");
        for (size_t at = 0; at < em.len; at++) {
            static const uint8_t flips[] = {0x01, 0x80, 0xFF};
            for (size_t j = 0; j < sizeof flips; j++) {
                em.data[at] ^= flips[j];
                tool_write(dir, "one", pfx_buf_bytes(&em));
                unpad_file(dir, "one", used[i], NULL, 0);
                em.data[at] ^= flips[j];
            }
        }
        tool_write(dir, "one", (struct pfx_bytes){em.data, em.len - 1});
        unpad_file(dir, "one", used[i], NULL, 0);
        tool_write(dir, "one", (struct pfx_bytes){NULL, 0});
        unpad_file(dir, "one", used[i], NULL, 0);
    }
}

static void pss_is_verified_by_openssl(void **state)
{
    const char *dir = *state;
    static const unsigned sizes[] = {2048, 2049, 2047, 3072}; /* the odd ones shift the top bits */
    tool_write(dir, "data", BYTES("to be signed"));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        make_key(dir, sizes[i]);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = tool_read(dir, "pub.der");
        for (size_t j = 0; j < 3; j++) {
            uint8_t digest[64];
            size_t len;
            assert_true(pfx_digest(used[j], "to be signed", 12, digest, &len));
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf em = pfx_buf_make(1024);
            ERROR(err);
            assert_ok(pfx_pss_encode((struct pfx_bytes){digest, len}, used[j], sizes[i], &em, &err),
                      &err);
            assert_int_equal(em.len, (sizes[i] + 7) / 8);
            tool_write(dir, "em", pfx_buf_bytes(&em));
            tool_must(dir, NULL, "openssl", "pkeyutl", "-decrypt", "-inkey", "key.pem", "-in", "em",
                      "-out", "sig", "-pkeyopt", "rsa_padding_mode:none", NULL);
            PFX_AUTOFREE char *md = pfx_asprintf("-%s", pfx_hash_name(used[j]));
            tool_must(dir, NULL, "openssl", "dgst", md, "-verify", "pub.pem", "-signature", "sig",
                      "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest",
                      "data", NULL);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf sig = tool_read(dir, "sig");
            assert_ok(pfx_verify_digest(pfx_buf_bytes(&spki), used[j],
                                        (struct pfx_bytes){digest, len}, pfx_buf_bytes(&sig), true,
                                        &err),
                      &err);
            assert_class(pfx_verify_digest(pfx_buf_bytes(&spki), used[j],
                                           (struct pfx_bytes){digest, len}, pfx_buf_bytes(&sig),
                                           false, NULL),
                         PFX_CLASS_INTEGRITY);
        }
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf em = pfx_buf_make(1024);
    uint8_t digest[32] = {0};
    assert_class(pfx_pss_encode((struct pfx_bytes){digest, 31}, PFX_HASH_SHA256, 2048, &em, NULL),
                 PFX_CLASS_USAGE);
    assert_class(pfx_pss_encode((struct pfx_bytes){digest, 32}, PFX_HASH_SHA256, 512, &em, NULL),
                 PFX_CLASS_USAGE);
    assert_class(pfx_pss_encode((struct pfx_bytes){digest, 32}, PFX_HASH_SHA256, 0, &em, NULL),
                 PFX_CLASS_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tool_test(room),
        tool_test(sealed_is_opened_by_openssl),
        tool_test(too_much_is_refused),
        tool_test(openssl_seals_and_we_unpad),
        tool_test(every_defect_has_one_error),
        tool_test(pss_is_verified_by_openssl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
