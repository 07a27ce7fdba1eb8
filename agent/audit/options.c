#include "agent/audit/options.h"

#include <string.h>

#define WORD_MAX 48

#define AT(member) offsetof(struct pfx_audit_options, member)
#define READERS "show stats history"
#define FILTERED "show stats"

const struct pfx_audit_option pfx_audit_option_rows[] = {
    {"key", 0, "FILE", "verify check prove ceremony",
     "a public key that may sign: key lines, or PEM; several may be given", PFX_AUDIT_NOWHERE},
    {"since", 0, "CHECKPOINT", "verify", "the period starts at this checkpoint, kept from before",
     AT(since)},
    {"until", 0, "CHECKPOINT|SIZE", "verify", "the period ends there", AT(until)},
    {"anchor", 0, "LABEL|FILE", "verify", "the token's anchor, as someone read it from the token",
     AT(anchor)},
    {"names", 0, "FILE", READERS, "a name map that came another way", AT(names)},
    {"from", 0, "WHEN", FILTERED,
     "from this time on (2026-11-22, 2026-11-22T08:00:00Z) or entry number", AT(from)},
    {"to", 0, "WHEN", FILTERED, "up to this time, day or entry number, with it", AT(to)},
    {"event", 0, "EVENT", FILTERED, "these events: key.make, 'log.*', a list with commas",
     AT(event)},
    {"user", 0, "USER", FILTERED, "about this user: object id, UPN, address, or hash", AT(user)},
    {"key", 0, "ID", FILTERED, "about this key: id or SPKI hash, or their first digits", AT(key)},
    {"order", 0, "ORDER", FILTERED, "about this order at the CA", AT(order)},
    {"enrolment", 0, "N[.ATTEMPT]", FILTERED, "about this enrolment", AT(enrolment)},
    {"operator", 0, "UID", FILTERED, "asked for by this uid", AT(operator_)},
    {"outcome", 0, "OUTCOME", FILTERED, "with this outcome: ok, refused, or a list: device,unknown",
     AT(outcome)},
    {"tier", 0, "TIER", FILTERED, "PFX built with this export tier: direct or transit", AT(tier)},
    {"src", 0, "PROCESS", FILTERED, "written for this process: hsm or agentd", AT(src)},
    {"op", 0, "ULID", FILTERED, "of this operation", AT(op)},
    {"format", 0, "FORMAT", "show", "table (the default), json or csv", PFX_AUDIT_NOWHERE},
    {"out", 'o', "FILE", "prove", "where the proof goes (default: standard output)", AT(out)},
    {"out", 'o', "FILE", "ceremony", "write the page for a printer there, as HTML", AT(out)},
    {"entry", 0, "FILE", "prove check", "the entry's own bytes: prove writes, check reads them",
     AT(entry)},
    {"log", 0, "DIR", "check ceremony", "the export that has its entries", AT(log)},
    {"json", 0, NULL, NULL, "JSON lines with a versioned schema", PFX_AUDIT_NOWHERE},
    {"help", 'h', NULL, NULL, "what this command does", PFX_AUDIT_NOWHERE},
    {"version", 0, NULL, "", "version of the program", PFX_AUDIT_NOWHERE},
    {.name = NULL},
};

/* Is word one of a list's words? */
static bool listed(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, " ");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n;
        while (*p == ' ')
            p++;
    }
    return false;
}

bool pfx_audit_option_of(const struct pfx_audit_option *option,
                         const struct pfx_audit_command *command)
{
    return !option->commands || listed(option->commands, command->name);
}

const struct pfx_audit_command *pfx_audit_command_find(const char *name)
{
    for (const struct pfx_audit_command *c = pfx_audit_commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

/* How many letters have to change (Levenshtein). */
static unsigned changes(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned row[WORD_MAX];
    if (n >= WORD_MAX || m >= WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

static void nearer(const char *word, const char *candidate, const char **best, unsigned *least)
{
    unsigned n = changes(word, candidate);
    if (*word && strncmp(word, candidate, strlen(word)) == 0)
        n = n < 1 ? n : 1; /* the beginning of a word */
    if (n < *least) {
        *least = n;
        *best = candidate;
    }
}

/* Shown in a message: cut, and never an option's value. */
static void shown(const char *word, size_t len, char buf[WORD_MAX])
{
    (void)snprintf(buf, WORD_MAX, "%.*s", (int)(len < WORD_MAX ? len : WORD_MAX - 1), word);
    for (char *p = buf; *p; p++)
        if (*p < 0x20 || *p > 0x7E)
            *p = '?';
}

static pfx_result unknown_command(const char *word, struct pfx_error *err)
{
    char text[WORD_MAX];
    const char *best = NULL;
    unsigned least = strlen(word) <= 3 ? 2 : 3;
    shown(word, strlen(word), text);
    for (const struct pfx_audit_command *c = pfx_audit_commands; c->name; c++)
        if (!c->hidden)
            nearer(text, c->name, &best, &least);
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "no command \"%s\"%s%s%s", text,
                    best ? "; did you mean \"" : "; see pfx-audit help", best ? best : "",
                    best ? "\"?" : "");
}

static pfx_result unknown_option(const char *word, size_t len, struct pfx_error *err)
{
    char text[WORD_MAX];
    const char *best = NULL;
    unsigned least = len <= 3 ? 2 : 3;
    shown(word, len, text);
    for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
        nearer(text, o->name, &best, &least);
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "no option --%s%s%s%s", text,
                    best ? "; did you mean --" : "; see pfx-audit help", best ? best : "",
                    best ? "?" : "");
}

/* The first row of that name or letter; NULL: none. Rows of one name all take a value, or none. */
static const struct pfx_audit_option *row_of(const char *name, size_t len, char letter)
{
    for (const struct pfx_audit_option *o = pfx_audit_option_rows; o->name; o++)
        if (letter ? o->letter == letter : strncmp(o->name, name, len) == 0 && o->name[len] == '\0')
            return o;
    return NULL;
}

struct given {
    const char *name, *value;
};

/* One option at argv[*at]; moves *at when its value is the next word. */
static pfx_result take_option(int argc, char *const *argv, int *at, struct given *ret,
                              struct pfx_error *err)
{
    const char *word = argv[*at];
    const struct pfx_audit_option *option;
    const char *value = NULL;
    if (word[1] == '-') {
        word += 2;
        value = strchr(word, '=');
        size_t len = value ? (size_t)(value - word) : strlen(word);
        option = row_of(word, len, 0);
        if (!option)
            return unknown_option(word, len, err);
        if (value)
            value++;
    } else {
        option = row_of(NULL, 0, word[1]);
        if (!option)
            return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                            "options have two dashes and a whole word, but -o and -h; see "
                            "pfx-audit help");
        if (word[2])
            value = word + 2;
    }
    if (!option->arg && value)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--%s takes no value", option->name);
    if (option->arg && !value && *at + 1 < argc)
        value = argv[++*at];
    if (option->arg && (!value || !*value))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--%s needs a value: %s", option->name,
                        option->arg);
    *ret = (struct given){option->name, value};
    return PFX_OK;
}

static pfx_result set_format(const char *value, struct pfx_audit_options *options,
                             struct pfx_error *err)
{
    static const char *const names[] = {
        [PFX_AUDIT_TABLE] = "table", [PFX_AUDIT_JSON] = "json", [PFX_AUDIT_CSV] = "csv"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(value, names[i]) == 0) {
            options->format = (enum pfx_audit_format)i;
            return PFX_OK;
        }
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--format is table, json or csv");
}

/* Gives an option to the call, now that its command is known. */
static pfx_result settle(struct pfx_audit_call *call, const struct given *given,
                         struct pfx_error *err)
{
    struct pfx_audit_options *options = &call->options;
    const struct pfx_audit_option *o = pfx_audit_option_rows;
    while (o->name &&
           (strcmp(o->name, given->name) != 0 || !pfx_audit_option_of(o, options->command)))
        o++;
    if (!o->name)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "%s has no option --%s; pfx-audit help %s shows what it has",
                        options->command->name, given->name, options->command->name);
    if (o->offset != PFX_AUDIT_NOWHERE) {
        const char **at = (const char **)(void *)((char *)options + o->offset);
        if (*at)
            return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "--%s stands there twice", o->name);
        *at = given->value;
    } else if (strcmp(o->name, "key") == 0) {
        call->keys[options->n_keys++] = given->value;
    } else if (strcmp(o->name, "format") == 0) {
        return set_format(given->value, options, err);
    } else if (strcmp(o->name, "json") == 0) {
        options->format = PFX_AUDIT_JSON;
    }
    return PFX_OK;
}

static pfx_result check_operands(const struct pfx_audit_options *options, struct pfx_error *err)
{
    const struct pfx_audit_command *c = options->command;
    if (options->n_operands < c->min_operands)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s needs: %s", c->name, c->operands);
    if (options->n_operands > c->max_operands)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "%s takes %s%s", c->name,
                        c->max_operands ? "only: " : "no operand",
                        c->max_operands ? c->operands : "");
    return PFX_OK;
}

/* What argv holds: options into `given`, the rest into the operands. */
static pfx_result sort_out(int argc, char *const *argv, struct pfx_audit_call *call,
                           struct given *given, size_t *n_given, struct pfx_error *err)
{
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0)
            options = false;
        else if (options && argv[i][0] == '-' && argv[i][1])
            PFX_TRY(take_option(argc, argv, &i, &given[(*n_given)++], err));
        else
            call->operands[call->options.n_operands++] = argv[i];
    }
    for (size_t i = 0; i < *n_given; i++) {
        call->help = call->help || strcmp(given[i].name, "help") == 0;
        call->version = call->version || strcmp(given[i].name, "version") == 0;
    }
    return PFX_OK;
}

pfx_result pfx_audit_parse(int argc, char *const *argv, struct pfx_audit_call *ret,
                           struct pfx_error *err)
{
    *ret = (struct pfx_audit_call){.help = false};
    ret->operands = pfx_alloc_array((size_t)argc + 1, sizeof(*ret->operands));
    ret->keys = pfx_alloc_array((size_t)argc + 1, sizeof(*ret->keys));
    struct given *given PFX_AUTOFREE = pfx_alloc_array((size_t)argc + 1, sizeof(*given));
    struct pfx_audit_options *options = &ret->options;
    size_t n_given = 0;
    options->keys = ret->keys;
    PFX_TRY(sort_out(argc, argv, ret, given, &n_given, err));
    const char *name = options->n_operands > 0 ? ret->operands[0] : "help";
    if (ret->version && options->n_operands == 0)
        return PFX_OK;
    options->command = pfx_audit_command_find(name);
    if (!options->command)
        return unknown_command(name, err);
    options->operands = ret->operands + (options->n_operands > 0);
    options->n_operands -= options->n_operands > 0;
    if (ret->help)
        return PFX_OK;
    for (size_t i = 0; i < n_given; i++)
        PFX_TRY(settle(ret, &given[i], err));
    return check_operands(options, err);
}

void pfx_audit_call_done(struct pfx_audit_call *call)
{
    free(call->operands);
    free(call->keys);
    *call = (struct pfx_audit_call){.help = false};
}
