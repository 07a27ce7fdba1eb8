/* Tables for people. Nothing is cut unless it goes to a terminal: a pipe gets every character. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/text.h"

#define CELL_MAX 8192
#define GAP 2
#define FLEX_LEAST 8 /* a column that gives way keeps this many characters */

struct cell {
    char *text;
    size_t width;
    enum cli_tone tone;
};
struct cli_table {
    const char *const *titles;
    size_t n_columns;
    unsigned flex;
    bool wrap;
    struct cell *cells;
    size_t n_cells, cap;
};

struct cli_table *cli_table_new(const char *const *titles, unsigned flex)
{
    struct cli_table *table = pfx_alloc(sizeof(*table));
    table->titles = titles;
    while (titles[table->n_columns])
        table->n_columns++;
    table->flex = flex;
    return table;
}

void cli_table_wrap(struct cli_table *table)
{
    table->wrap = true;
}

void cli_table_free(struct cli_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->n_cells; i++)
        free(table->cells[i].text);
    free(table->cells);
    free(table);
}

void cli_table_add(struct cli_table *table, const char *text, enum cli_tone tone)
{
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(CELL_MAX);
    cli_clean(text && *text ? text : "-", &clean);
    if (table->n_cells == table->cap) {
        table->cap = table->cap ? 2 * table->cap : 64;
        table->cells = pfx_grow(table->cells, table->cap, sizeof(table->cells[0]));
    }
    struct cell *cell = &table->cells[table->n_cells++];
    cell->text = pfx_strdup(pfx_buf_str(&clean));
    cell->width = cli_width(cell->text);
    cell->tone = tone;
}

void cli_table_addf(struct cli_table *table, enum cli_tone tone, const char *fmt, ...)
{
    char text[CELL_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cli_table_add(table, text, tone);
}

size_t cli_table_rows(const struct cli_table *table)
{
    return table->n_cells / table->n_columns;
}

/* Takes columns away from the widest flexible column until the rows fit, or nothing gives way. */
static void shrink(const struct cli_table *table, size_t *widths, unsigned columns)
{
    for (;;) {
        size_t total = GAP * (table->n_columns - 1);
        size_t widest = table->n_columns;
        for (size_t i = 0; i < table->n_columns; i++) {
            total += widths[i];
            if ((table->flex & 1u << i) && widths[i] > FLEX_LEAST &&
                (widest == table->n_columns || widths[i] > widths[widest]))
                widest = i;
        }
        if (total <= columns || widest == table->n_columns)
            return;
        widths[widest]--;
    }
}

static void pad(FILE *to, size_t n)
{
    for (; n > 0; n--)
        (void)fputc(' ', to);
}

static void print_cell(const struct cli_table *table, FILE *to, const char *text, size_t width,
                       enum cli_tone tone, size_t column, size_t room)
{
    struct pfx_buf cut PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(CELL_MAX + 16);
    if (width > room) {
        cli_cut(text, room, &cut);
        text = pfx_buf_str(&cut);
        width = cli_width(text);
    }
    bool last = column + 1 == table->n_columns;
    (void)fprintf(to, "%s%s%s", cli_tone(to, tone), text, cli_tone_end(to, tone));
    if (!last)
        pad(to, room - width + GAP);
}

/* A row in as many lines as its longest cell needs. */
static void print_wrapped(const struct cli_table *table, FILE *to, const struct cell *cells,
                          const size_t *widths)
{
    const char **rest PFX_AUTOFREE = pfx_alloc_array(table->n_columns, sizeof(*rest));
    for (size_t j = 0; j < table->n_columns; j++)
        rest[j] = cells[j].text;
    for (bool more = true; more;) {
        size_t owed = 0; /* spaces, once something follows */
        more = false;
        for (size_t j = 0; j < table->n_columns; j++) {
            const char *line = rest[j];
            size_t len = cli_wrap(line, widths[j], &rest[j]);
            char *part PFX_AUTOFREE = pfx_strndup(line, len);
            if (len > 0) {
                pad(to, owed);
                (void)fprintf(to, "%s%s%s", cli_tone(to, cells[j].tone), part,
                              cli_tone_end(to, cells[j].tone));
                owed = 0;
            }
            owed += widths[j] - cli_width(part) + GAP;
            more = more || *rest[j];
        }
        (void)fputc('\n', to);
    }
}

static void print(const struct cli_table *table, FILE *to, bool titles)
{
    size_t *widths PFX_AUTOFREE = pfx_alloc_array(table->n_columns, sizeof(*widths));
    for (size_t i = 0; i < table->n_columns; i++)
        widths[i] = cli_width(table->titles[i]);
    for (size_t i = 0; i < table->n_cells; i++)
        if (table->cells[i].width > widths[i % table->n_columns])
            widths[i % table->n_columns] = table->cells[i].width;
    unsigned columns = cli_columns(to);
    if (columns)
        shrink(table, widths, columns);
    for (size_t i = 0; titles && i < table->n_columns; i++)
        print_cell(table, to, table->titles[i], cli_width(table->titles[i]), CLI_BOLD, i,
                   widths[i]);
    if (titles)
        (void)fputc('\n', to);
    for (size_t i = 0; i + table->n_columns <= table->n_cells; i += table->n_columns) {
        if (table->wrap) {
            print_wrapped(table, to, &table->cells[i], widths);
            continue;
        }
        for (size_t j = 0; j < table->n_columns; j++) {
            const struct cell *cell = &table->cells[i + j];
            print_cell(table, to, cell->text, cell->width, cell->tone, j, widths[j]);
        }
        (void)fputc('\n', to);
    }
}

void cli_table_print(const struct cli_table *table, FILE *to)
{
    print(table, to, true);
}

void cli_table_print_bare(const struct cli_table *table, FILE *to)
{
    print(table, to, false);
}
