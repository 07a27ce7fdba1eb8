/*
 * Generations of the encryption key, as verbs of operators move them: read from the pins, asked of
 * the rules (crypto/lifecycle.h), and written as one operation of the log each.
 *
 * hsm->lock is held for writing where something is changed: no operation that sealed to the pins as
 * they were is under way while they change.
 */
#ifndef PFX_HSM_GENERATION_H
#define PFX_HSM_GENERATION_H

#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/ceremony_record.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/verbs.h"

/* The pins, as the users token's MAC key vouches for them now. */
PFX_MUST_USE pfx_result pfx_pins_of(struct pfx_worker *worker, struct pfx_pins *ret_pins,
                                    struct pfx_error *err);

/* keyName and CKA_LABEL's name of a generation, as records will have it; free it. */
char *pfx_generation_name(const struct pfx_hsm_policy *policy, unsigned generation);

/* The failure of whoever needs an active generation: TRANSIENT, since an operator activates another
 * one and no user is given up meanwhile; REFUSED where none was ever made. */
PFX_MUST_USE pfx_result pfx_none_active(const struct pfx_pins *pins, struct pfx_error *err);

/* One change, from the question to the log. */
struct pfx_change {
    struct pfx_worker *worker;
    struct pfx_task *task;
    enum pfx_event event;
    struct pfx_pins pins;
    unsigned generation; /* that moves */
    bool scheduled;      /* rotate_every asks for it, and a timer gave the command */
    struct pfx_standing_key standing;
    struct pfx_op op;
    /* What is done with the token before the pins are written; NULL: nothing. It may leave a reply
     * (a message of the task's result), and change the pin. */
    pfx_op_work token_work;
    struct pfx_approved approved;
    struct pfx_record_maker *record; /* borrowed; NULL: none */
    struct pfx_secret *pin; /* of the encryption token, while it is needed */
};
void pfx_change_done(struct pfx_change *change); /* usable as cleanup; closes the token */
/* Reads the pins and takes the PIN, if there is one, out of the arguments. */
PFX_MUST_USE pfx_result pfx_change_begin(struct pfx_change *change, struct pfx_worker *worker,
                                         struct pfx_task *task, enum pfx_event event,
                                         struct pfx_error *err);
/* The generation that the rest is about. */
void pfx_change_of(struct pfx_change *change, unsigned generation);
struct pfx_pinned *pfx_change_pin(struct pfx_change *change);
/* Asks the rules; each reason of a refusal goes to the operator as an item, then REFUSED. */
PFX_MUST_USE pfx_result pfx_change_ask(struct pfx_change *change, enum pfx_key_move move,
                                       unsigned number, const struct pfx_key_needs *needs,
                                       struct pfx_error *err);
/* The move that the arguments name (generation, needs): asked, and made in the list; states.c. */
PFX_MUST_USE pfx_result pfx_change_move(struct pfx_change *change, enum pfx_key_move move,
                                        struct pfx_error *err);
/* Have people approved it? They are shown the generation, its names and fingerprint, and more words
 * (why, or whose key), in the order of their names. */
struct pfx_approval_word {
    const char *name, *word;
};
PFX_MUST_USE pfx_result pfx_change_approved(struct pfx_change *change, struct pfx_bytes spki,
                                            const struct pfx_approval_word *words, size_t n,
                                            struct pfx_error *err);
/* Opens the encryption token with the PIN. */
PFX_MUST_USE pfx_result pfx_change_open(struct pfx_change *change, bool probe,
                                        struct pfx_error *err);
/* Makes the move, in the pins' file and in the log; the reply of token_work goes to the operator. */
PFX_MUST_USE pfx_result pfx_change_write(struct pfx_change *change, struct pfx_error *err);

/* Connectors of the policy that haven't confirmed this generation; list has room for
 * PFX_PIN_CONNECTORS_MOST names, borrowed from the policy. */
size_t pfx_connectors_missing(const struct pfx_hsm_policy *policy, const struct pfx_pinned *pin,
                              const char **ret_list);

#endif
