/* pfx-agent: reads the command line, calls the verb, and makes its result the exit code. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"

/* A full disk must not look like success; a reader that went away (head) is no failure. */
static int flush_stdout(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno == EPIPE)
        return code;
    cli_say("pfx-agent: standard output can't be written: %s", strerror(errno));
    return CLI_EXIT_INTERNAL;
}

int main(int argc, char **argv)
{
    pfx_process_harden("pfx-agent");
    cli_text_setup();
    struct cli cli;
    struct pfx_error err = PFX_ERROR_NONE;
    int code = CLI_EXIT_OK;
    if (pfx_failed(cli_parse(argc, argv, &cli, &err)))
        code = cli_fail(&err);
    else if (cli.given[CLI_VERSION])
        (void)printf("pfx-agent %s\n", PFX_VERSION);
    else if (cli.given[CLI_HELP] && cli.verb->function != cli_do_help) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s", cli.verb->verb);
        const char *words[3] = {cli.verb->noun ? cli.verb->noun : name,
                                cli.verb->noun ? name : NULL, NULL};
        struct cli help = {
            .verb = cli.verb, .operands = words, .n_operands = cli.verb->noun ? 2 : 1};
        code = cli_do_help(&help);
    } else
        code = cli.verb->function(&cli);
    cli_done(&cli);
    return flush_stdout(code);
}
