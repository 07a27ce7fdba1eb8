/*
 * Roles brought to readiness, step by step: module and token, PIN and login, probe, standing keys,
 * and what belongs to them in the state folder (pins, client certificates). What fails is
 * remembered with its sentence; the process stays up and tells it to whoever asks.
 *
 * hsm->lock is held for writing in all of these.
 */
#ifndef PFX_HSM_ROLES_H
#define PFX_HSM_ROLES_H

#include "pkcs11/hsm/op.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/task.h"

/* Opens the role's token if it isn't open, and logs in. pin: for the encryption role (ceremonies;
 * it isn't kept); the others read their credential file. */
PFX_MUST_USE pfx_result pfx_role_open(struct pfx_hsm *hsm, enum pfx_role role,
                                      const struct pfx_secret *pin, struct pfx_error *err);
/* Runs the probe, unless it was run since the token was opened, wasn't disturbed, and `anew` is
 * false. REFUSED when the token lacks what the role needs; TRANSIENT when the reason may pass. */
PFX_MUST_USE pfx_result pfx_role_probe(struct pfx_worker *worker, enum pfx_role role, bool anew,
                                       const struct pfx_actor *actor, struct pfx_error *err);
/* Finds the role's standing keys, pins and certificates, all of them exactly as they must be. */
PFX_MUST_USE pfx_result pfx_role_check(struct pfx_worker *worker, enum pfx_role role,
                                       struct pfx_error *err);
/* Logs out and closes. */
void pfx_role_close(struct pfx_hsm *hsm, enum pfx_role role);

/* All of it for the three standing roles, whichever isn't ready: for the start, and tried again. */
PFX_MUST_USE pfx_result pfx_roles_ready(struct pfx_worker *worker, struct pfx_task *task,
                                        struct pfx_error *err);
/* Is there a role that isn't ready and may become so without a person, or one whose token was
 * opened anew since its probe, or whose probe was disturbed and is due again? (takes the lock for
 * reading; false when it is held) */
bool pfx_roles_due(struct pfx_hsm *hsm);

/* The PIN out of the role's credential file. USAGE names file and fault. */
PFX_MUST_USE pfx_result pfx_pin_file_read(const char *pin_file, struct pfx_secret **ret_pin,
                                          struct pfx_error *err);
/* The client certificate of an app: read, and compared with its key. */
PFX_MUST_USE pfx_result pfx_app_certificate_read(struct pfx_hsm *hsm, size_t app,
                                                 struct pfx_bytes spki, struct pfx_error *err);
char *pfx_app_certificate_path(const struct pfx_hsm *hsm, size_t app); /* free it */
/* Of any generation: the file's name (free it); the file, read and compared with the key, into
 * *ret_app (free its pem); a new one, made and written for its owner alone. */
char *pfx_app_certificate_name(const struct pfx_hsm *hsm, size_t app, unsigned generation);
PFX_MUST_USE pfx_result pfx_app_certificate_load(const struct pfx_hsm *hsm, size_t app,
                                                 unsigned generation, struct pfx_bytes spki,
                                                 struct pfx_app *ret_app, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_app_certificate_make(struct pfx_hsm *hsm, size_t app,
                                                 unsigned generation, struct pfx_session *session,
                                                 struct pfx_key *key, struct pfx_buf *out,
                                                 struct pfx_error *err);

#endif
