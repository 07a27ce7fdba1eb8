/*
 * Segments and the room in them.
 *
 * A write to a full disk must not fail after an entry was taken: blocks are allocated first. So the
 * current segment always ends in allocated zeros, enough for the reserve, for the results of all
 * intents that may be open, and for a while of ordinary entries; and the next segment is made, with
 * the same, while the current one is still being filled. Where the next one can't be made the
 * current one simply goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog_impl.h"

#define ROUND 65536
#define RETRY_MS 1000

struct pfx_segment *pfx_segment_new(int fd, uint64_t first)
{
    struct pfx_segment *segment = pfx_alloc(sizeof *segment);
    segment->fd = fd;
    segment->first = first;
    segment->pending = pfx_buf_make(SIZE_MAX / 2);
    return segment;
}

void pfx_segment_free(struct pfx_segment *segment)
{
    if (!segment)
        return;
    close(segment->fd);
    pfx_buf_done(&segment->pending);
    free(segment);
}

static uint64_t least(const struct pfx_oplog *log)
{
    return log->reserve + PFX_PROMISED_MAX;
}

uint64_t pfx_oplog_target(const struct pfx_oplog *log, uint64_t end, uint64_t need)
{
    uint64_t more = need > log->grow_by ? need : log->grow_by;
    return (end + least(log) + more + ROUND - 1) / ROUND * ROUND;
}

bool pfx_segment_serves(const struct pfx_oplog *log, const struct pfx_segment *segment)
{
    return segment->alloc >= segment->end + least(log) + (uint64_t)2 * PFX_NOTE_ROOM;
}

static bool fits_in(const struct pfx_oplog *log, const struct pfx_segment *segment, uint64_t len,
                    size_t intents, enum pfx_room room)
{
    uint64_t left = segment->alloc - segment->end;
    uint64_t promised = (uint64_t)(log->n_open + intents) * PFX_RESULT_ROOM;
    switch (room) {
    case PFX_ROOM_ORDINARY:
        return left >= len + promised + log->reserve;
    case PFX_ROOM_REFUSAL:
        return left >= len + promised + log->reserve / 2;
    case PFX_ROOM_RESERVED:
        return left >= len + promised;
    case PFX_ROOM_PROMISED:
        return left >= len;
    }
    return false;
}

bool pfx_oplog_fits(const struct pfx_oplog *log, uint64_t len, size_t intents, enum pfx_room room)
{
    /* Some of it may go into the spare, behind its first note. */
    return fits_in(log, log->current, len, intents, room) &&
           (!log->spare || fits_in(log, log->spare, len + PFX_NOTE_ROOM, intents, room));
}

static bool is_short(const struct pfx_oplog *log, const struct pfx_segment *segment)
{
    uint64_t want = log->room_need > log->grow_by / 2 ? log->room_need : log->grow_by / 2;
    return segment->alloc < segment->end + least(log) + want;
}

bool pfx_oplog_room_short(const struct pfx_oplog *log)
{
    return log->current &&
           (is_short(log, log->current) || !log->spare || log->spare->first < log->frontier.size);
}

/* Where the next segment begins: at the next multiple, or, when that has gone by, a little ahead.
 */
static uint64_t next_first(const struct pfx_oplog *log)
{
    uint64_t size = log->frontier.size;
    uint64_t next = (log->current->first / log->segment_entries + 1) * log->segment_entries;
    if (next <= size)
        next = (size / PFX_TILE_WIDTH + 2) * PFX_TILE_WIDTH;
    return next;
}

static int grow(struct pfx_oplog *log, struct pfx_segment *segment)
{
    pthread_mutex_lock(&log->lock);
    bool is = is_short(log, segment);
    uint64_t target = pfx_oplog_target(log, segment->end, log->room_need);
    pthread_mutex_unlock(&log->lock);
    if (!is)
        return 0;
    int error = pfx_oplog_allocate(log, "grow segment", segment->fd, target);
    if (error != 0)
        return error;
    pthread_mutex_lock(&log->lock);
    segment->alloc = target;
    pthread_mutex_unlock(&log->lock);
    return 0;
}

static int make_spare(struct pfx_oplog *log, const char **ret_step)
{
    pthread_mutex_lock(&log->lock);
    uint64_t first = next_first(log);
    uint64_t target = pfx_oplog_target(log, 0, log->room_need);
    pthread_mutex_unlock(&log->lock);
    char name[PFX_SEGMENT_NAME_SIZE];
    int fd;
    *ret_step = "make segment";
    int error = pfx_oplog_file(log, *ret_step, log->entries_fd, pfx_segment_name(first, name),
                               O_RDWR | O_CREAT | O_TRUNC, &fd);
    if (error != 0)
        return error;
    *ret_step = "allocate segment";
    error = pfx_oplog_allocate(log, *ret_step, fd, target);
    if (error == 0) {
        *ret_step = "sync segment";
        error = pfx_oplog_sync(log, *ret_step, fd);
    }
    if (error == 0) {
        *ret_step = "sync folder of segments";
        error = pfx_oplog_sync(log, *ret_step, log->entries_fd);
    }
    if (error != 0) {
        close(fd);
        (void)!log->io->unlinkat(log->io->ctx, "drop empty segment", log->entries_fd, name);
        return error;
    }
    struct pfx_segment *spare = pfx_segment_new(fd, first);
    spare->alloc = target;
    pthread_mutex_lock(&log->lock);
    log->spare = spare;
    log->n_segments++;
    pthread_mutex_unlock(&log->lock);
    return 0;
}

/* The spare's first seq went by before it was ready. */
static int name_anew(struct pfx_oplog *log, const char **ret_step)
{
    pthread_mutex_lock(&log->lock);
    struct pfx_segment *spare = log->spare;
    bool late = spare->first < log->frontier.size;
    uint64_t first = next_first(log);
    if (late)
        log->spare = NULL; /* it mustn't take over while it has two names */
    pthread_mutex_unlock(&log->lock);
    if (!late)
        return 0;
    char from[PFX_SEGMENT_NAME_SIZE], to[PFX_SEGMENT_NAME_SIZE];
    *ret_step = "name segment anew";
    int error =
        log->io->renameat(log->io->ctx, *ret_step, log->entries_fd,
                          pfx_segment_name(spare->first, from), pfx_segment_name(first, to)) == 0
            ? 0
            : errno;
    if (error == 0) {
        spare->first = first;
        *ret_step = "sync folder of segments";
        error = pfx_oplog_sync(log, *ret_step, log->entries_fd);
    }
    pthread_mutex_lock(&log->lock);
    log->spare = spare;
    pthread_mutex_unlock(&log->lock);
    return error;
}

void pfx_oplog_make_room(struct pfx_oplog *log)
{
    pthread_mutex_lock(&log->lock);
    struct pfx_segment *current = log->current, *spare = log->spare;
    bool open = log->state == PFX_OPLOG_OPEN;
    pthread_mutex_unlock(&log->lock);
    const char *step = "grow segment";
    int error = 0;
    if (open) { /* the current one first: it holds the reserve */
        error = grow(log, current);
        if (error == 0)
            error = spare ? grow(log, spare) : make_spare(log, &step);
        if (error == 0 && spare)
            error = name_anew(log, &step);
    }
    /* A sync that failed is a reason to stop: no entry is in there yet, but the disk isn't to be
     * trusted any more. All else leaves the log without room at worst. */
    struct pfx_error why = PFX_ERROR_NONE;
    if (error != 0 && (error == EIO || strncmp(step, "sync ", 5) == 0)) {
        pfx_result ignored = pfx_oplog_fail(log, step, "entries", error, NULL);
        (void)ignored;
    } else if (error != 0) {
        pfx_result ignored = pfx_fail_errno(
            &why, error, step, "entries",
            "The operation log takes no further operation until there is room on the disk.");
        (void)ignored;
    }
    pthread_mutex_lock(&log->lock);
    log->room_why = why;
    log->room_wanted = false;
    log->room_need = 0;
    log->room_tries++;
    log->room_retry_ms = error == 0 ? 0 : pfx_oplog_uptime() + RETRY_MS;
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
}

static void draft_of_segment(struct pfx_oplog *log, struct pfx_draft *draft)
{
    const struct pfx_oplog_facts *facts = &log->facts;
    pfx_draft_init(draft, PFX_SRC_HSM, "log.segment", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_str(draft, PFX_F_ACTOR_ROLE, "self");
    struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(sizeof draft->store);
    struct pfx_canon canon = pfx_canon_make(&json);
    pfx_canon_open(&canon, NULL, '[');
    for (size_t i = 0; i < facts->n_keys; i++) {
        const char *line = facts->keys[i];
        pfx_canon_str(&canon, NULL, (struct pfx_bytes){(const uint8_t *)line, strlen(line)});
    }
    pfx_canon_close(&canon, ']');
    pfx_draft_raw(draft, PFX_F_LOG_KEYS, pfx_buf_bytes(&json));
    pfx_buf_reset(&json);
    canon = pfx_canon_make(&json);
    pfx_canon_open(&canon, NULL, '[');
    for (size_t i = 0; i < log->n_open; i++)
        pfx_canon_int(&canon, NULL, (int64_t)log->open[i]);
    pfx_canon_close(&canon, ']');
    pfx_draft_raw(draft, PFX_F_LOG_OPEN, pfx_buf_bytes(&json));
    pfx_draft_int(draft, PFX_F_LOG_N, facts->agentd_n);
    pfx_draft_str(draft, PFX_F_LOG_ORIGIN, facts->origin);
    pfx_draft_int(draft, PFX_F_LOG_RAN, pfx_oplog_ran(log));
    pfx_draft_int(draft, PFX_F_LOG_SIZE, (int64_t)log->frontier.size);
    if (facts->pins_serial > 0)
        pfx_draft_int(draft, PFX_F_PIN_SERIAL, facts->pins_serial);
    if (facts->standing_serial > 0)
        pfx_draft_int(draft, PFX_F_STANDING_SERIAL, facts->standing_serial);
    if (facts->has_force)
        pfx_draft_hex(draft, PFX_F_POLICY_FORCE, facts->force_sha256, 32);
    if (facts->has_policy)
        pfx_draft_hex(draft, PFX_F_POLICY_SHA256, facts->policy_sha256, 32);
    if (log->fill)
        log->fill(log->fill_ctx, draft);
}

void pfx_oplog_roll(struct pfx_oplog *log)
{
    struct pfx_segment *spare = log->spare;
    log->spare = NULL;
    log->current->next = spare;
    log->current = spare;
    log->milestone_due = spare->first;
    log->keep_look_ms = 0; /* one more that may go */
    draft_of_segment(log, &log->note);
    pfx_oplog_put_one(log, &log->note.entry);
}
