/* key rebuild and key records. */
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define SILENCE_S 120

static long long number(const struct pfx_msg *item, const char *name)
{
    return (long long)pfx_msg_int(item, name);
}

static const char *text(const struct pfx_msg *item, const char *name)
{
    return pfx_msg_has(item, name) ? pfx_msg_str(item, name) : NULL;
}

/* "2 h" from milliseconds. buf has 32 bytes. */
static const char *lasts(long long ms, char *buf)
{
    if (ms < 60000)
        (void)snprintf(buf, 32, "%lld s", ms / 1000 + 1);
    else
        return cli_span(0, ms, buf);
    return buf;
}

struct rebuild_view {
    struct cli *cli;
    struct cli_progress progress;
    bool paused; /* at the end */
};

static void rebuild_item(void *ctx, const struct pfx_msg *item)
{
    struct rebuild_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind"), *phase = pfx_msg_str(item, "phase");
    long long left = number(item, "left"), done = number(item, "done");
    char span[32];
    bool clock = number(item, "left_ms") > 0;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("key-rebuild", item);
        return;
    }
    if (strcmp(kind, "progress") == 0) {
        (void)snprintf(view->progress.more, sizeof(view->progress.more), "%s%s",
                       clock ? ", about " : "",
                       clock ? lasts(number(item, "left_ms"), span) : "");
        cli_progress_show(&view->progress, phase, done, done + left);
        return;
    }
    cli_progress_clear(&view->progress);
    view->paused = strcmp(phase, "paused") == 0;
    if (strcmp(kind, "plan") == 0)
        (void)printf("%lld records name another generation than %lld, which is active%s%s; %s\n",
                     left, number(item, "target"), clock ? ": about " : "",
                     clock ? lasts(number(item, "left_ms"), span) : "", phase);
    else
        (void)printf("%s: %lld rebuilt, %lld on their way, %lld held, %lld passed over, %lld left "
                     "that name another generation\n",
                     phase, done, number(item, "working"), number(item, "held"),
                     number(item, "passed"), left);
}

static void rebuild_idle(void *ctx)
{
    cli_progress_tick(&((struct rebuild_view *)ctx)->progress);
}

int cli_do_key_rebuild(struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct rebuild_view view = {.cli = cli};
    int64_t wait = 0;
    if (cli->given[CLI_WAIT] && pfx_failed(cli_duration(cli->values[CLI_WAIT], &wait, &err)))
        return cli_fail(&err);
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "key.rebuild");
    if (cli->given[CLI_DRY_RUN])
        pfx_msg_set_bool(args, "dry_run", true);
    if (cli->given[CLI_WAIT])
        pfx_msg_set_int(args, "wait", wait);
    view.progress.quiet = cli->given[CLI_JSON];
    cli_progress_start(&view.progress, "asking pfx-hsm");
    struct cli_ask ask = {CLI_AGENT,    "key.rebuild", args, SILENCE_S,
                          rebuild_item, rebuild_idle,  &view};
    int code = CLI_EXIT_INTERNAL;
    pfx_result r = cli_ask(cli, &ask, &code, &err);
    cli_progress_clear(&view.progress);
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    if (view.paused && !cli->given[CLI_JSON])
        cli_say("it goes on with: pfx-agent resume --rebuild");
    if (code == CLI_EXIT_NO && !cli->given[CLI_JSON])
        cli_say("some are left, and each needs a person: pfx-agent key records");
    return code;
}

struct records_view {
    struct cli *cli;
    struct cli_table *keys, *blockers;
    char note[1400];
};

static void add_key(struct cli_table *table, const struct pfx_msg *item, bool ours)
{
    char when[PFX_TIME_SIZE];
    bool counted = !ours || pfx_msg_bool(item, "known");
    const char *state = ours ? text(item, "state") : "foreign";
    if (ours)
        cli_table_addf(table, CLI_PLAIN, "%lld", number(item, "generation"));
    else
        cli_table_add(table, NULL, CLI_PLAIN);
    cli_table_add(table, state, ours ? cli_tone_of(state ? state : "") : CLI_WARN);
    cli_table_addf(table, counted ? CLI_PLAIN : CLI_WARN, "%s%lld", counted ? "" : "at least ",
                   number(item, "records"));
    cli_table_addf(table, CLI_PLAIN, "%lld", number(item, "flight"));
    cli_table_addf(table, CLI_PLAIN, "%lld", number(item, "held"));
    cli_table_addf(table, CLI_PLAIN, "%lld", number(item, "over"));
    cli_table_addf(table, CLI_PLAIN, "%.10s", cli_time(pfx_msg_int(item, "last"), when));
    const char *name = text(item, "key_name"), *provider = text(item, "provider_name");
    if (ours || !provider) /* key status has the provider of ours */
        cli_table_add(table, name, CLI_PLAIN);
    else
        cli_table_addf(table, CLI_PLAIN, "%s, of %s", name ? name : "-", provider);
}

static void records_item(void *ctx, const struct pfx_msg *item)
{
    struct records_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind");
    char when[PFX_TIME_SIZE];
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("key-records", item);
    } else if (strcmp(kind, "blocker") == 0) {
        cli_table_addf(view->blockers, CLI_PLAIN, "%lld", number(item, "enrolment"));
        cli_table_add(view->blockers, text(item, "upn"), CLI_PLAIN);
        cli_table_addf(view->blockers, CLI_PLAIN, "%lld", number(item, "generation"));
        cli_table_add(view->blockers, text(item, "why"), CLI_PLAIN);
        cli_table_add(view->blockers, cli_time(pfx_msg_int(item, "until"), when), CLI_PLAIN);
        cli_table_add(view->blockers, text(item, "next"), CLI_PLAIN);
    } else if (strcmp(kind, "summary") == 0) {
        if (pfx_msg_has(item, "why"))
            (void)snprintf(view->note, sizeof(view->note), "%s; next: %s", pfx_msg_str(item, "why"),
                           text(item, "next") ? text(item, "next") : "pfx-agent status");
        else
            (void)snprintf(view->note, sizeof(view->note),
                           "as Intune's list was read at %s UTC, and what was delivered since",
                           cli_time(pfx_msg_int(item, "read"), when));
    } else {
        add_key(view->keys, item, strcmp(kind, "generation") == 0);
    }
}

int cli_do_key_records(struct cli *cli)
{
    static const char *const keys[] = {"GEN",  "STATE",   "RECORDS",   "COMING",
                                       "HELD", "EXPIRED", "LAST ENDS", "KEY NAME", NULL};
    static const char *const blockers[] = {"ENROLMENT", "USER", "GENERATION", "WHY IT STAYS",
                                           "UNTIL",     "NEXT", NULL};
    struct cli_table *of_keys CLI_AUTOTABLE = cli_table_new(keys, 1u << 7);
    struct cli_table *of_blockers CLI_AUTOTABLE =
        cli_table_new(blockers, 1u << 1 | 1u << 3 | 1u << 5);
    cli_table_wrap(of_keys);
    struct records_view view = {.cli = cli, .keys = of_keys, .blockers = of_blockers};
    struct cli_ask ask = {CLI_AGENT, "key.records", NULL, SILENCE_S, records_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    cli_table_wrap(of_blockers);
    if (cli_table_rows(of_keys) > 0)
        cli_table_print(of_keys, stdout);
    if (cli_table_rows(of_blockers) > 0) {
        (void)printf("\n");
        cli_table_print(of_blockers, stdout);
    }
    if (view.note[0])
        cli_say("%s", view.note);
    return code;
}
