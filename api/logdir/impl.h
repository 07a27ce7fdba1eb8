/* Inside of the reader; for api/logdir only. */
#ifndef PFX_LOGDIR_IMPL_H
#define PFX_LOGDIR_IMPL_H

#include "api/logdir/logdir.h"
#include "api/logdir/segment.h"

#define PFX_TILE_LEVELS (PFX_TREE_LEVELS / PFX_TILE_HEIGHT + 1)
#define PFX_TILE_BYTES (PFX_TILE_WIDTH * PFX_HASH_SIZE)

struct pfx_logdir {
    char *path;
    int fd;
    uint64_t *firsts; /* of the segments, ascending */
    size_t n_firsts;

    struct pfx_buf text; /* the newest checkpoint */
    struct pfx_checkpoint checkpoint;

    /* The segment that is being read. */
    int seg_fd;
    uint64_t seg_first;
    uint64_t seq; /* of the record that comes next */
    struct pfx_segment_reader reader;
    uint64_t *marks; /* file offset of seg_first + 256 i */
    size_t n_marks;

    struct pfx_hasher *hasher;
    struct {
        bool has;
        uint64_t number;
        struct pfx_node hashes[PFX_TILE_WIDTH];
    } tiles[PFX_TILE_LEVELS]; /* read last, one for each level */
};

PFX_MUST_USE pfx_result pfx_logdir_list_segments(struct pfx_logdir *dir, struct pfx_error *err);
void pfx_logdir_close_segment(struct pfx_logdir *dir);

#endif
