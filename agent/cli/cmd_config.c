/* config check and config example: needs no daemon. */
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/option.h"

#define EXAMPLE_MAX (256 * 1024)
#define REPORT_MAX (256 * 1024)

static const struct kind {
    const char *name, *file;
    enum pfx_conf_file id;
} kinds[] = {
    {"agent", "agent.yaml", PFX_CONF_AGENT},
    {"uploader", "uploader.yaml", PFX_CONF_UPLOADER},
    {"hsm-policy", "hsm-policy.yaml", PFX_CONF_HSM_POLICY},
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct kind *kind_by_name(const char *name)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

static const struct kind *kind_by_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].file, base) == 0)
            return &kinds[i];
    return NULL;
}

static pfx_result find_kind(const struct cli *cli, const char *path, const struct kind **ret_kind,
                            struct pfx_error *err)
{
    if (cli->given[CLI_AS]) {
        static const char *const names[] = {"agent", "uploader", "hsm-policy", NULL};
        const char *near = cli_nearest(cli->values[CLI_AS], names);
        *ret_kind = kind_by_name(cli->values[CLI_AS]);
        if (!*ret_kind)
            return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                            "--as is agent, uploader or hsm-policy%s%s%s",
                            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
        return PFX_OK;
    }
    *ret_kind = kind_by_file(path);
    if (!*ret_kind)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "%s: its name doesn't tell which file it is; say --as agent, uploader or "
                        "hsm-policy",
                        path);
    return PFX_OK;
}

static void json_one(const struct kind *kind, const char *path, size_t n, const char *report)
{
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4 * REPORT_MAX);
    (void)pfx_buf_add_str(&out, "{\"schema\":\"pfx-agent/config-check/1\",\"file\":");
    cli_json_str(&out, path);
    (void)pfx_buf_addf(&out, ",\"kind\":\"%s\",\"ok\":%s,\"findings\":[", kind->name,
                       n == 0 ? "true" : "false");
    for (bool first = true; *report; first = false) {
        size_t len = strcspn(report, "\n");
        char *line PFX_AUTOFREE = pfx_strndup(report, len);
        (void)pfx_buf_add_str(&out, first ? "" : ",");
        cli_json_str(&out, line);
        report += len + (report[len] == '\n');
    }
    (void)printf("%s]}\n", pfx_buf_str(&out));
}

/* Exit code 0 or 1, and a line for each finding. */
static int check_one(const struct cli *cli, const struct kind *kind, const char *path)
{
    struct pfx_buf report PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(REPORT_MAX);
    size_t n = pfx_conf_check(kind->id, path, &report);
    int code = n == 0 ? CLI_EXIT_OK : CLI_EXIT_NO;
    if (cli->given[CLI_JSON]) {
        json_one(kind, path, n, pfx_buf_str(&report));
        return code;
    }
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2 * REPORT_MAX);
    if (n == 0) {
        cli_clean(path, &clean);
        (void)printf("%s: %sok%s\n", pfx_buf_str(&clean), cli_tone(stdout, CLI_GOOD),
                     cli_tone_end(stdout, CLI_GOOD));
    }
    for (const char *p = pfx_buf_str(&report); *p;) {
        size_t len = strcspn(p, "\n");
        char *line PFX_AUTOFREE = pfx_strndup(p, len);
        pfx_buf_reset(&clean);
        cli_clean(line, &clean);
        (void)printf("%s%s%s\n", cli_tone(stdout, CLI_BAD), pfx_buf_str(&clean),
                     cli_tone_end(stdout, CLI_BAD));
        p += len + (p[len] == '\n');
    }
    return code;
}

int cli_do_config_check(struct cli *cli)
{
    int worst = CLI_EXIT_OK;
    struct pfx_error err = PFX_ERROR_NONE;
    for (size_t i = 0; i < cli->n_operands; i++) {
        const struct kind *kind = NULL;
        if (pfx_failed(find_kind(cli, cli->operands[i], &kind, &err)))
            return cli_fail(&err);
    }
    for (size_t i = 0; i < cli->n_operands; i++) {
        const struct kind *kind = NULL;
        if (pfx_failed(find_kind(cli, cli->operands[i], &kind, &err)))
            return cli_fail(&err);
        if (check_one(cli, kind, cli->operands[i]) != CLI_EXIT_OK)
            worst = CLI_EXIT_NO;
    }
    for (size_t i = 0; cli->n_operands == 0 && i < N_KINDS; i++) {
        if (check_one(cli, &kinds[i], pfx_conf_path(kinds[i].id)) != CLI_EXIT_OK)
            worst = CLI_EXIT_NO;
    }
    return worst;
}

int cli_do_config_example(struct cli *cli)
{
    static const char *const names[] = {"agent", "uploader", "hsm-policy", NULL};
    const struct kind *kind = kind_by_name(cli->operands[0]);
    if (!kind) {
        const char *near = cli_nearest(cli->operands[0], names);
        struct pfx_error err = PFX_ERROR_NONE;
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "there are three files: agent, uploader, hsm-policy%s%s%s",
                               near ? "; did you mean " : "", near ? near : "", near ? "?" : ""));
        return cli_fail(&err);
    }
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(EXAMPLE_MAX);
    pfx_conf_example(kind->id, &text);
    (void)fputs(pfx_buf_str(&text), stdout);
    return CLI_EXIT_OK;
}
