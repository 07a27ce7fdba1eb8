/*
 * A job on its way: a little state machine of calls to the services. Between two calls a task waits
 * for what the next one needs: a credential, the service's rate, a place in flight.
 */
#ifndef PFX_UPLOADER_TASK_H
#define PFX_UPLOADER_TASK_H

#include "api/uploader/json.h"
#include "api/uploader/service.h"
#include "api/wire/arm.h"
#include "api/wire/messages.h"

/* Everything that tasks share. */
struct pfx_up {
    const struct pfx_uploader_conf *conf;
    struct pfx_http *http;
    struct pfx_arm *arm;
    struct pfx_service services[PFX_SERVICE_COUNT];
    struct pfx_task *tasks; /* oldest first */
    void *ca;               /* what the CA's file keeps (struct pfx_ca) */
};

struct pfx_task;
typedef void (*pfx_then_fn)(struct pfx_task *task, const struct pfx_answer *answer);
typedef void (*pfx_otherwise_fn)(struct pfx_task *task, pfx_result result,
                                 const struct pfx_error *err);

enum pfx_expect { PFX_EXPECT_JSON, PFX_EXPECT_CERTIFICATES, PFX_EXPECT_NOTHING, PFX_EXPECT_CMP };
#define PFX_WANT_404 1u      /* statuses that `then` takes besides 2xx */
#define PFX_WANT_CONFLICT 2u /* 400 and 409 */
#define PFX_WANT_4XX 4u      /* all but 401, 403, 407, 408, 429 */

struct pfx_call {
    enum pfx_service_id service;
    enum pfx_use use;    /* which of the service's credentials */
    const char *method;
    char *url;           /* taken over; NULL: nothing is sent, and then is called with a NULL answer
                          * as soon as the credential is there */
    struct pfx_buf body; /* taken over; no data: none */
    enum pfx_expect expect;
    unsigned want;
    const char *op;      /* "order": for errors; static */
    bool reads;          /* changes nothing although it isn't a GET */
    const char *const *headers; /* further header lines, ends with NULL; borrowed until the answer */
    /* Gets the failure that would end the task, once, and goes on; NULL: it ends the task. */
    pfx_otherwise_fn otherwise;
};

/* What the job kinds see of a task. */
struct pfx_up *pfx_task_up(struct pfx_task *task);
/* The credential of the last call; NULL: none. */
struct pfx_cred *pfx_task_cred(struct pfx_task *task);
const struct pfx_msg *pfx_task_body(const struct pfx_task *task);
/* Memory of the kind's own, zeroed, that lives as long as the task; done is called on it first. */
void *pfx_task_state(struct pfx_task *task, size_t size, void (*done)(void *state));
void *pfx_task_get(struct pfx_task *task);
/* A result message of the job's kind, to be filled and given to pfx_task_ok. */
struct pfx_msg *pfx_task_result(struct pfx_task *task);

/* Sends a request as soon as it may; then is called unless the task ended. */
void pfx_task_call(struct pfx_task *task, struct pfx_call *call, pfx_then_fn then);
/* Calls then after wait_ms. False: the job's time is over by then; nothing was done. */
PFX_MUST_USE bool pfx_task_sleep(struct pfx_task *task, int64_t wait_ms,
                                 void (*then)(struct pfx_task *task));
/* Ends the task; the caller returns right after it. body is freed. */
void pfx_task_ok(struct pfx_task *task, struct pfx_msg *body);
void pfx_task_fail(struct pfx_task *task, pfx_result result, const struct pfx_error *err);
/* The same with an error that pfx_fail would make of these. */
PFX_PRINTF(6, 7)
void pfx_task_fail_as(struct pfx_task *task, enum pfx_class cls, const char *op, const char *object,
                      const char *code, const char *fmt, ...);
/* The answer of the last call isn't what it must be: ends the task. Bad content of a read is
 * INTEGRITY; of a change it is LOST, because the change was made. */
void pfx_task_fail_content(struct pfx_task *task, const struct pfx_answer *answer, const char *why);
/* The same for content of another form than expected: a read is TRANSIENT, since it was mostly
 * spoiled on the way. */
void pfx_task_spoiled(struct pfx_task *task, const struct pfx_answer *answer, const char *why);
/* The answer says no: ends the task as if then hadn't wanted that status. */
void pfx_task_fail_status(struct pfx_task *task, const struct pfx_answer *answer);
/* The error that pfx_task_fail_status would end it with. */
PFX_MUST_USE pfx_result pfx_task_refusal(struct pfx_task *task, const struct pfx_answer *answer,
                                         struct pfx_error *err);
/* Parses the answer; false: the task has ended. */
PFX_MUST_USE bool pfx_task_json(struct pfx_task *task, const struct pfx_answer *answer,
                                struct pfx_doc *ret_doc);

/* For the loop. */
typedef void (*pfx_kind_fn)(struct pfx_task *task);
void pfx_task_begin(struct pfx_up *up, const struct pfx_arm_job *job, pfx_kind_fn begin);
/* Starts what may start, ends what is late, frees what is done. */
void pfx_up_step(struct pfx_up *up);
int64_t pfx_up_next(const struct pfx_up *up); /* when pfx_up_step has to run again at the latest */
void pfx_up_done(struct pfx_up *up); /* frees tasks and buckets without answering */

#endif
