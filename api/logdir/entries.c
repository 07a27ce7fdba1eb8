/* Entries by number. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/logdir/impl.h"

#define MARK_EVERY PFX_TILE_WIDTH

void pfx_logdir_close_segment(struct pfx_logdir *dir)
{
    if (dir->seg_fd < 0)
        return;
    close(dir->seg_fd);
    dir->seg_fd = -1;
    pfx_segment_reader_done(&dir->reader);
    free(dir->marks);
    dir->marks = NULL;
    dir->n_marks = 0;
}

/* TRANSIENT with code "gone": the list is older than the folder. */
static pfx_result open_segment(struct pfx_logdir *dir, uint64_t first, struct pfx_error *err)
{
    if (dir->seg_fd >= 0 && dir->seg_first == first)
        return PFX_OK;
    pfx_logdir_close_segment(dir);
    char name[PFX_SEGMENT_NAME_SIZE], path[64];
    snprintf(path, sizeof path, "entries/%s", pfx_segment_name(first, name));
    int fd = openat(dir->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "read log", path, "gone",
                        "The file is gone. Try again.");
    if (fd < 0)
        return pfx_fail_errno(err, errno, "read log", path,
                              "Be root or in the group of the log's readers.");
    dir->seg_fd = fd;
    dir->seg_first = dir->seq = first;
    dir->reader = pfx_segment_reader_make(fd, 0);
    dir->marks = pfx_grow(NULL, 1, sizeof *dir->marks);
    dir->marks[0] = 0;
    dir->n_marks = 1;
    return PFX_OK;
}

static char *segment_path(const struct pfx_logdir *dir, char buf[64])
{
    char name[PFX_SEGMENT_NAME_SIZE];
    snprintf(buf, 64, "entries/%s", pfx_segment_name(dir->seg_first, name));
    return buf;
}

/* The next record of the open segment. */
static pfx_result step(struct pfx_logdir *dir, enum pfx_record *ret_kind,
                       struct pfx_bytes *ret_entry, struct pfx_error *err)
{
    char path[64];
    PFX_TRY(pfx_segment_next(&dir->reader, segment_path(dir, path), ret_kind, ret_entry, err));
    if (*ret_kind != PFX_RECORD_WHOLE)
        return PFX_OK;
    dir->seq++;
    if ((dir->seq - dir->seg_first) % MARK_EVERY == 0 &&
        (dir->seq - dir->seg_first) / MARK_EVERY == dir->n_marks) {
        dir->marks = pfx_grow(dir->marks, dir->n_marks + 1, sizeof *dir->marks);
        dir->marks[dir->n_marks++] = dir->reader.at;
    }
    return PFX_OK;
}

/* To the last place at or before seq whose offset is known. */
static void jump(struct pfx_logdir *dir, uint64_t seq)
{
    size_t mark = (size_t)((seq - dir->seg_first) / MARK_EVERY);
    if (mark >= dir->n_marks)
        mark = dir->n_marks - 1;
    uint64_t there = dir->seg_first + (uint64_t)mark * MARK_EVERY;
    if (dir->seq <= seq && dir->seq >= there)
        return;
    dir->seq = there;
    dir->reader.at = dir->marks[mark];
}

static bool sound(struct pfx_bytes json, uint64_t seq)
{
    struct pfx_entry entry;
    struct pfx_error ignored = PFX_ERROR_NONE;
    return pfx_ok(pfx_entry_read(json, &entry, &ignored)) &&
           pfx_entry_int(&entry, PFX_F_SEQ) == (int64_t)seq;
}

/* The index of the segment that has seq; the last one if it begins at or before it. */
static size_t segment_of(const struct pfx_logdir *dir, uint64_t seq)
{
    size_t low = 0, high = dir->n_firsts;
    while (low + 1 < high) {
        size_t middle = (low + high) / 2;
        if (dir->firsts[middle] <= seq)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* In segment number i. END: not there. */
static pfx_result look(struct pfx_logdir *dir, size_t i, uint64_t seq, enum pfx_record *ret_kind,
                       struct pfx_bytes *ret_entry, struct pfx_error *err)
{
    for (;; i--) {
        PFX_TRY(open_segment(dir, dir->firsts[i], err));
        jump(dir, seq);
        *ret_kind = PFX_RECORD_WHOLE;
        while (*ret_kind == PFX_RECORD_WHOLE && dir->seq <= seq)
            PFX_TRY(step(dir, ret_kind, ret_entry, err));
        /* Else a file that was made ahead under a name that its entries never reached: they go on
         * in the one before it until the writer names it anew. */
        if (*ret_kind == PFX_RECORD_WHOLE || dir->seq != dir->seg_first || i == 0)
            return PFX_OK;
    }
}

pfx_result pfx_logdir_entry(struct pfx_logdir *dir, uint64_t seq, struct pfx_bytes *ret_entry,
                            struct pfx_error *err)
{
    char object[32];
    snprintf(object, sizeof object, "entry %" PRIu64, seq);
    bool covered = seq < dir->checkpoint.size;
    for (int try = 0; try < 3; try++) {
        if (try > 0)
            PFX_TRY(pfx_logdir_list_segments(dir, err));
        if (dir->n_firsts == 0)
            continue;
        if (seq < dir->firsts[0])
            return pfx_fail(err, PFX_CLASS_REFUSED, "read log", object, "dropped",
                            "Retention dropped it; entries from %" PRIu64 " on are kept.",
                            dir->firsts[0]);
        struct pfx_error inner = PFX_ERROR_NONE;
        enum pfx_record kind;
        struct pfx_bytes entry;
        pfx_result r = look(dir, segment_of(dir, seq), seq, &kind, &entry, &inner);
        if (pfx_failed(r) && r.cls == PFX_CLASS_TRANSIENT)
            continue;
        if (pfx_failed(r)) {
            if (err && err->cls == PFX_CLASS_OK)
                *err = inner;
            return r;
        }
        if (kind == PFX_RECORD_WHOLE && sound(entry, seq)) {
            *ret_entry = entry;
            return PFX_OK;
        }
        /* It may be being written while it is read: once more, from the file. */
        pfx_logdir_close_segment(dir);
    }
    if (covered)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read log", object, "damaged",
                        "The checkpoint covers it (size %" PRIu64 "), but what is in its place "
                        "isn't this entry.",
                        dir->checkpoint.size);
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "read log", object, "end", "Not written yet.");
}

pfx_result pfx_logdir_count(struct pfx_logdir *dir, uint64_t *ret_count, struct pfx_error *err)
{
    PFX_TRY(pfx_logdir_list_segments(dir, err));
    uint64_t count = 0;
    for (size_t i = dir->n_firsts; i-- > 0;) {
        struct pfx_error inner = PFX_ERROR_NONE;
        pfx_result r = open_segment(dir, dir->firsts[i], &inner);
        if (pfx_failed(r) && r.cls == PFX_CLASS_TRANSIENT)
            continue; /* dropped, or named anew */
        if (pfx_failed(r)) {
            if (err && err->cls == PFX_CLASS_OK)
                *err = inner;
            return r;
        }
        /* From the last mark on: what was walked over before isn't read again. */
        dir->seq = dir->seg_first + (uint64_t)(dir->n_marks - 1) * MARK_EVERY;
        dir->reader.at = dir->marks[dir->n_marks - 1];
        enum pfx_record kind = PFX_RECORD_WHOLE;
        while (kind == PFX_RECORD_WHOLE) {
            uint64_t seq = dir->seq, at = dir->reader.at;
            struct pfx_bytes entry;
            PFX_TRY(step(dir, &kind, &entry, err));
            if (kind == PFX_RECORD_WHOLE && seq >= dir->checkpoint.size && !sound(entry, seq)) {
                dir->seq = seq; /* half written */
                dir->reader.at = at;
                break;
            }
        }
        count = dir->seq;
        if (dir->seq > dir->seg_first)
            break;
    }
    *ret_count = count;
    return PFX_OK;
}
