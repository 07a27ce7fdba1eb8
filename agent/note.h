/*
 * Notes for the signed operation log: what pfx-agentd decided or saw, one function for each kind.
 * A note is a row of the store, written in the caller's transaction, so that what it tells and the
 * note are both there or neither; notes_queue.h takes them to pfx-hsm.
 *
 * Never a name, an address, a UPN, an object id, nor an error's text: a user is the hash that
 * pfx-hsm names them by, a failure the words of its operation and code.
 */
#ifndef PFX_AGENT_NOTE_H
#define PFX_AGENT_NOTE_H

#include <sys/types.h>

#include "agent/enrolment.h"

/* agentd.start, agentd.stop: with this program's version. */
PFX_MUST_USE pfx_result pfx_note_program(struct pfx_store *store, const char *event, int64_t now_ms,
                                         struct pfx_error *err);
/* backup.restored: this store is a copy; count: enrolments without an order in it. */
PFX_MUST_USE pfx_result pfx_note_restored(struct pfx_store *store, int64_t count, int64_t now_ms,
                                          struct pfx_error *err);
/* A verb of the CLI that changes something. enrolment 0: none; fail NULL: it was done. */
PFX_MUST_USE pfx_result pfx_note_command(struct pfx_store *store, uid_t uid, const char *verb,
                                         int64_t enrolment, const struct pfx_error *fail,
                                         int64_t now_ms, struct pfx_error *err);
/* Somebody asked for a verb that isn't theirs. */
PFX_MUST_USE pfx_result pfx_note_refused(struct pfx_store *store, uid_t uid, const char *verb,
                                         int64_t now_ms, struct pfx_error *err);

/* order.lost, order.cancelled, order.revoked: it couldn't be done, or the answer was lost. */
PFX_MUST_USE pfx_result pfx_note_order_failed(struct pfx_store *store,
                                              const struct pfx_enrolment *e, const char *event,
                                              const struct pfx_error *fail, int64_t now_ms,
                                              struct pfx_error *err);
/* order.placed, once: e has that order from now on. */
PFX_MUST_USE pfx_result pfx_note_placed(struct pfx_store *store, struct pfx_enrolment *e,
                                        int64_t order, int64_t now_ms, struct pfx_error *err);
/* order.cancelled or order.revoked, by the word by which the CA ended it. */
PFX_MUST_USE pfx_result pfx_note_order_over(struct pfx_store *store, const struct pfx_enrolment *e,
                                            const char *word, int64_t now_ms,
                                            struct pfx_error *err);
/* leaf: the certificate, DER. Nothing for the one that e has already. */
PFX_MUST_USE pfx_result pfx_note_certificate(struct pfx_store *store, const struct pfx_enrolment *e,
                                             struct pfx_bytes leaf, const char *thumbprint,
                                             int64_t now_ms, struct pfx_error *err);
/* Intune shows the record as it was sent. */
PFX_MUST_USE pfx_result pfx_note_upload(struct pfx_store *store, const struct pfx_enrolment *e,
                                        int64_t now_ms, struct pfx_error *err);
/* enrolment.held, enrolment.failed, enrolment.ended, with the failure that led there if one did
 * (e->failing). Nothing for other states. */
PFX_MUST_USE pfx_result pfx_note_moved(struct pfx_store *store, const struct pfx_enrolment *e,
                                       enum pfx_state to, int64_t now_ms, struct pfx_error *err);
/* Intune doesn't show the record any more. record: its id in lower case. enrolment 0: not ours. */
PFX_MUST_USE pfx_result pfx_note_removed(struct pfx_store *store, const char *record,
                                         int64_t enrolment, int64_t now_ms, struct pfx_error *err);

/* A text as a word of the log, at most 63 of [A-Za-z0-9._-]; "other" for one that has anything else
 * than such words, or could be somebody's id. */
#define PFX_NOTE_WORD_SIZE 64
const char *pfx_note_word(const char *text, char buf[PFX_NOTE_WORD_SIZE]);

#endif
