/* The log as its users see it. */
#include "pkcs11/hsm/oplog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/oplog_impl.h"

#define GROW_LEAST ((uint64_t)256 * 1024)
#define GROW_MOST ((uint64_t)4096 * 1024)
#define BYTES_PER_ENTRY 1024

static int64_t clock_ms(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t pfx_oplog_now(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t pfx_oplog_uptime(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}

static void read_boot(char *buf, size_t size)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, buf, size - 1);
    if (fd >= 0)
        close(fd);
    buf[n > 0 ? n : 0] = '\0';
    buf[strspn(buf, "0123456789abcdef-")] = '\0';
    if (!buf[0])
        snprintf(buf, size, PFX_BOOT_UNKNOWN);
}

pfx_result pfx_oplog_usable(const struct pfx_oplog *log, struct pfx_error *err)
{
    enum pfx_class cls = PFX_CLASS_DEVICE;
    const struct pfx_error *why = &log->why;
    switch (log->state) {
    case PFX_OPLOG_OPEN:
        return PFX_OK;
    case PFX_OPLOG_NONE:
        return pfx_fail(err, PFX_CLASS_USAGE, "operation log", log->dir, "",
                        "There is no operation log yet. pfx-agent init starts it.");
    case PFX_OPLOG_REFUSED:
        cls = PFX_CLASS_INTEGRITY;
        break;
    case PFX_OPLOG_CLOSED:
        break;
    }
    return pfx_fail(err, cls, why->op, why->object, why->code, "%s", why->text);
}

pfx_result pfx_oplog_fail(struct pfx_oplog *log, const char *step, const char *object, int error,
                          struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_fail_errno(&why, error, step, object,
                                  "The operation log is closed until pfx-hsm starts again: what "
                                  "the disk has isn't known now. Look at the disk first.");
    (void)r;
    pthread_mutex_lock(&log->lock);
    if (log->state != PFX_OPLOG_CLOSED) {
        log->state = PFX_OPLOG_CLOSED;
        log->why = why;
        log->why.cls = PFX_CLASS_DEVICE;
    }
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    return pfx_fail(err, PFX_CLASS_DEVICE, why.op, why.object, why.code, "%s", why.text);
}

static void start(struct pfx_oplog *log)
{
    log->stop = false;
    log->running = pthread_create(&log->thread, NULL, pfx_oplog_committer, log) == 0;
    if (!log->running) {
        pfx_result r = pfx_fail(&log->why, PFX_CLASS_INTERNAL, "operation log", log->dir, "",
                                "No thread could be started.");
        (void)r;
        log->state = PFX_OPLOG_CLOSED;
    }
}

static void stop(struct pfx_oplog *log)
{
    if (!log->running)
        return;
    pthread_mutex_lock(&log->lock);
    log->stop = true;
    pthread_cond_signal(&log->work);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->thread, NULL);
    log->running = false;
}

pfx_result pfx_oplog_open(const struct pfx_oplog_config *config, struct pfx_oplog **ret_log,
                          struct pfx_error *err)
{
    if (config->segment_entries == 0 || config->segment_entries % PFX_TILE_WIDTH != 0)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "open log", config->dir, "",
                        "Segments of %" PRIu64 " entries can't be.", config->segment_entries);
    struct pfx_oplog *log = pfx_alloc(sizeof *log);
    log->dir = pfx_strdup(config->dir);
    log->readers = config->readers;
    log->segment_entries = config->segment_entries;
    log->reserve = config->reserve;
    log->keep_ms = config->keep_ms;
    log->anchor_entries = config->anchor_entries > 0 ? config->anchor_entries : 1;
    log->anchor_every_ms = config->anchor_every_ms;
    log->io = config->io ? config->io : &pfx_oplog_system;
    log->grow_by = config->segment_entries > GROW_MOST / BYTES_PER_ENTRY
                       ? GROW_MOST
                       : config->segment_entries * BYTES_PER_ENTRY;
    log->grow_by = log->grow_by < GROW_LEAST ? GROW_LEAST : log->grow_by;
    read_boot(log->boot, sizeof log->boot);
    log->fd = log->entries_fd = log->slots[0] = log->slots[1] = -1;
    log->tiles_end = &log->tiles;
    log->jobs_end = &log->jobs;
    log->hasher = pfx_hasher_new();
    log->own_hasher = pfx_hasher_new();
    log->scratch = pfx_buf_make(PFX_ENTRY_MAX + 1);
    log->note_text = pfx_buf_make(PFX_SLOT_SIZE);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->work, &attr);
    pthread_cond_init(&log->done, &attr);
    pthread_condattr_destroy(&attr);
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_ok(pfx_oplog_enter(log, &why))) {
        pfx_oplog_recover(log);
    } else {
        log->state = PFX_OPLOG_CLOSED;
        log->why = why;
    }
    start(log);
    *ret_log = log;
    return PFX_OK;
}

void pfx_oplog_free(struct pfx_oplog *log)
{
    if (!log)
        return;
    stop(log);
    pfx_oplog_leave(log);
    if (log->fd >= 0)
        close(log->fd);
    pthread_cond_destroy(&log->work);
    pthread_cond_destroy(&log->done);
    pthread_mutex_destroy(&log->lock);
    pfx_hasher_free(log->hasher);
    pfx_hasher_free(log->own_hasher);
    pfx_buf_done(&log->scratch);
    pfx_buf_done(&log->note_text);
    free(log->dir);
    free(log);
}

enum pfx_oplog_state pfx_oplog_state(struct pfx_oplog *log, struct pfx_error *ret_why)
{
    pthread_mutex_lock(&log->lock);
    enum pfx_oplog_state state = log->state;
    if (ret_why)
        *ret_why = log->why;
    pthread_mutex_unlock(&log->lock);
    return state;
}

void pfx_oplog_detach(struct pfx_oplog *log)
{
    pthread_mutex_lock(&log->lock);
    log->attached = false;
    pthread_cond_broadcast(&log->done);
    while (log->signing > 0)
        pthread_cond_wait(&log->done, &log->lock);
    pthread_mutex_unlock(&log->lock);
}

bool pfx_oplog_attached(struct pfx_oplog *log)
{
    pthread_mutex_lock(&log->lock);
    bool attached = log->attached;
    pthread_mutex_unlock(&log->lock);
    return attached;
}

void pfx_oplog_facts(struct pfx_oplog *log, struct pfx_oplog_facts *ret)
{
    pthread_mutex_lock(&log->lock);
    *ret = log->facts;
    pthread_mutex_unlock(&log->lock);
}

void pfx_oplog_on_segment(struct pfx_oplog *log, pfx_oplog_fill fill, void *ctx)
{
    pthread_mutex_lock(&log->lock);
    log->fill = fill;
    log->fill_ctx = ctx;
    pthread_mutex_unlock(&log->lock);
}

static bool still_open(struct pfx_oplog *log, uint64_t seq)
{
    bool found = false;
    pthread_mutex_lock(&log->lock);
    for (size_t i = 0; i < log->n_open; i++)
        found = found || log->open[i] == seq;
    pthread_mutex_unlock(&log->lock);
    return found;
}

pfx_result pfx_oplog_dangling(struct pfx_oplog *log, pfx_oplog_intent each, void *ctx,
                              struct pfx_error *err)
{
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    for (size_t i = 0; i < log->n_dangling; i++) {
        struct pfx_bytes json;
        struct pfx_entry entry;
        if (!still_open(log, log->dangling[i]))
            continue;
        if (!dir)
            PFX_TRY(pfx_logdir_open(log->dir, &dir, err));
        PFX_TRY(pfx_logdir_entry(dir, log->dangling[i], &json, err));
        PFX_TRY(pfx_entry_read(json, &entry, err));
        PFX_TRY(each(ctx, log->dangling[i], &entry, err));
    }
    return PFX_OK;
}

static pfx_result keep_policy(struct pfx_oplog *log, struct pfx_oplog_job *job,
                              struct pfx_error *err)
{
    const struct pfx_bytes *text = job->out;
    char hex[65], path[96];
    pthread_mutex_lock(&log->lock);
    pfx_result r = pfx_oplog_usable(log, err);
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(r);
    snprintf(path, sizeof path, "policy/%s.yaml", pfx_hex(job->in, 32, hex));
    if (pfx_oplog_there(log, path))
        return PFX_OK;
    return pfx_oplog_small(log, &pfx_small_policy, path, *text, err);
}

pfx_result pfx_oplog_policy(struct pfx_oplog *log, const uint8_t sha256[32], struct pfx_bytes text,
                            struct pfx_error *err)
{
    return pfx_oplog_run(log, keep_policy, sha256, &text, err);
}

/* "2" of "host/pfx-agent/2", else "1". */
static const char *generation(const char *origin)
{
    const char *slash = strrchr(origin, '/');
    bool digits = slash && slash[1] && strspn(slash + 1, "0123456789") == strlen(slash + 1);
    return digits ? slash + 1 : "1";
}

static bool has_content(struct pfx_oplog *log)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    char **names;
    size_t n = 0;
    if (access(log->dir, F_OK) != 0 && errno == ENOENT)
        return false; /* a try before set it aside, and could make no new one */
    if (pfx_failed(pfx_logdir_open_bare(log->dir, &dir, &ignored)) ||
        pfx_failed(pfx_logdir_list(dir, ".", &names, &n, &ignored)))
        return true;
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return n > 0;
}

/* Where the folder goes; the origin is read from it where nothing was learnt, as it was refused. */
static char *place_aside(struct pfx_oplog *log)
{
    char origin[PFX_ORIGIN_SIZE], stamp[PFX_TIME_SIZE];
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    const struct pfx_checkpoint *last;
    snprintf(origin, sizeof origin, "%s", log->facts.origin);
    if (!origin[0] && pfx_ok(pfx_logdir_open(log->dir, &dir, &ignored)) &&
        pfx_logdir_checkpoint(dir, &last).len > 0)
        snprintf(origin, sizeof origin, "%s", last->origin);
    return pfx_asprintf("%s.%s.%s", log->dir, generation(origin),
                        pfx_time_format(pfx_oplog_now(), true, stamp));
}

/* The folder is gone from its place: state NONE, or REFUSED until it can be made anew. */
static pfx_result make_anew(struct pfx_oplog *log, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    pthread_mutex_lock(&log->lock);
    pfx_oplog_leave(log);
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
    log->attached_once = false;
    pthread_mutex_unlock(&log->lock);
    pfx_result r = pfx_oplog_enter(log, &why);
    pthread_mutex_lock(&log->lock);
    log->state = pfx_ok(r) ? PFX_OPLOG_NONE : PFX_OPLOG_REFUSED;
    log->why = (struct pfx_error)PFX_ERROR_NONE;
    if (pfx_failed(r)) {
        pfx_result refused =
            pfx_fail(&log->why, PFX_CLASS_INTEGRITY, why.op, why.object, why.code,
                     "The folder of the operation log was set aside, but a new one can't be made. "
                     "Mend that, then repeat pfx-agent log reopen.");
        (void)refused;
        r = pfx_fail(err, r.cls, why.op, why.object, why.code, "%s", log->why.text);
    }
    pthread_mutex_unlock(&log->lock);
    return r;
}

pfx_result pfx_oplog_set_aside(struct pfx_oplog *log, char **ret_where, struct pfx_error *err)
{
    pfx_oplog_detach(log);
    stop(log);
    pthread_mutex_lock(&log->lock);
    enum pfx_oplog_state was = log->state;
    /* Those who wait for entries of the old log get their answer before there is a new one. */
    if (was == PFX_OPLOG_OPEN) {
        log->state = PFX_OPLOG_CLOSED;
        pfx_result r = pfx_fail(&log->why, PFX_CLASS_DEVICE, "operation log", log->dir, "",
                                "The operation log is being set aside. Try again.");
        (void)r;
    }
    pthread_cond_broadcast(&log->done);
    while (log->waiters > 0)
        pthread_cond_wait(&log->done, &log->lock);
    pthread_mutex_unlock(&log->lock);
    char *where PFX_AUTOFREE = place_aside(log);
    pfx_result r = PFX_OK;
    bool content = has_content(log);
    if (content && log->io->renameat(log->io->ctx, "set aside", AT_FDCWD, log->dir, where) != 0) {
        r = pfx_fail_errno(err, errno, "set aside", log->dir,
                           "Mend that, then repeat the command.");
        pthread_mutex_lock(&log->lock);
        if (was == PFX_OPLOG_OPEN) { /* nothing happened to it */
            log->state = was;
            log->why = (struct pfx_error)PFX_ERROR_NONE;
        }
        pthread_mutex_unlock(&log->lock);
    } else {
        r = make_anew(log, err);
    }
    start(log);
    if (pfx_ok(r))
        *ret_where = content ? PFX_TAKE(where) : NULL;
    return r;
}

void pfx_oplog_status(struct pfx_oplog *log, struct pfx_oplog_status *ret)
{
    pthread_mutex_lock(&log->lock);
    uint64_t left = log->current ? log->current->alloc - log->current->end : 0;
    uint64_t promised = (uint64_t)log->n_open * PFX_RESULT_ROOM;
    left = left > promised ? left - promised : 0;
    *ret = (struct pfx_oplog_status){
        .state = log->state,
        .why = log->why,
        .attached = log->attached,
        .size = log->frontier.size,
        .synced = log->synced,
        .covered = log->covered,
        .covered_ms = log->covered_ms,
        .anchor_size = log->anchor_size,
        .anchor_ms = log->anchor_ms,
        .anchor_why = log->anchor_why,
        .signer_why = log->cover_why,
        .first = log->first,
        .reserve = log->reserve,
        .reserve_left = left < log->reserve ? left : log->reserve,
        .segments = log->n_segments,
        .commits = log->commits,
        .checkpoints = log->checkpoints,
    };
    pthread_mutex_unlock(&log->lock);
}
