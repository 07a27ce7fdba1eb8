/* The states of the encryption key's generations: every state and move with what a refusal says, and
 * every list that moves can lead to. */
#include "crypto_test.h"

#include <string.h>

#include "crypto/encode.h"
#include "crypto/lifecycle.h"

#define NOW INT64_C(1795000000000) /* 2026-11-18 */
#define DAY (INT64_C(24) * 3600 * 1000)
#define GO NULL

static const struct pfx_key_needs nothing = {.records_known = true};

/* What each state answers to each move; GO: it moves. */
static const struct {
    enum pfx_key_state state;
    enum pfx_key_move move;
    enum pfx_key_state becomes;
    const char *says;
} cells[] = {
    {PFX_STATE_MAKING, PFX_MOVE_ROTATE, PFX_STATE_STAGED, GO},
    {PFX_STATE_MAKING, PFX_MOVE_ACTIVATE, 0,
     "Generation 2 isn't made yet: an operator gives pfx-agent key rotate again, which goes on where "
     "it ended."},
    {PFX_STATE_MAKING, PFX_MOVE_RETIRE, 0,
     "Generation 2 isn't made yet, and nothing can name it: an operator gives pfx-agent key rotate "
     "again."},
    {PFX_STATE_MAKING, PFX_MOVE_DESTROY, 0,
     "Generation 2 isn't made yet: an operator gives pfx-agent key rotate again; once it is staged "
     "it can be destroyed."},
    {PFX_STATE_MAKING, PFX_MOVE_COMPROMISE, 0,
     "Generation 2 isn't made yet: an operator gives pfx-agent key rotate again; once it is staged "
     "it can be called compromised."},
    {PFX_STATE_STAGED, PFX_MOVE_ROTATE, 0,
     "Generation 2 is staged already: an operator activates it, or destroys it to have another one "
     "made."},
    {PFX_STATE_STAGED, PFX_MOVE_ACTIVATE, PFX_STATE_ACTIVE, GO},
    {PFX_STATE_STAGED, PFX_MOVE_RETIRE, 0,
     "Generation 2 was never active, so there is nothing to retire: an operator activates or destroys "
     "it."},
    {PFX_STATE_STAGED, PFX_MOVE_DESTROY, PFX_STATE_DESTROYED, GO},
    {PFX_STATE_STAGED, PFX_MOVE_COMPROMISE, PFX_STATE_COMPROMISED, GO},
    {PFX_STATE_ACTIVE, PFX_MOVE_ROTATE, 0,
     "Generation 2 is made already: pfx-agent key rotate makes the next one."},
    {PFX_STATE_ACTIVE, PFX_MOVE_ACTIVATE, 0, "Generation 2 is active already."},
    {PFX_STATE_ACTIVE, PFX_MOVE_RETIRE, 0,
     "Generation 2 is active: passwords are sealed to it. An operator activates another one, rebuilds "
     "the records, and then retires it."},
    {PFX_STATE_ACTIVE, PFX_MOVE_DESTROY, 0,
     "Generation 2 is active: passwords are sealed to it. An operator activates another one, rebuilds "
     "the records and retires it first."},
    {PFX_STATE_ACTIVE, PFX_MOVE_COMPROMISE, PFX_STATE_COMPROMISED, GO},
    {PFX_STATE_SUSPENDED, PFX_MOVE_ROTATE, 0,
     "Generation 2 is made already: pfx-agent key rotate makes the next one."},
    {PFX_STATE_SUSPENDED, PFX_MOVE_ACTIVATE, PFX_STATE_ACTIVE, GO},
    {PFX_STATE_SUSPENDED, PFX_MOVE_RETIRE, PFX_STATE_RETIRED, GO},
    {PFX_STATE_SUSPENDED, PFX_MOVE_DESTROY, 0,
     "Generation 2 is suspended, and may become active again: an operator retires it first."},
    {PFX_STATE_SUSPENDED, PFX_MOVE_COMPROMISE, PFX_STATE_COMPROMISED, GO},
    {PFX_STATE_RETIRED, PFX_MOVE_ROTATE, 0,
     "Generation 2 is made already: pfx-agent key rotate makes the next one."},
    {PFX_STATE_RETIRED, PFX_MOVE_ACTIVATE, 0,
     "Generation 2 is retired and doesn't come back: an operator makes another one with pfx-agent key "
     "rotate."},
    {PFX_STATE_RETIRED, PFX_MOVE_RETIRE, 0, "Generation 2 is retired already."},
    {PFX_STATE_RETIRED, PFX_MOVE_DESTROY, PFX_STATE_DESTROYED, GO},
    {PFX_STATE_RETIRED, PFX_MOVE_COMPROMISE, PFX_STATE_COMPROMISED, GO},
    {PFX_STATE_COMPROMISED, PFX_MOVE_ROTATE, 0,
     "Generation 2 is made already: pfx-agent key rotate makes the next one."},
    {PFX_STATE_COMPROMISED, PFX_MOVE_ACTIVATE, 0,
     "Generation 2 is compromised, and nothing is sealed to it any more: an operator activates "
     "another one."},
    {PFX_STATE_COMPROMISED, PFX_MOVE_RETIRE, 0,
     "Generation 2 is compromised, which says more than retired: an operator destroys it once nothing "
     "needs it."},
    {PFX_STATE_COMPROMISED, PFX_MOVE_DESTROY, PFX_STATE_DESTROYED, GO},
    {PFX_STATE_COMPROMISED, PFX_MOVE_COMPROMISE, 0, "Generation 2 is called compromised already."},
    {PFX_STATE_DESTROYED, PFX_MOVE_ROTATE, 0,
     "Generation 2 is destroyed: pfx-agent key rotate makes the next one."},
    {PFX_STATE_DESTROYED, PFX_MOVE_ACTIVATE, 0,
     "Generation 2 is destroyed: an operator makes another one with pfx-agent key rotate."},
    {PFX_STATE_DESTROYED, PFX_MOVE_RETIRE, 0, "Generation 2 is destroyed already."},
    {PFX_STATE_DESTROYED, PFX_MOVE_DESTROY, 0, "Generation 2 is destroyed already."},
    {PFX_STATE_DESTROYED, PFX_MOVE_COMPROMISE, 0,
     "Generation 2 is destroyed in this token: who has a copy of it opens what was sealed to it "
     "before; tell your auditor."},
};

static void every_cell(void **state)
{
    (void)state;
    bool seen[PFX_STATE_COUNT][PFX_MOVE_COUNT] = {0};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        struct pfx_generation list[] = {
            {.number = 1, .state = PFX_STATE_RETIRED, .since_ms = 5, .activated_ms = 4},
            {.number = 2, .state = cells[i].state, .since_ms = 7}};
        struct pfx_reasons reasons;
        bool may = pfx_lifecycle_allows(list, 2, 2, cells[i].move, &nothing, &reasons);
        seen[cells[i].state][cells[i].move] = true;
        assert_int_equal(may, cells[i].says == GO);
        assert_int_equal(reasons.n, may ? 0 : 1);
        if (!may) {
            assert_string_equal(reasons.text[0], cells[i].says);
            continue;
        }
        pfx_lifecycle_apply(list, 2, 2, cells[i].move, NOW);
        assert_int_equal(list[1].state, cells[i].becomes);
        assert_int_equal(list[1].since_ms, NOW);
        assert_int_equal(list[1].compromised_ms, cells[i].move == PFX_MOVE_COMPROMISE ? NOW : 0);
        assert_int_equal(list[1].activated_ms, cells[i].move == PFX_MOVE_ACTIVATE ? NOW : 0);
        assert_int_equal(list[0].state, PFX_STATE_RETIRED);
        assert_int_equal(list[0].since_ms, 5);
    }
    for (int s = 0; s < PFX_STATE_COUNT; s++)
        for (int m = 0; m < PFX_MOVE_COUNT; m++)
            assert_true(seen[s][m]);
}

static bool asks(enum pfx_key_state state, enum pfx_key_move move, struct pfx_key_needs needs,
                 struct pfx_reasons *reasons)
{
    struct pfx_generation list[] = {{.number = 3, .state = state, .since_ms = 7}};
    return pfx_lifecycle_allows(list, 1, 3, move, &needs, reasons);
}

/* What the list doesn't know holds a move back with every reason there is. */
static void conditions(void **state)
{
    (void)state;
    static const char *const hosts[] = {"CONN1", "CONN2"};
    struct pfx_reasons why;
    assert_false(asks(PFX_STATE_STAGED, PFX_MOVE_ACTIVATE,
                      (struct pfx_key_needs){.missing = hosts, .n_missing = 2}, &why));
    assert_int_equal(why.n, 2);
    assert_string_equal(why.text[1],
                        "The connector CONN2 hasn't confirmed generation 3: its administrator runs "
                        "the guide of pfx-agent connector probe CONN2, and an operator gives the "
                        "answer to pfx-agent connector confirm.");
    /* The way back needs no connector, and no knowledge of records. */
    assert_true(asks(PFX_STATE_SUSPENDED, PFX_MOVE_ACTIVATE,
                     (struct pfx_key_needs){.missing = hosts, .n_missing = 2}, &why));
    static const struct {
        enum pfx_key_state state;
        enum pfx_key_move move;
    } held[] = {{PFX_STATE_SUSPENDED, PFX_MOVE_RETIRE},
                {PFX_STATE_RETIRED, PFX_MOVE_DESTROY},
                {PFX_STATE_COMPROMISED, PFX_MOVE_DESTROY}};
    for (size_t i = 0; i < 3; i++) {
        assert_false(asks(held[i].state, held[i].move, (struct pfx_key_needs){.records_known = false}, &why));
        assert_string_equal(why.text[0],
                            "It isn't known how many records name generation 3: pfx-agentd has to "
                            "read Intune's list to its end, which it does in the next pass, or when "
                            "an operator gives pfx-agent run --once --dry-run.");
        assert_false(asks(held[i].state, held[i].move,
                          (struct pfx_key_needs){.records_known = true, .records = 12}, &why));
        assert_string_equal(why.text[0], "12 records name generation 3: an operator has pfx-agent "
                                         "key rebuild replace them.");
        assert_false(asks(held[i].state, held[i].move,
                          (struct pfx_key_needs){
                              .records_known = true, .records = 1, .last_expiry_ms = NOW},
                          &why));
        assert_string_equal(why.text[0],
                            "1 record names generation 3: an operator has pfx-agent key rebuild "
                            "replace it; without that the last one expires by itself at "
                            "2026-11-18T11:06:40Z.");
        assert_true(asks(held[i].state, held[i].move, nothing, &why));
    }
    /* Nothing was ever sealed to a staged one: what isn't known doesn't hold it, what is does. */
    assert_true(asks(PFX_STATE_STAGED, PFX_MOVE_DESTROY,
                     (struct pfx_key_needs){.records_known = false}, &why));
    assert_false(asks(PFX_STATE_STAGED, PFX_MOVE_DESTROY,
                      (struct pfx_key_needs){.records_known = true, .records = 1}, &why));
    /* A compromise waits for nothing. */
    assert_true(asks(PFX_STATE_ACTIVE, PFX_MOVE_COMPROMISE,
                     (struct pfx_key_needs){.missing = hosts, .n_missing = 2}, &why));
}

static void beginning(void **state)
{
    (void)state;
    struct pfx_reasons why;
    struct pfx_generation list[PFX_GENERATIONS_MOST] = {{.number = 1, .state = PFX_STATE_ACTIVE}};
    assert_true(pfx_lifecycle_allows(list, 1, 0, PFX_MOVE_ROTATE, &nothing, &why));
    list[1] = (struct pfx_generation){.number = 2, .state = PFX_STATE_STAGED};
    assert_false(pfx_lifecycle_allows(list, 2, 0, PFX_MOVE_ROTATE, &nothing, &why));
    assert_string_equal(why.text[0], "Generation 2 is staged already: an operator activates it, or "
                                     "destroys it to have another one made.");
    assert_false(pfx_lifecycle_allows(list, 2, 9, PFX_MOVE_RETIRE, &nothing, &why));
    assert_string_equal(why.text[0], "There is no generation 9: pfx-agent key status lists them.");
    for (unsigned i = 0; i < PFX_GENERATIONS_MOST; i++)
        list[i] = (struct pfx_generation){.number = i + 1, .state = PFX_STATE_DESTROYED};
    assert_false(
        pfx_lifecycle_allows(list, PFX_GENERATIONS_MOST, 0, PFX_MOVE_ROTATE, &nothing, &why));
    assert_string_equal(why.text[0],
                        "There are 64 generations, and no more are kept: set up a new host.");
    list[63].state = PFX_STATE_MAKING; /* which may be finished */
    assert_true(
        pfx_lifecycle_allows(list, PFX_GENERATIONS_MOST, 0, PFX_MOVE_ROTATE, &nothing, &why));
}

/* --- every list of three generations that moves lead to, by a clock that goes on a day a move --- */

#define THREE 3
#define CODES (8 * 8 * 8)

static int code_of(const struct pfx_generation *list, size_t n)
{
    int code = 0;
    for (size_t i = 0; i < THREE; i++)
        code = code * 8 + (i < n ? (int)list[i].state + 1 : 0);
    return code;
}

static void sound(const struct pfx_generation *list, size_t n)
{
    int active = 0, staged = 0, making = 0;
    for (size_t i = 0; i < n; i++) {
        active += list[i].state == PFX_STATE_ACTIVE;
        staged += list[i].state == PFX_STATE_STAGED;
        making += list[i].state == PFX_STATE_MAKING;
        assert_true((list[i].compromised_ms > 0) == (list[i].state == PFX_STATE_COMPROMISED) ||
                    list[i].state == PFX_STATE_DESTROYED);
        assert_true(list[i].activated_ms <= list[i].since_ms);
        if (list[i].state == PFX_STATE_ACTIVE || list[i].state == PFX_STATE_SUSPENDED ||
            list[i].state == PFX_STATE_RETIRED)
            assert_true(list[i].activated_ms > 0);
    }
    assert_true(active <= 1 && staged + making <= 1);
}

/* Can this list come to an active generation, by making another one at the worst? */
static bool way_out(const struct pfx_generation *list, size_t n)
{
    struct pfx_reasons why;
    struct pfx_key_needs unknown = {.records_known = false};
    for (size_t i = 0; i < n; i++)
        if (list[i].state == PFX_STATE_ACTIVE || list[i].state == PFX_STATE_MAKING ||
            pfx_lifecycle_allows(list, n, list[i].number, PFX_MOVE_ACTIVATE, &unknown, &why))
            return true;
    return pfx_lifecycle_allows(list, n, 0, PFX_MOVE_ROTATE, &unknown, &why);
}

static int lists;

static void walk(const struct pfx_generation *from, size_t n, int64_t now, bool seen[CODES])
{
    struct pfx_reasons why;
    int code = code_of(from, n);
    if (seen[code])
        return;
    seen[code] = true;
    lists++;
    sound(from, n);
    assert_true(way_out(from, n));
    bool busy = false;
    for (size_t i = 0; i < n; i++)
        busy = busy || from[i].state == PFX_STATE_MAKING;
    if (n < THREE && !busy &&
        pfx_lifecycle_allows(from, n, 0, PFX_MOVE_ROTATE, &nothing, &why)) {
        struct pfx_generation more[THREE];
        memcpy(more, from, n * sizeof *more);
        more[n] = (struct pfx_generation){
            .number = (unsigned)n + 1, .state = PFX_STATE_MAKING, .since_ms = now};
        walk(more, n + 1, now + DAY, seen);
    }
    for (size_t i = 0; i < n; i++) {
        for (int move = 0; move < PFX_MOVE_COUNT; move++) {
            struct pfx_generation next[THREE];
            memcpy(next, from, n * sizeof *next);
            unsigned number = from[i].number;
            if (!pfx_lifecycle_allows(next, n, number, (enum pfx_key_move)move, &nothing, &why)) {
                assert_true(why.n > 0);
                continue;
            }
            pfx_lifecycle_apply(next, n, number, (enum pfx_key_move)move, now);
            assert_int_equal(next[i].since_ms, now);
            /* Only the generation that was active is touched besides. */
            for (size_t j = 0; j < n; j++)
                if (j != i && memcmp(&next[j], &from[j], sizeof *next) != 0) {
                    assert_int_equal(move, PFX_MOVE_ACTIVATE);
                    assert_int_equal(from[j].state, PFX_STATE_ACTIVE);
                    assert_int_equal(next[j].state, PFX_STATE_SUSPENDED);
                    assert_int_equal(next[j].since_ms, now);
                }
            /* What is compromised, retired or destroyed is never sealed to again. */
            if (from[i].state >= PFX_STATE_RETIRED)
                assert_true(next[i].state > PFX_STATE_RETIRED);
            if (from[i].compromised_ms > 0)
                assert_int_equal(next[i].compromised_ms, from[i].compromised_ms);
            walk(next, n, now + DAY, seen);
        }
    }
}

static void every_walk(void **state)
{
    (void)state;
    static bool seen[CODES];
    struct pfx_generation first[THREE] = {{.number = 1, .state = PFX_STATE_MAKING, .since_ms = NOW}};
    walk(first, 1, NOW + DAY, seen);
    /* 7 + those of two and of three with one making or staged, and one active, at most. */
    if (lists < 150)
        fail_msg("only %d lists were reached", lists);
}

static void names(void **state)
{
    (void)state;
    enum pfx_key_state back;
    for (int s = 0; s < PFX_STATE_COUNT; s++) {
        const char *name = pfx_key_state_name((enum pfx_key_state)s);
        assert_true(pfx_key_state_parse(name, strlen(name), &back));
        assert_int_equal(back, s);
        assert_false(pfx_key_state_parse(name, strlen(name) - 1, &back));
    }
    assert_string_equal(pfx_key_move_name(PFX_MOVE_COMPROMISE), "compromise");
    static const enum pfx_key_move next[] = {PFX_MOVE_ROTATE, PFX_MOVE_ACTIVATE, PFX_MOVE_COUNT,
                                             PFX_MOVE_RETIRE, PFX_MOVE_DESTROY, PFX_MOVE_DESTROY,
                                             PFX_MOVE_COUNT};
    for (int s = 0; s < PFX_STATE_COUNT; s++)
        assert_int_equal(pfx_lifecycle_next((enum pfx_key_state)s), next[s]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell), cmocka_unit_test(conditions), cmocka_unit_test(beginning),
        cmocka_unit_test(every_walk), cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
