#include "api/uploader/task.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/uploader/expect.h"
#include "api/uploader/url.h"

#define BEAT_MS 5000

enum state { IDLE, WAITING, FLYING, ASLEEP, ENDED };

struct pfx_task {
    struct pfx_up *up;
    struct pfx_task *next;
    int64_t job, lease;
    const struct pfx_wire_pair *kind;
    struct pfx_msg *body;
    int64_t deadline, beat_at, wake_at;
    void *own;
    void (*own_done)(void *own);

    enum state state;
    struct pfx_call call;
    pfx_then_fn then;
    void (*woken)(struct pfx_task *task);
    struct pfx_flight *flight;
    unsigned generation;    /* of the credential in flight */
    bool cred_tried;        /* the one new try after a 401 is used up */
    unsigned cred_failures; /* when the wait for the credential began */
    char waits[600];        /* for what, if it never comes */
};

struct pfx_up *pfx_task_up(struct pfx_task *task)
{
    return task->up;
}

const struct pfx_msg *pfx_task_body(const struct pfx_task *task)
{
    return task->body;
}

void *pfx_task_state(struct pfx_task *task, size_t size, void (*done)(void *state))
{
    task->own = pfx_alloc(size);
    task->own_done = done;
    return task->own;
}

void *pfx_task_get(struct pfx_task *task)
{
    return task->own;
}

struct pfx_msg *pfx_task_result(struct pfx_task *task)
{
    return pfx_msg_new(task->kind->result);
}

static void call_done(struct pfx_call *call)
{
    free(call->url);
    pfx_buf_done(&call->body);
    *call = (struct pfx_call){0};
}

static void task_free(struct pfx_task *task)
{
    if (task->flight)
        pfx_http_cancel(task->flight);
    call_done(&task->call);
    if (task->own_done)
        task->own_done(task->own);
    free(task->own);
    pfx_msg_free(task->body);
    free(task);
}

static void end(struct pfx_task *task, pfx_result result, const struct pfx_error *err,
                const struct pfx_msg *body)
{
    task->state = ENDED;
    if (pfx_failed(result))
        pfx_log_error(err, "job %lld %s: %s", (long long)task->job, task->kind->name,
                      pfx_class_name(result.cls));
    pfx_arm_done(task->up->arm, task->job, task->lease, result, err, body);
}

void pfx_task_fail(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    if (task->state == ENDED)
        return;
    pfx_otherwise_fn otherwise = task->call.otherwise;
    if (!otherwise) {
        end(task, result, err, NULL);
        return;
    }
    struct pfx_error copy = *err; /* may be the credential's, which the next call changes */
    task->call.otherwise = NULL;
    task->state = IDLE;
    otherwise(task, result, &copy);
}

void pfx_task_fail_as(struct pfx_task *task, enum pfx_class cls, const char *op, const char *object,
                      const char *code, const char *fmt, ...)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char text[sizeof err.text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pfx_task_fail(task, pfx_fail(&err, cls, op, object, code, "%s", text), &err);
}

/* The result holds what a service sent. If that breaks a bound of the protocol it is the service's
 * fault, not a defect of ours that may end the program. */
void pfx_task_ok(struct pfx_task *task, struct pfx_msg *body)
{
    struct pfx_error cause = PFX_ERROR_NONE;
    task->call.otherwise = NULL; /* the end is the end */
    struct pfx_buf text = pfx_buf_make(task->kind->result->ceiling);
    pfx_result r = pfx_msg_encode(body, false, &text, &cause);
    pfx_buf_done(&text);
    if (pfx_ok(r)) {
        end(task, PFX_OK, NULL, body);
    } else {
        char line[400];
        pfx_task_fail_as(task, PFX_CLASS_INTEGRITY, task->call.op ? task->call.op : "answer",
                         task->kind->name, "", "The service's answer is out of range: %s",
                         pfx_error_line(&cause, line, sizeof line));
    }
    pfx_msg_free(body);
}

static struct pfx_service *service_of(struct pfx_task *task)
{
    return &task->up->services[task->call.service];
}

struct pfx_cred *pfx_task_cred(struct pfx_task *task)
{
    return service_of(task)->creds[task->call.use];
}

static bool is_read(const struct pfx_call *call)
{
    return call->reads || strcmp(call->method, "GET") == 0;
}

static struct pfx_trouble trouble_of(struct pfx_task *task)
{
    const struct pfx_service *service = service_of(task);
    return (struct pfx_trouble){
        .op = task->call.op,
        .service = service->name,
        .url_option = service->url_option,
        .explain = service->explain,
        .expected = task->call.expect == PFX_EXPECT_CMP ? "a CMP message" : "JSON",
        .repeats = task->call.expect == PFX_EXPECT_CMP,
        .conf = task->up->conf,
    };
}

/* A change whose answer can't be used was made all the same: LOST. */
static void fail_content(struct pfx_task *task, const struct pfx_answer *answer, enum pfx_class read,
                         const char *why)
{
    struct pfx_trouble trouble = trouble_of(task);
    struct pfx_error err = PFX_ERROR_NONE;
    enum pfx_class cls = is_read(&task->call) ? read : PFX_CLASS_LOST;
    pfx_task_fail(task, pfx_trouble_content(&trouble, answer, cls, why, &err), &err);
}

void pfx_task_fail_content(struct pfx_task *task, const struct pfx_answer *answer, const char *why)
{
    fail_content(task, answer, PFX_CLASS_INTEGRITY, why);
}

void pfx_task_spoiled(struct pfx_task *task, const struct pfx_answer *answer, const char *why)
{
    fail_content(task, answer, PFX_CLASS_TRANSIENT, why);
}

bool pfx_task_json(struct pfx_task *task, const struct pfx_answer *answer, struct pfx_doc *ret_doc)
{
    char why[160];
    if (pfx_doc_parse(answer->body, ret_doc, why))
        return true;
    pfx_task_spoiled(task, answer, why); /* reading it again costs nothing */
    return false;
}

void pfx_task_call(struct pfx_task *task, struct pfx_call *call, pfx_then_fn then)
{
    call_done(&task->call);
    task->call = *call;
    *call = (struct pfx_call){0};
    task->then = then;
    task->state = WAITING;
    task->wake_at = 0;
    task->cred_tried = false;
    task->waits[0] = '\0';
    const struct pfx_cred *cred = pfx_task_cred(task);
    task->cred_failures = cred ? cred->failures : 0;
}

bool pfx_task_sleep(struct pfx_task *task, int64_t wait_ms, void (*then)(struct pfx_task *task))
{
    int64_t now = pfx_uptime_ms();
    if (wait_ms >= task->deadline - now)
        return false;
    task->woken = then;
    task->wake_at = now + wait_ms;
    task->state = ASLEEP;
    return true;
}

static struct pfx_verdict judge(struct pfx_task *task, const struct pfx_answer *answer)
{
    return pfx_trouble_judge(task->call.service, is_read(&task->call), answer, pfx_now_ms());
}

pfx_result pfx_task_refusal(struct pfx_task *task, const struct pfx_answer *answer,
                            struct pfx_error *err)
{
    struct pfx_trouble trouble = trouble_of(task);
    struct pfx_verdict verdict = judge(task, answer);
    enum pfx_class cls = verdict.cls == PFX_CLASS_OK ? PFX_CLASS_REFUSED : verdict.cls;
    return pfx_trouble_write(&trouble, answer, cls, verdict.wait_ms, err);
}

void pfx_task_fail_status(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_task_fail(task, pfx_task_refusal(task, answer, &err), &err);
}

/* A 429 wasn't processed, so the same request may go again, POST or not. */
static void wait_for_rate(struct pfx_task *task, const struct pfx_answer *answer,
                          const struct pfx_verdict *verdict, int64_t now)
{
    struct pfx_service *service = service_of(task);
    pfx_service_throttle(service, verdict->wait_ms, now);
    struct pfx_trouble trouble = trouble_of(task);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_trouble_write(&trouble, answer, PFX_CLASS_TRANSIENT,
                                     service->closed_until - now, &err);
    if (service->closed_until >= task->deadline) {
        pfx_task_fail(task, r, &err);
        return;
    }
    task->state = WAITING;
    task->wake_at = service->closed_until;
}

static void on_answer(void *ctx, const struct pfx_answer *answer)
{
    struct pfx_task *task = ctx;
    struct pfx_service *service = service_of(task);
    int64_t now = pfx_uptime_ms();
    task->flight = NULL;
    task->state = IDLE;
    pfx_service_give(service, is_read(&task->call), now);

    struct pfx_verdict verdict = judge(task, answer);
    if (verdict.throttled) {
        wait_for_rate(task, answer, &verdict, now);
        return;
    }
    service->throttled = 0;
    struct pfx_cred *cred = pfx_task_cred(task);
    if (verdict.credential && cred && cred->header) {
        bool again = pfx_cred_refused(cred, task->generation, task->cred_tried, now);
        if (again && !task->cred_tried) {
            task->cred_tried = true;
            task->cred_failures = cred->failures;
            task->state = WAITING;
            task->wake_at = 0;
            return;
        }
    }
    if (verdict.cls != PFX_CLASS_OK && !pfx_expect_wanted(&task->call, answer)) {
        pfx_task_fail_status(task, answer);
    } else if (verdict.cls == PFX_CLASS_OK && !pfx_expect_fits(&task->call, answer)) {
        fail_content(task, answer, PFX_CLASS_TRANSIENT, "");
    } else {
        task->then(task, answer);
    }
    if (task->state == IDLE) /* a kind that forgot to go on must not hold the job for ever */
        pfx_task_fail_as(task, PFX_CLASS_INTERNAL, task->call.op, task->kind->name, "",
                         "The job came to no end; report this as a defect.");
}

/* Graph's answers say whose they are, and so do CMP's messages, whose servers may want all of a
 * transaction on one connection. Graph's pages are many, and the rest is little. */
static bool wants_alone(const struct pfx_service *service, const struct pfx_call *call)
{
    if (call->expect == PFX_EXPECT_CMP)
        return false;
    return service->id != PFX_SERVICE_GRAPH || !is_read(call);
}

static void start(struct pfx_task *task, const struct pfx_secret *secret, int64_t now)
{
    struct pfx_service *service = service_of(task);
    const struct pfx_call *call = &task->call;
    const struct pfx_cred *cred = pfx_task_cred(task);
    struct pfx_buf copy = {0}; /* the call keeps its own, in case of a 429 or 401 */
    if (call->body.len > 0) {
        copy = pfx_buf_make(call->body.max);
        (void)pfx_buf_add(&copy, call->body.data, call->body.len);
    }
    struct pfx_http_request request = {
        .method = call->method,
        .url = call->url,
        .accept = pfx_expect_accept(call->expect),
        .content_type = pfx_expect_sends(call->expect),
        .body = call->body.len > 0 ? &copy : NULL,
        .auth_header = cred ? cred->header : NULL,
        .auth = secret,
        /* The CA's key or message never by HTTP/2: see http.h. */
        .http2 = service->id != PFX_SERVICE_CA,
        .client_request_id = service->client_request_id,
        .headers = call->headers,
        .alone = wants_alone(service, call),
        .echoed = service->id == PFX_SERVICE_GRAPH,
        .done = on_answer,
        .ctx = task,
    };
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_http_start(task->up->http, &request, &task->flight, &err);
    pfx_buf_done(&copy);
    if (pfx_failed(r)) {
        task->flight = NULL;
        pfx_task_fail(task, r, &err);
        return;
    }
    task->generation = cred ? cred->generation : 0;
    task->state = FLYING;
    pfx_service_take(service, is_read(&task->call), now);
}

static void fail_late(struct pfx_task *task)
{
    char object[160];
    const char *url = task->call.url ? task->call.url : service_of(task)->url;
    pfx_url_show(url, object, sizeof object);
    pfx_task_fail_as(task, PFX_CLASS_TRANSIENT, task->call.op, object, "",
                     "Not sent within limits.job_timeout (%lld s). %s",
                     (long long)task->up->conf->job_timeout_ms / 1000,
                     task->waits[0] ? task->waits : "The requests before it took that long.");
}

/* One look at a waiting task: sends, goes on waiting, or ends it. */
static void try_start(struct pfx_task *task, int64_t now)
{
    struct pfx_service *service = service_of(task);
    struct pfx_cred *cred = pfx_task_cred(task);
    if (now >= task->deadline) {
        fail_late(task);
        return;
    }
    const struct pfx_secret *secret = NULL;
    if (cred && cred->failures == task->cred_failures)
        secret = pfx_cred_want(cred, now);
    if (cred && cred->failures != task->cred_failures) {
        pfx_task_fail(task, (pfx_result){cred->trouble.cls}, &cred->trouble);
        return;
    }
    if (cred && !secret) {
        task->wake_at = pfx_cred_next(cred);
        if (cred->trouble.cls != PFX_CLASS_OK)
            pfx_error_line(&cred->trouble, task->waits, sizeof task->waits);
        return;
    }
    if (!task->call.url) {
        task->state = IDLE;
        task->then(task, NULL);
        return;
    }
    if (now < service->closed_until) {
        task->wake_at = service->closed_until;
        snprintf(task->waits, sizeof task->waits,
                 "%s limits the number of requests (HTTP 429): retry after %lld s.", service->name,
                 (long long)(service->closed_until - now + 999) / 1000);
        if (service->closed_until >= task->deadline)
            fail_late(task);
        return;
    }
    int64_t wait = pfx_service_wait(service, is_read(&task->call), now);
    if (wait > 0) {
        task->wake_at = now + wait;
        snprintf(task->waits, sizeof task->waits,
                 "The rate for %s in uploader.yaml is used up by other jobs.", service->name);
        return;
    }
    if (!pfx_http_room(task->up->http)) {
        task->wake_at = INT64_MAX;
        snprintf(task->waits, sizeof task->waits,
                 "limits.in_flight (%u) requests of other jobs were on their way.",
                 task->up->conf->in_flight);
        return;
    }
    start(task, secret, now);
}

/* The body is borrowed from the arm: through its own encoding it becomes ours. */
static pfx_result copy_body(struct pfx_task *task, const struct pfx_msg *body,
                            struct pfx_error *err)
{
    struct pfx_buf text = pfx_buf_make(task->kind->request->ceiling);
    pfx_result r = pfx_msg_encode(body, false, &text, err);
    if (pfx_ok(r))
        r = pfx_msg_decode(task->kind->request, pfx_buf_str(&text), text.len, &task->body, err);
    pfx_buf_done(&text);
    return r;
}

void pfx_task_begin(struct pfx_up *up, const struct pfx_arm_job *job, pfx_kind_fn begin)
{
    int64_t now = pfx_uptime_ms();
    struct pfx_task *task = pfx_alloc(sizeof *task);
    task->up = up;
    task->job = job->job;
    task->lease = job->lease;
    task->kind = pfx_wire_find(pfx_wire_jobs, job->kind);
    task->deadline = now + up->conf->job_timeout_ms;
    task->beat_at = now + BEAT_MS;
    struct pfx_task **at = &up->tasks;
    while (*at)
        at = &(*at)->next;
    *at = task;
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = copy_body(task, job->body, &err);
    if (pfx_failed(r))
        pfx_task_fail(task, r, &err);
    else
        begin(task);
}

void pfx_up_step(struct pfx_up *up)
{
    int64_t now = pfx_uptime_ms();
    for (size_t i = 0; i < PFX_SERVICE_COUNT; i++)
        for (size_t use = 0; use < PFX_USE_COUNT; use++)
            if (up->services[i].creds[use])
                pfx_cred_tidy(up->services[i].creds[use], now);
    for (struct pfx_task *task = up->tasks; task; task = task->next) {
        if (task->state == WAITING) {
            try_start(task, now);
        } else if (task->state == ASLEEP && now >= task->wake_at) {
            task->state = IDLE;
            task->woken(task);
        }
        if (task->state != ENDED && now >= task->beat_at) {
            pfx_arm_beat(up->arm, task->job, task->lease);
            task->beat_at = now + BEAT_MS;
        }
    }
    for (struct pfx_task **at = &up->tasks; *at;) {
        struct pfx_task *task = *at;
        if (task->state == ENDED) {
            *at = task->next;
            task_free(task);
        } else {
            at = &task->next;
        }
    }
}

int64_t pfx_up_next(const struct pfx_up *up)
{
    int64_t next = INT64_MAX;
    for (const struct pfx_task *task = up->tasks; task; task = task->next) {
        int64_t due = task->beat_at;
        if (task->state == WAITING) {
            if (task->wake_at < due)
                due = task->wake_at;
            if (task->deadline < due)
                due = task->deadline;
        }
        if (task->state == ASLEEP && task->wake_at < due)
            due = task->wake_at;
        if (task->state == ENDED)
            due = 0;
        if (due < next)
            next = due;
    }
    return next;
}

void pfx_up_done(struct pfx_up *up)
{
    while (up->tasks) {
        struct pfx_task *task = up->tasks;
        up->tasks = task->next;
        task_free(task);
    }
    for (size_t i = 0; i < PFX_SERVICE_COUNT; i++)
        pfx_service_done(&up->services[i]);
}
