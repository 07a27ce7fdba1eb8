/* Receipts: the proof of one entry as a text. */
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto_tool.h"
#include "log_test.h"

#define TITLE "c2sp.org/tlog-proof@v1\n"

static void receipts(void **state)
{
    const char *dir = *state;
    PFX_CLEANUP(pfx_hasher_freep) struct pfx_hasher *hasher = pfx_hasher_new();
    struct pfx_node leaves[2], root;
    pfx_hash_leaf(hasher, BYTES("first"), &leaves[0]);
    pfx_hash_leaf(hasher, BYTES("second"), &leaves[1]);
    pfx_hash_node(hasher, &leaves[0], &leaves[1], &root);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf note = pfx_buf_make(PFX_CHECKPOINT_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_CHECKPOINT_MAX);
    struct pfx_checkpoint checkpoint = {.origin = ORIGIN, .size = 2, .root = root};
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = vkey(REKOR_KEY);
    assert_true(pfx_checkpoint_add(&checkpoint, &key, BYTES("not looked at here")));
    pfx_checkpoint_write(&checkpoint, &note);
    const struct pfx_proof proof = {.n = 1, .path = {leaves[0]}};
    pfx_receipt_write(1, &proof, pfx_buf_bytes(&note), &text);
    tool_write(dir, "receipt", pfx_buf_bytes(&text));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf said = pfx_buf_make(1000);
    tool_must(dir, &said, PYTHON, "receipt", "receipt", "second", NULL);
    assert_string_equal(pfx_buf_str(&said), "1 2\n");
    assert_int_not_equal(tool_run(dir, NULL, PYTHON, "receipt", "receipt", "first", NULL), 0);

    uint64_t index;
    struct pfx_proof read;
    struct pfx_bytes inner;
    ERROR(err);
    assert_ok(pfx_receipt_parse(pfx_buf_bytes(&text), &index, &read, &inner, &err), &err);
    assert_int_equal(index, 1);
    assert_int_equal(read.n, 1);
    assert_memory_equal(read.path[0].bytes, leaves[0].bytes, PFX_HASH_SIZE);
    assert_int_equal(inner.len, note.len);
    assert_memory_equal(inner.data, note.data, note.len);
    /* A tree of one: no hash at all; and extra data of an application. */
    static const char alone[] = TITLE "extra AAEC\nindex 0\n\nany";
    assert_ok(pfx_receipt_parse(BYTES(alone), &index, &read, &inner, &err), &err);
    assert_int_equal(index, 0);
    assert_int_equal(read.n, 0);
    assert_int_equal(inner.len, 3);
}

static void hostile_receipts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        int line;
    } bad[] = {
        NOTE("", 1),
        NOTE("\n", 1),
        NOTE("c2sp.org/tlog-proof@v1", 1),
        NOTE("c2sp.org/tlog-proof@v2\nindex 0\n\nany", 1),
        NOTE("c2sp.org/tlog-proof@v1\r\nindex 0\n\nany", 1),
        NOTE(" " TITLE "index 0\n\nany", 1),
        NOTE(TITLE, 2),
        NOTE(TITLE "\n\nany", 2),
        NOTE(TITLE "index\n\nany", 2),
        NOTE(TITLE "index \n\nany", 2),
        NOTE(TITLE "index 01\n\nany", 2),
        NOTE(TITLE "index -1\n\nany", 2),
        NOTE(TITLE "index 0 \n\nany", 2),
        NOTE(TITLE "index 0\r\n\nany", 2),
        NOTE(TITLE "index\t0\n\nany", 2),
        NOTE(TITLE "Index 0\n\nany", 2),
        NOTE(TITLE "index 9007199254740992\n\nany", 2),
        NOTE(TITLE "index 0", 2),
        NOTE(TITLE "index 0\n", 3),
        NOTE(TITLE "index 0\nindex 0\n\nany", 3),
        NOTE(TITLE "index 0\n" ROOT "\n", 4),
        NOTE(TITLE "index 0\n" ROOT "\nany\n\nany", 4),
        NOTE(TITLE "index 0\n" ROOT " \n\nany", 3),
        NOTE(TITLE "index 0\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP1=\n\nany", 3),
        NOTE(TITLE "index 0\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SA==\n\nany", 3),
        NOTE(TITLE "index 0\n\n", 4),
        NOTE(TITLE "extra\nindex 0\n\nany", 2),
        NOTE(TITLE "extra !\nindex 0\n\nany", 2),
        NOTE(TITLE "extra AAEC\nextra AAEC\nindex 0\n\nany", 3),
        NOTE(TITLE "index 0\nextra AAEC\n\nany", 3),
        NOTE(TITLE "extra AAEC\n", 3),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t index = 77;
        struct pfx_proof proof = {.n = 77};
        struct pfx_bytes inner = {NULL, 77};
        ERROR(err);
        PFX_AUTOFREE uint8_t *copy = pfx_memdup(bad[i].text, bad[i].len);
        pfx_result r =
            pfx_receipt_parse((struct pfx_bytes){copy, bad[i].len}, &index, &proof, &inner, &err);
        char object[32];
        snprintf(object, sizeof object, "line %d", bad[i].line);
        if (r.cls != PFX_CLASS_REFUSED || index != 77 || proof.n != 77 || inner.len != 77 ||
            strcmp(err.object, object) != 0)
            fail_msg("receipt %zu: class %d, %s: %s", i, r.cls, err.object, err.text);
    }
    /* The longest proof that is taken, and one hash more. */
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(20000);
    uint64_t index;
    struct pfx_proof proof;
    struct pfx_bytes inner;
    ERROR(err);
    assert_true(pfx_buf_add_str(&text, TITLE "index 5\n"));
    for (int i = 0; i < PFX_PROOF_MAX; i++)
        assert_true(pfx_buf_add_str(&text, ROOT "\n"));
    size_t at = text.len;
    assert_true(pfx_buf_add_str(&text, "\nany"));
    assert_ok(pfx_receipt_parse(pfx_buf_bytes(&text), &index, &proof, &inner, &err), &err);
    pfx_buf_cut(&text, at);
    assert_true(pfx_buf_add_str(&text, ROOT "\n\nany"));
    assert_class(pfx_receipt_parse(pfx_buf_bytes(&text), &index, &proof, &inner, NULL),
                 PFX_CLASS_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tool_test(receipts),
        cmocka_unit_test(hostile_receipts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
