/*
 * The writer of the operation log: appends entries, syncs them, has checkpoints signed, and says
 * from when on a result may leave the process. Knows files and order; knows no Cryptoki call, no
 * policy and no event (signer.h, journal.h).
 *
 * One thread commits: it writes what was appended meanwhile in one go, syncs it, has one checkpoint
 * signed over all of it when somebody waits for that, and syncs the checkpoint. seq and prev are
 * given at the append, so the order of entries is the order of appends.
 *
 * Fail closed: after a write or a sync of entries or of a checkpoint that failed nothing is
 * appended any more until the process starts again, because what the kernel did with the pages
 * isn't known. A full disk alone doesn't close it: room for entries is allocated before they are
 * taken, the slots of the checkpoint are there since the log began, and what else is written
 * (tiles, milestones, the copy of the anchor) is tried again.
 *
 * Locks: one mutex, held for memory only, never during a system call on a file or a call of the
 * signer; so the functions may be called from any thread, those of the caller's that hold locks of
 * their own included, but for the callbacks named below.
 */
#ifndef PFX_HSM_OPLOG_H
#define PFX_HSM_OPLOG_H

#include <sys/types.h>

#include "api/logdir/logdir.h"

/* The system calls that can fail, so that a test can stop or break each of them. NULL: the real
 * ones. Each is called with the name of the step it stands for ("append entries", "sync entries",
 * "write slot", "sync slot", "make segment", ...; the list is pfx_oplog_steps). */
struct pfx_oplog_io {
    ssize_t (*pwrite)(void *ctx, const char *step, int fd, const void *data, size_t len, off_t at);
    int (*fdatasync)(void *ctx, const char *step, int fd);
    int (*fallocate)(void *ctx, const char *step, int fd, off_t len);
    int (*openat)(void *ctx, const char *step, int dir, const char *name, int flags, mode_t mode);
    int (*renameat)(void *ctx, const char *step, int dir, const char *from, const char *to);
    int (*unlinkat)(void *ctx, const char *step, int dir, const char *name);
    int (*ftruncate)(void *ctx, const char *step, int fd, off_t len);
    int (*mkdirat)(void *ctx, const char *step, int dir, const char *name, mode_t mode);
    void *ctx;
};
/* The default of each: for a hook that passes a call on. */
extern const struct pfx_oplog_io pfx_oplog_system;
extern const char *const pfx_oplog_steps[]; /* NULL at the end */

struct pfx_oplog_config {
    const char *dir;          /* made 0750 if missing; its parent must exist */
    gid_t readers;            /* group of all files, (gid_t)-1: leave */
    uint64_t segment_entries; /* a multiple of 256 */
    uint64_t reserve;         /* bytes kept free for refusals, stop and recovery */
    int64_t keep_ms;          /* whole segments are dropped after the host ran for so long since
                               * their last entry; 0: never */
    uint64_t anchor_entries;  /* anchored again after so many ... */
    int64_t anchor_every_ms;  /* ... or so long */
    const struct pfx_oplog_io *io; /* NULL: the system's */
};

/* Who signs and anchors: the token, behind four calls. They run on the committer's thread, without
 * any lock of the log, and may take as long as a Cryptoki call takes. */
struct pfx_signer {
    size_t n_keys; /* that sign every checkpoint: P-256 first, then Ed25519 where there is one */
    const struct pfx_vkey *keys;
    /* text: what is signed. A signature as checkpoint.h wants it. DEVICE: the token is away. */
    pfx_result (*sign)(void *ctx, size_t key, struct pfx_bytes text, uint8_t ret[PFX_SIGNATURE_MAX],
                       size_t *ret_len, struct pfx_error *err);
    /* The labels of the two anchors, "" for one that was never written. */
    pfx_result (*anchor_read)(void *ctx, char ret_labels[2][65], struct pfx_error *err);
    pfx_result (*anchor_write)(void *ctx, unsigned which, const char *label, struct pfx_error *err);
    void *ctx;
};

enum pfx_oplog_state {
    PFX_OPLOG_NONE,    /* no log in the folder: pfx_oplog_begin makes one */
    PFX_OPLOG_OPEN,    /* takes entries; signer may be attached or not */
    PFX_OPLOG_REFUSED, /* what is here isn't what the anchor, or the checkpoint, says: INTEGRITY */
    PFX_OPLOG_CLOSED,  /* a write or sync failed, or the folder can't be used: until restart */
};
struct pfx_oplog;
/* Always gives a log, whose state and reason say what it is good for; failure only for a program's
 * defect. Recovers the files (torn tail, missing tiles). Reads the last segment only. Intents
 * without a result are listed by pfx_oplog_dangling. */
PFX_MUST_USE pfx_result pfx_oplog_open(const struct pfx_oplog_config *config,
                                       struct pfx_oplog **ret_log, struct pfx_error *err);
/* Stops the committer; nobody waits any more. Doesn't sign: pfx_oplog_settle before. */
void pfx_oplog_free(struct pfx_oplog *log);
enum pfx_oplog_state pfx_oplog_state(struct pfx_oplog *log, struct pfx_error *ret_why);

/* Which entries an append may be refused room for. */
enum pfx_room {
    PFX_ROOM_ORDINARY, /* intents, notes: refused when only the reserve is left */
    PFX_ROOM_PROMISED, /* a result whose intent (its `ref`) was appended: its room was set aside
                        * then; without such an intent the same as RESERVED */
    PFX_ROOM_REFUSAL,  /* refusals: from the first half of the reserve */
    PFX_ROOM_RESERVED, /* start, stop, recovery: from all of it */
};
enum pfx_until {
    PFX_UNTIL_APPENDED, /* has its seq; is written with the next commit */
    PFX_UNTIL_SYNCED,   /* on disk */
    PFX_UNTIL_COVERED,  /* on disk, and so is a signed checkpoint over it: needs the signer */
};
/* Completes the draft (v, seq, prev, time, up, boot; op unless it is there) and appends it; the
 * draft stays as it was. ret_seq may be NULL. TRANSIENT with code ENOSPC (or what the disk said):
 * no room, nothing appended; TRANSIENT with code "open": 128 intents without result. While waiting
 * for COVERED, the entry being appended and *ret_seq set: TRANSIENT with code "signer": none
 * attached; or the signer's own failure, as it is. INTEGRITY: the log is refused; DEVICE: closed.
 * USAGE: state NONE, or not an entry. */
PFX_MUST_USE pfx_result pfx_oplog_append(struct pfx_oplog *log, struct pfx_draft *draft,
                                         enum pfx_room room, enum pfx_until until,
                                         uint64_t *ret_seq, struct pfx_error *err);
/* Many at once, one after another without one of another thread between them; waits once. */
PFX_MUST_USE pfx_result pfx_oplog_append_all(struct pfx_oplog *log, struct pfx_draft *drafts,
                                             size_t n, enum pfx_room room, enum pfx_until until,
                                             uint64_t *ret_last, struct pfx_error *err);
/* Waits for what was appended before. */
PFX_MUST_USE pfx_result pfx_oplog_wait(struct pfx_oplog *log, uint64_t seq, enum pfx_until until,
                                       struct pfx_error *err);

/* A new log: entry 0 (the caller's draft of log.begin or log.reopen, with the signer's keys and the
 * origin in it), its checkpoint, both anchors. Only in state NONE; what a begin that was cut short
 * left behind is overwritten. The signer is attached. INTEGRITY: the token has an anchor already,
 * of this origin, or (unless the event is log.reopen) of any. Anchors that can't be written don't
 * fail it: see anchor_why of the status. */
PFX_MUST_USE pfx_result pfx_oplog_begin(struct pfx_oplog *log, const char *origin,
                                        struct pfx_draft *first, const struct pfx_signer *signer,
                                        struct pfx_error *err);
/* Sets the folder's content aside (renamed to <dir>.<origin's last part or 1>.<time>) and leaves
 * state NONE, for a begin with a successor's origin. In any state; without anything in the folder
 * *ret_where is NULL. The signer is detached. Entries that wait are written, if they can be. After
 * a failure it can be tried again: the state is what it was, or REFUSED if the folder was set aside
 * and no new one could be made. */
PFX_MUST_USE pfx_result pfx_oplog_set_aside(struct pfx_oplog *log, char **ret_where,
                                            struct pfx_error *err);
/* The token is there: the last checkpoint must be signed by the signer's keys, and the anchors must
 * fit. INTEGRITY (and state REFUSED): rollback, other root, foreign key; the error says which with
 * both sizes. *ret_ahead: by how many entries the log is ahead of its anchor (the caller logs it).
 * Counted is what was found at open; 0 at a later attach of the same process.
 * The signer is copied; keys are borrowed until detached.
 * Labels: "" was never written; both "" is fine as long as this log has no `anchor` file (its begin
 * was cut short, or the token can't hold anchors). Those of another origin count as none where the
 * log is a successor (its origin ends in a number), else as rollback. Another failure of the token
 * is returned as it is and changes nothing. */
PFX_MUST_USE pfx_result pfx_oplog_attach(struct pfx_oplog *log, const struct pfx_signer *signer,
                                         uint64_t *ret_ahead, struct pfx_error *err);
/* The token is gone or about to be closed: returns when no call of the signer runs any more. */
void pfx_oplog_detach(struct pfx_oplog *log);
bool pfx_oplog_attached(struct pfx_oplog *log);
/* Appends `draft` (log.rotate-key, naming the new keys) under the old signer and has the next
 * checkpoint signed by both; then the new one signs alone. Meanwhile nothing else is appended, so
 * that a rotation that fails, or that a crash cuts short, can be taken back: the log then ends
 * before the draft, and the old keys stay in force. */
PFX_MUST_USE pfx_result pfx_oplog_rotate(struct pfx_oplog *log, struct pfx_draft *draft,
                                         const struct pfx_signer *fresh, struct pfx_error *err);
/* Everything synced and covered, a milestone kept, and the anchor written: at start, stop and after
 * ceremonies. A failure of the anchor alone has op "write anchor". */
PFX_MUST_USE pfx_result pfx_oplog_settle(struct pfx_oplog *log, struct pfx_error *err);
/* A policy's text, kept under its hash. */
PFX_MUST_USE pfx_result pfx_oplog_policy(struct pfx_oplog *log, const uint8_t sha256[32],
                                         struct pfx_bytes text, struct pfx_error *err);

/* What the log says about itself, found when it was opened (read from the last segment: its first
 * entry is a log.segment note that repeats all of this) and kept up to date. */
struct pfx_oplog_facts {
    char origin[PFX_ORIGIN_SIZE];
    size_t n_keys; /* key lines in force */
    char keys[4][PFX_VKEY_LINE_SIZE];
    int64_t agentd_n; /* last number of pfx-agentd */
    bool has_force;
    uint8_t force_sha256[32]; /* of policy and roster in force, see force.h */
    bool has_policy;
    int64_t pins_serial;       /* the latest that a write or a token.ready names; 0: none */
    int64_t standing_serial;   /* the latest that a write of it names; 0: none */
    uint8_t policy_sha256[32]; /* of the last start or policy.changed */
    char boot[40];             /* of the last entry */
    bool stopped;              /* the last entry is a stop */
    int64_t last_up;           /* ms since boot of the last entry */
    int64_t ran_ms;            /* how long the host was seen to run, at the last entry: the time
                                * between entries of one boot, whatever the wall clock said */
    bool began;                /* by this process: nothing was found */
    uint64_t found;            /* entries at open */
    uint64_t tail;             /* found at open: whole entries behind the last checkpoint, kept */
    uint64_t cut_bytes;        /* found at open: bytes of a torn tail, cut */
    bool cut_rotation;         /* found at open: a rotation cut short was taken back */
};
void pfx_oplog_facts(struct pfx_oplog *log, struct pfx_oplog_facts *ret);
/* Writers of a log.segment note ask for more members (the pins): called with the draft, on the
 * thread of an append, with the log's lock held; it must not append. */
typedef void (*pfx_oplog_fill)(void *ctx, struct pfx_draft *draft);
void pfx_oplog_on_segment(struct pfx_oplog *log, pfx_oplog_fill fill, void *ctx);

/* Intents that had no result when the log was opened and have none yet, oldest first, by their
 * entries' text. `each` may append. */
typedef pfx_result (*pfx_oplog_intent)(void *ctx, uint64_t seq, const struct pfx_entry *intent,
                                       struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_oplog_dangling(struct pfx_oplog *log, pfx_oplog_intent each, void *ctx,
                                           struct pfx_error *err);

struct pfx_oplog_status {
    enum pfx_oplog_state state;
    struct pfx_error why; /* unless OPEN */
    bool attached;
    uint64_t size;            /* appended */
    uint64_t synced, covered; /* entries */
    int64_t covered_ms;       /* time of the last checkpoint; 0: none since the start */
    uint64_t anchor_size;     /* 0: never */
    int64_t anchor_ms;
    struct pfx_error anchor_why; /* of the last write of an anchor that failed; until one works */
    struct pfx_error signer_why; /* the same of a signature */
    uint64_t first;              /* first seq whose entry is kept */
    uint64_t reserve, reserve_left; /* bytes */
    uint64_t segments;
    uint64_t commits, checkpoints; /* since the start */
};
void pfx_oplog_status(struct pfx_oplog *log, struct pfx_oplog_status *ret);

#endif
