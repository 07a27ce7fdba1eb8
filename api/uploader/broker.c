#include "api/uploader/broker.h"

#include <string.h>

#include "api/conf/process.h"

/* An HSM that signs for longer than this is in trouble; pfx-hsm's own watchdog is at work then. */
#define ANSWER_MS 30000
#define MAX_ASKED 8

struct asked {
    int64_t id; /* 0: free place */
    int64_t until;
    const struct pfx_wire_pair *verb;
    struct pfx_msg *item;
    pfx_broker_fn fn;
    void *ctx;
};

struct pfx_broker {
    char *path;
    uid_t expected;
    struct pfx_conn *conn;
    int64_t last_id;
    struct asked asked[MAX_ASKED];
};

static const struct pfx_wire_schema *const accepts[] = {&pfx_s_item, &pfx_s_end};

struct pfx_broker *pfx_broker_new(const char *path, uid_t expected)
{
    struct pfx_broker *broker = pfx_alloc(sizeof *broker);
    broker->path = pfx_strdup(path);
    broker->expected = expected;
    return broker;
}

void pfx_broker_free(struct pfx_broker *broker)
{
    if (!broker)
        return;
    for (size_t i = 0; i < MAX_ASKED; i++)
        pfx_msg_free(broker->asked[i].item);
    pfx_conn_free(broker->conn);
    free(broker->path);
    free(broker);
}

/* Frees the place before the call: fn may ask again. */
static void answer(struct asked *asked, pfx_result result, bool away, const struct pfx_error *err)
{
    struct asked done = *asked;
    *asked = (struct asked){0};
    done.fn(done.ctx, result, away, pfx_ok(result) ? done.item : NULL, err);
    pfx_msg_free(done.item);
}

/* The line is of no more use: whatever was asked on it gets this error. */
static void drop_line(struct pfx_broker *broker, pfx_result result, const struct pfx_error *err)
{
    pfx_conn_free(broker->conn);
    broker->conn = NULL;
    int64_t last = broker->last_id;
    for (size_t i = 0; i < MAX_ASKED; i++)
        if (broker->asked[i].id > 0 && broker->asked[i].id <= last)
            answer(&broker->asked[i], result, true, err);
}

static pfx_result no_answer(const struct pfx_broker *broker, const struct pfx_error *cause,
                            struct pfx_error *err)
{
    char line[400];
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "ask pfx-hsm", broker->path, "",
                    "pfx-hsm doesn't answer on its socket (%s). Is pfx-hsm running, and may this "
                    "user open the socket?", pfx_error_line(cause, line, sizeof line));
}

static pfx_result open_line(struct pfx_broker *broker, struct pfx_error *err)
{
    if (broker->conn)
        return PFX_OK;
    int fd;
    PFX_TRY(pfx_sock_connect(broker->path, &fd, err));
    broker->conn = pfx_conn_new(fd, accepts, sizeof accepts / sizeof accepts[0]);
    const struct pfx_peer *peer = pfx_conn_peer(broker->conn);
    if (!pfx_peer_allowed(peer, broker->expected, (gid_t)-1)) {
        uid_t uid = peer->uid;
        pfx_conn_free(PFX_TAKE(broker->conn));
        return pfx_fail(err, PFX_CLASS_REFUSED, "connect", broker->path, "",
                        "The process that listens there runs as uid %u, which isn't access.hsm_user "
                        "of uploader.yaml.", (unsigned)uid);
    }
    return PFX_OK;
}

static struct asked *free_place(struct pfx_broker *broker)
{
    for (size_t i = 0; i < MAX_ASKED; i++)
        if (broker->asked[i].id == 0)
            return &broker->asked[i];
    return NULL;
}

void pfx_broker_ask(struct pfx_broker *broker, const char *verb, const char *name,
                    const char *value, pfx_broker_fn fn, void *ctx)
{
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_broker, verb);
    struct pfx_error cause = PFX_ERROR_NONE;
    struct pfx_error err = PFX_ERROR_NONE;
    struct asked *place = free_place(broker);
    if (!place) {
        fn(ctx, pfx_fail(&err, PFX_CLASS_TRANSIENT, "ask pfx-hsm", broker->path, "",
                         "Too much is being asked at once; it is asked again later."), true,
           NULL, &err);
        return;
    }
    PFX_AUTOMSG struct pfx_msg *args = pfx_msg_new(pair->request);
    pfx_msg_set_str(args, name, value);
    PFX_AUTOMSG struct pfx_msg *req = pfx_msg_new(&pfx_s_req);
    pfx_msg_set_int(req, "id", ++broker->last_id);
    pfx_msg_set_str(req, "verb", verb);
    pfx_msg_set_body(req, "args", args);
    pfx_result r = open_line(broker, &cause);
    if (pfx_ok(r))
        r = pfx_conn_send(broker->conn, req, &cause);
    if (pfx_failed(r)) {
        fn(ctx, no_answer(broker, &cause, &err), true, NULL, &err);
        return;
    }
    *place = (struct asked){
        .id = broker->last_id,
        .until = pfx_uptime_ms() + ANSWER_MS,
        .verb = pair,
        .fn = fn,
        .ctx = ctx,
    };
}

int pfx_broker_prepare(const struct pfx_broker *broker, struct pollfd *ret_pollfd)
{
    *ret_pollfd = (struct pollfd){.fd = -1};
    if (!broker->conn)
        return -1;
    ret_pollfd->fd = pfx_conn_fd(broker->conn);
    ret_pollfd->events = pfx_conn_events(broker->conn);
    int64_t now = pfx_uptime_ms();
    int64_t sleep = -1;
    for (size_t i = 0; i < MAX_ASKED; i++) {
        if (broker->asked[i].id == 0)
            continue;
        int64_t left = broker->asked[i].until > now ? broker->asked[i].until - now : 0;
        if (sleep < 0 || left < sleep)
            sleep = left;
    }
    return (int)sleep;
}

static struct asked *find_asked(struct pfx_broker *broker, int64_t id)
{
    for (size_t i = 0; i < MAX_ASKED; i++)
        if (broker->asked[i].id == id && id != 0)
            return &broker->asked[i];
    return NULL;
}

/* One message of pfx-hsm. A failure here means that the line can't be trusted any longer. */
static pfx_result take(struct pfx_broker *broker, const struct pfx_msg *msg, struct pfx_error *err)
{
    struct asked *asked = find_asked(broker, pfx_msg_int(msg, "id"));
    if (!asked)
        return pfx_fail(err, PFX_CLASS_REFUSED, "ask pfx-hsm", broker->path, "",
                        "pfx-hsm answers something that wasn't asked.");
    if (pfx_msg_is(msg, &pfx_s_item)) {
        if (asked->item)
            return pfx_fail(err, PFX_CLASS_REFUSED, "ask pfx-hsm", broker->path, "",
                            "pfx-hsm answers twice.");
        return pfx_msg_body(msg, "body", asked->verb->result, &asked->item, err);
    }
    struct pfx_error told = PFX_ERROR_NONE;
    if (pfx_msg_has(msg, "error"))
        pfx_msg_get_error(msg, "error", &told);
    pfx_result r = {told.cls};
    if (pfx_ok(r) && (pfx_msg_int(msg, "exit") != 0 || !asked->item))
        r = pfx_fail(&told, PFX_CLASS_INTERNAL, "ask pfx-hsm", broker->path, "",
                     "pfx-hsm ended the request with neither a result nor a reason.");
    answer(asked, r, false, &told);
    return PFX_OK;
}

static void expire(struct pfx_broker *broker)
{
    int64_t now = pfx_uptime_ms();
    for (size_t i = 0; i < MAX_ASKED; i++) {
        if (broker->asked[i].id == 0 || broker->asked[i].until > now)
            continue;
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_result r = pfx_fail(&err, PFX_CLASS_TRANSIENT, "ask pfx-hsm", broker->path, "",
                                "pfx-hsm hasn't answered for %d seconds; its token may be hung.",
                                ANSWER_MS / 1000);
        drop_line(broker, r, &err);
        return;
    }
}

void pfx_broker_step(struct pfx_broker *broker)
{
    if (!broker->conn)
        return;
    struct pfx_error cause = PFX_ERROR_NONE;
    pfx_result pumped = pfx_conn_pump(broker->conn, &cause);
    for (;;) {
        PFX_AUTOMSG struct pfx_msg *msg = NULL;
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_result r = pfx_conn_next(broker->conn, &msg, &err);
        if (pfx_ok(r) && !msg)
            break;
        if (pfx_ok(r))
            r = take(broker, msg, &err);
        if (pfx_failed(r)) {
            drop_line(broker, r, &err);
            return;
        }
    }
    if (pfx_failed(pumped)) {
        struct pfx_error err = PFX_ERROR_NONE;
        drop_line(broker, no_answer(broker, &cause, &err), &err);
        return;
    }
    expire(broker);
}
