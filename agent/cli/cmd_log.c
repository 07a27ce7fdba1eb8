/* log status, log rotate-key, log reopen; and where the log's folder is. */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "api/conf/hsm_policy.h"
#include "api/conf/option.h"
#include "crypto/encode.h"

#define LOG_DIR "/var/lib/pfx-hsm/log"
#define SILENCE_S 30
#define KEY_SILENCE_S 900 /* a slow HSM makes a key */
#define JSON_MAX (1024 * 1024)

char *cli_log_path(const struct cli *cli)
{
    if (cli->given[CLI_LOG_DIR])
        return pfx_strdup(cli->values[CLI_LOG_DIR]);
    const char *env = getenv("PFX_LOG_DIR");
    if (env && *env)
        return pfx_strdup(env);
    /* The policy is only a hint: an auditor may read the log without being able to read it. */
    struct pfx_hsm_policy *policy = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    char *path = NULL;
    if (pfx_ok(pfx_hsm_policy_load(pfx_conf_path(PFX_CONF_HSM_POLICY), &policy, &why))) {
        path = pfx_strdup(policy->log_dir ? policy->log_dir : LOG_DIR);
        pfx_hsm_policy_free(policy);
    }
    return path ? path : pfx_strdup(LOG_DIR);
}

pfx_result cli_log_open(const struct cli *cli, struct pfx_logdir **ret_dir, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = cli_log_path(cli);
    return pfx_logdir_open(path, ret_dir, err);
}

/* --- status --- */

struct log_status {
    struct cli *cli;
    struct cli_table *facts;
    struct pfx_buf json; /* an array's inside */
    bool bad;
};

static void show_fact(struct log_status *status, const char *name, const char *value,
                      const char *level, const char *why, const char *next)
{
    enum cli_tone tone = cli_tone_of(level);
    const char *mark = tone == CLI_GOOD   ? cli_utf8() ? "●" : "+"
                       : tone == CLI_WARN ? cli_utf8() ? "▲" : "!"
                       : tone == CLI_BAD  ? cli_utf8() ? "✗" : "x"
                                          : " ";
    status->bad = status->bad || tone == CLI_BAD;
    cli_table_add(status->facts, mark, tone);
    cli_table_add(status->facts, name, CLI_PLAIN);
    if (tone == CLI_GOOD)
        tone = CLI_PLAIN;
    cli_table_addf(status->facts, tone, "%s%s%s%s%s", value, why ? ": " : "", why ? why : "",
                   next ? "; next: " : "", next ? next : "");
}

static void status_item(void *ctx, const struct pfx_msg *item)
{
    struct log_status *status = ctx;
    struct pfx_error err = PFX_ERROR_NONE;
    if (status->json.len > 0)
        (void)pfx_buf_add_str(&status->json, ",");
    if (pfx_failed(pfx_msg_encode(item, false, &status->json, &err)))
        (void)cli_fail(&err);
    show_fact(status, pfx_msg_str(item, "name"), pfx_msg_str(item, "value"),
              pfx_msg_str(item, "level"), pfx_msg_has(item, "why") ? pfx_msg_str(item, "why") : NULL,
              pfx_msg_has(item, "next") ? pfx_msg_str(item, "next") : NULL);
}

/* A fact in the form of the admin socket's, so that both ways give the same JSON. */
static void own_fact(struct log_status *status, const char *name, int64_t number, const char *level,
                     const char *next, const char *value)
{
    struct pfx_msg *item PFX_AUTOMSG =
        pfx_msg_new(pfx_wire_find(pfx_wire_admin, "log.status")->result);
    pfx_msg_set_str(item, "name", name);
    pfx_msg_set_str(item, "value", value);
    if (number >= 0)
        pfx_msg_set_int(item, "number", number);
    pfx_msg_set_str(item, "level", level);
    if (next)
        pfx_msg_set_str(item, "next", next);
    status_item(status, item);
}

static void anchor_facts(struct log_status *status, struct pfx_logdir *dir,
                         const struct pfx_checkpoint *checkpoint)
{
    struct pfx_anchor_copy anchor;
    char text[256], when[PFX_TIME_SIZE];
    if (!pfx_logdir_anchor(dir, &anchor)) {
        own_fact(status, "anchor", -1, "warn", NULL,
                 "no head of this log was written to the token");
        return;
    }
    bool ahead = anchor.size > checkpoint->size ||
                 (checkpoint->origin[0] && strcmp(anchor.origin, checkpoint->origin) != 0);
    (void)snprintf(text, sizeof(text), "%llu entries, written %s UTC%s%s",
                   (unsigned long long)anchor.size, cli_time(anchor.at_ms, when),
                   ahead ? "; the log here isn't the one it was written for, or is shorter: " : "",
                   ahead ? anchor.origin : "");
    own_fact(status, "anchor", (int64_t)anchor.size, ahead ? "bad" : "ok",
             ahead
                 ? "keep the folder as it is, and start pfx-hsm: it compares with the token itself"
                 : NULL,
             text);
    if (ahead)
        return;
    uint64_t lag = checkpoint->size - anchor.size;
    (void)snprintf(text, sizeof(text), "%llu entries since the anchor", (unsigned long long)lag);
    own_fact(status, "lag", (int64_t)lag, "ok", NULL, text);
}

/* What the folder says by itself; the reserve and the state are pfx-hsm's to know. */
static pfx_result folder_facts(struct log_status *status, struct pfx_error *err)
{
    struct pfx_logdir *dir CLI_AUTOLOG = NULL;
    const struct pfx_checkpoint *checkpoint = NULL;
    uint64_t count = 0;
    char text[512];
    PFX_TRY(cli_log_open(status->cli, &dir, err));
    PFX_TRY(pfx_logdir_count(dir, &count, err));
    PFX_TRY(pfx_logdir_refresh(dir, err)); /* after the count: what it covers isn't uncovered */
    (void)pfx_logdir_checkpoint(dir, &checkpoint);
    own_fact(status, "origin", -1, "ok", NULL, checkpoint->origin);
    (void)snprintf(text, sizeof(text), "%llu entries", (unsigned long long)count);
    own_fact(status, "size", (int64_t)count, "ok", NULL, text);
    (void)snprintf(text, sizeof(text), "%llu entries, by the newest checkpoint",
                   (unsigned long long)checkpoint->size);
    own_fact(status, "covered", (int64_t)checkpoint->size, "ok", NULL, text);
    uint64_t open = count > checkpoint->size ? count - checkpoint->size : 0;
    (void)snprintf(text, sizeof(text), "%llu entries without a checkpoint",
                   (unsigned long long)open);
    own_fact(status, "uncovered", (int64_t)open, open ? "warn" : "ok",
             open ? "start pfx-hsm: it covers them once the log role's token is there" : NULL,
             text);
    if (count < checkpoint->size)
        own_fact(status, "entries", -1, "bad", "keep the folder as it is; a copy has the rest",
                 "the newest checkpoint covers entries that aren't here");
    anchor_facts(status, dir, checkpoint);
    if (pfx_logdir_first(dir) > 0) {
        (void)snprintf(text, sizeof(text),
                       "entries before %llu were dropped; their hashes are kept",
                       (unsigned long long)pfx_logdir_first(dir));
        own_fact(status, "first", (int64_t)pfx_logdir_first(dir), "ok", NULL, text);
    }
    return PFX_OK;
}

static void status_json(const struct log_status *status, const char *from, int code,
                        const struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    if (err->text[0]) {
        (void)pfx_buf_add_str(&text, ",\"error\":");
        cli_json_str(&text, err->text);
    }
    (void)printf("{\"schema\":\"pfx-agent/log-status/1\",\"from\":\"%s\",\"exit\":%d%s,"
                 "\"items\":[%s]}\n",
                 from, code, pfx_buf_str(&text), pfx_buf_str(&status->json));
}

int cli_do_log_status(struct cli *cli)
{
    static const char *const titles[] = {"", "", "", NULL};
    struct cli_table *facts CLI_AUTOTABLE = cli_table_new(titles, 1u << 2);
    struct log_status status = {.cli = cli, .facts = facts, .json = pfx_buf_make(JSON_MAX)};
    struct pfx_error err = PFX_ERROR_NONE, why = PFX_ERROR_NONE;
    struct cli_ask ask = {CLI_HSM, "log.status", NULL, SILENCE_S, status_item, NULL, &status};
    int code = CLI_EXIT_INTERNAL;
    bool answered = false;
    cli_table_wrap(facts);
    /* --log-dir asks for that folder: it needn't be the one of the pfx-hsm that runs here. */
    if (cli->given[CLI_LOG_DIR])
        code = CLI_EXIT_OK;
    else
        answered = pfx_ok(cli_ask(cli, &ask, &code, &why)) &&
                   (code != CLI_EXIT_REFUSED || status.json.len > 0);
    if (!answered) {
        /* An auditor may read the folder without being let to the admin socket. */
        code = code == CLI_EXIT_REFUSED ? CLI_EXIT_OK : code;
        pfx_result r = folder_facts(&status, &err);
        if (pfx_failed(r) && (code == CLI_EXIT_OK || r.cls == PFX_CLASS_INTEGRITY))
            code = pfx_class_exit(r.cls);
    }
    if (status.bad && (code == CLI_EXIT_OK || code == CLI_EXIT_UNREACHABLE))
        code = CLI_EXIT_NO;
    if (cli->given[CLI_JSON])
        status_json(&status, answered ? "pfx-hsm" : "folder", code, why.text[0] ? &why : &err);
    else
        cli_table_print_bare(facts, stdout);
    (void)fflush(stdout);
    if (why.text[0] && (answered || !cli->given[CLI_JSON]))
        (void)cli_fail(&why);
    if (err.text[0])
        (void)cli_fail(&err);
    else if (!answered && !cli->given[CLI_LOG_DIR])
        cli_say("pfx-hsm didn't answer: this is what the log's folder says by itself");
    pfx_buf_done(&status.json);
    return code;
}

/* --- the log's key, and its successor --- */

struct key_view {
    struct cli *cli;
    int code;
};

static void key_item(void *ctx, const struct pfx_msg *item)
{
    struct key_view *view = ctx;
    struct cli *cli = view->cli;
    const char *kept;
    bool record = cli_record_item(cli, item, &kept, &view->code);
    if (cli->given[CLI_JSON]) {
        cli_json_item(strcmp(cli->verb->verb, "reopen") == 0 ? "log-reopen" : "log-rotate-key",
                      item);
        return;
    }
    const char *kind = pfx_msg_str(item, "kind");
    const char *text = record                      ? kept
                       : pfx_msg_has(item, "text") ? pfx_msg_str(item, "text")
                                                   : NULL;
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    if (strcmp(kind, "note") == 0 && text)
        cli_say("note: %s", text);
    else if (text) {
        cli_clean(text, &clean);
        (void)printf("%s%s%s %s\n", cli_tone(stdout, CLI_GOOD), cli_utf8() ? "✓" : "*",
                     cli_tone_end(stdout, CLI_GOOD), pfx_buf_str(&clean));
    }
    static const char *const members[] = {"origin", "vkey"};
    static const char *const names[] = {"origin", "key"};
    for (size_t i = 0; i < 2; i++) {
        if (!pfx_msg_has(item, members[i]))
            continue;
        pfx_buf_reset(&clean);
        cli_clean(pfx_msg_str(item, members[i]), &clean);
        (void)printf("  %s%-7s%s %s\n", cli_tone(stdout, CLI_DIM), names[i],
                     cli_tone_end(stdout, CLI_DIM), pfx_buf_str(&clean));
    }
    (void)fflush(stdout);
}

static int ask_key(struct cli *cli, const char *verb, const char *next)
{
    struct key_view view = {cli, CLI_EXIT_OK};
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, verb);
    int code = cli_record_args(cli, args);
    if (code != CLI_EXIT_OK)
        return code;
    struct cli_ask ask = {CLI_HSM, verb, args, KEY_SILENCE_S, key_item, NULL, &view};
    code = cli_ask_report(cli, &ask);
    if (code == CLI_EXIT_OK && !cli->given[CLI_JSON])
        cli_say("%s", next);
    return code == CLI_EXIT_OK ? view.code : code;
}

int cli_do_log_rotate_key(struct cli *cli)
{
    int code = cli_confirm(cli, "Make a new log key? From the next checkpoint on it signs alone; "
                                "auditors need its key line.");
    if (code != CLI_EXIT_OK)
        return code;
    return ask_key(cli, "log.rotate_key",
                   "give the key lines above to your auditors by a way of their own; the old key "
                   "names the new one in the log");
}

int cli_do_log_reopen(struct cli *cli)
{
    if (!cli->given[CLI_YES])
        cli_say(
            "This ends the log that is here and begins its successor, with an origin of its "
            "own. It is for a log that was lost or cut: pfx-hsm refuses to go on with one that "
            "is shorter than the token's anchor.\n"
            "The successor's first entry says what the anchor covered and what was here, and who "
            "approved it. Where hsm-policy.yaml has no approvals, root on the admin socket alone "
            "permits it: a weak approval, which pfx-audit reports for ever. What is here is set "
            "aside, not deleted: keep it.");
    int code = cli_confirm(cli, "Begin a successor?");
    if (code != CLI_EXIT_OK)
        return code;
    return ask_key(cli, "log.reopen",
                   "give the new origin and key lines to your auditors, with the folder that was "
                   "set aside: pfx-audit verify takes both exports together");
}
