/* run, pause and resume. */
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"

#define RUN_SILENCE_S 300

static const struct {
    const char *decision, *means;
} decisions[] = {{"order", "to order"}, {"hold", "to hold"},     {"refuse", "refused"},
                 {"wait", "waiting"},   {"skip", "need nothing"}};
#define N_DECISIONS (sizeof(decisions) / sizeof(decisions[0]))

struct run_view {
    struct cli *cli;
    struct cli_progress progress;
    struct cli_table *plan;
    unsigned planned[N_DECISIONS];
    char summary[512];
};

static long long number(const struct pfx_msg *item, const char *name)
{
    return (long long)pfx_msg_int(item, name);
}

static void add_plan(struct run_view *view, const struct pfx_msg *item)
{
    struct cli_table *plan = view->plan;
    const char *decision = pfx_msg_str(item, "decision");
    for (size_t i = 0; i < N_DECISIONS; i++)
        view->planned[i] += strcmp(decision, decisions[i].decision) == 0;
    struct pfx_buf addresses PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64 * 1024);
    for (size_t i = 0; i < pfx_msg_count(item, "addresses"); i++)
        (void)pfx_buf_addf(&addresses, "%s%s", i ? ", " : "", pfx_msg_str_at(item, "addresses", i));
    cli_table_add(plan, decision, cli_tone_of(decision));
    cli_table_add(plan,
                  pfx_msg_has(item, "name") ? pfx_msg_str(item, "name") : pfx_msg_str(item, "user"),
                  CLI_PLAIN);
    cli_table_add(plan, pfx_msg_str(item, "purpose"), CLI_PLAIN);
    cli_table_add(plan, pfx_msg_str(item, "product"), CLI_PLAIN);
    cli_table_add(plan, pfx_buf_str(&addresses), CLI_PLAIN);
    cli_table_add(plan, pfx_msg_str(item, "why"), CLI_PLAIN);
}

static void print_planned(const struct run_view *view)
{
    const char *before = "";
    for (size_t i = 0; i < N_DECISIONS; i++) {
        if (view->planned[i] == 0)
            continue;
        (void)printf("%s%u %s", before, view->planned[i], decisions[i].means);
        before = ", ";
    }
    (void)printf("%s\n", *before ? "; nothing was changed" : "nobody is in the groups");
}

static void run_item(void *ctx, const struct pfx_msg *item)
{
    struct run_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind");
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("run", item);
        return;
    }
    if (strcmp(kind, "plan") == 0)
        add_plan(view, item);
    else if (strcmp(kind, "trouble") == 0) {
        cli_progress_clear(&view->progress);
        const char *why = pfx_msg_has(item, "why") ? pfx_msg_str(item, "why") : "";
        bool user = pfx_msg_has(item, "user"), next = pfx_msg_has(item, "next");
        cli_say("%s%s%s%s%s", user ? pfx_msg_str(item, "user") : "", user ? ": " : "", why,
                next ? "; next: " : "", next ? pfx_msg_str(item, "next") : "");
    } else {
        long long total = number(item, "total");
        long long settled =
            number(item, "finished") + number(item, "held") + number(item, "failed");
        char phase[120];
        (void)snprintf(phase, sizeof(phase), "%s",
                       pfx_msg_has(item, "phase") ? pfx_msg_str(item, "phase") : "running");
        if (strcmp(kind, "summary") == 0)
            (void)snprintf(view->summary, sizeof(view->summary),
                           "%lld enrolments: %lld active, %lld moving, %lld waiting for the CA, "
                           "%lld held, %lld failed; %lld ordered in this run",
                           total, number(item, "finished"), number(item, "working"),
                           number(item, "waiting"), number(item, "held"), number(item, "failed"),
                           number(item, "ordered"));
        else
            cli_progress_show(&view->progress, phase, settled, total);
    }
}

static void run_idle(void *ctx)
{
    cli_progress_tick(&((struct run_view *)ctx)->progress);
}

int cli_do_run(struct cli *cli)
{
    static const char *const titles[] = {"DECISION",  "USER", "PURPOSE", "PRODUCT",
                                         "ADDRESSES", "WHY",  NULL};
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t wait = 0;
    if (!cli->given[CLI_ONCE]) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "run needs --once: without being asked, pfx-agentd runs by itself "
                               "as schedule.pass_every in agent.yaml says"));
        return cli_fail(&err);
    }
    if (cli->given[CLI_WAIT] && pfx_failed(cli_duration(cli->values[CLI_WAIT], &wait, &err)))
        return cli_fail(&err);
    struct cli_table *plan CLI_AUTOTABLE = cli_table_new(titles, 1u << 1 | 1u << 4 | 1u << 5);
    struct run_view view = {.cli = cli, .plan = plan};
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "run");
    if (cli->given[CLI_DRY_RUN])
        pfx_msg_set_bool(args, "dry_run", true);
    if (cli->given[CLI_WAIT])
        pfx_msg_set_int(args, "wait", wait);
    view.progress.quiet = cli->given[CLI_JSON];
    cli_progress_start(&view.progress, "reading the groups");
    struct cli_ask ask = {CLI_AGENT, "run",    args, RUN_SILENCE_S + (unsigned)wait,
                          run_item,  run_idle, &view};
    int code = CLI_EXIT_INTERNAL;
    pfx_result r = cli_ask(cli, &ask, &code, &err);
    cli_progress_clear(&view.progress);
    cli_table_wrap(plan);
    if (cli_table_rows(plan) > 0)
        cli_table_print(plan, stdout);
    if (view.summary[0] && cli->given[CLI_DRY_RUN])
        print_planned(&view);
    else if (view.summary[0])
        (void)printf("%s\n", view.summary);
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    if (code == CLI_EXIT_NO && !cli->given[CLI_JSON])
        cli_say("some need a person: pfx-agent status, and pfx-agent enrolment list");
    return code;
}

int cli_do_pause(struct cli *cli)
{
    static const struct {
        enum cli_option_id id;
        const char *member;
    } parts[] = {{CLI_ORDERS, "orders"}, {CLI_UPLOADS, "uploads"}, {CLI_REBUILD, "rebuild"}};
    const char *verb = cli->verb->verb;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, verb);
    struct pfx_buf what PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(128);
    struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(128);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        bool given = cli->given[parts[i].id];
        (void)pfx_buf_addf(&json, ",\"%s\":%s", parts[i].member, given ? "true" : "false");
        if (!given)
            continue;
        pfx_msg_set_bool(args, parts[i].member, true);
        (void)pfx_buf_addf(&what, "%s%s", what.len ? " and " : "", parts[i].member);
    }
    if (what.len == 0) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "%s needs --orders, --uploads, --rebuild, or several of them", verb));
        return cli_fail(&err);
    }
    struct cli_ask ask = {CLI_AGENT, verb, args, 60, NULL, NULL, NULL};
    int code = cli_ask_report(cli, &ask);
    if (code == CLI_EXIT_OK && cli->given[CLI_JSON])
        (void)printf("{\"schema\":\"pfx-agent/%s/1\"%s}\n", verb, pfx_buf_str(&json));
    else if (code == CLI_EXIT_OK)
        (void)printf("%s: %s\n", pfx_buf_str(&what),
                     strcmp(verb, "pause") == 0 ? "paused" : "going on");
    return code;
}
