/* standing: generations of the standing keys. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define SILENCE_S 300 /* a hardware token takes its time for an RSA key */

struct standing_view {
    struct cli *cli;
    const char *json;
    struct cli_table *table; /* list */
    const char *out;         /* rotate: folder for the certificate */
    int code;
};

static void list_item(void *ctx, const struct pfx_msg *item)
{
    struct standing_view *view = ctx;
    char when[PFX_TIME_SIZE];
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    const char *state = pfx_msg_str(item, "state");
    bool active = state && strcmp(state, "active") == 0;
    cli_table_add(view->table, pfx_msg_str(item, "name"), CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "algorithm"), CLI_PLAIN);
    cli_table_add(view->table, state, active ? CLI_GOOD : CLI_PLAIN);
    cli_table_add(view->table, cli_time(pfx_msg_int(item, "since"), when), CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "text"), CLI_PLAIN);
}

int cli_do_standing_list(struct cli *cli)
{
    static const char *const titles[] = {"KEY", "TYPE", "STATE", "SINCE (UTC)", "MEANS", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 4);
    struct standing_view view = {.cli = cli, .json = "standing-list", .table = table};
    struct cli_ask ask = {CLI_HSM, "standing.list", NULL, SILENCE_S, list_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    return code;
}

/* The certificate goes where it can be uploaded from. */
static void put_file(struct standing_view *view, const struct pfx_msg *item)
{
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    const char *file = pfx_msg_str(item, "file"), *pem = pfx_msg_str(item, "pem");
    if (!file || !pem)
        return;
    /* It comes from another process: a name, and no path. */
    if (strchr(file, '/') || file[0] == '.') {
        cli_say("pfx-agent: %s isn't a file's name, nothing is written", file);
        view->code = CLI_EXIT_INTERNAL;
    } else if (pfx_failed(cli_file_put(view->out, file, pem, &fresh, &err))) {
        view->code = cli_fail(&err);
    } else {
        cli_say("%s %s/%s", fresh ? "wrote" : "unchanged:", view->out, file);
    }
}

static void change_item(void *ctx, const struct pfx_msg *item)
{
    struct standing_view *view = ctx;
    const char *name = pfx_msg_str(item, "name"), *text = pfx_msg_str(item, "text"), *kept;
    bool record = cli_record_item(view->cli, item, &kept, &view->code);
    if (view->out && !record)
        put_file(view, item);
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    text = record ? kept : text;
    cli_clean(text ? text : "", &clean);
    if (record) {
        if (kept)
            (void)printf("%s\n", pfx_buf_str(&clean));
        return;
    }
    if (!name) {
        cli_say("%s", pfx_buf_str(&clean));
        return;
    }
    (void)printf("%s is %s: %s\n", name, pfx_msg_str(item, "state"), pfx_buf_str(&clean));
    if (pfx_msg_has(item, "sha256"))
        (void)printf("SHA-256 of its certificate: %s\n", pfx_msg_str(item, "sha256"));
}

struct rewrap_view {
    struct cli *cli;
    struct cli_progress progress;
    bool quiet, known; /* destroy: only counted */
    int64_t left, epoch, n;
};

static void rewrap_item(void *ctx, const struct pfx_msg *item)
{
    struct rewrap_view *view = ctx;
    const char *phase = pfx_msg_str(item, "phase");
    int64_t done = pfx_msg_int(item, "done");
    view->left = pfx_msg_int(item, "left");
    view->epoch = pfx_msg_int(item, "epoch");
    view->n++;
    if (view->quiet)
        return;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("standing-rewrap", item);
    } else if (strcmp(phase, "rewrapping") == 0) {
        cli_progress_show(&view->progress, phase, done, done + view->left);
    } else {
        cli_progress_clear(&view->progress);
        (void)printf("%s: %lld made anew, %lld left, %lld of them held\n", phase, (long long)done,
                     (long long)view->left, (long long)pfx_msg_int(item, "held"));
    }
}

static void rewrap_idle(void *ctx)
{
    cli_progress_tick(&((struct rewrap_view *)ctx)->progress);
}

int cli_do_standing_rewrap(struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct rewrap_view view = {.cli = cli};
    int64_t wait = 0;
    if (cli->given[CLI_WAIT] && pfx_failed(cli_duration(cli->values[CLI_WAIT], &wait, &err)))
        return cli_fail(&err);
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "key.rewrap");
    if (cli->given[CLI_WAIT])
        pfx_msg_set_int(args, "wait", wait);
    view.progress.quiet = cli->given[CLI_JSON];
    cli_progress_start(&view.progress, "asking pfx-hsm");
    struct cli_ask ask = {CLI_AGENT,   "key.rewrap", args, SILENCE_S,
                          rewrap_item, rewrap_idle,  &view};
    int code = CLI_EXIT_INTERNAL;
    pfx_result r = cli_ask(cli, &ask, &code, &err);
    cli_progress_clear(&view.progress);
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    return code;
}

static int change(struct cli *cli, const char *verb, const char *json, const char *out,
                  const struct rewrap_view *counted)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, verb);
    struct standing_view view = {.cli = cli, .json = json, .out = out};
    size_t len = strlen(cli->operands[0]);
    if (len == 0 || len > 64) {
        struct pfx_error err = PFX_ERROR_NONE;
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "a key is named as in pfx-agent standing list"));
        return cli_fail(&err);
    }
    pfx_msg_set_str(args, "name", cli->operands[0]);
    int code = cli_record_args(cli, args);
    if (code != CLI_EXIT_OK)
        return code;
    if (counted && counted->known) {
        pfx_msg_set_int(args, "rows", counted->left);
        pfx_msg_set_int(args, "epoch", counted->epoch);
    }
    struct cli_ask ask = {CLI_HSM, verb, args, SILENCE_S, change_item, NULL, &view};
    code = cli_ask_report(cli, &ask);
    return code == CLI_EXIT_OK ? view.code : code;
}

int cli_do_standing_rotate(struct cli *cli)
{
    const char *out = cli->given[CLI_OUT] ? cli->values[CLI_OUT] : ".";
    int code = cli_folder_ok(out, "out");
    if (code != CLI_EXIT_OK)
        return code;
    return change(cli, "standing.rotate", "standing-rotate", out, NULL);
}

int cli_do_standing_activate(struct cli *cli)
{
    return change(cli, "standing.activate", "standing-activate", NULL, NULL);
}

int cli_do_standing_destroy(struct cli *cli)
{
    int code = cli_confirm(cli, "The key is destroyed in its token. This can't be taken back.");
    if (code != CLI_EXIT_OK)
        return code;
    struct rewrap_view counted = {.cli = cli, .quiet = true};
    /* What pfx-agentd can't say, pfx-hsm asks for. */
    if (strncmp(cli->operands[0], "client-", strlen("client-")) != 0) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "key.rewrap");
        struct cli_ask ask = {CLI_AGENT,   "key.rewrap", args,    SILENCE_S,
                              rewrap_item, NULL,         &counted};
        pfx_msg_set_bool(args, "count", true);
        pfx_result r = cli_ask(cli, &ask, &code, &ignored);
        counted.known = pfx_ok(r) && code == CLI_EXIT_OK && counted.n > 0;
    }
    return change(cli, "standing.destroy", "standing-destroy", NULL, &counted);
}
