/* The flow's table, and everything else of pfx-agentd that is pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/flow.h"
#include "agent/timing.h"
#include "api/wire/messages.h"

static void every_state_has_a_row(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PFX_STATE_COUNT; i++) {
        enum pfx_state s = (enum pfx_state)i, parsed;
        assert_int_equal(pfx_flow_by_state(s)->state, s);
        assert_true(pfx_state_parse(pfx_state_name(s), &parsed));
        assert_int_equal(parsed, s);
    }
    enum pfx_state none;
    assert_false(pfx_state_parse("new", &none));
    assert_false(pfx_state_parse("", &none));
}

static void every_class_has_an_outcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < pfx_flow_rows; i++) {
        const struct pfx_flow_row *row = &pfx_flow[i];
        for (int c = PFX_CLASS_OK; c <= PFX_CLASS_LOST; c++) {
            struct pfx_outcome out = pfx_flow_outcome(row, (enum pfx_class)c);
            assert_in_range(out.to, 0, PFX_STATE_COUNT - 1);
            if (!row->job)
                continue;
            if (out.again) { /* stays, and what goes out belongs to the state */
                assert_int_equal(out.to, row->state);
                if (out.job)
                    assert_int_equal(pfx_flow_by_job(out.job)->state, row->state);
            } else {
                assert_int_not_equal(out.to, row->state);
                assert_true(pfx_flow_may(row->state, out.to));
            }
        }
    }
}

static void every_job_is_of_the_protocol(void **state)
{
    (void)state;
    for (size_t i = 0; i < pfx_flow_rows; i++) {
        const struct pfx_flow_row *row = &pfx_flow[i];
        if (row->job)
            assert_non_null(pfx_wire_find(pfx_wire_jobs, row->job));
        if (row->settle)
            assert_non_null(pfx_flow_by_job(row->settle));
    }
}

static void a_post_is_never_repeated(void **state)
{
    (void)state;
    static const char *const posts[] = {"up.order", "up.import"};
    for (size_t i = 0; i < 2; i++) {
        const struct pfx_flow_row *row = pfx_flow_by_job(posts[i]);
        assert_string_not_equal(pfx_flow_again(posts[i]), posts[i]);
        struct pfx_outcome lost = pfx_flow_outcome(row, PFX_CLASS_LOST);
        assert_string_equal(lost.job, row->settle);
        /* A person's retry looks first, unless it is sure that nothing was done. */
        assert_string_equal(pfx_flow_resume(posts[i], PFX_CLASS_LOST), row->settle);
        assert_string_equal(pfx_flow_resume(posts[i], PFX_CLASS_INTERNAL), row->settle);
        assert_string_equal(pfx_flow_resume(posts[i], PFX_CLASS_INTEGRITY), row->settle);
        assert_string_equal(pfx_flow_resume(posts[i], PFX_CLASS_REFUSED), posts[i]);
        /* And settling leads to no POST of its own. */
        assert_string_equal(pfx_flow_again(row->settle), row->settle);
        assert_null(pfx_flow_outcome(pfx_flow_by_job(row->settle), PFX_CLASS_LOST).job);
    }
    assert_string_equal(pfx_flow_again("up.download"), "up.download");
    assert_string_equal(pfx_flow_again("up.members"), "up.members");
}

static void the_end_is_the_end(void **state)
{
    (void)state;
    for (unsigned to = 0; to < PFX_STATE_COUNT; to++) {
        if (to != PFX_ENDED)
            assert_false(pfx_flow_may(PFX_ENDED, (enum pfx_state)to));
        if (to != PFX_FAILED)
            assert_false(pfx_flow_may(PFX_FAILED, (enum pfx_state)to));
    }
    assert_false(pfx_flow_may(PFX_ORDERED, PFX_KEYED));
    assert_false(pfx_flow_may(PFX_ORDERED, PFX_NEW));
    assert_false(pfx_flow_may(PFX_ACTIVE, PFX_KEYED));
    assert_true(pfx_flow_may(PFX_HELD, PFX_KEYED));
    assert_false(pfx_flow_may(PFX_NEW, PFX_CHECKED));
    assert_true(pfx_flow_may(PFX_KEYED, PFX_CHECKED)); /* answered with its certificate */
    /* The CA may revoke whatever it issued. */
    for (unsigned from = PFX_ORDERED; from <= PFX_HELD; from++)
        assert_true(pfx_flow_may((enum pfx_state)from, PFX_ENDED));
}

static void words_of_the_ca(void **state)
{
    (void)state;
    assert_int_equal(pfx_ca_status("issued"), PFX_CA_ISSUED);
    static const char *const waits[] = {"pending",   "processing",     "needs_approval",
                                        "needs_csr", "waiting_pickup", "reissue_pending"};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pfx_ca_status(waits[i]), PFX_CA_PENDING);
    static const char *const ends[] = {"rejected", "denied", "canceled", "revoked", "expired"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(pfx_ca_status(ends[i]), PFX_CA_ENDED);
    assert_int_equal(pfx_ca_status("CANCELED"), PFX_CA_UNKNOWN);
    assert_int_equal(pfx_ca_status(""), PFX_CA_UNKNOWN);
}

static void backoff_doubles_and_stays_bounded(void **state)
{
    (void)state;
    for (unsigned tries = 0; tries < 80; tries++) {
        int64_t base = tries < 10 ? INT64_C(5000) << tries : 3600000;
        base = base > 3600000 ? 3600000 : base;
        for (uint32_t dice = 0; dice < 5000; dice += 613) {
            int64_t wait = pfx_backoff(tries, 5000, 3600000, dice);
            assert_in_range(wait, base * 3 / 4, base * 5 / 4);
        }
    }
    assert_true(pfx_backoff(0, 5000, 10000, 0) < pfx_backoff(0, 5000, 10000, 2400));
    assert_true(pfx_backoff(3, 10, 5, 0) > 0); /* min over max: max counts */
}

static void settling(void **state)
{
    (void)state;
    const int64_t grace = 15 * PFX_MINUTE;
    assert_int_equal(pfx_settle_delay(0, grace), 5 * PFX_SECOND);
    assert_int_equal(pfx_settle_delay(1, grace), 3 * PFX_MINUTE);
    assert_int_equal(pfx_settle_delay(0, 500), 100);
    assert_int_equal(pfx_settle_delay(1, 1), 1);
    assert_false(pfx_settle_over(2, 0, grace, 10 * grace)); /* nobody looked often enough */
    assert_false(pfx_settle_over(9, 0, grace, grace - 1));
    assert_true(pfx_settle_over(3, 0, grace, grace));
}

static void the_polls_window(void **state)
{
    (void)state;
    const int64_t now = 1000 * PFX_DAY;
    bool gap;
    assert_int_equal(pfx_poll_minutes(0, 0, now, &gap), 5);
    assert_int_equal(pfx_poll_minutes(now - 10 * PFX_MINUTE, 0, now, &gap), 15);
    assert_int_equal(pfx_poll_minutes(now - 10 * PFX_MINUTE - 1, 0, now, &gap), 16);
    /* An adopted order was placed long before it was known. */
    assert_int_equal(pfx_poll_minutes(now - PFX_MINUTE, now - PFX_HOUR, now, &gap), 65);
    assert_int_equal(pfx_poll_minutes(now - PFX_HOUR, now - PFX_MINUTE, now, &gap), 65);
    assert_int_equal(pfx_poll_minutes(0, now - PFX_HOUR, now, &gap), 65);
    assert_false(gap);
    assert_int_equal(pfx_poll_minutes(now + PFX_DAY, 0, now, &gap), 5); /* clock set back */
    assert_int_equal(pfx_poll_minutes(now - 7 * PFX_DAY + 5 * PFX_MINUTE, 0, now, &gap), 10080);
    assert_false(gap);
    assert_int_equal(pfx_poll_minutes(now - 7 * PFX_DAY, 0, now, &gap), 10080);
    assert_true(gap);
    assert_int_equal(pfx_poll_minutes(now - 700 * PFX_DAY, 0, now, &gap), 10080);
    assert_true(gap);
}

static void the_next_attempt(void **state)
{
    (void)state;
    const int64_t week = 7 * PFX_DAY;
    assert_int_equal(pfx_reorder_at(0, 5, week), 0);
    assert_int_equal(pfx_reorder_at(1, 5, week), 5 + week);
    assert_int_equal(pfx_reorder_at(2, 5, week), 5 + 2 * week);
    assert_int_equal(pfx_reorder_at(4, 5, week), 5 + 8 * week);
    assert_int_equal(pfx_reorder_at(5, 5, week), 5 + 90 * PFX_DAY);
    assert_int_equal(pfx_reorder_at(4000, 5, week), 5 + 90 * PFX_DAY);
}

static void budget_and_dates(void **state)
{
    (void)state;
    assert_true(pfx_budget_left(0, 1, 0, 1));
    assert_false(pfx_budget_left(1, 1, 0, 1));
    assert_false(pfx_budget_left(0, 1, 1, 1));
    assert_false(pfx_budget_left(0, 0, 0, 10));
    assert_int_equal(pfx_day_start(3 * PFX_DAY), 3 * PFX_DAY);
    assert_int_equal(pfx_day_start(3 * PFX_DAY - 1), 2 * PFX_DAY);
    assert_false(pfx_hire_waits(0, 1000 * PFX_DAY));
    assert_false(pfx_hire_waits(11 * PFX_DAY, 10 * PFX_DAY));
    assert_true(pfx_hire_waits(11 * PFX_DAY + 1, 10 * PFX_DAY));
    assert_false(pfx_hire_waits(5 * PFX_DAY, 10 * PFX_DAY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_has_a_row),
        cmocka_unit_test(every_class_has_an_outcome),
        cmocka_unit_test(every_job_is_of_the_protocol),
        cmocka_unit_test(a_post_is_never_repeated),
        cmocka_unit_test(the_end_is_the_end),
        cmocka_unit_test(words_of_the_ca),
        cmocka_unit_test(backoff_doubles_and_stays_bounded),
        cmocka_unit_test(settling),
        cmocka_unit_test(the_polls_window),
        cmocka_unit_test(the_next_attempt),
        cmocka_unit_test(budget_and_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
