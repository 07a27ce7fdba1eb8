/* The two steps that change who signs: a new log, and new keys for one that goes on. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog_impl.h"

struct begin_in {
    const char *origin;
    struct pfx_draft *first;
    const struct pfx_signer *signer;
};

static pfx_result disk(int error, const char *step, const char *object, struct pfx_error *err)
{
    return pfx_fail_errno(err, error, step, object,
                          "The operation log can't be started. Make room or mend the disk, then "
                          "repeat the command.");
}

static pfx_result make_slots(struct pfx_oplog *log, struct pfx_error *err)
{
    static const char *const names[2] = {"checkpoint.0", "checkpoint.1"};
    static const uint8_t zeros[PFX_SLOT_SIZE];
    for (int i = 0; i < 2; i++) {
        PFX_TRY(pfx_oplog_small(log, &pfx_small_slot, names[i],
                                (struct pfx_bytes){zeros, sizeof zeros}, err));
        int error = pfx_oplog_file(log, "open slot", log->fd, names[i], O_RDWR, &log->slots[i]);
        if (error != 0)
            return disk(error, "open slot", names[i], err);
    }
    log->slot_next = 0;
    return PFX_OK;
}

static pfx_result make_first_segment(struct pfx_oplog *log, struct pfx_error *err)
{
    char name[PFX_SEGMENT_NAME_SIZE];
    const char *step = "make folder";
    int fd = -1, error = pfx_oplog_folder(log, "entries");
    if (error == 0) {
        log->entries_fd = openat(log->fd, "entries", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        step = "make segment";
        error = pfx_oplog_file(log, step, log->entries_fd, pfx_segment_name(0, name),
                               O_RDWR | O_CREAT | O_TRUNC, &fd);
    }
    uint64_t target = pfx_oplog_target(log, 0, 0);
    if (error == 0)
        error = pfx_oplog_allocate(log, step = "allocate segment", fd, target);
    if (error == 0)
        error = pfx_oplog_sync(log, step = "sync segment", fd);
    if (error == 0)
        error = pfx_oplog_sync(log, step = "sync folder of segments", log->entries_fd);
    if (error != 0) {
        if (fd >= 0)
            close(fd);
        return disk(error, step, "entries", err);
    }
    log->segments = log->current = pfx_segment_new(fd, 0);
    log->current->alloc = target;
    log->n_segments = 1;
    return PFX_OK;
}

static pfx_result first_entry(struct pfx_oplog *log, const struct begin_in *in,
                              struct pfx_error *err)
{
    pthread_mutex_lock(&log->lock);
    pfx_oplog_put_one(log, &in->first->entry);
    bool fits =
        strcmp(log->facts.origin, in->origin) == 0 && log->facts.n_keys == in->signer->n_keys;
    for (size_t i = 0; fits && i < in->signer->n_keys; i++) {
        char line[PFX_VKEY_LINE_SIZE];
        fits = strcmp(log->facts.keys[i], pfx_vkey_line(&in->signer->keys[i], line)) == 0;
    }
    pthread_mutex_unlock(&log->lock);
    return fits ? PFX_OK
                : pfx_fail(err, PFX_CLASS_USAGE, "begin log", in->origin, "",
                           "The first entry doesn't name this origin and the signer's keys.");
}

static pfx_result begin_steps(struct pfx_oplog *log, const struct begin_in *in,
                              struct pfx_error *err)
{
    PFX_TRY(make_slots(log, err));
    PFX_TRY(make_first_segment(log, err));
    PFX_TRY(first_entry(log, in, err));
    PFX_TRY(pfx_oplog_keep_keys(log, in->signer, err));
    PFX_TRY(pfx_oplog_commit(log, err));
    pthread_mutex_lock(&log->lock);
    log->signer = *in->signer;
    log->attached = true;
    pthread_mutex_unlock(&log->lock);
    return pfx_oplog_cover(log, NULL, err);
}

static pfx_result begin(struct pfx_oplog *log, struct pfx_oplog_job *job, struct pfx_error *err)
{
    const struct begin_in *in = job->in;
    bool successor = pfx_entry_is(&in->first->entry, PFX_F_EVENT, "log.reopen");
    pthread_mutex_lock(&log->lock);
    enum pfx_oplog_state state = log->state;
    pfx_result r = state == PFX_OPLOG_NONE
                       ? PFX_OK
                       : pfx_fail(err, PFX_CLASS_USAGE, "begin log", in->origin, "",
                                  "There is a log already. pfx-agent log status shows it.");
    if (pfx_ok(r))
        snprintf(log->facts.origin, sizeof log->facts.origin, "%s", in->origin);
    log->facts.began = true;
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(r);
    r = pfx_oplog_anchors_read(log, in->signer, true, successor, err);
    if (pfx_ok(r))
        r = begin_steps(log, in, err);
    if (pfx_failed(r)) {
        /* What is on disk is overwritten by the next try. */
        pthread_mutex_lock(&log->lock);
        bool closed = log->state == PFX_OPLOG_CLOSED;
        log->attached = false;
        pthread_mutex_unlock(&log->lock);
        if (!closed)
            pfx_oplog_leave(log);
        return r;
    }
    pthread_mutex_lock(&log->lock);
    log->state = PFX_OPLOG_OPEN;
    log->attached_once = true;
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    for (int i = 0; i < 2 && pfx_ok(r); i++) {
        pthread_mutex_lock(&log->lock);
        log->anchor_size = 0; /* both */
        pthread_mutex_unlock(&log->lock);
        struct pfx_error why = PFX_ERROR_NONE;
        r = pfx_oplog_anchor(log, &why);
    }
    return PFX_OK;
}

pfx_result pfx_oplog_begin(struct pfx_oplog *log, const char *origin, struct pfx_draft *first,
                           const struct pfx_signer *signer, struct pfx_error *err)
{
    struct begin_in in = {origin, first, signer};
    return pfx_oplog_run(log, begin, &in, NULL, err);
}

struct rotate_in {
    struct pfx_draft *draft;
    const struct pfx_signer *fresh;
};

/* The rotation didn't come about: its entry, which nobody was told of, goes again. */
static pfx_result take_back(struct pfx_oplog *log, const struct pfx_before *before,
                            struct pfx_error *err)
{
    struct pfx_segment *segment = log->current;
    size_t len = (size_t)(segment->end - before->end);
    uint8_t *zeros PFX_AUTOFREE = pfx_alloc(len);
    const char *step = "take back rotation";
    int error = pfx_oplog_write_at(log, step, segment->fd, zeros, len, before->end);
    if (error == 0)
        error = pfx_oplog_sync(log, step = "sync after rotation", segment->fd);
    if (error != 0)
        return pfx_oplog_fail(log, step, "entries", error, err);
    pthread_mutex_lock(&log->lock);
    segment->end = before->end;
    pfx_oplog_restore(log, before);
    log->synced = log->frontier.size;
    log->synced_frontier = log->frontier;
    pthread_mutex_unlock(&log->lock);
    return PFX_OK;
}

static pfx_result rotate_steps(struct pfx_oplog *log, const struct rotate_in *in,
                               struct pfx_before *before, struct pfx_error *err)
{
    PFX_TRY(pfx_oplog_commit(log, err));
    PFX_TRY(pfx_oplog_cover(log, NULL, err));
    PFX_TRY(pfx_oplog_keep_keys(log, in->fresh, err));
    pthread_mutex_lock(&log->lock);
    if (log->spare && log->spare->first == log->frontier.size)
        pfx_oplog_roll(log);
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(pfx_oplog_commit(log, err)); /* what a new segment began with stays */
    PFX_TRY(pfx_oplog_cover(log, NULL, err));
    pthread_mutex_lock(&log->lock);
    pfx_oplog_remember(log, log->current->end, before);
    pfx_oplog_put_one(log, &in->draft->entry);
    bool names = log->facts.n_keys == in->fresh->n_keys;
    for (size_t i = 0; names && i < in->fresh->n_keys; i++) {
        char line[PFX_VKEY_LINE_SIZE];
        names = strcmp(log->facts.keys[i], pfx_vkey_line(&in->fresh->keys[i], line)) == 0;
    }
    pthread_mutex_unlock(&log->lock);
    pfx_result r = pfx_oplog_commit(log, err);
    if (pfx_ok(r) && !names)
        r = pfx_fail(err, PFX_CLASS_USAGE, "rotate log key", log->facts.origin, "",
                     "The entry doesn't name the new signer's keys.");
    if (pfx_ok(r))
        r = pfx_oplog_cover(log, in->fresh, err);
    if (pfx_ok(r) || pfx_oplog_state(log, NULL) != PFX_OPLOG_OPEN)
        return r;
    struct pfx_error worse = PFX_ERROR_NONE;
    if (pfx_failed(take_back(log, before, &worse)))
        return (pfx_result){worse.cls};
    return r;
}

static pfx_result rotate(struct pfx_oplog *log, struct pfx_oplog_job *job, struct pfx_error *err)
{
    const struct rotate_in *in = job->in;
    struct pfx_before *before PFX_AUTOFREE = pfx_alloc(sizeof *before);
    pthread_mutex_lock(&log->lock);
    pfx_result r = pfx_oplog_usable(log, err);
    if (pfx_ok(r) && !log->attached)
        r = pfx_fail(err, PFX_CLASS_TRANSIENT, "rotate log key", log->facts.origin, "signer",
                     "The token of the log role isn't there. Try again when it is.");
    if (pfx_ok(r) && !pfx_oplog_fits(log, PFX_NOTE_ROOM, 0, PFX_ROOM_ORDINARY))
        r = pfx_fail(err, PFX_CLASS_TRANSIENT, "rotate log key", log->facts.origin, "ENOSPC",
                     "No room on the disk. Make some, then try again.");
    log->exclusive = pfx_ok(r);
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(r);
    r = rotate_steps(log, in, before, err);
    pthread_mutex_lock(&log->lock);
    log->exclusive = false;
    if (pfx_ok(r)) {
        log->signer = *in->fresh;
        log->milestone_due = log->note_size; /* the one with both signatures */
    }
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    if (pfx_ok(r)) {
        struct pfx_error later = PFX_ERROR_NONE; /* it is tried again with the chores */
        pfx_result ignored = pfx_oplog_chores(log, &later);
        (void)ignored;
    }
    return r;
}

pfx_result pfx_oplog_rotate(struct pfx_oplog *log, struct pfx_draft *draft,
                            const struct pfx_signer *fresh, struct pfx_error *err)
{
    struct rotate_in in = {draft, fresh};
    return pfx_oplog_run(log, rotate, &in, NULL, err);
}
