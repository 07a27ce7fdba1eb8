/*
 * Questions to pfx-hsm on its uploader socket: a client assertion, a service secret. Never blocks;
 * each question has a deadline. The line is opened when there is something to ask.
 */
#ifndef PFX_UPLOADER_BROKER_H
#define PFX_UPLOADER_BROKER_H

#include <poll.h>

#include <sys/types.h>

#include "api/wire/conn.h"
#include "api/wire/messages.h"

struct pfx_broker;
/* item: a body of the verb's result schema, borrowed; NULL unless result is OK. away: the failure
 * isn't pfx-hsm's answer: nobody listens on the socket, or the line broke, or it took too long. */
typedef void (*pfx_broker_fn)(void *ctx, pfx_result result, bool away, const struct pfx_msg *item,
                              const struct pfx_error *err);

/* path is copied. Speaks only with a pfx-hsm of this user, of root, or of its own (SO_PEERCRED):
 * what it hands out goes into requests. */
struct pfx_broker *pfx_broker_new(const char *path, uid_t expected);
void pfx_broker_free(struct pfx_broker *broker); /* drops what is asked, without a call */
/* Asks verb with one string argument. fn is called once, perhaps before this returns. */
void pfx_broker_ask(struct pfx_broker *broker, const char *verb, const char *name,
                    const char *value, pfx_broker_fn fn, void *ctx);
/* fd -1 while there is no line. Returns how long to sleep at most, -1: no limit. */
int pfx_broker_prepare(const struct pfx_broker *broker, struct pollfd *ret_pollfd);
void pfx_broker_step(struct pfx_broker *broker);

#endif
