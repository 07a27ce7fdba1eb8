/* Arguments against the table of verbs. A mistake gets its own sentence, not the whole help. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "crypto/encode.h"

#define WORD_MAX 64

/* Damerau-Levenshtein (adjacent letters swapped count once) for short words. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= WORD_MAX || m >= WORD_MAX)
        return WORD_MAX;
    unsigned d[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *row = d[i % 3], *above = d[(i + 2) % 3], *two = d[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two[j - 2] + 1 < best)
                best = two[j - 2] + 1;
            row[j] = best;
        }
    }
    return d[n % 3][m];
}

const char *cli_nearest(const char *word, const char *const *candidates)
{
    const char *best = NULL;
    unsigned least = WORD_MAX;
    for (; *candidates; candidates++) {
        unsigned d = distance(word, *candidates);
        if (strncmp(word, *candidates, strlen(word)) == 0 && *word)
            d = d < 1 ? d : 1; /* the beginning of a word */
        if (d < least) {
            least = d;
            best = *candidates;
        }
    }
    size_t len = strlen(word);
    unsigned tolerated = len <= 3 ? 1 : len <= 6 ? 2 : 3;
    return least <= tolerated ? best : NULL;
}

const char *cli_verb_name(const struct cli_verb *verb, char *buf)
{
    (void)snprintf(buf, 64, "%s%s%s", verb->noun ? verb->noun : "", verb->noun ? " " : "",
                   verb->verb);
    return buf;
}

const struct cli_verb *cli_verb_find(const char *noun, const char *verb)
{
    for (const struct cli_verb *v = cli_verbs; v->verb; v++)
        if (strcmp(v->verb, verb) == 0 && (noun ? v->noun && strcmp(v->noun, noun) == 0 : !v->noun))
            return v;
    return NULL;
}

/* The first words of a command line (noun NULL), or the verbs of a noun. */
static void words_of(const char *noun, const char **words, size_t max)
{
    size_t n = 0;
    for (const struct cli_verb *v = cli_verbs; v->verb && n + 1 < max; v++) {
        const char *word = NULL;
        if (noun && v->noun && strcmp(v->noun, noun) == 0)
            word = v->verb;
        else if (!noun && !v->hidden)
            word = v->noun ? v->noun : v->verb;
        if (word && (n == 0 || strcmp(words[n - 1], word) != 0))
            words[n++] = word;
    }
    words[n] = NULL;
}

static void join(const char *const *words, char *buf, size_t size)
{
    buf[0] = '\0';
    for (size_t used = 0; *words && used < size; words++) {
        int n = snprintf(buf + used, size - used, "%s%s", used ? ", " : "", *words);
        if (n < 0)
            return;
        used += (size_t)n;
    }
}

static pfx_result unknown_word(const char *noun, const char *word, struct pfx_error *err)
{
    const char *words[WORD_MAX];
    words_of(noun, words, WORD_MAX);
    const char *near = cli_nearest(word, words);
    char all[320];
    join(words, all, sizeof(all));
    char shown[WORD_MAX];
    (void)snprintf(shown, sizeof(shown), "%s", word);
    if (near)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "%s%sno verb \"%s\"; did you mean \"%s\"?", noun ? noun : "",
                        noun ? ": " : "", shown, near);
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s%sno verb \"%s\"; there are: %s",
                    noun ? noun : "", noun ? ": " : "", shown, all);
}

/* Finds the verb in front of the operands and takes its words off them. */
static pfx_result find_verb(struct cli *cli, struct pfx_error *err)
{
    const char *first = cli->n_operands > 0 ? cli->operands[0] : NULL;
    if (!first) {
        cli->verb = cli_verb_find(NULL, "help");
        return PFX_OK;
    }
    cli->verb = cli_verb_find(NULL, first);
    size_t taken = 1;
    if (!cli->verb) {
        const char *verbs[WORD_MAX];
        words_of(first, verbs, WORD_MAX);
        if (!verbs[0])
            return unknown_word(NULL, first, err);
        if (cli->n_operands < 2) {
            char all[320];
            join(verbs, all, sizeof(all));
            if (cli->given[CLI_HELP]) { /* "pfx-agent key --help" */
                cli->verb = cli_verb_find(NULL, "help");
                return PFX_OK;
            }
            return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s needs a verb: %s", first, all);
        }
        cli->verb = cli_verb_find(first, cli->operands[1]);
        if (!cli->verb)
            return unknown_word(first, cli->operands[1], err);
        taken = 2;
    }
    cli->n_operands -= taken;
    memmove(cli->operands, cli->operands + taken, (cli->n_operands + 1) * sizeof(char *));
    return PFX_OK;
}

static pfx_result check_operands(const struct cli *cli, struct pfx_error *err)
{
    const struct cli_verb *verb = cli->verb;
    char name[64];
    (void)cli_verb_name(verb, name);
    if (cli->given[CLI_HELP])
        return PFX_OK;
    if (cli->n_operands < verb->min_operands)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s needs: %s", name, verb->operands);
    /* What is too much isn't repeated: it could be a secret. */
    if (cli->n_operands > verb->max_operands && verb->options & CLI_BIT(CLI_FD))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "%s takes only a name: the value never stands on the command line, where "
                        "other users and the shell's history see it. It is asked for, or read "
                        "with --fd N. Take a new one if this was a real one",
                        name);
    if (cli->n_operands > verb->max_operands && verb->max_operands == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s takes no operand", name);
    if (cli->n_operands > verb->max_operands)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s takes only: %s", name,
                        verb->operands);
    return PFX_OK;
}

static pfx_result check_options(const struct cli *cli, struct pfx_error *err)
{
    char name[64];
    (void)cli_verb_name(cli->verb, name);
    uint64_t allowed = CLI_GLOBAL | cli->verb->options;
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        if (cli->given[id] && !(allowed & CLI_BIT(id)))
            return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                            "%s has no option --%s; pfx-agent help %s shows what it has", name,
                            cli_options[id].name, name);
    return PFX_OK;
}

static pfx_result unknown_option(const char *word, size_t len, struct pfx_error *err)
{
    char shown[WORD_MAX];
    size_t most = len < WORD_MAX ? len : WORD_MAX - 1;
    (void)snprintf(shown, sizeof(shown), "%.*s", (int)pfx_utf8_cut(word, most), word);
    const char *names[CLI_OPTION_COUNT + 1] = {NULL};
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        names[id] = cli_options[id].name;
    const char *near = cli_nearest(shown, names);
    if (near)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "no option --%s; did you mean --%s?",
                        shown, near);
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "no option --%s; see pfx-agent help", shown);
}

/* The value behind an option: what stands in its own word, or the next word; moves *at then. */
static pfx_result take_value(int argc, char *const *argv, int *at, unsigned id, const char *value,
                             struct cli *cli, struct pfx_error *err)
{
    const struct cli_option *option = &cli_options[id];
    if (cli->given[id] && id != CLI_WITNESS)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--%s stands there twice", option->name);
    if (!option->arg && value)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--%s takes no value", option->name);
    if (option->arg && !value && *at + 1 < argc)
        value = argv[++*at];
    if (option->arg && (!value || !*value))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--%s needs a value: %s", option->name,
                        option->arg);
    if (id == CLI_WITNESS && cli->n_witnesses == CLI_WITNESSES)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "a page has room for %d witnesses; the others sign below", CLI_WITNESSES);
    if (id == CLI_WITNESS)
        cli->witnesses[cli->n_witnesses++] = value;
    cli->given[id] = true;
    cli->values[id] = value;
    return PFX_OK;
}

/* "-f", "-n 20", "-n20". */
static pfx_result take_letter(int argc, char *const *argv, int *at, struct cli *cli,
                              struct pfx_error *err)
{
    const char *word = argv[*at] + 1;
    unsigned id = 0;
    while (id < CLI_OPTION_COUNT && cli_option_letter((enum cli_option_id)id) != word[0])
        id++;
    if (id == CLI_OPTION_COUNT || (word[1] && !cli_options[id].arg))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "options have two dashes and a whole word; see pfx-agent help");
    return take_value(argc, argv, at, id, word[1] ? word + 1 : NULL, cli, err);
}

/* One long option at argv[*at]; moves *at when its value is the next word. */
static pfx_result take_option(int argc, char *const *argv, int *at, struct cli *cli,
                              struct pfx_error *err)
{
    const char *word = argv[*at] + 2;
    const char *value = strchr(word, '=');
    size_t len = value ? (size_t)(value - word) : strlen(word);
    unsigned id = 0;
    while (id < CLI_OPTION_COUNT &&
           (strncmp(cli_options[id].name, word, len) != 0 || cli_options[id].name[len] != '\0'))
        id++;
    if (id == CLI_OPTION_COUNT)
        return unknown_option(word, len, err);
    return take_value(argc, argv, at, id, value ? value + 1 : NULL, cli, err);
}

pfx_result cli_parse(int argc, char *const *argv, struct cli *cli, struct pfx_error *err)
{
    *cli = (struct cli){0};
    cli->operands = pfx_alloc_array((size_t)argc + 1, sizeof(*cli->operands));
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0)
            options = false;
        else if (options && strncmp(argv[i], "--", 2) == 0)
            PFX_TRY(take_option(argc, argv, &i, cli, err));
        else if (options && argv[i][0] == '-' && argv[i][1])
            PFX_TRY(take_letter(argc, argv, &i, cli, err));
        else
            cli->operands[cli->n_operands++] = argv[i];
    }
    if (cli->given[CLI_VERSION] && cli->n_operands == 0)
        return PFX_OK; /* main prints it */
    PFX_TRY(find_verb(cli, err));
    PFX_TRY(check_options(cli, err));
    return check_operands(cli, err);
}

void cli_done(struct cli *cli)
{
    free(cli->operands);
    *cli = (struct cli){0};
}

/* Digits only, nothing in front or behind; false past limit. */
static bool whole_number(const char *text, size_t len, int64_t limit, int64_t *ret)
{
    int64_t n = 0;
    if (len == 0 || len > 12)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (text[i] - '0');
    }
    *ret = n;
    return n <= limit;
}

pfx_result cli_fd_value(const struct cli *cli, enum cli_option_id id, int *ret_fd,
                        struct pfx_error *err)
{
    if (!cli->given[id]) {
        *ret_fd = -1;
        return PFX_OK;
    }
    int64_t n = 0;
    if (!whole_number(cli->values[id], strlen(cli->values[id]), 65535, &n))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "--%s is the number of an open file descriptor, like 0 or 3: the secret "
                        "itself never stands on the command line",
                        cli_options[id].name);
    *ret_fd = (int)n;
    return PFX_OK;
}

pfx_result cli_duration(const char *text, int64_t *ret_seconds, struct pfx_error *err)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t len = strlen(text);
    int64_t factor = 1, n = 0;
    for (size_t i = 0; len > 0 && i < sizeof(units) / sizeof(units[0]); i++)
        if (text[len - 1] == units[i].unit) {
            factor = units[i].seconds;
            len--;
            break;
        }
    if (!whole_number(text, len, 86400 / factor, &n))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "a duration is a whole number with s, m or h, up to a day: 90s, 5m, 2h");
    *ret_seconds = n * factor;
    return PFX_OK;
}
