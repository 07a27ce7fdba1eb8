/* Nodes of the tree: from tiles, and from entries where there is no tile (yet). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/logdir/impl.h"

/* False: there is no such file, or not a whole one. Tiles are derived: what is missing is made from
 * what is below it, and what is wrong shows as another root. */
static bool load(struct pfx_logdir *dir, unsigned tile, uint64_t number)
{
    char path[PFX_TILE_PATH_SIZE];
    if (dir->tiles[tile].has && dir->tiles[tile].number == number)
        return true;
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_TILE_BYTES + 1);
    struct pfx_error ignored = PFX_ERROR_NONE;
    pfx_tile_path((int)tile, number, PFX_TILE_WIDTH, path);
    if (pfx_failed(pfx_logdir_file(dir, path, PFX_TILE_BYTES, &bytes, &ignored)) ||
        bytes.len != PFX_TILE_BYTES)
        return false;
    memcpy(dir->tiles[tile].hashes, bytes.data, PFX_TILE_BYTES);
    dir->tiles[tile].has = true;
    dir->tiles[tile].number = number;
    return true;
}

static void fold(struct pfx_hasher *hasher, struct pfx_node *nodes, size_t n)
{
    for (; n > 1; n /= 2)
        for (size_t i = 0; i < n / 2; i++)
            pfx_hash_node(hasher, &nodes[2 * i], &nodes[2 * i + 1], &nodes[i]);
}

pfx_result pfx_logdir_node(void *ctx, unsigned level, uint64_t index, struct pfx_node *ret_node,
                           struct pfx_error *err)
{
    struct pfx_logdir *dir = ctx;
    unsigned tile = level / PFX_TILE_HEIGHT, above = level % PFX_TILE_HEIGHT;
    if (tile >= PFX_TILE_LEVELS || index > PFX_TREE_SIZE_MAX >> level)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "read log", "tree", "", "No such node.");
    uint64_t first = index << above; /* of this tile level's hashes */
    size_t n = (size_t)1 << above;
    if (load(dir, tile, first / PFX_TILE_WIDTH)) {
        struct pfx_node nodes[PFX_TILE_WIDTH];
        memcpy(nodes, &dir->tiles[tile].hashes[first % PFX_TILE_WIDTH], n * sizeof *nodes);
        fold(dir->hasher, nodes, n);
        *ret_node = nodes[0];
        return PFX_OK;
    }
    if (level == 0) {
        struct pfx_bytes entry;
        PFX_TRY(pfx_logdir_entry(dir, index, &entry, err));
        pfx_hash_leaf(dir->hasher, entry, ret_node);
        return PFX_OK;
    }
    struct pfx_node left, right;
    PFX_TRY(pfx_logdir_node(dir, level - 1, index * 2, &left, err));
    PFX_TRY(pfx_logdir_node(dir, level - 1, index * 2 + 1, &right, err));
    pfx_hash_node(dir->hasher, &left, &right, ret_node);
    return PFX_OK;
}
