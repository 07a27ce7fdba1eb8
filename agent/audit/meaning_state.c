/* What is in force at an entry: process, boot, clock, pins, pfx-agentd's numbers. */
#include "agent/audit/meaning_state.h"

#include <inttypes.h>
#include <string.h>

#include "crypto/encode.h"

/* A step is noted from 2 s on; what lies between two readings of the clock comes on top. */
#define CLOCK_SLACK_MS 3000
#define DAY_MS INT64_C(86400000)

static void check_boot(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                       const struct pfx_entry *entry)
{
    struct pfx_bytes boot = pfx_entry_text(entry, PFX_F_BOOT);
    bool same = meaning->known_boot && boot.len == meaning->boot_len &&
                memcmp(boot.data, meaning->boot, boot.len) == 0;
    if (event == PFX_EV_START) {
        meaning->boot_expected = false;
    } else if (meaning->boot_expected && event != PFX_EV_LOG_SEGMENT) {
        meaning->boot_expected = false;
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, meaning->boot_seq,
                         "the host was started anew, and no start follows");
    }
    if (!same && meaning->known_boot && event == PFX_EV_LOG_SEGMENT) {
        /* The note comes before the entry that needed a new segment. */
        meaning->boot_expected = true;
        meaning->boot_seq = seq;
    } else if (!same && meaning->known_boot && event != PFX_EV_START) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the boot id changed without a start: the entries before were written "
                         "before the host was started anew");
    }
    if (same)
        return;
    meaning->known_boot = true;
    meaning->boot_len = boot.len < sizeof(meaning->boot) ? boot.len : sizeof(meaning->boot);
    memcpy(meaning->boot, boot.data, meaning->boot_len);
    meaning->has_time = false;
}

/* pfx_entry_time, with the day's part read once a day: the form of the text was checked. */
static int64_t time_of(struct pfx_meaning *meaning, const struct pfx_entry *entry)
{
    const uint8_t *at = pfx_entry_text(entry, PFX_F_TIME).data; /* 2026-11-22T08:00:00.120Z */
    if (memcmp(meaning->day, at, sizeof(meaning->day)) != 0) {
        memcpy(meaning->day, at, sizeof(meaning->day));
        meaning->day_ms = pfx_entry_time(entry, PFX_F_TIME) / DAY_MS * DAY_MS;
    }
#define DIGIT(i) ((int64_t)at[i] - '0')
    int64_t minutes = (DIGIT(11) * 10 + DIGIT(12)) * 60 + DIGIT(14) * 10 + DIGIT(15);
    int64_t ms = (DIGIT(17) * 10 + DIGIT(18)) * 1000 + DIGIT(20) * 100 + DIGIT(21) * 10 + DIGIT(22);
#undef DIGIT
    return meaning->day_ms + minutes * 60000 + ms;
}

static void check_clock(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                        const struct pfx_entry *entry)
{
    int64_t up = pfx_entry_int(entry, PFX_F_UP);
    int64_t offset = time_of(meaning, entry) - up;
    if (meaning->has_time) {
        int64_t step = offset - meaning->last_offset;
        if (up < meaning->last_up)
            pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, seq,
                             "time since boot goes back by %" PRId64 " ms", meaning->last_up - up);
        if ((step > CLOCK_SLACK_MS || step < -CLOCK_SLACK_MS) && event != PFX_EV_CLOCK_STEP &&
            event != PFX_EV_START && !meaning->stepped)
            pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, seq,
                             "the wall clock was set by %" PRId64 " ms without a clock.step", step);
    }
    meaning->has_time = true;
    meaning->last_up = up;
    meaning->last_offset = offset;
    meaning->stepped = event == PFX_EV_CLOCK_STEP || event == PFX_EV_START;
}

void pfx_meaning_process(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                         const struct pfx_entry *entry)
{
    if (event == PFX_EV_START) {
        meaning->process++;
        meaning->last_start = seq;
    }
    check_boot(meaning, seq, event, entry);
    check_clock(meaning, seq, event, entry);
}

struct opens {
    struct pfx_meaning *meaning;
    size_t n, unknown;
};

static bool open_listed(void *ctx, const struct pfx_canon_value *value)
{
    struct opens *opens = ctx;
    if (value->kind != PFX_CANON_INT)
        return false;
    opens->n++;
    if (value->number < 0 || !pfx_meaning_open_find(opens->meaning, (uint64_t)value->number))
        opens->unknown++;
    return true;
}

void pfx_meaning_segment(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry)
{
    if (pfx_entry_has(entry, PFX_F_LOG_SIZE) &&
        (uint64_t)pfx_entry_int(entry, PFX_F_LOG_SIZE) != seq)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "log.segment says that it begins at %" PRId64,
                         pfx_entry_int(entry, PFX_F_LOG_SIZE));
    if (pfx_entry_has(entry, PFX_F_LOG_N)) {
        int64_t n = pfx_entry_int(entry, PFX_F_LOG_N);
        if (meaning->known_n && n != meaning->n)
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "log.segment says that pfx-agentd's last number was %" PRId64
                             ", and it was %" PRId64,
                             n, meaning->n);
        meaning->known_n = true;
        meaning->n = n;
    }
    if (!pfx_entry_has(entry, PFX_F_LOG_OPEN) || meaning->from > 0 || meaning->overflow)
        return;
    struct opens opens = {.meaning = meaning};
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r =
        pfx_canon_elements(pfx_entry_text(entry, PFX_F_LOG_OPEN), open_listed, &opens, &err);
    if (pfx_failed(r) || opens.unknown > 0 || opens.n != meaning->n_open)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "intents without a result: log.segment lists %zu, and there are %zu",
                         opens.n - opens.unknown, meaning->n_open);
}

void pfx_meaning_agentd(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry)
{
    if (pfx_entry_int(entry, PFX_F_SRC) != PFX_SRC_AGENTD)
        return;
    if (!pfx_entry_has(entry, PFX_F_N) || !pfx_entry_has(entry, PFX_F_AT)) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "pfx-agentd's note is without its number or time (n, at)");
        return;
    }
    int64_t n = pfx_entry_int(entry, PFX_F_N);
    if (meaning->known_n && n != meaning->n + 1)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "pfx-agentd's note has number %" PRId64 " after %" PRId64, n, meaning->n);
    meaning->known_n = true;
    meaning->n = n;
}

struct pins {
    struct pfx_meaning *meaning;
    uint64_t seq;
    struct pfx_bytes state; /* of the one */
    struct pfx_pin active, one;
    size_t n, n_active;
    bool one_active, one_spki;
};

static bool text_is(const struct pfx_bytes *bytes, const char *text)
{
    return bytes->len == strlen(text) && memcmp(bytes->data, text, bytes->len) == 0;
}

static bool pin_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                       const struct pfx_canon_value *value)
{
    struct pins *pins = ctx;
    (void)group;
    if (text_is(&key, "generation") && value->kind == PFX_CANON_INT)
        pins->one.generation = value->number;
    if (text_is(&key, "state") && value->kind == PFX_CANON_STR) {
        pins->one_active = text_is(&value->text, "active");
        pins->state = value->text;
    }
    if (text_is(&key, "spki") && value->kind == PFX_CANON_STR) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf hash = pfx_buf_make(32);
        if (!pfx_unhex((const char *)value->text.data, value->text.len, &hash) || hash.len != 32)
            return false;
        memcpy(pins->one.spki, hash.data, 32);
        pins->one_spki = true;
    }
    return true;
}

static bool pin_listed(void *ctx, const struct pfx_canon_value *value)
{
    struct pins *pins = ctx;
    struct pfx_error err = PFX_ERROR_NONE;
    memset(&pins->one, 0, sizeof(pins->one));
    pins->one_active = pins->one_spki = false;
    pins->state = (struct pfx_bytes){NULL, 0};
    if (value->kind != PFX_CANON_OBJ || ++pins->n > PFX_PINS_MOST ||
        pfx_failed(pfx_canon_scan(value->raw, pin_member, pins, &err)))
        return false;
    pfx_life_listed(pins->meaning, pins->seq, pins->one.generation, pins->state,
                    pins->one_spki ? pins->one.spki : NULL);
    if (pins->one_active) {
        pins->active = pins->one;
        pins->n_active++;
    }
    return true;
}

static bool same_pin(const struct pfx_pin *a, const struct pfx_pin *b)
{
    return a->generation == b->generation && memcmp(a->spki, b->spki, sizeof(a->spki)) == 0;
}

void pfx_meaning_pins(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry)
{
    pfx_life_seen(meaning, seq, entry);
    if (!pfx_entry_has(entry, PFX_F_PINS))
        return;
    struct pins pins = {.meaning = meaning, .seq = seq};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(
            pfx_canon_elements(pfx_entry_text(entry, PFX_F_PINS), pin_listed, &pins, &err)) ||
        pins.n_active > 1) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         pins.n_active > 1 ? "more than one generation of the encryption key is "
                                             "active"
                                           : "its list of pins isn't one");
        return;
    }
    pfx_life_listed_all(meaning);
    bool other = meaning->known_pins && !same_pin(&meaning->active, &pins.active);
    if (other && meaning->active_since == 0)
        pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, seq,
                         "generation %" PRId64 " is active, and was pinned before the log began",
                         pins.active.generation);
    else if (other)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the active pin isn't the one that the ceremonies in this log set "
                         "(generation %" PRId64 ", here %" PRId64 ")",
                         meaning->active.generation, pins.active.generation);
    if (!meaning->known_pins || other) {
        meaning->previous = meaning->known_pins ? meaning->active : (struct pfx_pin){0};
        meaning->active = pins.active;
        meaning->active_since = seq;
    }
    meaning->known_pins = true;
}

void pfx_meaning_pinned(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                        const struct pfx_open *intent)
{
    int64_t outcome = pfx_entry_int(entry, PFX_F_OUTCOME);
    if (outcome == PFX_OUTCOME_REFUSED || outcome == PFX_OUTCOME_USAGE)
        return;
    if (outcome != PFX_OUTCOME_OK) {
        /* It may have been written all the same: the next token.ready says. */
        meaning->known_pins = false;
        return;
    }
    struct pfx_pin pin = {.generation = intent->generation};
    if (pfx_entry_has(entry, PFX_F_PIN_GENERATION))
        pin.generation = pfx_entry_int(entry, PFX_F_PIN_GENERATION);
    bool has_key = intent->has_spki || pfx_entry_has(entry, PFX_F_PIN_SPKI);
    memcpy(pin.spki, intent->spki, sizeof(pin.spki));
    uint8_t hash[32];
    if (pfx_entry_hash(entry, PFX_F_PIN_SPKI, hash))
        memcpy(pin.spki, hash, sizeof(pin.spki));
    if (pfx_entry_is(entry, PFX_F_PIN_STATE, "active")) {
        if (!has_key || pin.generation <= 0) {
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "%s makes a generation active without naming it and its key "
                             "(pin.generation, pin.spki)",
                             pfx_events[pfx_event_find(pfx_entry_text(
                                                          entry, PFX_F_EVENT))].name);
            meaning->known_pins = false;
            return;
        }
        /* Exactly one is active: this one takes the place of the one before. */
        meaning->previous = meaning->active;
        meaning->active = pin;
        meaning->active_since = seq;
    } else if (meaning->active.generation == pin.generation) {
        meaning->previous = meaning->active;
        meaning->active = (struct pfx_pin){0};
        meaning->active_since = seq;
    }
}

void pfx_meaning_sealed(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                        const struct pfx_open *intent)
{
    struct pfx_pin pin = {.generation = pfx_entry_int(entry, PFX_F_SEAL_GENERATION)};
    if (!pfx_entry_hash(entry, PFX_F_SEAL_SPKI, pin.spki))
        return;
    if (!meaning->known_pins) {
        meaning->unsealed_proof++;
        return;
    }
    if (meaning->active.generation && same_pin(&pin, &meaning->active))
        return;
    /* An operation that was under way while the pin changed. */
    if (intent->seq < meaning->active_since && meaning->previous.generation &&
        same_pin(&pin, &meaning->previous))
        return;
    if (!meaning->active.generation)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "sealed to generation %" PRId64 ", which isn't active: none is",
                         pin.generation);
    else if (meaning->active.generation == pin.generation)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "sealed to another key than the one that is pinned as generation %" PRId64,
                         pin.generation);
    else
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "sealed to generation %" PRId64 ", which isn't active: %" PRId64 " is",
                         pin.generation, meaning->active.generation);
}
