/* Paths and widths of the log's tiles. */
#include <string.h>

#include "crypto_tool.h"
#include "log_test.h"

static void tile_paths(void **state)
{
    (void)state;
    static const struct {
        int level;
        uint64_t number;
        unsigned width;
        const char *path;
    } tiles[] = {
        {0, 0, 256, "tile/0/000"},
        {0, 1234067, 256, "tile/0/x001/x234/067"}, /* tlog-tiles' own example */
        {1, 999, 1, "tile/1/999.p/1"},
        {2, 1000, 255, "tile/2/x001/000.p/255"},
        {6, 0, 10, "tile/6/000.p/10"},
        {PFX_TILE_ENTRIES, 0, 17, "tile/entries/000.p/17"},
        {PFX_TILE_ENTRIES, 1000000, 256, "tile/entries/x001/x000/000"},
        {PFX_TILE_ENTRIES, (UINT64_C(1) << 45) - 1, 255,
         "tile/entries/x035/x184/x372/x088/831.p/255"},
        {5, 31, 255, "tile/5/031.p/255"},
    };
    for (size_t i = 0; i < sizeof tiles / sizeof tiles[0]; i++) {
        char buf[PFX_TILE_PATH_SIZE];
        assert_string_equal(pfx_tile_path(tiles[i].level, tiles[i].number, tiles[i].width, buf),
                            tiles[i].path);
        int level = -7;
        uint64_t number = 7;
        unsigned width = 7;
        assert_true(pfx_tile_parse(tiles[i].path, &level, &number, &width));
        assert_int_equal(level, tiles[i].level);
        assert_int_equal(number, tiles[i].number);
        assert_int_equal(width, tiles[i].width);
    }
    char buf[PFX_TILE_PATH_SIZE]; /* the longest that can be asked for */
    assert_string_equal(pfx_tile_path(PFX_TILE_ENTRIES, UINT64_MAX, 100, buf),
                        "tile/entries/x018/x446/x744/x073/x709/x551/615.p/100");
}

static void tile_paths_are_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile//000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/00/000",
        "tile/7/000",
        "tile/-1/000",
        "tile/+0/000",
        "tile/Entries/000",
        "tile/entries",
        "tile/entries/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/x001/x000",
        "tile/0/1000",
        "tile/0/x1/000",
        "tile/0/X001/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/1/",
        "tile/0/000.P/1",
        "tile/0/000.p/-1",
        "tile/0/000 ",
        " tile/0/000",
        "tile/0/000\n",
        "tile/0/../000",
        "tile/0/x035/x184/x372/x088/832",
        "tile/6/001",
        "tile/5/032",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x000/x000/x000/x000/x000/x000/x000/x000/x000/x000/x000/x000/x000/x000/000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int level = -7;
        uint64_t number = 7;
        unsigned width = 7;
        if (pfx_tile_parse(bad[i], &level, &number, &width) || level != -7 || number != 7 ||
            width != 7)
            fail_msg("%s was taken", bad[i]);
    }
}

/* Against the specification's rule once more, in Python. */
static void tile_numbers(void **state)
{
    static const char *const numbers[] = {"1", "99", "1000", "999999", "1000001", "35184372088831"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(1000);
        tool_must(*state, &out, PYTHON, "tiles", numbers[i], NULL);
        char buf[PFX_TILE_PATH_SIZE];
        pfx_tile_path(0, strtoull(numbers[i], NULL, 10), PFX_TILE_WIDTH, buf);
        assert_true(strlen(buf) + 1 == out.len + strlen("tile/0/"));
        assert_memory_equal(buf + strlen("tile/0/"), out.data, out.len - 1);
    }
}

static void tile_widths(void **state)
{
    (void)state;
    static const struct {
        int level;
        uint64_t size;
        unsigned partial;
        uint64_t full;
    } cases[] = {
        {0, 0, 0, 0},
        {0, 255, 255, 0},
        {0, 256, 0, 1},
        {0, 257, 1, 1},
        {1, 255, 0, 0},
        {1, 256, 1, 0},
        {1, 65535, 255, 0},
        {1, 65536, 0, 1},
        {2, 70000, 1, 0},
        {0, 70000, 112, 273},
        {1, 70000, 17, 1},
        {PFX_TILE_ENTRIES, 70000, 112, 273},
        {6, PFX_TREE_SIZE_MAX, 31, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t full = 7;
        assert_int_equal(pfx_tile_partial(cases[i].level, cases[i].size, &full), cases[i].partial);
        assert_int_equal(full, cases[i].full);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tile_paths),
        cmocka_unit_test(tile_paths_are_strict),
        tool_test(tile_numbers),
        cmocka_unit_test(tile_widths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
