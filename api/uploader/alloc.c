#include "api/uploader/alloc.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <curl/curl.h>

#include "api/wire/json.h"

/* In front of each block: its size, so that free() knows what to wipe. */
#define HEADER (sizeof(max_align_t))

static void *wiping_malloc(size_t size)
{
    if (size > SIZE_MAX - HEADER)
        return NULL;
    unsigned char *block = malloc(HEADER + size);
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof size);
    return block + HEADER;
}

static size_t size_of(void *ptr)
{
    size_t size;
    memcpy(&size, (unsigned char *)ptr - HEADER, sizeof size);
    return size;
}

static void wiping_free(void *ptr)
{
    if (!ptr)
        return;
    explicit_bzero(ptr, size_of(ptr));
    free((unsigned char *)ptr - HEADER);
}

static void *wiping_calloc(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    void *ptr = wiping_malloc(total);
    if (ptr)
        memset(ptr, 0, total);
    return ptr;
}

static void *wiping_realloc(void *ptr, size_t size)
{
    if (!ptr)
        return wiping_malloc(size);
    size_t old = size_of(ptr);
    void *fresh = wiping_malloc(size);
    if (!fresh)
        return NULL;
    memcpy(fresh, ptr, old < size ? old : size);
    wiping_free(ptr);
    return fresh;
}

static char *wiping_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = wiping_malloc(size);
    if (copy)
        memcpy(copy, s, size);
    return copy;
}

pfx_result pfx_alloc_setup(struct pfx_error *err)
{
    /* A failure costs only what swap may show; the secrets themselves are locked by their type. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
        (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    pfx_json_wiping(); /* cJSON's own hooks: they must be the same ones from the start to the end */
    CURLcode code = curl_global_init_mem(CURL_GLOBAL_DEFAULT, wiping_malloc, wiping_free,
                                         wiping_realloc, wiping_strdup, wiping_calloc);
    if (code != CURLE_OK)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "start", "libcurl", "", "%s",
                        curl_easy_strerror(code));
    return PFX_OK;
}
