/* Users and groups that the configuration names. */
#ifndef PFX_CONF_ACCOUNT_H
#define PFX_CONF_ACCOUNT_H

#include <sys/types.h>

#include "crypto/result.h"

/* The uid of this name; -1 for NULL (not configured). USAGE names option and file when this host has
 * no such user. */
PFX_MUST_USE pfx_result pfx_account_user(const char *file, const char *option, const char *name,
                                         uid_t *ret_uid, struct pfx_error *err);
/* The same for a group. */
PFX_MUST_USE pfx_result pfx_account_group(const char *file, const char *option, const char *name,
                                          gid_t *ret_gid, struct pfx_error *err);

#endif
