#include "agent/audit/timeline.h"

#include <string.h>

struct pfx_timeline pfx_timeline_make(void)
{
    return (struct pfx_timeline){
        .groups = pfx_alloc_array(PFX_TIMELINE_GROUPS + 1, sizeof(struct pfx_group))};
}

void pfx_timeline_done(struct pfx_timeline *timeline)
{
    free(timeline->groups);
    free(timeline->steps);
    *timeline = (struct pfx_timeline){.groups = NULL};
}

bool pfx_timeline_group(const struct pfx_timeline *timeline, const struct pfx_facts *facts,
                        size_t *ret_group)
{
    /* The last one of a number, so that an entry which names no user goes to the newer of two
     * stores that counted from 1. */
    for (size_t i = timeline->n_groups; facts->enrolment >= 0 && i-- > 0;) {
        const struct pfx_group *group = &timeline->groups[i];
        if (group->enrolment == facts->enrolment &&
            (!facts->user[0] || !group->user[0] || strcmp(group->user, facts->user) == 0)) {
            *ret_group = i;
            return true;
        }
    }
    return false;
}

void pfx_timeline_want(struct pfx_timeline *timeline, const struct pfx_facts *facts)
{
    size_t at;
    if (facts->enrolment < 0)
        return;
    if (pfx_timeline_group(timeline, facts, &at)) {
        struct pfx_group *group = &timeline->groups[at];
        if (!group->user[0])
            memcpy(group->user, facts->user, sizeof(group->user));
        return;
    }
    if (timeline->n_groups == PFX_TIMELINE_GROUPS) {
        timeline->groups_left_out = true;
        return;
    }
    struct pfx_group *group = &timeline->groups[timeline->n_groups++];
    group->enrolment = facts->enrolment;
    memcpy(group->user, facts->user, sizeof(group->user));
}

/* The open step of this intent. From the end: most results come soon. */
static struct pfx_step *open_step(const struct pfx_timeline *timeline,
                                  const struct pfx_facts *facts)
{
    for (size_t i = timeline->n_steps; i-- > 0;) {
        struct pfx_step *step = &timeline->steps[i];
        if (step->seq == (uint64_t)facts->ref)
            return step->open ? step : NULL;
        if (step->seq < (uint64_t)facts->ref)
            return NULL; /* steps come in the order of their entries */
    }
    return NULL;
}

void pfx_timeline_add(struct pfx_timeline *timeline, size_t group, const struct pfx_walk_item *item)
{
    const struct pfx_facts *facts = &item->facts;
    struct pfx_step *step =
        facts->phase == PFX_PHASE_RESULT && facts->ref >= 0 ? open_step(timeline, facts) : NULL;
    if (step) {
        /* Over a restart of the host the time since boot says nothing. */
        bool same_boot = strcmp(step->facts.boot, facts->boot) == 0;
        step->took = same_boot && facts->up >= step->facts.up ? facts->up - step->facts.up : -1;
        step->open = false;
        step->end = item->seq;
        step->covered = item->covered;
        step->outcome = facts->outcome;
        step->facts = *facts;
        return;
    }
    if (timeline->n_steps == PFX_TIMELINE_STEPS) {
        timeline->n_left_out++;
        return;
    }
    if (timeline->n_steps % 256 == 0)
        timeline->steps =
            pfx_grow(timeline->steps, timeline->n_steps + 256, sizeof(timeline->steps[0]));
    timeline->steps[timeline->n_steps++] = (struct pfx_step){
        .group = group,
        .seq = item->seq,
        .end = item->seq,
        .open = facts->phase == PFX_PHASE_INTENT,
        .covered = item->covered,
        .logged = facts->time,
        .began = facts->src == PFX_SRC_AGENTD && facts->at >= 0 ? facts->at : facts->time,
        .took = -1,
        .outcome = facts->outcome,
        .facts = *facts,
    };
}

static int in_order(const void *a, const void *b)
{
    const struct pfx_step *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* pfx-agentd's notes come by a queue: one may stand behind what pfx-hsm did after it, and goes back
 * over that. Each side writes in the order of what it did, so neither's own order is touched: a
 * clock that was set meanwhile moves nothing else. */
static void merge(const struct pfx_step *steps, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        while (steps[i].facts.src == PFX_SRC_AGENTD && at > 0 &&
               steps[order[at - 1]].facts.src != PFX_SRC_AGENTD &&
               steps[order[at - 1]].began > steps[i].began)
            at--;
        memmove(&order[at + 1], &order[at], (i - at) * sizeof(*order));
        order[at] = i;
    }
}

void pfx_timeline_sort(struct pfx_timeline *timeline)
{
    size_t n = timeline->n_steps;
    struct pfx_step *steps = timeline->steps;
    if (n < 2)
        return;
    qsort(steps, n, sizeof(*steps), in_order);
    struct pfx_step *sorted = pfx_alloc_array(n, sizeof(*sorted));
    size_t *order PFX_AUTOFREE = pfx_alloc_array(n, sizeof(*order));
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && steps[to].group == steps[from].group;)
            to++;
        merge(steps + from, to - from, order);
        for (size_t i = 0; i < to - from; i++)
            sorted[from + i] = steps[from + order[i]];
    }
    free(steps);
    timeline->steps = sorted;
}
