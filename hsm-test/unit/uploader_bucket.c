/* Rolling windows and credentials under a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/service.h"

/* The service's view: requests counted at any moment between start and end. */
static void test_never_over(void **state)
{
    (void)state;
    struct pfx_bucket *bucket = pfx_bucket_new(5, 1000);
    int64_t starts[400];
    int64_t ends[400];
    size_t n = 0;
    unsigned seed = 7;
    for (int64_t now = 0; now < 20000; now += 10) {
        for (size_t i = 0; i < n; i++)
            if (ends[i] == now)
                pfx_bucket_give(bucket, now);
        while (n < 400 && pfx_bucket_wait(bucket, now) == 0) {
            pfx_bucket_take(bucket, now);
            seed = seed * 1103515245u + 12345u;
            starts[n] = now;
            ends[n++] = now + 10 + (int64_t)(seed >> 16) % 40 * 10;
        }
    }
    assert_in_range(n, 60, 100); /* it isn't far below what is allowed either */
    for (size_t i = 0; i < n; i++) {
        /* Every window that begins with request i, at its latest moment: who could be in it? */
        size_t inside = 0;
        for (size_t j = 0; j < n; j++)
            inside += ends[j] >= ends[i] && starts[j] < ends[i] + 1000;
        assert_in_range(inside, 1, 5);
    }
    pfx_bucket_free(bucket);
}

static void test_wait(void **state)
{
    (void)state;
    struct pfx_bucket *bucket = pfx_bucket_new(2, 1000);
    assert_int_equal(pfx_bucket_wait(bucket, 0), 0);
    pfx_bucket_take(bucket, 0);
    pfx_bucket_take(bucket, 0);
    assert_int_equal(pfx_bucket_wait(bucket, 0), -1); /* nothing has ended yet */
    pfx_bucket_give(bucket, 100);
    int64_t wait = pfx_bucket_wait(bucket, 200);
    assert_in_range(wait, 900, 1000);
    assert_int_equal(pfx_bucket_wait(bucket, 200 + wait), 0);
    assert_int_not_equal(pfx_bucket_wait(bucket, 199 + wait), 0);
    pfx_bucket_free(bucket);
    bucket = pfx_bucket_new(0, 1000);
    for (int i = 0; i < 10; i++)
        pfx_bucket_take(bucket, 0);
    assert_int_equal(pfx_bucket_wait(bucket, 0), 0);
    pfx_bucket_free(bucket);
    pfx_bucket_free(NULL);
}

static void test_two_windows(void **state)
{
    (void)state;
    struct pfx_service s = {.any = {pfx_bucket_new(3, 100), pfx_bucket_new(4, 10000)},
                            .writes = pfx_bucket_new(1, 100)};
    int64_t now = 0;
    assert_int_equal(pfx_service_wait(&s, false, now), 0);
    pfx_service_take(&s, false, now);
    pfx_service_give(&s, false, now);
    assert_int_not_equal(pfx_service_wait(&s, false, now), 0); /* writes are used up */
    assert_int_equal(pfx_service_wait(&s, true, now), 0);      /* reads aren't */
    for (int i = 0; i < 2; i++) {
        pfx_service_take(&s, true, now);
        pfx_service_give(&s, true, now);
    }
    assert_in_range(pfx_service_wait(&s, true, now), 100, 200);
    now = 200;
    assert_int_equal(pfx_service_wait(&s, true, now), 0);
    pfx_service_take(&s, true, now);
    pfx_service_give(&s, true, now);
    assert_in_range(pfx_service_wait(&s, true, now), 9000, 10000);
    pfx_service_done(&s);
}

static void test_throttle(void **state)
{
    (void)state;
    struct pfx_service s = {.id = PFX_SERVICE_GRAPH};
    pfx_service_throttle(&s, -1, 1000);
    assert_int_equal(s.closed_until, 11000);
    pfx_service_throttle(&s, -1, 1001); /* of the same moment: says nothing new */
    assert_int_equal(s.closed_until, 11000);
    pfx_service_throttle(&s, 20000, 1002);
    assert_int_equal(s.closed_until, 21002);
    pfx_service_throttle(&s, 5, 1003);
    assert_int_equal(s.closed_until, 21002);
    pfx_service_throttle(&s, -1, 30000); /* the second in a row */
    assert_int_equal(s.closed_until, 50000);
    pfx_service_throttle(&s, 0, 60000); /* "at once" would be for ever at once */
    assert_int_equal(s.closed_until, 100000);
}

static unsigned begun;
static void count_begin(struct pfx_cred *cred)
{
    (void)cred;
    begun++;
}

static struct pfx_secret *secret(const char *text)
{
    struct pfx_secret *s = NULL;
    assert_true(pfx_ok(pfx_secret_copy(text, strlen(text), &s, NULL)));
    return s;
}

static void test_cred(void **state)
{
    (void)state;
    struct pfx_cred cred = {.begin = count_begin, .idle_ms = 1000};
    begun = 0;
    for (int i = 0; i < 5; i++)
        assert_null(pfx_cred_want(&cred, 0));
    assert_int_equal(begun, 1); /* one refresh, however many wait */
    pfx_cred_put(&cred, secret("a"), 500, 10);
    assert_non_null(pfx_cred_want(&cred, 509));
    assert_null(pfx_cred_want(&cred, 510));
    assert_int_equal(begun, 2);
    pfx_cred_put(&cred, secret("b"), INT64_MAX, 520);
    assert_true(pfx_cred_refused(&cred, 1, false, 520)); /* a request with the old one */
    assert_non_null(pfx_cred_want(&cred, 530));
    pfx_cred_tidy(&cred, 1529);
    assert_non_null(cred.value);
    pfx_cred_tidy(&cred, 1530); /* nobody wanted it */
    assert_null(cred.value);
    assert_null(pfx_cred_want(&cred, 1540));
    struct pfx_error err = {PFX_CLASS_REFUSED, "sign in", "", "", "no"};
    pfx_cred_fail(&cred, &err, 1540);
    assert_int_equal(cred.failures, 1);
    assert_null(pfx_cred_want(&cred, 1550)); /* held off */
    assert_int_equal(begun, 3);
    assert_null(pfx_cred_want(&cred, pfx_cred_next(&cred)));
    assert_int_equal(begun, 4);
    pfx_cred_later(&cred, &err, 7000, 5000);
    assert_int_equal(cred.failures, 1);
    assert_int_equal(pfx_cred_next(&cred), 12000);
    pfx_cred_later(&cred, &err, 70, 5000); /* less than the back-off, which counts then */
    assert_int_equal(pfx_cred_next(&cred), 7000);
    for (int i = 0; i < 100; i++)
        pfx_cred_later(&cred, &err, -1, 5000);
    assert_int_equal(pfx_cred_next(&cred), 35000);
    pfx_cred_done(&cred);
}

/* A service that refuses every value doesn't get one after the other from the HSM. */
static void test_refused(void **state)
{
    (void)state;
    struct pfx_cred cred = {.begin = count_begin};
    int64_t now = 100000;
    unsigned fetched = 0;
    for (int i = 0; i < 3600; i++, now += 1000) { /* a request each second, and its repetition */
        bool again = true;
        for (int try = 0; try < 2 && again; try++) {
            if (!cred.value) {
                pfx_cred_put(&cred, secret("x"), INT64_MAX, now);
                fetched++;
            }
            again = pfx_cred_refused(&cred, cred.generation, try > 0, now);
        }
    }
    assert_in_range(fetched, 100, 150);
    now += 600000; /* later on, as if nothing had been */
    for (int i = 0; i < 5; i++) {
        pfx_cred_put(&cred, secret("x"), INT64_MAX, now);
        for (int request = 0; request < 16; request++)
            assert_true(pfx_cred_refused(&cred, cred.generation, true, now));
        assert_null(cred.value);
    }
    pfx_cred_done(&cred);
}

/* A service whose values are good for a moment doesn't get one each moment either. */
static void test_short_lived(void **state)
{
    (void)state;
    struct pfx_cred cred = {.begin = count_begin};
    begun = 0;
    for (int64_t now = 0; now < 3600 * 1000; now += 100) {
        (void)pfx_cred_want(&cred, now);
        if (cred.busy)
            pfx_cred_put(&cred, secret("x"), 500, now);
    }
    assert_in_range(begun, 100, 130);
    /* The pauses are forgotten with a value that lasts. */
    pfx_cred_put(&cred, secret("x"), 3600 * 1000, 0);
    pfx_cred_put(&cred, secret("x"), 500, 1000);
    assert_int_equal(pfx_cred_next(&cred), 1500);
    pfx_cred_done(&cred);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_over), cmocka_unit_test(test_wait),
        cmocka_unit_test(test_two_windows), cmocka_unit_test(test_throttle),
        cmocka_unit_test(test_cred), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_short_lived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
