/* Questions in the state folder: a line each (approvals_form.c). The log is what
 * counts: a question that it doesn't have, or has as spent, is none, whatever stands here. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/lines.h"
#include "pkcs11/hsm/approvals_impl.h"
#include "pkcs11/hsm/force_impl.h"
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

/* Asked in this log, at this place, and not done since; *ret_changed (may be NULL): or what was done
 * is the last change of the policy. */
static bool in_log(struct pfx_logdir *dir, const struct pfx_question *question, bool *ret_changed)
{
    const char *nonce = question->approval.statement.nonce;
    struct pfx_bytes json;
    struct pfx_error why = PFX_ERROR_NONE;
    bool changed = false;
    uint64_t count;
    if (pfx_failed(pfx_logdir_count(dir, &count, &why)) ||
        pfx_failed(pfx_logdir_entry(dir, question->seq, &json, &why)) || !holds_text(json, nonce) ||
        !holds_text(json, "\"event\":\"approval.ask\""))
        return false;
    for (uint64_t seq = question->seq + 1; seq < count; seq++) {
        if (pfx_failed(pfx_logdir_entry(dir, seq, &json, &why)))
            return false;
        bool change = holds_text(json, "\"event\":\"policy.changed\"");
        bool spent = holds_text(json, nonce) && !holds_text(json, "\"event\":\"approval.");
        if (changed ? change : spent && !(change && ret_changed))
            return false;
        changed = changed || spent;
    }
    if (ret_changed)
        *ret_changed = changed;
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
        good = good && dir && in_log(dir, question, NULL);
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
    if (hsm->policy->approvals == PFX_APPROVALS_NONE || hsm->force->tried || access(path, F_OK) != 0)
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

/* --- a change that is approved before the start --- */

static bool decides(const struct pfx_approvals *approvals, struct pfx_logdir *dir,
                    const struct pfx_question *question, struct pfx_bytes args)
{
    const struct pfx_approval *approval = &question->approval;
    struct pfx_error ignored = PFX_ERROR_NONE;
    bool changed = false;
    return strcmp(approval->statement.command, "policy.change") == 0 && !approval->by_uid &&
           approval->needed == approvals->policy->approvers && approval->args.len == args.len &&
           memcmp(approval->args.data, args.data, args.len) == 0 &&
           still_given(approvals, approval) && question->seq != PFX_NOT_LOGGED &&
           in_log(dir, question, &changed) &&
           pfx_ok(pfx_approval_check(approval, changed ? 0 : pfx_now_ms(), &ignored));
}

static bool take_approved(const struct pfx_question *question, struct pfx_force *force)
{
    force->approval.record = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    force->approval.expiry_ms = question->approval.statement.expiry_ms;
    force->asker = question->approval.uid;
    snprintf(force->approval.nonce, sizeof force->approval.nonce, "%s",
             question->approval.statement.nonce);
    return pfx_question_array(&question->approval, &force->approval.record);
}

bool pfx_force_approved(const struct pfx_hsm_policy *old, const char *state_dir,
                        const struct pfx_force_change *change, struct pfx_force *force)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/" FILE_NAME, state_dir);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf args = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    struct pfx_approvals *approvals = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_bytes line;
    bool found = false;
    if (old->approvals != PFX_APPROVALS_SSH || access(path, F_OK) != 0 ||
        pfx_failed(pfx_file_read(path, MAX_FILE, &text, &why)) ||
        pfx_failed(pfx_force_args(change, &args, &why)) ||
        pfx_failed(pfx_logdir_open(old->log_dir, &dir, &why)) ||
        pfx_failed(pfx_approvals_new(old, change->old_roster, &approvals, &why)))
        return false;
    struct pfx_lines lines = {.rest = pfx_buf_bytes(&text)};
    bool ours = pfx_lines_next(&lines, &line) && pfx_bytes_equal(line, HEADER);
    while (ours && !found && pfx_lines_next(&lines, &line)) {
        struct pfx_question *question = pfx_alloc(sizeof *question);
        pfx_approval_init(&question->approval);
        found = pfx_question_parse(line, question) &&
                decides(approvals, dir, question, pfx_buf_bytes(&args)) &&
                take_approved(question, force);
        pfx_question_free(question);
    }
    pfx_approvals_free(approvals);
    return found;
}
