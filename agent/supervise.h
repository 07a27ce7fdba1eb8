/* --with-arms: pfx-hsm and pfx-uploader as children, started again when they end. For the quick
 * start and tests; in production the service manager does it, with a user for each.
 *
 * A process of its own does it, which is split off before anything is open: pfx-agentd itself can
 * start nothing once its sandbox is shut. It reads nothing but the line to pfx-agentd, and ends,
 * with the arms, when that is gone. */
#ifndef PFX_AGENT_SUPERVISE_H
#define PFX_AGENT_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/result.h"

struct pfx_children;
/* Forks the watching process. The programs lie beside this one; USAGE when they don't. NULL paths:
 * the programs' own defaults. */
PFX_MUST_USE pfx_result pfx_children_split(const char *hsm_policy, const char *uploader_config,
                                           struct pfx_children **ret_children,
                                           struct pfx_error *err);
/* Now they may start. */
void pfx_children_start(struct pfx_children *children);
/* Readable once the watching process is gone; -1 for NULL. */
int pfx_children_fd(const struct pfx_children *children);
/* SIGTERM to each, a few seconds, then SIGKILL. Returns when they are gone. */
void pfx_children_stop(struct pfx_children *children);

#endif
