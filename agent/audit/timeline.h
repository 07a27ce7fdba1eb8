/*
 * The steps of some enrolments, gathered from a walk: each intent folded with its result. What is
 * kept has a ceiling; what goes beyond it is counted.
 */
#ifndef PFX_AUDIT_TIMELINE_H
#define PFX_AUDIT_TIMELINE_H

#include "agent/audit/walk.h"

#define PFX_TIMELINE_GROUPS 2000
#define PFX_TIMELINE_STEPS 5000

/* An enrolment of one user; enrolment -1: what belongs to none. */
struct pfx_group {
    int64_t enrolment;
    char user[65]; /* "" where nothing says it */
};
struct pfx_step {
    size_t group;
    uint64_t seq, end;   /* the entry, and its result's; the same for a note */
    bool open;           /* an intent whose result isn't there */
    bool covered;        /* the last of them */
    int64_t logged;      /* ms: time of the entry */
    int64_t began, took; /* ms: when it happened, as its writer says; took -1: not known */
    enum pfx_outcome outcome;
    struct pfx_facts facts; /* of the last of them */
};
struct pfx_timeline {
    struct pfx_group *groups;
    size_t n_groups;
    struct pfx_step *steps;
    size_t n_steps;
    uint64_t n_left_out; /* steps beyond the ceiling */
    bool groups_left_out;
};
struct pfx_timeline pfx_timeline_make(void);
void pfx_timeline_done(struct pfx_timeline *timeline); /* usable as cleanup */
/* Notes the enrolment that the facts name. */
void pfx_timeline_want(struct pfx_timeline *timeline, const struct pfx_facts *facts);
/* The group that the facts belong to; false: none of those. */
bool pfx_timeline_group(const struct pfx_timeline *timeline, const struct pfx_facts *facts,
                        size_t *ret_group);
void pfx_timeline_add(struct pfx_timeline *timeline, size_t group,
                      const struct pfx_walk_item *item);
/* By group, then by when it happened; the steps of pfx-hsm, and those of pfx-agentd, stay in the
 * order of their entries. */
void pfx_timeline_sort(struct pfx_timeline *timeline);

#endif
