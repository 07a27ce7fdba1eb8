/* The committer: what was appended goes to disk in one go, and under one checkpoint. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog_impl.h"

#define SIGN_RETRY_MS 1000
#define SIGN_RETRY_MAX_MS 30000

static bool has_pending(const struct pfx_oplog *log)
{
    for (const struct pfx_segment *s = log->segments; s; s = s->next)
        if (s->pending.len > 0)
            return true;
    return false;
}

/* Segments that were rolled over and are wholly written: their zeros go, and they are closed. A
 * zero left there does no harm. */
static void retire(struct pfx_oplog *log)
{
    for (;;) {
        pthread_mutex_lock(&log->lock);
        struct pfx_segment *oldest = log->segments;
        bool idle = oldest && oldest != log->current && oldest->pending.len == 0;
        if (idle)
            log->segments = oldest->next;
        pthread_mutex_unlock(&log->lock);
        if (!idle)
            return;
        (void)!log->io->ftruncate(log->io->ctx, "trim segment", oldest->fd, (off_t)oldest->end);
        pfx_segment_free(oldest);
    }
}

struct batch {
    struct pfx_segment *segment;
    struct pfx_buf bytes;
    uint64_t at;
};

pfx_result pfx_oplog_commit(struct pfx_oplog *log, struct pfx_error *err)
{
    pthread_mutex_lock(&log->lock);
    if (log->state == PFX_OPLOG_CLOSED) {
        pfx_result r = pfx_oplog_usable(log, err);
        pthread_mutex_unlock(&log->lock);
        return r;
    }
    struct pfx_frontier frontier = log->frontier;
    struct batch *batch PFX_AUTOFREE = NULL;
    size_t n = 0;
    for (struct pfx_segment *segment = log->segments; segment; segment = segment->next) {
        if (segment->pending.len == 0)
            continue;
        batch = pfx_grow(batch, n + 1, sizeof *batch);
        batch[n++] = (struct batch){segment, segment->pending, segment->pending_at};
        segment->pending = pfx_buf_make(SIZE_MAX / 2);
    }
    pthread_mutex_unlock(&log->lock);
    if (n == 0)
        return PFX_OK;
    const char *step = "append entries";
    int error = 0;
    for (size_t i = 0; i < n; i++) {
        if (error == 0)
            error = pfx_oplog_write_at(log, step, batch[i].segment->fd, batch[i].bytes.data,
                                       batch[i].bytes.len, batch[i].at);
        pfx_buf_done(&batch[i].bytes);
    }
    for (size_t i = 0; i < n && error == 0; i++) {
        step = "sync entries";
        error = pfx_oplog_sync(log, step, batch[i].segment->fd);
    }
    if (error != 0)
        return pfx_oplog_fail(log, step, "entries", error, err);
    pthread_mutex_lock(&log->lock);
    log->synced = frontier.size;
    log->synced_frontier = frontier;
    log->commits++;
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    retire(log);
    return PFX_OK;
}

bool pfx_oplog_signer_take(struct pfx_oplog *log, struct pfx_signer *ret)
{
    pthread_mutex_lock(&log->lock);
    bool attached = log->attached;
    if (attached) {
        *ret = log->signer;
        log->signing++;
    }
    pthread_mutex_unlock(&log->lock);
    return attached;
}

void pfx_oplog_signer_give(struct pfx_oplog *log)
{
    pthread_mutex_lock(&log->lock);
    log->signing--;
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
}

static pfx_result sign(const struct pfx_signer *signer, struct pfx_bytes text,
                       struct pfx_checkpoint *checkpoint, struct pfx_error *err)
{
    for (size_t i = 0; i < signer->n_keys; i++) {
        uint8_t signature[PFX_SIGNATURE_MAX];
        size_t len = 0;
        PFX_TRY(signer->sign(signer->ctx, i, text, signature, &len, err));
        if (!pfx_checkpoint_add(checkpoint, &signer->keys[i], (struct pfx_bytes){signature, len}))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "sign checkpoint", checkpoint->origin, "",
                            "Too many signatures.");
    }
    /* A token that signs wrongly would let results out that nothing covers. */
    uint64_t mask = 0;
    PFX_TRY(pfx_checkpoint_verify(checkpoint, signer->keys, signer->n_keys, &mask, err));
    if (mask != (UINT64_C(1) << signer->n_keys) - 1)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "sign checkpoint", checkpoint->origin, "",
                        "A signature of the token is missing.");
    return PFX_OK;
}

static pfx_result make_checkpoint(struct pfx_oplog *log, const struct pfx_frontier *frontier,
                                  const struct pfx_signer *also, struct pfx_buf *note,
                                  struct pfx_error *err)
{
    struct pfx_checkpoint *checkpoint PFX_AUTOFREE = pfx_alloc(sizeof *checkpoint);
    checkpoint->size = frontier->size;
    pfx_frontier_root(log->own_hasher, frontier, &checkpoint->root);
    pthread_mutex_lock(&log->lock);
    memcpy(checkpoint->origin, log->facts.origin, sizeof checkpoint->origin);
    pthread_mutex_unlock(&log->lock);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_CHECKPOINT_MAX);
    pfx_checkpoint_text(checkpoint, &text);
    struct pfx_signer signer;
    if (!pfx_oplog_signer_take(log, &signer))
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "sign checkpoint", checkpoint->origin, "signer",
                        "The token of the log role isn't there. Look at pfx-agent status, then try "
                        "again.");
    pfx_result r = sign(&signer, pfx_buf_bytes(&text), checkpoint, err);
    if (pfx_ok(r) && also)
        r = sign(also, pfx_buf_bytes(&text), checkpoint, err);
    pfx_oplog_signer_give(log);
    if (pfx_ok(r))
        pfx_checkpoint_write(checkpoint, note);
    return r;
}

static void not_covered(struct pfx_oplog *log, uint64_t size, const struct pfx_error *why)
{
    pthread_mutex_lock(&log->lock);
    log->cover_delay_ms = log->cover_delay_ms == 0 ? SIGN_RETRY_MS : log->cover_delay_ms * 2;
    if (log->cover_delay_ms > SIGN_RETRY_MAX_MS)
        log->cover_delay_ms = SIGN_RETRY_MAX_MS;
    log->cover_retry_ms = pfx_oplog_uptime() + log->cover_delay_ms;
    log->cover_failures++;
    log->cover_failed_upto = size;
    log->cover_why = *why;
    log->cover_wanted = 0; /* those behind it ask anew */
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
}

pfx_result pfx_oplog_cover(struct pfx_oplog *log, const struct pfx_signer *also,
                           struct pfx_error *err)
{
    pthread_mutex_lock(&log->lock);
    struct pfx_frontier frontier = log->synced_frontier;
    bool needed = log->synced > log->covered;
    pthread_mutex_unlock(&log->lock);
    if (!needed)
        return PFX_OK;
    struct pfx_buf note PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_SLOT_SIZE - PFX_SLOT_HEAD);
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = make_checkpoint(log, &frontier, also, &note, &why);
    if (pfx_failed(r)) {
        not_covered(log, frontier.size, &why);
        if (err && err->cls == PFX_CLASS_OK)
            *err = why;
        return r;
    }
    uint8_t slot[PFX_SLOT_SIZE];
    pfx_slot_write(pfx_buf_bytes(&note), slot);
    int fd = log->slots[log->slot_next];
    const char *step = "write checkpoint";
    int error = pfx_oplog_write_at(log, step, fd, slot, sizeof slot, 0);
    if (error == 0) {
        step = "sync checkpoint";
        error = pfx_oplog_sync(log, step, fd);
    }
    if (error != 0)
        return pfx_oplog_fail(log, step, log->slot_next == 0 ? "checkpoint.0" : "checkpoint.1",
                              error, err);
    log->slot_next = 1 - log->slot_next;
    pfx_buf_reset(&log->note_text);
    pfx_buf_add(&log->note_text, note.data, note.len);
    log->note_size = frontier.size;
    pthread_mutex_lock(&log->lock);
    log->covered = frontier.size;
    log->covered_ms = pfx_oplog_now();
    log->uncovered_since_ms = pfx_oplog_uptime();
    log->checkpoints++;
    log->cover_why = (struct pfx_error)PFX_ERROR_NONE;
    log->cover_retry_ms = log->cover_delay_ms = 0;
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    return PFX_OK;
}

/* When the next checkpoint is due; INT64_MAX: not by itself. Lock held. */
static int64_t cover_due(const struct pfx_oplog *log)
{
    if (log->state != PFX_OPLOG_OPEN || !log->attached || log->synced <= log->covered)
        return INT64_MAX;
    if (log->cover_wanted > log->covered)
        return 0;
    int64_t due = log->uncovered_since_ms + PFX_COVER_AFTER_MS;
    return due > log->cover_retry_ms ? due : log->cover_retry_ms;
}

static int64_t next_due(const struct pfx_oplog *log)
{
    int64_t due = cover_due(log), tick = pfx_oplog_uptime() + 60000;
    if (log->state != PFX_OPLOG_OPEN)
        return tick; /* what was to be tried again isn't any more */
    if (log->room_retry_ms > 0 && log->room_retry_ms < due)
        due = log->room_retry_ms;
    int64_t anchor = pfx_oplog_anchor_at(log);
    if (anchor < due)
        due = anchor;
    if (log->chores_retry_ms > 0 && log->chores_retry_ms < due)
        due = log->chores_retry_ms;
    return due < tick ? due : tick;
}

static void run_job(struct pfx_oplog *log)
{
    struct pfx_oplog_job *job = log->jobs;
    log->jobs = job->next;
    if (!log->jobs)
        log->jobs_end = &log->jobs;
    pthread_mutex_unlock(&log->lock);
    pfx_result r = job->run(log, job, job->err);
    pthread_mutex_lock(&log->lock);
    job->result = r;
    job->done = true;
    pthread_cond_broadcast(&log->done);
}

/* Runs what is due, most urgent first; false: nothing was. Lock held, given up meanwhile. */
static bool act(struct pfx_oplog *log)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    pfx_result r = PFX_OK;
    int64_t now = pfx_oplog_uptime();
    bool did = false;
    if (log->state == PFX_OPLOG_OPEN && has_pending(log)) {
        pthread_mutex_unlock(&log->lock);
        r = pfx_oplog_commit(log, &ignored);
        pthread_mutex_lock(&log->lock);
        did = true;
    }
    if (cover_due(log) <= now) {
        pthread_mutex_unlock(&log->lock);
        r = pfx_oplog_cover(log, NULL, &ignored);
        pthread_mutex_lock(&log->lock);
        did = true;
    }
    if (log->state == PFX_OPLOG_OPEN &&
        (log->room_wanted || (pfx_oplog_room_short(log) && now >= log->room_retry_ms))) {
        pthread_mutex_unlock(&log->lock);
        pfx_oplog_make_room(log);
        pthread_mutex_lock(&log->lock);
        did = true;
    }
    if (log->jobs) {
        run_job(log);
        did = true;
    }
    bool idle = !did;
    if (!log->stop && pfx_oplog_chores_due(log, idle) && now >= log->chores_retry_ms) {
        pthread_mutex_unlock(&log->lock);
        r = pfx_oplog_chores(log, &ignored);
        pthread_mutex_lock(&log->lock);
        log->chores_retry_ms = pfx_ok(r) ? 0 : now + SIGN_RETRY_MS;
        did = true;
    }
    if (!log->stop && pfx_oplog_anchor_due(log, now, idle)) {
        pthread_mutex_unlock(&log->lock);
        struct pfx_error why = PFX_ERROR_NONE;
        r = pfx_oplog_anchor(log, &why);
        pthread_mutex_lock(&log->lock);
        did = true;
    }
    if (!log->stop && idle && pfx_oplog_keep_due(log, now)) {
        pthread_mutex_unlock(&log->lock);
        pfx_oplog_keep(log);
        pthread_mutex_lock(&log->lock);
        did = true;
    }
    (void)r;
    return did;
}

void *pfx_oplog_committer(void *ctx)
{
    struct pfx_oplog *log = ctx;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        if (act(log))
            continue;
        if (log->stop)
            break;
        int64_t left = next_due(log) - pfx_oplog_uptime();
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        left = left < 1 ? 1 : left;
        until.tv_sec += (time_t)(left / 1000);
        until.tv_nsec += (long)(left % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&log->work, &log->lock, &until);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

pfx_result pfx_oplog_run(struct pfx_oplog *log,
                         pfx_result (*run)(struct pfx_oplog *, struct pfx_oplog_job *,
                                           struct pfx_error *),
                         const void *in, void *out, struct pfx_error *err)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    struct pfx_oplog_job job = {.run = run, .in = in, .out = out, .err = err ? err : &ignored};
    pthread_mutex_lock(&log->lock);
    if (!log->running) {
        pthread_mutex_unlock(&log->lock);
        return run(log, &job, job.err);
    }
    log->waiters++;
    *log->jobs_end = &job;
    log->jobs_end = &job.next;
    pthread_cond_signal(&log->work);
    while (!job.done)
        pthread_cond_wait(&log->done, &log->lock);
    if (--log->waiters == 0)
        pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    return job.result;
}
