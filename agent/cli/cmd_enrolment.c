/* enrolment list, show, cancel, retry and release. */
#include <ctype.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"
#include "crypto/encode.h"

#define SILENCE_S 60

struct list_view {
    struct cli *cli;
    const char *json; /* schema name */
    struct cli_table *table;
    size_t n;
};

static void list_item(void *ctx, const struct pfx_msg *item)
{
    struct list_view *view = ctx;
    view->n++;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    const char *state = pfx_msg_str(item, "state");
    char when[PFX_TIME_SIZE], span[32];
    cli_table_addf(view->table, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "enrolment"));
    cli_table_add(view->table,
                  pfx_msg_has(item, "name") ? pfx_msg_str(item, "name") : pfx_msg_str(item, "upn"),
                  CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "purpose"), CLI_PLAIN);
    cli_table_add(view->table, state, cli_tone_of(state));
    cli_table_add(view->table, cli_span(pfx_msg_int(item, "changed"), pfx_now_ms(), span),
                  CLI_PLAIN);
    if (pfx_msg_has(item, "order_id"))
        cli_table_addf(view->table, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "order_id"));
    else
        cli_table_add(view->table, NULL, CLI_PLAIN);
    cli_table_add(view->table, cli_time(pfx_msg_int(item, "expires"), when), CLI_PLAIN);
    if (pfx_msg_has(item, "key_gone") && !pfx_msg_has(item, "why"))
        cli_table_addf(view->table, CLI_PLAIN, "key destroyed %s",
                       cli_time(pfx_msg_int(item, "key_gone"), when));
    else
        cli_table_add(view->table, pfx_msg_str(item, "why"), CLI_PLAIN);
}

static void field(const char *name, const char *value, enum cli_tone tone)
{
    if (!value || !*value)
        return;
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    cli_clean(value, &clean);
    (void)printf("  %s%-13s%s %s%s%s\n", cli_tone(stdout, CLI_DIM), name,
                 cli_tone_end(stdout, CLI_DIM), cli_tone(stdout, tone), pfx_buf_str(&clean),
                 cli_tone_end(stdout, tone));
}

static void field_number(const char *name, const struct pfx_msg *item, const char *member)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%lld", (long long)pfx_msg_int(item, member));
    field(name, pfx_msg_has(item, member) ? text : NULL, CLI_PLAIN);
}

static void field_list(const char *name, const struct pfx_msg *item, const char *member)
{
    struct pfx_buf all PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8000);
    for (size_t i = 0; i < pfx_msg_count(item, member); i++)
        (void)pfx_buf_addf(&all, "%s%s", i ? ", " : "", pfx_msg_str_at(item, member, i));
    field(name, pfx_buf_str(&all), CLI_PLAIN);
}

static void show_item(void *ctx, const struct pfx_msg *item)
{
    struct list_view *view = ctx;
    if (view->cli->given[CLI_JSON]) {
        list_item(ctx, item);
        return;
    }
    char when[PFX_TIME_SIZE];
    const char *state = pfx_msg_str(item, "state");
    if (view->n++ > 0)
        (void)fputc('\n', stdout);
    (void)printf("%sEnrolment %lld%s\n", cli_tone(stdout, CLI_BOLD),
                 (long long)pfx_msg_int(item, "enrolment"), cli_tone_end(stdout, CLI_BOLD));
    field("user", pfx_msg_str(item, "name"), CLI_PLAIN);
    field("UPN", pfx_msg_str(item, "upn"), CLI_PLAIN);
    field("object id", pfx_msg_str(item, "user"), CLI_PLAIN);
    field("rule", pfx_msg_str(item, "rule"), CLI_PLAIN);
    field("purpose", pfx_msg_str(item, "purpose"), CLI_PLAIN);
    field_list("addresses", item, "addresses");
    field("state", state, cli_tone_of(state));
    field("why", pfx_msg_str(item, "why"), CLI_PLAIN);
    field("next step", pfx_msg_str(item, "next"), CLI_WARN);
    field_list("unvalidated", item, "unvalidated");
    field_number("attempt", item, "attempt");
    field("changed", cli_time(pfx_msg_int(item, "changed"), when), CLI_PLAIN);
    if (pfx_msg_has(item, "due"))
        field("moves next", cli_time(pfx_msg_int(item, "due"), when), CLI_PLAIN);
    field_number("order", item, "order_id");
    field("thumbprint", pfx_msg_str(item, "thumbprint"), CLI_PLAIN);
    if (pfx_msg_has(item, "expires"))
        field("expires", cli_time(pfx_msg_int(item, "expires"), when), CLI_PLAIN);
    field("Intune record", pfx_msg_str(item, "record_id"), CLI_PLAIN);
    field("export tier", pfx_msg_str(item, "tier"), CLI_PLAIN);
    field_number("sealed to key", item, "generation");
    if (pfx_msg_has(item, "key")) {
        char key[96];
        (void)snprintf(key, sizeof(key), "%s%s%s", pfx_msg_str(item, "key"),
                       pfx_msg_has(item, "key_gone") ? " " : "",
                       pfx_msg_has(item, "key_gone")
                           ? cli_time(pfx_msg_int(item, "key_gone"), when)
                           : "");
        field("user key", key, CLI_PLAIN);
    }
    field("PFX SHA-256", pfx_msg_str(item, "pfx_sha256"), CLI_PLAIN);
    for (size_t i = 0; i < pfx_msg_count(item, "history"); i++)
        field(i == 0 ? "history" : "", pfx_msg_str_at(item, "history", i), CLI_PLAIN);
}

static void change_item(void *ctx, const struct pfx_msg *item)
{
    struct list_view *view = ctx;
    if (view->cli->given[CLI_JSON]) {
        list_item(ctx, item);
        return;
    }
    view->n++;
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    cli_clean(pfx_msg_str(item, "upn"), &clean);
    (void)printf("%lld  %s  %s", (long long)pfx_msg_int(item, "enrolment"), pfx_buf_str(&clean),
                 pfx_msg_str(item, "state"));
    pfx_buf_reset(&clean);
    if (pfx_msg_has(item, "why"))
        cli_clean(pfx_msg_str(item, "why"), &clean);
    (void)printf("%s%s\n", clean.len ? "  " : "", pfx_buf_str(&clean));
}

static bool is_number(const char *text)
{
    size_t n = strspn(text, "0123456789");
    return n > 0 && n <= 15 && text[n] == '\0';
}

/* Of a text that is_number; never 0, which check_selection refused. */
static int64_t number_of(const char *text)
{
    int64_t number = 0;
    for (const char *p = text; *p; p++)
        number = number * 10 + (*p - '0');
    return number > 0 ? number : 1;
}

static void select_args(const struct cli *cli, const char *operand, struct pfx_msg *args)
{
    if (operand && is_number(operand))
        pfx_msg_set_int(args, "enrolment", number_of(operand));
    else if (operand)
        pfx_msg_set_str(args, "user", operand);
    if (cli->given[CLI_USER])
        pfx_msg_set_str(args, "user", cli->values[CLI_USER]);
    if (cli->given[CLI_STATE]) {
        char state[32];
        size_t j = 0;
        for (const char *p = cli->values[CLI_STATE]; *p && j + 1 < sizeof(state); p++)
            state[j++] = (char)toupper((unsigned char)*p);
        state[j] = '\0';
        pfx_msg_set_str(args, "state", state);
    }
    if (cli->given[CLI_ALL])
        pfx_msg_set_bool(args, "all", true);
}

static int ask_each(struct cli *cli, const char *verb,
                    void (*item)(void *ctx, const struct pfx_msg *item), struct list_view *view)
{
    struct cli_ask ask = {CLI_AGENT, verb, NULL, SILENCE_S, item, NULL, view};
    return cli_ask_each(cli, &ask, cli->operands, cli->n_operands, select_args);
}

static int check_selection(const struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = PFX_OK;
    for (size_t i = 0; i < cli->n_operands && pfx_ok(r); i++)
        if (!*cli->operands[i] || strlen(cli->operands[i]) > 1024)
            r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                         "an enrolment is named by its number, a user by UPN or object id");
        else if (is_number(cli->operands[i]) &&
                 strspn(cli->operands[i], "0") == strlen(cli->operands[i]))
            r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "enrolments are numbered from 1");
    if (pfx_ok(r) && cli->given[CLI_STATE] && strlen(cli->values[CLI_STATE]) > 16)
        r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                     "--state is a word of the list's STATE column, like HELD");
    if (pfx_ok(r) && cli->given[CLI_USER] && strlen(cli->values[CLI_USER]) > 1024)
        r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "--user is a UPN or an object id");
    if (pfx_ok(r) && cli->n_operands > 0 &&
        (cli->given[CLI_ALL] || cli->given[CLI_USER] || cli->given[CLI_STATE]))
        r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                     "name enrolments, or choose them by --user, --state or --all; not both");
    return pfx_ok(r) ? CLI_EXIT_OK : cli_fail(&err);
}

int cli_do_enrolment_list(struct cli *cli)
{
    static const char *const titles[] = {"NO",    "USER",    "PURPOSE", "STATE", "SINCE",
                                         "ORDER", "EXPIRES", "WHY",     NULL};
    int code = check_selection(cli);
    if (code != CLI_EXIT_OK)
        return code;
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 1 | 1u << 7);
    struct list_view view = {.cli = cli, .json = "enrolment-list", .table = table};
    code = ask_each(cli, "enrolment.list", list_item, &view);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    else if (code == CLI_EXIT_OK && view.n == 0)
        cli_say("no enrolment%s",
                cli->n_operands > 0 || cli->given[CLI_USER] || cli->given[CLI_STATE] ? " fits"
                                                                                     : " yet");
    return code;
}

int cli_do_enrolment_show(struct cli *cli)
{
    int code = check_selection(cli);
    struct list_view view = {.cli = cli, .json = "enrolment-show"};
    return code != CLI_EXIT_OK ? code : ask_each(cli, "enrolment.show", show_item, &view);
}

int cli_do_enrolment_change(struct cli *cli)
{
    char verb[64], json[64];
    (void)snprintf(verb, sizeof(verb), "enrolment.%s", cli->verb->verb);
    (void)snprintf(json, sizeof(json), "enrolment-%s", cli->verb->verb);
    int code = check_selection(cli);
    if (code != CLI_EXIT_OK)
        return code;
    if (cli->n_operands == 0 && !cli->given[CLI_ALL] && !cli->given[CLI_USER] &&
        !cli->given[CLI_STATE]) {
        struct pfx_error err = PFX_ERROR_NONE;
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "enrolment %s needs to know which: a number, a user, --user, "
                               "--state or --all",
                               cli->verb->verb));
        return cli_fail(&err);
    }
    struct list_view view = {.cli = cli, .json = json};
    code = ask_each(cli, verb, change_item, &view);
    if (code == CLI_EXIT_OK && view.n == 0)
        cli_say("nothing to %s", cli->verb->verb);
    return code;
}

static void revoke_args(const struct cli *cli, const char *operand, struct pfx_msg *args)
{
    pfx_msg_set_int(args, "enrolment", number_of(operand));
    pfx_msg_set_str(args, "reason", cli->values[CLI_REASON]);
}

int cli_do_enrolment_revoke(struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = PFX_OK;
    int code = check_selection(cli);
    if (code != CLI_EXIT_OK)
        return code;
    for (size_t i = 0; i < cli->n_operands && pfx_ok(r); i++)
        if (!is_number(cli->operands[i]))
            r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                         "enrolment revoke takes numbers only: pfx-agent enrolment list shows "
                         "them");
    if (pfx_ok(r) && (!cli->given[CLI_REASON] || !*cli->values[CLI_REASON] ||
                      strlen(cli->values[CLI_REASON]) > 200))
        r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                     "enrolment revoke needs --reason TEXT (at most 200 bytes)");
    if (pfx_failed(r))
        return cli_fail(&err);
    char question[160];
    (void)snprintf(question, sizeof(question),
                   "Revoke %zu certificate%s at the CA? That can't be taken back.",
                   cli->n_operands, cli->n_operands == 1 ? "" : "s");
    code = cli_confirm(cli, question);
    if (code != CLI_EXIT_OK)
        return code;
    struct list_view view = {.cli = cli, .json = "enrolment-revoke"};
    struct cli_ask ask = {.peer = CLI_AGENT,
                          .verb = "enrolment.revoke",
                          .silence_s = SILENCE_S,
                          .item = change_item,
                          .ctx = &view};
    return cli_ask_each(cli, &ask, cli->operands, cli->n_operands, revoke_args);
}
