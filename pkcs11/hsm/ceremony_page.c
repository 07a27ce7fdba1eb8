/*
 * A record becomes a page: its text on disk, its hash in the log, the page with the entry's receipt.
 * The text lies under a name that begins with '.' until its page is there; the name's end says from
 * which entry on its own is to be looked for. Such a text is believed only where the log has its
 * hash, so nobody gets words of their own sealed by putting a file there. Before that, what a page is
 * missing for is known by the ceremony's mark (ceremony_begun.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "api/logdir/logdir.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/ceremony_record.h"
#include "pkcs11/hsm/hsmlog_put.h"

#define RECEIPT_MAX (64 * 1024)

pfx_result pfx_record_put(const struct pfx_record_maker *maker, const char *name,
                          struct pfx_bytes content, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", maker->folder, name);
    PFX_TRY(pfx_file_replace(path, content.data, content.len, 0640, err));
    if (maker->readers != (gid_t)-1 &&
        fchownat(AT_FDCWD, path, (uid_t)-1, maker->readers, AT_SYMLINK_NOFOLLOW) < 0)
        return pfx_fail_errno(err, errno, "give to auditors", path, "");
    return PFX_OK;
}

static void hash_of(struct pfx_bytes text, char ret_hex[65])
{
    uint8_t digest[32];
    if (!pfx_sha256(text.data, text.len, digest))
        pfx_die("SHA-256 isn't available");
    pfx_hex(digest, sizeof digest, ret_hex);
}

static void emit(const struct pfx_record_maker *maker, const char *name, const char *ending,
                 const char *sha256, const char *text, const struct pfx_buf *page)
{
    if (!maker->task)
        return;
    struct pfx_msg *item = pfx_task_item(maker->task);
    char file[PFX_RECORD_NAME + 8];
    snprintf(file, sizeof file, "%s.%s", name, ending);
    pfx_msg_set_str(item, "kind", "record");
    pfx_msg_set_str(item, "file", file);
    pfx_msg_set_str(item, "sha256", sha256);
    pfx_msg_set_str(item, "text", text);
    pfx_msg_set_str(item, "page", pfx_buf_str(page));
    pfx_task_emit(maker->task, item);
}

/* Entry `seq` holds the hash of this text, and is covered: the page, in both forms. */
static pfx_result publish(const struct pfx_record_maker *maker, const char *name,
                          struct pfx_logdir *dir, uint64_t seq, struct pfx_bytes text,
                          struct pfx_error *err)
{
    struct pfx_buf entry PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ENTRY_MAX);
    struct pfx_buf receipt PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(RECEIPT_MAX);
    struct pfx_buf page PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_PAGE_MAX);
    struct pfx_buf html PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    struct pfx_minutes_page read PFX_CLEANUP(pfx_minutes_page_done) = {.sha256 = ""};
    char *plain PFX_AUTOFREE = pfx_asprintf("%s.txt", name);
    char *printed PFX_AUTOFREE = pfx_asprintf("%s.html", name);
    PFX_TRY(pfx_logdir_receipt(dir, seq, &receipt, &entry, err));
    if (!pfx_buf_add(&page, text.data, text.len) ||
        !pfx_minutes_seal(&page, pfx_buf_bytes(&entry), pfx_buf_bytes(&receipt)))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write page", name, "", "It is too long.");
    /* As an auditor will read it. */
    PFX_TRY(pfx_minutes_page_parse(pfx_buf_bytes(&page), &read, err));
    if (!pfx_minutes_html(&read, &html))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write page", name, "", "It is too long.");
    PFX_TRY(pfx_record_put(maker, printed, pfx_buf_bytes(&html), err));
    PFX_TRY(pfx_record_put(maker, plain, pfx_buf_bytes(&page), err));
    char *said PFX_AUTOFREE = pfx_asprintf(
        "ceremony record %s/%s, sealed by entry %" PRIu64 " of the operation log", maker->folder,
        plain, seq);
    emit(maker, name, "txt", read.sha256, said, &page);
    emit(maker, name, "html", read.sha256, "the same for a printer", &html);
    return PFX_OK;
}

/* --- what an earlier process left ------------------------------------------------------------- */

struct left {
    char file[PFX_RECORD_NAME + 32], name[PFX_RECORD_NAME];
    uint64_t from;
};

/* ".NAME.NUMBER" */
static bool left_parse(const char *file, struct left *ret_left)
{
    const char *dot = strrchr(file, '.');
    size_t len = strlen(file);
    if (file[0] != '.' || !dot || dot < file + 2 || len >= sizeof ret_left->file ||
        (size_t)(dot - file) > sizeof ret_left->name || !dot[1] || strlen(dot + 1) > 15 ||
        strspn(dot + 1, "0123456789") != strlen(dot + 1))
        return false;
    snprintf(ret_left->file, sizeof ret_left->file, "%s", file);
    snprintf(ret_left->name, sizeof ret_left->name, "%.*s", (int)(dot - file - 1), file + 1);
    ret_left->from = strtoull(dot + 1, NULL, 10);
    return true;
}

/* The first entry from `from` on that holds the hash. */
static bool find_entry(struct pfx_logdir *dir, uint64_t from, const char *sha256, uint64_t *ret_seq)
{
    const struct pfx_checkpoint *checkpoint = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    (void)pfx_logdir_checkpoint(dir, &checkpoint);
    for (uint64_t seq = from; seq < checkpoint->size; seq++) {
        struct pfx_bytes json;
        struct pfx_entry entry;
        if (pfx_failed(pfx_logdir_entry(dir, seq, &json, &ignored)))
            return false;
        if (memmem(json.data, json.len, sha256, 64) &&
            pfx_ok(pfx_entry_read(json, &entry, &ignored)) &&
            pfx_entry_is(&entry, PFX_F_EVENT, "ceremony.record") &&
            pfx_entry_is(&entry, PFX_F_OUT_SHA256, sha256)) {
            *ret_seq = seq;
            return true;
        }
    }
    return false;
}

/* Something that begins with '.', and isn't being written at this moment. */
static bool anything(const char *path)
{
    DIR *folder = opendir(path);
    bool found = false;
    for (struct dirent *e; folder && !found && (e = readdir(folder));)
        found = e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (folder)
        closedir(folder);
    return found;
}

static pfx_result mend_one(const struct pfx_record_maker *maker, const struct left *left,
                           struct pfx_logdir *dir, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", maker->folder, left->file);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    char sha256[65];
    uint64_t seq;
    if (pfx_ok(pfx_file_read(path, PFX_MINUTES_MAX, &text, &why))) {
        hash_of(pfx_buf_bytes(&text), sha256);
        if (find_entry(dir, left->from, sha256, &seq)) {
            PFX_TRY(publish(maker, left->name, dir, seq, pfx_buf_bytes(&text), err));
            pfx_log(PFX_LOG_INFO, "the page of an earlier ceremony was completed: %s", left->name);
        }
    }
    /* Not in the log: its record didn't count yet. Its mark is there (ceremony_begun.c). */
    if (unlink(path) < 0)
        return pfx_fail_errno(err, errno, "remove", path, "");
    return PFX_OK;
}

/* Of a write that was killed (pfx_file_replace): what it was to become is written anew, if at all. */
static bool unfinished(const char *file)
{
    size_t len = strlen(file);
    return file[0] == '.' && len > 4 && strcmp(file + len - 4, ".new") == 0;
}

static pfx_result mend(const struct pfx_record_maker *maker, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    DIR *folder = opendir(maker->folder);
    struct left *list PFX_AUTOFREE = NULL;
    size_t n = 0;
    if (!folder)
        return pfx_fail_errno(err, errno, "list", maker->folder, "");
    for (struct dirent *e; (e = readdir(folder));) {
        if (unfinished(e->d_name))
            (void)unlinkat(dirfd(folder), e->d_name, 0); /* the next one takes it up */
        list = pfx_grow(list, n + 1, sizeof *list);
        n += left_parse(e->d_name, &list[n]);
    }
    closedir(folder);
    if (n > 0)
        PFX_TRY(pfx_logdir_open(maker->hsm->policy->log_dir, &dir, err));
    for (size_t i = 0; i < n; i++)
        PFX_TRY(mend_one(maker, &list[i], dir, err));
    return PFX_OK;
}

/* --- this one --------------------------------------------------------------------------------- */

static pfx_result log_it(const struct pfx_record_maker *maker, const uint8_t sha256[32],
                         uint64_t *ret_seq, struct pfx_error *err)
{
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    pfx_journal_record(&maker->actor, maker->name, sha256, draft);
    return pfx_hsmlog_put(maker->hsm->log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_COVERED, ret_seq,
                          err);
}

pfx_result pfx_record_publish(struct pfx_record_maker *maker, struct pfx_error *err)
{
    struct pfx_hsm *hsm = maker->hsm;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_MAX);
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    struct pfx_oplog_status status;
    uint8_t digest[32];
    uint64_t seq;
    PFX_TRY(pfx_logdir_open(hsm->policy->log_dir, &dir, err));
    pfx_oplog_facts(hsm->log->writer, facts);
    pfx_oplog_status(hsm->log->writer, &status);
    pfx_minutes_set(&maker->record.list[0], PFX_MF_LOG, facts->origin);
    PFX_TRY(pfx_minutes_write(&maker->record, &text, err));
    if (!pfx_sha256(text.data, text.len, digest))
        pfx_die("SHA-256 isn't available");
    char *left PFX_AUTOFREE = pfx_asprintf(".%s.%" PRIu64, maker->name, status.size);
    PFX_TRY(pfx_record_put(maker, left, pfx_buf_bytes(&text), err));
    PFX_TRY(log_it(maker, digest, &seq, err));
    PFX_TRY(pfx_logdir_refresh(dir, err));
    PFX_TRY(publish(maker, maker->name, dir, seq, pfx_buf_bytes(&text), err));
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", maker->folder, left);
    if (unlink(path) < 0)
        return pfx_fail_errno(err, errno, "remove", path, "");
    return PFX_OK;
}

/* --- what isn't written yet ------------------------------------------------------------------- */

#define AGAIN_MS 60000

/* A mark without anything that was done goes, too. */
static pfx_result complete_one(struct pfx_record_maker *maker, const struct pfx_begun *begun,
                               uint64_t to, struct pfx_error *err)
{
    bool page = false;
    PFX_TRY(pfx_record_late(maker, begun, to, &page, err));
    if (page && maker->record.n == PFX_MINUTES_SECTIONS) { /* of one that isn't ours, or was changed */
        pfx_log(PFX_LOG_WARN, "the mark of the ceremony %s names more than a page takes: it is dropped",
                begun->name);
        page = false;
    }
    if (page) {
        PFX_TRY(pfx_record_publish(maker, err));
        pfx_log(PFX_LOG_WARN, "the page of an earlier ceremony was written late: %s/%s.txt",
                maker->folder, maker->name);
    }
    return pfx_begun_remove(maker, begun->name, err);
}

static void names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* A first log, or another one, has no entry that is older than its ceremony. Whatever else began
 * under another log has nothing in this one; false: so it is. */
static bool in_this_log(struct pfx_begun *begun, const char *origin)
{
    if (strcmp(begun->origin, origin) == 0)
        return true;
    if (strcmp(begun->kind, "init") != 0 && strcmp(begun->kind, "log.reopen") != 0)
        return false;
    snprintf(begun->origin, sizeof begun->origin, "%s", origin);
    begun->from = 0;
    return true;
}

/* Ceremonies follow one another: where the next one's entries begin, this one's end. */
static uint64_t end_of(const struct pfx_begun *all, size_t n, size_t at)
{
    for (size_t i = at + 1; i < n; i++)
        if (strcmp(all[i].origin, all[at].origin) == 0)
            return all[i].from;
    return UINT64_MAX;
}

/* own: is being written now, by its ceremony. A record of all keys, as init makes it, is instead of
 * those that an init before it didn't come to. */
static pfx_result complete_all(struct pfx_record_maker *maker, char *const *names, size_t n,
                               const struct pfx_record_maker *own, struct pfx_error *err)
{
    struct pfx_begun *all PFX_AUTOFREE = pfx_alloc_array(n, sizeof *all);
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    pfx_result result = PFX_OK;
    size_t got = 0;
    pfx_oplog_facts(maker->hsm->log->writer, facts);
    for (; got < n && pfx_ok(result); got++)
        result = pfx_begun_read(maker, names[got], &all[got], err);
    got -= pfx_failed(result);
    for (size_t i = 0; i < got && pfx_ok(result); i++) {
        struct pfx_record_maker *late PFX_AUTORECORD = NULL;
        bool here = in_this_log(&all[i], facts->origin);
        if (own && strcmp(own->name, all[i].name) == 0)
            continue;
        if (!here)
            pfx_log(PFX_LOG_WARN,
                    "the ceremony %s has no page: it began under the log %s, which isn't in use any "
                    "more; what it did stands there",
                    all[i].name, all[i].origin);
        if (!here || (own && strcmp(own->kind, "init") == 0 && strcmp(all[i].kind, "init") == 0))
            result = pfx_begun_remove(maker, all[i].name, err);
        else
            result = pfx_record_maker_new(maker->worker, maker->task, &late, err);
        if (late)
            result = complete_one(late, &all[i], end_of(all, got, i), err);
    }
    for (size_t i = 0; i < got; i++)
        pfx_begun_done(&all[i]);
    return result;
}

/* Without these roles nothing is known of the pins, and nothing can be sealed: they are waited for. */
static pfx_result complete(struct pfx_record_maker *maker, const struct pfx_record_maker *own,
                           struct pfx_error *err)
{
    char **names = NULL;
    size_t n = 0;
    PFX_TRY(mend(maker, err));
    PFX_TRY(pfx_hsm_needs(maker->hsm, PFX_NEEDS(PFX_ROLE_USERS) | PFX_NEEDS(PFX_ROLE_LOG), err));
    PFX_TRY(pfx_begun_list(maker->folder, &names, &n, err));
    pfx_result result = complete_all(maker, names, n, own, err);
    names_free(names, n);
    return result;
}

static void later(struct pfx_hsm *hsm, pfx_result result, const struct pfx_error *why)
{
    bool told = hsm->pages_at_ms > 0;
    hsm->pages_at_ms = pfx_failed(result) ? pfx_uptime_ms() + AGAIN_MS : 0;
    if (pfx_failed(result) && !told)
        pfx_log_error(why, "the page of an earlier ceremony can't be written yet; that is tried again "
                           "every minute, and by pfx-agent init");
}

void pfx_record_complete(struct pfx_worker *worker, struct pfx_task *task)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_record_maker *maker PFX_AUTORECORD = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    char *folder PFX_AUTOFREE = pfx_hsm_path(hsm, "ceremonies");
    if (!anything(folder)) {
        hsm->pages_at_ms = 0;
        return;
    }
    pfx_result result = pfx_record_maker_new(worker, task, &maker, &why);
    if (pfx_ok(result))
        result = complete(maker, NULL, &why);
    later(hsm, result, &why);
}

static pfx_result finish(struct pfx_record_maker *maker, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    later(maker->hsm, complete(maker, maker, &why), &why);
    PFX_TRY(pfx_record_publish(maker, err));
    PFX_TRY(pfx_begun_remove(maker, maker->name, err));
    maker->begun = false;
    return PFX_OK;
}

void pfx_record_end(struct pfx_record_maker *maker)
{
    struct pfx_error why = PFX_ERROR_NONE;
    char line[800];
    if (!maker)
        return;
    if (pfx_failed(finish(maker, &why)))
        pfx_task_say(maker->task, "note",
                     "its page couldn't be written; pfx-hsm tries again every minute, and so does "
                     "pfx-agent init: %s",
                     pfx_error_line(&why, line, sizeof line));
    pfx_hsmlog_settle(maker->hsm);
}

pfx_result pfx_record_finish(struct pfx_record_maker *maker, struct pfx_error *err)
{
    return maker ? finish(maker, err) : PFX_OK;
}
