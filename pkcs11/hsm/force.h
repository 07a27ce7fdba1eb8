/*
 * The policy in force. Once the policy names approvals, it can't be changed by whoever may write the
 * file: policy and roster stand as they were in the state folder, under the MAC key, and their hash
 * in the log. At a start with other files pfx-hsm goes on under the old policy, does nothing with a
 * key, and says so, until people of the old roster have approved policy.change and it is started
 * again.
 *
 * Where the tokens of the policy in force can't be opened any more (it names a library that was
 * moved), the change could never be put under the MAC key. So a start that finds it approved in the
 * questions' file goes on under the changed policy, does nothing with a key either, and puts it in
 * force once the users role is open: then the MAC shows that the roster which approved it was ours.
 *
 * The file is "in-force" (force_form.h).
 */
#ifndef PFX_HSM_FORCE_H
#define PFX_HSM_FORCE_H

#include "pkcs11/hsm/approvals.h"

struct pfx_oplog_facts;
struct pfx_force {
    bool there;                /* there is a policy in force */
    uint8_t hash[32];          /* of what is in force: SHA-256(SHA-256(policy) | SHA-256(roster)) */
    struct pfx_buf roster;     /* of the policy that is used */
    bool held;                 /* other files wait for approvals: */
    uint8_t policy_sha256[32]; /* theirs */
    struct pfx_buf policy_text, roster_text;
    bool tried; /* held, and the changed policy is used already */
    struct pfx_hsm_policy *old;    /* tried: the policy in force; owned */
    struct pfx_approved approval;  /* tried: of the change */
    int64_t asker;                 /* tried: uid of who asked for it */
};
void pfx_force_done(struct pfx_force *force);
/* Reads the roster, and what is in force; where that differs, *policy becomes the old one. Before
 * anything of the policy is used; the MAC is checked once the users role is open. */
PFX_MUST_USE pfx_result pfx_force_read(struct pfx_hsm_policy **policy, struct pfx_force *ret_force,
                                       struct pfx_error *err);
/* Why nothing is done with a key; OK: it may be. Also when the log knows of another policy in force
 * than the folder has: INTEGRITY. */
PFX_MUST_USE pfx_result pfx_force_holds(struct pfx_hsm *hsm, struct pfx_error *err);
/* What the log says of it, before this process wrote anything there. */
void pfx_force_logged(struct pfx_hsm *hsm, const struct pfx_oplog_facts *facts);
/* With the users role's session and MAC key: checks the MAC, or puts the policy in force. */
PFX_MUST_USE pfx_result pfx_force_check(struct pfx_hsm *hsm, struct pfx_session *users,
                                        struct pfx_key *mac, struct pfx_error *err);
/* Before people of its roster are asked while the log can't say what is in force, and the users
 * role isn't ready (log.reopen): opens that role for the MAC. INTEGRITY: the file isn't ours. */
PFX_MUST_USE pfx_result pfx_force_vouch(struct pfx_worker *worker, const struct pfx_actor *actor,
                                        struct pfx_error *err);
struct pfx_draft;
/* Adds the hash of what is in force to a log.reopen. */
void pfx_force_journal(const struct pfx_hsm *hsm, struct pfx_draft *draft);

#endif
