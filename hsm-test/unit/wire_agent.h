/* A little pfx-agentd, and an arm that talks to it in the same thread. */
#ifndef WIRE_AGENT_H
#define WIRE_AGENT_H

#include "api_test.h"

#include "api/wire/arm.h"
#include "api/wire/messages.h"

extern struct pfx_error err;
extern const char *folder;

/* The arm under test, an uploader with three places, and what it was given. */
extern struct pfx_arm *arm;
extern struct seen {
    int jobs, online, offline;
    int64_t job, lease;
    char kind[33];
    int minutes;
    bool answer_at_once;
} seen;
extern const struct pfx_arm_ops seen_ops; /* with &seen */

extern struct agent {
    int listener;
    struct pfx_conn *conn;
    int credit, most_credit; /* as the arm granted it */
} agent;

int set_up(void **state);
int tear_down(void **state);
void start_agent(void);
void drop_line(void);

/* Lets both sides run until the agent has a message of this type, which the caller frees; pulls are
 * counted on the way. NULL once the line is closed. */
struct pfx_msg *expect(const struct pfx_wire_schema *schema);
void run(void); /* for a moment, whatever comes */

/* What the agent says... */
void push(const struct pfx_msg *msg);
void greet(size_t holds); /* after a hello that is right and lists so many jobs */
void give(int64_t job, int64_t lease, const char *kind, const char *body);
void ack(int64_t job, int64_t lease);

/* ...and how the arm answers up.order_changes. */
void changes_result(struct pfx_msg **ret);
void done_ok(int64_t job, int64_t lease);
void expect_done(int64_t job, int64_t lease, const char *cls);

#endif
