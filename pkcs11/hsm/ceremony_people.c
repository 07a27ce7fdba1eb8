/* Who approved a ceremony, as its record names them: the people, and the keys that signed. */
#include "crypto/canon.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/ceremony_record.h"

static void add(struct pfx_record_maker *maker, const struct pfx_op *op,
                const struct pfx_approval *approval, const struct pfx_given *given)
{
    char signer[PFX_SIGNER_SIZE];
    struct pfx_minutes_section *s =
        pfx_minutes_add(&maker->record, PFX_MK_APPROVAL, given->principal);
    pfx_minutes_set(s, PFX_MF_COMMAND, approval->statement.command);
    pfx_minutes_set(s, PFX_MF_MODE, approval->by_uid ? "uid" : "ssh");
    pfx_minutes_set_time(s, PFX_MF_TIME, given->at_ms);
    pfx_minutes_set(s, PFX_MF_ASKER, approval->asker);
    pfx_minutes_set_int(s, PFX_MF_UID, approval->uid);
    pfx_minutes_set(s, PFX_MF_NONCE, approval->statement.nonce);
    if (op)
        pfx_minutes_set(s, PFX_MF_OPERATION, op->ulid);
    pfx_minutes_set(s, PFX_MF_SIGNER, pfx_given_signer(given, signer));
}

struct taking {
    struct pfx_record_maker *maker;
    const struct pfx_op *op;
};

static bool take(void *ctx, const struct pfx_canon_value *value)
{
    const struct taking *taking = ctx;
    struct pfx_error ignored = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_approval_done) struct pfx_approval approval;
    pfx_approval_init(&approval);
    if (pfx_failed(pfx_approval_parse(value->raw, &approval, &ignored)))
        return false;
    for (size_t i = 0; i < approval.n_given; i++)
        add(taking->maker, taking->op, &approval, &approval.given[i]);
    return true;
}

void pfx_record_approved(struct pfx_record_maker *maker, const struct pfx_op *op,
                         const struct pfx_approved *approved)
{
    struct taking taking = {maker, op};
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (!maker || !approved->hsm) /* nobody had to */
        return;
    if (approved->record.len > 0 &&
        pfx_failed(pfx_canon_elements(pfx_buf_bytes(&approved->record), take, &taking, &ignored)))
        pfx_record_note(maker, "Who approved this couldn't be read here: its intent in the log says "
                               "it.");
    if (approved->record.len == 0)
        pfx_record_note(maker, "Nobody approved this: hsm-policy.yaml names no approvals, so whoever "
                               "may use the admin socket could do it alone.");
    else if (approved->weak)
        pfx_record_note(maker, "Approved in mode uid, without signatures: that is weak.");
}
