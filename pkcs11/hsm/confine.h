/* pfx-hsm shuts its sandbox, in two steps: files while there is one thread, system calls once the
 * modules are loaded, since nothing new can be mapped for running afterwards. */
#ifndef PFX_HSM_CONFINE_H
#define PFX_HSM_CONFINE_H

#include "pkcs11/hsm/hsm.h"

/* Makes the folders of state and sockets, then lets Landlock shut: before any thread. */
PFX_MUST_USE pfx_result pfx_confine_files(const struct pfx_hsm_policy *policy,
                                          struct pfx_error *err);
/* Loads and initialises every module of the policy, and keeps them so until pfx_confine_release;
 * then the filter of system calls. With sockets bound, before anything is read from them. One that
 * can't be initialised yet is warned of: libraries may be loaded until the next start then. */
PFX_MUST_USE pfx_result pfx_confine_calls(const struct pfx_hsm_policy *policy,
                                          struct pfx_error *err);
/* The modules are the roles' from now on. On a thread that may call Cryptoki; again: nothing. */
void pfx_confine_release(void);

#endif
