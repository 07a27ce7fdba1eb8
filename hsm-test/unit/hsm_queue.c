/* pfx-hsm's queue: order, ceiling, urgent ones first, closing, many threads. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pkcs11/hsm/task.h"

static struct pfx_queue *queue_of(size_t most)
{
    struct pfx_queue *queue;
    struct pfx_error err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_queue_new(most, &queue, &err)));
    return queue;
}

static bool put(struct pfx_queue *queue, int64_t number, bool urgent)
{
    struct pfx_task *task = pfx_alloc(sizeof *task);
    task->from = PFX_FROM_ADMIN;
    task->request = number;
    if (pfx_queue_put(queue, task, urgent))
        return true;
    pfx_task_free(task);
    return false;
}

static int64_t take(struct pfx_queue *queue, bool urgent_only)
{
    struct pfx_task *task = pfx_queue_take(queue, urgent_only);
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t number = task->request;
    pfx_task_end(task, PFX_OK, &err);
    return number;
}

static void order(void **state)
{
    (void)state;
    struct pfx_queue *queue = queue_of(4);
    for (int i = 1; i <= 4; i++)
        assert_true(put(queue, i, false));
    assert_false(put(queue, 5, false)); /* full, but not for urgent ones */
    assert_true(put(queue, 6, true));
    assert_true(put(queue, 7, true));
    assert_false(put(queue, 8, true));
    assert_int_equal(take(queue, false), 6);
    assert_int_equal(take(queue, true), 7);
    for (int i = 1; i <= 4; i++)
        assert_int_equal(take(queue, false), i);
    assert_int_equal(pfx_queue_running(queue), 0);
    struct pollfd fd = {.fd = pfx_queue_fd(queue), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 0), 1);
    struct pfx_answer *answer = pfx_queue_answers(queue);
    static const int64_t want[] = {6, 7, 1, 2, 3, 4};
    for (size_t i = 0; i < 6; i++) {
        struct pfx_answer *next = answer->next;
        assert_true(answer->last);
        assert_int_equal(answer->request, want[i]);
        pfx_answer_free(answer);
        answer = next;
    }
    assert_null(answer);
    assert_int_equal(poll(&fd, 1, 0), 0);
    pfx_queue_free(queue);
}

static void closed(void **state)
{
    (void)state;
    struct pfx_queue *queue = queue_of(4);
    assert_true(put(queue, 1, false));
    assert_true(put(queue, 2, true));
    pfx_queue_close(queue);
    assert_null(pfx_queue_take(queue, false));
    assert_null(pfx_queue_take(queue, true));
    assert_false(put(queue, 3, false));
    assert_int_equal(pfx_queue_waiting(queue), 0);
    pfx_queue_free(queue);
}

#define TASKS 20000
struct ctx {
    struct pfx_queue *queue;
    bool urgent_only;
};

static void *work(void *arg)
{
    struct ctx *ctx = arg;
    struct pfx_task *task;
    struct pfx_error err = PFX_ERROR_NONE;
    while ((task = pfx_queue_take(ctx->queue, ctx->urgent_only)))
        pfx_task_end(task, PFX_OK, &err);
    return NULL;
}

static void many(void **state)
{
    (void)state;
    struct pfx_queue *queue = queue_of(64);
    struct ctx any = {queue, false}, urgent = {queue, true};
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, i == 0 ? &urgent : &any), 0);
    int64_t sum = 0, want = 0;
    size_t put_n = 0, got_n = 0;
    while (got_n < TASKS) {
        if (put_n < TASKS && put(queue, (int64_t)put_n, put_n % 3 == 0))
            want += (int64_t)put_n++;
        struct pfx_answer *answer = pfx_queue_answers(queue);
        while (answer) {
            struct pfx_answer *next = answer->next;
            sum += answer->request;
            got_n++;
            pfx_answer_free(answer);
            answer = next;
        }
    }
    assert_int_equal(sum, want);
    pfx_queue_close(queue);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pfx_queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(closed),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
