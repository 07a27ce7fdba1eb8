/* What is given back is wiped: this program has crypto/wipe.c among its sources, as pfx-uploader
 * and pfx-hsm have. Looks at freed memory on purpose, which no sanitizer would let it. */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "crypto/pbe.h"
#include "hsm-test/unit/crypto_test.h"

#define MARK 0xA7
/* glibc keeps its own links in the first bytes of a block that is free. */
#define LINKS 16

/* The compiler must neither know that the block is gone nor what is in it. */
static size_t marks(uintptr_t block, size_t from, size_t to)
{
    const volatile unsigned char *bytes = (const volatile unsigned char *)block;
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        n += bytes[i] == MARK;
    return n;
}

static uintptr_t number_of(const void *block)
{
    uintptr_t n = (uintptr_t)block;
    __asm__ volatile("" : "+r"(n) : : "memory"); /* and no write before it is a dead one */
    return n;
}

/* The same block, of whose size the compiler knows nothing: all that is usable may be written. */
static void *hidden(void *block)
{
    return (void *)number_of(block);
}

static void *marked(size_t size)
{
    void *block = hidden(malloc(size));
    assert_non_null(block);
    memset(block, MARK, malloc_usable_size(block));
    return block;
}

static void test_given_back(void **state)
{
    (void)state;
    for (size_t size = 1; size < 100000; size += 1 + size / 3) {
        void *block = marked(size);
        size_t all = malloc_usable_size(block);
        uintptr_t at = number_of(block);
        assert_int_equal(marks(at, 0, all), all); /* else this sees nothing */
        void *fence = malloc(16); /* the block's pages stay */
        free(block);
        assert_int_equal(marks(at, LINKS, all), 0);
        free(fence);
    }
    free(NULL);
}

static void test_realloc_moves(void **state)
{
    (void)state;
    void *block = marked(5000);
    size_t all = malloc_usable_size(block);
    uintptr_t at = number_of(block);
    void *fence = malloc(16);
    unsigned char *fresh = realloc(block, 50000);
    assert_non_null(fresh);
    assert_int_not_equal(number_of(fresh), at);
    assert_int_equal(marks(number_of(fresh), 0, 5000), 5000);
    assert_int_equal(marks(at, LINKS, all), 0);
    free(fence);
    free(fresh);
}

static void test_realloc_shrinks(void **state)
{
    (void)state;
    const size_t to[] = {4000, 2600, 100, 1};
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        void *block = marked(5000);
        size_t all = malloc_usable_size(block);
        uintptr_t at = number_of(block);
        void *fence = malloc(16);
        unsigned char *fresh = realloc(block, to[i]);
        assert_non_null(fresh);
        assert_int_equal(marks(number_of(fresh), 0, to[i]), to[i]);
        bool stayed = number_of(fresh) == at;
        assert_int_equal(marks(at, stayed ? to[i] : LINKS, all), 0);
        assert_true(malloc_usable_size(fresh) < 4 * to[i] + 64); /* memory does go back */
        free(fence);
        free(fresh);
    }
    void *block = marked(300);
    size_t all = malloc_usable_size(block);
    uintptr_t at = number_of(block);
    assert_null(reallocarray(block, 0, 8));
    assert_int_equal(marks(at, LINKS, all), 0);
}

static void test_realloc_edges(void **state)
{
    (void)state;
    unsigned char *block = realloc(NULL, 40);
    assert_non_null(block);
    memset(block, 5, 40);
    errno = 0;
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(reallocarray(hidden(block), huge, 3));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(realloc(hidden(block), huge + 1));
    assert_int_equal(errno, ENOMEM);
    for (size_t i = 0; i < 40; i++) /* a failure leaves it alone */
        assert_int_equal(block[i], 5);
    block = reallocarray(block, 100, 10);
    assert_non_null(block);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(block[i], 5);
    errno = 77;
    free(block);
    assert_int_equal(errno, 77);
}

static void test_aligned(void **state)
{
    (void)state;
    void *block = NULL;
    assert_int_equal(posix_memalign(&block, 4096, 3000), 0);
    block = hidden(block);
    assert_int_equal((uintptr_t)block % 4096, 0);
    size_t all = malloc_usable_size(block);
    memset(block, MARK, all);
    uintptr_t at = number_of(block);
    void *fence = malloc(9000); /* behind it, not in the gap before it */
    free(block);
    assert_int_equal(marks(at, LINKS, all), 0);
    free(fence);
    for (size_t odd = 0; odd < 3; odd++)
        assert_int_equal(posix_memalign(&block, (const size_t[]){0, 4, 24}[odd], 10), EINVAL);
    block = memalign(256, 10);
    assert_int_equal((uintptr_t)block % 256, 0);
    free(block);
    block = aligned_alloc(64, 640);
    assert_int_equal((uintptr_t)block % 64, 0);
    free(block);
    unsigned char *zeroed = calloc(100, 30);
    assert_int_equal(marks(number_of(zeroed), 0, 3000), 0);
    free(zeroed);
}

/* glibc's rule: all of them, so that no other malloc can come in between. */
static void test_all_are_ours(void **state)
{
    (void)state;
    static const char *const names[] = {"malloc",        "free",           "calloc", "realloc",
                                        "aligned_alloc", "posix_memalign", "valloc", "pvalloc",
                                        "memalign",      "reallocarray"};
    Dl_info program;
    assert_int_not_equal(dladdr((void *)(uintptr_t)marked, &program), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        Dl_info where;
        void *function = dlsym(RTLD_DEFAULT, names[i]); /* as a library would find it */
        if (!function || dladdr(function, &where) == 0 || where.dli_fbase != program.dli_fbase)
            fail_msg("%s is another one", names[i]);
    }
}

/* Libraries call this program's free, not glibc's. */
static void test_library(void **state)
{
    (void)state;
    void *block = OPENSSL_malloc(700);
    assert_non_null(block);
    memset(block, MARK, 700);
    uintptr_t at = number_of(block);
    OPENSSL_free(block); /* not OPENSSL_clear_free */
    assert_int_equal(marks(at, LINKS, 700), 0);
    FILE *file = tmpfile(); /* glibc's own buffer, which fclose gives back */
    assert_non_null(file);
    unsigned char text[2000];
    memset(text, MARK, sizeof text);
    assert_int_equal(fwrite(text, 1, sizeof text, file), sizeof text);
    /* The stream's buffer is between its base and the end that setvbuf would take. */
    uintptr_t buffer = number_of(file->_IO_buf_base);
    assert_int_equal(marks(buffer, 0, sizeof text), sizeof text);
    fclose(file);
    assert_int_equal(marks(buffer, LINKS, sizeof text), 0);
}

/* How often it stands in the heap of the main thread. */
static size_t in_heap(const unsigned char *needle, size_t len)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    char line[512];
    size_t n = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        if (!strstr(line, "[heap]") || sscanf(line, "%lx-%lx", &from, &to) != 2)
            continue;
        for (unsigned long at = from; at + len <= to; at++)
            n += memcmp((const void *)at, needle, len) == 0;
    }
    fclose(maps);
    return n;
}

/* OpenSSL's PKCS#12 KDF gives back its copies of the password as they are. */
static void test_kdf(void **state)
{
    (void)state;
    unsigned char text[30], bmp[60] = {0};
    for (size_t i = 0; i < sizeof text; i++)
        bmp[2 * i + 1] = text[i] = (unsigned char)('A' + i * 7 % 50);
    unsigned char *control = malloc(sizeof bmp);
    memcpy(control, bmp, sizeof bmp);
    __asm__ volatile("" : : "r"(control) : "memory"); /* or the compiler leaves the copy out */
    assert_int_equal(in_heap(bmp, sizeof bmp), 1); /* else this sees nothing */
    free(control);
    for (int i = 0; i < 2 * PFX_PROFILE_COUNT; i++) {
        ERROR(err);
        /* The secrets themselves in both kinds of memory, as far as the kernel has them. */
        assert_ok(pfx_secret_memory(i % 2 ? PFX_SECRET_LOCKED : PFX_SECRET_AUTO, &err), &err);
        PFX_AUTOSECRET struct pfx_secret *password = NULL;
        PFX_AUTOKEK struct pfx_kek kek = {.key = NULL};
        struct pfx_pbe pbe;
        assert_ok(pfx_secret_copy(text, sizeof text, &password, &err), &err);
        assert_ok(pfx_pbe_draw((enum pfx_profile)(i / 2), &pbe, &err), &err);
        assert_ok(pfx_pbe_kek(&pbe, password, &kek, &err), &err);
        assert_int_equal(in_heap(bmp, sizeof bmp - 4), 0);
        assert_int_equal(in_heap(text, sizeof text - 2), 0);
    }
}

static void *work(void *ctx)
{
    unsigned *seed = ctx;
    void *blocks[64] = {NULL};
    for (unsigned i = 0; i < 40000; i++) {
        unsigned slot = (unsigned)rand_r(seed) % 64;
        size_t size = (unsigned)rand_r(seed) % 3000;
        unsigned char *block = realloc(blocks[slot], size + 1);
        if (!block)
            abort();
        block[size] = (unsigned char)slot;
        blocks[slot] = block;
        if (i % 3 == 0) {
            free(blocks[slot]);
            blocks[slot] = NULL;
        }
    }
    for (unsigned i = 0; i < 64; i++)
        free(blocks[i]);
    return NULL;
}

static void test_threads_and_fork(void **state)
{
    (void)state;
    pthread_t threads[4];
    unsigned seeds[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &seeds[i]), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        unsigned seed = 5;
        work(&seed);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given_back),
        cmocka_unit_test(test_realloc_moves),
        cmocka_unit_test(test_realloc_shrinks),
        cmocka_unit_test(test_realloc_edges),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_library),
        cmocka_unit_test(test_kdf),
        cmocka_unit_test(test_all_are_ours),
        cmocka_unit_test(test_threads_and_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
