/* The thread that owns all sockets. */
#ifndef PFX_HSM_LOOP_H
#define PFX_HSM_LOOP_H

#include "pkcs11/hsm/hsm.h"

/* Runs until SIGTERM or SIGINT (signal_fd), then finishes what runs. Failing: it couldn't start. */
PFX_MUST_USE pfx_result pfx_loop_run(struct pfx_hsm *hsm, int signal_fd, struct pfx_error *err);

#endif
