/*
 * The command line `pfx-agent`: what its files share.
 *
 * Data goes to stdout, everything else to stderr. Exit codes: 0 done or yes; 1 no, or a finding;
 * 2 usage; 3 agent unreachable; 4 refused; 5 HSM unavailable, try again; 6 integrity; 70 internal.
 */
#ifndef PFX_AGENT_CLI_CLI_H
#define PFX_AGENT_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "api/wire/messages.h"
#include "crypto/mem.h"
#include "crypto/result.h"
#include "crypto/secret.h"

#define CLI_EXIT_OK 0
#define CLI_EXIT_NO 1
#define CLI_EXIT_USAGE 2
#define CLI_EXIT_UNREACHABLE 3
#define CLI_EXIT_REFUSED 4
#define CLI_EXIT_INTERNAL 70

/* Every option of every verb; cli_options in verbs.c has a row for each. */
enum cli_option_id {
    CLI_JSON,
    CLI_CONFIG,
    CLI_RUN_DIR,
    CLI_CLI_SOCKET,
    CLI_ADMIN_SOCKET,
    CLI_HELP,
    CLI_VERSION,
    CLI_PIN_FD,
    CLI_OUT,
    CLI_ONCE,
    CLI_DRY_RUN,
    CLI_WAIT,
    CLI_USER,
    CLI_STATE,
    CLI_ALL,
    CLI_FD,
    CLI_ORDERS,
    CLI_UPLOADS,
    CLI_REBUILD,
    CLI_AS,
    CLI_FORMAT,
    CLI_REASON,
    CLI_YES,
    CLI_LOG_DIR,
    CLI_LINES,
    CLI_FOLLOW,
    CLI_NO_NAMES,
    CLI_RECORD,
    CLI_WITNESS,
    CLI_IF_DUE,
    CLI_PIN_FILE,
    CLI_KEY,
    CLI_SIGNATURE,
    CLI_VKEY,
    CLI_PUT_ASIDE,
    CLI_ADOPT,
    CLI_ENROLMENT,
    CLI_OPTION_COUNT,
};
#define CLI_WITNESSES 12
#define CLI_BIT(id) (UINT64_C(1) << (id))
#define CLI_GLOBAL                                                                                 \
    (CLI_BIT(CLI_JSON) | CLI_BIT(CLI_CONFIG) | CLI_BIT(CLI_RUN_DIR) | CLI_BIT(CLI_CLI_SOCKET) |    \
     CLI_BIT(CLI_ADMIN_SOCKET) | CLI_BIT(CLI_HELP))

struct cli_option {
    const char *name; /* without the dashes */
    const char *arg;  /* what its value is called; NULL: takes none */
    const char *help;
};
extern const struct cli_option cli_options[CLI_OPTION_COUNT];
/* The few that have a letter, too: "-n"; 0 otherwise. */
char cli_option_letter(enum cli_option_id id);

struct cli;
/* One row for each verb. */
struct cli_verb {
    const char *noun; /* NULL: the verb stands alone */
    const char *verb;
    const char *operands; /* as the help shows them; "" if none */
    unsigned min_operands, max_operands;
    uint64_t options; /* besides the global ones */
    const char *who;  /* operators, auditors, admins, anyone */
    bool hidden;      /* for packaging; not in the help */
    const char *help; /* one sentence */
    const char *more; /* a paragraph for `help VERB` and the man page, or NULL */
    int (*function)(struct cli *cli);
};
extern const struct cli_verb cli_verbs[]; /* ends with verb NULL */

/* One call of the program. */
struct cli {
    const struct cli_verb *verb;
    bool given[CLI_OPTION_COUNT];
    const char *values[CLI_OPTION_COUNT]; /* borrowed from argv */
    const char *witnesses[CLI_WITNESSES]; /* of --witness, which may stand several times */
    size_t n_witnesses;
    const char **operands;                /* owned vector, borrowed strings; ends with NULL */
    size_t n_operands;
};
/* Fills *cli from the arguments (argv[0] is skipped). USAGE with a sentence that names the mistake
 * and the nearest right word; it never repeats a value that could be a secret. */
PFX_MUST_USE pfx_result cli_parse(int argc, char *const *argv, struct cli *cli,
                                  struct pfx_error *err);
void cli_done(struct cli *cli);
/* "enrolment list" of a verb; buf has 64 bytes. */
const char *cli_verb_name(const struct cli_verb *verb, char *buf);
const struct cli_verb *cli_verb_find(const char *noun, const char *verb);
/* The candidate (NULL-terminated) that word was probably meant to be, or NULL. */
const char *cli_nearest(const char *word, const char *const *candidates);
/* A file descriptor's number from an option; USAGE otherwise. */
PFX_MUST_USE pfx_result cli_fd_value(const struct cli *cli, enum cli_option_id id, int *ret_fd,
                                     struct pfx_error *err);
/* "90", "90s", "5m", "2h", "1d" as seconds, at most a day. */
PFX_MUST_USE pfx_result cli_duration(const char *text, int64_t *ret_seconds, struct pfx_error *err);

/* Prints one line on stderr, cleaned, and returns the exit code of its class. */
int cli_fail(const struct pfx_error *err);
void cli_say(const char *fmt, ...) PFX_PRINTF(1, 2); /* a line on stderr */
/* Asks "question Type yes to go on:" on the terminal unless --yes was given. CLI_EXIT_NO: the answer
 * was no; CLI_EXIT_USAGE: there is no terminal to ask on. Both have been told. */
int cli_confirm(const struct cli *cli, const char *question);
/* A JSON line on stdout: the message's members behind "schema":"pfx-agent/NAME/1". */
void cli_json_item(const char *name, const struct pfx_msg *item);

/* Asking a daemon. */
enum cli_peer { CLI_AGENT, CLI_HSM };
/* The socket's path for this call, by options, environment, agent.yaml, default. Free it. */
PFX_MUST_USE pfx_result cli_socket(const struct cli *cli, enum cli_peer peer, char **ret_path,
                                   struct pfx_error *err);
struct cli_ask {
    enum cli_peer peer;
    const char *verb;           /* on the wire */
    const struct pfx_msg *args; /* NULL: none */
    unsigned silence_s;         /* longest time without any item */
    void (*item)(void *ctx, const struct pfx_msg *item);
    void (*idle)(void *ctx); /* several times a second while nothing comes; may be NULL */
    void *ctx;
};
/* Sends and hands out the items. OK: the daemon has answered, *ret_exit is its exit code and err
 * its reason. A failure is of this side: nobody listens, the line broke, or the answer is
 * malformed; the exit code then stands in *ret_exit too. */
PFX_MUST_USE pfx_result cli_ask(const struct cli *cli, const struct cli_ask *ask, int *ret_exit,
                                struct pfx_error *err);
/* The same; reports a failure on stderr and returns the exit code. */
int cli_ask_report(const struct cli *cli, const struct cli_ask *ask);
/* Whether pfx-hsm answers at all, before somebody types a PIN or a secret for nothing; reports on
 * stderr why it doesn't, and returns the exit code. */
int cli_hsm_there(const struct cli *cli, unsigned silence_s);
/* One request for each operand, or a single one (with NULL) where there are none; `fill` makes its
 * args, ask->args isn't used. Goes on after a refusal, but not when nobody listens. Returns the
 * highest exit code. */
int cli_ask_each(const struct cli *cli, const struct cli_ask *ask, const char *const *operands,
                 size_t n,
                 void (*fill)(const struct cli *cli, const char *operand, struct pfx_msg *args));
struct pfx_msg *cli_args_new(enum cli_peer peer, const char *verb);

/* Secrets from the terminal without echo (fd < 0), or from a file descriptor. */
PFX_MUST_USE pfx_result cli_secret_read(int fd, const char *prompt, const char *what, size_t max,
                                        struct pfx_secret **ret_secret, struct pfx_error *err);
/* Puts it into a member that the schema marks as secret. */
PFX_MUST_USE pfx_result cli_secret_put(struct pfx_msg *msg, const char *member,
                                       const struct pfx_secret *secret, struct pfx_error *err);

/* A ceremony's options: is the folder of --record there? Adds --witness to the arguments (NULL: not
 * yet). The exit code; it has been told. */
int cli_record_args(const struct cli *cli, struct pfx_msg *args);
/* Is it an item of kind "record"? Then its page goes into the folder of --record, and where pfx-hsm
 * keeps it is in *ret_text (borrowed; NULL: told by another item). *ret_code: unless 0, told. */
bool cli_record_item(const struct cli *cli, const struct pfx_msg *item, const char **ret_text,
                     int *ret_code);
/* May be written to? Else told, with the option that names it; the exit code. */
int cli_folder_ok(const char *path, const char *option);

/* Writes text to dir/name unless a different file is there. *ret_fresh: it was written now. */
PFX_MUST_USE pfx_result cli_file_put(const char *dir, const char *name, const char *text,
                                     bool *ret_fresh, struct pfx_error *err);
/* The same, in place of an earlier file whose first two lines are those of the text. */
PFX_MUST_USE pfx_result cli_file_renew(const char *dir, const char *name, const char *text,
                                       bool *ret_fresh, struct pfx_error *err);
PFX_MUST_USE pfx_result cli_file_put_bytes(const char *dir, const char *name,
                                           struct pfx_bytes content, bool *ret_fresh,
                                           struct pfx_error *err);

/* Progress on stderr: a bar on a terminal, now and then a line otherwise. */
struct cli_progress {
    char phase[128];
    char more[48]; /* behind it on the terminal: what changes all the time, like an estimate */
    int64_t done, total; /* total 0: unknown, only the phase is shown */
    int64_t started_ms, drawn_ms;
    bool on_screen;
    bool quiet;
};
void cli_progress_start(struct cli_progress *progress, const char *phase);
void cli_progress_show(struct cli_progress *progress, const char *phase, int64_t done,
                       int64_t total);
void cli_progress_tick(struct cli_progress *progress);  /* redraws the time on a terminal */
void cli_progress_clear(struct cli_progress *progress); /* before anything else is printed */

/* Verbs. */
int cli_do_init(struct cli *cli);
int cli_do_run(struct cli *cli);
int cli_do_status(struct cli *cli);
int cli_do_enrolment_list(struct cli *cli);
int cli_do_enrolment_show(struct cli *cli);
int cli_do_enrolment_change(struct cli *cli);
int cli_do_enrolment_revoke(struct cli *cli);
int cli_do_record_list(struct cli *cli);
int cli_do_record_remove(struct cli *cli);
int cli_do_setup(struct cli *cli);
int cli_do_pause(struct cli *cli);
int cli_do_approve(struct cli *cli);
int cli_do_policy_approve(struct cli *cli);
int cli_do_hsm_test(struct cli *cli);
int cli_do_key_list(struct cli *cli);
int cli_do_key_rotate(struct cli *cli);
int cli_do_key_activate(struct cli *cli);
int cli_do_key_retire(struct cli *cli);
int cli_do_key_destroy(struct cli *cli);
int cli_do_key_compromise(struct cli *cli);
int cli_do_key_status(struct cli *cli);
int cli_do_connector_probe(struct cli *cli);
int cli_do_connector_confirm(struct cli *cli);
/* cmd_copies.c: key show of a user key, and whether a name is such a key's CKA_ID. */
bool cli_is_key_id(const char *text);
int cli_key_copies(struct cli *cli);
int cli_do_key_show(struct cli *cli);
int cli_do_key_rebuild(struct cli *cli);
int cli_do_key_exposed(struct cli *cli);
/* On stderr: whom calling this generation compromised would concern, as far as pfx-agentd says. */
void cli_exposed_say(const struct cli *cli, unsigned generation);
int cli_do_key_records(struct cli *cli);
int cli_do_key_export(struct cli *cli);
int cli_do_standing_list(struct cli *cli);
int cli_do_standing_rotate(struct cli *cli);
int cli_do_standing_activate(struct cli *cli);
int cli_do_standing_destroy(struct cli *cli);
int cli_do_standing_rewrap(struct cli *cli);
int cli_do_secret_set(struct cli *cli);
int cli_do_secret_status(struct cli *cli);
int cli_do_log_tail(struct cli *cli);
int cli_do_log_export(struct cli *cli);
int cli_do_log_receipt(struct cli *cli);
int cli_do_log_status(struct cli *cli);
int cli_do_log_rotate_key(struct cli *cli);
int cli_do_log_reopen(struct cli *cli);
int cli_do_backup_create(struct cli *cli);
int cli_do_backup_verify(struct cli *cli);
int cli_do_restore(struct cli *cli);
int cli_do_config_check(struct cli *cli);
int cli_do_config_example(struct cli *cli);
int cli_do_help(struct cli *cli);
int cli_do_man(struct cli *cli);
int cli_do_completion(struct cli *cli);

#endif
