/*
 * Rebuilding: a delivered enrolment whose record names another generation of the encryption key than
 * the active one gets a new PFX of its kept key under a new password, sealed to the active one, and
 * its record in Intune is updated and read back.
 *
 * The enrolment stays ACTIVE all the while, and so does the old record until it is updated: what is
 * on its way is a row of the table rebuild, which goes through CHECKED, SEALED and IMPORTED by the
 * flow's own table. What is refused stays there as HELD, with the old record as good as before.
 */
#ifndef PFX_AGENT_REBUILD_H
#define PFX_AGENT_REBUILD_H

#include "agent/agent.h"
#include "agent/enrolment.h"
#include "agent/outbox.h"

/* Does the job belong to a rebuild? */
bool pfx_rebuild_job(const struct pfx_job_row *job);

/* The enrolment as its new record will be: generation, key and provider of the new seal. id 0: the
 * rebuild isn't wanted any more, and its row is gone. In the caller's transaction, as the next two.
 */
PFX_MUST_USE pfx_result pfx_rebuild_load(struct pfx_agent *agent, const struct pfx_job_row *job,
                                         struct pfx_enrolment *ret_e, struct pfx_error *err);
/* A job that can't be handed out: built again where only its parcel is gone, else HELD. */
PFX_MUST_USE pfx_result pfx_rebuild_put_aside(struct pfx_agent *agent, const struct pfx_job_row *job,
                                              const struct pfx_enrolment *e,
                                              const struct pfx_error *bad, int64_t now_ms,
                                              struct pfx_error *err);
struct pfx_answer;
PFX_MUST_USE pfx_result pfx_rebuild_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                           struct pfx_error *err);
/* A record came to name this generation: where it isn't the active one, and a round goes on, that
 * begins to look anew, since it may be past the place of this one. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_rebuild_landed(struct pfx_agent *agent, int64_t generation,
                                           struct pfx_error *err);

/* rebuild_start.c: which ones, and when. Begins a round; one that goes on goes on, and takes what is
 * held up again. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_rebuild_begin(struct pfx_agent *agent, int64_t now_ms,
                                          struct pfx_error *err);
/* Puts the next few out, in a transaction of its own. */
PFX_MUST_USE pfx_result pfx_rebuild_tick(struct pfx_agent *agent, int64_t now_ms,
                                         struct pfx_error *err);
struct pfx_rebuild_facts {
    int64_t started;  /* 0: none goes on */
    int64_t finished; /* the last one; 0: none yet */
    int64_t target;   /* generation of the round, or of the last one; 0: none is active */
    int64_t left;     /* delivered, sealed to another generation; what follows is a part of it */
    int64_t working, held;
    int64_t passed; /* of this round: can't be rebuilt, or needn't be */
    int64_t done;   /* of this round */
    int64_t left_ms; /* estimate of what is left to do; 0: nothing */
};
PFX_MUST_USE pfx_result pfx_rebuild_facts(struct pfx_agent *agent,
                                          struct pfx_rebuild_facts *ret_facts,
                                          struct pfx_error *err);
/* Why this one isn't rebuilt, and what follows; NULL: it can be. until: when its record goes of
 * itself, 0: it doesn't. */
struct pfx_rebuild_why {
    const char *why, *next;
    bool needless; /* nobody needs its record to be opened */
};
PFX_MUST_USE pfx_result pfx_rebuild_why_not(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                            int64_t now_ms, struct pfx_rebuild_why *ret_why,
                                            struct pfx_error *err);

#endif
