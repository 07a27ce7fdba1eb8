#include "agent/audit/sorter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUNS_MOST 64                 /* merged into one before a further one begins */
#define READ_BYTES ((size_t)1 << 14) /* of each run while merging: RUNS_MOST of them are 1 MiB */
#define WORTH_SPLITTING 16384
#define SMALL 24 /* a bucket of at most so many is sorted by insertion */

struct run {
    off_t at, end;
    uint8_t *buffer;
    size_t n, used; /* bytes in the buffer, and how many of them are read */
};
struct pfx_sorter {
    size_t size, room, n;
    size_t has; /* room that was taken so far */
    uint8_t *records;
    uint32_t *order; /* indexes into records, sorted */
    uint64_t count;
    int fd;
    off_t end;
    size_t n_runs;
    struct run runs[RUNS_MOST];
    size_t at; /* in order, while everything is in memory */
    uint8_t last[256];
};

struct pfx_sorter *pfx_sorter_new(size_t size, size_t memory)
{
    struct pfx_sorter *sorter = pfx_alloc(sizeof(*sorter));
    sorter->size = size;
    sorter->room = (memory ? memory : PFX_SORTER_MEMORY) / (size + sizeof(uint32_t));
    if (sorter->room < 2)
        sorter->room = 2;
    sorter->fd = -1;
    return sorter;
}

void pfx_sorter_free(struct pfx_sorter *sorter)
{
    if (!sorter)
        return;
    for (size_t i = 0; i < sorter->n_runs; i++)
        free(sorter->runs[i].buffer);
    if (sorter->fd >= 0)
        close(sorter->fd);
    free(sorter->records);
    free(sorter->order);
    free(sorter);
}

uint64_t pfx_sorter_count(const struct pfx_sorter *sorter)
{
    return sorter->count;
}

pfx_result pfx_spill_open(int *ret_fd, struct pfx_error *err)
{
    const char *const folders[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
    int why = ENOENT;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (!folders[i] || !folders[i][0])
            continue;
        int fd = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
            /* A file system without O_TMPFILE. */
            char *path = pfx_asprintf("%s/pfx-audit.XXXXXX", folders[i]);
            fd = mkostemp(path, O_CLOEXEC);
            if (fd >= 0)
                unlink(path);
            free(path);
        }
        if (fd >= 0) {
            *ret_fd = fd;
            return PFX_OK;
        }
        why = errno;
    }
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "make a temporary file",
                    folders[0] ? folders[0] : "/var/tmp", "",
                    "%s; set TMPDIR to a folder with room", strerror(why));
}

static const uint8_t *record_at(const struct pfx_sorter *sorter, size_t i)
{
    return sorter->records + (size_t)sorter->order[i] * sorter->size;
}

static int by_record(const void *a, const void *b, void *ctx)
{
    const struct pfx_sorter *sorter = ctx;
    uint32_t left, right;
    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return memcmp(sorter->records + (size_t)left * sorter->size,
                  sorter->records + (size_t)right * sorter->size, sorter->size);
}

static void sort_bucket(struct pfx_sorter *sorter, size_t from, size_t to)
{
    if (to - from > SMALL) {
        qsort_r(sorter->order + from, to - from, sizeof(sorter->order[0]), by_record, sorter);
        return;
    }
    for (size_t i = from + 1; i < to; i++) {
        uint32_t moved = sorter->order[i];
        size_t at = i;
        while (at > from && by_record(&sorter->order[at - 1], &moved, sorter) > 0) {
            sorter->order[at] = sorter->order[at - 1];
            at--;
        }
        sorter->order[at] = moved;
    }
}

static void sort_whole(struct pfx_sorter *sorter)
{
    for (size_t i = 0; i < sorter->n; i++)
        sorter->order[i] = (uint32_t)i;
    qsort_r(sorter->order, sorter->n, sizeof(sorter->order[0]), by_record, sorter);
}

/* Keys are hashes behind one byte that names the kind of record: two bytes of the hash split them
 * into small buckets, for which insertion is quicker than any comparing sort of the whole. Kinds
 * get mixed in a bucket, so the first byte is made the outer split. */
static void sort_records(struct pfx_sorter *sorter)
{
    sorter->order = pfx_grow(sorter->order, sorter->has, sizeof(sorter->order[0]));
    if (sorter->n < WORTH_SPLITTING) {
        sort_whole(sorter);
        return;
    }
    enum { SPLITS = 1 << 18 };
    uint32_t *starts = pfx_alloc_array(SPLITS + 1, sizeof(*starts));
    size_t size = sorter->size;
#define SPLIT_OF(record)                                                                           \
    ((size_t)((record)[0] & 3) << 16 | (size_t)(record)[1] << 8 | (size_t)(record)[2])
    bool few = true;
    for (size_t i = 0; i < sorter->n; i++) {
        const uint8_t *record = sorter->records + i * size;
        few = few && record[0] < 4;
        starts[SPLIT_OF(record) + 1]++;
    }
    if (!few || size < 3) {
        sort_whole(sorter);
        free(starts);
        return;
    }
    for (size_t i = 1; i <= SPLITS; i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < sorter->n; i++)
        sorter->order[starts[SPLIT_OF(sorter->records + i * size)]++] = (uint32_t)i;
#undef SPLIT_OF
    for (size_t i = 0; i < SPLITS; i++) {
        size_t from = i ? starts[i - 1] : 0;
        if (starts[i] > from + 1)
            sort_bucket(sorter, from, starts[i]);
    }
    free(starts);
}

static pfx_result write_all(int fd, const uint8_t *data, size_t len, off_t at,
                            struct pfx_error *err)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfx_fail(err, PFX_CLASS_TRANSIENT, "write a temporary file", "TMPDIR", "",
                            "%s; make room there, or set TMPDIR to another folder",
                            strerror(errno));
        data += n;
        len -= (size_t)n;
        at += n;
    }
    return PFX_OK;
}

static pfx_result fill_run(struct pfx_sorter *sorter, struct run *run, struct pfx_error *err)
{
    size_t step = READ_BYTES / sorter->size * sorter->size;
    if (!run->buffer)
        run->buffer = pfx_alloc(step);
    size_t want = (size_t)(run->end - run->at) < step ? (size_t)(run->end - run->at) : step;
    run->n = 0;
    run->used = 0;
    while (run->n < want) {
        ssize_t n = pread(sorter->fd, run->buffer + run->n, want - run->n, run->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return pfx_fail_errno(err, n < 0 ? errno : EIO, "read a temporary file", "TMPDIR",
                                  "run it again");
        run->n += (size_t)n;
        run->at += n;
    }
    return PFX_OK;
}

/* The smallest of what the runs have; NULL at the end. Few runs, so no heap is needed. */
static pfx_result smallest(struct pfx_sorter *sorter, struct run **ret, struct pfx_error *err)
{
    *ret = NULL;
    for (size_t i = 0; i < sorter->n_runs; i++) {
        struct run *run = &sorter->runs[i];
        if (run->used == run->n && run->at < run->end)
            PFX_TRY(fill_run(sorter, run, err));
        if (run->used < run->n &&
            (!*ret ||
             memcmp(run->buffer + run->used, (*ret)->buffer + (*ret)->used, sorter->size) < 0))
            *ret = run;
    }
    return PFX_OK;
}

static void forget_runs(struct pfx_sorter *sorter)
{
    for (size_t i = 0; i < sorter->n_runs; i++)
        free(sorter->runs[i].buffer);
    memset(sorter->runs, 0, sizeof(sorter->runs));
    sorter->n_runs = 0;
}

/* All runs into one. The old ones' room stays taken until the end: a run is written log64 times. */
static pfx_result merge_runs(struct pfx_sorter *sorter, struct pfx_error *err)
{
    off_t from = sorter->end;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(READ_BYTES * 4);
    for (;;) {
        struct run *run;
        PFX_TRY(smallest(sorter, &run, err));
        if (!run || out.len + sorter->size > READ_BYTES * 4) {
            PFX_TRY(write_all(sorter->fd, out.data, out.len, sorter->end, err));
            sorter->end += (off_t)out.len;
            pfx_buf_reset(&out);
        }
        if (!run)
            break;
        if (!pfx_buf_add(&out, run->buffer + run->used, sorter->size))
            pfx_die("a merge buffer is full");
        run->used += sorter->size;
    }
    forget_runs(sorter);
    sorter->runs[0] = (struct run){.at = from, .end = sorter->end};
    sorter->n_runs = 1;
    return PFX_OK;
}

static pfx_result write_run(struct pfx_sorter *sorter, struct pfx_error *err)
{
    if (sorter->fd < 0)
        PFX_TRY(pfx_spill_open(&sorter->fd, err));
    if (sorter->n_runs == RUNS_MOST)
        PFX_TRY(merge_runs(sorter, err));
    sort_records(sorter);
    off_t from = sorter->end;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(READ_BYTES * 4);
    for (size_t i = 0; i <= sorter->n; i++) {
        if (i == sorter->n || out.len + sorter->size > READ_BYTES * 4) {
            PFX_TRY(write_all(sorter->fd, out.data, out.len, sorter->end, err));
            sorter->end += (off_t)out.len;
            pfx_buf_reset(&out);
        }
        if (i < sorter->n && !pfx_buf_add(&out, record_at(sorter, i), sorter->size))
            pfx_die("a run's buffer is full");
    }
    sorter->runs[sorter->n_runs++] = (struct run){.at = from, .end = sorter->end};
    sorter->n = 0;
    return PFX_OK;
}

pfx_result pfx_sorter_add(struct pfx_sorter *sorter, const void *record, struct pfx_error *err)
{
    if (sorter->n == sorter->room)
        PFX_TRY(write_run(sorter, err));
    if (sorter->n == sorter->has) {
        size_t more = sorter->has ? sorter->has * 4 : 1024;
        sorter->has = more < sorter->room ? more : sorter->room;
        sorter->records = pfx_grow(sorter->records, sorter->has, sorter->size);
    }
    memcpy(sorter->records + sorter->n * sorter->size, record, sorter->size);
    sorter->n++;
    sorter->count++;
    return PFX_OK;
}

pfx_result pfx_sorter_finish(struct pfx_sorter *sorter, struct pfx_error *err)
{
    if (sorter->n_runs == 0) {
        if (sorter->n > 0)
            sort_records(sorter);
        return PFX_OK;
    }
    if (sorter->n > 0)
        PFX_TRY(write_run(sorter, err));
    free(PFX_TAKE(sorter->records));
    free(PFX_TAKE(sorter->order));
    return PFX_OK;
}

pfx_result pfx_sorter_next(struct pfx_sorter *sorter, const void **ret_record,
                           struct pfx_error *err)
{
    *ret_record = NULL;
    if (sorter->n_runs == 0) {
        if (sorter->at < sorter->n)
            *ret_record = record_at(sorter, sorter->at++);
        return PFX_OK;
    }
    struct run *run;
    PFX_TRY(smallest(sorter, &run, err));
    if (run) {
        memcpy(sorter->last, run->buffer + run->used, sorter->size);
        run->used += sorter->size;
        *ret_record = sorter->last;
    }
    return PFX_OK;
}
