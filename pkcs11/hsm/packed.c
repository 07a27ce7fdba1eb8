/* The history of one key, backwards through the log. */
#include "pkcs11/hsm/packed.h"

#include <inttypes.h>
#include <string.h>

#include "api/logdir/logdir.h"
#include "crypto/encode.h"

#define PAGE 4096 /* entries read forward in one go: the reader has no way back */

enum verdict { GO_ON, PACKED, MADE, WHOLE };
struct wanted {
    char id[2 * PFX_KEY_ID_SIZE + 1]; /* as entries have it */
    uint8_t spki[32];
};

/* An adoption of a key that was there isn't its making: whoever asks for the same key again after
 * a build would hide that build behind it. */
static enum verdict judge(const struct pfx_entry *entry, const struct wanted *wanted)
{
    uint8_t spki[32];
    if (!pfx_entry_is(entry, PFX_F_KEY_ID, wanted->id) ||
        pfx_entry_int(entry, PFX_F_SRC) != PFX_SRC_HSM)
        return GO_ON;
    if (pfx_entry_is(entry, PFX_F_EVENT, "pfx.build"))
        return PACKED;
    bool made = pfx_entry_is(entry, PFX_F_EVENT, "key.make") &&
                pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK &&
                !pfx_entry_has(entry, PFX_F_FOUND) &&
                pfx_entry_hash(entry, PFX_F_KEY_SPKI, spki) &&
                memcmp(spki, wanted->spki, sizeof spki) == 0;
    return made ? MADE : GO_ON;
}

/* The last word of the entries from..upto - 1 that says something of the key. */
static pfx_result read_page(struct pfx_logdir *dir, uint64_t from, uint64_t upto,
                            const struct wanted *wanted, enum verdict *ret_verdict,
                            struct pfx_error *err)
{
    *ret_verdict = GO_ON;
    for (uint64_t seq = from; seq < upto; seq++) {
        struct pfx_bytes json;
        struct pfx_entry entry;
        PFX_TRY(pfx_logdir_entry(dir, seq, &json, err));
        /* Most entries are of other keys, and needn't be taken apart. */
        if (seq != 0 && !memmem(json.data, json.len, wanted->id, strlen(wanted->id)))
            continue;
        PFX_TRY(pfx_entry_read(json, &entry, err));
        enum verdict verdict = judge(&entry, wanted);
        /* A build after the making counts, not one before: that key was destroyed meanwhile. */
        if (verdict != GO_ON)
            *ret_verdict = verdict;
        else if (seq == 0 && pfx_entry_is(&entry, PFX_F_EVENT, "log.begin"))
            *ret_verdict = WHOLE;
    }
    return PFX_OK;
}

pfx_result pfx_never_packed(const struct pfx_hsm *hsm, const struct pfx_key_id *id,
                            struct pfx_bytes spki, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    struct wanted wanted;
    enum verdict verdict = GO_ON;
    uint64_t upto;
    pfx_hex(id->bytes, sizeof id->bytes, wanted.id);
    if (!pfx_sha256(spki.data, spki.len, wanted.spki))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "SHA-256", "", "", "OpenSSL can't do it.");
    PFX_TRY(pfx_logdir_open_bare(hsm->policy->log_dir, &dir, err));
    PFX_TRY(pfx_logdir_count(dir, &upto, err));
    uint64_t first = pfx_logdir_first(dir);
    while (verdict == GO_ON && upto > first) {
        uint64_t from = upto - first > PAGE ? upto - PAGE : first;
        PFX_TRY(read_page(dir, from, upto, &wanted, &verdict, err));
        upto = from;
    }
    if (verdict == MADE || verdict == WHOLE)
        return PFX_OK;
    if (verdict == PACKED)
        return pfx_fail(err, PFX_CLASS_REFUSED, "destroy key", wanted.id, "packed",
                        "The operation log has a PFX that was built from this key, and "
                        "users.after_delivery keeps such keys: nothing is destroyed.");
    return pfx_fail(err, PFX_CLASS_REFUSED, "destroy key", wanted.id, "unproven",
                    "What this host has of its operation log doesn't show that the key was made and "
                    "never packed (log.keep, or a log that was reopened): nothing is destroyed. "
                    "Destroy it with the HSM's own tool if it must go.");
}
