/* The watchdog. Each thread marks the call that it is in; one thread looks at the marks. */
#include "pkcs11/hsm/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "pkcs11/token.h"

#define MARKS 128     /* threads: two workers for each of at most 32 sessions, and a few more */
#define LATE_MS 10000 /* it looks each second, or more often */

struct mark {
    _Atomic(const char *) function; /* NULL: in no call */
    _Atomic int64_t since_ms;
    unsigned depth; /* a call of ours inside a call: only the owner reads it */
};
static struct mark marks[MARKS];
static atomic_uint n_marks;
static _Thread_local struct mark *own;
static int64_t deadline_ms;
static pthread_t watcher;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;
static bool stopping;
static _Atomic int64_t looked_ms; /* 0: nobody watches */

/* Not pfx_uptime_ms, which goes on while the host sleeps: a call that was under way then hangs no
 * longer than any other. */
static int64_t awake_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void trace(const char *function, bool entering)
{
    if (!own) {
        unsigned index = atomic_fetch_add(&n_marks, 1);
        if (index >= MARKS)
            pfx_die("more threads call Cryptoki than the watchdog can watch");
        own = &marks[index];
    }
    if (entering) {
        if (own->depth++ > 0)
            return;
        atomic_store(&own->since_ms, awake_ms());
        atomic_store(&own->function, function);
    } else if (own->depth > 0 && --own->depth == 0) {
        atomic_store(&own->function, NULL);
    }
}

static void look(void)
{
    unsigned n = atomic_load(&n_marks);
    for (unsigned i = 0; i < n && i < MARKS; i++) {
        const char *function = atomic_load(&marks[i].function);
        int64_t since = atomic_load(&marks[i].since_ms);
        if (!function || awake_ms() - since < deadline_ms)
            continue;
        /* It may have ended, and the next one begun, between the two loads. */
        if (atomic_load(&marks[i].function) != function || atomic_load(&marks[i].since_ms) != since)
            continue;
        pfx_log(
            PFX_LOG_ERROR,
            "the Cryptoki call %s hasn't come back for %lld s (call_deadline): the module or its "
            "HSM hangs; pfx-hsm ends and has to be started again",
            function, (long long)((awake_ms() - since) / 1000));
        _exit(PFX_WATCHDOG_EXIT); /* no handlers: they would wait for the thread that hangs */
    }
    atomic_store(&looked_ms, awake_ms());
}

static void *watch(void *ctx)
{
    int64_t step_ms = deadline_ms / 8;
    (void)ctx;
    step_ms = step_ms < 20 ? 20 : step_ms > 1000 ? 1000 : step_ms;
    pthread_mutex_lock(&lock);
    while (!stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (step_ms % 1000) * 1000000;
        until.tv_sec += step_ms / 1000 + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&wake, &lock, &until);
        look();
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

pfx_result pfx_watchdog_start(int64_t call_deadline_ms, struct pfx_error *err)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&wake, &attr);
    pthread_condattr_destroy(&attr);
    deadline_ms = call_deadline_ms;
    stopping = false;
    atomic_store(&looked_ms, awake_ms());
    int errnum = pthread_create(&watcher, NULL, watch, NULL);
    if (errnum != 0)
        return pfx_fail_errno(err, errnum, "start thread", "watchdog", "");
    pfx_cryptoki_trace = trace;
    return PFX_OK;
}

bool pfx_watchdog_well(void)
{
    int64_t looked = atomic_load(&looked_ms);
    return looked > 0 && awake_ms() - looked < LATE_MS;
}

void pfx_watchdog_stop(void)
{
    pfx_cryptoki_trace = NULL;
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
    pthread_join(watcher, NULL);
    atomic_store(&looked_ms, 0);
    pthread_cond_destroy(&wake);
}
