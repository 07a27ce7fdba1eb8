/* help, and what packaging takes from the same table: the man page and bash's completion. */
#include <ctype.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/option.h"

#define SYNOPSIS_MAX 256
#define HELP_COLUMN 28

static const struct {
    int code;
    const char *meaning;
} exits[] = {
    {0, "done, or yes"},
    {1, "no, or a finding"},
    {2, "usage"},
    {3, "agent unreachable"},
    {4, "refused"},
    {5, "HSM unavailable, try again"},
    {6, "integrity: stop and look"},
    {70, "internal"},
};

static void option_line(unsigned id)
{
    const struct cli_option *option = &cli_options[id];
    char left[64], letter[8] = "", c = cli_option_letter((enum cli_option_id)id);
    if (c)
        (void)snprintf(letter, sizeof(letter), "-%c, ", c);
    (void)snprintf(left, sizeof(left), "%s--%s%s%s", letter, option->name, option->arg ? " " : "",
                   option->arg ? option->arg : "");
    (void)printf("  %-*s %s\n", HELP_COLUMN, left, option->help);
}

static void synopsis(const struct cli_verb *verb, char *buf)
{
    char name[64];
    (void)snprintf(buf, SYNOPSIS_MAX, "pfx-agent %s%s%s%s", cli_verb_name(verb, name),
                   verb->operands[0] ? " " : "", verb->operands,
                   verb->options ? " [OPTION]..." : "");
}

/* Words wrapped at the width of a page. */
static void paragraph(const char *text)
{
    size_t column = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, " ");
        if (column > 0 && column + 1 + len > 78) {
            (void)fputc('\n', stdout);
            column = 0;
        } else if (column > 0) {
            (void)fputc(' ', stdout);
            column++;
        }
        (void)printf("%.*s", (int)len, p);
        column += len;
        p += len;
        while (*p == ' ')
            p++;
    }
    (void)fputc('\n', stdout);
}

static int help_verb(const struct cli_verb *verb)
{
    char usage[SYNOPSIS_MAX];
    synopsis(verb, usage);
    (void)printf("%s\n\n", usage);
    (void)printf("%c%s. For %s.\n", toupper((unsigned char)verb->help[0]), verb->help + 1,
                 verb->who);
    if (verb->more) {
        (void)fputc('\n', stdout);
        paragraph(verb->more);
    }
    if (verb->options)
        (void)fputc('\n', stdout);
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        if (verb->options & CLI_BIT(id))
            option_line(id);
    return CLI_EXIT_OK;
}

/* The overview's parts, by the first word of their verbs. */
static const struct {
    const char *title;
    const char *const words[10];
} parts[] = {
    {"Every day", {"run", "status", "enrolment", "record", "pause", "resume", "approve"}},
    {"Keys", {"key", "connector", "standing"}},
    {"Operation log", {"log"}},
    {"Set-up", {"config", "hsm", "init", "secret", "setup", "policy", "backup", "restore", "help"}},
};

static void verb_line(const struct cli_verb *verb)
{
    char name[64], left[128], line[512];
    bool told = verb->operands[0] && verb->noun && verb->min_operands;
    (void)snprintf(left, sizeof(left), "%s%s%s", cli_verb_name(verb, name), told ? " " : "",
                   told ? verb->operands : "");
    (void)snprintf(line, sizeof(line), "  %-*s %s", HELP_COLUMN,
                   strlen(left) > HELP_COLUMN ? name : left, verb->help);
    cli_print_lines(stdout, HELP_COLUMN + 3, line);
}

static void word_lines(const char *word)
{
    for (const struct cli_verb *v = cli_verbs; v->verb; v++)
        if (!v->hidden && strcmp(v->noun ? v->noun : v->verb, word) == 0)
            verb_line(v);
}

static int overview(void)
{
    struct pfx_buf codes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024);
    (void)printf("pfx-agent %s: S/MIME enrolment with every private key in an HSM\n",
                 PFX_VERSION);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        (void)printf("\n%s:\n", parts[i].title);
        for (const char *const *word = parts[i].words; *word; word++)
            word_lines(*word);
    }
    (void)printf("\nOptions of every verb:\n");
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        if (CLI_GLOBAL & CLI_BIT(id))
            option_line(id);
    option_line(CLI_VERSION);
    (void)pfx_buf_addf(&codes, "pfx-agent help VERB tells more. Exit codes:");
    for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++)
        (void)pfx_buf_addf(&codes, "%s %d %s", i ? ";" : "", exits[i].code, exits[i].meaning);
    (void)pfx_buf_addf(&codes, ".");
    (void)printf("\n");
    paragraph(pfx_buf_str(&codes));
    return CLI_EXIT_OK;
}

int cli_do_help(struct cli *cli)
{
    if (cli->n_operands == 0)
        return overview();
    const char *first = cli->operands[0];
    const char *second = cli->n_operands > 1 ? cli->operands[1] : NULL;
    const struct cli_verb *verb =
        second ? cli_verb_find(first, second) : cli_verb_find(NULL, first);
    if (verb)
        return help_verb(verb);
    size_t found = 0;
    for (const struct cli_verb *v = cli_verbs; v->verb && !second; v++)
        if (v->noun && strcmp(v->noun, first) == 0) {
            if (found++ > 0)
                (void)printf("\n");
            (void)help_verb(v);
        }
    if (found > 0)
        return CLI_EXIT_OK;
    const char *names[64] = {NULL};
    size_t n = 0;
    for (const struct cli_verb *v = cli_verbs; v->verb && n + 1 < 64; v++)
        if (!v->hidden)
            names[n++] = second && v->noun ? v->verb : v->noun ? v->noun : v->verb;
    const char *near = cli_nearest(second ? second : first, names);
    struct pfx_error err = PFX_ERROR_NONE;
    (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "no verb \"%s%s%s\"%s%s%s", first,
                           second ? " " : "", second ? second : "", near ? "; did you mean \"" : "",
                           near ? near : "", near ? "\"?" : ""));
    return cli_fail(&err);
}

/* roff: backslashes and leading dots have a meaning. */
static void roff(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\')
            (void)fputs("\\e", stdout);
        else if (*p == '-')
            (void)fputs("\\-", stdout);
        else if (p == text && (*p == '.' || *p == '\''))
            (void)printf("\\&%c", *p);
        else
            (void)fputc(*p, stdout);
    }
}

static void roff_option(unsigned id)
{
    (void)printf(".TP\n\\fB");
    if (cli_option_letter((enum cli_option_id)id))
        (void)printf("\\-%c\\fR, \\fB", cli_option_letter((enum cli_option_id)id));
    (void)printf("\\-\\-");
    roff(cli_options[id].name);
    (void)printf("\\fR");
    if (cli_options[id].arg)
        (void)printf(" \\fI%s\\fR", cli_options[id].arg);
    (void)printf("\n");
    roff(cli_options[id].help);
    (void)printf("\n");
}

static int man_conf(const char *name)
{
    static const struct {
        const char *name, *title, *about;
        enum pfx_conf_file file;
    } files[] = {
        {"agent", "PFX\\-AGENT.YAML", "what pfx\\-agentd decides by", PFX_CONF_AGENT},
        {"uploader", "PFX\\-UPLOADER.YAML", "whom pfx\\-uploader speaks to", PFX_CONF_UPLOADER},
        {"hsm-policy", "PFX\\-HSM\\-POLICY.YAML", "what pfx\\-hsm does, whatever it is asked",
         PFX_CONF_HSM_POLICY},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (strcmp(files[i].name, name) != 0)
            continue;
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024 * 1024);
        (void)printf(".TH %s 5 \"\" \"pfx\\-agent %s\" \"File Formats\"\n.SH NAME\n",
                     files[i].title, PFX_VERSION);
        roff(pfx_conf_path(files[i].file));
        (void)printf(" \\- %s\n", files[i].about);
        pfx_conf_man(files[i].file, &text);
        (void)fputs(pfx_buf_str(&text), stdout);
        return CLI_EXIT_OK;
    }
    cli_say("pfx-agent: there are man pages of agent, uploader and hsm-policy");
    return CLI_EXIT_USAGE;
}

int cli_do_man(struct cli *cli)
{
    if (cli->n_operands > 0)
        return man_conf(cli->operands[0]);
    (void)printf(".TH PFX\\-AGENT 1 \"\" \"pfx\\-agent %s\" \"User Commands\"\n", PFX_VERSION);
    (void)printf(".SH NAME\npfx\\-agent \\- S/MIME enrolment with every private key in an HSM\n"
                 ".SH SYNOPSIS\n\\fBpfx\\-agent\\fR [\\fIOPTION\\fR]... \\fIVERB\\fR "
                 "[\\fIOPERAND\\fR]...\n"
                 ".SH DESCRIPTION\nThe command line of pfx\\-agentd and pfx\\-hsm. Data goes to "
                 "standard output, everything else to standard error. A PIN or another secret "
                 "comes from the terminal, without echo, or from a file descriptor; never from the "
                 "command line or the environment.\n.SH VERBS\n");
    for (const struct cli_verb *v = cli_verbs; v->verb; v++) {
        char name[64];
        if (v->hidden)
            continue;
        (void)printf(".SS ");
        roff(cli_verb_name(v, name));
        (void)printf(" ");
        roff(v->operands);
        (void)printf("\n");
        (void)fputc(toupper((unsigned char)v->help[0]), stdout);
        roff(v->help + 1);
        (void)printf(". For %s.", v->who);
        if (v->more) {
            (void)printf("\n.PP\n");
            roff(v->more);
        }
        (void)printf("\n");
        for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
            if (v->options & CLI_BIT(id))
                roff_option(id);
    }
    (void)printf(".SH OPTIONS OF EVERY VERB\n");
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        if (CLI_GLOBAL & CLI_BIT(id))
            roff_option(id);
    (void)printf(".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++)
        (void)printf(".TP\n\\fB%d\\fR\n%s\n", exits[i].code, exits[i].meaning);
    (void)printf(
        ".SH ENVIRONMENT\n.TP\n\\fBPFX_AGENT_SOCKET\\fR, \\fBPFX_HSM_SOCKET\\fR\nsockets of "
        "pfx\\-agentd and pfx\\-hsm, where no option names them\n"
        ".TP\n\\fBPFX_LOG_DIR\\fR\nfolder of the operation log, where no option names it\n"
        ".TP\n\\fBNO_COLOR\\fR\nno colours on a terminal\n"
        ".SH FILES\n.TP\n\\fI/etc/pfx\\-agent/agent.yaml\\fR, \\fIuploader.yaml\\fR, "
        "\\fIhsm\\-policy.yaml\\fR\nconfiguration; \\fBpfx\\-agent config example\\fR prints "
        "each with its options\n"
        ".TP\n\\fI/run/pfx\\-agent/cli\\fR, \\fI/run/pfx\\-hsm/admin\\fR\nsockets\n");
    return CLI_EXIT_OK;
}

static void completion_options(const struct cli_verb *verb)
{
    uint64_t all = CLI_GLOBAL | (verb ? verb->options : CLI_BIT(CLI_VERSION));
    for (unsigned id = 0, n = 0; id < CLI_OPTION_COUNT; id++)
        if (all & CLI_BIT(id))
            (void)printf("%s--%s", n++ ? " " : "", cli_options[id].name);
}

int cli_do_completion(struct cli *cli)
{
    (void)cli;
    (void)printf("# bash completion for pfx-agent, written by `pfx-agent completion`\n"
                 "_pfx_agent()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} i words=()\n"
                 "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                 "        [[ ${COMP_WORDS[i]} == -* ]] || words+=(\"${COMP_WORDS[i]}\")\n"
                 "    done\n    local all\n    case \"${words[*]}\" in\n");
    (void)printf("    '') all='");
    const char *last = "";
    for (const struct cli_verb *v = cli_verbs; v->verb; v++) {
        const char *word = v->noun ? v->noun : v->verb;
        if (!v->hidden && strcmp(word, last) != 0)
            (void)printf("%s ", word);
        last = word;
    }
    completion_options(NULL);
    (void)printf("' ;;\n");
    for (const struct cli_verb *v = cli_verbs; v->verb; v++) {
        if (v->hidden)
            continue;
        if (v->noun && (v == cli_verbs || !v[-1].noun || strcmp(v[-1].noun, v->noun) != 0)) {
            (void)printf("    '%s') all='", v->noun);
            for (const struct cli_verb *w = cli_verbs; w->verb; w++)
                if (w->noun && strcmp(w->noun, v->noun) == 0)
                    (void)printf("%s ", w->verb);
            (void)printf("' ;;\n");
        }
        char name[64];
        (void)printf("    '%s'*) all='", cli_verb_name(v, name));
        completion_options(v);
        (void)printf("' ;;\n");
    }
    (void)printf("    *) all='' ;;\n    esac\n"
                 "    mapfile -t COMPREPLY < <(compgen -W \"$all\" -- \"$cur\")\n"
                 "    [[ $cur == -* || -n ${COMPREPLY[*]} ]] || "
                 "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n}\n"
                 "complete -F _pfx_agent pfx-agent\n");
    return CLI_EXIT_OK;
}
