/*
 * The working side of the job protocol, the same for pfx-hsm and pfx-uploader: connects to
 * pfx-agentd, says hello, pulls jobs, keeps each answer until it is acknowledged, and connects again
 * with back-off (100 ms doubling to 5 s) when the line is lost. One thread.
 */
#ifndef PFX_WIRE_ARM_H
#define PFX_WIRE_ARM_H

#include "api/wire/conn.h"

struct pfx_arm;
struct pfx_arm_job { /* borrowed for the call; copy what is kept */
    int64_t job;
    int64_t lease;
    int64_t deadline_ms; /* CLOCK_REALTIME */
    const char *kind;
    const struct pfx_msg *body; /* already checked against the kind's request schema */
};
struct pfx_arm_ops {
    void (*job)(void *ctx, const struct pfx_arm_job *job);
    /* Connected with a welcome (true) or line lost (false); may be NULL. Neither function may free
     * the arm. */
    void (*online)(void *ctx, bool online);
    /* A job was refused before it came to ops->job; kind is NULL for one that the arm doesn't take.
     * Its answer is on its way already. May be NULL. */
    void (*refused)(void *ctx, const char *kind, pfx_result result, const struct pfx_error *err);
};
/* role "hsm" or "uploader"; kinds: which jobs it takes; capacity: most jobs at once. path and kinds
 * are copied. A fresh incarnation GUID is drawn. */
struct pfx_arm *pfx_arm_new(const char *role, const char *path, const char *const *kinds,
                            size_t n_kinds, unsigned capacity, const struct pfx_arm_ops *ops,
                            void *ctx);
void pfx_arm_free(struct pfx_arm *arm);
/* From now on speaks only with a pfx-agentd of this user, of root, or of its own (SO_PEERCRED). */
void pfx_arm_expect(struct pfx_arm *arm, uid_t uid);
/* What its hello says of this process's sandbox, for status. */
void pfx_arm_sandbox(struct pfx_arm *arm, const char *text);
/* Fills *ret_pollfd (fd -1 while not connected) and returns how long to sleep at most, in ms. */
struct pollfd;
int pfx_arm_prepare(struct pfx_arm *arm, struct pollfd *ret_pollfd);
/* Does what is due: connect, read, write, hand jobs to ops->job. Never blocks. */
void pfx_arm_step(struct pfx_arm *arm);
/* The answer to a job: class OK with a body of the kind's result schema, or any other class with
 * err and perhaps a body (may be NULL). Kept and sent again until acknowledged: only then the job's
 * place is free. An answer that its schema refuses goes out as INTERNAL. A job or lease that isn't
 * held, or that was answered before, is ignored. May be called from within ops->job. */
void pfx_arm_done(struct pfx_arm *arm, int64_t job, int64_t lease, pfx_result result,
                  const struct pfx_error *err, const struct pfx_msg *body);
/* A job that takes long is still alive. */
void pfx_arm_beat(struct pfx_arm *arm, int64_t job, int64_t lease);
const char *pfx_arm_incarnation(const struct pfx_arm *arm);
/* Why the last connection ended, for a log line; "" if none. */
const char *pfx_arm_trouble(const struct pfx_arm *arm);
unsigned pfx_arm_held(const struct pfx_arm *arm); /* jobs not answered, or answers not acknowledged */

#endif
