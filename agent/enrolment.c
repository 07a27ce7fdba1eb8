#include "agent/enrolment.h"

#include <string.h>

#include "agent/note.h"
#include "agent/outbox.h"

#define COLUMN(name) #name ","
#define FACTS PFX_ENROLMENT_FACTS(COLUMN, COLUMN, COLUMN) "0"
#define MATERIAL PFX_ENROLMENT_MATERIAL(COLUMN, COLUMN, COLUMN)

void pfx_enrolment_done(struct pfx_enrolment *e)
{
#define NOTHING(name)
#define DROP_TEXT(name) free(e->name);
#define DROP_BLOB(name) pfx_buf_done(&e->name);
    PFX_ENROLMENT_FACTS(NOTHING, DROP_TEXT, DROP_BLOB)
    PFX_ENROLMENT_MATERIAL(NOTHING, DROP_TEXT, DROP_BLOB)
    memset(e, 0, sizeof(*e));
}

#define READ_INT(name) e->name = sqlite3_column_int64(stmt, col++);
#define READ_TEXT(name) e->name = pfx_col_text(stmt, col++);
#define READ_BLOB(name) e->name = pfx_col_blob(stmt, col++);

static pfx_result read_facts(sqlite3_stmt *stmt, int *col_io, struct pfx_enrolment *e,
                             struct pfx_error *err)
{
    int col = *col_io;
    PFX_ENROLMENT_FACTS(READ_INT, READ_TEXT, READ_BLOB)
    *col_io = col;
    if (!pfx_state_parse(e->state, &e->at))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read enrolment", e->user, e->state,
                        "enrolment %lld has a state that doesn't exist; restore the store from a "
                        "backup",
                        (long long)e->id);
    return PFX_OK;
}

pfx_result pfx_enrolment_load(struct pfx_store *store, int64_t id, struct pfx_enrolment *ret_e,
                              struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    struct pfx_enrolment *e = ret_e;
    memset(e, 0, sizeof(*e));
    PFX_TRY(pfx_db_select(store->db, err, &stmt,
                          "SELECT " MATERIAL FACTS " FROM enrolment WHERE id = ?",
                          PFX_PARAMS(P_INT(id))));
    PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
    if (!row)
        return PFX_OK;
    int col = 0;
    PFX_ENROLMENT_MATERIAL(READ_INT, READ_TEXT, READ_BLOB)
    return read_facts(stmt, &col, e, err);
}

pfx_result pfx_enrolment_after(struct pfx_store *store, int64_t after, const char *user,
                               const char *state, struct pfx_enrolment *ret_e,
                               struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    memset(ret_e, 0, sizeof(*ret_e));
    if (user)
        PFX_TRY(pfx_db_select(store->db, err, &stmt,
                              "SELECT " FACTS " FROM enrolment WHERE id > ?1 AND user IN"
                              " (SELECT id FROM user WHERE id = lower(?2) UNION"
                              "  SELECT id FROM user WHERE upn = ?2 COLLATE NOCASE)"
                              " AND (?3 IS NULL OR state = ?3) ORDER BY id LIMIT 1",
                              PFX_PARAMS(P_INT(after), P_TEXT(user), P_TEXT(state))));
    else
        PFX_TRY(pfx_db_select(store->db, err, &stmt,
                              "SELECT " FACTS " FROM enrolment WHERE id > ?1"
                              " AND (?2 IS NULL OR state = ?2) ORDER BY id LIMIT 1",
                              PFX_PARAMS(P_INT(after), P_TEXT(state))));
    PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
    int col = 0;
    return row ? read_facts(stmt, &col, ret_e, err) : PFX_OK;
}

static void replace(char **text, const char *with)
{
    char *copy = with ? pfx_strdup(with) : NULL;
    free(*text);
    *text = copy;
}

pfx_result pfx_enrolment_failed(struct pfx_store *store, struct pfx_enrolment *e,
                                const struct pfx_error *fail, struct pfx_error *err)
{
    e->failing = true;
    replace(&e->fail_class, pfx_class_name(fail->cls));
    replace(&e->fail_op, fail->op);
    replace(&e->fail_code, fail->code);
    replace(&e->fail_text, fail->text);
    e->fail_n++;
    return pfx_db_exec(store->db, err, NULL,
                       "UPDATE enrolment SET fail_class = ?, fail_op = ?, fail_object = ?,"
                       " fail_code = ?, fail_text = ?, fail_n = ? WHERE id = ?",
                       PFX_PARAMS(P_TEXT(e->fail_class), P_TEXT(fail->op), P_TEXT(fail->object),
                                  P_TEXT(fail->code), P_TEXT(fail->text), P_INT(e->fail_n),
                                  P_INT(e->id)));
}

static pfx_result clear_failure(struct pfx_store *store, struct pfx_enrolment *e,
                                struct pfx_error *err)
{
    e->failing = false;
    replace(&e->fail_class, NULL);
    replace(&e->fail_text, NULL);
    e->fail_n = 0;
    return pfx_db_exec(store->db, err, NULL,
                       "UPDATE enrolment SET fail_class = NULL, fail_op = NULL, fail_object = NULL,"
                       " fail_code = NULL, fail_text = NULL, fail_n = 0, held_from = NULL,"
                       " held_job = NULL, held_why = NULL WHERE id = ?",
                       PFX_PARAMS(P_INT(e->id)));
}

pfx_result pfx_enrolment_move(struct pfx_store *store, struct pfx_enrolment *e, enum pfx_state to,
                              const char *kind, int64_t not_before_ms, int64_t now_ms,
                              const char *note, struct pfx_error *err)
{
    if (!pfx_flow_may(e->at, to))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "move enrolment", pfx_state_name(e->at), "",
                        "there is no way to %s in the flow", pfx_state_name(to));
    int64_t changed;
    PFX_TRY(pfx_db_exec(
        store->db, err, &changed,
        "UPDATE enrolment SET state = ?1, ver = ver + 1, changed_at = ?2,"
        /* Questions about an order belong to the state they were planned in. */
        " info_at = CASE WHEN ?1 = 'ORDERED' THEN info_at END,"
        " validation_at = CASE WHEN ?1 = 'ORDERED' THEN validation_at END"
        " WHERE id = ?3 AND ver = ?4",
        PFX_PARAMS(P_TEXT(pfx_state_name(to)), P_INT(now_ms), P_INT(e->id), P_INT(e->ver))));
    if (changed != 1)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "move enrolment", e->user, "",
                        "its version changed meanwhile");
    if (to != PFX_HELD && to != PFX_FAILED && to != PFX_ENDED)
        PFX_TRY(clear_failure(store, e, err));
    PFX_TRY(pfx_db_exec(store->db, err, NULL, "DELETE FROM job WHERE enrolment = ?",
                        PFX_PARAMS(P_INT(e->id))));
    PFX_TRY(pfx_note(store, now_ms, e->id, e->user, err, "%s -> %s%s%s", pfx_state_name(e->at),
                     pfx_state_name(to), note && *note ? ": " : "", note ? note : ""));
    PFX_TRY(pfx_note_moved(store, e, to, now_ms, err));
    e->ver++;
    e->at = to;
    e->changed_at = now_ms;
    replace(&e->state, pfx_state_name(to));
    if (!kind)
        kind = pfx_flow_by_state(to)->job;
    /* What is paid for goes before what isn't begun, or the first of 5,000 users would wait for the
     * last one's key. */
    if ((to == PFX_ISSUED || to == PFX_CHECKED || to == PFX_SEALED || to == PFX_IMPORTED) &&
        not_before_ms <= now_ms && e->created_at > 0)
        not_before_ms = e->created_at - 1;
    return kind ? pfx_outbox_put(store, e, kind, not_before_ms, now_ms, err) : PFX_OK;
}

pfx_result pfx_enrolment_hold(struct pfx_store *store, struct pfx_enrolment *e, const char *kind,
                              const char *why, int64_t now_ms, const struct pfx_error *fail,
                              struct pfx_error *err)
{
    char line[700];
    char *from PFX_AUTOFREE = pfx_strdup(pfx_state_name(e->at));
    PFX_TRY(pfx_enrolment_failed(store, e, fail, err));
    PFX_TRY(pfx_enrolment_move(store, e, PFX_HELD, NULL, 0, now_ms,
                               pfx_error_line(fail, line, sizeof(line)), err));
    return pfx_db_exec(
        store->db, err, NULL,
        "UPDATE enrolment SET held_from = ?, held_job = ?, held_why = ? WHERE id = ?",
        PFX_PARAMS(P_TEXT(from), P_TEXT(kind), P_TEXT(why), P_INT(e->id)));
}

void pfx_chain_add(struct pfx_buf *chain, struct pfx_bytes der)
{
    uint32_t n = (uint32_t)der.len;
    uint8_t head[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    pfx_buf_add(chain, head, sizeof(head));
    pfx_buf_add(chain, der.data, der.len);
}

bool pfx_chain_next(struct pfx_bytes chain, size_t *pos, struct pfx_bytes *ret_der)
{
    if (chain.len < 4 || *pos > chain.len - 4)
        return false;
    const uint8_t *p = chain.data + *pos;
    size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (n > chain.len - 4 - *pos)
        return false;
    *ret_der = (struct pfx_bytes){p + 4, n};
    *pos += 4 + n;
    return true;
}
