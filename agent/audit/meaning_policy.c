/*
 * Which policy is in force at an entry, and what its text says. Once the log has a policy.force,
 * policy and roster change by approvals only (agent/audit/approvals.c misses them), and each change
 * says what is in force from there on.
 */
#include "agent/audit/meaning_state.h"

#include <string.h>

#include "agent/audit/source.h"
#include "crypto/encode.h"
#include "crypto/lines.h"

static void note_policy(struct pfx_meaning *meaning, uint64_t seq, const uint8_t sha256[32])
{
    for (size_t i = meaning->n_policies; i-- > 0;)
        if (memcmp(meaning->policies[i].sha256, sha256, 32) == 0)
            return;
    if (meaning->n_policies == PFX_POLICIES_MOST) {
        if (!meaning->policies_over)
            pfx_report_open(meaning->report, meaning->log,
                            "texts of further policies than the first %d", PFX_POLICIES_MOST);
        meaning->policies_over = true;
        return;
    }
    if (!meaning->policies)
        meaning->policies = pfx_alloc_array(PFX_POLICIES_MOST, sizeof(*meaning->policies));
    memcpy(meaning->policies[meaning->n_policies].sha256, sha256, 32);
    meaning->policies[meaning->n_policies++].seq = seq;
}

/* What a change of the policy in force must say of itself, beside its approvals. */
static void check_force(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                        const struct pfx_entry *entry, bool other)
{
    bool says = pfx_entry_has(entry, PFX_F_POLICY_FORCE);
    if (event == PFX_EV_POLICY_FORCE && other)
        pfx_meaning_tell(
            meaning, PFX_LEVEL_FINDING, seq,
            "policy.force puts another policy in force than the one of the last start");
    if (event == PFX_EV_POLICY_CHANGED && meaning->force && !says)
        pfx_meaning_tell(
            meaning, PFX_LEVEL_FINDING, seq,
            "policy.changed doesn't say which policy and roster are in force from here "
            "on (policy.force)");
    meaning->force = meaning->force || says;
}

void pfx_meaning_policy(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                        const struct pfx_entry *entry)
{
    bool names = event == PFX_EV_START || event == PFX_EV_LOG_BEGIN || event == PFX_EV_LOG_REOPEN ||
                 event == PFX_EV_LOG_SEGMENT || event == PFX_EV_POLICY_CHANGED ||
                 event == PFX_EV_POLICY_FORCE;
    uint8_t sha256[32];
    if (!names)
        return;
    if (!pfx_entry_hash(entry, PFX_F_POLICY_SHA256, sha256)) {
        if (event != PFX_EV_LOG_SEGMENT)
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s names no policy (policy.sha256)",
                             pfx_events[event].name);
        return;
    }
    note_policy(meaning, seq, sha256);
    bool other = meaning->known_policy && memcmp(meaning->policy, sha256, 32) != 0;
    check_force(meaning, seq, event, entry, other);
    if (other && event == PFX_EV_START) {
        meaning->policy_pending = true;
        meaning->policy_pending_seq = seq;
        memcpy(meaning->policy_before, meaning->policy, 32);
    } else if (event == PFX_EV_POLICY_CHANGED) {
        meaning->policy_pending = false;
    } else if (other && event == PFX_EV_LOG_SEGMENT && !meaning->policy_pending) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "log.segment names another policy than the last start");
    }
    meaning->known_policy = true;
    memcpy(meaning->policy, sha256, 32);
}

/* Its text, where the export has it and it is the one that the log names: else all stays unread,
 * and verify_files.c says what is wrong. */
static void read_text(struct pfx_meaning *meaning, const uint8_t sha256[32])
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    struct pfx_error ignored = PFX_ERROR_NONE;
    uint8_t hash[32];
    char hex[65];
    PFX_AUTOFREE char *path = pfx_asprintf("policy/%s.yaml", pfx_hex(sha256, 32, hex));
    memset(&meaning->policy_facts, 0, sizeof(meaning->policy_facts));
    memcpy(meaning->policy_text, sha256, 32);
    meaning->has_policy_text = true;
    if (meaning->source &&
        pfx_ok(pfx_source_file(meaning->source, path, PFX_POLICY_TEXT_MAX, &text, &ignored)) &&
        pfx_sha256(text.data ? text.data : (const uint8_t *)"", text.len, hash) &&
        memcmp(hash, sha256, 32) == 0)
        pfx_policy_read(pfx_buf_bytes(&text), &meaning->policy_facts);
}

const struct pfx_policy_facts *pfx_meaning_policy_facts(struct pfx_meaning *meaning,
                                                        const uint8_t sha256[32])
{
    if (!meaning->has_policy_text || memcmp(meaning->policy_text, sha256, 32) != 0)
        read_text(meaning, sha256);
    return &meaning->policy_facts;
}

void pfx_meaning_policy_end(struct pfx_meaning *meaning)
{
    const char *origin = pfx_report_log_at(meaning->report, meaning->log)->origin;
    if (!meaning->known_policy || !origin[0])
        return;
    meaning->ended = pfx_grow(meaning->ended, meaning->n_ended + 1, sizeof(*meaning->ended));
    struct pfx_ended *ended = &meaning->ended[meaning->n_ended++];
    memcpy(ended->origin, origin, strlen(origin) + 1);
    ended->facts = *pfx_meaning_policy_facts(
        meaning, meaning->policy_pending ? meaning->policy_before : meaning->policy);
}

const struct pfx_policy_facts *pfx_meaning_before(const struct pfx_meaning *meaning,
                                                  const struct pfx_entry *entry)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf note = pfx_buf_make(PFX_ENTRY_MAX);
    struct pfx_lines lines;
    struct pfx_bytes origin; /* the first line of a checkpoint */
    if (!pfx_entry_plain(entry, PFX_F_LOG_BEFORE, &note))
        return NULL;
    lines = (struct pfx_lines){.rest = pfx_buf_bytes(&note)};
    if (!pfx_lines_next(&lines, &origin))
        return NULL;
    for (size_t i = 0; i < meaning->n_ended; i++)
        if (pfx_bytes_equal(origin, meaning->ended[i].origin))
            return &meaning->ended[i].facts;
    return NULL;
}
