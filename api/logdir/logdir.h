/*
 * The folder in which a host keeps its operation log, for reading: names of its files, entries by
 * number, tree nodes, checkpoints. Used by pfx-hsm at start and by the command line; readable
 * while pfx-hsm writes, and when it is dead.
 *
 *   entries/<20 digits>   a segment: records (crypto/entry.h) from that seq on, in a preallocated
 *                         file: what lies behind the last record reads as zeros
 *   checkpoint.0, .1      the two newest checkpoints, written in turn, each in a fixed slot (below)
 *   checkpoints/<20 digits>  milestones by size: at anchors, start, stop, segment ends, key changes
 *   tile/<L>/...          full hash tiles only (256 nodes)
 *   policy/<sha256>.yaml  each policy that was in force
 *   keys/<vkey id>.vkey   each key line that signed, one a file
 *   anchor                what was last written to the token, "origin\nsize\nhash\ntime\n": hash 24
 *                         hex digits, time RFC 3339
 *   copy                  there in a backup only: pfx-hsm goes on with a successor, never with this
 *
 * A segment begins at a multiple of 256; it is as long as the next one's name says, not always
 * log.segment_entries. The last one may be empty: made ahead, for entries to come. Tiles hold
 * covered entries only. Names that begin with '.' are files being written.
 *
 * Only the writer (pkcs11/hsm/oplog.h) changes anything here. Any number of readers; one reader
 * isn't for several threads.
 */
#ifndef PFX_LOGDIR_LOGDIR_H
#define PFX_LOGDIR_LOGDIR_H

#include "crypto/checkpoint.h"
#include "crypto/entry.h"

#define PFX_LOGDIR_COPY "copy"

/* A slot: a fixed PFX_SLOT_SIZE bytes. Line 1: 16 hex digits of SHA-256 over the rest up to the
 * slot's end, LF; then the checkpoint; then zeros. A slot that doesn't hash is a torn write: the
 * other one counts. The larger size counts of two good ones. */
#define PFX_SLOT_SIZE 4096
#define PFX_SLOT_HEAD 17
void pfx_slot_write(struct pfx_bytes checkpoint, uint8_t ret_slot[PFX_SLOT_SIZE]);
PFX_MUST_USE bool pfx_slot_read(const uint8_t slot[PFX_SLOT_SIZE],
                                struct pfx_bytes *ret_checkpoint);

#define PFX_SEGMENT_NAME_SIZE 21
char *pfx_segment_name(uint64_t first, char buf[PFX_SEGMENT_NAME_SIZE]); /* returns buf */
PFX_MUST_USE bool pfx_segment_parse(const char *name, uint64_t *ret_first);

struct pfx_logdir;
/* Opens for reading, and refreshes. USAGE: no such folder, or no log in it (says how to start one).
 */
PFX_MUST_USE pfx_result pfx_logdir_open(const char *path, struct pfx_logdir **ret,
                                        struct pfx_error *err);
/* The same whatever the slots say: for the writer, who has to look at a log that needs mending. The
 * checkpoint is empty until a refresh. */
PFX_MUST_USE pfx_result pfx_logdir_open_bare(const char *path, struct pfx_logdir **ret,
                                             struct pfx_error *err);
void pfx_logdir_close(struct pfx_logdir *dir);
static inline void pfx_logdir_closep(struct pfx_logdir **pp)
{
    pfx_logdir_close(*pp);
}
/* Reads the slots and the list of segments anew. INTEGRITY: neither slot is good. size 0 and no
 * text where there is no checkpoint yet. */
PFX_MUST_USE pfx_result pfx_logdir_refresh(struct pfx_logdir *dir, struct pfx_error *err);
/* The newest checkpoint: text as it stands, borrowed until the next refresh, and parsed. */
struct pfx_bytes pfx_logdir_checkpoint(const struct pfx_logdir *dir,
                                       const struct pfx_checkpoint **ret_parsed);
/* The first seq whose entry is still here (retention), and the number of entries that are readable
 * at this moment, covered or not. */
uint64_t pfx_logdir_first(const struct pfx_logdir *dir);
PFX_MUST_USE pfx_result pfx_logdir_count(struct pfx_logdir *dir, uint64_t *ret_count,
                                         struct pfx_error *err);
/* Entry number seq, borrowed until the next call. TRANSIENT with code "end": not written yet;
 * REFUSED with code "dropped": retention took it; INTEGRITY: damaged. Reading on in order costs
 * one read for many. */
PFX_MUST_USE pfx_result pfx_logdir_entry(struct pfx_logdir *dir, uint64_t seq,
                                         struct pfx_bytes *ret_entry, struct pfx_error *err);
/* For pfx_tree: nodes from full tiles, from the segments' entries below them. ctx is the dir. */
pfx_result pfx_logdir_node(void *ctx, unsigned level, uint64_t index, struct pfx_node *ret_node,
                           struct pfx_error *err);
/* Appends the receipt of a covered entry under the newest checkpoint, and the entry itself, unless
 * retention dropped it, to ret_entry. INTEGRITY: the folder's own files don't prove it. */
PFX_MUST_USE pfx_result pfx_logdir_receipt(struct pfx_logdir *dir, uint64_t seq, struct pfx_buf *out,
                                           struct pfx_buf *ret_entry, struct pfx_error *err);
/* Each file name of a sub-folder ("checkpoints", "keys", "policy", "entries"), sorted; owned by the
 * caller, free each and the array. A folder that is missing has none. */
PFX_MUST_USE pfx_result pfx_logdir_list(struct pfx_logdir *dir, const char *folder,
                                        char ***ret_names, size_t *ret_n, struct pfx_error *err);
/* A whole file below the folder, at most `max` bytes. */
PFX_MUST_USE pfx_result pfx_logdir_file(struct pfx_logdir *dir, const char *name, size_t max,
                                        struct pfx_buf *ret, struct pfx_error *err);
struct pfx_anchor_copy {
    char origin[PFX_ORIGIN_SIZE];
    uint64_t size;
    uint8_t hash[12]; /* first bytes of SHA-256(checkpoint) */
    int64_t at_ms;
};
/* False: there is none (yet). */
PFX_MUST_USE bool pfx_logdir_anchor(struct pfx_logdir *dir, struct pfx_anchor_copy *ret);

#endif
