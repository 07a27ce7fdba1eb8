/* key exposed. */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define SILENCE_S 120
#define BRIEF_S 15 /* what only informs mustn't hold up who calls a key compromised */

struct exposed_view {
    struct cli *cli;
    struct cli_table *table;
    char summary[512];
};

static long long number(const struct pfx_msg *item, const char *name)
{
    return (long long)pfx_msg_int(item, name);
}

static void cell(struct cli_table *table, const struct pfx_msg *item, const char *name)
{
    cli_table_add(table, pfx_msg_has(item, name) ? pfx_msg_str(item, name) : NULL, CLI_PLAIN);
}

static void exposed_item(void *ctx, const struct pfx_msg *item)
{
    struct exposed_view *view = ctx;
    char when[PFX_TIME_SIZE];
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("key-exposed", item);
        return;
    }
    if (strcmp(pfx_msg_str(item, "kind"), "summary") == 0) {
        (void)snprintf(view->summary, sizeof(view->summary),
                       "%lld certificates: %lld replaced, %lld in work, %lld still to be ordered "
                       "(at most %lld orders a day), %lld that nobody replaces; at the CA %lld "
                       "revoked, %lld asked for, %lld refused",
                       number(item, "exposed"), number(item, "replaced"), number(item, "ordering"),
                       number(item, "waiting"), number(item, "orders_a_day"),
                       number(item, "nobody"), number(item, "revoked"), number(item, "asked"),
                       number(item, "refused"));
        return;
    }
    cli_table_addf(view->table, CLI_PLAIN, "%lld", number(item, "enrolment"));
    cell(view->table, item, "upn");
    cell(view->table, item, "purpose");
    cell(view->table, item, "state");
    if (pfx_msg_has(item, "successor"))
        cli_table_addf(view->table, CLI_PLAIN, "%lld", number(item, "successor"));
    else
        cli_table_add(view->table, NULL, CLI_PLAIN);
    cell(view->table, item, "revocation");
    cli_table_add(view->table, cli_time(pfx_msg_int(item, "expires"), when), CLI_PLAIN);
    cell(view->table, item, "said");
    cell(view->table, item, "next");
}

int cli_do_key_exposed(struct cli *cli)
{
    static const char *const titles[] = {"ENROLMENT", "USER",       "PURPOSE",    "STATE",
                                         "SUCCESSOR", "REVOCATION", "ENDS (UTC)", "THE CA SAID",
                                         "NEXT",      NULL};
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "key.exposed");
    if (cli->given[CLI_ALL])
        pfx_msg_set_bool(args, "all", true);
    if (cli->n_operands > 0) {
        char *end;
        long long n = strtoll(cli->operands[0], &end, 10);
        if (*end || end == cli->operands[0] || n < 1 || n > 1000000) {
            (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                                   "a generation is a number, as pfx-agent key records shows it"));
            return cli_fail(&err);
        }
        pfx_msg_set_int(args, "generation", n);
    }
    struct cli_table *table CLI_AUTOTABLE =
        cli_table_new(titles, 1u << 1 | 1u << 7 | 1u << 8);
    cli_table_wrap(table);
    struct exposed_view view = {.cli = cli, .table = table};
    struct cli_ask ask = {CLI_AGENT, "key.exposed", args, SILENCE_S, exposed_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    if (view.summary[0])
        (void)printf("%s\n", view.summary);
    return code;
}

/* --- before a generation is called compromised --- */

static void only_summary(void *ctx, const struct pfx_msg *item)
{
    struct exposed_view *view = ctx;
    if (strcmp(pfx_msg_str(item, "kind"), "summary") == 0)
        (void)snprintf(view->summary, sizeof(view->summary),
                       "%lld certificates of users would be exposed: each gets a new key and a new "
                       "order, at most %lld a day",
                       number(item, "exposed"), number(item, "orders_a_day"));
}

void cli_exposed_say(const struct cli *cli, unsigned generation)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct exposed_view view = {.summary = ""};
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "key.exposed");
    int code = 0;
    pfx_msg_set_int(args, "generation", generation);
    struct cli_ask ask = {CLI_AGENT, "key.exposed", args, BRIEF_S, only_summary, NULL, &view};
    (void)!pfx_ok(cli_ask(cli, &ask, &code, &err));
    if (view.summary[0])
        cli_say("%s", view.summary);
    else
        cli_say("note: whom this exposes isn't known: %s", err.text);
}
