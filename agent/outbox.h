/*
 * The outbox: work for an arm is a row that is written in the transaction that makes it necessary.
 * It is handed out at least once, and gone when its result is applied.
 */
#ifndef PFX_AGENT_OUTBOX_H
#define PFX_AGENT_OUTBOX_H

#include "agent/enrolment.h"
#include "api/wire/schema.h"

struct pfx_job_row {
    int64_t id;
    char *scope;
    int64_t enrolment; /* 0: none */
    int64_t ver;
    char *arm;
    char *kind;
    char *payload; /* NULL: built from the enrolment */
    int64_t not_before;
    int64_t sent_at; /* 0: not out */
    int64_t lease;
    char *incarnation;
    int64_t tries;
};
void pfx_job_done(struct pfx_job_row *job);
#define PFX_AUTOJOB __attribute__((cleanup(pfx_job_done)))

/* "hsm" or "uploader", by the kind's prefix. */
const char *pfx_outbox_arm(const char *kind);

/* The job of an enrolment's state; scope "e:<id>". */
PFX_MUST_USE pfx_result pfx_outbox_put(struct pfx_store *store, const struct pfx_enrolment *e,
                                       const char *kind, int64_t not_before_ms, int64_t now_ms,
                                       struct pfx_error *err);
/* A job beside the flow: of an enrolment (e, scope "o:<id>") or of a scope of its own (e NULL) with
 * its payload. Does nothing where one of this scope and kind is there. */
PFX_MUST_USE pfx_result pfx_outbox_add(struct pfx_store *store, const char *scope,
                                       const struct pfx_enrolment *e, const char *kind,
                                       const char *payload, int64_t not_before_ms, int64_t now_ms,
                                       struct pfx_error *err);
/* The same of a scope of its own, with this body. */
PFX_MUST_USE pfx_result pfx_outbox_add_body(struct pfx_store *store, const char *scope,
                                            const char *kind, const struct pfx_msg *body,
                                            int64_t not_before_ms, int64_t now_ms,
                                            struct pfx_error *err);
/* id 0 when there is none. */
PFX_MUST_USE pfx_result pfx_outbox_load(struct pfx_store *store, int64_t id,
                                        struct pfx_job_row *ret_job, struct pfx_error *err);
/* What an arm may be given: not what is paused. */
struct pfx_outbox_filter {
    bool no_orders, no_uploads;
    bool rebuild; /* only rebuilds, or only the others: those go first */
};
/* The next one above (after_time, after_id) that is due for this arm and passes. */
PFX_MUST_USE pfx_result pfx_outbox_due(struct pfx_store *store, const char *arm, int64_t now_ms,
                                       const struct pfx_outbox_filter *filter, int64_t after_time,
                                       int64_t after_id, struct pfx_job_row *ret_job,
                                       struct pfx_error *err);
/* The job with the notes for the operation log, if it is due. */
PFX_MUST_USE pfx_result pfx_outbox_notes(struct pfx_store *store, int64_t now_ms,
                                         struct pfx_job_row *ret_job, struct pfx_error *err);
/* Commits to handing it out: time, a fresh lease, whose process. */
PFX_MUST_USE pfx_result pfx_outbox_send(struct pfx_store *store, struct pfx_job_row *job,
                                        const char *incarnation, int64_t now_ms,
                                        struct pfx_error *err);
/* Back into the box: as kind (the same, or its settle variant), after not_before_ms. fail_text:
 * why, or NULL. */
PFX_MUST_USE pfx_result pfx_outbox_again(struct pfx_store *store, const struct pfx_job_row *job,
                                         const char *kind, int64_t not_before_ms,
                                         const char *fail_text, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_outbox_drop(struct pfx_store *store, int64_t id, struct pfx_error *err);

struct pfx_outbox_counts {
    int64_t out;     /* handed out */
    int64_t due;     /* could be handed out now */
    int64_t later;   /* wait for their back-off */
    int64_t next_at; /* earliest of those; 0: none */
};
/* arm NULL: both, but for what pending orders are asked for by the clock, again and again: it would
 * keep a run from its end, which knows by itself whether it needs a poll. Paused kinds count as
 * neither; notes for the operation log, and what is rebuilt, rewrapped or destroyed of keys, not at all:
 * no run waits for those. */
PFX_MUST_USE pfx_result pfx_outbox_count(struct pfx_store *store, const char *arm, int64_t now_ms,
                                         bool no_orders, bool no_uploads,
                                         struct pfx_outbox_counts *ret_counts,
                                         struct pfx_error *err);

#endif
