/*
 * What is to go wrong, and what went on: memory that the process behind the socket shares with the
 * process of each application, so that rules and counts outlive both.
 */
#ifndef TT_FAULTS_H
#define TT_FAULTS_H

#include <pthread.h>
#include <stdio.h>

#include "hsm-test/cryptoki/names.h"
#include "hsm-test/cryptoki/wire.h"

/* name in a rule, what happens; README.md says it in full. */
/* clang-format off */
#define TT_ACTIONS(X)                                                                              \
    X(RV, "rv") X(RV_AFTER, "rv-after") X(HANG, "hang") X(HANG_AFTER, "hang-after")                \
    X(DELAY, "delay") X(SHORT, "short") X(ZERO, "zero") X(OVERSIZE, "oversize") X(HUGE, "huge")    \
    X(GARBLE, "garble") X(FORGET, "forget-handle") X(SWAP, "swap-handle")                          \
    X(DROP, "drop-session") X(DROP_ALL, "drop-all") X(LOGOUT, "logout") X(DIE, "die")              \
    X(DIE_AFTER, "die-after") X(VANISH, "vanish") X(VANISH_AFTER, "vanish-after")
/* clang-format on */

enum tt_action {
    TT_ACT_NONE,
#define TT_ENUM(name, text) TT_ACT_##name,
    TT_ACTIONS(TT_ENUM)
#undef TT_ENUM
};

#define TT_ANY TT_COUNT /* a rule for every function */
#define TT_MAX_RULES 64
#define TT_MAX_APPS 64
#define TT_MAX_CALLS 65536
#define TT_MAX_NEEDLES (64u << 20)
#define TT_MAX_AHEAD 4096

struct tt_rule {
    unsigned id; /* 0: none */
    unsigned function;
    unsigned long first, last; /* calls of that function since the rule was set, from 1 */
    enum tt_action action;
    unsigned long value;
    unsigned long seen, fired;
};
struct tt_call_record {
    unsigned function;
    unsigned app; /* the application's process id */
    CK_ULONG mechanism; /* CK_UNAVAILABLE_INFORMATION without one */
    CK_RV rv;           /* CK_UNAVAILABLE_INFORMATION while it runs */
};
struct tt_shared {
    pthread_mutex_t lock; /* robust: its holder may be killed */
    bool gone;            /* vanished, until "back" */
    bool needles;         /* collected */
    unsigned last_id, clears;
    struct tt_rule rules[TT_MAX_RULES];
    pid_t apps[TT_MAX_APPS];
    unsigned long counts[TT_COUNT];
    unsigned long n_calls;
    struct tt_call_record calls[TT_MAX_CALLS];
    bool ahead_taken[TT_MAX_AHEAD]; /* keys of --keys-ahead that were handed out */
    size_t needle_len;
    char needle[TT_MAX_NEEDLES]; /* text, see needles.h */
};
extern struct tt_shared *tt_shared;

void tt_shared_new(void);
void tt_lock(void);
void tt_unlock(void);

/* A call begins: counted, and the rule that fires for it, else TT_ACT_NONE. ret_record: for
 * tt_call_end. */
enum tt_action tt_call_begin(enum tt_function function, unsigned long *ret_value,
                             unsigned long *ret_record);
void tt_call_mechanism(unsigned long record, CK_ULONG mechanism);
void tt_call_end(unsigned long record, CK_RV rv);
/* Returns when rules were cleared. */
void tt_hang(void);

/* One line of the control socket; its answer is written, the last line "ok" or "error WHY".
 * kill_apps ends the applications' processes. */
void tt_control(char *line, FILE *out, void (*kill_apps)(void));

#endif
