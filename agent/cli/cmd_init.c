/* init and hsm test: what is asked of pfx-hsm about its tokens. */
#include <string.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"

#define PIN_MAX 255
#define INIT_SILENCE_S 900 /* RSA 3072 in a slow HSM */

/* "sha256:" with pairs set apart is what a person compares; the whole of it, never a prefix. */
static void fingerprint(const char *hex, char *buf, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; hex && hex[i] && used + 4 < size; i++) {
        if (i > 0 && i % 8 == 0)
            buf[used++] = ' ';
        buf[used++] = hex[i];
    }
    buf[used] = '\0';
}

/* name: of the key that it is about, or NULL. */
static void say_step(const char *name, const char *text)
{
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    cli_clean(text, &clean);
    (void)printf("%s%s%s %s%s%s\n", cli_tone(stdout, CLI_GOOD), cli_utf8() ? "✓" : "*",
                 cli_tone_end(stdout, CLI_GOOD), name ? name : "", name ? ": " : "",
                 pfx_buf_str(&clean));
}

struct init_view {
    struct cli *cli;
    struct cli_progress progress;
    struct cli_table *keys;
    const char *out;
    int code;
};

static void take_file(struct init_view *view, const struct pfx_msg *item)
{
    const char *name = pfx_msg_str(item, "file");
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    if (pfx_failed(cli_file_put(view->out, name, pfx_msg_str(item, "pem"), &fresh, &err))) {
        view->code = cli_fail(&err);
        return;
    }
    cli_say("%s %s/%s", fresh ? "wrote" : "unchanged:", view->out, name);
}

static void init_item(void *ctx, const struct pfx_msg *item)
{
    struct init_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind");
    cli_progress_clear(&view->progress);
    const char *kept = NULL;
    bool record = cli_record_item(view->cli, item, &kept, &view->code);
    if (!record && pfx_msg_has(item, "file") && pfx_msg_has(item, "pem"))
        take_file(view, item);
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("init", item);
        return;
    }
    if (record) {
        if (kept)
            say_step(NULL, kept);
        return;
    }
    const char *name = pfx_msg_has(item, "name") ? pfx_msg_str(item, "name") : NULL;
    if (pfx_msg_has(item, "sha256")) {
        char hex[128];
        fingerprint(pfx_msg_str(item, "sha256"), hex, sizeof(hex));
        cli_table_add(view->keys, pfx_msg_str(item, "role"), CLI_PLAIN);
        cli_table_addf(view->keys, CLI_PLAIN, "%s%s",
                       name ? name : "-",
                       strcmp(kind, "certificate") == 0 ? " (certificate)" : "");
        cli_table_add(view->keys, pfx_msg_str(item, "algorithm"), CLI_PLAIN);
        cli_table_add(view->keys, hex, CLI_PLAIN);
    }
    if (strcmp(kind, "note") == 0 && pfx_msg_has(item, "text"))
        cli_say("note: %s", pfx_msg_str(item, "text"));
    else if (pfx_msg_has(item, "text"))
        say_step(name, pfx_msg_str(item, "text"));
    if (pfx_msg_has(item, "text") && cli_is_terminal(stderr))
        cli_progress_show(&view->progress, pfx_msg_str(item, "text"), 0, 0);
}

static void init_idle(void *ctx)
{
    cli_progress_tick(&((struct init_view *)ctx)->progress);
}

static int ask_pin(struct cli *cli, bool always, const char *verb, struct pfx_msg **ret_args)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_secret *pin PFX_AUTOSECRET = NULL;
    int fd = -1;
    pfx_result r = cli_fd_value(cli, CLI_PIN_FD, &fd, &err);
    *ret_args = cli_args_new(CLI_HSM, verb);
    if (pfx_ok(r) && (always || fd >= 0)) {
        r = cli_secret_read(fd, "PIN of the encryption token: ", "the encryption token's PIN",
                            PIN_MAX, &pin, &err);
        if (pfx_ok(r))
            r = cli_secret_put(*ret_args, "encryption_pin", pin, &err);
    }
    return pfx_ok(r) ? CLI_EXIT_OK : cli_fail(&err);
}

static void next_steps(const struct init_view *view)
{
    const char *dir = view->out;
    (void)printf("\n%sNext steps%s\n", cli_tone(stdout, CLI_BOLD), cli_tone_end(stdout, CLI_BOLD));
    (void)printf("  1. Entra ID: add %s/client-main.crt to the app registration's certificates,\n"
                 "     and compare the fingerprint above with the one shown there.\n"
                 "  2. Keep %s/encryption-key-1.pem: the public part of the encryption key. The\n"
                 "     connector's host needs the private key through the HSM's own provider.\n"
                 "  3. pfx-agent secret set digicert\n"
                 "  4. pfx-agent hsm test\n"
                 "  5. pfx-agent run --once --dry-run\n",
                 dir, dir);
}

int cli_do_init(struct cli *cli)
{
    static const char *const titles[] = {"ROLE", "KEY", "TYPE", "SHA-256 FINGERPRINT", NULL};
    struct pfx_msg *args PFX_AUTOMSG = NULL;
    struct cli_table *keys CLI_AUTOTABLE = cli_table_new(titles, 1u << 3);
    struct init_view view = {
        .cli = cli, .keys = keys, .out = cli->given[CLI_OUT] ? cli->values[CLI_OUT] : "."};
    cli_table_wrap(keys);
    int code = cli_folder_ok(view.out, "out");
    if (code == CLI_EXIT_OK)
        code = cli_record_args(cli, NULL);
    if (code == CLI_EXIT_OK)
        code = cli_hsm_there(cli, INIT_SILENCE_S);
    if (code == CLI_EXIT_OK)
        code = ask_pin(cli, true, "init", &args);
    if (code == CLI_EXIT_OK)
        code = cli_record_args(cli, args);
    if (code != CLI_EXIT_OK)
        return code;
    view.progress.quiet = cli->given[CLI_JSON];
    cli_progress_start(&view.progress, "trying the tokens");
    struct cli_ask ask = {CLI_HSM, "init", args, INIT_SILENCE_S, init_item, init_idle, &view};
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = cli_ask(cli, &ask, &code, &err);
    cli_progress_clear(&view.progress);
    if (cli_table_rows(keys) > 0) {
        (void)fputc('\n', stdout);
        cli_table_print(keys, stdout);
    }
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    if (code == CLI_EXIT_OK)
        code = view.code;
    if (code == CLI_EXIT_OK && !cli->given[CLI_JSON])
        next_steps(&view);
    return code;
}

struct test_view {
    struct cli *cli;
    struct cli_progress progress;
    struct cli_table *tokens, *mechanisms, *tiers, *remarks;
};

static void test_item(void *ctx, const struct pfx_msg *item)
{
    struct test_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind");
    const char *text = pfx_msg_has(item, "text") ? pfx_msg_str(item, "text") : "";
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("hsm-test", item);
        return;
    }
    if (strcmp(kind, "token") == 0) {
        char phase[160];
        (void)snprintf(phase, sizeof(phase), "trying %s",
                       pfx_msg_has(item, "token") ? pfx_msg_str(item, "token")
                                                  : pfx_msg_str(item, "role"));
        cli_progress_show(&view->progress, phase, 0, 0);
        cli_table_add(view->tokens, pfx_msg_str(item, "role"), CLI_PLAIN);
        cli_table_add(view->tokens, pfx_msg_str(item, "token"), CLI_PLAIN);
        cli_table_add(view->tokens, text, CLI_PLAIN);
    } else if (strcmp(kind, "mechanism") == 0) {
        const char *tried = pfx_msg_str(item, "tried");
        cli_table_add(view->mechanisms, pfx_msg_str(item, "role"), CLI_PLAIN);
        cli_table_add(view->mechanisms, pfx_msg_str(item, "mechanism"), CLI_PLAIN);
        cli_table_add(view->mechanisms, pfx_msg_bool(item, "advertised") ? "yes" : "no", CLI_PLAIN);
        enum cli_tone tone = cli_tone_of(tried);
        /* A defect of a mechanism that nothing uses needs no alarm. */
        cli_table_add(view->mechanisms, tried, tone == CLI_PLAIN && tried ? CLI_WARN : tone);
        cli_table_add(view->mechanisms, pfx_msg_str(item, "use"), CLI_PLAIN);
    } else if (strcmp(kind, "tier") == 0) {
        const char *tier = pfx_msg_str(item, "tier");
        cli_table_add(view->tiers, pfx_msg_str(item, "role"), CLI_PLAIN);
        cli_table_add(view->tiers, tier, cli_tone_of(tier));
        cli_table_add(view->tiers, text, CLI_PLAIN);
    } else {
        bool bad = strcmp(kind, "conflict") == 0 || strcmp(kind, "refused") == 0;
        cli_table_add(view->remarks, kind, bad ? CLI_BAD : CLI_DIM);
        cli_table_add(view->remarks, pfx_msg_str(item, "role"), CLI_PLAIN);
        cli_table_add(view->remarks, text, CLI_PLAIN);
    }
}

static void test_idle(void *ctx)
{
    cli_progress_tick(&((struct test_view *)ctx)->progress);
}

static void print_part(const struct cli_table *table)
{
    if (cli_table_rows(table) == 0)
        return;
    cli_table_print(table, stdout);
    (void)fputc('\n', stdout);
}

int cli_do_hsm_test(struct cli *cli)
{
    static const char *const token_titles[] = {"ROLE", "TOKEN", "", NULL};
    static const char *const mech_titles[] = {"ROLE",  "MECHANISM", "ADVERTISED",
                                              "TRIED", "USED FOR",  NULL};
    static const char *const tier_titles[] = {"ROLE", "EXPORT TIER", "", NULL};
    static const char *const remark_titles[] = {"REMARK", "ROLE", "", NULL};
    struct pfx_msg *args PFX_AUTOMSG = NULL;
    struct cli_table *tokens CLI_AUTOTABLE = cli_table_new(token_titles, 0);
    struct cli_table *mechanisms CLI_AUTOTABLE = cli_table_new(mech_titles, 1u << 4);
    struct cli_table *tiers CLI_AUTOTABLE = cli_table_new(tier_titles, 0);
    struct cli_table *remarks CLI_AUTOTABLE = cli_table_new(remark_titles, 0);
    struct test_view view = {
        .cli = cli, .tokens = tokens, .mechanisms = mechanisms, .tiers = tiers, .remarks = remarks};
    int code = ask_pin(cli, false, "hsm.test", &args);
    if (code != CLI_EXIT_OK)
        return code;
    view.progress.quiet = cli->given[CLI_JSON];
    cli_progress_start(&view.progress, "trying the tokens");
    struct cli_ask ask = {CLI_HSM, "hsm.test", args, INIT_SILENCE_S, test_item, test_idle, &view};
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = cli_ask(cli, &ask, &code, &err);
    cli_progress_clear(&view.progress);
    print_part(tokens);
    print_part(mechanisms);
    print_part(tiers);
    print_part(remarks);
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    return code;
}
