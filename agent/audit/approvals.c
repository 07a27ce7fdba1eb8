/* Approvals, verified again from the log alone. */
#include "agent/audit/approvals.h"

#include <string.h>

#include "crypto/approval.h"
#include "crypto/encode.h"
#include "crypto/lines.h"

#define NONCES_MOST 65536 /* of approvals spent; a company has a few a year */

/* Entries that are never without approvals: event, and the command that people approved. One that
 * stands here with another name than its event has that command; all others their event's. */
static const struct {
    const char *event, *command;
} dangerous[] = {
    {"key.compromise", "key.compromise"},
    {"key.destroy", "key.destroy"},
    {"log.reopen", "log.reopen"},
    {"policy.changed", "policy.change"},
};

static void tell(struct pfx_meaning *meaning, uint64_t seq, const char *what,
                 const struct pfx_error *why)
{
    pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s%s%s%s%s", what, why ? ": " : "",
                     why && why->object[0] ? why->object : "", why && why->object[0] ? ": " : "",
                     why ? why->text : "");
}

/* The one record of the array. */
static bool one_record(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_bytes *record = ctx;
    if (record->data || value->kind != PFX_CANON_OBJ)
        return false;
    *record = value->raw;
    return true;
}

static const char *command_of(const struct pfx_entry *entry, bool *ret_dangerous)
{
    for (size_t i = 0; i < sizeof dangerous / sizeof dangerous[0]; i++) {
        if (!pfx_entry_is(entry, PFX_F_EVENT, dangerous[i].event))
            continue;
        *ret_dangerous = pfx_entry_int(entry, PFX_F_PHASE) != PFX_PHASE_RESULT;
        return dangerous[i].command;
    }
    *ret_dangerous = false;
    return NULL;
}

/* False: it was spent before. */
static bool spend(struct pfx_meaning *meaning, const char *nonce)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(32);
    if (!pfx_unhex(nonce, 64, &bytes) || bytes.len != 32)
        return false;
    for (size_t i = 0; i < meaning->n_nonces; i++)
        if (memcmp(meaning->nonces[i], bytes.data, 32) == 0)
            return false;
    if (meaning->n_nonces == NONCES_MOST) {
        meaning->nonces_over = true;
        return true;
    }
    meaning->nonces = pfx_grow(meaning->nonces, meaning->n_nonces + 1, sizeof *meaning->nonces);
    memcpy(meaning->nonces[meaning->n_nonces++], bytes.data, 32);
    return true;
}

/* Is the record about this entry: its command, its asker, its log? */
static bool about(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                  const struct pfx_entry *entry, const struct pfx_approval *approval,
                  const char *command)
{
    const char *origin = pfx_report_log_at(meaning->report, meaning->log)->origin;
    const struct pfx_statement *statement = &approval->statement;
    bool same_command = command ? strcmp(statement->command, command) == 0
                                : pfx_entry_is(entry, PFX_F_EVENT, statement->command);
    if (!same_command) {
        tell(meaning, seq, "what was approved is another command than what was done", NULL);
        return false;
    }
    if (event != PFX_EV_APPROVAL_GIVE && approval->uid != pfx_entry_int(entry, PFX_F_ACTOR_UID)) {
        tell(meaning, seq, "another user gave the command than the one who asked for it", NULL);
        return false;
    }
    /* A successor's first entry: it was asked in the log before it. */
    bool before = event == PFX_EV_LOG_REOPEN || pfx_entry_int(entry, PFX_F_BEFORE);
    if (origin[0] && !before && strcmp(statement->origin, origin) != 0) {
        tell(meaning, seq, "it was approved for another log", NULL);
        return false;
    }
    return true;
}

static void check(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                  const struct pfx_entry *entry, const struct pfx_approval *approval,
                  const char *command)
{
    struct pfx_error why = PFX_ERROR_NONE;
    char hash[65];
    char name[PFX_APPROVAL_COMMAND_SIZE + 1] = "";
    bool question = event == PFX_EV_APPROVAL_ASK || event == PFX_EV_APPROVAL_GIVE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf target = pfx_buf_make(PFX_APPROVAL_COMMAND_SIZE);
    if (question) {
        if (pfx_entry_plain(entry, PFX_F_TARGET_NAME, &target))
            memcpy(name, pfx_buf_str(&target), target.len + 1);
        command = name;
    }
    if (!about(meaning, seq, event, entry, approval, command))
        return;
    if (!question) {
        if (pfx_failed(pfx_approval_check(approval, pfx_entry_time(entry, PFX_F_TIME), &why)))
            tell(meaning, seq, "its approvals don't hold", &why);
        else if (!spend(meaning, approval->statement.nonce))
            tell(meaning, seq, "its approvals were spent before, or have no nonce", NULL);
        else
            meaning->n_approved++;
        return;
    }
    size_t expected = event == PFX_EV_APPROVAL_GIVE;
    if (pfx_failed(pfx_approval_args(pfx_buf_bytes(&approval->args), hash, &why)) ||
        strcmp(hash, approval->statement.args_hash) != 0 || approval->n_given != expected)
        tell(meaning, seq, "it isn't a question for approvals, or an answer to one", NULL);
    else if (expected && pfx_failed(pfx_given_check(approval, 0, &approval->given[0], &why)))
        tell(meaning, seq, "this approval doesn't hold", &why);
}

void pfx_meaning_approvals(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                           const struct pfx_entry *entry)
{
    struct pfx_bytes array = pfx_entry_text(entry, PFX_F_APPROVALS), json = {NULL, 0};
    struct pfx_error why = PFX_ERROR_NONE;
    bool needs, weak = pfx_entry_int(entry, PFX_F_WEAK) == 1;
    const char *command = command_of(entry, &needs);
    if (array.len == 0) {
        if (needs && !weak)
            tell(meaning, seq, "two people have to approve this, and nobody did", NULL);
        return;
    }
    PFX_CLEANUP(pfx_approval_done) struct pfx_approval approval;
    pfx_approval_init(&approval);
    if (pfx_failed(pfx_canon_elements(array, one_record, &json, &why)) || !json.data ||
        pfx_failed(pfx_approval_parse(json, &approval, &why))) {
        tell(meaning, seq, "its approvals aren't a record that pfx-hsm writes", NULL);
        return;
    }
    if (approval.by_uid && !weak)
        tell(meaning, seq, "approved without signatures, and doesn't call itself weak", NULL);
    check(meaning, seq, event, entry, &approval, command);
}

void pfx_meaning_approvals_end(struct pfx_meaning *meaning)
{
    if (meaning->n_approved > 0)
        pfx_report_open(meaning->report, meaning->log,
                        "that the keys which approved %llu command%s belong to the people they "
                        "name: compare the roster's lines in these entries with your own copy",
                        (unsigned long long)meaning->n_approved, meaning->n_approved == 1 ? "" : "s");
    if (meaning->nonces_over)
        pfx_report_open(meaning->report, meaning->log,
                        "that no approval was spent twice: there are more than %d", NONCES_MOST);
    meaning->n_approved = 0;
}
