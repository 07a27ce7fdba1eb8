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
    [CLI_OUT] = {"out", "PATH", "where to write: a folder for init, a file for key export-public"},
    [CLI_ONCE] = {"once", NULL, "one pass over the group now"},
    [CLI_DRY_RUN] = {"dry-run", NULL, "only list what would be ordered and why; spends nothing"},
    [CLI_WAIT] = {"wait", "DURATION", "go on polling the CA that long: 90s, 5m, 2h"},
    [CLI_USER] = {"user", "USER", "enrolments of this user: UPN or object id"},
    [CLI_STATE] = {"state", "STATE", "enrolments in this state, as the list shows it"},
    [CLI_ALL] = {"all", NULL, "everything: every enrolment, ended ones too; every fact of status"},
    [CLI_FD] = {"fd", "N", "read the secret from this file descriptor, not the terminal"},
    [CLI_ORDERS] = {"orders", NULL, "orders at the CA"},
    [CLI_UPLOADS] = {"uploads", NULL, "imports to Intune"},
    [CLI_AS] = {"as", "KIND", "what the files are: agent, uploader or hsm-policy"},
};

#define SELECT (CLI_BIT(CLI_USER) | CLI_BIT(CLI_STATE) | CLI_BIT(CLI_ALL))

const struct cli_verb cli_verbs[] = {
    {NULL, "init", "", 0, 0, CLI_BIT(CLI_PIN_FD) | CLI_BIT(CLI_OUT), "admins", false,
     "probe the tokens, then make all keys",
     "Asks for the PIN of the encryption token on the terminal, makes what is missing, and prints "
     "every key with its fingerprint. The encryption key's public part and the client key's "
     "certificate are written into the folder of --out (default: the current one); a file with "
     "other content is never overwritten. Running it again makes nothing twice.",
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
    {"key", "list", "", 0, 0, 0, "admins", false, "the keys in the tokens", NULL, cli_do_key_list},
    {"key", "show", "NAME", 1, 1, 0, "admins", false,
     "a key with its attributes as read back from the token", NULL, cli_do_key_show},
    {"key", "export-public", "NAME", 1, 1, CLI_BIT(CLI_OUT), "admins", false,
     "a key's public part as PEM", NULL, cli_do_key_export},
    {"secret", "set", "NAME", 1, 1, CLI_BIT(CLI_FD), "admins", false,
     "store a secret, sealed to the HSM",
     "Asks for the value on the terminal without echo, or reads it from --fd. It never stands on "
     "the command line. The only name so far is digicert: the API key for CertCentral.",
     cli_do_secret_set},
    {"secret", "status", "", 0, 0, 0, "admins", false, "which secrets are stored, and since when",
     NULL, cli_do_secret_status},
    {NULL, "pause", "", 0, 0, CLI_BIT(CLI_ORDERS) | CLI_BIT(CLI_UPLOADS), "operators", false,
     "hold new orders, or imports to Intune", NULL, cli_do_pause},
    {NULL, "resume", "", 0, 0, CLI_BIT(CLI_ORDERS) | CLI_BIT(CLI_UPLOADS), "operators", false,
     "let them go on", NULL, cli_do_pause},
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
