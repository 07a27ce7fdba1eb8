/* A question as a line of its file: "<seq of approval.ask> <record>", or "- <record>" where no log
 * took it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/lines.h"
#include "pkcs11/hsm/approvals_impl.h"

bool pfx_question_write(const struct pfx_question *question, struct pfx_buf *out)
{
    bool ok = question->seq == PFX_NOT_LOGGED ? pfx_buf_add_str(out, "- ")
                                              : pfx_buf_addf(out, "%" PRIu64 " ", question->seq);
    return ok && pfx_approval_write(&question->approval, out);
}

bool pfx_question_parse(struct pfx_bytes line, struct pfx_question *question)
{
    struct pfx_error why = PFX_ERROR_NONE;
    uint64_t seq = PFX_NOT_LOGGED;
    const uint8_t *space = line.len > 0 ? memchr(line.data, ' ', line.len) : NULL;
    if (!space)
        return false;
    struct pfx_bytes number = {line.data, (size_t)(space - line.data)};
    if (!pfx_bytes_equal(number, "-") && !pfx_bytes_decimal(number, &seq))
        return false;
    struct pfx_bytes record = {space + 1, line.len - number.len - 1};
    if (pfx_failed(pfx_approval_parse(record, &question->approval, &why)))
        return false;
    question->seq = seq;
    snprintf(question->id, sizeof question->id, "%.8s", question->approval.statement.nonce);
    return true;
}
