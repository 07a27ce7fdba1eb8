/* An exported log: its folder, the entries in order, nodes from hash tiles. */
#include "agent/audit/source_list.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUNDLE_MAX ((size_t)PFX_TILE_WIDTH * (PFX_RECORD_HEAD + PFX_ENTRY_MAX))

struct pfx_source {
    char *path;
    int fd;
    struct pfx_buf checkpoint;
};

/* O_NOFOLLOW looks at the last part only, so each part is opened by itself. */
int pfx_source_at(const struct pfx_source *source, const char *name, int flags)
{
    int dir = source->fd;
    for (;;) {
        char part[NAME_MAX + 1];
        size_t len = strcspn(name, "/");
        bool last = name[len] == '\0';
        int fd = -1;
        if (len < sizeof(part)) {
            memcpy(part, name, len);
            part[len] = '\0';
            fd = openat(dir, part, O_CLOEXEC | O_NOFOLLOW | (last ? flags : O_PATH | O_DIRECTORY));
        } else
            errno = ENAMETOOLONG;
        if (dir != source->fd) {
            int why = errno;
            close(dir);
            errno = why;
        }
        if (last || fd < 0)
            return fd;
        dir = fd;
        name += len + 1;
    }
}

/* Names in an export are regular files: a link or a pipe there could read something else, or hang.
 */
static int open_regular(const struct pfx_source *source, const char *name, off_t *ret_size)
{
    int fd = pfx_source_at(source, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    *ret_size = st.st_size;
    return fd;
}

/* Reads the whole file into buf without zeroing it first: bundles are most of the work here. */
static bool read_whole(int fd, size_t size, struct pfx_buf *buf)
{
    pfx_buf_reset(buf);
    if (size > buf->max)
        return false;
    if (buf->cap < size + 1) {
        buf->data = pfx_grow(buf->data, size + 1, 1);
        buf->cap = size + 1;
    }
    while (buf->len < size) {
        ssize_t n = read(fd, buf->data + buf->len, size - buf->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf->len += (size_t)n;
    }
    buf->data[buf->len] = '\0';
    return buf->len == size;
}

/* ENOENT and the like come back in errno; EFBIG: longer than the buffer's ceiling. */
static bool read_name(const struct pfx_source *source, const char *name, struct pfx_buf *buf)
{
    off_t size;
    int fd = open_regular(source, name, &size);
    if (fd < 0)
        return false;
    bool fits = (uint64_t)size <= buf->max;
    bool whole = fits && read_whole(fd, (size_t)size, buf);
    close(fd);
    if (!whole)
        errno = fits ? EIO : EFBIG;
    return whole;
}

pfx_result pfx_source_file(struct pfx_source *source, const char *name, size_t max,
                           struct pfx_buf *ret, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf buf = pfx_buf_make(max);
    if (!read_name(source, name, &buf)) {
        PFX_AUTOFREE char *path = pfx_asprintf("%s/%s", source->path, name);
        if (errno == ENOENT || errno == ENOTDIR)
            return pfx_fail(err, PFX_CLASS_USAGE, "read file", path, "ENOENT", "it isn't there");
        if (errno == EFBIG)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read file", path, "EFBIG",
                            "longer than the %zu bytes that it may have", max);
        if (errno == EINVAL || errno == ELOOP)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read file", path, "EINVAL",
                            "not a regular file");
        return pfx_fail_errno(err, errno, "read file", path, "give yourself the right to read it");
    }
    pfx_buf_done(ret);
    *ret = buf;
    buf = pfx_buf_make(0);
    return PFX_OK;
}

pfx_result pfx_source_open(const char *path, struct pfx_source **ret, struct pfx_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "open export", path, errno == ENOENT ? "ENOENT" : "",
                        "%s; give the folder that `pfx-agent log export` wrote", strerror(errno));
    struct pfx_source *source = pfx_alloc(sizeof(*source));
    source->path = pfx_strdup(path);
    source->fd = fd;
    source->checkpoint = pfx_buf_make(PFX_CHECKPOINT_MAX);
    /* A checkpoint that is missing or too long stays empty: whoever verifies says so. */
    if (!read_name(source, "checkpoint", &source->checkpoint))
        pfx_buf_reset(&source->checkpoint);
    struct stat st;
    if (source->checkpoint.len == 0 && fstatat(fd, "checkpoint", &st, AT_SYMLINK_NOFOLLOW) < 0 &&
        fstatat(fd, "tile", &st, AT_SYMLINK_NOFOLLOW) < 0 &&
        fstatat(fd, "export.json", &st, AT_SYMLINK_NOFOLLOW) < 0) {
        pfx_source_close(source);
        return pfx_fail(err, PFX_CLASS_USAGE, "open export", path, "",
                        "nothing of an exported log in it; give the folder that `pfx-agent log "
                        "export` wrote");
    }
    *ret = source;
    return PFX_OK;
}

void pfx_source_close(struct pfx_source *source)
{
    if (!source)
        return;
    close(source->fd);
    free(source->path);
    pfx_buf_done(&source->checkpoint);
    free(source);
}

const char *pfx_source_path(const struct pfx_source *source)
{
    return source->path;
}

struct pfx_bytes pfx_source_checkpoint(const struct pfx_source *source)
{
    return pfx_buf_bytes(&source->checkpoint);
}

/* A tile or bundle of which `width` items are wanted: the file of exactly that width, the full one,
 * or a wider partial one (a reader may ask for less than the export has). False: none is there. */
static bool read_tile(const struct pfx_source *source, int level, uint64_t number, unsigned width,
                      struct pfx_buf *buf, unsigned *ret_width)
{
    char path[PFX_TILE_PATH_SIZE];
    *ret_width = width;
    if (read_name(source, pfx_tile_path(level, number, width, path), buf))
        return true;
    if (errno != ENOENT && errno != ENOTDIR) /* there, but it can't be what it should be */
        return false;
    if (width == PFX_TILE_WIDTH)
        return false;
    *ret_width = PFX_TILE_WIDTH;
    if (read_name(source, pfx_tile_path(level, number, PFX_TILE_WIDTH, path), buf))
        return true;
    for (unsigned wider = width + 1; wider < PFX_TILE_WIDTH; wider++) {
        *ret_width = wider;
        if (read_name(source, pfx_tile_path(level, number, wider, path), buf))
            return true;
    }
    errno = ENOENT;
    return false;
}

bool pfx_source_tile(struct pfx_source *source, unsigned level, uint64_t number, unsigned width,
                     uint8_t *ret_hashes, bool *ret_there)
{
    PFX_CLEANUP(pfx_buf_done)
    struct pfx_buf buf = pfx_buf_make((size_t)PFX_TILE_WIDTH * PFX_HASH_SIZE);
    unsigned found;
    bool got = read_tile(source, (int)level, number, width, &buf, &found);
    *ret_there = got || errno != ENOENT;
    if (!got || buf.len != (size_t)found * PFX_HASH_SIZE)
        return false;
    memcpy(ret_hashes, buf.data, (size_t)width * PFX_HASH_SIZE);
    return true;
}

struct pfx_source_cursor pfx_source_cursor_make(uint64_t seq, uint64_t size)
{
    return (struct pfx_source_cursor){.seq = seq, .size = size, .bundle = pfx_buf_make(BUNDLE_MAX)};
}

void pfx_source_cursor_done(struct pfx_source_cursor *cursor)
{
    pfx_buf_done(&cursor->bundle);
}

/* How many records there are if it is made of whole ones and nothing else, else PFX_TILE_WIDTH + 1.
 */
static unsigned count_records(struct pfx_bytes bundle)
{
    unsigned n = 0;
    size_t at = 0;
    struct pfx_bytes entry;
    while (at < bundle.len) {
        if (n == PFX_TILE_WIDTH || pfx_record_next(bundle, &at, &entry) != PFX_RECORD_WHOLE)
            return PFX_TILE_WIDTH + 1;
        n++;
    }
    return n;
}

static enum pfx_source_got read_bundle(struct pfx_source *source, struct pfx_source_cursor *cursor,
                                       uint64_t *ret_upto)
{
    uint64_t number = cursor->seq / PFX_TILE_WIDTH;
    uint64_t first = number * PFX_TILE_WIDTH;
    uint64_t left = cursor->size - first;
    unsigned width = left < PFX_TILE_WIDTH ? (unsigned)left : PFX_TILE_WIDTH;
    unsigned found;
    *ret_upto = first + width;
    if (!read_tile(source, PFX_TILE_ENTRIES, number, width, &cursor->bundle, &found))
        return errno == ENOENT || errno == ENOTDIR ? PFX_SOURCE_ABSENT : PFX_SOURCE_DAMAGED;
    if (count_records(pfx_buf_bytes(&cursor->bundle)) != found)
        return PFX_SOURCE_DAMAGED;
    cursor->bundle_first = first;
    cursor->bundle_n = width;
    cursor->bundle_at = 0;
    cursor->offset = 0;
    return PFX_SOURCE_ENTRY;
}

enum pfx_source_got pfx_source_next(struct pfx_source *source, struct pfx_source_cursor *cursor,
                                    struct pfx_bytes *ret_entry, uint64_t *ret_upto)
{
    if (cursor->seq >= cursor->size)
        return PFX_SOURCE_END;
    bool here = cursor->bundle_n > 0 && cursor->seq >= cursor->bundle_first + cursor->bundle_at &&
                cursor->seq < cursor->bundle_first + cursor->bundle_n;
    if (!here) {
        cursor->bundle_n = 0;
        enum pfx_source_got got = read_bundle(source, cursor, ret_upto);
        if (got != PFX_SOURCE_ENTRY) {
            cursor->seq = *ret_upto;
            return got;
        }
    }
    struct pfx_bytes bundle = pfx_buf_bytes(&cursor->bundle);
    do {
        if (pfx_record_next(bundle, &cursor->offset, ret_entry) != PFX_RECORD_WHOLE)
            pfx_die("a bundle changed while it was read");
        cursor->bundle_at++;
    } while (cursor->bundle_first + cursor->bundle_at <= cursor->seq);
    cursor->seq++;
    return PFX_SOURCE_ENTRY;
}

/* The tile that has the nodes of this level, of which `width` are needed at least. */
static pfx_result load_tile(struct pfx_source_nodes *nodes, unsigned tile_level, uint64_t number,
                            unsigned need, struct pfx_error *err)
{
    if (nodes->tiles[tile_level].has && nodes->tiles[tile_level].number == number &&
        nodes->tiles[tile_level].width >= need)
        return PFX_OK;
    uint64_t at_level = nodes->size >> (tile_level * PFX_TILE_HEIGHT);
    uint64_t left = at_level - number * PFX_TILE_WIDTH;
    unsigned width = left < PFX_TILE_WIDTH ? (unsigned)left : PFX_TILE_WIDTH;
    char path[PFX_TILE_PATH_SIZE];
    bool there;
    nodes->tiles[tile_level].has = false;
    if (!pfx_source_tile(nodes->source, tile_level, number, width, nodes->tiles[tile_level].bytes,
                         &there)) {
        PFX_AUTOFREE char *object = pfx_asprintf(
            "%s/%s", nodes->source->path, pfx_tile_path((int)tile_level, number, width, path));
        if (there)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read tile", object, "",
                            "it isn't a regular file of %u hashes", width);
        return pfx_fail(err, PFX_CLASS_USAGE, "read tile", object, "ENOENT", "it isn't there");
    }
    nodes->tiles[tile_level].has = true;
    nodes->tiles[tile_level].number = number;
    nodes->tiles[tile_level].width = width;
    return PFX_OK;
}

pfx_result pfx_source_node(void *ctx, unsigned level, uint64_t index, struct pfx_node *ret_node,
                           struct pfx_error *err)
{
    struct pfx_source_nodes *nodes = ctx;
    if (level >= PFX_TREE_LEVELS || index >= nodes->size >> level)
        return pfx_fail(err, PFX_CLASS_USAGE, "read node", nodes->source->path, "",
                        "node %u/%llu isn't complete at size %llu", level,
                        (unsigned long long)index, (unsigned long long)nodes->size);
    unsigned tile_level = level / PFX_TILE_HEIGHT, above = level % PFX_TILE_HEIGHT;
    uint64_t first = index << above; /* of the nodes in the tile that this one covers */
    unsigned n = 1u << above, at = (unsigned)(first % PFX_TILE_WIDTH);
    PFX_TRY(load_tile(nodes, tile_level, first / PFX_TILE_WIDTH, at + n, err));
    struct pfx_node row[PFX_TILE_WIDTH / 2];
    memcpy(row, nodes->tiles[tile_level].bytes + (size_t)at * PFX_HASH_SIZE,
           (size_t)n * PFX_HASH_SIZE);
    for (; n > 1; n /= 2)
        for (unsigned i = 0; i < n / 2; i++)
            pfx_hash_node(nodes->hasher, &row[2 * i], &row[2 * i + 1], &row[i]);
    *ret_node = row[0];
    return PFX_OK;
}
