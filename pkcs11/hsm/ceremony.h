/* The parts of `init`. */
#ifndef PFX_HSM_CEREMONY_H
#define PFX_HSM_CEREMONY_H

#include "pkcs11/hsm/ceremony_record.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/verbs.h"

struct pfx_ceremony {
    struct pfx_worker *worker;
    struct pfx_task *task;
    struct pfx_hsm *hsm;
    bool encryption_open; /* its PIN was given */
    bool log_begun;       /* in this ceremony, with its keys */
    struct pfx_record_maker *record;
};
/* One line to the operator, on its way at once. */
void pfx_ceremony_say(struct pfx_ceremony *ceremony, const char *kind, enum pfx_role role,
                      const char *name, const char *fmt, ...) PFX_PRINTF(5, 6);
/* A key's line; spki and pem may be empty or NULL. */
struct pfx_msg *pfx_ceremony_key_item(struct pfx_ceremony *ceremony,
                                      const struct pfx_standing_key *standing,
                                      struct pfx_bytes spki, const char *text);
/* The work of an operation that finds and checks a standing key, or makes it. */
PFX_MUST_USE pfx_result pfx_ceremony_make(struct pfx_worker *worker, struct pfx_op *op,
                                          const struct pfx_standing_key *standing, bool *ret_found,
                                          struct pfx_key **ret_key, struct pfx_error *err);
/* A standing key: found and checked, or made. early: told to the operation log once it has begun.
 */
PFX_MUST_USE pfx_result pfx_ceremony_standing(struct pfx_ceremony *ceremony, size_t index,
                                              bool early, struct pfx_error *err);
/* The operation log, before anything else is done with a key: what stands against it, then its keys
 * and entry 0 if there is none, else its signer. */
PFX_MUST_USE pfx_result pfx_ceremony_log_precheck(struct pfx_ceremony *ceremony,
                                                  struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_ceremony_log(struct pfx_ceremony *ceremony, struct pfx_error *err);
/* Pins and encryption key: found and compared, or made. */
PFX_MUST_USE pfx_result pfx_ceremony_encryption(struct pfx_ceremony *ceremony,
                                                struct pfx_error *err);
/* Without the encryption token's PIN, once the other roles are ready: the pinned public half. */
PFX_MUST_USE pfx_result pfx_ceremony_encryption_export(struct pfx_ceremony *ceremony,
                                                       struct pfx_error *err);
/* What would make the encryption part refuse, before anything is made. */
PFX_MUST_USE pfx_result pfx_ceremony_encryption_precheck(struct pfx_ceremony *ceremony,
                                                         struct pfx_error *err);

#endif
