/* The file of the standing keys' generations: read under the MAC key that it names as active. */
#include <inttypes.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/rotation.h"

#define FILE_NAME "standing"
#define MAX_FILE (64 * 1024)
#define MAC_LINE (4 + 64 + 1) /* "mac ", hex, LF */

void pfx_rotation_init(struct pfx_hsm *hsm)
{
    hsm->rotation = pfx_alloc(sizeof *hsm->rotation);
    for (size_t i = 0; i < PFX_STANDING_MAX; i++)
        hsm->generations[i] = 1;
}

static bool exists(const struct pfx_hsm *hsm)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    return access(path, F_OK) == 0;
}

static pfx_result bad(const struct pfx_hsm *hsm, const char *why, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read standing keys", path, "",
                    "%s It says which generation of each key is in force. Restore the file from a "
                    "backup, or find out which users token (MAC key) it belongs to.",
                    why);
}

static unsigned active_of(const struct pfx_rotation *rotation, const char *stem)
{
    struct pfx_overlap list[PFX_OVERLAP_MOST];
    return pfx_overlap_in(list, pfx_rotation_of(rotation, stem, list), PFX_OVERLAP_ACTIVE);
}

static void take(struct pfx_hsm *hsm, const struct pfx_rotation *rotation)
{
    if (rotation != hsm->rotation)
        *hsm->rotation = *rotation;
    hsm->rotation->known = true;
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key first;
        if (!pfx_standing_rotates(i))
            continue;
        pfx_standing_describe(hsm->policy, i, &first);
        hsm->generations[i] = active_of(rotation, first.stem);
    }
}

/* The MAC of the text by the MAC key that the text calls active. Who can't compute it can't choose
 * the key either: each of them is on the token, and of the same strength. */
static pfx_result mac_of(struct pfx_hsm *hsm, struct pfx_session *users,
                         const struct pfx_rotation *rotation, struct pfx_bytes text,
                         uint8_t ret_mac[32], struct pfx_error *err)
{
    struct pfx_standing_key standing;
    struct pfx_key *mac PFX_AUTOKEY = NULL;
    pfx_standing_generation(hsm->policy, PFX_STANDING_MAC, active_of(rotation, "mac"), &standing);
    PFX_TRY(pfx_key_find(users, standing.use, &standing.id, true, (struct pfx_bytes){NULL, 0}, &mac,
                         err));
    if (!mac)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key", standing.name, "",
                        "The users token doesn't have this key, which the state folder calls "
                        "active: is it the right token? Restore it from its backup.");
    return pfx_key_mac(users, mac, text, ret_mac, err);
}

static int64_t serial_in_log(const struct pfx_hsm *hsm)
{
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    pfx_oplog_facts(hsm->log->writer, facts);
    return facts->standing_serial;
}

pfx_result pfx_rotation_load(struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_error *err)
{
    int64_t known = serial_in_log(hsm);
    struct pfx_rotation *found PFX_AUTOFREE = pfx_alloc(sizeof *found);
    if (!exists(hsm)) {
        if (known > 0)
            return bad(hsm, "The file is gone, and the operation log knows of it.", err);
        take(hsm, found);
        return PFX_OK;
    }
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf stated = pfx_buf_make(32);
    PFX_TRY(pfx_file_read(path, MAX_FILE, &text, err));
    size_t covered = text.len < MAC_LINE ? 0 : text.len - MAC_LINE;
    if (covered == 0 || memcmp(text.data + covered, "mac ", 4) != 0 ||
        text.data[text.len - 1] != '\n' ||
        !pfx_unhex((const char *)text.data + covered + 4, 64, &stated))
        return bad(hsm, "It has no MAC at its end.", err);
    if (!pfx_rotation_parse((const char *)text.data, covered, found))
        return bad(hsm, "It isn't a file that this pfx-hsm writes.", err);
    uint8_t computed[32];
    PFX_TRY(mac_of(hsm, users, found, (struct pfx_bytes){text.data, covered}, computed, err));
    if (CRYPTO_memcmp(computed, stated.data, sizeof computed) != 0)
        return bad(hsm, "Its MAC is wrong: someone changed it, or it was made with another token.",
                   err);
    if (found->serial < known) {
        char why[160];
        snprintf(why, sizeof why,
                 "It is an older one: its serial is %" PRId64
                 ", and the operation log knows serial %" PRId64 ".",
                 found->serial, known);
        return bad(hsm, why, err);
    }
    take(hsm, found);
    return PFX_OK;
}

pfx_result pfx_rotation_known(const struct pfx_hsm *hsm, struct pfx_error *err)
{
    if (hsm->rotation->known || (!exists(hsm) && serial_in_log(hsm) == 0))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "find key", pfx_role_name(PFX_ROLE_SERVICE), "",
                    "Which generation of the client keys is in force is known under the MAC key of "
                    "the users token, and that role isn't ready yet.");
}

pfx_result pfx_rotation_store(struct pfx_hsm *hsm, struct pfx_session *users,
                              struct pfx_rotation *next, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_FILE);
    uint8_t digest[32];
    char hex[65];
    int64_t known = serial_in_log(hsm);
    next->serial = (next->serial > known ? next->serial : known) + 1;
    if (!pfx_rotation_write(next, &text))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write standing keys", path, "",
                        "It is too long.");
    PFX_TRY(mac_of(hsm, users, next, pfx_buf_bytes(&text), digest, err));
    if (!pfx_buf_addf(&text, "mac %s\n", pfx_hex(digest, sizeof digest, hex)))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write standing keys", path, "",
                        "It is too long.");
    PFX_TRY(pfx_file_replace(path, text.data, text.len, 0600, err));
    take(hsm, next);
    return PFX_OK;
}

unsigned pfx_mac_previous(const struct pfx_hsm *hsm, unsigned below)
{
    struct pfx_overlap list[PFX_OVERLAP_MOST];
    size_t n = pfx_rotation_of(hsm->rotation, "mac", list);
    unsigned newest = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].state == PFX_OVERLAP_PREVIOUS && list[i].number < below &&
            list[i].number > newest)
            newest = list[i].number;
    return newest;
}

/* The MAC by a generation that isn't active; *ret_there: the token has it. */
static pfx_result earlier_mac(const struct pfx_hsm *hsm, struct pfx_session *users,
                              unsigned generation, struct pfx_bytes text, uint8_t ret_mac[32],
                              bool *ret_there, struct pfx_error *err)
{
    struct pfx_standing_key standing;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    pfx_standing_generation(hsm->policy, PFX_STANDING_MAC, generation, &standing);
    PFX_TRY(pfx_key_find(users, standing.use, &standing.id, true, (struct pfx_bytes){NULL, 0}, &key,
                         err));
    *ret_there = key != NULL;
    return key ? pfx_key_mac(users, key, text, ret_mac, err) : PFX_OK;
}

pfx_result pfx_mac_vouches(const struct pfx_hsm *hsm, struct pfx_session *users,
                           struct pfx_key *mac, struct pfx_bytes text, struct pfx_bytes stated,
                           bool *ret_ours, bool *ret_earlier, struct pfx_error *err)
{
    uint8_t computed[32];
    bool ours = false, is_earlier = false;
    PFX_TRY(pfx_key_mac(users, mac, text, computed, err));
    if (stated.len == sizeof computed)
        ours = CRYPTO_memcmp(computed, stated.data, sizeof computed) == 0;
    for (unsigned before = pfx_mac_previous(hsm, UINT_MAX);
         before > 0 && !ours && stated.len == sizeof computed;
         before = pfx_mac_previous(hsm, before)) {
        bool there;
        PFX_TRY(earlier_mac(hsm, users, before, text, computed, &there, err));
        is_earlier = ours = there && CRYPTO_memcmp(computed, stated.data, sizeof computed) == 0;
    }
    *ret_ours = ours;
    if (ret_earlier)
        *ret_earlier = is_earlier;
    return PFX_OK;
}
