/* One pass over a log: form, sequence, tree and meaning of each entry. */
#include "agent/audit/verify.h"

#include <inttypes.h>
#include <string.h>

#include "agent/audit/events.h"

/* Bundles missing in a row after which no more are looked for: a checkpoint that lies about its
 * size must not keep us busy for years. 2^20 bundles are 268 million entries. */
#define ABSENT_MOST (UINT64_C(1) << 20)

struct pass {
    struct pfx_verify_log *log;
    uint64_t size;
    struct pfx_frontier frontier;
    bool whole;                        /* the frontier is that of what was read */
    char prev[65];                     /* what the next entry's prev must be; "": not known */
    bool told_gap;                     /* the meaning knows that entries are missing */
    uint64_t missing_from, missing_to; /* not presented so far, from the first on */
    bool hole;                         /* not presented, but not from the first on */
    struct pfx_source_nodes *nodes;
    /* Presented tiles, compared as the pass makes the same hashes: one for each level. */
    struct tile {
        uint64_t number;
        unsigned width; /* 0: none is loaded */
        bool there;
        uint8_t bytes[PFX_TILE_WIDTH * PFX_HASH_SIZE];
    } tiles[PFX_TREE_LEVELS / PFX_TILE_HEIGHT + 1];
    uint64_t tiles_missing;
    struct pfx_error why; /* here, as it would cost more to clear it than to hash an entry's end */
};

/* pfx_hex, two digits at a time: once for each entry. */
static void hex_of(const struct pfx_node *node, char ret[65])
{
#define ROW(d)                                                                                     \
    d "0", d "1", d "2", d "3", d "4", d "5", d "6", d "7", d "8", d "9", d "a", d "b", d "c",     \
        d "d", d "e", d "f"
    static const char pairs[256][2] = {ROW("0"), ROW("1"), ROW("2"), ROW("3"), ROW("4"), ROW("5"),
                                       ROW("6"), ROW("7"), ROW("8"), ROW("9"), ROW("a"), ROW("b"),
                                       ROW("c"), ROW("d"), ROW("e"), ROW("f")};
#undef ROW
    for (size_t i = 0; i < sizeof(node->bytes); i++)
        memcpy(ret + 2 * i, pairs[node->bytes[i]], 2);
    ret[64] = '\0';
}

static void tell(struct pass *pass, enum pfx_finding_class cls, uint64_t seq, const char *text)
{
    pfx_report_add(pass->log->all->report, PFX_LEVEL_TAMPERING, cls, pass->log->index, seq, "%s",
                   text);
}

static void load_tile(struct pass *pass, unsigned level, uint64_t number)
{
    struct tile *tile = &pass->tiles[level];
    uint64_t left = (pass->size >> (level * PFX_TILE_HEIGHT)) - number * PFX_TILE_WIDTH;
    tile->number = number;
    tile->width = left < PFX_TILE_WIDTH ? (unsigned)left : PFX_TILE_WIDTH;
    bool there;
    tile->there =
        pfx_source_tile(pass->log->source, level, number, tile->width, tile->bytes, &there);
    if (tile->there)
        return;
    if (there) {
        char path[PFX_TILE_PATH_SIZE];
        pfx_report_add(pass->log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM,
                       pass->log->index, PFX_NO_ENTRY, "%s isn't %u hashes long",
                       pfx_tile_path((int)level, number, tile->width, path), tile->width);
    } else {
        pass->tiles_missing++;
    }
}

static void compare_tile(void *ctx, unsigned level, uint64_t index, const struct pfx_node *node)
{
    struct pass *pass = ctx;
    if (level % PFX_TILE_HEIGHT != 0)
        return;
    unsigned tile_level = level / PFX_TILE_HEIGHT;
    struct tile *tile = &pass->tiles[tile_level];
    uint64_t number = index / PFX_TILE_WIDTH;
    if (tile->width == 0 || tile->number != number)
        load_tile(pass, tile_level, number);
    if (!tile->there || memcmp(tile->bytes + index % PFX_TILE_WIDTH * PFX_HASH_SIZE, node->bytes,
                               PFX_HASH_SIZE) == 0)
        return;
    char path[PFX_TILE_PATH_SIZE];
    pfx_tile_path((int)tile_level, number, tile->width, path);
    if (level == 0)
        pfx_report_add(pass->log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_TREE,
                       pass->log->index, index, "its hash isn't the one in %s", path);
    else
        pfx_report_add(pass->log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_TREE,
                       pass->log->index, index << level,
                       "the entries from here to %" PRIu64 " don't make the hash in %s",
                       ((index + 1) << level) - 1, path);
}

/* Goes on at `upto` with what the tiles say about the entries before. */
static void bridge(struct pass *pass, uint64_t upto)
{
    struct pfx_tree tree = {pass->log->all->hasher, pfx_source_node, pass->nodes};
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_frontier frontier;
    pass->prev[0] = '\0';
    memset(pass->nodes->tiles, 0, sizeof(pass->nodes->tiles));
    if (pfx_ok(pfx_tree_frontier(&tree, upto, &frontier, &err))) {
        pass->frontier = frontier;
        pass->whole = true;
    } else {
        if (pass->whole)
            pfx_report_add(pass->log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_MISSING,
                           pass->log->index, PFX_NO_ENTRY,
                           "the hash tiles for the entries before %" PRIu64
                           " aren't presented either: no root beyond can be computed",
                           upto);
        pass->whole = false;
        memset(&pass->frontier, 0, sizeof(pass->frontier));
        pass->frontier.size = upto;
    }
    struct pfx_node leaf;
    if (upto > 0 && pfx_ok(pfx_source_node(pass->nodes, 0, upto - 1, &leaf, &err)))
        hex_of(&leaf, pass->prev);
}

/* Notes between here and `upto` can't be compared, but for their signatures. */
static pfx_result skip_notes(struct pass *pass, uint64_t upto, struct pfx_error *err)
{
    for (;;) {
        uint64_t size = pfx_verify_next_note(pass->log);
        if (size >= upto)
            return PFX_OK;
        struct pfx_tree tree = {pass->log->all->hasher, pfx_source_node, pass->nodes};
        struct pfx_error ignored = PFX_ERROR_NONE;
        struct pfx_frontier frontier;
        struct pfx_node root;
        bool has =
            size <= pass->size && pfx_ok(pfx_tree_frontier(&tree, size, &frontier, &ignored));
        if (has)
            pfx_frontier_root(pass->log->all->hasher, &frontier, &root);
        PFX_TRY(pfx_verify_notes(pass->log, size, has ? &root : NULL, err));
    }
}

static pfx_result not_presented(struct pass *pass, uint64_t from, uint64_t upto, bool damaged,
                                struct pfx_error *err)
{
    struct pfx_verify_log *log = pass->log;
    if (damaged)
        pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, log->index, from,
                       "the bundle of the entries up to %" PRIu64
                       " is cut, too long, or holds another number of entries",
                       upto - 1);
    else if (from == pass->missing_to && !pass->hole)
        pass->missing_to = upto;
    else
        pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_MISSING, log->index, from,
                       "the entries up to %" PRIu64 " aren't presented", upto - 1);
    pass->hole = pass->hole || damaged || pass->missing_to != upto;
    log->gap = true;
    PFX_TRY(skip_notes(pass, upto, err));
    bridge(pass, upto);
    return PFX_OK;
}

static pfx_result examine(struct pass *pass, uint64_t seq, struct pfx_bytes json,
                          struct pfx_error *err)
{
    struct pfx_verify_log *log = pass->log;
    struct pfx_entry entry;
    if (pfx_failed(pfx_entry_read(json, &entry, &pass->why))) {
        tell(pass, PFX_FOUND_FORM, seq, pass->why.text);
        pass->why = PFX_ERROR_NONE;
        pass->told_gap = false;
        log->gap = true;
        return PFX_OK;
    }
    if ((uint64_t)pfx_entry_int(&entry, PFX_F_SEQ) != seq)
        pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_SEQUENCE, log->index, seq,
                       "calls itself number %" PRId64, pfx_entry_int(&entry, PFX_F_SEQ));
    struct pfx_bytes prev = pfx_entry_text(&entry, PFX_F_PREV);
    if (pass->prev[0] && memcmp(prev.data, pass->prev, 64) != 0)
        tell(pass, PFX_FOUND_SEQUENCE, seq, "its prev isn't the hash of the entry before it");
    if (!pass->told_gap) {
        if (seq > 0)
            pfx_meaning_gap(log->all->meaning, seq);
        pass->told_gap = true;
    }
    if (log->facts->examined++ == 0) {
        log->facts->first = seq;
        log->facts->from_ms = pfx_entry_time(&entry, PFX_F_TIME);
    }
    if (seq + 1 == pass->size || seq + 1 == log->until)
        log->facts->to_ms = pfx_entry_time(&entry, PFX_F_TIME);
    pfx_verify_keys(log, seq, &entry);
    return pfx_meaning_entry(log->all->meaning, seq, &entry, err);
}

/* Behind --until only what the signatures depend on is looked at. */
static void keys_only(struct pass *pass, uint64_t seq, struct pfx_bytes json)
{
    struct pfx_entry entry;
    struct pfx_error why = PFX_ERROR_NONE;
    if (memmem(json.data, json.len, "\"event\":\"log.", 13) &&
        pfx_ok(pfx_entry_read(json, &entry, &why)))
        pfx_verify_keys(pass->log, seq, &entry);
}

static pfx_result take_entry(struct pass *pass, uint64_t seq, struct pfx_bytes json,
                             struct pfx_error *err)
{
    struct pfx_verify_log *log = pass->log;
    struct pfx_node leaf;
    pfx_hash_leaf(log->all->hasher, json, &leaf);
    if (seq < log->until)
        PFX_TRY(examine(pass, seq, json, err));
    else
        keys_only(pass, seq, json);
    hex_of(&leaf, pass->prev);
    if (pass->whole)
        pfx_frontier_add(log->all->hasher, &pass->frontier, &leaf, compare_tile, pass);
    else
        pass->frontier.size++;
    if (seq + 1 == pass->size) {
        log->last = leaf;
        log->has_last = true;
    }
    return PFX_OK;
}

/* The auditor examined what is before: the tiles, or else the entries, must make that root. */
static pfx_result start_since(struct pass *pass, struct pfx_source_cursor *cursor,
                              struct pfx_error *err)
{
    struct pfx_verify_log *log = pass->log;
    PFX_TRY(skip_notes(pass, log->since, err));
    bridge(pass, log->since);
    struct pfx_node root;
    const struct pfx_note *kept = NULL;
    for (size_t i = 0; i < log->n_notes; i++)
        if (log->notes[i].kind == PFX_NOTE_KEPT && log->notes[i].size == log->since)
            kept = &log->notes[i];
    if (pass->whole)
        pfx_frontier_root(log->all->hasher, &pass->frontier, &root);
    if (pass->whole && kept && pfx_hash_equal(&root, &kept->checkpoint->root)) {
        cursor->seq = log->since;
        return PFX_OK;
    }
    /* Tiles that are missing or wrong: from the entries then, if they are there. */
    memset(&pass->frontier, 0, sizeof(pass->frontier));
    pass->whole = true;
    while (cursor->seq < log->since) {
        struct pfx_bytes json;
        uint64_t upto, seq = cursor->seq;
        struct pfx_node leaf;
        if (pfx_source_next(log->source, cursor, &json, &upto) != PFX_SOURCE_ENTRY) {
            bridge(pass, log->since);
            cursor->seq = log->since;
            return PFX_OK;
        }
        pfx_hash_leaf(log->all->hasher, json, &leaf);
        pfx_frontier_add(log->all->hasher, &pass->frontier, &leaf, compare_tile, pass);
        keys_only(pass, seq, json);
        hex_of(&leaf, pass->prev);
    }
    return PFX_OK;
}

static pfx_result compare_here(struct pass *pass, struct pfx_error *err)
{
    uint64_t size = pass->frontier.size;
    if (pfx_verify_next_note(pass->log) != size)
        return PFX_OK;
    struct pfx_node root;
    if (pass->whole)
        pfx_frontier_root(pass->log->all->hasher, &pass->frontier, &root);
    return pfx_verify_notes(pass->log, size, pass->whole ? &root : NULL, err);
}

static pfx_result run(struct pass *pass, struct pfx_source_cursor *cursor, struct pfx_error *err)
{
    struct pfx_source *source = pass->log->source;
    for (;;) {
        PFX_TRY(compare_here(pass, err));
        struct pfx_bytes json;
        uint64_t from = cursor->seq, upto, absent = 0;
        enum pfx_source_got got = pfx_source_next(source, cursor, &json, &upto);
        while (got == PFX_SOURCE_ABSENT && ++absent < ABSENT_MOST)
            got = pfx_source_next(source, cursor, &json, &upto);
        /* What comes after a gap was read with it. */
        uint64_t at = cursor->seq;
        if (got == PFX_SOURCE_ENTRY)
            at = cursor->seq - 1;
        else if (got == PFX_SOURCE_DAMAGED)
            at = (cursor->seq - 1) / PFX_TILE_WIDTH * PFX_TILE_WIDTH;
        else
            at = pass->size;
        if (at > from) {
            PFX_TRY(not_presented(pass, from, at, false, err));
            PFX_TRY(compare_here(pass, err));
        }
        if (got == PFX_SOURCE_ENTRY)
            PFX_TRY(take_entry(pass, at, json, err));
        else if (got == PFX_SOURCE_DAMAGED)
            PFX_TRY(not_presented(pass, at, cursor->seq, true, err));
        else
            return PFX_OK;
    }
}

static void end_pass(struct pass *pass)
{
    struct pfx_verify_log *log = pass->log;
    struct pfx_report *report = log->all->report;
    if (pass->missing_to > 0) {
        if (pfx_meaning_retained(log->all->meaning) >= pass->missing_to)
            pfx_report_open(report, log->index,
                            "the entries before %" PRIu64
                            " aren't presented (retention): their hashes are proven, what they say "
                            "is not",
                            pass->missing_to);
        else
            pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_MISSING, log->index, 0,
                           "the entries up to %" PRIu64
                           " aren't presented, and no log.retention says that they were dropped",
                           pass->missing_to - 1);
    }
    if (pass->tiles_missing)
        pfx_report_add(report, PFX_LEVEL_WARNING, PFX_FOUND_MISSING, log->index, PFX_NO_ENTRY,
                       "%" PRIu64 " hash tiles aren't presented: other readers need them",
                       pass->tiles_missing);
    log->last_start = pfx_meaning_last_start(log->all->meaning);
    pfx_meaning_end(log->all->meaning);
    pfx_verify_notes_end(log);
}

pfx_result pfx_verify_log(struct pfx_verify_log *log, struct pfx_error *err)
{
    pfx_meaning_begin(log->all->meaning, log->index, log->source);
    if (!log->newest) {
        log->gap = true;
        return PFX_OK; /* said when it was opened */
    }
    PFX_AUTOFREE struct pass *pass = pfx_alloc(sizeof(*pass));
    PFX_AUTOFREE struct pfx_source_nodes *nodes = pfx_alloc(sizeof(*nodes));
    *nodes = (struct pfx_source_nodes){
        .source = log->source, .hasher = log->all->hasher, .size = log->newest->size};
    pass->log = log;
    pass->size = log->newest->size;
    pass->nodes = nodes;
    pass->whole = true;
    memset(pass->prev, '0', 64);
    PFX_CLEANUP(pfx_source_cursor_done)
    struct pfx_source_cursor cursor = pfx_source_cursor_make(0, pass->size);
    if (log->since > 0)
        PFX_TRY(start_since(pass, &cursor, err));
    PFX_TRY(run(pass, &cursor, err));
    /* Notes about more than there is. */
    PFX_TRY(skip_notes(pass, UINT64_MAX, err));
    end_pass(pass);
    return pfx_verify_files(log, err);
}
