/* --with-arms: pfx-hsm and pfx-uploader as children, started again when they end. For the quick
 * start and tests; in production the service manager does it, with a user for each. */
#ifndef PFX_AGENT_SUPERVISE_H
#define PFX_AGENT_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/result.h"

struct pfx_children;
/* The programs lie beside this one. USAGE when they don't. NULL paths: the programs' own defaults.
 */
PFX_MUST_USE pfx_result pfx_children_start(const char *hsm_policy, const char *uploader_config,
                                           struct pfx_children **ret_children,
                                           struct pfx_error *err);
/* Notices who ended and starts it again with back-off. Returns ms until it wants to be called. */
int64_t pfx_children_step(struct pfx_children *children, int64_t uptime_ms);
/* SIGTERM, waits a few seconds, then SIGKILL. */
void pfx_children_stop(struct pfx_children *children);

#endif
