#include "agent/user.h"

#include <string.h>
#include <sys/random.h>

#include "crypto/encode.h"

void pfx_user_done(struct pfx_user_row *user)
{
    free(user->id);
    free(user->hex);
    free(user->upn);
    free(user->display);
    free(user->given);
    free(user->surname);
    free(user->mail);
    free(user->proxies);
    free(user->trouble);
    memset(user, 0, sizeof(*user));
}

bool pfx_user_id_ok(const char *id)
{
    if (strlen(id) != 36)
        return false;
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? id[i] != '-' : !strchr("0123456789abcdef", id[i]))
            return false;
    }
    return true;
}

static void add_part(struct pfx_buf *text, const char *part)
{
    pfx_buf_addf(text, "%zu:%s,", part ? strlen(part) : 0, part ? part : "");
}

/* A hash of everything that is kept, so that an unchanged user costs no write. */
static void snapshot(const struct pfx_msg *m, const char *proxies, uint8_t ret_hash[32])
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make((size_t)8 << 20);
    static const char *const names[] = {"upn", "display", "given", "surname", "mail"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        add_part(&text, pfx_msg_str(m, names[i]));
    add_part(&text, proxies);
    pfx_buf_addf(&text, "%d,%lld", pfx_msg_bool(m, "enabled"),
                 (long long)pfx_msg_int(m, "hire_date"));
    if (!pfx_sha256(text.data, text.len, ret_hash))
        pfx_die("SHA-256 failed");
}

/* Only mail addresses are kept of the proxy addresses; the rest is none of our business. */
static char *mail_proxies(const struct pfx_msg *m)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    for (size_t i = 0; i < pfx_msg_count(m, "proxies"); i++) {
        const char *proxy = pfx_msg_str_at(m, "proxies", i);
        if (pfx_proxy_address(proxy))
            pfx_strings_add(&list, proxy);
    }
    return pfx_strings_json(&list);
}

/* As pfx-hsm names a user in the operation log. */
static void hash_for_log(const char *id, const uint8_t salt[16], uint8_t ret_hash[32])
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    pfx_buf_add(&text, salt, 16);
    pfx_buf_add_str(&text, id);
    if (!pfx_sha256(text.data, text.len, ret_hash))
        pfx_die("OpenSSL has no SHA-256");
}

pfx_result pfx_user_put(struct pfx_store *store, const struct pfx_msg *m, int64_t pass,
                        struct pfx_error *err)
{
    const char *id = pfx_msg_str(m, "id");
    if (!pfx_user_id_ok(id))
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "read members", id, "",
            "this isn't an object id; pfx-uploader and pfx-agentd must be of one release");
    char hex[33];
    size_t n = 0;
    for (const char *p = id; *p; p++)
        if (*p != '-')
            hex[n++] = *p;
    hex[n] = '\0';
    char *proxies PFX_AUTOFREE = mail_proxies(m);
    uint8_t hash[32], salt[16], log_hash[32];
    snapshot(m, proxies, hash);
    if (getrandom(salt, sizeof(salt), 0) != sizeof(salt))
        pfx_die("no randomness");
    hash_for_log(id, salt, log_hash);
    int64_t hire = pfx_msg_int(m, "hire_date");
    return pfx_db_exec(
        store->db, err, NULL,
        "INSERT INTO user(id, hex, upn, enabled, display, given, surname, mail, proxies, hire_date,"
        " snapshot_hash, seen_pass, salt, log_hash) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,"
        " ?11, ?12, ?13, ?14) ON CONFLICT(id) DO UPDATE SET upn = excluded.upn, enabled = "
        "excluded.enabled,"
        " display = excluded.display, given = excluded.given, surname = excluded.surname,"
        " mail = excluded.mail, proxies = excluded.proxies, hire_date = excluded.hire_date,"
        " snapshot_hash = excluded.snapshot_hash, seen_pass = excluded.seen_pass"
        " WHERE snapshot_hash <> excluded.snapshot_hash",
        PFX_PARAMS(P_TEXT(id), P_TEXT(hex), P_TEXT(pfx_msg_str(m, "upn")),
                   P_INT(pfx_msg_bool(m, "enabled")), P_TEXT(pfx_msg_str(m, "display")),
                   P_TEXT(pfx_msg_str(m, "given")), P_TEXT(pfx_msg_str(m, "surname")),
                   P_TEXT(pfx_msg_str(m, "mail")), P_TEXT(proxies), P_INT_OR_NULL(hire),
                   P_BLOB(((struct pfx_bytes){hash, sizeof(hash)})), P_INT(pass),
                   P_BLOB(((struct pfx_bytes){salt, sizeof(salt)})),
                   P_BLOB(((struct pfx_bytes){log_hash, sizeof(log_hash)}))));
}

pfx_result pfx_user_hash_all(struct pfx_store *store, struct pfx_error *err)
{
    char *last PFX_AUTOFREE = pfx_strdup("");
    struct pfx_tx tx PFX_AUTOTX = {0};
    PFX_TRY(pfx_tx_begin(&tx, store->db, err));
    while (true) {
        sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
        uint8_t log_hash[32];
        bool row;
        PFX_TRY(pfx_db_select(store->db, err, &stmt,
                              "SELECT id, salt FROM user WHERE log_hash IS NULL"
                              " AND length(salt) = 16 AND id > ? ORDER BY id LIMIT 1",
                              PFX_PARAMS(P_TEXT(last))));
        PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
        if (!row)
            return pfx_tx_commit(&tx, err);
        free(last);
        last = pfx_col_text(stmt, 0);
        hash_for_log(last, sqlite3_column_blob(stmt, 1), log_hash);
        pfx_db_done(&stmt);
        PFX_TRY(pfx_db_exec(
            store->db, err, NULL, "UPDATE user SET log_hash = ? WHERE id = ?",
            PFX_PARAMS(P_BLOB(((struct pfx_bytes){log_hash, sizeof(log_hash)})), P_TEXT(last))));
    }
}

pfx_result pfx_user_load(struct pfx_store *store, const char *id, struct pfx_user_row *ret_user,
                         struct pfx_error *err)
{
    sqlite3_stmt *stmt PFX_AUTOSTMT = NULL;
    bool row;
    memset(ret_user, 0, sizeof(*ret_user));
    PFX_TRY(pfx_db_select(store->db, err, &stmt,
                          "SELECT id, hex, upn, display, given, surname, mail, proxies, enabled,"
                          " hire_date, salt, trouble FROM user WHERE id = ?",
                          PFX_PARAMS(P_TEXT(id))));
    PFX_TRY(pfx_db_next(store->db, stmt, &row, err));
    if (!row)
        return PFX_OK;
    /* Not a failure: one damaged row must not keep the others from being read. */
    ret_user->damaged = sqlite3_column_bytes(stmt, 10) != sizeof(ret_user->salt);
    char **texts[] = {&ret_user->id,    &ret_user->hex,     &ret_user->upn,  &ret_user->display,
                      &ret_user->given, &ret_user->surname, &ret_user->mail, &ret_user->proxies};
    for (int i = 0; i < 8; i++)
        *texts[i] = pfx_col_text(stmt, i);
    ret_user->enabled = sqlite3_column_int64(stmt, 8) != 0;
    ret_user->hire_date = sqlite3_column_int64(stmt, 9);
    if (!ret_user->damaged)
        memcpy(ret_user->salt, sqlite3_column_blob(stmt, 10), sizeof(ret_user->salt));
    ret_user->trouble = pfx_col_text(stmt, 11);
    return PFX_OK;
}
