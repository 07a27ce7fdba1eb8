/* The tables of what can be asked. */
#include "pkcs11/hsm/verbs.h"

#include <string.h>

const struct pfx_verb pfx_verbs_jobs[] = {
    {"hsm.key_csr", pfx_do_key_csr, false, false},
    {"hsm.build_seal", pfx_do_build_seal, false, false},
    {"hsm.key_destroy", pfx_do_key_destroy, false, false},
    {"hsm.rewrap", pfx_do_rewrap, false, false},
    {"hsm.report", pfx_do_report, true, false},
    {"hsm.log", pfx_do_log, true, false},
    {NULL, NULL, false, false},
};
const struct pfx_verb pfx_verbs_admin[] = {
    {"init", pfx_do_init, false, true},
    {"hsm.test", pfx_do_test, false, true},
    {"hsm.status", pfx_do_status, true, false},
    {"log.status", pfx_do_log_status, true, false},
    {"log.rotate_key", pfx_do_log_rotate, false, true},
    {"log.reopen", pfx_do_log_reopen, false, true},
    {"standing.list", pfx_do_standing_list, false, false},
    {"standing.rotate", pfx_do_standing_rotate, false, true},
    {"standing.activate", pfx_do_standing_activate, false, true},
    {"standing.destroy", pfx_do_standing_destroy, false, true},
    {"backup.create", pfx_do_backup, false, true},
    {"policy.approve", pfx_do_policy_approve, false, true},
    {"approval.list", pfx_do_approval_list, false, false},
    {"approval.show", pfx_do_approval_show, false, false},
    {"approval.give", pfx_do_approval_give, false, false},
    {"key.list", pfx_do_key_list, false, false},
    {"key.show", pfx_do_key_show, false, false},
    {"key.export_public", pfx_do_key_export, false, false},
    {"key.rotate", pfx_do_key_rotate, false, true},
    {"key.activate", pfx_do_key_activate, false, true},
    {"key.retire", pfx_do_key_retire, false, true},
    {"key.destroy", pfx_do_generation_destroy, false, true},
    {"key.compromise", pfx_do_key_compromise, false, true},
    {"key.states", pfx_do_key_states, false, false},
    {"connector.probe", pfx_do_connector_probe, false, true},
    {"connector.confirm", pfx_do_connector_confirm, false, true},
    {"secret.set", pfx_do_secret_set, false, false},
    {"secret.status", pfx_do_secret_status, false, false},
    {NULL, NULL, false, false},
};
const struct pfx_verb pfx_verbs_broker[] = {
    {"assertion", pfx_do_assertion, true, false},
    {"secret", pfx_do_secret_open, true, false},
    {NULL, NULL, false, false},
};

const struct pfx_verb *pfx_verb_find(const struct pfx_verb *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}
