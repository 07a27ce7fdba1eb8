/*
 * Opening: what is on disk is compared with the last checkpoint and mended where a crash explains
 * it.
 *
 * Read are the segment in which the checkpoint ends and those behind it, whatever the log's length;
 * the tree below them comes from tiles, and the root says whether both fit together. Entries behind
 * the checkpoint are kept as far as they are whole and follow one another; they are written and
 * synced anew, as a sync that failed may have left them in memory only.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/logdir/segment.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/oplog_impl.h"

static void recovery_done(struct pfx_recovery *recovery)
{
    for (size_t i = 0; i < recovery->n_files; i++)
        if (recovery->files[i].fd >= 0)
            close(recovery->files[i].fd);
    free(recovery->files);
    pfx_logdir_close(recovery->dir);
}

static pfx_result shorter(const struct pfx_recovery *r, const char *why, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "open log", r->checkpoint->origin, "shorter",
                    "The log is shorter than its checkpoint: %" PRIu64 " of %" PRIu64
                    " entries are whole%s%s. Bring the files back, or start a successor with "
                    "pfx-agent log reopen.",
                    r->log->frontier.size, r->checkpoint->size, why[0] ? ": " : "", why);
}

/* The tree below the first file that is read. */
static pfx_result load_tree(struct pfx_recovery *r, uint64_t size, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    if (size % PFX_TILE_WIDTH != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "open log", log->dir, "",
                        "A segment begins at entry %" PRIu64 ", which isn't a multiple of 256.",
                        size);
    for (unsigned tile = 0; tile < PFX_TILE_LEVELS; tile++) {
        unsigned level = tile * PFX_TILE_HEIGHT;
        uint64_t n = size >> level, first = n / PFX_TILE_WIDTH * PFX_TILE_WIDTH;
        for (uint64_t i = first; i < n; i++)
            PFX_TRY(pfx_logdir_node(r->dir, level, i, &log->partial[tile][i - first], err));
    }
    struct pfx_tree tree = {log->own_hasher, pfx_logdir_node, r->dir};
    PFX_TRY(pfx_tree_frontier(&tree, size, &log->frontier, err));
    return size == 0 ? PFX_OK : pfx_logdir_node(r->dir, 0, size - 1, &log->prev, err);
}

static bool follows(const struct pfx_oplog *log, struct pfx_bytes json, struct pfx_entry *ret)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    uint8_t prev[32];
    return pfx_ok(pfx_entry_read(json, ret, &ignored)) &&
           pfx_entry_int(ret, PFX_F_SEQ) == (int64_t)log->frontier.size &&
           pfx_entry_hash(ret, PFX_F_PREV, prev) && memcmp(prev, log->prev.bytes, 32) == 0;
}

static pfx_result check_root(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_node root;
    pfx_frontier_root(r->log->own_hasher, &r->log->frontier, &root);
    if (pfx_hash_equal(&root, &r->checkpoint->root))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "open log", r->checkpoint->origin, "root",
                    "The %" PRIu64
                    " entries here aren't those that the checkpoint covers: something in entries/ "
                    "or tile/ was changed. Bring the files back, or start a successor with "
                    "pfx-agent log reopen.",
                    r->checkpoint->size);
}

/* Reads one file from its start; *ret_more: it ends cleanly, and the next one may follow. */
static pfx_result replay(struct pfx_recovery *r, size_t i, bool *ret_more, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    struct pfx_found *file = &r->files[i];
    char path[64], name[PFX_SEGMENT_NAME_SIZE];
    snprintf(path, sizeof path, "entries/%s", pfx_segment_name(file->first, name));
    PFX_CLEANUP(pfx_segment_reader_done)
    struct pfx_segment_reader reader = pfx_segment_reader_make(file->fd, 0);
    *ret_more = true;
    for (;;) {
        enum pfx_record kind;
        struct pfx_bytes json;
        struct pfx_entry entry;
        bool covered = log->frontier.size < r->checkpoint->size;
        if (!covered && file->uncovered == UINT64_MAX)
            file->uncovered = file->end;
        PFX_TRY(pfx_segment_next(&reader, path, &kind, &json, err));
        if (kind == PFX_RECORD_END)
            return PFX_OK;
        if (kind == PFX_RECORD_SHORT || !follows(log, json, &entry)) {
            *ret_more = false;
            return covered ? shorter(r, "the next one is damaged", err) : PFX_OK;
        }
        r->rotation = !covered && pfx_entry_is(&entry, PFX_F_EVENT, "log.rotate-key");
        if (r->rotation)
            pfx_oplog_remember(log, file->end, &r->before);
        bool first = log->frontier.size == file->first;
        if (first && file->first > 0 && !pfx_entry_is(&entry, PFX_F_EVENT, "log.segment")) {
            *ret_more = false;
            return covered ? shorter(r, "a segment doesn't begin with its note", err) : PFX_OK;
        }
        pfx_oplog_learn(log, json, &entry);
        file->end = reader.at;
        if (log->frontier.size == r->checkpoint->size)
            PFX_TRY(check_root(r, err));
    }
}

static bool is_blank(struct pfx_oplog *log, uint64_t first)
{
    char name[PFX_SEGMENT_NAME_SIZE];
    uint8_t head[PFX_RECORD_HEAD] = {0};
    int fd =
        openat(log->entries_fd, pfx_segment_name(first, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool blank = fd >= 0 && pread(fd, head, sizeof head, 0) >= 0 && head[0] == 0 && head[1] == 0;
    if (fd >= 0)
        close(fd);
    return blank;
}

static pfx_result open_files(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    char **names, object[64];
    size_t n, n_firsts = 0;
    PFX_TRY(pfx_logdir_list(r->dir, "entries", &names, &n, err));
    uint64_t *firsts PFX_AUTOFREE = pfx_alloc_array(n + 1, sizeof *firsts);
    for (size_t i = 0; i < n; i++) {
        n_firsts += pfx_segment_parse(names[i], &firsts[n_firsts]);
        free(names[i]);
    }
    free(names);
    size_t start = 0;
    while (start + 1 < n_firsts && firsts[start + 1] < r->checkpoint->size)
        start++;
    /* One made ahead whose first seq went by before it was ready: the entries are before it. */
    while (start > 0 && start < n_firsts && is_blank(log, firsts[start]))
        start--;
    if (n_firsts == 0 || firsts[start] >= r->checkpoint->size)
        return shorter(r, "the file with the last of them is missing", err);
    log->first = firsts[0];
    log->n_segments = n_firsts;
    r->files = pfx_alloc_array(n_firsts - start, sizeof *r->files);
    for (size_t i = start; i < n_firsts; i++) {
        struct pfx_found *file = &r->files[r->n_files++];
        char name[PFX_SEGMENT_NAME_SIZE];
        struct stat facts;
        *file = (struct pfx_found){.first = firsts[i], .fd = -1, .uncovered = UINT64_MAX};
        snprintf(object, sizeof object, "entries/%s", pfx_segment_name(firsts[i], name));
        int error = pfx_oplog_file(log, "open segment", log->entries_fd, name, O_RDWR, &file->fd);
        if (error == 0 && fstat(file->fd, &facts) != 0)
            error = errno;
        if (error != 0)
            return pfx_oplog_disk(error, "open segment", object, err);
        file->length = (uint64_t)facts.st_size;
    }
    return PFX_OK;
}

static pfx_result read_entries(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    PFX_TRY(load_tree(r, r->files[0].first, err));
    bool more = true;
    for (size_t i = 0; i < r->n_files && more; i++) {
        if (i > 0 && r->files[i].first != log->frontier.size)
            break;
        PFX_TRY(replay(r, i, &more, err));
        if (r->files[i].end > 0)
            r->last = i;
        else
            break;
    }
    if (log->frontier.size < r->checkpoint->size)
        return shorter(r, "", err);
    if (strcmp(log->facts.origin, r->checkpoint->origin) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "open log", log->facts.origin, "origin",
                        "The checkpoint is of another log: %s.", r->checkpoint->origin);
    return PFX_OK;
}

/* A begin that was cut short: at most entry 0, no whole checkpoint, none kept. */
static bool is_stump(struct pfx_logdir *dir)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    char **names;
    size_t n, n_kept;
    uint64_t first, count = 0;
    bool stump = true;
    if (pfx_failed(pfx_logdir_list(dir, "checkpoints", &names, &n_kept, &ignored)))
        return false;
    for (size_t i = 0; i < n_kept; i++)
        free(names[i]);
    free(names);
    if (pfx_failed(pfx_logdir_list(dir, "entries", &names, &n, &ignored)))
        return false;
    for (size_t i = 0; i < n; i++) {
        stump = stump && (!pfx_segment_parse(names[i], &first) || first == 0);
        free(names[i]);
    }
    free(names);
    return stump && n_kept == 0 && pfx_ok(pfx_logdir_count(dir, &count, &ignored)) && count <= 1;
}

/* A backup ends before the entry that names it, so the log that it is of went on. Were a copy
 * written to, there would be two logs of one origin; the anchor alone wouldn't see it in time. */
static pfx_result not_a_copy(const struct pfx_oplog *log, struct pfx_error *err)
{
    if (faccessat(log->fd, PFX_LOGDIR_COPY, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "open log", log->dir, PFX_LOGDIR_COPY,
                    "These files are a backup's, and the log that it was made of went on. Begin "
                    "its successor with pfx-agent log reopen.");
}

static pfx_result recover(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    PFX_TRY(not_a_copy(log, err));
    PFX_TRY(pfx_logdir_open_bare(log->dir, &r->dir, err));
    struct pfx_error inner = PFX_ERROR_NONE;
    pfx_result read = pfx_logdir_refresh(r->dir, &inner);
    struct pfx_bytes note = pfx_logdir_checkpoint(r->dir, &r->checkpoint);
    if ((pfx_ok(read) || strcmp(inner.code, "checkpoint") == 0) && note.len == 0 &&
        is_stump(r->dir)) {
        log->state = PFX_OPLOG_NONE;
        return PFX_OK;
    }
    if (pfx_failed(read)) {
        *err = inner;
        return read;
    }
    if (note.len == 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "open log", log->dir, "checkpoint",
                        "There are entries, but no checkpoint. Bring the files back, or start a "
                        "successor with pfx-agent log reopen.");
    log->entries_fd = openat(log->fd, "entries", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->entries_fd < 0 && errno != ENOENT)
        return pfx_oplog_disk(errno, "open segment", "entries", err);
    PFX_TRY(open_files(r, err));
    PFX_TRY(read_entries(r, err));
    pfx_buf_add(&log->note_text, note.data, note.len);
    log->note_size = log->covered = r->checkpoint->size;
    PFX_TRY(pfx_oplog_mend_tail(r, err));
    PFX_TRY(pfx_oplog_take_files(r, err));
    PFX_TRY(pfx_oplog_mend_slots(r, err));
    inner = (struct pfx_error)PFX_ERROR_NONE;
    read = pfx_oplog_mend_tiles(log, r->files[0].first, r->dir, &inner);
    if (pfx_failed(read) && read.cls != PFX_CLASS_TRANSIENT) {
        *err = inner;
        return read;
    }
    struct pfx_anchor_copy copy;
    if (pfx_logdir_anchor(r->dir, &copy)) {
        log->anchor_size = copy.size;
        log->anchor_ms = copy.at_ms;
    }
    log->synced = log->opened_size = log->frontier.size;
    log->synced_frontier = log->frontier;
    log->uncovered_since_ms = pfx_oplog_uptime();
    memcpy(log->dangling, log->open, sizeof log->dangling);
    log->n_dangling = log->n_open;
    log->state = PFX_OPLOG_OPEN;
    return PFX_OK;
}

void pfx_oplog_recover(struct pfx_oplog *log)
{
    struct pfx_recovery *recovery PFX_AUTOFREE = pfx_alloc(sizeof *recovery);
    struct pfx_error why = PFX_ERROR_NONE;
    recovery->log = log;
    pfx_result r = recover(recovery, &why);
    recovery_done(recovery);
    if (pfx_ok(r))
        return;
    pfx_oplog_leave(log);
    /* What the kernel refuses (EACCES, EROFS) is another thing. */
    bool wrong = r.cls == PFX_CLASS_INTEGRITY || strcmp(why.code, "dropped") == 0;
    log->state = wrong ? PFX_OPLOG_REFUSED : PFX_OPLOG_CLOSED;
    log->why = why;
}

pfx_result pfx_oplog_enter(struct pfx_oplog *log, struct pfx_error *err)
{
    int error = pfx_oplog_folder(log, log->dir);
    if (error != 0)
        return pfx_oplog_disk(error, "make folder", log->dir, err);
    log->fd = open(log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->fd < 0)
        return pfx_oplog_disk(errno, "open log", log->dir, err);
    if (flock(log->fd, LOCK_EX | LOCK_NB) != 0)
        return pfx_fail(err, PFX_CLASS_DEVICE, "open log", log->dir, strerrorname_np(errno),
                        "Another process writes this operation log. Stop it, then start pfx-hsm "
                        "again.");
    pfx_oplog_modes(log);
    return PFX_OK;
}

void pfx_oplog_leave(struct pfx_oplog *log)
{
    for (struct pfx_segment *segment = log->segments; segment;) {
        struct pfx_segment *next = segment->next;
        pfx_segment_free(segment);
        segment = next;
    }
    pfx_segment_free(log->spare);
    log->segments = log->current = log->spare = NULL;
    for (struct pfx_full_tile *tile = log->tiles; tile;) {
        struct pfx_full_tile *next = tile->next;
        free(tile);
        tile = next;
    }
    log->tiles = NULL;
    log->tiles_end = &log->tiles;
    log->n_tiles = 0;
    int *const fds[3] = {&log->entries_fd, &log->slots[0], &log->slots[1]};
    for (size_t i = 0; i < 3; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    memset(&log->frontier, 0, sizeof log->frontier);
    memset(&log->synced_frontier, 0, sizeof log->synced_frontier);
    memset(&log->prev, 0, sizeof log->prev);
    memset(&log->facts, 0, sizeof log->facts);
    memset(log->anchors, 0, sizeof log->anchors);
    log->n_open = log->n_dangling = 0;
    log->synced = log->covered = log->cover_wanted = log->opened_size = 0;
    log->note_size = log->milestone_size = log->milestone_due = 0;
    log->anchor_size = log->first = log->n_segments = 0;
    log->anchor_ms = log->covered_ms = log->keep_look_ms = log->anchor_retry_ms = 0;
    pfx_buf_reset(&log->note_text);
}
