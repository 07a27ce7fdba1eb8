/* pfx-audit stats: how much of what, and when most. */
#include <string.h>

#include "agent/audit/filter.h"
#include "agent/audit/tally.h"
#include "crypto/encode.h"

#define DAY_MS INT64_C(86400000)
#define DAYS_SHOWN 31

struct stats {
    struct pfx_walk walk;
    struct pfx_filter filter;
    struct pfx_tally *tally;
};

static void stats_done(struct stats *stats)
{
    pfx_walk_close(&stats->walk);
    pfx_tally_free(stats->tally);
}

static void line(const char *label, uint64_t n, const char *detail)
{
    (void)printf("%-26s %10llu%s%s\n", label, (unsigned long long)n, *detail ? "  " : "", detail);
}

static void rate(const char *label, const struct pfx_tally_rate *rate_)
{
    char time[PFX_TIME_SIZE], at[64];
    if (rate_->best == 0)
        return;
    (void)snprintf(at, sizeof(at), "from %s on", pfx_time_format(rate_->best_at, false, time));
    line(label, rate_->best, at);
}

static const char *day_name(int64_t day, char buf[PFX_TIME_SIZE])
{
    (void)pfx_time_format(day * DAY_MS, false, buf);
    buf[10] = '\0';
    return buf;
}

static void print_events(const struct pfx_tally *t)
{
    (void)printf("\n%-26s %10s  OUTCOMES\n", "EVENT", "ENTRIES");
    for (size_t i = 0; i < t->n_events; i++) {
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
        struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
        uint64_t all = 0;
        for (unsigned o = 0; o < PFX_TALLY_OUTCOMES; o++) {
            all += t->events[i].n[o];
            if (t->events[i].n[o] > 0)
                (void)pfx_buf_addf(&text, "%s%s %llu", text.len ? ", " : "",
                                   o == PFX_OUTCOME_PENDING ? "intents"
                                                            : pfx_outcome_name((enum pfx_outcome)o),
                                   (unsigned long long)t->events[i].n[o]);
        }
        pfx_text_show_str(t->events[i].event, &name);
        line(pfx_buf_str(&name), all, pfx_buf_str(&text));
    }
}

static void print_days(const struct pfx_tally *t)
{
    char name[PFX_TIME_SIZE];
    size_t from = t->n_days > DAYS_SHOWN ? t->n_days - DAYS_SHOWN : 0;
    (void)printf("\n%-26s %10s %10s %10s %10s\n", "DAY (UTC)", "ENTRIES", "KEYS", "PFX", "TROUBLE");
    for (size_t i = from; i < t->n_days; i++)
        (void)printf("%-26s %10llu %10llu %10llu %10llu\n", day_name(t->days[i].day, name),
                     (unsigned long long)t->days[i].entries, (unsigned long long)t->days[i].keys,
                     (unsigned long long)t->days[i].pfx, (unsigned long long)t->days[i].trouble);
    if (from > 0)
        (void)printf("%zu days before these: --json has them all\n", from);
    if (t->days_left_out)
        (void)printf("more days than %d: later ones aren't counted by day\n", PFX_TALLY_DAYS);
}

static void print_table(const struct stats *stats)
{
    const struct pfx_tally *t = stats->tally;
    char time[PFX_TIME_SIZE], text[96];
    line("entries", t->entries, "");
    line("  by pfx-hsm", t->hsm, "");
    line("  by pfx-agentd", t->agentd, "");
    if (t->entries > 0) {
        line("first", t->first_seq, pfx_time_format(t->first_time, true, time));
        line("last", t->last_seq, pfx_time_format(t->last_time, true, time));
    }
    line("keys made", t->keys, "");
    (void)snprintf(text, sizeof(text), "direct %llu, transit %llu; withheld %llu",
                   (unsigned long long)t->tiers_direct, (unsigned long long)t->tiers_transit,
                   (unsigned long long)t->withheld);
    line("PFX released", t->pfx_built > t->withheld ? t->pfx_built - t->withheld : 0, text);
    line("refusals", t->refusals, "");
    line("failures", t->failures, "");
    line("outcome unknown", t->unknown, "");
    line("weak", t->weak, "");
    if (t->clock_back > 0)
        line("clock went back", t->clock_back, "");
    rate("most entries a minute", &t->entries_minute);
    rate("most keys a minute", &t->keys_minute);
    rate("most PFX a minute", &t->pfx_minute);
    rate("most PFX an hour", &t->pfx_hour);
    rate("most refusals a minute", &t->refusals_minute);
    print_events(t);
    print_days(t);
    for (size_t i = 0; i < t->n_actors; i++) {
        if (i == 0)
            (void)printf("\n%-26s %10s %10s\n", "OPERATOR", "ENTRIES", "REFUSED");
        (void)snprintf(text, sizeof(text), "uid %lld", (long long)t->actors[i].uid);
        (void)printf("%-26s %10llu %10llu\n", text, (unsigned long long)t->actors[i].entries,
                     (unsigned long long)t->actors[i].refused);
    }
    if (t->actors_left_out)
        (void)printf("more operators than %d: the others aren't counted one by one\n",
                     PFX_TALLY_ACTORS);
    pfx_walk_tell_gaps(&stats->walk, stdout);
}

static void json_rate(struct pfx_json *json, const char *key, const struct pfx_tally_rate *rate_)
{
    char time[PFX_TIME_SIZE];
    if (rate_->best == 0)
        return;
    pfx_json_open(json, key, '{');
    pfx_json_int(json, "count", (int64_t)rate_->best);
    pfx_json_str(json, "from", pfx_time_format(rate_->best_at, false, time));
    pfx_json_close(json, '}');
}

static void json_events(struct pfx_json *json, const struct pfx_tally *t)
{
    pfx_json_open(json, "events", '[');
    for (size_t i = 0; i < t->n_events; i++) {
        pfx_json_open(json, NULL, '{');
        pfx_json_str(json, "event", t->events[i].event);
        for (unsigned o = 0; o < PFX_TALLY_OUTCOMES; o++)
            if (t->events[i].n[o] > 0)
                pfx_json_int(json, pfx_outcome_name((enum pfx_outcome)o),
                             (int64_t)t->events[i].n[o]);
        pfx_json_close(json, '}');
    }
    pfx_json_close(json, ']');
}

static void print_json(const struct stats *stats)
{
    const struct pfx_tally *t = stats->tally;
    char time[PFX_TIME_SIZE];
    struct pfx_json json = pfx_json_make("pfx-audit/counts/1");
    const struct {
        const char *key;
        uint64_t n;
    } counts[] = {{"entries", t->entries},
                  {"src_hsm", t->hsm},
                  {"src_agentd", t->agentd},
                  {"keys_made", t->keys},
                  {"pfx_built", t->pfx_built},
                  {"pfx_direct", t->tiers_direct},
                  {"pfx_transit", t->tiers_transit},
                  {"withheld", t->withheld},
                  {"pfx_released", t->pfx_built > t->withheld ? t->pfx_built - t->withheld : 0},
                  {"refusals", t->refusals},
                  {"failures", t->failures},
                  {"unknown", t->unknown},
                  {"weak", t->weak},
                  {"clock_back", t->clock_back}};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        pfx_json_int(&json, counts[i].key, (int64_t)counts[i].n);
    if (t->entries > 0) {
        pfx_json_int(&json, "first_seq", (int64_t)t->first_seq);
        pfx_json_str(&json, "first_time", pfx_time_format(t->first_time, true, time));
        pfx_json_int(&json, "last_seq", (int64_t)t->last_seq);
        pfx_json_str(&json, "last_time", pfx_time_format(t->last_time, true, time));
    }
    pfx_json_open(&json, "most", '{');
    json_rate(&json, "entries_minute", &t->entries_minute);
    json_rate(&json, "keys_minute", &t->keys_minute);
    json_rate(&json, "pfx_minute", &t->pfx_minute);
    json_rate(&json, "pfx_hour", &t->pfx_hour);
    json_rate(&json, "refusals_minute", &t->refusals_minute);
    pfx_json_close(&json, '}');
    json_events(&json, t);
    pfx_json_open(&json, "operators", '[');
    for (size_t i = 0; i < t->n_actors; i++) {
        pfx_json_open(&json, NULL, '{');
        pfx_json_int(&json, "uid", t->actors[i].uid);
        pfx_json_int(&json, "entries", (int64_t)t->actors[i].entries);
        pfx_json_int(&json, "refused", (int64_t)t->actors[i].refused);
        pfx_json_close(&json, '}');
    }
    pfx_json_close(&json, ']');
    pfx_json_bool(&json, "operators_left_out", t->actors_left_out);
    pfx_json_bool(&json, "days_left_out", t->days_left_out);
    pfx_json_print(&json);
    for (size_t i = 0; i < t->n_days; i++) {
        struct pfx_json day = pfx_json_make("pfx-audit/day/1");
        pfx_json_str(&day, "day", day_name(t->days[i].day, time));
        pfx_json_int(&day, "entries", (int64_t)t->days[i].entries);
        pfx_json_int(&day, "keys", (int64_t)t->days[i].keys);
        pfx_json_int(&day, "pfx", (int64_t)t->days[i].pfx);
        pfx_json_int(&day, "trouble", (int64_t)t->days[i].trouble);
        pfx_json_print(&day);
    }
    struct pfx_json end = pfx_json_make("pfx-audit/end/1");
    pfx_walk_json_counts(&stats->walk, &end);
    pfx_json_print(&end);
}

int pfx_audit_stats(const struct pfx_audit_options *options)
{
    struct stats stats PFX_CLEANUP(stats_done) = {.tally = pfx_tally_new()};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_walk_open(options->operands[0], options->names, &stats.walk, &err)) ||
        pfx_failed(pfx_filter_make(options, &stats.walk, &stats.filter, &err)))
        return pfx_audit_fail(&err);
    struct pfx_walk_item item;
    enum pfx_walk_got got;
    pfx_walk_head(&stats.walk, "pfx-audit/stats/1", options->format);
    pfx_walk_start(&stats.walk, stats.filter.from_seq);
    while ((got = pfx_walk_next(&stats.walk, &item)) != PFX_WALK_END &&
           item.seq <= stats.filter.to_seq)
        if (got == PFX_WALK_ENTRY && pfx_filter_takes(&stats.filter, &item))
            pfx_tally_add(stats.tally, &item);
    pfx_tally_end(stats.tally);
    if (options->format == PFX_AUDIT_JSON)
        print_json(&stats);
    else
        print_table(&stats);
    return PFX_AUDIT_OK;
}
