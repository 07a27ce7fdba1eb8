/* Lines of the sockets admin and uploader. */
#include "pkcs11/hsm/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/account.h"
#include "api/conf/process.h"
#include "api/wire/conn.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/verbs.h"

#define LINES 64       /* of both sockets */
#define LINES_EACH 32  /* of one: neither can take the other's places */
#define RUNNING_EACH 8 /* requests of one line at a time */
#define MESSAGES_PER_STEP 16
#define ROOM ((size_t)256 * 1024) /* answers that a line may leave unread and still ask */

struct door {
    enum pfx_task_from from;
    enum pfx_actor_role actor;
    const struct pfx_wire_pair *wire;
    const struct pfx_verb *verbs;
    char *path;
    int fd;
    uid_t uid; /* beside root and our own */
    gid_t gid;
};
struct line {
    struct line *next;
    uint64_t id;
    const struct door *door;
    struct pfx_conn *conn;
    unsigned running;
    int64_t unsaid;           /* request with an item that can't be written; 0: none */
    struct pfx_error unsaid_why;
};
struct pfx_server {
    struct pfx_hsm *hsm;
    struct pfx_queue *queue;
    struct door doors[2];
    struct line *lines;
    uint64_t last_id;
    bool quiet;
    int64_t warned_ms;
};
static const struct pfx_wire_schema *const accepts[] = {&pfx_s_req};

/* Where others may connect the file is open to all, and SO_PEERCRED decides: pfx-hsm may not be a
 * member of their group, so it couldn't give the file to it. */
static pfx_result door_open(struct door *door, struct pfx_error *err)
{
    bool others = door->uid != (uid_t)-1 || door->gid != (gid_t)-1;
    return pfx_sock_listen(door->path, others ? 0666 : 0600, (gid_t)-1, &door->fd, err);
}

pfx_result pfx_server_folder(const struct pfx_hsm_policy *policy, struct pfx_error *err)
{
    if (mkdir(policy->run_dir, 0700) == 0) {
        if (chmod(policy->run_dir, 0755) < 0) /* past the umask */
            return pfx_fail_errno(err, errno, "open folder", policy->run_dir, "");
    } else if (errno != EEXIST) {
        return pfx_fail_errno(err, errno, "make folder", policy->run_dir,
                              "Make it yourself, for the user that pfx-hsm runs as.");
    }
    return PFX_OK;
}

pfx_result pfx_server_new(struct pfx_hsm *hsm, struct pfx_queue *queue,
                          struct pfx_server **ret_server, struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = hsm->policy;
    uid_t uploader;
    gid_t admins;
    PFX_TRY(pfx_account_user("the policy", "access.uploader_user", policy->uploader_user, &uploader,
                             err));
    PFX_TRY(pfx_account_group("the policy", "access.admins", policy->admins_group, &admins, err));
    struct pfx_server *server = pfx_alloc(sizeof *server);
    server->hsm = hsm;
    server->queue = queue;
    server->doors[0] = (struct door){PFX_FROM_ADMIN,
                                     PFX_ACTOR_OPERATOR,
                                     pfx_wire_admin,
                                     pfx_verbs_admin,
                                     pfx_asprintf("%s/admin", policy->run_dir),
                                     -1,
                                     (uid_t)-1,
                                     admins};
    server->doors[1] = (struct door){PFX_FROM_BROKER,
                                     PFX_ACTOR_UPLOADER,
                                     pfx_wire_broker,
                                     pfx_verbs_broker,
                                     pfx_asprintf("%s/uploader", policy->run_dir),
                                     -1,
                                     uploader,
                                     (gid_t)-1};
    for (size_t i = 0; i < 2; i++) {
        pfx_result result = door_open(&server->doors[i], err);
        if (pfx_failed(result)) {
            pfx_server_free(server);
            return result;
        }
    }
    *ret_server = server;
    return PFX_OK;
}

/* Nothing more is taken from who doesn't read: answers would pile up, line by line. */
static bool full(const struct line *line)
{
    return pfx_conn_queued(line->conn) > ROOM;
}

static void line_free(struct line *line)
{
    pfx_conn_free(line->conn);
    free(line);
}

void pfx_server_free(struct pfx_server *server)
{
    if (!server)
        return;
    pfx_server_quiet(server);
    while (server->lines) {
        struct line *line = server->lines;
        server->lines = line->next;
        line_free(line);
    }
    for (size_t i = 0; i < 2; i++)
        free(server->doors[i].path);
    free(server);
}

void pfx_server_quiet(struct pfx_server *server)
{
    server->quiet = true;
    for (size_t i = 0; i < 2; i++) {
        if (server->doors[i].fd < 0)
            continue;
        close(server->doors[i].fd);
        unlink(server->doors[i].path);
        server->doors[i].fd = -1;
    }
}

size_t pfx_server_unwritten(const struct pfx_server *server)
{
    size_t n = 0;
    for (const struct line *line = server->lines; line; line = line->next)
        n += pfx_conn_queued(line->conn);
    return n;
}

size_t pfx_server_prepare(struct pfx_server *server, struct pollfd *fds, bool *ret_busy)
{
    size_t n = 0;
    *ret_busy = false;
    for (size_t i = 0; i < 2; i++)
        if (server->doors[i].fd >= 0)
            fds[n++] = (struct pollfd){.fd = server->doors[i].fd, .events = POLLIN};
    for (struct line *line = server->lines; line && n < PFX_SERVER_POLLFDS; line = line->next) {
        short events = pfx_conn_events(line->conn);
        if (full(line))
            events = (short)(events & ~POLLIN);
        else if (!(events & POLLIN) && !server->quiet)
            *ret_busy = true;
        fds[n++] = (struct pollfd){.fd = pfx_conn_fd(line->conn), .events = events};
    }
    return n;
}

static void warn(struct pfx_server *server, const char *text, const struct door *door, uid_t uid)
{
    /* Once a second: whoever knocks mustn't fill the journal. */
    int64_t now = pfx_uptime_ms();
    if (server->warned_ms != 0 && now - server->warned_ms < 1000)
        return;
    server->warned_ms = now;
    pfx_log(PFX_LOG_WARN, "%s: %s (uid %u)", door->path, text, (unsigned)uid);
}

static const char *door_name(const struct door *door)
{
    return door->from == PFX_FROM_ADMIN ? "admin" : "uploader";
}

static void refuse_line(struct pfx_server *server, const struct door *door,
                        const struct pfx_peer *peer)
{
    const struct pfx_actor actor = {door->actor, peer->pid, peer->uid};
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result result = pfx_fail(&why, PFX_CLASS_REFUSED, "connect", door_name(door), "permission",
                                 "This user may not use this socket.");
    pfx_hsmlog_stranger(server->hsm, &actor, door_name(door), result, &why);
}

static void accept_lines(struct pfx_server *server, const struct door *door)
{
    for (;;) {
        struct pfx_error err = PFX_ERROR_NONE;
        int fd;
        if (door->fd < 0 || pfx_failed(pfx_sock_accept(door->fd, &fd, &err)) || fd < 0)
            return;
        struct pfx_conn *conn = pfx_conn_new(fd, accepts, sizeof accepts / sizeof *accepts);
        const struct pfx_peer *peer = pfx_conn_peer(conn);
        size_t n = 0;
        for (const struct line *line = server->lines; line; line = line->next)
            n += line->door == door;
        bool allowed = pfx_peer_allowed(peer, door->uid, door->gid);
        if (!allowed || n >= LINES_EACH) {
            if (!allowed)
                refuse_line(server, door, peer);
            warn(server, allowed ? "too many lines at once" : "refused: not one of those allowed",
                 door, peer->uid);
            pfx_conn_free(conn);
            continue;
        }
        struct line *line = pfx_alloc(sizeof *line);
        line->id = ++server->last_id;
        line->door = door;
        line->conn = conn;
        line->next = server->lines;
        server->lines = line;
    }
}

static bool send_end(struct line *line, int64_t request, pfx_result result, bool finding,
                     const struct pfx_error *why)
{
    struct pfx_msg *end PFX_AUTOMSG = pfx_msg_new(&pfx_s_end);
    struct pfx_error ignored = PFX_ERROR_NONE;
    pfx_msg_set_int(end, "id", request);
    pfx_msg_set_int(end, "exit", pfx_ok(result) ? finding : pfx_class_exit(result.cls));
    if (pfx_failed(result)) {
        struct pfx_error copy = *why;
        copy.cls = result.cls;
        pfx_msg_put_error(end, "error", &copy);
    }
    return pfx_ok(pfx_conn_send(line->conn, end, &ignored));
}

static pfx_result arguments(const struct pfx_msg *req, const struct pfx_wire_schema *schema,
                            struct pfx_msg **ret_args, struct pfx_error *err)
{
    if (pfx_msg_has(req, "args"))
        return pfx_msg_body(req, "args", schema, ret_args, err);
    return pfx_msg_decode(schema, "{}", 2, ret_args, err);
}

static pfx_result take_request(struct pfx_server *server, struct line *line,
                               const struct pfx_msg *req, struct pfx_error *err)
{
    const char *name = pfx_msg_str(req, "verb");
    const struct pfx_wire_pair *pair = pfx_wire_find(line->door->wire, name);
    const struct pfx_verb *verb = pfx_verb_find(line->door->verbs, name);
    struct pfx_msg *args PFX_AUTOMSG = NULL;
    if (!pair || !verb)
        return pfx_fail(err, PFX_CLASS_USAGE, "take request", "verb", "",
                        "pfx-hsm doesn't know this verb on this socket: are all programs of one "
                        "release?");
    PFX_TRY(arguments(req, pair->request, &args, err));
    if (line->running >= RUNNING_EACH || server->quiet)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "take request", name, "",
                        server->quiet ? "pfx-hsm is stopping." : "Too many requests on this line.");
    const struct pfx_peer *peer = pfx_conn_peer(line->conn);
    struct pfx_task *task = pfx_alloc(sizeof *task);
    task->from = line->door->from;
    task->handler = verb->handler;
    task->exclusive = verb->exclusive;
    task->name = pair->name;
    task->result = pair->result;
    task->actor = (struct pfx_actor){line->door->actor, peer->pid, peer->uid};
    task->args = PFX_TAKE(args);
    task->conn = line->id;
    task->request = pfx_msg_int(req, "id");
    if (!pfx_queue_put(server->queue, task, verb->urgent)) {
        pfx_task_free(task);
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "take request", name, "",
                        "Too much is waiting already.");
    }
    line->running++;
    return PFX_OK;
}

/* False: the line is over. */
static bool serve(struct pfx_server *server, struct line *line)
{
    for (int i = 0; i < MESSAGES_PER_STEP; i++) {
        struct pfx_error gone = PFX_ERROR_NONE, err = PFX_ERROR_NONE;
        struct pfx_msg *req PFX_AUTOMSG = NULL;
        pfx_result pumped = pfx_conn_pump(line->conn, &gone);
        if (full(line))
            return pfx_ok(pumped);
        if (pfx_failed(pfx_conn_next(line->conn, &req, &err))) {
            warn(server, "a line spoke another protocol", line->door,
                 pfx_conn_peer(line->conn)->uid);
            return false;
        }
        if (!req)
            return pfx_ok(pumped);
        pfx_result taken = take_request(server, line, req, &err);
        /* Busy isn't a refusal: it is asked again. */
        if (pfx_failed(taken) && taken.cls != PFX_CLASS_TRANSIENT) {
            const struct pfx_peer *peer = pfx_conn_peer(line->conn);
            const struct pfx_actor actor = {line->door->actor, peer->pid, peer->uid};
            const struct pfx_wire_pair *pair =
                pfx_wire_find(line->door->wire, pfx_msg_str(req, "verb"));
            pfx_hsmlog_refused(server->hsm, &actor, pair ? pair->name : "unknown", taken, &err);
        }
        if (pfx_failed(taken) && !send_end(line, pfx_msg_int(req, "id"), taken, false, &err))
            return false;
    }
    return true;
}

void pfx_server_step(struct pfx_server *server)
{
    for (struct line **at = &server->lines; *at;) {
        struct line *line = *at;
        if (serve(server, line)) {
            at = &line->next;
            continue;
        }
        *at = line->next;
        line_free(line);
    }
    /* After those that ended have made room. */
    for (size_t i = 0; i < 2; i++)
        accept_lines(server, &server->doors[i]);
}

/* An item that breaks a bound of its table is a defect of ours; the request then ends with that,
 * whatever else it did. */
static bool send_item(struct line *line, const struct pfx_answer *answer)
{
    struct pfx_msg *item PFX_AUTOMSG = pfx_msg_new(&pfx_s_item);
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_msg_set_int(item, "id", answer->request);
    if (pfx_ok(pfx_msg_set_shown(item, "body", answer->body, &why)))
        return pfx_ok(pfx_conn_send(line->conn, item, &why));
    pfx_log_error(&why, "%s", door_name(line->door));
    line->unsaid = answer->request;
    line->unsaid_why = why;
    return true;
}

void pfx_server_answer(struct pfx_server *server, struct pfx_answer *answer)
{
    struct line *line = server->lines;
    while (line && line->id != answer->conn)
        line = line->next;
    struct pfx_error ignored = PFX_ERROR_NONE;
    bool sent = !line || !answer->body || send_item(line, answer);
    if (line && answer->last) {
        line->running--;
        if (line->unsaid == answer->request && pfx_ok(answer->result)) {
            answer->result = (pfx_result){line->unsaid_why.cls};
            answer->err = line->unsaid_why;
        }
        sent =
            sent && send_end(line, answer->request, answer->result, answer->finding, &answer->err);
    }
    /* A line that takes nothing any more ends when it is next served: its reads fail, too. */
    if (line && sent && pfx_failed(pfx_conn_pump(line->conn, &ignored)))
        sent = false;
    (void)sent;
    pfx_answer_free(answer);
}
