/* The schedule of rotations under a clock of the test's own: months, the last 30 days, and who acts. */
#include <string.h>

#include "crypto/encode.h"
#include "crypto/schedule.h"
#include "crypto_test.h"

#define DAY (INT64_C(24) * 3600 * 1000)

static int64_t at(const char *text)
{
    int64_t ms = 0;
    if (!pfx_time_parse(text, &ms))
        fail_msg("%s", text);
    return ms;
}

/* The dates are the calendar's own, and were written down by hand. */
static void months(void **state)
{
    static const struct {
        const char *from;
        struct pfx_period period;
        const char *end;
    } rows[] = {
        {"2027-01-31T10:00:00.007Z", {.months = 1}, "2027-02-28T10:00:00.007Z"},
        {"2027-01-31T10:00:00Z", {.months = 2}, "2027-03-31T10:00:00Z"},
        {"2028-01-31T23:59:59.999Z", {.months = 1}, "2028-02-29T23:59:59.999Z"},
        {"2027-10-31T00:00:00Z", {.months = 1}, "2027-11-30T00:00:00Z"},
        {"2027-12-31T00:00:00Z", {.months = 6}, "2028-06-30T00:00:00Z"},
        {"2027-12-15T12:00:00Z", {.months = 1}, "2028-01-15T12:00:00Z"},
        {"2028-02-29T08:00:00Z", {.months = 12}, "2029-02-28T08:00:00Z"},
        {"2028-02-29T08:00:00Z", {.months = 48}, "2032-02-29T08:00:00Z"},
        {"2099-11-30T08:00:00Z", {.months = 3}, "2100-02-28T08:00:00Z"},
        {"2027-05-05T08:00:00Z", {.months = 120}, "2037-05-05T08:00:00Z"},
        {"2027-01-31T10:00:00Z", {.days = 30}, "2027-03-02T10:00:00Z"},
        {"2027-03-01T10:00:00Z", {.days = 365}, "2028-02-29T10:00:00Z"},
        {"9999-12-31T10:00:00Z", {.months = 1}, "9999-12-31T23:59:59.999Z"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char end[PFX_TIME_SIZE], want[PFX_TIME_SIZE];
        pfx_time_format(pfx_period_end(at(rows[i].from), rows[i].period), true, end);
        pfx_time_format(at(rows[i].end), true, want);
        assert_string_equal(end, want);
    }
    assert_int_equal(pfx_time_add_months(-1, 1), at("9999-12-31T23:59:59.999Z"));
}

static void says(const struct pfx_generation *list, size_t n, struct pfx_period every, int64_t now,
                 enum pfx_schedule_state want, bool warn, const char *words)
{
    struct pfx_schedule schedule;
    char text[PFX_SCHEDULE_TEXT];
    pfx_schedule_of(list, n, every, now, &schedule);
    pfx_schedule_say(&schedule, text);
    if (schedule.state != want || schedule.warn != warn || !strstr(text, words))
        fail_msg("state %d, warn %d: %s", (int)schedule.state, schedule.warn, text);
    assert_non_null(strchr(text, '.'));
}

/* A life of a key, looked at on its days. */
static void walk(void **state)
{
    struct pfx_period every = {.months = 12}, never = {0};
    int64_t begin = at("2027-01-31T10:00:00Z"), end = at("2028-01-31T10:00:00Z");
    struct pfx_generation list[] = {
        {.number = 1, .state = PFX_STATE_ACTIVE, .since_ms = begin, .activated_ms = begin},
        {.number = 2, .state = PFX_STATE_MAKING, .since_ms = begin},
    };
    (void)state;
    says(list, 1, never, end, PFX_SCHEDULE_OFF, false, "no schedule");
    says(list, 1, every, begin, PFX_SCHEDULE_EARLY, false, "by 2028-01-31");
    says(list, 1, every, begin, PFX_SCHEDULE_EARLY, false, "staged from 2028-01-01 on");
    says(list, 1, every, end - 30 * DAY - 1, PFX_SCHEDULE_EARLY, false, "from 2028-01-01");
    says(list, 1, every, end - 30 * DAY, PFX_SCHEDULE_DUE, true, "(in 30 days)");
    says(list, 1, every, end - DAY, PFX_SCHEDULE_DUE, true, "(in 1 day)");
    says(list, 1, every, end, PFX_SCHEDULE_DUE, true, "(today)");
    says(list, 1, every, end + 1, PFX_SCHEDULE_DUE, true, "(1 day ago)");
    says(list, 1, every, end + 2 * DAY, PFX_SCHEDULE_DUE, true, "(2 days ago)");
    /* One whose making was cut off is made to its end; one that is staged waits for people. */
    says(list, 2, every, end - DAY, PFX_SCHEDULE_DUE, true, "key rotate stages it");
    list[1].state = PFX_STATE_STAGED;
    says(list, 2, every, begin, PFX_SCHEDULE_STAGED, false, "key activate 2");
    says(list, 2, every, end - DAY, PFX_SCHEDULE_STAGED, true, "key activate 2");
    says(list, 2, every, end + DAY, PFX_SCHEDULE_STAGED, true, "(1 day ago)");
    /* Destroyed before it was used: the next one is due. */
    list[1].state = PFX_STATE_DESTROYED;
    says(list, 2, every, end - DAY, PFX_SCHEDULE_DUE, true, "Generation 1");
    /* The other one took over: its own age counts, and the way back makes nothing younger. */
    list[0].state = PFX_STATE_SUSPENDED;
    list[1] = (struct pfx_generation){
        .number = 2, .state = PFX_STATE_ACTIVE, .since_ms = end, .activated_ms = end};
    says(list, 2, every, end, PFX_SCHEDULE_EARLY, false, "Generation 2 is to be replaced by 2029-01-31");
    list[1].state = PFX_STATE_SUSPENDED;
    list[0].state = PFX_STATE_ACTIVE;
    list[0].since_ms = end;
    says(list, 2, every, end, PFX_SCHEDULE_DUE, true, "Generation 1 is to be replaced by 2028-01-31");
    list[0].state = PFX_STATE_COMPROMISED;
    says(list, 2, every, end, PFX_SCHEDULE_NONE, false, "No generation is active");
    says(NULL, 0, every, end, PFX_SCHEDULE_NONE, false, "No generation is active");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(months), cmocka_unit_test(walk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
