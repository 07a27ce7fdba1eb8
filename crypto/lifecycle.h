/*
 * The life of a generation of the encryption key, after NIST SP 800-57: which moves a state allows,
 * what holds a move back, and what a move makes of the list. Pure rules: no clock, no file, no
 * token. A refused move has all its reasons, each with who must act and when it moves by itself.
 *
 * A rule that is broken already (a record names a key that is destroyed, no generation is active)
 * never blocks the way out: activating another generation asks nothing of the broken one.
 */
#ifndef PFX_CRYPTO_LIFECYCLE_H
#define PFX_CRYPTO_LIFECYCLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/result.h"

enum pfx_key_state {
    PFX_STATE_MAKING,      /* about to be made; there is no public half yet */
    PFX_STATE_STAGED,      /* pre-activation: made, and nothing uses it */
    PFX_STATE_ACTIVE,      /* passwords are sealed to it: at most one is */
    PFX_STATE_SUSPENDED,   /* was active; records may name it, and it may become active again */
    PFX_STATE_RETIRED,     /* nothing may name it, and it doesn't come back */
    PFX_STATE_COMPROMISED, /* nothing may be sealed to it ever again */
    PFX_STATE_DESTROYED,   /* not found in this token */
    PFX_STATE_COUNT
};
enum pfx_key_move {
    PFX_MOVE_ROTATE, /* the next generation is staged; of a generation: its making goes on */
    PFX_MOVE_ACTIVATE,
    PFX_MOVE_RETIRE,
    PFX_MOVE_DESTROY,
    PFX_MOVE_COMPROMISE,
    PFX_MOVE_COUNT
};
const char *pfx_key_state_name(enum pfx_key_state state);
const char *pfx_key_move_name(enum pfx_key_move move);
/* False: no such state. */
bool pfx_key_state_parse(const char *name, size_t len, enum pfx_key_state *ret_state);

#define PFX_GENERATIONS_MOST 64
struct pfx_generation {
    unsigned number; /* from 1 */
    enum pfx_key_state state;
    int64_t since_ms;       /* when it came into this state; UTC */
    int64_t activated_ms;   /* first use; 0: never */
    int64_t compromised_ms; /* 0: never; stays when the key is destroyed */
};

/* What the list doesn't know. */
struct pfx_key_needs {
    bool records_known;
    int64_t records;        /* in Intune that name it, and enrolments under way to it */
    int64_t last_expiry_ms; /* when the last of them goes by itself; 0: not known */
    const char *const *missing; /* connectors that haven't confirmed it, borrowed */
    size_t n_missing;
};

#define PFX_REASON_TEXT 320
struct pfx_reasons {
    size_t n;
    char text[12][PFX_REASON_TEXT];
};
/* One more sentence; past the last that fits it is left out. */
void pfx_reasons_add(struct pfx_reasons *reasons, const char *fmt, ...) PFX_PRINTF(2, 3);

/* May this generation make this move? reasons: why not, all of them; n is 0 when it may. For
 * ROTATE without a generation under way number is 0. */
bool pfx_lifecycle_allows(const struct pfx_generation *list, size_t n, unsigned number,
                          enum pfx_key_move move, const struct pfx_key_needs *needs,
                          struct pfx_reasons *ret_reasons);
/* Makes it, in the list, without asking whether it may: ROTATE of a generation in the making stages
 * it; ACTIVATE suspends the one that was active. */
void pfx_lifecycle_apply(struct pfx_generation *list, size_t n, unsigned number,
                         enum pfx_key_move move, int64_t now_ms);

/* What an operator would do next with a generation in this state; COUNT: nothing. */
enum pfx_key_move pfx_lifecycle_next(enum pfx_key_state state);

#endif
