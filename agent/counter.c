#include "agent/counter.h"

#include <string.h>
#include <unistd.h>

#include "agent/note.h"
#include "agent/notes_queue.h"
#include "agent/run.h"
#include "agent/timing.h"
#include "api/conf/process.h"
#include "api/wire/conn.h"

#define ROOM ((size_t)256 * 1024) /* a verb goes on while less than this is queued */
#define NOBODIES 4                /* places for those who may ask nothing: they only get told so */
#define IDLE_MS (60 * PFX_SECOND) /* without a request, or with a reader that doesn't read */

struct pfx_counter {
    struct pfx_agent *agent;
    int listen;
    char *path;
    gid_t operators, auditors; /* -1: none */
    struct pfx_asker askers[PFX_COUNTER_ASKERS];
    struct pfx_limit lines; /* in the journal, about who comes and goes */
};

/* Nothing is permitted unless a row says so. */
const struct pfx_verb pfx_verbs[] = {
    {"run", PFX_ASKER_OPERATOR, true, pfx_verb_run},
    {"status", PFX_ASKER_AUDITOR, false, pfx_verb_status},
    {"enrolment.list", PFX_ASKER_AUDITOR, false, pfx_verb_list},
    {"enrolment.show", PFX_ASKER_AUDITOR, false, pfx_verb_show},
    {"enrolment.cancel", PFX_ASKER_OPERATOR, true, pfx_verb_cancel},
    {"enrolment.retry", PFX_ASKER_OPERATOR, true, pfx_verb_retry},
    {"enrolment.release", PFX_ASKER_OPERATOR, true, pfx_verb_release},
    {"enrolment.resend", PFX_ASKER_OPERATOR, true, pfx_verb_resend},
    {"enrolment.revoke", PFX_ASKER_OPERATOR, true, pfx_verb_revoke},
    {"record.list", PFX_ASKER_AUDITOR, false, pfx_verb_records},
    {"record.remove", PFX_ASKER_OPERATOR, true, pfx_verb_remove},
    {"key.copies", PFX_ASKER_AUDITOR, false, pfx_verb_copies},
    {"setup.digicert", PFX_ASKER_OPERATOR, true, pfx_verb_setup},
    {"setup.entra", PFX_ASKER_OPERATOR, true, pfx_verb_setup},
    {"key.records", PFX_ASKER_AUDITOR, false, pfx_verb_key_records},
    {"key.exposed", PFX_ASKER_AUDITOR, false, pfx_verb_exposed},
    {"key.rebuild", PFX_ASKER_OPERATOR, true, pfx_verb_rebuild},
    {"key.rewrap", PFX_ASKER_OPERATOR, true, pfx_verb_rewrap},
    {"pause", PFX_ASKER_OPERATOR, true, pfx_verb_pause},
    {"resume", PFX_ASKER_OPERATOR, true, pfx_verb_resume},
    {"log.names", PFX_ASKER_OPERATOR, true, pfx_verb_log_names},
    {"backup.store", PFX_ASKER_OPERATOR, true, pfx_verb_backup},
    {NULL, PFX_ASKER_NOBODY, false, NULL},
};

static const struct pfx_wire_schema *const requests[] = {&pfx_s_req};

pfx_result pfx_counter_open(struct pfx_agent *agent, gid_t operators, gid_t auditors,
                            struct pfx_counter **ret_counter, struct pfx_error *err)
{
    struct pfx_counter *counter = pfx_alloc(sizeof(*counter));
    /* With two groups the mode can't say it; the kernel names the peer in any case. */
    mode_t mode = auditors != (gid_t)-1 ? 0666 : operators != (gid_t)-1 ? 0660 : 0600;
    counter->agent = agent;
    counter->operators = operators;
    counter->auditors = auditors;
    counter->listen = -1;
    counter->path = pfx_asprintf("%s/cli", agent->conf->run_dir);
    pfx_result r = pfx_sock_listen(counter->path, mode, operators, &counter->listen, err);
    if (pfx_failed(r)) {
        pfx_counter_close(counter);
        return r;
    }
    *ret_counter = counter;
    return PFX_OK;
}

static void forget_request(struct pfx_asker *asker)
{
    pfx_run_drop(asker->agent, asker);
    free(asker->select.user);
    free(asker->select.state);
    free(asker->select.record);
    free(asker->select.last);
    if (asker->work)
        asker->work_free(asker->work);
    asker->work = NULL;
    pfx_msg_free(asker->answer);
    asker->answer = NULL;
    pfx_asker_forget_job(asker);
    asker->select = (struct pfx_selection){0};
    asker->request = 0;
    asker->verb = NULL;
    asker->pair = NULL;
    asker->step = NULL;
    asker->rest_uptime = 0;
    asker->noted = false;
    asker->heard_uptime = pfx_uptime_ms();
}

static void leave(struct pfx_asker *asker)
{
    if (!asker->conn)
        return;
    struct pfx_conn *conn = asker->conn;
    asker->conn = NULL; /* so that nobody writes to it any more */
    forget_request(asker);
    pfx_conn_free(conn);
    memset(asker, 0, sizeof(*asker));
}

void pfx_counter_close(struct pfx_counter *counter)
{
    if (!counter)
        return;
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++) {
        struct pfx_asker *asker = &counter->askers[i];
        struct pfx_error err = PFX_ERROR_NONE;
        if (asker->conn && asker->request) {
            pfx_result r = pfx_fail(&err, PFX_CLASS_TRANSIENT, asker->verb->name, "pfx-agentd", "",
                                    "pfx-agentd ends; what was begun goes on when it is back");
            (void)r;
            pfx_asker_fail(asker, &err);
        }
        if (asker->conn) {
            struct pfx_error ignored = PFX_ERROR_NONE;
            pfx_result gone = pfx_conn_pump(asker->conn, &ignored);
            (void)gone;
        }
        leave(asker);
    }
    if (counter->listen >= 0) {
        close(counter->listen);
        unlink(counter->path);
    }
    free(counter->path);
    free(counter);
}

static void send_to(struct pfx_asker *asker, const struct pfx_msg *msg)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (asker->broken || pfx_ok(pfx_conn_send(asker->conn, msg, &err)))
        return;
    if (pfx_agent_may_tell(&asker->agent->counter->lines, "cli"))
        pfx_log_error(&err, "CLI (pid %d)", (int)pfx_conn_peer(asker->conn)->pid);
    asker->broken = true;
}

struct pfx_msg *pfx_asker_body(const struct pfx_asker *asker)
{
    return pfx_msg_new(asker->pair->result);
}

void pfx_asker_item(struct pfx_asker *asker, struct pfx_msg *body)
{
    struct pfx_msg *own PFX_AUTOMSG = body;
    struct pfx_msg *item PFX_AUTOMSG = pfx_msg_new(&pfx_s_item);
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_msg_set_int(item, "id", asker->request);
    if (pfx_ok(pfx_msg_set_shown(item, "body", own, &why))) {
        send_to(asker, item);
        return;
    }
    if (!asker->unsaid)
        pfx_log_error(&why, "CLI (pid %d)", (int)pfx_conn_peer(asker->conn)->pid);
    asker->unsaid = true;
}

void pfx_asker_end(struct pfx_asker *asker, int exit, const struct pfx_error *err)
{
    struct pfx_msg *end PFX_AUTOMSG = pfx_msg_new(&pfx_s_end);
    struct pfx_error unsaid = PFX_ERROR_NONE;
    if (asker->unsaid && !err) {
        pfx_result r = pfx_fail(&unsaid, PFX_CLASS_INTERNAL, asker->verb->name, "answer", "",
                                "a part of it couldn't be written; pfx-agentd's journal says "
                                "which");
        exit = pfx_class_exit(r.cls);
        err = &unsaid;
    }
    asker->unsaid = false;
    pfx_msg_set_int(end, "id", asker->request);
    pfx_msg_set_int(end, "exit", exit);
    if (err)
        pfx_msg_put_error(end, "error", err);
    forget_request(asker);
    send_to(asker, end);
}

uid_t pfx_asker_uid(const struct pfx_asker *asker)
{
    return pfx_conn_peer(asker->conn)->uid;
}

pfx_result pfx_asker_note(struct pfx_asker *asker, int64_t enrolment, const struct pfx_error *fail,
                          int64_t now_ms, struct pfx_error *err)
{
    asker->noted = true;
    return pfx_note_command(asker->agent->store, pfx_asker_uid(asker), asker->verb->name, enrolment,
                            fail, now_ms, err);
}

pfx_result pfx_asker_noted(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, asker->agent->store->db, err));
    PFX_TRY(pfx_asker_note(asker, 0, NULL, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

static pfx_result write_no(struct pfx_asker *asker, const struct pfx_error *fail,
                           struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    struct pfx_tx tx PFX_AUTOTX = {0};
    int64_t now_ms = pfx_now_ms();
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    if (asker->role < asker->verb->least)
        PFX_TRY(pfx_note_refused(store, pfx_asker_uid(asker), asker->verb->name, now_ms, err));
    else
        PFX_TRY(pfx_asker_note(asker, asker->select.enrolment, fail, now_ms, err));
    return pfx_tx_commit(&tx, err);
}

/* Once for each request; of one that was done in part, that part is noted. */
static void note_no(struct pfx_asker *asker, const struct pfx_error *fail)
{
    struct pfx_error err = PFX_ERROR_NONE;
    const struct pfx_verb *verb = asker->verb;
    if (asker->noted || !verb || !verb->name || (asker->role >= verb->least && !verb->noted))
        return;
    asker->noted = true;
    if (pfx_notes_may_refuse(asker->agent))
        pfx_agent_store_result(asker->agent, write_no(asker, fail, &err), &err);
}

void pfx_asker_fail(struct pfx_asker *asker, const struct pfx_error *err)
{
    note_no(asker, err);
    pfx_asker_end(asker, pfx_class_exit(err->cls), err);
}

/* Whoever may open the socket could else take every place from those who may ask. */
static bool crowded(const struct pfx_counter *counter)
{
    size_t n = 0;
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++)
        n += counter->askers[i].conn && counter->askers[i].role == PFX_ASKER_NOBODY;
    return n > NOBODIES;
}

static void accept_all(struct pfx_counter *counter)
{
    for (int n = 0; n < PFX_COUNTER_ASKERS; n++) {
        struct pfx_error err = PFX_ERROR_NONE;
        struct pfx_asker *place = NULL;
        int fd;
        if (pfx_failed(pfx_sock_accept(counter->listen, &fd, &err))) {
            pfx_log_error(&err, "socket cli");
            return;
        }
        if (fd < 0)
            return;
        for (size_t i = 0; i < PFX_COUNTER_ASKERS && !place; i++)
            if (!counter->askers[i].conn)
                place = &counter->askers[i];
        struct pfx_asker full = {0};
        struct pfx_asker *asker = place ? place : &full;
        *asker = (struct pfx_asker){.agent = counter->agent,
                                    .conn = pfx_conn_new(fd, requests, 1),
                                    .heard_uptime = pfx_uptime_ms()};
        const struct pfx_peer *peer = pfx_conn_peer(asker->conn);
        if (pfx_peer_allowed(peer, (uid_t)-1, counter->operators))
            asker->role = PFX_ASKER_OPERATOR;
        else if (counter->auditors != (gid_t)-1 &&
                 pfx_peer_allowed(peer, (uid_t)-1, counter->auditors))
            asker->role = PFX_ASKER_AUDITOR;
        if (!place || (asker->role == PFX_ASKER_NOBODY && crowded(counter))) {
            if (pfx_agent_may_tell(&counter->lines, "cli"))
                pfx_log(PFX_LOG_WARN, "socket cli: too many connections, pid %d is refused",
                        (int)peer->pid);
            leave(asker);
        }
    }
}

static void on_request(struct pfx_asker *asker, const struct pfx_msg *req, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    const char *name = pfx_msg_str(req, "verb");
    asker->request = pfx_msg_int(req, "id");
    asker->verb = pfx_verbs;
    while (asker->verb->name && strcmp(asker->verb->name, name) != 0)
        asker->verb++;
    asker->pair = pfx_wire_find(pfx_wire_agent, name);
    pfx_result r = PFX_OK;
    struct pfx_msg *args PFX_AUTOMSG = NULL;
    if (!asker->verb->name || !asker->pair)
        r = pfx_fail(&err, PFX_CLASS_USAGE, "request", name, "",
                     "pfx-agentd doesn't know this verb; pfx-agent and pfx-agentd must be of one "
                     "release");
    else if (asker->role < asker->verb->least)
        r = pfx_fail(&err, PFX_CLASS_REFUSED, "request", name, "",
                     "this needs the group of access.%s in agent.yaml",
                     asker->verb->least == PFX_ASKER_OPERATOR ? "operators"
                                                              : "operators or access.auditors");
    else if (pfx_msg_has(req, "args"))
        r = pfx_msg_body(req, "args", asker->pair->request, &args, &err);
    else
        args = pfx_msg_new(asker->pair->request);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else
        asker->verb->start(asker->agent, asker, args, now_ms);
}

static void read_asker(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error gone = PFX_ERROR_NONE, err = PFX_ERROR_NONE;
    pfx_result pumped = pfx_conn_pump(asker->conn, &gone);
    /* The next request waits in the buffer until this one has ended. */
    while (asker->conn && !asker->request) {
        struct pfx_msg *req PFX_AUTOMSG = NULL;
        if (pfx_failed(pfx_conn_next(asker->conn, &req, &err))) {
            if (pfx_agent_may_tell(&asker->agent->counter->lines, "cli"))
                pfx_log_error(&err, "CLI (pid %d) is cut off",
                              (int)pfx_conn_peer(asker->conn)->pid);
            leave(asker);
            return;
        }
        if (!req)
            break;
        asker->heard_uptime = pfx_uptime_ms();
        on_request(asker, req, now_ms);
        if (pfx_conn_queued(asker->conn) > ROOM)
            break;
    }
    if (pfx_failed(pumped))
        leave(asker);
}

static void step_asker(struct pfx_asker *asker, int64_t now_ms)
{
    int64_t uptime = pfx_uptime_ms();
    read_asker(asker, now_ms);
    if (asker->conn && asker->job)
        pfx_asker_watch(asker);
    if (asker->conn && asker->step && uptime >= asker->rest_uptime &&
        pfx_conn_queued(asker->conn) < ROOM)
        asker->step(asker, now_ms);
    if (asker->broken)
        leave(asker);
    if (!asker->conn)
        return;
    size_t queued = pfx_conn_queued(asker->conn);
    if (queued > 0) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        pfx_result gone = pfx_conn_pump(asker->conn, &ignored);
        (void)gone; /* the next round sees it */
        queued = pfx_conn_queued(asker->conn);
    }
    if (queued == 0 ? asker->request != 0 : queued < asker->queued)
        asker->heard_uptime = uptime;
    asker->queued = queued;
    if (uptime > asker->heard_uptime + IDLE_MS)
        leave(asker);
}

struct pfx_asker *pfx_counter_waiting(struct pfx_counter *counter, int64_t job)
{
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++)
        if (counter->askers[i].conn && counter->askers[i].job == job)
            return &counter->askers[i];
    return NULL;
}

bool pfx_counter_works(const struct pfx_counter *counter, const struct pfx_asker *but,
                       void (*step)(struct pfx_asker *asker, int64_t now_ms))
{
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++)
        if (counter->askers[i].conn && &counter->askers[i] != but &&
            counter->askers[i].step == step)
            return true;
    return false;
}

size_t pfx_counter_prepare(struct pfx_counter *counter, struct pollfd *fds, bool *ret_busy)
{
    size_t n = 0;
    fds[n++] = (struct pollfd){.fd = counter->listen, .events = POLLIN};
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++) {
        const struct pfx_asker *asker = &counter->askers[i];
        if (!asker->conn)
            continue;
        short events = pfx_conn_events(asker->conn);
        if (!(events & POLLIN) && !asker->request)
            *ret_busy = true;
        /* More to say and room for it: don't sleep. */
        if (asker->step && pfx_uptime_ms() >= asker->rest_uptime &&
            pfx_conn_queued(asker->conn) < ROOM)
            events |= POLLOUT;
        fds[n++] = (struct pollfd){.fd = pfx_conn_fd(asker->conn), .events = events};
    }
    return n;
}

int64_t pfx_counter_wait(const struct pfx_counter *counter)
{
    int64_t wait = INT64_MAX, uptime = pfx_uptime_ms();
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++) {
        const struct pfx_asker *asker = &counter->askers[i];
        if (asker->conn && asker->step && asker->rest_uptime - uptime < wait)
            wait = asker->rest_uptime > uptime ? asker->rest_uptime - uptime : 0;
    }
    return wait;
}

void pfx_counter_step(struct pfx_counter *counter, int64_t now_ms)
{
    for (size_t i = 0; i < PFX_COUNTER_ASKERS; i++)
        if (counter->askers[i].conn)
            step_asker(&counter->askers[i], now_ms);
    accept_all(counter);
}
