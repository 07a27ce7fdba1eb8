/*
 * The life of the encryption key's generations as the log tells it: each move from a state that
 * allows it (crypto/lifecycle.h, the same rules that pfx-hsm asks), nothing retired or destroyed while
 * records named it, nothing first activated before each connector of the policy had confirmed it,
 * always the same public key, none that no entry made, and pins whose serial neither goes back nor
 * leaves a write out.
 */
#include <inttypes.h>
#include <string.h>

#include "agent/audit/meaning_state.h"
#include "crypto/lifecycle.h"

#define HOSTS_MOST 64 /* that were asked about one generation; a policy names 32 */

/* What its entries say beside its state. */
struct said {
    bool has_spki, staged; /* staged: its key.rotate was examined, so all that follows was, too */
    uint8_t spki[32];
    struct {
        uint64_t name; /* folded */
        bool confirmed;
    } hosts[HOSTS_MOST];
    size_t n_hosts;
    bool over; /* there were more */
};
struct pfx_life {
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    struct said said[PFX_GENERATIONS_MOST];
    size_t n;
    int64_t serial;
    bool maybe; /* a write that didn't end well may have raised the serial */
    bool whole; /* each generation that there is is known: from the first write on, or a list */
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
    memset(&life->said[life->n], 0, sizeof(life->said[0]));
    struct pfx_generation *at = &life->list[life->n++];
    *at = (struct pfx_generation){.number = (unsigned)number};
    return at;
}

static struct said *said_of(struct pfx_life *life, const struct pfx_generation *at)
{
    return &life->said[at - life->list];
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

/* A move to another state than its own is one that nobody asked the rules for. */
static void check_becomes(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                          enum pfx_key_state becomes)
{
    static const enum pfx_key_state of_move[] = {[PFX_MOVE_ACTIVATE] = PFX_STATE_ACTIVE,
                                                 [PFX_MOVE_RETIRE] = PFX_STATE_RETIRED,
                                                 [PFX_MOVE_DESTROY] = PFX_STATE_DESTROYED,
                                                 [PFX_MOVE_COMPROMISE] = PFX_STATE_COMPROMISED};
    enum pfx_key_move move = move_of(event);
    bool lawful = move != PFX_MOVE_COUNT ? of_move[move] == becomes
                                         : event != PFX_EV_KEY_ROTATE ||
                                               becomes == PFX_STATE_MAKING ||
                                               becomes == PFX_STATE_STAGED;
    if (!lawful)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s makes a generation %s",
                         pfx_events[event].name, pfx_key_state_name(becomes));
}

/* Another key under the same number would open nothing that connectors have shown to open. */
static void check_key(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_generation *at,
                      const uint8_t spki[32])
{
    struct said *said = said_of(meaning->life, at);
    if (said->has_spki && memcmp(said->spki, spki, sizeof(said->spki)) != 0)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "generation %u of the encryption key has another public key here than "
                         "before",
                         at->number);
    memcpy(said->spki, spki, sizeof(said->spki));
    said->has_spki = true;
}

/* --- connectors --- */

static uint64_t fold(const char *text, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* n_hosts: it wasn't asked. */
static size_t host_of(const struct said *said, const char *name, size_t len)
{
    uint64_t folded = fold(name, len);
    size_t i = 0;
    while (i < said->n_hosts && said->hosts[i].name != folded)
        i++;
    return i;
}

static bool confirmed(const struct said *said, const char *name)
{
    size_t i = host_of(said, name, strlen(name));
    return i < said->n_hosts && said->hosts[i].confirmed;
}

/* Asked again, a host has to answer again. */
static void take_host(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                      const struct pfx_entry *entry, struct said *said)
{
    struct pfx_bytes name = pfx_entry_text(entry, PFX_F_TARGET_NAME);
    size_t i = host_of(said, (const char *)name.data, name.len);
    bool answers = event == PFX_EV_CONNECTOR_CONFIRM;
    if (answers && i == said->n_hosts && said->staged && !said->over)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "connector.confirm of a connector that no connector.probe asked");
    if (i == HOSTS_MOST) {
        said->over = true;
        return;
    }
    said->n_hosts += i == said->n_hosts;
    said->hosts[i].name = fold((const char *)name.data, name.len);
    said->hosts[i].confirmed = answers;
}

/* The way back needs no connector: what was active before is known to all of them. */
static void check_connectors(struct pfx_meaning *meaning, uint64_t seq,
                             const struct pfx_generation *at)
{
    const struct said *said = said_of(meaning->life, at);
    if (at->state != PFX_STATE_STAGED)
        return;
    const struct pfx_policy_facts *facts =
        meaning->known_policy ? pfx_meaning_policy_facts(meaning, meaning->policy) : NULL;
    bool known = facts && facts->read;
    if (!known || ((!said->staged || said->over) && facts->n_connectors > 0))
        pfx_report_open(meaning->report, meaning->log,
                        "that each connector of the policy had confirmed generation %u of the "
                        "encryption key before it was activated: %s",
                        at->number,
                        known ? "not all of its confirmations were examined"
                              : "the policy's text isn't there, or not in the plain form that is "
                                "read here");
    for (size_t i = 0; known && said->staged && !said->over && i < facts->n_connectors; i++)
        if (!confirmed(said, facts->connectors[i]))
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "key.activate of generation %u, and the connector %s of the policy in "
                             "force hadn't confirmed it",
                             at->number, facts->connectors[i]);
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

/* Only ceremony.pin and key.rotate make one. Whoever has the MAC key can write pins as pfx-hsm
 * does, with the serial that they have; but no entry says that such a generation came to be. */
static void check_unmade(struct pfx_meaning *meaning, uint64_t seq, const char *how, int64_t number)
{
    const struct pfx_life *life = meaning->life;
    if (life->whole && life->n < PFX_GENERATIONS_MOST)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s of generation %" PRId64 " of the encryption key, and no entry of the "
                         "log made it",
                         how, number);
}

static void check_serial(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                         bool written)
{
    struct pfx_life *life = meaning->life;
    int64_t serial = pfx_entry_int(entry, PFX_F_PIN_SERIAL);
    int64_t next = life->serial + (written ? 1 : 0);
    if (serial <= 0)
        return;
    if (life->serial > 0 && !life->maybe && serial > next)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the pins' serial is %" PRId64 ", and %" PRId64
                         " was expected: the log doesn't have each write of the pins",
                         serial, next);
    if (serial < next)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the pins' serial is %" PRId64 ", and was %" PRId64
                         " before: an older file was put back",
                         serial, life->serial);
    life->serial = serial;
    life->maybe = false;
}

static void forget(struct pfx_life *life, int64_t number, bool active)
{
    for (size_t i = life->n; i-- > 0;) {
        const struct pfx_generation *at = &life->list[i];
        if ((int64_t)at->number != number && (!active || at->state != PFX_STATE_ACTIVE))
            continue;
        life->n--;
        life->list[i] = life->list[life->n];
        life->said[i] = life->said[life->n];
    }
}

/* What it was to become may have been written all the same: from here on it isn't known. */
static void maybe_written(struct pfx_life *life, enum pfx_event event,
                          const struct pfx_entry *entry)
{
    int64_t outcome = pfx_entry_int(entry, PFX_F_OUTCOME);
    if (outcome == PFX_OUTCOME_REFUSED || outcome == PFX_OUTCOME_USAGE)
        return;
    life->maybe = true;
    life->whole = false;
    if (!pfx_entry_has(entry, PFX_F_PIN_GENERATION)) /* as recovery ends it */
        life->n = 0;
    forget(life, pfx_entry_int(entry, PFX_F_PIN_GENERATION), event == PFX_EV_KEY_ACTIVATE);
}

void pfx_life_written(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                      const struct pfx_entry *entry)
{
    struct pfx_life *life = meaning->life;
    int64_t number = pfx_entry_int(entry, PFX_F_PIN_GENERATION);
    enum pfx_key_state becomes;
    uint8_t spki[32];
    if (pfx_entry_int(entry, PFX_F_OUTCOME) != PFX_OUTCOME_OK) {
        maybe_written(life, event, entry);
        return;
    }
    check_serial(meaning, seq, entry, true);
    if (!state_of(entry, &becomes))
        return;
    struct pfx_generation *at = generation_of(life, number, false);
    if (event != PFX_EV_CEREMONY_PIN)
        check_becomes(meaning, seq, event, becomes);
    if (!at && event != PFX_EV_CEREMONY_PIN && event != PFX_EV_KEY_ROTATE)
        check_unmade(meaning, seq, pfx_events[event].name, number);
    /* The file's first write: nothing was there before it. */
    life->whole = life->whole || pfx_entry_int(entry, PFX_F_PIN_SERIAL) == 1;
    if (at && event != PFX_EV_CEREMONY_PIN) {
        check_needed(meaning, seq, event, entry, at);
        check_move(meaning, seq, event, at, becomes);
        if (event == PFX_EV_KEY_ACTIVATE)
            check_connectors(meaning, seq, at);
    }
    at = generation_of(life, number, true);
    if (!at)
        return;
    if (pfx_entry_hash(entry, PFX_F_PIN_SPKI, spki))
        check_key(meaning, seq, at, spki);
    else if (event == PFX_EV_KEY_ROTATE && becomes == PFX_STATE_STAGED)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "key.rotate stages generation %u without naming its public key "
                         "(pin.spki)",
                         at->number);
    for (size_t i = 0; becomes == PFX_STATE_ACTIVE && i < life->n; i++)
        if (life->list[i].state == PFX_STATE_ACTIVE)
            life->list[i].state = PFX_STATE_SUSPENDED;
    at->state = becomes;
    struct said *said = said_of(life, at);
    said->staged = said->staged || event == PFX_EV_KEY_ROTATE;
    if (event == PFX_EV_CONNECTOR_PROBE || event == PFX_EV_CONNECTOR_CONFIRM)
        take_host(meaning, seq, event, entry, said);
}

void pfx_life_listed(struct pfx_meaning *meaning, uint64_t seq, int64_t number,
                     struct pfx_bytes state, const uint8_t *spki)
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
    if (!at)
        check_unmade(meaning, seq, "a list of pins", number);
    at = generation_of(life, number, true);
    if (!at)
        return;
    at->state = said;
    if (spki)
        check_key(meaning, seq, at, spki);
}

void pfx_life_seen(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry)
{
    check_serial(meaning, seq, entry, false);
}

void pfx_life_listed_all(struct pfx_meaning *meaning)
{
    meaning->life->whole = true;
}
