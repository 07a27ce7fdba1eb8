/* The table of verbs: help, man page, completion and the parser all read it. */
#include "agent/cli/cli.h"

const struct cli_option cli_options[CLI_OPTION_COUNT] = {
    [CLI_JSON] = {"json", NULL, "JSON lines with a versioned schema instead of tables"},
    [CLI_CONFIG] = {"config", "FILE",
                    "agent.yaml that names the run folder "
                    "(default /etc/pfx-agent/agent.yaml)"},
    [CLI_RUN_DIR] = {"run-dir", "DIR", "run folder of pfx-agentd (default from the config)"},
    [CLI_CLI_SOCKET] = {"cli-socket", "PATH", "socket of pfx-agentd; also PFX_AGENT_SOCKET"},
    [CLI_ADMIN_SOCKET] = {"admin-socket", "PATH",
                          "socket of pfx-hsm (default /run/pfx-hsm/admin); also PFX_HSM_SOCKET"},
    [CLI_HELP] = {"help", NULL, "what this verb does"},
    [CLI_VERSION] = {"version", NULL, "version of the program"},
    [CLI_PIN_FD] = {"pin-fd", "N",
                    "read the encryption token's PIN from this file descriptor, not the terminal"},
    [CLI_OUT] = {"out", "PATH",
                 "where to write: a folder; a file for key export-public and log receipt"},
    [CLI_ONCE] = {"once", NULL, "one pass over the group now"},
    [CLI_DRY_RUN] = {"dry-run", NULL,
                     "only say what would be done, and why; orders and changes nothing"},
    [CLI_WAIT] = {"wait", "DURATION", "go on that long, until nothing waits any more: 90s, 5m, 2h"},
    [CLI_USER] = {"user", "USER", "of this user: UPN or object id"},
    [CLI_STATE] = {"state", "STATE", "enrolments in this state, as the list shows it"},
    [CLI_ALL] = {"all", NULL, "everything: every enrolment, ended ones too; every fact of status"},
    [CLI_FD] = {"fd", "N", "read the secret from this file descriptor, not the terminal"},
    [CLI_ORDERS] = {"orders", NULL, "orders at the CA"},
    [CLI_UPLOADS] = {"uploads", NULL, "imports to Intune, and removals from it"},
    [CLI_REBUILD] = {"rebuild", NULL, "records being sealed anew to another encryption key"},
    [CLI_AS] = {"as", "KIND", "what the files are: agent, uploader or hsm-policy"},
    [CLI_FORMAT] = {"format", "FORMAT", "of a public key: pem (the default) or cng"},
    [CLI_REASON] = {"reason", "TEXT",
                    "why: of a revocation, for the CA and the history; of a compromise, one word for "
                    "the log"},
    [CLI_YES] = {"yes", NULL, "don't ask before it is done"},
    [CLI_LOG_DIR] = {"log-dir", "DIR",
                     "folder of the operation log (default log.dir of hsm-policy.yaml); also "
                     "PFX_LOG_DIR"},
    [CLI_LINES] = {"lines", "N", "so many entries (default 20)"},
    [CLI_FOLLOW] = {"follow", NULL, "go on with new entries until Ctrl-C"},
    [CLI_KEY] = {"key", "FILE", "sign with this SSH key, or the one in an agent whose .pub it is"},
    [CLI_SIGNATURE] = {"signature", "FILE", "what ssh-keygen -Y sign wrote, perhaps elsewhere"},
    [CLI_ENROLMENT] = {"enrolment", "N", "the user key of this enrolment"},
    [CLI_NO_NAMES] = {"no-names", NULL, "leave the name map out"},
    [CLI_RECORD] = {"record", "DIR", "write the ceremony's record into this folder, as text and HTML"},
    [CLI_WITNESS] = {"witness", "NAME", "a name with a line to sign on the record; several may be given"},
    [CLI_IF_DUE] = {"if-due", NULL,
                    "only when the schedule of hsm-policy.yaml asks for it; else say so and end"},
    [CLI_PIN_FILE] = {"pin-file", "FILE",
                      "read the encryption token's PIN from this file, such as a systemd credential"},
    [CLI_VKEY] = {"vkey", "FILE", "key lines of the log that the backup must be signed by"},
    [CLI_PUT_ASIDE] = {"put-aside", NULL, "rename what is in the way, and keep it"},
    [CLI_ADOPT] = {"adopt", "CKA_ID", "hex CKA_ID of a key that the connector's provider made"},
};

char cli_option_letter(enum cli_option_id id)
{
    switch (id) {
    case CLI_HELP:
        return 'h';
    case CLI_OUT:
        return 'o';
    case CLI_LINES:
        return 'n';
    case CLI_FOLLOW:
        return 'f';
    default:
        return 0;
    }
}

#define SELECT (CLI_BIT(CLI_USER) | CLI_BIT(CLI_STATE) | CLI_BIT(CLI_ALL))
#define RECORDED (CLI_BIT(CLI_RECORD) | CLI_BIT(CLI_WITNESS)) /* a ceremony with a page */

const struct cli_verb cli_verbs[] = {
    {NULL, "init", "", 0, 0,
     CLI_BIT(CLI_PIN_FD) | CLI_BIT(CLI_OUT) | RECORDED, "admins", false,
     "probe the tokens, then make all keys",
     "Asks for the PIN of the encryption token on the terminal, makes what is missing, and prints "
     "every key with its fingerprint. The encryption key's public part and the client key's "
     "certificate are written into the folder of --out (default: the current one); a file with "
     "other content is never overwritten. Running it again makes nothing twice. Its record is one page "
     "with every token, key, fingerprint and attribute as read back; its hash stands in the operation "
     "log, and pfx-audit ceremony checks it. pfx-hsm keeps it in ceremonies of its state folder, "
     "--record writes it for you, too.",
     cli_do_init},
    {NULL, "run", "", 0, 0, CLI_BIT(CLI_ONCE) | CLI_BIT(CLI_DRY_RUN) | CLI_BIT(CLI_WAIT),
     "operators", false, "read the groups and enrol who needs a certificate",
     "Ends when no job is due; with --wait it goes on polling the CA until nothing waits any more "
     "or the time is over. Exit code 1 when an enrolment is held or failed.",
     cli_do_run},
    {NULL, "status", "", 0, 0, CLI_BIT(CLI_ALL), "operators and auditors", false,
     "one screen: what waits for whom",
     "What is well stands in a few lines, in short; with --all each fact has its own, in full.",
     cli_do_status},
    {"enrolment", "list", "[NUMBER|USER]...", 0, 1000, SELECT, "operators and auditors", false,
     "list enrolments", NULL, cli_do_enrolment_list},
    {"enrolment", "show", "NUMBER|USER...", 1, 1000, 0, "operators and auditors", false,
     "everything about an enrolment, with its history", NULL, cli_do_enrolment_show},
    {"enrolment", "cancel", "[NUMBER|USER]...", 0, 1000, SELECT, "operators", false,
     "give an enrolment up, and cancel its order where the CA still can", NULL,
     cli_do_enrolment_change},
    {"enrolment", "retry", "[NUMBER|USER]...", 0, 1000, SELECT, "operators", false,
     "take a held or failed enrolment up again", NULL, cli_do_enrolment_change},
    {"enrolment", "release", "[NUMBER|USER]...", 0, 1000, SELECT, "operators", false,
     "let orders go out that max_orders_per_pass or max_orders_per_day hold",
     "By its number it also orders again what is held for a lost order, which may then be bought "
     "twice: look at the CA first. Users, --user, --state and --all leave those alone.",
     cli_do_enrolment_change},
    {"enrolment", "resend", "[NUMBER|USER]...", 0, 1000, SELECT, "operators", false,
     "ask the CA to send its validation mail again",
     "For orders that wait for a user to confirm an address. DigiCert documents this for TLS "
     "orders only; what it answers is shown.",
     cli_do_enrolment_change},
    {"enrolment", "revoke", "NUMBER...", 1, 1000, CLI_BIT(CLI_REASON) | CLI_BIT(CLI_YES),
     "operators", false, "have the CA revoke a certificate",
     "Can't be taken back. What follows here (remove from Intune, enrol again) is what on_revoked "
     "of the rule says, once the CA reports it as revoked.",
     cli_do_enrolment_revoke},
    {"record", "list", "[ID|USER]...", 0, 1000, CLI_BIT(CLI_USER) | CLI_BIT(CLI_ALL),
     "operators and auditors", false, "the certificates in Intune, as its list was last read",
     "Records of other origin stand in the list, too: ENROLMENT is empty then.",
     cli_do_record_list},
    {"record", "remove", "[ID|USER]...", 0, 1000, CLI_BIT(CLI_USER) | CLI_BIT(CLI_YES),
     "operators", false, "remove certificates from Intune",
     "Shows what would be removed and asks. A removal counts as done when Intune doesn't show the "
     "record any more; until then it is tried again. A user whose record was removed isn't "
     "enrolled again before `enrolment retry`.",
     cli_do_record_remove},
    {"setup", "digicert", "", 0, 0, 0, "operators", false,
     "check the account at DigiCert: key, products, organizations, payment",
     "Orders nothing. Each finding says the click path in CertCentral that mends it.",
     cli_do_setup},
    {"setup", "ca", "", 0, 0, 0, "operators", false,
     "the same for a CA of one's own (ca: cmp)", NULL, cli_do_setup},
    {"setup", "entra", "", 0, 0, 0, "operators", false,
     "check the app registrations: certificates, roles, groups",
     "Changes nothing. Each finding prints the command that mends it.", cli_do_setup},
    {"key", "list", "", 0, 0, 0, "admins", false, "the keys in the tokens", NULL, cli_do_key_list},
    {"key", "show", "[NAME|CKA_ID]", 0, 1, CLI_BIT(CLI_ENROLMENT),
     "admins; of a user key operators and auditors", false,
     "a key with its attributes as read back from the token, or every copy of a user key",
     "A user key is named by its CKA_ID in hex, or by --enrolment. Then each copy that is known is "
     "shown: in the token or as a blob, in a PFX that waits, in Intune; and those that can't be "
     "known here are named. What the token shows now is asked for where pfx-hsm may be asked.",
     cli_do_key_show},
    {"key", "export-public", "NAME", 1, 1, CLI_BIT(CLI_OUT) | CLI_BIT(CLI_FORMAT), "admins", false,
     "a key's public part as PEM, or as CNG blob",
     "With --format cng it is the BCRYPT_RSAPUBLIC_BLOB that Windows imports, of an RSA key: binary, "
     "so it goes to --out or a pipe, not to a terminal.",
     cli_do_key_export},
    {"key", "records", "", 0, 0, 0, "operators and auditors", false,
     "how many records in Intune name each generation of the encryption key",
     "Those of other keys stand in it, too, with provider, key name and last expiry; and each "
     "record that can't be rebuilt, with the reason and the day on which its certificate ends. "
     "\"at least\": Intune's list wasn't read whole since that generation sealed last.",
     cli_do_key_records},
    {"key", "exposed", "[GENERATION]", 0, 1, CLI_BIT(CLI_ALL), "operators and auditors", false,
     "whose user keys a compromised encryption key exposes, and how far their successors are",
     "Certificates that nobody replaces, and those that the CA didn't revoke, stand in the list, each "
     "with its next step; with --all every one. With the number of a generation that isn't "
     "compromised: what that would mean. Exit code 1 when some need a person.",
     cli_do_key_exposed},
    {"key", "rebuild", "", 0, 0, CLI_BIT(CLI_DRY_RUN) | CLI_BIT(CLI_WAIT), "operators", false,
     "seal every record anew to the active generation of the encryption key",
     "Each gets a new PFX of its kept key under a new password, and its record in Intune is updated "
     "and read back; the old one is valid until then. It goes on by itself, behind new enrolments, "
     "also after a restart; with --wait it is watched for so long. pause --rebuild holds it. "
     "After `key activate` of the earlier generation it is the way back. Exit code 1 when some are "
     "left at the end.",
     cli_do_key_rebuild},
    {"key", "status", "", 0, 0, 0, "admins", false,
     "the encryption key's generations: state, records, and what holds each back",
     "For each: who must act, when it moves by itself, and who staged it. Exit code 1 when none is "
     "active, or the end of encryption_key.rotate_every of hsm-policy.yaml is less than 30 days away, or "
     "past. Records that name a key of other software stand below as foreign.",
     cli_do_key_status},
    {"key", "rotate", "", 0, 0,
     CLI_BIT(CLI_PIN_FD) | CLI_BIT(CLI_PIN_FILE) | CLI_BIT(CLI_IF_DUE) | CLI_BIT(CLI_OUT) |
     CLI_BIT(CLI_ADOPT) | RECORDED,
     "admins", false, "make the next generation of the encryption key, and stage it",
     "Its public part goes into the folder of --out. Nothing uses it before key activate. With "
     "--adopt a key that the connector's provider made is taken over, which two people approve. "
     "Given again after it was cut off, it goes on where it ended. It leaves a record like init's. "
     "With --if-due it is for a timer: nothing is done, and no PIN read, unless the end of "
     "encryption_key.rotate_every is less than 30 days away and no generation is staged.",
     cli_do_key_rotate},
    {"key", "activate", "GENERATION", 1, 1, 0, "admins", false,
     "have new PFX files sealed to a generation",
     "A staged one waits until every connector of hsm-policy.yaml has confirmed it; a suspended one "
     "is the way back, at once. The one that was active is suspended: its records stay valid until "
     "pfx-agent key rebuild has replaced them.",
     cli_do_key_activate},
    {"key", "retire", "GENERATION", 1, 1, CLI_BIT(CLI_YES), "admins", false,
     "give a suspended generation up", "Refused while a record names it, or nobody knows.",
     cli_do_key_retire},
    {"key", "destroy", "GENERATION", 1, 1, CLI_BIT(CLI_PIN_FD) | CLI_BIT(CLI_YES) | RECORDED,
     "admins", false,
     "destroy a retired, compromised or staged generation in its token",
     "Two people approve it. Refused while a record names it. Destroyed means: not found any more in "
     "this token; backups and clones of the HSM aren't seen from here. It leaves a record like init's.",
     cli_do_key_destroy},
    {"key", "compromise", "GENERATION", 1, 1, CLI_BIT(CLI_REASON) | CLI_BIT(CLI_YES), "admins", false,
     "say that others may have a generation's private key",
     "Two people approve it. Nothing is sealed to it ever again. If it was the active one, enrolments "
     "wait until another one is activated. --reason is one word for the log.",
     cli_do_key_compromise},
    {"standing", "list", "", 0, 0, 0, "admins", false,
     "generations of the standing keys, and what each waits for", NULL, cli_do_standing_list},
    {"standing", "rotate", "KEY", 1, 1, CLI_BIT(CLI_OUT) | RECORDED, "admins", false,
     "make the next generation of a standing key",
     "Keys: client-NAME, one for each app registration; wrapping; mac. Nothing uses the new generation before "
     "`standing activate`. A client key's certificate is written into the folder of --out (default: "
     "the current one): give it to the app registration beside the one that is there. It leaves a "
     "record like init's.",
     cli_do_standing_rotate},
    {"standing", "activate", "KEY-N", 1, 1, 0, "admins", false,
     "put a generation of a standing key in force",
     "What is new is made with it from then on. The generation before stays, what it made is still "
     "accepted, and activating it again is the way back.",
     cli_do_standing_activate},
    {"standing", "rewrap", "", 0, 0, CLI_BIT(CLI_WAIT), "operators", false,
     "make what is kept of user keys anew under the wrapping key and MAC key in force",
     "After `standing activate` of one of them: pfx-hsm reads what the earlier ones made until then, "
     "and new enrolments go on meanwhile. It goes on by itself, also after a restart; with --wait it "
     "is watched for so long. Exit code 1 when some are left at the end.",
     cli_do_standing_rewrap},
    {"standing", "destroy", "KEY-N", 1, 1, CLI_BIT(CLI_YES) | RECORDED, "admins", false,
     "destroy a generation of a standing key that isn't in force",
     "Refused while something needs it. Destroyed means that it isn't found in this token any more; "
     "copies in backups of the token aren't known to the agent. It leaves a record like init's.",
     cli_do_standing_destroy},
    {"connector", "probe", "HOST", 1, 1, CLI_BIT(CLI_OUT), "admins", false,
     "write a sealed probe and a guide for a connector host",
     "A PowerShell script for the staged generation. It runs Microsoft's own validation service, then "
     "opens the probe and prints the answer for connector confirm.",
     cli_do_connector_probe},
    {"connector", "confirm", "HOST ANSWER", 2, 2, 0, "admins", false,
     "take the answer of a connector host", NULL, cli_do_connector_confirm},
    {"secret", "set", "NAME", 1, 1, CLI_BIT(CLI_FD), "admins", false,
     "store a secret, sealed to the HSM",
     "Asks for the value on the terminal without echo, or reads it from --fd. It never stands on "
     "the command line. Names: digicert (the API key for CertCentral), proxy (the password of "
     "proxy.user in uploader.yaml), cmp (the secret shared with a CA that speaks CMP).",
     cli_do_secret_set},
    {"secret", "status", "", 0, 0, 0, "admins", false, "which secrets are stored, and since when",
     NULL, cli_do_secret_status},
    {"log", "tail", "", 0, 0, CLI_BIT(CLI_LINES) | CLI_BIT(CLI_FOLLOW) | CLI_BIT(CLI_LOG_DIR),
     "auditors", false, "the newest entries of the operation log",
     "One line an entry, times in local time; * marks those that no signed checkpoint covers yet. "
     "With --json each entry stands as it is in the log. Needs no daemon.",
     cli_do_log_tail},
    {"log", "export", "DIR", 1, 1, CLI_BIT(CLI_NO_NAMES) | CLI_BIT(CLI_LOG_DIR), "auditors", false,
     "write the log for an auditor, as tlog-tiles",
     "Into a new or empty folder, or an earlier export of the same log, to which only what is new "
     "is added. With it: public keys, checkpoints, the anchor, policy texts, and the name map in a "
     "file of its own (names.jsonl: personal data) when pfx-agentd answers. Needs no daemon, and "
     "pfx-hsm may go on writing.",
     cli_do_log_export},
    {"log", "receipt", "ENTRY", 1, 1, CLI_BIT(CLI_OUT) | CLI_BIT(CLI_LOG_DIR), "auditors", false,
     "the proof that an entry stands in the log, as tlog-proof",
     "ENTRY is its number, or the SHA-256 of a PFX: then the entry that released it. The receipt "
     "goes to standard output, or to the file of --out. Needs no daemon.",
     cli_do_log_receipt},
    {"log", "status", "", 0, 0, CLI_BIT(CLI_LOG_DIR), "admins and auditors", false,
     "size, anchor, lag, uncovered tail and reserve of the log",
     "Asks pfx-hsm; when it doesn't answer, or --log-dir names a folder, says what the folder says "
     "by itself. Exit code 1 when something is bad.",
     cli_do_log_status},
    {"log", "rotate-key", "", 0, 0, CLI_BIT(CLI_YES) | RECORDED, "admins", false,
     "make a new log key",
     "An entry under the old key names the new one, and the next checkpoint has both signatures. It "
     "leaves a record like init's.",
     cli_do_log_rotate_key},
    {"log", "reopen", "", 0, 0, CLI_BIT(CLI_YES) | RECORDED, "admins", false,
     "begin a successor of a log that was lost or cut",
     "The log that is here is set aside. The successor has an origin of its own, and its first "
     "entry says what the token's anchor covered, what was here, and who approved it (pfx-agent "
     "approve); or, where hsm-policy.yaml has no approvals, that root on the admin socket alone "
     "permitted it: a weak approval, which stays in the log. It leaves a record like init's.",
     cli_do_log_reopen},
    {"backup", "create", "FILE", 1, 1, 0, "root", false,
     "write everything outside of the tokens into one archive",
     "The store, the operation log up to its newest checkpoint, pfx-hsm's state and the "
     "configuration, as a tar file with a manifest. The manifest's hash goes into the operation "
     "log, and the proof of that into the archive. No PIN, no token object, no PFX and no password "
     "is in it; keys that are kept as blobs are, under the wrapping key. Both daemons must run.",
     cli_do_backup_create},
    {"backup", "verify", "FILE", 1, 1, CLI_BIT(CLI_VKEY) | CLI_BIT(CLI_LOG_DIR), "anyone", false,
     "is the archive what this host made, and how far does its log go?",
     "Reads all of it. Exit code 0: every file is as the manifest says, the manifest as the log's "
     "entry says, and a key that is known signed that: one of --vkey, or of the log on this host. 1: "
     "the same, but nobody here knows the key. 6: it was changed or damaged.",
     cli_do_backup_verify},
    {NULL, "restore", "FILE", 1, 1,
     CLI_BIT(CLI_VKEY) | CLI_BIT(CLI_LOG_DIR) | CLI_BIT(CLI_PUT_ASIDE) | CLI_BIT(CLI_YES), "root",
     false, "bring back what a backup has",
     "With the daemons stopped. Checks all of the archive and shows every place before it asks; "
     "writes nothing over anything, and deletes nothing. It can be run again after it was cut off. "
     "PIN files are to be put back by hand; then `log reopen` begins the log's successor.",
     cli_do_restore},
    {NULL, "pause", "", 0, 0, CLI_BIT(CLI_ORDERS) | CLI_BIT(CLI_UPLOADS) | CLI_BIT(CLI_REBUILD),
     "operators", false, "hold new orders, imports to Intune, or a rebuild", NULL, cli_do_pause},
    {NULL, "resume", "", 0, 0, CLI_BIT(CLI_ORDERS) | CLI_BIT(CLI_UPLOADS) | CLI_BIT(CLI_REBUILD),
     "operators", false, "let them go on", NULL, cli_do_pause},
    {"policy", "approve", "", 0, 0, 0, "admins", false,
     "have a changed hsm-policy.yaml or roster approved",
     "Where the policy names approvals, pfx-hsm does nothing with a key after a change of it or of "
     "the roster, until people of the old roster have approved that (pfx-agent approve), this "
     "command was given again, and pfx-hsm was restarted.",
     cli_do_policy_approve},
    {NULL, "approve", "[ID]", 0, 1,
     CLI_BIT(CLI_KEY) | CLI_BIT(CLI_SIGNATURE) | CLI_BIT(CLI_YES), "admins", false,
     "approve a dangerous command with your signature",
     "Without an ID: what waits for approvals. With one: everything that would be done, and what "
     "exactly is signed; the hash of it is computed here, too. --key signs it with ssh-keygen "
     "(a file, a security key, or a key in an agent) and sends the signature; without it the "
     "commands are printed with which it can be signed elsewhere. Who asked for the command can't "
     "approve it.",
     cli_do_approve},
    {"hsm", "test", "", 0, 0, CLI_BIT(CLI_PIN_FD), "admins", false,
     "try every mechanism on the tokens, and say what it is used for",
     "Shows what the token advertises, what happened when it was tried, and the export tier that "
     "it reaches. Throwaway keys only; leaves nothing behind. With --pin-fd the encryption token "
     "is tried with a login, too.",
     cli_do_hsm_test},
    {"config", "check", "[FILE]...", 0, 64, CLI_BIT(CLI_AS), "anyone", false,
     "read the configuration files and name every mistake",
     "Without a file: agent.yaml, uploader.yaml and hsm-policy.yaml in /etc/pfx-agent. A file's "
     "kind follows from its name, or from --as. Exit code 1 when there is a finding.",
     cli_do_config_check},
    {"config", "example", "agent|uploader|hsm-policy", 1, 1, 0, "anyone", false,
     "print a configuration file with every option, its default and its help", NULL,
     cli_do_config_example},
    {NULL, "help", "[VERB]", 0, 2, 0, "anyone", false, "this overview, or all about a verb", NULL,
     cli_do_help},
    {NULL, "man", "[agent|uploader|hsm-policy]", 0, 1, 0, "anyone", true,
     "a man page, as roff: of the program, or of a configuration file", NULL, cli_do_man},
    {NULL, "completion", "", 0, 0, 0, "anyone", true, "completion for bash", NULL,
     cli_do_completion},
    {NULL, NULL, NULL, 0, 0, 0, NULL, false, NULL, NULL, NULL},
};
