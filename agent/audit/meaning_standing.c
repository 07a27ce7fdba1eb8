/*
 * Generations of the standing keys (client keys, wrapping key, MAC key) as the log moves them, by
 * the rules that pfx-hsm asks (crypto/overlap.h), and the file that lists them, whose serial never
 * goes back.
 */
#include <inttypes.h>
#include <string.h>

#include "agent/audit/meaning_state.h"
#include "crypto/lines.h"
#include "crypto/overlap.h"

#define STEMS_MOST                                                                                 \
    32 /* apps of a policy, and the two others: with room for those of earlier ones */
#define STEM_MOST 64
#define CLIENT "client-"

struct stem {
    char name[STEM_MOST]; /* "mac", "client-main": without the generation */
    struct pfx_overlap list[PFX_OVERLAP_MOST];
    bool unsure[PFX_OVERLAP_MOST]; /* a move of it didn't end well: it may have been made */
    size_t n;
};
struct pfx_standings {
    struct stem stems[STEMS_MOST];
    size_t n;
    bool lost; /* such a move of one that nobody can name */
    int64_t serial;
};

struct pfx_standings *pfx_standings_new(void)
{
    return pfx_alloc(sizeof(struct pfx_standings));
}

void pfx_standings_reset(struct pfx_standings *standings)
{
    standings->n = 0;
    standings->lost = false;
    standings->serial = 0;
}

/* "client-main-2": what stands before the last '-', and the number behind it. */
static bool name_of(const struct pfx_entry *entry, char ret_stem[STEM_MOST], unsigned *ret_number)
{
    struct pfx_bytes name = pfx_entry_text(entry, PFX_F_TARGET_NAME);
    size_t at = name.len;
    uint64_t number;
    while (at > 0 && name.data[at - 1] != '-')
        at--;
    if (at < 2 || at > STEM_MOST ||
        !pfx_bytes_decimal((struct pfx_bytes){name.data + at, name.len - at}, &number) ||
        number == 0 || number > 999999)
        return false;
    memcpy(ret_stem, name.data, at - 1);
    ret_stem[at - 1] = '\0';
    *ret_number = (unsigned)number;
    return true;
}

/* NULL: there are too many. */
static struct stem *stem_of(struct pfx_standings *standings, const char *name)
{
    for (size_t i = 0; i < standings->n; i++)
        if (strcmp(standings->stems[i].name, name) == 0)
            return &standings->stems[i];
    if (standings->n == STEMS_MOST)
        return NULL;
    struct stem *stem = &standings->stems[standings->n++];
    memcpy(stem->name, name, strlen(name) + 1);
    stem->n = 0;
    return stem;
}

static struct pfx_overlap *find(struct stem *stem, unsigned number)
{
    for (size_t i = 0; stem && i < stem->n; i++)
        if (stem->list[i].number == number)
            return &stem->list[i];
    return NULL;
}

static struct pfx_overlap *add(struct stem *stem, unsigned number, enum pfx_overlap_state state)
{
    if (!stem || stem->n == PFX_OVERLAP_MOST)
        return NULL;
    stem->list[stem->n] = (struct pfx_overlap){.number = number, .state = state};
    stem->unsure[stem->n] = false;
    return &stem->list[stem->n++];
}

bool pfx_standing_read(struct pfx_meaning *meaning, const struct pfx_entry *entry)
{
    char name[STEM_MOST];
    unsigned number;
    if (!name_of(entry, name, &number))
        return true;
    if (strncmp(name, CLIENT, strlen(CLIENT)) == 0)
        return false; /* an assertion is made anew; nothing was kept under it */
    struct stem *stem = stem_of(meaning->standings, name);
    const struct pfx_overlap *at = find(stem, number);
    if (!at) /* of before what was examined, where it may have been staged */
        return meaning->from == 0 && !meaning->standings->lost;
    return !stem->unsure[at - stem->list] &&
           (at->state == PFX_OVERLAP_ACTIVE || at->state == PFX_OVERLAP_PREVIOUS);
}

static void check_serial(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry)
{
    struct pfx_standings *standings = meaning->standings;
    int64_t serial = pfx_entry_int(entry, PFX_F_STANDING_SERIAL);
    if (!pfx_entry_has(entry, PFX_F_STANDING_SERIAL))
        return; /* said by what it must have */
    if (serial <= standings->serial)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the serial of the standing keys' file is %" PRId64 ", and was %" PRId64
                         " before: an older file was put back",
                         serial, standings->serial);
    standings->serial = serial;
}

static void check_move(struct pfx_meaning *meaning, uint64_t seq, const char *event,
                       struct stem *stem, unsigned number, enum pfx_overlap_move move)
{
    /* Rows that need it are pfx-agentd's word, and no entry has them. */
    static const struct pfx_overlap_needs none = {.name = "", .known = true};
    struct pfx_reasons *why PFX_AUTOFREE = pfx_alloc(sizeof(*why));
    const struct pfx_overlap *at = find(stem, number);
    if (at && !stem->unsure[at - stem->list] &&
        !pfx_overlap_allows(stem->list, stem->n, number, move, &none, why))
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s of %s-%u, which is %s", event,
                         stem->name, number, pfx_overlap_state_name(at->state));
}

/* What it was to become may have been written all the same. */
static void maybe_written(struct pfx_standings *standings, enum pfx_event event,
                          const struct pfx_entry *entry)
{
    char name[STEM_MOST];
    unsigned number;
    if (!name_of(entry, name, &number)) { /* as recovery ends it: any of them */
        standings->lost = true;
        for (size_t i = 0; i < standings->n; i++)
            memset(standings->stems[i].unsure, true, sizeof(standings->stems[i].unsure));
        return;
    }
    struct stem *stem = stem_of(standings, name);
    if (stem && !find(stem, number))
        (void)add(stem, number, PFX_OVERLAP_STAGED);
    for (size_t i = 0; stem && i < stem->n; i++)
        stem->unsure[i] =
            stem->unsure[i] || event == PFX_EV_STANDING_ACTIVATE || stem->list[i].number == number;
}

void pfx_standing_written(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                          const struct pfx_entry *entry)
{
    static const struct {
        enum pfx_event event;
        enum pfx_overlap_move move;
        enum pfx_overlap_state becomes;
    } moves[] = {{PFX_EV_STANDING_ROTATE, PFX_OVERLAP_ROTATE, PFX_OVERLAP_STAGED},
                 {PFX_EV_STANDING_ACTIVATE, PFX_OVERLAP_ACTIVATE, PFX_OVERLAP_ACTIVE},
                 {PFX_EV_STANDING_DESTROY, PFX_OVERLAP_DESTROY, PFX_OVERLAP_DESTROYED}};
    struct pfx_standings *standings = meaning->standings;
    int64_t outcome = pfx_entry_int(entry, PFX_F_OUTCOME);
    char name[STEM_MOST];
    unsigned number;
    if (outcome != PFX_OUTCOME_OK) {
        if (outcome != PFX_OUTCOME_REFUSED && outcome != PFX_OUTCOME_USAGE)
            maybe_written(standings, event, entry);
        return;
    }
    check_serial(meaning, seq, entry);
    size_t i = 0;
    while (moves[i].event != event)
        i++;
    if (!pfx_entry_is(entry, PFX_F_STANDING_STATE, pfx_overlap_state_name(moves[i].becomes)) ||
        !name_of(entry, name, &number)) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s is ok, and doesn't say that a generation of a standing key became %s",
                         pfx_events[event].name, pfx_overlap_state_name(moves[i].becomes));
        maybe_written(standings, event, entry);
        return;
    }
    struct stem *stem = stem_of(standings, name);
    check_move(meaning, seq, pfx_events[event].name, stem, number, moves[i].move);
    if (!find(stem, number) && !add(stem, number, PFX_OVERLAP_STAGED))
        return;
    pfx_overlap_apply(stem->list, stem->n, number, moves[i].move, 0);
    stem->unsure[find(stem, number) - stem->list] = false;
}
