/* key.copies: where a user key still is, as far as pfx-agentd knows, and where it may be beyond. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/discard.h"
#include "agent/item.h"
#include "agent/verbs.h"
#include "crypto/encode.h"

struct copies {
    struct pfx_asker *asker;
    struct pfx_store *store;
    struct pfx_enrolment e;
};

static void PFX_PRINTF(5, 6) say(struct copies *c, const char *place, const char *state,
                                 const char *id, const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct pfx_msg *item = pfx_asker_body(c->asker);
    pfx_msg_set_int(item, "enrolment", c->e.id);
    pfx_msg_set_str(item, "place", place);
    pfx_msg_set_str(item, "state", state);
    pfx_item_str(item, "id", id, 128);
    pfx_item_str(item, "text", text, 639);
    pfx_asker_item(c->asker, item);
}

/* Which of both it is stands in front of the reference; the rest of it is pfx-hsm's own. */
static void say_key(struct copies *c, const char *id)
{
    const struct pfx_enrolment *e = &c->e;
    char when[PFX_TIME_SIZE];
    bool wrapped = e->key_ref && strncmp(e->key_ref, "w1.", 3) == 0;
    const char *what = wrapped ? "a blob in pfx-agentd's store, under the HSM's wrapping key"
                               : "an object in the users token";
    if (e->key_gone_at)
        say(c, "hsm", "gone", id, "destroyed at %s: pfx-hsm looked for it and didn't find it any more",
            pfx_time_format(e->key_gone_at, false, when));
    else if (!e->key_ref)
        say(c, "hsm", "gone", id, "no key is known of this enrolment");
    else
        say(c, wrapped ? "store" : "hsm", e->key_going_at ? "going" : "there", id, "%s%s%s%s", what,
            e->key_going_at ? "; it is being destroyed" : "", e->key_said ? "; not destroyed: " : "",
            e->key_said ? e->key_said : "");
}

static pfx_result say_parcel(struct copies *c, struct pfx_error *err)
{
    int64_t there;
    PFX_TRY(pfx_db_int(c->store->db, err, 0, &there,
                       "SELECT EXISTS(SELECT 1 FROM parcel WHERE enrolment = ?)",
                       PFX_PARAMS(P_INT(c->e.id))));
    if (there)
        say(c, "parcel", "there", NULL,
            "a PFX in pfx-agentd's store, its password sealed to the encryption key; erased once "
            "Intune's record was read back");
    else if (c->e.pfx_sha.len)
        say(c, "parcel", "gone", NULL, "no PFX is in pfx-agentd's store");
    return PFX_OK;
}

/* Intune's list by this user and this certificate: its own record, and what others made of it. */
static pfx_result say_records(struct copies *c, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t read, n = 0;
    char when[PFX_TIME_SIZE] = "never";
    if (!c->e.thumbprint)
        return PFX_OK;
    PFX_TRY(pfx_meta_get(c->store, "records_started", &read, err));
    if (read)
        pfx_time_format(read, false, when);
    PFX_TRY(pfx_db_select(c->store->db, err, &stmt,
                          "SELECT r.id, r.key_name, EXISTS(SELECT 1 FROM removal m WHERE"
                          " m.record_id = lower(r.id) AND m.gone_at IS NULL) FROM record r"
                          " WHERE r.user_hex = (SELECT hex FROM user WHERE id = ?1)"
                          " AND r.thumbprint = ?2 COLLATE NOCASE ORDER BY r.id LIMIT 20",
                          PFX_PARAMS(P_TEXT(c->e.user), P_TEXT(c->e.thumbprint))));
    for (;; n++) {
        bool row;
        PFX_TRY(pfx_db_next(c->store->db, stmt, &row, err));
        if (!row)
            break;
        const char *key = (const char *)sqlite3_column_text(stmt, 1);
        bool going = sqlite3_column_int64(stmt, 2) != 0;
        say(c, "intune", going ? "going" : "there", (const char *)sqlite3_column_text(stmt, 0),
            "a record in Intune, its password sealed to %s%s", key ? key : "an unknown key",
            going ? "; it is being removed" : "");
    }
    if (n == 0)
        say(c, "intune", "gone", c->e.record_id, "Intune's list, as it was last read (%s), doesn't "
            "have it", when);
    return PFX_OK;
}

static pfx_result say_generations(struct copies *c, struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf list = pfx_buf_make(400);
    PFX_TRY(pfx_db_select(c->store->db, err, &stmt,
                          "SELECT generation FROM exposure WHERE enrolment = ? ORDER BY generation"
                          " LIMIT 64",
                          PFX_PARAMS(P_INT(c->e.id))));
    while (true) {
        bool row;
        PFX_TRY(pfx_db_next(c->store->db, stmt, &row, err));
        if (!row)
            break;
        (void)!pfx_buf_addf(&list, "%s%lld", list.len ? ", " : "",
                            (long long)sqlite3_column_int64(stmt, 0));
    }
    if (list.len)
        say(c, "sealed", "there", NULL,
            "it was sealed to generation %s of the encryption key: who has one of these and a PFX "
            "has this key", pfx_buf_str(&list));
    return PFX_OK;
}

static pfx_result say_all(struct copies *c, struct pfx_error *err)
{
    char hex[129] = "";
    if (c->e.key_id.len > 0 && c->e.key_id.len <= 64)
        pfx_hex(c->e.key_id.data, c->e.key_id.len, hex);
    say_key(c, *hex ? hex : NULL);
    PFX_TRY(say_parcel(c, err));
    PFX_TRY(say_records(c, err));
    PFX_TRY(say_generations(c, err));
    if (c->e.active_at)
        say(c, "devices", "unknown", NULL,
            "devices that fetched it from Intune keep it: which ones isn't known here");
    if (c->e.key_id.len > 0)
        say(c, "backups", "unknown", NULL,
            "backups and clones of the HSM, and for a blob of pfx-agentd's store, may hold it: not "
            "known here");
    return PFX_OK;
}

static pfx_result find(struct copies *c, const struct pfx_msg *args, struct pfx_error *err)
{
    int64_t id = pfx_msg_int(args, "enrolment");
    const char *hex = pfx_msg_str(args, "key_id");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(64);
    if (hex) {
        if (!pfx_unhex(hex, strlen(hex), &bytes))
            return pfx_fail(err, PFX_CLASS_USAGE, "key show", "CKA_ID", "",
                            "it isn't hex; pfx-agent enrolment show names no CKA_ID, --enrolment "
                            "takes its number");
        PFX_TRY(pfx_db_int(c->store->db, err, 0, &id,
                           "SELECT max(id) FROM enrolment INDEXED BY enrolment_key"
                           " WHERE key_id = ? AND key_id IS NOT NULL",
                           PFX_PARAMS(P_BLOB(pfx_buf_bytes(&bytes)))));
    }
    if (id)
        PFX_TRY(pfx_enrolment_load(c->store, id, &c->e, err));
    if (c->e.id == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "key show", hex ? "CKA_ID" : "number", "",
                        "no enrolment has this key; pfx-agent enrolment list shows the numbers");
    return PFX_OK;
}

void pfx_verb_copies(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct copies c = {.asker = asker, .store = agent->store};
    (void)now_ms;
    pfx_result r = find(&c, args, &err);
    if (pfx_ok(r))
        r = say_all(&c, &err);
    pfx_enrolment_done(&c.e);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else
        pfx_asker_end(asker, 0, NULL);
}
