/* Passes: reading who is in the groups and what Intune has, then deciding for each user. */
#ifndef PFX_AGENT_PASS_H
#define PFX_AGENT_PASS_H

#include "agent/agent.h"
#include "agent/mailbox.h"
#include "agent/user.h"

struct pfx_pass {
    int64_t no;   /* the current or last one */
    bool active;  /* reading */
    bool dry;     /* nothing is created at its end */
    bool records; /* Intune's list is read in it */
    int64_t started;
    int64_t scheduled;       /* when the last one began that wasn't dry; the next is due from it */
    int64_t finished;        /* the last one that was evaluated */
    int64_t records_started; /* of the last full read of Intune's list; 0: never */
    int64_t records_pass;
};
PFX_MUST_USE pfx_result pfx_pass_load(struct pfx_store *store, struct pfx_pass *ret_pass,
                                      struct pfx_error *err);
/* The rules as a table that SQL can join: names in the order of the file. Once at the start. The
 * stored members of a rule whose group is another one now are forgotten; a pass that is being read
 * reads it again. */
PFX_MUST_USE pfx_result pfx_pass_rules(struct pfx_agent *agent, struct pfx_error *err);
/* Begins one; none is active. In the caller's transaction. */
PFX_MUST_USE pfx_result pfx_pass_start(struct pfx_agent *agent, bool records, bool dry,
                                       int64_t now_ms, struct pfx_error *err);
/* Begins one when the schedule says so; ends the active one when all is read. Has its own
 * transactions. */
PFX_MUST_USE pfx_result pfx_pass_tick(struct pfx_agent *agent, int64_t now_ms,
                                      struct pfx_error *err);
/* Has the evaluation more to do at once? Then don't sleep. */
bool pfx_pass_busy(const struct pfx_agent *agent);

/* Deciding. */
enum pfx_decision {
    PFX_DECIDE_ORDER,
    PFX_DECIDE_HOLD,    /* would order, but the limit is reached */
    PFX_DECIDE_REBUILD, /* Intune lost the record of a good certificate: import again, buy nothing
                         */
    PFX_DECIDE_SKIP,
    PFX_DECIDE_WAIT,
    PFX_DECIDE_REFUSE, /* the user's data don't allow it */
};
const char *pfx_decision_word(enum pfx_decision decision); /* order, hold, skip, wait, refuse */

/* What is known about one user and one rule. Times 0: none. */
struct pfx_case {
    const struct pfx_rule_conf *rule;
    const struct pfx_user_row *user;
    bool rule_read;         /* the group was read in this pass */
    bool records_read;      /* Intune's list is complete */
    const struct pfx_mailboxes *mailboxes; /* of the user; NULL: the rule wants none */
    int64_t record_expires; /* latest record of this user and purpose; INT64_MAX: without a date */
    int64_t flight;         /* enrolment in flight */
    const char *flight_state;
    bool flight_limit; /* held by the order limit: nothing was begun */
    int64_t active;    /* newest active enrolment */
    int64_t active_expires;
    int64_t active_at;
    bool active_revoked; /* the CA revoked it, and its rule says: tell */
    bool active_keyless; /* its user key isn't kept: it can't be packed again */
    int64_t revoked;     /* the CA revoked this one, and another is wanted in its place */
    bool exposed;        /* or its user key is exposed */
    int64_t parked;      /* ended, and waits for a person */
    const char *parked_why;
    int64_t records_started; /* when the last full read of Intune's list began */
    unsigned ended;          /* attempts without a certificate since */
    int64_t ended_at;
    unsigned replaced; /* earlier ones that were revoked and replaced, in the last months */
    int64_t replaced_at;
    unsigned in_pass, today; /* admitted so far */
};
struct pfx_verdict {
    enum pfx_decision decision;
    char why[640]; /* for REFUSE with " Next: " */
    struct pfx_strings addresses;
    char *first_name, *last_name; /* NULL where the product wants none; these too */
    char *common_name, *pseudonym;
};
void pfx_verdict_done(struct pfx_verdict *verdict);
#define PFX_AUTOVERDICT __attribute__((cleanup(pfx_verdict_done)))
/* Pure but for ICU. */
void pfx_decide(const struct pfx_agent_conf *conf, struct pfx_names *names,
                const struct pfx_case *c, int64_t now_ms, struct pfx_verdict *ret_verdict);
/* Fills the verdict's addresses and names; false: a verdict of REFUSE that says why. */
PFX_MUST_USE bool pfx_case_data(struct pfx_names *names, const struct pfx_case *c,
                                struct pfx_verdict *verdict);
/* Intune's word for the records of a rule. */
const char *pfx_rule_intune(const struct pfx_rule_conf *rule);

/* Goes through the members in the order of the rules, page by page. */
struct pfx_sweep {
    size_t rule; /* where it stands */
    char user[37];
    unsigned in_pass, today;
    bool done;
};
typedef pfx_result (*pfx_sweep_fn)(void *ctx, const struct pfx_case *c, struct pfx_verdict *verdict,
                                   struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_sweep_start(struct pfx_agent *agent, int64_t now_ms,
                                        struct pfx_sweep *ret_sweep, struct pfx_error *err);
/* Decides for up to `most` members and calls fn for each. */
PFX_MUST_USE pfx_result pfx_sweep_some(struct pfx_agent *agent, struct pfx_sweep *sweep,
                                       size_t most, int64_t now_ms, pfx_sweep_fn fn, void *ctx,
                                       struct pfx_error *err);
/* Acts on the verdicts of the next few users, in a transaction of its own, so that nobody waits for
 * a hundred thousand of them. One logical evaluation: agent->evaluation is where it stands; after a
 * restart it begins anew, with the orders that were counted already. *ret_done: nobody is left. */
PFX_MUST_USE pfx_result pfx_evaluate_some(struct pfx_agent *agent, const struct pfx_pass *pass,
                                          int64_t now_ms, bool *ret_done, struct pfx_error *err);
/* What the last slice leaves to do: troubles that nobody has any more. In the caller's transaction.
 */
PFX_MUST_USE pfx_result pfx_evaluate_end(struct pfx_agent *agent, const struct pfx_pass *pass,
                                         struct pfx_error *err);
/* Orders of this UTC day, and those that are on their way. */
PFX_MUST_USE pfx_result pfx_orders_today(struct pfx_store *store, int64_t now_ms, int64_t *ret_n,
                                         struct pfx_error *err);

#endif
