/*
 * The way of the notes to pfx-hsm: numbered from 1 without gaps, kept until it says that they are
 * in the log and on disk, at most 200 in one job, one job at a time.
 *
 * pfx-hsm passes over numbers that it has and refuses a gap, so a note that is sent twice is there
 * once. Where the two count differently, because an older store was put back or pfx-hsm began
 * another log, the notes that wait get new numbers after pfx-hsm's last, and a note says so. For
 * that an empty job asks for pfx-hsm's last number, each time one of the two has started.
 */
#ifndef PFX_AGENT_NOTES_QUEUE_H
#define PFX_AGENT_NOTES_QUEUE_H

#include "agent/steps.h"

#define PFX_NOTES_MOST 100000   /* that wait; more are counted and dropped */
#define PFX_NOTES_REFUSALS 1000 /* refused and failed commands noted in an hour */

/* A note with event, outcome, time and actor "self"; the caller sets what else it has. */
struct pfx_msg *pfx_notes_new(const char *event, enum pfx_class outcome, int64_t now_ms);
/* Puts it into the queue, or counts it where the queue is full. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_notes_add(struct pfx_store *store, struct pfx_msg *note, int64_t now_ms,
                                      struct pfx_error *err);

/* The body of an hsm.log job that leaves now. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_notes_fill(struct pfx_agent *agent, struct pfx_msg *body,
                                       struct pfx_error *err);
/* Its answer, in the transaction of that. */
PFX_MUST_USE pfx_result pfx_notes_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                         struct pfx_error *err);
/* pfx-hsm has come, or come back: ask it for its number before anything is sent. */
void pfx_notes_hello(struct pfx_agent *agent);

/* agentd.start; a job for what waits from before. A store that can't be written is tried again by
 * pfx_notes_tick. Both have their own transactions. */
void pfx_notes_start(struct pfx_agent *agent, int64_t now_ms);
void pfx_notes_stop(struct pfx_agent *agent,
                    int64_t now_ms); /* agentd.stop, if there was a start */
void pfx_notes_tick(struct pfx_agent *agent, int64_t now_ms);
/* May one more refused or failed command be noted in this hour? If not, it is counted, and told
 * once the hour is over. Whoever may open the socket could else fill the queue and the log. */
bool pfx_notes_may_refuse(struct pfx_agent *agent);

struct pfx_notes_facts {
    int64_t queued;
    int64_t since; /* time of the oldest; 0: none */
    int64_t dropped;
};
PFX_MUST_USE pfx_result pfx_notes_facts(struct pfx_store *store, struct pfx_notes_facts *ret_facts,
                                        struct pfx_error *err);

#endif
