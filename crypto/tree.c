/* The Merkle tree: hashing, growing, proving, checking. RFC 6962 and RFC 9162, section 2.1. */
#include "crypto/tree.h"

#include <string.h>

#include <openssl/evp.h>

struct pfx_hasher {
    EVP_MD *md; /* fetched once: finding the provider's function costs more than a small hash */
    EVP_MD_CTX *ctx;
};

/* OpenSSL's SHA-256 fails when there is no memory only. */
static void must(int ok)
{
    if (ok != 1)
        pfx_die("OpenSSL has no SHA-256");
}

struct pfx_hasher *pfx_hasher_new(void)
{
    struct pfx_hasher *hasher = pfx_alloc(sizeof *hasher);
    hasher->md = EVP_MD_fetch(NULL, "SHA256", NULL);
    hasher->ctx = EVP_MD_CTX_new();
    must(hasher->md && hasher->ctx);
    return hasher;
}

void pfx_hasher_free(struct pfx_hasher *hasher)
{
    if (!hasher)
        return;
    EVP_MD_CTX_free(hasher->ctx);
    EVP_MD_free(hasher->md);
    free(hasher);
}

static void hash_two(struct pfx_hasher *hasher, const void *first, size_t first_len,
                     struct pfx_bytes rest, struct pfx_node *ret)
{
    must(EVP_DigestInit_ex2(hasher->ctx, hasher->md, NULL));
    if (first_len > 0)
        must(EVP_DigestUpdate(hasher->ctx, first, first_len));
    if (rest.len > 0)
        must(EVP_DigestUpdate(hasher->ctx, rest.data, rest.len));
    must(EVP_DigestFinal_ex(hasher->ctx, ret->bytes, NULL));
}

void pfx_hash_data(struct pfx_hasher *hasher, struct pfx_bytes data, struct pfx_node *ret)
{
    hash_two(hasher, NULL, 0, data, ret);
}

void pfx_hash_leaf(struct pfx_hasher *hasher, struct pfx_bytes entry, struct pfx_node *ret)
{
    static const uint8_t prefix = 0x00;
    hash_two(hasher, &prefix, 1, entry, ret);
}

void pfx_hash_node(struct pfx_hasher *hasher, const struct pfx_node *left,
                   const struct pfx_node *right, struct pfx_node *ret)
{
    uint8_t both[1 + 2 * PFX_HASH_SIZE];
    both[0] = 0x01;
    memcpy(both + 1, left->bytes, PFX_HASH_SIZE);
    memcpy(both + 1 + PFX_HASH_SIZE, right->bytes, PFX_HASH_SIZE);
    hash_two(hasher, both, sizeof both, (struct pfx_bytes){NULL, 0}, ret);
}

bool pfx_hash_equal(const struct pfx_node *a, const struct pfx_node *b)
{
    return memcmp(a->bytes, b->bytes, PFX_HASH_SIZE) == 0;
}

void pfx_frontier_add(struct pfx_hasher *hasher, struct pfx_frontier *frontier,
                      const struct pfx_node *leaf, pfx_tree_done done, void *ctx)
{
    if (frontier->size >= PFX_TREE_SIZE_MAX)
        pfx_die("the tree is full");
    struct pfx_node node = *leaf;
    uint64_t index = frontier->size;
    unsigned level = 0;
    if (done)
        done(ctx, level, index, &node);
    /* As adding 1 in binary: each carry joins two subtrees of one size. */
    for (; index & 1; index >>= 1) {
        pfx_hash_node(hasher, &frontier->nodes[level], &node, &node);
        level++;
        if (done)
            done(ctx, level, index >> 1, &node);
    }
    frontier->nodes[level] = node;
    frontier->size++;
}

void pfx_frontier_root(struct pfx_hasher *hasher, const struct pfx_frontier *frontier,
                       struct pfx_node *ret_root)
{
    struct pfx_node root;
    bool any = false;
    for (unsigned level = 0; level < PFX_TREE_LEVELS; level++) {
        if ((frontier->size >> level & 1) == 0)
            continue;
        if (any)
            pfx_hash_node(hasher, &frontier->nodes[level], &root, &root);
        else
            root = frontier->nodes[level];
        any = true;
    }
    if (any)
        *ret_root = root;
    else
        pfx_hash_data(hasher, (struct pfx_bytes){NULL, 0}, ret_root);
}

static pfx_result check_size(uint64_t size, struct pfx_error *err)
{
    if (size > PFX_TREE_SIZE_MAX)
        return pfx_fail(err, PFX_CLASS_USAGE, "read tree", "", "",
                        "The size %llu is above 2^53 - 1.", (unsigned long long)size);
    return PFX_OK;
}

pfx_result pfx_tree_frontier(const struct pfx_tree *tree, uint64_t size, struct pfx_frontier *ret,
                             struct pfx_error *err)
{
    PFX_TRY(check_size(size, err));
    struct pfx_frontier frontier = {.size = size};
    for (unsigned level = 0; level < PFX_TREE_LEVELS; level++) {
        if (size >> level & 1)
            PFX_TRY(tree->read(tree->ctx, level, (size >> level) - 1, &frontier.nodes[level], err));
    }
    *ret = frontier;
    return PFX_OK;
}

/* The subtree over the leaves index << level ... size - 1, of which there is one at least, and at
 * most 1 << level: a complete one, or the tree's right edge below that level. */
static pfx_result read_node(const struct pfx_tree *tree, unsigned level, uint64_t index,
                            uint64_t size, struct pfx_node *ret, struct pfx_error *err)
{
    uint64_t begin = index << level;
    if (size - begin >= UINT64_C(1) << level)
        return tree->read(tree->ctx, level, index, ret, err);
    bool any = false;
    for (unsigned l = 0; l < level; l++) {
        if ((size >> l & 1) == 0)
            continue;
        struct pfx_node node;
        PFX_TRY(tree->read(tree->ctx, l, (size >> l) - 1, &node, err));
        if (any)
            pfx_hash_node(tree->hasher, &node, ret, ret);
        else
            *ret = node;
        any = true;
    }
    return PFX_OK;
}

/* From the complete subtree (level, index) up to the root: the sibling at each level that has one.
 */
static pfx_result add_siblings(const struct pfx_tree *tree, unsigned level, uint64_t index,
                               uint64_t size, struct pfx_proof *proof, struct pfx_error *err)
{
    for (uint64_t last = (size - 1) >> level; last > 0; level++, index >>= 1, last >>= 1) {
        uint64_t sibling = index ^ 1;
        if (sibling > last)
            continue;
        PFX_TRY(read_node(tree, level, sibling, size, &proof->path[proof->n], err));
        proof->n++;
    }
    return PFX_OK;
}

pfx_result pfx_tree_inclusion(const struct pfx_tree *tree, uint64_t index, uint64_t size,
                              struct pfx_proof *ret, struct pfx_error *err)
{
    PFX_TRY(check_size(size, err));
    if (index >= size)
        return pfx_fail(err, PFX_CLASS_USAGE, "prove inclusion", "", "",
                        "A tree of size %llu has no entry %llu.", (unsigned long long)size,
                        (unsigned long long)index);
    struct pfx_proof proof = {.n = 0};
    PFX_TRY(add_siblings(tree, 0, index, size, &proof, err));
    *ret = proof;
    return PFX_OK;
}

pfx_result pfx_tree_consistency(const struct pfx_tree *tree, uint64_t old, uint64_t size,
                                struct pfx_proof *ret, struct pfx_error *err)
{
    PFX_TRY(check_size(size, err));
    if (old == 0 || old > size)
        return pfx_fail(err, PFX_CLASS_USAGE, "prove consistency", "", "",
                        "Sizes %llu and %llu have no consistency proof.", (unsigned long long)old,
                        (unsigned long long)size);
    struct pfx_proof proof = {.n = 0};
    if (old < size) {
        /* The old tree's last complete subtree, then as for inclusion. It is left out where it is
         * the old tree whole, as the verifier has its root. */
        unsigned level = (unsigned)__builtin_ctzll(old);
        uint64_t index = (old >> level) - 1;
        if (index > 0) {
            PFX_TRY(tree->read(tree->ctx, level, index, &proof.path[0], err));
            proof.n = 1;
        }
        PFX_TRY(add_siblings(tree, level, index, size, &proof, err));
    }
    *ret = proof;
    return PFX_OK;
}

/* Where a check of a proof stands: fn and sn of RFC 9162. */
struct walk {
    uint64_t fn, sn;
};

/* Takes one node of the path. False: the path is too long. *ret_left: the node stands left. */
static bool walk_step(struct walk *walk, bool *ret_left)
{
    if (walk->sn == 0)
        return false;
    *ret_left = (walk->fn & 1) != 0 || walk->fn == walk->sn;
    while (*ret_left && (walk->fn & 1) == 0 && walk->fn != 0) {
        walk->fn >>= 1;
        walk->sn >>= 1;
    }
    walk->fn >>= 1;
    walk->sn >>= 1;
    return true;
}

bool pfx_inclusion_holds(struct pfx_hasher *hasher, uint64_t index, uint64_t size,
                         const struct pfx_node *leaf, const struct pfx_proof *proof,
                         const struct pfx_node *root)
{
    if (index >= size || proof->n > PFX_PROOF_MAX)
        return false;
    struct walk walk = {index, size - 1};
    struct pfx_node r = *leaf;
    for (size_t i = 0; i < proof->n; i++) {
        bool left;
        if (!walk_step(&walk, &left))
            return false;
        if (left)
            pfx_hash_node(hasher, &proof->path[i], &r, &r);
        else
            pfx_hash_node(hasher, &r, &proof->path[i], &r);
    }
    return walk.sn == 0 && pfx_hash_equal(&r, root);
}

bool pfx_consistency_holds(struct pfx_hasher *hasher, uint64_t old, uint64_t size,
                           const struct pfx_node *old_root, const struct pfx_node *root,
                           const struct pfx_proof *proof)
{
    if (old == 0 || old > size || proof->n > PFX_PROOF_MAX)
        return false;
    if (old == size)
        return proof->n == 0 && pfx_hash_equal(old_root, root);
    if (proof->n == 0)
        return false;
    struct walk walk = {old - 1, size - 1};
    while (walk.fn & 1) {
        walk.fn >>= 1;
        walk.sn >>= 1;
    }
    /* A power of two: the path begins with the old root itself. */
    size_t i = (old & (old - 1)) == 0 ? 0 : 1;
    struct pfx_node fr = i == 0 ? *old_root : proof->path[0];
    struct pfx_node sr = fr;
    for (; i < proof->n; i++) {
        const struct pfx_node *c = &proof->path[i];
        bool left;
        if (!walk_step(&walk, &left))
            return false;
        if (left) {
            pfx_hash_node(hasher, c, &fr, &fr);
            pfx_hash_node(hasher, c, &sr, &sr);
        } else {
            pfx_hash_node(hasher, &sr, c, &sr);
        }
    }
    return walk.sn == 0 && pfx_hash_equal(&fr, old_root) && pfx_hash_equal(&sr, root);
}
