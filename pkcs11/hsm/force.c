/* The policy in force, and a change of it that waits for approvals. */
#include "pkcs11/hsm/force_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "crypto/lines.h"
#include "pkcs11/hsm/force_form.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/journal_form.h"
#include "pkcs11/hsm/ring.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/rotation.h"

#define FILE_NAME "in-force"

void pfx_force_done(struct pfx_force *force)
{
    pfx_buf_done(&force->roster);
    pfx_buf_done(&force->policy_text);
    pfx_buf_done(&force->roster_text);
    pfx_buf_done(&force->approval.record);
    if (force->old)
        pfx_hsm_policy_free(force->old);
}

bool pfx_force_hash(const uint8_t policy[32], struct pfx_bytes roster, uint8_t ret[32])
{
    uint8_t both[64];
    memcpy(both, policy, 32);
    return pfx_sha256(roster.data, roster.len, both + 32) && pfx_sha256(both, sizeof both, ret);
}

static pfx_result bad_file(const char *path, const char *why, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read policy in force", path, "",
                    "%s It says which policy was approved last: restore it from a backup.", why);
}

static pfx_result read_file(const char *path, struct pfx_buf *bytes, struct pfx_force_text *text,
                            struct pfx_error *err)
{
    PFX_TRY(pfx_file_read(path, PFX_FORCE_FILE_MAX, bytes, err));
    const char *why = pfx_force_parse(pfx_buf_bytes(bytes), text);
    return why ? bad_file(path, why, err) : PFX_OK;
}

static pfx_result roster_read(const struct pfx_hsm_policy *policy, struct pfx_buf *out,
                              struct pfx_error *err)
{
    if (policy->approvals != PFX_APPROVALS_SSH)
        return PFX_OK;
    return pfx_file_read_trusted(policy->roster, PFX_ROSTER_MAX, out, err);
}

static void move(struct pfx_buf *to, struct pfx_buf *from)
{
    pfx_buf_done(to);
    *to = *from;
    *from = pfx_buf_make(0);
}

/* Approved, and the policy in force had no tokens to put it in force with. */
static bool try_changed(const struct pfx_hsm_policy *policy, struct pfx_hsm_policy *old,
                        struct pfx_bytes old_roster, struct pfx_force *force)
{
    struct pfx_bytes text = pfx_buf_bytes(&policy->text), roster = pfx_buf_bytes(&force->roster);
    const struct pfx_force_change change = {.old_sha256 = old->sha256,
                                            .new_sha256 = policy->sha256,
                                            .old_policy = pfx_buf_bytes(&old->text),
                                            .new_policy = text,
                                            .old_roster = old_roster,
                                            .new_roster = roster};
    if (!pfx_force_approved(old, policy->state_dir, &change, force))
        return false;
    force->policy_text = pfx_buf_make(PFX_FORCE_POLICY_MAX);
    force->roster_text = pfx_buf_make(PFX_ROSTER_MAX);
    if (!pfx_buf_add(&force->policy_text, text.data, text.len) ||
        !pfx_buf_add(&force->roster_text, roster.data, roster.len))
        return false;
    force->tried = true;
    force->old = old;
    pfx_log(PFX_LOG_WARN, "policy or roster was changed, and people of the roster in force have "
                          "approved it: nothing is done with a key until it is in force");
    return true;
}

pfx_result pfx_force_read(struct pfx_hsm_policy **policy, struct pfx_force *ret_force,
                          struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/" FILE_NAME, (*policy)->state_dir);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(PFX_FORCE_FILE_MAX);
    PFX_CLEANUP(pfx_force_text_done) struct pfx_force_text text = pfx_force_text_make();
    *ret_force = (struct pfx_force){.roster = pfx_buf_make(PFX_ROSTER_MAX)};
    PFX_TRY(roster_read(*policy, &ret_force->roster, err));
    if (access(path, F_OK) != 0)
        return PFX_OK;
    PFX_TRY(read_file(path, &bytes, &text, err));
    struct pfx_hsm_policy *old;
    PFX_TRY(pfx_hsm_policy_parse("the policy in force", pfx_buf_bytes(&text.policy), &old, err));
    ret_force->there = pfx_force_hash(old->sha256, pfx_buf_bytes(&text.roster), ret_force->hash);
    if (memcmp(old->sha256, (*policy)->sha256, 32) == 0 &&
        text.roster.len == ret_force->roster.len &&
        (text.roster.len == 0 ||
         memcmp(text.roster.data, ret_force->roster.data, text.roster.len) == 0)) {
        pfx_hsm_policy_free(old);
        return PFX_OK;
    }
    ret_force->held = true;
    memcpy(ret_force->policy_sha256, (*policy)->sha256, 32);
    if (try_changed(*policy, old, pfx_buf_bytes(&text.roster), ret_force))
        return PFX_OK;
    move(&ret_force->policy_text, &(*policy)->text);
    ret_force->roster_text = ret_force->roster;
    ret_force->roster = pfx_buf_make(0);
    move(&ret_force->roster, &text.roster);
    pfx_hsm_policy_free(*policy);
    *policy = old;
    pfx_log(PFX_LOG_WARN, "policy or roster was changed: nothing is done with a key until people of "
                          "the roster in force have approved it (pfx-agent policy approve)");
    return PFX_OK;
}

/* --- against the log --- */

void pfx_force_logged(struct pfx_hsm *hsm, const struct pfx_oplog_facts *facts)
{
    const struct pfx_force *force = hsm->force;
    uint8_t next[32];
    bool same = facts->has_force && force->there &&
                memcmp(facts->force_sha256, force->hash, sizeof force->hash) == 0;
    hsm->force_logged = same;
    if (!facts->has_force || same)
        return;
    /* It was approved, and the process ended before the folder had it. */
    if (force->held &&
        pfx_force_hash(force->policy_sha256, pfx_buf_bytes(&force->roster_text), next) &&
        memcmp(facts->force_sha256, next, sizeof next) == 0) {
        hsm->force_due = true;
        return;
    }
    hsm->force_lost = true;
}

pfx_result pfx_force_holds(struct pfx_hsm *hsm, struct pfx_error *err)
{
    if (hsm->force_lost)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "take policy", hsm->policy->state_dir, "in-force",
                        "The operation log knows another policy in force than the file in-force of "
                        "this folder has, or the file was taken away. Bring it back from a backup "
                        "or, if a change was approved just now, put policy and roster back as they "
                        "were approved, and restart pfx-hsm: nothing is done with a key meanwhile.");
    if (hsm->force_approved)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "take policy", "policy.change", "approved",
                        "The changed policy was approved: restart pfx-hsm, which then works under "
                        "it.");
    if (hsm->force->tried)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "take policy", "policy.change", "tried",
                        "The changed policy was approved, and comes into force when the roles users "
                        "and log are ready under it: pfx-agent status says what they lack. If the "
                        "time of the approvals ends before that, restart pfx-hsm and have it "
                        "approved anew.");
    if (hsm->force->held)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "take policy", "policy.change", "held",
                        "Policy or roster was changed, and people of the roster in force have to "
                        "approve that: pfx-agent policy approve asks them. Nothing is done with a "
                        "key meanwhile; with the old files back in place and a restart it goes on.");
    return PFX_OK;
}

void pfx_force_journal(const struct pfx_hsm *hsm, struct pfx_draft *draft)
{
    if (hsm->force->there)
        pfx_draft_hex(draft, PFX_F_POLICY_FORCE, hsm->force->hash, sizeof hsm->force->hash);
}

/* --- the file, under the MAC key --- */

pfx_result pfx_force_store(struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_key *mac,
                           struct pfx_bytes policy, struct pfx_bytes roster, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_FORCE_FILE_MAX);
    uint8_t digest[32];
    if (!pfx_force_write(policy, roster, &text))
        return pfx_fail(err, PFX_CLASS_USAGE, "put policy in force", path, "",
                        "The policy is longer than %zu bytes.", PFX_FORCE_POLICY_MAX);
    PFX_TRY(pfx_key_mac(users, mac, pfx_buf_bytes(&text), digest, err));
    pfx_force_seal(digest, &text);
    return pfx_file_replace(path, text.data, text.len, 0600, err);
}

static pfx_result note_force(struct pfx_hsm *hsm, const uint8_t hash[32], struct pfx_error *err)
{
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    pfx_journal_own("policy.force", PFX_OUTCOME_OK, draft);
    pfx_draft_hex(draft, PFX_F_POLICY_SHA256, hsm->policy->sha256, 32);
    pfx_draft_hex(draft, PFX_F_POLICY_FORCE, hash, 32);
    PFX_TRY(pfx_hsmlog_put(hsm->log, draft, PFX_ROOM_RESERVED, PFX_UNTIL_SYNCED, NULL, err));
    hsm->force_logged = true;
    return PFX_OK;
}

static pfx_result mac_check(struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_key *mac,
                            struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, FILE_NAME);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(PFX_FORCE_FILE_MAX);
    PFX_CLEANUP(pfx_force_text_done) struct pfx_force_text text = pfx_force_text_make();
    uint8_t digest[32], hash[32];
    bool ours, earlier;
    PFX_TRY(read_file(path, &bytes, &text, err));
    PFX_TRY(pfx_mac_vouches(hsm, users, mac, (struct pfx_bytes){bytes.data, text.covered},
                            pfx_buf_bytes(&text.mac), &ours, &earlier, err));
    if (!ours)
        return bad_file(path, "Its MAC is wrong: someone changed it.", err);
    /* It is still what was read at the start. */
    if (!pfx_sha256(text.policy.data, text.policy.len, digest) ||
        !pfx_force_hash(digest, pfx_buf_bytes(&text.roster), hash) ||
        (memcmp(hash, hsm->force->hash, sizeof hash) != 0 && !hsm->force_approved))
        return bad_file(path, "It was changed since the start.", err);
    return earlier ? pfx_force_store(hsm, users, mac, pfx_buf_bytes(&text.policy),
                                     pfx_buf_bytes(&text.roster), err)
                   : PFX_OK;
}

/* Nobody else could have made the file that has the roster: so it is ours that approved it. */
static pfx_result note_tried(struct pfx_hsm *hsm, struct pfx_error *err)
{
    struct pfx_force *force = hsm->force;
    struct pfx_actor asker = {PFX_ACTOR_OPERATOR, 0, force->asker};
    struct pfx_error ignored = PFX_ERROR_NONE;
    force->approval.hsm = hsm;
    if (!force->tried || hsm->force_due || hsm->force_lost ||
        pfx_hsmlog_state(hsm->log) != PFX_OPLOG_OPEN ||
        pfx_failed(pfx_approved_in_time(&force->approval, &ignored)))
        return PFX_OK;
    return pfx_force_note(hsm, &asker, &force->approval, err);
}

pfx_result pfx_force_check(struct pfx_hsm *hsm, struct pfx_session *users, struct pfx_key *mac,
                           struct pfx_error *err)
{
    struct pfx_force *force = hsm->force;
    if (force->there) {
        PFX_TRY(mac_check(hsm, users, mac, err));
        hsm->force_vouched = true;
        PFX_TRY(note_tried(hsm, err));
        if (hsm->force_due && !hsm->force_approved) {
            PFX_TRY(pfx_force_store(hsm, users, mac, pfx_buf_bytes(&force->policy_text),
                                    pfx_buf_bytes(&force->roster_text), err));
            hsm->force_approved = true;
            /* Not before: a start in between needs to find it still. */
            pfx_approvals_spent(&force->approval);
        }
    } else if (hsm->policy->approvals != PFX_APPROVALS_NONE && !hsm->force_lost &&
               pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN) {
        if (!pfx_force_hash(hsm->policy->sha256, pfx_buf_bytes(&force->roster), force->hash))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "put policy in force", "", "", "SHA-256");
        /* The file first: a log that knows of one that isn't there would stop everything. */
        PFX_TRY(pfx_force_store(hsm, users, mac, pfx_buf_bytes(&hsm->policy->text),
                                pfx_buf_bytes(&force->roster), err));
        force->there = hsm->force_vouched = true;
    }
    if (force->there && !hsm->force_logged && !hsm->force_lost && !hsm->force_due &&
        pfx_hsmlog_state(hsm->log) == PFX_OPLOG_OPEN)
        return note_force(hsm, force->hash, err);
    return PFX_OK;
}

pfx_result pfx_force_vouch(struct pfx_worker *worker, const struct pfx_actor *actor,
                           struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac;
    if (!hsm->force->there || hsm->force_vouched)
        return PFX_OK;
    PFX_TRY(pfx_role_open(hsm, PFX_ROLE_USERS, NULL, err));
    PFX_TRY(pfx_role_probe(worker, PFX_ROLE_USERS, false, actor, err));
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_rotation_load(hsm, session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(mac_check(hsm, session, mac, err));
    hsm->force_vouched = true;
    return PFX_OK;
}
