/*
 * status: one screen. pfx-agentd and pfx-hsm are asked each; one that is away is said to be, and
 * the other's answer is shown all the same.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"

#define SILENCE_S 30
#define JSON_MAX (8 * 1024 * 1024)
#define FLOW_CELL 44 /* columns of one fact */
#define FLOW_PAGE 100
#define WELL_MAX (64 * 1024)
#define LONG_REASON 40 /* characters that nobody says twice by chance */

struct status_view {
    bool json;
    bool unwell; /* something is bad */
    struct cli_table *facts, *waits;
    struct pfx_buf *out; /* JSON array's inside */
    char counts[1024];
    bool all;
    struct pfx_buf well; /* what is well, as text */
    size_t column;
    char **said;
    size_t n_said;
};

static void json_member(struct pfx_buf *out, const struct pfx_msg *item)
{
    struct pfx_error err = PFX_ERROR_NONE;
    if (out->len > 0)
        (void)pfx_buf_add(out, ",", 1);
    if (pfx_failed(pfx_msg_encode(item, false, out, &err)))
        (void)cli_fail(&err);
}

/* The two daemons share notes and reasons: each is shown once, also where one quotes the other's. */
static bool said_before(struct status_view *view, const char *value)
{
    for (size_t i = 0; i < view->n_said; i++)
        if (strcmp(view->said[i], value) == 0 ||
            (strlen(view->said[i]) >= LONG_REASON && strstr(value, view->said[i])))
            return true;
    view->said = pfx_grow(view->said, view->n_said + 1, sizeof(view->said[0]));
    view->said[view->n_said++] = pfx_strdup(value);
    return false;
}

/* What is well goes into a few flowing lines, so that the rest is seen; --all gives each its row.
 */
static void flow(struct status_view *view, const char *name, const char *value)
{
    struct pfx_buf cell PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2048);
    struct pfx_buf cut PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2048);
    cli_clean(name, &cell);
    (void)pfx_buf_add_str(&cell, " ");
    cli_clean(value, &cell);
    cli_cut(pfx_buf_str(&cell), FLOW_CELL, &cut);
    size_t width = cli_width(pfx_buf_str(&cut)), page = cli_columns(stdout);
    if (page == 0 || page > FLOW_PAGE)
        page = FLOW_PAGE;
    bool fresh = view->column == 0 || view->column + 3 + width > page;
    if (fresh)
        view->column = 3;
    else
        view->column += 3;
    (void)pfx_buf_addf(&view->well, "%s%s",
                       !fresh               ? (cli_utf8() ? " · " : " | ")
                       : view->well.len > 0 ? "\n   "
                                            : "   ",
                       pfx_buf_str(&cut));
    view->column += width;
}

static void fact(struct status_view *view, const char *name, const char *value, const char *level,
                 const char *why, const char *next)
{
    enum cli_tone tone = cli_tone_of(level);
    const char *mark = tone == CLI_GOOD   ? cli_utf8() ? "●" : "+"
                       : tone == CLI_WARN ? cli_utf8() ? "▲" : "!"
                       : tone == CLI_BAD  ? cli_utf8() ? "✗" : "x"
                                          : " ";
    if (tone == CLI_GOOD && !view->all) {
        flow(view, name, value);
        return;
    }
    view->unwell = view->unwell || tone == CLI_BAD;
    if (tone != CLI_GOOD && !view->all && said_before(view, value))
        return;
    cli_table_add(view->facts, mark, tone);
    cli_table_add(view->facts, name, CLI_PLAIN);
    /* The reason may stand above. */
    if (why && strlen(why) >= LONG_REASON && !view->all && said_before(view, why))
        why = NULL;
    cli_table_addf(view->facts, tone == CLI_GOOD ? CLI_PLAIN : tone, "%s%s%s%s%s", value,
                   why ? ": " : "", why ? why : "", next ? "; next: " : "", next ? next : "");
}

static void agent_item(void *ctx, const struct pfx_msg *item)
{
    struct status_view *view = ctx;
    const char *kind = pfx_msg_str(item, "kind");
    if (view->json) {
        json_member(view->out, item);
        return;
    }
    const char *name = pfx_msg_has(item, "name") ? pfx_msg_str(item, "name") : "";
    const char *value = pfx_msg_has(item, "value") ? pfx_msg_str(item, "value") : "";
    const char *next = pfx_msg_has(item, "next") ? pfx_msg_str(item, "next") : NULL;
    if (strcmp(kind, "count") == 0) {
        size_t used = strlen(view->counts);
        (void)snprintf(view->counts + used, sizeof(view->counts) - used, "%s%lld %s",
                       used ? ", " : "", (long long)pfx_msg_int(item, "count"), name);
    } else if (strcmp(kind, "wait") == 0) {
        char span[32];
        cli_table_add(view->waits, pfx_msg_str(item, "who"), CLI_BOLD);
        cli_table_addf(view->waits, CLI_PLAIN, "%lld", (long long)pfx_msg_int(item, "count"));
        cli_table_add(view->waits,
                      pfx_msg_has(item, "since")
                          ? cli_span(pfx_msg_int(item, "since"), pfx_now_ms(), span)
                          : NULL,
                      CLI_PLAIN);
        cli_table_add(view->waits, pfx_msg_str(item, "what"), CLI_PLAIN);
        cli_table_add(view->waits, next, CLI_WARN);
    } else if (strcmp(kind, "trouble") == 0) {
        const char *what = pfx_msg_has(item, "what") ? pfx_msg_str(item, "what") : value;
        /* One of a user says what is wrong, not with whom. */
        char *whose PFX_AUTOFREE = strchr(name, '@') ? pfx_asprintf("%s: %s", name, what) : NULL;
        fact(view, "trouble", whose ? whose : what,
             pfx_msg_has(item, "level") ? pfx_msg_str(item, "level") : "bad", NULL, next);
    } else
        fact(view, name, value, pfx_msg_str(item, "level"), NULL, next);
}

static void hsm_item(void *ctx, const struct pfx_msg *item)
{
    struct status_view *view = ctx;
    if (view->json)
        json_member(view->out, item);
    else
        fact(view, pfx_msg_str(item, "name"), pfx_msg_str(item, "value"),
             pfx_msg_str(item, "level"), pfx_msg_has(item, "why") ? pfx_msg_str(item, "why") : NULL,
             pfx_msg_has(item, "next") ? pfx_msg_str(item, "next") : NULL);
}

/* Asks one daemon. An answer without items is one, too. */
static int ask_one(struct cli *cli, enum cli_peer peer, struct status_view *view,
                   struct pfx_error *err)
{
    struct cli_ask ask = {peer,      peer == CLI_AGENT ? "status" : "hsm.status", NULL,
                          SILENCE_S, peer == CLI_AGENT ? agent_item : hsm_item,   NULL,
                          view};
    int code = CLI_EXIT_INTERNAL;
    pfx_result r = cli_ask(cli, &ask, &code, err);
    (void)!pfx_ok(r); /* the exit code says it all, and the text stands in err */
    return code;
}

static void json_part(const char *name, int code, const struct pfx_error *err,
                      const struct pfx_buf *items)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    if (err->text[0]) {
        (void)pfx_buf_add_str(&text, ",\"error\":");
        cli_json_str(&text, err->text);
    }
    (void)printf(",\"%s\":{\"reachable\":%s,\"exit\":%d%s,\"items\":[%s]}", name,
                 code == CLI_EXIT_UNREACHABLE ? "false" : "true", code, pfx_buf_str(&text),
                 pfx_buf_str(items));
}

static void heading(const char *text)
{
    (void)printf("%s%s%s\n", cli_tone(stdout, CLI_BOLD), text, cli_tone_end(stdout, CLI_BOLD));
}

static void print_part(const char *name, struct status_view *view, const struct cli_table *facts,
                       const struct pfx_error *err)
{
    heading(name);
    if (view->well.len > 0)
        (void)printf("%s\n", pfx_buf_str(&view->well));
    cli_table_print_bare(facts, stdout);
    if (err->text[0]) {
        (void)fflush(stdout);
        (void)cli_fail(err);
    }
    pfx_buf_reset(&view->well);
    view->column = 0;
}

static void status_done(struct status_view *view)
{
    pfx_buf_done(&view->well);
    for (size_t i = 0; i < view->n_said; i++)
        free(view->said[i]);
    free(view->said);
}

int cli_do_status(struct cli *cli)
{
    static const char *const fact_titles[] = {"", "", "", NULL};
    static const char *const wait_titles[] = {"WAITS FOR", "N", "SINCE", "WHAT", "NEXT STEP", NULL};
    struct pfx_buf agent_json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(JSON_MAX);
    struct pfx_buf hsm_json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(JSON_MAX);
    struct pfx_error agent_err = PFX_ERROR_NONE, hsm_err = PFX_ERROR_NONE;
    struct cli_table *agent CLI_AUTOTABLE = cli_table_new(fact_titles, 1u << 2);
    struct cli_table *hsm CLI_AUTOTABLE = cli_table_new(fact_titles, 1u << 2);
    struct cli_table *waits CLI_AUTOTABLE = cli_table_new(wait_titles, 1u << 3 | 1u << 4);
    struct status_view view PFX_CLEANUP(status_done) = {.json = cli->given[CLI_JSON],
                                                        .all = cli->given[CLI_ALL],
                                                        .facts = agent,
                                                        .waits = waits,
                                                        .out = &agent_json,
                                                        .well = pfx_buf_make(WELL_MAX)};
    cli_table_wrap(agent);
    cli_table_wrap(hsm);
    cli_table_wrap(waits);
    int agent_code = ask_one(cli, CLI_AGENT, &view, &agent_err);
    if (!view.json)
        print_part("pfx-agentd", &view, agent, &agent_err);
    if (!view.json && view.counts[0])
        (void)printf("   enrolments: %s\n", view.counts);
    view.facts = hsm;
    view.out = &hsm_json;
    int hsm_code = ask_one(cli, CLI_HSM, &view, &hsm_err);
    if (view.json) {
        (void)printf("{\"schema\":\"pfx-agent/status/1\"");
        json_part("agent", agent_code, &agent_err, &agent_json);
        json_part("hsm", hsm_code, &hsm_err, &hsm_json);
        (void)printf("}\n");
        return agent_code != CLI_EXIT_OK ? agent_code : hsm_code;
    }
    print_part("pfx-hsm", &view, hsm, &hsm_err);
    if (cli_table_rows(waits) > 0) {
        (void)fputc('\n', stdout);
        cli_table_print(waits, stdout);
    } else if (agent_code == CLI_EXIT_OK && hsm_code == CLI_EXIT_OK && !view.unwell)
        (void)printf("nothing waits for a person\n");
    return agent_code != CLI_EXIT_OK ? agent_code : hsm_code;
}
