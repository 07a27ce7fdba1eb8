/*
 * The life of a generation of a standing key (client keys, wrapping key, MAC key): two generations
 * overlap, so that what was made with the earlier one is still accepted or read while the newer one
 * makes all that is new. Pure rules, as lifecycle.h has them for the encryption key.
 *
 * A rule that is broken already never blocks the way out: any generation that is staged or previous
 * may become active, whatever became of the one that is.
 */
#ifndef PFX_CRYPTO_OVERLAP_H
#define PFX_CRYPTO_OVERLAP_H

#include "crypto/lifecycle.h"

enum pfx_overlap_state {
    PFX_OVERLAP_MAKING,    /* about to be made */
    PFX_OVERLAP_STAGED,    /* made, and nothing uses it */
    PFX_OVERLAP_ACTIVE,    /* makes what is new: exactly one does */
    PFX_OVERLAP_PREVIOUS,  /* was active: still reads what it made, and may become active again */
    PFX_OVERLAP_DESTROYED, /* not found in this token */
    PFX_OVERLAP_STATES
};
enum pfx_overlap_move {
    PFX_OVERLAP_ROTATE, /* the next generation is staged; of a generation: its making goes on */
    PFX_OVERLAP_ACTIVATE,
    PFX_OVERLAP_DESTROY,
    PFX_OVERLAP_MOVES
};
const char *pfx_overlap_state_name(enum pfx_overlap_state state);
/* False: no such state. */
bool pfx_overlap_state_parse(const char *name, size_t len, enum pfx_overlap_state *ret_state);

#define PFX_OVERLAP_MOST 32 /* generations of one key */
struct pfx_overlap {
    unsigned number; /* from 1 */
    enum pfx_overlap_state state;
    int64_t since_ms; /* when it came into this state; UTC; 0: from the beginning */
};
/* What the list doesn't know. */
struct pfx_overlap_needs {
    const char *name; /* of the key, without its generation: "client-main" */
    bool holds;       /* pfx-agentd's store holds what only this key reads: the next two count */
    bool known;
    int64_t rows;       /* that the generation has made and nothing has made anew */
    int64_t expired_ms; /* when its certificate ended; 0: it is valid, or there is none */
};
/* May this generation make this move? reasons: why not, all of them; n is 0 when it may. For ROTATE
 * without a generation under way number is 0. */
bool pfx_overlap_allows(const struct pfx_overlap *list, size_t n, unsigned number,
                        enum pfx_overlap_move move, const struct pfx_overlap_needs *needs,
                        struct pfx_reasons *ret_reasons);
/* Makes it, in the list, without asking whether it may: ACTIVATE makes the active one previous. */
void pfx_overlap_apply(struct pfx_overlap *list, size_t n, unsigned number,
                       enum pfx_overlap_move move, int64_t now_ms);
/* Of the generation that is in this state; 0: none. */
unsigned pfx_overlap_in(const struct pfx_overlap *list, size_t n, enum pfx_overlap_state state);

#endif
