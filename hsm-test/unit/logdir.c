/* Reading the folder of the operation log: slots, names, entries by number, nodes of the tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/logdir/logdir.h"

#define ERROR(name) struct pfx_error name = PFX_ERROR_NONE
#define assert_ok(expr, error)                                                                     \
    do {                                                                                           \
        pfx_result r_ = (expr);                                                                    \
        char line_[1024];                                                                          \
        if (pfx_failed(r_))                                                                        \
            fail_msg("%s", pfx_error_line((error), line_, sizeof line_));                          \
    } while (0)
#define assert_class(expr, class) assert_int_equal((expr).cls, (class))

#define ENTRIES 1500
static char base[] = "/tmp/pfx-logdir-XXXXXX";
static char folder[64]; /* made by log_make.py, which shares no code with the reader */

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(base));
    snprintf(folder, sizeof folder, "%s/log", base);
    pid_t pid = fork();
    if (pid == 0) {
        char n[16];
        snprintf(n, sizeof n, "%d", ENTRIES);
        execl("/usr/bin/python3", "python3", "-B", LOG_MAKE, folder, n, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    return status;
}

static int teardown(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", base, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
    return 0;
}

static void slots(void **state)
{
    (void)state;
    static const char note[] = "origin\n1\nAAAA\n\n\xE2\x80\x94 name sig\n";
    uint8_t slot[PFX_SLOT_SIZE];
    struct pfx_bytes got;
    pfx_slot_write((struct pfx_bytes){(const uint8_t *)note, sizeof note - 1}, slot);
    assert_true(pfx_slot_read(slot, &got));
    assert_int_equal(got.len, sizeof note - 1);
    assert_memory_equal(got.data, note, got.len);
    for (size_t i = 0; i < PFX_SLOT_SIZE; i++) {
        slot[i] ^= (uint8_t)(1 << i % 8);
        if (pfx_slot_read(slot, &got))
            fail_msg("byte %zu changed, and taken", i);
        slot[i] ^= (uint8_t)(1 << i % 8);
    }
    /* A write that was cut: the old content from there on. */
    uint8_t old[PFX_SLOT_SIZE], torn[PFX_SLOT_SIZE];
    pfx_slot_write((struct pfx_bytes){(const uint8_t *)"another one\n", 12}, old);
    for (size_t cut = 1; cut < PFX_SLOT_HEAD + sizeof note - 1; cut++) {
        memcpy(torn, old, sizeof torn);
        memcpy(torn, slot, cut);
        assert_false(pfx_slot_read(torn, &got));
    }
    memset(slot, 0, sizeof slot);
    assert_false(pfx_slot_read(slot, &got));
    pfx_slot_write((struct pfx_bytes){NULL, 0}, slot);
    assert_false(pfx_slot_read(slot, &got)); /* no text is no checkpoint */
}

static void segment_names(void **state)
{
    (void)state;
    static const struct {
        uint64_t first;
        const char *name;
    } good[] = {{0, "00000000000000000000"},
                {65536, "00000000000000065536"},
                {PFX_TREE_SIZE_MAX, "00009007199254740991"}};
    static const char *const bad[] = {"",
                                      "0",
                                      "0000000000000000000",
                                      "000000000000000000000",
                                      "0000000000000000000x",
                                      " 0000000000000000000",
                                      "+0000000000000000001",
                                      "00009007199254740992",
                                      "18446744073709551616",
                                      "99999999999999999999"};
    uint64_t first;
    char buf[PFX_SEGMENT_NAME_SIZE];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_string_equal(pfx_segment_name(good[i].first, buf), good[i].name);
        assert_true(pfx_segment_parse(good[i].name, &first));
        assert_int_equal(first, good[i].first);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(pfx_segment_parse(bad[i], &first));
}

static bool is_entry(struct pfx_bytes json, uint64_t seq)
{
    struct pfx_entry entry;
    ERROR(err);
    return pfx_ok(pfx_entry_read(json, &entry, &err)) &&
           pfx_entry_int(&entry, PFX_F_SEQ) == (int64_t)seq;
}

static void entries(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    struct pfx_bytes entry;
    uint64_t count;
    assert_ok(pfx_logdir_open(folder, &dir, &err), &err);
    assert_int_equal(pfx_logdir_first(dir), 0);
    assert_ok(pfx_logdir_count(dir, &count, &err), &err);
    assert_true(count >= ENTRIES);
    for (uint64_t seq = 0; seq < count; seq++) {
        assert_ok(pfx_logdir_entry(dir, seq, &entry, &err), &err);
        assert_true(is_entry(entry, seq));
    }
    for (uint64_t i = 0; i < 400; i++) { /* here and there, backwards too */
        uint64_t seq = i * 7919 % count;
        assert_ok(pfx_logdir_entry(dir, seq, &entry, &err), &err);
        assert_true(is_entry(entry, seq));
    }
    assert_class(pfx_logdir_entry(dir, count, &entry, &err), PFX_CLASS_TRANSIENT);
    assert_string_equal(err.code, "end");
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(pfx_logdir_entry(dir, PFX_TREE_SIZE_MAX, &entry, &err), PFX_CLASS_TRANSIENT);
}

/* The root at the checkpoint's size, which log_make.py computed by itself. */
static void root_from_nodes(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    struct pfx_hasher *hasher PFX_CLEANUP(pfx_hasher_freep) = pfx_hasher_new();
    const struct pfx_checkpoint *checkpoint;
    struct pfx_frontier frontier;
    struct pfx_node root;
    assert_ok(pfx_logdir_open(folder, &dir, &err), &err);
    assert_true(pfx_logdir_checkpoint(dir, &checkpoint).len > 0);
    struct pfx_tree tree = {hasher, pfx_logdir_node, dir};
    assert_ok(pfx_tree_frontier(&tree, checkpoint->size, &frontier, &err), &err);
    pfx_frontier_root(hasher, &frontier, &root);
    assert_true(pfx_hash_equal(&root, &checkpoint->root));
    /* The same without tiles, and with a torn one. */
    char path[128], moved[128];
    snprintf(path, sizeof path, "%s/tile", folder);
    snprintf(moved, sizeof moved, "%s/.tile", folder);
    assert_int_equal(rename(path, moved), 0);
    struct pfx_logdir *bare = NULL;
    assert_ok(pfx_logdir_open(folder, &bare, &err), &err);
    tree.ctx = bare;
    assert_ok(pfx_tree_frontier(&tree, checkpoint->size, &frontier, &err), &err);
    pfx_frontier_root(hasher, &frontier, &root);
    assert_true(pfx_hash_equal(&root, &checkpoint->root));
    pfx_logdir_close(bare);
    assert_int_equal(rename(moved, path), 0);
    struct stat facts;
    snprintf(path, sizeof path, "%s/tile/0/001", folder);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(truncate(path, 100), 0);
    assert_ok(pfx_logdir_open(folder, &bare, &err), &err);
    tree.ctx = bare;
    assert_ok(pfx_tree_frontier(&tree, checkpoint->size, &frontier, &err), &err);
    pfx_frontier_root(hasher, &frontier, &root);
    assert_true(pfx_hash_equal(&root, &checkpoint->root));
    pfx_logdir_close(bare);
}

static void damaged_entry(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    struct pfx_bytes entry;
    char path[128];
    snprintf(path, sizeof path, "%s/entries/00000000000000000000", folder);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, 2), 1); /* the first entry's brace */
    assert_ok(pfx_logdir_open(folder, &dir, &err), &err);
    assert_class(pfx_logdir_entry(dir, 0, &entry, &err), PFX_CLASS_INTEGRITY);
    assert_string_equal(err.code, "damaged");
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_logdir_entry(dir, 1, &entry, &err), &err);
    assert_int_equal(pwrite(fd, "{", 1, 2), 1);
    assert_ok(pfx_logdir_entry(dir, 0, &entry, &err), &err);
    close(fd);
}

static void small_files(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    struct pfx_buf buf PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    char path[128];
    assert_ok(pfx_logdir_open(folder, &dir, &err), &err);
    assert_class(pfx_logdir_file(dir, "policy/none.yaml", 100, &buf, &err), PFX_CLASS_USAGE);
    assert_string_equal(err.code, "ENOENT");
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(pfx_logdir_file(dir, "checkpoint.0", 4095, &buf, &err), PFX_CLASS_INTEGRITY);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_logdir_file(dir, "checkpoint.0", 4096, &buf, &err), &err);
    assert_int_equal(buf.len, 4096);
    assert_class(pfx_logdir_file(dir, "entries", 4096, &buf, &err), PFX_CLASS_INTEGRITY);
    err = (struct pfx_error)PFX_ERROR_NONE;
    char **names;
    size_t n;
    assert_ok(pfx_logdir_list(dir, "nothing", &names, &n, &err), &err);
    assert_int_equal(n, 0);
    assert_ok(pfx_logdir_list(dir, "entries", &names, &n, &err), &err);
    assert_true(n > 0);
    for (size_t i = 1; i < n; i++)
        assert_true(strcmp(names[i - 1], names[i]) < 0);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    /* The anchor's copy: as it is written, and nothing else. */
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"h/pfx-agent\n17\n0123456789abcdef01234567\n2026-11-22T08:00:00.120Z\n", true},
        {"h/pfx-agent\n17\n0123456789abcdef01234567\n2026-11-22T08:00:00.120Z", false},
        {"h/pfx-agent\n17\n0123456789abcdef0123456\n2026-11-22T08:00:00.120Z\n", false},
        {"h/pfx-agent\n-1\n0123456789abcdef01234567\n2026-11-22T08:00:00.120Z\n", false},
        {"h/pfx-agent\n17\n0123456789abcdef01234567\nyesterday\n", false},
        {"h/pfx-agent\n17\n0123456789abcdef01234567\n2026-11-22T08:00:00.120Z\nmore\n", false},
        {"", false},
    };
    snprintf(path, sizeof path, "%s/anchor", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pfx_anchor_copy copy;
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, rows[i].text, strlen(rows[i].text)), strlen(rows[i].text));
        close(fd);
        assert_int_equal(pfx_logdir_anchor(dir, &copy), rows[i].good);
        if (rows[i].good) {
            assert_string_equal(copy.origin, "h/pfx-agent");
            assert_int_equal(copy.size, 17);
            assert_int_equal(copy.hash[11], 0x67);
            assert_int_equal(copy.at_ms % 1000, 120);
        }
    }
}

static void no_log(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_logdir *dir;
    char path[128];
    snprintf(path, sizeof path, "%s/none", base);
    assert_class(pfx_logdir_open(path, &dir, &err), PFX_CLASS_USAGE);
    assert_non_null(strstr(err.text, "pfx-agent init"));
    assert_int_equal(mkdir(path, 0700), 0);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(pfx_logdir_open(path, &dir, &err), PFX_CLASS_USAGE);
    snprintf(path, sizeof path, "%s/log/checkpoint.0", base);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(pfx_logdir_open(path, &dir, &err), PFX_CLASS_USAGE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots),         cmocka_unit_test(segment_names),
        cmocka_unit_test(entries),       cmocka_unit_test(root_from_nodes),
        cmocka_unit_test(damaged_entry), cmocka_unit_test(small_files),
        cmocka_unit_test(no_log),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
