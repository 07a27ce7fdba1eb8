/* An arm against a little pfx-agentd in the same thread: greeting, credit, answers that are kept
 * until they are acknowledged, also over a lost line, and rubbish. */
#include "api_test.h"

#include <poll.h>
#include <signal.h>

#include "api/wire/arm.h"
#include "api/wire/tables.h"

static struct pfx_error err;
static const char *folder;
static char *path;

static const struct pfx_wire_schema *const from_arm[] = {&pfx_s_hello, &pfx_s_pull, &pfx_s_beat,
                                                         &pfx_s_done};

/* What the arm under test was given. */
static struct {
    int jobs, online, offline;
    int64_t job, lease;
    char kind[33];
    int minutes;
    bool answer_at_once;
} seen;
static struct pfx_arm *arm;

static struct {
    int listener;
    struct pfx_conn *conn;
    int credit, most_credit; /* as the arm granted it */
} agent;

static void changes_result(struct pfx_msg **ret)
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

static void start_agent(void)
{
    assert_ok(pfx_sock_listen(path, 0600, (gid_t)-1, &agent.listener, &err), &err);
}

static void drop_line(void)
{
    pfx_conn_free(agent.conn);
    agent.conn = NULL;
    agent.credit = 0;
}

static int set_up(void **state)
{
    (void)state;
    static const char *const kinds[] = {"up.order_changes", "up.order_info"};
    static const struct pfx_arm_ops ops = {on_job, on_online};
    memset(&seen, 0, sizeof(seen));
    memset(&agent, 0, sizeof(agent));
    err = PFX_ERROR_NONE;
    agent.listener = -1;
    folder = test_folder();
    path = pfx_asprintf("%s/uploader", folder);
    arm = pfx_arm_new("uploader", path, kinds, 2, 3, &ops, &seen);
    return 0;
}

static int tear_down(void **state)
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

/* Lets both sides run until the agent has a message of this type; pulls are counted on the way. */
static struct pfx_msg *expect(const struct pfx_wire_schema *schema)
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

static void run(void)
{
    pfx_msg_free(expect(NULL));
}

static void push(const struct pfx_msg *msg)
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

static void give(int64_t job, int64_t lease, const char *kind, const char *body)
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

static void ack(int64_t job, int64_t lease)
{
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(&pfx_s_ack);
    pfx_msg_set_int(msg, "job", job);
    pfx_msg_set_int(msg, "lease", lease);
    push(msg);
}

static void greet(size_t holds)
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

static void done_ok(int64_t job, int64_t lease)
{
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    changes_result(&body);
    pfx_arm_done(arm, job, lease, PFX_OK, NULL, body);
}

static void expect_done(int64_t job, int64_t lease, const char *cls)
{
    struct pfx_msg *done PFX_AUTOMSG = expect(&pfx_s_done);
    assert_non_null(done);
    assert_int_equal(pfx_msg_int(done, "job"), job);
    assert_int_equal(pfx_msg_int(done, "lease"), lease);
    assert_string_equal(pfx_msg_str(done, "class"), cls);
    assert_true(pfx_msg_has(done, "error") == (strcmp(cls, "ok") != 0));
}

#define CHANGES "{\"minutes\":60}"

static void a_job(void **state)
{
    (void)state;
    struct pollfd pfd;
    start_agent();
    greet(0);
    run();
    assert_int_equal(seen.online, 1);
    assert_int_equal(agent.credit, 3);
    (void)pfx_arm_prepare(arm, &pfd);
    assert_true(pfd.fd >= 0);
    give(7, 1, "up.order_changes", CHANGES);
    run();
    assert_int_equal(seen.jobs, 1);
    assert_int_equal(seen.minutes, 60);
    assert_int_equal(pfx_arm_held(arm), 1);
    pfx_arm_beat(arm, 7, 1);
    struct pfx_msg *beat PFX_AUTOMSG = expect(&pfx_s_beat);
    assert_int_equal(pfx_msg_int(beat, "job"), 7);
    done_ok(7, 1);
    expect_done(7, 1, "ok");
    run();
    assert_int_equal(pfx_arm_held(arm), 1); /* the place is taken until the answer is stored */
    assert_int_equal(agent.credit, 2);
    ack(7, 2); /* another lease: not this one */
    run();
    assert_int_equal(pfx_arm_held(arm), 1);
    ack(7, 1);
    run();
    assert_int_equal(pfx_arm_held(arm), 0);
    assert_int_equal(agent.credit, 3);
    assert_int_equal(agent.most_credit, 3);
    /* Twice acknowledged, twice answered, beats for nothing: no credit comes of it. */
    ack(7, 1);
    done_ok(7, 1);
    pfx_arm_beat(arm, 7, 1);
    run();
    assert_int_equal(agent.credit, 3);
}

static void answered_at_once(void **state)
{
    (void)state;
    seen.answer_at_once = true;
    start_agent();
    greet(0);
    run();
    for (int64_t job = 1; job <= 20; job++) {
        give(job, 1, "up.order_changes", CHANGES);
        expect_done(job, 1, "ok");
        ack(job, 1);
        run();
        assert_int_equal(agent.credit, 3);
    }
    assert_int_equal(agent.most_credit, 3);
}

static void given_twice(void **state)
{
    (void)state;
    start_agent();
    greet(0);
    run();
    give(7, 1, "up.order_changes", CHANGES);
    give(7, 1, "up.order_changes", CHANGES);
    run();
    assert_int_equal(seen.jobs, 1);
    assert_int_equal(pfx_arm_held(arm), 1);
    assert_int_equal(agent.credit, 2); /* the second one's credit came back */
    /* Another lease is another hand-out. */
    give(7, 2, "up.order_changes", CHANGES);
    run();
    assert_int_equal(seen.jobs, 2);
    assert_int_equal(pfx_arm_held(arm), 2);
    done_ok(7, 1);
    expect_done(7, 1, "ok");
}

/* Answers are kept over a lost line, and over pfx-agentd's restart. */
static void line_lost(void **state)
{
    (void)state;
    struct pollfd pfd;
    start_agent();
    greet(0);
    run();
    give(1, 11, "up.order_changes", CHANGES);
    give(2, 12, "up.order_changes", CHANGES);
    run();
    done_ok(1, 11);
    expect_done(1, 11, "ok");
    pfx_arm_done(arm, 1, 11, (pfx_result){PFX_CLASS_LOST}, NULL, NULL); /* the first one counts */
    drop_line();
    close(agent.listener);
    agent.listener = -1;
    run();
    assert_int_equal(seen.offline, 1);
    assert_int_equal(pfx_arm_prepare(arm, &pfd) <= 5000, 1);
    assert_int_equal(pfd.fd, -1);
    assert_true(strlen(pfx_arm_trouble(arm)) > 0);
    done_ok(2, 12); /* answered while nobody listens */
    start_agent();
    greet(2);
    expect_done(1, 11, "ok");
    expect_done(2, 12, "ok");
    run();
    assert_int_equal(seen.online, 2);
    assert_int_equal(agent.credit, 1); /* credit starts anew: what is free now */
    drop_line();
    greet(2);
    expect_done(1, 11, "ok");
    ack(1, 11);
    expect_done(2, 12, "ok");
    ack(2, 12);
    run();
    assert_int_equal(pfx_arm_held(arm), 0);
    assert_int_equal(agent.credit, 3);
    assert_int_equal(agent.most_credit, 3);
    assert_int_equal(seen.jobs, 2);
}

static void back_off(void **state)
{
    (void)state;
    struct pollfd pfd;
    int longest = 0;
    assert_int_equal(pfx_arm_prepare(arm, &pfd), 0);
    pfx_arm_step(arm);
    for (int i = 0; i < 4; i++) {
        int wait = pfx_arm_prepare(arm, &pfd);
        assert_true(wait > longest / 2 && wait <= 100 << i);
        longest = wait;
        pfx_arm_step(arm); /* too early: nothing happens */
        usleep((useconds_t)wait * 1000 + 2000);
        pfx_arm_step(arm);
    }
    assert_has(pfx_arm_trouble(arm), "nobody listens");
}

static void expect_refusal(int64_t job, const char *kind, const char *body, const char *why)
{
    give(job, 1, kind, body);
    struct pfx_msg *done PFX_AUTOMSG = expect(&pfx_s_done);
    assert_non_null(done);
    assert_int_equal(pfx_msg_int(done, "job"), job);
    assert_string_equal(pfx_msg_str(done, "class"), "refused");
    struct pfx_error got;
    pfx_msg_get_error(done, "error", &got);
    assert_int_equal(got.cls, PFX_CLASS_REFUSED);
    assert_has(got.text, why);
    ack(job, 1);
    run();
}

static void rubbish_jobs(void **state)
{
    (void)state;
    start_agent();
    greet(0);
    run();
    expect_refusal(1, "up.nothing", "{}", "isn't known");
    expect_refusal(2, "hsm.key_csr", "{}", "isn't known"); /* a kind, but not of this arm */
    expect_refusal(3, "up.order_changes", "{}", "\"minutes\" is missing");
    expect_refusal(4, "up.order_changes", "{\"minutes\":0}", "from 1");
    expect_refusal(5, "up.order_changes", "{\"minutes\":1,\"minutes\":1}", "twice");
    assert_int_equal(seen.jobs, 0);
    assert_int_equal(agent.credit, 3);
}

static void bad_answers(void **state)
{
    (void)state;
    start_agent();
    greet(0);
    run();
    /* No body, or that of another kind: not the flow's fault, and not lost. */
    give(1, 1, "up.order_changes", CHANGES);
    run();
    pfx_arm_done(arm, 1, 1, PFX_OK, NULL, NULL);
    expect_done(1, 1, "internal");
    give(2, 1, "up.order_changes", CHANGES);
    run();
    struct pfx_msg *wrong PFX_AUTOMSG = pfx_msg_new(&pfx_s_hold);
    pfx_arm_done(arm, 2, 1, PFX_OK, NULL, wrong);
    expect_done(2, 1, "internal");
    /* A failure without a word, and with one. */
    give(3, 1, "up.order_changes", CHANGES);
    run();
    pfx_arm_done(arm, 3, 1, (pfx_result){PFX_CLASS_LOST}, NULL, NULL);
    expect_done(3, 1, "lost");
    ack(3, 1);
    run();
    give(4, 1, "up.order_changes", CHANGES);
    run();
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_fail(&why, PFX_CLASS_INTEGRITY, "order", "4711", "", "not ours");
    pfx_arm_done(arm, 4, 1, r, &why, NULL);
    struct pfx_msg *done PFX_AUTOMSG = expect(&pfx_s_done);
    assert_string_equal(pfx_msg_str(done, "class"), "integrity");
    pfx_msg_get_error(done, "error", &why);
    assert_string_equal(why.object, "4711");
}

static void more_than_asked(void **state)
{
    (void)state;
    start_agent();
    greet(0);
    run();
    for (int64_t job = 1; job <= 4; job++)
        give(job, 1, "up.order_changes", CHANGES);
    assert_null(expect(&pfx_s_done)); /* the line is closed */
    assert_has(pfx_arm_trouble(arm), "more jobs");
    assert_int_equal(pfx_arm_held(arm), 3);
    assert_int_equal(seen.offline, 1);
}

static void sent_away(void **state)
{
    (void)state;
    start_agent();
    pfx_msg_free(expect(&pfx_s_hello));
    struct pfx_msg *bye PFX_AUTOMSG = pfx_msg_new(&pfx_s_bye);
    pfx_msg_set_str(bye, "why", "another version");
    push(bye);
    drop_line(); /* closed right behind it: the word counts, not the closing */
    for (int i = 0; i < 50 && !strstr(pfx_arm_trouble(arm), "another version"); i++) {
        pfx_arm_step(arm);
        usleep(1000);
    }
    assert_string_equal(pfx_arm_trouble(arm), "another version");
    assert_int_equal(seen.online + seen.offline, 0);
    /* A job before the welcome breaks the protocol. */
    pfx_msg_free(expect(&pfx_s_hello));
    give(1, 1, "up.order_changes", CHANGES);
    assert_null(expect(&pfx_s_done));
    assert_int_equal(seen.jobs, 0);
}

static void a_stranger(void **state)
{
    (void)state;
    start_agent();
    pfx_arm_expect(arm, geteuid());
    greet(0); /* the right one */
    drop_line();
    if (geteuid() != 0)
        skip();
    /* The same folder, another user's listener; root is trusted, so someone else's is made. */
    char *other PFX_AUTOFREE = pfx_asprintf("%s/other", folder);
    assert_int_equal(chmod(folder, 0777), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd;
        if (setgid(54322) != 0 || setuid(54321) != 0 ||
            pfx_failed(pfx_sock_listen(other, 0666, (gid_t)-1, &fd, NULL)))
            _exit(1);
        sleep(10);
        _exit(0);
    }
    static const char *const kinds[] = {"up.order_info"};
    static const struct pfx_arm_ops ops = {on_job, on_online};
    struct pfx_arm *second = pfx_arm_new("uploader", other, kinds, 1, 1, &ops, &seen);
    pfx_arm_expect(second, 54320);
    for (int i = 0; i < 3000 && !strstr(pfx_arm_trouble(second), "54321"); i++) {
        pfx_arm_step(second);
        usleep(1000);
    }
    assert_has(pfx_arm_trouble(second), "user 54321 listens");
    pfx_arm_free(second);
    kill(pid, SIGKILL);
}

/* Three answers of 8 MiB each wait: they go out one after the other, and all arrive. */
static void large_answers(void **state)
{
    (void)state;
    start_agent();
    greet(0);
    run();
    struct pfx_msg *body PFX_AUTOMSG = NULL;
    changes_result(&body);
    for (int i = 0; i < 59000; i++) {
        struct pfx_msg *order = pfx_msg_add_obj(body, "orders");
        pfx_msg_set_int(order, "order_id", 1000000000000000 + i);
        pfx_msg_set_int(order, "certificate_id", 1000000000000000 + i);
        pfx_msg_set_str(order, "status", "a status that is as long as sixty-four bytes may be: x");
    }
    for (int64_t job = 1; job <= 3; job++)
        give(job, 1, "up.order_changes", CHANGES);
    run();
    for (int64_t job = 1; job <= 3; job++)
        pfx_arm_done(arm, job, 1, PFX_OK, NULL, body);
    for (int64_t job = 1; job <= 3; job++) {
        struct pfx_msg *done PFX_AUTOMSG = expect(&pfx_s_done), *got PFX_AUTOMSG = NULL;
        assert_int_equal(pfx_msg_int(done, "job"), job);
        assert_ok(pfx_msg_body(done, "body", pfx_msg_schema(body), &got, &err), &err);
        assert_int_equal(pfx_msg_count(got, "orders"), 59000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answered_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(given_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(line_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(back_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rubbish_jobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sent_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stranger, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_answers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
