/* setup digicert, setup ca and setup entra: are the accounts ready? Nothing is ordered or changed. */
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"

#define SILENCE_S 600

struct setup_view {
    struct cli *cli;
    const char *json;
    struct cli_progress progress;
    size_t n, bad, warn;
};

static void print_line(const char *before, const char *text, enum cli_tone tone)
{
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    cli_clean(text, &clean);
    (void)printf("%s%s%s%s\n", before, cli_tone(stdout, tone), pfx_buf_str(&clean),
                 cli_tone_end(stdout, tone));
}

/* A command may have several lines; each is printed so that it can be copied. */
static void print_command(const char *command)
{
    while (*command) {
        size_t len = strcspn(command, "\n");
        char *line PFX_AUTOFREE = pfx_strndup(command, len);
        print_line("        ", line, CLI_PLAIN);
        command += len + (command[len] == '\n');
    }
}

static void setup_item(void *ctx, const struct pfx_msg *item)
{
    struct setup_view *view = ctx;
    const char *level = pfx_msg_str(item, "level");
    view->n++;
    view->bad += strcmp(level, "bad") == 0;
    view->warn += strcmp(level, "warn") == 0;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    cli_progress_clear(&view->progress);
    char head[32];
    (void)snprintf(head, sizeof(head), "%-5s ", level);
    (void)printf("%s%s%s", cli_tone(stdout, cli_tone_of(level)), head,
                 cli_tone_end(stdout, cli_tone_of(level)));
    char *text PFX_AUTOFREE =
        pfx_asprintf("%s: %s", pfx_msg_str(item, "what"), pfx_msg_str(item, "text"));
    print_line("", text, CLI_PLAIN);
    if (pfx_msg_has(item, "next"))
        print_line("      next: ", pfx_msg_str(item, "next"), CLI_PLAIN);
    if (pfx_msg_has(item, "command"))
        print_command(pfx_msg_str(item, "command"));
}

static void setup_idle(void *ctx)
{
    cli_progress_tick(&((struct setup_view *)ctx)->progress);
}

int cli_do_setup(struct cli *cli)
{
    char verb[32], json[32];
    bool entra = strcmp(cli->verb->verb, "entra") == 0;
    /* "setup ca" is the same question under the name that fits a CA of one's own. */
    (void)snprintf(verb, sizeof(verb), "setup.%s", entra ? "entra" : "digicert");
    (void)snprintf(json, sizeof(json), "setup-%s", cli->verb->verb);
    struct setup_view view = {.cli = cli, .json = json};
    view.progress.quiet = cli->given[CLI_JSON];
    cli_progress_start(&view.progress, "asking the services");
    struct cli_ask ask = {CLI_AGENT, verb, NULL, SILENCE_S, setup_item, setup_idle, &view};
    struct pfx_error err = PFX_ERROR_NONE;
    int code = CLI_EXIT_INTERNAL;
    pfx_result r = cli_ask(cli, &ask, &code, &err);
    cli_progress_clear(&view.progress);
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    if (view.n > 0 && !cli->given[CLI_JSON] && (code == CLI_EXIT_OK || code == CLI_EXIT_NO))
        (void)printf("%zu checks: %zu to mend, %zu to know; nothing was %s\n", view.n, view.bad,
                     view.warn, entra ? "changed" : "ordered");
    return code;
}
