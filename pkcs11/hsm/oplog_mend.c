/* Mending at start: a torn tail, files that a crash left behind, the older slot. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog_impl.h"

pfx_result pfx_oplog_disk(int error, const char *step, const char *object, struct pfx_error *err)
{
    return pfx_fail_errno(
        err, error, step, object,
        "The operation log can't be written: mend that, then start pfx-hsm again.");
}

/* Up to which byte a file has anything but zeros. */
static pfx_result used(const struct pfx_found *file, uint64_t *ret_end, struct pfx_error *err)
{
    uint8_t *piece PFX_AUTOFREE = pfx_alloc(65536);
    *ret_end = file->end;
    for (uint64_t at = file->end; at < file->length;) {
        ssize_t n = pread(file->fd, piece, 65536, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfx_oplog_disk(errno, "read log", "entries", err);
        if (n == 0)
            break;
        for (ssize_t i = n; i > 0; i--) {
            if (piece[i - 1] != 0) {
                *ret_end = at + (uint64_t)i;
                break;
            }
        }
        at += (uint64_t)n;
    }
    return PFX_OK;
}

/* Writes [from, end) as it is and zeros up to `upto`, and syncs. */
static pfx_result rewrite(struct pfx_oplog *log, const struct pfx_found *file, uint64_t from,
                          uint64_t upto, struct pfx_error *err)
{
    uint8_t *piece PFX_AUTOFREE = pfx_alloc(65536);
    for (uint64_t at = from; at < upto;) {
        size_t n = upto - at < 65536 ? (size_t)(upto - at) : 65536;
        size_t keep = at >= file->end ? 0 : file->end - at < n ? (size_t)(file->end - at) : n;
        memset(piece, 0, n);
        for (size_t got = 0; got < keep;) {
            ssize_t k = pread(file->fd, piece + got, keep - got, (off_t)(at + got));
            if (k < 0 && errno == EINTR)
                continue;
            if (k <= 0)
                return pfx_oplog_disk(k < 0 ? errno : EIO, "read log", "entries", err);
            got += (size_t)k;
        }
        int error = pfx_oplog_write_at(log, "rewrite tail", file->fd, piece, n, at);
        if (error != 0)
            return pfx_oplog_disk(error, "rewrite tail", "entries", err);
        at += n;
    }
    int error = pfx_oplog_sync(log, "sync tail", file->fd);
    return error == 0 ? PFX_OK : pfx_oplog_disk(error, "sync tail", "entries", err);
}

pfx_result pfx_oplog_mend_tail(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    if (r->rotation) {
        /* Nothing came after it and nobody was told: see pfx_oplog_rotate. */
        pfx_oplog_restore(log, &r->before);
        log->facts.cut_rotation = true;
    }
    for (size_t i = 0; i <= r->last; i++) {
        struct pfx_found *file = &r->files[i];
        uint64_t upto = file->end;
        if (i == r->last) {
            PFX_TRY(used(file, &upto, err));
            log->facts.cut_bytes += upto - file->end;
            if (r->rotation)
                file->end = r->before.end;
        }
        if (file->uncovered < upto)
            PFX_TRY(rewrite(log, file, file->uncovered, upto, err));
    }
    log->facts.tail = log->frontier.size - r->checkpoint->size;
    log->facts.found = log->frontier.size;
    return PFX_OK;
}

static struct pfx_segment *take(struct pfx_found *file)
{
    struct pfx_segment *segment = pfx_segment_new(file->fd, file->first);
    file->fd = -1;
    segment->end = file->end;
    segment->alloc = file->length > file->end ? file->length : file->end;
    return segment;
}

/* The file that ends the log, and the one made ahead; what a crash tore off behind them goes. */
pfx_result pfx_oplog_take_files(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    for (size_t i = r->last + 1; i < r->n_files; i++) {
        struct pfx_found *file = &r->files[i];
        uint64_t end;
        file->end = 0;
        PFX_TRY(used(file, &end, err));
        if (end == 0 && !log->spare) {
            log->spare = take(file);
            continue;
        }
        char name[PFX_SEGMENT_NAME_SIZE];
        log->facts.cut_bytes += end;
        if (log->io->unlinkat(log->io->ctx, "drop torn segment", log->entries_fd,
                              pfx_segment_name(file->first, name)) != 0)
            return pfx_oplog_disk(errno, "drop torn segment", name, err);
        log->n_segments--;
    }
    log->segments = log->current = take(&r->files[r->last]);
    /* A copied folder may have lost its allocated blocks; elsewhere this changes nothing. */
    struct pfx_segment *both[2] = {log->current, log->spare};
    for (int i = 0; i < 2; i++) {
        if (!both[i] || both[i]->alloc == 0)
            continue;
        int error = pfx_oplog_allocate(log, "grow segment", both[i]->fd, both[i]->alloc);
        if (error != 0 && !pfx_oplog_no_space(error))
            return pfx_oplog_disk(error, "grow segment", "entries", err);
        if (error != 0)
            both[i]->alloc = both[i]->end;
    }
    if (log->spare && !pfx_segment_serves(log, log->spare)) {
        /* Made while the disk was full. */
        char name[PFX_SEGMENT_NAME_SIZE];
        if (log->io->unlinkat(log->io->ctx, "drop empty segment", log->entries_fd,
                              pfx_segment_name(log->spare->first, name)) != 0)
            return pfx_oplog_disk(errno, "drop empty segment", name, err);
        pfx_segment_free(PFX_TAKE(log->spare));
        log->n_segments--;
    }
    return PFX_OK;
}

static bool has_it(int fd, const uint8_t want[PFX_SLOT_SIZE])
{
    uint8_t have[PFX_SLOT_SIZE];
    return pread(fd, have, sizeof have, 0) == (ssize_t)sizeof have &&
           memcmp(have, want, sizeof have) == 0;
}

/* Both slots get the newest checkpoint, and first the one that has it: where its sync failed it may
 * be there in memory only, and the disk may have none but the other slot's. Bytes that are on disk
 * can't be torn by writing the same. */
pfx_result pfx_oplog_mend_slots(struct pfx_recovery *r, struct pfx_error *err)
{
    struct pfx_oplog *log = r->log;
    static const char *const names[2] = {"checkpoint.0", "checkpoint.1"};
    uint8_t want[PFX_SLOT_SIZE];
    pfx_slot_write(pfx_buf_bytes(&log->note_text), want);
    for (int i = 0; i < 2; i++) {
        int error = pfx_oplog_file(log, "open slot", log->fd, names[i], O_RDWR, &log->slots[i]);
        if (error == ENOENT) {
            PFX_TRY(pfx_oplog_small(log, &pfx_small_slot, names[i],
                                    (struct pfx_bytes){want, sizeof want}, err));
            error = pfx_oplog_file(log, "open slot", log->fd, names[i], O_RDWR, &log->slots[i]);
        }
        if (error != 0)
            return pfx_oplog_disk(error, "open slot", names[i], err);
    }
    unsigned first = has_it(log->slots[0], want) ? 0 : 1;
    for (unsigned k = 0; k < 2; k++) {
        unsigned i = k == 0 ? first : 1 - first;
        int error = pfx_oplog_write_at(log, "mend slot", log->slots[i], want, sizeof want, 0);
        if (error == 0)
            error = pfx_oplog_sync(log, "sync mended slot", log->slots[i]);
        if (error != 0)
            return pfx_oplog_disk(error, "mend slot", names[i], err);
    }
    log->slot_next = 1 - first;
    return PFX_OK;
}
