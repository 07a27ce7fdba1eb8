/* Runs other people's programs over files in a folder of its own. */
#ifndef PFX_CRYPTO_TOOL_H
#define PFX_CRYPTO_TOOL_H

#include <stdbool.h>

#include "crypto/mem.h"

/* A fresh folder, and its removal with all that is in it: for cmocka's setup and teardown. *state
 * is the folder's name. */
int tool_setup(void **state);
int tool_teardown(void **state);
#define tool_test(name) cmocka_unit_test_setup_teardown(name, tool_setup, tool_teardown)
char *tool_path(const char *dir, const char *name); /* free() it */
void tool_write(const char *dir, const char *name, struct pfx_bytes data);
struct pfx_buf tool_read(const char *dir, const char *name);
/* Is it installed? Says so where it isn't, and fails where PFX_TEST_REQUIRE_ALL is set. */
bool tool_have(const char *program);
/* Runs argv in dir; out gets stdout and stderr (NULL: thrown away). Returns the exit code. The list
 * ends with NULL. */
int tool_run(const char *dir, struct pfx_buf *out, ...) __attribute__((sentinel));
/* The same, and fails the test, with what the program said, unless it ends with 0. */
void tool_must(const char *dir, struct pfx_buf *out, ...) __attribute__((sentinel));
const char *tool_oracle(void); /* path of crypto_oracle.py */
#define TOOL_PYTHON "/usr/bin/python3", tool_oracle()

#endif
