/* One poll over everything: pfx-agentd's line, the two listening sockets, the workers' answers,
 * signals. No Cryptoki call is made on this thread. */
#include "pkcs11/hsm/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/account.h"
#include "api/conf/notify.h"
#include "api/conf/process.h"
#include "api/conf/sandbox.h"
#include "api/wire/arm.h"
#include "pkcs11/hsm/confine.h"
#include "pkcs11/hsm/due.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/server.h"
#include "pkcs11/hsm/verbs.h"
#include "pkcs11/hsm/watchdog.h"
#include "pkcs11/hsm/worker.h"

#define TICK_MS 1000
#define BEAT_MS 5000
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define STOP_MS 25000    /* running operations; systemd's own limit is 90 s */
#define STOP_ACK_MS 2000 /* ... and for their answers to be acknowledged */
#define QUEUE_MOST 512

struct held {
    int64_t job, lease;
};
struct loop {
    struct pfx_hsm *hsm;
    struct pfx_queue *queue;
    struct pfx_server *server;
    struct pfx_workers *workers;
    struct pfx_arm *arm;
    struct pfx_actor agentd;
    struct held *jobs; /* taken and not answered */
    size_t n_jobs, capacity;
    bool online;
    char told[700]; /* the last reason for having no line that was logged */
    bool opened;    /* the roles were tried once: jobs may come */
    bool opening;
    int64_t retry_ms, retry_at_ms, beat_at_ms;
};

static void on_job(void *ctx, const struct pfx_arm_job *job)
{
    struct loop *loop = ctx;
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, job->kind);
    const struct pfx_verb *verb = pfx_verb_find(pfx_verbs_jobs, job->kind);
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_msg *args = NULL;
    /* Once stopping, it is left unanswered: it is handed out again to whoever comes next. */
    if (atomic_load(&loop->hsm->stopping) || loop->n_jobs == loop->capacity)
        return;
    pfx_result result = PFX_OK;
    if (!pair || !verb)
        result = pfx_fail(&err, PFX_CLASS_REFUSED, "take job", "kind", "",
                          "pfx-hsm doesn't know this kind of job.");
    /* The body is the line's; the worker needs its own. */
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(pair ? pair->request->ceiling : 1);
    if (pfx_ok(result))
        result = pfx_msg_encode(job->body, false, &text, &err);
    if (pfx_ok(result))
        result = pfx_msg_decode(pair->request, pfx_buf_str(&text), text.len, &args, &err);
    if (pfx_ok(result)) {
        struct pfx_task *task = pfx_alloc(sizeof *task);
        task->from = PFX_FROM_JOB;
        task->handler = verb->handler;
        task->exclusive = verb->exclusive;
        task->name = pair->name;
        task->result = pair->result;
        task->actor = loop->agentd;
        task->args = args;
        task->job = job->job;
        task->lease = job->lease;
        if (pfx_queue_put(loop->queue, task, verb->urgent)) {
            loop->jobs[loop->n_jobs++] = (struct held){job->job, job->lease};
            return;
        }
        pfx_task_free(task);
        result = pfx_fail(&err, PFX_CLASS_TRANSIENT, "take job", job->kind, "",
                          "Too much is waiting already.");
    }
    pfx_arm_done(loop->arm, job->job, job->lease, result, &err, NULL);
}

static void on_refused(void *ctx, const char *kind, pfx_result result, const struct pfx_error *err)
{
    struct loop *loop = ctx;
    pfx_hsmlog_refused(loop->hsm, &loop->agentd, kind ? kind : "unknown", result, err);
}

static void on_online(void *ctx, bool online)
{
    struct loop *loop = ctx;
    if (online)
        pfx_log(PFX_LOG_INFO, "connected to pfx-agentd");
    loop->online = online;
    loop->told[0] = '\0';
}

/* Why there is no line: once for each reason, not at each try. */
static void tell_trouble(struct loop *loop)
{
    const char *why = pfx_arm_trouble(loop->arm);
    if (loop->online || !*why || strcmp(why, loop->told) == 0)
        return;
    pfx_log(PFX_LOG_WARN, "no line to pfx-agentd: %s", why);
    snprintf(loop->told, sizeof loop->told, "%s", why);
}

static void job_over(struct loop *loop, int64_t job, int64_t lease)
{
    for (size_t i = 0; i < loop->n_jobs; i++) {
        if (loop->jobs[i].job == job && loop->jobs[i].lease == lease) {
            loop->jobs[i] = loop->jobs[--loop->n_jobs];
            return;
        }
    }
}

static void retry_later(struct loop *loop)
{
    loop->opening = false;
    loop->opened = true;
    if (!pfx_roles_due(loop->hsm))
        loop->retry_ms = RETRY_MIN_MS;
    loop->retry_at_ms = pfx_uptime_ms() + loop->retry_ms;
    loop->retry_ms = loop->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : loop->retry_ms * 2;
}

static void answers(struct loop *loop)
{
    struct pfx_answer *answer = pfx_queue_answers(loop->queue);
    while (answer) {
        struct pfx_answer *next = answer->next;
        switch (answer->from) {
        case PFX_FROM_JOB:
            pfx_arm_done(loop->arm, answer->job, answer->lease, answer->result, &answer->err,
                         pfx_ok(answer->result) ? answer->body : NULL);
            job_over(loop, answer->job, answer->lease);
            pfx_answer_free(answer);
            break;
        case PFX_FROM_SELF:
            retry_later(loop);
            pfx_answer_free(answer);
            break;
        case PFX_FROM_ADMIN:
        case PFX_FROM_BROKER:
            pfx_server_answer(loop->server, answer);
            break;
        }
        answer = next;
    }
}

static void open_roles(struct loop *loop)
{
    struct pfx_task *task = pfx_alloc(sizeof *task);
    task->from = PFX_FROM_SELF;
    task->handler = pfx_roles_ready;
    task->exclusive = true;
    loop->opening = pfx_queue_put(loop->queue, task, false);
    if (!loop->opening)
        pfx_task_free(task);
}

static void due(struct loop *loop)
{
    int64_t now = pfx_uptime_ms();
    pfx_hsmlog_tick(loop->hsm);
    pfx_due_tick(loop->hsm);
    if (!loop->opening && now >= loop->retry_at_ms && pfx_roles_due(loop->hsm))
        open_roles(loop);
    if (now >= loop->beat_at_ms) {
        loop->beat_at_ms = now + BEAT_MS;
        for (size_t i = 0; i < loop->n_jobs; i++)
            pfx_arm_beat(loop->arm, loop->jobs[i].job, loop->jobs[i].lease);
    }
}

/* Sleeps until something happens or is due; true: a signal came. */
static bool turn(struct loop *loop, int signal_fd, int most_ms)
{
    struct pollfd fds[3 + PFX_SERVER_POLLFDS] = {
        {.fd = signal_fd, .events = POLLIN},
        {.fd = pfx_queue_fd(loop->queue), .events = POLLIN},
        {.fd = -1}};
    bool busy;
    size_t n = 3 + pfx_server_prepare(loop->server, fds + 3, &busy);
    int sleep_ms = busy ? 0 : most_ms;
    if (loop->opened) {
        int arm_ms = pfx_arm_prepare(loop->arm, &fds[2]);
        sleep_ms = arm_ms < sleep_ms ? arm_ms : sleep_ms;
    }
    int64_t beat_ms = pfx_notify_beat(pfx_watchdog_well(), pfx_uptime_ms());
    sleep_ms = beat_ms < sleep_ms ? (int)beat_ms : sleep_ms;
    int ready = poll(fds, n, sleep_ms);
    if (ready < 0 && errno != EINTR)
        pfx_die("poll fails");
    answers(loop);
    if (loop->opened)
        pfx_arm_step(loop->arm);
    tell_trouble(loop);
    pfx_server_step(loop->server);
    return ready > 0 && (fds[0].revents & POLLIN);
}

/* What runs is finished and its answers delivered; what waits is left to the next incarnation. */
static void stop(struct loop *loop)
{
    atomic_store(&loop->hsm->stopping, true);
    pfx_notify_stopping();
    pfx_log(PFX_LOG_INFO, "stopping: %zu operations are finished first",
            pfx_queue_running(loop->queue));
    size_t dropped = pfx_queue_waiting(loop->queue);
    pfx_queue_close(loop->queue);
    pfx_server_quiet(loop->server);
    int64_t until = pfx_uptime_ms() + STOP_MS, ack_until = 0;
    for (;;) {
        turn(loop, -1, 50);
        int64_t now = pfx_uptime_ms();
        if (pfx_queue_running(loop->queue) > 0) {
            if (now < until)
                continue;
            pfx_log(PFX_LOG_WARN, "an operation doesn't end: stopping without a logout");
            _exit(0);
        }
        answers(loop);
        if (ack_until == 0)
            ack_until = now + STOP_ACK_MS;
        bool delivered =
            pfx_arm_held(loop->arm) <= loop->n_jobs && pfx_server_unwritten(loop->server) == 0;
        if (delivered || now >= ack_until)
            break;
    }
    if (dropped > 0)
        pfx_log(PFX_LOG_INFO, "%zu waiting tasks are left to the next start", dropped);
}

static pfx_result start(struct loop *loop, struct pfx_error *err)
{
    static const char *const kinds[] = {"hsm.key_csr", "hsm.build_seal", "hsm.key_destroy",
                                        "hsm.rewrap",  "hsm.report",     "hsm.log"};
    static const struct pfx_arm_ops ops = {on_job, on_online, on_refused};
    const struct pfx_hsm_policy *policy = loop->hsm->policy;
    uid_t agent;
    PFX_TRY(pfx_account_user("the policy", "access.agent_user", policy->agent_user, &agent, err));
    PFX_TRY(pfx_queue_new(QUEUE_MOST, &loop->queue, err));
    PFX_TRY(pfx_server_new(loop->hsm, loop->queue, &loop->server, err));
    /* As many again as work at once wait here, so that no worker waits for the line. */
    loop->capacity = (size_t)policy->sessions * 2 * PFX_WORKERS_A_SESSION;
    loop->jobs = pfx_alloc_array(loop->capacity, sizeof *loop->jobs);
    loop->arm = pfx_arm_new("hsm", policy->agent_socket, kinds, sizeof kinds / sizeof *kinds,
                            (unsigned)loop->capacity, &ops, loop);
    /* Without a user in the policy: root and our own uid. */
    pfx_arm_expect(loop->arm, agent == (uid_t)-1 ? geteuid() : agent);
    loop->agentd = (struct pfx_actor){PFX_ACTOR_AGENTD, 0, agent == (uid_t)-1 ? geteuid() : agent};
    PFX_TRY(pfx_confine_calls(policy, err));
    char text[PFX_SANDBOX_TEXT];
    pfx_sandbox_text(text, sizeof text);
    pfx_arm_sandbox(loop->arm, text);
    return pfx_workers_start(loop->hsm, loop->queue, &loop->workers, err);
}

pfx_result pfx_loop_run(struct pfx_hsm *hsm, int signal_fd, struct pfx_error *err)
{
    struct loop loop = {.hsm = hsm, .retry_ms = RETRY_MIN_MS};
    pfx_result started = start(&loop, err);
    if (pfx_ok(started)) {
        pfx_log(PFX_LOG_INFO, "pfx-hsm " PFX_VERSION " runs: sockets in %s, %u sessions",
                hsm->policy->run_dir, hsm->policy->sessions);
        open_roles(&loop);
        pfx_notify_ready("the sockets are open");
        while (!turn(&loop, signal_fd, TICK_MS))
            due(&loop);
        stop(&loop);
        pfx_workers_join(loop.workers);
    }
    pfx_server_free(loop.server);
    pfx_arm_free(loop.arm);
    pfx_queue_free(loop.queue);
    free(loop.jobs);
    return started;
}
