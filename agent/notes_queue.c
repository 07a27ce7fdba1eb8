#include "agent/notes_queue.h"

#include <string.h>

#include "agent/desk.h"
#include "agent/note.h"
#include "agent/timing.h"
#include "api/conf/process.h"

#define SCOPE "log"
#define KIND "hsm.log"
#define BATCH 200 /* notes of one job, as its table says */
#define GATHER 50 /* ms after a job: what happens together leaves together */
#define HIGHEST (INT64_C(1) << 51)
#define START_AGAIN (5 * PFX_SECOND)

/* meta */
#define LAST "note_last"       /* highest number that was given */
#define SENT "note_sent"       /* highest number that pfx-hsm may know */
#define DROPPED "note_dropped" /* over the quota, and not told yet */

static const struct pfx_wire_schema *note_schema(void)
{
    return pfx_wire_find(pfx_wire_jobs, KIND)->request->fields[0].of;
}

struct pfx_msg *pfx_notes_new(const char *event, enum pfx_class outcome, int64_t now_ms)
{
    struct pfx_msg *note = pfx_msg_new(note_schema());
    pfx_msg_set_int(note, "at", now_ms);
    pfx_msg_set_str(note, "event", event);
    pfx_msg_set_str(note, "outcome", pfx_class_name(outcome));
    pfx_msg_set_str(note, "actor", "self");
    return note;
}

struct queue {
    int64_t first; /* 0: nothing waits */
    int64_t last;  /* highest number that was given */
    int64_t sent;
};

static int64_t queued(const struct queue *q)
{
    return q->first ? q->last - q->first + 1 : 0;
}

static pfx_result look(struct pfx_store *store, struct queue *ret, struct pfx_error *err)
{
    PFX_TRY(pfx_db_int(store->db, err, 0, &ret->first, "SELECT min(n) FROM note", PFX_NO_PARAMS));
    PFX_TRY(pfx_meta_get(store, SENT, &ret->sent, err));
    return pfx_meta_get(store, LAST, &ret->last, err);
}

static pfx_result insert(struct pfx_store *store, struct pfx_msg *note, int64_t n, int64_t now_ms,
                         struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(note_schema()->ceiling);
    pfx_msg_set_int(note, "n", n);
    PFX_TRY(pfx_msg_encode(note, false, &text, err));
    return pfx_db_exec(store->db, err, NULL, "INSERT INTO note(n, at, body) VALUES(?, ?, ?)",
                       PFX_PARAMS(P_INT(n), P_INT(now_ms), P_TEXT(pfx_buf_str(&text))));
}

static pfx_result append(struct pfx_store *store, struct queue *q, struct pfx_msg *note,
                         int64_t now_ms, struct pfx_error *err)
{
    int64_t n = q->last + 1;
    PFX_TRY(insert(store, note, n, now_ms, err));
    PFX_TRY(pfx_meta_set(store, LAST, n, err));
    q->last = n;
    q->first = q->first ? q->first : n;
    return PFX_OK;
}

static struct pfx_msg *dropped_note(int64_t count, enum pfx_class outcome, const char *why,
                                    int64_t now_ms)
{
    struct pfx_msg *note = pfx_notes_new("log.dropped", outcome, now_ms);
    pfx_msg_set_int(note, "count", count);
    if (why)
        pfx_msg_set_str(note, "name", why);
    return note;
}

static pfx_result put_job(struct pfx_store *store, int64_t not_before_ms, int64_t now_ms,
                          struct pfx_error *err)
{
    return pfx_outbox_add(store, SCOPE, NULL, KIND, NULL, not_before_ms, now_ms, err);
}

/* Tells how many were dropped, once there is room for that and for `more`. *ret_left: how many
 * aren't told yet. */
static pfx_result tell_dropped(struct pfx_store *store, struct queue *q, int64_t more,
                               int64_t now_ms, int64_t *ret_left, struct pfx_error *err)
{
    PFX_TRY(pfx_meta_get(store, DROPPED, ret_left, err));
    if (*ret_left == 0 || queued(q) + 1 + more > PFX_NOTES_MOST)
        return PFX_OK;
    struct pfx_msg *note PFX_AUTOMSG = dropped_note(*ret_left, PFX_CLASS_OK, NULL, now_ms);
    PFX_TRY(append(store, q, note, now_ms, err));
    *ret_left = 0;
    return pfx_meta_set(store, DROPPED, 0, err);
}

pfx_result pfx_notes_add(struct pfx_store *store, struct pfx_msg *note, int64_t now_ms,
                         struct pfx_error *err)
{
    struct queue q;
    int64_t left;
    PFX_TRY(look(store, &q, err));
    PFX_TRY(tell_dropped(store, &q, 1, now_ms, &left, err));
    if (left > 0 || queued(&q) >= PFX_NOTES_MOST)
        return pfx_meta_set(store, DROPPED, left + 1, err);
    PFX_TRY(append(store, &q, note, now_ms, err));
    /* At once: where none waits already, pfx-hsm has it before the job that follows from what it
     * tells. */
    return put_job(store, now_ms, now_ms, err);
}

/* --- to pfx-hsm --- */

/* A message that was read can't be sent on: its members are copied. */
static void copy(struct pfx_msg *to, const struct pfx_msg *from)
{
    const struct pfx_wire_schema *schema = pfx_msg_schema(from);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *field = &schema->fields[i];
        if (!pfx_msg_has(from, field->name))
            continue;
        if (field->type == PFX_W_INT) {
            pfx_msg_set_int(to, field->name, pfx_msg_int(from, field->name));
        } else if (field->type == PFX_W_STR) {
            pfx_msg_set_str(to, field->name, pfx_msg_str(from, field->name));
        } else if (field->type == PFX_W_BLOB) {
            struct pfx_bytes blob = pfx_msg_blob(from, field->name);
            pfx_msg_set_blob(to, field->name, blob.data, blob.len);
        } else {
            pfx_die("a note has a member of a type that isn't copied");
        }
    }
}

/* One that can't be read is told as such: the others, and the numbers, go on. */
static void add_note(struct pfx_msg *body, int64_t n, int64_t at, const char *text)
{
    struct pfx_error bad = PFX_ERROR_NONE;
    struct pfx_msg *note PFX_AUTOMSG = NULL;
    if (pfx_failed(pfx_msg_decode(note_schema(), text, strlen(text), &note, &bad))) {
        pfx_log_error(&bad, "note %lld for the operation log", (long long)n);
        note = dropped_note(1, PFX_CLASS_INTEGRITY, "damaged", at > 0 ? at : 0);
    }
    struct pfx_msg *out = pfx_msg_add_obj(body, "notes");
    copy(out, note);
    pfx_msg_set_int(out, "n", n);
}

pfx_result pfx_notes_fill(struct pfx_agent *agent, struct pfx_msg *body, struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t most = agent->notes.most ? agent->notes.most : BATCH, n = 0, sent;
    if (!agent->notes.known) /* nothing: asks how far it is */
        return PFX_OK;
    PFX_TRY(pfx_db_select(store->db, err, &stmt, "SELECT n, at, body FROM note ORDER BY n LIMIT ?",
                          PFX_PARAMS(P_INT(most))));
    while (true) {
        bool row;
        PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
        if (!row)
            break;
        const char *text = (const char *)sqlite3_column_text(stmt, 2);
        n = sqlite3_column_int64(stmt, 0);
        add_note(body, n, sqlite3_column_int64(stmt, 1), text ? text : "");
    }
    PFX_TRY(pfx_meta_get(store, SENT, &sent, err));
    return n > sent ? pfx_meta_set(store, SENT, n, err) : PFX_OK;
}

/* --- its word --- */

/* Those that wait, but for what it has already (up to `had`), after its last number, behind a note
 * that says so. behind: whose numbers are the lower ones. */
static pfx_result renumber(struct pfx_agent *agent, struct queue *q, int64_t had, int64_t n,
                           const char *behind, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    struct pfx_db *db = store->db;
    int64_t left, told = agent->notes.told ? 0 : 1;
    PFX_TRY(pfx_db_exec(db, err, NULL, "DELETE FROM note WHERE n <= ?", PFX_PARAMS(P_INT(had))));
    PFX_TRY(pfx_db_int(db, err, 0, &q->first, "SELECT min(n) FROM note", PFX_NO_PARAMS));
    left = queued(q);
    /* By way of negative numbers: a row must not meet another one that hasn't moved yet. */
    PFX_TRY(pfx_db_exec(db, err, NULL, "UPDATE note SET n = -(n + ?)",
                        PFX_PARAMS(P_INT(n + told + 1 - q->first))));
    PFX_TRY(pfx_db_exec(db, err, NULL, "UPDATE note SET n = -n", PFX_NO_PARAMS));
    if (told) {
        struct pfx_msg *note PFX_AUTOMSG = dropped_note(0, PFX_CLASS_INTEGRITY, behind, now_ms);
        PFX_TRY(insert(store, note, n + 1, now_ms, err));
    }
    q->first = left + told ? n + 1 : 0;
    q->last = n + told + left;
    q->sent = n;
    PFX_TRY(pfx_meta_set(store, LAST, q->last, err));
    PFX_TRY(pfx_meta_set(store, SENT, q->sent, err));
    /* Once, or one that always says another number would fill the log with it. */
    agent->notes.told = true;
    return pfx_note(store, now_ms, 0, NULL, err,
                    "the operation log has %lld notes of pfx-agentd, other than this store knows "
                    "(%s): %lld that wait are numbered anew",
                    (long long)n, behind, (long long)left);
}

/* *ret_moved: some are in the log, or are numbered anew. */
static pfx_result take_number(struct pfx_agent *agent, int64_t n, int64_t now_ms, bool *ret_moved,
                              struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    struct queue q;
    int64_t gone = 0, untold;
    PFX_TRY(look(store, &q, err));
    int64_t taken = q.first ? q.first - 1 : q.last;
    *ret_moved = true;
    if (n > q.sent) {
        /* What was sent before it was asked is in the log, or its numbers would be lower than that.
         * What was sent since is not: it was passed over for another's of the same number. */
        PFX_TRY(
            renumber(agent, &q, agent->notes.known ? 0 : q.sent, n, "store-behind", now_ms, err));
    } else if (n < taken) {
        PFX_TRY(renumber(agent, &q, 0, n, "log-behind", now_ms, err));
    } else {
        PFX_TRY(pfx_db_exec(store->db, err, &gone, "DELETE FROM note WHERE n <= ?",
                            PFX_PARAMS(P_INT(n))));
        *ret_moved = gone > 0 || !agent->notes.known;
        if (gone > 0)
            agent->notes.told = false;
        q.first = n < q.last ? n + 1 : 0;
    }
    agent->notes.known = true;
    PFX_TRY(tell_dropped(store, &q, 0, now_ms, &untold, err));
    if (gone > 0) { /* what was refused together goes by itself, and then more and more again */
        agent->notes.most = agent->notes.most * 2 < BATCH ? agent->notes.most * 2 : 0;
        agent->notes.failures = 0;
    }
    return PFX_OK;
}

static pfx_result taken(struct pfx_agent *agent, const struct pfx_answer *answer,
                        struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    int64_t now_ms = answer->now_ms;
    struct queue q;
    bool moved;
    PFX_TRY(take_number(agent, pfx_msg_int(answer->body, "n"), now_ms, &moved, err));
    PFX_TRY(pfx_trouble_clear(store, SCOPE, err));
    if (!moved) /* it says ok and took nothing: not in a circle */
        return pfx_outbox_again(store, answer->job, KIND,
                                now_ms + pfx_agent_backoff(agent, answer->job->tries), NULL, err);
    PFX_TRY(pfx_outbox_drop(store, answer->job->id, err));
    PFX_TRY(look(store, &q, err));
    if (q.first == 0)
        return PFX_OK;
    /* Numbered anew again and again, it is asked less and less often. */
    int64_t wait = agent->notes.told     ? pfx_agent_backoff(agent, agent->notes.failures++)
                   : queued(&q) >= BATCH ? 0
                                         : GATHER;
    return put_job(store, now_ms + wait, now_ms, err);
}

/* The first one alone isn't taken though the numbers agree: it is what pfx-hsm can't take, of
 * another release. Its place is kept. */
static pfx_result give_up_first(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    struct queue q;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(note_schema()->ceiling);
    PFX_TRY(look(store, &q, err));
    if (q.first == 0)
        return PFX_OK;
    struct pfx_msg *note PFX_AUTOMSG = dropped_note(1, PFX_CLASS_REFUSED, NULL, now_ms);
    pfx_msg_set_int(note, "n", q.first);
    PFX_TRY(pfx_msg_encode(note, false, &text, err));
    PFX_TRY(pfx_db_exec(store->db, err, NULL,
                        "UPDATE note SET body = ? WHERE n = ?"
                        " AND body NOT LIKE '%\"event\":\"log.dropped\"%'",
                        PFX_PARAMS(P_TEXT(pfx_buf_str(&text)), P_INT(q.first))));
    return PFX_OK;
}

/* A gap, which its number settles; or one of them, which is found by halves. */
static pfx_result refused(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct queue q;
    PFX_TRY(look(agent->store, &q, err));
    int64_t most = agent->notes.most ? agent->notes.most : BATCH;
    most = queued(&q) < most ? queued(&q) : most;
    if (agent->notes.most == 1) /* it was alone already, and the numbers agreed since */
        PFX_TRY(give_up_first(agent, now_ms, err));
    agent->notes.most = most > 1 ? most / 2 : 1;
    return PFX_OK;
}

pfx_result pfx_notes_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                            struct pfx_error *err)
{
    struct pfx_error fail = answer->fail;
    char line[700];
    if (fail.cls == PFX_CLASS_OK && pfx_msg_int(answer->body, "n") > HIGHEST) {
        pfx_result r = pfx_fail(&fail, PFX_CLASS_INTEGRITY, "operation log", "pfx-hsm", "number",
                                "it says a number that no note can have; look at its log");
        (void)r;
    }
    if (fail.cls == PFX_CLASS_OK)
        return taken(agent, answer, err);
    if (pfx_steps_passing(fail.cls))
        return pfx_steps_again(agent, answer, err);
    if (fail.cls == PFX_CLASS_REFUSED && agent->notes.known)
        PFX_TRY(refused(agent, answer->now_ms, err));
    agent->notes.known = false;
    PFX_TRY(pfx_trouble_set(agent->store, SCOPE, answer->now_ms, &fail, err));
    return pfx_outbox_again(agent->store, answer->job, KIND,
                            answer->now_ms + pfx_agent_backoff(agent, agent->notes.failures++),
                            pfx_error_line(&fail, line, sizeof(line)), err);
}

void pfx_notes_hello(struct pfx_agent *agent)
{
    agent->notes.known = false;
}

/* --- start, stop, and what the clock brings --- */

static pfx_result note_program(struct pfx_agent *agent, const char *event, int64_t at,
                               struct pfx_error *err)
{
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct queue q;
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_note_program(agent->store, event, at, err));
    PFX_TRY(look(agent->store, &q, err));
    if (q.first) /* the queue may be full, and its job lost */
        PFX_TRY(put_job(agent->store, at, at, err));
    return pfx_tx_commit(&tx, err);
}

static void note_start(struct pfx_agent *agent)
{
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = note_program(agent, "agentd.start", agent->notes.start_ms, &err);
    pfx_agent_store_result(agent, r, &err);
    agent->notes.started = pfx_ok(r);
    agent->notes.next_uptime = pfx_uptime_ms() + START_AGAIN;
}

void pfx_notes_start(struct pfx_agent *agent, int64_t now_ms)
{
    agent->notes.start_ms = now_ms;
    agent->notes.hour_uptime = pfx_uptime_ms();
    note_start(agent);
}

/* What the limit of refusals held back. */
static pfx_result tell_refusals(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    struct pfx_tx tx PFX_AUTOTX = {0};
    struct queue q;
    int64_t left;
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    PFX_TRY(pfx_meta_get(store, DROPPED, &left, err));
    PFX_TRY(pfx_meta_set(store, DROPPED, left + agent->notes.untold, err));
    PFX_TRY(look(store, &q, err));
    PFX_TRY(tell_dropped(store, &q, 0, now_ms, &left, err));
    PFX_TRY(put_job(store, now_ms, now_ms, err));
    PFX_TRY(pfx_tx_commit(&tx, err));
    agent->notes.untold = 0;
    return PFX_OK;
}

void pfx_notes_stop(struct pfx_agent *agent, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (!agent->notes.started)
        return;
    pfx_result r = agent->notes.untold ? tell_refusals(agent, now_ms, &err) : PFX_OK;
    if (pfx_ok(r))
        r = note_program(agent, "agentd.stop", now_ms, &err);
    if (pfx_failed(r))
        pfx_log_error(&err, "the operation log won't tell of this stop");
}

void pfx_notes_tick(struct pfx_agent *agent, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t uptime = pfx_uptime_ms();
    if (uptime < agent->notes.next_uptime)
        return;
    agent->notes.next_uptime = uptime + START_AGAIN;
    if (!agent->notes.started && agent->notes.start_ms)
        note_start(agent);
    if (uptime < agent->notes.hour_uptime + PFX_HOUR)
        return;
    pfx_result r = agent->notes.untold ? tell_refusals(agent, now_ms, &err) : PFX_OK;
    pfx_agent_store_result(agent, r, &err);
    if (pfx_ok(r)) {
        agent->notes.hour_uptime = uptime;
        agent->notes.refusals = 0;
    }
}

bool pfx_notes_may_refuse(struct pfx_agent *agent)
{
    if (agent->notes.refusals < PFX_NOTES_REFUSALS) {
        agent->notes.refusals++;
        return true;
    }
    agent->notes.untold++;
    return false;
}

pfx_result pfx_notes_facts(struct pfx_store *store, struct pfx_notes_facts *ret_facts,
                           struct pfx_error *err)
{
    struct queue q;
    PFX_TRY(look(store, &q, err));
    ret_facts->queued = queued(&q);
    PFX_TRY(pfx_db_int(store->db, err, 0, &ret_facts->since,
                       "SELECT at FROM note ORDER BY n LIMIT 1", PFX_NO_PARAMS));
    return pfx_meta_get(store, DROPPED, &ret_facts->dropped, err);
}
