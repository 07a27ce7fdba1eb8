/* User keys: what an ok result of making, packing or destroying one must say, and what it is matched
 * with. */
#include "agent/audit/meaning_state.h"

#include <inttypes.h>

struct need {
    enum pfx_field field;
    const char *name;
};

static bool has_all(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                    const char *event, const struct need *needs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!pfx_entry_has(entry, needs[i].field)) {
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s is ok without its %s", event,
                             needs[i].name);
            return false;
        }
    return true;
}

pfx_result pfx_meaning_made(struct pfx_meaning *meaning, uint64_t seq,
                            const struct pfx_entry *entry, const struct pfx_open *open,
                            struct pfx_error *err)
{
    static const struct need needs[] = {{PFX_F_OUT_SHA256, "out.sha256 (the request)"}};
    if (!has_all(meaning, seq, entry, "key.make", needs, 1))
        return PFX_OK;
    if (!open->has_spki || !open->has_ticket || !open->has_id) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "key.make is ok without its %s",
                         !open->has_id     ? "key.id"
                         : !open->has_spki ? "key.spki"
                                           : "ticket");
        return PFX_OK;
    }
    return pfx_match_add(meaning->match, PFX_MATCH_MADE, open->spki, meaning->log, seq,
                         open->payload, err);
}

/* Another ticket for the same key: what is built from here on may take it. */
pfx_result pfx_meaning_rewrapped(struct pfx_meaning *meaning, uint64_t seq,
                                 const struct pfx_open *open, struct pfx_error *err)
{
    if (!open->has_spki || !open->has_ticket || !open->has_id) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "key.rewrap is ok without key.id, key.spki or ticket");
        return PFX_OK;
    }
    PFX_TRY(pfx_match_add(meaning->match, PFX_MATCH_REWRAPPED, open->spki, meaning->log, seq,
                          open->payload, err));
    return pfx_match_add(meaning->match, PFX_MATCH_MADE, open->spki, meaning->log, seq,
                         open->payload, err);
}

pfx_result pfx_meaning_built(struct pfx_meaning *meaning, uint64_t seq,
                             const struct pfx_entry *entry, const struct pfx_open *open,
                             struct pfx_error *err)
{
    static const struct need needs[] = {{PFX_F_OUT_SHA256, "out.sha256 (the PFX)"},
                                        {PFX_F_SEAL_BY, "seal.by"},
                                        {PFX_F_SEAL_GENERATION, "seal.generation"},
                                        {PFX_F_SEAL_HASH, "seal.hash"},
                                        {PFX_F_SEAL_SHA256, "seal.sha256"},
                                        {PFX_F_SEAL_SPKI, "seal.spki"},
                                        {PFX_F_TIER, "tier"}};
    uint8_t hash[32];
    /* What it released counts as released whatever else is wrong with it. */
    if (pfx_entry_hash(entry, PFX_F_OUT_SHA256, hash))
        PFX_TRY(
            pfx_match_add(meaning->match, PFX_MATCH_RELEASED, hash, meaning->log, seq, NULL, err));
    if (pfx_entry_has(entry, PFX_F_SEAL_GENERATION) && pfx_entry_has(entry, PFX_F_SEAL_SPKI))
        pfx_meaning_sealed(meaning, seq, entry, open);
    if (has_all(meaning, seq, entry, "pfx.build", needs, sizeof(needs) / sizeof(needs[0])) &&
        !open->has_cert)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "pfx.build is ok and its intent names no certificate (cert.sha256)");
    if (open->has_spki && open->has_ticket && open->has_id)
        return pfx_match_add(meaning->match, PFX_MATCH_PACKED, open->spki, meaning->log, seq,
                             open->payload, err);
    pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                     "pfx.build is ok, and neither it nor its intent names the %s",
                     !open->has_spki     ? "key (key.spki)"
                     : !open->has_ticket ? "ticket"
                                         : "key's id (key.id)");
    return PFX_OK;
}

/* Which policies there may be is known: none lets a delivered key go that decrypts. */
pfx_result pfx_meaning_destroyed(struct pfx_meaning *meaning, uint64_t seq,
                                 const struct pfx_entry *entry, const struct pfx_open *open,
                                 struct pfx_error *err)
{
    static const struct need needs[] = {{PFX_F_FOUND, "found"},
                                        {PFX_F_TARGET_NAME, "target.name (purpose and reason)"}};
    bool delivered = pfx_entry_is(entry, PFX_F_TARGET_NAME, "signing.delivered");
    bool unused = pfx_entry_is(entry, PFX_F_TARGET_NAME, "signing.unused") ||
                  pfx_entry_is(entry, PFX_F_TARGET_NAME, "encryption.unused") ||
                  pfx_entry_is(entry, PFX_F_TARGET_NAME, "dual.unused");
    if (!has_all(meaning, seq, entry, "user_key.destroy", needs, 2))
        return PFX_OK;
    if (!delivered && !unused)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "user_key.destroy destroyed a key that every policy keeps: %.*s",
                         (int)pfx_entry_text(entry, PFX_F_TARGET_NAME).len,
                         (const char *)pfx_entry_text(entry, PFX_F_TARGET_NAME).data);
    if (open->has_spki && open->has_ticket && open->has_id)
        return pfx_match_add(meaning->match,
                             unused ? PFX_MATCH_DISCARDED : PFX_MATCH_DESTROYED, open->spki,
                             meaning->log, seq, open->payload, err);
    pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                     "user_key.destroy is ok without its %s",
                     !open->has_id     ? "key.id"
                     : !open->has_spki ? "key.spki"
                                       : "ticket");
    return PFX_OK;
}
