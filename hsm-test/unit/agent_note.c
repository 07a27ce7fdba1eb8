/* Notes for the operation log as rows: what stands in them, their numbers, and that they come and
 * go with the transaction of what they tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/note.h"
#include "agent/notes_queue.h"
#include "agent/user.h"

#define USER "00000000-0000-4000-8000-000000000007"
#define RECORD "00000000000040008000000000000007-000102030405060708090a0b0c0d0e0f10111213"
/* openssl dgst -sha256 over bytes 0 to 15 and that object id */
#define USER_HASH "10835d26e92fb22f35d614bc75d4d1a2edc626e88cd7b6af124391dcc03219d7"
#define USER_HASH_64 "EINdJukvsi811hS8ddTRou3GJuiM17avEkOR3MAyGdc="

struct place {
    char dir[64];
    char state[80];
    struct pfx_store *store;
};

static int make_place(void **state)
{
    struct place *p = pfx_alloc(sizeof(*p));
    struct pfx_error err = PFX_ERROR_NONE;
    snprintf(p->dir, sizeof(p->dir), "/tmp/pfx-note-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->state, sizeof(p->state), "%s/state", p->dir);
    assert_true(pfx_ok(pfx_store_open(p->state, &p->store, &err)));
    assert_true(pfx_ok(pfx_db_script(
        p->store->db,
        "INSERT INTO user(id, hex, upn, enabled, proxies, snapshot_hash, seen_pass, salt)"
        " VALUES('" USER "', '00000000000040008000000000000007', 'alice@example.com', 1, '[]',"
        " x'00', 1, x'000102030405060708090a0b0c0d0e0f')",
        &err)));
    assert_true(pfx_ok(pfx_user_hash_all(p->store, &err)));
    *state = p;
    return 0;
}

static int drop_place(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"store.db", "store.db-wal", "store.db-shm", "lock"};
    char path[200];
    pfx_store_close(p->store);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", p->state, names[i]);
        unlink(path);
    }
    rmdir(p->state);
    rmdir(p->dir);
    free(p);
    return 0;
}

/* The body of note n; "" where there is none. Free it. */
static char *body(struct place *p, int64_t n)
{
    struct pfx_error err = PFX_ERROR_NONE;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    assert_true(pfx_ok(pfx_db_select(p->store->db, &err, &stmt, "SELECT body FROM note WHERE n = ?",
                                     PFX_PARAMS(P_INT(n)))));
    assert_true(pfx_ok(pfx_db_next(p->store->db, stmt, &row, &err)));
    return row ? pfx_col_text(stmt, 0) : pfx_strdup("");
}

static void has(struct place *p, int64_t n, const char *part)
{
    char *text PFX_AUTOFREE = body(p, n);
    if (!strstr(text, part))
        fail_msg("%s isn't in %s", part, text);
}

static void hasnt(struct place *p, int64_t n, const char *part)
{
    char *text PFX_AUTOFREE = body(p, n);
    if (!*text || strstr(text, part))
        fail_msg("%s is in %s", part, text);
}

static void words(void **state)
{
    static const char *const cases[][2] = {
        {"CKR_DEVICE_ERROR", "CKR_DEVICE_ERROR"},
        {"404", "404"},
        {"AADSTS7000215", "AADSTS7000215"},
        {"key usage", "key-usage"},
        {"GET /users", "GET--users"},
        {"HTTP 409", "HTTP-409"},
        {"the user alice smith", "other"},
        {"a.b:c", "a.b-c"},
        {"alice@example.com", "other"},
        {"J\303\266rg", "other"},
        {"a\nb", "other"},
        {"a\"b", "other"},
        {"(none)", "other"},
        {USER, "other"},
        {"x-00000000000040008000000000000007", "other"},
        {"0000000000004000800000000000000", "0000000000004000800000000000000"}, /* 31 digits */
        {"123456789012345678901234567890123456789x12345678901234567890123", "other"},
        {"xyz456789xyz456789xyz456789xyz456789xyz456789xyz456789xyz456789",
         "xyz456789xyz456789xyz456789xyz456789xyz456789xyz456789xyz456789"},
        {"xyz456789xyz456789xyz456789xyz456789xyz456789xyz456789xyz4567890", "other"},
    };
    char buf[PFX_NOTE_WORD_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(pfx_note_word(cases[i][0], buf), cases[i][1]);
}

static struct pfx_enrolment enrolment(const char *product)
{
    static uint8_t key_id[16] = {1}, sha[32] = {2};
    return (struct pfx_enrolment){
        .id = 3,
        .attempt = 2,
        .user = (char *)USER,
        .product = (char *)product,
        .order_id = 4711,
        .order_token = (char *)"0A1B2C3D-0000-4000-8000-0123456789ab",
        .record_id = (char *)RECORD,
        .generation = 5,
        .key_id = {.data = key_id, .len = sizeof(key_id)},
        .pfx_sha = {.data = sha, .len = sizeof(sha)},
    };
}

static void an_order_by_number_or_transaction(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_enrolment digicert = enrolment("secure_email_mailbox"), cmp = enrolment("internal");
    struct pfx_enrolment *const both[] = {&digicert, &cmp};
    for (size_t i = 0; i < 2; i++) {
        both[i]->order_id = 0;
        assert_true(pfx_ok(pfx_note_placed(p->store, both[i], 4711, 1000, &err)));
        assert_int_equal(both[i]->order_id, 4711);
    }
    has(p, 1, "\"order_id\":4711");
    hasnt(p, 1, "transaction");
    /* As pfx-uploader makes it: openssl over "pfx-agent cmp 0a1b2c3d-0000-4000-8000-0123456789ab"
     */
    has(p, 2, "\"transaction\":\"db4dafb4d50ccfa0f098b78dc4806e5d\"");
    hasnt(p, 2, "order_id");
    for (int64_t n = 1; n <= 2; n++) {
        has(p, n, "\"enrolment\":3");
        has(p, n, "\"attempt\":2");
        has(p, n, "\"user\":\"" USER_HASH_64 "\"");
        has(p, n, "\"key_id\":\"AQAAAAAAAAAAAAAAAAAAAA==\"");
        has(p, n, "\"outcome\":\"ok\"");
    }
}

static void a_record_without_its_object_id(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_enrolment e = enrolment("internal");
    assert_true(pfx_ok(pfx_note_upload(p->store, &e, 1000, &err)));
    has(p, 1, "\"name\":\"" USER_HASH "-000102030405060708090a0b0c0d0e0f10111213\"");
    has(p, 1, "\"generation\":5");
    hasnt(p, 1, "00000000000040008000000000000007");
    /* Whose user isn't known, or that isn't of this form, isn't named. */
    assert_true(
        pfx_ok(pfx_note_removed(p->store, "11111111111111111111111111111111-00", 0, 1000, &err)));
    assert_true(pfx_ok(pfx_note_removed(p->store, "alice@example.com", 0, 1000, &err)));
    assert_true(pfx_ok(pfx_note_removed(p->store, "", 0, 1000, &err)));
    for (int64_t n = 2; n <= 4; n++) {
        hasnt(p, n, "\"name\"");
        hasnt(p, n, "1111");
        hasnt(p, n, "alice");
    }
}

static void without_a_hash_nobody(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_enrolment e = enrolment("internal");
    assert_true(pfx_ok(pfx_db_script(p->store->db, "UPDATE user SET log_hash = NULL", &err)));
    assert_true(pfx_ok(pfx_note_upload(p->store, &e, 1000, &err)));
    hasnt(p, 1, "\"user\"");
    hasnt(p, 1, "\"name\"");
}

static void moves_that_are_told(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_enrolment e = enrolment("internal");
    for (int to = 0; to < PFX_STATE_COUNT; to++)
        assert_true(pfx_ok(pfx_note_moved(p->store, &e, (enum pfx_state)to, 1000, &err)));
    has(p, 1, "\"event\":\"enrolment.held\"");
    has(p, 2, "\"event\":\"enrolment.failed\"");
    has(p, 3, "\"event\":\"enrolment.ended\"");
    char *none PFX_AUTOFREE = body(p, 4);
    assert_string_equal(none, "");
    e.fail_class = (char *)"refused";
    e.fail_op = (char *)"order";
    e.fail_code = (char *)"denied";
    assert_true(pfx_ok(pfx_note_moved(p->store, &e, PFX_ENDED, 1000, &err)));
    hasnt(p, 4, "denied"); /* an old failure isn't why it ends now */
    has(p, 4, "\"outcome\":\"ok\"");
    e.failing = true;
    assert_true(pfx_ok(pfx_note_moved(p->store, &e, PFX_ENDED, 1000, &err)));
    has(p, 5, "\"fail_code\":\"denied\"");
    has(p, 5, "\"outcome\":\"refused\"");
}

static void gone_with_its_transaction(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t jobs;
    {
        struct pfx_tx tx PFX_AUTOTX = {0};
        assert_true(pfx_ok(pfx_tx_begin(&tx, p->store->db, &err)));
        assert_true(pfx_ok(pfx_note_program(p->store, "agentd.start", 1000, &err)));
        has(p, 1, "agentd.start");
    }
    char *none PFX_AUTOFREE = body(p, 1);
    assert_string_equal(none, "");
    assert_true(pfx_ok(
        pfx_db_int(p->store->db, &err, 0, &jobs, "SELECT count(*) FROM job", PFX_NO_PARAMS)));
    assert_int_equal(jobs, 0);
    assert_true(pfx_ok(pfx_note_refused(p->store, 1234, "run", 1000, &err)));
    has(p, 1, "request.refused"); /* its number was given to nobody */
    has(p, 1, "\"uid\":1234");
    assert_true(pfx_ok(pfx_note_refused(p->store, 1234, "run", 1000, &err)));
    has(p, 2, "\"n\":2");
    assert_true(
        pfx_ok(pfx_db_int(p->store->db, &err, 0, &jobs,
                          "SELECT count(*) FROM job WHERE kind = 'hsm.log'", PFX_NO_PARAMS)));
    assert_int_equal(jobs, 1);
}

#define PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, drop_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        PLACE(an_order_by_number_or_transaction),
        PLACE(a_record_without_its_object_id),
        PLACE(without_a_hash_nobody),
        PLACE(moves_that_are_told),
        PLACE(gone_with_its_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
