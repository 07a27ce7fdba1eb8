/* Verbs on pfx-hsm's sockets: admin (from the CLI) and uploader. */
#include "api/wire/tables.h"

#define WITNESSES STRS("witnesses", 12, 1, 128, OPT, "names that stand on the record, to be signed by hand")
#define RECORD_PAGE STR("page", 1, 448 * KIB, OPT, "record: the page that the file holds")
LOCAL_SCHEMA(init_args, "init", 4 * KIB,
       STR("encryption_pin", 1, 255, SECRET | OPT, "of the encryption token, for this ceremony only"),
       WITNESSES);
LOCAL_SCHEMA(init_item, "init.item", 1 * MIB,
       STR("kind", 1, 16, 0, "step, key, certificate, note, record; ready: give it with the PIN"),
       STR("role", 1, 16, OPT, "encryption, users, service or log"),
       STR("name", 1, 128, OPT, "of the key"), STR("text", 1, 1000, OPT, "what was done"),
       STR("algorithm", 1, 32, OPT, "of the key"),
       STR("sha256", 64, 64, OPT, "of the public key's SubjectPublicKeyInfo, or of the certificate"),
       STR("file", 1, 64, OPT, "name to write it to"),
       STR("pem", 1, 32768, OPT, "public key, certificate or key line: what the file holds"),
       RECORD_PAGE);

LOCAL_SCHEMA(test_args, "hsm.test", 4 * KIB,
       STR("encryption_pin", 1, 255, SECRET | OPT, "to try the encryption token too"));
LOCAL_SCHEMA(test_item, "hsm.test.item", 16 * KIB,
       STR("kind", 1, 16, 0, "token, mechanism, tier, conflict, refused or note"),
       STR("role", 1, 16, OPT, "encryption, users, service or log"),
       STR("token", 1, 128, OPT, "label and serial"), STR("mechanism", 1, 48, OPT, "CKM name"),
       BOOL("advertised", OPT, "mechanism: C_GetMechanismInfo has it for this use"),
       STR("tried", 1, 64, OPT, "mechanism: works, not tried, or the CKR name or defect"),
       STR("use", 1, 200, OPT, "mechanism: used for what, or why not"),
       STR("tier", 1, 16, OPT, "tier: direct, transit or none"),
       STR("text", 1, 639, OPT, "tier, conflict, note, token"));

LOCAL_SCHEMA(key_args, "key", KIB,
       STR("name", 1, 128, OPT, "of the key: as key list prints it, or a user key's CKA_ID"));
LOCAL_SCHEMA(key_item, "key.item", 256 * KIB, STR("role", 1, 16, 0, "encryption, users, service or log"),
       STR("name", 1, 128, 0, "of the key"), STR("algorithm", 1, 32, 0, "rsa-3072, aes-256, ..."),
       STR("state", 1, 16, OPT, "encryption key: active; user key: there or not found"),
       INT("generation", 1, 1000000, OPT, "encryption key"),
       STR("id", 1, 128, OPT, "CKA_ID, hex"), STR("token", 1, 128, OPT, "label and serial"),
       STR("sha256", 64, 64, OPT, "of the SubjectPublicKeyInfo"),
       INT("count", 0, PFX_MAX_INT, OPT, "user keys: how many objects"),
       STRS("attributes", 64, 1, 320, OPT, "show: as read back from the token"),
       STR("pem", 1, 32768, OPT, "export-public: SPKI PEM"),
       STR("certificate", 1, 32768, OPT, "client key: certificate PEM"));

/* Generations of the encryption key. What pfx-agentd knows of its records is passed on by the
 * command line, and stands in the log. */
#define GENERATION INT("generation", 1, 999999, 0, "of the encryption key")
LOCAL_SCHEMA(key_needs, "needs", KIB, GENERATION,
       INT("records", 0, PFX_MAX_INT, OPT, "that name it, or are on their way; absent: not known"),
       INT("last_expiry", 0, PFX_MAX_INT, OPT, "of the last of them, ms UTC"));
LOCAL_SCHEMA(key_rotate_args, "key.rotate", 4 * KIB,
       STR("encryption_pin", 1, 255, SECRET | OPT,
           "of the encryption token, for this command only; absent: only what holds it back is said"),
       BOOL("if_due", OPT, "only where rotate_every of the policy asks for it, and none is staged"),
       STR("adopt", 2, 128, OPT, "CKA_ID, hex: of a key that the connector's provider made"),
       WITNESSES);
LOCAL_SCHEMA(key_activate_args, "key.activate", KIB, GENERATION);
LOCAL_SCHEMA(key_retire_args, "key.retire", 2 * KIB, GENERATION,
       BOOL("ask", OPT, "only what holds it back is said"),
       OBJ("needs", &key_needs, OPT, "what pfx-agentd says"));
LOCAL_SCHEMA(key_destroy_args, "key.destroy", 4 * KIB, GENERATION,
       OBJ("needs", &key_needs, OPT, "what pfx-agentd says"),
       STR("encryption_pin", 1, 255, SECRET | OPT,
           "of the encryption token, for this command only; absent: only what holds it back is said"),
       WITNESSES);
LOCAL_SCHEMA(key_compromise_args, "key.compromise", KIB, GENERATION,
       STR("reason", 1, 32, 0, "a word: nobody's name"));
LOCAL_SCHEMA(key_states_args, "key.states", 64 * KIB,
       OBJS("needs", 64, &key_needs, OPT, "what pfx-agentd says of each"));
LOCAL_SCHEMA(key_states_item, "key.states.item", 32 * KIB, GENERATION,
       STR("name", 1, 64, 0, "of the key, as key list prints it"),
       STR("state", 1, 16, 0, "making, staged, active, suspended, retired, compromised, destroyed"),
       INT("since", 0, PFX_MAX_INT, 0, "in this state, ms UTC; 0: not known"),
       INT("activated", 0, PFX_MAX_INT, OPT, "first use, ms UTC"),
       INT("compromised", 0, PFX_MAX_INT, OPT, "ms UTC"),
       STR("adopted", 2, 128, OPT, "CKA_ID, hex, of a key that the connector's provider made"),
       STR("key_name", 1, 128, 0, "Intune's keyName"),
       STR("provider_name", 1, 256, 0, "Intune's providerName"),
       STR("algorithm", 1, 32, OPT, "rsa-3072, ..."),
       STR("sha256", 64, 64, OPT, "of the SubjectPublicKeyInfo"),
       STRS("confirmed", 32, 1, 64, OPT, "connectors that have shown that they can open"),
       STRS("missing", 32, 1, 64, OPT, "connectors of the policy that haven't"),
       INT("records", 0, PFX_MAX_INT, OPT, "as the command line passed them on"),
       STR("next", 1, 16, OPT, "move that an operator would make: rotate, activate, retire, destroy"),
       STRS("reasons", 12, 1, 640, OPT, "what holds that move back"),
       INT("staged", 1, PFX_MAX_INT, OPT, "when it was staged, ms UTC"),
       INT("staged_by", 0, PFX_MAX_INT, OPT, "uid of whoever gave the command"),
       BOOL("scheduled", OPT, "it was staged by key rotate --if-due"),
       STR("schedule", 1, 319, OPT, "active: what rotate_every asks for now"),
       INT("due", 0, PFX_MAX_INT, OPT, "active: by when another one should be, ms UTC"),
       INT("due_from", 0, PFX_MAX_INT, OPT, "active: from when on the next one is to be staged, ms UTC"),
       BOOL("warn", OPT, "active: the last 30 days have begun, or are past"),
       INT("due_days", 0, 36500, OPT, "active: until its rotation is due"),
       INT("overdue_days", 0, PFX_MAX_INT, OPT, "active: since its rotation was due"));
LOCAL_SCHEMA(connector_probe_args, "connector.probe", KIB, STR("host", 1, 63, 0, "a connector of the policy"),
       INT("generation", 1, 999999, OPT, "absent: the staged one"));
LOCAL_SCHEMA(connector_probe_item, "connector.probe.item", 64 * KIB,
       STR("kind", 1, 16, 0, "step, note, file or reason"), STR("text", 1, 1000, OPT, "what was done"),
       STR("file", 1, 128, OPT, "name to write it to"),
       STR("content", 1, 24576, OPT, "what the file holds"));
LOCAL_SCHEMA(connector_confirm_args, "connector.confirm", KIB, STR("host", 1, 63, 0, "a connector of the policy"),
       STR("answer", 1, 128, 0, "as its guide printed it"),
       INT("generation", 1, 999999, OPT, "absent: the staged one"));

LOCAL_SCHEMA(secret_set_args, "secret.set", 16 * KIB, STR("name", 1, 32, 0, "digicert, proxy or cmp"),
       STR("value", 1, 4096, SECRET, "sealed to the secrets key at once"));
LOCAL_SCHEMA(secret_item, "secret.item", 2 * KIB, STR("name", 1, 32, 0, "digicert, proxy or cmp"),
       BOOL("set", 0, "stored"), INT("changed", 0, PFX_MAX_INT, OPT, "ms UTC"),
       STR("sealed_to", 64, 64, OPT, "SHA-256 of the secrets key's public key"));
LOCAL_SCHEMA(hsm_status_item, "hsm.status.item", 4 * KIB, STR("name", 1, 64, 0, "of what"),
       STR("value", 0, 639, 0, "as it is"), STR("level", 1, 8, 0, "ok, warn or bad"),
       STR("why", 1, 639, OPT, "reason"), STR("next", 1, 639, OPT, "next step"));

LOCAL_SCHEMA(log_status_item, "log.status.item", 5 * KIB, STR("name", 1, 64, 0, "of what"),
       STR("value", 0, 639, 0, "for people"), INT("number", 0, PFX_MAX_INT, OPT, "for programs"),
       STR("level", 1, 8, 0, "ok, warn or bad"), STR("why", 1, 639, OPT, "reason"),
       STR("next", 1, 639, OPT, "next step"));
LOCAL_SCHEMA(log_key_args, "log.key", 4 * KIB, WITNESSES);
LOCAL_SCHEMA(log_key_item, "log.key.item", 1 * MIB,
       STR("kind", 1, 16, 0, "step, key, note or record"),
       STR("text", 1, 1000, OPT, "what was done"),
       STR("vkey", 1, 400, OPT, "key line for verifiers"),
       STR("origin", 1, 128, OPT, "of the log"),
       STR("sha256", 64, 64, OPT, "record: of it"), STR("file", 1, 64, OPT, "name to write it to"),
       RECORD_PAGE);

LOCAL_SCHEMA(standing_args, "standing", 4 * KIB,
       STR("name", 1, 64, OPT, "of the key; but for rotate with its generation"),
       INT("rows", 0, PFX_MAX_INT, OPT, "destroy: user keys that still need it, as pfx-agentd says"),
       INT("epoch", 0, PFX_MAX_INT, OPT, "destroy: of the keys in force when they were counted"),
       WITNESSES);
LOCAL_SCHEMA(standing_item, "standing.item", 1 * MIB,
       STR("kind", 1, 16, 0, "key, note or record"),
       STR("role", 1, 16, OPT, "users or service"), STR("name", 1, 64, OPT, "of the key"),
       STR("algorithm", 1, 32, OPT, "of the key"),
       STR("state", 1, 16, OPT, "making, staged, active, previous or destroyed"),
       INT("since", 0, PFX_MAX_INT, OPT, "ms UTC: in this state"),
       STR("token", 1, 128, OPT, "label and serial"),
       STR("sha256", 64, 64, OPT, "of the certificate, or the record"),
       STR("file", 1, 64, OPT, "name to write it to"),
       STR("pem", 1, 32768, OPT, "certificate: what the file holds"),
       STR("text", 1, 1000, OPT, "what was done, or what comes next"), RECORD_PAGE);

LOCAL_SCHEMA(backup_args, "backup.create", KIB,
       BLOB("manifest", 32, 32, 0, "SHA-256 of the archive's manifest"));
LOCAL_SCHEMA(backup_item, "backup.create.item", 4 * KIB,
       STR("kind", 1, 16, 0, "step or note"), STR("text", 1, 1000, 0, "what was done"));

LOCAL_SCHEMA(approval_args, "approval", KIB, STR("id", 8, 8, 0, "of the question"));
LOCAL_SCHEMA(approval_give_args, "approval.give", 64 * KIB, STR("id", 8, 8, 0, "of the question"),
       STR("signature", 1, 8192, OPT, "what ssh-keygen -Y sign made; none in mode uid"));
LOCAL_SCHEMA(approval_item, "approval.item", 128 * KIB, STR("id", 8, 8, 0, "of the question"),
       STR("command", 1, 64, 0, "what is to be done"), STR("asker", 1, 128, 0, "who asked for it"),
       STR("mode", 1, 8, 0, "ssh or uid"), INT("needed", 1, 16, 0, "so many people"),
       INT("expiry", 0, PFX_MAX_INT, 0, "ms UTC"),
       STRS("given", 16, 1, 128, OPT, "who has approved it"),
       STR("args", 2, 8192, OPT, "show: all that the command will do, canonical JSON"),
       STR("statement", 2, 1024, OPT, "show: what is signed, byte for byte"));

const struct pfx_wire_pair pfx_wire_admin[] = {
    {"init", &init_args, &init_item},
    {"hsm.test", &test_args, &test_item},
    {"hsm.status", &pfx_s_none, &hsm_status_item},
    {"log.status", &pfx_s_none, &log_status_item},
    {"log.rotate_key", &log_key_args, &log_key_item},
    {"log.reopen", &log_key_args, &log_key_item},
    {"standing.list", &pfx_s_none, &standing_item},
    {"standing.rotate", &standing_args, &standing_item},
    {"standing.activate", &standing_args, &standing_item},
    {"standing.destroy", &standing_args, &standing_item},
    {"backup.create", &backup_args, &backup_item},
    {"policy.approve", &pfx_s_none, &log_key_item},
    {"approval.list", &pfx_s_none, &approval_item},
    {"approval.show", &approval_args, &approval_item},
    {"approval.give", &approval_give_args, &approval_item},
    {"key.list", &key_args, &key_item},
    {"key.show", &key_args, &key_item},
    {"key.export_public", &key_args, &key_item},
    {"key.rotate", &key_rotate_args, &init_item},
    {"key.activate", &key_activate_args, &init_item},
    {"key.retire", &key_retire_args, &init_item},
    {"key.destroy", &key_destroy_args, &init_item},
    {"key.compromise", &key_compromise_args, &init_item},
    {"key.states", &key_states_args, &key_states_item},
    {"connector.probe", &connector_probe_args, &connector_probe_item},
    {"connector.confirm", &connector_confirm_args, &connector_probe_item},
    {"secret.set", &secret_set_args, &secret_item},
    {"secret.status", &pfx_s_none, &secret_item},
    {NULL, NULL, NULL},
};

LOCAL_SCHEMA(assertion_args, "assertion", KIB, STR("app", 1, 32, 0, "app registration: a name of the policy"));
LOCAL_SCHEMA(assertion_item, "assertion.item", 32 * KIB, STR("client_id", 36, 36, 0, "of the policy"),
       STR("assertion", 1, 8192, SECRET, "signed JWT"),
       INT("expires", 0, PFX_MAX_INT, 0, "ms UTC"));
LOCAL_SCHEMA(service_secret_args, "secret", KIB, STR("name", 1, 32, 0, "digicert, proxy or cmp"));
LOCAL_SCHEMA(service_secret_item, "secret.item", 16 * KIB, STR("value", 1, 4096, SECRET, "opened"));

const struct pfx_wire_pair pfx_wire_broker[] = {
    {"assertion", &assertion_args, &assertion_item},
    {"secret", &service_secret_args, &service_secret_item},
    {NULL, NULL, NULL},
};
