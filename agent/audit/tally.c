#include "agent/audit/tally.h"

#include <string.h>

#define MINUTE_MS INT64_C(60000)
#define DAY_MS (24 * 60 * MINUTE_MS)

struct pfx_tally *pfx_tally_new(void)
{
    struct pfx_tally *tally = pfx_alloc(sizeof(*tally));
    tally->days = pfx_alloc_array(PFX_TALLY_DAYS, sizeof(*tally->days));
    tally->entries_minute.span_ms = tally->keys_minute.span_ms = MINUTE_MS;
    tally->pfx_minute.span_ms = tally->refusals_minute.span_ms = MINUTE_MS;
    tally->pfx_hour.span_ms = 60 * MINUTE_MS;
    return tally;
}

void pfx_tally_free(struct pfx_tally *tally)
{
    if (tally)
        free(tally->days);
    free(tally);
}

static void close_span(struct pfx_tally_rate *rate)
{
    if (rate->now > rate->best) {
        rate->best = rate->now;
        rate->best_at = rate->at * rate->span_ms;
    }
    rate->now = 0;
}

/* Entries come nearly in the order of time; where the clock goes back, a new span begins. */
static void count_rate(struct pfx_tally_rate *rate, int64_t time)
{
    int64_t at = time / rate->span_ms;
    if (rate->now > 0 && at != rate->at)
        close_span(rate);
    rate->at = at;
    rate->now++;
}

static struct pfx_tally_event *event_of(struct pfx_tally *tally, const char *event)
{
    for (size_t i = 0; i < tally->n_events; i++)
        if (strcmp(tally->events[i].event, event) == 0)
            return &tally->events[i];
    struct pfx_tally_event *at = &tally->events[tally->n_events];
    if (tally->n_events < PFX_TALLY_EVENTS) {
        tally->n_events++;
        (void)snprintf(at->event, sizeof(at->event), "%s", event);
    } else
        (void)snprintf(at->event, sizeof(at->event), "(other)");
    return at;
}

static struct pfx_tally_day *day_of(struct pfx_tally *tally, int64_t time)
{
    int64_t day = time / DAY_MS;
    size_t i = tally->n_days;
    while (i > 0 && tally->days[i - 1].day > day)
        i--;
    if (i > 0 && tally->days[i - 1].day == day)
        return &tally->days[i - 1];
    if (tally->n_days == PFX_TALLY_DAYS) {
        tally->days_left_out = true;
        return NULL;
    }
    memmove(&tally->days[i + 1], &tally->days[i], (tally->n_days - i) * sizeof(*tally->days));
    tally->days[i] = (struct pfx_tally_day){.day = day};
    tally->n_days++;
    return &tally->days[i];
}

static void count_actor(struct pfx_tally *tally, const struct pfx_facts *facts)
{
    size_t i = 0;
    if (facts->uid < 0 || strcmp(facts->role, "self") == 0 || strcmp(facts->role, "agentd") == 0 ||
        strcmp(facts->role, "uploader") == 0)
        return;
    while (i < tally->n_actors && tally->actors[i].uid != facts->uid)
        i++;
    if (i == PFX_TALLY_ACTORS) {
        tally->actors_left_out = true;
        return;
    }
    if (i == tally->n_actors)
        tally->actors[tally->n_actors++].uid = facts->uid;
    tally->actors[i].entries++;
    tally->actors[i].refused += facts->outcome == PFX_OUTCOME_REFUSED;
}

void pfx_tally_add(struct pfx_tally *tally, const struct pfx_walk_item *item)
{
    const struct pfx_facts *facts = &item->facts;
    bool ended = facts->phase == PFX_PHASE_RESULT && facts->outcome == PFX_OUTCOME_OK;
    bool key = ended && strcmp(facts->event, "key.make") == 0;
    bool built = ended && strcmp(facts->event, "pfx.build") == 0;
    bool refused = facts->outcome == PFX_OUTCOME_REFUSED;
    bool failed = facts->outcome != PFX_OUTCOME_OK && facts->outcome != PFX_OUTCOME_PENDING &&
                  facts->outcome != PFX_OUTCOME_UNKNOWN && !refused;
    if (tally->entries++ == 0) {
        tally->first_seq = item->seq;
        tally->first_time = facts->time;
    } else if (facts->time < tally->last_time)
        tally->clock_back++;
    tally->last_seq = item->seq;
    tally->last_time = facts->time;
    *(facts->src == PFX_SRC_HSM ? &tally->hsm : &tally->agentd) += 1;
    tally->keys += key;
    tally->pfx_built += built;
    tally->tiers_direct += built && strcmp(facts->tier, "direct") == 0;
    tally->tiers_transit += built && strcmp(facts->tier, "transit") == 0;
    tally->withheld +=
        strcmp(facts->event, "release.withheld") == 0 && strcmp(facts->ref_event, "pfx.build") == 0;
    tally->refusals += refused;
    tally->failures += failed;
    tally->unknown += facts->outcome == PFX_OUTCOME_UNKNOWN;
    tally->weak += facts->weak;
    if (facts->outcome < PFX_TALLY_OUTCOMES)
        event_of(tally, facts->event)->n[facts->outcome]++;
    struct pfx_tally_day *day = day_of(tally, facts->time);
    if (day) {
        day->entries++;
        day->keys += key;
        day->pfx += built;
        day->trouble += failed || refused;
    }
    count_actor(tally, facts);
    count_rate(&tally->entries_minute, facts->time);
    if (key)
        count_rate(&tally->keys_minute, facts->time);
    if (built) {
        count_rate(&tally->pfx_minute, facts->time);
        count_rate(&tally->pfx_hour, facts->time);
    }
    if (refused)
        count_rate(&tally->refusals_minute, facts->time);
}

static int by_event(const void *a, const void *b)
{
    const struct pfx_tally_event *x = a, *y = b;
    return strcmp(x->event, y->event);
}

void pfx_tally_end(struct pfx_tally *tally)
{
    close_span(&tally->entries_minute);
    close_span(&tally->keys_minute);
    close_span(&tally->pfx_minute);
    close_span(&tally->pfx_hour);
    close_span(&tally->refusals_minute);
    if (tally->n_events > 1)
        qsort(tally->events, tally->n_events, sizeof(tally->events[0]), by_event);
    if (tally->events[PFX_TALLY_EVENTS].event[0])
        tally->n_events++;
}
