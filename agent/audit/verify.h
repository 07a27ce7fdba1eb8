/*
 * Verifying exported logs: what pfx-audit verify does with one log, and with a set of them.
 *
 * One pass over the entries: form, sequence, tree and meaning at once, each checkpoint's root
 * compared as the pass reaches its size. What isn't presented (retention) is bridged by hash tiles,
 * which the next root proves.
 */
#ifndef PFX_AUDIT_VERIFY_H
#define PFX_AUDIT_VERIFY_H

#include "agent/audit/audit.h"
#include "agent/audit/meaning.h"
#include "agent/audit/policy.h"
#include "agent/audit/source_list.h"

/* A root at a size that somebody vouches for. */
enum pfx_note_kind {
    PFX_NOTE_MILESTONE, /* checkpoints/<size> of the export */
    PFX_NOTE_NEWEST,    /* checkpoint */
    PFX_NOTE_KEPT,      /* --since, --until: the auditor's own */
    PFX_NOTE_BEFORE,    /* the one that a successor's first entry names */
    PFX_NOTE_ANCHOR,    /* only a hash of the text: no signature */
};
struct pfx_note {
    enum pfx_note_kind kind;
    uint64_t size;
    struct pfx_checkpoint *checkpoint; /* all but MILESTONE (read when needed) and ANCHOR */
    uint8_t anchor[12];
    bool word; /* ANCHOR: of the export's anchor.json, so the host's word */
};

/* Key lines that the log names. */
#define PFX_LOG_KEYS 4
struct pfx_log_keys {
    size_t n;
    struct pfx_vkey keys[PFX_LOG_KEYS];
};

struct pfx_verify;
struct pfx_verify_log {
    struct pfx_verify *all;
    struct pfx_source *source;
    uint32_t index;
    struct pfx_report_log *facts;
    struct pfx_checkpoint *newest; /* NULL: can't be read */
    char origin[PFX_ORIGIN_SIZE];

    /* Entry 0, read ahead: how the logs of a set follow each other. */
    bool begins, reopens;
    struct pfx_checkpoint *before; /* of log.reopen */
    int64_t anchored, restored;    /* likewise; -1: not named */
    struct pfx_verify_log *predecessor;
    bool placed;

    uint64_t since, until; /* entries outside of them aren't examined; until: UINT64_MAX, all */
    bool gap;              /* something in between isn't presented */

    uint64_t *milestones;
    size_t n_milestones, next_milestone;
    struct pfx_note *notes; /* all others, by size */
    size_t n_notes, next_note, room_notes;

    /* Keys: the auditor's and those trusted by a rotation; those in force; those before that. */
    struct pfx_audit_keys trusted;
    bool known_keys;
    struct pfx_log_keys in_force, replaced;
    bool both_due;           /* the next checkpoint must be signed by both */
    uint64_t both_at;        /* size of the one that was; UINT64_MAX: none */
    uint64_t rotated;        /* seq of the last log.rotate-key */
    uint64_t unsigned_notes; /* that only keys of dropped entries could prove */
    bool newest_trusted;
    struct pfx_named_key { /* each key that the log names */
        uint8_t spki_sha256[32];
        char id[9], line[PFX_VKEY_LINE_SIZE];
    } * named;
    size_t n_named;
    uint64_t last_start; /* seq of the last start that was examined */

    /* Roots that differ; whose fault it is shows at the end. */
    uint64_t n_odd;
    bool newest_odd, newest_compared;
    struct odd {
        uint64_t size;
        enum pfx_note_kind kind;
    } odd[PFX_FINDINGS_SHOWN];

    struct pfx_node last; /* leaf hash of the last entry that a checkpoint covers */
    bool has_last;
};
struct pfx_verify {
    const struct pfx_audit_options *options;
    struct pfx_report *report;
    struct pfx_meaning *meaning;
    struct pfx_hasher *hasher;
    struct pfx_verify_log *logs;
    size_t n_logs;
    bool whole; /* every log's entries from the first on were examined */
};

/* verify_set.c: opens the folders, orders them, hands out --since, --until, --anchor. */
PFX_MUST_USE pfx_result pfx_verify_open(struct pfx_verify *all, struct pfx_error *err);
void pfx_verify_done(struct pfx_verify *all);
/* Limits that hold for every log, and what the set lacks. */
void pfx_verify_limits(struct pfx_verify *all);

/* verify.c: one log, all of it. */
PFX_MUST_USE pfx_result pfx_verify_log(struct pfx_verify_log *log, struct pfx_error *err);

/* verify_notes.c: checkpoints and keys. */
void pfx_verify_add_note(struct pfx_verify_log *log, const struct pfx_note *note);
/* The smallest size of a note not compared so far; UINT64_MAX: none. */
uint64_t pfx_verify_next_note(const struct pfx_verify_log *log);
/* Checks all notes of this size; root NULL: it couldn't be computed. */
PFX_MUST_USE pfx_result pfx_verify_notes(struct pfx_verify_log *log, uint64_t size,
                                         const struct pfx_node *root, struct pfx_error *err);
/* log.begin, log.reopen, log.segment, log.rotate-key. */
void pfx_verify_keys(struct pfx_verify_log *log, uint64_t seq, const struct pfx_entry *entry);
/* All notes were compared. */
void pfx_verify_notes_end(struct pfx_verify_log *log);

/* verify_files.c: the rest of the folder, after the pass. */
PFX_MUST_USE pfx_result pfx_verify_files(struct pfx_verify_log *log, struct pfx_error *err);

/* An anchor as a label ("pfxlog1:...") or as a JSON file. */
struct pfx_anchor {
    uint8_t origin[4]; /* first bytes of SHA-256(origin) */
    uint64_t size;
    uint8_t hash[12];
};
PFX_MUST_USE bool pfx_anchor_label(const char *label, struct pfx_anchor *ret);
PFX_MUST_USE bool pfx_anchor_json(struct pfx_bytes json, struct pfx_anchor *ret);

#endif
