/* The states of a standing key's generations: every state and move with what a refusal says, and
 * every list that moves can lead to. */
#include "crypto_test.h"

#include <string.h>

#include "crypto/overlap.h"

#define NOW INT64_C(1795000000000) /* 2026-11-18 */
#define DAY (INT64_C(24) * 3600 * 1000)
#define GO NULL

static const struct pfx_overlap_needs nothing = {.name = "client-main"};
static const struct pfx_overlap_needs counted = {.name = "wrapping", .holds = true, .known = true};

/* What each state answers to each move; GO: it moves. */
static const struct {
    enum pfx_overlap_state state;
    enum pfx_overlap_move move;
    enum pfx_overlap_state becomes;
    const char *says;
} cells[] = {
    {PFX_OVERLAP_MAKING, PFX_OVERLAP_ROTATE, PFX_OVERLAP_STAGED, GO},
    {PFX_OVERLAP_MAKING, PFX_OVERLAP_ACTIVATE, 0,
     "client-main-2 isn't made yet: an operator gives pfx-agent standing rotate client-main again, "
     "which goes on where it ended."},
    {PFX_OVERLAP_MAKING, PFX_OVERLAP_DESTROY, 0,
     "client-main-2 isn't made yet: an operator gives pfx-agent standing rotate client-main again; "
     "once it is staged it can be destroyed."},
    {PFX_OVERLAP_STAGED, PFX_OVERLAP_ROTATE, 0,
     "client-main-2 is staged already: an operator activates it, or destroys it to have another "
     "one "
     "made."},
    {PFX_OVERLAP_STAGED, PFX_OVERLAP_ACTIVATE, PFX_OVERLAP_ACTIVE, GO},
    {PFX_OVERLAP_STAGED, PFX_OVERLAP_DESTROY, PFX_OVERLAP_DESTROYED, GO},
    {PFX_OVERLAP_ACTIVE, PFX_OVERLAP_ROTATE, 0,
     "client-main-2 is made already: pfx-agent standing rotate client-main makes the next one."},
    {PFX_OVERLAP_ACTIVE, PFX_OVERLAP_ACTIVATE, 0, "client-main-2 is active already."},
    {PFX_OVERLAP_ACTIVE, PFX_OVERLAP_DESTROY, 0,
     "client-main-2 is active: all that is new is made with it. An operator activates another one "
     "first."},
    {PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_ROTATE, 0,
     "client-main-2 is made already: pfx-agent standing rotate client-main makes the next one."},
    {PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_ACTIVATE, PFX_OVERLAP_ACTIVE, GO},
    {PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_DESTROY, PFX_OVERLAP_DESTROYED, GO},
    {PFX_OVERLAP_DESTROYED, PFX_OVERLAP_ROTATE, 0,
     "client-main-2 is destroyed: pfx-agent standing rotate client-main makes the next one."},
    {PFX_OVERLAP_DESTROYED, PFX_OVERLAP_ACTIVATE, 0,
     "client-main-2 is destroyed: an operator makes another one with pfx-agent standing rotate "
     "client-main."},
    {PFX_OVERLAP_DESTROYED, PFX_OVERLAP_DESTROY, 0, "client-main-2 is destroyed already."},
};

static void every_cell(void **state)
{
    (void)state;
    bool seen[PFX_OVERLAP_STATES][PFX_OVERLAP_MOVES] = {0};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        struct pfx_overlap list[] = {{1, PFX_OVERLAP_DESTROYED, 5}, {2, cells[i].state, 7}};
        struct pfx_reasons why;
        bool may = pfx_overlap_allows(list, 2, 2, cells[i].move, &nothing, &why);
        seen[cells[i].state][cells[i].move] = true;
        assert_int_equal(may, cells[i].says == GO);
        assert_int_equal(why.n, may ? 0 : 1);
        if (!may) {
            assert_string_equal(why.text[0], cells[i].says);
            continue;
        }
        pfx_overlap_apply(list, 2, 2, cells[i].move, NOW);
        assert_int_equal(list[1].state, cells[i].becomes);
        assert_int_equal(list[1].since_ms, NOW);
        assert_int_equal(list[0].state, PFX_OVERLAP_DESTROYED);
        assert_int_equal(list[0].since_ms, 5);
    }
    for (int s = 0; s < PFX_OVERLAP_STATES; s++)
        for (int m = 0; m < PFX_OVERLAP_MOVES; m++)
            assert_true(seen[s][m]);
}

static bool asks(enum pfx_overlap_state state, enum pfx_overlap_move move,
                 struct pfx_overlap_needs needs, struct pfx_reasons *why)
{
    struct pfx_overlap list[] = {{3, state, 7}};
    return pfx_overlap_allows(list, 1, 3, move, &needs, why);
}

static void conditions(void **state)
{
    (void)state;
    struct pfx_reasons why;
    struct pfx_overlap_needs needs = counted;
    assert_true(asks(PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_DESTROY, needs, &why));
    needs.rows = 12;
    assert_false(asks(PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_DESTROY, needs, &why));
    assert_string_equal(why.text[0],
                        "12 user keys still need wrapping-3: an operator has pfx-agent "
                        "standing rewrap make their wrapping anew.");
    needs.rows = 1;
    assert_false(asks(PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_DESTROY, needs, &why));
    assert_string_equal(why.text[0], "1 user key still needs wrapping-3: an operator has pfx-agent "
                                     "standing rewrap make its wrapping anew.");
    assert_true(asks(PFX_OVERLAP_STAGED, PFX_OVERLAP_DESTROY, needs, &why));
    assert_true(asks(PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_ACTIVATE, needs, &why)); /* the way back */
    needs.known = false;
    assert_false(asks(PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_DESTROY, needs, &why));
    assert_string_equal(why.text[0], "It isn't known how many user keys still need wrapping-3: "
                                     "pfx-agentd has to answer; start it, and give the command "
                                     "again.");
    assert_true(asks(PFX_OVERLAP_STAGED, PFX_OVERLAP_DESTROY, needs, &why));
    needs.holds = false; /* a client key: nothing in the store hangs on it */
    assert_true(asks(PFX_OVERLAP_PREVIOUS, PFX_OVERLAP_DESTROY, needs, &why));

    needs = nothing;
    needs.expired_ms = NOW;
    static const enum pfx_overlap_state might[] = {PFX_OVERLAP_STAGED, PFX_OVERLAP_PREVIOUS};
    for (size_t i = 0; i < 2; i++) {
        assert_false(asks(might[i], PFX_OVERLAP_ACTIVATE, needs, &why));
        assert_string_equal(why.text[0],
                            "The certificate of client-main-3 ended at 2026-11-18T11:06:40Z, and "
                            "Entra ID would refuse it: an operator destroys this generation and "
                            "makes another one with pfx-agent standing rotate client-main.");
        assert_true(asks(might[i], PFX_OVERLAP_DESTROY, needs, &why));
    }
}

static void beginning(void **state)
{
    (void)state;
    struct pfx_reasons why;
    struct pfx_overlap list[PFX_OVERLAP_MOST] = {{1, PFX_OVERLAP_ACTIVE, 0}};
    assert_true(pfx_overlap_allows(list, 1, 0, PFX_OVERLAP_ROTATE, &nothing, &why));
    assert_false(pfx_overlap_allows(list, 1, 9, PFX_OVERLAP_DESTROY, &nothing, &why));
    assert_string_equal(why.text[0],
                        "There is no client-main-9: pfx-agent standing list shows them.");
    list[1] = (struct pfx_overlap){2, PFX_OVERLAP_STAGED, NOW};
    assert_false(pfx_overlap_allows(list, 2, 0, PFX_OVERLAP_ROTATE, &nothing, &why));
    assert_string_equal(why.text[0],
                        "client-main-2 is staged already: an operator activates it, or "
                        "destroys it to have another one made.");
    for (unsigned i = 0; i < PFX_OVERLAP_MOST; i++)
        list[i] = (struct pfx_overlap){i + 1, PFX_OVERLAP_DESTROYED, NOW};
    assert_false(pfx_overlap_allows(list, PFX_OVERLAP_MOST, 0, PFX_OVERLAP_ROTATE, &nothing, &why));
    assert_string_equal(why.text[0],
                        "There are 32 generations of client-main, and no more are kept: "
                        "set up a new host.");
    list[31].state = PFX_OVERLAP_MAKING; /* which may be finished */
    assert_true(pfx_overlap_allows(list, PFX_OVERLAP_MOST, 0, PFX_OVERLAP_ROTATE, &nothing, &why));
}

/* --- every list of three generations, by a clock that goes on a day a move --- */

#define THREE 3
#define CODES (6 * 6 * 6)

static int lists;

static void sound(const struct pfx_overlap *list, size_t n)
{
    int active = 0, coming = 0;
    for (size_t i = 0; i < n; i++) {
        active += list[i].state == PFX_OVERLAP_ACTIVE;
        coming += list[i].state == PFX_OVERLAP_STAGED || list[i].state == PFX_OVERLAP_MAKING;
    }
    assert_int_equal(active, 1); /* at every moment */
    assert_true(coming <= 1);
}

static void walk(const struct pfx_overlap *from, size_t n, int64_t now, bool seen[CODES])
{
    struct pfx_reasons why;
    int code = 0;
    for (size_t i = 0; i < THREE; i++)
        code = code * 6 + (i < n ? (int)from[i].state + 1 : 0);
    if (seen[code])
        return;
    seen[code] = true;
    lists++;
    sound(from, n);
    if (n < THREE && pfx_overlap_in(from, n, PFX_OVERLAP_MAKING) == 0 &&
        pfx_overlap_allows(from, n, 0, PFX_OVERLAP_ROTATE, &nothing, &why)) {
        struct pfx_overlap more[THREE];
        memcpy(more, from, n * sizeof *more);
        more[n] = (struct pfx_overlap){(unsigned)n + 1, PFX_OVERLAP_MAKING, now};
        walk(more, n + 1, now + DAY, seen);
    }
    for (size_t i = 0; i < n; i++) {
        for (int move = 0; move < PFX_OVERLAP_MOVES; move++) {
            struct pfx_overlap next[THREE];
            memcpy(next, from, n * sizeof *next);
            if (!pfx_overlap_allows(next, n, next[i].number, (enum pfx_overlap_move)move, &nothing,
                                    &why))
                continue;
            pfx_overlap_apply(next, n, next[i].number, (enum pfx_overlap_move)move, now);
            assert_int_equal(next[i].since_ms, now);
            assert_true(from[i].state != PFX_OVERLAP_DESTROYED);
            for (size_t j = 0; j < n; j++)
                if (j != i && memcmp(&next[j], &from[j], sizeof *next) != 0) {
                    assert_int_equal(move, PFX_OVERLAP_ACTIVATE);
                    assert_int_equal(from[j].state, PFX_OVERLAP_ACTIVE);
                    assert_int_equal(next[j].state, PFX_OVERLAP_PREVIOUS);
                    assert_int_equal(next[j].since_ms, now);
                }
            walk(next, n, now + DAY, seen);
        }
    }
}

static void every_walk(void **state)
{
    (void)state;
    static bool seen[CODES];
    struct pfx_overlap first[THREE] = {{1, PFX_OVERLAP_ACTIVE, 0}};
    walk(first, 1, NOW, seen);
    /* One; two: active beside making, staged, previous, destroyed, and the way round of the last
     * three; three likewise. */
    assert_true(lists > 20);
}

static void names(void **state)
{
    (void)state;
    enum pfx_overlap_state back;
    for (int s = 0; s < PFX_OVERLAP_STATES; s++) {
        const char *name = pfx_overlap_state_name((enum pfx_overlap_state)s);
        assert_true(pfx_overlap_state_parse(name, strlen(name), &back));
        assert_int_equal(back, s);
        assert_false(pfx_overlap_state_parse(name, strlen(name) - 1, &back));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_cell), cmocka_unit_test(conditions),
                                       cmocka_unit_test(beginning), cmocka_unit_test(every_walk),
                                       cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
