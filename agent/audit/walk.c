#include "agent/audit/walk.h"

#include <string.h>

#define TAIL_MAX (8 * 1024 * 1024)
#define INTENTS 1024    /* kept at hand; others are read again */
#define GAP_PATIENCE 64 /* absent bundles in a row before the folders are asked */

const char pfx_walk_unverified[] =
    "not verified by this command; pfx-audit verify says whether this log can be believed";

/* Facts of an intent, at seq % INTENTS. */
struct pfx_walk_intent {
    bool has;
    uint64_t seq;
    struct pfx_facts facts;
};

pfx_result pfx_walk_open(const char *path, const char *names_file, struct pfx_walk *ret,
                         struct pfx_error *err)
{
    *ret = (struct pfx_walk){.source = NULL};
    PFX_TRY(pfx_source_open(path, &ret->source, err));
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_names_open(ret->source, names_file, &ret->names, &why))) {
        if (names_file) {
            pfx_walk_close(ret);
            *err = why;
            return (pfx_result){why.cls};
        }
        char line[1024];
        (void)pfx_error_line(&why, line, sizeof(line));
        pfx_text_say("users stand as hashes, for the name map can't be used: %s", line);
        why = PFX_ERROR_NONE;
    }
    ret->has_checkpoint =
        pfx_ok(pfx_checkpoint_parse(pfx_source_checkpoint(ret->source), &ret->checkpoint, &why));
    if (ret->has_checkpoint)
        ret->size = ret->checkpoint.size;
    else {
        (void)snprintf(ret->why, sizeof(ret->why), "%s", why.text);
        ret->size = pfx_extent_size(ret->source);
    }
    struct pfx_error none = PFX_ERROR_NONE;
    ret->tail = pfx_buf_make(TAIL_MAX);
    if (pfx_failed(pfx_source_file(ret->source, "tail", TAIL_MAX, &ret->tail, &none)))
        ret->tail_lost = none.cls != PFX_CLASS_USAGE;
    ret->intents = pfx_alloc_array(INTENTS, sizeof(*ret->intents));
    ret->cursor = pfx_source_cursor_make(0, ret->size);
    return PFX_OK;
}

void pfx_walk_close(struct pfx_walk *walk)
{
    pfx_source_cursor_done(&walk->cursor);
    pfx_extent_done(&walk->extent);
    pfx_names_close(walk->names);
    pfx_source_close(walk->source);
    pfx_buf_done(&walk->tail);
    free(walk->intents);
    *walk = (struct pfx_walk){.source = NULL};
}

void pfx_walk_start(struct pfx_walk *walk, uint64_t seq)
{
    pfx_source_cursor_done(&walk->cursor);
    walk->cursor = pfx_source_cursor_make(seq < walk->size ? seq : walk->size, walk->size);
    walk->tail_at = 0;
    walk->tail_n = 0;
    walk->n_read = walk->n_absent = walk->n_damaged = walk->n_unreadable = walk->n_uncovered = 0;
}

/* Facts of an earlier entry: kept, or read again from where it stands. */
static bool facts_at(struct pfx_walk *walk, uint64_t seq, struct pfx_facts *ret)
{
    const struct pfx_walk_intent *kept = &walk->intents[seq % INTENTS];
    if (kept->has && kept->seq == seq) {
        *ret = kept->facts;
        return true;
    }
    struct pfx_source_cursor cursor PFX_CLEANUP(pfx_source_cursor_done) =
        pfx_source_cursor_make(seq, walk->size);
    struct pfx_bytes json;
    struct pfx_entry entry;
    struct pfx_error err = PFX_ERROR_NONE;
    uint64_t upto;
    if (seq >= walk->size ||
        pfx_source_next(walk->source, &cursor, &json, &upto) != PFX_SOURCE_ENTRY ||
        pfx_failed(pfx_entry_read(json, &entry, &err)))
        return false;
    pfx_facts_of(&entry, ret);
    return true;
}

static enum pfx_walk_got read_entry(struct pfx_walk *walk, struct pfx_walk_item *item)
{
    struct pfx_error err = PFX_ERROR_NONE;
    item->upto = item->seq + 1;
    item->why[0] = '\0';
    walk->n_uncovered += !item->covered;
    if (pfx_failed(pfx_entry_read(item->json, &item->entry, &err))) {
        (void)snprintf(item->why, sizeof(item->why), "%s", err.text);
        walk->n_unreadable++;
        return PFX_WALK_UNREADABLE;
    }
    walk->n_read++;
    item->misplaced = pfx_entry_int(&item->entry, PFX_F_SEQ) != (int64_t)item->seq;
    pfx_facts_of(&item->entry, &item->facts);
    struct pfx_facts intent;
    if (item->facts.phase == PFX_PHASE_INTENT) {
        struct pfx_walk_intent *slot = &walk->intents[item->seq % INTENTS];
        *slot = (struct pfx_walk_intent){true, item->seq, item->facts};
    } else if (item->facts.ref >= 0 && (uint64_t)item->facts.ref < item->seq &&
               facts_at(walk, (uint64_t)item->facts.ref, &intent)) {
        pfx_facts_inherit(&item->facts, &intent);
        /* A release that was withheld names the result. */
        if (intent.phase == PFX_PHASE_RESULT && intent.ref >= 0 &&
            (uint64_t)intent.ref < item->seq && facts_at(walk, (uint64_t)intent.ref, &intent))
            pfx_facts_inherit(&item->facts, &intent);
    }
    return PFX_WALK_ENTRY;
}

static enum pfx_walk_got next_of_tail(struct pfx_walk *walk, struct pfx_walk_item *item)
{
    item->covered = false;
    item->seq = walk->size + walk->tail_n;
    switch (pfx_record_next(pfx_buf_bytes(&walk->tail), &walk->tail_at, &item->json)) {
    case PFX_RECORD_WHOLE:
        walk->tail_n++;
        return read_entry(walk, item);
    case PFX_RECORD_SHORT: /* torn at its end: what was being written when it was copied */
    case PFX_RECORD_END:
        break;
    }
    return PFX_WALK_END;
}

/* Goes over a gap of any length; the folders say where it ends when it is long. */
static void pass_gap(struct pfx_walk *walk, enum pfx_source_got kind, uint64_t *upto)
{
    unsigned n = 0;
    for (;;) {
        struct pfx_source_cursor *cursor = &walk->cursor;
        if (cursor->seq < *upto) { /* whoever reads on does so from behind the gap */
            pfx_source_cursor_done(cursor);
            *cursor = pfx_source_cursor_make(*upto, walk->size);
        }
        if (*upto >= walk->size)
            return;
        struct pfx_source_cursor ahead = pfx_source_cursor_make(*upto, walk->size);
        struct pfx_bytes json;
        uint64_t further = 0, number;
        enum pfx_source_got got = pfx_source_next(walk->source, &ahead, &json, &further);
        pfx_source_cursor_done(&ahead);
        if (got != kind || further <= *upto)
            return;
        *upto = further;
        if (kind != PFX_SOURCE_ABSENT || ++n % GAP_PATIENCE != 0)
            continue;
        if (!pfx_extent_next(&walk->extent, walk->source, *upto / PFX_TILE_WIDTH, &number))
            *upto = walk->size;
        else if (number * PFX_TILE_WIDTH > *upto)
            *upto = number * PFX_TILE_WIDTH < walk->size ? number * PFX_TILE_WIDTH : walk->size;
    }
}

enum pfx_walk_got pfx_walk_next(struct pfx_walk *walk, struct pfx_walk_item *item)
{
    item->seq = walk->cursor.seq;
    item->covered = walk->has_checkpoint;
    item->misplaced = false;
    enum pfx_source_got got =
        pfx_source_next(walk->source, &walk->cursor, &item->json, &item->upto);
    switch (got) {
    case PFX_SOURCE_ENTRY:
        return read_entry(walk, item);
    case PFX_SOURCE_ABSENT:
    case PFX_SOURCE_DAMAGED:
        pass_gap(walk, got, &item->upto);
        *(got == PFX_SOURCE_ABSENT ? &walk->n_absent : &walk->n_damaged) += item->upto - item->seq;
        return got == PFX_SOURCE_ABSENT ? PFX_WALK_ABSENT : PFX_WALK_DAMAGED;
    case PFX_SOURCE_END:
        break;
    }
    return next_of_tail(walk, item);
}

void pfx_walk_head(const struct pfx_walk *walk, const char *schema, enum pfx_audit_format format)
{
    if (format == PFX_AUDIT_CSV) { /* a CSV file has no place for it */
        (void)fprintf(stderr, "%s\n", pfx_walk_unverified);
        return;
    }
    if (format == PFX_AUDIT_JSON) {
        struct pfx_json json = pfx_json_make(schema);
        pfx_json_bool(&json, "verified", false);
        pfx_json_str(&json, "note", pfx_walk_unverified);
        pfx_json_str(&json, "origin", walk->has_checkpoint ? walk->checkpoint.origin : NULL);
        pfx_json_int(&json, "size", (int64_t)walk->size);
        pfx_json_str(&json, "checkpoint_unreadable", walk->has_checkpoint ? NULL : walk->why);
        pfx_json_bool(&json, "names", walk->names != NULL);
        pfx_json_print(&json);
        return;
    }
    struct pfx_buf line PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    pfx_text_line(pfx_walk_unverified);
    if (walk->has_checkpoint) {
        pfx_text_show_str(walk->checkpoint.origin, &line);
        (void)printf("%s, %llu %s\n", pfx_buf_str(&line), (unsigned long long)walk->size,
                     pfx_entries(walk->size));
    } else {
        pfx_text_show_str(walk->why, &line);
        (void)printf("no checkpoint that can be read (%s): %llu %s by the files\n",
                     pfx_buf_str(&line), (unsigned long long)walk->size, pfx_entries(walk->size));
    }
}

void pfx_walk_tell_gaps(const struct pfx_walk *walk, FILE *to)
{
    const struct {
        uint64_t n;
        const char *before, *after;
    } gaps[] = {
        {walk->n_absent, "not presented: ", " that the checkpoint counts"},
        {walk->n_damaged, "damaged: bundles of ", ""},
        {walk->n_unreadable, "unreadable: ", ""},
        {walk->n_uncovered, "uncovered: ", ", which no checkpoint covers yet"},
    };
    for (size_t i = 0; i < sizeof(gaps) / sizeof(gaps[0]); i++)
        if (gaps[i].n > 0)
            (void)fprintf(to, "%s%llu %s%s\n", gaps[i].before, (unsigned long long)gaps[i].n,
                          pfx_entries(gaps[i].n), gaps[i].after);
    if (walk->tail_lost)
        (void)fprintf(to, "not read: the uncovered tail, longer than %d bytes or unreadable\n",
                      TAIL_MAX);
}

void pfx_walk_json_counts(const struct pfx_walk *walk, struct pfx_json *json)
{
    pfx_json_int(json, "read", (int64_t)walk->n_read);
    pfx_json_int(json, "not_presented", (int64_t)walk->n_absent);
    pfx_json_int(json, "damaged", (int64_t)walk->n_damaged);
    pfx_json_int(json, "unreadable", (int64_t)walk->n_unreadable);
    pfx_json_int(json, "uncovered", (int64_t)walk->n_uncovered);
    pfx_json_bool(json, "tail_lost", walk->tail_lost);
}
