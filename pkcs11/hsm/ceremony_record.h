/*
 * The record of a ceremony (crypto/minutes.h), as pfx-hsm makes it: gathered while the ceremony runs,
 * then its hash goes into the operation log as `ceremony.record`, and the page, with that entry and
 * its receipt under a signed checkpoint, is written to
 *   state_dir/ceremonies/<time>-<kind>.txt and .html
 * and sent to whoever gave the command. A process that ends between the entry and the page leaves the
 * record's text behind, and the next record's maker completes that page first.
 *
 * All of it under hsm->lock for writing. A maker that is NULL takes everything and does nothing.
 */
#ifndef PFX_HSM_CEREMONY_RECORD_H
#define PFX_HSM_CEREMONY_RECORD_H

#include "crypto/minutes.h"
#include "pkcs11/adopt.h"
#include "pkcs11/hsm/op.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/task.h"

struct pfx_record_maker;
/* Before anything is made: what stands against writing a page is found here. The record's kind is
 * the verb's name; its witnesses are those of the verb's arguments. */
PFX_MUST_USE pfx_result pfx_record_begin(struct pfx_hsm *hsm, struct pfx_task *task,
                                         struct pfx_record_maker **ret_maker,
                                         struct pfx_error *err);
void pfx_record_maker_free(struct pfx_record_maker *maker);
static inline void pfx_record_maker_freep(struct pfx_record_maker **pp)
{
    pfx_record_maker_free(*pp);
}
#define PFX_AUTORECORD __attribute__((cleanup(pfx_record_maker_freep)))
/* The role's token, which is open. */
void pfx_record_role(struct pfx_record_maker *maker, enum pfx_role role);
/* A key that was made or found, in the work of op: its attributes are read now, and the attestation
 * that the policy names for its role is taken and kept. how: "made", "found". */
PFX_MUST_USE pfx_result pfx_record_key(struct pfx_record_maker *maker, struct pfx_session *session,
                                       const struct pfx_key *key,
                                       const struct pfx_standing_key *standing,
                                       const struct pfx_op *op, const char *how,
                                       struct pfx_error *err);
/* The encryption key where its token wasn't opened; op exported the pinned public half. */
void pfx_record_pinned(struct pfx_record_maker *maker, const struct pfx_standing_key *standing,
                       const struct pfx_op *op, struct pfx_bytes spki);
/* op: as its result says. */
void pfx_record_certificate(struct pfx_record_maker *maker, const struct pfx_op *op,
                            int64_t not_after_ms);
/* An encryption key that somebody else's software made: what differs from one of ours is noted. */
PFX_MUST_USE pfx_result pfx_record_adopted(struct pfx_record_maker *maker,
                                           struct pfx_session *session,
                                           const struct pfx_standing_key *standing,
                                           const struct pfx_op *op,
                                           const struct pfx_adopted *adopted,
                                           struct pfx_error *err);
/* A key in the work of op that is about to destroy it: its attributes are read a last time, and
 * when they can't be, that is noted. key: NULL where the token doesn't have it any more; spki: of its
 * pin, or empty. */
void pfx_record_destroyed(struct pfx_record_maker *maker, struct pfx_session *session,
                          const struct pfx_key *key, const struct pfx_standing_key *standing,
                          const struct pfx_op *op, struct pfx_bytes spki);
/* The same of one that was adopted. */
void pfx_record_adopted_destroyed(struct pfx_record_maker *maker, struct pfx_session *session,
                                  const struct pfx_standing_key *standing, const struct pfx_op *op,
                                  struct pfx_bytes spki);
/* Each generation of a standing key, as it stands now. */
void pfx_record_standing(struct pfx_record_maker *maker, size_t index);
/* Who approved it. op: in whose intent that stands; NULL: in another entry. */
void pfx_record_approved(struct pfx_record_maker *maker, const struct pfx_op *op,
                         const struct pfx_approved *approved);
/* Each generation that has a key, as it is pinned now. */
void pfx_record_pins(struct pfx_record_maker *maker, const struct pfx_pins *pins);
void pfx_record_note(struct pfx_record_maker *maker, const char *text);
/* Logs, seals, writes and sends the page. The log's signer is attached. */
PFX_MUST_USE pfx_result pfx_record_finish(struct pfx_record_maker *maker, struct pfx_error *err);
/* The same where what was done stands, and the command given again would do something else: a failure
 * is a note to the operator, and the next ceremony completes what is left of the page. */
void pfx_record_end(struct pfx_record_maker *maker);

/* --- for the files ceremony_*.c --- */
struct pfx_record_maker {
    struct pfx_hsm *hsm;
    struct pfx_task *task;
    struct pfx_minutes record;
    char kind[33];
    int64_t at_ms;
    char *folder;
    gid_t readers; /* of the files; (gid_t)-1: leave */
};
/* A file of the folder: replaced as a whole, and readable for the auditors. */
PFX_MUST_USE pfx_result pfx_record_put(const struct pfx_record_maker *maker, const char *name,
                                       struct pfx_bytes content, struct pfx_error *err);
/* What the HSM says of this key, as the policy names it for its role. key: NULL where only its name
 * and id are known. */
PFX_MUST_USE pfx_result pfx_record_attest(struct pfx_record_maker *maker,
                                          struct pfx_session *session, const struct pfx_key *key,
                                          const struct pfx_standing_key *standing,
                                          struct pfx_error *err);

#endif
