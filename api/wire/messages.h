/* Every message and every job body of the three sockets, by name. The tables stand in messages.c
 * (envelopes), jobs.c, verbs_agent.c and verbs_admin.c. */
#ifndef PFX_WIRE_MESSAGES_H
#define PFX_WIRE_MESSAGES_H

#include "api/wire/schema.h"

#define PFX_WIRE_VERSION 1

/* Envelopes between pfx-agentd and its arms. */
extern const struct pfx_wire_schema pfx_s_error;   /* {class, op, object, code, text} */
extern const struct pfx_wire_schema pfx_s_hello;   /* {role, version, incarnation, pid, kinds[], capacity, holds[]} */
extern const struct pfx_wire_schema pfx_s_hold;    /* {job, lease} */
extern const struct pfx_wire_schema pfx_s_welcome; /* {version, incarnation} */
extern const struct pfx_wire_schema pfx_s_bye;     /* {why} */
extern const struct pfx_wire_schema pfx_s_pull;    /* {max}: this many more jobs than it holds now */
extern const struct pfx_wire_schema pfx_s_job;     /* {job, lease, deadline, kind, body} */
extern const struct pfx_wire_schema pfx_s_beat;    /* {job, lease} */
extern const struct pfx_wire_schema pfx_s_done;    /* {job, lease, class, error?, body?} */
extern const struct pfx_wire_schema pfx_s_ack;     /* {job, lease} */

/* CLI to pfx-agentd (socket cli) and to pfx-hsm (socket admin); uploader to pfx-hsm (uploader). */
extern const struct pfx_wire_schema pfx_s_req;  /* {id, verb, args?}: args' schema by verb */
extern const struct pfx_wire_schema pfx_s_item; /* {id, body}: body's schema by verb */
extern const struct pfx_wire_schema pfx_s_end;  /* {id, exit, error?} */

/* A job body, or args, without members: {}. */
extern const struct pfx_wire_schema pfx_s_none;

/* One row for each job kind and each verb: what goes in, what comes back. */
struct pfx_wire_pair {
    const char *name;
    const struct pfx_wire_schema *request; /* job body, or args */
    const struct pfx_wire_schema *result;  /* done body, or item body; NULL: none */
};
extern const struct pfx_wire_pair pfx_wire_jobs[];   /* "hsm.*" and "up.*"; ends with name NULL */
extern const struct pfx_wire_pair pfx_wire_agent[];  /* verbs on pfx-agentd's cli socket */
extern const struct pfx_wire_pair pfx_wire_admin[];  /* verbs on pfx-hsm's admin socket */
extern const struct pfx_wire_pair pfx_wire_broker[]; /* verbs on pfx-hsm's uploader socket */
const struct pfx_wire_pair *pfx_wire_find(const struct pfx_wire_pair *table, const char *name);

#endif
