/*
 * An exported log (a folder in C2SP tlog-tiles layout), for reading: nothing in it is trusted, and
 * memory stays the same however long it is.
 *
 *   checkpoint                    the newest, a signed note
 *   checkpoints/<20 digits>       older ones that were kept, by size
 *   tile/<L>/<N>[.p/<W>]          hashes; tile/entries/<N>[.p/<W>]: bundles of entries
 *   tail                          records of entries that no checkpoint covers yet; may be missing
 *   keys/<key id>.vkey, .pem      public keys as the host says: an auditor brings their own
 *   anchor.json                   {"hash","origin","size","time"}: the token's anchor as last
 * written policy/<sha256>.yaml          texts of the policies names.jsonl                   the
 * name map, where the auditor may have it export.json
 * {"first","made","origin","size","software","v"}
 */
#ifndef PFX_AUDIT_SOURCE_H
#define PFX_AUDIT_SOURCE_H

#include "crypto/checkpoint.h"
#include "crypto/entry.h"

struct pfx_source;
/* USAGE: not a folder, or nothing of a log in it. Reads names and the checkpoint's bytes only. */
PFX_MUST_USE pfx_result pfx_source_open(const char *path, struct pfx_source **ret,
                                        struct pfx_error *err);
void pfx_source_close(struct pfx_source *source);
static inline void pfx_source_closep(struct pfx_source **pp)
{
    pfx_source_close(*pp);
}
const char *pfx_source_path(const struct pfx_source *source);
/* Bytes of "checkpoint" as they stand; empty when there is none. Borrowed. */
struct pfx_bytes pfx_source_checkpoint(const struct pfx_source *source);
/* Another file of the folder; USAGE with code "ENOENT" when it isn't there, INTEGRITY when it is
 * longer than max. */
PFX_MUST_USE pfx_result pfx_source_file(struct pfx_source *source, const char *name, size_t max,
                                        struct pfx_buf *ret, struct pfx_error *err);
/* Names in a sub-folder, sorted; free each and the array; none where it is missing. At most
 * 1,000,000. */
PFX_MUST_USE pfx_result pfx_source_list(struct pfx_source *source, const char *folder,
                                        char ***ret_names, size_t *ret_n, struct pfx_error *err);

/* Entries in order. A bundle is read whole (at most 256 * (2 + 65535) bytes). */
enum pfx_source_got {
    PFX_SOURCE_ENTRY,
    PFX_SOURCE_ABSENT,  /* not presented (retention, or a file that is missing): *ret_upto is the
                         * first seq after the gap */
    PFX_SOURCE_DAMAGED, /* bundle cut, too long, or with other than its number of entries: likewise
                         */
    PFX_SOURCE_END,     /* seq is the size */
};
struct pfx_source_cursor {
    uint64_t seq, size; /* the next one; how many there are: the caller's, from the checkpoint */
    struct pfx_buf bundle;
    uint64_t bundle_first;
    unsigned bundle_n, bundle_at;
    size_t offset;
};
struct pfx_source_cursor pfx_source_cursor_make(uint64_t seq, uint64_t size);
void pfx_source_cursor_done(struct pfx_source_cursor *cursor);
/* The entry is borrowed until the next call. */
enum pfx_source_got pfx_source_next(struct pfx_source *source, struct pfx_source_cursor *cursor,
                                    struct pfx_bytes *ret_entry, uint64_t *ret_upto);
/* For pfx_tree: from hash tiles, full or partial as the size asks for; tiles are checked by whoever
 * compares a root. ctx: a struct pfx_source_nodes. */
struct pfx_source_nodes {
    struct pfx_source *source;
    struct pfx_hasher *hasher;
    uint64_t size;
    struct { /* the tiles read last, one for each level */
        bool has;
        uint64_t number;
        unsigned width;
        uint8_t bytes[PFX_TILE_WIDTH * PFX_HASH_SIZE];
    } tiles[PFX_TREE_LEVELS / PFX_TILE_HEIGHT + 1];
};
pfx_result pfx_source_node(void *ctx, unsigned level, uint64_t index, struct pfx_node *ret_node,
                           struct pfx_error *err);

/* The name map, looked up by the hash that entries carry. Kept on disk, searched by scanning once
 * into a sorted spill; NULL where it is missing. */
struct pfx_names;
PFX_MUST_USE pfx_result pfx_names_open(struct pfx_source *source, const char *file,
                                       struct pfx_names **ret, struct pfx_error *err);
void pfx_names_close(struct pfx_names *names);
struct pfx_name {
    char user[65], id[37], upn[1025]; /* UPNs as long as pfx-agentd takes them */
};
/* By the entry's user hash (64 hex). */
bool pfx_names_by_user(struct pfx_names *names, struct pfx_bytes user, struct pfx_name *ret);
/* All users that this text names: an object id, a UPN, an address, or the hash itself. At most
 * `most`; returns how many. */
size_t pfx_names_find(struct pfx_names *names, const char *text, struct pfx_name *ret, size_t most);

#endif
