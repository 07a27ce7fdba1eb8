/* Keys of a log's signers and the lines that name them. */
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto_tool.h"
#include "log_test.h"

static void key_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {REKOR_KEY, ED25519_KEY};
    static const enum pfx_note_type types[] = {PFX_NOTE_P256, PFX_NOTE_ED25519};
    for (size_t i = 0; i < 2; i++) {
        PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(lines[i]), other = {0};
        char line[PFX_VKEY_LINE_SIZE];
        assert_int_equal(key.type, types[i]);
        assert_string_equal(pfx_vkey_line(&key, line), lines[i]);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(100);
        ERROR(err);
        assert_ok(pfx_vkey_spki(&key, &spki, &err), &err);
        assert_ok(pfx_vkey_make(key.name, pfx_buf_bytes(&spki), &other, &err), &err);
        assert_true(pfx_vkey_equal(&key, &other));
        assert_memory_equal(key.id, other.id, 4);
        uint8_t digest[32];
        assert_true(pfx_sha256(spki.data, spki.len, digest));
        assert_memory_equal(key.spki_sha256, digest, 32);
        pfx_vkey_done(&other);
        assert_ok(pfx_vkey_make("other", pfx_buf_bytes(&spki), &other, &err), &err);
        assert_false(pfx_vkey_equal(&key, &other));
        /* An ECDSA id doesn't depend on the name, an Ed25519 one does. */
        assert_true((memcmp(key.id, other.id, 4) == 0) == (key.type == PFX_NOTE_P256));
    }
}

/* A point that isn't on the curve, with the id that it would have. */
#define OFF_CURVE_KEY                                                                              \
    "rekor.sigstore.dev+337e4160+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBc" \
    "K5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLg="

static void key_lines_are_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "+",
        "++",
        "name",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a3+",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", /* id */
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann++ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", /* name */
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TX", /* key */
        "PeterNeumann+c74f20a3+BBpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", /* type 4 */
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", /* type 2 */
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWAA==",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n",
        " PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq_LDE4izWy10TW",
        REKOR_KEY "\n",
        REKOR_KEY "AAAA",
        OFF_CURVE_KEY,
        /* Ed25519's SubjectPublicKeyInfo under type 2. */
        "PeterNeumann+c74f20a3+AjAqMAUGAytlcAMhABpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct pfx_vkey key = {.type = 77};
        ERROR(err);
        pfx_result r = pfx_vkey_parse(bad[i], &key, &err);
        if (r.cls != PFX_CLASS_REFUSED || key.type != 77 || key.pkey || !err.text[0])
            fail_msg("class %d for %s", r.cls, bad[i]);
    }
}

static void every_character_counts(void **state)
{
    (void)state;
    static const char *const lines[] = {REKOR_KEY, ED25519_KEY};
    for (size_t i = 0; i < 2; i++) {
        PFX_AUTOFREE char *line = pfx_strdup(lines[i]);
        /* The id of an ECDSA key doesn't depend on the name. */
        for (char *at = i == 0 ? strchr(line, '+') : line; *at; at++) {
            struct pfx_vkey key = {0};
            *at ^= 1;
            assert_class(pfx_vkey_parse(line, &key, NULL), PFX_CLASS_REFUSED);
            *at ^= 1;
        }
    }
}

static void key_names(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(REKOR_KEY);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(100);
    ERROR(err);
    assert_ok(pfx_vkey_spki(&key, &spki, &err), &err);
    char longest[PFX_ORIGIN_SIZE + 1];
    memset(longest, 'a', sizeof longest);
    longest[PFX_ORIGIN_SIZE] = '\0';
    const char *const bad[] = {
        "",      " ",         "a b",           "a+b",          "a\n",       "\ta",  "a\x7f",
        "a\x80", "a\xC2\xA0", "a\xE2\x80\x83", "\xE3\x80\x80", "a\xC2\x85", longest};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_class(pfx_vkey_make(bad[i], pfx_buf_bytes(&spki), &key, NULL), PFX_CLASS_USAGE);
    /* The dash isn't a space, and the longest name still fits into every buffer. */
    const char *const good[] = {"a/1", "a\xE2\x80\x94", "J\xC3\xBCrgen", longest + 1};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey one = {0}, two = {0};
        char line[PFX_VKEY_LINE_SIZE];
        assert_ok(pfx_vkey_make(good[i], pfx_buf_bytes(&spki), &one, &err), &err);
        assert_ok(pfx_vkey_parse(pfx_vkey_line(&one, line), &two, &err), &err);
        assert_true(pfx_vkey_equal(&one, &two));
    }
    spki.data[spki.len - 1] ^= 1;
    assert_class(pfx_vkey_make("a", pfx_buf_bytes(&spki), &key, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_vkey_make("a", BYTES(""), &key, NULL), PFX_CLASS_USAGE);
}

/* Other curves, sizes and spellings of a key aren't taken. */
static void foreign_keys(void **state)
{
    const char *dir = *state;
    if (!tool_have("openssl"))
        return;
    static const char *const options[][3] = {
        {"EC", "ec_paramgen_curve:P-384", "named_curve"},
        {"EC", "ec_paramgen_curve:secp256k1", "named_curve"},
        {"EC", "ec_paramgen_curve:SM2", "named_curve"}, /* as long as one on P-256 */
        {"EC", "ec_paramgen_curve:P-256", "explicit"},
        {"RSA", "rsa_keygen_bits:2048", NULL},
        {"X25519", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        PFX_AUTOFREE char *encoding =
            pfx_asprintf("ec_param_enc:%s", options[i][2] ? options[i][2] : "");
        const char *opt = options[i][1] ? "-pkeyopt" : NULL;
        tool_must(dir, NULL, "openssl", "genpkey", "-algorithm", options[i][0], "-out", "key.pem",
                  opt, options[i][1], options[i][2] ? "-pkeyopt" : NULL, encoding, NULL);
        tool_must(dir, NULL, "openssl", "pkey", "-in", "key.pem", "-pubout", "-outform", "DER",
                  "-out", "key.der", NULL);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = tool_read(dir, "key.der");
        struct pfx_vkey key = {0};
        assert_class(pfx_vkey_make("a", pfx_buf_bytes(&spki), &key, NULL), PFX_CLASS_USAGE);
        assert_null(key.pkey);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_lines),
        cmocka_unit_test(key_lines_are_strict),
        cmocka_unit_test(every_character_counts),
        cmocka_unit_test(key_names),
        tool_test(foreign_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
