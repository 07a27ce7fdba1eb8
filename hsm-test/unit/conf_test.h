/* What the tests of configuration files share: a file of the test's own, and tables of mistakes. */
#ifndef CONF_TEST_H
#define CONF_TEST_H

#include "api_test.h"

static const char *folder;
static char *path; /* of the configuration file */
static struct pfx_error err;

/* A file with one mistake, and what is said of it. */
struct mistake {
    const char *yaml;
    unsigned line;
    const char *option, *text;
};

/* Shows all that are told wrongly, not only the first. `load` writes the text to path and reads it
 * into err. */
static inline void assert_told(const struct mistake *bad, size_t n,
                               pfx_result (*load)(const char *yaml))
{
    size_t right = 0;
    for (size_t i = 0; i < n; i++) {
        pfx_result r = load(bad[i].yaml);
        char *where PFX_AUTOFREE = pfx_asprintf("%s:%u", path, bad[i].line);
        if (r.cls != PFX_CLASS_USAGE || strcmp(err.object, where) != 0 ||
            strcmp(err.code, bad[i].option) != 0 || !strstr(err.text, bad[i].text) ||
            strcmp(err.op, "config") != 0)
            print_error("%s\n gave %s: %s: %s\n not %s: %s: %s\n", bad[i].yaml, err.object,
                        err.code, err.text, where, bad[i].option, bad[i].text);
        else
            right++;
        assert_null(strstr(err.text, "secret"));
    }
    assert_int_equal(right, n);
}

static inline int set_up(void **state)
{
    (void)state;
    folder = test_folder();
    path = pfx_asprintf("%s/conf.yaml", folder);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    free(path);
    test_remove_folder(folder);
    return 0;
}

#endif
