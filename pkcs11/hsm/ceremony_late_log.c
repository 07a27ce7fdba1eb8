/* The entries of a ceremony, found in the operation log. */
#include <stdio.h>
#include <string.h>

#include "pkcs11/hsm/ceremony_late.h"

static const struct row {
    const char *event;
    bool counts; /* something is made, changed or destroyed by it */
    bool names_key, destroys, certifies, overlaps, pins;
} rows[] = {
    {.event = "ceremony.key", .counts = true, .names_key = true},
    {.event = "ceremony.certificate", .counts = true, .names_key = true, .certifies = true},
    {.event = "ceremony.pin", .counts = true, .pins = true},
    {.event = "key.rotate", .counts = true, .names_key = true, .pins = true},
    {.event = "key.destroy", .counts = true, .names_key = true, .destroys = true, .pins = true},
    {.event = "standing.rotate", .counts = true, .names_key = true, .overlaps = true},
    {.event = "standing.destroy",
     .counts = true,
     .names_key = true,
     .destroys = true,
     .overlaps = true},
    {.event = "log.begin", .counts = true},
    {.event = "log.reopen", .counts = true},
    {.event = "log.rotate-key", .counts = true},
    {.event = "key.export"}, /* of an init without the PIN */
    {.event = NULL},
};

void pfx_late_done(struct pfx_late_ops *ops)
{
    for (size_t i = 0; i < ops->n; i++)
        pfx_buf_done(&ops->list[i].approvals);
    free(ops->list);
    *ops = (struct pfx_late_ops){.n = 0};
}

struct pfx_late_op *pfx_late_find(struct pfx_late_ops *ops, const char *op)
{
    for (size_t i = 0; i < ops->n; i++)
        if (strcmp(ops->list[i].op, op) == 0)
            return &ops->list[i];
    return NULL;
}

/* Stays as it is where the entry doesn't have it, or it is longer than any of ours. */
static void take_text(const struct pfx_entry *entry, enum pfx_field field, char *out, size_t size)
{
    struct pfx_buf plain PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(size - 1);
    if (pfx_entry_has(entry, field) && pfx_entry_plain(entry, field, &plain))
        snprintf(out, size, "%s", pfx_buf_str(&plain));
}

static void take_fields(struct pfx_late_op *op, const struct pfx_entry *entry)
{
    struct pfx_bytes approvals = pfx_entry_text(entry, PFX_F_APPROVALS);
    take_text(entry, PFX_F_TARGET_NAME, op->name, sizeof op->name);
    take_text(entry, PFX_F_KEY_ID, op->key_id, sizeof op->key_id);
    take_text(entry, PFX_F_KEY_ALG, op->algorithm, sizeof op->algorithm);
    take_text(entry, PFX_F_KEY_SPKI, op->spki, sizeof op->spki);
    take_text(entry, PFX_F_CERT_SHA256, op->certificate, sizeof op->certificate);
    take_text(entry, PFX_F_FOUND, op->found, sizeof op->found);
    op->weak = op->weak || pfx_entry_int(entry, PFX_F_WEAK) == 1;
    /* "making" is noted before there is a key. */
    op->names_key = op->names_key || op->key_id[0];
    if (approvals.len > 0 && op->approvals.len == 0) {
        op->approvals = pfx_buf_make(approvals.len);
        (void)pfx_buf_add(&op->approvals, approvals.data, approvals.len);
    }
}

static void end(struct pfx_late_op *op, const struct pfx_entry *entry)
{
    op->done = pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK;
    op->unknown = pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_UNKNOWN;
}

static struct pfx_late_op *begin(struct pfx_late_ops *ops, const struct row *row, const char *op,
                                 const struct pfx_entry *entry)
{
    if (ops->n == 0) {
        ops->at_ms = pfx_entry_time(entry, PFX_F_TIME);
        ops->uid = pfx_entry_int(entry, PFX_F_ACTOR_UID);
    }
    ops->list = pfx_grow(ops->list, ops->n + 1, sizeof *ops->list);
    struct pfx_late_op *fresh = &ops->list[ops->n++];
    *fresh = (struct pfx_late_op){.event = row->event,
                                  .destroys = row->destroys,
                                  .certifies = row->certifies,
                                  .overlaps = row->overlaps,
                                  .unknown = true};
    snprintf(fresh->op, sizeof fresh->op, "%s", op);
    return fresh;
}

static void take(struct pfx_late_ops *ops, uint64_t seq, bool within, const struct pfx_entry *entry)
{
    char ulid[PFX_ULID_SIZE] = "";
    enum pfx_phase phase = (enum pfx_phase)pfx_entry_int(entry, PFX_F_PHASE);
    const struct row *row = rows;
    while (row->event && !pfx_entry_is(entry, PFX_F_EVENT, row->event))
        row++;
    if (!row->event)
        return;
    take_text(entry, PFX_F_OP, ulid, sizeof ulid);
    struct pfx_late_op *op = pfx_late_find(ops, ulid);
    if (!op && within && phase != PFX_PHASE_RESULT)
        op = begin(ops, row, ulid, entry);
    if (!op)
        return;
    take_fields(op, entry);
    op->names_key = op->names_key && row->names_key;
    ops->pins = ops->pins || row->pins;
    if (phase == PFX_PHASE_INTENT) {
        op->has_intent = true;
        op->intent = seq;
    } else {
        end(op, entry);
    }
}

/* A key that init found as it was is no change. */
static bool changes(const struct pfx_late_op *op)
{
    return op->unknown ||
           (op->done && (op->destroys || strcmp(op->found, "key") != 0));
}

/* One that failed was told of, and is given again; whether it was done isn't known where its process
 * ended. */
static bool happened(const struct pfx_late_ops *ops)
{
    for (size_t i = 0; i < ops->n; i++)
        for (const struct row *row = rows; row->event; row++)
            if (row->event == ops->list[i].event && row->counts && changes(&ops->list[i]))
                return true;
    return false;
}

pfx_result pfx_late_scan(const char *log_dir, const char *name, uint64_t from, uint64_t to,
                         struct pfx_late_ops *ret, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    PFX_CLEANUP(pfx_late_done) struct pfx_late_ops ops = {.n = 0};
    uint64_t count;
    PFX_TRY(pfx_logdir_open(log_dir, &dir, err));
    PFX_TRY(pfx_logdir_count(dir, &count, err));
    for (uint64_t seq = from > pfx_logdir_first(dir) ? from : pfx_logdir_first(dir); seq < count;
         seq++) {
        struct pfx_bytes json;
        struct pfx_entry entry;
        struct pfx_error ignored = PFX_ERROR_NONE;
        PFX_TRY(pfx_logdir_entry(dir, seq, &json, err));
        if (pfx_failed(pfx_entry_read(json, &entry, &ignored)) ||
            pfx_entry_int(&entry, PFX_F_SRC) != PFX_SRC_HSM)
            continue;
        take(&ops, seq, seq < to, &entry);
        ops.covered = ops.covered || (pfx_entry_is(&entry, PFX_F_EVENT, "ceremony.record") &&
                                      pfx_entry_is(&entry, PFX_F_TARGET_NAME, name));
    }
    ops.happened = happened(&ops);
    *ret = ops;
    ops = (struct pfx_late_ops){.n = 0};
    return PFX_OK;
}
