/* Receipts: an entry's index, its proof and the checkpoint that it leads to (C2SP tlog-proof). */
#include "crypto/checkpoint.h"

#include <stdio.h>

#include "crypto/encode.h"
#include "crypto/lines.h"

#define TITLE "c2sp.org/tlog-proof@v1"

void pfx_receipt_write(uint64_t index, const struct pfx_proof *proof, struct pfx_bytes checkpoint,
                       struct pfx_buf *out)
{
    pfx_buf_addf(out, TITLE "\nindex %llu\n", (unsigned long long)index);
    for (size_t i = 0; i < proof->n; i++) {
        pfx_base64_encode(proof->path[i].bytes, PFX_HASH_SIZE, out);
        pfx_buf_add(out, "\n", 1);
    }
    pfx_buf_add(out, "\n", 1);
    pfx_buf_add(out, checkpoint.data, checkpoint.len);
}

static pfx_result bad(struct pfx_error *err, unsigned line, const char *why)
{
    char object[32];
    snprintf(object, sizeof object, "line %u", line);
    return pfx_fail(err, PFX_CLASS_REFUSED, "read receipt", object, "", "%s", why);
}

pfx_result pfx_receipt_parse(struct pfx_bytes text, uint64_t *ret_index,
                             struct pfx_proof *ret_proof, struct pfx_bytes *ret_checkpoint,
                             struct pfx_error *err)
{
    struct pfx_lines lines = {text, 0};
    struct pfx_bytes line;
    if (!pfx_lines_next(&lines, &line) || !pfx_bytes_equal(line, TITLE))
        return bad(err, 1, "It isn't the title of a receipt, " TITLE ".");
    bool have = pfx_lines_next(&lines, &line);
    /* One line for applications, which nothing vouches for. */
    if (have && pfx_bytes_skip(&line, "extra ")) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf extra = pfx_buf_make(line.len);
        if (!pfx_base64_decode((const char *)line.data, line.len, &extra))
            return bad(err, lines.n, "The extra data isn't Base64.");
        have = pfx_lines_next(&lines, &line);
    }
    uint64_t index;
    if (!have || !pfx_bytes_skip(&line, "index ") || !pfx_bytes_decimal(line, &index))
        return bad(err, lines.n,
                   "It must be the word index, a space and a decimal number below "
                   "2^53 without leading zeros.");
    struct pfx_proof proof = {.n = 0};
    for (;;) {
        if (!pfx_lines_next(&lines, &line))
            return bad(err, lines.n, "The text ends before the empty line and the checkpoint.");
        if (line.len == 0)
            break;
        if (proof.n >= PFX_PROOF_MAX)
            return bad(err, lines.n, "The proof has more hashes than any tree needs.");
        if (!pfx_bytes_node(line, &proof.path[proof.n]))
            return bad(err, lines.n, "A hash must be the Base64 of 32 bytes.");
        proof.n++;
    }
    if (lines.rest.len == 0)
        return bad(err, lines.n + 1, "There is no checkpoint.");
    *ret_index = index;
    *ret_proof = proof;
    *ret_checkpoint = lines.rest;
    return PFX_OK;
}
