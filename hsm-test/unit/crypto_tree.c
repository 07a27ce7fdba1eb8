/* The log's tree, against known answers, others' proofs and the definition. */
#include "crypto/tree.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto_tool.h"
#include "log_test.h"

#define LEAVES 130
#define LEVELS 9

/* The leaves "leaf 0" ..., every complete subtree of them, and the root at each size. */
struct world {
    struct pfx_hasher *hasher;
    struct pfx_node nodes[LEVELS][LEAVES];
    uint64_t have[LEVELS];
    struct pfx_node roots[LEAVES + 1];
    struct pfx_frontier frontiers[LEAVES + 1];
    uint64_t size; /* what may be read */
    unsigned reads, fail_at;
};

static void on_done(void *ctx, unsigned level, uint64_t index, const struct pfx_node *node)
{
    struct world *world = ctx;
    assert_true(level < LEVELS);
    assert_int_equal(index, world->have[level]); /* in order, each once */
    world->nodes[level][index] = *node;
    world->have[level]++;
}

static pfx_result on_read(void *ctx, unsigned level, uint64_t index, struct pfx_node *ret_node,
                          struct pfx_error *err)
{
    struct world *world = ctx;
    if (++world->reads == world->fail_at)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "read node", "tile", "EIO", "No.");
    assert_true(level < LEVELS);
    assert_true((index + 1) << level <= world->size); /* complete ones only */
    *ret_node = world->nodes[level][index];
    return PFX_OK;
}

static int setup(void **state)
{
    struct world *world = pfx_alloc(sizeof *world);
    world->hasher = pfx_hasher_new();
    struct pfx_frontier frontier = {0};
    for (size_t n = 0;; n++) {
        pfx_frontier_root(world->hasher, &frontier, &world->roots[n]);
        world->frontiers[n] = frontier;
        if (n == LEAVES)
            break;
        char text[32];
        snprintf(text, sizeof text, "leaf %zu", n);
        struct pfx_node leaf;
        pfx_hash_leaf(world->hasher, (struct pfx_bytes){(uint8_t *)text, strlen(text)}, &leaf);
        pfx_frontier_add(world->hasher, &frontier, &leaf, on_done, world);
    }
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    pfx_hasher_free(world->hasher);
    free(world);
    return 0;
}

static void assert_hex(const struct pfx_node *node, const char *want)
{
    char hex[2 * PFX_HASH_SIZE + 1];
    assert_string_equal(pfx_hex(node->bytes, PFX_HASH_SIZE, hex), want);
}

/* operation-log.md, "Known answers". */
static void eight_leaves(void **state)
{
    (void)state;
    static const char *const leaves[] = {"",
                                         "00",
                                         "10",
                                         "2021",
                                         "3031",
                                         "40414243",
                                         "5051525354555657",
                                         "606162636465666768696a6b6c6d6e6f"};
    static const char *const roots[] = {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
    PFX_CLEANUP(pfx_hasher_freep) struct pfx_hasher *hasher = pfx_hasher_new();
    struct pfx_frontier frontier = {0};
    for (size_t n = 0; n <= 8; n++) {
        struct pfx_node root, leaf;
        pfx_frontier_root(hasher, &frontier, &root);
        assert_hex(&root, roots[n]);
        if (n == 8)
            break;
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf entry = pfx_buf_make(16);
        assert_true(pfx_unhex(leaves[n], strlen(leaves[n]), &entry));
        pfx_hash_leaf(hasher, pfx_buf_bytes(&entry), &leaf);
        pfx_frontier_add(hasher, &frontier, &leaf, NULL, NULL);
    }
}

static void thousand_leaves(void **state)
{
    struct world *world = *state;
    struct pfx_frontier frontier = {0};
    for (int n = 0; n <= 1000; n++) {
        struct pfx_node root, leaf;
        pfx_frontier_root(world->hasher, &frontier, &root);
        if (n == 100)
            assert_hex(&root, "13f88915c560dc911a1da0fb209d84a20971051f294ebeb428fb3fc293af2743");
        if (n == 256)
            assert_hex(&root, "cf5effdb11d0927a2edf53b0e73c7837f659414e00537da5d90eb5c4c49ff274");
        if (n == 1000)
            assert_hex(&root, "2ff33fb9d8f14f89ca306289633336a168ff3f4532e8f741a0019dcb4c1d60a1");
        char text[32];
        snprintf(text, sizeof text, "leaf %d", n);
        pfx_hash_leaf(world->hasher, (struct pfx_bytes){(uint8_t *)text, strlen(text)}, &leaf);
        pfx_frontier_add(world->hasher, &frontier, &leaf, NULL, NULL);
    }
}

/* A root of a consistency proof. Two of those to be taken have roots of other lengths: filled up
 * with zeros, as equal ones stay equal then. */
static struct pfx_node vector_root(const char *text)
{
    struct pfx_node node = {{0}};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf raw = pfx_buf_make(PFX_HASH_SIZE);
    if (strcmp(text, "-") != 0)
        assert_true(pfx_base64_decode(text, strlen(text), &raw));
    if (raw.len > 0)
        memcpy(node.bytes, raw.data, raw.len);
    return node;
}

/* False: not 32 bytes, which is what readers of receipts and tiles refuse. */
static bool vector_node(const char *text, struct pfx_node *ret)
{
    return pfx_bytes_node((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, ret);
}

static bool vector_holds(struct pfx_hasher *hasher, char *words, bool *ret_want)
{
    const char *kind = strsep(&words, " ");
    uint64_t a = strtoull(strsep(&words, " "), NULL, 10);
    uint64_t b = strtoull(strsep(&words, " "), NULL, 10);
    const char *first = strsep(&words, " "), *second = strsep(&words, " ");
    *ret_want = strcmp(strsep(&words, " "), "1") == 0;
    struct pfx_proof proof = {.n = 0};
    bool form = true;
    for (char *word; (word = strsep(&words, " "));) {
        assert_true(proof.n < PFX_PROOF_MAX);
        form = vector_node(word, &proof.path[proof.n++]) && form;
    }
    if (strcmp(kind, "inclusion") == 0) {
        struct pfx_node leaf, root;
        return vector_node(first, &leaf) && vector_node(second, &root) && form &&
               pfx_inclusion_holds(hasher, a, b, &leaf, &proof, &root);
    }
    struct pfx_node old_root = vector_root(first), root = vector_root(second);
    return form && pfx_consistency_holds(hasher, a, b, &old_root, &root, &proof);
}

static void proof_vectors(void **state)
{
    PFX_CLEANUP(pfx_hasher_freep) struct pfx_hasher *hasher = pfx_hasher_new();
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1 << 20);
    int rc = tool_run(*state, &out, PYTHON, "vectors", NULL);
    if (rc == 77) {
        print_message("skipped: %s", pfx_buf_str(&out));
        if (getenv("PFX_TEST_REQUIRE_ALL"))
            fail_msg("the proof vectors are required");
        return;
    }
    assert_int_equal(rc, 0);
    size_t n = 0, taken = 0;
    char *rest = (char *)out.data;
    for (char *line; (line = strsep(&rest, "\n")) && *line; n++) {
        PFX_AUTOFREE char *copy = pfx_strdup(line);
        bool want;
        bool holds = vector_holds(hasher, line, &want);
        taken += holds;
        if (holds != want)
            fail_msg("%s: %s", holds ? "taken" : "refused", copy);
    }
    assert_int_equal(n, 196);
    assert_int_equal(taken, 12);
    print_message("%zu proof vectors\n", n);
}

/* What the definition says of (kind, a, n): the number of hashes and a hash of them all. */
static void compare(struct world *world, const char *kind, uint64_t a, uint64_t n,
                    const char *count, const char *hex)
{
    struct pfx_tree tree = {world->hasher, on_read, world};
    struct pfx_proof proof = {.n = 0};
    ERROR(err);
    world->size = n;
    if (strcmp(kind, "root") == 0) {
        assert_hex(&world->roots[n], hex);
        return;
    }
    bool inclusion = strcmp(kind, "inclusion") == 0;
    if (inclusion)
        assert_ok(pfx_tree_inclusion(&tree, a, n, &proof, &err), &err);
    else
        assert_ok(pfx_tree_consistency(&tree, a, n, &proof, &err), &err);
    assert_int_equal(proof.n, strtoull(count, NULL, 10));
    struct pfx_node all;
    pfx_hash_data(world->hasher, (struct pfx_bytes){(uint8_t *)proof.path, proof.n * PFX_HASH_SIZE},
                  &all);
    assert_hex(&all, hex);
    if (inclusion)
        assert_true(pfx_inclusion_holds(world->hasher, a, n, &world->nodes[0][a], &proof,
                                        &world->roots[n]));
    else
        assert_true(
            pfx_consistency_holds(world->hasher, a, n, &world->roots[a], &world->roots[n], &proof));
}

static void every_proof(void **state)
{
    void *dir;
    assert_int_equal(tool_setup(&dir), 0);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(4 << 20);
    tool_must(dir, &out, PYTHON, "tree", "130", NULL);
    assert_int_equal(tool_teardown(&dir), 0);
    size_t n = 0;
    char *rest = (char *)out.data;
    for (char *line; (line = strsep(&rest, "\n")) && *line; n++) {
        const char *kind = strsep(&line, " "), *a = strsep(&line, " "), *size = strsep(&line, " ");
        const char *count = strsep(&line, " ");
        compare(*state, kind, strtoull(a, NULL, 10), strtoull(size, NULL, 10), count, line);
    }
    assert_int_equal(n, 131 + 2 * (130 * 131 / 2));
}

/* Every change of one hash, a hash less or more, and another leaf, root or index is refused. */
static void changed_proofs(void **state)
{
    struct world *world = *state;
    struct pfx_hasher *hasher = world->hasher;
    struct pfx_tree tree = {hasher, on_read, world};
    ERROR(err);
    for (uint64_t n = 1; n <= 40; n++) {
        world->size = n;
        const struct pfx_node *root = &world->roots[n], *other = &world->roots[n - 1];
        for (uint64_t a = 0; a <= n; a++) {
            const struct pfx_node *leaf = &world->nodes[0][a], *old = &world->roots[a];
            struct pfx_proof in = {.n = 0}, con = {.n = 0};
            if (a < n)
                assert_ok(pfx_tree_inclusion(&tree, a, n, &in, &err), &err);
            if (a > 0)
                assert_ok(pfx_tree_consistency(&tree, a, n, &con, &err), &err);
            for (size_t i = 0; a < n && i < in.n; i++) {
                in.path[i].bytes[i % PFX_HASH_SIZE] ^= 0x10;
                assert_false(pfx_inclusion_holds(hasher, a, n, leaf, &in, root));
                in.path[i].bytes[i % PFX_HASH_SIZE] ^= 0x10;
            }
            for (size_t i = 0; a > 0 && i < con.n; i++) {
                con.path[i].bytes[31 - i % PFX_HASH_SIZE] ^= 1;
                assert_false(pfx_consistency_holds(hasher, a, n, old, root, &con));
                con.path[i].bytes[31 - i % PFX_HASH_SIZE] ^= 1;
            }
            if (a < n) {
                assert_false(pfx_inclusion_holds(hasher, a, n, leaf, &in, other));
                assert_false(pfx_inclusion_holds(hasher, a, n, &world->nodes[0][a + 1], &in, root));
                assert_false(pfx_inclusion_holds(hasher, n, n, leaf, &in, root));
                for (uint64_t b = 0; b < n; b++)
                    assert_true(pfx_inclusion_holds(hasher, b, n, leaf, &in, root) == (a == b));
                in.n++;
                assert_false(pfx_inclusion_holds(hasher, a, n, leaf, &in, root));
                in.n -= 2;
                assert_false(pfx_inclusion_holds(hasher, a, n, leaf, &in, root)); /* or 2^64-1 */
            }
            if (a > 0) {
                assert_false(pfx_consistency_holds(hasher, a, n, other, root, &con) &&
                             !pfx_hash_equal(old, other));
                assert_false(pfx_consistency_holds(hasher, a, n, old, other, &con));
                assert_false(pfx_consistency_holds(hasher, 0, n, old, root, &con));
                assert_false(pfx_consistency_holds(hasher, n + 1, n, old, root, &con));
                con.n++;
                assert_false(pfx_consistency_holds(hasher, a, n, old, root, &con));
                con.n -= 2;
                assert_false(pfx_consistency_holds(hasher, a, n, old, root, &con));
            }
        }
    }
}

static void frontier_from_nodes(void **state)
{
    struct world *world = *state;
    struct pfx_tree tree = {world->hasher, on_read, world};
    ERROR(err);
    for (uint64_t n = 0; n <= LEAVES; n++) {
        struct pfx_frontier frontier;
        world->size = n;
        assert_ok(pfx_tree_frontier(&tree, n, &frontier, &err), &err);
        assert_int_equal(frontier.size, n);
        for (uint64_t m = n; m <= LEAVES; m++) { /* and it can be gone on with */
            struct pfx_node root;
            pfx_frontier_root(world->hasher, &frontier, &root);
            assert_true(pfx_hash_equal(&root, &world->roots[m]));
            if (m < LEAVES)
                pfx_frontier_add(world->hasher, &frontier, &world->nodes[0][m], NULL, NULL);
        }
    }
}

static void reader_fails(void **state)
{
    struct world *world = *state;
    struct pfx_tree tree = {world->hasher, on_read, world};
    static const struct pfx_proof untouched = {.n = 77};
    world->size = 107;
    for (unsigned at = 1;; at++) {
        struct pfx_proof in = untouched, con = untouched;
        struct pfx_frontier frontier = {.size = 77};
        ERROR(err);
        world->reads = 0;
        world->fail_at = at;
        pfx_result r = pfx_tree_inclusion(&tree, 5, 107, &in, &err);
        world->reads = 0;
        pfx_result s = pfx_tree_consistency(&tree, 6, 107, &con, NULL);
        world->reads = 0;
        pfx_result t = pfx_tree_frontier(&tree, 107, &frontier, NULL);
        world->fail_at = 0;
        if (pfx_ok(r) && pfx_ok(s) && pfx_ok(t)) {
            assert_true(at > 7);
            break;
        }
        if (pfx_failed(r)) {
            assert_class(r, PFX_CLASS_TRANSIENT);
            assert_string_equal(err.code, "EIO");
            assert_int_equal(in.n, 77);
        }
        if (pfx_failed(s))
            assert_int_equal(con.n, 77);
        if (pfx_failed(t))
            assert_int_equal(frontier.size, 77);
    }
}

static void refusals(void **state)
{
    struct world *world = *state;
    struct pfx_tree tree = {world->hasher, on_read, world};
    struct pfx_proof proof = {.n = 77};
    struct pfx_frontier frontier;
    world->size = 0;
    assert_class(pfx_tree_inclusion(&tree, 0, 0, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_inclusion(&tree, 7, 7, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_inclusion(&tree, 0, UINT64_C(1) << 53, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_consistency(&tree, 0, 0, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_consistency(&tree, 0, 7, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_consistency(&tree, 8, 7, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_consistency(&tree, 1, UINT64_MAX, &proof, NULL), PFX_CLASS_USAGE);
    assert_class(pfx_tree_frontier(&tree, UINT64_C(1) << 53, &frontier, NULL), PFX_CLASS_USAGE);
    assert_int_equal(proof.n, 77);
}

/* A tree of equal leaves has one node for each level, so that its sizes have no limit. */
struct even {
    struct pfx_node nodes[PFX_TREE_LEVELS];
    uint64_t size;
};

static pfx_result read_even(void *ctx, unsigned level, uint64_t index, struct pfx_node *ret_node,
                            struct pfx_error *err)
{
    struct even *even = ctx;
    (void)err;
    assert_true(level < PFX_TREE_LEVELS && index + 1 <= even->size >> level);
    *ret_node = even->nodes[level];
    return PFX_OK;
}

static void largest_trees(void **state)
{
    struct world *world = *state;
    struct pfx_hasher *hasher = world->hasher;
    struct even even = {0};
    struct pfx_tree tree = {hasher, read_even, &even};
    pfx_hash_leaf(hasher, BYTES("same"), &even.nodes[0]);
    for (size_t i = 1; i < PFX_TREE_LEVELS; i++)
        pfx_hash_node(hasher, &even.nodes[i - 1], &even.nodes[i - 1], &even.nodes[i]);
    static const uint64_t sizes[] = {1,
                                     2,
                                     12345,
                                     (UINT64_C(1) << 52) - 1,
                                     UINT64_C(1) << 52,
                                     (UINT64_C(1) << 52) + 1,
                                     UINT64_C(6004799503160661),
                                     PFX_TREE_SIZE_MAX - 1,
                                     PFX_TREE_SIZE_MAX};
    struct pfx_frontier frontiers[sizeof sizes / sizeof sizes[0]];
    struct pfx_node roots[sizeof sizes / sizeof sizes[0]];
    ERROR(err);
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        even.size = sizes[n];
        assert_ok(pfx_tree_frontier(&tree, sizes[n], &frontiers[n], &err), &err);
        pfx_frontier_root(hasher, &frontiers[n], &roots[n]);
        for (size_t m = 0; m <= n; m++) {
            struct pfx_proof proof;
            assert_ok(pfx_tree_consistency(&tree, sizes[m], sizes[n], &proof, &err), &err);
            assert_true(
                pfx_consistency_holds(hasher, sizes[m], sizes[n], &roots[m], &roots[n], &proof));
            assert_true(proof.n < PFX_PROOF_MAX);
            uint64_t index = sizes[m] - 1;
            assert_ok(pfx_tree_inclusion(&tree, index, sizes[n], &proof, &err), &err);
            assert_true(
                pfx_inclusion_holds(hasher, index, sizes[n], &even.nodes[0], &proof, &roots[n]));
            proof.n = PFX_PROOF_MAX + 1; /* no read past the end */
            assert_false(
                pfx_inclusion_holds(hasher, index, sizes[n], &even.nodes[0], &proof, &roots[n]));
        }
    }
    /* One more leaf on the last but one gives the largest; on that, the process ends. */
    size_t last = sizeof sizes / sizeof sizes[0] - 1;
    struct pfx_node root;
    pfx_frontier_add(hasher, &frontiers[last - 1], &even.nodes[0], NULL, NULL);
    pfx_frontier_root(hasher, &frontiers[last - 1], &root);
    assert_true(pfx_hash_equal(&root, &roots[last]));
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        pfx_frontier_add(hasher, &frontiers[last], &even.nodes[0], NULL, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_leaves),
        cmocka_unit_test_setup_teardown(thousand_leaves, setup, teardown),
        tool_test(proof_vectors),
        cmocka_unit_test_setup_teardown(every_proof, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_proofs, setup, teardown),
        cmocka_unit_test_setup_teardown(frontier_from_nodes, setup, teardown),
        cmocka_unit_test_setup_teardown(reader_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(largest_trees, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
