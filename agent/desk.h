/*
 * The sockets of the arms: pfx-hsm and pfx-uploader connect, say who they are, pull jobs and bring
 * answers. One of each role at a time.
 */
#ifndef PFX_AGENT_DESK_H
#define PFX_AGENT_DESK_H

#include <poll.h>
#include <sys/types.h>

#include "agent/agent.h"

enum pfx_arm_role { PFX_ARM_HSM, PFX_ARM_UPLOADER, PFX_ARM_ROLES };
const char *pfx_arm_role_name(enum pfx_arm_role role); /* "hsm", "uploader" */

#define PFX_DESK_POLLFDS 20 /* most that pfx_desk_prepare fills */

/* Listens on run_dir/hsm and run_dir/uploader. uid: who may connect besides root and this user. */
PFX_MUST_USE pfx_result pfx_desk_open(struct pfx_agent *agent, const uid_t uids[PFX_ARM_ROLES],
                                      struct pfx_desk **ret_desk, struct pfx_error *err);
void pfx_desk_close(struct pfx_desk *desk); /* says goodbye; removes the sockets */
/* Returns how many were filled. *ret_busy: a message waits already, don't sleep. */
size_t pfx_desk_prepare(struct pfx_desk *desk, struct pollfd *fds, bool *ret_busy);
/* Accepts, reads, applies answers, closes who is silent. Never blocks. */
void pfx_desk_step(struct pfx_desk *desk, int64_t now_ms);
/* Hands out what is due. Never blocks. */
void pfx_desk_hand_out(struct pfx_desk *desk, int64_t now_ms);

struct pfx_arm_facts {
    bool connected;
    char version[33];
    char sandbox[200]; /* in the arm's own words; "": it said nothing */
    int64_t pid;
    int64_t since_ms;     /* connected, or gone, since: wall clock; 0: never seen */
    int64_t since_uptime; /* the same by the clock of time-outs */
    size_t jobs;          /* out at it */
};
void pfx_desk_facts(const struct pfx_desk *desk, enum pfx_arm_role role,
                    struct pfx_arm_facts *ret_facts);

#endif
