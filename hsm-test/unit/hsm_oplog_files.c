/* The operation log's folder in a state that it shouldn't be in: what is refused, what is mended.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/encode.h"
#include "hsm_oplog_rig.h"

static struct pfx_draft draft;

static const char *at(const char *dir, const char *name)
{
    static char paths[4][512];
    static unsigned n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void poke(const char *path, off_t offset, uint8_t mask)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void replace(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* A log with n operations, settled, and closed. */
static void make(const struct pfx_oplog_config *config, unsigned n)
{
    ERROR(err);
    struct pfx_oplog *log = rig_begun(config);
    for (unsigned i = 0; i < n; i++)
        assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
}

static struct pfx_error refused(const struct pfx_oplog_config *config, enum pfx_oplog_state state)
{
    ERROR(why);
    struct pfx_oplog *log = rig_open(config);
    enum pfx_oplog_state got = pfx_oplog_state(log, &why);
    if (got != state)
        fail_msg("state %d instead of %d: %s", got, state, why.text);
    ERROR(err);
    rig_note(&draft, "no");
    pfx_result r = pfx_oplog_append(log, &draft, PFX_ROOM_RESERVED, PFX_UNTIL_APPENDED, NULL, &err);
    assert_class(r, state == PFX_OPLOG_REFUSED ? PFX_CLASS_INTEGRITY : PFX_CLASS_DEVICE);
    pfx_oplog_free(log);
    return why;
}

static pfx_result attach(struct pfx_oplog *log, unsigned which, uint64_t *ret_ahead,
                         struct pfx_error *err)
{
    static struct pfx_signer signer;
    signer = rig_signer(which);
    return pfx_oplog_attach(log, &signer, ret_ahead, err);
}

/* Opens, attaches, operates, settles: nothing is wrong. */
static void goes_on(const struct pfx_oplog_config *config)
{
    ERROR(err);
    struct pfx_oplog *log = rig_open(config);
    if (pfx_oplog_state(log, &err) != PFX_OPLOG_OPEN)
        fail_msg("%s", err.text);
    assert_ok(attach(log, rig_keys_of(log), NULL, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    rig_check(config->dir);
}

static void attach_refused(const struct pfx_oplog_config *config, const char *code)
{
    ERROR(err);
    struct pfx_oplog *log = rig_open(config);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_OPEN);
    assert_class(attach(log, 0, NULL, &err), PFX_CLASS_INTEGRITY);
    assert_string_equal(err.code, code);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_REFUSED);
    assert_false(pfx_oplog_attached(log));
    ERROR(no);
    rig_note(&draft, "no");
    assert_class(pfx_oplog_append(log, &draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL, &no),
                 PFX_CLASS_INTEGRITY);
    pfx_oplog_free(log);
}

static void cut_at_each_length(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    make(&config, 3);
    /* Two entries that no checkpoint covers. */
    struct pfx_oplog *log = rig_open(&config);
    rig_notes(log, 2);
    pfx_oplog_free(log);
    const char *segment = at(config.dir, "entries/00000000000000000000");
    uint8_t data[8192];
    int fd = open(segment, O_RDWR | O_CLOEXEC);
    assert_true(read(fd, data, sizeof data) == sizeof data);
    size_t end = 0, covered_end = 0;
    for (unsigned n = 0; data[end] || data[end + 1]; n++) {
        if (n == 7)
            covered_end = end;
        end += 2 + ((size_t)data[end] << 8 | data[end + 1]);
    }
    assert_true(covered_end > 0 && covered_end < end);
    unsigned n_refused = 0, n_mended = 0;
    for (size_t cut = 0; cut < end; cut++) {
        assert_int_equal(pwrite(fd, data, sizeof data, 0), sizeof data);
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        log = rig_open(&config);
        if (cut < covered_end) {
            assert_int_equal(pfx_oplog_state(log, &err), PFX_OPLOG_REFUSED);
            assert_string_equal(err.code, "shorter");
            n_refused++;
        } else {
            struct pfx_oplog_facts facts;
            assert_int_equal(pfx_oplog_state(log, &err), PFX_OPLOG_OPEN);
            pfx_oplog_facts(log, &facts);
            assert_true(facts.tail <= 1);
            n_mended++;
        }
        pfx_oplog_free(log);
    }
    close(fd);
    print_message("%u lengths refused as shorter than the checkpoint, %u mended\n", n_refused,
                  n_mended);
    goes_on(&config);
}

static void flip_each_byte(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    make(&config, 2);
    const char *segment = at(config.dir, "entries/00000000000000000000");
    uint8_t data[8192];
    int fd = open(segment, O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, data, sizeof data) == sizeof data);
    close(fd);
    size_t end = 0;
    while (data[end] || data[end + 1])
        end += 2 + ((size_t)data[end] << 8 | data[end + 1]);
    for (size_t i = 0; i < end; i++) {
        ERROR(why);
        poke(segment, (off_t)i, (uint8_t)(1 << i % 8));
        struct pfx_oplog *log = rig_open(&config);
        if (pfx_oplog_state(log, &why) != PFX_OPLOG_REFUSED)
            fail_msg("byte %zu changed, and not refused", i);
        assert_int_equal(why.cls, PFX_CLASS_INTEGRITY);
        pfx_oplog_free(log);
        poke(segment, (off_t)i, (uint8_t)(1 << i % 8));
    }
    print_message("%zu bytes flipped, each refused\n", end);
    goes_on(&config);
}

static uint64_t slot_size(const char *path)
{
    uint8_t slot[PFX_SLOT_SIZE];
    struct pfx_bytes note;
    static struct pfx_checkpoint parsed;
    ERROR(err);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = read(fd, slot, sizeof slot) == sizeof slot && pfx_slot_read(slot, &note) &&
                pfx_ok(pfx_checkpoint_parse(note, &parsed, &err));
    close(fd);
    return good ? parsed.size : 0;
}

static void damaged_slots(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    make(&config, 3);
    const char *slots[2] = {at(config.dir, "checkpoint.0"), at(config.dir, "checkpoint.1")};
    uint64_t sizes[2] = {slot_size(slots[0]), slot_size(slots[1])};
    assert_int_not_equal(sizes[0], sizes[1]);
    int newest = sizes[1] > sizes[0] ? 1 : 0;
    /* Each byte of the newer one: the older counts, what it doesn't cover is kept, and both are
     * whole afterwards. */
    char copy[160];
    snprintf(copy, sizeof copy, "%s-kept", config.dir);
    rig_copy(config.dir, copy);
    for (off_t i = 0; i < PFX_SLOT_SIZE; i += i < 700 ? 1 : 97) {
        poke(slots[newest], i, 4);
        struct pfx_oplog *log = rig_open(&config);
        struct pfx_oplog_facts facts;
        ERROR(why);
        if (pfx_oplog_state(log, &why) != PFX_OPLOG_OPEN)
            fail_msg("byte %d: %s", (int)i, why.text);
        pfx_oplog_facts(log, &facts);
        assert_int_equal(facts.tail, sizes[newest] - sizes[1 - newest]);
        pfx_oplog_free(log);
        assert_int_equal(slot_size(slots[newest]), sizes[1 - newest]); /* mended */
        char path[192];
        snprintf(path, sizeof path, "%s/checkpoint.%d", copy, newest);
        uint8_t good[PFX_SLOT_SIZE];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, good, sizeof good), sizeof good);
        close(fd);
        fd = open(slots[newest], O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, good, sizeof good, 0), sizeof good);
        close(fd);
    }
    poke(slots[newest], 200, 1);
    goes_on(&config);
    poke(slots[0], 200, 1);
    poke(slots[1], 200, 1);
    struct pfx_error why = refused(&config, PFX_OPLOG_REFUSED);
    assert_string_equal(why.code, "checkpoint");
    /* Zeros don't make a log that began just now of it. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(truncate(slots[i], 0), 0);
        assert_int_equal(truncate(slots[i], PFX_SLOT_SIZE), 0);
    }
    refused(&config, PFX_OPLOG_REFUSED);
    assert_int_equal(unlink(slots[0]), 0);
    assert_int_equal(unlink(slots[1]), 0);
    refused(&config, PFX_OPLOG_REFUSED);
    rig_remove(copy);
}

static void entries_gone(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    make(&config, 2);
    assert_int_equal(unlink(at(config.dir, "entries/00000000000000000000")), 0);
    struct pfx_error why = refused(&config, PFX_OPLOG_REFUSED);
    assert_string_equal(why.code, "shorter");
    rig_remove(at(config.dir, "entries"));
    refused(&config, PFX_OPLOG_REFUSED);
}

static void foreign_files(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    make(&config, 2);
    replace(at(config.dir, "entries/notes.txt"), "not ours\n");
    replace(at(config.dir, "entries/0000000000000000000"), "nineteen digits\n");
    replace(at(config.dir, "README"), "not ours\n");
    goes_on(&config);
    ERROR(err);
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    assert_ok(pfx_logdir_open(config.dir, &dir, &err), &err);
    uint64_t count;
    assert_ok(pfx_logdir_count(dir, &count, &err), &err);
    assert_int_equal(count, 7);
}

static void rolled_back(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    make(&config, 2);
    char copy[160];
    snprintf(copy, sizeof copy, "%s-old", config.dir);
    rig_copy(config.dir, copy);
    goes_on(&config); /* and writes the anchor */
    rig_remove(config.dir);
    rig_copy(copy, config.dir);
    attach_refused(&config, "rollback");
    rig_remove(copy);
    /* The way out: a successor, which names what was lost. */
    struct pfx_oplog *log = rig_open(&config);
    assert_class(attach(log, 0, NULL, &err), PFX_CLASS_INTEGRITY);
    char *where PFX_AUTOFREE = NULL;
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_set_aside(log, &where, &err), &err);
    assert_non_null(strstr(where, "log.1."));
    assert_int_equal(access(where, F_OK), 0);
    assert_int_equal(pfx_oplog_state(log, NULL), PFX_OPLOG_NONE);
    struct pfx_signer signer = rig_signer(0);
    rig_first(&draft, "log.begin", 0);
    assert_class(pfx_oplog_begin(log, RIG_ORIGIN, &draft, &signer, &err), PFX_CLASS_INTEGRITY);
    signer = rig_signer(2);
    rig_first(&draft, "log.begin", 2); /* a successor says so */
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_class(pfx_oplog_begin(log, RIG_SUCCESSOR, &draft, &signer, &err), PFX_CLASS_INTEGRITY);
    rig_first(&draft, "log.reopen", 2);
    err = (struct pfx_error)PFX_ERROR_NONE;
    assert_ok(pfx_oplog_begin(log, RIG_SUCCESSOR, &draft, &signer, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    pfx_oplog_free(log);
    goes_on(&config);
    rig_remove(where);
}

/* The label of an anchor over so many entries of that log. */
static void anchor_label(const char *origin, unsigned size, char ret[65])
{
    uint8_t digest[32];
    char hex[65];
    assert_true(pfx_sha256(origin, strlen(origin), digest));
    pfx_hex(digest, sizeof digest, hex);
    snprintf(ret, 65, "pfxlog1:%.8s:%u:%s", hex, size, "000102030405060708090a0b");
}

/* The token is at the third log of this host; the folder of the second comes back. */
static void rolled_back_to_another_log(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    struct pfx_signer signer = rig_signer(2);
    struct pfx_oplog *log = rig_open(&config);
    rig_first(&draft, "log.reopen", 2);
    assert_ok(pfx_oplog_begin(log, RIG_SUCCESSOR, &draft, &signer, &err), &err);
    assert_ok(rig_operation(log, NULL, &err), &err);
    assert_ok(pfx_oplog_settle(log, &err), &err);
    pfx_oplog_free(log);
    /* Whoever can bring a folder back can take the copy of its anchor out of it. */
    char path[512];
    snprintf(path, sizeof path, "%s/anchor", config.dir);
    static const struct {
        const char *origin;
        bool refused;
    } cases[] = {
        {RIG_ORIGIN "/3", true}, {RIG_OTHER, true}, {RIG_OTHER "/1", true}, {RIG_ORIGIN, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anchor_label(cases[i].origin, 2, rig_token->labels[0]);
        anchor_label(cases[i].origin, 1, rig_token->labels[1]);
        (void)unlink(path);
        log = rig_open(&config);
        err = (struct pfx_error)PFX_ERROR_NONE;
        pfx_result result = attach(log, 2, NULL, &err);
        if (result.cls != (cases[i].refused ? PFX_CLASS_INTEGRITY : PFX_CLASS_OK))
            fail_msg("%s: %s", cases[i].origin, pfx_class_name(result.cls));
        assert_int_equal(pfx_oplog_state(log, NULL),
                         cases[i].refused ? PFX_OPLOG_REFUSED : PFX_OPLOG_OPEN);
        pfx_oplog_free(log);
    }
}

static void another_history(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    make(&config, 1);
    char copy[160];
    snprintf(copy, sizeof copy, "%s-old", config.dir);
    rig_copy(config.dir, copy);
    struct rig_token before = *rig_token;
    goes_on(&config);
    struct rig_token after = *rig_token;
    *rig_token = before;
    rig_remove(config.dir);
    rig_copy(copy, config.dir);
    struct pfx_oplog *log = rig_open(&config);
    assert_ok(attach(log, 0, NULL, &err), &err);
    for (int i = 0; i < 4; i++) /* longer than the other one, and by the same key */
        assert_ok(rig_operation(log, NULL, &err), &err);
    pfx_oplog_free(log);
    *rig_token = after;
    attach_refused(&config, "root");
    rig_remove(copy);
}

static void anchors_changed(void **state)
{
    (void)state;
    struct pfx_oplog_config config = rig_config(rig_fresh());
    ERROR(err);
    make(&config, 3);
    struct rig_token good = *rig_token;
    uint64_t ahead = 99;
    /* Ahead: told how far. */
    struct pfx_oplog *log = rig_open(&config);
    assert_ok(attach(log, 0, &ahead, &err), &err);
    assert_int_equal(ahead, 0);
    assert_ok(rig_operation(log, NULL, &err), &err);
    pfx_oplog_free(log);
    log = rig_open(&config);
    assert_ok(attach(log, 0, &ahead, &err), &err);
    assert_int_equal(ahead, 2);
    pfx_oplog_free(log);
    /* One label is enough; none, a torn one, and another log's aren't. */
    rig_token->labels[0][0] = '\0';
    goes_on(&config);
    rig_token->labels[0][0] = rig_token->labels[1][0] = '\0';
    attach_refused(&config, "missing");
    *rig_token = good;
    rig_token->labels[1][20] = 'x';
    attach_refused(&config, "");
    *rig_token = good;
    rig_token->labels[0][10] ^= 1; /* of the origin's hash */
    attach_refused(&config, "");
    *rig_token = good;
    /* Another token's keys. */
    log = rig_open(&config);
    assert_class(attach(log, 1, NULL, &err), PFX_CLASS_INTEGRITY);
    assert_string_equal(err.code, "signature");
    pfx_oplog_free(log);
    goes_on(&config);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_at_each_length),
        cmocka_unit_test(flip_each_byte),
        cmocka_unit_test(damaged_slots),
        cmocka_unit_test(entries_gone),
        cmocka_unit_test(foreign_files),
        cmocka_unit_test(rolled_back),
        cmocka_unit_test(another_history),
        cmocka_unit_test(anchors_changed),
        cmocka_unit_test(rolled_back_to_another_log),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
