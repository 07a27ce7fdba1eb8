/* What the tests of the operation log's writer share: a token in memory, drafts, and the checker
 * that isn't ours to write with (hsm-test/tools/log_check.py). */
#ifndef PFX_HSM_OPLOG_RIG_H
#define PFX_HSM_OPLOG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pkcs11/hsm/oplog.h"

#define ERROR(name) struct pfx_error name = PFX_ERROR_NONE
#define assert_ok(expr, error)                                                                     \
    do {                                                                                           \
        pfx_result r_ = (expr);                                                                    \
        if (pfx_failed(r_)) {                                                                      \
            char line_[1024];                                                                      \
            fail_msg("%s: %s", pfx_class_name(r_.cls),                                             \
                     pfx_error_line((error), line_, sizeof line_));                                \
        }                                                                                          \
    } while (0)
#define assert_class(expr, class) assert_int_equal((expr).cls, (class))

/* In memory that forked processes share: it outlives the process that is killed. */
struct rig_token {
    char labels[2][65];
    int sign_fails;   /* so many calls of sign fail; -1: all */
    int anchor_fails; /* likewise */
    int lies;         /* signs another text */
    unsigned dead;    /* a bit for each set of keys that can't sign */
    unsigned signs, anchors;
    unsigned delay_us; /* of a signature */
};
extern struct rig_token *rig_token;

/* Keys: 0 and 1 are generations of the first log, 2 of its successor, 3 nobody's. */
#define RIG_ORIGIN "host-1.example/pfx-agent"
#define RIG_SUCCESSOR "host-1.example/pfx-agent/2"
#define RIG_OTHER "host-2.example/pfx-agent"
struct pfx_signer rig_signer(unsigned which);
const char *rig_origin(unsigned which);

int rig_setup(void **state); /* of a group: keys, a folder, the checker */
int rig_teardown(void **state);
/* A path for a new log, and an empty token. Owned by the rig until the next call. */
const char *rig_fresh(void);
void rig_remove(const char *path); /* a folder and all in it */
void rig_copy(const char *from, const char *to);
struct pfx_oplog_config rig_config(const char *dir);
struct pfx_oplog *rig_open(const struct pfx_oplog_config *config);
struct pfx_oplog *rig_begun(const struct pfx_oplog_config *config); /* with keys 0 */

void rig_first(struct pfx_draft *draft, const char *event, unsigned which);
void rig_rotation(struct pfx_draft *draft, unsigned which);
void rig_note(struct pfx_draft *draft, const char *text);
void rig_intent(struct pfx_draft *draft);
void rig_result(struct pfx_draft *draft, uint64_t ref);
/* One operation: intent synced, result covered. */
pfx_result rig_operation(struct pfx_oplog *log, uint64_t *ret_result, struct pfx_error *err);
/* Which of the keys the log names; fails the test (or the process) if none. */
unsigned rig_keys_of(struct pfx_oplog *log);
void rig_notes(struct pfx_oplog *log, size_t n); /* appended in pieces of 100, the last synced */

/* Asks the checker. released: JSON of its own form, or NULL. */
struct rig_verdict {
    char findings[4096]; /* "" if there are none */
    uint64_t size, covered, first, tail;
    size_t n_open;
};
struct rig_verdict rig_ask(const char *dir, const char *released, bool torn);
/* Fails the test where there is a finding. */
struct rig_verdict rig_check(const char *dir);

#endif
