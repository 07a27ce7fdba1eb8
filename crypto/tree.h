/*
 * The Merkle tree of the operation log (RFC 6962, section 2.1) and its tiles (C2SP tlog-tiles).
 *
 * Leaf = SHA-256(00 | entry), node = SHA-256(01 | left | right), the empty tree SHA-256("").
 * A subtree that is complete is named by its level and index: level 0 are the leaves, and node
 * (level, index) covers the leaves index << level ... ((index + 1) << level) - 1.
 */
#ifndef PFX_CRYPTO_TREE_H
#define PFX_CRYPTO_TREE_H

#include "crypto/mem.h"

#define PFX_HASH_SIZE 32
#define PFX_TREE_LEVELS 53 /* sizes stay below 2^53, as all integers of an entry do */
#define PFX_TREE_SIZE_MAX ((UINT64_C(1) << PFX_TREE_LEVELS) - 1)
#define PFX_TILE_HEIGHT 8
#define PFX_TILE_WIDTH 256
#define PFX_PROOF_MAX (2 * PFX_TREE_LEVELS)

/* A leaf's hash, an inner node or a root. */
struct pfx_node {
    uint8_t bytes[PFX_HASH_SIZE];
};

/* SHA-256 fetched once; one for each thread. Running out of memory ends the process. */
struct pfx_hasher;
struct pfx_hasher *pfx_hasher_new(void);
void pfx_hasher_free(struct pfx_hasher *hasher);
static inline void pfx_hasher_freep(struct pfx_hasher **pp)
{
    pfx_hasher_free(*pp);
}
void pfx_hash_data(struct pfx_hasher *hasher, struct pfx_bytes data, struct pfx_node *ret);
void pfx_hash_leaf(struct pfx_hasher *hasher, struct pfx_bytes entry, struct pfx_node *ret);
void pfx_hash_node(struct pfx_hasher *hasher, const struct pfx_node *left,
                   const struct pfx_node *right, struct pfx_node *ret);
bool pfx_hash_equal(const struct pfx_node *a, const struct pfx_node *b);

/* All that is needed to go on: the roots of the complete subtrees that the size is made of. */
struct pfx_frontier {
    uint64_t size;
    struct pfx_node nodes[PFX_TREE_LEVELS]; /* [level], meaningful where size has that bit */
};
/* Called for each subtree that the new leaf completes, level 0 first; may be NULL. Adding past
 * PFX_TREE_SIZE_MAX ends the process: entries of that many can't exist. */
typedef void (*pfx_tree_done)(void *ctx, unsigned level, uint64_t index,
                              const struct pfx_node *node);
void pfx_frontier_add(struct pfx_hasher *hasher, struct pfx_frontier *frontier,
                      const struct pfx_node *leaf, pfx_tree_done done, void *ctx);
void pfx_frontier_root(struct pfx_hasher *hasher, const struct pfx_frontier *frontier,
                       struct pfx_node *ret_root);

/* Gives the node (level, index); the result is the caller's failure. */
typedef pfx_result (*pfx_tree_read)(void *ctx, unsigned level, uint64_t index,
                                    struct pfx_node *ret_node, struct pfx_error *err);
struct pfx_tree {
    struct pfx_hasher *hasher;
    pfx_tree_read read;
    void *ctx;
};
struct pfx_proof {
    size_t n;
    struct pfx_node path[PFX_PROOF_MAX];
};
/* The frontier and the root at any size up to what the reader has. */
PFX_MUST_USE pfx_result pfx_tree_frontier(const struct pfx_tree *tree, uint64_t size,
                                          struct pfx_frontier *ret, struct pfx_error *err);
/* USAGE: index >= size, old = 0, old > size. */
PFX_MUST_USE pfx_result pfx_tree_inclusion(const struct pfx_tree *tree, uint64_t index,
                                           uint64_t size, struct pfx_proof *ret,
                                           struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_tree_consistency(const struct pfx_tree *tree, uint64_t old,
                                             uint64_t size, struct pfx_proof *ret,
                                             struct pfx_error *err);

/* RFC 9162, 2.1.3.2 and 2.1.4.2, with the refusals of operation-log.md. */
bool pfx_inclusion_holds(struct pfx_hasher *hasher, uint64_t index, uint64_t size,
                         const struct pfx_node *leaf, const struct pfx_proof *proof,
                         const struct pfx_node *root);
bool pfx_consistency_holds(struct pfx_hasher *hasher, uint64_t old, uint64_t size,
                           const struct pfx_node *old_root, const struct pfx_node *root,
                           const struct pfx_proof *proof);

/*
 * Tiles. A hash tile (level L, number N) holds the nodes (8 L, 256 N ...), `width` of them, 1 to
 * 256; below 256 it is partial. Entry bundles have no level.
 */
#define PFX_TILE_ENTRIES (-1)
#define PFX_TILE_PATH_SIZE 80
/* "tile/0/x001/x234/067", "tile/entries/000.p/17"; returns buf. */
char *pfx_tile_path(int level, uint64_t number, unsigned width, char buf[PFX_TILE_PATH_SIZE]);
/* The reverse, strict: what pfx_tile_path would print, nothing else. */
PFX_MUST_USE bool pfx_tile_parse(const char *path, int *ret_level, uint64_t *ret_number,
                                 unsigned *ret_width);
/* How many hashes the last, partial tile of this level has at this size (0: there is none), and
 * how many full ones stand before it. */
unsigned pfx_tile_partial(int level, uint64_t size, uint64_t *ret_full);

#endif
