/* The socket of the CLI: who may ask what, and one answer after the other without ever waiting for
 * a slow reader. */
#ifndef PFX_AGENT_COUNTER_H
#define PFX_AGENT_COUNTER_H

#include <poll.h>
#include <sys/types.h>

#include "agent/agent.h"
#include "agent/enrolment.h"
#include "agent/pass.h"

#define PFX_COUNTER_ASKERS 32
#define PFX_COUNTER_POLLFDS (PFX_COUNTER_ASKERS + 1)

enum pfx_asker_role { PFX_ASKER_NOBODY, PFX_ASKER_AUDITOR, PFX_ASKER_OPERATOR };

struct pfx_asker;
struct pfx_verb {
    const char *name;
    enum pfx_asker_role least;
    bool noted; /* it changes something: a note for the operation log says who asked */
    /* Begins the answer. A verb that can't end at once sets asker->step. */
    void (*start)(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                  int64_t now_ms);
};
extern const struct pfx_verb pfx_verbs[];

/* Acts on one enrolment in the caller's transaction. REFUSED: it isn't in a state for it. */
typedef pfx_result (*pfx_act_fn)(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                                 struct pfx_error *err);

/* What a verb that goes on needs between two rounds. */
struct pfx_selection {
    pfx_act_fn act; /* NULL: they are listed only */
    int64_t enrolment; /* 0: any */
    char *user, *state;
    int64_t after; /* ids up to this are done */
    int64_t done, refused;
    char *record; /* Intune's id of a record; NULL: any */
    char *last;   /* ids of records up to this are done; NULL: none */
};
struct pfx_asker {
    struct pfx_agent *agent;
    struct pfx_conn *conn; /* NULL: free */
    bool unsaid;           /* an item of this request couldn't be written */
    bool broken;           /* can't be written to any more; cleared away in the next round */
    enum pfx_asker_role role;
    int64_t request; /* 0: nothing is asked */
    const struct pfx_verb *verb;
    const struct pfx_wire_pair *pair;
    void (*step)(struct pfx_asker *asker, int64_t now_ms); /* called while there is room */
    int64_t rest_uptime; /* the step isn't called before then; 0: at once */
    struct pfx_selection select;
    void *work;              /* what a step goes on with; NULL: nothing */
    void (*work_free)(void *work);
    int64_t job;             /* waits for this one's answer; 0: for none */
    int64_t job_uptime;      /* since then */
    struct pfx_msg *answer;  /* to be told on; NULL: none */
    bool noted;              /* the operation log will tell of the request */
    int64_t heard_uptime;    /* last request or progress of the reader */
    size_t queued;           /* then */
};
/* An empty body of the verb's items. */
struct pfx_msg *pfx_asker_body(const struct pfx_asker *asker);
void pfx_asker_item(struct pfx_asker *asker, struct pfx_msg *body); /* frees body */
/* err may be NULL. */
void pfx_asker_end(struct pfx_asker *asker, int exit, const struct pfx_error *err);
/* The same with the class's exit code. */
void pfx_asker_fail(struct pfx_asker *asker, const struct pfx_error *err);

/* What was asked for is done: a note of it for the operation log, in the transaction of that.
 * enrolment 0: none. fail: why it isn't done, or NULL. */
PFX_MUST_USE pfx_result pfx_asker_note(struct pfx_asker *asker, int64_t enrolment,
                                       const struct pfx_error *fail, int64_t now_ms,
                                       struct pfx_error *err);
/* The same in a transaction of its own, for what the store has no part in. */
PFX_MUST_USE pfx_result pfx_asker_noted(struct pfx_asker *asker, int64_t now_ms,
                                        struct pfx_error *err);
uid_t pfx_asker_uid(const struct pfx_asker *asker);

/* A job of a request of the CLI was answered: whoever waits for it is told; where nobody does any
 * more, that is all. In the transaction of the answer. */
struct pfx_answer;
PFX_MUST_USE pfx_result pfx_counter_answer(struct pfx_agent *agent, const struct pfx_answer *answer,
                                           struct pfx_error *err);
/* Jobs that were put out for requests which ended with the last process. At the start. */
PFX_MUST_USE pfx_result pfx_counter_forget(struct pfx_agent *agent, struct pfx_error *err);
/* The asker who waits for this job; NULL: none. */
struct pfx_asker *pfx_counter_waiting(struct pfx_counter *counter, int64_t job);
/* Does another one go on with this step? */
bool pfx_counter_works(const struct pfx_counter *counter, const struct pfx_asker *but,
                       void (*step)(struct pfx_asker *asker, int64_t now_ms));
/* Looks after one who waits: ends the request when the answer doesn't come. */
void pfx_asker_watch(struct pfx_asker *asker);
/* The request is over: nobody waits for its job any more, so it doesn't go out. */
void pfx_asker_forget_job(struct pfx_asker *asker);

PFX_MUST_USE pfx_result pfx_counter_open(struct pfx_agent *agent, gid_t operators, gid_t auditors,
                                         struct pfx_counter **ret_counter, struct pfx_error *err);
void pfx_counter_close(struct pfx_counter *counter);
/* Returns how many were filled. Sets *ret_busy where a request waits that was read already (don't
 * sleep), and else leaves it alone. */
size_t pfx_counter_prepare(struct pfx_counter *counter, struct pollfd *fds, bool *ret_busy);
/* Until the first verb that rests goes on; INT64_MAX: none rests. */
int64_t pfx_counter_wait(const struct pfx_counter *counter);
void pfx_counter_step(struct pfx_counter *counter, int64_t now_ms);

/* The verbs' beginnings, by file. */
void pfx_verb_run(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_status(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_list(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_show(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_cancel(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_retry(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_release(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_resend(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_revoke(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_copies(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_records(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_remove(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_setup(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_log_names(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_backup(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_pause(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_rewrap(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_rebuild(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_exposed(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_key_records(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);
void pfx_verb_resume(struct pfx_agent *, struct pfx_asker *, const struct pfx_msg *, int64_t);

#endif
