/* Inside of the reader; for agent/cli/backup_*.c only. */
#ifndef PFX_AGENT_CLI_BACKUP_IMPL_H
#define PFX_AGENT_CLI_BACKUP_IMPL_H

#include "agent/cli/backup.h"
#include "api/logdir/logdir.h"

#define BACKUP_SLOT "log/checkpoint.0"
#define BACKUP_SLOT_SIZE PFX_SLOT_SIZE

/* INTEGRITY, of this member, or of the archive. */
PFX_MUST_USE pfx_result backup_bad(const struct backup *backup, const char *object,
                                   struct pfx_error *err, const char *why);
/* A key line of the archive's own log; what isn't one is passed over. */
void backup_take_key(struct backup *backup, struct pfx_bytes line);
/* Entry and receipt belong to the manifest, and the log in the archive (its slot) ends before. */
PFX_MUST_USE pfx_result backup_prove(struct backup *backup, struct pfx_bytes slot,
                                     struct pfx_error *err);

#endif
