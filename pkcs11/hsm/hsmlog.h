/*
 * The operation log as pfx-hsm uses it: opened before any token, told of the start, given its
 * signer when the role log is there, told of the stop. Every entry goes through here.
 *
 * While there is no log yet (or none that may be used) nothing is done with a key but what `init`
 * and `log reopen` do to the keys of the log itself, and the probes' throwaway keys. These are kept
 * in memory and become the first notes of the log.
 */
#ifndef PFX_HSM_HSMLOG_H
#define PFX_HSM_HSMLOG_H

#include "pkcs11/hsm/journal.h"
#include "pkcs11/hsm/signer.h"

#define PFX_EARLY_MOST 64
#define PFX_LATE_MOST 64

struct pfx_recovery;
struct pfx_hsmlog {
    struct pfx_oplog *writer;
    struct pfx_recovery *recovery; /* recovery.h */
    struct pfx_journal_software software;
    /* With hsm->lock held for writing, but signer also by whoever holds it for reading: */
    struct pfx_log_signer *signer; /* NULL: not attached */
    bool mended_told;              /* what was found at the start stands in the log */
    bool starting;                 /* init or reopen makes the log's own keys */
    bool start_due;                /* there was no room for the start: nothing is done before it */
    bool start_noted, policy_due;
    /* With lock held. No Cryptoki call is made and nothing is waited for with it. */
    pthread_mutex_t lock;
    bool quiet; /* no log takes notes: they are kept in early, or dropped */
    struct pfx_draft *early[PFX_EARLY_MOST]; /* what was done before the log */
    size_t n_early;
    uint64_t early_lost;
    int64_t clock_ms;     /* wall clock less boot time, at the last entry */
    uint64_t notes_lost;  /* since that was last told ... */
    int64_t lost_told_ms; /* ... at this time since boot; 0: never */
    struct pfx_quota {
        int64_t since_ms; /* uptime; 0: none */
        uint64_t used, over;
    } refused[5], agentd; /* by the side that was refused; the last: users without any right */
    int64_t agentd_first; /* pfx-agentd's last number when its quota ran out */
    /* Alone: taken while the writer makes a segment, and by whoever logs in to a token: an append
     * may wait for the committer, and that for the login. */
    pthread_mutex_t inner_lock;
    struct pfx_buf pins; /* canonical JSON, as last seen */
    atomic_int_fast64_t pins_serial;
    struct pfx_draft *late[PFX_LATE_MOST];
    size_t n_late;
    pthread_mutex_t agentd_lock; /* one job's notes at a time; taken before lock */
};

/* Opens the folder of the policy, ends what an earlier process left open, and notes the start.
 * Whatever is wrong with the log: it is told by pfx_oplog_state, and nothing fails for it here. */
PFX_MUST_USE pfx_result pfx_hsmlog_new(struct pfx_hsm *hsm, struct pfx_hsmlog **ret_log,
                                       struct pfx_error *err);
/* Once more, if the start couldn't be noted. */
void pfx_hsmlog_start_again(struct pfx_hsm *hsm);
/* The stop's entry, the last checkpoint, the anchor; the signer is let go. Before the tokens are
 * closed. */
void pfx_hsmlog_stop(struct pfx_hsm *hsm);
void pfx_hsmlog_free(struct pfx_hsmlog *log);

static inline enum pfx_oplog_state pfx_hsmlog_state(const struct pfx_hsmlog *log)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    return pfx_oplog_state(log->writer, &ignored);
}

/* Why the log is refused or closed, as the failure of whoever needs it: names the whole path. */
PFX_MUST_USE pfx_result pfx_hsmlog_unusable(const struct pfx_hsm *hsm, const struct pfx_error *why,
                                            struct pfx_error *err);

/* --- operations (op.c) --- */
/* Would an operation be taken now? The reason says what to do. */
PFX_MUST_USE pfx_result pfx_hsmlog_takes(struct pfx_hsm *hsm, const struct pfx_op *op,
                                         struct pfx_error *err);
/* The intent, on disk. */
PFX_MUST_USE pfx_result pfx_hsmlog_intent(struct pfx_hsm *hsm, struct pfx_op *op,
                                          struct pfx_error *err);
/* The result of the work, on disk, and under a signed checkpoint if it was a success. Gives the
 * outcome that the requester is told: the work's own, or why its success can't be released. *why is
 * the work's error, or becomes that reason. */
PFX_MUST_USE pfx_result pfx_hsmlog_result(struct pfx_hsm *hsm, const struct pfx_op *op,
                                          pfx_result outcome, struct pfx_error *why);

/* --- notes --- */
/* Something was refused before it became an operation. Never waits; at most so many an hour. */
void pfx_hsmlog_refused(struct pfx_hsm *hsm, const struct pfx_actor *actor, const char *name,
                        pfx_result outcome, const struct pfx_error *why);
/* The same of a user who may use none of our sockets: any on this host, so the quota is its own. */
void pfx_hsmlog_stranger(struct pfx_hsm *hsm, const struct pfx_actor *actor, const char *name,
                         pfx_result outcome, const struct pfx_error *why);
void pfx_hsmlog_ready(struct pfx_hsm *hsm, enum pfx_role role);
/* The pins as they stand now: for the users role's note, for new segments, and so that no older
 * ones are taken from here on. */
void pfx_hsmlog_pins(struct pfx_hsm *hsm, const struct pfx_pins *pins);
/* Of the latest pins that the log knows of; 0: none. */
int64_t pfx_hsmlog_pins_serial(const struct pfx_hsm *hsm);
/* Counts of what was over a quota, once its hour is over. Every second or so. */
void pfx_hsmlog_tick(struct pfx_hsm *hsm);
/* pfx-agentd's notes of one job; *ret_n is its last number that is on disk. REFUSED: an event that
 * isn't its own, or a gap; TRANSIENT: over its quota, or no log. */
PFX_MUST_USE pfx_result pfx_hsmlog_agentd(struct pfx_hsm *hsm, const struct pfx_msg *job,
                                          int64_t *ret_n, struct pfx_error *err);

/* --- the signer; hsm->lock is held for writing --- */
/* The generation in force into hsm->log_generation. Nothing to do while there is no log. */
PFX_MUST_USE pfx_result pfx_hsmlog_generation(struct pfx_hsm *hsm, struct pfx_error *err);
/* The role's token is open and its keys are found: attaches them, unless they are attached and
 * nothing happened to the token since. REFUSED: no log yet. INTEGRITY: rolled back, or lost. */
PFX_MUST_USE pfx_result pfx_hsmlog_attach(struct pfx_hsm *hsm, struct pfx_error *err);
void pfx_hsmlog_detach(struct pfx_hsm *hsm);
/* Must the role log be opened anew? (the lock is held at least for reading) */
bool pfx_hsmlog_lost(struct pfx_hsm *hsm);
/* A new log: entry 0, then what was done before it. The new signer becomes the attached one. */
PFX_MUST_USE pfx_result pfx_hsmlog_begin(struct pfx_hsm *hsm, struct pfx_journal_begin *begin,
                                         bool ed25519, struct pfx_error *err);
/* Anchors now; a failure is logged (and stands in the status), nothing else. */
void pfx_hsmlog_settle(struct pfx_hsm *hsm);

/* "<host>/pfx-agent", then "<host>/pfx-agent/2", ... number from 1. */
void pfx_hsmlog_origin(const struct pfx_hsm_policy *policy, unsigned number,
                       char ret_origin[PFX_ORIGIN_SIZE]);
/* Does the label name this origin's log? Its size, if ret_size isn't NULL. */
bool pfx_anchor_names(const char *label, const char *origin, uint64_t *ret_size);

#endif
