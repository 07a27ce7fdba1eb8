/* The one way into a module: every C_* call of this folder goes through PFX_C, so that the watchdog
 * sees it begin and end, a missing function is an answer and not a crash, and no CK_RV is lost. */
#ifndef PFX_PKCS11_CALL_H
#define PFX_PKCS11_CALL_H

#include "pkcs11/token.h"

static inline void pfx_call_trace(const char *function, bool entering)
{
    if (pfx_cryptoki_trace)
        pfx_cryptoki_trace(function, entering);
}

#define PFX_C(functions, name, ...)                                                                \
    ({                                                                                             \
        CK_RV pfx_c_rv_ = CKR_FUNCTION_NOT_SUPPORTED;                                              \
        __typeof__((functions)->name) pfx_c_fn_ = (functions)->name;                               \
        if (pfx_c_fn_) {                                                                           \
            pfx_call_trace(#name, true);                                                           \
            pfx_c_rv_ = pfx_c_fn_(__VA_ARGS__);                                                    \
            pfx_call_trace(#name, false);                                                          \
        }                                                                                          \
        pfx_c_rv_;                                                                                 \
    })

/* The same in a session (its handle is the first argument), and the pool is told the answer. */
#define PFX_S(session, name, ...)                                                                  \
    ({                                                                                             \
        CK_RV pfx_s_rv_ =                                                                          \
            PFX_C(pfx_session_module(session), name, pfx_session_handle(session), __VA_ARGS__);    \
        pfx_session_saw(session, pfx_s_rv_);                                                       \
        pfx_s_rv_;                                                                                 \
    })

/* A module that answers CKR_OK with a length or value that can't be. Not a CKR of the standard: it
 * has the vendor bit and its own row in the table. */
#define PFX_CKR_NONSENSE (CKR_VENDOR_DEFINED | 0x50465801UL)

#endif
