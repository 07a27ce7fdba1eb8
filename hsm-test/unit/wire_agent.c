#include "wire_agent.h"

#include <poll.h>

#include "api/wire/tables.h"

static const struct pfx_wire_schema *const from_arm[] = {&pfx_s_hello, &pfx_s_pull, &pfx_s_beat,
                                                         &pfx_s_done};

struct pfx_error err;
const char *folder;
struct pfx_arm *arm;
struct seen seen;
struct agent agent;
static char *path;

void changes_result(struct pfx_msg **ret)
{
    *ret = pfx_msg_new(pfx_wire_find(pfx_wire_jobs, "up.order_changes")->result);
}

static void on_job(void *ctx, const struct pfx_arm_job *job)
{
    assert_ptr_equal(ctx, &seen);
    seen.jobs++;
    seen.job = job->job;
    seen.lease = job->lease;
    snprintf(seen.kind, sizeof(seen.kind), "%s", job->kind);
    if (strcmp(job->kind, "up.order_changes") == 0)
        seen.minutes = (int)pfx_msg_int(job->body, "minutes");
    if (seen.answer_at_once) {
        struct pfx_msg *body PFX_AUTOMSG = NULL;
        changes_result(&body);
        pfx_arm_done(arm, job->job, job->lease, PFX_OK, NULL, body);
    }
}

static void on_online(void *ctx, bool online)
{
    (void)ctx;
    *(online ? &seen.online : &seen.offline) += 1;
}

const struct pfx_arm_ops seen_ops = {.job = on_job, .online = on_online};

void start_agent(void)
{
    assert_ok(pfx_sock_listen(path, 0600, (gid_t)-1, &agent.listener, &err), &err);
}

void drop_line(void)
{
    pfx_conn_free(agent.conn);
    agent.conn = NULL;
    agent.credit = 0;
}

int set_up(void **state)
{
    (void)state;
    static const char *const kinds[] = {"up.order_changes", "up.order_info"};
    memset(&seen, 0, sizeof(seen));
    memset(&agent, 0, sizeof(agent));
    err = PFX_ERROR_NONE;
    agent.listener = -1;
    folder = test_folder();
    path = pfx_asprintf("%s/uploader", folder);
    arm = pfx_arm_new("uploader", path, kinds, 2, 3, &seen_ops, &seen);
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    pfx_arm_free(arm);
    pfx_conn_free(agent.conn);
    if (agent.listener >= 0)
        close(agent.listener);
    free(path);
    test_remove_folder(folder);
    return 0;
}

struct pfx_msg *expect(const struct pfx_wire_schema *schema)
{
    for (int i = 0; i < 2000; i++) {
        struct pollfd pfd;
        int sleep_ms = pfx_arm_prepare(arm, &pfd);
        assert_true(sleep_ms >= 0);
        pfx_arm_step(arm);
        if (!agent.conn && agent.listener >= 0) {
            int fd;
            assert_ok(pfx_sock_accept(agent.listener, &fd, &err), &err);
            if (fd >= 0)
                agent.conn = pfx_conn_new(fd, from_arm, 4);
        }
        struct pfx_msg *msg = NULL;
        if (agent.conn) {
            struct pfx_error gone = PFX_ERROR_NONE;
            pfx_result r = pfx_conn_pump(agent.conn, &gone);
            assert_ok(pfx_conn_next(agent.conn, &msg, &err), &err);
            if (!msg && pfx_failed(r))
                return NULL;
        }
        if (msg && pfx_msg_is(msg, &pfx_s_pull)) {
            agent.credit += (int)pfx_msg_int(msg, "max");
            if (agent.credit > agent.most_credit)
                agent.most_credit = agent.credit;
        }
        if (msg && schema && pfx_msg_is(msg, schema))
            return msg;
        pfx_msg_free(msg);
        if (!schema && i > 20)
            return NULL; /* just lets it run */
        if (i > 20)
            usleep(1000);
    }
    fail_msg("no %s came; %s", schema ? schema->name : "", pfx_arm_trouble(arm));
    return NULL;
}

void run(void)
{
    pfx_msg_free(expect(NULL));
}

void push(const struct pfx_msg *msg)
{
    assert_ok(pfx_conn_send(agent.conn, msg, &err), &err);
    assert_ok(pfx_conn_pump(agent.conn, &err), &err);
}

static void welcome(void)
{
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(&pfx_s_welcome);
    pfx_msg_set_str(msg, "version", PFX_VERSION);
    pfx_msg_set_str(msg, "incarnation", "00000000-0000-4000-8000-000000000000");
    push(msg);
}

void give(int64_t job, int64_t lease, const char *kind, const char *body)
{
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(&pfx_s_job);
    pfx_msg_set_int(msg, "job", job);
    pfx_msg_set_int(msg, "lease", lease);
    pfx_msg_set_int(msg, "deadline", 1);
    pfx_msg_set_str(msg, "kind", kind);
    pfx_msg_set_body_text(msg, "body", body, strlen(body));
    push(msg);
    agent.credit--;
}

void ack(int64_t job, int64_t lease)
{
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(&pfx_s_ack);
    pfx_msg_set_int(msg, "job", job);
    pfx_msg_set_int(msg, "lease", lease);
    push(msg);
}

void greet(size_t holds)
{
    struct pfx_msg *hello PFX_AUTOMSG = expect(&pfx_s_hello);
    assert_non_null(hello);
    assert_string_equal(pfx_msg_str(hello, "role"), "uploader");
    assert_string_equal(pfx_msg_str(hello, "version"), PFX_VERSION);
    assert_string_equal(pfx_msg_str(hello, "incarnation"), pfx_arm_incarnation(arm));
    assert_int_equal(pfx_msg_int(hello, "pid"), getpid());
    assert_int_equal(pfx_msg_count(hello, "kinds"), 2);
    assert_int_equal(pfx_msg_int(hello, "capacity"), 3);
    assert_int_equal(pfx_msg_count(hello, "holds"), holds);
    welcome();
}

void done_ok(int64_t job, int64_t lease)
{
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    changes_result(&body);
    pfx_arm_done(arm, job, lease, PFX_OK, NULL, body);
}

void expect_done(int64_t job, int64_t lease, const char *cls)
{
    struct pfx_msg *done PFX_AUTOMSG = expect(&pfx_s_done);
    assert_non_null(done);
    assert_int_equal(pfx_msg_int(done, "job"), job);
    assert_int_equal(pfx_msg_int(done, "lease"), lease);
    assert_string_equal(pfx_msg_str(done, "class"), cls);
    assert_true(pfx_msg_has(done, "error") == (strcmp(cls, "ok") != 0));
}
