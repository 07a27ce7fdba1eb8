/* record list and record remove: what Intune has, and taking it away. */
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define SILENCE_S 60
#define MOST_REMOVED 1000 /* in one call of the program */

struct record_view {
    struct cli *cli;
    const char *json;
    struct cli_table *table; /* NULL: only the ids are kept */
    char **ids;
    size_t n_ids, n;
    int64_t read;
};

static void record_row(struct cli_table *table, const struct pfx_msg *item)
{
    char starts[PFX_TIME_SIZE], expires[PFX_TIME_SIZE];
    const char *state = pfx_msg_str(item, "state");
    cli_table_add(table, pfx_msg_str(item, "upn"), CLI_PLAIN);
    cli_table_add(table, pfx_msg_str(item, "purpose"), CLI_PLAIN);
    cli_table_add(table, cli_time(pfx_msg_int(item, "starts"), starts), CLI_PLAIN);
    cli_table_add(table, cli_time(pfx_msg_int(item, "expires"), expires), CLI_PLAIN);
    cli_table_add(table, pfx_msg_has(item, "key_name") ? pfx_msg_str(item, "key_name") : NULL,
                  CLI_PLAIN);
    if (pfx_msg_has(item, "enrolment"))
        cli_table_addf(table, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "enrolment"));
    else
        cli_table_add(table, NULL, CLI_PLAIN);
    cli_table_add(table, state, strcmp(state, "there") == 0 ? CLI_PLAIN : CLI_WARN);
    cli_table_add(table, pfx_msg_str(item, "id"), CLI_PLAIN);
}

static void record_item(void *ctx, const struct pfx_msg *item)
{
    struct record_view *view = ctx;
    view->n++;
    if (pfx_msg_has(item, "read"))
        view->read = pfx_msg_int(item, "read");
    if (view->ids && strcmp(pfx_msg_str(item, "state"), "there") == 0 &&
        view->n_ids < MOST_REMOVED)
        view->ids[view->n_ids++] = pfx_strdup(pfx_msg_str(item, "id"));
    if (view->json && view->cli->given[CLI_JSON])
        cli_json_item(view->json, item);
    else if (view->table)
        record_row(view->table, item);
}

static void free_ids(struct record_view *view)
{
    for (size_t i = 0; i < view->n_ids; i++)
        free(view->ids[i]);
    free(view->ids);
    view->ids = NULL;
}

static int usage(const char *text)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "%s", text));
    return cli_fail(&err);
}

/* A record's id is an object id without dashes, a dash, and a thumbprint; else it is a user. */
static bool is_record_id(const char *text)
{
    size_t user = strspn(text, "0123456789abcdefABCDEF");
    return user == 32 && text[32] == '-' && strspn(text + 33, "0123456789abcdefABCDEF") == 40 &&
           text[73] == '\0';
}

static void list_args(const struct cli *cli, const char *operand, struct pfx_msg *args)
{
    if (operand)
        pfx_msg_set_str(args, is_record_id(operand) ? "id" : "user", operand);
    if (cli->given[CLI_USER])
        pfx_msg_set_str(args, "user", cli->values[CLI_USER]);
    if (cli->given[CLI_ALL])
        pfx_msg_set_bool(args, "all", true);
}

static int list_each(struct cli *cli, struct record_view *view)
{
    struct cli_ask ask = {CLI_AGENT, "record.list", NULL, SILENCE_S, record_item, NULL, view};
    return cli_ask_each(cli, &ask, cli->operands, cli->n_operands, list_args);
}

static int check_operands(const struct cli *cli)
{
    for (size_t i = 0; i < cli->n_operands; i++)
        if (!*cli->operands[i] || strlen(cli->operands[i]) > 1024)
            return usage("a record is named by Intune's id, a user by UPN or object id");
    if (cli->given[CLI_USER] && (!*cli->values[CLI_USER] || strlen(cli->values[CLI_USER]) > 1024))
        return usage("--user is a UPN or an object id");
    if (cli->n_operands > 0 && (cli->given[CLI_USER] || cli->given[CLI_ALL]))
        return usage("name records or users, or choose them by --user or --all; not both");
    return CLI_EXIT_OK;
}

static const char *const titles[] = {"USER",    "PURPOSE",   "STARTS", "EXPIRES", "SEALED TO",
                                     "ENROLMENT", "STATE", "ID",     NULL};
#define FLEX (1u << 0 | 1u << 4)

int cli_do_record_list(struct cli *cli)
{
    int code = check_operands(cli);
    if (code != CLI_EXIT_OK)
        return code;
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, FLEX);
    struct record_view view = {.cli = cli, .json = "record-list", .table = table};
    code = list_each(cli, &view);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    if (code != CLI_EXIT_OK || cli->given[CLI_JSON])
        return code;
    char when[PFX_TIME_SIZE];
    if (view.read > 0)
        cli_say("as Intune's list was read at %s UTC", cli_time(view.read, when));
    else if (view.n == 0)
        cli_say("no record is known; Intune's list is read by the first pass: "
                "pfx-agent run --once --dry-run");
    return code;
}

static void remove_args(const struct cli *cli, const char *id, struct pfx_msg *args)
{
    (void)cli;
    pfx_msg_set_str(args, "id", id);
}

static int remove_all(struct cli *cli, struct record_view *found)
{
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, FLEX);
    struct record_view view = {.cli = cli, .json = "record-remove", .table = table};
    struct cli_ask ask = {CLI_AGENT, "record.remove", NULL, SILENCE_S, record_item, NULL, &view};
    int code = cli_ask_each(cli, &ask, (const char *const *)found->ids, found->n_ids, remove_args);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    if (code == CLI_EXIT_OK && !cli->given[CLI_JSON])
        cli_say("it is done once Intune doesn't show them any more: pfx-agent record list");
    return code;
}

int cli_do_record_remove(struct cli *cli)
{
    int code = check_operands(cli);
    if (code != CLI_EXIT_OK)
        return code;
    if (cli->n_operands == 0 && !cli->given[CLI_USER])
        return usage("record remove needs to know which: ids, users, or --user");
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, FLEX);
    struct record_view found = {.cli = cli, .table = cli->given[CLI_YES] ? NULL : table};
    found.ids = pfx_alloc_array(MOST_REMOVED, sizeof(*found.ids));
    code = list_each(cli, &found);
    if (code == CLI_EXIT_OK && found.n_ids == 0) {
        cli_say("no such record is in Intune, as its list was last read");
        code = CLI_EXIT_NO;
    } else if (code == CLI_EXIT_OK) {
        if (cli_table_rows(table) > 0)
            cli_table_print(table, stderr);
        char question[160];
        (void)snprintf(question, sizeof(question),
                       "Remove %zu record%s from Intune? Devices lose %s then.", found.n_ids,
                       found.n_ids == 1 ? "" : "s",
                       found.n_ids == 1 ? "that certificate" : "those certificates");
        code = cli_confirm(cli, question);
        if (code == CLI_EXIT_OK)
            code = remove_all(cli, &found);
    }
    free_ids(&found);
    return code;
}
