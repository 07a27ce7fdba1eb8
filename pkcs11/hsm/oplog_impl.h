/*
 * Inside of the operation log's writer; for oplog*.c only.
 *
 * One committer thread does all that touches files or the signer. Appenders only add bytes to the
 * segment's pending buffer, under the lock. Fields marked (c) belong to the committer alone, or to
 * whoever opens the log before there is one; all others are read and written under the lock.
 */
#ifndef PFX_HSM_OPLOG_IMPL_H
#define PFX_HSM_OPLOG_IMPL_H

#include <pthread.h>

#include "pkcs11/hsm/oplog.h"

#define PFX_RESULT_ROOM 2048 /* bytes set aside for the result of each intent */
#define PFX_OPEN_MAX 128     /* intents without result: they stand in each log.segment note */
#define PFX_PROMISED_MAX ((uint64_t)PFX_OPEN_MAX * PFX_RESULT_ROOM)
#define PFX_NOTE_ROOM 24576 /* a log.segment note with its record head */
#define PFX_TILE_LEVELS (PFX_TREE_LEVELS / PFX_TILE_HEIGHT + 1)
#define PFX_TILE_BYTES (PFX_TILE_WIDTH * PFX_HASH_SIZE)
#define PFX_BOOT_UNKNOWN "unknown"
#define PFX_COVER_AFTER_MS 1000 /* entries that nobody waits for are covered after so long */

/* A segment being written. [0, end) is records, [end, alloc) is allocated zeros. */
struct pfx_segment {
    struct pfx_segment *next; /* towards the newest */
    int fd;
    uint64_t first;
    uint64_t end, alloc;
    struct pfx_buf pending; /* records that aren't in the file yet: they belong at pending_at */
    uint64_t pending_at;
};

struct pfx_full_tile {
    struct pfx_full_tile *next;
    unsigned level;
    uint64_t number;
    uint64_t upto; /* entries that have to be covered before it is written */
    struct pfx_node hashes[PFX_TILE_WIDTH];
};

/* Work for the committer; run without the lock. */
struct pfx_oplog_job {
    struct pfx_oplog_job *next;
    pfx_result (*run)(struct pfx_oplog *log, struct pfx_oplog_job *job, struct pfx_error *err);
    const void *in;
    void *out;
    struct pfx_error *err;
    pfx_result result;
    bool done;
};

struct pfx_anchor_seen {
    bool ours;
    uint64_t size;
    uint8_t hash[12];
};

struct pfx_oplog {
    /* settled at open */
    char *dir;
    gid_t readers;
    uint64_t segment_entries, reserve, anchor_entries, grow_by;
    int64_t keep_ms, anchor_every_ms;
    const struct pfx_oplog_io *io;
    char boot[40];
    pthread_mutex_t lock;
    pthread_cond_t work, done; /* something for the committer; something for those who wait */
    pthread_t thread;
    bool running, stop;
    unsigned waiters;

    enum pfx_oplog_state state;
    struct pfx_error why;
    int fd, entries_fd, slots[2]; /* (c) folders; the slots of the checkpoint */

    /* the tree as far as it is appended */
    struct pfx_hasher *hasher; /* under the lock */
    struct pfx_frontier frontier;
    struct pfx_node prev;
    struct pfx_node partial[PFX_TILE_LEVELS][PFX_TILE_WIDTH];
    struct pfx_full_tile *tiles, **tiles_end;
    size_t n_tiles;
    struct pfx_oplog_facts facts;
    uint64_t open[PFX_OPEN_MAX]; /* intents without result, ascending */
    size_t n_open;
    uint64_t dangling[PFX_OPEN_MAX];
    size_t n_dangling;
    uint64_t opened_size; /* entries found at open, until the first attach took note of it */
    bool attached_once;
    pfx_oplog_fill fill;
    void *fill_ctx;
    struct pfx_buf scratch;
    struct pfx_draft note; /* of the log's own entries */

    struct pfx_segment *segments, *current; /* those with something to write; the newest */
    struct pfx_segment *spare;              /* made ahead: takes over when its first seq comes */
    bool room_wanted;
    uint64_t room_need;
    unsigned room_tries;
    struct pfx_error room_why; /* of the last try that failed; empty after one that worked */
    int64_t room_retry_ms;
    bool exclusive; /* a rotation is going on: appends wait */

    uint64_t synced, covered;
    struct pfx_frontier synced_frontier;
    uint64_t cover_wanted; /* by those who wait */
    int64_t uncovered_since_ms;
    unsigned cover_failures;
    uint64_t cover_failed_upto;
    struct pfx_error cover_why;
    int64_t cover_retry_ms, cover_delay_ms;
    int64_t covered_ms;

    struct pfx_signer signer;
    bool attached;
    unsigned signing;

    struct pfx_oplog_job *jobs, **jobs_end;

    struct pfx_hasher *own_hasher; /* (c) */
    struct pfx_buf note_text;      /* (c) the last checkpoint as written */
    uint64_t note_size;            /* (c) */
    unsigned slot_next;            /* (c) */
    uint64_t milestone_size;       /* (c) the last one that was kept */
    uint64_t milestone_due;        /* a segment ended here: keep the checkpoint that covers it */
    int64_t chores_retry_ms;       /* (c) */
    int64_t keep_look_ms;          /* (c) */
    struct pfx_anchor_seen anchors[2]; /* (c) */
    int64_t anchor_retry_ms;           /* (c) */

    uint64_t anchor_size;
    int64_t anchor_ms;
    struct pfx_error anchor_why;
    uint64_t first, n_segments, commits, checkpoints;
};

int64_t pfx_oplog_now(void);    /* ms of CLOCK_REALTIME */
int64_t pfx_oplog_uptime(void); /* ms of CLOCK_BOOTTIME */

/* oplog_io.c: the system calls; 0 or an errno. */
int pfx_oplog_write_at(struct pfx_oplog *log, const char *step, int fd, const void *data,
                       size_t len, uint64_t at);
int pfx_oplog_sync(struct pfx_oplog *log, const char *step, int fd);
int pfx_oplog_allocate(struct pfx_oplog *log, const char *step, int fd, uint64_t len);
/* Opens or makes a file of the log, with its mode and group. */
int pfx_oplog_file(struct pfx_oplog *log, const char *step, int dir, const char *name, int flags,
                   int *ret_fd);
int pfx_oplog_folder(struct pfx_oplog *log, const char *path); /* below the log; with parents */
int pfx_oplog_sync_folder(struct pfx_oplog *log, const char *step, const char *path);
/* Gives all folders below the log their mode and group again, which a crash may have kept from
 * them; and all files, where another group reads the log than before. As far as that may be done.
 */
void pfx_oplog_modes(struct pfx_oplog *log);
bool pfx_oplog_no_space(int error); /* full disk or quota: passes by itself */

/* A small file that is there whole or not at all: written under another name, synced, renamed. */
struct pfx_small {
    const char *make, *write, *sync, *name, *folder; /* steps */
};
extern const struct pfx_small pfx_small_tile, pfx_small_milestone, pfx_small_anchor, pfx_small_key,
    pfx_small_policy, pfx_small_slot;
PFX_MUST_USE pfx_result pfx_oplog_small(struct pfx_oplog *log, const struct pfx_small *small,
                                        const char *path, struct pfx_bytes data,
                                        struct pfx_error *err);
bool pfx_oplog_there(struct pfx_oplog *log, const char *path);

/* No further entry until the process starts again. Takes the lock. Returns the failure. */
PFX_MUST_USE pfx_result pfx_oplog_fail(struct pfx_oplog *log, const char *step, const char *object,
                                       int error, struct pfx_error *err);
/* For those who find the log not open; with the lock. */
PFX_MUST_USE pfx_result pfx_oplog_usable(const struct pfx_oplog *log, struct pfx_error *err);

/* oplog_segment.c */
struct pfx_segment *pfx_segment_new(int fd, uint64_t first);
void pfx_segment_free(struct pfx_segment *segment);
/* Is it fit to be the next one: room for the reserve, and what it begins with? */
bool pfx_segment_serves(const struct pfx_oplog *log, const struct pfx_segment *segment);
/* The length that a segment with so much in it is allocated to. */
uint64_t pfx_oplog_target(const struct pfx_oplog *log, uint64_t end, uint64_t need);
/* Lock held: is there room for len bytes more and the results of so many intents? */
bool pfx_oplog_fits(const struct pfx_oplog *log, uint64_t len, size_t intents, enum pfx_room room);
bool pfx_oplog_room_short(const struct pfx_oplog *log);
void pfx_oplog_make_room(struct pfx_oplog *log); /* committer */
/* Lock held: the spare takes over, and says in its first entry what the log is. */
void pfx_oplog_roll(struct pfx_oplog *log);

/* oplog_append.c; all with the lock held. put: no check of room or state. */
void pfx_oplog_put(struct pfx_oplog *log, const struct pfx_entry *draft);
void pfx_oplog_put_one(struct pfx_oplog *log, const struct pfx_entry *draft);
/* How long the host was seen to run since the log began (ms). */
int64_t pfx_oplog_ran(const struct pfx_oplog *log);
/* An entry that is in the file: into tree, facts and the list of intents. */
void pfx_oplog_learn(struct pfx_oplog *log, struct pfx_bytes json, const struct pfx_entry *entry);

/* All of memory that an entry changes but the list of intents, so that the last one can be taken
 * back: a rotation that didn't come about. Lock held. */
struct pfx_before {
    struct pfx_frontier frontier;
    struct pfx_node prev;
    struct pfx_oplog_facts facts;
    struct pfx_full_tile **tiles_end;
    size_t n_tiles;
    uint64_t end; /* of the current segment: the caller's */
};
void pfx_oplog_remember(struct pfx_oplog *log, uint64_t end, struct pfx_before *ret);
void pfx_oplog_restore(struct pfx_oplog *log, const struct pfx_before *before);

/* oplog_commit.c */
void *pfx_oplog_committer(void *log);
PFX_MUST_USE pfx_result pfx_oplog_run(struct pfx_oplog *log,
                                      pfx_result (*run)(struct pfx_oplog *, struct pfx_oplog_job *,
                                                        struct pfx_error *),
                                      const void *in, void *out, struct pfx_error *err);
/* Committer: all that is appended, written and synced; a checkpoint over all that is synced. */
PFX_MUST_USE pfx_result pfx_oplog_commit(struct pfx_oplog *log, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_cover(struct pfx_oplog *log, const struct pfx_signer *also,
                                        struct pfx_error *err);
PFX_MUST_USE bool pfx_oplog_signer_take(struct pfx_oplog *log, struct pfx_signer *ret);
void pfx_oplog_signer_give(struct pfx_oplog *log);

/* oplog_tile.c; committer */
void pfx_oplog_tile_done(void *log, unsigned level, uint64_t index, const struct pfx_node *node);
bool pfx_oplog_chores_due(struct pfx_oplog *log, bool idle); /* lock held */
PFX_MUST_USE pfx_result pfx_oplog_chores(struct pfx_oplog *log, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_milestone(struct pfx_oplog *log, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_keep_keys(struct pfx_oplog *log, const struct pfx_signer *signer,
                                            struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_mend_tiles(struct pfx_oplog *log, uint64_t before,
                                             struct pfx_logdir *dir, struct pfx_error *err);

/* oplog_anchor.c; committer */
void pfx_anchor_label(const struct pfx_checkpoint *checkpoint, char ret[65]);
PFX_MUST_USE pfx_result pfx_oplog_anchor(struct pfx_oplog *log, struct pfx_error *err);
/* Lock held: when the next one is due (uptime), INT64_MAX: not by itself; and whether it is now. */
int64_t pfx_oplog_anchor_at(const struct pfx_oplog *log);
bool pfx_oplog_anchor_due(const struct pfx_oplog *log, int64_t now, bool idle);
PFX_MUST_USE pfx_result pfx_oplog_anchors_read(struct pfx_oplog *log,
                                               const struct pfx_signer *signer, bool begins,
                                               bool successor, struct pfx_error *err);

/* oplog_keep.c; committer */
bool pfx_oplog_keep_due(struct pfx_oplog *log, int64_t now); /* lock held */
void pfx_oplog_keep(struct pfx_oplog *log);

struct pfx_found { /* one segment file */
    uint64_t first;
    int fd;
    uint64_t end;       /* of its last whole record */
    uint64_t uncovered; /* offset of the first record that no checkpoint covers */
    uint64_t length;
};

struct pfx_recovery {
    struct pfx_oplog *log;
    struct pfx_logdir *dir;
    const struct pfx_checkpoint *checkpoint;
    struct pfx_found *files; /* from the one with the checkpoint's last entry on */
    size_t n_files;
    size_t last;   /* the one that ends the log */
    bool rotation; /* the last entry is a rotation that no checkpoint covers */
    struct pfx_before before;
};

/* oplog_mend.c; while the log is opened. A failure of the disk, with what to do. */
PFX_MUST_USE pfx_result pfx_oplog_disk(int error, const char *step, const char *object,
                                       struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_mend_tail(struct pfx_recovery *r, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_take_files(struct pfx_recovery *r, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_mend_slots(struct pfx_recovery *r, struct pfx_error *err);

/* oplog_open.c */
void pfx_oplog_recover(struct pfx_oplog *log);
PFX_MUST_USE pfx_result pfx_oplog_enter(struct pfx_oplog *log, struct pfx_error *err);
void pfx_oplog_leave(struct pfx_oplog *log); /* closes files, forgets the tree */

#endif
