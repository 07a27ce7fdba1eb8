/* Receipts of a whole log at once, for cli_log.py: for each line on stdin that is the path of a
 * log's folder, the receipt of every covered entry goes to stdout, each behind its length as a
 * line. */
#include <stdio.h>
#include <string.h>

#include "agent/cli/cmd_log.h"

static pfx_result all(const char *path, struct pfx_error *err)
{
    struct pfx_logdir *dir CLI_AUTOLOG = NULL;
    const struct pfx_checkpoint *checkpoint = NULL;
    PFX_TRY(pfx_logdir_open(path, &dir, err));
    (void)pfx_logdir_checkpoint(dir, &checkpoint);
    for (uint64_t seq = 0; seq < checkpoint->size; seq++) {
        struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
        struct pfx_buf entry PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ENTRY_MAX + 1);
        PFX_TRY(pfx_logdir_receipt(dir, seq, &out, &entry, err));
        (void)printf("%zu\n", out.len);
        (void)fwrite(out.data, 1, out.len, stdout);
    }
    (void)printf("end\n");
    return fflush(stdout) == 0 ? PFX_OK : pfx_fail(err, PFX_CLASS_INTERNAL, "", "", "", "stdout");
}

int main(void)
{
    char line[4096];
    while (fgets(line, sizeof(line), stdin)) {
        struct pfx_error err = PFX_ERROR_NONE;
        line[strcspn(line, "\n")] = '\0';
        if (pfx_failed(all(line, &err))) {
            (void)fprintf(stderr, "%s %s\n", err.object, err.text);
            return 1;
        }
    }
    return 0;
}
