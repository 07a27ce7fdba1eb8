/*
 * The operation log in `init`. Its keys come first, since nothing else is done with a key before
 * its entry; what was done to get there (the tokens' probes, these keys) are the log's first notes.
 */
#include <stdio.h>

#include "pkcs11/hsm/ceremony.h"
#include "pkcs11/hsm/hsmlog.h"

pfx_result pfx_ceremony_log_precheck(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    enum pfx_oplog_state state = pfx_oplog_state(ceremony->hsm->log->writer, &why);
    if (state == PFX_OPLOG_NONE || state == PFX_OPLOG_OPEN)
        return PFX_OK;
    return pfx_hsmlog_unusable(ceremony->hsm, &why, err);
}

static pfx_result keys(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    static const size_t needed[] = {PFX_STANDING_LOG, PFX_STANDING_ANCHOR_A, PFX_STANDING_ANCHOR_B};
    bool ed25519 = ceremony->hsm->roles[PFX_ROLE_LOG].probe->eddsa;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        PFX_TRY(pfx_ceremony_standing(ceremony, needed[i], true, err));
    if (ed25519)
        return pfx_ceremony_standing(ceremony, PFX_STANDING_LOG_ED25519, true, err);
    pfx_ceremony_say(ceremony, "note", PFX_ROLE_LOG, NULL,
                     "the token has no CKM_EDDSA: checkpoints will have the P-256 signature alone");
    return PFX_OK;
}

/* What an auditor needs of this ceremony, as files: the key lines that sign the log. */
static void give_keys(struct pfx_ceremony *ceremony)
{
    const struct pfx_signer *signer = pfx_log_signer_ops(ceremony->hsm->log->signer);
    for (size_t i = 0; i < signer->n_keys; i++) {
        char line[PFX_VKEY_LINE_SIZE];
        char *text PFX_AUTOFREE = pfx_asprintf("%s\n", pfx_vkey_line(&signer->keys[i], line));
        char *file PFX_AUTOFREE =
            pfx_asprintf("%s-%u.vkey", signer->keys[i].type == PFX_NOTE_P256 ? "log" : "log-ed25519",
                         ceremony->hsm->log_generation);
        struct pfx_msg *item = pfx_task_item(ceremony->task);
        pfx_msg_set_str(item, "kind", "step");
        pfx_msg_set_str(item, "role", pfx_role_name(PFX_ROLE_LOG));
        char *said PFX_AUTOFREE = pfx_asprintf("key line for auditors: %s", line);
        pfx_msg_set_str(item, "text", said);
        pfx_msg_set_str(item, "file", file);
        pfx_msg_set_str(item, "pem", text);
        pfx_task_emit(ceremony->task, item);
    }
}

static pfx_result begin(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    char labels[2][65], origin[PFX_ORIGIN_SIZE];
    PFX_TRY(pfx_anchors_read(hsm, labels, err));
    if (labels[0][0] || labels[1][0])
        return pfx_hsmlog_attach(hsm, err); /* says that the log was lost */
    hsm->log_generation = 1;
    PFX_TRY(keys(ceremony, err));
    pfx_hsmlog_origin(hsm->policy, 1, origin);
    struct pfx_journal_begin first = {.origin = origin, .actor = &ceremony->task->actor};
    PFX_TRY(pfx_hsmlog_begin(hsm, &first, hsm->roles[PFX_ROLE_LOG].probe->eddsa, err));
    pfx_ceremony_say(ceremony, "step", PFX_ROLE_LOG, NULL, "operation log %s begun in %s", origin,
                     hsm->policy->log_dir);
    ceremony->log_begun = true;
    return PFX_OK;
}

pfx_result pfx_ceremony_log(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    struct pfx_hsmlog *log = ceremony->hsm->log;
    pfx_result result;
    if (pfx_hsmlog_state(log) != PFX_OPLOG_NONE) {
        result = pfx_hsmlog_attach(ceremony->hsm, err);
    } else {
        log->starting = true;
        result = begin(ceremony, err);
        log->starting = false;
    }
    if (pfx_ok(result))
        give_keys(ceremony);
    return result;
}
