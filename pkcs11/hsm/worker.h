/* The threads that do operations: two for each of the policy's sessions, so that one is at the token
 * while another waits for the log, and one for urgent tasks alone. */
#ifndef PFX_HSM_WORKER_H
#define PFX_HSM_WORKER_H

#include "pkcs11/hsm/task.h"

#define PFX_WORKERS_A_SESSION 2u

struct pfx_workers;
PFX_MUST_USE pfx_result pfx_workers_start(struct pfx_hsm *hsm, struct pfx_queue *queue,
                                          struct pfx_workers **ret_workers, struct pfx_error *err);
/* Waits for them to end (the queue is closed and nothing runs any more) and frees. */
void pfx_workers_join(struct pfx_workers *workers);

#endif
