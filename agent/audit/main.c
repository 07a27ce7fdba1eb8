/* pfx-audit: reads the command line, calls the command, and makes its result the exit code. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent/audit/options.h"
#include "agent/audit/text.h"

#define UNVERIFIED                                                                                 \
    " Nothing is verified by this command, and it says so: run verify first. A damaged export is " \
    "read as far as it goes, and what wasn't presented is said."

const struct pfx_audit_command pfx_audit_commands[] = {
    {"verify", "DIR...", 1, 64, "say whether an exported log, or a set of them, can be believed",
     "Checks the form of each entry, their sequence, the tree, every checkpoint's signature "
     "and its consistency with the one before, key changes and the anchor; then what the "
     "entries mean. The verdict comes first, then findings, then what was not proven. --key is "
     "the log's public key as you got it yourself, not from the export.",
     false, pfx_audit_verify},
    {"show", "DIR", 1, 1, "entries one by one: a table, JSON lines or CSV",
     "Filters that are given must all hold; --event, --outcome, --tier, --src and --op take "
     "lists with commas, and patterns with * and ?. A result is shown with what its intent "
     "says, so that --user finds it, too. OUTCOME \"...\" is an intent. With a name map users "
     "are shown by name: that a name belongs to a hash is the host's word." UNVERIFIED,
     false, pfx_audit_show},
    {"history", "DIR USER|KEY|ORDER", 2, 2,
     "a timeline: the enrolments of a user, a key or an order",
     "A user is named by object id, UPN, address or hash; a key by its id, or by the SHA-256 "
     "of its public part, or the first 8 digits or more of one; an order by the CA's number or "
     "transaction. The thumbprint or SHA-256 of a certificate does it, too. Each intent "
     "stands with its result on one line. Exit code 1 when no entry names it." UNVERIFIED,
     false, pfx_audit_history},
    {"stats", "DIR", 1, 1, "how much of what, by event, outcome and day, and when most",
     "Takes the filters of show. Rates are by the host's clock." UNVERIFIED, false,
     pfx_audit_stats},
    {"prove", "DIR N", 2, 2, "write a receipt (.tlog-proof) for entry N",
     "The proof is made from the export's hash tiles and tried before it is written; with "
     "--key the checkpoint's signature is verified, too. A receipt doesn't hold the entry: "
     "keep its bytes with --entry. A file that is there already isn't overwritten.",
     false, pfx_audit_prove},
    {"check", "FILE", 1, 1, "say what a receipt (.tlog-proof) proves, and what it doesn't",
     "Needs --key, and the entry by --entry or --log. Without the entry only the receipt's form "
     "and its checkpoint's signature are checked, and the exit code is 1: no entry is proven.",
     false, pfx_audit_check},
    {"ceremony", "PAGE [HTML]", 1, 2, "say what the page of a key ceremony proves, and what it doesn't",
     "PAGE is the text file. Needs --key. The record's hash, the log's entry with it and the log "
     "key's signature are on the page; with --log an export's entries must make the same tree, and "
     "say of each key what the page says. Exit code 6 when a line was changed or the log says "
     "otherwise, 1 when entries aren't presented. With --out the page for a printer is made from the "
     "text that was checked: paper that people signed must look so. HTML is such a page that came "
     "with the text: exit code 6 when it isn't what the text makes.",
     false, pfx_audit_ceremony},
    {"help", "[COMMAND|entries]", 0, 1, "what the commands do, or what stands in a log", NULL,
     false, pfx_audit_help},
    {"man", "", 0, 0, "the man page", NULL, true, pfx_audit_man},
    {"completion", "", 0, 0, "completion for bash", NULL, true, pfx_audit_completion},
    {.name = NULL},
};

int pfx_audit_fail(const struct pfx_error *err)
{
    char line[1024];
    /* A mistake on the command line has a sentence only. */
    if (err->op[0] || err->object[0] || err->code[0])
        (void)pfx_error_line(err, line, sizeof(line));
    else
        (void)snprintf(line, sizeof(line), "%s", err->text);
    (void)fflush(stdout);
    pfx_text_say("pfx-audit: %s", line);
    return pfx_class_exit(err->cls);
}

/* Without them a file of the export could be opened as standard error. */
static void open_standard(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_WRONLY : O_RDONLY) != fd)
            _exit(70);
}

/* A full disk mustn't look like a verdict; a reader that went away (head) is no failure. */
static int flush_stdout(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno == EPIPE)
        return code;
    pfx_text_say("pfx-audit: standard output can't be written: %s",
                 errno ? strerror(errno) : "an earlier write failed");
    return 70;
}

int main(int argc, char **argv)
{
    struct pfx_audit_call call;
    struct pfx_error err = PFX_ERROR_NONE;
    int code = PFX_AUDIT_OK;
    open_standard();
    (void)signal(SIGPIPE, SIG_IGN);
    if (pfx_failed(pfx_audit_parse(argc, argv, &call, &err)))
        code = pfx_audit_fail(&err);
    else if (call.version)
        (void)printf("pfx-audit %s\n", PFX_VERSION);
    else if (call.help && call.options.command->function != pfx_audit_help) {
        const char *name = call.options.command->name;
        struct pfx_audit_options help = {.operands = &name, .n_operands = 1};
        code = pfx_audit_help(&help);
    } else
        code = call.options.command->function(&call.options);
    pfx_audit_call_done(&call);
    return flush_stdout(code);
}
