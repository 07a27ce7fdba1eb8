/* The two sockets that pfx-hsm listens on, and the lines to whoever connected. One thread. */
#ifndef PFX_HSM_SERVER_H
#define PFX_HSM_SERVER_H

#include <poll.h>

#include "pkcs11/hsm/task.h"

struct pfx_server;
/* Makes the folder of the sockets if it is missing. */
PFX_MUST_USE pfx_result pfx_server_folder(const struct pfx_hsm_policy *policy,
                                          struct pfx_error *err);
/* Listens on run_dir/admin and run_dir/uploader. USAGE for a user or group of the policy that
 * doesn't exist here. */
PFX_MUST_USE pfx_result pfx_server_new(struct pfx_hsm *hsm, struct pfx_queue *queue,
                                       struct pfx_server **ret_server, struct pfx_error *err);
void pfx_server_free(struct pfx_server *server); /* closes every line; the socket files go */
#define PFX_SERVER_POLLFDS 66
/* Fills at most PFX_SERVER_POLLFDS and returns how many; *ret_busy: a line has a whole message in
 * its buffer already, so don't sleep. */
size_t pfx_server_prepare(struct pfx_server *server, struct pollfd *fds, bool *ret_busy);
void pfx_server_step(struct pfx_server *server);
/* Takes the answer over. */
void pfx_server_answer(struct pfx_server *server, struct pfx_answer *answer);
/* No new lines and no new requests. */
void pfx_server_quiet(struct pfx_server *server);
size_t pfx_server_unwritten(const struct pfx_server *server); /* bytes */

#endif
