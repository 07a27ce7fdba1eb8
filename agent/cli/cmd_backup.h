/* What backup and restore share. */
#ifndef PFX_AGENT_CLI_CMD_BACKUP_H
#define PFX_AGENT_CLI_CMD_BACKUP_H

#include "agent/cli/backup.h"

struct backup_keys {
    size_t n;
    struct pfx_vkey keys[BACKUP_KEYS];
};
void backup_keys_done(struct backup_keys *keys); /* usable as cleanup */
static inline void backup_freep(struct backup **backup)
{
    backup_done(*backup);
    free(*backup);
}

/* agent.yaml of this call, absolute; the others lie beside it. Free it. */
char *backup_config_path(const struct cli *cli);
/* Who signed: a key of --vkey, or else of the log that is on this host (*ret_known), or else only one
 * that the archive brings itself. INTEGRITY: not even that. */
PFX_MUST_USE pfx_result backup_trust(const struct cli *cli, const struct backup *backup,
                                     bool *ret_known, struct pfx_error *err);
/* The keys of the log that is on this host, if it is of the same origin. */
void backup_host_keys(const struct cli *cli, const struct backup *backup, struct backup_keys *keys);
/* Says so on stderr when that log goes on after the backup, and when it knows of a later one. */
void backup_host_later(const struct cli *cli, const struct backup *backup);
/* What it is, on stdout: for people, and as a JSON line of this schema. */
void backup_show(const struct backup *backup, bool known);
void backup_json(const struct backup *backup, const char *schema, bool known);

#endif
