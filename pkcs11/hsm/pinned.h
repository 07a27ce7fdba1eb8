/*
 * The pins: which public keys passwords may be sealed to, and which were. One file under the MAC key,
 * replaced as a whole, so that at most one generation is active at any moment:
 *   pfx-agent pins v2
 *   serial 5
 *   generation 1
 *   state active
 *   since 1795000000000
 *   activated 1795000000000            in use since then; absent: it never was
 *   compromised 1795000000000          where that was said
 *   adopted 00112233                   CKA_ID of a key that the connector's provider made
 *   staged 1795000000000 1001          when, and by which uid
 *   scheduled by rotate_every          that command did what the schedule asked for
 *   key_name ...
 *   provider_name ...
 *   spki <base64>
 *   connector CONN1 1795000000000 <hex> 0
 *   mac <hex>
 * The MAC covers every byte before its line. The serial grows with each write and stands in the log
 * entry of the write, so an older file that is put back is noticed.
 */
#ifndef PFX_HSM_PINNED_H
#define PFX_HSM_PINNED_H

#include "crypto/lifecycle.h"
#include "pkcs11/hsm/hsm.h"

#define PFX_PIN_CONNECTORS_MOST 32 /* of a generation */
#define PFX_CONNECTOR_NAME 64
#define PFX_ADOPTED_ID_MOST 64
/* What a connector was asked, and whether it answered. */
struct pfx_pin_connector {
    char name[PFX_CONNECTOR_NAME];
    int64_t probed_ms, confirmed_ms; /* 0: not yet */
    uint8_t expected[32];            /* MAC of the answer */
};
struct pfx_pinned {
    unsigned generation;
    enum pfx_key_state state;
    int64_t since_ms, activated_ms, compromised_ms; /* as in lifecycle.h */
    uint8_t adopted[PFX_ADOPTED_ID_MOST]; /* CKA_ID */
    size_t n_adopted;                     /* 0: a key of ours, found by standing.h's CKA_ID */
    int64_t staged_ms, staged_uid;        /* 0: it never was; generation 1 isn't */
    bool scheduled;                       /* by key rotate --if-due */
    char *key_name, *provider_name;
    struct pfx_buf spki; /* DER; empty while making */
    struct pfx_pin_connector *connectors;
    size_t n_connectors;
};
struct pfx_pins {
    struct pfx_pinned *list;
    size_t n;
    int64_t serial; /* of the last write; 0: there is none */
};
#define PFX_PINS_NONE                                                                              \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }
void pfx_pins_done(struct pfx_pins *pins); /* usable as cleanup */
/* The one that is active; NULL if none. */
const struct pfx_pinned *pfx_pins_active(const struct pfx_pins *pins);
const struct pfx_pinned *pfx_pins_find(const struct pfx_pins *pins, unsigned generation);
/* Is there one with a key at all? */
bool pfx_pins_usable(const struct pfx_pins *pins);
/* Adds one (names are copied). */
struct pfx_pinned *pfx_pins_add(struct pfx_pins *pins, unsigned generation, const char *key_name,
                                const char *provider_name);
/* The row of this connector, made if it isn't there; NULL: there are too many. */
struct pfx_pin_connector *pfx_pinned_connector(struct pfx_pinned *pin, const char *name);
bool pfx_pinned_confirmed(const struct pfx_pinned *pin, const char *name);
/* For the rules of lifecycle.h: what they need of each, and what they made of it. list has room for
 * PFX_GENERATIONS_MOST. */
size_t pfx_pins_generations(const struct pfx_pins *pins, struct pfx_generation *ret_list);
void pfx_pins_take(struct pfx_pins *pins, const struct pfx_generation *list);

/* Reads the file and checks its MAC in the users token. No file: *ret_pins is empty. INTEGRITY when
 * it isn't what pfx-hsm wrote, or the operation log knows a later one. */
PFX_MUST_USE pfx_result pfx_pins_load(const struct pfx_hsm *hsm, struct pfx_session *users,
                                      struct pfx_key *mac, struct pfx_pins *ret_pins,
                                      struct pfx_error *err);
/* Writes them with the serial that they have: the caller has raised it, for the log's sake. */
PFX_MUST_USE pfx_result pfx_pins_store(const struct pfx_hsm *hsm, struct pfx_session *users,
                                       struct pfx_key *mac, const struct pfx_pins *pins,
                                       struct pfx_error *err);
/* Is there a file at all? */
bool pfx_pins_exist(const struct pfx_hsm *hsm);
/* The text without its MAC, and back: for the two above and for tests. */
PFX_MUST_USE bool pfx_pins_write(const struct pfx_pins *pins, struct pfx_buf *out);
PFX_MUST_USE bool pfx_pins_parse(const char *text, size_t len, struct pfx_pins *ret_pins);

#endif
