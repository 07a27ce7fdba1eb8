/* Enrolments for the CLI: choosing them, showing them, acting on each. */
#include <stdio.h>
#include <string.h>

#include "agent/counter.h"
#include "agent/item.h"
#include "agent/outbox.h"
#include "agent/verbs.h"
#include "agent/words.h"
#include "crypto/encode.h"

#define AT_ONCE 64 /* enrolments of one round: the others have their turn too */

static void read_selection(struct pfx_asker *asker, const struct pfx_msg *args)
{
    const char *user = pfx_msg_str(args, "user"), *state = pfx_msg_str(args, "state");
    asker->select = (struct pfx_selection){
        .enrolment = pfx_msg_int(args, "enrolment"),
        .user = user ? pfx_strdup(user) : NULL,
        .state = state ? pfx_strdup(state) : NULL,
    };
}

static pfx_result check_selection(const struct pfx_msg *args, bool needed, struct pfx_error *err)
{
    enum pfx_state state;
    bool any =
        pfx_msg_has(args, "enrolment") || pfx_msg_has(args, "user") || pfx_msg_has(args, "state");
    if (needed && !any && !pfx_msg_bool(args, "all"))
        return pfx_fail(err, PFX_CLASS_USAGE, "enrolment", "selection", "",
                        "say which: an enrolment's number, --user, --state or --all");
    if (pfx_msg_has(args, "state") && !pfx_state_parse(pfx_msg_str(args, "state"), &state))
        return pfx_fail(err, PFX_CLASS_USAGE, "enrolment", pfx_msg_str(args, "state"), "",
                        "there is no such state; NEW, KEYED, ORDERED, ISSUED, CHECKED, SEALED, "
                        "IMPORTED, ACTIVE, HELD, FAILED and ENDED are");
    return PFX_OK;
}

/* The next selected one; id 0 at the end. */
static pfx_result next_selected(struct pfx_asker *asker, struct pfx_enrolment *ret_e,
                                struct pfx_error *err)
{
    struct pfx_selection *s = &asker->select;
    if (s->enrolment) {
        if (s->after)
            return PFX_OK;
        s->after = s->enrolment;
        PFX_TRY(pfx_enrolment_load(asker->agent->store, s->enrolment, ret_e, err));
        if (ret_e->id == 0)
            return pfx_fail(err, PFX_CLASS_USAGE, "enrolment", "number", "",
                            "there is no enrolment %lld; pfx-agent enrolment list shows those that "
                            "are",
                            (long long)s->enrolment);
        return PFX_OK;
    }
    PFX_TRY(pfx_enrolment_after(asker->agent->store, s->after, s->user, s->state, ret_e, err));
    if (ret_e->id)
        s->after = ret_e->id;
    return PFX_OK;
}

static pfx_result add_history(struct pfx_asker *asker, int64_t id, struct pfx_msg *body,
                              struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    struct pfx_db *db = asker->agent->store->db;
    PFX_TRY(
        pfx_db_select(db, err, &stmt,
                      "SELECT at, what FROM (SELECT id, at, what FROM history WHERE enrolment = ?"
                      " ORDER BY id DESC LIMIT 200) ORDER BY id",
                      PFX_PARAMS(P_INT(id))));
    while (true) {
        PFX_TRY(pfx_db_next(db, stmt, &row, err));
        if (!row)
            return PFX_OK;
        char when[PFX_TIME_SIZE];
        char *line PFX_AUTOFREE =
            pfx_asprintf("%s %s", pfx_time_format(sqlite3_column_int64(stmt, 0), true, when),
                         (const char *)sqlite3_column_text(stmt, 1));
        pfx_item_add(body, "history", line, 1000);
    }
}

pfx_result pfx_verbs_item(struct pfx_asker *asker, const struct pfx_enrolment *e, bool history,
                          struct pfx_error *err)
{
    struct pfx_user_row user PFX_AUTOUSER = {0};
    PFX_AUTOSTRINGS struct pfx_strings addresses = {0}, unvalidated = {0};
    struct pfx_words words;
    int64_t due;
    PFX_TRY(pfx_user_load(asker->agent->store, e->user, &user, err));
    PFX_TRY(pfx_db_int(asker->agent->store->db, err, 0, &due,
                       "SELECT min(not_before) FROM job WHERE enrolment = ? AND sent_at IS NULL",
                       PFX_PARAMS(P_INT(e->id))));
    pfx_words_for(asker->agent, e, &words);
    struct pfx_msg *body PFX_AUTOMSG = pfx_asker_body(asker);
    pfx_msg_set_int(body, "enrolment", e->id);
    pfx_msg_set_str(body, "user", e->user);
    pfx_item_str(body, "upn", user.upn ? user.upn : e->user, 1024);
    pfx_item_str(body, "name", user.display, 1024);
    pfx_item_str(body, "rule", e->rule, 64);
    pfx_msg_set_str(body, "purpose", e->purpose);
    pfx_msg_set_int(body, "attempt", e->attempt);
    pfx_msg_set_str(body, "state", e->state);
    pfx_item_str(body, "why", words.why, 1000);
    pfx_item_str(body, "next", words.next, 639);
    /* What is paid for stands in the outbox with an early time, to go first. */
    pfx_item_int(body, "due", due > 0 && due < e->changed_at ? e->changed_at : due);
    pfx_msg_set_int(body, "changed", e->changed_at);
    pfx_item_int(body, "order_id", e->order_id);
    if (pfx_strings_parse(e->addresses, &addresses))
        for (size_t i = 0; i < addresses.n; i++)
            pfx_msg_add_str(body, "addresses", addresses.v[i]);
    if (e->at == PFX_ORDERED && pfx_strings_parse(e->unvalidated, &unvalidated))
        for (size_t i = 0; i < unvalidated.n; i++)
            pfx_msg_add_str(body, "unvalidated", unvalidated.v[i]);
    pfx_item_str(body, "thumbprint", e->thumbprint, 40);
    pfx_item_str(body, "record_id", e->record_id, 128);
    pfx_item_str(body, "tier", e->tier, 16);
    pfx_item_int(body, "generation", e->generation);
    if (e->pfx_sha.len == 32) {
        char hex[65];
        pfx_msg_set_str(body, "pfx_sha256", pfx_hex(e->pfx_sha.data, e->pfx_sha.len, hex));
    }
    pfx_item_int(body, "expires", e->expires);
    if (e->key_gone_at || e->key_going_at || e->key_ref)
        pfx_msg_set_str(body, "key", e->key_gone_at     ? "destroyed"
                                     : e->key_going_at ? "going"
                                                       : "kept");
    pfx_item_int(body, "key_gone", e->key_gone_at);
    if (history)
        PFX_TRY(add_history(asker, e->id, body, err));
    pfx_asker_item(asker, PFX_TAKE(body));
    return PFX_OK;
}

static void step_list(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool show = strcmp(asker->verb->name, "enrolment.show") == 0;
    (void)now_ms;
    for (int i = 0; i < AT_ONCE; i++) {
        struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
        pfx_result r = next_selected(asker, &e, &err);
        if (pfx_ok(r) && e.id == 0) {
            if (show && asker->select.done == 0) {
                r = pfx_fail(&err, PFX_CLASS_USAGE, "enrolment show", "selection", "",
                             "no enrolment fits; pfx-agent enrolment list shows those that are");
                pfx_asker_fail(asker, &err);
            } else {
                pfx_asker_end(asker, 0, NULL);
            }
            return;
        }
        if (pfx_ok(r))
            r = pfx_verbs_item(asker, &e, show, &err);
        if (pfx_failed(r)) {
            pfx_asker_fail(asker, &err);
            return;
        }
        asker->select.done++;
    }
}

/* needed: the request has to say which. act: what step_act does with them. */
static void begin(struct pfx_asker *asker, const struct pfx_msg *args, bool needed,
                  void (*step)(struct pfx_asker *, int64_t), pfx_act_fn act)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(check_selection(args, needed, &err))) {
        pfx_asker_fail(asker, &err);
        return;
    }
    read_selection(asker, args);
    asker->select.act = act;
    asker->step = step;
}

void pfx_verb_list(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                   int64_t now_ms)
{
    (void)agent, (void)now_ms;
    begin(asker, args, false, step_list, NULL);
}

void pfx_verb_show(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                   int64_t now_ms)
{
    (void)agent, (void)now_ms;
    begin(asker, args, true, step_list, NULL);
}

static pfx_result act_once(struct pfx_asker *asker, int64_t id, int64_t now_ms,
                           struct pfx_error *err)
{
    struct pfx_agent *agent = asker->agent;
    struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
    struct pfx_enrolment after PFX_AUTOENROLMENT = {0};
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, agent->store->db, err));
    PFX_TRY(pfx_enrolment_load(agent->store, id, &e, err));
    PFX_TRY(asker->select.act(asker, &e, now_ms, err));
    PFX_TRY(pfx_asker_note(asker, id, NULL, now_ms, err));
    PFX_TRY(pfx_tx_commit(&tx, err));
    PFX_TRY(pfx_enrolment_load(agent->store, id, &after, err));
    return pfx_verbs_item(asker, &after, false, err);
}

/* One named enrolment that can't be acted on is an error; of several, those that can are. */
static void step_act(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_selection *s = &asker->select;
    for (int i = 0; i < AT_ONCE; i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        struct pfx_enrolment e PFX_AUTOENROLMENT = {0};
        pfx_result r = next_selected(asker, &e, &err);
        if (pfx_ok(r) && e.id == 0) {
            if (s->done) {
                pfx_asker_end(asker, 0, NULL);
                return;
            }
            r = pfx_fail(
                &err, PFX_CLASS_REFUSED, asker->verb->name, "selection", "",
                "no enrolment fits, or none of those that do is in a state for it%s; pfx-agent "
                "enrolment list shows them",
                strcmp(asker->verb->name, "enrolment.release") == 0
                    ? " (a lost order goes by the enrolment's number only)"
                    : "");
        }
        if (pfx_ok(r))
            r = act_once(asker, e.id, now_ms, &err);
        if (pfx_ok(r)) {
            s->done++;
            continue;
        }
        if (r.cls == PFX_CLASS_REFUSED && e.id && !s->enrolment) {
            s->refused++;
            continue;
        }
        pfx_asker_fail(asker, &err);
        return;
    }
}

void pfx_verbs_act(struct pfx_asker *asker, const struct pfx_msg *args, pfx_act_fn act)
{
    begin(asker, args, true, step_act, act);
}
