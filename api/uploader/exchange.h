/* Exchange Online's shared mailboxes, by the interface that its PowerShell module uses: cmdlets as
 * JSON. Reads only. */
#ifndef PFX_UPLOADER_EXCHANGE_H
#define PFX_UPLOADER_EXCHANGE_H

#include "api/uploader/ca.h"

extern const struct pfx_kind pfx_exchange_kinds[];
void pfx_exchange_explain(const struct pfx_answer *answer, struct pfx_told *told);

/* What stays the same in the requests that run one cmdlet. */
struct pfx_cmdlet {
    char *path; /* "/adminapi/beta/TENANT/InvokeCommand" */
    char *lines[4];
    const char *headers[5];
};
void pfx_cmdlet_init(struct pfx_cmdlet *cmdlet, const char *name, const char *tenant);
void pfx_cmdlet_done(struct pfx_cmdlet *cmdlet);
/* For setup: asks for one shared mailbox, to see whether it may; cmdlet is one for Get-Mailbox. */
void pfx_exchange_try(struct pfx_task *task, const struct pfx_cmdlet *cmdlet, pfx_then_fn then,
                      pfx_otherwise_fn otherwise);

#endif
