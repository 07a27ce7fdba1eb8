/*
 * The records of key ceremonies: each change of a key is followed by the ceremony.record of a page
 * that began before it. The page's name says when, and of which command it is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/audit/meaning_state.h"
#include "crypto/encode.h"

#define WAITING_MOST 256
#define KINDS_MOST 3

/* Which command's page has it. */
static const struct {
    enum pfx_event event;
    const char *kinds[KINDS_MOST];
} changes[] = {
    {PFX_EV_CEREMONY_KEY, {"init", "log.rotate_key", "log.reopen"}},
    {PFX_EV_KEY_ROTATE, {"key.rotate"}},
    {PFX_EV_KEY_DESTROY, {"key.destroy"}},
    {PFX_EV_STANDING_ROTATE, {"standing.rotate"}},
    {PFX_EV_STANDING_DESTROY, {"standing.destroy"}},
    {PFX_EV_LOG_ROTATE_KEY, {"log.rotate_key"}},
    {PFX_EV_LOG_REOPEN, {"log.reopen"}},
};
#define N_CHANGES (sizeof(changes) / sizeof(changes[0]))

struct waiting {
    uint64_t seq;
    size_t change;
    char stamp[PFX_TIME_SIZE];
};
struct pfx_records {
    struct waiting list[WAITING_MOST];
    size_t n;
    bool over;
};

struct pfx_records *pfx_records_new(void)
{
    return pfx_alloc(sizeof(struct pfx_records));
}

void pfx_records_reset(struct pfx_records *records)
{
    records->n = 0;
    records->over = false;
}

/* "20261123T130000123Z", which sorts by time. */
static void stamp_of(const struct pfx_entry *entry, char ret[PFX_TIME_SIZE])
{
    char time[PFX_TIME_SIZE];
    size_t n = 0;
    pfx_time_format(pfx_entry_time(entry, PFX_F_TIME), true, time);
    for (const char *at = time; *at; at++)
        if (!strchr("-:.", *at))
            ret[n++] = *at;
    ret[n] = '\0';
}

static bool is_of(size_t change, const char *kind)
{
    for (size_t i = 0; i < KINDS_MOST && changes[change].kinds[i]; i++)
        if (strcmp(changes[change].kinds[i], kind) == 0)
            return true;
    return false;
}

/* The page of an init names every standing key there is, made by it or before it. */
static void take_record(struct pfx_records *records, const struct pfx_entry *entry)
{
    struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(256);
    if (!pfx_entry_plain(entry, PFX_F_TARGET_NAME, &name))
        return;
    const char *stamp = pfx_buf_str(&name), *dash = strchr(stamp, '-');
    if (!dash)
        return;
    size_t left = 0;
    bool whole = strcmp(dash + 1, "init") == 0;
    for (size_t i = 0; i < records->n; i++) {
        const struct waiting *one = &records->list[i];
        bool began_before = strncmp(stamp, one->stamp, (size_t)(dash - stamp)) <= 0;
        if (!is_of(one->change, dash + 1) || !(whole || began_before))
            records->list[left++] = *one;
    }
    records->n = left;
}

void pfx_records_entry(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                       const struct pfx_entry *entry)
{
    struct pfx_records *records = meaning->records;
    if (pfx_entry_int(entry, PFX_F_OUTCOME) != PFX_OUTCOME_OK)
        return;
    if (event == PFX_EV_CEREMONY_RECORD) {
        take_record(records, entry);
        return;
    }
    size_t change = 0;
    while (change < N_CHANGES && changes[change].event != event)
        change++;
    /* A key that init found as it was is no change. */
    if (change == N_CHANGES ||
        (event == PFX_EV_CEREMONY_KEY && pfx_entry_is(entry, PFX_F_FOUND, "key")))
        return;
    if (records->n == WAITING_MOST) {
        records->over = true;
        return;
    }
    struct waiting *one = &records->list[records->n++];
    *one = (struct waiting){.seq = seq, .change = change};
    stamp_of(entry, one->stamp);
}

void pfx_records_end(struct pfx_meaning *meaning)
{
    const struct pfx_records *records = meaning->records;
    if (records->n == 0)
        return;
    const struct waiting *first = &records->list[0];
    pfx_report_open(meaning->report, meaning->log,
                    "what the ceremony of entry %" PRIu64 " (%s)%s read back: no ceremony.record of "
                    "this log is of it. pfx-hsm writes the page that is missing at its next start",
                    first->seq, pfx_events[changes[first->change].event].name,
                    records->over    ? ", and those of hundreds more,"
                    : records->n > 1 ? ", and those of later ones,"
                                     : "");
}
