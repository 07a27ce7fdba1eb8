/* The pins' file. */
#include "pkcs11/hsm/pinned.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"

#define HEADER "pfx-agent pins v1"
#define FILE_NAME "pins"
#define MAX_FILE (256 * 1024)
#define MAX_SPKI 2048
#define MAX_PINS 64

static const char *const states[] = {
    [PFX_PINNED_MAKING] = "making", [PFX_PINNED_ACTIVE] = "active"};

const char *pfx_pinned_state_name(enum pfx_pinned_state state)
{
    return states[state];
}

void pfx_pins_done(struct pfx_pins *pins)
{
    for (size_t i = 0; i < pins->n; i++) {
        free(pins->list[i].key_name);
        free(pins->list[i].provider_name);
        pfx_buf_done(&pins->list[i].spki);
    }
    free(pins->list);
    *pins = (struct pfx_pins){NULL, 0};
}

const struct pfx_pinned *pfx_pins_active(const struct pfx_pins *pins)
{
    for (size_t i = 0; i < pins->n; i++)
        if (pins->list[i].state == PFX_PINNED_ACTIVE)
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

struct pfx_pinned *pfx_pins_add(struct pfx_pins *pins, unsigned generation, const char *key_name,
                                const char *provider_name)
{
    pins->list = pfx_grow(pins->list, pins->n + 1, sizeof *pins->list);
    struct pfx_pinned *pin = &pins->list[pins->n++];
    *pin = (struct pfx_pinned){.generation = generation,
                               .state = PFX_PINNED_MAKING,
                               .key_name = pfx_strdup(key_name),
                               .provider_name = pfx_strdup(provider_name),
                               .spki = pfx_buf_make(MAX_SPKI)};
    return pin;
}

bool pfx_pins_write(const struct pfx_pins *pins, struct pfx_buf *out)
{
    bool ok = pfx_buf_add_str(out, HEADER "\n");
    for (size_t i = 0; ok && i < pins->n; i++) {
        const struct pfx_pinned *pin = &pins->list[i];
        /* A line feed in a name would let it write lines of its own. */
        ok = !strchr(pin->key_name, '\n') && !strchr(pin->provider_name, '\n') &&
             pfx_buf_addf(out, "generation %u\nstate %s\nkey_name %s\nprovider_name %s\nspki ",
                          pin->generation, states[pin->state], pin->key_name, pin->provider_name) &&
             pfx_base64_encode(pin->spki.data, pin->spki.len, out) && pfx_buf_add_str(out, "\n");
    }
    return ok;
}

/* The value of the next line, which must have this name; borrowed from *text, which moves on. */
static bool line(const char **text, const char *end, const char *name, const char **ret_value,
                 size_t *ret_len)
{
    const char *lf = memchr(*text, '\n', (size_t)(end - *text));
    size_t name_len = strlen(name);
    if (!lf || (size_t)(lf - *text) < name_len + 1 || memcmp(*text, name, name_len) != 0 ||
        (*text)[name_len] != ' ')
        return false;
    *ret_value = *text + name_len + 1;
    *ret_len = (size_t)(lf - *ret_value);
    *text = lf + 1;
    return true;
}

static bool number(const char *text, size_t len, unsigned *ret_number)
{
    unsigned value = 0;
    if (len < 1 || len > 6 || text[0] == '0')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *ret_number = value;
    return true;
}

static bool parse_one(const char **text, const char *end, struct pfx_pins *pins)
{
    const char *value[5];
    size_t len[5];
    static const char *const names[5] = {"generation", "state", "key_name", "provider_name",
                                         "spki"};
    for (size_t i = 0; i < 5; i++)
        if (!line(text, end, names[i], &value[i], &len[i]))
            return false;
    unsigned generation;
    if (!number(value[0], len[0], &generation) || pfx_pins_find(pins, generation) ||
        pins->n == MAX_PINS || len[2] == 0 || len[3] == 0)
        return false;
    char *key_name PFX_AUTOFREE = pfx_strndup(value[2], len[2]);
    char *provider PFX_AUTOFREE = pfx_strndup(value[3], len[3]);
    struct pfx_pinned *pin = pfx_pins_add(pins, generation, key_name, provider);
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        if (strlen(states[s]) == len[1] && memcmp(states[s], value[1], len[1]) == 0) {
            pin->state = (enum pfx_pinned_state)s;
            return pfx_base64_decode(value[4], len[4], &pin->spki) &&
                   (pin->spki.len == 0) == (pin->state == PFX_PINNED_MAKING);
        }
    }
    return false;
}

bool pfx_pins_parse(const char *text, size_t len, struct pfx_pins *ret_pins)
{
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = {NULL, 0};
    const char *end = text + len;
    size_t header = strlen(HEADER "\n");
    if (len < header || memcmp(text, HEADER "\n", header) != 0 || memchr(text, '\0', len))
        return false;
    const char *at = text + header;
    size_t active = 0;
    while (at < end)
        if (!parse_one(&at, end, &pins))
            return false;
    for (size_t i = 0; i < pins.n; i++)
        active += pins.list[i].state == PFX_PINNED_ACTIVE;
    if (active > 1)
        return false;
    *ret_pins = pins;
    pins = (struct pfx_pins){NULL, 0};
    return true;
}

bool pfx_pins_exist(const struct pfx_hsm *hsm)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    return access(path, F_OK) == 0;
}

static pfx_result bad(const char *path, const char *why, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read pins", path, "",
                    "%s Nothing is sealed. Restore the file from a backup, or find out which users "
                    "token (MAC key) it belongs to.",
                    why);
}

pfx_result pfx_pins_load(const struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_key *mac,
                         struct pfx_pins *ret_pins, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    if (!pfx_pins_exist(hsm)) {
        *ret_pins = (struct pfx_pins){NULL, 0};
        return PFX_OK;
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    PFX_TRY(pfx_file_read(path, MAX_FILE, &text, err));
    static const size_t mac_line = 4 + 64 + 1; /* "mac ", hex, LF */
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf stated = pfx_buf_make(32);
    if (text.len < mac_line || text.data[text.len - 1] != '\n' ||
        memcmp(text.data + text.len - mac_line, "mac ", 4) != 0 ||
        !pfx_unhex((const char *)text.data + text.len - mac_line + 4, 64, &stated))
        return bad(path, "It has no MAC at its end.", err);
    size_t covered = text.len - mac_line;
    uint8_t computed[32];
    PFX_TRY(pfx_key_mac(users, mac, (struct pfx_bytes){text.data, covered}, computed, err));
    if (CRYPTO_memcmp(computed, stated.data, sizeof computed) != 0)
        return bad(path, "Its MAC is wrong: someone changed it, or it was made with another token.",
                   err);
    if (!pfx_pins_parse((const char *)text.data, covered, ret_pins))
        return bad(path, "Its MAC is right but its form isn't known: a newer pfx-hsm wrote it.",
                   err);
    return PFX_OK;
}

pfx_result pfx_pins_store(const struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_key *mac,
                          const struct pfx_pins *pins, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins again = {NULL, 0};
    if (!pfx_pins_write(pins, &text) || !pfx_pins_parse(pfx_buf_str(&text), text.len, &again))
        return pfx_fail(err, PFX_CLASS_USAGE, "write pins", path, "",
                        "encryption_key.name or encryption_key.provider of the policy can't be "
                        "written in a line: use plain text.");
    uint8_t digest[32];
    char hex[65];
    PFX_TRY(pfx_key_mac(users, mac, pfx_buf_bytes(&text), digest, err));
    pfx_hex(digest, sizeof digest, hex);
    if (!pfx_buf_addf(&text, "mac %s\n", hex))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write pins", path, "", "The file is too long.");
    return pfx_file_replace(path, text.data, text.len, 0600, err);
}
