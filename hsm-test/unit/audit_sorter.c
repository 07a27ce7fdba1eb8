/* The external sort of pfx-audit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/audit/sorter.h"

#define SIZE 24

static uint64_t state;
static uint64_t draw(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 17;
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, SIZE);
}

/* n records through a sorter with that much memory, against qsort over all of them. kind 0: hashes
 * behind a small first byte; 1: the first bytes all the same; 2: any bytes. */
static void sort_n(size_t n, size_t memory, int kind)
{
    state = n + memory + (size_t)kind;
    uint8_t *records = calloc(n + 1, SIZE);
    struct pfx_sorter *sorter = pfx_sorter_new(SIZE, memory);
    struct pfx_error err = PFX_ERROR_NONE;
    for (size_t i = 0; i < n; i++) {
        uint8_t *record = records + i * SIZE;
        for (size_t j = 0; j < SIZE; j++)
            record[j] = (uint8_t)draw();
        if (kind < 2)
            record[0] &= 1;
        if (kind == 1)
            memset(record, 0, SIZE - 2);
        assert_true(pfx_ok(pfx_sorter_add(sorter, record, &err)));
    }
    assert_int_equal(pfx_sorter_count(sorter), n);
    if (n > 0)
        qsort(records, n, SIZE, by_bytes);
    assert_true(pfx_ok(pfx_sorter_finish(sorter, &err)));
    const void *record;
    for (size_t i = 0; i < n; i++) {
        assert_true(pfx_ok(pfx_sorter_next(sorter, &record, &err)));
        assert_non_null(record);
        assert_memory_equal(record, records + i * SIZE, SIZE);
    }
    assert_true(pfx_ok(pfx_sorter_next(sorter, &record, &err)));
    assert_null(record);
    pfx_sorter_free(sorter);
    free(records);
}

static void in_memory(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 3; kind++)
        for (size_t n = 0; n < 40; n += 13)
            sort_n(n, 0, kind);
    sort_n(50000, 0, 0);
}

static void spilled(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 3; kind++) {
        sort_n(5000, 28 * 1000, kind); /* five runs and a bit */
        sort_n(4000, 28 * 1000, kind); /* runs that end exactly */
    }
}

/* More runs than are merged at once. */
static void merged_twice(void **unused)
{
    (void)unused;
    sort_n(20000, 28 * 100, 0);
    sort_n(20000, 28 * 100, 2);
}

static void no_room(void **unused)
{
    (void)unused;
    assert_int_equal(setenv("TMPDIR", "/proc/self", 1), 0);
    int fd;
    struct pfx_error err = PFX_ERROR_NONE;
    /* A folder that can't be written is passed over: there are others. */
    assert_true(pfx_ok(pfx_spill_open(&fd, &err)));
    assert_true(fd >= 0);
    close(fd);
    unsetenv("TMPDIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory),
        cmocka_unit_test(spilled),
        cmocka_unit_test(merged_twice),
        cmocka_unit_test(no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
