/* key show of a user key: every copy that is known of it. pfx-agentd tells what its store says;
 * pfx-hsm, where it may be asked, what its token shows now. */
#include <stdio.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define SILENCE_S 60

struct copies_view {
    struct cli *cli;
    size_t n;
    char id[129]; /* CKA_ID, hex; "" until it is known */
};

static void row(const char *place, const char *state, const char *id, const char *text)
{
    enum cli_tone tone = strcmp(state, "there") == 0     ? CLI_WARN
                         : strcmp(state, "gone") == 0    ? CLI_GOOD
                         : strcmp(state, "unknown") == 0 ? CLI_DIM
                                                         : CLI_PLAIN;
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    cli_clean(text, &clean);
    (void)printf("  %-8s %s%-8s%s %s", place, cli_tone(stdout, tone), state,
                 cli_tone_end(stdout, tone), pfx_buf_str(&clean));
    pfx_buf_reset(&clean);
    if (id && *id)
        cli_clean(id, &clean);
    (void)printf("%s%s%s\n", clean.len ? " (" : "", pfx_buf_str(&clean), clean.len ? ")" : "");
}

static void copy_item(void *ctx, const struct pfx_msg *item)
{
    struct copies_view *view = ctx;
    const char *place = pfx_msg_str(item, "place");
    const char *id = pfx_msg_has(item, "id") ? pfx_msg_str(item, "id") : NULL;
    if (view->n++ == 0) {
        if (id)
            (void)snprintf(view->id, sizeof(view->id), "%s", id);
        if (!view->cli->given[CLI_JSON])
            (void)printf("%sUser key of enrolment %lld%s\n", cli_tone(stdout, CLI_BOLD),
                         (long long)pfx_msg_int(item, "enrolment"), cli_tone_end(stdout, CLI_BOLD));
    }
    if (view->cli->given[CLI_JSON])
        cli_json_item("key-copies", item);
    else
        row(place, pfx_msg_str(item, "state"), id,
            pfx_msg_has(item, "text") ? pfx_msg_str(item, "text") : "");
}

static void token_item(void *ctx, const struct pfx_msg *item)
{
    struct copies_view *view = ctx;
    view->n++;
    if (view->cli->given[CLI_JSON]) {
        cli_json_item("key-show", item);
        return;
    }
    bool there = strcmp(pfx_msg_str(item, "state"), "there") == 0;
    char text[300];
    (void)snprintf(text, sizeof(text), "%s shows %s now",
                   pfx_msg_has(item, "token") ? pfx_msg_str(item, "token") : "the token",
                   there ? "it" : "no key with this CKA_ID");
    row("token", there ? "there" : "gone", NULL, text);
}

/* The token itself is asked where that is permitted: without it, what the store says stands. */
static void ask_token(struct cli *cli, struct copies_view *view)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "key.show");
    int code = 0;
    pfx_msg_set_str(args, "name", view->id);
    struct cli_ask ask = {CLI_HSM, "key.show", args, SILENCE_S, token_item, NULL, view};
    if ((pfx_failed(cli_ask(cli, &ask, &code, &err)) || code != CLI_EXIT_OK) &&
        !cli->given[CLI_JSON])
        row("token", "unknown", NULL, "pfx-hsm wasn't asked what the token shows now: its admin "
                                      "socket doesn't answer, or isn't for you");
}

bool cli_is_key_id(const char *text)
{
    return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

int cli_key_copies(struct cli *cli)
{
    struct copies_view view = {.cli = cli};
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_AGENT, "key.copies");
    if (cli->given[CLI_ENROLMENT]) {
        const char *text = cli->values[CLI_ENROLMENT];
        size_t n = strspn(text, "0123456789");
        int64_t number = 0;
        for (size_t i = 0; i < n && n <= 15; i++)
            number = number * 10 + (text[i] - '0');
        if (text[n] || number == 0 || cli->n_operands > 0) {
            (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                                   "--enrolment takes the number of one enrolment, and no name"));
            return cli_fail(&err);
        }
        pfx_msg_set_int(args, "enrolment", number);
    } else {
        pfx_msg_set_str(args, "key_id", cli->operands[0]);
    }
    struct cli_ask ask = {CLI_AGENT, "key.copies", args, SILENCE_S, copy_item, NULL, &view};
    int code = cli_ask_report(cli, &ask);
    if (code == CLI_EXIT_OK && cli_is_key_id(view.id))
        ask_token(cli, &view);
    return code;
}
