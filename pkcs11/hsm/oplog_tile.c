/* What is derived or kept besides: hash tiles, milestones, key lines. Off the release path. */
#include <stdio.h>
#include <string.h>

#include "pkcs11/hsm/oplog_impl.h"

#define TILES_AT_ONCE 16 /* so many wait at most for an idle moment */

void pfx_oplog_tile_done(void *ctx, unsigned level, uint64_t index, const struct pfx_node *node)
{
    struct pfx_oplog *log = ctx;
    if (level % PFX_TILE_HEIGHT != 0)
        return;
    unsigned tile = level / PFX_TILE_HEIGHT;
    log->partial[tile][index % PFX_TILE_WIDTH] = *node;
    if (index % PFX_TILE_WIDTH != PFX_TILE_WIDTH - 1)
        return;
    struct pfx_full_tile *full = pfx_alloc(sizeof *full);
    full->level = tile;
    full->number = index / PFX_TILE_WIDTH;
    full->upto = (index + 1) << level;
    memcpy(full->hashes, log->partial[tile], sizeof full->hashes);
    *log->tiles_end = full;
    log->tiles_end = &full->next;
    log->n_tiles++;
}

static bool tile_ready(const struct pfx_oplog *log)
{
    return log->tiles && log->tiles->upto <= log->covered;
}

bool pfx_oplog_chores_due(struct pfx_oplog *log, bool idle)
{
    if (log->state != PFX_OPLOG_OPEN)
        return false;
    return (tile_ready(log) && (idle || log->n_tiles >= TILES_AT_ONCE)) ||
           (log->milestone_due > 0 && log->note_size >= log->milestone_due);
}

static void drop_tile(struct pfx_oplog *log)
{
    pthread_mutex_lock(&log->lock);
    struct pfx_full_tile *tile = log->tiles;
    log->tiles = tile->next;
    if (!log->tiles)
        log->tiles_end = &log->tiles;
    log->n_tiles--;
    pthread_mutex_unlock(&log->lock);
    free(tile);
}

static pfx_result write_tile(struct pfx_oplog *log, unsigned level, uint64_t number,
                             const struct pfx_node *hashes, struct pfx_error *err)
{
    char path[PFX_TILE_PATH_SIZE];
    pfx_tile_path((int)level, number, PFX_TILE_WIDTH, path);
    return pfx_oplog_small(log, &pfx_small_tile, path,
                           (struct pfx_bytes){(const uint8_t *)hashes, PFX_TILE_BYTES}, err);
}

pfx_result pfx_oplog_chores(struct pfx_oplog *log, struct pfx_error *err)
{
    for (;;) {
        pthread_mutex_lock(&log->lock);
        struct pfx_full_tile *tile = tile_ready(log) ? log->tiles : NULL;
        uint64_t due = log->milestone_due;
        pthread_mutex_unlock(&log->lock);
        if (tile) {
            /* In order: so what is missing after a crash is the end of each level. */
            PFX_TRY(write_tile(log, tile->level, tile->number, tile->hashes, err));
            drop_tile(log);
            continue;
        }
        if (due == 0 || log->note_size < due)
            return PFX_OK;
        PFX_TRY(pfx_oplog_milestone(log, err));
        pthread_mutex_lock(&log->lock);
        if (log->milestone_due == due)
            log->milestone_due = 0;
        pthread_mutex_unlock(&log->lock);
    }
}

pfx_result pfx_oplog_milestone(struct pfx_oplog *log, struct pfx_error *err)
{
    char name[PFX_SEGMENT_NAME_SIZE], path[64];
    if (log->note_size == 0 || log->milestone_size == log->note_size)
        return PFX_OK;
    snprintf(path, sizeof path, "checkpoints/%s", pfx_segment_name(log->note_size, name));
    PFX_TRY(pfx_oplog_small(log, &pfx_small_milestone, path, pfx_buf_bytes(&log->note_text), err));
    log->milestone_size = log->note_size;
    return PFX_OK;
}

pfx_result pfx_oplog_keep_keys(struct pfx_oplog *log, const struct pfx_signer *signer,
                               struct pfx_error *err)
{
    for (size_t i = 0; i < signer->n_keys; i++) {
        const struct pfx_vkey *key = &signer->keys[i];
        char path[32], text[PFX_VKEY_LINE_SIZE], line[PFX_VKEY_LINE_SIZE + 1];
        snprintf(path, sizeof path, "keys/%02x%02x%02x%02x.vkey", key->id[0], key->id[1],
                 key->id[2], key->id[3]);
        int len = snprintf(line, sizeof line, "%s\n", pfx_vkey_line(key, text));
        if (!pfx_oplog_there(log, path))
            PFX_TRY(pfx_oplog_small(log, &pfx_small_key, path,
                                    (struct pfx_bytes){(const uint8_t *)line, (size_t)len}, err));
    }
    return PFX_OK;
}

static bool same_tile(struct pfx_logdir *dir, const struct pfx_full_tile *tile)
{
    char path[PFX_TILE_PATH_SIZE];
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_TILE_BYTES + 1);
    struct pfx_error ignored = PFX_ERROR_NONE;
    pfx_tile_path((int)tile->level, tile->number, PFX_TILE_WIDTH, path);
    return pfx_ok(pfx_logdir_file(dir, path, PFX_TILE_BYTES, &bytes, &ignored)) &&
           bytes.len == PFX_TILE_BYTES && memcmp(bytes.data, tile->hashes, PFX_TILE_BYTES) == 0;
}

static bool has_tile(struct pfx_oplog *log, unsigned level, uint64_t number)
{
    char path[PFX_TILE_PATH_SIZE];
    return pfx_oplog_there(log, pfx_tile_path((int)level, number, PFX_TILE_WIDTH, path));
}

/* Those that the tile above isn't full of yet, each of them; and before those as far back as they
 * are missing: tiles are written in order, so what a crash kept from being written is the end. */
static pfx_result mend_level(struct pfx_oplog *log, struct pfx_logdir *dir, unsigned level,
                             uint64_t before, struct pfx_error *err)
{
    unsigned bits = PFX_TILE_HEIGHT * (level + 1);
    uint64_t n = before >> bits, from = n / PFX_TILE_WIDTH * PFX_TILE_WIDTH;
    while (from > 0 && !has_tile(log, level, from - 1))
        from--;
    for (; from < n; from++) {
        struct pfx_node hashes[PFX_TILE_WIDTH];
        if (has_tile(log, level, from))
            continue;
        for (unsigned i = 0; i < PFX_TILE_WIDTH; i++)
            PFX_TRY(pfx_logdir_node(dir, level * PFX_TILE_HEIGHT, from * PFX_TILE_WIDTH + i,
                                    &hashes[i], err));
        PFX_TRY(write_tile(log, level, from, hashes, err));
    }
    return PFX_OK;
}

pfx_result pfx_oplog_mend_tiles(struct pfx_oplog *log, uint64_t before, struct pfx_logdir *dir,
                                struct pfx_error *err)
{
    for (unsigned level = 0; level < PFX_TILE_LEVELS; level++)
        PFX_TRY(mend_level(log, dir, level, before, err));
    /* Those of the segments that were read: their hashes are known. */
    struct pfx_full_tile **at = &log->tiles;
    while (*at) {
        struct pfx_full_tile *tile = *at;
        if (tile->upto > log->covered || !same_tile(dir, tile)) {
            at = &tile->next;
            continue;
        }
        *at = tile->next;
        log->n_tiles--;
        free(tile);
    }
    log->tiles_end = at;
    return PFX_OK;
}
