/*
 * Work between the thread that owns the sockets and the workers: one bounded queue in, one list of
 * answers out, and an eventfd that wakes the loop. Urgent tasks (the uploader's two requests,
 * status) go first, and one worker takes nothing else: an assertion never waits for a key
 * generation.
 */
#ifndef PFX_HSM_TASK_H
#define PFX_HSM_TASK_H

#include "api/wire/messages.h"
#include "pkcs11/hsm/op.h"

enum pfx_task_from { PFX_FROM_SELF, PFX_FROM_JOB, PFX_FROM_ADMIN, PFX_FROM_BROKER };
struct pfx_worker;
struct pfx_task;
typedef pfx_result (*pfx_task_handler)(struct pfx_worker *worker, struct pfx_task *task,
                                       struct pfx_error *err);
struct pfx_task {
    struct pfx_task *next;
    enum pfx_task_from from;
    pfx_task_handler handler;
    bool exclusive;                       /* opens or closes tokens: hsm->lock for writing */
    const char *name;                     /* of the verb or job; NULL for its own tasks */
    const struct pfx_wire_schema *result; /* of what it emits */
    struct pfx_actor actor;
    struct pfx_msg *args; /* owned; job body or verb's arguments; may be NULL */
    int64_t job, lease;   /* PFX_FROM_JOB */
    uint64_t conn;        /* PFX_FROM_ADMIN, _BROKER */
    int64_t request;
    bool finding;            /* done, but something was found: exit code 1 */
    struct pfx_msg *reply;   /* a job's one item, until the task ends */
    struct pfx_queue *queue; /* where answers go */
};
struct pfx_answer {
    struct pfx_answer *next;
    enum pfx_task_from from;
    int64_t job, lease;
    uint64_t conn;
    int64_t request;
    bool last; /* no more for this task; result and err count */
    bool finding;
    pfx_result result;
    struct pfx_error err;
    struct pfx_msg *body; /* owned; may be NULL */
};
void pfx_task_free(struct pfx_task *task);
void pfx_answer_free(struct pfx_answer *answer);

struct pfx_queue;
PFX_MUST_USE pfx_result pfx_queue_new(size_t most, struct pfx_queue **ret_queue,
                                      struct pfx_error *err);
void pfx_queue_free(struct pfx_queue *queue);    /* no thread uses it any more */
int pfx_queue_fd(const struct pfx_queue *queue); /* readable while there are answers */
/* Takes the task over; false (and doesn't) when the queue is full or closed. */
bool pfx_queue_put(struct pfx_queue *queue, struct pfx_task *task, bool urgent);
/* The next task; waits. NULL once the queue is closed. */
struct pfx_task *pfx_queue_take(struct pfx_queue *queue, bool urgent_only);
/* Nothing is handed out any more; what waits is freed. Returns at once. */
void pfx_queue_close(struct pfx_queue *queue);
size_t pfx_queue_running(struct pfx_queue *queue); /* tasks taken and not ended */
size_t pfx_queue_waiting(struct pfx_queue *queue);
/* All answers so far, oldest first; empties the eventfd. */
struct pfx_answer *pfx_queue_answers(struct pfx_queue *queue);

/* For handlers: one more item of the answer (takes body over), on its way at once. A job has
 * exactly one, which goes with its end. */
void pfx_task_emit(struct pfx_task *task, struct pfx_msg *body);
/* An empty item of the verb's or job's own result schema. */
struct pfx_msg *pfx_task_item(const struct pfx_task *task);
/* An item of a verb for people: kind (step, note, reason) and text, at most 900 bytes. */
void pfx_task_say(struct pfx_task *task, const char *kind, const char *fmt, ...) PFX_PRINTF(3, 4);
/* For the worker: ends the task and frees it. */
void pfx_task_end(struct pfx_task *task, pfx_result result, const struct pfx_error *err);

#endif
