/* The log and the role that signs it: attached, let go, begun. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsmlog_put.h"

void pfx_hsmlog_origin(const struct pfx_hsm_policy *policy, unsigned number,
                       char ret_origin[PFX_ORIGIN_SIZE])
{
    if (number <= 1)
        snprintf(ret_origin, PFX_ORIGIN_SIZE, "%s/pfx-agent", policy->host_id);
    else
        snprintf(ret_origin, PFX_ORIGIN_SIZE, "%s/pfx-agent/%u", policy->host_id, number);
}

bool pfx_anchor_names(const char *label, const char *origin, uint64_t *ret_size)
{
    uint8_t digest[32];
    char want[sizeof PFX_ANCHOR_PREFIX + 9], hex[65];
    if (!pfx_sha256(origin, strlen(origin), digest))
        pfx_die("SHA-256 isn't available");
    snprintf(want, sizeof want, PFX_ANCHOR_PREFIX "%.8s:", pfx_hex(digest, sizeof digest, hex));
    if (strncmp(label, want, strlen(want)) != 0)
        return false;
    uint64_t size = 0;
    const char *at = label + strlen(want);
    for (; *at >= '0' && *at <= '9' && size < UINT64_MAX / 100; at++)
        size = size * 10 + (uint64_t)(*at - '0');
    if (*at != ':' || size == 0)
        return false;
    if (ret_size)
        *ret_size = size;
    return true;
}

bool pfx_hsmlog_lost(struct pfx_hsm *hsm)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_error ignored;
    return log->signer && pfx_log_signer_lost(log->signer, &ignored);
}

void pfx_hsmlog_detach(struct pfx_hsm *hsm)
{
    struct pfx_hsmlog *log = hsm->log;
    if (!log->signer)
        return;
    pfx_oplog_detach(log->writer);
    pfx_log_signer_free(PFX_TAKE(log->signer));
}

pfx_result pfx_hsmlog_generation(struct pfx_hsm *hsm, struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    bool ed25519;
    if (pfx_hsmlog_state(log) != PFX_OPLOG_OPEN)
        return PFX_OK;
    pfx_oplog_facts(log->writer, facts);
    return pfx_log_generation_find(hsm, facts, &hsm->log_generation, &ed25519, err);
}

/* Keys without a log: `init` was cut off before it began one, or the folder was lost. The anchors
 * tell. */
static pfx_result not_begun(struct pfx_hsm *hsm, struct pfx_error *err)
{
    char labels[2][65];
    const char *dir = hsm->policy->log_dir;
    PFX_TRY(pfx_anchors_read(hsm, labels, err));
    if (labels[0][0] || labels[1][0])
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "open operation log", dir, "",
                        "The folder is empty, but the token has an anchor of a log of this host "
                        "(%s): the log was lost or taken away, and nothing is done with a key "
                        "without it. Bring the folder back, or begin a successor with pfx-agent "
                        "log reopen.",
                        labels[0][0] ? labels[0] : labels[1]);
    hsm->roles[PFX_ROLE_LOG].no_keys = true;
    return pfx_fail(err, PFX_CLASS_REFUSED, "open operation log", dir, "",
                    "It hasn't begun: run pfx-agent init.");
}

static void note_recovered(struct pfx_hsmlog *log, uint64_t ahead)
{
    struct pfx_oplog_status status;
    struct pfx_draft *draft = pfx_alloc(sizeof *draft);
    pfx_oplog_status(log->writer, &status);
    pfx_journal_recovered(ahead, status.anchor_size, draft);
    pfx_hsmlog_note(log, draft);
    pfx_log(PFX_LOG_INFO,
            "operation log: %" PRIu64 " entries after its last anchor were found and hold", ahead);
}

static void note_mended(struct pfx_hsmlog *log, const struct pfx_oplog_facts *facts, uint64_t found)
{
    const struct {
        uint64_t count;
        const char *code;
    } what[] = {{facts->tail, "uncovered"}, {facts->cut_bytes, "torn"}};
    for (size_t i = 0; i < sizeof what / sizeof *what && !log->mended_told; i++) {
        if (what[i].count == 0)
            continue;
        struct pfx_draft *draft = pfx_alloc(sizeof *draft);
        pfx_journal_mended(what[i].count, found - facts->tail, what[i].code, draft);
        pfx_hsmlog_note(log, draft);
    }
    log->mended_told = true;
}

pfx_result pfx_hsmlog_attach(struct pfx_hsm *hsm, struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    PFX_CLEANUP(pfx_log_signer_freep) struct pfx_log_signer *signer = NULL;
    bool ed25519 = false;
    uint64_t ahead = 0;
    switch (pfx_oplog_state(log->writer, &why)) {
    case PFX_OPLOG_NONE:
        return not_begun(hsm, err);
    case PFX_OPLOG_OPEN:
        break;
    case PFX_OPLOG_REFUSED:
    case PFX_OPLOG_CLOSED:
        return pfx_hsmlog_unusable(hsm, &why, err);
    }
    if (log->signer && !pfx_log_signer_stale(log->signer) &&
        !pfx_log_signer_lost(log->signer, &why) && pfx_oplog_attached(log->writer))
        return PFX_OK;
    pfx_hsmlog_detach(hsm);
    pfx_oplog_facts(log->writer, facts);
    PFX_TRY(pfx_log_generation_find(hsm, facts, &hsm->log_generation, &ed25519, err));
    PFX_TRY(pfx_log_signer_new(hsm, facts->origin, hsm->log_generation, ed25519, &signer, err));
    PFX_TRY(pfx_oplog_attach(log->writer, pfx_log_signer_ops(signer), &ahead, err));
    log->signer = PFX_TAKE(signer);
    /* An `init` that was cut off right after entry 0 left these to the next one. */
    PFX_TRY(pfx_hsmlog_tell_early(log, err));
    if (!facts->began)
        note_mended(log, facts, facts->found);
    if (ahead > 0)
        note_recovered(log, ahead);
    return PFX_OK;
}

pfx_result pfx_hsmlog_begin(struct pfx_hsm *hsm, struct pfx_journal_begin *begin, bool ed25519,
                            struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    PFX_CLEANUP(pfx_log_signer_freep) struct pfx_log_signer *signer = NULL;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    const struct pfx_hsm_policy *policy = hsm->policy;
    struct pfx_oplog_status status;
    PFX_TRY(pfx_log_signer_new(hsm, begin->origin, hsm->log_generation, ed25519, &signer, err));
    begin->signer = pfx_log_signer_ops(signer);
    begin->policy = policy;
    begin->software = &log->software;
    begin->token = pfx_token_facts(hsm->roles[PFX_ROLE_LOG].token);
    pfx_journal_begin(begin, draft);
    pfx_force_journal(hsm, draft);
    PFX_TRY(pfx_oplog_begin(log->writer, begin->origin, draft, begin->signer, err));
    log->signer = PFX_TAKE(signer);
    PFX_TRY(pfx_hsmlog_tell_early(log, err));
    PFX_TRY(pfx_oplog_policy(log->writer, policy->sha256, pfx_buf_bytes(&policy->text), err));
    pfx_oplog_status(log->writer, &status);
    return pfx_oplog_wait(log->writer, status.size - 1, PFX_UNTIL_COVERED, err);
}

void pfx_hsmlog_settle(struct pfx_hsm *hsm)
{
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_oplog_settle(hsm->log->writer, &why)))
        pfx_log_error(&why, "the head of the operation log can't be anchored");
}
