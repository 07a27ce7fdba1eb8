#include "crypto_tool.h"

#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto_test.h"

extern char **environ;

const char *tool_oracle(void)
{
    return CRYPTO_ORACLE;
}

int tool_setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = pfx_asprintf("%s/pfx-crypto-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return -1;
    *state = dir;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int tool_teardown(void **state)
{
    int rc = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

char *tool_path(const char *dir, const char *name)
{
    return pfx_asprintf("%s/%s", dir, name);
}

void tool_write(const char *dir, const char *name, struct pfx_bytes data)
{
    PFX_AUTOFREE char *path = tool_path(dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (data.len > 0)
        assert_int_equal(fwrite(data.data, 1, data.len, f), data.len);
    assert_int_equal(fclose(f), 0);
}

static void read_all(FILE *f, struct pfx_buf *out)
{
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        assert_true(pfx_buf_add(out, part, n));
}

struct pfx_buf tool_read(const char *dir, const char *name)
{
    PFX_AUTOFREE char *path = tool_path(dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s can't be read", path);
    struct pfx_buf out = pfx_buf_make(4 * 1024 * 1024);
    read_all(f, &out);
    fclose(f);
    return out;
}

bool tool_have(const char *program)
{
    PFX_AUTOFREE char *dirs = pfx_strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    char *rest = dirs;
    for (char *dir; (dir = strsep(&rest, ":"));) {
        PFX_AUTOFREE char *path = tool_path(dir, program);
        if (access(path, X_OK) == 0)
            return true;
    }
    print_message("skipped: %s isn't installed\n", program);
    if (getenv("PFX_TEST_REQUIRE_ALL"))
        fail_msg("%s is required", program);
    return false;
}

static int run(const char *dir, struct pfx_buf *out, va_list ap)
{
    char *argv[64];
    size_t n = 0;
    do {
        assert_true(n < sizeof argv / sizeof argv[0]);
        argv[n] = va_arg(ap, char *);
    } while (argv[n++]);
    PFX_AUTOFREE char *log = tool_path(dir, "tool-output");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addchdir_np(&actions, dir);
    pid_t pid;
    int rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        fail_msg("%s can't be started: %s", argv[0], strerror(rc));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (out) {
        FILE *f = fopen(log, "rb");
        assert_non_null(f);
        read_all(f, out);
        fclose(f);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

int tool_run(const char *dir, struct pfx_buf *out, ...)
{
    va_list ap;
    va_start(ap, out);
    int rc = run(dir, out, ap);
    va_end(ap);
    return rc;
}

void tool_must(const char *dir, struct pfx_buf *out, ...)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf own = pfx_buf_make(4 * 1024 * 1024);
    struct pfx_buf *said = out ? out : &own;
    va_list ap;
    va_start(ap, out);
    int rc = run(dir, said, ap);
    va_end(ap);
    if (rc != 0)
        fail_msg("ended with %d:\n%s", rc, pfx_buf_str(said));
}
