/*
 * The malloc family of a whole process: glibc's own, but free and realloc wipe what they give back.
 *
 * nghttp2 copies the Authorization header, OpenSSL keeps buffers for each connection, libcurl,
 * cJSON and glibc copy what they are given, a PKCS#11 module does what it likes: none of them wipes
 * all of it. Functions of these names in a program take the place of glibc's for every library in
 * it, those that are loaded later included (glibc manual, "Replacing malloc", which also says that
 * all of them have to be defined). There is no state here: it works before main, in threads and
 * after a fork.
 *
 * glibc.malloc.perturb isn't enough: small blocks go back without it.
 *
 * Listed as a source of pfx-uploader and pfx-hsm themselves, never of a library, where the linker
 * would leave it out. Not in sanitizer builds, which replace malloc too.
 */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__

/* glibc exports its allocator under these names for this use; no header has them. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);
extern void __libc_free(void *block);

void *malloc(size_t size)
{
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return __libc_calloc(n, size);
}

void *memalign(size_t alignment, size_t size)
{
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    void *block = __libc_memalign(alignment, size);
    if (!block)
        return ENOMEM;
    *ret = block;
    return 0;
}

void *valloc(size_t size)
{
    return __libc_valloc(size);
}

void *pvalloc(size_t size)
{
    return __libc_pvalloc(size);
}

void free(void *block)
{
    if (!block)
        return;
    /* All of it: libraries use what malloc_usable_size grants, and an earlier, larger owner may
     * have left its end there. Neither call changes errno. */
    explicit_bzero(block, malloc_usable_size(block));
    __libc_free(block);
}

/* glibc's own would leave the old place, or the part behind the new end, as it was. */
void *realloc(void *block, size_t size)
{
    if (!block)
        return __libc_malloc(size);
    if (size == 0) { /* as glibc does it */
        free(block);
        return NULL;
    }
    size_t had = malloc_usable_size(block);
    if (size <= had && size >= had / 2) {
        explicit_bzero((unsigned char *)block + size, had - size);
        return block;
    }
    void *fresh = __libc_malloc(size);
    if (!fresh)
        return NULL;
    memcpy(fresh, block, size < had ? size : had);
    free(block);
    return fresh;
}

void *reallocarray(void *block, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, total);
}

#else
#pragma message("this C library isn't glibc: memory that is given back isn't wiped")
#endif
