/* Option tables as text: the example file, the man page, and the report of all mistakes. */
#include "api/conf/option.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/conf/table.h"

static const struct pfx_option_table *table_of(enum pfx_conf_file file)
{
    switch (file) {
    case PFX_CONF_AGENT:
        return &pfx_agent_table;
    case PFX_CONF_UPLOADER:
        return &pfx_uploader_table;
    case PFX_CONF_HSM_POLICY:
        break;
    }
    return &pfx_policy_table;
}

const char *pfx_conf_path(enum pfx_conf_file file)
{
    switch (file) {
    case PFX_CONF_AGENT:
        return "/etc/pfx-agent/agent.yaml";
    case PFX_CONF_UPLOADER:
        return "/etc/pfx-agent/uploader.yaml";
    case PFX_CONF_HSM_POLICY:
        break;
    }
    return "/etc/pfx-agent/hsm-policy.yaml";
}

/* Is an option written without a comment sign? Not within a list that may be left out. */
static bool is_live_row(const struct pfx_option_table *table, const struct pfx_option *row)
{
    if (!row->def && !row->required)
        return false;
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct pfx_option *list = &table->rows[i];
        size_t len = strlen(list->path);
        if (list->type == PFX_O_LIST && !list->required &&
            strncmp(row->path, list->path, len) == 0 && strncmp(row->path + len, "[].", 3) == 0)
            return false;
    }
    return true;
}

/* Is an option below this section ("access.") written without a comment sign? */
static bool is_live(const struct pfx_option_table *table, const char *section, size_t len)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (strncmp(table->rows[i].path, section, len) == 0 && is_live_row(table, &table->rows[i]))
            return true;
    return false;
}

/* Help and expectation, wrapped, as comment lines. */
static void put_comment(const struct pfx_option *row, int indent, struct pfx_buf *out)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    pfx_buf_addf(&text, "%s. Value: ", row->help);
    pfx_option_expects(row, &text);
    const char *p = pfx_buf_str(&text);
    while (*p) {
        size_t room = (size_t)(96 - indent), n = strlen(p);
        if (n > room) {
            n = room;
            while (n > 0 && p[n] != ' ')
                n--;
            if (n == 0)
                n = strcspn(p, " ");
        }
        pfx_buf_addf(out, "%*s# %.*s\n", indent, "", (int)n, p);
        p += n + strspn(p + n, " ");
    }
}

void pfx_conf_example(enum pfx_conf_file file, struct pfx_buf *out)
{
    const struct pfx_option_table *table = table_of(file);
    const char *last = "";
    pfx_buf_addf(out, "# %s: %s\n", table->name, table->about);
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct pfx_option *row = &table->rows[i];
        if (row->type == PFX_O_NEVER || row->type == PFX_O_LIST)
            continue;
        bool live = is_live_row(table, row), first = false;
        int indent = 0;
        const char *name = row->path;
        pfx_buf_add_str(out, "\n");
        for (const char *dot; (dot = strchr(name, '.')) != NULL; name = dot + 1) {
            size_t upto = (size_t)(dot - row->path) + 1, len = (size_t)(dot - name);
            bool list = len > 2 && dot[-1] == ']';
            if (strncmp(last, row->path, upto) != 0) {
                first = list;
                if (list) { /* the row of the list itself says what it is */
                    char *path PFX_AUTOFREE = pfx_strndup(row->path, upto - 3);
                    for (size_t j = 0; j < table->n_rows; j++)
                        if (strcmp(table->rows[j].path, path) == 0)
                            put_comment(&table->rows[j], indent, out);
                }
                pfx_buf_addf(out, "%*s%s%.*s:\n", indent, "",
                             is_live(table, row->path, upto) ? "" : "# ",
                             (int)(list ? len - 2 : len), name);
            }
            indent += list ? 4 : 2;
        }
        put_comment(row, indent, out);
        bool brackets = row->type == PFX_O_SET;
        const char *value = row->def ? row->def : row->sample ? row->sample : "";
        pfx_buf_addf(out, "%*s%s%s%s: %s%s%s\n", first ? indent - 2 : indent, "",
                     live ? "" : "# ", first ? "- " : "", name, brackets ? "[" : "", value,
                     brackets ? "]" : "");
        last = row->path;
    }
}

/* A backslash or a leading dot or quote would be a request to roff; "-" would become a hyphen. */
static void put_roff(const char *text, struct pfx_buf *out)
{
    if (*text == '.' || *text == '\'')
        pfx_buf_add_str(out, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            pfx_buf_add_str(out, "\\e");
        else if (*text == '-')
            pfx_buf_add_str(out, "\\-");
        else
            pfx_buf_add(out, text, 1);
    }
}

void pfx_conf_man(enum pfx_conf_file file, struct pfx_buf *out)
{
    const struct pfx_option_table *table = table_of(file);
    pfx_buf_add_str(out, ".SH OPTIONS\n");
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct pfx_option *row = &table->rows[i];
        pfx_buf_add_str(out, ".TP\n.B ");
        put_roff(row->path, out);
        pfx_buf_add_str(out, "\n");
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
        if (row->type == PFX_O_NEVER) {
            pfx_buf_addf(&text, "Refused: %s.", row->help);
        } else {
            pfx_buf_addf(&text, "%c%s. Value: ", row->help[0] >= 'a' && row->help[0] <= 'z'
                                              ? row->help[0] - 'a' + 'A'
                                              : row->help[0],
                         row->help + 1);
            pfx_option_expects(row, &text);
            pfx_buf_add_str(&text, ".");
            if (row->required)
                pfx_buf_add_str(&text, " Required.");
            else if (row->def)
                pfx_buf_addf(&text, " Default: %s.", row->def);
        }
        put_roff(pfx_buf_str(&text), out);
        pfx_buf_add_str(out, "\n");
    }
}

size_t pfx_conf_check(enum pfx_conf_file file, const char *path, struct pfx_buf *report)
{
    const struct pfx_option_table *table = table_of(file);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_CONF_FILE_MAX);
    struct pfx_error err = PFX_ERROR_NONE, first = PFX_ERROR_NONE;
    size_t mistakes = 0;
    pfx_result r = table->trusted ? pfx_file_read_trusted(path, PFX_CONF_FILE_MAX, &text, &err)
                                  : pfx_file_read(path, PFX_CONF_FILE_MAX, &text, &err);
    if (pfx_failed(r)) {
        pfx_buf_addf(report, "%s: %s%s%s\n", path,
                     strcmp(err.object, path) != 0 ? err.object : "",
                     strcmp(err.object, path) != 0 ? ": " : "", err.text);
        mistakes++;
    }
    if (r.cls == PFX_CLASS_INTEGRITY) { /* owner or mode: its text can be checked all the same */
        pfx_buf_reset(&text);
        err = PFX_ERROR_NONE;
        r = pfx_file_read(path, PFX_CONF_FILE_MAX, &text, &err);
    }
    if (pfx_failed(r))
        return mistakes;
    struct pfx_conf_reader *reader = pfx_reader_new(path, report, &first);
    pfx_table_free(table, pfx_reader_fill(reader, table, pfx_buf_bytes(&text)));
    mistakes += pfx_reader_mistakes(reader);
    pfx_reader_free(reader);
    return mistakes;
}
