/*
 * The pins: which public keys passwords may be sealed to. One file under the MAC key, replaced as a
 * whole, so that exactly one generation is active at any moment:
 *   pfx-agent pins v1
 *   generation 1
 *   state active
 *   key_name ...
 *   provider_name ...
 *   spki <base64>
 *   mac <hex>
 * The MAC covers every byte before its line.
 */
#ifndef PFX_HSM_PINNED_H
#define PFX_HSM_PINNED_H

#include "pkcs11/hsm/hsm.h"

enum pfx_pinned_state {
    PFX_PINNED_MAKING, /* the ceremony was about to make the key; there is no public half yet */
    PFX_PINNED_ACTIVE,
};
struct pfx_pinned {
    unsigned generation;
    enum pfx_pinned_state state;
    char *key_name, *provider_name;
    struct pfx_buf spki; /* DER; empty while making */
};
struct pfx_pins {
    struct pfx_pinned *list;
    size_t n;
};
void pfx_pins_done(struct pfx_pins *pins); /* usable as cleanup */
/* The one that is active; NULL if none. */
const struct pfx_pinned *pfx_pins_active(const struct pfx_pins *pins);
const struct pfx_pinned *pfx_pins_find(const struct pfx_pins *pins, unsigned generation);
/* Adds one (names are copied). */
struct pfx_pinned *pfx_pins_add(struct pfx_pins *pins, unsigned generation, const char *key_name,
                                const char *provider_name);
const char *pfx_pinned_state_name(enum pfx_pinned_state state);

/* Reads the file and checks its MAC in the users token. No file: *ret_pins is empty. INTEGRITY when
 * it isn't what pfx-hsm wrote. */
PFX_MUST_USE pfx_result pfx_pins_load(const struct pfx_hsm *hsm, struct pfx_session *users,
                                      struct pfx_key *mac, struct pfx_pins *ret_pins,
                                      struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_pins_store(const struct pfx_hsm *hsm, struct pfx_session *users,
                                       struct pfx_key *mac, const struct pfx_pins *pins,
                                       struct pfx_error *err);
/* Is there a file at all? */
bool pfx_pins_exist(const struct pfx_hsm *hsm);
/* The text without its MAC, and back: for the two above and for tests. */
PFX_MUST_USE bool pfx_pins_write(const struct pfx_pins *pins, struct pfx_buf *out);
PFX_MUST_USE bool pfx_pins_parse(const char *text, size_t len, struct pfx_pins *ret_pins);

#endif
