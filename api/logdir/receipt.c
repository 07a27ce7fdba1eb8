/* The proof that one entry stands in the log, from the folder's own files. */
#include <stdio.h>

#include "api/logdir/logdir.h"

/* The proof holds, or it isn't given out. */
pfx_result pfx_logdir_receipt(struct pfx_logdir *dir, uint64_t seq, struct pfx_buf *out,
                              struct pfx_buf *ret_entry, struct pfx_error *err)
{
    struct pfx_hasher *hasher PFX_CLEANUP(pfx_hasher_freep) = pfx_hasher_new();
    const struct pfx_checkpoint *checkpoint = NULL;
    struct pfx_bytes note = pfx_logdir_checkpoint(dir, &checkpoint), json;
    struct pfx_tree tree = {hasher, pfx_logdir_node, dir};
    struct pfx_proof proof;
    struct pfx_node leaf;
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_logdir_entry(dir, seq, &json, &why);
    if (pfx_ok(r)) {
        pfx_hash_leaf(hasher, json, &leaf);
        (void)pfx_buf_add(ret_entry, json.data, json.len);
    } else if (r.cls == PFX_CLASS_REFUSED) /* dropped: its hash is kept */
        PFX_TRY(pfx_logdir_node(dir, 0, seq, &leaf, err));
    else {
        *err = why;
        return r;
    }
    PFX_TRY(pfx_tree_inclusion(&tree, seq, checkpoint->size, &proof, err));
    if (!pfx_inclusion_holds(hasher, seq, checkpoint->size, &leaf, &proof, &checkpoint->root)) {
        char object[64];
        (void)snprintf(object, sizeof(object), "entry %llu", (unsigned long long)seq);
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "prove", object, "",
                        "the log's files don't give the root that the checkpoint signs. Keep the "
                        "folder as it is; pfx-agent log export says what is damaged");
    }
    pfx_receipt_write(seq, &proof, note, out);
    return PFX_OK;
}
