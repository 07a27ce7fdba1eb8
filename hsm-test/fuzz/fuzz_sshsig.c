/*
 * Signatures of people, rosters, and records of approvals. The first line says which: "roster",
 * "text" (armored), "statement", "record" or "blob" (Base64 of one, so that a changed byte isn't lost
 * in the armor).
 */
#include "fuzz.h"

#include "crypto/approval.h"

static const struct pfx_bytes message = {(const uint8_t *)"message", 7};

static void try_blob(struct pfx_bytes blob)
{
    struct pfx_sshsig sig;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_sshsig_parse(blob, &sig, &err))) {
        must(err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return;
    }
    must(sig.key.data >= blob.data && sig.signature.data + sig.signature.len <= blob.data + blob.len);
    pfx_result verified = pfx_sshsig_verify(&sig, "pfx-agent", message, &err);
    if (pfx_failed(verified)) {
        must(err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return;
    }
    /* What holds for this message holds for no other one. */
    must(pfx_failed(pfx_sshsig_verify(&sig, "pfx-agent", (struct pfx_bytes){message.data, 6}, NULL)));
    must(pfx_failed(pfx_sshsig_verify(&sig, "file", message, NULL)));
}

static void try_text(struct pfx_bytes text)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(PFX_SSHSIG_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(2 * PFX_SSHSIG_TEXT_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf back = pfx_buf_make(PFX_SSHSIG_MAX);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_sshsig_unarmor(text, &blob, &err))) {
        must_say(&err);
        return;
    }
    must(pfx_sshsig_armor(pfx_buf_bytes(&blob), &again));
    must(again.len > PFX_SSHSIG_TEXT_MAX ||
         (pfx_ok(pfx_sshsig_unarmor(pfx_buf_bytes(&again), &back, NULL)) &&
          same(pfx_buf_bytes(&blob), pfx_buf_bytes(&back))));
    try_blob(pfx_buf_bytes(&blob));
}

static void try_roster(struct pfx_bytes text)
{
    PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_roster_parse(text, &roster, &err))) {
        must(err.cls == PFX_CLASS_REFUSED && roster.n == 0);
        must_say(&err);
        return;
    }
    must(pfx_roster_people(&roster) <= roster.n);
    for (size_t i = 0; i < roster.n; i++) {
        const struct pfx_roster_line *line = &roster.lines[i];
        char print[PFX_SSH_FINGERPRINT_SIZE];
        struct pfx_bytes key = {line->key, line->key_len};
        must(pfx_roster_find(&roster, key) == line && pfx_roster_names(&roster, line->principal));
        must(strlen(pfx_ssh_fingerprint(key, print)) == PFX_SSH_FINGERPRINT_SIZE - 2);
        /* As it stands in the log it says the same. */
        PFX_CLEANUP(pfx_roster_done) struct pfx_roster again = {NULL, 0};
        char *written PFX_AUTOFREE = pfx_roster_text(line);
        must(written && pfx_ok(pfx_roster_parse(
                            (struct pfx_bytes){(const uint8_t *)written, strlen(written)}, &again,
                            NULL)));
        must(again.n == 1 && pfx_roster_find(&again, key) &&
             strcmp(again.lines[0].principal, line->principal) == 0 &&
             again.lines[0].after_ms == line->after_ms &&
             again.lines[0].before_ms == line->before_ms &&
             !again.lines[0].namespaces == !line->namespaces);
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(pfx_roster_allows(line, "pfx-agent", INT64_C(1700000000000), &why)))
            must_say(&why);
    }
}

static void try_statement(struct pfx_bytes text)
{
    struct pfx_statement statement;
    struct pfx_error err = PFX_ERROR_NONE;
    char hash[65];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_STATEMENT_MAX);
    if (pfx_failed(pfx_statement_parse(text, &statement, &err)))
        must_say(&err);
    else
        must(pfx_statement_write(&statement, &again) && same(text, pfx_buf_bytes(&again)));
    if (pfx_ok(pfx_approval_args(text, hash, NULL)))
        must(strlen(hash) == 64);
}

static void try_record(struct pfx_bytes json)
{
    PFX_CLEANUP(pfx_approval_done) struct pfx_approval approval;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_approval_init(&approval);
    if (pfx_failed(pfx_approval_parse(json, &approval, &err))) {
        must(err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return;
    }
    must(pfx_approval_write(&approval, &again) && same(json, pfx_buf_bytes(&again)));
    if (pfx_failed(pfx_approval_check(&approval, INT64_C(1795334400000), &err)))
        must_say(&err);
    else
        must(approval.n_given >= PFX_APPROVERS_LEAST &&
             strcmp(approval.given[0].principal, approval.given[1].principal) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes what = take_until(&rest, '\n');
    static const struct {
        const char *name;
        void (*does)(struct pfx_bytes);
    } tries[] = {{"blob", try_blob},
                 {"roster", try_roster},
                 {"text", try_text},
                 {"statement", try_statement},
                 {"record", try_record}};
    size_t n = sizeof tries / sizeof tries[0], which = any_of(what, n);
    for (size_t i = 0; i < n; i++)
        if (is_word(what, tries[i].name))
            which = i;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(2 * PFX_SSHSIG_MAX);
    if (which == 0) {
        if (!pfx_base64_decode((const char *)rest.data, rest.len, &blob))
            return 0;
        rest = pfx_buf_bytes(&blob);
    }
    tries[which].does(rest);
    return 0;
}
