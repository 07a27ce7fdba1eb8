/* pfx-audit verify */
#include "agent/audit/verify.h"

static pfx_result verify(struct pfx_verify *all, struct pfx_error *err)
{
    PFX_TRY(pfx_verify_open(all, err));
    for (size_t i = 0; i < all->n_logs; i++)
        PFX_TRY(pfx_verify_log(&all->logs[i], err));
    pfx_verify_limits(all);
    return pfx_meaning_finish(all->meaning, all->whole, err);
}

int pfx_audit_verify(const struct pfx_audit_options *options)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (options->n_keys == 0) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "verify", "--key", "",
                               "give the log's public key, from where you trust it: keys/ in the "
                               "export is the host's word"));
        return pfx_audit_fail(&err);
    }
    PFX_CLEANUP(pfx_report_freep) struct pfx_report *report = pfx_report_new();
    PFX_CLEANUP(pfx_meaning_freep) struct pfx_meaning *meaning = pfx_meaning_new(report);
    PFX_CLEANUP(pfx_hasher_freep) struct pfx_hasher *hasher = pfx_hasher_new();
    PFX_CLEANUP(pfx_verify_done)
    struct pfx_verify all = {
        .options = options, .report = report, .meaning = meaning, .hasher = hasher};
    if (pfx_failed(verify(&all, &err)))
        return pfx_audit_fail(&err);
    if (options->format == PFX_AUDIT_JSON)
        pfx_report_json(report, stdout);
    else
        pfx_report_text(report, stdout);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("pfx-audit: the report can't be written\n", stderr);
        return 70;
    }
    return pfx_report_exit(report);
}
