/* key rotate, activate, retire, destroy, compromise and status: the life of the encryption key; and
 * connector probe and confirm. What pfx-agentd knows of records is asked there and passed on. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define PIN_MAX 255
#define SILENCE_S 900 /* RSA 3072 in a slow HSM */
#define GENERATIONS_MOST 64

struct known {
    unsigned generation;
    bool known;
    int64_t records, last;
};
struct gen_view {
    struct cli *cli;
    const char *json, *out;
    struct cli_table *table;
    struct known list[GENERATIONS_MOST];
    size_t n, n_states, n_reasons;
    bool active; /* one of them is */
    bool due; /* rotate --if-due */
    struct pfx_buf why;
    int code;
};

static const char *text_of(const struct pfx_msg *item, const char *name)
{
    return pfx_msg_has(item, name) ? pfx_msg_str(item, name) : NULL;
}

/* --- what pfx-agentd says --- */

static void foreign_row(const struct gen_view *view, const struct pfx_msg *item)
{
    char when[PFX_TIME_SIZE];
    if (!view->table)
        return;
    cli_table_add(view->table, text_of(item, "key_name"), CLI_WARN);
    cli_table_add(view->table, text_of(item, "provider_name"), CLI_PLAIN);
    cli_table_addf(view->table, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "records"));
    cli_table_add(view->table, cli_time(pfx_msg_int(item, "last"), when), CLI_PLAIN);
}

static void records_item(void *ctx, const struct pfx_msg *item)
{
    struct gen_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind");
    if (strcmp(kind, "foreign") == 0 && view->cli->given[CLI_JSON] && view->json)
        cli_json_item("key-foreign", item);
    else if (strcmp(kind, "foreign") == 0)
        foreign_row(view, item);
    if (strcmp(kind, "generation") != 0 || view->n == GENERATIONS_MOST)
        return;
    view->list[view->n++] = (struct known){
        .generation = (unsigned)pfx_msg_int(item, "generation"),
        .known = pfx_msg_bool(item, "known"),
        .records = pfx_msg_int(item, "records") + pfx_msg_int(item, "flight"),
        .last = pfx_msg_int(item, "last")};
}

/* Not known where pfx-agentd isn't there or isn't sure: then what depends on it is refused. */
static void records_ask(struct gen_view *view)
{
    struct pfx_error err = PFX_ERROR_NONE;
    int code = 0;
    struct cli_ask ask = {CLI_AGENT, "key.records", NULL, 120, records_item, NULL, view};
    pfx_result r = cli_ask(view->cli, &ask, &code, &err);
    if (pfx_failed(r) || err.text[0])
        cli_say("note: records: unknown (%s)", err.text);
}

static void needs_put(const struct known *known, struct pfx_msg *needs)
{
    pfx_msg_set_int(needs, "generation", known->generation);
    if (!known->known)
        return;
    pfx_msg_set_int(needs, "records", known->records);
    if (known->last > 0)
        pfx_msg_set_int(needs, "last_expiry", known->last);
}

/* --- changes --- */

static void change_item(void *ctx, const struct pfx_msg *item)
{
    struct gen_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind"), *text = text_of(item, "text"), *kept;
    if (strcmp(kind, "ready") == 0)
        return; /* for the PIN, which is asked next */
    bool record = cli_record_item(view->cli, item, &kept, &view->code);
    const char *file = record ? NULL : text_of(item, "file");
    text = record ? kept : text;
    const char *content =
        file ? text_of(item, strcmp(kind, "file") == 0 ? "content" : "pem") : NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    pfx_result put = PFX_OK;
    if (content && strcmp(kind, "file") == 0) /* a probe: with a new one the last has no answer */
        put = cli_file_renew(view->out, file, content, &fresh, &err);
    else if (content)
        put = cli_file_put(view->out, file, content, &fresh, &err);
    if (pfx_failed(put))
        view->code = cli_fail(&err);
    else if (content)
        cli_say("%s %s/%s", fresh ? "wrote" : "unchanged:", view->out, file);
    if (view->cli->given[CLI_JSON]) {
        cli_json_item(view->json, item);
        return;
    }
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    if (text)
        cli_clean(text, &clean);
    bool reason = strcmp(kind, "reason") == 0, key = strcmp(kind, "key") == 0;
    if (text && strcmp(kind, "note") == 0)
        cli_say("note: %s", pfx_buf_str(&clean));
    else if (text && reason && view->n_reasons++ > 0) /* the first one ends it, as its error */
        cli_say("held back: %s", pfx_buf_str(&clean));
    else if (text && !reason)
        (void)printf("%s%s%s\n", key ? pfx_msg_str(item, "name") : "", key ? ": " : "",
                     pfx_buf_str(&clean));
    if (key && pfx_msg_has(item, "sha256"))
        (void)printf("SHA-256 of its public key: %s\n", pfx_msg_str(item, "sha256"));
}

static int number_of(const struct cli *cli, unsigned *ret_number)
{
    const char *text = cli->operands[0];
    struct pfx_error err = PFX_ERROR_NONE;
    unsigned value = 0;
    size_t len = strspn(text, "0123456789");
    for (size_t i = 0; i < len && len <= 6; i++)
        value = value * 10 + (unsigned)(text[i] - '0');
    *ret_number = value;
    if (value > 0 && len <= 6 && text[len] == '\0')
        return CLI_EXIT_OK;
    (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                           "Give a generation's number: pfx-agent key status lists them."));
    return cli_fail(&err);
}

/* A file that others can read keeps no PIN. */
static pfx_result pin_open(const char *path, int *ret_fd, struct pfx_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "open PIN file", path, "");
    bool safe = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07) == 0;
    if (!safe) {
        (void)close(fd);
        return pfx_fail(err, PFX_CLASS_USAGE, "open PIN file", path, "",
                        "It isn't a file, or everybody may read or write it: change the PIN of the "
                        "encryption token, and keep the new one in a file with mode 0400.");
    }
    *ret_fd = fd;
    return PFX_OK;
}

static int pin_put(const struct cli *cli, struct pfx_msg *args)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_secret *pin PFX_AUTOSECRET = NULL;
    int fd = -1, opened = -1;
    pfx_result r = cli_fd_value(cli, CLI_PIN_FD, &fd, &err);
    if (pfx_ok(r) && cli->given[CLI_PIN_FILE] && fd >= 0)
        r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "Give --pin-fd or --pin-file, not both.");
    else if (pfx_ok(r) && cli->given[CLI_PIN_FILE])
        r = pin_open(cli->values[CLI_PIN_FILE], &opened, &err);
    if (opened >= 0)
        fd = opened;
    if (pfx_ok(r))
        r = cli_secret_read(fd, "PIN of the encryption token: ", "the encryption token's PIN",
                            PIN_MAX, &pin, &err);
    if (pfx_ok(r))
        r = cli_secret_put(args, "encryption_pin", pin, &err);
    if (opened >= 0)
        (void)close(opened);
    return pfx_ok(r) ? CLI_EXIT_OK : cli_fail(&err);
}

static int change(struct cli *cli, const char *verb, const char *json, struct pfx_msg *args)
{
    struct gen_view view = {
        .cli = cli, .json = json, .out = cli->given[CLI_OUT] ? cli->values[CLI_OUT] : "."};
    struct cli_ask ask = {CLI_HSM, verb, args, SILENCE_S, change_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    return code == CLI_EXIT_OK ? view.code : code;
}

/* Refused before a PIN is typed for nothing. */
static int out_check(const struct cli *cli)
{
    return cli_folder_ok(cli->given[CLI_OUT] ? cli->values[CLI_OUT] : ".", "out");
}

static void due_item(void *ctx, const struct pfx_msg *item)
{
    struct gen_view *view = ctx;
    view->due = view->due || strcmp(pfx_msg_str(item, "kind"), "due") == 0;
    change_item(ctx, item);
}

/* Is it, says pfx-hsm? It decides once more when it has the PIN. */
static int due_ask(struct cli *cli, bool *ret_due)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.rotate");
    struct gen_view view = {.cli = cli, .json = "key-rotate", .out = "."};
    struct cli_ask ask = {CLI_HSM, "key.rotate", args, SILENCE_S, due_item, NULL, &view};
    pfx_msg_set_bool(args, "if_due", true);
    int code = cli_ask_report(cli, &ask);
    *ret_due = view.due;
    return code;
}

static int adopt_check(const struct cli *cli)
{
    const char *hex = cli->given[CLI_ADOPT] ? cli->values[CLI_ADOPT] : "00";
    struct pfx_error err = PFX_ERROR_NONE;
    if (strlen(hex) % 2 == 0 && strspn(hex, "0123456789abcdefABCDEF") == strlen(hex))
        return CLI_EXIT_OK;
    (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                           "--adopt takes a CKA_ID as hex digits, two for each byte"));
    return cli_fail(&err);
}

int cli_do_key_rotate(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.rotate");
    bool due = true;
    struct pfx_error err = PFX_ERROR_NONE;
    int code = out_check(cli);
    if (cli->given[CLI_IF_DUE] && cli->given[CLI_ADOPT]) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "A key is adopted by people, not by a schedule: leave --if-due out."));
        return cli_fail(&err);
    }
    if (code == CLI_EXIT_OK)
        code = adopt_check(cli);
    if (code == CLI_EXIT_OK)
        code = cli_record_args(cli, args);
    if (code == CLI_EXIT_OK && cli->given[CLI_IF_DUE])
        code = due_ask(cli, &due);
    if (code != CLI_EXIT_OK || !due)
        return code;
    if (cli->given[CLI_ADOPT])
        pfx_msg_set_str(args, "adopt", cli->values[CLI_ADOPT]);
    if (cli->given[CLI_IF_DUE])
        pfx_msg_set_bool(args, "if_due", true);
    else /* what holds it back is said before anybody types a PIN */
        code = change(cli, "key.rotate", "key-rotate", args);
    if (code == CLI_EXIT_OK)
        code = pin_put(cli, args);
    return code == CLI_EXIT_OK ? change(cli, "key.rotate", "key-rotate", args) : code;
}

int cli_do_key_activate(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.activate");
    unsigned number;
    int code = number_of(cli, &number);
    if (code != CLI_EXIT_OK)
        return code;
    pfx_msg_set_int(args, "generation", number);
    return change(cli, "key.activate", "key-activate", args);
}

int cli_do_key_compromise(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.compromise");
    unsigned number;
    int code = number_of(cli, &number);
    if (code == CLI_EXIT_OK && !cli->given[CLI_YES]) /* who is asked has to know */
        cli_exposed_say(cli, number);
    if (code == CLI_EXIT_OK)
        code = cli_confirm(cli, "Nothing is sealed to this generation ever again, and whoever was "
                                "sealed to it is enrolled anew. That can't be taken back.");
    if (code != CLI_EXIT_OK)
        return code;
    pfx_msg_set_int(args, "generation", number);
    pfx_msg_set_str(args, "reason", cli->given[CLI_REASON] ? cli->values[CLI_REASON] : "compromise");
    return change(cli, "key.compromise", "key-compromise", args);
}

/* retire and destroy: what still needs the key is asked first. */
static void args_of(struct cli *cli, unsigned number, struct pfx_msg *args)
{
    struct gen_view view = {.cli = cli};
    records_ask(&view);
    pfx_msg_set_int(args, "generation", number);
    for (size_t i = 0; i < view.n; i++)
        if (view.list[i].generation == number)
            needs_put(&view.list[i], pfx_msg_set_obj(args, "needs"));
}

int cli_do_key_retire(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.retire");
    unsigned number;
    int code = number_of(cli, &number);
    if (code != CLI_EXIT_OK)
        return code;
    args_of(cli, number, args);
    if (!cli->given[CLI_YES]) { /* what holds it back is said before anybody is asked */
        pfx_msg_set_bool(args, "ask", true);
        code = change(cli, "key.retire", "key-retire", args);
        pfx_msg_set_bool(args, "ask", false);
    }
    if (code == CLI_EXIT_OK)
        code = cli_confirm(cli, "A retired generation doesn't become active again.");
    return code == CLI_EXIT_OK ? change(cli, "key.retire", "key-retire", args) : code;
}

int cli_do_key_destroy(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.destroy");
    unsigned number;
    int code = number_of(cli, &number);
    if (code == CLI_EXIT_OK)
        code = cli_record_args(cli, args);
    if (code != CLI_EXIT_OK)
        return code;
    args_of(cli, number, args);
    code = change(cli, "key.destroy", "key-destroy", args); /* held back, or to be approved? */
    if (code == CLI_EXIT_OK)
        code = cli_confirm(cli, "The key is destroyed in this token. That can't be taken back.");
    if (code == CLI_EXIT_OK)
        code = pin_put(cli, args);
    return code == CLI_EXIT_OK ? change(cli, "key.destroy", "key-destroy", args) : code;
}

/* --- status --- */

static enum cli_tone tone_of(const char *state)
{
    return strcmp(state, "active") == 0        ? CLI_GOOD
           : strcmp(state, "compromised") == 0 ? CLI_BAD
           : strcmp(state, "staged") == 0      ? CLI_WARN
                                               : CLI_PLAIN;
}

/* "pfx-agent key activate 2" */
static void say_command(struct gen_view *view, const char *next, long long number)
{
    if (strcmp(next, "rotate") == 0) /* of one in the making */
        pfx_buf_addf(&view->why, "pfx-agent key rotate, which goes on where it ended\n");
    else
        pfx_buf_addf(&view->why, "pfx-agent key %s %lld\n", next, number);
}

static void because(struct gen_view *view, const struct pfx_msg *item)
{
    long long number = (long long)pfx_msg_int(item, "generation");
    const char *next = text_of(item, "next");
    char when[PFX_TIME_SIZE];
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    cli_clean(pfx_msg_str(item, "provider_name"), &clean);
    pfx_buf_addf(&view->why, "  generation %lld: provider %s\n", number, pfx_buf_str(&clean));
    if (pfx_msg_has(item, "sha256")) /* people compare it: whole, and on one line */
        pfx_buf_addf(&view->why, "    SHA-256 %s\n", pfx_msg_str(item, "sha256"));
    if (pfx_msg_int(item, "compromised") > 0)
        pfx_buf_addf(&view->why,
                     "    called compromised at %s UTC: pfx-agent key exposed says how far its users' "
                     "successors are\n",
                     cli_time(pfx_msg_int(item, "compromised"), when));
    for (size_t i = 0; i < pfx_msg_count(item, "reasons"); i++) {
        pfx_buf_reset(&clean);
        cli_clean(pfx_msg_str_at(item, "reasons", i), &clean);
        pfx_buf_addf(&view->why, "    before key %s %lld: %s\n", next ? next : "", number,
                     pfx_buf_str(&clean));
    }
    if (next && pfx_msg_count(item, "reasons") == 0) {
        pfx_buf_addf(&view->why, "    waits for an operator: ");
        say_command(view, next, number);
    }
    if (pfx_msg_has(item, "staged"))
        pfx_buf_addf(&view->why, "    staged at %s UTC by uid %lld%s\n",
                     cli_time(pfx_msg_int(item, "staged"), when),
                     (long long)pfx_msg_int(item, "staged_by"),
                     pfx_msg_bool(item, "scheduled") ? ", as the schedule asked for" : "");
    if (!pfx_msg_has(item, "schedule"))
        return;
    pfx_buf_reset(&clean);
    cli_clean(pfx_msg_str(item, "schedule"), &clean);
    pfx_buf_addf(&view->why, "    %s\n", pfx_buf_str(&clean));
    if (pfx_msg_bool(item, "warn"))
        view->code = CLI_EXIT_NO;
}

static void status_item(void *ctx, const struct pfx_msg *item)
{
    struct gen_view *view = ctx;
    char when[PFX_TIME_SIZE];
    const char *state = pfx_msg_str(item, "state");
    if (view->cli->given[CLI_JSON])
        cli_json_item(view->json, item);
    view->n_states++;
    view->active = view->active || strcmp(state, "active") == 0;
    because(view, item);
    if (view->cli->given[CLI_JSON])
        return;
    cli_table_addf(view->table, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "generation"));
    cli_table_add(view->table, state, tone_of(state));
    cli_table_add(view->table, cli_time(pfx_msg_int(item, "since"), when), CLI_PLAIN);
    bool fresh = strcmp(state, "making") == 0 || strcmp(state, "staged") == 0;
    if (pfx_msg_has(item, "records"))
        cli_table_addf(view->table, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "records"));
    else
        cli_table_add(view->table, fresh ? NULL : "unknown", CLI_DIM);
    cli_table_add(view->table, pfx_msg_str(item, "key_name"), CLI_PLAIN);
}

int cli_do_key_status(struct cli *cli)
{
    static const char *const titles[] = {"GENERATION", "STATE",    "SINCE (UTC)",
                                         "RECORDS",    "KEY NAME", NULL};
    struct cli_table *table CLI_AUTOTABLE = cli_table_new(titles, 1u << 4);
    static const char *const others[] = {"FOREIGN KEY", "PROVIDER", "RECORDS", "LAST ENDS (UTC)",
                                         NULL};
    struct cli_table *foreign CLI_AUTOTABLE = cli_table_new(others, 1u << 0 | 1u << 1);
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.states");
    struct gen_view view = {
        .cli = cli, .json = "key-status", .table = foreign, .why = pfx_buf_make(256 * 1024)};
    cli_table_wrap(foreign);
    cli_table_wrap(table);
    records_ask(&view);
    for (size_t i = 0; i < view.n; i++)
        needs_put(&view.list[i], pfx_msg_add_obj(args, "needs"));
    view.table = table;
    struct cli_ask ask = {CLI_HSM, "key.states", args, SILENCE_S, status_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    if (cli_table_rows(table) > 0)
        cli_table_print(table, stdout);
    if (cli_table_rows(foreign) > 0) {
        (void)printf("\n");
        cli_table_print(foreign, stdout);
    }
    if (view.n_states > 0 && !view.active) {
        view.code = CLI_EXIT_NO;
        pfx_buf_addf(&view.why, "  no generation is active: no PFX is built, and enrolments wait, "
                                "until one is activated\n");
    }
    if (view.why.len > 0 && !cli->given[CLI_JSON]) {
        (void)fputc('\n', stdout);
        cli_print_lines(stdout, 6, pfx_buf_str(&view.why));
    }
    pfx_buf_done(&view.why);
    return code == CLI_EXIT_OK ? view.code : code;
}

/* --- connectors --- */

int cli_do_connector_probe(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "connector.probe");
    int code = out_check(cli);
    pfx_msg_set_str(args, "host", cli->operands[0]);
    return code == CLI_EXIT_OK ? change(cli, "connector.probe", "connector-probe", args) : code;
}

int cli_do_connector_confirm(struct cli *cli)
{
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "connector.confirm");
    pfx_msg_set_str(args, "host", cli->operands[0]);
    pfx_msg_set_str(args, "answer", cli->operands[1]);
    return change(cli, "connector.confirm", "connector-confirm", args);
}
