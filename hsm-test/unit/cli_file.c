/* Files that init writes: never over another one, never outside the folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/cli/cli.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/cli-file-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/key.pem", dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/link.pem", dir);
    (void)unlink(path);
    return rmdir(dir);
}

static void another_file_stays(void **state)
{
    (void)state;
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    assert_true(pfx_ok(cli_file_put(dir, "key.pem", "one\n", &fresh, &err)));
    assert_true(fresh);
    assert_true(pfx_ok(cli_file_put(dir, "key.pem", "one\n", &fresh, &err)));
    assert_false(fresh);
    assert_int_equal(cli_file_put(dir, "key.pem", "two\n", &fresh, &err).cls, PFX_CLASS_REFUSED);
    assert_non_null(strstr(err.text, "isn't overwritten"));
    char path[128], text[16] = "";
    (void)snprintf(path, sizeof(path), "%s/key.pem", dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof(text) - 1, file), 4);
    (void)fclose(file);
    assert_string_equal(text, "one\n");
}

/* A connector's probe, asked for again: the answer to the last one isn't taken any more. */
static void one_of_ours_is_renewed(void **state)
{
    (void)state;
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    assert_true(pfx_ok(cli_file_put(dir, "probe.ps1", "a\nb\none\n", &fresh, &err)));
    assert_true(pfx_ok(cli_file_renew(dir, "probe.ps1", "a\nb\none\n", &fresh, &err)));
    assert_false(fresh);
    assert_true(pfx_ok(cli_file_renew(dir, "probe.ps1", "a\nb\ntwo\n", &fresh, &err)));
    assert_true(fresh);
    assert_true(pfx_ok(cli_file_put(dir, "probe.ps1", "a\nb\ntwo\n", &fresh, &err)));
    assert_false(fresh);
    assert_int_equal(cli_file_renew(dir, "probe.ps1", "a\nc\ntwo\n", &fresh, &err).cls,
                     PFX_CLASS_REFUSED);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/probe.ps1", dir);
    assert_int_equal(unlink(path), 0);
}

static void bytes_of_any_value(void **state)
{
    (void)state;
    struct pfx_error err = PFX_ERROR_NONE;
    static const uint8_t data[] = {'R', 0, 0xFF, 0}, other[] = {'R', 0, 0xFE, 0};
    uint8_t back[16];
    bool fresh = false;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/key.blob", dir);
    assert_true(pfx_ok(cli_file_put_bytes(NULL, path, (struct pfx_bytes){data, 4}, &fresh, &err)));
    assert_true(fresh);
    assert_true(pfx_ok(cli_file_put_bytes(NULL, path, (struct pfx_bytes){data, 4}, &fresh, &err)));
    assert_false(fresh);
    assert_int_equal(
        cli_file_put_bytes(NULL, path, (struct pfx_bytes){other, 4}, &fresh, &err).cls,
        PFX_CLASS_REFUSED);
    assert_int_equal(cli_file_put_bytes(NULL, path, (struct pfx_bytes){data, 2}, &fresh, &err).cls,
                     PFX_CLASS_REFUSED);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(back, 1, sizeof(back), file), 4);
    (void)fclose(file);
    assert_memory_equal(back, data, 4);
    assert_int_equal(unlink(path), 0);
}

static void links_are_not_followed(void **state)
{
    (void)state;
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    char path[128], target[128];
    (void)snprintf(path, sizeof(path), "%s/link.pem", dir);
    (void)snprintf(target, sizeof(target), "%s/nowhere", dir);
    assert_int_equal(symlink(target, path), 0);
    assert_true(pfx_failed(cli_file_put(dir, "link.pem", "one\n", &fresh, &err)));
    assert_int_equal(access(target, F_OK), -1);
}

static void names_stay_in_the_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"../key.pem", "/etc/key.pem", ".hidden", "", "a/b", "a b"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        bool fresh = false;
        assert_int_equal(cli_file_put(dir, names[i], "x", &fresh, &err).cls, PFX_CLASS_INTEGRITY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_file_stays),
        cmocka_unit_test(one_of_ours_is_renewed),
        cmocka_unit_test(bytes_of_any_value),
        cmocka_unit_test(links_are_not_followed),
        cmocka_unit_test(names_stay_in_the_folder),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
