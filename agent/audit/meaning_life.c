/*
 * The life of the encryption key's generations as the log tells it: each move from a state that
 * allows it (crypto/lifecycle.h, the same rules that pfx-hsm asks), nothing retired or destroyed while
 * records named it, nothing adopted without approvals, and pins whose serial never goes back.
 */
#include <inttypes.h>
#include <string.h>

#include "agent/audit/meaning_state.h"
#include "crypto/lifecycle.h"

struct pfx_life {
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    size_t n;
    int64_t serial;
};

struct pfx_life *pfx_life_new(void)
{
    return pfx_alloc(sizeof(struct pfx_life));
}

void pfx_life_reset(struct pfx_life *life)
{
    memset(life, 0, sizeof(*life));
}

static struct pfx_generation *generation_of(struct pfx_life *life, int64_t number, bool add)
{
    for (size_t i = 0; i < life->n; i++)
        if ((int64_t)life->list[i].number == number)
            return &life->list[i];
    if (!add || life->n == PFX_GENERATIONS_MOST || number <= 0 || number > 999999)
        return NULL;
    struct pfx_generation *at = &life->list[life->n++];
    *at = (struct pfx_generation){.number = (unsigned)number};
    return at;
}

static bool state_of(const struct pfx_entry *entry, enum pfx_key_state *ret)
{
    struct pfx_bytes state = pfx_entry_text(entry, PFX_F_PIN_STATE);
    return state.len > 0 && pfx_key_state_parse((const char *)state.data, state.len, ret);
}

bool pfx_event_pins(enum pfx_event event)
{
    return event == PFX_EV_CEREMONY_PIN ||
           (event >= PFX_EV_KEY_ROTATE && event <= PFX_EV_CONNECTOR_CONFIRM);
}

/* Which move a result stands for; COUNT: none that the rules know of. */
static enum pfx_key_move move_of(enum pfx_event event)
{
    switch (event) {
    case PFX_EV_KEY_ACTIVATE:
        return PFX_MOVE_ACTIVATE;
    case PFX_EV_KEY_RETIRE:
        return PFX_MOVE_RETIRE;
    case PFX_EV_KEY_DESTROY:
        return PFX_MOVE_DESTROY;
    case PFX_EV_KEY_COMPROMISE:
        return PFX_MOVE_COMPROMISE;
    default:
        return PFX_MOVE_COUNT;
    }
}

static void check_move(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                       const struct pfx_generation *at, enum pfx_key_state becomes)
{
    static const struct pfx_key_needs none = {.records_known = true};
    struct pfx_life *life = meaning->life;
    struct pfx_reasons why;
    enum pfx_key_move move = move_of(event);
    if (move != PFX_MOVE_COUNT &&
        !pfx_lifecycle_allows(life->list, life->n, at->number, move, &none, &why))
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s of generation %u of the encryption key, which is %s",
                         pfx_events[event].name, at->number, pfx_key_state_name(at->state));
    else if (event == PFX_EV_KEY_ROTATE && becomes == PFX_STATE_STAGED &&
             at->state != PFX_STATE_MAKING)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "key.rotate stages generation %u, which is %s", at->number,
                         pfx_key_state_name(at->state));
    else if ((event == PFX_EV_CONNECTOR_PROBE || event == PFX_EV_CONNECTOR_CONFIRM) &&
             at->state != becomes)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s makes generation %u %s, and it was %s", pfx_events[event].name,
                         at->number, pfx_key_state_name(becomes), pfx_key_state_name(at->state));
}

/* What the operator said of records stands in the entry: it must have been none. */
static void check_needed(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                         const struct pfx_entry *entry, const struct pfx_generation *at)
{
    int64_t records = pfx_entry_int(entry, PFX_F_COUNT);
    if (event != PFX_EV_KEY_RETIRE && event != PFX_EV_KEY_DESTROY)
        return;
    if (records > 0)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s of generation %u, and %" PRId64 " records named it",
                         pfx_events[event].name, at->number, records);
    else if (!pfx_entry_has(entry, PFX_F_COUNT) && at->state != PFX_STATE_STAGED)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s of generation %u, and it wasn't known how many records named it",
                         pfx_events[event].name, at->number);
}

static void check_serial(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                         bool written)
{
    struct pfx_life *life = meaning->life;
    int64_t serial = pfx_entry_int(entry, PFX_F_PIN_SERIAL);
    if (serial <= 0)
        return;
    if (serial < life->serial + (written ? 1 : 0))
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the pins' serial is %" PRId64 ", and was %" PRId64
                         " before: an older file was put back",
                         serial, life->serial);
    life->serial = serial;
}

void pfx_life_written(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                      const struct pfx_entry *entry)
{
    struct pfx_life *life = meaning->life;
    int64_t number = pfx_entry_int(entry, PFX_F_PIN_GENERATION);
    enum pfx_key_state becomes;
    if (pfx_entry_int(entry, PFX_F_OUTCOME) != PFX_OUTCOME_OK) {
        /* What it was to become may have been written all the same. */
        if (pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_UNKNOWN)
            life->n = 0;
        return;
    }
    check_serial(meaning, seq, entry, true);
    if (!state_of(entry, &becomes))
        return;
    struct pfx_generation *at = generation_of(life, number, false);
    if (at && event != PFX_EV_CEREMONY_PIN) {
        check_needed(meaning, seq, event, entry, at);
        check_move(meaning, seq, event, at, becomes);
    }
    at = generation_of(life, number, true);
    if (!at)
        return;
    for (size_t i = 0; becomes == PFX_STATE_ACTIVE && i < life->n; i++)
        if (life->list[i].state == PFX_STATE_ACTIVE)
            life->list[i].state = PFX_STATE_SUSPENDED;
    at->state = becomes;
}

/* Before the key was taken over people approved that: their record stands in the intent. */
void pfx_life_begun(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                    const struct pfx_entry *entry)
{
    if (event == PFX_EV_KEY_ROTATE && pfx_entry_is(entry, PFX_F_REASON, "adopted") &&
        !pfx_entry_has(entry, PFX_F_APPROVALS))
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "key.rotate adopts a key that pfx-hsm didn't make, and nobody approved it");
}

void pfx_life_listed(struct pfx_meaning *meaning, uint64_t seq, int64_t number,
                     struct pfx_bytes state)
{
    struct pfx_life *life = meaning->life;
    enum pfx_key_state said;
    if (!pfx_key_state_parse((const char *)state.data, state.len, &said))
        return;
    struct pfx_generation *at = generation_of(life, number, false);
    if (at && at->state != said)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "generation %u of the encryption key is listed as %s, and the entries "
                         "before made it %s",
                         at->number, pfx_key_state_name(said), pfx_key_state_name(at->state));
    at = generation_of(life, number, true);
    if (at)
        at->state = said;
}

void pfx_life_seen(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry)
{
    check_serial(meaning, seq, entry, false);
}
