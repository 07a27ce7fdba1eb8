/* The pins' file: read under the MAC key, and never an older one than the operation log knows. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/rotation.h"

#define FILE_NAME "pins"
#define MAX_FILE (1024 * 1024)

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
    int64_t known = pfx_hsmlog_pins_serial(hsm);
    if (!pfx_pins_exist(hsm)) {
        if (known > 0)
            return bad(path,
                       "The file is gone, and the operation log knows of it: a key on the token "
                       "that no pin speaks of isn't adopted.",
                       err);
        *ret_pins = (struct pfx_pins)PFX_PINS_NONE;
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
    bool ours;
    PFX_TRY(pfx_mac_vouches(hsm, users, mac, (struct pfx_bytes){text.data, covered},
                            pfx_buf_bytes(&stated), &ours, NULL, err));
    if (!ours)
        return bad(path, "Its MAC is wrong: someone changed it, or it was made with another token.",
                   err);
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    if (!pfx_pins_parse((const char *)text.data, covered, &pins))
        return bad(path, "Its MAC is right but its form isn't known: another pfx-hsm wrote it.",
                   err);
    if (pins.serial < known) {
        char why[160];
        snprintf(why, sizeof why,
                 "It is an older one: its serial is %" PRId64
                 ", and the operation log knows serial %" PRId64 ".",
                 pins.serial, known);
        return bad(path, why, err);
    }
    *ret_pins = pins;
    pins = (struct pfx_pins)PFX_PINS_NONE;
    return PFX_OK;
}

pfx_result pfx_pins_store(const struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_key *mac,
                          const struct pfx_pins *pins, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins again = PFX_PINS_NONE;
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
