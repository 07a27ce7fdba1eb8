/*
 * What the fuzz targets share. An input is text wherever that can be: its first line says what it
 * is for, so that a person can read and write it.
 */
#ifndef PFX_FUZZ_FUZZ_H
#define PFX_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/mem.h"
#include "crypto/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that doesn't hold is a finding. */
#define must(holds) ((holds) ? (void)0 : must_fail(#holds, __FILE__, __LINE__))
static _Noreturn inline void must_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: doesn't hold: %s\n", file, line, what);
    abort();
}

/* A refusal that a person will read: it says something, in whole characters. */
static inline void must_say(const struct pfx_error *err)
{
    must(err->cls != PFX_CLASS_OK && err->text[0] != '\0');
    must(pfx_utf8_valid(err->text, strlen(err->text)));
}

static inline bool same(struct pfx_bytes a, struct pfx_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Takes what stands before `end` off the front of *rest; all of it where `end` isn't there. */
static inline struct pfx_bytes take_until(struct pfx_bytes *rest, char end)
{
    struct pfx_bytes all = *rest;
    const uint8_t *at = all.len ? memchr(all.data, end, all.len) : NULL;
    size_t len = at ? (size_t)(at - all.data) : all.len;
    *rest = at ? (struct pfx_bytes){at + 1, all.len - len - 1} : (struct pfx_bytes){NULL, 0};
    return (struct pfx_bytes){all.data, len};
}

static inline bool is_word(struct pfx_bytes bytes, const char *word)
{
    return bytes.len == strlen(word) && memcmp(bytes.data, word, bytes.len) == 0;
}

/* As a text for functions that take one: up to the first NUL. Free it. */
static inline char *text_of(struct pfx_bytes bytes)
{
    return bytes.len ? pfx_strndup((const char *)bytes.data, bytes.len) : pfx_strdup("");
}

/* Which of n a selector means that is none of their names: any of them, always the same one. */
static inline size_t any_of(struct pfx_bytes word, size_t n)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < word.len; i++)
        hash = (hash ^ word.data[i]) * 16777619u;
    return hash % n;
}

#endif
