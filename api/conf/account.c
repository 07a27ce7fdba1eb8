#include "api/conf/account.h"

#include <grp.h>
#include <pwd.h>

static pfx_result missing(const char *file, const char *option, const char *name, const char *what,
                          struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_USAGE, option, name, "",
                    "There is no such %s on this host: make it, or correct %s in %s.", what, option,
                    file);
}

pfx_result pfx_account_user(const char *file, const char *option, const char *name, uid_t *ret_uid,
                            struct pfx_error *err)
{
    const struct passwd *user = name ? getpwnam(name) : NULL;
    if (name && !user)
        return missing(file, option, name, "user", err);
    *ret_uid = user ? user->pw_uid : (uid_t)-1;
    return PFX_OK;
}

pfx_result pfx_account_group(const char *file, const char *option, const char *name, gid_t *ret_gid,
                             struct pfx_error *err)
{
    const struct group *group = name ? getgrnam(name) : NULL;
    if (name && !group)
        return missing(file, option, name, "group", err);
    *ret_gid = group ? group->gr_gid : (gid_t)-1;
    return PFX_OK;
}
