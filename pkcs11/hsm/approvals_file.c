/* Questions in the state folder: a line each (approvals_form.c). The log is what
 * counts: a question that it doesn't have, or has as spent, is none, whatever stands here. */
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/lines.h"
#include "pkcs11/hsm/approvals_impl.h"
#include "pkcs11/hsm/hsmlog.h"

#define FILE_NAME "approvals"
#define HEADER "pfx-agent approvals v1"
#define MAX_FILE ((size_t)PFX_QUESTIONS_MOST * (PFX_APPROVAL_RECORD_MAX + 64) + 64)

pfx_result pfx_questions_store(const struct pfx_hsm *hsm, struct pfx_error *err)
{
    const struct pfx_approvals *approvals = hsm->approvals;
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    bool ok = pfx_buf_add_str(&text, HEADER "\n");
    for (size_t i = 0; i < approvals->n; i++)
        ok = ok && pfx_question_write(approvals->list[i], &text) && pfx_buf_add_str(&text, "\n");
    if (!ok)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write approvals", path, "",
                        "The file would be too long.");
    return pfx_file_replace(path, text.data, text.len, 0600, err);
}

/* The lines of the roster may have changed since: who isn't in it any more doesn't count. */
static bool still_given(const struct pfx_approvals *approvals, const struct pfx_approval *approval)
{
    for (size_t i = 0; i < approval->n_given; i++) {
        const struct pfx_given *given = &approval->given[i];
        bool there = given->line == NULL && approval->by_uid;
        for (size_t j = 0; given->line && !there && j < approvals->roster.n; j++) {
            char *text PFX_AUTOFREE = pfx_roster_text(&approvals->roster.lines[j]);
            there = text && strcmp(text, given->line) == 0;
        }
        struct pfx_error ignored = PFX_ERROR_NONE;
        if (!there || pfx_failed(pfx_given_check(approval, i, given, &ignored)))
            return false;
    }
    return true;
}

static bool holds_text(struct pfx_bytes entry, const char *text)
{
    return memmem(entry.data, entry.len, text, strlen(text)) != NULL;
}

/* Asked in this log, at this place, and not done since. */
static bool in_log(struct pfx_logdir *dir, const struct pfx_question *question)
{
    const char *nonce = question->approval.statement.nonce;
    struct pfx_bytes json;
    struct pfx_error why = PFX_ERROR_NONE;
    uint64_t count;
    if (pfx_failed(pfx_logdir_count(dir, &count, &why)) ||
        pfx_failed(pfx_logdir_entry(dir, question->seq, &json, &why)) || !holds_text(json, nonce) ||
        !holds_text(json, "\"event\":\"approval.ask\""))
        return false;
    for (uint64_t seq = question->seq + 1; seq < count; seq++) {
        if (pfx_failed(pfx_logdir_entry(dir, seq, &json, &why)))
            return false;
        if (holds_text(json, nonce) && !holds_text(json, "\"event\":\"approval."))
            return false;
    }
    return true;
}

static void take_line(struct pfx_hsm *hsm, struct pfx_logdir *dir, struct pfx_bytes line)
{
    struct pfx_approvals *approvals = hsm->approvals;
    struct pfx_question *question = pfx_alloc(sizeof *question);
    pfx_approval_init(&question->approval);
    bool open = pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN;
    bool mode_uid = hsm->policy->approvals == PFX_APPROVALS_UID;
    bool good = pfx_question_parse(line, question) && approvals->n < PFX_QUESTIONS_MOST &&
                !pfx_question_find(approvals, question->id) &&
                pfx_now_ms() <= question->approval.statement.expiry_ms &&
                question->approval.by_uid == mode_uid &&
                question->approval.needed == hsm->policy->approvers &&
                still_given(approvals, &question->approval);
    if (good && question->seq == PFX_NOT_LOGGED) /* no log could take it then, nor can now */
        good = !open && strcmp(question->approval.statement.command, "log.reopen") == 0;
    else
        good = good && dir && in_log(dir, question);
    if (good)
        approvals->list[approvals->n++] = question;
    else
        pfx_question_free(question);
}

void pfx_approvals_load(struct pfx_hsm *hsm)
{
    struct pfx_approvals *approvals = hsm->approvals;
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    if (hsm->policy->approvals == PFX_APPROVALS_NONE || access(path, F_OK) != 0)
        return;
    if (pfx_failed(pfx_file_read(path, MAX_FILE, &text, &why))) {
        pfx_log_error(&why, "questions for approvals are asked again");
        return;
    }
    if (pfx_failed(pfx_logdir_open(hsm->policy->log_dir, &dir, &why)))
        dir = NULL;
    struct pfx_lines lines = {.rest = pfx_buf_bytes(&text)};
    struct pfx_bytes line;
    pthread_mutex_lock(&approvals->lock);
    if (pfx_lines_next(&lines, &line) && pfx_bytes_equal(line, HEADER))
        while (pfx_lines_next(&lines, &line))
            take_line(hsm, dir, line);
    pthread_mutex_unlock(&approvals->lock);
}
