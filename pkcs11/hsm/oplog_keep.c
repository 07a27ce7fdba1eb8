/*
 * Retention: whole segments go, oldest first, after the log says so under a checkpoint.
 *
 * What is dropped is gone, so no clock that may be set decides it. An entry's age is the time that
 * the host was seen to run since: each segment says in its first entry how long that was until then
 * (log.ran). Nobody can set the time since boot, and time between two boots isn't counted, so an
 * entry is never younger than that; one of a host that was off for long is kept for longer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog_impl.h"

#define LOOK_EVERY_MS 3600000

bool pfx_oplog_keep_due(struct pfx_oplog *log, int64_t now)
{
    return log->keep_ms > 0 && log->state == PFX_OPLOG_OPEN && log->attached &&
           now >= log->keep_look_ms;
}

/* The seq up to which all entries are older than the policy keeps them: the first entry of the
 * segment after them is too. ran: until when that one must have been written. */
static pfx_result find_end(struct pfx_oplog *log, int64_t ran, uint64_t most, uint64_t *ret_end,
                           size_t *ret_n, struct pfx_error *err)
{
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    PFX_TRY(pfx_logdir_open(log->dir, &dir, err));
    char **names;
    size_t n;
    PFX_TRY(pfx_logdir_list(dir, "entries", &names, &n, err));
    uint64_t end = pfx_logdir_first(dir);
    size_t dropped = 0;
    bool going = true;
    for (size_t i = 0; i < n; i++) {
        uint64_t first;
        struct pfx_bytes json;
        struct pfx_entry entry;
        struct pfx_error inner = PFX_ERROR_NONE;
        if (going && pfx_segment_parse(names[i], &first) && first > end) {
            going = first <= most && pfx_ok(pfx_logdir_entry(dir, first, &json, &inner)) &&
                    pfx_ok(pfx_entry_read(json, &entry, &inner)) &&
                    pfx_entry_int(&entry, PFX_F_LOG_RAN) < ran;
            if (going) {
                end = first;
                dropped++;
            }
        }
        free(names[i]);
    }
    free(names);
    *ret_end = end;
    *ret_n = dropped;
    return PFX_OK;
}

static pfx_result say_so(struct pfx_oplog *log, uint64_t end, struct pfx_error *err)
{
    pthread_mutex_lock(&log->lock);
    pfx_result r = pfx_oplog_usable(log, err);
    if (pfx_ok(r) && !pfx_oplog_fits(log, PFX_NOTE_ROOM, 0, PFX_ROOM_ORDINARY))
        r = pfx_fail(err, PFX_CLASS_TRANSIENT, "drop segment", log->dir, "ENOSPC", "No room.");
    if (pfx_ok(r)) {
        pfx_draft_init(&log->note, PFX_SRC_HSM, "log.retention", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
        pfx_draft_str(&log->note, PFX_F_ACTOR_ROLE, "self");
        pfx_draft_int(&log->note, PFX_F_LOG_SIZE, (int64_t)end);
        pfx_draft_int(&log->note, PFX_F_COUNT, (int64_t)(end - log->first));
        /* A roll before it writes a note of its own with the same draft. */
        if (log->spare && log->spare->first == log->frontier.size)
            r = pfx_fail(err, PFX_CLASS_TRANSIENT, "drop segment", log->dir, "", "Next time.");
        else
            pfx_oplog_put_one(log, &log->note.entry);
    }
    uint64_t size = log->frontier.size;
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(r);
    PFX_TRY(pfx_oplog_commit(log, err));
    PFX_TRY(pfx_oplog_cover(log, NULL, err));
    PFX_TRY(pfx_oplog_chores(log, err)); /* the tiles of what goes */
    return log->note_size >= size ? PFX_OK
                                  : pfx_fail(err, PFX_CLASS_TRANSIENT, "drop segment", log->dir, "",
                                             "Not covered yet.");
}

static pfx_result drop(struct pfx_oplog *log, uint64_t end, struct pfx_error *err)
{
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    char **names;
    size_t n;
    PFX_TRY(pfx_logdir_open_bare(log->dir, &dir, err));
    PFX_TRY(pfx_logdir_list(dir, "entries", &names, &n, err));
    int error = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t first;
        if (error == 0 && pfx_segment_parse(names[i], &first) && first < end) {
            if (log->io->unlinkat(log->io->ctx, "drop segment", log->entries_fd, names[i]) != 0)
                error = errno;
            else {
                pthread_mutex_lock(&log->lock);
                log->n_segments--;
                pthread_mutex_unlock(&log->lock);
            }
        }
        free(names[i]);
    }
    free(names);
    const char *step = "drop segment";
    if (error == 0)
        error = pfx_oplog_sync(log, step = "sync after drop", log->entries_fd);
    pthread_mutex_lock(&log->lock);
    if (error == 0)
        log->first = end;
    pthread_mutex_unlock(&log->lock);
    return error == 0 ? PFX_OK : pfx_oplog_fail(log, step, "entries", error, err);
}

void pfx_oplog_keep(struct pfx_oplog *log)
{
    struct pfx_error err = PFX_ERROR_NONE;
    uint64_t end = 0;
    size_t n = 0;
    pthread_mutex_lock(&log->lock);
    log->keep_look_ms = pfx_oplog_uptime() + LOOK_EVERY_MS;
    int64_t ran = pfx_oplog_ran(log) - log->keep_ms;
    /* Neither the segment that is written, nor one whose successor isn't covered, nor an intent
     * that waits for its result. */
    uint64_t most = log->current->first;
    if (log->covered <= most)
        most = log->covered > 0 ? log->covered - 1 : 0;
    if (log->n_open > 0 && log->open[0] < most)
        most = log->open[0];
    pthread_mutex_unlock(&log->lock);
    pfx_result r = find_end(log, ran, most, &end, &n, &err);
    if (pfx_ok(r) && n > 0)
        r = say_so(log, end, &err);
    if (pfx_ok(r) && n > 0)
        r = drop(log, end, &err);
    if (pfx_failed(r)) { /* sooner than in an hour */
        pthread_mutex_lock(&log->lock);
        log->keep_look_ms = pfx_oplog_uptime() + LOOK_EVERY_MS / 60;
        pthread_mutex_unlock(&log->lock);
    }
}
