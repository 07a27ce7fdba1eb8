/* States of a standing key's generations, as one table and its conditions. */
#include "crypto/overlap.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

static const char *const state_names[] = {[PFX_OVERLAP_MAKING] = "making",
                                          [PFX_OVERLAP_STAGED] = "staged",
                                          [PFX_OVERLAP_ACTIVE] = "active",
                                          [PFX_OVERLAP_PREVIOUS] = "previous",
                                          [PFX_OVERLAP_DESTROYED] = "destroyed"};

/* NULL: the state allows the move, as far as the conditions below do. Otherwise what stands behind
 * the generation's name: why it doesn't, and what to do instead. @ is the key's name. */
static const char *const cells[PFX_OVERLAP_STATES][PFX_OVERLAP_MOVES] = {
    [PFX_OVERLAP_MAKING] = {[PFX_OVERLAP_ACTIVATE] =
                                "isn't made yet: an operator gives pfx-agent standing rotate @ "
                                "again, which goes on where it ended.",
                            [PFX_OVERLAP_DESTROY] =
                                "isn't made yet: an operator gives pfx-agent standing rotate @ "
                                "again; once it is staged it can be destroyed."},
    [PFX_OVERLAP_STAGED] = {[PFX_OVERLAP_ROTATE] = "is staged already: an operator activates it, "
                                                   "or destroys it to have another one made."},
    [PFX_OVERLAP_ACTIVE] = {[PFX_OVERLAP_ROTATE] =
                                "is made already: pfx-agent standing rotate @ makes the next one.",
                            [PFX_OVERLAP_ACTIVATE] = "is active already.",
                            [PFX_OVERLAP_DESTROY] =
                                "is active: all that is new is made with it. An operator activates "
                                "another one first."},
    [PFX_OVERLAP_PREVIOUS] = {[PFX_OVERLAP_ROTATE] = "is made already: pfx-agent standing rotate @ "
                                                     "makes the next one."},
    [PFX_OVERLAP_DESTROYED] = {[PFX_OVERLAP_ROTATE] =
                                   "is destroyed: pfx-agent standing rotate @ makes the next one.",
                               [PFX_OVERLAP_ACTIVATE] =
                                   "is destroyed: an operator makes another one with pfx-agent "
                                   "standing rotate @.",
                               [PFX_OVERLAP_DESTROY] = "is destroyed already."},
};

const char *pfx_overlap_state_name(enum pfx_overlap_state state)
{
    return state_names[state];
}

bool pfx_overlap_state_parse(const char *name, size_t len, enum pfx_overlap_state *ret_state)
{
    for (size_t s = 0; s < PFX_OVERLAP_STATES; s++) {
        if (strlen(state_names[s]) != len || memcmp(state_names[s], name, len) != 0)
            continue;
        *ret_state = (enum pfx_overlap_state)s;
        return true;
    }
    return false;
}

unsigned pfx_overlap_in(const struct pfx_overlap *list, size_t n, enum pfx_overlap_state state)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].state == state)
            return list[i].number;
    return 0;
}

static void cell(struct pfx_reasons *reasons, const char *text, const char *name, unsigned number)
{
    const char *at = strchr(text, '@');
    if (at)
        pfx_reasons_add(reasons, "%s-%u %.*s%s%s", name, number, (int)(at - text), text, name,
                        at + 1);
    else
        pfx_reasons_add(reasons, "%s-%u %s", name, number, text);
}

/* A new generation: one at a time is on its way, so that nobody activates the wrong one. */
static void may_begin(const struct pfx_overlap *list, size_t n, const char *name,
                      struct pfx_reasons *reasons)
{
    unsigned staged = pfx_overlap_in(list, n, PFX_OVERLAP_STAGED);
    if (staged > 0)
        cell(reasons, cells[PFX_OVERLAP_STAGED][PFX_OVERLAP_ROTATE], name, staged);
    if (n >= PFX_OVERLAP_MOST && pfx_overlap_in(list, n, PFX_OVERLAP_MAKING) == 0)
        pfx_reasons_add(reasons,
                        "There are %d generations of %s, and no more are kept: set up a new host.",
                        PFX_OVERLAP_MOST, name);
}

static void wait_for_rows(const struct pfx_overlap_needs *needs, unsigned number,
                          struct pfx_reasons *reasons)
{
    if (!needs->holds)
        return;
    if (!needs->known)
        pfx_reasons_add(reasons,
                        "It isn't known how many user keys still need %s-%u: pfx-agentd has to "
                        "answer; start it, and give the command again.",
                        needs->name, number);
    else if (needs->rows > 0)
        pfx_reasons_add(reasons,
                        "%" PRId64 " user %s %s-%u: an operator has pfx-agent standing rewrap make "
                        "%s anew.",
                        needs->rows, needs->rows == 1 ? "key still needs" : "keys still need",
                        needs->name, number, needs->rows == 1 ? "its wrapping" : "their wrapping");
}

static void wait_for_certificate(const struct pfx_overlap_needs *needs, unsigned number,
                                 struct pfx_reasons *reasons)
{
    char when[PFX_TIME_SIZE];
    if (needs->expired_ms > 0)
        pfx_reasons_add(reasons,
                        "The certificate of %s-%u ended at %s, and Entra ID would refuse it: an "
                        "operator destroys this generation and makes another one with pfx-agent "
                        "standing rotate %s.",
                        needs->name, number, pfx_time_format(needs->expired_ms, false, when),
                        needs->name);
}

bool pfx_overlap_allows(const struct pfx_overlap *list, size_t n, unsigned number,
                        enum pfx_overlap_move move, const struct pfx_overlap_needs *needs,
                        struct pfx_reasons *ret_reasons)
{
    const struct pfx_overlap *at = NULL;
    *ret_reasons = (struct pfx_reasons){.n = 0};
    if (move == PFX_OVERLAP_ROTATE && number == 0) {
        may_begin(list, n, needs->name, ret_reasons);
        return ret_reasons->n == 0;
    }
    for (size_t i = 0; i < n; i++)
        if (list[i].number == number)
            at = &list[i];
    if (!at)
        pfx_reasons_add(ret_reasons, "There is no %s-%u: pfx-agent standing list shows them.",
                        needs->name, number);
    else if (cells[at->state][move])
        cell(ret_reasons, cells[at->state][move], needs->name, number);
    else if (move == PFX_OVERLAP_ACTIVATE)
        wait_for_certificate(needs, number, ret_reasons);
    else if (move == PFX_OVERLAP_DESTROY && at->state == PFX_OVERLAP_PREVIOUS)
        wait_for_rows(needs, number, ret_reasons); /* nothing was ever made with a staged one */
    return ret_reasons->n == 0;
}

void pfx_overlap_apply(struct pfx_overlap *list, size_t n, unsigned number,
                       enum pfx_overlap_move move, int64_t now_ms)
{
    static const enum pfx_overlap_state becomes[] = {[PFX_OVERLAP_ROTATE] = PFX_OVERLAP_STAGED,
                                                     [PFX_OVERLAP_ACTIVATE] = PFX_OVERLAP_ACTIVE,
                                                     [PFX_OVERLAP_DESTROY] = PFX_OVERLAP_DESTROYED};
    for (size_t i = 0; i < n; i++) {
        if (list[i].number == number)
            list[i].state = becomes[move];
        else if (move == PFX_OVERLAP_ACTIVATE && list[i].state == PFX_OVERLAP_ACTIVE)
            list[i].state = PFX_OVERLAP_PREVIOUS;
        else
            continue;
        list[i].since_ms = now_ms;
    }
}
