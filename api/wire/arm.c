/*
 * An arm's line to pfx-agentd.
 *
 * A place is what a job takes up from its arrival until its answer is acknowledged. Credit is how
 * many jobs pfx-agentd may still send on this connection. places taken + credit <= capacity always:
 * after the welcome credit is what is free, each job moves one from credit to places, each
 * acknowledged answer one back by pull{1}.
 */
#include "api/wire/arm.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/wire/clock.h"
#include "api/wire/messages.h"
#include "crypto/encode.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define WELCOME_MS 10000
#define IDLE_MS 60000
/* Answers may be 10 MiB each: the next one is queued when the last ones are through. */
#define ANSWERS_QUEUED ((size_t)8 * 1024 * 1024)
#define MESSAGES_PER_STEP 64

enum line { LINE_DOWN, LINE_HELLO, LINE_UP };

struct place {
    int64_t job; /* 0: free */
    int64_t lease;
    const struct pfx_wire_pair *pair; /* NULL: unknown kind */
    struct pfx_msg *answer;           /* NULL: being worked on */
    bool sent;                        /* on this connection */
};

struct pfx_arm {
    char *role, *path;
    char **kinds;
    size_t n_kinds;
    struct pfx_arm_ops ops;
    void *ctx;
    char incarnation[PFX_GUID_SIZE];
    char sandbox[200];
    uid_t expected; /* -1: any */
    enum line line;
    struct pfx_conn *conn;
    int64_t until_ms; /* LINE_DOWN: connect then; LINE_HELLO: give up then */
    int backoff_ms;
    unsigned credit;
    struct place *places;
    unsigned capacity, held;
    char trouble[700];
};

static const struct pfx_wire_schema *const before_welcome[] = {&pfx_s_welcome, &pfx_s_bye};
static const struct pfx_wire_schema *const after_welcome[] = {&pfx_s_job, &pfx_s_ack, &pfx_s_bye};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct pfx_arm *pfx_arm_new(const char *role, const char *path, const char *const *kinds,
                            size_t n_kinds, unsigned capacity, const struct pfx_arm_ops *ops,
                            void *ctx)
{
    struct pfx_arm *arm = pfx_alloc(sizeof(*arm));
    arm->role = pfx_strdup(role);
    arm->path = pfx_strdup(path);
    arm->kinds = pfx_alloc_array(n_kinds, sizeof(*arm->kinds));
    for (; arm->n_kinds < n_kinds; arm->n_kinds++)
        arm->kinds[arm->n_kinds] = pfx_strdup(kinds[arm->n_kinds]);
    arm->ops = *ops;
    arm->ctx = ctx;
    pfx_guid_new(arm->incarnation);
    arm->expected = (uid_t)-1;
    arm->backoff_ms = BACKOFF_MIN_MS;
    arm->capacity = capacity;
    arm->places = pfx_alloc_array(capacity, sizeof(*arm->places));
    return arm;
}

void pfx_arm_free(struct pfx_arm *arm)
{
    if (!arm)
        return;
    pfx_conn_free(arm->conn);
    for (unsigned i = 0; i < arm->capacity; i++)
        pfx_msg_free(arm->places[i].answer);
    for (size_t i = 0; i < arm->n_kinds; i++)
        free(arm->kinds[i]);
    free(arm->kinds);
    free(arm->places);
    free(arm->role);
    free(arm->path);
    free(arm);
}

void pfx_arm_expect(struct pfx_arm *arm, uid_t uid)
{
    arm->expected = uid;
}

void pfx_arm_sandbox(struct pfx_arm *arm, const char *text)
{
    snprintf(arm->sandbox, sizeof(arm->sandbox), "%s", text);
}

const char *pfx_arm_incarnation(const struct pfx_arm *arm)
{
    return arm->incarnation;
}

const char *pfx_arm_trouble(const struct pfx_arm *arm)
{
    return arm->trouble;
}

unsigned pfx_arm_held(const struct pfx_arm *arm)
{
    return arm->held;
}

static void line_lost(struct pfx_arm *arm, const char *why)
{
    bool was_up = arm->line == LINE_UP;
    snprintf(arm->trouble, sizeof(arm->trouble), "%s", why);
    pfx_conn_free(arm->conn);
    arm->conn = NULL;
    arm->line = LINE_DOWN;
    arm->credit = 0;
    arm->until_ms = pfx_wire_clock_ms() + arm->backoff_ms;
    arm->backoff_ms *= 2;
    if (arm->backoff_ms > BACKOFF_MAX_MS)
        arm->backoff_ms = BACKOFF_MAX_MS;
    for (unsigned i = 0; i < arm->capacity; i++)
        arm->places[i].sent = false;
    if (was_up && arm->ops.online)
        arm->ops.online(arm->ctx, false);
}

static void line_error(struct pfx_arm *arm, const struct pfx_error *err)
{
    char text[sizeof(arm->trouble)];
    line_lost(arm, pfx_error_line(err, text, sizeof(text)));
}

/* False: the line is lost over it. */
static bool send_msg(struct pfx_arm *arm, const struct pfx_msg *msg)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_conn_send(arm->conn, msg, &err)))
        return true;
    line_error(arm, &err);
    return false;
}

static bool send_pull(struct pfx_arm *arm, unsigned max)
{
    struct pfx_msg *pull PFX_AUTOMSG = pfx_msg_new(&pfx_s_pull);
    pfx_msg_set_int(pull, "max", max);
    if (!send_msg(arm, pull))
        return false;
    arm->credit += max;
    return true;
}

static bool send_hello(struct pfx_arm *arm)
{
    struct pfx_msg *hello PFX_AUTOMSG = pfx_msg_new(&pfx_s_hello);
    pfx_msg_set_str(hello, "role", arm->role);
    pfx_msg_set_str(hello, "version", PFX_VERSION);
    pfx_msg_set_str(hello, "incarnation", arm->incarnation);
    pfx_msg_set_int(hello, "pid", getpid());
    for (size_t i = 0; i < arm->n_kinds; i++)
        pfx_msg_add_str(hello, "kinds", arm->kinds[i]);
    pfx_msg_set_int(hello, "capacity", arm->capacity);
    if (arm->sandbox[0])
        pfx_msg_set_str(hello, "sandbox", arm->sandbox);
    for (unsigned i = 0; i < arm->capacity; i++) {
        if (arm->places[i].job == 0)
            continue;
        struct pfx_msg *hold = pfx_msg_add_obj(hello, "holds");
        pfx_msg_set_int(hold, "job", arm->places[i].job);
        pfx_msg_set_int(hold, "lease", arm->places[i].lease);
    }
    return send_msg(arm, hello);
}

static void try_connect(struct pfx_arm *arm)
{
    struct pfx_error err = PFX_ERROR_NONE;
    int fd;
    if (pfx_failed(pfx_sock_connect(arm->path, &fd, &err))) {
        line_error(arm, &err);
        return;
    }
    arm->conn = pfx_conn_new(fd, before_welcome, COUNT(before_welcome));
    /* Anybody could have made the socket; on this side the credentials are the listener's. */
    if (arm->expected != (uid_t)-1 &&
        !pfx_peer_allowed(pfx_conn_peer(arm->conn), arm->expected, (gid_t)-1)) {
        char why[200];
        snprintf(why, sizeof(why), "connect %.*s: user %ld listens there, not pfx-agentd's",
                 (int)pfx_utf8_cut(arm->path, 120), arm->path, (long)pfx_conn_peer(arm->conn)->uid);
        line_lost(arm, why);
        return;
    }
    arm->line = LINE_HELLO;
    arm->until_ms = pfx_wire_clock_ms() + WELCOME_MS;
    (void)send_hello(arm);
}

static struct place *find_place(struct pfx_arm *arm, int64_t job, int64_t lease)
{
    for (unsigned i = 0; i < arm->capacity; i++)
        if (arm->places[i].job == job && arm->places[i].lease == lease)
            return &arm->places[i];
    return NULL;
}

static void send_answers(struct pfx_arm *arm)
{
    for (unsigned i = 0; i < arm->capacity && arm->line == LINE_UP; i++) {
        struct place *place = &arm->places[i];
        if (!place->answer || place->sent)
            continue;
        if (pfx_conn_queued(arm->conn) > ANSWERS_QUEUED)
            return;
        place->sent = send_msg(arm, place->answer);
    }
}

static struct pfx_msg *make_answer(const struct place *place, pfx_result result,
                                   const struct pfx_error *err)
{
    struct pfx_msg *done = pfx_msg_new(&pfx_s_done);
    pfx_msg_set_int(done, "job", place->job);
    pfx_msg_set_int(done, "lease", place->lease);
    pfx_msg_set_str(done, "class", pfx_class_name(result.cls));
    if (pfx_ok(result))
        return done;
    struct pfx_error none = PFX_ERROR_NONE;
    if (err)
        none = *err;
    none.cls = result.cls; /* one class, even where the error was filled by something else */
    pfx_msg_put_error(done, "error", &none);
    return done;
}

static pfx_result add_body(struct pfx_msg *done, const struct place *place,
                           const struct pfx_msg *body, struct pfx_error *err)
{
    if (!place->pair || !place->pair->result || !pfx_msg_is(body, place->pair->result))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "answer", pfx_msg_schema(body)->name, "",
                        "this isn't the answer to that kind of job");
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(pfx_msg_schema(body)->ceiling);
    PFX_TRY(pfx_msg_encode(body, false, &text, err));
    pfx_msg_set_body_text(done, "body", pfx_buf_str(&text), text.len);
    return PFX_OK;
}

void pfx_arm_done(struct pfx_arm *arm, int64_t job, int64_t lease, pfx_result result,
                  const struct pfx_error *err, const struct pfx_msg *body)
{
    struct place *place = find_place(arm, job, lease);
    if (!place || place->answer || job == 0)
        return;
    struct pfx_error bad = PFX_ERROR_NONE;
    pfx_result checked = PFX_OK;
    struct pfx_msg *done = make_answer(place, result, err);
    if (body)
        checked = add_body(done, place, body, &bad);
    else if (pfx_ok(result) && place->pair && place->pair->result)
        checked = pfx_fail(&bad, PFX_CLASS_INTERNAL, "answer", place->pair->name, "",
                           "the job succeeded without a result");
    if (pfx_failed(checked)) { /* our defect; the flow holds the job for a person */
        pfx_msg_free(done);
        done = make_answer(place, (pfx_result){PFX_CLASS_INTERNAL}, &bad);
    }
    place->answer = done;
    send_answers(arm);
}

void pfx_arm_beat(struct pfx_arm *arm, int64_t job, int64_t lease)
{
    const struct place *place = find_place(arm, job, lease);
    if (!place || job == 0 || place->answer || arm->line != LINE_UP)
        return;
    struct pfx_msg *beat PFX_AUTOMSG = pfx_msg_new(&pfx_s_beat);
    pfx_msg_set_int(beat, "job", job);
    pfx_msg_set_int(beat, "lease", lease);
    (void)send_msg(arm, beat);
}

static bool takes_kind(const struct pfx_arm *arm, const char *kind)
{
    for (size_t i = 0; i < arm->n_kinds; i++)
        if (strcmp(arm->kinds[i], kind) == 0)
            return true;
    return false;
}

static void on_job(struct pfx_arm *arm, const struct pfx_msg *msg)
{
    struct pfx_arm_job job = {
        .job = pfx_msg_int(msg, "job"),
        .lease = pfx_msg_int(msg, "lease"),
        .deadline_ms = pfx_msg_int(msg, "deadline"),
        .kind = pfx_msg_str(msg, "kind"),
    };
    if (arm->credit == 0) {
        line_lost(arm, "pfx-agentd sent more jobs than were asked for");
        return;
    }
    arm->credit--;
    if (find_place(arm, job.job, job.lease)) { /* it holds this one: give its credit back */
        (void)send_pull(arm, 1);
        return;
    }
    struct place *place = find_place(arm, 0, 0); /* there is one: see the invariant on top */
    *place = (struct place){.job = job.job, .lease = job.lease};
    arm->held++;

    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    if (takes_kind(arm, job.kind))
        place->pair = pfx_wire_find(pfx_wire_jobs, job.kind);
    pfx_result r = place->pair
                       ? pfx_msg_body(msg, "body", place->pair->request, &body, &err)
                       : pfx_fail(&err, PFX_CLASS_REFUSED, "take job", arm->role, "",
                                  "this kind of job isn't known here: pfx-agentd and pfx-%s must "
                                  "be of one release",
                                  arm->role);
    if (pfx_failed(r)) {
        if (arm->ops.refused)
            arm->ops.refused(arm->ctx, place->pair ? place->pair->name : NULL, r, &err);
        pfx_arm_done(arm, job.job, job.lease, r, &err, NULL);
        return;
    }
    job.body = body;
    arm->ops.job(arm->ctx, &job);
}

static void on_ack(struct pfx_arm *arm, const struct pfx_msg *msg)
{
    int64_t job = pfx_msg_int(msg, "job"), lease = pfx_msg_int(msg, "lease");
    struct place *place = find_place(arm, job, lease);
    if (!place || !place->answer)
        return;
    pfx_msg_free(place->answer);
    *place = (struct place){0};
    arm->held--;
    (void)send_pull(arm, 1);
}

static void on_welcome(struct pfx_arm *arm)
{
    arm->line = LINE_UP;
    arm->backoff_ms = BACKOFF_MIN_MS;
    pfx_conn_accepts(arm->conn, after_welcome, COUNT(after_welcome));
    send_answers(arm);
    if (arm->line == LINE_UP && arm->held < arm->capacity)
        (void)send_pull(arm, arm->capacity - arm->held);
    if (arm->line == LINE_UP && arm->ops.online)
        arm->ops.online(arm->ctx, true);
}

static void on_message(struct pfx_arm *arm, const struct pfx_msg *msg)
{
    if (pfx_msg_is(msg, &pfx_s_welcome))
        on_welcome(arm);
    else if (pfx_msg_is(msg, &pfx_s_job))
        on_job(arm, msg);
    else if (pfx_msg_is(msg, &pfx_s_ack))
        on_ack(arm, msg);
    else
        line_lost(arm, pfx_msg_str(msg, "why"));
}

static void read_messages(struct pfx_arm *arm)
{
    for (int i = 0; i < MESSAGES_PER_STEP && arm->line != LINE_DOWN; i++) {
        struct pfx_error err = PFX_ERROR_NONE, gone = PFX_ERROR_NONE;
        struct pfx_msg *msg PFX_AUTOMSG = NULL;
        pfx_result pumped = pfx_conn_pump(arm->conn, &gone);
        if (pfx_failed(pfx_conn_next(arm->conn, &msg, &err))) {
            line_error(arm, &err);
        } else if (msg) { /* also what came before the line was lost: a bye says why */
            on_message(arm, msg);
        } else {
            if (pfx_failed(pumped))
                line_error(arm, &gone);
            return;
        }
    }
}

int pfx_arm_prepare(struct pfx_arm *arm, struct pollfd *ret_pollfd)
{
    *ret_pollfd = (struct pollfd){.fd = -1};
    if (arm->conn) {
        ret_pollfd->fd = pfx_conn_fd(arm->conn);
        ret_pollfd->events = pfx_conn_events(arm->conn);
        if (!(ret_pollfd->events & POLLIN))
            return 0; /* a whole message waits in the buffer */
        if (arm->line == LINE_UP)
            return IDLE_MS;
    }
    int64_t left = arm->until_ms - pfx_wire_clock_ms();
    return left < 0 ? 0 : (int)left;
}

void pfx_arm_step(struct pfx_arm *arm)
{
    if (arm->line == LINE_DOWN && pfx_wire_clock_ms() >= arm->until_ms)
        try_connect(arm);
    if (arm->line != LINE_DOWN)
        read_messages(arm);
    if (arm->line == LINE_HELLO && pfx_wire_clock_ms() >= arm->until_ms)
        line_lost(arm, "pfx-agentd didn't answer the greeting");
    if (arm->line == LINE_UP) {
        send_answers(arm);
        struct pfx_error err = PFX_ERROR_NONE;
        if (arm->line == LINE_UP && pfx_conn_queued(arm->conn) > 0 &&
            pfx_failed(pfx_conn_pump(arm->conn, &err)))
            /* The next step reads what is left and then says why. */
            return;
    }
}
