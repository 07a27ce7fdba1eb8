/* Signatures of people: what ssh-keygen signs is taken, and nothing else. */
#include "crypto_test.h"

#include <string.h>

#include "crypto/roster.h"
#include "crypto_tool.h"

#define NAMESPACE "pfx-agent"

struct signed_one {
    const char *type, *bits; /* of ssh-keygen; bits NULL: a security key's, by the oracle */
    struct pfx_buf blob;
    struct pfx_buf pub; /* line of its public key */
};
static const struct {
    const char *type, *bits;
    enum pfx_ssh_type is;
} kinds[] = {
    {"ed25519", "256", PFX_SSH_ED25519},      {"ecdsa", "256", PFX_SSH_ECDSA_256},
    {"ecdsa", "384", PFX_SSH_ECDSA_384},      {"ecdsa", "521", PFX_SSH_ECDSA_521},
    {"rsa", "2048", PFX_SSH_RSA},             {"rsa", "4096", PFX_SSH_RSA},
    {"sk-ed25519", NULL, PFX_SSH_SK_ED25519}, {"sk-ecdsa", NULL, PFX_SSH_SK_ECDSA},
};
#define KINDS (sizeof kinds / sizeof kinds[0])
#define MESSAGE BYTES("{\"command\":\"key.destroy\"}")

static void signed_done(struct signed_one *one)
{
    pfx_buf_done(&one->blob);
    pfx_buf_done(&one->pub);
}

/* A fresh key and its signature over the message; flags: of a security key. */
static struct signed_one sign_by(const char *dir, size_t kind, const char *namespace,
                                 const char *flags)
{
    struct signed_one one = {.blob = pfx_buf_make(PFX_SSHSIG_MAX)};
    ERROR(err);
    tool_write(dir, "message", BYTES("{\"command\":\"key.destroy\"}"));
    tool_run(dir, NULL, "/bin/rm", "-f", "key", "key.pub", "message.sig", NULL);
    if (kinds[kind].bits) {
        tool_must(dir, NULL, "ssh-keygen", "-q", "-t", kinds[kind].type, "-b", kinds[kind].bits,
                  "-N", "", "-C", "a comment", "-f", "key", NULL);
        tool_must(dir, NULL, "ssh-keygen", "-Y", "sign", "-f", "key", "-n", namespace, "message",
                  NULL);
    } else {
        tool_must(dir, NULL, "/usr/bin/python3", "-B", SSH_ORACLE, kinds[kind].type, "key",
                  "message", flags, namespace, NULL);
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = tool_read(dir, "message.sig");
    assert_ok(pfx_sshsig_unarmor(pfx_buf_bytes(&text), &one.blob, &err), &err);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_SSHSIG_TEXT_MAX);
    assert_true(pfx_sshsig_armor(pfx_buf_bytes(&one.blob), &again));
    assert_string_equal(pfx_buf_str(&again), pfx_buf_str(&text));
    one.pub = tool_read(dir, "key.pub");
    return one;
}

static bool verifies(struct pfx_bytes blob, const char *namespace, struct pfx_bytes text,
                     struct pfx_error *err)
{
    struct pfx_sshsig sig;
    return pfx_ok(pfx_sshsig_parse(blob, &sig, err)) &&
           pfx_ok(pfx_sshsig_verify(&sig, namespace, text, err));
}

/* Every kind: it is taken as it is, by its key and for this message and namespace alone, and with no
 * byte of it changed. */
static void every_kind(void **state)
{
    for (size_t i = 0; i < KINDS; i++) {
        PFX_CLEANUP(signed_done) struct signed_one one = sign_by(*state, i, NAMESPACE, "1");
        struct pfx_bytes blob = pfx_buf_bytes(&one.blob);
        struct pfx_sshsig sig;
        PFX_CLEANUP(pfx_ssh_key_done) struct pfx_ssh_key key = {.type = PFX_SSH_TYPE_COUNT};
        ERROR(err);
        assert_ok(pfx_sshsig_parse(blob, &sig, &err), &err);
        assert_ok(pfx_ssh_key_parse(sig.key, &key, &err), &err);
        assert_int_equal(key.type, kinds[i].is);
        assert_ok(pfx_sshsig_verify(&sig, NAMESPACE, MESSAGE, &err), &err);
        assert_class(pfx_sshsig_verify(&sig, NAMESPACE, BYTES("{}"), &err), PFX_CLASS_REFUSED);
        assert_string_equal(err.code, "signature");
        err = PFX_ERROR_NONE;
        assert_class(pfx_sshsig_verify(&sig, "file", MESSAGE, &err), PFX_CLASS_REFUSED);
        assert_string_equal(err.code, "namespace");

        for (size_t at = 0; at < one.blob.len; at++) {
            one.blob.data[at] ^= 1;
            err = PFX_ERROR_NONE;
            if (verifies(blob, NAMESPACE, MESSAGE, &err))
                fail_msg("%s with byte %zu changed is taken", kinds[i].type, at);
            assert_int_equal(err.cls, PFX_CLASS_REFUSED);
            one.blob.data[at] ^= 1;
        }
        for (size_t len = 0; len < one.blob.len; len += 1 + len / 64)
            assert_false(verifies((struct pfx_bytes){blob.data, len}, NAMESPACE, MESSAGE, NULL));
        assert_true(verifies(blob, NAMESPACE, MESSAGE, &err));
    }
}

static void other_namespace(void **state)
{
    PFX_CLEANUP(signed_done) struct signed_one one = sign_by(*state, 0, "git", "1");
    ERROR(err);
    assert_false(verifies(pfx_buf_bytes(&one.blob), NAMESPACE, MESSAGE, &err));
    assert_string_equal(err.code, "namespace");
    assert_true(verifies(pfx_buf_bytes(&one.blob), "git", MESSAGE, NULL));
}

static void untouched(void **state)
{
    for (size_t i = 6; i < KINDS; i++) {
        PFX_CLEANUP(signed_done) struct signed_one one = sign_by(*state, i, NAMESPACE, "0");
        ERROR(err);
        assert_false(verifies(pfx_buf_bytes(&one.blob), NAMESPACE, MESSAGE, &err));
        assert_string_equal(err.code, "user presence");
    }
}

/* The fingerprint that ssh-keygen -l prints. */
static void fingerprint(void **state)
{
    PFX_CLEANUP(signed_done) struct signed_one one = sign_by(*state, 0, NAMESPACE, "1");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf said = pfx_buf_make(4096);
    struct pfx_sshsig sig;
    char text[PFX_SSH_FINGERPRINT_SIZE];
    ERROR(err);
    tool_must(*state, &said, "ssh-keygen", "-l", "-f", "key.pub", NULL);
    assert_ok(pfx_sshsig_parse(pfx_buf_bytes(&one.blob), &sig, &err), &err);
    assert_non_null(strstr(pfx_buf_str(&said), pfx_ssh_fingerprint(sig.key, text)));
}

static void weak_rsa(void **state)
{
    ERROR(err);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(PFX_SSHSIG_MAX);
    tool_write(*state, "message", MESSAGE);
    tool_must(*state, NULL, "ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "key",
              NULL);
    tool_must(*state, NULL, "ssh-keygen", "-Y", "sign", "-f", "key", "-n", NAMESPACE, "message",
              NULL);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = tool_read(*state, "message.sig");
    assert_ok(pfx_sshsig_unarmor(pfx_buf_bytes(&text), &blob, &err), &err);
    assert_false(verifies(pfx_buf_bytes(&blob), NAMESPACE, MESSAGE, &err));
    assert_non_null(strstr(err.text, "2048"));
}

static void armor(void **state)
{
    static const char *const wrong[] = {
        "",
        "-----BEGIN SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nQUJD\n-----END SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\nQUJ\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nQUJD\n-----END SSH SIGNATURE-----\n\n",
        "x\n-----BEGIN SSH SIGNATURE-----\nQUJD\n-----END SSH SIGNATURE-----\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_SSHSIG_MAX);
        ERROR(err);
        struct pfx_bytes text = {(const uint8_t *)wrong[i], strlen(wrong[i])};
        assert_class(pfx_sshsig_unarmor(text, &out, &err), PFX_CLASS_REFUSED);
        assert_int_equal(out.len, 0);
    }
}

/* --- rosters --- */

#define KEY_A "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
#define KEY_B "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM"
#define DAY(ms) (INT64_C(86400000) * (ms))

static pfx_result parse(const char *text, struct pfx_roster *ret, struct pfx_error *err)
{
    return pfx_roster_parse((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, ret, err);
}

static void roster(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
    ERROR(err);
    assert_ok(parse("# people\n\nann@x.test " KEY_A " her laptop\r\n"
                    "ann@x.test namespaces=\"git,pfx-*\",valid-after=\"19700102Z\","
                    "valid-before=\"197001031200Z\" " KEY_B "\n",
                    &roster, &err),
              &err);
    assert_int_equal(roster.n, 2);
    assert_int_equal(pfx_roster_people(&roster), 1);
    assert_true(pfx_roster_names(&roster, "ann@x.test"));
    assert_false(pfx_roster_names(&roster, "ann"));
    const struct pfx_roster_line *plain = &roster.lines[0], *bound = &roster.lines[1];
    assert_ptr_equal(
        pfx_roster_find(&roster, (struct pfx_bytes){bound->key, bound->key_len}), bound);
    assert_ptr_equal(pfx_roster_find(&roster, BYTES("x")), NULL);
    assert_ok(pfx_roster_allows(plain, NAMESPACE, 0, &err), &err);
    assert_ok(pfx_roster_allows(bound, NAMESPACE, DAY(1), &err), &err);
    assert_ok(pfx_roster_allows(bound, NAMESPACE, DAY(5) / 2, &err), &err);
    assert_class(pfx_roster_allows(bound, NAMESPACE, DAY(1) - 1, &err), PFX_CLASS_REFUSED);
    assert_string_equal(err.code, "not yet");
    err = PFX_ERROR_NONE;
    assert_class(pfx_roster_allows(bound, NAMESPACE, DAY(5) / 2 + 1, &err), PFX_CLASS_REFUSED);
    assert_string_equal(err.code, "no longer");
    err = PFX_ERROR_NONE;
    assert_class(pfx_roster_allows(bound, "file", DAY(2), &err), PFX_CLASS_REFUSED);
    assert_string_equal(err.code, "namespace");
}

static void namespaces(void **state)
{
    static const struct {
        const char *list;
        bool yes;
    } rows[] = {
        {"pfx-agent", true},  {"*", true},         {"git,file", false},      {"pfx-agent2", false},
        {"?fx-agent", true},  {"pfx", false},      {"*,!pfx-agent", false},  {"!git,*", true},
        {"p*a*t", true},      {"p*a*x", false},    {"git,pfx-agent", true},  {"!pfx-*,*", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
        char *text PFX_AUTOFREE = pfx_asprintf("a namespaces=\"%s\" " KEY_A, rows[i].list);
        ERROR(err);
        assert_ok(parse(text, &roster, &err), &err);
        assert_int_equal(pfx_ok(pfx_roster_allows(roster.lines, NAMESPACE, 0, &err)), rows[i].yes);
    }
}

static void bad_rosters(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"a cert-authority " KEY_A, "cert-authority"},
        {"a CERT-AUTHORITY,namespaces=\"x\" " KEY_A, "cert-authority"},
        {"*@x.test " KEY_A, "one person"},
        {"a,b " KEY_A, "one person"},
        {"\"a\" " KEY_A, "one person"},
        {"!a " KEY_A, "one person"},
        {"a " KEY_A "\nb " KEY_A, "line 1"},
        {"a " KEY_A "\nA " KEY_B, "case"},
        {"a valid-after=\"20260101\" " KEY_A, "with the Z"},
        {"a valid-before=\"20261301Z\" " KEY_A, "with the Z"},
        {"a valid-before=\"2026010Z\" " KEY_A, "with the Z"},
        {"a valid-before=\"20260101Z\",valid-before=\"20270101Z\" " KEY_A, "with the Z"},
        {"a no-touch-required " KEY_A, "option"},
        {"a namespaces=\"\" " KEY_A, "option"},
        {"a namespaces=\"pfx-agent,caf\xe9\" " KEY_A, "ASCII"},
        {"a ssh-ed25519", "public key of SSH"},
        {"a valid-after=20260101Z " KEY_A, "quotes"},
        {"a ssh-ed25519 AAAA!", "Base64"},
        {"a ssh-ed25519 AAAA", "public key of SSH"},
        {"a ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
         "type that stands"},
        {"a ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1EaAA==",
         "behind it"},
        {"a", "option"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
        ERROR(err);
        if (pfx_ok(parse(rows[i].text, &roster, &err)) || !strstr(err.text, rows[i].says))
            fail_msg("%s: \"%s\"", rows[i].text, err.text);
        assert_int_equal(err.cls, PFX_CLASS_REFUSED);
        assert_int_equal(roster.n, 0);
    }
}

/* A line that we take is one that ssh-keygen -Y verify takes, with the same answer. */
static void same_as_ssh_keygen(void **state)
{
    static const char *const options[] = {
        "",
        "namespaces=\"git,pfx-*\" ",
        "namespaces=\"git\" ",
        "valid-after=\"20200101Z\" ",
        "valid-after=\"29990101Z\" ",
        "valid-before=\"202001010000Z\" ",
        "valid-before=\"29990101000000Z\",namespaces=\"!pfx-agent,*\" ",
    };
    PFX_CLEANUP(signed_done) struct signed_one one = sign_by(*state, 1, NAMESPACE, "1");
    struct pfx_sshsig sig;
    ERROR(err);
    assert_ok(pfx_sshsig_parse(pfx_buf_bytes(&one.blob), &sig, &err), &err);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
        char *line PFX_AUTOFREE = pfx_asprintf("ann@x.test %s%s", options[i], pfx_buf_str(&one.pub));
        tool_write(*state, "roster", (struct pfx_bytes){(const uint8_t *)line, strlen(line)});
        bool theirs = tool_run(*state, NULL, "/bin/sh", "-c",
                               "ssh-keygen -Y verify -f roster -I ann@x.test -n pfx-agent "
                               "-s message.sig < message",
                               NULL) == 0;
        err = PFX_ERROR_NONE;
        assert_ok(parse(line, &roster, &err), &err);
        const struct pfx_roster_line *found = pfx_roster_find(&roster, sig.key);
        assert_non_null(found);
        /* 2026: between all dates above */
        bool ours = pfx_ok(pfx_roster_allows(found, NAMESPACE, DAY(20500), &err)) &&
                    pfx_ok(pfx_sshsig_verify(&sig, NAMESPACE, MESSAGE, &err));
        if (ours != theirs)
            fail_msg("\"%s\": ssh-keygen says %d, we say %d", options[i], theirs, ours);
    }
}

int main(void)
{
    if (!tool_have("ssh-keygen"))
        return 77;
    const struct CMUnitTest tests[] = {
        tool_test(every_kind),   tool_test(other_namespace),
        tool_test(untouched),    tool_test(fingerprint),
        tool_test(weak_rsa),     cmocka_unit_test(armor),
        cmocka_unit_test(roster), cmocka_unit_test(namespaces),
        cmocka_unit_test(bad_rosters), tool_test(same_as_ssh_keygen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
