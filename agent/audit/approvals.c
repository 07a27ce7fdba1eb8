/* Approvals, verified again from the log alone. */
#include "agent/audit/approvals.h"

#include <string.h>

#include "agent/audit/questions.h"
#include "crypto/encode.h"
#include "crypto/lines.h"

#define NONCES_MOST 65536 /* of approvals spent; a company has a few a year */

static void tell(struct pfx_meaning *meaning, uint64_t seq, const char *what,
                 const struct pfx_error *why)
{
    pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s%s%s%s%s", what, why ? ": " : "",
                     why && why->object[0] ? why->object : "", why && why->object[0] ? ": " : "",
                     why ? why->text : "");
}

/* The one record of the array. */
static bool one_record(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_bytes *record = ctx;
    if (record->data || value->kind != PFX_CANON_OBJ)
        return false;
    *record = value->raw;
    return true;
}

/* The policy whose people approve it: the one in force before this entry; for a successor's first
 * one that of its predecessor, or, where that isn't presented, its own. NULL: it isn't known here.
 */
static const struct pfx_policy_facts *facts_of(struct pfx_meaning *meaning, enum pfx_event event,
                                               const struct pfx_entry *entry)
{
    uint8_t sha256[32];
    const struct pfx_policy_facts *facts = NULL;
    if (event == PFX_EV_LOG_REOPEN)
        facts = pfx_meaning_before(meaning, entry);
    if (facts && facts->read)
        return facts;
    if (event == PFX_EV_LOG_REOPEN && pfx_entry_hash(entry, PFX_F_POLICY_SHA256, sha256))
        facts = pfx_meaning_policy_facts(meaning, sha256);
    else if (meaning->policy_pending) /* a start named another one already */
        facts = pfx_meaning_policy_facts(meaning, meaning->policy_before);
    else if (meaning->known_policy)
        facts = pfx_meaning_policy_facts(meaning, meaning->policy);
    return facts && facts->read ? facts : NULL;
}

static bool must_have(struct pfx_meaning *meaning, const struct pfx_entry *entry,
                      const struct pfx_dangerous *dangerous)
{
    if (!dangerous || pfx_entry_int(entry, PFX_F_PHASE) == PFX_PHASE_RESULT)
        return false;
    return dangerous->when == PFX_DANGEROUS ||
           (dangerous->when == PFX_DANGEROUS_ADOPTED &&
            pfx_entry_is(entry, PFX_F_REASON, "adopted")) ||
           (dangerous->when == PFX_DANGEROUS_READ && pfx_standing_read(meaning, entry));
}

/* None: lawful for what is done, and called weak, where the policy names nobody to approve it.
 * Before the first policy.force of a log its policy changes by a start alone. */
static void check_none(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                       const struct pfx_entry *entry, const struct pfx_dangerous *dangerous)
{
    const struct pfx_policy_facts *facts = facts_of(meaning, event, entry);
    bool weak = pfx_entry_int(entry, PFX_F_WEAK) == 1 && dangerous->bare;
    bool nobody = (facts && facts->mode == PFX_POLICY_NO_APPROVALS) ||
                  (event == PFX_EV_POLICY_CHANGED && !meaning->force);
    if (!weak || (facts && !nobody))
        tell(meaning, seq, "two people have to approve this, and nobody did", NULL);
    else if (!nobody)
        pfx_report_open(meaning->report, meaning->log,
                        "that the policy named nobody who approves %s: its text isn't there, or "
                        "not in the plain form that is read here",
                        dangerous->command);
}

/* What the policy in force asked for beyond the rules that hold for all. */
static void check_policy(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                         const struct pfx_entry *entry, const struct pfx_approval *approval)
{
    const struct pfx_policy_facts *facts = facts_of(meaning, event, entry);
    if (facts && facts->mode == PFX_POLICY_SSH && approval->by_uid)
        tell(meaning, seq, "approved without signatures, and the policy in force asks for them",
             NULL);
    if (facts && approval->needed < facts->needed)
        tell(meaning, seq, "approved by fewer people than the policy in force asks for", NULL);
}

/* False: it was spent before. */
static bool spend(struct pfx_meaning *meaning, const char *nonce)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(32);
    if (!pfx_unhex(nonce, 64, &bytes) || bytes.len != 32)
        return false;
    for (size_t i = 0; i < meaning->n_nonces; i++)
        if (memcmp(meaning->nonces[i], bytes.data, 32) == 0)
            return false;
    if (meaning->n_nonces == NONCES_MOST) {
        meaning->nonces_over = true;
        return true;
    }
    meaning->nonces = pfx_grow(meaning->nonces, meaning->n_nonces + 1, sizeof *meaning->nonces);
    memcpy(meaning->nonces[meaning->n_nonces++], bytes.data, 32);
    return true;
}

/* Is the record about this entry: its command, its asker, its log? */
static bool about(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                  const struct pfx_entry *entry, const struct pfx_approval *approval,
                  const char *command)
{
    const char *origin = pfx_report_log_at(meaning->report, meaning->log)->origin;
    const struct pfx_statement *statement = &approval->statement;
    bool same_command = command ? strcmp(statement->command, command) == 0
                                : pfx_entry_is(entry, PFX_F_EVENT, statement->command);
    if (!same_command) {
        tell(meaning, seq, "what was approved is another command than what was done", NULL);
        return false;
    }
    if (event != PFX_EV_APPROVAL_GIVE && approval->uid != pfx_entry_int(entry, PFX_F_ACTOR_UID)) {
        tell(meaning, seq, "another user gave the command than the one who asked for it", NULL);
        return false;
    }
    /* A successor's first entry: it was asked in the log before it. */
    bool before = event == PFX_EV_LOG_REOPEN || pfx_entry_int(entry, PFX_F_BEFORE);
    if (origin[0] && !before && strcmp(statement->origin, origin) != 0) {
        tell(meaning, seq, "it was approved for another log", NULL);
        return false;
    }
    return true;
}

/* --- what they approved, and what was done --- */

/* Members of the arguments that must say the same as the entry does. */
static const struct bound {
    const char *command, *member;
    enum pfx_field field;
} bounds[] = {
    {"key.compromise", "generation", PFX_F_PIN_GENERATION},
    {"key.compromise", "public_key_sha256", PFX_F_PIN_SPKI},
    {"key.compromise", "reason", PFX_F_REASON},
    {"key.destroy", "generation", PFX_F_PIN_GENERATION},
    {"key.destroy", "public_key_sha256", PFX_F_PIN_SPKI},
    {"key.rotate", "adopt", PFX_F_KEY_ID},
    {"key.rotate", "generation", PFX_F_PIN_GENERATION},
    {"log.reopen", "new_log", PFX_F_LOG_ORIGIN},
    {"policy.change", "new_policy", PFX_F_POLICY_SHA256},
    {"standing.destroy", "key", PFX_F_TARGET_NAME},
    {"standing.destroy", "key_id", PFX_F_KEY_ID},
};
struct looking {
    const struct bound *bound;
    const struct pfx_entry *entry;
    bool same;
};

static bool look(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                 const struct pfx_canon_value *value)
{
    struct looking *looking = ctx;
    enum pfx_field field = looking->bound->field;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    if (group.data || !pfx_bytes_equal(key, looking->bound->member))
        return true;
    looking->same = value->kind == PFX_CANON_INT
                        ? pfx_entry_has(looking->entry, field) &&
                              pfx_entry_int(looking->entry, field) == value->number
                        : pfx_canon_unescape(value, &text) &&
                              pfx_entry_is(looking->entry, field, pfx_buf_str(&text));
    return true;
}

static void check_bounds(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                         const struct pfx_approval *approval)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        struct looking looking = {.bound = &bounds[i], .entry = entry};
        if (strcmp(bounds[i].command, approval->statement.command) != 0)
            continue;
        if (pfx_failed(pfx_canon_scan(pfx_buf_bytes(&approval->args), look, &looking, &ignored)) ||
            !looking.same)
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "people approved another %s than the one that this entry says",
                             bounds[i].member);
    }
}

struct in_force {
    uint8_t policy[32], roster[32]; /* as they were approved */
    bool has_policy, has_roster;
};

static bool look_force(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                       const struct pfx_canon_value *value)
{
    struct in_force *force = ctx;
    bool roster = pfx_bytes_equal(key, "new_roster");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf hash = pfx_buf_make(32);
    if (group.data || (!roster && !pfx_bytes_equal(key, "new_policy")))
        return true;
    if (value->kind != PFX_CANON_STR || value->text.len != 64 ||
        !pfx_unhex((const char *)value->text.data, 64, &hash) || hash.len != 32)
        return false;
    memcpy(roster ? force->roster : force->policy, hash.data, 32);
    *(roster ? &force->has_roster : &force->has_policy) = true;
    return true;
}

/* What is put in force is hashed over both hashes (pkcs11/hsm/force.c): so the roster, too, is the one
 * that people approved. */
static void check_force(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                        const struct pfx_approval *approval)
{
    struct in_force force = {.has_policy = false};
    struct pfx_error ignored = PFX_ERROR_NONE;
    uint8_t both[64], hash[32], said[32];
    if (strcmp(approval->statement.command, "policy.change") != 0 ||
        !pfx_entry_hash(entry, PFX_F_POLICY_FORCE, said))
        return;
    bool read = pfx_ok(
        pfx_canon_scan(pfx_buf_bytes(&approval->args), look_force, &force, &ignored));
    memcpy(both, force.policy, 32);
    memcpy(both + 32, force.roster, 32);
    if (!read || !force.has_policy || !force.has_roster ||
        !pfx_sha256(both, sizeof both, hash) || memcmp(hash, said, 32) != 0)
        tell(meaning, seq, "people approved another policy or roster than what is put in force",
             NULL);
}

static void check(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                  const struct pfx_entry *entry, const struct pfx_approval *approval,
                  const char *command)
{
    struct pfx_error why = PFX_ERROR_NONE;
    char hash[65];
    bool before = event == PFX_EV_LOG_REOPEN || pfx_entry_int(entry, PFX_F_BEFORE);
    char name[PFX_APPROVAL_COMMAND_SIZE + 1] = "";
    bool question = event == PFX_EV_APPROVAL_ASK || event == PFX_EV_APPROVAL_GIVE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf target = pfx_buf_make(PFX_APPROVAL_COMMAND_SIZE);
    if (question) {
        if (pfx_entry_plain(entry, PFX_F_TARGET_NAME, &target))
            memcpy(name, pfx_buf_str(&target), target.len + 1);
        command = name;
    }
    if (!about(meaning, seq, event, entry, approval, command))
        return;
    if (!question) {
        if (pfx_failed(pfx_approval_check(approval, pfx_entry_time(entry, PFX_F_TIME), &why)))
            tell(meaning, seq, "its approvals don't hold", &why);
        else if (!spend(meaning, approval->statement.nonce))
            tell(meaning, seq, "its approvals were spent before, or have no nonce", NULL);
        else
            meaning->n_approved += !approval->by_uid;
        check_policy(meaning, seq, event, entry, approval);
        check_bounds(meaning, seq, entry, approval);
        check_force(meaning, seq, entry, approval);
        if (!before)
            pfx_question_spent(meaning, seq, approval);
        return;
    }
    size_t expected = event == PFX_EV_APPROVAL_GIVE;
    if (pfx_failed(pfx_approval_args(pfx_buf_bytes(&approval->args), hash, &why)) ||
        strcmp(hash, approval->statement.args_hash) != 0 || approval->n_given != expected)
        tell(meaning, seq, "it isn't a question for approvals, or an answer to one", NULL);
    else if (expected && pfx_failed(pfx_given_check(approval, 0, &approval->given[0], &why)))
        tell(meaning, seq, "this approval doesn't hold", &why);
    else if (expected)
        pfx_question_given(meaning, seq, before, approval);
    else
        pfx_question_asked(meaning, seq, approval);
}

void pfx_meaning_approvals(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                           const struct pfx_entry *entry)
{
    struct pfx_bytes array = pfx_entry_text(entry, PFX_F_APPROVALS), json = {NULL, 0};
    struct pfx_bytes name = pfx_entry_text(entry, PFX_F_EVENT);
    struct pfx_error why = PFX_ERROR_NONE;
    const struct pfx_dangerous *dangerous = pfx_dangerous_event((const char *)name.data, name.len);
    if (array.len == 0) {
        if (must_have(meaning, entry, dangerous))
            check_none(meaning, seq, event, entry, dangerous);
        return;
    }
    PFX_CLEANUP(pfx_approval_done) struct pfx_approval approval;
    pfx_approval_init(&approval);
    if (pfx_failed(pfx_canon_elements(array, one_record, &json, &why)) || !json.data ||
        pfx_failed(pfx_approval_parse(json, &approval, &why))) {
        tell(meaning, seq, "its approvals aren't a record that pfx-hsm writes", NULL);
        return;
    }
    if (approval.by_uid && pfx_entry_int(entry, PFX_F_WEAK) != 1)
        tell(meaning, seq, "approved without signatures, and doesn't call itself weak", NULL);
    check(meaning, seq, event, entry, &approval, dangerous ? dangerous->command : NULL);
}

void pfx_meaning_approvals_end(struct pfx_meaning *meaning)
{
    if (meaning->n_approved > 0)
        pfx_report_open(meaning->report, meaning->log,
                        "that the keys which approved %llu command%s belong to the people they "
                        "name: compare the roster's lines in these entries with your own copy",
                        (unsigned long long)meaning->n_approved,
                        meaning->n_approved == 1 ? "" : "s");
    if (meaning->nonces_over)
        pfx_report_open(meaning->report, meaning->log,
                        "that no approval was spent twice: there are more than %d", NONCES_MOST);
    meaning->n_approved = 0;
}
