/* One framed connection over a UNIX stream socket: u32 big-endian length, then one JSON object. */
#ifndef PFX_WIRE_CONN_H
#define PFX_WIRE_CONN_H

#include <sys/types.h>

#include "api/wire/schema.h"

struct pfx_conn;
struct pfx_peer { /* SO_PEERCRED */
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/* Takes over fd (made non-blocking, close-on-exec). accepts: what this side is willing to read now;
 * static storage. A frame longer than the largest ceiling of accepts refuses before it is read. */
struct pfx_conn *pfx_conn_new(int fd, const struct pfx_wire_schema *const *accepts, size_t n_accepts);
void pfx_conn_free(struct pfx_conn *conn); /* closes; wipes both buffers */
void pfx_conn_accepts(struct pfx_conn *conn, const struct pfx_wire_schema *const *accepts,
                      size_t n_accepts);
int pfx_conn_fd(const struct pfx_conn *conn);
const struct pfx_peer *pfx_conn_peer(const struct pfx_conn *conn);
/* POLLIN, and POLLOUT while something is queued. No POLLIN while a whole message waits for
 * pfx_conn_next: who doesn't take it, reads no further and keeps no more in memory. So after a pump
 * take messages until there is none. */
short pfx_conn_events(const struct pfx_conn *conn);
/* Reads what is there and writes what is queued. TRANSIENT: the peer is gone. Frames that are
 * complete by then can still be taken by pfx_conn_next. */
PFX_MUST_USE pfx_result pfx_conn_pump(struct pfx_conn *conn, struct pfx_error *err);
/* The next whole message; *ret_msg = NULL when there is none yet. REFUSED: hostile or of another
 * version, close it. */
PFX_MUST_USE pfx_result pfx_conn_next(struct pfx_conn *conn, struct pfx_msg **ret_msg,
                                      struct pfx_error *err);
/* Queues; pump writes. REFUSED when the peer lets more than 64 MiB pile up. */
PFX_MUST_USE pfx_result pfx_conn_send(struct pfx_conn *conn, const struct pfx_msg *msg,
                                      struct pfx_error *err);
size_t pfx_conn_queued(const struct pfx_conn *conn); /* bytes not yet written */

/* For programs that have nothing else to do: send (may be NULL), then wait for one message until
 * timeout_ms. TRANSIENT on time-out or when the peer is gone. */
PFX_MUST_USE pfx_result pfx_conn_call(struct pfx_conn *conn, const struct pfx_msg *request,
                                      int timeout_ms, struct pfx_msg **ret_reply,
                                      struct pfx_error *err);

/* Connects to a path socket; TRANSIENT when nobody listens, USAGE when the path is too long. */
PFX_MUST_USE pfx_result pfx_sock_connect(const char *path, int *ret_fd, struct pfx_error *err);
/* Listens on a path socket with this mode and group (gid -1: leave). A stale socket file is replaced
 * only when nobody answers on it. Parents are not made. */
PFX_MUST_USE pfx_result pfx_sock_listen(const char *path, mode_t mode, gid_t gid, int *ret_fd,
                                        struct pfx_error *err);
/* Accepts one connection, non-blocking; *ret_fd = -1 when there is none. */
PFX_MUST_USE pfx_result pfx_sock_accept(int listen_fd, int *ret_fd, struct pfx_error *err);
/* Is the peer root, this process's own uid, the given uid, or in the given group (gid or
 * supplementary, looked up by uid)? -1: don't care. */
bool pfx_peer_allowed(const struct pfx_peer *peer, uid_t uid, gid_t gid);

#endif
