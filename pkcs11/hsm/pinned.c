/* The text of the pins. */
#include "pkcs11/hsm/pinned.h"

#include <inttypes.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/lines.h"

#define HEADER "pfx-agent pins v2"
#define MAX_SPKI 2048
#define LAST_MS INT64_C(253402300799999) /* 9999-12-31 */
#define LAST_SERIAL (INT64_C(1) << 52)

static void pinned_done(struct pfx_pinned *pin)
{
    free(pin->key_name);
    free(pin->provider_name);
    free(pin->connectors);
    pfx_buf_done(&pin->spki);
}

void pfx_pins_done(struct pfx_pins *pins)
{
    for (size_t i = 0; i < pins->n; i++)
        pinned_done(&pins->list[i]);
    free(pins->list);
    *pins = (struct pfx_pins)PFX_PINS_NONE;
}

const struct pfx_pinned *pfx_pins_active(const struct pfx_pins *pins)
{
    for (size_t i = 0; i < pins->n; i++)
        if (pins->list[i].state == PFX_STATE_ACTIVE)
            return &pins->list[i];
    return NULL;
}

const struct pfx_pinned *pfx_pins_find(const struct pfx_pins *pins, unsigned generation)
{
    for (size_t i = 0; i < pins->n; i++)
        if (pins->list[i].generation == generation)
            return &pins->list[i];
    return NULL;
}

bool pfx_pins_usable(const struct pfx_pins *pins)
{
    for (size_t i = 0; i < pins->n; i++)
        if (pins->list[i].state != PFX_STATE_MAKING)
            return true;
    return false;
}

struct pfx_pinned *pfx_pins_add(struct pfx_pins *pins, unsigned generation, const char *key_name,
                                const char *provider_name)
{
    pins->list = pfx_grow(pins->list, pins->n + 1, sizeof *pins->list);
    struct pfx_pinned *pin = &pins->list[pins->n++];
    *pin = (struct pfx_pinned){.generation = generation,
                               .state = PFX_STATE_MAKING,
                               .key_name = pfx_strdup(key_name),
                               .provider_name = pfx_strdup(provider_name),
                               .spki = pfx_buf_make(MAX_SPKI)};
    return pin;
}

struct pfx_pin_connector *pfx_pinned_connector(struct pfx_pinned *pin, const char *name)
{
    for (size_t i = 0; i < pin->n_connectors; i++)
        if (strcmp(pin->connectors[i].name, name) == 0)
            return &pin->connectors[i];
    size_t len = strlen(name);
    if (pin->n_connectors == PFX_PIN_CONNECTORS_MOST || len == 0 || len >= PFX_CONNECTOR_NAME)
        return NULL;
    pin->connectors =
        pfx_grow(pin->connectors, pin->n_connectors + 1, sizeof *pin->connectors);
    struct pfx_pin_connector *row = &pin->connectors[pin->n_connectors++];
    *row = (struct pfx_pin_connector){.probed_ms = 0};
    memcpy(row->name, name, len + 1);
    return row;
}

bool pfx_pinned_confirmed(const struct pfx_pinned *pin, const char *name)
{
    for (size_t i = 0; i < pin->n_connectors; i++)
        if (strcmp(pin->connectors[i].name, name) == 0)
            return pin->connectors[i].confirmed_ms > 0;
    return false;
}

size_t pfx_pins_generations(const struct pfx_pins *pins, struct pfx_generation *ret_list)
{
    size_t n = pins->n < PFX_GENERATIONS_MOST ? pins->n : PFX_GENERATIONS_MOST;
    for (size_t i = 0; i < n; i++) {
        const struct pfx_pinned *pin = &pins->list[i];
        ret_list[i] = (struct pfx_generation){.number = pin->generation,
                                              .state = pin->state,
                                              .since_ms = pin->since_ms,
                                              .activated_ms = pin->activated_ms,
                                              .compromised_ms = pin->compromised_ms};
    }
    return n;
}

void pfx_pins_take(struct pfx_pins *pins, const struct pfx_generation *list)
{
    for (size_t i = 0; i < pins->n && i < PFX_GENERATIONS_MOST; i++) {
        struct pfx_pinned *pin = &pins->list[i];
        pin->state = list[i].state;
        pin->since_ms = list[i].since_ms;
        pin->activated_ms = list[i].activated_ms;
        pin->compromised_ms = list[i].compromised_ms;
    }
}

/* --- writing --- */

static bool add_time(struct pfx_buf *out, const char *name, int64_t ms)
{
    return ms == 0 || pfx_buf_addf(out, "%s %" PRId64 "\n", name, ms);
}

static bool add_adopted(struct pfx_buf *out, const struct pfx_pinned *pin)
{
    char hex[2 * PFX_ADOPTED_ID_MOST + 1];
    return pin->n_adopted == 0 ||
           pfx_buf_addf(out, "adopted %s\n", pfx_hex(pin->adopted, pin->n_adopted, hex));
}

static bool add_staged(struct pfx_buf *out, const struct pfx_pinned *pin)
{
    return pin->staged_ms == 0 ||
           pfx_buf_addf(out, "staged %" PRId64 " %" PRId64 "\n%s", pin->staged_ms, pin->staged_uid,
                        pin->scheduled ? "scheduled by rotate_every\n" : "");
}

static bool add_connectors(struct pfx_buf *out, const struct pfx_pinned *pin)
{
    bool ok = true;
    for (size_t i = 0; ok && i < pin->n_connectors; i++) {
        const struct pfx_pin_connector *row = &pin->connectors[i];
        char hex[65];
        ok = pfx_buf_addf(out, "connector %s %" PRId64 " %s %" PRId64 "\n", row->name,
                          row->probed_ms, pfx_hex(row->expected, sizeof row->expected, hex),
                          row->confirmed_ms);
    }
    return ok;
}

bool pfx_pins_write(const struct pfx_pins *pins, struct pfx_buf *out)
{
    bool ok = pfx_buf_addf(out, HEADER "\nserial %" PRId64 "\n", pins->serial);
    for (size_t i = 0; ok && i < pins->n; i++) {
        const struct pfx_pinned *pin = &pins->list[i];
        /* A line feed in a name would let it write lines of its own. */
        ok = !strchr(pin->key_name, '\n') && !strchr(pin->provider_name, '\n') &&
             pfx_buf_addf(out, "generation %u\nstate %s\nsince %" PRId64 "\n", pin->generation,
                          pfx_key_state_name(pin->state), pin->since_ms) &&
             add_time(out, "activated", pin->activated_ms) &&
             add_time(out, "compromised", pin->compromised_ms) && add_adopted(out, pin) &&
             add_staged(out, pin) &&
             pfx_buf_addf(out, "key_name %s\nprovider_name %s\nspki ", pin->key_name,
                          pin->provider_name) &&
             pfx_base64_encode(pin->spki.data, pin->spki.len, out) && pfx_buf_add_str(out, "\n") &&
             add_connectors(out, pin);
    }
    return ok;
}

/* --- reading: one text, one spelling --- */

struct text {
    const char *at, *end;
};

/* The value of the next line if it has this name: borrowed, and the text moves on. */
static bool line(struct text *text, const char *name, struct pfx_bytes *ret_value)
{
    const char *lf = memchr(text->at, '\n', (size_t)(text->end - text->at));
    size_t name_len = strlen(name);
    if (!lf || (size_t)(lf - text->at) < name_len + 1 ||
        memcmp(text->at, name, name_len) != 0 || text->at[name_len] != ' ')
        return false;
    const char *value = text->at + name_len + 1;
    *ret_value = (struct pfx_bytes){(const uint8_t *)value, (size_t)(lf - value)};
    text->at = lf + 1;
    return true;
}

static bool number(struct pfx_bytes text, int64_t least, int64_t most, int64_t *ret_number)
{
    int64_t value = 0;
    if (text.len < 1 || text.len > 15 || (text.data[0] == '0' && text.len > 1))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (text.data[i] - '0');
    }
    *ret_number = value;
    return value >= least && value <= most;
}

/* A line that may be left out. */
static bool time_line(struct text *text, const char *name, int64_t *ret_ms)
{
    struct pfx_bytes value;
    *ret_ms = 0;
    return !line(text, name, &value) || number(value, 1, LAST_MS, ret_ms);
}

static bool adopted_line(struct text *text, struct pfx_pinned *pin)
{
    struct pfx_bytes value;
    char again[2 * PFX_ADOPTED_ID_MOST + 1];
    if (!line(text, "adopted", &value))
        return true;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf id = pfx_buf_make(PFX_ADOPTED_ID_MOST);
    if (value.len == 0 || !pfx_unhex((const char *)value.data, value.len, &id))
        return false;
    memcpy(pin->adopted, id.data, id.len);
    pin->n_adopted = id.len;
    return memcmp(pfx_hex(id.data, id.len, again), value.data, value.len) == 0;
}

/* The next word up to a blank, or to the end. */
static struct pfx_bytes word(struct pfx_bytes *line)
{
    const uint8_t *blank = memchr(line->data, ' ', line->len);
    size_t len = blank ? (size_t)(blank - line->data) : line->len;
    struct pfx_bytes value = {line->data, len};
    size_t gone = blank ? len + 1 : len;
    *line = (struct pfx_bytes){line->data + gone, line->len - gone};
    return value;
}

/* When a generation was staged, by whom, and whether the schedule asked for it. */
static bool staged_line(struct text *text, struct pfx_pinned *pin)
{
    struct pfx_bytes value;
    if (!line(text, "staged", &value))
        return true;
    struct pfx_bytes at = word(&value);
    if (!number(at, 1, LAST_MS, &pin->staged_ms) || !number(value, 0, UINT32_MAX, &pin->staged_uid))
        return false;
    pin->scheduled = line(text, "scheduled", &value);
    return !pin->scheduled || pfx_bytes_equal(value, "by rotate_every");
}

static bool connector_line(struct pfx_bytes value, struct pfx_pinned *pin)
{
    struct pfx_bytes name = word(&value), probed = word(&value), mac = word(&value);
    char again[65];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf expected = pfx_buf_make(32);
    char *text PFX_AUTOFREE = pfx_strndup((const char *)name.data, name.len);
    size_t before = pin->n_connectors;
    struct pfx_pin_connector *row = pfx_pinned_connector(pin, text);
    if (!row || pin->n_connectors == before || mac.len != 64 ||
        !pfx_unhex((const char *)mac.data, mac.len, &expected) || expected.len != 32 ||
        memcmp(pfx_hex(expected.data, expected.len, again), mac.data, mac.len) != 0)
        return false;
    memcpy(row->expected, expected.data, sizeof row->expected);
    return number(probed, 0, LAST_MS, &row->probed_ms) &&
           number(value, 0, LAST_MS, &row->confirmed_ms);
}

/* What belongs to one generation behind its names. */
static bool parse_key(struct text *text, struct pfx_pinned *pin)
{
    struct pfx_bytes value;
    if (!line(text, "spki", &value) ||
        !pfx_base64_decode((const char *)value.data, value.len, &pin->spki) ||
        (pin->spki.len == 0) != (pin->state == PFX_STATE_MAKING))
        return false;
    while (line(text, "connector", &value))
        if (!connector_line(value, pin))
            return false;
    return true;
}

static bool parse_one(struct text *text, struct pfx_pins *pins)
{
    struct pfx_bytes generation, state, since, key_name, provider;
    struct pfx_pinned head = {.generation = 0};
    int64_t no;
    if (!line(text, "generation", &generation) || !number(generation, 1, 999999, &no) ||
        pfx_pins_find(pins, (unsigned)no) || pins->n == PFX_GENERATIONS_MOST ||
        !line(text, "state", &state) ||
        !pfx_key_state_parse((const char *)state.data, state.len, &head.state) ||
        !line(text, "since", &since) || !number(since, 0, LAST_MS, &head.since_ms) ||
        !time_line(text, "activated", &head.activated_ms) ||
        !time_line(text, "compromised", &head.compromised_ms) || !adopted_line(text, &head) ||
        !staged_line(text, &head) || !line(text, "key_name", &key_name) ||
        !line(text, "provider_name", &provider) || key_name.len == 0 ||
        provider.len == 0)
        return false;
    char *name PFX_AUTOFREE = pfx_strndup((const char *)key_name.data, key_name.len);
    char *from PFX_AUTOFREE = pfx_strndup((const char *)provider.data, provider.len);
    struct pfx_pinned *pin = pfx_pins_add(pins, (unsigned)no, name, from);
    pin->state = head.state;
    pin->since_ms = head.since_ms;
    pin->activated_ms = head.activated_ms;
    pin->compromised_ms = head.compromised_ms;
    pin->n_adopted = head.n_adopted;
    pin->staged_ms = head.staged_ms;
    pin->staged_uid = head.staged_uid;
    pin->scheduled = head.scheduled;
    memcpy(pin->adopted, head.adopted, sizeof pin->adopted);
    return parse_key(text, pin);
}

bool pfx_pins_parse(const char *text, size_t len, struct pfx_pins *ret_pins)
{
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct text at = {text, text + len};
    struct pfx_bytes serial;
    size_t header = strlen(HEADER "\n"), active = 0;
    if (len < header || memcmp(text, HEADER "\n", header) != 0 || memchr(text, '\0', len))
        return false;
    at.at += header;
    if (!line(&at, "serial", &serial) || !number(serial, 1, LAST_SERIAL, &pins.serial))
        return false;
    while (at.at < at.end)
        if (!parse_one(&at, &pins))
            return false;
    for (size_t i = 0; i < pins.n; i++)
        active += pins.list[i].state == PFX_STATE_ACTIVE;
    if (active > 1)
        return false;
    *ret_pins = pins;
    pins = (struct pfx_pins)PFX_PINS_NONE;
    return true;
}
