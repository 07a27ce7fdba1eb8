/* Whole files: read, refused, replaced. */
#include "api_test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <signal.h>

#include "api/conf/process.h"

static const char *folder;
static struct pfx_error err;

static char *in_folder(const char *name)
{
    return pfx_asprintf("%s/%s", folder, name);
}

static void reading(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("a"), *fifo PFX_AUTOFREE = in_folder("fifo");
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(100);
    test_write(path, "0123456789", 0600);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_file_read(path, 10, &text, &err), &err);
    assert_string_equal(pfx_buf_str(&text), "0123456789");
    assert_class(pfx_file_read(path, 9, &text, &err), PFX_CLASS_USAGE, &err);
    assert_has(err.text, "longer than 9");
    err = PFX_ERROR_NONE;
    assert_int_equal(mkfifo(fifo, 0600), 0); /* must not wait for a writer */
    assert_class(pfx_file_read(fifo, 10, &text, &err), PFX_CLASS_USAGE, &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_file_read(folder, 10, &text, &err), PFX_CLASS_USAGE, &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_file_read("/dev/zero", 10, &text, &err), PFX_CLASS_USAGE, &err);
    char *none PFX_AUTOFREE = in_folder("none");
    err = PFX_ERROR_NONE;
    assert_true(pfx_failed(pfx_file_read(none, 10, &text, &err)));
    assert_string_equal(err.code, "ENOENT");
    assert_string_equal(err.object, none);
}

static void relative_trust(void **state)
{
    (void)state;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(100);
    char *cwd PFX_AUTOFREE = getcwd(NULL, 0), *path PFX_AUTOFREE = in_folder("b");
    test_write(path, "x", 0600);
    assert_int_equal(chdir(folder), 0);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_file_read_trusted("b", 10, &text, &err), &err);
    assert_ok(pfx_file_read_trusted("./b", 10, &text, &err), &err);
    assert_int_equal(chmod(folder, 0722), 0);
    assert_class(pfx_file_read_trusted("b", 10, &text, &err), PFX_CLASS_INTEGRITY, &err);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(chdir(cwd), 0);
}

static void replacing(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("r"), *temp PFX_AUTOFREE = in_folder("r.new");
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(100);
    struct stat st;
    err = PFX_ERROR_NONE;
    assert_ok(pfx_file_replace(path, "old", 3, 0640, &err), &err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    /* What a process left that died in between, even a link to somewhere. */
    assert_int_equal(symlink("/dev/null", temp), 0);
    assert_ok(pfx_file_replace(path, "newer", 5, 0600, &err), &err);
    assert_ok(pfx_file_read(path, 10, &text, &err), &err);
    assert_string_equal(pfx_buf_str(&text), "newer");
    assert_int_equal(access(temp, F_OK), -1);
    char *missing PFX_AUTOFREE = in_folder("no/such");
    assert_true(pfx_failed(pfx_file_replace(missing, "x", 1, 0600, &err)));
    assert_string_equal(err.code, "ENOENT");
}

/* No room: an error that can be tried again, and the old file stands. */
static void no_room(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("f"), *temp PFX_AUTOFREE = in_folder("f.new");
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(100);
    char large[8192] = {0};
    err = PFX_ERROR_NONE;
    assert_ok(pfx_file_replace(path, "old", 3, 0600, &err), &err);
    struct rlimit was, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit = (struct rlimit){4096, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    pfx_result r = pfx_file_replace(path, large, sizeof(large), 0600, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_true(pfx_failed(r));
    assert_string_equal(err.code, "EFBIG");
    assert_has(err.text, "old file still stands");
    assert_int_equal(access(temp, F_OK), -1);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_file_read(path, 10, &text, &err), &err);
    assert_string_equal(pfx_buf_str(&text), "old");
}

static int set_up(void **state)
{
    (void)state;
    folder = test_folder();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_remove_folder(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading),
        cmocka_unit_test(relative_trust),
        cmocka_unit_test(replacing),
        cmocka_unit_test(no_room),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
