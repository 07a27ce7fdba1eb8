#include "api/uploader/cmp_co.h"

#include <pthread.h>

#include "crypto/mem.h"

/* OpenSSL's deepest calls here need some 20 KiB; a sanitizer's frames are larger. */
#define STACK_BYTES (1024 * 1024)

enum turn { OWNER, FUNCTION, ENDED };

struct pfx_co {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum turn turn; /* under mutex */
    bool abandoned; /* written by the owner in its turn */
    void (*fn)(void *ctx);
    void *ctx;
};

static void hand_over(struct pfx_co *co, enum turn turn)
{
    pthread_mutex_lock(&co->mutex);
    co->turn = turn;
    pthread_cond_broadcast(&co->changed);
    pthread_mutex_unlock(&co->mutex);
}

static enum turn wait_while(struct pfx_co *co, enum turn turn)
{
    pthread_mutex_lock(&co->mutex);
    while (co->turn == turn)
        pthread_cond_wait(&co->changed, &co->mutex);
    enum turn now = co->turn;
    pthread_mutex_unlock(&co->mutex);
    return now;
}

static void *run(void *arg)
{
    struct pfx_co *co = arg;
    wait_while(co, OWNER);
    if (!co->abandoned)
        co->fn(co->ctx);
    hand_over(co, ENDED);
    return NULL;
}

pfx_result pfx_co_new(void (*fn)(void *ctx), void *ctx, struct pfx_co **ret_co,
                      struct pfx_error *err)
{
    struct pfx_co *co = pfx_alloc(sizeof *co);
    co->fn = fn;
    co->ctx = ctx;
    co->turn = OWNER;
    pthread_mutex_init(&co->mutex, NULL);
    pthread_cond_init(&co->changed, NULL);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int code = pthread_create(&co->thread, &attr, run, co);
    pthread_attr_destroy(&attr);
    if (code != 0) {
        pthread_cond_destroy(&co->changed);
        pthread_mutex_destroy(&co->mutex);
        free(co);
        return pfx_fail_errno(err, code, "start thread", "",
                              "Raise the limit of tasks of this service (TasksMax, RLIMIT_NPROC).");
    }
    *ret_co = co;
    return PFX_OK;
}

bool pfx_co_resume(struct pfx_co *co)
{
    if (co->turn == ENDED)
        return false;
    hand_over(co, FUNCTION);
    return wait_while(co, FUNCTION) != ENDED;
}

bool pfx_co_yield(struct pfx_co *co)
{
    if (co->abandoned)
        return false;
    hand_over(co, OWNER);
    wait_while(co, OWNER);
    return !co->abandoned;
}

void pfx_co_free(struct pfx_co *co)
{
    if (!co)
        return;
    co->abandoned = true;
    while (pfx_co_resume(co))
        ;
    pthread_join(co->thread, NULL);
    pthread_cond_destroy(&co->changed);
    pthread_mutex_destroy(&co->mutex);
    free(co);
}
