/*
 * Every step of the write path, stopped and broken: each call that the writer makes on the disk in
 * the life of a log (begin, operations, segments, a late one, rotation, one that fails, retention,
 * a torn tail, set aside, successor) is one point. At each point a process of its own is killed
 * before the call, after it, in the middle of it, and with everything lost that wasn't synced; or
 * the call fails, once or for good.
 *
 * What was let out is told over a pipe before the process dies. Another program (log_check.py) then
 * looks whether each of it stands under a good checkpoint; the log is opened again, goes on, and is
 * looked at once more.
 *
 * Every step has every fault at its first call, and the deaths at its last one too, those of a
 * commit at the first five; with PFX_LONG=1 all of them are visited at each call.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hsm_oplog_faults.h"

/* The first steps of the list are those between a result and its release: more of their calls. */
#define RELEASE_STEPS 4
#define RELEASE_CALLS 5

static int told = -1; /* pipe */

/* The life of a log. Failures are looked at by nobody: what matters is what is told. */
static struct pfx_draft draft;
static unsigned n_results;

static void operate(struct pfx_oplog *log)
{
    struct pfx_oplog_facts facts;
    uint64_t seq;
    char name[32], line[256];
    ERROR(err);
    pfx_oplog_facts(log, &facts);
    rig_intent(&draft);
    if (pfx_failed(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &seq, &err)))
        return;
    snprintf(name, sizeof name, "result-%u", ++n_results);
    rig_result(&draft, seq);
    pfx_draft_str(&draft, PFX_F_TARGET_NAME, name);
    if (pfx_failed(pfx_oplog_append(log, &draft, PFX_ROOM_PROMISED, PFX_UNTIL_COVERED, &seq, &err)))
        return;
    /* Let out. */
    int len = snprintf(line, sizeof line, ",[\"%s\",%" PRIu64 ",\"%s\"]", facts.origin, seq, name);
    if (write(told, line, (size_t)len) != len)
        _exit(70);
    /* Had the failure been passed over, this would be uncovered. */
    if (fault_kind == FAILS_LOST && fault_counts->hit) {
        lose();
        _exit(KILLED);
    }
}

static void notes(struct pfx_oplog *log, size_t n, enum pfx_until until)
{
    struct pfx_draft *drafts = pfx_alloc_array(50, sizeof *drafts);
    for (size_t i = 0; i < 50; i++)
        rig_note(&drafts[i], "a note that fills the segment so that the next one is needed soon");
    for (; n >= 50; n -= 50) {
        ERROR(err);
        if (pfx_failed(pfx_oplog_append_all(log, drafts, 50, PFX_ROOM_ORDINARY, until, NULL, &err)))
            break;
    }
    free(drafts);
}

static void settle(struct pfx_oplog *log)
{
    ERROR(err);
    pfx_result r = pfx_oplog_settle(log, &err);
    (void)r;
}

static void rotate(struct pfx_oplog *log, unsigned which)
{
    ERROR(err);
    static struct pfx_signer fresh;
    fresh = rig_signer(which);
    rig_rotation(&draft, which);
    pfx_result r = pfx_oplog_rotate(log, &draft, &fresh, &err);
    (void)r;
}

static pfx_result end_intent(void *ctx, uint64_t seq, const struct pfx_entry *intent,
                             struct pfx_error *err)
{
    (void)intent;
    static struct pfx_draft result;
    pfx_draft_init(&result, PFX_SRC_HSM, "key.make", PFX_PHASE_RESULT, PFX_OUTCOME_UNKNOWN);
    pfx_draft_str(&result, PFX_F_ACTOR_ROLE, "self");
    pfx_draft_int(&result, PFX_F_REF, (int64_t)seq);
    return pfx_oplog_append(ctx, &result, PFX_ROOM_PROMISED, PFX_UNTIL_SYNCED, NULL, err);
}

static bool was_set_aside(const char *dir)
{
    char pattern[256];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s.*", dir);
    bool any = glob(pattern, 0, NULL, &found) == 0;
    globfree(&found);
    return any;
}

/* Opens what is there, or begins. */
static pfx_result get_going(const struct pfx_oplog_config *config, struct pfx_oplog **ret,
                            struct pfx_error *err)
{
    struct pfx_oplog *log;
    PFX_TRY(pfx_oplog_open(config, &log, err));
    *ret = log;
    static struct pfx_signer signer;
    enum pfx_oplog_state state = pfx_oplog_state(log, err);
    if (state == PFX_OPLOG_NONE) {
        bool again = was_set_aside(config->dir);
        unsigned which = again ? 2 : 0;
        signer = rig_signer(which);
        rig_first(&draft, again ? "log.reopen" : "log.begin", which);
        return pfx_oplog_begin(log, rig_origin(which), &draft, &signer, err);
    }
    if (state != PFX_OPLOG_OPEN)
        return (pfx_result){PFX_CLASS_INTEGRITY};
    PFX_TRY(pfx_oplog_dangling(log, end_intent, log, err));
    signer = rig_signer(rig_keys_of(log));
    return pfx_oplog_attach(log, &signer, NULL, err);
}

static void append_late(struct pfx_oplog *log)
{
    struct timespec until;
    pthread_mutex_lock(&late_lock);
    late = true;
    late_there = false;
    pthread_mutex_unlock(&late_lock);
    notes(log, 300, PFX_UNTIL_APPENDED); /* into the next segment: one more is to be made */
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&late_lock);
    while (!late_there && pfx_oplog_state(log, NULL) == PFX_OPLOG_OPEN && !disk_full &&
           pthread_cond_timedwait(&late_change, &late_lock, &until) == 0)
        ;
    pthread_mutex_unlock(&late_lock);
    notes(log, 300, PFX_UNTIL_APPENDED);
    pthread_mutex_lock(&late_lock);
    late = false;
    pthread_cond_broadcast(&late_change);
    pthread_mutex_unlock(&late_lock);
}

/* What a crash of the machine may leave: half a record at the log's end and in the file made ahead,
 * half a slot. */
static void damage(const char *dir)
{
    char path[512];
    struct pfx_logdir *reader;
    ERROR(err);
    char **names = NULL;
    size_t n = 0;
    uint64_t first;
    if (pfx_failed(pfx_logdir_open(dir, &reader, &err)))
        return;
    if (pfx_failed(pfx_logdir_list(reader, "entries", &names, &n, &err)))
        n = 0;
    bool last = true;
    for (size_t i = n; i-- > 0;) {
        static const uint8_t half[] = {2, 0, '{', '"', 'a', 'c', 't'};
        if (last && pfx_segment_parse(names[i], &first)) {
            snprintf(path, sizeof path, "%s/entries/%s", dir, names[i]);
            int fd = open(path, O_RDWR | O_CLOEXEC);
            uint8_t head[2];
            off_t at = 0;
            while (pread(fd, head, 2, at) == 2 && (head[0] || head[1]))
                at += 2 + (head[0] << 8 | head[1]);
            (void)!pwrite(fd, half, sizeof half, at);
            close(fd);
            last = at == 0; /* one made ahead: the one that ends the log is before it */
        }
        free(names[i]);
    }
    free(names);
    pfx_logdir_close(reader);
    uint8_t slots[2][PFX_SLOT_SIZE];
    uint64_t sizes[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        struct pfx_bytes note;
        static struct pfx_checkpoint parsed;
        snprintf(path, sizeof path, "%s/checkpoint.%d", dir, i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, slots[i], PFX_SLOT_SIZE) == PFX_SLOT_SIZE &&
            pfx_slot_read(slots[i], &note) && pfx_ok(pfx_checkpoint_parse(note, &parsed, &err)))
            sizes[i] = parsed.size;
        close(fd);
    }
    if (sizes[0] == 0 || sizes[1] == 0)
        return; /* one is torn already */
    snprintf(path, sizeof path, "%s/checkpoint.%d", dir, sizes[1] < sizes[0] ? 1 : 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    (void)!pwrite(fd, "torn", 4, 100);
    close(fd);
}

static void wait_for_retention(struct pfx_oplog *log)
{
    for (int i = 0; i < 200; i++) {
        struct pfx_oplog_status status;
        pfx_oplog_status(log, &status);
        if (status.first > 0 || status.state != PFX_OPLOG_OPEN || disk_full)
            return;
        usleep(2000);
    }
}

static void live(const char *dir)
{
    struct pfx_oplog_config config = rig_config(dir);
    struct pfx_oplog *log = NULL;
    config.io = &fault_hooks;
    ERROR(err);
    static const uint8_t policy[32] = {1, 2, 3};
    if (pfx_ok(get_going(&config, &log, &err))) {
        pfx_result r = pfx_oplog_policy(
            log, policy, (struct pfx_bytes){(const uint8_t *)"host_id: a\n", 11}, &err);
        (void)r;
    }
    operate(log);
    operate(log);
    notes(log, 250, PFX_UNTIL_SYNCED);
    operate(log);
    settle(log);
    rig_token->dead = 1u << 1;
    rotate(log, 1);
    rig_token->dead = 0;
    operate(log);
    rotate(log, 1);
    operate(log);
    append_late(log);
    operate(log);
    settle(log);
    rig_intent(&draft); /* nobody ends it */
    pfx_result r = pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &err);
    pfx_oplog_free(log);

    damage(dir);
    config.keep_ms = 1;
    err = (struct pfx_error)PFX_ERROR_NONE;
    r = get_going(&config, &log, &err);
    operate(log);
    wait_for_retention(log);
    operate(log);
    settle(log);
    pfx_oplog_free(log);

    config.keep_ms = 0;
    err = (struct pfx_error)PFX_ERROR_NONE;
    r = pfx_oplog_open(&config, &log, &err);
    char *where = NULL;
    static struct pfx_signer signer;
    signer = rig_signer(2);
    r = pfx_oplog_set_aside(log, &where, &err);
    free(where);
    rig_first(&draft, "log.reopen", 2);
    err = (struct pfx_error)PFX_ERROR_NONE;
    refuse_in = 2; /* the first segment is made, the next one isn't */
    r = pfx_oplog_begin(log, RIG_SUCCESSOR, &draft, &signer, &err);
    operate(log);
    operate(log);
    settle(log);
    pfx_oplog_free(log);
    (void)r;
}

/* In a process of its own, as the rest has no thread when it forks. */
static void go_on(const char *dir)
{
    struct pfx_oplog_config config = rig_config(dir);
    struct pfx_oplog *log = NULL;
    char line[1024];
    ERROR(err);
    pfx_result r = get_going(&config, &log, &err);
    for (int i = 0; i < 2 && pfx_ok(r); i++)
        r = rig_operation(log, NULL, &err);
    if (pfx_ok(r))
        r = pfx_oplog_settle(log, &err);
    pfx_oplog_free(log);
    if (pfx_failed(r))
        fprintf(stderr, "%s: %s\n", pfx_class_name(r.cls), pfx_error_line(&err, line, sizeof line));
    _exit(pfx_ok(r) ? 0 : 1);
}

struct outcome {
    int status;
    unsigned released;
};

static struct outcome run_one(const char *step, unsigned nth, enum fault kind)
{
    const char *dir = rig_fresh();
    char point[128];
    snprintf(point, sizeof point, "%s, call %u, %s", step ? step : "no step", nth,
             fault_names[kind]);
    memset(fault_counts, 0, sizeof *fault_counts);
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        told = fds[1];
        fault_step = step;
        fault_nth = nth;
        fault_kind = kind;
        live(dir);
        _exit(0);
    }
    close(fds[1]);
    struct pfx_buf released PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1 << 20);
    char piece[4096];
    for (ssize_t n; (n = read(fds[0], piece, sizeof piece)) > 0;)
        pfx_buf_add(&released, piece, (size_t)n);
    close(fds[0]);
    struct outcome outcome = {.status = 0};
    waitpid(pid, &outcome.status, 0);
    if (!WIFEXITED(outcome.status) ||
        (WEXITSTATUS(outcome.status) != 0 && WEXITSTATUS(outcome.status) != KILLED))
        fail_msg("%s: the process ended with status %x", point, outcome.status);
    for (size_t i = 0; i < released.len; i++)
        outcome.released += released.data[i] == '[';
    const char *list = released.len > 0 ? pfx_buf_str(&released) + 1 : "";
    struct rig_verdict verdict = rig_ask(dir, list, true);
    if (verdict.findings[0])
        fail_msg("%s: %s", point, verdict.findings);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        go_on(dir);
    int status;
    waitpid(pid, &status, 0);
    if (status != 0)
        fail_msg("%s: the log can't go on", point);
    verdict = rig_ask(dir, list, false);
    if (verdict.findings[0])
        fail_msg("%s, then opened again: %s", point, verdict.findings);
    assert_int_equal(verdict.n_open, 0);
    return outcome;
}

static bool applies(const char *step, enum fault kind)
{
    bool is_write = strncmp(step, "write ", 6) == 0 || strncmp(step, "append ", 7) == 0 ||
                    strncmp(step, "rewrite ", 8) == 0 || strcmp(step, "take back rotation") == 0 ||
                    strcmp(step, "mend slot") == 0;
    bool is_sync = strncmp(step, "sync ", 5) == 0;
    if (kind >= TORN_1 && kind <= TORN_LATE)
        return is_write;
    if (kind == FAILS_LOST)
        return is_sync;
    /* A full disk: what needs no new block can't meet it; the log relies on that. */
    if (kind == FULL_LONG)
        return needs_space(step);
    return true;
}

static void every_step(void **state)
{
    (void)state;
    static unsigned calls[MAX_STEPS];
    struct outcome whole = run_one(NULL, 0, NONE);
    memcpy(calls, fault_counts->calls, sizeof calls);
    const char *lasting = getenv("PFX_LONG");
    bool all = lasting && strcmp(lasting, "1") == 0, few = getenv("PFX_STEPS_FEW") != NULL;
    unsigned total = 0, told_total = 0, points = 0;
    print_message("without a fault: %u results let out\n\n%-24s %6s", whole.released, "step",
                  "calls");
    for (enum fault kind = BEFORE; kind < N_FAULTS; kind++)
        print_message(" %10s", fault_names[kind]);
    print_message("\n");
    for (unsigned i = 0; pfx_oplog_steps[i]; i++) {
        const char *step = pfx_oplog_steps[i];
        print_message("%-24s %6u", step, calls[i]);
        if (calls[i] == 0)
            fail_msg("step \"%s\" isn't visited", step);
        for (enum fault kind = BEFORE; kind < N_FAULTS; kind++) {
            unsigned hit = 0, tried = 0;
            for (unsigned nth = 1; nth <= calls[i] && applies(step, kind); nth++) {
                bool dies = kind == BEFORE || kind == POWER || kind == FAILS_LOST;
                bool soon = nth <= RELEASE_CALLS && i < RELEASE_STEPS;
                if (!all && nth > 1 && (!dies || (nth < calls[i] && !soon)))
                    continue;
                if (few && (nth > 1 || (kind != BEFORE && kind != FULL && kind != FAILS)))
                    continue;
                struct outcome outcome = run_one(step, nth, kind);
                tried++;
                hit += fault_counts->hit;
                told_total += outcome.released;
            }
            char cell[24] = "-";
            if (tried > 0)
                snprintf(cell, sizeof cell, "%u/%u", hit, tried);
            print_message(" %10s", cell);
            points += hit;
            total += tried;
            /* Calls late in the life of a log may be fewer by timing; the first one never is. */
            if (tried > 0 && hit == 0)
                fail_msg("\"%s\" was never %s", step, fault_names[kind]);
        }
        print_message("\n");
    }
    print_message("%u points hit of %u tried; %u results let out before a fault, each of them "
                  "covered; each log went on\n",
                  points, total, told_total);
}

static int setup(void **state)
{
    fault_counts =
        mmap(NULL, sizeof *fault_counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(fault_counts, MAP_FAILED);
    return rig_setup(state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(every_step)};
    return cmocka_run_group_tests(tests, setup, rig_teardown);
}
