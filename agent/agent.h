/* What the parts of pfx-agentd share: configuration, store, and who is connected. */
#ifndef PFX_AGENT_AGENT_H
#define PFX_AGENT_AGENT_H

#include <sys/types.h>

#include "agent/limit.h"
#include "agent/name.h"
#include "agent/store.h"
#include "api/conf/agent_conf.h"
#include "api/wire/messages.h"
#include "crypto/encode.h"

struct pfx_desk;    /* the arms' sockets: desk.h */
struct pfx_counter; /* the CLI's socket: counter.h */
struct pfx_run;     /* the run that an operator watches: run.h */
struct pfx_sweep;   /* where an evaluation stands: pass.h */

/* How far it is with the notes for the operation log: notes_queue.h. */
struct pfx_notes_state {
    bool known;        /* pfx-hsm has said which number is its last */
    bool told;         /* that they were numbered anew, and none was taken since */
    int64_t most;      /* of one job; 0: as many as there may be */
    int64_t failures;  /* of pfx-hsm, in a row */
    bool started;      /* agentd.start is written */
    int64_t start_ms, next_uptime, hour_uptime;
    unsigned refusals; /* noted in this hour */
    int64_t untold;    /* refusals over the limit */
};

struct pfx_agent {
    const struct pfx_agent_conf *conf;
    struct pfx_store *store;
    struct pfx_names *names;
    char incarnation[PFX_GUID_SIZE];
    int64_t job_deadline_ms;    /* an arm without a sign of life for so long is taken for hung */
    int64_t report_uptime;      /* pfx-hsm is asked how it is then; 0: it is asked, or away */
    int64_t patience_ms;        /* a person who waits is told after so long that nothing comes */
    bool no_orders, no_uploads; /* paused; the store has them too */
    int64_t restored_from, restored_at; /* restored.h; 0: this store is no backup's */
    bool no_rebuild;            /* the same */
    int64_t rebuild_since;      /* clock of time-outs: the rebuild goes on since then; 0: it doesn't */
    int64_t rebuild_base;       /* rebuilt until then */
    bool marking;               /* more are exposed: compromise.h */
    struct pfx_desk *desk;
    struct pfx_counter *counter;
    struct pfx_run *run;     /* NULL: none */
    struct pfx_sweep *evaluation; /* at the end of a pass; NULL: none */
    int64_t pass_again_uptime;    /* the end of the pass failed: not before then */
    unsigned pass_failures;       /* in a row */
    bool blobs_erased;       /* wrapped keys: the log is emptied of them, not after each one */
    int64_t blobs_uptime;    /* not before then */
    int64_t discards_most, discards_put; /* keys that are destroyed at once; in the last tick */
    bool checkpoint;         /* a parcel was erased: empty the log */
    struct pfx_notes_state notes;
    struct pfx_limit stale;  /* answers that nobody waits for, in the history */
    char store_trouble[800]; /* the last write that failed; "" once one went well again */
    int64_t store_changes;   /* rows changed until then */
};

/* Reads what is kept in the store into the fields above. */
PFX_MUST_USE pfx_result pfx_agent_init(struct pfx_agent *agent, struct pfx_error *err);
/* uid: whose command it is. */
struct pfx_pausing {
    bool orders, uploads, rebuild;
};
PFX_MUST_USE pfx_result pfx_agent_pause(struct pfx_agent *agent, const struct pfx_pausing *what,
                                        bool paused, uid_t uid, int64_t now_ms,
                                        struct pfx_error *err);
/* Everything that is due by the clock: passes, polls. Failures are logged and tried again. */
void pfx_agent_tick(struct pfx_agent *agent, int64_t now_ms);
/* Remembers what a transaction came to: a failure is logged once, and is over when something could
 * be written again. */
void pfx_agent_store_result(struct pfx_agent *agent, pfx_result r, const struct pfx_error *err);
/* Before a log line about who connects, is refused or leaves: whoever knocks mustn't fill the
 * journal. Each socket has a limit of its own, so that it can't keep the lines about the others out
 * of it either. */
bool pfx_agent_may_tell(struct pfx_limit *lines, const char *socket);
uint32_t pfx_dice(void);
/* Back-off of this configuration. */
int64_t pfx_agent_backoff(const struct pfx_agent *agent, int64_t tries);

#endif
