/* Open intents of an earlier process. */
#include "pkcs11/hsm/recovery.h"

#include <string.h>

#include "api/conf/process.h"
#include "pkcs11/hsm/hsmlog_put.h"

struct pfx_recovery {
    struct pfx_hsmlog *log;
    uint64_t seq; /* of the last result */
    struct pfx_journal_open *list;
    size_t n;
    struct spent {
        uint64_t seq;
        struct pfx_buf approvals; /* as they stand in the intent */
    } * spent;
    size_t n_spent;
};

struct pfx_recovery *pfx_recovery_new(void)
{
    return pfx_alloc(sizeof(struct pfx_recovery));
}

void pfx_recovery_free(struct pfx_recovery *recovery)
{
    if (!recovery)
        return;
    for (size_t i = 0; i < recovery->n_spent; i++)
        pfx_buf_done(&recovery->spent[i].approvals);
    free(recovery->spent);
    free(recovery->list);
    free(recovery);
}

static void remember_spent(struct pfx_recovery *recovery, uint64_t seq,
                           const struct pfx_entry *intent)
{
    struct pfx_bytes approvals = pfx_entry_text(intent, PFX_F_APPROVALS);
    if (approvals.len == 0)
        return;
    recovery->spent = pfx_grow(recovery->spent, recovery->n_spent + 1, sizeof *recovery->spent);
    struct spent *spent = &recovery->spent[recovery->n_spent++];
    *spent = (struct spent){.seq = seq, .approvals = pfx_buf_make(approvals.len)};
    (void)!pfx_buf_add(&spent->approvals, approvals.data, approvals.len);
}

bool pfx_recovery_spent(const struct pfx_recovery *recovery, const char *args_hash,
                        uint64_t *ret_seq)
{
    for (size_t i = recovery->n_spent; i-- > 0;) {
        const struct spent *spent = &recovery->spent[i];
        if (!memmem(spent->approvals.data, spent->approvals.len, args_hash, strlen(args_hash)))
            continue;
        *ret_seq = spent->seq;
        return true;
    }
    return false;
}

static pfx_result collect(void *ctx, uint64_t seq, const struct pfx_entry *intent,
                          struct pfx_error *err)
{
    struct pfx_recovery *recovery = ctx;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    recovery->list = pfx_grow(recovery->list, recovery->n + 1, sizeof *recovery->list);
    struct pfx_journal_open *open = &recovery->list[recovery->n];
    pfx_journal_open_read(seq, intent, open);
    remember_spent(recovery, seq, intent);
    pfx_journal_unknown(open, draft);
    PFX_TRY(pfx_hsmlog_put(recovery->log, draft, PFX_ROOM_RESERVED, PFX_UNTIL_APPENDED,
                           &recovery->seq, err));
    recovery->n++;
    return PFX_OK;
}

pfx_result pfx_recovery_results(struct pfx_hsmlog *log, struct pfx_error *err)
{
    struct pfx_recovery *recovery = log->recovery;
    recovery->log = log;
    PFX_TRY(pfx_oplog_dangling(log->writer, collect, recovery, err));
    if (recovery->n == 0)
        return PFX_OK;
    PFX_TRY(pfx_oplog_wait(log->writer, recovery->seq, PFX_UNTIL_SYNCED, err));
    pfx_log(PFX_LOG_WARN,
            "operation log: pfx-hsm ended in the middle of %zu operations; their outcome is noted "
            "as unknown",
            recovery->n);
    return PFX_OK;
}

/* False: the token couldn't be asked. */
static bool look(struct pfx_hsm *hsm, const struct pfx_journal_open *open, const char **ret_found)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result result =
        pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, &why);
    if (pfx_ok(result))
        result = pfx_key_find(session, PFX_USE_USER, &open->id, true, (struct pfx_bytes){NULL, 0},
                              &key, &why);
    if (result.cls == PFX_CLASS_DEVICE || result.cls == PFX_CLASS_TRANSIENT)
        return false;
    if (pfx_failed(result))
        pfx_log_error(&why, "a user key that an earlier pfx-hsm began to make isn't as it must be");
    /* Half a pair, or several: something is there, and it can't be said what. */
    *ret_found = pfx_failed(result) ? "unknown" : key ? "key" : "nothing";
    return true;
}

void pfx_recovery_keys(struct pfx_hsm *hsm)
{
    struct pfx_recovery *recovery = hsm->log->recovery;
    size_t left = 0;
    for (size_t i = 0; i < recovery->n; i++) {
        const struct pfx_journal_open open = recovery->list[i];
        const char *found = NULL;
        if (!open.makes_key)
            continue;
        if (!look(hsm, &open, &found)) {
            recovery->list[left++] = open;
            continue;
        }
        struct pfx_draft *draft = pfx_alloc(sizeof *draft);
        pfx_journal_key_recovered(&open, found, draft);
        pfx_hsmlog_note(hsm->log, draft);
    }
    recovery->n = left;
}
