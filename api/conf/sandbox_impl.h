/* Inside of the sandbox. */
#ifndef PFX_CONF_SANDBOX_IMPL_H
#define PFX_CONF_SANDBOX_IMPL_H

#include "api/conf/sandbox.h"

struct pfx_sandbox {
    enum pfx_sandbox_for whom;
    int ruleset; /* of Landlock; -1: the kernel has none */
    bool late_code;
    bool devices; /* some path has PFX_REACH_DEVICE */
};
/* What holds already; filled by the two that make it so. */
struct pfx_sandbox_held {
    int landlock_abi;
    bool calls, late_code;
};
extern struct pfx_sandbox_held pfx_sandbox_held;
const char *pfx_sandbox_name(enum pfx_sandbox_for whom);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PFX_SANDBOX_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PFX_SANDBOX_SANITIZER 1
#endif
#endif
#ifndef PFX_SANDBOX_SANITIZER
#define PFX_SANDBOX_SANITIZER 0
#endif

#endif
