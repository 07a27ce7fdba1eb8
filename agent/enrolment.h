/* Enrolments as rows of the store, and the one way they move: pfx_enrolment_move. */
#ifndef PFX_AGENT_ENROLMENT_H
#define PFX_AGENT_ENROLMENT_H

#include "agent/address.h"
#include "agent/flow.h"
#include "agent/store.h"

/* Columns in the order they are read. I: int64_t, T: char * (NULL where absent), B: struct pfx_buf.
 */
#define PFX_ENROLMENT_FACTS(I, T, B)                                                               \
    I(id)                                                                                          \
    T(user)                                                                                        \
    T(purpose) T(intune) I(attempt) T(state) I(ver) T(rule) T(product) I(organization) I(years)    \
        I(days) T(profile_type) T(indicator) I(client_auth) T(payment) T(first_name) T(last_name)  \
            T(key_type) T(profile) T(addresses) I(created_at) I(changed_at) I(admitted_at)         \
                T(order_token) I(sent_first) I(sent_last) I(settle_since) I(settle_empty)          \
                    I(order_id) I(certificate_id) I(ordered_at) I(covered) T(ca_status) I(info_at) \
                        I(validation_at) T(unvalidated) I(cancel_at) T(thumbprint) I(starts) I(    \
                            expires) I(generation) T(key_name) T(provider_name) T(padding) T(tier) \
                            T(sealed_by) T(record_id) I(bounces) I(active_at) T(fail_class)        \
                                T(fail_op) T(fail_object) T(fail_code) T(fail_text) I(fail_n)      \
                                    T(held_from) T(held_job) T(held_why) I(waived) T(key_ref)      \
                                        B(pfx_sha) T(custom_fields) T(comment) I(renewal_of)       \
                                            I(non_repudiation) T(common_name) T(pseudonym)         \
                                                I(revoked_at) T(revoked_word) T(revoked_then)      \
                                                    I(revoked_seen) I(revoke_asked) T(revoke_said) \
                                                        T(parked) I(replaces) I(listed)        \
                                                            I(looked) I(rebuilt_at) I(exposed_at)    \
                                                                I(key_going_at) I(key_gone_at)     \
                                                                    I(key_due) T(key_said) T(revoke_open)
/* What only the work on it needs. */
#define PFX_ENROLMENT_MATERIAL(I, T, B) B(key_id) B(ticket) B(csr) B(spki) B(cert) B(chain)

#define PFX_AS_INT(name) int64_t name;
#define PFX_AS_TEXT(name) char *name;
#define PFX_AS_BLOB(name) struct pfx_buf name;
struct pfx_enrolment {
    PFX_ENROLMENT_FACTS(PFX_AS_INT, PFX_AS_TEXT, PFX_AS_BLOB)
    PFX_ENROLMENT_MATERIAL(PFX_AS_INT, PFX_AS_TEXT, PFX_AS_BLOB)
    enum pfx_state at; /* state as a word of the flow */
    bool failing;      /* since this was loaded: fail_class, fail_op and fail_code are of now */
};
void pfx_enrolment_done(struct pfx_enrolment *e);
#define PFX_AUTOENROLMENT __attribute__((cleanup(pfx_enrolment_done)))

/* *ret_e stays zeroed (id 0) when there is none. */
PFX_MUST_USE pfx_result pfx_enrolment_load(struct pfx_store *store, int64_t id,
                                           struct pfx_enrolment *ret_e, struct pfx_error *err);
/* The first one with an id above `after` that fits. user: object id or UPN; NULL: any. state: NULL:
 * any. Without material. */
PFX_MUST_USE pfx_result pfx_enrolment_after(struct pfx_store *store, int64_t after,
                                            const char *user, const char *state,
                                            struct pfx_enrolment *ret_e, struct pfx_error *err);

/*
 * Moves to another state in the caller's transaction: version up, earlier jobs of the enrolment
 * gone, the next one in the outbox (kind NULL: the state's first; not before not_before_ms),
 * failure cleared unless it goes to HELD, FAILED or ENDED, a line of history. INTERNAL for a way
 * that the flow doesn't have. e is updated.
 */
PFX_MUST_USE pfx_result pfx_enrolment_move(struct pfx_store *store, struct pfx_enrolment *e,
                                           enum pfx_state to, const char *kind,
                                           int64_t not_before_ms, int64_t now_ms, const char *note,
                                           struct pfx_error *err);
/* To HELD, from where it is; kind: the job that a retry puts out again (NULL: none). why: one of
 * PFX_HELD_*. */
#define PFX_HELD_LIMIT "order limit"
#define PFX_HELD_LOST "lost order"
#define PFX_HELD_FAILURE "failure"
PFX_MUST_USE pfx_result pfx_enrolment_hold(struct pfx_store *store, struct pfx_enrolment *e,
                                           const char *kind, const char *why, int64_t now_ms,
                                           const struct pfx_error *fail, struct pfx_error *err);
/* Remembers the last failure without moving. */
PFX_MUST_USE pfx_result pfx_enrolment_failed(struct pfx_store *store, struct pfx_enrolment *e,
                                             const struct pfx_error *fail, struct pfx_error *err);

/* Chains are kept as one blob: length, then bytes, for each certificate. */
void pfx_chain_add(struct pfx_buf *chain, struct pfx_bytes der);
/* Reads the next one at *pos; false at the end. */
bool pfx_chain_next(struct pfx_bytes chain, size_t *pos, struct pfx_bytes *ret_der);

#endif
