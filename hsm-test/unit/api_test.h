/* What the tests of api/wire and api/conf share. */
#ifndef API_TEST_H
#define API_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/mem.h"
#include "crypto/result.h"

/* Says what went wrong instead of a bare "not equal". */
#define assert_class(result, expected, err)                                                        \
    do {                                                                                           \
        pfx_result got_ = (result);                                                                \
        if (got_.cls != (expected)) {                                                              \
            char line_[1024];                                                                      \
            fail_msg("%s is %s: %s", #result, pfx_class_name(got_.cls),                            \
                     pfx_error_line((err), line_, sizeof(line_)));                                 \
        }                                                                                          \
    } while (0)
#define assert_ok(result, err) assert_class(result, PFX_CLASS_OK, err)
#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        if (!strstr((text), (part)))                                                               \
            fail_msg("\"%s\" isn't in: %s", (part), (text));                                       \
    } while (0)

/* A folder of this test's own; its path stays valid. */
static inline const char *test_folder(void)
{
    static char path[64];
    snprintf(path, sizeof(path), "/tmp/pfx-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void test_write(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static inline void test_remove_folder(const char *path)
{
    char *command[] = {(char *)"rm", (char *)"-rf", (char *)path, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    (void)pid;
}

#endif
