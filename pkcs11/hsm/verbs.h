/* Everything that can be asked of pfx-hsm: one handler each. hsm->lock is held as the row says. */
#ifndef PFX_HSM_VERBS_H
#define PFX_HSM_VERBS_H

#include "pkcs11/hsm/task.h"

struct pfx_verb {
    const char *name; /* as in the wire tables */
    pfx_task_handler handler;
    bool urgent;    /* before everything else, by a worker of its own */
    bool exclusive; /* alone with the tokens */
};
/* Each ends with name NULL. What isn't in a table can't be asked on that socket. */
extern const struct pfx_verb pfx_verbs_jobs[];
extern const struct pfx_verb pfx_verbs_admin[];
extern const struct pfx_verb pfx_verbs_broker[];
const struct pfx_verb *pfx_verb_find(const struct pfx_verb *table, const char *name);

#define PFX_HANDLER(name)                                                                          \
    PFX_MUST_USE pfx_result name(struct pfx_worker *worker, struct pfx_task *task,                 \
                                 struct pfx_error *err)
PFX_HANDLER(pfx_do_key_csr);    /* key_csr.c */
PFX_HANDLER(pfx_do_build_seal); /* build_seal.c */
PFX_HANDLER(pfx_do_key_destroy); /* key_destroy.c */
PFX_HANDLER(pfx_do_report);     /* status.c */
PFX_HANDLER(pfx_do_init);       /* ceremony.c */
PFX_HANDLER(pfx_do_test);       /* probing.c */
PFX_HANDLER(pfx_do_status);     /* status.c */
PFX_HANDLER(pfx_do_key_list);   /* key_verbs.c */
PFX_HANDLER(pfx_do_key_show);
PFX_HANDLER(pfx_do_key_export);
PFX_HANDLER(pfx_do_key_rotate); /* rotate.c */
PFX_HANDLER(pfx_do_generation_destroy);
PFX_HANDLER(pfx_do_key_activate); /* states.c */
PFX_HANDLER(pfx_do_key_retire);
PFX_HANDLER(pfx_do_key_compromise);
PFX_HANDLER(pfx_do_key_states);
PFX_HANDLER(pfx_do_connector_probe); /* connector.c */
PFX_HANDLER(pfx_do_connector_confirm);
PFX_HANDLER(pfx_do_secret_set); /* secrets.c */
PFX_HANDLER(pfx_do_secret_status);
PFX_HANDLER(pfx_do_secret_open);
PFX_HANDLER(pfx_do_assertion); /* assertion.c */
PFX_HANDLER(pfx_do_policy_approve); /* force.c */
PFX_HANDLER(pfx_do_approval_list); /* approval_verbs.c */
PFX_HANDLER(pfx_do_approval_show);
PFX_HANDLER(pfx_do_approval_give);
PFX_HANDLER(pfx_do_log);       /* log_verbs.c */
PFX_HANDLER(pfx_do_log_status);
PFX_HANDLER(pfx_do_log_rotate); /* log_change.c */
PFX_HANDLER(pfx_do_log_reopen);
PFX_HANDLER(pfx_do_rewrap);        /* rewrap.c */
PFX_HANDLER(pfx_do_standing_list); /* rotation_verbs.c */
PFX_HANDLER(pfx_do_standing_rotate);
PFX_HANDLER(pfx_do_standing_activate);
PFX_HANDLER(pfx_do_standing_destroy);
PFX_HANDLER(pfx_do_backup); /* backup.c */

#endif
