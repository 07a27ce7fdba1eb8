#include "agent/desk.h"

#include <string.h>
#include <unistd.h>

#include "agent/handout.h"
#include "agent/steps.h"
#include "agent/timing.h"
#include "api/conf/process.h"
#include "api/wire/conn.h"
#include "crypto/encode.h"

#define LINKS_EACH 8 /* connections to one socket, greeted or not */
#define HELLO_MS 10000
/* Of one connection: the others have their turn too. A slow disk makes each answer a long one. */
#define MESSAGES_PER_STEP 32
#define MESSAGES_MS 30
#define MOST_STALE 1000      /* stale answers of one connection before it is closed */

struct link {
    struct pfx_conn *conn; /* NULL: free */
    enum pfx_arm_role role;
    bool greeted;
    int64_t opened_uptime;
    int64_t want; /* jobs that it asked for and hasn't got */
    unsigned stale;
    struct pfx_arm_id id;
    struct pfx_leases leases;
};
struct pfx_desk {
    struct pfx_agent *agent;
    int listen[PFX_ARM_ROLES];
    char *path[PFX_ARM_ROLES];
    uid_t uid[PFX_ARM_ROLES];
    struct link links[PFX_ARM_ROLES * LINKS_EACH];
    struct pfx_arm_facts facts[PFX_ARM_ROLES];
    struct pfx_limit lines[PFX_ARM_ROLES]; /* in the journal, about who comes and goes */
};
_Static_assert(PFX_DESK_POLLFDS >= PFX_ARM_ROLES * (LINKS_EACH + 1), "room for every descriptor");

static const struct pfx_wire_schema *const before_hello[] = {&pfx_s_hello};
static const struct pfx_wire_schema *const after_hello[] = {&pfx_s_pull, &pfx_s_beat, &pfx_s_done,
                                                            &pfx_s_bye};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *pfx_arm_role_name(enum pfx_arm_role role)
{
    return role == PFX_ARM_HSM ? "hsm" : "uploader";
}

pfx_result pfx_desk_open(struct pfx_agent *agent, const uid_t uids[PFX_ARM_ROLES],
                         struct pfx_desk **ret_desk, struct pfx_error *err)
{
    struct pfx_desk *desk = pfx_alloc(sizeof(*desk));
    desk->agent = agent;
    pfx_result r = PFX_OK;
    for (unsigned i = 0; i < PFX_ARM_ROLES; i++)
        desk->listen[i] = -1;
    for (unsigned i = 0; i < PFX_ARM_ROLES && pfx_ok(r); i++) {
        /* Another user's process must be able to open it; who it is is asked of the kernel. */
        mode_t mode = uids[i] == (uid_t)-1 ? 0600 : 0666;
        desk->uid[i] = uids[i];
        desk->path[i] =
            pfx_asprintf("%s/%s", agent->conf->run_dir, pfx_arm_role_name((enum pfx_arm_role)i));
        r = pfx_sock_listen(desk->path[i], mode, (gid_t)-1, &desk->listen[i], err);
    }
    if (pfx_failed(r)) {
        pfx_desk_close(desk);
        return r;
    }
    *ret_desk = desk;
    return PFX_OK;
}

static bool may_tell(struct pfx_desk *desk, const struct link *link)
{
    return pfx_agent_may_tell(&desk->lines[link->role], pfx_arm_role_name(link->role));
}

static void hang_up(struct pfx_desk *desk, struct link *link, const char *why)
{
    if (!link->conn)
        return;
    if (why) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        struct pfx_msg *bye PFX_AUTOMSG = pfx_msg_new(&pfx_s_bye);
        char *text PFX_AUTOFREE = pfx_strndup(why, pfx_utf8_cut(why, 499));
        pfx_msg_set_str(bye, "why", text);
        if (pfx_ok(pfx_conn_send(link->conn, bye, &ignored))) {
            pfx_result gone = pfx_conn_pump(link->conn, &ignored);
            (void)gone; /* it is closed either way */
        }
    }
    if (link->greeted) {
        desk->facts[link->role].connected = false;
        desk->facts[link->role].since_ms = pfx_now_ms();
        desk->facts[link->role].since_uptime = pfx_uptime_ms();
        desk->facts[link->role].jobs = 0;
        if (may_tell(desk, link))
            pfx_log(why ? PFX_LOG_WARN : PFX_LOG_INFO, "pfx-%s (pid %lld) is gone%s%s",
                    pfx_arm_role_name(link->role), (long long)desk->facts[link->role].pid,
                    why ? ": " : "", why ? why : "");
    } else if (why && may_tell(desk, link)) {
        pfx_log(PFX_LOG_WARN, "socket %s: pid %d refused: %s", pfx_arm_role_name(link->role),
                (int)pfx_conn_peer(link->conn)->pid, why);
    }
    pfx_conn_free(link->conn);
    pfx_leases_done(&link->leases);
    *link = (struct link){0};
}

void pfx_desk_close(struct pfx_desk *desk)
{
    if (!desk)
        return;
    for (size_t i = 0; i < COUNT(desk->links); i++)
        hang_up(desk, &desk->links[i], "pfx-agentd ends");
    for (unsigned i = 0; i < PFX_ARM_ROLES; i++) {
        if (desk->listen[i] >= 0) {
            close(desk->listen[i]);
            unlink(desk->path[i]);
        }
        free(desk->path[i]);
    }
    free(desk);
}

void pfx_desk_facts(const struct pfx_desk *desk, enum pfx_arm_role role,
                    struct pfx_arm_facts *ret_facts)
{
    *ret_facts = desk->facts[role];
    for (size_t i = 0; i < COUNT(desk->links); i++)
        if (desk->links[i].greeted && desk->links[i].role == role)
            ret_facts->jobs = desk->links[i].leases.n;
}

static void accept_all(struct pfx_desk *desk, enum pfx_arm_role role)
{
    for (int n = 0; n < LINKS_EACH; n++) {
        struct pfx_error err = PFX_ERROR_NONE;
        int fd;
        if (pfx_failed(pfx_sock_accept(desk->listen[role], &fd, &err))) {
            pfx_log_error(&err, "socket %s", pfx_arm_role_name(role));
            return;
        }
        if (fd < 0)
            return;
        struct link *place = NULL;
        for (unsigned i = 0; i < LINKS_EACH && !place; i++)
            if (!desk->links[role * LINKS_EACH + i].conn)
                place = &desk->links[role * LINKS_EACH + i];
        struct link full = {0};
        struct link *link = place ? place : &full;
        link->conn = pfx_conn_new(fd, before_hello, COUNT(before_hello));
        link->role = role;
        link->opened_uptime = pfx_uptime_ms();
        if (!pfx_peer_allowed(pfx_conn_peer(link->conn), desk->uid[role], (gid_t)-1))
            hang_up(desk, link,
                    role == PFX_ARM_HSM ? "this user isn't access.hsm_user of agent.yaml"
                                        : "this user isn't access.uploader_user of agent.yaml");
        else if (!place)
            hang_up(desk, link, "too many connections to this socket");
    }
}

static struct link *greeted(struct pfx_desk *desk, enum pfx_arm_role role)
{
    for (size_t i = 0; i < COUNT(desk->links); i++)
        if (desk->links[i].greeted && desk->links[i].role == role)
            return &desk->links[i];
    return NULL;
}

static bool send_to(struct pfx_desk *desk, struct link *link, const struct pfx_msg *msg)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_conn_send(link->conn, msg, &err)))
        return true;
    char line[700];
    hang_up(desk, link, pfx_error_line(&err, line, sizeof(line)));
    return false;
}

static void on_hello(struct pfx_desk *desk, struct link *link, const struct pfx_msg *msg,
                     int64_t now_ms)
{
    struct pfx_agent *agent = desk->agent;
    struct pfx_error err = PFX_ERROR_NONE;
    char line[700];
    if (pfx_failed(pfx_arm_id_read(msg, pfx_arm_role_name(link->role), &link->id, &err))) {
        hang_up(desk, link, pfx_error_line(&err, line, sizeof(line)));
        return;
    }
    struct link *old = greeted(desk, link->role);
    if (old && strcmp(old->id.incarnation, link->id.incarnation) != 0) {
        char *why PFX_AUTOFREE =
            pfx_asprintf("another pfx-%s is connected (pid %lld); end it first",
                         pfx_arm_role_name(link->role), (long long)desk->facts[link->role].pid);
        hang_up(desk, link, why);
        return;
    }
    if (old) /* the same process came back before its old line was seen to be closed */
        hang_up(desk, old, NULL);
    pfx_result r = pfx_handout_hello(agent, link->role == PFX_ARM_HSM, &link->id, msg, now_ms,
                                     &link->leases, &err);
    pfx_agent_store_result(agent, r, &err);
    if (pfx_failed(r)) { /* it comes again with back-off, and keeps its answers until then */
        hang_up(desk, link, pfx_error_line(&err, line, sizeof(line)));
        return;
    }
    link->greeted = true;
    struct pfx_arm_facts *facts = &desk->facts[link->role];
    *facts = (struct pfx_arm_facts){.connected = true,
                                    .pid = pfx_msg_int(msg, "pid"),
                                    .since_ms = now_ms,
                                    .since_uptime = pfx_uptime_ms()};
    strncpy(facts->version, pfx_msg_str(msg, "version"), sizeof(facts->version) - 1);
    if (pfx_msg_has(msg, "sandbox"))
        strncpy(facts->sandbox, pfx_msg_str(msg, "sandbox"), sizeof(facts->sandbox) - 1);
    if (may_tell(desk, link))
        pfx_log(strcmp(facts->version, PFX_VERSION) == 0 ? PFX_LOG_INFO : PFX_LOG_WARN,
                "pfx-%s %s (pid %lld) is connected", pfx_arm_role_name(link->role), facts->version,
                (long long)facts->pid);
    pfx_conn_accepts(link->conn, after_hello, COUNT(after_hello));
    struct pfx_msg *welcome PFX_AUTOMSG = pfx_msg_new(&pfx_s_welcome);
    pfx_msg_set_str(welcome, "version", PFX_VERSION);
    pfx_msg_set_str(welcome, "incarnation", agent->incarnation);
    send_to(desk, link, welcome);
}

static void on_done(struct pfx_desk *desk, struct link *link, const struct pfx_msg *msg,
                    int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool stale = false;
    pfx_result r = pfx_steps_apply(desk->agent, pfx_arm_role_name(link->role), link->id.incarnation,
                                   msg, now_ms, &stale, &err);
    pfx_agent_store_result(desk->agent, r, &err);
    if (pfx_failed(r)) {
        /* Not acknowledged: the arm keeps the answer and brings it again when it is back. */
        char line[700];
        hang_up(desk, link, pfx_error_line(&err, line, sizeof(line)));
        return;
    }
    int64_t job = pfx_msg_int(msg, "job"), lease = pfx_msg_int(msg, "lease");
    pfx_leases_drop(&link->leases, job, lease);
    if (stale && ++link->stale > MOST_STALE) {
        hang_up(desk, link, "it sends answers that nobody waits for");
        return;
    }
    struct pfx_msg *ack PFX_AUTOMSG = pfx_msg_new(&pfx_s_ack);
    pfx_msg_set_int(ack, "job", job);
    pfx_msg_set_int(ack, "lease", lease);
    if (send_to(desk, link, ack) && desk->agent->checkpoint) {
        desk->agent->checkpoint = false;
        pfx_store_checkpoint(desk->agent->store);
    }
}

static void on_message(struct pfx_desk *desk, struct link *link, const struct pfx_msg *msg,
                       int64_t now_ms)
{
    if (pfx_msg_is(msg, &pfx_s_hello)) {
        on_hello(desk, link, msg, now_ms);
    } else if (pfx_msg_is(msg, &pfx_s_pull)) {
        link->want += pfx_msg_int(msg, "max");
        if (link->want + (int64_t)link->leases.n >
            link->id.capacity) /* never more than it can hold */
            link->want = link->id.capacity - (int64_t)link->leases.n;
    } else if (pfx_msg_is(msg, &pfx_s_beat)) {
        pfx_leases_beat(&link->leases, pfx_msg_int(msg, "job"), pfx_msg_int(msg, "lease"),
                        pfx_uptime_ms() + desk->agent->job_deadline_ms);
    } else if (pfx_msg_is(msg, &pfx_s_done)) {
        on_done(desk, link, msg, now_ms);
    } else {
        if (may_tell(desk, link))
            pfx_log(PFX_LOG_INFO, "pfx-%s says goodbye: %s", pfx_arm_role_name(link->role),
                    pfx_msg_str(msg, "why"));
        hang_up(desk, link, NULL);
    }
}

static void read_link(struct pfx_desk *desk, struct link *link, int64_t now_ms)
{
    struct pfx_error gone = PFX_ERROR_NONE, err = PFX_ERROR_NONE;
    pfx_result pumped = pfx_conn_pump(link->conn, &gone);
    int64_t until = pfx_uptime_ms() + MESSAGES_MS;
    for (int i = 0; i < MESSAGES_PER_STEP && link->conn && (i == 0 || pfx_uptime_ms() < until);
         i++) {
        struct pfx_msg *msg PFX_AUTOMSG = NULL;
        if (pfx_failed(pfx_conn_next(link->conn, &msg, &err))) {
            char line[700];
            hang_up(desk, link, pfx_error_line(&err, line, sizeof(line)));
            return;
        }
        if (msg) {
            on_message(desk, link, msg, now_ms);
            continue;
        }
        if (pfx_failed(pumped))
            hang_up(desk, link, NULL);
        return;
    }
}

/* Jobs leave only after their row says so: one transaction, then the frames. */
static void hand_out(struct pfx_desk *desk, struct link *link, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_parcels parcels = {0};
    if (!link->conn || !link->greeted || link->want <= 0)
        return;
    pfx_result r = pfx_handout_take(desk->agent, &link->id, link->want, now_ms,
                                    pfx_uptime_ms() + desk->agent->job_deadline_ms, &link->leases,
                                    &parcels, &err);
    pfx_agent_store_result(desk->agent, r, &err);
    for (size_t i = 0; pfx_ok(r) && i < parcels.n && link->conn; i++)
        if (send_to(desk, link, parcels.msgs[i]))
            link->want--;
    pfx_parcels_done(&parcels);
    if (link->conn && pfx_conn_queued(link->conn) > 0) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        pfx_result gone = pfx_conn_pump(link->conn, &ignored);
        (void)gone; /* the next round sees it */
    }
}

size_t pfx_desk_prepare(struct pfx_desk *desk, struct pollfd *fds, bool *ret_busy)
{
    size_t n = 0;
    *ret_busy = false;
    for (unsigned i = 0; i < PFX_ARM_ROLES; i++)
        fds[n++] = (struct pollfd){.fd = desk->listen[i], .events = POLLIN};
    for (size_t i = 0; i < COUNT(desk->links); i++)
        if (desk->links[i].conn) {
            fds[n] = (struct pollfd){.fd = pfx_conn_fd(desk->links[i].conn),
                                     .events = pfx_conn_events(desk->links[i].conn)};
            *ret_busy = *ret_busy || !(fds[n++].events & POLLIN);
        }
    return n;
}

void pfx_desk_step(struct pfx_desk *desk, int64_t now_ms)
{
    int64_t uptime = pfx_uptime_ms();
    /* Lines first, so that one which was closed makes room for who comes after it. */
    for (size_t i = 0; i < COUNT(desk->links); i++) {
        struct link *link = &desk->links[i];
        if (link->conn)
            read_link(desk, link, now_ms);
        if (link->conn && !link->greeted && uptime > link->opened_uptime + HELLO_MS)
            hang_up(desk, link, "no hello within 10 seconds");
        if (link->conn && link->greeted && pfx_leases_overdue(&link->leases, uptime))
            hang_up(desk, link, "no sign of life from a job past its deadline");
    }
    for (unsigned i = 0; i < PFX_ARM_ROLES; i++)
        accept_all(desk, (enum pfx_arm_role)i);
}

void pfx_desk_hand_out(struct pfx_desk *desk, int64_t now_ms)
{
    for (size_t i = 0; i < COUNT(desk->links); i++)
        hand_out(desk, &desk->links[i], now_ms);
}
