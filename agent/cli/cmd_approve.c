/* approve: what waits for approvals; one of them in full; and the signature, by ssh-keygen. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"
#include "crypto/approval.h"
#include "crypto/canon.h"
#include "crypto/encode.h"

#define SILENCE_S 60
#define FACT_WIDTH 12
#define ARG_WIDTH 17 /* "public_key_sha256" */

extern char **environ;

struct question { /* as pfx-hsm shows it */
    struct cli *cli;
    char id[16], mode[8];
    struct pfx_statement statement;
    char *text; /* what is signed */
    char *args, *asker;
    int64_t needed;
    size_t n_given;
    struct cli_table *table; /* of the list */
    bool quiet;              /* the answer to a signature: told in one line */
};

static void question_done(struct question *question)
{
    free(question->text);
    free(question->args);
    free(question->asker);
}

static char *given_text(const struct pfx_msg *item)
{
    struct pfx_buf names PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    size_t n = pfx_msg_count(item, "given");
    pfx_buf_addf(&names, "%zu of %lld", n, (long long)pfx_msg_int(item, "needed"));
    for (size_t i = 0; i < n; i++)
        pfx_buf_addf(&names, "%s%s", i ? ", " : ": ", pfx_msg_str_at(item, "given", i));
    return pfx_strdup(pfx_buf_str(&names));
}

static void line(int width, const char *name, const char *value)
{
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4 * PFX_APPROVAL_ARGS_MAX);
    cli_clean(value, &clean);
    (void)printf("  %s%-*s%s%s%s\n", cli_tone(stdout, CLI_DIM), width, name,
                 cli_tone_end(stdout, CLI_DIM), clean.len ? " " : "", pfx_buf_str(&clean));
}

static void list_item(void *ctx, const struct pfx_msg *item)
{
    struct question *question = ctx;
    char when[PFX_TIME_SIZE];
    if (question->cli->given[CLI_JSON]) {
        cli_json_item("approve", item);
        return;
    }
    char *given PFX_AUTOFREE = given_text(item);
    cli_table_add(question->table, pfx_msg_str(item, "id"), CLI_BOLD);
    cli_table_add(question->table, pfx_msg_str(item, "command"), CLI_PLAIN);
    cli_table_add(question->table, pfx_msg_str(item, "asker"), CLI_PLAIN);
    cli_table_add(question->table, given, CLI_PLAIN);
    cli_table_add(question->table, cli_time(pfx_msg_int(item, "expiry"), when), CLI_PLAIN);
}

static void show_item(void *ctx, const struct pfx_msg *item)
{
    struct question *question = ctx;
    question->needed = pfx_msg_int(item, "needed");
    question->n_given = pfx_msg_count(item, "given");
    if (question->quiet)
        return;
    if (question->cli->given[CLI_JSON])
        cli_json_item("approve", item);
    (void)snprintf(question->mode, sizeof question->mode, "%s", pfx_msg_str(item, "mode"));
    if (question->text || !pfx_msg_has(item, "statement") || !pfx_msg_has(item, "args"))
        return;
    question->text = pfx_strdup(pfx_msg_str(item, "statement"));
    question->args = pfx_strdup(pfx_msg_str(item, "args"));
    question->asker = pfx_strdup(pfx_msg_str(item, "asker"));
}

static struct pfx_bytes text_of(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

/* What is shown is what is signed: the statement is read here, and the arguments hashed here. */
static pfx_result check(struct question *question, struct pfx_error *err)
{
    char hash[65];
    struct pfx_error why = PFX_ERROR_NONE;
    if (question->text && question->args &&
        pfx_ok(pfx_statement_parse(text_of(question->text), &question->statement, &why)) &&
        pfx_ok(pfx_approval_args(text_of(question->args), hash, &why)) &&
        strcmp(hash, question->statement.args_hash) == 0 &&
        strncmp(question->statement.nonce, question->id, 8) == 0)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "approve", question->id, "",
                    "What pfx-hsm shows isn't what would be signed. Nothing was signed.");
}

/* A NUL would hide what follows it, and that is signed, too. */
static void text_into(const struct pfx_canon_value *value, struct pfx_buf *text)
{
    if (!pfx_canon_unescape(value, text))
        pfx_buf_add(text, value->raw.data, value->raw.len);
    for (size_t i = 0; i < text->len; i++)
        if (text->data[i] == '\0')
            text->data[i] = 0x01; /* shown as '?' */
}

/* Changed lines of a file, say: one below the other. */
static bool show_element(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4 * PFX_APPROVAL_ARGS_MAX);
    size_t *n = ctx;
    text_into(value, &text);
    cli_clean(pfx_buf_str(&text), &clean);
    (void)printf("        | %s\n", pfx_buf_str(&clean));
    ++*n;
    return true;
}

static bool show_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                        const struct pfx_canon_value *value)
{
    struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    (void)ctx;
    if (value->kind == PFX_CANON_OBJ && value->raw.len == 0)
        return true; /* its members follow */
    if (group.data)
        pfx_buf_addf(&name, "%.*s.", (int)group.len, (const char *)group.data);
    pfx_buf_add(&name, key.data, key.len);
    if (value->kind == PFX_CANON_ARR) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        size_t n = 0;
        (void)printf("    ");
        line(ARG_WIDTH, pfx_buf_str(&name), "");
        (void)!pfx_ok(pfx_canon_elements(value->raw, show_element, &n, &ignored));
        if (n == 0)
            (void)printf("        (none)\n");
        return true;
    }
    text_into(value, &text);
    (void)printf("    ");
    line(ARG_WIDTH, pfx_buf_str(&name), pfx_buf_str(&text));
    return true;
}

static void show(const struct question *question)
{
    const struct pfx_statement *s = &question->statement;
    char when[PFX_TIME_SIZE], counts[64];
    struct pfx_error ignored = PFX_ERROR_NONE;
    (void)snprintf(counts, sizeof counts, "%zu of %lld so far", question->n_given,
                   (long long)question->needed);
    (void)printf("%s%s%s\n", cli_tone(stdout, CLI_BOLD), s->command, cli_tone_end(stdout, CLI_BOLD));
    (void)!pfx_ok(pfx_canon_scan(text_of(question->args), show_member, NULL, &ignored));
    line(FACT_WIDTH, "asked by", question->asker);
    line(FACT_WIDTH, "log", s->origin);
    line(FACT_WIDTH, "until", pfx_time_format(s->expiry_ms, false, when));
    line(FACT_WIDTH, "approved", counts);
    line(FACT_WIDTH, "hash", s->args_hash);
    line(FACT_WIDTH, "signed is", question->text);
    (void)fflush(stdout);
}

/* --- signing --- */

static void close_both(int (*pair)[2])
{
    for (size_t i = 0; i < 2; i++)
        if ((*pair)[i] >= 0)
            (void)close((*pair)[i]);
}

static pfx_result no_signature(struct pfx_error *err, const char *code, const char *text)
{
    return pfx_fail(err, PFX_CLASS_USAGE, "sign", "ssh-keygen", code, "%s", text);
}

/* ssh-keygen asks for a passphrase or a touch on the terminal by itself; a key in an agent is named
 * by its public half. Nothing secret passes here. */
static pfx_result sign(const char *key, const char *text, struct pfx_buf *out,
                       struct pfx_error *err)
{
    char *const argv[] = {"ssh-keygen",          "-q", "-Y", "sign", "-n", PFX_APPROVAL_NAMESPACE,
                          "-f", (char *)(uintptr_t)key, NULL};
    PFX_CLEANUP(close_both) int in[2] = {-1, -1};
    PFX_CLEANUP(close_both) int back[2] = {-1, -1};
    pid_t pid;
    int status = 0, errnum;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0)
        return pfx_fail_errno(err, errno, "sign", "pipe", "");
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, back[1], STDOUT_FILENO);
    errnum = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (errnum != 0)
        return pfx_fail_errno(err, errnum, "sign", "ssh-keygen",
                              "Install OpenSSH's client, or sign elsewhere and give --signature.");
    /* It fits into the pipe: at most PFX_STATEMENT_MAX bytes. */
    (void)!write(in[1], text, strlen(text));
    close_both(&in);
    in[0] = in[1] = -1;
    (void)close(back[1]);
    back[1] = -1;
    for (;;) {
        char chunk[1024];
        ssize_t n = read(back[0], chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || !pfx_buf_add(out, chunk, (size_t)n))
            break;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || out->len == 0 || out->over)
        return no_signature(err, "", "It made no signature; what it said stands above.");
    return PFX_OK;
}

static pfx_result signature(const struct question *question, struct pfx_buf *out,
                            struct pfx_error *err)
{
    const struct cli *cli = question->cli;
    if (cli->given[CLI_SIGNATURE])
        PFX_TRY(pfx_file_read(cli->values[CLI_SIGNATURE], PFX_SSHSIG_TEXT_MAX, out, err));
    else
        PFX_TRY(sign(cli->values[CLI_KEY], question->text, out, err));
    /* Told here, before it stands in the log as a refusal. */
    struct pfx_buf blob PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_SSHSIG_MAX);
    struct pfx_sshsig sig;
    PFX_TRY(pfx_sshsig_unarmor(pfx_buf_bytes(out), &blob, err));
    PFX_TRY(pfx_sshsig_parse(pfx_buf_bytes(&blob), &sig, err));
    return pfx_sshsig_verify(&sig, PFX_APPROVAL_NAMESPACE, text_of(question->text), err);
}

static int give(struct question *question, const char *text)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "approval.give");
    pfx_msg_set_str(args, "id", question->id);
    if (text)
        pfx_msg_set_str(args, "signature", text);
    question->quiet = true;
    struct cli_ask ask = {CLI_HSM, "approval.give", args, SILENCE_S, show_item, NULL, question};
    int code = cli_ask_report(question->cli, &ask);
    if (code == CLI_EXIT_OK)
        cli_say("approved: %zu of %lld people; %s", question->n_given, (long long)question->needed,
                question->n_given < (size_t)question->needed
                    ? "more are needed"
                    : "who asked can give the command again now");
    return code;
}

static int elsewhere(const struct question *question)
{
    /* Its form has none; it would end the quotes of the shell. */
    bool quoted = strchr(question->text, '\'') == NULL;
    cli_say("To approve it, sign with your key in the roster, which may be a security key or in an "
            "agent (then name its .pub file):");
    cli_say("  pfx-agent approve %s --key ~/.ssh/id_ed25519", question->id);
    if (!quoted)
        return CLI_EXIT_OK;
    cli_say("or on another machine, and bring the signature here:");
    cli_say("  printf %%s '%s' | ssh-keygen -Y sign -n " PFX_APPROVAL_NAMESPACE
            " -f ~/.ssh/id_ed25519 > approval.sig",
            question->text);
    cli_say("  pfx-agent approve %s --signature approval.sig", question->id);
    return CLI_EXIT_OK;
}

static int approve(struct question *question)
{
    struct cli *cli = question->cli;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_SSHSIG_TEXT_MAX);
    bool by_uid = strcmp(question->mode, "uid") == 0;
    bool signs = cli->given[CLI_KEY] || cli->given[CLI_SIGNATURE];
    if (cli->given[CLI_JSON] && !(by_uid ? cli->given[CLI_YES] : signs))
        return CLI_EXIT_OK; /* shown, for a program */
    if (!by_uid && !signs)
        return elsewhere(question);
    if (!cli->given[CLI_SIGNATURE]) {
        int code = cli_confirm(cli, "Approve exactly this?");
        if (code != CLI_EXIT_OK)
            return code;
    }
    if (by_uid)
        return give(question, NULL);
    if (pfx_failed(signature(question, &text, &err)))
        return cli_fail(&err);
    return give(question, pfx_buf_str(&text));
}

static void policy_item(void *ctx, const struct pfx_msg *item)
{
    struct cli *cli = ctx;
    if (cli->given[CLI_JSON])
        cli_json_item("policy-approve", item);
    else if (pfx_msg_has(item, "text"))
        cli_say("%s", pfx_msg_str(item, "text"));
}

int cli_do_policy_approve(struct cli *cli)
{
    struct cli_ask ask = {CLI_HSM, "policy.approve", NULL, SILENCE_S, policy_item, NULL, cli};
    return cli_ask_report(cli, &ask);
}

static int list(struct cli *cli)
{
    static const char *const titles[] = {"ID", "COMMAND", "ASKED BY", "APPROVED", "UNTIL", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 3);
    struct question question = {.cli = cli, .table = table};
    struct cli_ask ask = {CLI_HSM, "approval.list", NULL, SILENCE_S, list_item, NULL, &question};
    int code = cli_ask_report(cli, &ask);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    else if (code == CLI_EXIT_OK && !cli->given[CLI_JSON])
        cli_say("nothing waits for approvals");
    return code;
}

int cli_do_approve(struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (cli->n_operands == 0)
        return list(cli);
    PFX_CLEANUP(question_done) struct question question = {.cli = cli};
    bool both = cli->given[CLI_KEY] && cli->given[CLI_SIGNATURE];
    if (both || strlen(cli->operands[0]) != 8) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "%s",
                               both ? "give --key or --signature, not both"
                                    : "an ID has 8 digits, as pfx-agent approve lists them"));
        return cli_fail(&err);
    }
    (void)snprintf(question.id, sizeof question.id, "%s", cli->operands[0]);
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "approval.show");
    pfx_msg_set_str(args, "id", question.id);
    struct cli_ask ask = {CLI_HSM, "approval.show", args, SILENCE_S, show_item, NULL, &question};
    int code = cli_ask_report(cli, &ask);
    if (code != CLI_EXIT_OK)
        return code;
    if (pfx_failed(check(&question, &err)))
        return cli_fail(&err);
    if (!cli->given[CLI_JSON])
        show(&question);
    return approve(&question);
}
