/* The operation log's writer: what it does when nothing goes wrong, and when the token does. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hsm_oplog_rig.h"

static struct pfx_draft draft;

static void begin_and_go_on(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_open(&config);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_NONE);
    rig_note(&draft, "too early");
    assert_class(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_APPENDED, NULL, &err),
                 PFX_CLASS_USAGE);
    pfx_oplog_free(log);

    log = rig_begun(&config);
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.size, 1);
    assert_int_equal(verdict.covered, 1);
    assert_string_equal(rig_token->labels[0], rig_token->labels[1]);
    assert_int_equal(strncmp(rig_token->labels[0], "pfxlog1:", 8), 0);
    uint64_t seq;
    err = (struct pfx_error)PFX_ERROR_NONE;
    for (unsigned i = 0; i < 5; i++) {
        assert_ok(rig_operation(log, &seq, &err), &err);
        assert_int_equal(seq, 2 * i + 2);
    }
    verdict = rig_check(config.dir);
    assert_int_equal(verdict.covered, 11);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    struct pfx_oplog_status status;
    pfx_oplog_status(log, &status);
    assert_int_equal(status.anchor_size, 11);
    assert_int_equal(status.covered, 11);
    assert_int_equal(status.reserve_left, status.reserve);
    pfx_oplog_free(log);

    /* Again: not another begin, and the same keys. */
    log = rig_open(&config);
    struct pfx_signer signer = rig_signer(0);
    rig_first(&draft, "log.begin", 0);
    assert_class(pfx_oplog_begin(log, RIG_ORIGIN, &draft, &signer, &err), PFX_CLASS_USAGE);
    err = (struct pfx_error)PFX_ERROR_NONE;
    uint64_t ahead = 99;
    assert_ok(pfx_oplog_attach(log, &signer, &ahead, &err), &err);
    assert_int_equal(ahead, 0);
    struct pfx_oplog_facts facts;
    pfx_oplog_facts(log, &facts);
    assert_string_equal(facts.origin, RIG_ORIGIN);
    assert_int_equal(facts.n_keys, 2);
    assert_int_equal(facts.tail, 0);
    assert_ok(rig_operation(log, &seq, &err), &err);
    assert_int_equal(seq, 12);
    pfx_oplog_free(log);
    verdict = rig_check(config.dir);
    assert_int_equal(verdict.covered, 13);
}

static void facts_are_kept(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    uint8_t policy[32];
    memset(policy, 0x5a, sizeof policy);
    pfx_draft_init(&draft, PFX_SRC_HSM, "start", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_str(&draft, PFX_F_ACTOR_ROLE, "self");
    pfx_draft_hex(&draft, PFX_F_POLICY_SHA256, policy, 32);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &err), &err);
    pfx_draft_init(&draft, PFX_SRC_AGENTD, "order.placed", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_str(&draft, PFX_F_ACTOR_ROLE, "agentd");
    pfx_draft_int(&draft, PFX_F_N, 17);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &err), &err);
    uint64_t intent;
    rig_intent(&draft);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &intent, &err),
              &err);
    /* Two segments on, all that is known comes from the note that begins the last one. */
    rig_notes(log, 700);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_draft_init(&draft, PFX_SRC_HSM, "stop", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_str(&draft, PFX_F_ACTOR_ROLE, "self");
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_SYNCED, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.n_open, 1);

    log = rig_open(&config);
    struct pfx_oplog_facts facts;
    pfx_oplog_facts(log, &facts);
    assert_string_equal(facts.origin, RIG_ORIGIN);
    assert_int_equal(facts.n_keys, 2);
    assert_int_equal(facts.agentd_n, 17);
    assert_true(facts.has_policy);
    assert_memory_equal(facts.policy_sha256, policy, 32);
    assert_true(facts.stopped);
    pfx_oplog_free(log);
}

struct seen {
    struct pfx_oplog *log;
    uint64_t seqs[8];
    size_t n;
};

static pfx_result end_intent(void *ctx, uint64_t seq, const struct pfx_entry *intent,
                             struct pfx_error *err)
{
    struct seen *seen = ctx;
    assert_true(pfx_entry_is(intent, PFX_F_EVENT, "key.make"));
    assert_int_equal(pfx_entry_int(intent, PFX_F_SEQ), seq);
    seen->seqs[seen->n++] = seq;
    struct pfx_draft *result PFX_AUTOFREE = pfx_alloc(sizeof *result);
    pfx_draft_init(result, PFX_SRC_HSM, "key.make", PFX_PHASE_RESULT, PFX_OUTCOME_UNKNOWN);
    pfx_draft_str(result, PFX_F_ACTOR_ROLE, "self");
    pfx_draft_int(result, PFX_F_REF, (int64_t)seq);
    return pfx_oplog_append(seen->log, result, PFX_ROOM_PROMISED, PFX_UNTIL_SYNCED, NULL, err);
}

static void dangling_intents(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    uint64_t intents[4];
    for (unsigned i = 0; i < 4; i++) {
        rig_intent(&draft);
        assert_ok(
            pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &intents[i], &err),
            &err);
        if (i % 2)
            rig_notes(log, 300); /* some lie in segments that aren't read at start */
    }
    rig_result(&draft, intents[1]);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_PROMISED, PFX_UNTIL_COVERED, NULL, &err),
              &err);
    pfx_oplog_free(log);

    log = rig_open(&config);
    struct seen seen = {.log = log};
    assert_ok(pfx_oplog_dangling(log, end_intent, &seen, &err), &err);
    assert_int_equal(seen.n, 3);
    assert_int_equal(seen.seqs[0], intents[0]);
    assert_int_equal(seen.seqs[1], intents[2]);
    assert_int_equal(seen.seqs[2], intents[3]);
    assert_ok(pfx_oplog_dangling(log, end_intent, &seen, &err), &err);
    assert_int_equal(seen.n, 3); /* they have results now */
    struct pfx_signer signer = rig_signer(0);
    assert_ok(pfx_oplog_attach(log, &signer, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.n_open, 0);
}

static void at_most_so_many_intents(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    uint64_t first = 0, last = 0;
    for (unsigned i = 0; i < 128; i++) {
        rig_intent(&draft);
        assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_APPENDED,
                                   i == 0 ? &first : &last, &err),
                  &err);
    }
    rig_intent(&draft);
    assert_class(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_APPENDED, NULL, &err),
                 PFX_CLASS_TRANSIENT);
    assert_string_equal(err.code, "open");
    rig_result(&draft, first);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_PROMISED, PFX_UNTIL_SYNCED, NULL, &err), &err);
    rig_intent(&draft);
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &err), &err);
    rig_notes(log, 400); /* their list fits into the note of a segment */
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    assert_int_equal(rig_check(config.dir).n_open, 128);
}

static void token_away(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    uint64_t seq = 0;
    rig_token->sign_fails = -1;
    assert_class(rig_operation(log, &seq, &err), PFX_CLASS_DEVICE);
    assert_string_equal(err.code, "CKR_DEVICE_REMOVED");
    assert_int_equal(seq, 2); /* it stands in the log, uncovered */
    struct pfx_oplog_status status;
    pfx_oplog_status(log, &status);
    assert_int_equal(status.state, PFX_OPLOG_OPEN);
    assert_int_equal(status.synced, 3);
    assert_int_equal(status.covered, 1);
    assert_string_equal(status.signer_why.code, "CKR_DEVICE_REMOVED");
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.size, 3);
    assert_int_equal(verdict.covered, 1);
    /* It comes back: whoever asks gets a signature at once, and all before it is covered too. */
    rig_token->sign_fails = 0;
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_wait(log, seq, PFX_UNTIL_COVERED, &err), &err);
    pfx_oplog_status(log, &status);
    assert_int_equal(status.signer_why.cls, PFX_CLASS_OK);
    /* A token that signs something else covers nothing. */
    rig_token->lies = 1;
    assert_class(rig_operation(log, &seq, &err), PFX_CLASS_INTEGRITY);
    rig_token->lies = 0;
    assert_int_equal(rig_check(config.dir).covered, 3);
    /* Detached: entries go on, releases don't. */
    pfx_oplog_detach(log);
    assert_false(pfx_oplog_attached(log));
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(rig_operation(log, &seq, &err), PFX_CLASS_TRANSIENT);
    assert_string_equal(err.code, "signer");
    assert_int_equal(seq, 6);
    struct pfx_signer signer = rig_signer(0);
    uint64_t ahead = 99;
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_attach(log, &signer, &ahead, &err), &err);
    assert_int_equal(ahead, 0);
    assert_ok(pfx_oplog_wait(log, seq, PFX_UNTIL_COVERED, &err), &err);
    pfx_oplog_free(log);
    assert_int_equal(rig_check(config.dir).covered, 7);
}

static void a_quiet_log_is_covered(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    rig_note(&draft, "nobody waits");
    assert_ok(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_APPENDED, NULL, &err),
              &err);
    struct pfx_oplog_status status;
    for (int i = 0; i < 100; i++) {
        usleep(50000);
        pfx_oplog_status(log, &status);
        if (status.covered == 2)
            break;
    }
    assert_int_equal(status.covered, 2);
    pfx_oplog_free(log);
}

static void anchored_when_due(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    config.anchor_entries = 10;
    struct pfx_oplog *log = rig_begun(&config);
    unsigned before = rig_token->anchors;
    struct pfx_oplog_status status;
    for (int i = 0; i < 6; i++)
        assert_ok(rig_operation(log, NULL, &err), &err);
    for (int i = 0; i < 100; i++) {
        pfx_oplog_status(log, &status);
        if (status.anchor_size > 1)
            break;
        usleep(20000);
    }
    assert_true(status.anchor_size >= 11);
    assert_int_equal(rig_token->anchors, before + 1);
    assert_string_not_equal(rig_token->labels[0], rig_token->labels[1]);
    /* One that can't be written is told, and doesn't keep the log from working. */
    rig_token->anchor_fails = -1;
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_class(pfx_oplog_settle(log, &err), PFX_CLASS_DEVICE);
    assert_string_equal(err.op, "write anchor");
    pfx_oplog_status(log, &status);
    assert_string_equal(status.anchor_why.code, "CKR_DEVICE_ERROR");
    assert_int_equal(status.covered, status.size);
    rig_token->anchor_fails = 0;
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_status(log, &status);
    assert_int_equal(status.anchor_why.cls, PFX_CLASS_OK);
    assert_int_equal(status.anchor_size, status.size);
    pfx_oplog_free(log);
    rig_check(config.dir);
}

static void keys_change(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    struct pfx_signer fresh = rig_signer(1), old = rig_signer(0);
    assert_ok(rig_operation(log, NULL, &err), &err);
    /* One that fails leaves no trace. */
    rig_token->sign_fails = -1;
    rig_rotation(&draft, 1);
    assert_class(pfx_oplog_rotate(log, &draft, &fresh, &err), PFX_CLASS_DEVICE);
    rig_token->sign_fails = 0;
    err = (struct pfx_error)PFX_ERROR_NONE;
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.size, 3);
    assert_ok(rig_operation(log, NULL, &err), &err); /* still the old ones */
    assert_ok(pfx_oplog_rotate(log, &draft, &fresh, &err), &err);
    verdict = rig_check(config.dir); /* the checkpoint over it has all four signatures */
    assert_int_equal(verdict.size, 6);
    assert_int_equal(verdict.covered, 6);
    assert_ok(rig_operation(log, NULL, &err), &err);
    pfx_oplog_free(log);
    rig_check(config.dir);

    log = rig_open(&config);
    assert_class(pfx_oplog_attach(log, &old, NULL, &err), PFX_CLASS_INTEGRITY);
    assert_string_equal(err.code, "signature");
    pfx_oplog_free(log);
    log = rig_open(&config);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_attach(log, &fresh, NULL, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    pfx_oplog_free(log);
    rig_check(config.dir);
}

#define THREADS 64
struct worker {
    struct pfx_oplog *log;
    unsigned n;
    pfx_result result;
    struct pfx_error err;
};

static void *operate(void *ctx)
{
    struct worker *worker = ctx;
    for (unsigned i = 0; i < worker->n && pfx_ok(worker->result); i++)
        worker->result = rig_operation(worker->log, NULL, &worker->err);
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_oplog_config config = rig_config(rig_fresh());
    struct pfx_oplog *log = rig_begun(&config);
    pthread_t threads[THREADS];
    static struct worker workers[THREADS];
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.log = log, .n = 20};
        assert_int_equal(pthread_create(&threads[i], NULL, operate, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_ok(workers[i].result, &workers[i].err);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    struct pfx_oplog_status status;
    pfx_oplog_status(log, &status);
    print_message("%u threads: %" PRIu64 " entries, %.0f a second, %" PRIu64 " commits, %" PRIu64
                  " checkpoints, %" PRIu64 " segments\n",
                  THREADS, status.size, (double)status.size / seconds, status.commits,
                  status.checkpoints, status.segments);
    assert_true(status.checkpoints < status.size / 4); /* batches, not entries */
    assert_int_equal(status.covered, status.size);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    struct rig_verdict verdict = rig_check(config.dir);
    assert_int_equal(verdict.n_open, 0);
    assert_true(verdict.size > 2 * THREADS * 20);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(begin_and_go_on),   cmocka_unit_test(facts_are_kept),
        cmocka_unit_test(dangling_intents),  cmocka_unit_test(at_most_so_many_intents),
        cmocka_unit_test(token_away),        cmocka_unit_test(a_quiet_log_is_covered),
        cmocka_unit_test(anchored_when_due), cmocka_unit_test(keys_change),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
