/*
 * Memory for everything that isn't secret: allocation that can't fail, cleanup attributes, and a
 * growable buffer with a ceiling.
 *
 * A process that gets no memory ends at once: all its state is in the store or the outbox, which
 * is what makes that safe. Secrets live in crypto/secret.h only.
 */
#ifndef PFX_CRYPTO_MEM_H
#define PFX_CRYPTO_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "crypto/result.h"

void *pfx_alloc(size_t size);                 /* zeroed; never NULL */
void *pfx_alloc_array(size_t n, size_t size); /* zeroed; ends the process on overflow */
void *pfx_grow(void *ptr, size_t n, size_t size);
char *pfx_strdup(const char *s);
char *pfx_strndup(const char *s, size_t n);
void *pfx_memdup(const void *data, size_t len);
char *pfx_asprintf(const char *fmt, ...) PFX_PRINTF(1, 2);

/* Says why on stderr and ends the process with exit code 70, without a core file. For what can't be
 * survived: no memory, no randomness. */
_Noreturn void pfx_die(const char *why);

static inline void pfx_free_ptr(void *pp)
{
    free(*(void **)pp);
}
/* char *s PFX_AUTOFREE = ...; */
#define PFX_AUTOFREE __attribute__((cleanup(pfx_free_ptr)))
#define PFX_CLEANUP(fn) __attribute__((cleanup(fn)))
/* Hands over ownership: returns *pp and leaves NULL behind. */
#define PFX_TAKE(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) pfx_take_ = (p);                                                             \
        (p) = NULL;                                                                                \
        pfx_take_;                                                                                 \
    })

/* Borrowed bytes. */
struct pfx_bytes {
    const uint8_t *data;
    size_t len;
};

/* Growable bytes. The byte after data[len] is always NUL once something was appended. */
struct pfx_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;  /* ceiling in bytes; going past it sets `over` and keeps what was there */
    bool over;   /* stays set, and refuses every further append, until pfx_buf_reset */
    bool wipe;   /* cleanse on growth and release: for text that carries a secret through */
};

struct pfx_buf pfx_buf_make(size_t max);
void pfx_buf_done(struct pfx_buf *buf); /* wipes if asked; usable as cleanup */
void pfx_buf_reset(struct pfx_buf *buf); /* len = 0, over = false; keeps the memory */
bool pfx_buf_add(struct pfx_buf *buf, const void *data, size_t len); /* false: over the ceiling */
bool pfx_buf_add_str(struct pfx_buf *buf, const char *s);
bool pfx_buf_addf(struct pfx_buf *buf, const char *fmt, ...) PFX_PRINTF(2, 3);
/* Appends len zero bytes for the caller to fill (read, decode); NULL: over the ceiling. */
uint8_t *pfx_buf_extend(struct pfx_buf *buf, size_t len);
void pfx_buf_cut(struct pfx_buf *buf, size_t len); /* shortens to len, which isn't larger */
void pfx_buf_drop(struct pfx_buf *buf, size_t n); /* removes the first n bytes */
const char *pfx_buf_str(const struct pfx_buf *buf); /* "" when empty; owned by buf */
struct pfx_bytes pfx_buf_bytes(const struct pfx_buf *buf);

#endif
