#include "agent/note.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/notes_queue.h"
#include "api/conf/product.h"
#include "crypto/encode.h"

#define RECORD_USER 32 /* Intune's ids of records begin with the object id without dashes */
#define MOST_JOINTS 2  /* "check certificate", "HTTP 409"; more is a text */

/* Hex digits in a row, dashes apart, that nothing but an object id or the like has. */
static bool like_an_id(const char *text)
{
    int run = 0;
    for (const char *p = text; *p; p++) {
        if (isxdigit((unsigned char)*p))
            run++;
        else if (*p != '-')
            run = 0;
        if (run == RECORD_USER)
            return true;
    }
    return false;
}

const char *pfx_note_word(const char *text, char buf[PFX_NOTE_WORD_SIZE])
{
    static const char other[] = "other";
    size_t n = 0, joints = 0;
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (isascii(c) && isalnum(c)) || strchr("._-", c);
        joints += !plain;
        if (n + 1 >= PFX_NOTE_WORD_SIZE || (!plain && !strchr(" :/", c)) || joints > MOST_JOINTS)
            return other;
        buf[n++] = plain ? (char)c : '-';
    }
    buf[n] = '\0';
    return like_an_id(buf) ? other : buf;
}

static void set_word(struct pfx_msg *note, const char *member, const char *text)
{
    char buf[PFX_NOTE_WORD_SIZE];
    if (text && *text)
        pfx_msg_set_str(note, member, pfx_note_word(text, buf));
}

static void set_failure(struct pfx_msg *note, const char *op, const char *code)
{
    set_word(note, "fail_op", op);
    set_word(note, "fail_code", code);
}

static struct pfx_msg *begin(const char *event, const struct pfx_error *fail, int64_t now_ms)
{
    struct pfx_msg *note = pfx_notes_new(event, fail ? fail->cls : PFX_CLASS_OK, now_ms);
    if (fail)
        set_failure(note, fail->op, fail->code);
    return note;
}

/* The user of a row that `sql` finds by `key`. Without a salt there is no hash, and nothing else
 * may stand for a user. ret_hash may be NULL. */
static pfx_result set_user(struct pfx_store *store, struct pfx_msg *note, const char *sql,
                           const char *key, struct pfx_buf *ret_hash, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    PFX_TRY(pfx_db_select(store->db, err, &stmt, sql, PFX_PARAMS(P_TEXT(key))));
    PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
    if (!row || sqlite3_column_bytes(stmt, 0) != 32)
        return PFX_OK;
    pfx_msg_set_blob(note, "user", sqlite3_column_blob(stmt, 0), 32);
    if (ret_hash)
        pfx_buf_add(ret_hash, sqlite3_column_blob(stmt, 0), 32);
    return PFX_OK;
}

static pfx_result set_enrolment(struct pfx_store *store, struct pfx_msg *note,
                                const struct pfx_enrolment *e, struct pfx_error *err)
{
    pfx_msg_set_int(note, "enrolment", e->id);
    if (e->attempt >= 1)
        pfx_msg_set_int(note, "attempt", e->attempt);
    return set_user(store, note, "SELECT log_hash FROM user WHERE id = ?", e->user, NULL, err);
}

static void set_blob(struct pfx_msg *note, const char *member, struct pfx_bytes data, size_t min,
                     size_t max)
{
    if (data.len >= min && data.len <= max)
        pfx_msg_set_blob(note, member, data.data, data.len);
}

static void set_thumbprint(struct pfx_msg *note, const char *hex)
{
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(32);
    if (hex && pfx_unhex(hex, strlen(hex), &bytes))
        set_blob(note, "thumbprint", pfx_buf_bytes(&bytes), 20, 32);
}

/* A CA by CMP knows an order by its transaction; the number is DigiCert's only. */
static void set_order(struct pfx_msg *note, const struct pfx_enrolment *e)
{
    const struct pfx_product *product = pfx_product_find(e->product);
    if (product && strcmp(product->ca, "cmp") == 0) {
        struct pfx_cmp_order order = pfx_cmp_order_of(e->order_token);
        char hex[33];
        if (e->order_id > 0 || e->sent_first > 0)
            pfx_msg_set_str(note, "transaction",
                            pfx_hex(order.transaction, sizeof(order.transaction), hex));
    } else if (e->order_id > 0) {
        pfx_msg_set_int(note, "order_id", e->order_id);
    }
    set_blob(note, "key_id", pfx_buf_bytes(&e->key_id), 8, 64);
}

/* Intune's id of a record, with the user's hash in the place of the object id. */
static pfx_result set_record(struct pfx_store *store, struct pfx_msg *note, const char *record,
                             struct pfx_error *err)
{
    struct pfx_buf hash PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(32);
    if (!record || strlen(record) <= RECORD_USER || record[RECORD_USER] != '-')
        return PFX_OK;
    PFX_TRY(set_user(store, note, "SELECT log_hash FROM user WHERE hex = lower(substr(?, 1, 32))",
                     record, &hash, err));
    set_thumbprint(note, record + RECORD_USER + 1);
    if (hash.len != 32 || !pfx_msg_has(note, "thumbprint"))
        return PFX_OK;
    char hex[65];
    char *name PFX_AUTOFREE =
        pfx_asprintf("%s%s", pfx_hex(hash.data, hash.len, hex), record + RECORD_USER);
    if (strlen(name) <= 128)
        pfx_msg_set_str(note, "name", name);
    return PFX_OK;
}

pfx_result pfx_note_program(struct pfx_store *store, const char *event, int64_t now_ms,
                            struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = begin(event, NULL, now_ms);
    pfx_msg_set_str(note, "name", PFX_VERSION);
    return pfx_notes_add(store, note, now_ms, err);
}

pfx_result pfx_note_restored(struct pfx_store *store, int64_t count, int64_t now_ms,
                             struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = begin("backup.restored", NULL, now_ms);
    pfx_msg_set_int(note, "count", count);
    return pfx_notes_add(store, note, now_ms, err);
}

static void set_operator(struct pfx_msg *note, uid_t uid, const char *verb)
{
    pfx_msg_set_str(note, "actor", "operator");
    pfx_msg_set_int(note, "uid", uid);
    pfx_msg_set_str(note, "name", verb);
}

pfx_result pfx_note_command(struct pfx_store *store, uid_t uid, const char *verb, int64_t enrolment,
                            const struct pfx_error *fail, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = begin("command", fail, now_ms);
    set_operator(note, uid, verb);
    if (enrolment > 0)
        pfx_msg_set_int(note, "enrolment", enrolment);
    return pfx_notes_add(store, note, now_ms, err);
}

pfx_result pfx_note_refused(struct pfx_store *store, uid_t uid, const char *verb, int64_t now_ms,
                            struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = pfx_notes_new("request.refused", PFX_CLASS_REFUSED, now_ms);
    set_operator(note, uid, verb);
    return pfx_notes_add(store, note, now_ms, err);
}

/* fail NULL: it is so. word: the CA's, or NULL. */
static pfx_result note_order(struct pfx_store *store, const struct pfx_enrolment *e,
                             const char *event, const char *word, const struct pfx_error *fail,
                             int64_t now_ms, struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = begin(event, fail, now_ms);
    PFX_TRY(set_enrolment(store, note, e, err));
    set_order(note, e);
    set_word(note, "name", word);
    return pfx_notes_add(store, note, now_ms, err);
}

pfx_result pfx_note_order_over(struct pfx_store *store, const struct pfx_enrolment *e,
                               const char *word, int64_t now_ms, struct pfx_error *err)
{
    const char *event = strcmp(word, "revoked") == 0 ? "order.revoked" : "order.cancelled";
    return note_order(store, e, event, word, NULL, now_ms, err);
}

pfx_result pfx_note_order_failed(struct pfx_store *store, const struct pfx_enrolment *e,
                                 const char *event, const struct pfx_error *fail, int64_t now_ms,
                                 struct pfx_error *err)
{
    return note_order(store, e, event, NULL, fail, now_ms, err);
}

pfx_result pfx_note_placed(struct pfx_store *store, struct pfx_enrolment *e, int64_t order,
                           int64_t now_ms, struct pfx_error *err)
{
    if (e->order_id == order)
        return PFX_OK; /* looked for again, because its certificate wasn't right */
    e->order_id = order;
    return note_order(store, e, "order.placed", NULL, NULL, now_ms, err);
}

pfx_result pfx_note_certificate(struct pfx_store *store, const struct pfx_enrolment *e,
                                struct pfx_bytes leaf, const char *thumbprint, int64_t now_ms,
                                struct pfx_error *err)
{
    struct pfx_bytes had = pfx_buf_bytes(&e->cert);
    if (had.len == leaf.len && memcmp(had.data, leaf.data, leaf.len) == 0)
        return PFX_OK;
    struct pfx_msg *note PFX_AUTOMSG = begin("certificate.received", NULL, now_ms);
    uint8_t hash[32];
    PFX_TRY(set_enrolment(store, note, e, err));
    set_order(note, e);
    set_thumbprint(note, thumbprint);
    if (pfx_sha256(leaf.data, leaf.len, hash))
        pfx_msg_set_blob(note, "certificate", hash, sizeof(hash));
    return pfx_notes_add(store, note, now_ms, err);
}

pfx_result pfx_note_upload(struct pfx_store *store, const struct pfx_enrolment *e, int64_t now_ms,
                           struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = begin("upload.confirmed", NULL, now_ms);
    PFX_TRY(set_enrolment(store, note, e, err));
    PFX_TRY(set_record(store, note, e->record_id, err));
    set_blob(note, "pfx", pfx_buf_bytes(&e->pfx_sha), 32, 32);
    if (e->generation >= 1)
        pfx_msg_set_int(note, "generation", e->generation);
    return pfx_notes_add(store, note, now_ms, err);
}

pfx_result pfx_note_moved(struct pfx_store *store, const struct pfx_enrolment *e, enum pfx_state to,
                          int64_t now_ms, struct pfx_error *err)
{
    const char *event = to == PFX_HELD     ? "enrolment.held"
                        : to == PFX_FAILED ? "enrolment.failed"
                        : to == PFX_ENDED  ? "enrolment.ended"
                                           : NULL;
    enum pfx_class cls = PFX_CLASS_OK;
    if (!event)
        return PFX_OK;
    if (e->failing && !pfx_class_parse(e->fail_class, &cls))
        cls = PFX_CLASS_INTERNAL;
    struct pfx_msg *note PFX_AUTOMSG = pfx_notes_new(event, cls, now_ms);
    PFX_TRY(set_enrolment(store, note, e, err));
    set_order(note, e);
    if (e->failing)
        set_failure(note, e->fail_op, e->fail_code);
    return pfx_notes_add(store, note, now_ms, err);
}

pfx_result pfx_note_removed(struct pfx_store *store, const char *record, int64_t enrolment,
                            int64_t now_ms, struct pfx_error *err)
{
    struct pfx_msg *note PFX_AUTOMSG = begin("record.removed", NULL, now_ms);
    if (enrolment) {
        struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
        PFX_TRY(pfx_enrolment_load(store, enrolment, &e, err));
        if (e.id)
            PFX_TRY(set_enrolment(store, note, &e, err));
    }
    PFX_TRY(set_record(store, note, record, err));
    return pfx_notes_add(store, note, now_ms, err);
}
