/* Checkpoints: real ones, openssl's signatures, and hostile texts. */
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto_tool.h"
#include "log_test.h"

static void assert_verify(const char *note, size_t len, const struct pfx_vkey *keys, size_t n,
                          uint64_t want)
{
    struct pfx_checkpoint checkpoint;
    ERROR(err);
    assert_ok(
        pfx_checkpoint_parse((struct pfx_bytes){(const uint8_t *)note, len}, &checkpoint, &err),
        &err);
    uint64_t have = 77;
    assert_ok(pfx_checkpoint_verify(&checkpoint, keys, n, &have, &err), &err);
    assert_int_equal(have, want);
    assert_ok(pfx_checkpoint_verify(&checkpoint, keys, n, NULL, &err), &err);
}

/* Parses, then must fail to verify, with a word in the text that says why. */
static void assert_tampered(const char *note, const struct pfx_vkey *keys, size_t n,
                            const char *word)
{
    struct pfx_checkpoint checkpoint;
    ERROR(err);
    assert_ok(pfx_checkpoint_parse((struct pfx_bytes){(const uint8_t *)note, strlen(note)},
                                   &checkpoint, &err),
              &err);
    uint64_t have = 77;
    assert_class(pfx_checkpoint_verify(&checkpoint, keys, n, &have, &err), PFX_CLASS_INTEGRITY);
    assert_int_equal(have, 77);
    if (!strstr(err.text, word))
        fail_msg("%s isn't said in: %s", word, err.text);
}

static void real_checkpoint(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(REKOR_KEY);
    struct pfx_checkpoint checkpoint;
    ERROR(err);
    assert_ok(pfx_checkpoint_parse(BYTES(REKOR_NOTE), &checkpoint, &err), &err);
    assert_string_equal(checkpoint.origin, "Rekor");
    assert_int_equal(checkpoint.size, 798034);
    assert_int_equal(checkpoint.n_signatures, 1);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_CHECKPOINT_MAX);
    pfx_checkpoint_text(&checkpoint, &text);
    assert_string_equal(pfx_buf_str(&text), REKOR_TEXT);
    pfx_buf_reset(&text);
    pfx_checkpoint_write(&checkpoint, &text);
    assert_string_equal(pfx_buf_str(&text), REKOR_NOTE);
    assert_verify(REKOR_NOTE, sizeof REKOR_NOTE - 1, &key, 1, 1);
}

/* No byte of a note can be changed: either its form is broken, or the signature, or nobody that is
 * known signed. */
static void every_byte_counts(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(REKOR_KEY);
    char note[] = REKOR_NOTE;
    static const uint8_t flips[] = {0x01, 0x20, 0x80, 0x03, 0x10};
    size_t form = 0, signature = 0;
    for (size_t i = 0; i < sizeof note - 1; i++) {
        for (size_t f = 0; f < sizeof flips + 2; f++) {
            char was = note[i];
            note[i] = f < sizeof flips ? (char)(was ^ flips[f]) : f == sizeof flips ? '\n' : '\0';
            struct pfx_checkpoint checkpoint;
            struct pfx_bytes bytes = {(uint8_t *)note, sizeof note - 1};
            if (note[i] != was) {
                pfx_result r = pfx_checkpoint_parse(bytes, &checkpoint, NULL);
                if (pfx_failed(r)) {
                    assert_class(r, PFX_CLASS_REFUSED);
                    form++;
                } else {
                    assert_class(pfx_checkpoint_verify(&checkpoint, &key, 1, NULL, NULL),
                                 PFX_CLASS_INTEGRITY);
                    signature++;
                }
            }
            note[i] = was;
        }
    }
    assert_true(form > 500 && signature > 300);
    for (size_t n = 0; n < sizeof note - 1; n++) { /* cut anywhere */
        struct pfx_checkpoint checkpoint;
        assert_class(
            pfx_checkpoint_parse((struct pfx_bytes){(uint8_t *)note, n}, &checkpoint, NULL),
            PFX_CLASS_REFUSED);
    }
}

#define LINE DASH " a AAAAAAA=\n" /* key id and one byte */
#define LINES4 LINE LINE LINE LINE

static void hostile_notes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        int line; /* that the message names; 0: it is taken */
    } notes[] = {
        NOTE("a\n7\n" ROOT "\n\n" LINE, 0), /* the frame of all that follow */
        NOTE("a\n0\n" ROOT "\n\n" LINE, 0),
        NOTE("a\n9007199254740991\n" ROOT "\n\n" LINE, 0),
        NOTE("", 1),
        NOTE("\n", 1),
        NOTE("a", 1),
        NOTE("\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("a b\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("a+b\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("a\xC2\xA0\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("a\xFF\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("a\0b\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("a\r\n7\n" ROOT "\n\n" LINE, 1),
        NOTE("\xEF\xBB\xBF"
             "a b\n7\n" ROOT "\n\n" LINE,
             1),
        NOTE("a\n\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n07\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n00\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n-7\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n+7\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n 7\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n7 \n" ROOT "\n\n" LINE, 2),
        NOTE("a\n7\r\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n7\0\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n0x7\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n7e1\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n9007199254740992\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n18446744073709551623\n" ROOT "\n\n" LINE, 2), /* 7 + 2^64 */
        NOTE("a\n7\n7\n" ROOT "\n\n" LINE, 3),
        NOTE("a\na\n7\n" ROOT "\n\n" LINE, 2),
        NOTE("a\n7\n\n" LINE, 3),
        NOTE("a\n7\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0\n\n" LINE, 3),
        NOTE("a\n7\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP1=\n\n" LINE, 3), /* spare bits */
        NOTE("a\n7\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=A\n\n" LINE, 3),
        NOTE("a\n7\nf-7CoKgXKE_tNys9TTXcr_ad6U_K3xvznmzew9y6SP0=\n\n" LINE, 3),
        NOTE("a\n7\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SA==\n\n" LINE, 3), /* 31 */
        NOTE("a\n7\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0A\n\n" LINE, 3), /* 33 */
        NOTE("a\n7\n" ROOT " \n\n" LINE, 3),
        NOTE("a\n7\n" ROOT "\r\n\n" LINE, 3),
        NOTE("a\n7\n" ROOT, 3),
        NOTE("a\n7\n" ROOT "\n", 4),
        NOTE("a\n7\n" ROOT "\n" LINE, 4),
        NOTE("a\n7\n" ROOT "\n\r\n" LINE, 4),
        NOTE("a\n7\n" ROOT "\n \n" LINE, 4),
        NOTE("a\n7\n" ROOT "\nextension\n\n" LINE, 4),
        NOTE("a\n7\n" ROOT "\n" ROOT "\n\n" LINE, 4),
        NOTE("a\n7\n" ROOT "\n\n", 5), /* nobody signed */
        NOTE("a\n7\n" ROOT "\n\n\n" LINE, 5),
        NOTE("a\n7\n" ROOT "\n\n" LINE "\n", 6),
        NOTE("a\n7\n" ROOT "\n\n" LINE "trailing", 6),
        NOTE("a\n7\n" ROOT "\n\n" LINE "trailing\n", 6),
        NOTE("a\n7\n" ROOT "\n\n" LINE "\0", 6),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a AAAAAAA=", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a AAAAAAA=\r\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a AAAAAAA= \n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH "  a AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a  AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a\tAAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH "a AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a+b AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a\xE2\x80\xA8 AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a\0 AAAAAAA=\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a AAAAAAB=\n", 5), /* spare bits */
        NOTE("a\n7\n" ROOT "\n\n" DASH " a AAAAAA==\n", 5), /* a key id alone */
        NOTE("a\n7\n" ROOT "\n\n" DASH " a AAAAAAA\n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a \n", 5),
        NOTE("a\n7\n" ROOT "\n\n" DASH " a\n", 5),
        NOTE("a\n7\n" ROOT "\n\n"
             "\xE2\x80\x93 a AAAAAAA=\n",
             5), /* en dash */
        NOTE("a\n7\n" ROOT "\n\n"
             "\xE2\x80\x95 a AAAAAAA=\n",
             5), /* bar */
        NOTE("a\n7\n" ROOT "\n\n"
             "- a AAAAAAA=\n",
             5),
        NOTE("a\n7\n" ROOT "\n\n"
             "\xE2\x80\n",
             5),
        NOTE("a\n7\n" ROOT "\n\n" LINES4 LINES4 LINES4 LINES4, 0),
        NOTE("a\n7\n" ROOT "\n\n" LINES4 LINES4 LINES4 LINES4 LINE, 21),
        NOTE("a\n7\n" ROOT "\n\n" LINES4 LINES4 "x\n" LINES4, 13),
        NOTE("a\r7\r" ROOT "\r\r" LINE, 1),
    };
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        struct pfx_checkpoint checkpoint = {.size = 77};
        ERROR(err);
        /* A copy of just this size: reading past it shows in the sanitizer build. */
        PFX_AUTOFREE uint8_t *copy = pfx_memdup(notes[i].text, notes[i].len);
        pfx_result r =
            pfx_checkpoint_parse((struct pfx_bytes){copy, notes[i].len}, &checkpoint, &err);
        if (notes[i].line == 0) {
            assert_ok(r, &err);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_CHECKPOINT_MAX);
            pfx_checkpoint_write(&checkpoint, &again);
            assert_string_equal(pfx_buf_str(&again), notes[i].text);
            continue;
        }
        char object[32];
        snprintf(object, sizeof object, "line %d", notes[i].line);
        if (r.cls != PFX_CLASS_REFUSED || checkpoint.size != 77 || strcmp(err.object, object) != 0)
            fail_msg("note %zu: class %d, %s: %s", i, r.cls, err.object, err.text);
    }
}

/* A line of an unknown signer, with `len` bytes of signature. */
static void add_line(struct pfx_buf *note, const char *name, size_t len)
{
    PFX_AUTOFREE uint8_t *raw = pfx_alloc(4 + len);
    assert_true(pfx_buf_addf(note, DASH " %s ", name));
    assert_true(pfx_base64_encode(raw, 4 + len, note));
    assert_true(pfx_buf_add_str(note, "\n"));
}

static void long_notes(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(REKOR_KEY);
    struct pfx_checkpoint checkpoint;
    char name[PFX_ORIGIN_SIZE + 1];
    memset(name, 'n', sizeof name);
    name[PFX_ORIGIN_SIZE] = '\0';
    /* A post-quantum cosignature of 4,627 bytes passes, and 14 others and a long name. */
    PFX_CLEANUP(pfx_buf_done)
    struct pfx_buf note = pfx_buf_make(20000), again = pfx_buf_make(20000);
    ERROR(err);
    assert_true(pfx_buf_add_str(&note, REKOR_NOTE));
    add_line(&note, name + 1, 4627);
    for (int i = 0; i < 14; i++)
        add_line(&note, "w", 72);
    assert_verify(pfx_buf_str(&note), note.len, &key, 1, 1);
    assert_ok(pfx_checkpoint_parse(pfx_buf_bytes(&note), &checkpoint, &err), &err);
    pfx_checkpoint_write(&checkpoint, &again);
    assert_string_equal(pfx_buf_str(&again), pfx_buf_str(&note));

    pfx_buf_reset(&note);
    assert_true(pfx_buf_add_str(&note, REKOR_NOTE));
    add_line(&note, name, 72); /* 128 bytes of name */
    assert_class(pfx_checkpoint_parse(pfx_buf_bytes(&note), &checkpoint, &err), PFX_CLASS_REFUSED);
    assert_string_equal(err.object, "line 6");

    pfx_buf_reset(&note);
    assert_true(pfx_buf_add_str(&note, REKOR_NOTE));
    add_line(&note, "w", 6200);
    assert_true(note.len > PFX_CHECKPOINT_MAX);
    assert_class(pfx_checkpoint_parse(pfx_buf_bytes(&note), &checkpoint, NULL), PFX_CLASS_REFUSED);
}

static void who_signed(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey rekor = vkey(REKOR_KEY);
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey peter = vkey(ED25519_KEY);
    /* The same key, and so the same id, under another name. */
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey alias = vkey(ALIAS_KEY);
    const struct pfx_vkey both[] = {peter, rekor}, twice[] = {rekor, rekor};
    assert_verify(REKOR_NOTE, sizeof REKOR_NOTE - 1, both, 2, 2);
    assert_verify(REKOR_NOTE, sizeof REKOR_NOTE - 1, twice, 2, 3);
    assert_tampered(REKOR_NOTE, &peter, 1, "None of the given keys");
    assert_tampered(REKOR_NOTE, &alias, 1, "None of the given keys");
    assert_tampered(REKOR_NOTE, NULL, 0, "None of the given keys");
    /* Two known keys of one name and id: the one that signed is told. */
    struct pfx_vkey clash[] = {peter, rekor};
    memcpy(clash[0].name, rekor.name, sizeof rekor.name);
    memcpy(clash[0].id, rekor.id, sizeof rekor.id);
    assert_verify(REKOR_NOTE, sizeof REKOR_NOTE - 1, clash, 2, 2);
    assert_tampered(REKOR_NOTE, clash, 1, "is bad");
    /* Lines of unknown signers pass, whatever is in them and wherever they stand; so do the known
     * name with another id, and the known id with another name. */
#define BEFORE REKOR_TEXT "\n"
#define OTHER_ID                                                                                   \
    DASH " rekor.sigstore.dev wNI9a"                                                               \
         "zBEAiARInWIWyCdyG27CO6LPnPe\n"
#define OTHER_NAME DASH " rekor.sigstore.dew " REKOR_SIGNATURE "\n"
    static const char passed[] = BEFORE LINE OTHER_ID OTHER_NAME REKOR_LINE LINE LINE;
    assert_verify(passed, sizeof passed - 1, &rekor, 1, 1);
    assert_verify(passed, sizeof passed - 1, both, 2, 2);
    assert_tampered(BEFORE OTHER_ID OTHER_NAME, &rekor, 1, "None of the given keys");
    /* A known signer's bad line spoils the note, whoever else signed. */
#define BAD_LINE DASH " rekor.sigstore.dev wNI9ajBEAiARInWIWyCdyG27CO6LPnPe\n"
    assert_tampered(BEFORE BAD_LINE, &rekor, 1, "is bad");
    assert_tampered(BEFORE REKOR_LINE BAD_LINE, &rekor, 1, "is bad");
    assert_tampered(BEFORE BAD_LINE REKOR_LINE, both, 2, "is bad");
    assert_tampered(BEFORE REKOR_LINE DASH " PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcE"
                                           "lZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
                    both, 2, "is bad");
    /* Twice by a known key. */
    assert_tampered(BEFORE REKOR_LINE REKOR_LINE, &rekor, 1, "more than one");
    assert_tampered(BEFORE REKOR_LINE LINE REKOR_LINE, twice, 2, "more than one");

    struct pfx_vkey many[65];
    for (size_t i = 0; i < 65; i++)
        many[i] = i == 63 ? rekor : peter;
    assert_verify(REKOR_NOTE, sizeof REKOR_NOTE - 1, many, 64, UINT64_C(1) << 63);
    struct pfx_checkpoint checkpoint;
    ERROR(err);
    assert_ok(pfx_checkpoint_parse(BYTES(REKOR_NOTE), &checkpoint, &err), &err);
    assert_class(pfx_checkpoint_verify(&checkpoint, many, 65, NULL, NULL), PFX_CLASS_USAGE);
}

static void adding(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(REKOR_KEY);
    struct pfx_checkpoint checkpoint = {.origin = "a"};
    assert_false(pfx_checkpoint_add(&checkpoint, &key, BYTES("")));
    assert_true(pfx_checkpoint_add(&checkpoint, &key, BYTES("x")));
    assert_false(pfx_checkpoint_add(&checkpoint, &key, BYTES("y")));
    for (int i = 1; i < PFX_NOTE_SIGNATURES; i++) {
        key.id[0]++;
        assert_true(pfx_checkpoint_add(&checkpoint, &key, BYTES("z")));
    }
    key.id[0]++;
    assert_false(pfx_checkpoint_add(&checkpoint, &key, BYTES("z")));
    checkpoint.n_signatures = 1;
    PFX_AUTOFREE uint8_t *large = pfx_alloc(PFX_CHECKPOINT_MAX);
    assert_false(
        pfx_checkpoint_add(&checkpoint, &key, (struct pfx_bytes){large, PFX_CHECKPOINT_MAX}));
    assert_int_equal(checkpoint.n_signatures, 1);
}

static struct pfx_vkey tool_key(const char *dir, const char *name, const char *der,
                                struct pfx_buf *ret_line)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = tool_read(dir, der);
    struct pfx_vkey key = {0};
    ERROR(err);
    assert_ok(pfx_vkey_make(name, pfx_buf_bytes(&spki), &key, &err), &err);
    tool_must(dir, ret_line, PYTHON, "vkey", name, der, NULL);
    char line[PFX_VKEY_LINE_SIZE];
    assert_memory_equal(ret_line->data, pfx_vkey_line(&key, line), ret_line->len - 1);
    assert_int_equal(ret_line->len - 1, strlen(line));
    return key;
}

/* openssl makes keys and signatures; Python takes the note apart; openssl verifies the parts. */
static void openssl_signs_and_verifies(void **state)
{
    const char *dir = *state;
    if (!tool_have("openssl"))
        return;
    tool_must(dir, NULL, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
              "ec_paramgen_curve:P-256", "-out", "p256.pem", NULL);
    tool_must(dir, NULL, "openssl", "genpkey", "-algorithm", "ED25519", "-out", "ed.pem", NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "p256.pem", "-pubout", "-outform", "DER", "-out",
              "p256.der", NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "ed.pem", "-pubout", "-outform", "DER", "-out",
              "ed.der", NULL);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf p256_line = pfx_buf_make(1000);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf ed_line = pfx_buf_make(1000);
    PFX_CLEANUP(pfx_vkey_done)
    struct pfx_vkey p256 = tool_key(dir, ORIGIN, "p256.der", &p256_line);
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey ed = tool_key(dir, ORIGIN, "ed.der", &ed_line);

    struct pfx_checkpoint checkpoint = {.origin = ORIGIN, .size = 1234};
    checkpoint.root.bytes[7] = 0xAB;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf note = pfx_buf_make(PFX_CHECKPOINT_MAX);
    pfx_checkpoint_text(&checkpoint, &note);
    tool_write(dir, "signed", pfx_buf_bytes(&note));
    tool_must(dir, NULL, "openssl", "dgst", "-sha256", "-sign", "p256.pem", "-out", "p256.sig",
              "signed", NULL);
    tool_must(dir, NULL, "openssl", "pkeyutl", "-sign", "-rawin", "-inkey", "ed.pem", "-in",
              "signed", "-out", "ed.sig", NULL);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf p256_sig = tool_read(dir, "p256.sig");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf ed_sig = tool_read(dir, "ed.sig");
    assert_true(pfx_checkpoint_add(&checkpoint, &p256, pfx_buf_bytes(&p256_sig)));
    assert_true(pfx_checkpoint_add(&checkpoint, &ed, pfx_buf_bytes(&ed_sig)));
    pfx_buf_reset(&note);
    pfx_checkpoint_write(&checkpoint, &note);

    const struct pfx_vkey keys[] = {ed, p256};
    assert_verify(pfx_buf_str(&note), note.len, keys, 2, 3);
    assert_verify(pfx_buf_str(&note), note.len, &p256, 1, 1);
    /* Each key's signature under the other's id. */
    struct pfx_checkpoint crossed = {.origin = ORIGIN, .size = 1234};
    crossed.root = checkpoint.root;
    assert_true(pfx_checkpoint_add(&crossed, &p256, pfx_buf_bytes(&ed_sig)));
    assert_class(pfx_checkpoint_verify(&crossed, keys, 2, NULL, NULL), PFX_CLASS_INTEGRITY);
    /* Another size under the right signatures. */
    checkpoint.size++;
    assert_class(pfx_checkpoint_verify(&checkpoint, keys, 2, NULL, NULL), PFX_CLASS_INTEGRITY);

    tool_write(dir, "note", pfx_buf_bytes(&note));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf said = pfx_buf_make(1000);
    tool_must(dir, &said, PYTHON, "note", "note", NULL);
    char hex[2][9];
    PFX_AUTOFREE char *want = pfx_asprintf(ORIGIN " %s\n" ORIGIN " %s\n",
                                           pfx_hex(p256.id, 4, hex[0]), pfx_hex(ed.id, 4, hex[1]));
    assert_string_equal(pfx_buf_str(&said), want);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "p256.pem", "-pubout", "-out", "p256.pub", NULL);
    tool_must(dir, NULL, "openssl", "pkey", "-in", "ed.pem", "-pubout", "-out", "ed.pub", NULL);
    tool_must(dir, NULL, "openssl", "dgst", "-sha256", "-verify", "p256.pub", "-signature",
              "signature-0", "text", NULL);
    tool_must(dir, NULL, "openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "ed.pub",
              "-in", "text", "-sigfile", "signature-1", NULL);
    /* The control: openssl refuses what isn't signed. */
    assert_int_not_equal(tool_run(dir, NULL, "openssl", "dgst", "-sha256", "-verify", "p256.pub",
                                  "-signature", "signature-0", "note", NULL),
                         0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_checkpoint),     cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(hostile_notes),       cmocka_unit_test(long_notes),
        cmocka_unit_test(who_signed),          cmocka_unit_test(adding),
        tool_test(openssl_signs_and_verifies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
