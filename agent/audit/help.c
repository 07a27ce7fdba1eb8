/* pfx-audit help, and what packaging takes from the same tables: man page and bash's completion. */
#include <ctype.h>
#include <string.h>

#include "agent/audit/meanings.h"
#include "agent/audit/options.h"
#include "agent/audit/text.h"

#define HELP_COLUMN 26

static const struct {
    int code;
    const char *meaning;
} exits[] = {
    {PFX_AUDIT_OK, "done, yes, or verified"},
    {PFX_AUDIT_FINDING, "no, or a finding"},
    {PFX_AUDIT_USAGE, "usage"},
    {PFX_AUDIT_TAMPERING, "integrity: tampering or damage"},
    {70, "internal"},
};

static void option_line(const struct pfx_audit_option *o)
{
    char left[64], letter[8] = "";
    if (o->letter)
        (void)snprintf(letter, sizeof(letter), "-%c, ", o->letter);
    (void)snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
                   o->arg ? o->arg : "");
    (void)printf("  %-*s %s\n", HELP_COLUMN, left, o->help);
}

static int help_command(const struct pfx_audit_command *c)
{
    (void)printf("pfx-audit %s%s%s [OPTION]...\n\n%c%s.\n", c->name, c->operands[0] ? " " : "",
                 c->operands, toupper((unsigned char)c->help[0]), c->help + 1);
    if (c->more) {
        (void)printf("\n");
        pfx_text_paragraph(c->more, "");
    }
    (void)printf("\n");
    for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
        if (pfx_audit_option_of(o, c))
            option_line(o);
    return PFX_AUDIT_OK;
}

static int overview(void)
{
    (void)printf("pfx-audit %s: checks and reads an exported operation log, offline\n\n",
                 PFX_VERSION);
    for (const struct pfx_audit_command *c = pfx_audit_commands; c->name; c++) {
        char left[128];
        if (c->hidden)
            continue;
        (void)snprintf(left, sizeof(left), "%s%s%s", c->name, c->operands[0] ? " " : "",
                       c->operands);
        (void)printf("  %-*s %s\n", HELP_COLUMN + 4, left, c->help);
    }
    (void)printf("\n");
    for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
        if (!o->commands || !*o->commands)
            option_line(o);
    (void)printf("\npfx-audit help COMMAND tells more; pfx-audit help entries: what stands in a "
                 "log. Exit codes:");
    for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++)
        (void)printf("%s %d %s", i ? ";" : "", exits[i].code, exits[i].meaning);
    (void)printf(".\n");
    return PFX_AUDIT_OK;
}

/* "operation of hsm", "note of hsm, agentd" */
static const char *kind(const struct pfx_event_info *event, char buf[48])
{
    (void)snprintf(buf, 48, "%s of %s%s%s", event->operation ? "operation" : "note",
                   event->writers & 1u << PFX_SRC_HSM ? pfx_src_name(PFX_SRC_HSM) : "",
                   event->writers == (1u << PFX_SRC_HSM | 1u << PFX_SRC_AGENTD) ? ", " : "",
                   event->writers & 1u << PFX_SRC_AGENTD ? pfx_src_name(PFX_SRC_AGENTD) : "");
    return buf;
}

static const char *field_name(enum pfx_field field, char buf[64])
{
    (void)snprintf(buf, 64, "%s%s%s", pfx_fields[field].group,
                   pfx_fields[field].group[0] ? "." : "", pfx_fields[field].name);
    return buf;
}

static int help_entries(void)
{
    char buf[64];
    (void)printf(
        "Events. An operation has an intent and a result. hsm: written by pfx-hsm; agentd: "
        "what pfx-agentd says.\n");
    for (unsigned i = PFX_EV_UNKNOWN + 1; i < PFX_EVENT_COUNT; i++)
        (void)printf("  %-21s %-20s %s\n", pfx_events[i].name, kind(&pfx_events[i], buf),
                     pfx_event_meanings[i]);
    (void)printf("\nMembers\n");
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++)
        (void)printf("  %-21s %s\n", field_name((enum pfx_field)i, buf), pfx_field_meanings[i]);
    return PFX_AUDIT_OK;
}

int pfx_audit_help(const struct pfx_audit_options *options)
{
    if (options->n_operands == 0)
        return overview();
    if (strcmp(options->operands[0], "entries") == 0)
        return help_entries();
    const struct pfx_audit_command *c = pfx_audit_command_find(options->operands[0]);
    if (c)
        return help_command(c);
    struct pfx_error err = PFX_ERROR_NONE;
    (void)!pfx_ok(
        pfx_fail(&err, PFX_CLASS_USAGE, "", "", "", "no such command; pfx-audit help lists them"));
    return pfx_audit_fail(&err);
}

/* roff: backslashes, dashes and leading dots have a meaning. */
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

static void roff_option(const struct pfx_audit_option *o)
{
    (void)printf(".TP\n\\fB");
    if (o->letter)
        (void)printf("\\-%c\\fR, \\fB", o->letter);
    (void)printf("\\-\\-");
    roff(o->name);
    (void)printf("\\fR");
    if (o->arg) {
        (void)printf(" \\fI");
        roff(o->arg);
        (void)printf("\\fR");
    }
    (void)printf("\n");
    roff(o->help);
    (void)printf("\n");
}

static void roff_entries(void)
{
    char buf[64];
    (void)printf(".SH ENTRIES\nAn entry is one canonical JSON object. An operation has an intent, "
                 "written before it begins, and a result; the rest are notes. No entry names a "
                 "person.\n.SS Events\n");
    for (unsigned i = PFX_EV_UNKNOWN + 1; i < PFX_EVENT_COUNT; i++) {
        (void)printf(".TP\n\\fB");
        roff(pfx_events[i].name);
        (void)printf("\\fR (%s)\n", kind(&pfx_events[i], buf));
        roff(pfx_event_meanings[i]);
        (void)printf("\n");
    }
    (void)printf(".SS Members\n");
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        (void)printf(".TP\n\\fB");
        roff(field_name((enum pfx_field)i, buf));
        (void)printf("\\fR\n");
        roff(pfx_field_meanings[i]);
        (void)printf("\n");
    }
}

int pfx_audit_man(const struct pfx_audit_options *options)
{
    (void)options;
    (void)printf(".TH PFX\\-AUDIT 1 \"\" \"pfx\\-agent %s\" \"User Commands\"\n", PFX_VERSION);
    (void)printf(
        ".SH NAME\npfx\\-audit \\- check and read an exported operation log\n"
        ".SH SYNOPSIS\n\\fBpfx\\-audit\\fR \\fICOMMAND\\fR [\\fIOPERAND\\fR]... "
        "[\\fIOPTION\\fR]...\n"
        ".SH DESCRIPTION\nFor auditors of pfx\\-agent: reads the folder that \\fBpfx\\-agent log "
        "export\\fR wrote, on any machine, with no HSM and no network. The log's public key comes "
        "from the auditor, not from the export. Only \\fBverify\\fR and \\fBcheck\\fR say whether "
        "something can be believed; the other commands read what is there and say that they "
        "didn't verify it. Characters that could steer a terminal are shown as escapes like "
        "\\eu202e.\n.SH COMMANDS\n");
    for (const struct pfx_audit_command *c = pfx_audit_commands; c->name; c++) {
        if (c->hidden)
            continue;
        (void)printf(".SS ");
        roff(c->name);
        (void)printf(" ");
        roff(c->operands);
        (void)printf("\n");
        (void)fputc(toupper((unsigned char)c->help[0]), stdout);
        roff(c->help + 1);
        (void)printf(".\n");
        if (c->more) {
            (void)printf(".PP\n");
            roff(c->more);
            (void)printf("\n");
        }
        for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
            if (o->commands && pfx_audit_option_of(o, c))
                roff_option(o);
    }
    (void)printf(".SH OPTIONS OF EVERY COMMAND\n");
    for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
        if (!o->commands)
            roff_option(o);
    roff_entries();
    (void)printf(".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++)
        (void)printf(".TP\n\\fB%d\\fR\n%s\n", exits[i].code, exits[i].meaning);
    (void)printf(".SH EXAMPLES\n.nf\n"
                 "pfx\\-audit verify export \\-\\-key log.vkey\n"
                 "pfx\\-audit show export \\-\\-event 'pfx.*' \\-\\-from 2026\\-11\\-01 "
                 "\\-\\-format csv\n"
                 "pfx\\-audit history export alice@example.com\n"
                 "pfx\\-audit prove export 1234 \\-o 1234.tlog\\-proof \\-\\-entry 1234.json\n"
                 "pfx\\-audit check 1234.tlog\\-proof \\-\\-key log.vkey \\-\\-entry 1234.json\n"
                 ".fi\n.SH SEE ALSO\n\\fBpfx\\-agent\\fR(1)\n");
    return PFX_AUDIT_OK;
}

int pfx_audit_completion(const struct pfx_audit_options *options)
{
    (void)options;
    (void)printf("# bash completion for pfx-audit, written by `pfx-audit completion`\n"
                 "_pfx_audit()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} all\n"
                 "    if ((COMP_CWORD == 1)); then\n        all='");
    for (const struct pfx_audit_command *c = pfx_audit_commands; c->name; c++)
        if (!c->hidden)
            (void)printf("%s ", c->name);
    (void)printf("--version --help'\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (const struct pfx_audit_command *c = pfx_audit_commands; c->name; c++) {
        if (c->hidden)
            continue;
        (void)printf("        %s) all='", c->name);
        for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
            if (pfx_audit_option_of(o, c))
                (void)printf("--%s ", o->name);
        (void)printf("' ;;\n");
    }
    (void)printf("        esac\n    fi\n"
                 "    mapfile -t COMPREPLY < <(compgen -W \"$all\" -- \"$cur\")\n"
                 "    [[ $cur == -* || -n ${COMPREPLY[*]} ]] || "
                 "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n}\n"
                 "complete -F _pfx_audit pfx-audit\n");
    return PFX_AUDIT_OK;
}
