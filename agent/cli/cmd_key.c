/* key and secret. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/wire/secret_names.h"
#include "crypto/encode.h"
#include "crypto/key.h"

#define SILENCE_S 120
#define SECRET_MAX 4096

struct key_view {
    struct cli *cli;
    const char *json;
    struct cli_table *table;
    char *pem; /* export-public */
    size_t n;
};

static void list_item(void *ctx, const struct pfx_msg *item)
{
    struct key_view *view = ctx;
    view->n++;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    const char *sha256 = pfx_msg_has(item, "sha256") ? pfx_msg_str(item, "sha256") : NULL;
    cli_table_add(view->table, pfx_msg_str(item, "role"), CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "name"), CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "algorithm"), CLI_PLAIN);
    if (pfx_msg_has(item, "count"))
        cli_table_addf(view->table, CLI_PLAIN, "%lld objects",
                       (long long)pfx_msg_int(item, "count"));
    else
        cli_table_add(view->table, pfx_msg_str(item, "state"), CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "token"), CLI_PLAIN);
    cli_table_add(view->table, sha256, CLI_PLAIN);
}

static void line(const char *name, const char *value)
{
    if (!value || !*value)
        return;
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    cli_clean(value, &clean);
    (void)printf("  %s%-12s%s %s\n", cli_tone(stdout, CLI_DIM), name, cli_tone_end(stdout, CLI_DIM),
                 pfx_buf_str(&clean));
}

static void show_item(void *ctx, const struct pfx_msg *item)
{
    struct key_view *view = ctx;
    view->n++;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024);
    cli_clean(pfx_msg_str(item, "name"), &name);
    (void)printf("%s%s%s\n", cli_tone(stdout, CLI_BOLD), pfx_buf_str(&name),
                 cli_tone_end(stdout, CLI_BOLD));
    line("role", pfx_msg_str(item, "role"));
    line("type", pfx_msg_str(item, "algorithm"));
    line("state", pfx_msg_str(item, "state"));
    line("CKA_ID", pfx_msg_str(item, "id"));
    line("token", pfx_msg_str(item, "token"));
    line("SHA-256", pfx_msg_str(item, "sha256"));
    for (size_t i = 0; i < pfx_msg_count(item, "attributes"); i++)
        line(i == 0 ? "attributes" : "", pfx_msg_str_at(item, "attributes", i));
}

static void export_item(void *ctx, const struct pfx_msg *item)
{
    struct key_view *view = ctx;
    view->n++;
    if (view->cli->given[CLI_JSON])
        cli_json_item(view->json, item);
    if (pfx_msg_has(item, "pem") && !view->pem)
        view->pem = pfx_strdup(pfx_msg_str(item, "pem"));
}

static int ask_name(struct cli *cli, const char *verb, struct key_view *view,
                    void (*item)(void *, const struct pfx_msg *))
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, verb);
    if (cli->n_operands > 0) {
        size_t len = strlen(cli->operands[0]);
        if (len == 0 || len > 128) {
            struct pfx_error err = PFX_ERROR_NONE;
            (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                                   "a key is named as in pfx-agent key list"));
            return cli_fail(&err);
        }
        pfx_msg_set_str(args, "name", cli->operands[0]);
    }
    struct cli_ask ask = {CLI_HSM, verb, args, SILENCE_S, item, NULL, view};
    return cli_ask_report(cli, &ask);
}

int cli_do_key_list(struct cli *cli)
{
    static const char *const titles[] = {
        "ROLE", "KEY", "TYPE", "STATE", "TOKEN", "SHA-256 OF THE PUBLIC KEY", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 4 | 1u << 5);
    struct key_view view = {.cli = cli, .json = "key-list", .table = table};
    cli_table_wrap(table);
    int code = ask_name(cli, "key.list", &view, list_item);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    else if (code == CLI_EXIT_OK && view.n == 0)
        cli_say("no keys yet: pfx-agent init makes them");
    return code;
}

int cli_do_key_show(struct cli *cli)
{
    struct key_view view = {.cli = cli, .json = "key-show"};
    if (cli->given[CLI_ENROLMENT] || (cli->n_operands > 0 && cli_is_key_id(cli->operands[0])))
        return cli_key_copies(cli);
    if (cli->n_operands == 0) {
        struct pfx_error err = PFX_ERROR_NONE;
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "say which: a name of pfx-agent key list, a CKA_ID, or --enrolment"));
        return cli_fail(&err);
    }
    return ask_name(cli, "key.show", &view, show_item);
}

/* Which format, and whether it can go where it would. */
static pfx_result export_check(const struct cli *cli, bool *ret_cng, struct pfx_error *err)
{
    const char *format = cli->given[CLI_FORMAT] ? cli->values[CLI_FORMAT] : "pem";
    bool cng = strcmp(format, "cng") == 0;
    if (!cng && strcmp(format, "pem") != 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--format is pem or cng");
    if (cng && !cli->given[CLI_OUT] && cli->given[CLI_JSON])
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "--json holds PEM: name a file for the blob with --out");
    if (cng && !cli->given[CLI_OUT] && isatty(STDOUT_FILENO))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "the blob is binary and isn't written to a terminal: name a file with "
                        "--out, or send it through a pipe");
    *ret_cng = cng;
    return PFX_OK;
}

/* PEM as pfx-hsm sent it, or the blob that follows from it. */
static pfx_result export_content(const char *pem, bool cng, struct pfx_buf *out,
                                 struct pfx_error *err)
{
    if (!cng && pfx_buf_add_str(out, pem))
        return PFX_OK;
    struct pfx_buf spki PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    char label[PFX_PEM_LABEL_SIZE];
    size_t pos = 0;
    if (pfx_pem_next((struct pfx_bytes){(const uint8_t *)pem, strlen(pem)}, &pos, label, &spki) !=
            PFX_PEM_BLOCK ||
        strcmp(label, "PUBLIC KEY") != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read public key", "", "",
                        "pfx-hsm sent something else; nothing was written");
    return pfx_spki_cng(pfx_buf_bytes(&spki), out, err);
}

int cli_do_key_export(struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_buf content PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(32768);
    struct key_view view = {.cli = cli, .json = "key-export-public"};
    bool cng = false;
    if (pfx_failed(export_check(cli, &cng, &err)))
        return cli_fail(&err);
    int code = ask_name(cli, "key.export_public", &view, export_item);
    char *pem PFX_AUTOFREE = PFX_TAKE(view.pem);
    if (code != CLI_EXIT_OK || (!pem && cli->given[CLI_JSON]))
        return code;
    if (!pem) {
        cli_say("pfx-agent: the key has no public part");
        return CLI_EXIT_NO;
    }
    if (pfx_failed(export_content(pem, cng, &content, &err)))
        return cli_fail(&err);
    if (cli->given[CLI_OUT]) {
        bool fresh = false;
        if (pfx_failed(cli_file_put_bytes(NULL, cli->values[CLI_OUT], pfx_buf_bytes(&content),
                                          &fresh, &err)))
            return cli_fail(&err);
        cli_say("%s %s", fresh ? "wrote" : "unchanged:", cli->values[CLI_OUT]);
    } else if (!cli->given[CLI_JSON] &&
               fwrite(content.data, 1, content.len, stdout) != content.len) {
        cli_say("pfx-agent: the key can't be written");
        return CLI_EXIT_INTERNAL;
    }
    return CLI_EXIT_OK;
}

static void secret_item(void *ctx, const struct pfx_msg *item)
{
    struct key_view *view = ctx;
    view->n++;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    char when[PFX_TIME_SIZE];
    bool set = pfx_msg_bool(item, "set");
    cli_table_add(view->table, pfx_msg_str(item, "name"), CLI_PLAIN);
    cli_table_add(view->table, set ? "stored" : "missing", set ? CLI_GOOD : CLI_BAD);
    cli_table_add(view->table, cli_time(pfx_msg_int(item, "changed"), when), CLI_PLAIN);
    cli_table_add(view->table, pfx_msg_str(item, "sealed_to"), CLI_PLAIN);
}

static int secret_ask(struct cli *cli, const char *verb, const char *json, struct pfx_msg *args)
{
    static const char *const titles[] = {"SECRET", "STATE", "SINCE (UTC)", "SEALED TO", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 3);
    struct key_view view = {.cli = cli, .json = json, .table = table};
    struct cli_ask ask = {CLI_HSM, verb, args, SILENCE_S, secret_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    return code;
}

int cli_do_secret_set(struct cli *cli)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_secret *value PFX_AUTOSECRET = NULL;
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "secret.set");
    int fd = -1;
    pfx_result r = cli_fd_value(cli, CLI_FD, &fd, &err);
    const struct pfx_secret_name *name = pfx_secret_find(cli->operands[0]);
    if (pfx_ok(r) && !name)
        r = pfx_secret_unknown(&err);
    int code = pfx_ok(r) && fd < 0 ? cli_hsm_there(cli, SILENCE_S) : CLI_EXIT_OK;
    if (code != CLI_EXIT_OK)
        return code;
    if (pfx_ok(r))
        r = cli_secret_read(fd, "Value (it isn't shown): ", name->what, SECRET_MAX, &value, &err);
    if (pfx_ok(r))
        r = pfx_secret_fits(name,
                            (struct pfx_bytes){pfx_secret_bytes(value), pfx_secret_len(value)},
                            &err);
    if (pfx_ok(r))
        r = cli_secret_put(args, "value", value, &err);
    if (pfx_failed(r))
        return cli_fail(&err);
    pfx_msg_set_str(args, "name", cli->operands[0]);
    return secret_ask(cli, "secret.set", "secret-set", args);
}

int cli_do_secret_status(struct cli *cli)
{
    return secret_ask(cli, "secret.status", "secret-status", NULL);
}
