/*
 * A way through an exported log from one entry to the next, as far as it goes: what isn't there or
 * can't be read is said, and passed over. Nothing of it is verified. Memory doesn't grow with the
 * log.
 */
#ifndef PFX_AUDIT_WALK_H
#define PFX_AUDIT_WALK_H

#include "agent/audit/audit.h"
#include "agent/audit/extent.h"
#include "agent/audit/facts.h"
#include "agent/audit/text.h"

enum pfx_walk_got {
    PFX_WALK_ENTRY,
    PFX_WALK_ABSENT,     /* seq ... upto - 1 aren't presented */
    PFX_WALK_DAMAGED,    /* their bundle is damaged */
    PFX_WALK_UNREADABLE, /* the entry isn't one: `why` says it */
    PFX_WALK_END,
};
struct pfx_walk_item {
    uint64_t seq, upto;    /* by place, whatever the entry says */
    bool covered;          /* by the checkpoint; false: it lies in the tail */
    bool misplaced;        /* its own seq is another number */
    struct pfx_bytes json; /* borrowed until the next call */
    struct pfx_entry entry;
    struct pfx_facts facts; /* with what its intent says */
    char why[640];
};
struct pfx_walk {
    struct pfx_source *source;
    struct pfx_names *names; /* NULL: none, or none that can be used */
    struct pfx_checkpoint checkpoint;
    bool has_checkpoint;
    char why[640]; /* what is wrong with the checkpoint where there is none */
    uint64_t size; /* of the checkpoint; without one: how far the bundles reach */
    struct pfx_source_cursor cursor;
    struct pfx_extent extent; /* read at the first long gap */
    struct pfx_buf tail;      /* uncovered records */
    bool tail_lost;           /* it is longer than what is read of one */
    size_t tail_at;
    uint64_t tail_n; /* read of it */
    struct pfx_walk_intent *intents;

    /* Counted since the last start. */
    uint64_t n_read, n_absent, n_damaged, n_unreadable, n_uncovered;
};
/* USAGE as pfx_source_open. names_file: NULL for the export's own; there a missing map is fine, and
 * of one that can't be used a line on stderr is enough: it must not hide the log. */
PFX_MUST_USE pfx_result pfx_walk_open(const char *path, const char *names_file,
                                      struct pfx_walk *ret, struct pfx_error *err);
void pfx_walk_close(struct pfx_walk *walk); /* usable as cleanup; zeroed is fine */
void pfx_walk_start(struct pfx_walk *walk, uint64_t seq);
enum pfx_walk_got pfx_walk_next(struct pfx_walk *walk, struct pfx_walk_item *ret);

/* What was read and what wasn't, said before and after. "not verified by this command; ..." */
extern const char pfx_walk_unverified[];
/* Table: the line above, origin and size, what is wrong with the checkpoint. JSON: one object. */
void pfx_walk_head(const struct pfx_walk *walk, const char *schema, enum pfx_audit_format format);
/* Table: what wasn't presented, one line each, or nothing. */
void pfx_walk_tell_gaps(const struct pfx_walk *walk, FILE *to);
void pfx_walk_json_counts(const struct pfx_walk *walk, struct pfx_json *json);

#endif
