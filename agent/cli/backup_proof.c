/* What makes an archive more than files: the log's entry with its manifest's hash, under a signed
 * checkpoint. */
#include <string.h>

#include "agent/cli/backup_impl.h"

void backup_take_key(struct backup *backup, struct pfx_bytes line)
{
    char *text PFX_AUTOFREE = pfx_strndup((const char *)line.data, line.len);
    struct pfx_error ignored = PFX_ERROR_NONE;
    text[strcspn(text, "\n")] = '\0';
    if (backup->n_keys < BACKUP_KEYS &&
        pfx_ok(pfx_vkey_parse(text, &backup->keys[backup->n_keys], &ignored)))
        backup->n_keys++;
}

static pfx_result entry_of(struct backup *b, struct pfx_error *err)
{
    struct pfx_entry entry;
    uint8_t released[32];
    PFX_TRY(pfx_entry_read(pfx_buf_bytes(&b->entry), &entry, err));
    if (!pfx_entry_is(&entry, PFX_F_EVENT, "backup.create") ||
        pfx_entry_int(&entry, PFX_F_PHASE) != PFX_PHASE_RESULT ||
        pfx_entry_int(&entry, PFX_F_OUTCOME) != PFX_OUTCOME_OK ||
        pfx_entry_int(&entry, PFX_F_SRC) != PFX_SRC_HSM)
        return backup_bad(b, BACKUP_ENTRY, err, "it isn't the log's entry of a backup");
    if (!pfx_entry_hash(&entry, PFX_F_OUT_SHA256, released) ||
        memcmp(released, b->manifest_sha256, sizeof(released)) != 0)
        return backup_bad(b, BACKUP_MANIFEST, err,
                          "the log's entry names another manifest: this one was changed, or is of "
                          "another backup");
    b->seq = (uint64_t)pfx_entry_int(&entry, PFX_F_SEQ);
    b->entry_ms = pfx_entry_time(&entry, PFX_F_TIME);
    return PFX_OK;
}

static pfx_result receipt_of(struct backup *b, struct pfx_error *err)
{
    struct pfx_hasher *hasher PFX_CLEANUP(pfx_hasher_freep) = pfx_hasher_new();
    struct pfx_proof proof;
    struct pfx_bytes note;
    struct pfx_node leaf;
    uint64_t index;
    PFX_TRY(pfx_receipt_parse(pfx_buf_bytes(&b->receipt), &index, &proof, &note, err));
    PFX_TRY(pfx_checkpoint_parse(note, &b->proof, err));
    pfx_hash_leaf(hasher, pfx_buf_bytes(&b->entry), &leaf);
    if (index != b->seq || !pfx_inclusion_holds(hasher, index, b->proof.size, &leaf, &proof,
                                                &b->proof.root))
        return backup_bad(b, BACKUP_RECEIPT, err, "the proof doesn't lead from the entry to its "
                                                  "checkpoint");
    return PFX_OK;
}

pfx_result backup_prove(struct backup *b, struct pfx_bytes slot, struct pfx_error *err)
{
    struct pfx_bytes note;
    PFX_TRY(entry_of(b, err));
    PFX_TRY(receipt_of(b, err));
    if (slot.len != BACKUP_SLOT_SIZE || !pfx_slot_read(slot.data, &note))
        return backup_bad(b, BACKUP_SLOT, err, "there is no checkpoint in it");
    PFX_TRY(pfx_checkpoint_parse(note, &b->log, err));
    if (b->log.size != b->manifest.log_size || b->log.size > b->seq ||
        strcmp(b->log.origin, b->manifest.origin) != 0 ||
        strcmp(b->proof.origin, b->manifest.origin) != 0)
        return backup_bad(b, BACKUP_SLOT, err,
                          "the log in the archive isn't the one that the manifest names");
    return PFX_OK;
}

pfx_result backup_signed(const struct backup *b, const struct pfx_vkey *keys, size_t n_keys,
                         struct pfx_error *err)
{
    /* The log's own checkpoint needs none: the manifest has its hash. */
    return pfx_checkpoint_verify(&b->proof, keys, n_keys, NULL, err);
}
