/* The store: folder, lock, migrations, full disk, damaged file. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/outbox.h"
#include "agent/store.h"
#include "agent/user.h"
#include "crypto/encode.h"

struct place {
    char dir[64];
    char state[80];
    char file[100];
};

static int make_place(void **state)
{
    struct place *p = pfx_alloc(sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/pfx-store-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->state, sizeof(p->state), "%s/state", p->dir);
    snprintf(p->file, sizeof(p->file), "%s/store.db", p->state);
    *state = p;
    return 0;
}

static int drop_place(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"state/store.db",        "state/store.db-wal",
                                        "state/store.db-shm",    "state/lock",
                                        "state/store.db.v1",     "state/store.db.v1-wal",
                                        "state/store.db.v1-shm", "state/store.db.v2",
                                        "state/store.db.v2-wal", "state/store.db.v2-shm",
                                        "state/store.db.v3",     "state/store.db.v3-wal",
                                        "state/store.db.v3-shm"};
    char path[200];
    (void)umount2(p->state, MNT_DETACH); /* of the one test that mounts it */
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
        unlink(path);
    }
    rmdir(p->state);
    rmdir(p->dir);
    free(p);
    return 0;
}

static struct pfx_store *open_store(struct place *p)
{
    struct pfx_store *store;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_store_open(p->state, &store, &err)))
        fail_msg("%s: %s", err.object, err.text);
    return store;
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void modes_and_lock(void **state)
{
    struct place *p = *state;
    struct pfx_store *second;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_store *store = open_store(p);
    assert_int_equal(mode_of(p->state), 0700);
    assert_int_equal(mode_of(p->file), 0600);
    assert_int_equal(pfx_store_open(p->state, &second, &err).cls, PFX_CLASS_USAGE);
    assert_non_null(strstr(err.text, "another pfx-agentd"));
    pfx_store_close(store);
    chmod(p->state, 0755);
    store = open_store(p); /* and again, once it is free; the mode is put right */
    assert_int_equal(mode_of(p->state), 0700);
    pfx_store_close(store);
    pfx_store_close(NULL);
}

static void values(void **state)
{
    struct pfx_store *store = open_store(*state);
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t value = 1;
    char *text PFX_AUTOFREE = NULL;
    assert_true(pfx_ok(pfx_meta_get(store, "x", &value, &err)));
    assert_int_equal(value, 0);
    assert_true(pfx_ok(pfx_meta_set(store, "x", 5, &err)));
    assert_true(pfx_ok(pfx_meta_set(store, "x", INT64_MAX, &err)));
    assert_true(pfx_ok(pfx_meta_get(store, "x", &value, &err)));
    assert_true(value == INT64_MAX);
    assert_true(pfx_ok(pfx_meta_set_text(store, "t", "{}", &err)));
    assert_true(pfx_ok(pfx_meta_text(store, "t", &text, &err)));
    assert_string_equal(text, "{}");
    int64_t on;
    assert_true(
        pfx_ok(pfx_db_int(store->db, &err, -1, &on, "PRAGMA secure_delete", PFX_NO_PARAMS)));
    assert_int_equal(on, 1);
    assert_true(pfx_ok(pfx_db_int(store->db, &err, -1, &on, "PRAGMA foreign_keys", PFX_NO_PARAMS)));
    assert_int_equal(on, 1);
    assert_true(pfx_ok(pfx_db_int(store->db, &err, -1, &on, "PRAGMA synchronous", PFX_NO_PARAMS)));
    assert_int_equal(on, 2);
    pfx_store_close(store);
}

static void newer_is_refused(void **state)
{
    struct pfx_store *store = open_store(*state);
    struct pfx_error err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_db_script(store->db, "PRAGMA user_version = 99", &err)));
    pfx_store_close(store);
    assert_int_equal(pfx_store_open(((struct place *)*state)->state, &store, &err).cls,
                     PFX_CLASS_USAGE);
    assert_non_null(strstr(err.text, "newer"));
    assert_non_null(strstr(err.text, "99"));
}

/* The program's steps and one more. */
static size_t next_version(const char *steps[8], const char *more)
{
    size_t n = 0;
    for (; n < pfx_n_migrations; n++)
        steps[n] = pfx_migrations[n];
    assert_true(n < 8);
    steps[n++] = more;
    return n;
}

/* A store as version 1 wrote it: its statements, by their hash, and rows of its own. */
static void a_store_of_version_1(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    uint8_t hash[32];
    char hex[65];
    assert_true(pfx_sha256(pfx_migrations[0], strlen(pfx_migrations[0]), hash));
    assert_string_equal(pfx_hex(hash, sizeof(hash), hex),
                        "ca2b9b8502203a3353d7a865ff183409928ac6cc77a15d3a8f2df3da8b4090a8");
    struct pfx_db *old;
    assert_int_equal(mkdir(p->state, 0700), 0);
    assert_true(pfx_ok(pfx_db_open(p->file, &old, &err)));
    assert_true(pfx_ok(pfx_store_migrate(old, pfx_migrations, 1, &err)));
    assert_true(pfx_ok(pfx_db_script(
        old,
        "INSERT INTO user(id, hex, upn, enabled, proxies, snapshot_hash, seen_pass, salt)"
        " VALUES('u', 'u', 'u', 1, '[]', x'00', 1, zeroblob(16));"
        "INSERT INTO rule VALUES('r', 7); INSERT INTO member VALUES('u', 'r', 7);"
        "INSERT INTO enrolment(id, user, purpose, intune, attempt, state, rule, product,"
        " organization, years, days, profile_type, client_auth, key_type, profile, addresses,"
        " created_at, changed_at, order_token, order_id, ordered_at, info_at, thumbprint, cert, "
        "covered)"
        " VALUES(1, 'u', 'signing', 'smimeSigning', 1, 'ACTIVE', 'r', 'p', 0, 1, 0, 'strict', 0,"
        " 'ec-p256', 'modern', '[\"a@b.de\"]', 1, 2, 't', 4711, 3, 4, 'ab', x'30', 1),"
        " (2, 'u', 'encryption', 'smimeEncryption', 1, 'ORDERED', 'r', 'p', 0, 1, 0, 'strict', 0,"
        " 'ec-p256', 'modern', '[]', 1, 2, 't2', 4712, 3, 4, NULL, NULL, 1);"
        "INSERT INTO parcel VALUES(1, 'NEEDLE', 'NEEDLE');"
        "INSERT INTO job(scope, enrolment, ver, arm, kind, not_before, created_at)"
        " VALUES('o:2', 2, 1, 'uploader', 'up.order_info', 5, 5);",
        &err)));
    pfx_db_close(old);
    struct pfx_store *store = open_store(p);
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0}, waiting PFX_AUTOENROLMENT = {0};
    assert_true(pfx_ok(pfx_enrolment_load(store, 1, &e, &err)));
    assert_true(pfx_ok(pfx_enrolment_load(store, 2, &waiting, &err)));
    assert_int_equal(e.at, PFX_ACTIVE);
    assert_int_equal(e.order_id, 4711);
    assert_string_equal(e.addresses, "[\"a@b.de\"]");
    assert_int_equal(e.cert.len, 1);
    assert_null(e.custom_fields);
    assert_null(e.revoked_then);
    assert_int_equal(e.revoked_at + e.renewal_of + e.replaces + e.non_repudiation, 0);
    assert_int_equal(e.covered, 0);       /* so that the first poll goes back to it */
    assert_int_equal(e.info_at, 0);       /* it is asked for singly no more */
    assert_int_equal(waiting.info_at, 4); /* and this one goes on */
    int64_t n;
    assert_true(
        pfx_ok(pfx_db_int(store->db, &err, 0, &n,
                          "SELECT count(*) FROM job JOIN parcel JOIN member", PFX_NO_PARAMS)));
    assert_int_equal(n, 1);
    assert_true(pfx_ok(pfx_db_script(store->db,
                                     "INSERT INTO mailbox(read_at, id, addresses)"
                                     " VALUES(1, 'box', '[]');"
                                     "INSERT INTO mailbox_right(read_at, upn, mailbox)"
                                     " VALUES(1, 'A@b.de', 'box');"
                                     "INSERT INTO removal(record_id, upn, thumbprint, purpose, why,"
                                     " asked_at) VALUES('r', '', '', '', '', 1);"
                                     "INSERT INTO note(n, at, body) VALUES(1, 1, '{}');",
                                     &err)));
    assert_true(pfx_ok(pfx_db_int(store->db, &err, 0, &n,
                                  "SELECT count(*) FROM mailbox_right WHERE upn = 'a@B.de'",
                                  PFX_NO_PARAMS)));
    assert_int_equal(n, 1);
    /* SHA-256 of 16 zero bytes and "u" */
    assert_true(pfx_ok(pfx_user_hash_all(store, &err)));
    assert_true(pfx_ok(
        pfx_db_int(store->db, &err, 0, &n,
                   "SELECT log_hash ="
                   " x'a795251b1d418ca530de881b80953e221233fa918226e528b82191ba04c5df2c' FROM user",
                   PFX_NO_PARAMS)));
    assert_int_equal(n, 1);
    pfx_store_close(store);
    char path[200];
    snprintf(path, sizeof(path), "%s.v1", p->file);
    assert_true(pfx_ok(pfx_db_open(path, &old, &err)));
    assert_true(pfx_ok(pfx_db_int(old, &err, 0, &n, "PRAGMA user_version", PFX_NO_PARAMS)));
    assert_int_equal(n, 1);
    assert_true(pfx_ok(pfx_db_int(old, &err, 0, &n, "SELECT count(*) FROM parcel", PFX_NO_PARAMS)));
    assert_int_equal(n, 0);
    pfx_db_close(old);
}

static void migration_makes_a_backup_without_parcels(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_store *store = open_store(p);
    assert_true(pfx_ok(pfx_db_script(
        store->db,
        "INSERT INTO user(id, hex, upn, enabled, proxies, snapshot_hash, seen_pass, salt)"
        " VALUES('u', 'u', 'u', 1, '[]', x'00', 1, zeroblob(16));"
        "INSERT INTO enrolment(id, user, purpose, intune, attempt, state, rule, product,"
        " organization, years, days, profile_type, client_auth, key_type, profile, addresses,"
        " created_at, changed_at, order_token) VALUES(1, 'u', 'signing', 'smimeSigning', 1, "
        "'SEALED',"
        " 'r', 'p', 0, 1, 0, 'strict', 0, 'ec-p256', 'modern', '[]', 1, 1, 't');"
        "INSERT INTO parcel VALUES(1, 'NEEDLE-IN-THE-PFX', 'NEEDLE-IN-THE-SEAL');",
        &err)));
    const char *steps[8];
    size_t n_steps = next_version(steps, "ALTER TABLE user ADD COLUMN more TEXT;");
    assert_true(pfx_ok(pfx_store_migrate(store->db, steps, n_steps, &err)));
    int64_t n;
    assert_true(pfx_ok(pfx_db_int(store->db, &err, 0, &n, "PRAGMA user_version", PFX_NO_PARAMS)));
    assert_int_equal(n, n_steps);
    assert_true(
        pfx_ok(pfx_db_int(store->db, &err, 0, &n, "SELECT count(*) FROM parcel", PFX_NO_PARAMS)));
    assert_int_equal(n, 1);
    pfx_store_close(store);
    char path[200];
    snprintf(path, sizeof(path), "%s.v%zu", p->file, pfx_n_migrations);
    assert_int_equal(mode_of(path), 0600);
    struct pfx_db *copy;
    assert_true(pfx_ok(pfx_db_open(path, &copy, &err)));
    assert_true(
        pfx_ok(pfx_db_int(copy, &err, 0, &n, "SELECT count(*) FROM enrolment", PFX_NO_PARAMS)));
    assert_int_equal(n, 1);
    pfx_db_close(copy);
    int fd = open(path, O_RDONLY);
    struct stat st;
    fstat(fd, &st);
    char *data PFX_AUTOFREE = pfx_alloc((size_t)st.st_size);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    assert_null(memmem(data, (size_t)st.st_size, "NEEDLE", 6));
    /* The older program refuses what the newer one made. */
    assert_int_equal(pfx_store_open(p->state, &store, &err).cls, PFX_CLASS_USAGE);
}

static void failed_migration_changes_nothing(void **state)
{
    struct pfx_store *store = open_store(*state);
    struct pfx_error err = PFX_ERROR_NONE;
    const char *steps[8];
    size_t n_steps = next_version(steps, "CREATE TABLE fresh(a); SELECT no_such_function();");
    int64_t n;
    assert_true(pfx_failed(pfx_store_migrate(store->db, steps, n_steps, &err)));
    err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_db_int(store->db, &err, 0, &n, "PRAGMA user_version", PFX_NO_PARAMS)));
    assert_int_equal(n, pfx_n_migrations);
    assert_true(pfx_ok(pfx_db_int(store->db, &err, 0, &n,
                                  "SELECT count(*) FROM sqlite_schema WHERE name = 'fresh'",
                                  PFX_NO_PARAMS)));
    assert_int_equal(n, 0);
    pfx_store_close(store);
}

static void full_disk(void **state)
{
    struct pfx_store *store = open_store(*state);
    struct pfx_error err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_meta_set(store, "before", 1, &err)));
    int64_t pages;
    assert_true(pfx_ok(pfx_db_int(store->db, &err, 0, &pages, "PRAGMA page_count", PFX_NO_PARAMS)));
    char *cap PFX_AUTOFREE = pfx_asprintf("PRAGMA max_page_count = %lld", (long long)pages);
    assert_true(pfx_ok(pfx_db_script(store->db, cap, &err)));
    char *big PFX_AUTOFREE = pfx_alloc(200001);
    memset(big, 'x', 200000);
    {
        struct pfx_tx tx PFX_AUTOTX = {0};
        assert_true(pfx_ok(pfx_tx_begin(&tx, store->db, &err)));
        assert_true(pfx_ok(pfx_meta_set(store, "half", 1, &err)));
        assert_int_equal(pfx_meta_set_text(store, "big", big, &err).cls, PFX_CLASS_TRANSIENT);
    }
    assert_string_equal(err.code, "SQLITE_FULL");
    assert_non_null(strstr(err.text, "disk is full"));
    int64_t half = 7;
    err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_meta_get(store, "half", &half, &err)));
    assert_int_equal(half, 0);
    assert_true(pfx_ok(pfx_db_script(store->db, "PRAGMA max_page_count = 1000000", &err)));
    assert_true(pfx_ok(pfx_meta_set_text(store, "big", big, &err)));
    pfx_store_close(store);
}

static pfx_result put_big(struct pfx_store *store, const char *big, int n, struct pfx_error *err)
{
    (void)n;
    return pfx_meta_set_text(store, "big", big, err);
}

static pfx_result put_big_and_number(struct pfx_store *store, const char *big, int n,
                                     struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    PFX_TRY(pfx_meta_set_text(store, "big", big, err));
    PFX_TRY(pfx_meta_set(store, "n", n, err));
    return pfx_tx_commit(&tx, err);
}

/* Was the second try needed? */
static bool done_by_the_second(struct pfx_store *store,
                               pfx_result (*put)(struct pfx_store *, const char *, int,
                                                 struct pfx_error *),
                               const char *big, int n)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(put(store, big, n, &err)))
        return false;
    assert_string_equal(err.code, "SQLITE_FULL");
    if (pfx_failed(put(store, big, n, &err)))
        fail_msg("try %d: %s", n, err.text);
    return true;
}

/* A small disk whose room is in the write-ahead log: what doesn't fit fails, the log is emptied, and
 * the next try succeeds. */
static void small_disk(void **state)
{
    struct place *p = *state;
    struct pfx_error err = PFX_ERROR_NONE;
    char *big PFX_AUTOFREE = pfx_alloc(100001), path[200];
    int64_t half;
    assert_int_equal(mkdir(p->state, 0700), 0);
    if (mount("tmpfs", p->state, "tmpfs", 0, "size=2m,mode=0700") != 0) {
        print_message("skipped: no right to mount a small file system\n");
        skip();
    }
    struct pfx_store *store = open_store(p);
    memset(big, 'x', 100000);
    assert_true(pfx_ok(pfx_meta_set_text(store, "big", big, &err)));
    pfx_store_checkpoint(store);
    snprintf(path, sizeof(path), "%s/ballast", p->state);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct statvfs room;
    do
        assert_int_equal(write(fd, big, 4096), 4096);
    while (fstatvfs(fd, &room) == 0 && room.f_bavail * room.f_bsize > 700000);
    unsigned alone = 0, together = 0;
    for (int i = 0; i < 30; i++) {
        memset(big, 'a' + i % 26, 100000); /* what is the same isn't written */
        alone += done_by_the_second(store, put_big, big, i);
    }
    for (int i = 0; i < 30; i++) {
        memset(big, 'A' + i % 26, 100000);
        together += done_by_the_second(store, put_big_and_number, big, i);
    }
    print_message("%u writes and %u transactions of 30 needed a second try\n", alone, together);
    assert_true(alone > 0 && together > 0);
    assert_true(pfx_ok(pfx_meta_get(store, "n", &half, &err)));
    assert_int_equal(half, 29);
    /* A disk that is full of other things: nothing helps, and it is said. */
    while (write(fd, big, 4096) > 0)
        ;
    pfx_result r = PFX_OK;
    for (int i = 0; i < 30 && pfx_ok(r); i++) {
        snprintf(path, sizeof(path), "big %d", i);
        r = pfx_meta_set_text(store, path, big, &err);
    }
    assert_int_equal(r.cls, PFX_CLASS_TRANSIENT);
    assert_string_equal(err.code, "SQLITE_FULL");
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_meta_set(store, "n", 100, &err)));
    pfx_store_close(store);
}

static void damaged_file(void **state)
{
    struct place *p = *state;
    struct pfx_store *store = open_store(p);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_store_close(store);
    int fd = open(p->file, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "this is not a database, it is a text of some length", 51), 51);
    close(fd);
    assert_int_equal(pfx_store_open(p->state, &store, &err).cls, PFX_CLASS_INTEGRITY);
    assert_non_null(strstr(err.text, "backup"));
}

static void folder_that_is_none(void **state)
{
    struct place *p = *state;
    struct pfx_store *store;
    struct pfx_error err = PFX_ERROR_NONE;
    char path[200];
    snprintf(path, sizeof(path), "%s/no/such", p->dir);
    assert_true(pfx_failed(pfx_store_open(path, &store, &err)));
    assert_non_null(strstr(err.text, "parent"));
    int fd = open(p->state, O_CREAT | O_WRONLY, 0600);
    close(fd);
    err = PFX_ERROR_NONE;
    assert_int_equal(pfx_store_open(p->state, &store, &err).cls, PFX_CLASS_USAGE);
    unlink(p->state);
}

static void one_in_flight(void **state)
{
    struct pfx_store *store = open_store(*state);
    struct pfx_error err = PFX_ERROR_NONE;
    static const char insert[] =
        "INSERT INTO enrolment(user, purpose, intune, attempt, state, rule, product, organization,"
        " years, days, profile_type, client_auth, key_type, profile, addresses, created_at,"
        " changed_at, order_token) VALUES('u', 'signing', 'smimeSigning', 1, ?, 'r', 'p', 0, 1, 0,"
        " 'strict', 0, 'ec-p256', 'modern', '[]', 1, 1, 't')";
    assert_true(pfx_ok(pfx_db_script(
        store->db,
        "INSERT INTO user(id, hex, upn, enabled, proxies, snapshot_hash, seen_pass, salt)"
        " VALUES('u', 'u', 'u', 1, '[]', x'00', 1, zeroblob(16));",
        &err)));
    static const char *const over[] = {"ACTIVE", "ACTIVE", "ENDED", "FAILED", "ENDED"};
    for (size_t i = 0; i < 5; i++)
        assert_true(
            pfx_ok(pfx_db_exec(store->db, &err, NULL, insert, PFX_PARAMS(P_TEXT(over[i])))));
    assert_true(pfx_ok(pfx_db_exec(store->db, &err, NULL, insert, PFX_PARAMS(P_TEXT("NEW")))));
    for (unsigned s = 0; s < PFX_STATE_COUNT; s++) {
        const char *name = pfx_state_name((enum pfx_state)s);
        struct pfx_error second = PFX_ERROR_NONE;
        pfx_result r = pfx_db_exec(store->db, &second, NULL, insert, PFX_PARAMS(P_TEXT(name)));
        assert_int_equal(pfx_failed(r), pfx_state_in_flight((enum pfx_state)s));
    }
    /* Numbers of enrolments are never used again: CKA_IDs follow from them. */
    int64_t last = pfx_db_last_id(store->db), fresh;
    assert_true(pfx_ok(pfx_db_script(store->db, "DELETE FROM enrolment", &err)));
    assert_true(pfx_ok(pfx_db_exec(store->db, &err, NULL, insert, PFX_PARAMS(P_TEXT("NEW")))));
    fresh = pfx_db_last_id(store->db);
    assert_true(fresh > last);
    /* Only ways that the flow has. */
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    assert_true(pfx_ok(pfx_enrolment_load(store, fresh, &e, &err)));
    assert_int_equal(pfx_enrolment_move(store, &e, PFX_ACTIVE, NULL, 0, 1, NULL, &err).cls,
                     PFX_CLASS_INTERNAL);
    err = PFX_ERROR_NONE;
    e.ver = 99; /* somebody else was faster */
    assert_int_equal(pfx_enrolment_move(store, &e, PFX_KEYED, NULL, 0, 1, NULL, &err).cls,
                     PFX_CLASS_INTERNAL);
    pfx_store_close(store);
}

#define PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, drop_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE(modes_and_lock),
        PLACE(values),
        PLACE(newer_is_refused),
        PLACE(a_store_of_version_1),
        PLACE(migration_makes_a_backup_without_parcels),
        PLACE(failed_migration_changes_nothing),
        PLACE(full_disk),
        PLACE(small_disk),
        PLACE(damaged_file),
        PLACE(folder_that_is_none),
        PLACE(one_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
