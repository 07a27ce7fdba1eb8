#include "agent/mailbox.h"

#include <stdio.h>
#include <string.h>

/* Rights are asked for mailbox by mailbox: so many at once. */
#define AT_ONCE 8
#define MOST_PAGES 2000
/* Then the last reading is good enough: Exchange away for a day holds nobody else. */
#define MOST_TRIES 8
/* Addresses that one user is looked at for: far more than a certificate has. A service account may
 * open every mailbox there is. */
#define MOST_ADDRESSES 1000
#define LIST_SCOPE "pass/mailboxes"
#define RIGHTS_SCOPE "pass/mailbox/"

/* How far a mailbox of the reading is. */
enum { RIGHTS_NOT_ASKED, RIGHTS_ASKED, RIGHTS_READ };

static bool wanted(const struct pfx_agent *agent)
{
    for (size_t i = 0; i < agent->conf->n_rules; i++)
        if (agent->conf->rules[i].shared_mailboxes)
            return true;
    return false;
}

static pfx_result put_job(struct pfx_agent *agent, const char *scope, const char *kind,
                          const char *id, const char *page, int64_t now_ms, struct pfx_error *err)
{
    const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, kind);
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(pair->request);
    if (id)
        pfx_msg_set_str(body, "id", id);
    if (page)
        pfx_msg_set_str(body, "page", page);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(pair->request->ceiling);
    PFX_TRY(pfx_msg_encode(body, false, &text, err));
    return pfx_outbox_add(agent->store, scope, NULL, kind, pfx_buf_str(&text), now_ms, now_ms, err);
}

/* Everything but the reading of this time. */
static pfx_result keep_only(struct pfx_store *store, int64_t read_at, struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(store->db, err, NULL, "DELETE FROM mailbox_right WHERE read_at <> ?",
                        PFX_PARAMS(P_INT(read_at))));
    return pfx_db_exec(store->db, err, NULL, "DELETE FROM mailbox WHERE read_at <> ?",
                       PFX_PARAMS(P_INT(read_at)));
}

static pfx_result stop_reading(struct pfx_store *store, struct pfx_error *err)
{
    PFX_TRY(pfx_db_exec(store->db, err, NULL,
                        "DELETE FROM job WHERE kind IN ('up.mailboxes', 'up.mailbox_rights')",
                        PFX_NO_PARAMS));
    return pfx_meta_set(store, "mailboxes_reading", 0, err);
}

pfx_result pfx_mailboxes_begin(struct pfx_agent *agent, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    int64_t read;
    PFX_TRY(pfx_meta_get(store, "mailboxes_read", &read, err));
    PFX_TRY(stop_reading(store, err));
    if (!wanted(agent)) {
        PFX_TRY(pfx_meta_set(store, "mailboxes_read", 0, err));
        PFX_TRY(pfx_trouble_clear(store, "mailboxes", err));
        return keep_only(store, 0, err);
    }
    if (read > 0 && read <= now_ms && now_ms < read + agent->conf->mailboxes_every_ms)
        return PFX_OK;
    PFX_TRY(keep_only(store, read, err)); /* what a reading left that failed */
    PFX_TRY(pfx_meta_set(store, "mailboxes_reading", now_ms == read ? now_ms + 1 : now_ms, err));
    PFX_TRY(pfx_meta_set(store, "mailboxes_pages", 0, err));
    return put_job(agent, LIST_SCOPE, "up.mailboxes", NULL, NULL, now_ms, err);
}

bool pfx_mailboxes_kind(const char *kind)
{
    return strcmp(kind, "up.mailboxes") == 0 || strcmp(kind, "up.mailbox_rights") == 0;
}

/* The reading ends without an effect: what is in force stays so, and status says why. */
static pfx_result give_up(struct pfx_agent *agent, const struct pfx_error *why, int64_t now_ms,
                          struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    struct pfx_error what = *why;
    char when[PFX_TIME_SIZE], line[700];
    int64_t read;
    PFX_TRY(pfx_meta_get(store, "mailboxes_read", &read, err));
    pfx_time_format(read, false, when);
    size_t most = sizeof(what.text) - 160, n = strnlen(what.text, most);
    snprintf(what.text + n, sizeof(what.text) - n,
             read ? " (the shared mailboxes stay as they were read at %s; the next pass reads them "
                    "again)"
                  : " (they were never read: who needs them waits; the next pass reads them again)",
             when);
    PFX_TRY(pfx_note(store, now_ms, 0, NULL, err, "shared mailboxes: %s",
                     pfx_error_line(&what, line, sizeof(line))));
    PFX_TRY(stop_reading(store, err));
    PFX_TRY(keep_only(store, read, err));
    return pfx_trouble_set(store, "mailboxes", now_ms, &what, err);
}

static pfx_result whole(struct pfx_agent *agent, int64_t reading, int64_t now_ms,
                        struct pfx_error *err)
{
    struct pfx_store *store = agent->store;
    int64_t mailboxes, users;
    PFX_TRY(stop_reading(store, err));
    PFX_TRY(pfx_meta_set(store, "mailboxes_read", reading, err));
    PFX_TRY(keep_only(store, reading, err));
    PFX_TRY(pfx_trouble_clear(store, "mailboxes", err));
    PFX_TRY(pfx_db_int(store->db, err, 0, &mailboxes, "SELECT count(*) FROM mailbox",
                       PFX_NO_PARAMS));
    PFX_TRY(pfx_db_int(store->db, err, 0, &users, "SELECT count(DISTINCT upn) FROM mailbox_right",
                       PFX_NO_PARAMS));
    return pfx_note(store, now_ms, 0, NULL, err,
                    "%lld shared mailboxes were read; %lld users may open one",
                    (long long)mailboxes, (long long)users);
}

/* Keeps AT_ONCE questions for rights out; the reading is whole when none is left. */
static pfx_result ask_rights(struct pfx_agent *agent, int64_t reading, int64_t now_ms,
                             struct pfx_error *err)
{
    struct pfx_db *db = agent->store->db;
    int64_t out;
    PFX_TRY(pfx_db_int(db, err, 0, &out,
                       "SELECT count(*) FROM mailbox WHERE read_at = ? AND rights = 1",
                       PFX_PARAMS(P_INT(reading))));
    for (; out < AT_ONCE; out++) {
        sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
        bool row;
        PFX_TRY(pfx_db_select(db, err, &stmt,
                              "SELECT id FROM mailbox WHERE read_at = ? AND rights = 0"
                              " ORDER BY id LIMIT 1",
                              PFX_PARAMS(P_INT(reading))));
        PFX_TRY(pfx_db_next(db, stmt, &row, err));
        if (!row)
            return out ? PFX_OK : whole(agent, reading, now_ms, err);
        char *id PFX_AUTOFREE = pfx_col_text(stmt, 0);
        char *scope PFX_AUTOFREE = pfx_asprintf(RIGHTS_SCOPE "%s", id);
        pfx_db_done(&stmt);
        PFX_TRY(put_job(agent, scope, "up.mailbox_rights", id, NULL, now_ms, err));
        PFX_TRY(pfx_db_exec(db, err, NULL,
                            "UPDATE mailbox SET rights = ? WHERE read_at = ? AND id = ?",
                            PFX_PARAMS(P_INT(RIGHTS_ASKED), P_INT(reading), P_TEXT(id))));
    }
    return PFX_OK;
}

/* Only mail addresses are kept; the rest is none of our business. */
static pfx_result keep_mailbox(struct pfx_store *store, const struct pfx_msg *m, int64_t reading,
                               struct pfx_error *err)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    for (size_t i = 0; i < pfx_msg_count(m, "addresses"); i++) {
        const char *address = pfx_proxy_address(pfx_msg_str_at(m, "addresses", i));
        if (address && *address && !pfx_address_technical(address))
            pfx_strings_add(&list, address);
    }
    char *addresses PFX_AUTOFREE = pfx_strings_json(&list);
    return pfx_db_exec(store->db, err, NULL,
                       "INSERT INTO mailbox(read_at, id, addresses) VALUES(?, ?, ?)"
                       " ON CONFLICT(read_at, id) DO UPDATE SET addresses = excluded.addresses",
                       PFX_PARAMS(P_INT(reading), P_TEXT(pfx_msg_str(m, "id")),
                                  P_TEXT(addresses)));
}

static pfx_result list_page(struct pfx_agent *agent, const struct pfx_answer *answer,
                            int64_t reading, struct pfx_error *err)
{
    for (size_t i = 0; i < pfx_msg_count(answer->body, "mailboxes"); i++)
        PFX_TRY(keep_mailbox(agent->store, pfx_msg_obj_at(answer->body, "mailboxes", i), reading,
                             err));
    const char *page = pfx_msg_str(answer->body, "page");
    if (page)
        return put_job(agent, LIST_SCOPE, answer->job->kind, NULL, page, answer->now_ms, err);
    return ask_rights(agent, reading, answer->now_ms, err);
}

static pfx_result rights_read(struct pfx_agent *agent, const struct pfx_answer *answer,
                              int64_t reading, struct pfx_error *err)
{
    const char *id = answer->job->scope + strlen(RIGHTS_SCOPE);
    for (size_t i = 0; i < pfx_msg_count(answer->body, "users"); i++)
        PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                            "INSERT INTO mailbox_right(read_at, upn, mailbox) VALUES(?, ?, ?)"
                            " ON CONFLICT DO NOTHING",
                            PFX_PARAMS(P_INT(reading),
                                       P_TEXT(pfx_msg_str_at(answer->body, "users", i)),
                                       P_TEXT(id))));
    PFX_TRY(pfx_db_exec(agent->store->db, err, NULL,
                        "UPDATE mailbox SET rights = ? WHERE read_at = ? AND id = ?",
                        PFX_PARAMS(P_INT(RIGHTS_READ), P_INT(reading), P_TEXT(id))));
    return ask_rights(agent, reading, answer->now_ms, err);
}

/* A service whose every page leads to another. */
static pfx_result count_page(struct pfx_agent *agent, const struct pfx_answer *answer,
                             bool *ret_endless, struct pfx_error *err)
{
    int64_t pages;
    *ret_endless = false;
    if (!pfx_msg_str(answer->body, "page"))
        return PFX_OK;
    PFX_TRY(pfx_meta_get(agent->store, "mailboxes_pages", &pages, err));
    PFX_TRY(pfx_meta_set(agent->store, "mailboxes_pages", pages + 1, err));
    *ret_endless = pages + 1 >= MOST_PAGES;
    return PFX_OK;
}

pfx_result pfx_mailboxes_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                struct pfx_error *err)
{
    const struct pfx_job_row *job = answer->job;
    int64_t reading;
    if (pfx_steps_passing(answer->fail.cls) && job->tries < MOST_TRIES)
        return pfx_steps_again(agent, answer, err);
    PFX_TRY(pfx_outbox_drop(agent->store, job->id, err));
    PFX_TRY(pfx_meta_get(agent->store, "mailboxes_reading", &reading, err));
    if (!reading)
        return PFX_OK; /* given up meanwhile */
    if (answer->fail.cls != PFX_CLASS_OK)
        return give_up(agent, &answer->fail, answer->now_ms, err);
    if (strcmp(job->kind, "up.mailbox_rights") == 0)
        return rights_read(agent, answer, reading, err);
    bool endless;
    PFX_TRY(count_page(agent, answer, &endless, err));
    if (endless) {
        struct pfx_error what = PFX_ERROR_NONE;
        pfx_result r = pfx_fail(&what, PFX_CLASS_INTEGRITY, "read shared mailboxes", "Exchange", "",
                                "the list doesn't end: %d pages were read. Next: look at it in "
                                "Exchange",
                                MOST_PAGES);
        (void)r;
        return give_up(agent, &what, answer->now_ms, err);
    }
    return list_page(agent, answer, reading, err);
}

void pfx_mailboxes_done(struct pfx_mailboxes *mailboxes)
{
    pfx_strings_done(&mailboxes->id);
    pfx_strings_done(&mailboxes->address);
}

pfx_result pfx_mailboxes_of(struct pfx_store *store, const char *upn,
                            struct pfx_mailboxes *ret_mailboxes, struct pfx_error *err)
{
    PFX_AUTOMAILBOXES struct pfx_mailboxes found = {0};
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    int64_t read;
    PFX_TRY(pfx_meta_get(store, "mailboxes_read", &read, err));
    found.read = read > 0;
    PFX_TRY(pfx_db_select(store->db, err, &stmt,
                          /* CROSS: the user's rights first, never all mailboxes for each user. */
                          "SELECT m.id, m.addresses FROM mailbox_right r CROSS JOIN mailbox m"
                          " ON m.read_at = r.read_at AND m.id = r.mailbox"
                          " WHERE r.read_at = ? AND r.upn = ? ORDER BY r.mailbox",
                          PFX_PARAMS(P_INT(read), P_TEXT(upn))));
    while (found.read && !found.too_many) {
        PFX_AUTOSTRINGS struct pfx_strings list = {0};
        bool row;
        PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
        if (!row)
            break;
        const char *id = (const char *)sqlite3_column_text(stmt, 0);
        if (!pfx_strings_parse((const char *)sqlite3_column_text(stmt, 1), &list))
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read shared mailboxes", id, "",
                            "the addresses in the store are damaged; restore it from a backup");
        found.too_many = found.id.n + list.n > MOST_ADDRESSES;
        for (size_t i = 0; i < list.n && !found.too_many; i++) {
            pfx_strings_add(&found.id, id);
            pfx_strings_add(&found.address, list.v[i]);
        }
    }
    *ret_mailboxes = found;
    found = (struct pfx_mailboxes){0};
    return PFX_OK;
}
