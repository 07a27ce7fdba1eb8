#include "agent/delivery.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/compromise.h"
#include "agent/generation.h"
#include "agent/note.h"
#include "agent/rebuild.h"
#include "agent/timing.h"

static void PFX_PRINTF(5, 6) spoilt(struct pfx_error *bad, enum pfx_class cls, const char *object,
                                    const char *code, const char *fmt, ...)
{
    char text[640];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pfx_result r = pfx_fail(bad, cls, "check answer", object, code, "%s", text);
    (void)r;
}

static pfx_result exposed(struct pfx_agent *agent, int64_t enrolment, int64_t generation,
                          int64_t now_ms, struct pfx_error *err)
{
    return pfx_db_exec(agent->store->db, err, NULL,
                       "INSERT INTO exposure(generation, enrolment, at) VALUES(?, ?, ?)"
                       " ON CONFLICT(generation, enrolment) DO NOTHING",
                       PFX_PARAMS(P_INT(generation), P_INT(enrolment), P_INT(now_ms)));
}

pfx_result pfx_delivery_sealed(struct pfx_agent *agent, int64_t enrolment,
                               const struct pfx_msg *body, int64_t now_ms,
                               struct pfx_error *ret_bad, struct pfx_error *err)
{
    struct pfx_bytes pfx = pfx_msg_blob(body, "pfx");
    struct pfx_bytes said = pfx_msg_blob(body, "pfx_sha256");
    int64_t generation = pfx_msg_int(body, "generation");
    uint8_t hash[32];
    if (!pfx_sha256(pfx.data, pfx.len, hash) || memcmp(hash, said.data, sizeof(hash)) != 0) {
        spoilt(ret_bad, PFX_CLASS_INTEGRITY, "PFX", "",
               "its hash isn't what pfx-hsm says; look at pfx-hsm's log");
        return PFX_OK;
    }
    PFX_TRY(pfx_db_exec(
        agent->store->db, err, NULL,
        "INSERT INTO parcel(enrolment, pfx, sealed) VALUES(?, ?, ?)"
        " ON CONFLICT(enrolment) DO UPDATE SET pfx = excluded.pfx, sealed = excluded.sealed",
        PFX_PARAMS(P_INT(enrolment), P_BLOB(pfx), P_BLOB(pfx_msg_blob(body, "sealed")))));
    PFX_TRY(exposed(agent, enrolment, generation, now_ms, err));
    return pfx_generation_used(agent, generation, now_ms, err);
}

void pfx_delivery_imported(const struct pfx_enrolment *e, const struct pfx_msg *body, char *note,
                           size_t size, struct pfx_error *ret_bad)
{
    const char *id = pfx_msg_str(body, "record_id");
    if (strcasecmp(id, e->record_id) != 0)
        spoilt(ret_bad, PFX_CLASS_INTEGRITY, "record", "",
               "Intune gave it the id %.80s, and %s was expected; look at that record in Intune", id,
               e->record_id);
    else
        snprintf(note, size, "record %s", pfx_msg_bool(body, "updated") ? "updated" : "made");
}

/* Names the first member of the record that isn't what was sent; NULL: all as it must be. */
static const char *differs(const struct pfx_enrolment *e, const struct pfx_msg *record)
{
    const char *texts[][3] = {
        {"id", pfx_msg_str(record, "id"), e->record_id},
        {"thumbprint", pfx_msg_str(record, "thumbprint"), e->thumbprint},
        {"intendedPurpose", pfx_msg_str(record, "purpose"), e->intune},
        {"paddingScheme", pfx_msg_str(record, "padding"), e->padding},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (!texts[i][1] || strcasecmp(texts[i][1], texts[i][2]) != 0)
            return texts[i][0];
    const char *key = pfx_msg_str(record, "key_name");
    const char *provider = pfx_msg_str(record, "provider_name");
    if (!key || strcmp(key, e->key_name) != 0)
        return "keyName";
    if (!provider || strcmp(provider, e->provider_name) != 0)
        return "providerName";
    /* Services keep whole seconds, some cut and some round their fractions away. */
    if (pfx_msg_int(record, "expires") / PFX_SECOND != e->expires / PFX_SECOND)
        return "expirationDateTime";
    return NULL;
}

/* Our own picture of Intune's list, until it is read again. */
static pfx_result keep_record(struct pfx_agent *agent, const struct pfx_enrolment *e,
                              const struct pfx_msg *record, struct pfx_error *err)
{
    /* Intune's list may write its id in another case. */
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "DELETE FROM record WHERE user_hex = substr(?1, 1, 32) AND lower(id) = ?1"
                        " AND id <> ?1",
                        PFX_PARAMS(P_TEXT(e->record_id))));
    return pfx_db_exec(agent->store->db, err, NULL,
                       "INSERT INTO record(id, user_hex, thumbprint, purpose, upn, starts, expires,"
                       " provider_name, key_name, padding, pass)"
                       " VALUES(?1, substr(?1, 1, 32), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
                       " coalesce((SELECT value FROM meta WHERE key = 'pass_no'), 0))"
                       " ON CONFLICT(id) DO UPDATE SET expires = excluded.expires,"
                       " purpose = excluded.purpose, provider_name = excluded.provider_name,"
                       " key_name = excluded.key_name, padding = excluded.padding,"
                       " pass = excluded.pass",
                       PFX_PARAMS(P_TEXT(e->record_id), P_TEXT(e->thumbprint), P_TEXT(e->intune),
                                  P_TEXT(pfx_msg_str(record, "upn")), P_INT(e->starts),
                                  P_INT(e->expires), P_TEXT(e->provider_name), P_TEXT(e->key_name),
                                  P_TEXT(e->padding)));
}

pfx_result pfx_delivery_confirm(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                const struct pfx_msg *body, int64_t now_ms, bool *ret_bounced,
                                struct pfx_error *ret_bad, struct pfx_error *err)
{
    const struct pfx_msg *record = pfx_msg_obj(body, "record");
    bool present = pfx_msg_bool(body, "present") && record;
    const char *member = present ? differs(e, record) : "id"; /* not there at all */
    *ret_bounced = member != NULL;
    if (member && e->bounces + 1 >= PFX_MOST_BOUNCES)
        spoilt(ret_bad, PFX_CLASS_INTEGRITY, e->record_id, member,
               "after %d imports Intune's record still isn't there or differs in %s; look at it in "
               "Intune, then: pfx-agent enrolment retry",
               PFX_MOST_BOUNCES, member);
    else if (member && record)
        spoilt(ret_bad, PFX_CLASS_REFUSED, e->record_id, member,
               "Intune's record differs in %s from what was sent; it is sent again", member);
    else if (member)
        spoilt(ret_bad, PFX_CLASS_REFUSED, e->record_id, member,
               "Intune doesn't show the record by its %s yet; it is sent again", member);
    if (member)
        return PFX_OK;
    PFX_TRY(pfx_delivery_drop(agent, e->id, err));
    PFX_TRY(pfx_note_upload(agent->store, e, now_ms, err));
    return keep_record(agent, e, record, err);
}

static pfx_result believe(struct pfx_agent *agent, int64_t id, const char *user,
                          int64_t generation, const struct pfx_msg *record, int64_t now_ms,
                          struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE enrolment SET generation = ?, key_name = ?, provider_name = ?"
                        " WHERE id = ?",
                        PFX_PARAMS(P_INT(generation), P_TEXT(pfx_msg_str(record, "key_name")),
                                   P_TEXT(pfx_msg_str(record, "provider_name")), P_INT(id))));
    PFX_TRY(exposed(agent, id, generation, now_ms, err));
    PFX_TRY(pfx_note(agent->store, now_ms, id, user, err,
                     "Intune's record is sealed to generation %lld of the encryption key, which "
                     "wasn't known here",
                     (long long)generation));
    PFX_TRY(pfx_rebuild_landed(agent, generation, err));
    return pfx_compromise_active(agent, id, now_ms, err);
}

pfx_result pfx_delivery_listed(struct pfx_agent *agent, const struct pfx_msg *record,
                               int64_t started_ms, int64_t now_ms, bool *ret_older,
                               struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    /* What is being rebuilt ends with a read-back of its own. */
    PFX_TRY(pfx_db_select(db, err, &stmt,
                          "SELECT e.id, e.user, max(coalesce(rebuilt_at, 0), coalesce(active_at, 0)),"
                          " (SELECT g.generation FROM generation g WHERE g.key_name = ?2"
                          "  AND g.provider_name = ?3 AND g.generation <> e.generation"
                          "  AND NOT EXISTS (SELECT 1 FROM rebuild r WHERE r.enrolment = e.id"
                          "   AND r.state <> 'HELD'))"
                          " FROM enrolment e INDEXED BY enrolment_record"
                          " WHERE e.record_id = lower(?1) AND e.state = 'ACTIVE'"
                          " ORDER BY e.id DESC LIMIT 1",
                          PFX_PARAMS(P_TEXT(pfx_msg_str(record, "id")),
                                     P_TEXT(pfx_msg_str(record, "key_name")),
                                     P_TEXT(pfx_msg_str(record, "provider_name")))));
    PFX_TRY(pfx_db_next(db, stmt, &row, err));
    *ret_older = row && sqlite3_column_int64(stmt, 2) >= started_ms;
    int64_t generation = row ? sqlite3_column_int64(stmt, 3) : 0;
    if (*ret_older || generation == 0)
        return PFX_OK;
    int64_t id = sqlite3_column_int64(stmt, 0);
    char *user PFX_AUTOFREE = pfx_col_text(stmt, 1);
    pfx_db_done(&stmt);
    return believe(agent, id, user, generation, record, now_ms, err);
}

pfx_result pfx_delivery_drop(struct pfx_agent *agent, int64_t enrolment, struct pfx_error *err)
{
    agent->checkpoint = true;
    return pfx_db_exec(agent->store->db, err, NULL, "DELETE FROM parcel WHERE enrolment = ?",
                       PFX_PARAMS(P_INT(enrolment)));
}
