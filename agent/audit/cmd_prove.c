/* pfx-audit prove: a receipt for one entry, from an export's hash tiles. */
#include <string.h>

#include "agent/audit/filter.h"

#define RECEIPT_MAX (64 * 1024)

/* Everything that a proof of one entry is made of. */
struct proving {
    struct pfx_source *source;
    struct pfx_hasher *hasher;
    struct pfx_checkpoint checkpoint;
    uint64_t index;
    struct pfx_source_cursor cursor;
    struct pfx_bytes json; /* empty: not presented */
    struct pfx_proof proof;
    bool signature_verified;
};

static void proving_done(struct proving *p)
{
    pfx_source_cursor_done(&p->cursor);
    pfx_hasher_free(p->hasher);
    pfx_source_close(p->source);
}

/* The leaf: from the entry where it is presented, else from its hash tile. */
static pfx_result leaf_of(struct proving *p, struct pfx_source_nodes *nodes, struct pfx_node *ret,
                          struct pfx_error *err)
{
    uint64_t upto;
    p->cursor = pfx_source_cursor_make(p->index, p->checkpoint.size);
    if (pfx_source_next(p->source, &p->cursor, &p->json, &upto) == PFX_SOURCE_ENTRY) {
        pfx_hash_leaf(p->hasher, p->json, ret);
        return PFX_OK;
    }
    p->json = (struct pfx_bytes){NULL, 0};
    return pfx_source_node(nodes, 0, p->index, ret, err);
}

static pfx_result prove(struct proving *p, const struct pfx_audit_options *options,
                        struct pfx_error *err)
{
    PFX_TRY(pfx_source_open(options->operands[0], &p->source, err));
    int64_t number;
    if (!pfx_filter_number(options->operands[1], strlen(options->operands[1]), &number))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "prove takes an entry's number: 1234");
    p->index = (uint64_t)number;
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_checkpoint_parse(pfx_source_checkpoint(p->source), &p->checkpoint, &why)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read checkpoint", options->operands[0], "", "%s",
                        why.text);
    if (p->index >= p->checkpoint.size)
        return pfx_fail(err, PFX_CLASS_USAGE, "prove", options->operands[1], "",
                        "the checkpoint covers %llu %s; numbers begin with 0",
                        (unsigned long long)p->checkpoint.size, pfx_entries(p->checkpoint.size));
    if (options->n_keys > 0) {
        struct pfx_audit_keys keys PFX_CLEANUP(pfx_audit_keys_done) = {.n = 0};
        PFX_TRY(
            pfx_audit_keys_load(options->keys, options->n_keys, p->checkpoint.origin, &keys, err));
        PFX_TRY(pfx_checkpoint_verify(&p->checkpoint, keys.keys, keys.n, NULL, err));
        p->signature_verified = true;
    }
    p->hasher = pfx_hasher_new();
    struct pfx_source_nodes *nodes PFX_AUTOFREE = pfx_alloc(sizeof(*nodes));
    nodes->source = p->source;
    nodes->hasher = p->hasher;
    nodes->size = p->checkpoint.size;
    struct pfx_tree tree = {p->hasher, pfx_source_node, nodes};
    struct pfx_node leaf;
    PFX_TRY(leaf_of(p, nodes, &leaf, err));
    PFX_TRY(pfx_tree_inclusion(&tree, p->index, p->checkpoint.size, &p->proof, err));
    if (!pfx_inclusion_holds(p->hasher, p->index, p->checkpoint.size, &leaf, &p->proof,
                             &p->checkpoint.root))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "prove", options->operands[1], "",
                        "entry and hash tiles don't lead to the checkpoint's root: the export is "
                        "damaged or changed. pfx-audit verify says where");
    return PFX_OK;
}

static void tell(const struct proving *p, const struct pfx_audit_options *options)
{
    const char *out = options->out ? options->out : "standard output";
    pfx_text_say("entry %llu of %llu of %s: %zu hashes, to %s", (unsigned long long)p->index,
                 (unsigned long long)p->checkpoint.size, p->checkpoint.origin, p->proof.n, out);
    if (!p->signature_verified)
        pfx_text_say("the checkpoint's signature wasn't verified; pfx-audit check FILE --key KEY "
                     "does it");
    if (p->json.len == 0)
        pfx_text_say("the entry itself isn't presented in this export: the proof is of its hash in "
                     "the tiles");
}

static void print_json(const struct proving *p, const struct pfx_audit_options *options,
                       const struct pfx_buf *receipt)
{
    struct pfx_json json = pfx_json_make("pfx-audit/prove/1");
    pfx_json_int(&json, "seq", (int64_t)p->index);
    pfx_json_str(&json, "origin", p->checkpoint.origin);
    pfx_json_int(&json, "size", (int64_t)p->checkpoint.size);
    pfx_json_int(&json, "hashes", (int64_t)p->proof.n);
    pfx_json_bool(&json, "signature_verified", p->signature_verified);
    pfx_json_bool(&json, "presented", p->json.len > 0);
    pfx_json_str(&json, "out", options->out);
    pfx_json_str(&json, "proof", options->out ? NULL : pfx_buf_str(receipt));
    pfx_json_print(&json);
}

int pfx_audit_prove(const struct pfx_audit_options *options)
{
    struct proving p PFX_CLEANUP(proving_done) = {.source = NULL};
    struct pfx_buf receipt PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(RECEIPT_MAX);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(prove(&p, options, &err)))
        return pfx_audit_fail(&err);
    pfx_receipt_write(p.index, &p.proof, pfx_source_checkpoint(p.source), &receipt);
    if (options->entry && p.json.len == 0) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "prove", options->operands[1], "",
                               "the entry isn't presented in this export, so its bytes can't be "
                               "written: leave --entry away"));
        return pfx_audit_fail(&err);
    }
    if (options->out && pfx_failed(pfx_audit_put(options->out, pfx_buf_bytes(&receipt), &err)))
        return pfx_audit_fail(&err);
    if (options->entry && pfx_failed(pfx_audit_put(options->entry, p.json, &err)))
        return pfx_audit_fail(&err);
    if (options->format == PFX_AUDIT_JSON)
        print_json(&p, options, &receipt);
    else {
        tell(&p, options);
        if (!options->out)
            (void)fwrite(receipt.data, 1, receipt.len, stdout);
    }
    return PFX_AUDIT_OK;
}
