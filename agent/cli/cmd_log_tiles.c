/*
 * Tiles and bundles of an export. Every hash comes from the entries themselves, where they are
 * still there; those that retention dropped, and those that aren't what was signed, from the host's
 * own tiles. The checkpoint's root decides whether the whole is right.
 */
#include <string.h>

#include "agent/cli/cmd_log.h"

#define LEVELS (PFX_TREE_LEVELS / PFX_TILE_HEIGHT + 1)
#define BUNDLE_MAX ((size_t)PFX_TILE_WIDTH * (PFX_RECORD_HEAD + PFX_ENTRY_MAX))

struct tiles {
    struct cli_export *export;
    struct pfx_tree tree;
    struct pfx_frontier frontier;
    uint8_t nodes[LEVELS][PFX_TILE_WIDTH * PFX_HASH_SIZE]; /* of the tile that grows, by level */
    struct pfx_buf bundle;
    pfx_result result; /* of a tile that was written on the way */
    struct pfx_error *err;
};

static uint64_t tiles_end(const struct tiles *tiles)
{
    return tiles->export->checkpoint.size;
}

static pfx_result put_tile(struct tiles *tiles, unsigned level, uint64_t number, unsigned width)
{
    char name[PFX_TILE_PATH_SIZE];
    struct pfx_bytes content = {tiles->nodes[level], (size_t)width * PFX_HASH_SIZE};
    return cli_folder_put(&tiles->export->folder, pfx_tile_path((int)level, number, width, name),
                          content, tiles->err);
}

/* A subtree is complete: every eighth level stands in tiles. */
static void complete(void *ctx, unsigned level, uint64_t index, const struct pfx_node *node)
{
    struct tiles *tiles = ctx;
    if (level % PFX_TILE_HEIGHT != 0)
        return;
    unsigned tile = level / PFX_TILE_HEIGHT;
    size_t at = index % PFX_TILE_WIDTH;
    memcpy(tiles->nodes[tile] + at * PFX_HASH_SIZE, node->bytes, PFX_HASH_SIZE);
    if (at == PFX_TILE_WIDTH - 1 && pfx_ok(tiles->result))
        tiles->result = put_tile(tiles, tile, index / PFX_TILE_WIDTH, PFX_TILE_WIDTH);
}

/* What the growing tiles hold before `from`. */
static pfx_result resume(struct tiles *tiles, uint64_t from)
{
    PFX_TRY(pfx_tree_frontier(&tiles->tree, from, &tiles->frontier, tiles->err));
    for (unsigned tile = 1; tile < LEVELS; tile++) {
        unsigned level = tile * PFX_TILE_HEIGHT;
        uint64_t end = from >> level, start = end - end % PFX_TILE_WIDTH;
        for (uint64_t index = start; index < end; index++) {
            struct pfx_node node;
            PFX_TRY(pfx_logdir_node(tiles->export->dir, level, index, &node, tiles->err));
            memcpy(tiles->nodes[tile] + (index - start) * PFX_HASH_SIZE, node.bytes, PFX_HASH_SIZE);
        }
    }
    return PFX_OK;
}

enum bundle { BUNDLE_WHOLE, BUNDLE_DROPPED, BUNDLE_DAMAGED };
/* The entries of a bundle and their leaves, as they stand in the folder. */
static enum bundle read_bundle(struct tiles *tiles, uint64_t first, unsigned n,
                               struct pfx_node *ret_leaves)
{
    pfx_buf_reset(&tiles->bundle);
    for (unsigned i = 0; i < n; i++) {
        struct pfx_bytes entry;
        struct pfx_error why = PFX_ERROR_NONE;
        pfx_result r = pfx_logdir_entry(tiles->export->dir, first + i, &entry, &why);
        if (pfx_failed(r))
            return r.cls == PFX_CLASS_REFUSED ? BUNDLE_DROPPED : BUNDLE_DAMAGED;
        uint8_t head[PFX_RECORD_HEAD] = {(uint8_t)(entry.len >> 8), (uint8_t)entry.len};
        if (entry.len > PFX_ENTRY_MAX || !pfx_buf_add(&tiles->bundle, head, sizeof(head)) ||
            !pfx_buf_add(&tiles->bundle, entry.data, entry.len))
            return BUNDLE_DAMAGED;
        pfx_hash_leaf(tiles->export->hasher, entry, &ret_leaves[i]);
    }
    return BUNDLE_WHOLE;
}

/* The leaves as the host's tile has them; where a bundle is whole, they must be those of its
 * entries. Bundles behind the last full tile have no other source than the entries. */
static pfx_result compare(struct tiles *tiles, uint64_t first, unsigned n, enum bundle *state,
                          struct pfx_node *leaves)
{
    if (*state == BUNDLE_WHOLE && n < PFX_TILE_WIDTH)
        return PFX_OK;
    for (unsigned i = 0; i < n; i++) {
        struct pfx_node leaf;
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(pfx_logdir_node(tiles->export->dir, 0, first + i, &leaf, &why))) {
            if (*state == BUNDLE_WHOLE)
                return PFX_OK; /* the root will say whether these entries are right */
            char object[64];
            (void)snprintf(object, sizeof(object), "entry %llu", (unsigned long long)(first + i));
            return pfx_fail(tiles->err, PFX_CLASS_INTEGRITY, "export", object, why.code,
                            "it is damaged or missing in %s, and so is its hash: no checkpoint was "
                            "written. Keep the folder as it is; earlier exports and copies have "
                            "the entry",
                            tiles->export->log_path);
        }
        if (*state == BUNDLE_WHOLE && !pfx_hash_equal(&leaf, &leaves[i]))
            *state = BUNDLE_DAMAGED;
        leaves[i] = leaf;
    }
    return PFX_OK;
}

static pfx_result one_bundle(struct tiles *tiles, uint64_t number)
{
    struct cli_export *export = tiles->export;
    uint64_t first = number * PFX_TILE_WIDTH, left = tiles_end(tiles) - first;
    unsigned n = left < PFX_TILE_WIDTH ? (unsigned)left : PFX_TILE_WIDTH;
    struct pfx_node leaves[PFX_TILE_WIDTH];
    enum bundle state = read_bundle(tiles, first, n, leaves);
    PFX_TRY(compare(tiles, first, n, &state, leaves));
    for (unsigned i = 0; i < n; i++)
        pfx_frontier_add(export->hasher, &tiles->frontier, &leaves[i], complete, tiles);
    PFX_TRY(tiles->result);
    char name[PFX_TILE_PATH_SIZE];
    if (state == BUNDLE_WHOLE)
        return cli_folder_put(&export->folder, pfx_tile_path(PFX_TILE_ENTRIES, number, n, name),
                              pfx_buf_bytes(&tiles->bundle), tiles->err);
    if (state == BUNDLE_DAMAGED && export->damaged++ == 0)
        export->first_damaged = first;
    return PFX_OK;
}

static pfx_result partial_tiles(struct tiles *tiles)
{
    for (unsigned level = 0; level < LEVELS; level++) {
        uint64_t full = 0;
        unsigned width = pfx_tile_partial((int)level, tiles_end(tiles), &full);
        if (width > 0)
            PFX_TRY(put_tile(tiles, level, full, width));
    }
    return PFX_OK;
}

/* The first bundle that this folder doesn't have in full, though the host could give it. */
static uint64_t first_missing(struct cli_export *export)
{
    uint64_t full = export->earlier ? export->had.size / PFX_TILE_WIDTH : 0;
    uint64_t kept = (pfx_logdir_first(export->dir) + PFX_TILE_WIDTH - 1) / PFX_TILE_WIDTH;
    char name[PFX_TILE_PATH_SIZE];
    for (uint64_t i = 0; i < full; i++)
        if (!cli_folder_has(&export->folder, pfx_tile_path(0, i, PFX_TILE_WIDTH, name)) ||
            (i >= kept && !cli_folder_has(&export->folder, pfx_tile_path(PFX_TILE_ENTRIES, i,
                                                                         PFX_TILE_WIDTH, name))))
            return i;
    return full;
}

static pfx_result run(struct tiles *tiles)
{
    struct cli_export *export = tiles->export;
    uint64_t number = first_missing(export), end = tiles_end(tiles);
    export->from = number * PFX_TILE_WIDTH;
    PFX_TRY(resume(tiles, export->from));
    for (; number * PFX_TILE_WIDTH < end; number++) {
        PFX_TRY(one_bundle(tiles, number));
        uint64_t done = (number + 1) * PFX_TILE_WIDTH;
        cli_progress_show(&export->progress, "entries",
                          (int64_t)((done < end ? done : end) - export->from),
                          (int64_t)(end - export->from));
    }
    struct pfx_node root;
    pfx_frontier_root(export->hasher, &tiles->frontier, &root);
    if (!pfx_hash_equal(&root, &export->checkpoint.root))
        return pfx_fail(tiles->err, PFX_CLASS_INTEGRITY, "export", export->log_path, "",
                        "the entries below %llu don't give the root that the checkpoint signs: "
                        "no checkpoint was written. Keep the folder as it is, and compare it with "
                        "earlier exports and copies",
                        (unsigned long long)end);
    return partial_tiles(tiles);
}

pfx_result cli_export_tiles(struct cli_export *export, struct pfx_error *err)
{
    struct tiles *tiles PFX_AUTOFREE = pfx_alloc(sizeof(*tiles));
    tiles->export = export;
    tiles->tree = (struct pfx_tree){export->hasher, pfx_logdir_node, export->dir};
    tiles->bundle = pfx_buf_make(BUNDLE_MAX);
    tiles->err = err;
    pfx_result r = run(tiles);
    pfx_buf_done(&tiles->bundle);
    return r;
}

/* Partial tiles and bundles between the two sizes, but for those of the size now: of the earlier
 * export, and of one that broke off. */
static void prune_one(struct cli_export *export, int level)
{
    uint64_t first = 0, last = 0;
    (void)pfx_tile_partial(level, export->earlier ? export->had.size : 0, &first);
    unsigned width = pfx_tile_partial(level, export->checkpoint.size, &last);
    for (uint64_t number = first; number <= last; number++) {
        char name[PFX_TILE_PATH_SIZE];
        char *keep = strrchr(pfx_tile_path(level, number, 1, name), '/');
        *keep++ = '\0'; /* "tile/0/004.p" and "1" */
        (void)snprintf(keep, 4, "%u", number == last ? width : 0);
        cli_folder_sweep(&export->folder, name, keep);
    }
}

void cli_export_prune(struct cli_export *export)
{
    if (export->fresh)
        return;
    prune_one(export, PFX_TILE_ENTRIES);
    for (int level = 0; level < (int)LEVELS; level++)
        prune_one(export, level);
}
