/* The queue between the loop and the workers. */
#include "pkcs11/hsm/task.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct tasks {
    struct pfx_task *first, *last;
};
struct pfx_queue {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct tasks urgent, ordinary;
    size_t waiting, running, most;
    bool closed;
    struct pfx_answer *first, *last;
    int fd;
};

void pfx_task_free(struct pfx_task *task)
{
    if (!task)
        return;
    pfx_msg_free(task->args);
    pfx_msg_free(task->reply);
    free(task);
}

void pfx_answer_free(struct pfx_answer *answer)
{
    if (!answer)
        return;
    pfx_msg_free(answer->body);
    free(answer);
}

pfx_result pfx_queue_new(size_t most, struct pfx_queue **ret_queue, struct pfx_error *err)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "eventfd", "", "");
    struct pfx_queue *queue = pfx_alloc(sizeof *queue);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->more, NULL);
    queue->most = most;
    queue->fd = fd;
    *ret_queue = queue;
    return PFX_OK;
}

static void drop(struct tasks *tasks)
{
    while (tasks->first) {
        struct pfx_task *task = tasks->first;
        tasks->first = task->next;
        pfx_task_free(task);
    }
    tasks->last = NULL;
}

void pfx_queue_free(struct pfx_queue *queue)
{
    if (!queue)
        return;
    drop(&queue->urgent);
    drop(&queue->ordinary);
    while (queue->first) {
        struct pfx_answer *answer = queue->first;
        queue->first = answer->next;
        pfx_answer_free(answer);
    }
    close(queue->fd);
    pthread_cond_destroy(&queue->more);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

int pfx_queue_fd(const struct pfx_queue *queue)
{
    return queue->fd;
}

bool pfx_queue_put(struct pfx_queue *queue, struct pfx_task *task, bool urgent)
{
    pthread_mutex_lock(&queue->lock);
    /* Urgent ones have half as much room of their own: jobs can't fill it. */
    size_t most = urgent ? queue->most + queue->most / 2 : queue->most;
    bool room = !queue->closed && queue->waiting < most;
    if (room) {
        struct tasks *tasks = urgent ? &queue->urgent : &queue->ordinary;
        task->queue = queue;
        task->next = NULL;
        if (tasks->last)
            tasks->last->next = task;
        else
            tasks->first = task;
        tasks->last = task;
        queue->waiting++;
        /* All: the one that takes urgent tasks only mustn't be the only one woken. */
        pthread_cond_broadcast(&queue->more);
    }
    pthread_mutex_unlock(&queue->lock);
    return room;
}

struct pfx_task *pfx_queue_take(struct pfx_queue *queue, bool urgent_only)
{
    struct pfx_task *task = NULL;
    pthread_mutex_lock(&queue->lock);
    while (!queue->closed && !task) {
        struct tasks *tasks = &queue->urgent;
        if (!tasks->first && !urgent_only)
            tasks = &queue->ordinary;
        task = tasks->first;
        if (!task) {
            pthread_cond_wait(&queue->more, &queue->lock);
            continue;
        }
        tasks->first = task->next;
        if (!tasks->first)
            tasks->last = NULL;
        task->next = NULL;
        queue->waiting--;
        queue->running++;
    }
    pthread_mutex_unlock(&queue->lock);
    return task;
}

void pfx_queue_close(struct pfx_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    drop(&queue->urgent);
    drop(&queue->ordinary);
    queue->waiting = 0;
    pthread_cond_broadcast(&queue->more);
    pthread_mutex_unlock(&queue->lock);
}

size_t pfx_queue_running(struct pfx_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t n = queue->running;
    pthread_mutex_unlock(&queue->lock);
    return n;
}

size_t pfx_queue_waiting(struct pfx_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t n = queue->waiting;
    pthread_mutex_unlock(&queue->lock);
    return n;
}

struct pfx_answer *pfx_queue_answers(struct pfx_queue *queue)
{
    uint64_t count;
    ssize_t got = read(queue->fd, &count, sizeof count);
    (void)got; /* EAGAIN when there is none */
    pthread_mutex_lock(&queue->lock);
    struct pfx_answer *first = queue->first;
    queue->first = queue->last = NULL;
    pthread_mutex_unlock(&queue->lock);
    return first;
}

static void post(struct pfx_queue *queue, struct pfx_answer *answer)
{
    pthread_mutex_lock(&queue->lock);
    if (queue->last)
        queue->last->next = answer;
    else
        queue->first = answer;
    queue->last = answer;
    if (answer->last)
        queue->running--;
    pthread_mutex_unlock(&queue->lock);
    uint64_t one = 1;
    ssize_t put = write(queue->fd, &one, sizeof one);
    (void)put; /* fails only when the counter is full, and then the loop is awake */
}

static struct pfx_answer *answer_to(const struct pfx_task *task)
{
    struct pfx_answer *answer = pfx_alloc(sizeof *answer);
    answer->from = task->from;
    answer->job = task->job;
    answer->lease = task->lease;
    answer->conn = task->conn;
    answer->request = task->request;
    return answer;
}

struct pfx_msg *pfx_task_item(const struct pfx_task *task)
{
    return pfx_msg_new(task->result);
}

void pfx_task_emit(struct pfx_task *task, struct pfx_msg *body)
{
    if (task->from == PFX_FROM_JOB || task->from == PFX_FROM_SELF) {
        pfx_msg_free(task->reply);
        task->reply = body;
        return;
    }
    struct pfx_answer *answer = answer_to(task);
    answer->body = body;
    post(task->queue, answer);
}

void pfx_task_say(struct pfx_task *task, const char *kind, const char *fmt, ...)
{
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "kind", kind);
    pfx_msg_set_str(item, "text", text);
    pfx_task_emit(task, item);
}

void pfx_task_end(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    struct pfx_answer *answer = answer_to(task);
    answer->last = true;
    answer->finding = task->finding;
    answer->result = result;
    answer->err = *err;
    answer->body = PFX_TAKE(task->reply);
    post(task->queue, answer);
    pfx_task_free(task);
}
