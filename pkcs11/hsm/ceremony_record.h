/*
 * The record of a ceremony (crypto/minutes.h), as pfx-hsm makes it: gathered while the ceremony runs,
 * then its hash goes into the operation log as `ceremony.record`, and the page, with that entry and
 * its receipt under a signed checkpoint, is written to
 *   state_dir/ceremonies/<time>-<kind>.txt and .html
 * and sent to whoever gave the command.
 *
 * No change is without its page: before the first one a mark is put into the folder, which goes when
 * the page is there. What a process that ended, or a ceremony that failed, leaves behind is completed
 * at the next start, at once, or every minute, from the log, from what the mark has, and from the
 * tokens (ceremony_late.c); such a page says when it was written.
 *
 * All of it under hsm->lock for writing. A maker that is NULL takes everything and does nothing.
 */
#ifndef PFX_HSM_CEREMONY_RECORD_H
#define PFX_HSM_CEREMONY_RECORD_H

#include "crypto/checkpoint.h"
#include "crypto/minutes.h"
#include "pkcs11/adopt.h"
#include "pkcs11/hsm/op.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/task.h"

struct pfx_record_maker;
/* Before anything is made: what stands against writing a page is found here. The record's kind is
 * the verb's name; its witnesses are those of the verb's arguments. */
PFX_MUST_USE pfx_result pfx_record_begin(struct pfx_worker *worker, struct pfx_task *task,
                                         struct pfx_record_maker **ret_maker,
                                         struct pfx_error *err);
/* Right before the first change: from here on there will be a page, whatever comes. */
PFX_MUST_USE pfx_result pfx_record_intend(struct pfx_record_maker *maker, struct pfx_error *err);
/* Without a page yet, and something was changed: writes it, late. */
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
/* One that isn't read, as its operation in the log has it: "logged", "cut-off", "destroyed", "gone".
 * spki: hex of its SHA-256, or "". */
void pfx_record_logged(struct pfx_record_maker *maker, const struct pfx_standing_key *standing,
                       const struct pfx_op *op, const char *how, const char *spki);
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
 * is a note to the operator, and the page is written later by itself. */
void pfx_record_end(struct pfx_record_maker *maker);
/* What earlier ones left without a page, as far as roles and log are ready for it. Seldom anything;
 * the next try's time is in hsm->pages_at_ms. task: who gets the pages as items; may be NULL. */
void pfx_record_complete(struct pfx_worker *worker, struct pfx_task *task);

/* --- for the files ceremony_*.c --- */
#define PFX_RECORD_NAME 80
struct pfx_record_maker {
    struct pfx_worker *worker;
    struct pfx_hsm *hsm;
    struct pfx_task *task; /* NULL: nobody waits for an answer */
    struct pfx_actor actor;
    struct pfx_minutes record;
    char kind[33];
    int64_t at_ms;
    char name[PFX_RECORD_NAME]; /* "20261123T130000123Z-init" */
    char *folder;
    gid_t readers; /* of the files; (gid_t)-1: leave */
    bool begun;    /* its mark is there */
    uint64_t from; /* with it: its entries begin here, in the log of this origin */
    char origin[PFX_ORIGIN_SIZE];
};
/* A maker with its folder, for a page that isn't the task's own. */
PFX_MUST_USE pfx_result pfx_record_maker_new(struct pfx_worker *worker, struct pfx_task *task,
                                             struct pfx_record_maker **ret_maker,
                                             struct pfx_error *err);
/* Into a page's head: this host, its policy, this program. */
void pfx_record_host(const struct pfx_hsm *hsm, struct pfx_minutes_section *head);
/* A file of the folder: replaced as a whole, and readable for the auditors. */
PFX_MUST_USE pfx_result pfx_record_put(const struct pfx_record_maker *maker, const char *name,
                                       struct pfx_bytes content, struct pfx_error *err);
/* ceremony_page.c: the record as it is becomes a page, under maker->name. */
PFX_MUST_USE pfx_result pfx_record_publish(struct pfx_record_maker *maker, struct pfx_error *err);

/* ceremony_begun.c: the mark. Its record, as far as it had come, is believed under the MAC key only. */
struct pfx_begun {
    char name[PFX_RECORD_NAME]; /* of the page */
    const char *kind;           /* its end */
    char origin[PFX_ORIGIN_SIZE];
    uint64_t from;
    bool vouched;
    struct pfx_minutes record; /* vouched */
};
void pfx_begun_done(struct pfx_begun *begun); /* usable as cleanup */
PFX_MUST_USE pfx_result pfx_begun_write(const struct pfx_record_maker *maker, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_begun_remove(const struct pfx_record_maker *maker, const char *name,
                                         struct pfx_error *err);
/* Names of the marks, oldest first; free each and the list. */
PFX_MUST_USE pfx_result pfx_begun_list(const char *folder, char ***ret_names, size_t *ret_n,
                                       struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_begun_read(const struct pfx_record_maker *maker, const char *name,
                                       struct pfx_begun *ret, struct pfx_error *err);
/* ceremony_late.c: the page of this mark; entries from `to` on belong to others. *ret_page: there was
 * something to be written down. */
PFX_MUST_USE pfx_result pfx_record_late(struct pfx_record_maker *maker, const struct pfx_begun *begun,
                                        uint64_t to, bool *ret_page, struct pfx_error *err);
/* What the HSM says of this key, as the policy names it for its role. key: NULL where only its name
 * and id are known. */
PFX_MUST_USE pfx_result pfx_record_attest(struct pfx_record_maker *maker,
                                          struct pfx_session *session, const struct pfx_key *key,
                                          const struct pfx_standing_key *standing,
                                          struct pfx_error *err);

#endif
