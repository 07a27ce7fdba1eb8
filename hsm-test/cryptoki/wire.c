/* Frames, and the memory of a call. */
#include "hsm-test/cryptoki/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define NO_BYTES UINT64_MAX

static const char *const names[TT_COUNT] = {
#define TT_NAME(name) [TT_##name] = "C_" #name,
    TT_FUNCTIONS(TT_NAME)
#undef TT_NAME
};

const char *tt_name(unsigned function)
{
    return function < TT_COUNT ? names[function] : "?";
}

unsigned tt_function_of(const char *name)
{
    unsigned i = 0;
    while (i < TT_COUNT && strcmp(names[i], name) != 0)
        i++;
    return i;
}

/* realloc() would leave a copy behind. */
static bool room(struct tt_frame *frame, size_t more)
{
    if (frame->bad || more > TT_FRAME_MAX || frame->len + more > TT_FRAME_MAX) {
        frame->bad = true;
        return false;
    }
    if (frame->len + more <= frame->cap)
        return true;
    size_t cap = frame->cap ? frame->cap : 512;
    while (cap < frame->len + more)
        cap *= 2;
    unsigned char *fresh = malloc(cap);
    if (!fresh)
        abort();
    if (frame->at) {
        memcpy(fresh, frame->at, frame->len);
        explicit_bzero(frame->at, frame->cap);
        free(frame->at);
    }
    frame->at = fresh;
    frame->cap = cap;
    return true;
}

void tt_begin(struct tt_frame *frame)
{
    frame->len = frame->pos = 0;
    frame->bad = false;
}

void tt_done(struct tt_frame *frame)
{
    if (frame->at)
        explicit_bzero(frame->at, frame->cap);
    free(frame->at);
    *frame = (struct tt_frame){0};
}

void tt_put(struct tt_frame *frame, uint64_t value)
{
    if (!room(frame, sizeof value))
        return;
    memcpy(frame->at + frame->len, &value, sizeof value);
    frame->len += sizeof value;
}

void tt_put_bytes(struct tt_frame *frame, const void *bytes, size_t len)
{
    static const unsigned char fill[8];
    tt_put(frame, bytes ? len : NO_BYTES);
    size_t over = bytes ? (8 - len % 8) % 8 : 0;
    if (!bytes || !room(frame, len + over))
        return;
    memcpy(frame->at + frame->len, bytes, len);
    memcpy(frame->at + frame->len + len, fill, over);
    frame->len += len + over;
}

uint64_t tt_get(struct tt_frame *frame)
{
    uint64_t value = 0;
    if (frame->bad || frame->len - frame->pos < sizeof value) {
        frame->bad = true;
        return 0;
    }
    memcpy(&value, frame->at + frame->pos, sizeof value);
    frame->pos += sizeof value;
    return value;
}

unsigned char *tt_get_bytes(struct tt_frame *frame, size_t *ret_len)
{
    uint64_t len = tt_get(frame);
    *ret_len = 0;
    if (frame->bad || len == NO_BYTES)
        return NULL;
    if (len > TT_FRAME_MAX || (len + 7) / 8 * 8 > frame->len - frame->pos) {
        frame->bad = true;
        return NULL;
    }
    unsigned char *at = frame->at + frame->pos;
    frame->pos += (len + 7) / 8 * 8;
    *ret_len = len;
    return at;
}

bool tt_more(const struct tt_frame *frame)
{
    return !frame->bad && frame->pos < frame->len;
}

static bool all(int fd, void *at, size_t len, bool out)
{
    unsigned char *p = at;
    while (len > 0) {
        ssize_t n = out ? send(fd, p, len, MSG_NOSIGNAL) : recv(fd, p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool tt_send(int fd, const struct tt_frame *frame)
{
    uint64_t len = frame->len;
    return !frame->bad && all(fd, &len, sizeof len, true) && all(fd, frame->at, frame->len, true);
}

bool tt_receive(int fd, struct tt_frame *frame)
{
    uint64_t len = 0;
    tt_begin(frame);
    if (!all(fd, &len, sizeof len, false) || len > TT_FRAME_MAX || !room(frame, len) ||
        !all(fd, frame->at, len, false))
        return false;
    frame->len = len;
    return true;
}

struct tt_chunk {
    struct tt_chunk *before;
    size_t size;
    _Alignas(16) unsigned char at[];
};

void *tt_alloc(struct tt_arena *arena, size_t size)
{
    struct tt_chunk *chunk = calloc(1, sizeof *chunk + size);
    if (!chunk)
        abort();
    chunk->before = arena->last;
    chunk->size = size;
    arena->last = chunk;
    return chunk->at;
}

void tt_free(struct tt_arena *arena)
{
    while (arena->last) {
        struct tt_chunk *chunk = arena->last;
        arena->last = chunk->before;
        explicit_bzero(chunk->at, chunk->size);
        free(chunk);
    }
}
