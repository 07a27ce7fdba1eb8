/* The page itself: record, entry, receipt and signature hang together. */
#include <stdio.h>
#include <string.h>

#include "agent/audit/ceremony.h"
#include "crypto/encode.h"

#define RECEIPT_MAX (64 * 1024)

void pfx_ceremony_done(struct pfx_ceremony *c)
{
    pfx_minutes_page_done(&c->page);
    pfx_buf_done(&c->text);
    pfx_audit_keys_done(&c->keys);
    pfx_source_close(c->source);
    free(c->found);
}

/* Only what pfx-hsm writes: extra lines, which the format allows, weren't on the page. */
static pfx_result read_receipt(struct pfx_ceremony *c, struct pfx_proof *ret_proof,
                               struct pfx_error *err)
{
    struct pfx_bytes note;
    struct pfx_buf again PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(RECEIPT_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_receipt_parse(c->page.receipt, &c->index, ret_proof, &note, &why)) ||
        pfx_failed(pfx_checkpoint_parse(note, &c->checkpoint, &why)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read page", "receipt", why.code, "%s", why.text);
    pfx_receipt_write(c->index, ret_proof, note, &again);
    if (again.len != c->page.receipt.len ||
        memcmp(again.data, c->page.receipt.data, again.len) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read page", "receipt", "",
                        "it isn't in the form that pfx-hsm writes");
    return PFX_OK;
}

static pfx_result check_inclusion(struct pfx_ceremony *c, const struct pfx_proof *proof,
                                  struct pfx_error *err)
{
    struct pfx_node leaf;
    struct pfx_hasher *hasher = pfx_hasher_new();
    pfx_hash_leaf(hasher, c->page.entry, &leaf);
    bool holds = c->index < c->checkpoint.size &&
                 pfx_inclusion_holds(hasher, c->index, c->checkpoint.size, &leaf, proof,
                                     &c->checkpoint.root);
    pfx_hasher_free(hasher);
    if (!holds)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check page", "entry", "",
                        "the entry with the hashes below it doesn't lead to the checkpoint's root: "
                        "one of them was changed");
    return PFX_OK;
}

static pfx_result check_entry(struct pfx_ceremony *c, struct pfx_error *err)
{
    struct pfx_entry entry;
    struct pfx_error why = PFX_ERROR_NONE;
    const struct pfx_minutes_section *head = pfx_minutes_find(&c->page.record, PFX_MK_HEAD, NULL);
    if (pfx_failed(pfx_entry_read(c->page.entry, &entry, &why)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check page", "entry", "", "%s", why.text);
    char uid[24];
    c->late = pfx_minutes_get(head, PFX_MF_LATE)[0] != '\0'; /* then another one may have asked */
    (void)snprintf(uid, sizeof uid, "%lld", (long long)pfx_entry_int(&entry, PFX_F_ACTOR_UID));
    const char *wrong =
        !pfx_entry_is(&entry, PFX_F_EVENT, "ceremony.record") ? "is of another event"
        : pfx_entry_int(&entry, PFX_F_SRC) != PFX_SRC_HSM     ? "wasn't written by pfx-hsm"
        : pfx_entry_int(&entry, PFX_F_OUTCOME) != PFX_OUTCOME_OK ? "doesn't say ok"
        : pfx_entry_int(&entry, PFX_F_SEQ) != (int64_t)c->index  ? "calls itself another number"
        : !pfx_entry_is(&entry, PFX_F_OUT_SHA256, c->page.sha256)
            ? "holds the hash of another record"
        : strcmp(pfx_minutes_get(head, PFX_MF_LOG), c->checkpoint.origin) != 0
            ? "stands in another log than the record names"
        : !c->late && strcmp(pfx_minutes_get(head, PFX_MF_UID), uid) != 0
            ? "says that another user gave the command (uid)"
            : NULL;
    if (wrong)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check page", "entry", "",
                        "the log's entry on the page %s", wrong);
    c->entry_ms = pfx_entry_time(&entry, PFX_F_TIME);
    return PFX_OK;
}

/* A record of all keys names the log's own: those must be who signed. */
static pfx_result check_signers(struct pfx_ceremony *c, struct pfx_error *err)
{
    for (size_t i = 0; i < c->checkpoint.n_signatures; i++) {
        const struct pfx_note_signature *signature = &c->checkpoint.signatures[i];
        bool known = false;
        for (size_t k = 0; k < c->keys.n; k++)
            known = known || (strcmp(signature->name, c->keys.keys[k].name) == 0 &&
                              memcmp(signature->id, c->keys.keys[k].id, sizeof(signature->id)) == 0);
        c->unknown += !known;
    }
    size_t names = 0;
    bool same = false;
    for (size_t i = 0; i < c->page.record.n; i++) {
        const struct pfx_minutes_section *s = &c->page.record.list[i];
        const char *spki = pfx_minutes_get(s, PFX_MF_SPKI);
        if (s->kind != PFX_MK_KEY || strcmp(pfx_minutes_get(s, PFX_MF_ROLE), "log") != 0 || !*spki)
            continue;
        names++;
        for (size_t k = 0; k < c->keys.n; k++) {
            char hex[65];
            pfx_hex(c->keys.keys[k].spki_sha256, 32, hex);
            same = same || (c->signers >> k & 1 && strcmp(hex, spki) == 0);
        }
    }
    if (names > c->checkpoint.n_signatures && !c->late)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check page", "log key", "",
                        "the record lists %zu log keys, and its checkpoint has %zu signatures: a "
                        "line is missing",
                        names, c->checkpoint.n_signatures);
    if (names > 0 && !same && !c->late) /* of a rotation that was cut off they never did */
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check page", "log key", "",
                        "none of the log keys that the record lists signed its checkpoint");
    return PFX_OK;
}

pfx_result pfx_ceremony_page(struct pfx_ceremony *c, const char *path,
                             const struct pfx_audit_options *options, struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_proof proof;
    c->text = pfx_buf_make(PFX_MINUTES_PAGE_MAX);
    PFX_TRY(pfx_audit_file(path, PFX_MINUTES_PAGE_MAX, &c->text, err));
    if (pfx_failed(pfx_minutes_page_parse(pfx_buf_bytes(&c->text), &c->page, &why)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, why.op, path, "", "%s", why.text);
    PFX_TRY(read_receipt(c, &proof, err));
    PFX_TRY(
        pfx_audit_keys_load(options->keys, options->n_keys, c->checkpoint.origin, &c->keys, err));
    PFX_TRY(pfx_checkpoint_verify(&c->checkpoint, c->keys.keys, c->keys.n, &c->signers, err));
    PFX_TRY(check_inclusion(c, &proof, err));
    PFX_TRY(check_entry(c, err));
    return check_signers(c, err);
}
