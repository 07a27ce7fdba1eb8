/* An arm against a little pfx-agentd: greeting, credit, answers that are kept until they are
 * acknowledged, also over a lost line, and rubbish. */
#include "wire_agent.h"

#include <poll.h>
#include <signal.h>

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
    struct pfx_arm *second = pfx_arm_new("uploader", other, kinds, 1, 1, &seen_ops, &seen);
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
