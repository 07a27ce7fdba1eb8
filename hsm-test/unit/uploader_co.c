/* Functions that stop in the middle. */
#include "api_test.h"

#include "api/uploader/cmp_co.h"

struct walk {
    struct pfx_co *co;
    int at, steps;
    bool gave_up, ended;
};

static void walk(void *ctx)
{
    struct walk *w = ctx;
    for (w->at = 0; w->at < w->steps; w->at++)
        if (!pfx_co_yield(w->co)) {
            w->gave_up = true;
            w->gave_up = w->gave_up && !pfx_co_yield(w->co); /* at once, and again */
            return;
        }
    w->ended = true;
}

static void start(struct walk *w)
{
    struct pfx_error err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_co_new(walk, w, &w->co, &err)));
}

static void runs_in_turns(void **state)
{
    (void)state;
    struct walk a = {.steps = 50}, b = {.steps = 20};
    start(&a);
    start(&b);
    for (int i = 0; i < 50; i++) {
        assert_true(pfx_co_resume(a.co));
        assert_int_equal(a.at, i);
        assert_true(pfx_co_resume(b.co) == (i < 20));
        assert_int_equal(b.at, i < 20 ? i : 20);
    }
    assert_true(b.ended && !a.ended);
    assert_false(pfx_co_resume(a.co));
    assert_true(a.ended);
    assert_false(pfx_co_resume(a.co)); /* it stays so */
    pfx_co_free(a.co);
    pfx_co_free(b.co);
}

static void is_ended_from_outside(void **state)
{
    (void)state;
    struct walk never = {.steps = 5}, middle = {.steps = 5};
    start(&never);
    pfx_co_free(never.co);
    assert_true(!never.gave_up && !never.ended);
    start(&middle);
    assert_true(pfx_co_resume(middle.co));
    pfx_co_free(middle.co);
    assert_true(middle.gave_up && !middle.ended);
    pfx_co_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_in_turns),
        cmocka_unit_test(is_ended_from_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
