/* Put before each source for the analyzers (tools/static.py): what they can't see from a prototype.
 */
#ifndef PFX_TEST_STATIC_H
#define PFX_TEST_STATIC_H

#include "crypto/result.h"

/* A failure is never PFX_OK, so nobody goes on without the outputs. */
static inline pfx_result pfx_is_failure(pfx_result r)
{
    if (r.cls == PFX_CLASS_OK)
        __builtin_unreachable();
    return r;
}
#define pfx_fail(...) pfx_is_failure(pfx_fail(__VA_ARGS__))
#define pfx_fail_errno(...) pfx_is_failure(pfx_fail_errno(__VA_ARGS__))

#endif
