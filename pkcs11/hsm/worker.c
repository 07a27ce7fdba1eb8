/* Workers. */
#include "pkcs11/hsm/worker.h"

#include <time.h>

#include "api/conf/process.h"
#include "pkcs11/hsm/hsmlog.h"

#define URGENT_WAIT_MS 2000

struct thread {
    pthread_t id;
    struct pfx_worker worker;
    struct pfx_queue *queue;
    bool urgent_only;
};
struct pfx_workers {
    struct thread *threads;
    size_t n;
};

static bool lock_for(struct pfx_hsm *hsm, const struct pfx_task *task, bool urgent)
{
    if (task->exclusive)
        return pthread_rwlock_wrlock(&hsm->lock) == 0;
    if (!urgent)
        return pthread_rwlock_rdlock(&hsm->lock) == 0;
    /* Not pthread_rwlock_clockrdlock: ThreadSanitizer doesn't see that one. */
    for (int64_t until = pfx_uptime_ms() + URGENT_WAIT_MS;;) {
        if (pthread_rwlock_tryrdlock(&hsm->lock) == 0)
            return true;
        if (pfx_uptime_ms() >= until)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

static void run(struct pfx_worker *worker, struct pfx_task *task, bool urgent)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result result;
    if (lock_for(hsm, task, urgent)) {
        worker->began = false;
        result = task->handler(worker, task, &err);
        pthread_rwlock_unlock(&hsm->lock);
        /* What became an operation has its entries already. */
        if (pfx_failed(result) && !worker->began && task->name)
            pfx_hsmlog_refused(hsm, &task->actor, task->name, result, &err);
    } else {
        result =
            pfx_fail(&err, PFX_CLASS_TRANSIENT, "wait for tokens", "", "",
                     "The tokens are being opened, or a ceremony or a probe runs: try again in "
                     "a moment.");
    }
    pfx_task_end(task, result, &err);
}

static void *thread_main(void *ctx)
{
    struct thread *thread = ctx;
    struct pfx_task *task;
    while ((task = pfx_queue_take(thread->queue, thread->urgent_only)))
        run(&thread->worker, task, thread->urgent_only);
    pfx_ring_done(&thread->worker.ring);
    return NULL;
}

pfx_result pfx_workers_start(struct pfx_hsm *hsm, struct pfx_queue *queue,
                             struct pfx_workers **ret_workers, struct pfx_error *err)
{
    struct pfx_workers *workers = pfx_alloc(sizeof *workers);
    unsigned ordinary = PFX_WORKERS_A_SESSION * hsm->policy->sessions;
    workers->threads = pfx_alloc_array(ordinary + 1, sizeof *workers->threads);
    for (unsigned i = 0; i <= ordinary; i++) {
        struct thread *thread = &workers->threads[i];
        thread->worker.hsm = hsm;
        thread->worker.index = i;
        thread->queue = queue;
        thread->urgent_only = i == ordinary;
        int errnum = pthread_create(&thread->id, NULL, thread_main, thread);
        if (errnum != 0) {
            pfx_queue_close(queue);
            pfx_workers_join(workers);
            return pfx_fail_errno(err, errnum, "start thread", "worker", "");
        }
        workers->n++;
    }
    *ret_workers = workers;
    return PFX_OK;
}

void pfx_workers_join(struct pfx_workers *workers)
{
    if (!workers)
        return;
    for (size_t i = 0; i < workers->n; i++)
        pthread_join(workers->threads[i].id, NULL);
    free(workers->threads);
    free(workers);
}
