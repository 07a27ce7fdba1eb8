/* States of the encryption key's generations, as one table and its conditions. */
#include "crypto/lifecycle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/result.h"


static const char *const state_names[] = {
    [PFX_STATE_MAKING] = "making",       [PFX_STATE_STAGED] = "staged",
    [PFX_STATE_ACTIVE] = "active",       [PFX_STATE_SUSPENDED] = "suspended",
    [PFX_STATE_RETIRED] = "retired",     [PFX_STATE_COMPROMISED] = "compromised",
    [PFX_STATE_DESTROYED] = "destroyed"};
static const char *const move_names[] = {
    [PFX_MOVE_ROTATE] = "rotate",   [PFX_MOVE_ACTIVATE] = "activate",
    [PFX_MOVE_RETIRE] = "retire",   [PFX_MOVE_DESTROY] = "destroy",
    [PFX_MOVE_COMPROMISE] = "compromise"};

/* NULL: the state allows the move, as far as the conditions below do. Otherwise why it doesn't, and
 * what to do instead; %1 is the generation. */
static const char *const cells[PFX_STATE_COUNT][PFX_MOVE_COUNT] = {
    [PFX_STATE_MAKING] =
        {[PFX_MOVE_ACTIVATE] = "Generation %u isn't made yet: an operator gives pfx-agent key "
                               "rotate again, which goes on where it ended.",
         [PFX_MOVE_RETIRE] = "Generation %u isn't made yet, and nothing can name it: an operator "
                             "gives pfx-agent key rotate again.",
         [PFX_MOVE_DESTROY] = "Generation %u isn't made yet: an operator gives pfx-agent key "
                              "rotate again; once it is staged it can be destroyed.",
         [PFX_MOVE_COMPROMISE] = "Generation %u isn't made yet: an operator gives pfx-agent key "
                                 "rotate again; once it is staged it can be called compromised."},
    [PFX_STATE_STAGED] =
        {[PFX_MOVE_ROTATE] = "Generation %u is staged already: an operator activates it, or "
                             "destroys it to have another one made.",
         [PFX_MOVE_RETIRE] = "Generation %u was never active, so there is nothing to retire: an "
                             "operator activates or destroys it."},
    [PFX_STATE_ACTIVE] =
        {[PFX_MOVE_ROTATE] = "Generation %u is made already: pfx-agent key rotate makes the next "
                             "one.",
         [PFX_MOVE_ACTIVATE] = "Generation %u is active already.",
         [PFX_MOVE_RETIRE] = "Generation %u is active: passwords are sealed to it. An operator "
                             "activates another one, rebuilds the records, and then retires it.",
         [PFX_MOVE_DESTROY] = "Generation %u is active: passwords are sealed to it. An operator "
                              "activates another one, rebuilds the records and retires it first."},
    [PFX_STATE_SUSPENDED] =
        {[PFX_MOVE_ROTATE] = "Generation %u is made already: pfx-agent key rotate makes the next "
                             "one.",
         [PFX_MOVE_DESTROY] = "Generation %u is suspended, and may become active again: an "
                              "operator retires it first."},
    [PFX_STATE_RETIRED] =
        {[PFX_MOVE_ROTATE] = "Generation %u is made already: pfx-agent key rotate makes the next "
                             "one.",
         [PFX_MOVE_ACTIVATE] = "Generation %u is retired and doesn't come back: an operator makes "
                               "another one with pfx-agent key rotate.",
         [PFX_MOVE_RETIRE] = "Generation %u is retired already."},
    [PFX_STATE_COMPROMISED] =
        {[PFX_MOVE_ROTATE] = "Generation %u is made already: pfx-agent key rotate makes the next "
                             "one.",
         [PFX_MOVE_ACTIVATE] = "Generation %u is compromised, and nothing is sealed to it any "
                               "more: an operator activates another one.",
         [PFX_MOVE_RETIRE] = "Generation %u is compromised, which says more than retired: an "
                             "operator destroys it once nothing needs it.",
         [PFX_MOVE_COMPROMISE] = "Generation %u is called compromised already."},
    [PFX_STATE_DESTROYED] =
        {[PFX_MOVE_ROTATE] = "Generation %u is destroyed: pfx-agent key rotate makes the next "
                             "one.",
         [PFX_MOVE_ACTIVATE] = "Generation %u is destroyed: an operator makes another one with "
                               "pfx-agent key rotate.",
         [PFX_MOVE_RETIRE] = "Generation %u is destroyed already.",
         [PFX_MOVE_DESTROY] = "Generation %u is destroyed already.",
         [PFX_MOVE_COMPROMISE] = "Generation %u is destroyed in this token: who has a copy of it "
                                 "opens what was sealed to it before; tell your auditor."},
};

const char *pfx_key_state_name(enum pfx_key_state state)
{
    return state_names[state];
}

const char *pfx_key_move_name(enum pfx_key_move move)
{
    return move_names[move];
}

bool pfx_key_state_parse(const char *name, size_t len, enum pfx_key_state *ret_state)
{
    for (int s = 0; s < PFX_STATE_COUNT; s++) {
        if (strlen(state_names[s]) == len && memcmp(state_names[s], name, len) == 0) {
            *ret_state = (enum pfx_key_state)s;
            return true;
        }
    }
    return false;
}

static const struct pfx_generation *find(const struct pfx_generation *list, size_t n,
                                         unsigned number)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].number == number)
            return &list[i];
    return NULL;
}

static const struct pfx_generation *in_state(const struct pfx_generation *list, size_t n,
                                             enum pfx_key_state state)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].state == state)
            return &list[i];
    return NULL;
}

void pfx_reasons_add(struct pfx_reasons *reasons, const char *fmt, ...)
{
    va_list args;
    if (reasons->n == sizeof reasons->text / sizeof reasons->text[0])
        return;
    va_start(args, fmt);
    vsnprintf(reasons->text[reasons->n], PFX_REASON_TEXT, fmt, args);
    va_end(args);
    pfx_utf8_mend(reasons->text[reasons->n++]);
}

/* The table's formats take the number alone. */
static void cell(struct pfx_reasons *reasons, const char *format, unsigned number)
{
    const char *at = strstr(format, "%u");
    pfx_reasons_add(reasons, "%.*s%u%s", (int)(at - format), format, number, at + 2);
}

/* A new generation: one at a time is on its way, so that nobody activates the wrong one. */
static void may_begin(const struct pfx_generation *list, size_t n, struct pfx_reasons *reasons)
{
    const struct pfx_generation *staged = in_state(list, n, PFX_STATE_STAGED);
    if (staged)
        cell(reasons, cells[PFX_STATE_STAGED][PFX_MOVE_ROTATE], staged->number);
    if (n >= PFX_GENERATIONS_MOST && !in_state(list, n, PFX_STATE_MAKING))
        pfx_reasons_add(reasons,
                        "There are %d generations, and no more are kept: set up a new host.",
                        PFX_GENERATIONS_MOST);
}

static void wait_for_connectors(const struct pfx_key_needs *needs, unsigned number,
                                struct pfx_reasons *reasons)
{
    for (size_t i = 0; i < needs->n_missing; i++)
        pfx_reasons_add(
            reasons,
            "The connector %s hasn't confirmed generation %u: its administrator runs the guide "
            "of pfx-agent connector probe %s, and an operator gives the answer to pfx-agent "
            "connector confirm.",
            needs->missing[i], number, needs->missing[i]);
}

/* unknown_holds: what isn't known may be there. */
static void wait_for_records(const struct pfx_key_needs *needs, unsigned number, bool unknown_holds,
                             struct pfx_reasons *reasons)
{
    char when[PFX_TIME_SIZE], by_itself[120] = "";
    if (!needs->records_known && unknown_holds)
        pfx_reasons_add(
            reasons,
            "It isn't known how many records name generation %u: pfx-agentd has to read "
            "Intune's list to its end, which it does in the next pass, or when an operator gives "
            "pfx-agent run --once --dry-run.",
            number);
    if (!needs->records_known || needs->records <= 0)
        return;
    if (needs->last_expiry_ms > 0)
        snprintf(by_itself, sizeof by_itself,
                 "; without that the last one expires by itself at %s",
                 pfx_time_format(needs->last_expiry_ms, false, when));
    pfx_reasons_add(reasons,
                    "%" PRId64
                    " %s generation %u: an operator has pfx-agent key rebuild replace %s%s.",
                    needs->records, needs->records == 1 ? "record names" : "records name", number,
                    needs->records == 1 ? "it" : "them", by_itself);
}

bool pfx_lifecycle_allows(const struct pfx_generation *list, size_t n, unsigned number,
                          enum pfx_key_move move, const struct pfx_key_needs *needs,
                          struct pfx_reasons *ret_reasons)
{
    const struct pfx_generation *at = find(list, n, number);
    *ret_reasons = (struct pfx_reasons){.n = 0};
    if (move == PFX_MOVE_ROTATE && number == 0) {
        may_begin(list, n, ret_reasons);
        return ret_reasons->n == 0;
    }
    if (!at) {
        pfx_reasons_add(ret_reasons, "There is no generation %u: pfx-agent key status lists them.",
                        number);
        return false;
    }
    if (cells[at->state][move])
        cell(ret_reasons, cells[at->state][move], number);
    else if (move == PFX_MOVE_ACTIVATE && at->state == PFX_STATE_STAGED)
        wait_for_connectors(needs, number, ret_reasons); /* the way back needs none of them */
    else if (move == PFX_MOVE_RETIRE || move == PFX_MOVE_DESTROY)
        wait_for_records(needs, number, at->state != PFX_STATE_STAGED, ret_reasons);
    return ret_reasons->n == 0;
}

static void enter(struct pfx_generation *at, enum pfx_key_state state, int64_t now_ms)
{
    at->state = state;
    at->since_ms = now_ms;
}

void pfx_lifecycle_apply(struct pfx_generation *list, size_t n, unsigned number,
                         enum pfx_key_move move, int64_t now_ms)
{
    for (size_t i = 0; i < n; i++) {
        struct pfx_generation *at = &list[i];
        if (at->number != number) {
            if (move == PFX_MOVE_ACTIVATE && at->state == PFX_STATE_ACTIVE)
                enter(at, PFX_STATE_SUSPENDED, now_ms);
            continue;
        }
        switch (move) {
        case PFX_MOVE_ROTATE:
            enter(at, PFX_STATE_STAGED, now_ms);
            break;
        case PFX_MOVE_ACTIVATE:
            enter(at, PFX_STATE_ACTIVE, now_ms);
            if (at->activated_ms == 0)
                at->activated_ms = now_ms;
            break;
        case PFX_MOVE_RETIRE:
            enter(at, PFX_STATE_RETIRED, now_ms);
            break;
        case PFX_MOVE_DESTROY:
            enter(at, PFX_STATE_DESTROYED, now_ms);
            break;
        case PFX_MOVE_COMPROMISE:
            enter(at, PFX_STATE_COMPROMISED, now_ms);
            at->compromised_ms = now_ms;
            break;
        case PFX_MOVE_COUNT:
            break;
        }
    }
}

enum pfx_key_move pfx_lifecycle_next(enum pfx_key_state state)
{
    static const enum pfx_key_move next[] = {
        [PFX_STATE_MAKING] = PFX_MOVE_ROTATE,       [PFX_STATE_STAGED] = PFX_MOVE_ACTIVATE,
        [PFX_STATE_ACTIVE] = PFX_MOVE_COUNT,        [PFX_STATE_SUSPENDED] = PFX_MOVE_RETIRE,
        [PFX_STATE_RETIRED] = PFX_MOVE_DESTROY,     [PFX_STATE_COMPROMISED] = PFX_MOVE_DESTROY,
        [PFX_STATE_DESTROYED] = PFX_MOVE_COUNT};
    return next[state];
}
