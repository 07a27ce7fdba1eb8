/*
 * A record becomes a page: its text on disk, its hash in the log, the page with the entry's receipt.
 * The text lies under a name that begins with '.' until its page is there; the name's end says from
 * which entry on its own is to be looked for. Such a text is believed only where the log has its
 * hash, so nobody gets words of their own sealed by putting a file there.
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

#define NAME_SIZE 80
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
    struct pfx_msg *item = pfx_task_item(maker->task);
    char file[NAME_SIZE + 8];
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
    char file[NAME_SIZE + 32], name[NAME_SIZE];
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
    /* Not in the log: that ceremony ended before its record counted. */
    if (unlink(path) < 0)
        return pfx_fail_errno(err, errno, "remove", path, "");
    return PFX_OK;
}

static pfx_result mend(const struct pfx_record_maker *maker, struct pfx_logdir *dir,
                       struct pfx_error *err)
{
    DIR *folder = opendir(maker->folder);
    struct left *list PFX_AUTOFREE = NULL;
    size_t n = 0;
    if (!folder)
        return pfx_fail_errno(err, errno, "list", maker->folder, "");
    for (struct dirent *e; (e = readdir(folder));) {
        list = pfx_grow(list, n + 1, sizeof *list);
        n += left_parse(e->d_name, &list[n]);
    }
    closedir(folder);
    for (size_t i = 0; i < n; i++)
        PFX_TRY(mend_one(maker, &list[i], dir, err));
    return PFX_OK;
}

/* --- this one --------------------------------------------------------------------------------- */

/* "20261123T130000123Z-init" */
static void name_of(const struct pfx_record_maker *maker, char ret_name[NAME_SIZE])
{
    char time[PFX_TIME_SIZE];
    size_t n = 0;
    pfx_time_format(maker->at_ms, true, time);
    for (const char *at = time; *at; at++)
        if (!strchr("-:.", *at))
            ret_name[n++] = *at;
    snprintf(ret_name + n, NAME_SIZE - n, "-%s", maker->kind);
}

static pfx_result log_it(const struct pfx_record_maker *maker, const char *name,
                         const uint8_t sha256[32], uint64_t *ret_seq, struct pfx_error *err)
{
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    pfx_journal_record(&maker->task->actor, name, sha256, draft);
    return pfx_hsmlog_put(maker->hsm->log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_COVERED, ret_seq,
                          err);
}

static pfx_result finish(struct pfx_record_maker *maker, struct pfx_error *err)
{
    struct pfx_hsm *hsm = maker->hsm;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_MAX);
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    struct pfx_oplog_status status;
    char name[NAME_SIZE];
    uint8_t digest[32];
    uint64_t seq;
    PFX_TRY(pfx_logdir_open(hsm->policy->log_dir, &dir, err));
    PFX_TRY(mend(maker, dir, err));
    pfx_oplog_facts(hsm->log->writer, facts);
    pfx_oplog_status(hsm->log->writer, &status);
    pfx_minutes_set(&maker->record.list[0], PFX_MF_LOG, facts->origin);
    PFX_TRY(pfx_minutes_write(&maker->record, &text, err));
    if (!pfx_sha256(text.data, text.len, digest))
        pfx_die("SHA-256 isn't available");
    name_of(maker, name);
    char *left PFX_AUTOFREE = pfx_asprintf(".%s.%" PRIu64, name, status.size);
    PFX_TRY(pfx_record_put(maker, left, pfx_buf_bytes(&text), err));
    PFX_TRY(log_it(maker, name, digest, &seq, err));
    PFX_TRY(pfx_logdir_refresh(dir, err));
    PFX_TRY(publish(maker, name, dir, seq, pfx_buf_bytes(&text), err));
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", maker->folder, left);
    if (unlink(path) < 0)
        return pfx_fail_errno(err, errno, "remove", path, "");
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
                     "its record couldn't be written, the next ceremony tries again: %s",
                     pfx_error_line(&why, line, sizeof line));
    pfx_hsmlog_settle(maker->hsm);
}

pfx_result pfx_record_finish(struct pfx_record_maker *maker, struct pfx_error *err)
{
    return maker ? finish(maker, err) : PFX_OK;
}
