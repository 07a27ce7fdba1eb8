/* Allocation that can't fail, and the growable buffer. */
#include "crypto/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void pfx_die(const char *why)
{
    /* Not abort(): a core file could hold what the locked pages keep out of it. */
    static const char prefix[] = "pfx: ";
    if (write(STDERR_FILENO, prefix, sizeof prefix - 1) < 0 ||
        write(STDERR_FILENO, why, strlen(why)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
        _exit(70);
    _exit(70);
}

static size_t checked_product(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total) || total > PTRDIFF_MAX)
        pfx_die("allocation too large");
    return total ? total : 1;
}

void *pfx_alloc(size_t size)
{
    return pfx_alloc_array(1, size);
}

void *pfx_alloc_array(size_t n, size_t size)
{
    void *ptr = calloc(1, checked_product(n, size));
    if (!ptr)
        pfx_die("out of memory");
    return ptr;
}

void *pfx_grow(void *ptr, size_t n, size_t size)
{
    void *grown = realloc(ptr, checked_product(n, size));
    if (!grown)
        pfx_die("out of memory");
    return grown;
}

char *pfx_strdup(const char *s)
{
    return pfx_memdup(s, strlen(s) + 1);
}

char *pfx_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = pfx_alloc(len + 1);
    memcpy(copy, s, len);
    return copy;
}

void *pfx_memdup(const void *data, size_t len)
{
    void *copy = pfx_alloc(len);
    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

char *pfx_asprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        pfx_die("out of memory");
    return text;
}

struct pfx_buf pfx_buf_make(size_t max)
{
    return (struct pfx_buf){.max = max};
}

void pfx_buf_done(struct pfx_buf *buf)
{
    if (buf->wipe && buf->data)
        explicit_bzero(buf->data, buf->cap);
    free(buf->data);
    *buf = (struct pfx_buf){.max = buf->max, .wipe = buf->wipe};
}

void pfx_buf_reset(struct pfx_buf *buf)
{
    pfx_buf_cut(buf, 0);
    buf->over = false;
}

void pfx_buf_cut(struct pfx_buf *buf, size_t len)
{
    if (len > buf->len || !buf->data)
        return;
    if (buf->wipe)
        explicit_bzero(buf->data + len, buf->len - len);
    buf->len = len;
    buf->data[len] = '\0';
}

/* Room for `more` bytes and the NUL after them. */
static bool make_room(struct pfx_buf *buf, size_t more)
{
    if (buf->over || more > buf->max || buf->len > buf->max - more) {
        buf->over = true;
        return false;
    }
    size_t need = buf->len + more + 1;
    if (need <= buf->cap)
        return true;
    size_t cap = buf->cap < 64 ? 64 : buf->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (buf->wipe) {
        /* realloc would leave the old bytes behind. */
        uint8_t *data = pfx_alloc(cap);
        if (buf->data) {
            memcpy(data, buf->data, buf->len);
            explicit_bzero(buf->data, buf->cap);
            free(buf->data);
        }
        buf->data = data;
    } else {
        buf->data = pfx_grow(buf->data, cap, 1);
    }
    buf->cap = cap;
    return true;
}

uint8_t *pfx_buf_extend(struct pfx_buf *buf, size_t len)
{
    if (!make_room(buf, len))
        return NULL;
    uint8_t *at = buf->data + buf->len;
    memset(at, 0, len + 1);
    buf->len += len;
    return at;
}

bool pfx_buf_add(struct pfx_buf *buf, const void *data, size_t len)
{
    uint8_t *at = pfx_buf_extend(buf, len);
    if (!at)
        return false;
    if (len > 0)
        memcpy(at, data, len);
    return true;
}

bool pfx_buf_add_str(struct pfx_buf *buf, const char *s)
{
    return pfx_buf_add(buf, s, strlen(s));
}

bool pfx_buf_addf(struct pfx_buf *buf, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    bool done = false;
    if (n < 0)
        buf->over = true; /* a text that can't be formatted is as incomplete as a cut one */
    else if (make_room(buf, (size_t)n)) {
        vsnprintf((char *)buf->data + buf->len, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
        done = true;
    }
    va_end(again);
    return done;
}

void pfx_buf_drop(struct pfx_buf *buf, size_t n)
{
    if (n > buf->len)
        n = buf->len;
    if (n == 0)
        return;
    size_t rest = buf->len - n;
    memmove(buf->data, buf->data + n, rest);
    pfx_buf_cut(buf, rest);
}

const char *pfx_buf_str(const struct pfx_buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}

struct pfx_bytes pfx_buf_bytes(const struct pfx_buf *buf)
{
    return (struct pfx_bytes){buf->data, buf->len};
}
